"""Manifests of clips -> trained recognizers -> what the synthetic clips gain. The names below
are public."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Experiment": "actionrec.protocols",
    "ManifestClip": "actionrec.manifest",
    "read_manifest": "actionrec.manifest",
    "recognizer": "actionrec.recognizers",
    "run_experiment": "actionrec.protocols",
    "write_manifest": "actionrec.manifest",
}
"""Where each public name lives; it is imported when it is first asked for, so that `--help` stays quick."""

__all__ = ["Experiment", "ManifestClip", "read_manifest", "recognizer", "run_experiment", "write_manifest"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
