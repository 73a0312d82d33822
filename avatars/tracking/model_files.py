"""A tracking config -> the models that it names, their weights by hash: what a track was made with."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from avatars.io.files import sha256_of
from avatars.perception.backend_table import BACKENDS, options_by_name, resolved

if TYPE_CHECKING:
    from avatars.tracking.config import TrackConfig


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model that looked at a video."""

    name: str
    """mediapipe, or one of `BACKENDS`."""
    weights: str
    """File or folder of its weights; empty where they are part of its package."""
    sha256: str
    """Of that file, or of the names and hashes of all files in that folder (or package)."""
    versions: str
    """Of its packages; empty where it runs under another Python."""
    python: str
    """That Python; empty for this one."""


def models_of(config: TrackConfig) -> tuple[ModelFiles, ...]:
    """The models that a track with `config` is made with; the files must be there (`open_detector` checks)."""
    keypoints, _, masks = config.detector.partition("+")
    options = options_by_name(config.backend)
    named = [name for name in (keypoints, masks, config.face, config.hands) if name in BACKENDS]
    needs_mediapipe = config.detector != "none" or config.person != "only"  # others see inside the boxes it finds
    found = [_mediapipe()] if needs_mediapipe else []
    for name in named:
        pieces = resolved(name, options.get(name))
        assert pieces.weights is not None
        versions = "" if pieces.python is not None else _versions(BACKENDS[name].packages)
        weights = str(pieces.weights)
        found.append(ModelFiles(name, weights, tree_hash(weights), versions, str(pieces.python or "")))
    return tuple(found)


def tree_hash(path: str | Path) -> str:
    """SHA-256 of a file, or of the relative names and hashes of all files in a folder."""
    path = Path(path).expanduser()
    return sha256_of(path) if path.is_file() else _joint_hash(path, path.rglob("*"))


def _joint_hash(root: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in paths if path.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _mediapipe() -> ModelFiles:
    spec = importlib.util.find_spec("mediapipe")
    assert spec is not None and spec.origin is not None
    modules = Path(spec.origin).parent / "modules"
    return ModelFiles("mediapipe", "", _joint_hash(modules, modules.rglob("*.tflite")), _versions(("mediapipe",)), "")


def _versions(packages: Iterable[str]) -> str:
    known = packages_distributions()
    return ", ".join(f"{name} {version(known[name][0])}" for name in packages if name in known)
