"""Render + scene -> picture: premultiplied "over" after a soft depth test per pixel.

Blending is done on display-referred values, not in linear light: the Gaussians' alpha was fitted to video through this
very operator, so only here does an edge pixel of the capture come back as it was filmed.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.rasterizer.render import Render

SOFTNESS_M = 0.04
"""Width of the ramp where the person and the place are equally far."""


def visibility(
    foreground_depth_m: Float[Tensor, "*frames 1 height width"],
    scene_depth_m: Float[Tensor, "*frames 1 height width"],
    *,
    softness_m: float = SOFTNESS_M,
) -> Float[Tensor, "*frames 1 height width"]:
    """Share of the foreground that the scene does not hide: a linear ramp `softness_m` wide where the two depths meet.

    1 where the scene is at +inf, 0 where the foreground is.
    """
    hit = torch.isfinite(foreground_depth_m)
    gap = scene_depth_m - torch.where(hit, foreground_depth_m, 0.0)
    return torch.where(hit, (gap / softness_m + 0.5).clamp(0.0, 1.0), 0.0)


def softened(
    visible: Float[Tensor, "frames 1 height width"], hit: Bool[Tensor, "frames 1 height width"]
) -> Float[Tensor, "frames 1 height width"]:
    """Visibility with edges a pixel wide (a 1-2-1 filter): a depth map knows whole pixels only, and its steps show.

    Only pixels that the person hits count, so that the person's own outline is left as it is.
    """
    weight = hit.to(visible.dtype)
    return _one_two_one(visible * weight) / _one_two_one(weight).clamp_min(1e-6)


def _one_two_one(image: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    across = 0.25 * (padded[..., :-2] + padded[..., 2:]) + 0.5 * padded[..., 1:-1]
    return 0.25 * (across[..., :-2, :] + across[..., 2:, :]) + 0.5 * across[..., 1:-1, :]


def composite(
    foreground: Render,
    scene_rgb: Float[Tensor, "*frames 3 height width"],
    scene_depth_m: Float[Tensor, "*frames 1 height width"] | None = None,
    *,
    softness_m: float = SOFTNESS_M,
) -> Float[Tensor, "frames 3 height width"]:
    """Lay the person over the scene, hidden where the scene is nearer.

    Porter & Duff 1984, "over" on premultiplied color. `scene_depth_m` None: nothing in the scene hides the person.
    """
    rgb, alpha = foreground.rgb, foreground.alpha
    if scene_depth_m is not None:
        visible = visibility(foreground.depth_m, scene_depth_m, softness_m=softness_m)
        rgb, alpha = rgb * visible, alpha * visible
    return torch.addcmul(rgb + scene_rgb, alpha, scene_rgb, value=-1.0)


def to_uint8(image: Float[Tensor, "3 height width"]) -> np.ndarray:
    """Picture in [0, 1] -> (height, width, 3) uint8, rounded to nearest."""
    planes = image.mul(255.0).add_(0.5).clamp_(0.0, 255.0).to(torch.uint8)
    return planes.permute(1, 2, 0).contiguous().numpy()
