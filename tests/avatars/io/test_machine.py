"""What is Linux's alone may be missing: processors, locks and memory are still told right."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.same_code import HOME, same_code

from avatars.errors import InputError
from avatars.io.machine import locked, processors
from avatars.io.progress import peak_gib
from avatars.io.work_folder import WorkFolder

PACKAGES = ("avatars", "compose", "reenact", "actionrec")
ROOT = Path(__file__).parents[3]
OURS = tuple(str(HOME / package) + os.sep for package in PACKAGES)
PRETEND = """
import builtins, os, sys
if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity
real = builtins.__import__
def without(name, *rest, **named):
    if name in ("fcntl", "resource"):
        raise ModuleNotFoundError(name)
    return real(name, *rest, **named)
builtins.__import__ = without
for module in ("fcntl", "resource"):
    sys.modules.pop(module, None)
"""


def test_processors_are_counted_where_affinity_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processors() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert processors() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors() == 1


def test_a_locked_file_is_locked_for_others(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "ab") as first, open(tmp_path / "lock", "ab") as second:
        assert locked(first) and not locked(second)


def test_work_goes_on_where_the_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = WorkFolder.open(tmp_path / "a" / ".work", {"job": 1})
    with pytest.raises(InputError, match="Another process is working"):
        WorkFolder.open(tmp_path / "a" / ".work", {"job": 1})
    monkeypatch.setitem(sys.modules, "fcntl", None)
    WorkFolder.open(tmp_path / "a" / ".work", {"job": 1}).discard()
    work.discard()


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 1)])
def test_memory_is_in_gib_on_every_system(platform: str, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux counts KiB, macOS bytes."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3 * 2**30 // unit))
    assert peak_gib() == 3.0


@pytest.mark.slow
def test_everything_imports_without_what_is_linuxs_alone() -> None:
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__main__.py"
    )
    ours = [name.removesuffix(".__init__") for name in modules]
    program = (
        "import torch, numpy, scipy.spatial, tyro, yaml, PIL.Image, av\n"  # their own imports are their own matter
        + PRETEND
        + f"""
import importlib
for name in {ours!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if str(error) in ("fcntl", "resource"):
            import traceback
            where = [f.filename for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
            if where[-1].startswith({OURS!r}):
                raise SystemExit(f"{{name}} imports {{error}}")
    except ImportError:
        pass
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300,
        env=same_code(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
