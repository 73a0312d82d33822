"""Gaussians being fitted, on a posed body, in the capture's light: the render that is held against a frame."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.avatar.rig import Rig
from avatars.avatar.shading import shaded
from avatars.body import PosedBody
from avatars.fitting.parameters import GaussianParameters
from avatars.geometry.camera import Camera
from avatars.rasterizer import Render, rasterize
from avatars.rasterizer.gaussians import Gaussians


def draw(
    rig: Rig,
    p: GaussianParameters,
    posed: PosedBody,
    camera: Camera,
    exposure: Float[Tensor, "frames 3"],
    *,
    shade: bool = True,
    shadow: Float[Tensor, "frames n"] | None = None,
    surface: Tensor | None = None,
) -> Render:
    """The Gaussians on a posed body as the capture's camera sees them, in the capture's light and at its exposure, in
    the `shadow` that the body casts on itself (`AmbientOcclusion`).

    `surface` stands in for the rig's own while betas are refined. Rig and Gaussians are on the device that is to draw,
    all else may be on the CPU.
    """
    device = p.offsets.device
    points = rig.pose(posed, p.offsets, p.quats, surface)
    light = p.light if shade else torch.zeros_like(p.light)
    colors = shaded(p.albedo, points.normals, light, exposure.to(device), None if shadow is None else shadow.to(device))
    return rasterize(
        Gaussians(points.means, points.quats, p.log_scales.exp(), p.opacity_logits.sigmoid(), colors), camera.to(device)
    )
