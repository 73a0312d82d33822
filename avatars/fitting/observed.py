"""A fit as it stands in; what its training frames show of each Gaussian, and colors settled by that, out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.avatar.shading import shading
from avatars.avatar.skirt import Silhouette
from avatars.fitting.color_init import Observation, SeenColors, seen_colors, settled_colors
from avatars.fitting.state import FitInputs, FitProgress, FittedGaussians
from avatars.kernels.adam import gradient_of
from avatars.rasterizer import rasterize
from avatars.rasterizer.gaussians import Gaussians

COLOR_FRAMES = 36
"""At most so many frames give colors."""


@torch.no_grad()
def look(inputs: FitInputs, progress: FitProgress, gaussians: FittedGaussians) -> SeenColors:
    """What the frames show of each Gaussian at the poses of now."""
    return seen_colors(_sighting(inputs, progress, gaussians, row) for row in looked_at(inputs))


def looked_at(inputs: FitInputs) -> list[int]:
    """Rows spread over the clip."""
    rows = len(inputs.train)
    return torch.linspace(0, rows - 1, min(COLOR_FRAMES, rows)).round().long().unique().tolist()


def _sighting(inputs: FitInputs, progress: FitProgress, shown: FittedGaussians, row: int) -> Observation:
    p, crop, rows = shown.parameters, inputs.crops.take([inputs.train[row]], shown.level), torch.tensor([row])
    posed = progress.posed(inputs.body, rows)
    points = shown.drawn_rig.pose(posed, shown.corrected(posed).offsets, p.quats)
    gaussians = Gaussians(points.means, points.quats, p.log_scales.exp(), p.opacity_logits.sigmoid(), p.albedo)
    gain = shading(points.normals, p.light)[0].cpu() * progress.exposure.values[row].exp()
    if (shadow := shown.shadow_at_rows(rows)) is not None:
        gain = gain * shadow[0].exp()[:, None]
    depth_m = rasterize(gaussians, crop.camera.to(p.offsets.device)).depth_m[0, 0].cpu()
    return Observation(crop, points.means[0].cpu(), points.normals[0].t().cpu(), depth_m, gain)


def drawn_share(inputs: FitInputs, progress: FitProgress, shown: FittedGaussians) -> Float[Tensor, " n"]:
    """How much of each Gaussian the frames show: 1 for one that all of them show whole and face on."""
    p = shown.parameters
    white, face_on = torch.ones_like(p.albedo, requires_grad=True), torch.zeros(len(p.albedo))
    for row in looked_at(inputs):
        crop, rows = inputs.crops.take([inputs.train[row]], shown.level), torch.tensor([row])
        posed = progress.posed(inputs.body, rows)
        with torch.no_grad():
            points = shown.drawn_rig.pose(posed, shown.corrected(posed).offsets, p.quats)
        scales, camera = p.log_scales.exp(), crop.camera.to(p.offsets.device)
        render = rasterize(Gaussians(points.means, points.quats, scales, p.opacity_logits.sigmoid(), white), camera)
        (render.rgb[0, 0] * (crop.mask * crop.shown)[0].to(white.device)).sum().backward()
        per_m = camera.K[0, 0, 0] / camera[0].to_camera(points.means[0])[:, 2].clamp_min(0.1)
        face_on += (2 * math.pi * scales[:, :2].prod(1) * per_m**2).cpu()
    return gradient_of(white)[:, 0].cpu() / face_on


def settled(inputs: FitInputs, progress: FitProgress, gaussians: FittedGaussians) -> tuple[FittedGaussians, float]:
    """Without gradients and with colors settled, which ties smear where no frame shows them; and the coverage."""
    p, rig = gaussians.parameters.require_gradients(False), gaussians.rig
    gaussians = replace(gaussians, parameters=p)
    seen = look(inputs, progress, gaussians)
    places, drawn = rig.surface + p.offsets.cpu(), drawn_share(inputs, progress, gaussians)
    colors = settled_colors(p.albedo.cpu(), drawn, seen, places, rig.normals, rig.hanging)
    p.albedo = colors.to(p.offsets.device)
    return gaussians, 1.0 - float(seen.unseen.float().mean())


def silhouettes(inputs: FitInputs, progress: FitProgress) -> Iterator[Silhouette]:
    """Of every training frame, with the body in its pose of now."""
    for row, i in enumerate(inputs.train):
        posed = progress.posed(inputs.body, torch.tensor([row]))
        yield Silhouette(posed, inputs.crops.cameras[i], *inputs.crops.silhouette(i))
