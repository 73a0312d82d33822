"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the commands do: see avatars.commands.console.main

CHECKED = ["avatars.geometry", "avatars.body", "avatars.rasterizer", "avatars.avatar"]
"""Packages whose annotations, shapes included, are checked in tests (not in processes that tests start)."""
jaxtyping.install_import_hook(CHECKED, "shape_checking.checked")  # before anything of ours is imported

LEFT_OUT = {"slow", "exhaustive", "cluster", "gpu", "weights", "browser"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`pytest -m quick` is everything that has none of the markers of what is slow or asks for more than packages."""
    for item in items:
        if not LEFT_OUT & {mark.name for mark in item.iter_markers()}:
            item.add_marker("quick")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real videos, motions and photographs; tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("SPLAT_AVATARS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real material at {root} (set SPLAT_AVATARS_DATA)")
    return root


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Wrong shapes and types reach our own errors, for tests of what these say."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No optional backend is named by any environment variable."""
    from avatars.perception.backend_table import BACKENDS

    for backend in BACKENDS.values():
        for option in ("PYTHON", "WEIGHTS", "MODEL", "REPOSITORY", "DEVICE"):
            monkeypatch.delenv(f"{backend.prefix}_{option}", raising=False)
    return monkeypatch


@pytest.fixture(params=["avx512", "avx2", "plain"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Our C++ runs the kernels of this instruction set; skipped where the processor has it not."""
    from avatars.kernels.extension import extension

    fastest = extension().instruction_set()
    if not extension().use_instruction_set(request.param):
        pytest.skip(f"this processor has no {request.param}")
    yield request.param
    extension().use_instruction_set(fastest)
