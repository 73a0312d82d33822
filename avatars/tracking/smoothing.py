"""A fitted motion -> the same without the trembling that a detector's points put on it.

A Whittaker smoother (Whittaker 1923) of every channel: the least change whose second difference over time is small,
where "small" is said by the motion itself. Its noise is measured by the median second difference (Rousseeuw & Croux
1993), and how fast it really speeds up and slows down by the local mean of the smoothed one, in turns: a still person
becomes still, and a kick stays a kick.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from avatars.geometry.rotations import rotation_from_columns
from avatars.tracking.keypoint_fit import BodyFit

STRENGTH = 3.0
"""Errors of neighboring frames resemble each other, which makes them look smaller than they are by about this much."""
LOCAL_S = 0.15
"""Standard deviation of the time over which a motion's accelerations resemble each other."""
LEAST_ACCELERATION = 0.3
"""Lower bound for human motion (radians or meters per second squared)."""
ROUNDS = 6
MIN_FRAMES = 8


def steadied(fit: BodyFit, times_s: Float[Tensor, " frames"]) -> BodyFit:
    """Root, pelvis and joints smoothed over time; the face is left."""
    if len(times_s) < MIN_FRAMES:
        return fit
    n = len(times_s)
    columns = fit.rotation[:, :, :2].reshape(n, 6)
    channels = torch.cat([columns, fit.pelvis, fit.poses[:, 1:].reshape(n, -1)], 1)
    smooth = torch.from_numpy(smoothed(channels.double().numpy(), times_s.double().numpy())).float()
    poses = fit.poses.clone()
    poses[:, 1:] = smooth[:, 9:].reshape(n, -1, 3)
    return replace(
        fit,
        rotation=rotation_from_columns(*smooth[:, :6].reshape(-1, 3, 2).unbind(-1)),
        pelvis=smooth[:, 6:9].contiguous(),
        poses=poses,
    )


def smoothed(values: Float[np.ndarray, "frames channels"], times_s: Float[np.ndarray, " frames"]) -> np.ndarray:
    """Each channel on its own; memory and time grow with the number of frames alone."""
    step = np.maximum(np.diff(times_s), 1e-3)
    frame_s = float(np.median(step))
    noise = 1.48 * np.median(np.abs(_acceleration(values, step)), 0) * frame_s**2 / np.sqrt(6.0)
    smooth = values
    for _ in range(ROUNDS):
        squared = gaussian_filter1d(_acceleration(smooth, step) ** 2, LOCAL_S / frame_s, axis=0, mode="nearest")
        usual = np.maximum(np.sqrt(squared), LEAST_ACCELERATION)
        smooth = np.stack(
            [_whittaker(v, w, step) for v, w in zip(values.T, (STRENGTH * noise / usual).T ** 2, strict=True)], 1
        )
    return smooth


def _acceleration(values: Float[np.ndarray, "frames channels"], step_s: Float[np.ndarray, " steps"]) -> np.ndarray:
    """Second differences over uneven times."""
    a, b, c = _second_difference(step_s)
    return a[:, None] * values[:-2] + b[:, None] * values[1:-1] + c[:, None] * values[2:]


def _second_difference(step_s: Float[np.ndarray, " steps"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the frame before, of the frame itself and of the one after."""
    before, after = step_s[:-1], step_s[1:]
    whole = 2.0 / (before + after)
    return whole / before, -whole * (1.0 / before + 1.0 / after), whole / after


def _whittaker(
    values: Float[np.ndarray, " frames"], weight: Float[np.ndarray, " inner"], step_s: Float[np.ndarray, " steps"]
) -> np.ndarray:
    """The x that minimizes |x - values|^2 + sum of weight times squared second difference, by its five diagonals."""
    a, b, c = _second_difference(step_s)
    bands = np.zeros((3, len(values)))
    bands[2] = 1.0
    for shift, d in enumerate((a, b, c)):
        bands[2, shift : shift + len(d)] += weight * d * d
    bands[1, 1:-1] += weight * a * b
    bands[1, 2:] += weight * b * c
    bands[0, 2:] += weight * a * c
    return solveh_banded(bands, values)
