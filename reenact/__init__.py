"""Avatars x motions x places -> labelled clips. The names below are the public Python interface."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Batch": "reenact.planning.batch",
    "Plan": "reenact.planning.plan",
    "load_batch": "reenact.planning.batch",
    "make_plan": "reenact.planning.plan",
    "read_plan": "reenact.planning.plan",
    "retarget": "reenact.retargeting.retarget",
    "run_batch": "reenact.running.run",
}
"""Where each public name lives; it is imported when it is first asked for, so that `--help` stays quick."""

__all__ = ["Batch", "Plan", "load_batch", "make_plan", "read_plan", "retarget", "run_batch"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
