"""Keypoints that another program wrote as json, laid over what our detector saw: its masks and 3D hints stay."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.io.files import sha256_of
from avatars.perception.containers import Detection, Keypoints
from avatars.perception.keypoints_json import load_keypoints_json

log = logging.getLogger(__name__)

MIN_OVERLAP = 0.3
"""Intersection over union of the boxes from which both are taken for the same person."""
TORSO = (5, 6, 11, 12)


class NoDetector:
    """A `WholeBodyDetector` that looks at nothing and finds nobody: for keypoints that come from elsewhere."""

    def detect(
        self, frames: Iterable[np.ndarray], *, masks: bool = True, count_people_every: int = 0
    ) -> Iterator[Detection]:
        """See `WholeBodyDetector`."""
        for frame in frames:
            yield Detection.nobody(np.zeros(frame.shape[:2], np.uint8) if masks else None)


def read_keypoints(path: str | Path, size_hw: tuple[int, int], n_frames: int) -> Keypoints:
    """Keypoints of a video of `n_frames`, each at the frame that its number names; frames that the file does not hold
    are without a person.

    Raises InputError when the file holds more frames than the video, or is not readable.
    """
    found = load_keypoints_json(path, size_hw, n_frames)
    seen = torch.nonzero(found.valid)[:, 0]
    before, after = int(seen[0]), n_frames - 1 - int(seen[-1])
    if before or after:
        log.warning(
            "%s shows the person from frame %d to %d of 0 to %d; nobody is taken to be in the others.",
            path, before, n_frames - 1 - after, n_frames - 1,
        )  # fmt: skip
    return found


def laid_over(imported: Keypoints, detected: Keypoints) -> tuple[Keypoints, Bool[Tensor, " frames"]]:
    """The imported keypoints with the detector's 3D hints, and the frames in which it saw the same person.

    Where it did not, the hint of the nearest frame that has one stands in: it only says where the fit starts.
    """
    same = _overlap(imported.boxes(), detected.boxes()) > MIN_OVERLAP
    if detected.world_m is None:
        return imported, same
    hinted = same & torch.isfinite(detected.world_m[:, TORSO]).all(-1).all(-1)
    if not bool(hinted.any()):
        log.warning("No 3D hint lies under the keypoints; which way the person faces is taken from the image alone.")
        return imported, same
    index = torch.nonzero(hinted)[:, 0]
    after = torch.searchsorted(index, torch.arange(len(imported))).clamp_max(len(index) - 1)
    before = (after - 1).clamp_min(0)
    frames = torch.arange(len(imported))
    nearest = torch.where((frames - index[before]).abs() <= (index[after] - frames).abs(), index[before], index[after])
    return replace(imported, world_m=detected.world_m[nearest]), same


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's json files in order of name."""
    import hashlib

    path = Path(path)
    if path.is_file():
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.json")):
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _overlap(a: Float[Tensor, "frames 4"], b: Float[Tensor, "frames 4"]) -> Float[Tensor, " frames"]:
    """Intersection over union of left, top, right, bottom; 0 where a box is NaN."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inside = (high - low).clamp_min(0).prod(1)
    area = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inside
    return torch.nan_to_num(inside / area.clamp_min(1e-6), nan=0.0)
