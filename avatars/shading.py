"""The light a capture was filmed in, as a smooth factor on the albedo, so that it can be taken off again."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

N_COEFFICIENTS = 8
"""Real spherical harmonics of degree 1 and 2; degree 0 is left to the albedo."""


def harmonics(normals: Float[Tensor, "*frames 3 n"]) -> Float[Tensor, "*frames 8 n"]:
    """Degree 1 and 2 real spherical harmonics of directions, each scaled to [-1, 1] or so.

    Nine numbers hold 98% of what a diffuse surface does to any distant light (Ramamoorthi & Hanrahan 2001).
    """
    x, y, z = normals.unbind(-2)
    return torch.stack([x, y, z, 2 * x * y, 2 * y * z, 2 * x * z, 0.5 * (3 * z * z - 1), x * x - y * y], -2)


def shading(
    normals: Float[Tensor, "*frames 3 n"], light: Float[Tensor, "8 channels"]
) -> Float[Tensor, "*frames n channels"]:
    """Positive factor on display-referred colors; its 2.2th power is the factor in linear light."""
    return torch.exp(harmonics(normals).transpose(-1, -2) @ light)
