"""Imports run one way, and asking for help loads nothing heavy."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIBLINGS = {"avatars", "compose", "reenact", "actionrec"}
ALLOWED = {
    "avatars": set(),
    "actionrec": {"avatars.io.video", "avatars.errors"},
    "compose": {"avatars"},
    "reenact": {"avatars", "compose", "actionrec.manifest"},
}
WHOLE_EXPERIMENTS = "reenact.reproduction"
"""The one package of `reenact` that trains recognizers: it may import all of `actionrec`."""
HEAVY = ("torch", "mediapipe", "warp", "anny", "smplx", "decord", "gsplat", "transformers", "scipy", "cv2", "jax")
COMMANDS = [
    ("avatars.commands.cli", []),
    ("avatars.commands.cli", ["doctor"]),
    ("avatars.commands.cli", ["body"]),
    ("avatars.commands.cli", ["track"]),
    ("avatars.commands.cli", ["fit"]),
    ("avatars.commands.cli", ["render"]),
    ("avatars.commands.cli", ["view"]),
    ("avatars.commands.cli", ["export"]),
    ("avatars.commands.cli", ["vary"]),
    ("reenact.cli", []),
    ("reenact.cli", ["features"]),
    ("reenact.cli", ["backgrounds"]),
    ("reenact.cli", ["plan"]),
    ("reenact.cli", ["run"]),
    ("reenact.cli", ["gate"]),
    ("reenact.cli", ["export"]),
    ("reenact.cli", ["report"]),
    ("reenact.cli", ["layers"]),
    ("reenact.cli", ["reproduce"]),
    ("reenact.cli", ["demo"]),
]


ORDER = {
    "avatars": [
        {"errors"},
        {"geometry", "io", "kernels"},
        {"body"},
        {"rasterizer"},
        {"splat_formats", "motion_formats", "studio", "avatar"},
        {"perception"},
        {"tracking"},
        {"fitting"},
        {"viewing"},
        {"commands"},
        {"__main__"},
    ],
    "compose": [{"places"}, {"rendering"}, {"preparation"}],
    "reenact": [
        {"planning"},
        {"retargeting"},
        {"rendering"},
        {"running"},
        {"data_set"},
        {"demo"},
        {"commands"},
        {"reproduction"},
        {"cli"},
        {"__main__"},
    ],
}
"""The packages from the bottom up; each imports only what stands below it."""
MOST_MODULES = 26
"""In one folder."""


def modules() -> dict[str, Path]:
    """Every module of the packages that we ship, by its dotted name."""
    found = {}
    for package in sorted(SIBLINGS):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all modules of ours that a file imports, at whatever depth, for types, too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & ALL.keys()
            names |= submodules
            if len(submodules) < len(node.names):
                names.add(node.module)
    return {name for name in names if name.split(".")[0] in SIBLINGS}


ALL = modules()
IMPORTS = {name: imported_modules(path) for name, path in ALL.items()}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_no_package_imports_a_sibling_above_it(package):
    offenses = []
    for name in ALL:
        if name.split(".")[0] != package:
            continue
        for other in IMPORTS[name]:
            siblings = {*ALLOWED[package], package} | ({"actionrec"} if name.startswith(WHOLE_EXPERIMENTS) else set())
            allowed = any(other == a or other.startswith(a + ".") for a in siblings)
            if not allowed:
                offenses.append(f"{name} imports {other}")
    assert not offenses


@pytest.mark.parametrize("package", sorted(ORDER))
def test_within_a_package_imports_run_downward(package):
    floor = {name: number for number, names in enumerate(ORDER[package]) for name in names}
    offenses = []
    for name in ALL:
        here = name.split(".")
        if here[0] != package or len(here) < 2:
            continue
        for other in IMPORTS[name]:
            there = other.split(".")
            if there[0] == package and len(there) > 1 and there[1] != here[1] and floor[there[1]] >= floor[here[1]]:
                offenses.append(f"{name} imports {other}")
    assert not offenses


def test_the_video_reader_loads_nothing_heavy():
    program = f"import sys, avatars.io.video; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_imports_itself_by_way_of_others():
    order = graphlib.TopologicalSorter({name: IMPORTS[name] - {name} for name in ALL})
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in ALL.values()}), ids=lambda f: str(f.relative_to(ROOT))
)
def test_no_folder_is_too_full_to_read(folder):
    assert len(list(folder.glob("*.py"))) - (folder / "__init__.py").exists() <= MOST_MODULES


def test_the_toolkit_itself_holds_only_its_errors_and_its_entry():
    assert {path.name for path in (ROOT / "avatars").glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


@pytest.mark.slow
@pytest.mark.parametrize(("module", "words"), COMMANDS, ids=lambda value: str(value))
def test_help_loads_nothing_heavy(module, words):
    program = (
        "import sys, importlib\n"
        f"sys.argv = ['x', *{words!r}, '--help']\n"
        "code = None\n"
        f"module = importlib.import_module({module!r})\n"
        "try:\n    module.main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "assert code in (0, None), code\n"
        f"loaded = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "assert not loaded, f'help imports {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    assert "usage" in done.stdout.lower()
