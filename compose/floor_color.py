"""Picture + horizon -> which pixels look like the floor at its lower edge: a guess where there is no depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from avatars.camera import Camera
from compose.ground import ground_depth

_SIDE_PX = 240
_COLORS = 4
FARTHEST_M = 30.0


def floor_by_color(
    rgb: UInt8[np.ndarray, "height width 3"], camera: Camera, *, reach: float = 1.8
) -> Bool[np.ndarray, "height width"]:
    """Pixels below the horizon, joined to the picture's lower edge, that are alike in color to it and smooth.

    Colors of the lowest tenth in few clusters (k-means); a pixel belongs when it is within `reach` standard deviations
    of one. A floor with a strong pattern, or furniture in its color, will be wrong: see the check image.
    """
    from scipy.ndimage import binary_closing, binary_fill_holes, binary_opening, gaussian_filter, label

    scale = _SIDE_PX / max(rgb.shape[:2])
    small_hw = (max(round(rgb.shape[0] * scale), 8), max(round(rgb.shape[1] * scale), 8))
    tensor = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(tensor, small_hw, mode="area")[0].permute(1, 2, 0).numpy()
    features = _features(gaussian_filter(small, (1.0, 1.0, 0)))
    below = ground_depth(camera.resized(small_hw)).numpy() < FARTHEST_M
    band = np.zeros(small_hw, bool)
    band[-max(small_hw[0] // 10, 2) :] = True
    if (band & below).sum() < 10:
        return np.zeros(rgb.shape[:2], bool)
    alike = below & (_distance(features, features[band & below]) < reach) & (_edges(small) < 0.03)
    alike = binary_opening(binary_closing(np.pad(alike, 4, mode="edge"), np.ones((3, 3))), np.ones((3, 3)))[4:-4, 4:-4]
    labeled: Any = label(alike)
    parts, count = labeled
    low = np.bincount(parts[band].ravel(), minlength=count + 1)
    low[0] = 0
    kept = np.isin(parts, np.flatnonzero(low > 0.1 * band.sum()))
    kept = np.asarray(binary_fill_holes(kept), bool) & below
    tall = torch.from_numpy(kept.astype(np.float32))[None, None]
    return torch.nn.functional.interpolate(tall, rgb.shape[:2], mode="bilinear")[0, 0].numpy() > 0.5


def _features(rgb: np.ndarray) -> np.ndarray:
    """Logarithmic brightness, which shadows move, at half weight, and two color differences."""
    log = np.log(rgb + 0.05)
    gray = log.mean(-1)
    return np.stack([0.5 * gray, log[..., 0] - log[..., 1], log[..., 2] - log[..., 1]], -1)


def _distance(features: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Distance to the nearest cluster of the seeds in its standard deviations, each at least 0.04."""
    from scipy.cluster.vq import kmeans2

    count = 1 if seeds.std(0).max() < 0.01 else min(_COLORS, len(seeds))
    centers, member = kmeans2(seeds.astype(np.float64), count, minit="++", seed=0)  # pyright: ignore[reportCallIssue]
    best = np.full(features.shape[:2], np.inf)
    for index, center in enumerate(centers):
        own = seeds[member == index]
        if len(own) < 0.08 * len(seeds):
            continue
        spread = np.maximum(own.std(0), 0.04)
        best = np.minimum(best, np.sqrt((((features - center) / spread) ** 2).mean(-1)))
    return best


def _edges(rgb: np.ndarray) -> np.ndarray:
    """Strength of edges in brightness."""
    from scipy.ndimage import gaussian_gradient_magnitude

    return gaussian_gradient_magnitude(rgb.mean(-1), 1.0)
