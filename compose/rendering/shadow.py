"""Posed Gaussians + light -> the shadow that they cast on the ground y = 0, as flat Gaussians to rasterize.

Every chosen Gaussian is dropped onto the ground along the light and widened with its height, as the penumbra of a light
of some size widens; its opacity falls as its area grows, so that the feet are dark and the head is a haze. What is near
the ground is also dropped straight down: the contact shadow, which every light leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.rasterizer.gaussians import Gaussians

CONTACT_M = 0.2
"""What is lower darkens the ground beneath it in any light."""


@dataclass(frozen=True, slots=True)
class ShadowLight:
    """The light that casts the shadow. The default is an overcast sky: straight down, soft, true in most places."""

    to_light: tuple[float, float, float] = (0.0, 1.0, 0.0)
    """Direction towards the light, world; y > 0."""
    penumbra: float = 0.22
    """Shadow blur (standard deviation, meters) per meter of height of what casts it; 0.02 is a hard sun."""
    strength: float = 0.55
    """Share of the ground's light that a full shadow takes away, in linear light."""


def cast_shadow(gaussians: Gaussians, light: ShadowLight, *, count: int = 3000) -> Gaussians:
    """Flat black-and-white Gaussians on y = 0 whose alpha is the shadow's coverage; about `count` of them.

    `gaussians` are one frame, in a world whose ground is y = 0.
    """
    step = max(len(gaussians) // count, 1)
    means, opacities = gaussians.means[::step], gaussians.opacities[::step]
    height_m = means[:, 1].clamp_min(0.0)
    toward = torch.tensor(light.to_light)
    ground = means - (height_m / toward[1])[:, None] * toward
    ground[:, 1] = 0.0
    dropped = _flat(ground, 0.02 + light.penumbra * height_m, opacities, chosen=len(means))
    low = height_m < CONTACT_M
    beneath = means[low] * torch.tensor([1.0, 0.0, 1.0])
    contact = _flat(beneath, 0.03 + 0.3 * height_m[low], opacities[low], chosen=len(means))
    parts = [dropped, contact]
    return Gaussians(
        torch.cat([p.means for p in parts]),
        torch.cat([p.quats for p in parts]),
        torch.cat([p.scales for p in parts]),
        torch.cat([p.opacities for p in parts]),
        torch.cat([p.colors for p in parts]),
    )


def _flat(
    means: Float[Tensor, "n 3"], sigma_m: Float[Tensor, " n"], opacities: Float[Tensor, " n"], *, chosen: int
) -> Gaussians:
    """Discs on the ground that cover as much as the skin that they stand for."""
    # a person's 1.7 m2 of skin in `chosen` discs, each seen twice: as front and as back
    area_m2 = 1.7 / max(chosen, 1)
    opacity = opacities * (area_m2 / (2.0 * torch.pi * sigma_m.square())).clamp(max=0.6)
    scales = torch.stack([sigma_m, torch.full_like(sigma_m, 1e-3), sigma_m], -1)
    quats = torch.zeros(len(means), 4)
    quats[:, 0] = 1.0
    return Gaussians(means, quats, scales, opacity, torch.zeros(len(means), 1))


def shade(
    scene_rgb: Float[Tensor, "3 height width"], coverage: Float[Tensor, "1 height width"], *, strength: float
) -> Float[Tensor, "3 height width"]:
    """Darken the scene by `strength` of its linear light where `coverage` is 1."""
    # display-referred values go as light^(1/2.2)
    return scene_rgb * (1.0 - strength * coverage) ** (1 / 2.2)
