"""Keypoints of a clip of any length -> one fit: long clips in overlapping windows that share one shape."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle, rotation_between
from avatars.io.files import atomic_path
from avatars.io.progress import progress
from avatars.io.work_folder import WorkFolder
from avatars.perception.containers import Keypoints
from avatars.tracking.keypoint_fit import BodyFit, ClipFacts, fit_keypoints

log = logging.getLogger(__name__)

MAX_FRAMES = 1000
"""Longer clips are fitted in windows."""
WINDOW_FRAMES, OVERLAP_FRAMES = 600, 48
SHAPE_RUNS, SHAPE_RUN_FRAMES = 10, 32
"""The shape comes from this many runs of consecutive frames, spread over the clip."""


def fit_clip(
    keypoints: Keypoints,
    times_s: Float[Tensor, " frames"],
    body: Body,
    facts: ClipFacts,
    *,
    work: WorkFolder | None = None,
    **how: Any,
) -> BodyFit:
    """`fit_keypoints` (which takes `how`), with memory and time per frame that do not grow with the clip.

    A long clip's shape is fitted to runs of frames spread over it; windows of the clip are then fitted with that shape,
    and blended where they overlap. With `work`, finished windows are kept there and taken up.
    """
    if len(keypoints) <= MAX_FRAMES:
        return fit_keypoints(keypoints, times_s, body, facts, **how)

    def fitted(kind: str, number: int, frames: Tensor, facts: ClipFacts) -> BodyFit:
        path = None if work is None else work.piece(kind, number)
        fit = None if path is None else load_fit(path, len(frames))
        if fit is None:
            fit = fit_keypoints(keypoints[frames], times_s[frames], body, facts, **how)
            if path is not None:
                save_fit(fit, path)
        return fit

    if work is not None and (count := len(work.pieces("window"))):
        log.info("%d windows of the pose fit were done before.", count)
    betas = fitted("shape", 0, spread_runs(len(keypoints), SHAPE_RUNS, SHAPE_RUN_FRAMES), facts).betas
    windows = overlapping_windows(len(keypoints), WINDOW_FRAMES, OVERLAP_FRAMES)
    whole = None
    for number, (start, stop) in enumerate(progress(windows, "Fitting windows")):
        fit = fitted("window", number, torch.arange(start, stop), replace(facts, betas=betas))
        whole = fit if whole is None else blended(whole, fit, len(whole.pelvis) - start)
    assert whole is not None
    return whole


def spread_runs(n: int, runs: int, length: int) -> Tensor:
    """Indices of `runs` runs of `length` consecutive frames, evenly spread over n."""
    starts = torch.linspace(0, n - length, runs).long()
    return (starts[:, None] + torch.arange(length)).flatten().unique()


def overlapping_windows(n: int, length: int, overlap: int) -> list[tuple[int, int]]:
    """(start, stop) of windows of nearly equal length, at most `length`, that cover n frames."""
    count = max(1, -(-(n - overlap) // (length - overlap)))
    starts = np.linspace(0, n - overlap, count + 1).round().astype(int)
    return [(int(a), int(b) + overlap) for a, b in pairwise(starts)]


def blended(a: BodyFit, b: BodyFit, overlap: int) -> BodyFit:
    """One fit of both clips, whose last and first `overlap` frames are the same: there, from a's to b's smoothly."""
    ramp = torch.linspace(0, 1, overlap + 2)[1:-1]
    ramp = ramp * ramp * (3 - 2 * ramp)
    n = len(a.pelvis)

    def joined(name: str) -> Tensor:
        before, after = getattr(a, name), getattr(b, name)
        last, first = before[n - overlap :], after[:overlap]
        t = ramp.reshape(-1, *[1] * (before.ndim - 1))
        if name == "rotation":
            middle = rotation_between(last, first, ramp)
        elif name == "poses":
            R = rotation_between(matrix_from_axis_angle(last), matrix_from_axis_angle(first), ramp[:, None])
            middle = axis_angle_from_matrix(R)
        else:
            middle = last + t * (first - last)
        return torch.cat([before[: n - overlap], middle, after[overlap:]])

    moving = {name: joined(name) for name in _moving(a, b)}
    share = len(b.pelvis) / (n + len(b.pelvis))
    return replace(a, **moving, legs_seen=a.legs_seen + share * (b.legs_seen - a.legs_seen))


def _moving(a: BodyFit, b: BodyFit) -> list[str]:
    """Fields with one row per frame."""
    names = [field.name for field in fields(a) if field.name != "betas"]
    tensors = [name for name in names if isinstance(getattr(a, name), Tensor) and getattr(a, name).ndim]
    return [name for name in tensors if len(getattr(a, name)) == len(a.pelvis)]


def save_fit(fit: BodyFit, path: Path) -> None:
    """Write an npz of the fields."""
    values = {field.name: getattr(fit, field.name) for field in fields(fit)}
    with atomic_path(path) as aside, open(aside, "wb") as file:
        np.savez(file, **{name: v.numpy() if isinstance(v, Tensor) else np.array(v) for name, v in values.items()})


def load_fit(path: Path, frames: int) -> BodyFit | None:
    """Read what `save_fit` wrote; None where the file is missing, broken or of another length."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {field.name: archive[field.name] for field in fields(BodyFit)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if len(arrays["pelvis"]) != frames:
        return None
    values: dict[str, Any] = {name: torch.from_numpy(a) if a.ndim else a.item() for name, a in arrays.items()}
    return BodyFit(**values)
