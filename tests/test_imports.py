"""Imports run one way, and asking for help loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIBLINGS = {"avatars", "compose", "reenact", "actionrec"}
ALLOWED = {
    "avatars": set(),
    "actionrec": set(),
    "compose": {"avatars"},
    "reenact": {"avatars", "compose", "actionrec.manifest"},
}
HEAVY = ("torch", "mediapipe", "warp", "anny", "smplx", "decord", "gsplat", "transformers", "scipy", "cv2", "jax")
COMMANDS = [
    ("avatars.cli", []),
    ("avatars.cli", ["doctor"]),
    ("avatars.cli", ["body"]),
    ("avatars.cli", ["track"]),
    ("avatars.cli", ["fit"]),
    ("avatars.cli", ["render"]),
    ("avatars.cli", ["view"]),
    ("avatars.cli", ["export"]),
    ("avatars.cli", ["vary"]),
    ("reenact.cli", []),
    ("reenact.cli", ["features"]),
    ("reenact.cli", ["backgrounds"]),
    ("reenact.cli", ["plan"]),
    ("reenact.cli", ["run"]),
    ("reenact.cli", ["gate"]),
    ("reenact.cli", ["export"]),
    ("reenact.cli", ["report"]),
    ("reenact.cli", ["demo"]),
]


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, at whatever depth."""
    package = path.relative_to(ROOT).with_suffix("").parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: -node.level]) if node.level else []
            names.add(".".join([*base, *([node.module] if node.module else [])]))
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_run_one_way(package):
    offenses = []
    for path in (ROOT / package).rglob("*.py"):
        for name in imported_modules(path):
            top = name.split(".")[0]
            allowed = any(name == a or name.startswith(a + ".") for a in ALLOWED[package])
            if top in SIBLINGS - {package} and not allowed:
                offenses.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not offenses


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
