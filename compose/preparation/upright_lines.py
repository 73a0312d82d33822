"""Picture + pitch of its camera -> by how much the camera is rolled, where enough straight lines stand upright."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from avatars.geometry.camera import Camera
from compose.places.ground import roll_of

MOST_DEG = 30.0
_SIDE_PX = 800
_STEP_DEG = 0.25
_SPREAD_DEG = 0.7
_LEAST_LENGTH = 0.04
"""Of a line, in heights of the picture."""
_LEAST_AGREEING = 0.8
"""Length of all the lines that must agree, in heights of the picture."""
_LEAST_SHARE = 0.35
_MOST_SECOND = 0.45
"""Weight of the next best answer; where it has more, the lines contradict each other."""


def roll_from_upright_lines(rgb: UInt8[np.ndarray, "height width 3"], camera: Camera) -> float | None:
    """Roll in degrees (`ground.roll_of`) under which most lines stand upright; None where they tell none.

    Each line votes for the rolls under which it points to where what is upright would meet (its vanishing point,
    Hartley & Zisserman 2004, ch. 8.6), given the horizon and focal length of `camera`; Coughlan & Yuille 2003 vote so
    by edge pixel. The horizon must be about right.
    """
    lines, height_px = _lines_near_upright(rgb)
    if len(lines) < 4:
        return None
    K = camera.resized((height_px, max(round(rgb.shape[1] * height_px / rgb.shape[0]), 1))).K.numpy()
    offsets, along = (lines[:, :2] - K[:2, 2]) / np.diag(K)[:2], lines[:, 2:4]
    length = lines[:, 4] / height_px
    rolls = np.radians(np.arange(-MOST_DEG, MOST_DEG + _STEP_DEG / 2, _STEP_DEG))
    pitch = math.asin(float(-camera.T_cam_world[2, 1]))
    level = math.tan(pitch) / math.cos(roll_of(camera))  # where the horizon crosses the middle column does not move
    agree = np.stack([_agreement(offsets, along, roll, math.atan(level * math.cos(roll))) for roll in rolls])
    votes = agree @ length**1.5
    best = int(votes.argmax())
    far = np.abs(rolls - rolls[best]) > math.radians(4.0)
    contradicted = votes[far].max() > _MOST_SECOND * votes[best]
    few = votes[best] < _LEAST_SHARE * (length**1.5).sum() or agree[best] @ length < _LEAST_AGREEING
    return None if few or contradicted else float(np.degrees(rolls[best]))


def _agreement(
    offsets: Float[np.ndarray, "lines 2"], along: Float[np.ndarray, "lines 2"], roll: float, pitch: float
) -> Float[np.ndarray, " lines"]:
    """In [0, 1]: how well lines at `offsets` (from the middle of the picture, in focal lengths) point upright."""
    up = np.array([math.sin(roll), -math.cos(roll)]) * math.cos(pitch) + offsets * math.sin(pitch)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    aside = along[:, 0] * up[:, 1] - along[:, 1] * up[:, 0]
    return np.exp(-0.5 * np.square(aside / math.sin(math.radians(_SPREAD_DEG))))


def _lines_near_upright(rgb: UInt8[np.ndarray, "height width 3"]) -> tuple[Float[np.ndarray, "lines 5"], int]:
    """Straight edges within 60 degrees of the picture's vertical: middle (x, y), direction (x, y) and length in pixels
    of a picture of the returned height. Neighbors whose gradients agree to 15 degrees make a line (Burns et al. 1986,
    with both of their overlapping partitions)."""
    from scipy.ndimage import gaussian_filter1d, label

    scale = _SIDE_PX / max(rgb.shape[:2])
    size_hw = (max(round(rgb.shape[0] * scale), 16), max(round(rgb.shape[1] * scale), 16))
    tensor = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None]
    gray = torch.nn.functional.interpolate(tensor, size_hw, mode="area")[0].mean(0).numpy()
    dx, dy = (gaussian_filter1d(gaussian_filter1d(gray, 1.0, axis), 1.0, 1 - axis, order=1) for axis in (0, 1))
    strength = np.hypot(dx, dy)
    crest = (strength >= np.roll(strength, 1, 1)) & (strength >= np.roll(strength, -1, 1)) & (strength > 0.012)
    across = np.arctan2(dy * np.sign(dx), np.abs(dx))
    lines: list[tuple[float, ...]] = []
    for low in np.radians(np.arange(-60.0, 60.0, 7.5)):
        within = crest & (across >= low) & (across < low + math.radians(15.0))
        for side in (dx > 0, dx < 0):
            labeled: Any = label(within & side, np.ones((3, 3)))
            lines += _straight(labeled[0], _LEAST_LENGTH * size_hw[0])
    return np.array(lines).reshape(-1, 5), size_hw[0]


def _straight(parts: np.ndarray, least_px: float) -> list[tuple[float, ...]]:
    """Middle, direction and length of the parts of a labeled picture that are long and straight."""
    rows, columns = np.nonzero(parts)
    owner = parts[rows, columns]
    lines = []
    for part in np.flatnonzero(np.bincount(owner) >= 0.8 * least_px):
        points = np.stack([columns[owner == part], rows[owner == part]], -1) + 0.5
        middle = points.mean(0)
        _, spread, axes = np.linalg.svd(points - middle, full_matrices=False)
        length_px = float(np.ptp((points - middle) @ axes[0]))
        if length_px >= least_px and spread[1] / math.sqrt(len(points)) <= 0.6:
            lines.append((*middle, *axes[0], length_px))
    return lines
