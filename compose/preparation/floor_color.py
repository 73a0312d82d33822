"""Picture + horizon -> which pixels are floor, by color and by texture: a guess where there is no depth.

A guess decides where people stand, so it takes only what two cues agree on, and leaves the rest: a spot that is refused
costs little, somebody who stands on a sofa or inside a bumper spoils a clip.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from avatars.geometry.camera import Camera
from compose.places.ground import ground_depth

_SIDE_PX = 240
_COLORS = 4
FARTHEST_M = 30.0
_BAND = 0.1
"""Share of the picture's height at its lower edge that is asked what the floor looks like."""
_MOST_COMMON = 0.5
"""Share of that band which one surface must have to be taken for the floor."""
_HUE_STEP = 0.25
"""Difference of two logarithms of color ratios up to which two colors may be one surface in other light."""
_SHADE = 0.35
"""Brightness, relative to the floor's, below which a color tells nothing: under cars and sofas."""
_ROUGHER = 3.0
"""How many times rougher or smoother than the floor a texture may be."""
_JOINT = 0.025
"""Share of the picture's height that is not floor, and still does not hide it: joints, kerbs, litter."""


def floor_by_color(
    rgb: UInt8[np.ndarray, "height width 3"], camera: Camera, *, reach: float = 1.8
) -> Bool[np.ndarray, "height width"]:
    """Pixels below the horizon that look like the surface at the picture's lower edge, with nothing else before them.

    Colors of the lowest tenth in few clusters (k-means); those of one surface differ by light alone, and the surface
    must make up half of the tenth. A pixel belongs when its color is within `reach` standard deviations of one, its
    texture is as rough, and its column shows the same down to the lower edge. None where the cues do not agree.
    """
    from scipy.ndimage import binary_closing, binary_opening, gaussian_filter

    scale = _SIDE_PX / max(rgb.shape[:2])
    small_hw = (max(round(rgb.shape[0] * scale), 8), max(round(rgb.shape[1] * scale), 8))
    tensor = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(tensor, small_hw, mode="area")[0].permute(1, 2, 0).numpy()
    smooth = gaussian_filter(small, (1.0, 1.0, 0))
    below = ground_depth(camera.resized(small_hw)).numpy() < FARTHEST_M
    band = np.zeros(small_hw, bool)
    band[-max(round(_BAND * small_hw[0]), 2) :] = True
    if (band & below).sum() < 10:
        return np.zeros(rgb.shape[:2], bool)
    alike = _like_the_surface(_features(smooth), band & below, reach) & (_edges(small) < 0.03)
    if (alike & band).sum() < _MOST_COMMON * (band & below).sum():
        return np.zeros(rgb.shape[:2], bool)
    alike &= below & _as_rough(small, alike & band) & _lit(smooth, alike & band)
    alike = binary_opening(binary_closing(np.pad(alike, 4, mode="edge"), np.ones((3, 3))), np.ones((3, 3)))[4:-4, 4:-4]
    kept = _in_plain_view(np.asarray(alike, bool), max(round(_JOINT * small_hw[0]), 2)) & below
    tall = torch.from_numpy(kept.astype(np.float32))[None, None]
    return torch.nn.functional.interpolate(tall, rgb.shape[:2], mode="bilinear")[0, 0].numpy() > 0.5


def _as_rough(
    rgb: Float[np.ndarray, "height width 3"], floor: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Where the texture's contrast is much like that of the known floor; a floor without texture has no rough parts."""
    from scipy.ndimage import gaussian_filter

    gray = np.log(rgb.mean(-1) + 0.05)
    fine = gray - gaussian_filter(gray, 2.0)
    rough = np.sqrt(gaussian_filter(fine**2, 4.0))
    usual = float(np.median(rough[floor]))
    return rough < _ROUGHER * max(usual, 0.01)


def _lit(
    rgb: Float[np.ndarray, "height width 3"], floor: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Where it is not so dark, for this floor, that its color tells nothing."""
    gray = rgb.mean(-1)
    return gray > _SHADE * float(np.median(gray[floor]))


def _in_plain_view(alike: Bool[np.ndarray, "height width"], joint: int) -> Bool[np.ndarray, "height width"]:
    """Pixels of `alike` beneath which, down to the lower edge, no more than `joint` others follow one another: what
    stands before the floor hides where it stands."""
    visible = np.zeros_like(alike)
    missed = np.zeros(alike.shape[1], int)
    for row in range(alike.shape[0] - 1, -1, -1):
        missed = np.where(alike[row], np.where(missed <= joint, 0, missed), missed + 1)
        visible[row] = missed <= joint
    return visible & _closed(alike, joint)


def _closed(alike: Bool[np.ndarray, "height width"], joint: int) -> Bool[np.ndarray, "height width"]:
    """With gaps of at most `joint` rows closed."""
    from scipy.ndimage import binary_closing

    padded = np.pad(alike, ((joint + 1, joint + 1), (0, 0)), mode="edge")
    return np.asarray(binary_closing(padded, np.ones((joint + 1, 1))), bool)[joint + 1 : -joint - 1]


def _features(rgb: np.ndarray) -> np.ndarray:
    """Logarithmic brightness, which shadows move, at half weight, and two color differences."""
    log = np.log(rgb + 0.05)
    gray = log.mean(-1)
    return np.stack([0.5 * gray, log[..., 0] - log[..., 1], log[..., 2] - log[..., 1]], -1)


def _like_the_surface(
    features: Float[np.ndarray, "height width 3"], seeds: Bool[np.ndarray, "height width"], reach: float
) -> Bool[np.ndarray, "height width"]:
    """Pixels within `reach` standard deviations (each at least 0.04) of a cluster of the seeds' commonest surface:
    its largest cluster, and those that differ from it by brightness alone."""
    from scipy.cluster.vq import kmeans2

    known = features[seeds]
    count = 1 if known.std(0).max() < 0.01 else min(_COLORS, len(known))
    centers, member = kmeans2(known.astype(np.float64), count, minit="++", seed=0)  # pyright: ignore[reportCallIssue]
    shares = np.bincount(member, minlength=count) / len(known)
    main = int(shares.argmax())
    alike = np.zeros(features.shape[:2], bool)
    for index, center in enumerate(centers):
        own = known[member == index]
        if shares[index] < 0.08 or np.abs(center[1:] - centers[main][1:]).max() > _HUE_STEP:
            continue
        spread = np.maximum(own.std(0), 0.04)
        alike |= np.sqrt((((features - center) / spread) ** 2).mean(-1)) < reach
    return alike


def _edges(rgb: np.ndarray) -> np.ndarray:
    """Strength of edges in brightness."""
    from scipy.ndimage import gaussian_gradient_magnitude

    return gaussian_gradient_magnitude(rgb.mean(-1), 1.0)
