"""Picture of a place -> a bounded color gain that moves the person's exposure and tint towards it.

Deliberately small and plain: it takes the capture's light to be neutral and well exposed, and the place's mean color to
be its light (gray world, Buchsbaum 1980), which a red wall disproves. So it goes only part of the way and never far.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])  # Rec. 709
_WELL_EXPOSED = 0.20
"""Mean linear luminance of a well exposed photograph: 18% gray and a little sky."""


def linear_from_srgb(rgb: Tensor) -> Tensor:
    """Display-referred sRGB in [0, 1] -> linear light (IEC 61966-2-1)."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp_min(0.0) ** 2.4)


def srgb_from_linear(linear: Tensor) -> Tensor:
    """Linear light -> display-referred sRGB (IEC 61966-2-1)."""
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055)


def light_gain(
    place_rgb: Float[Tensor, "3 height width"],
    *,
    exposure: float = 0.35,
    tint: float = 0.25,
    limits: tuple[float, float] = (0.75, 1.2),
) -> Float[Tensor, 3]:
    """Factor per channel for display-referred foreground color.

    `exposure` and `tint` in [0, 1] say how far to go towards the place; the result stays within `limits`. A gain g of
    linear light is g^(1/2.2) on display-referred values, which are a power of linear light but for the darkest tones.
    """
    mean = linear_from_srgb(place_rgb.reshape(3, -1)[:, ::7]).mean(-1).clamp_min(1e-4)
    luminance = (mean * _LUMINANCE).sum()
    linear_gain = (luminance / _WELL_EXPOSED) ** exposure * (mean / luminance) ** tint
    return (linear_gain ** (1 / 2.2)).clamp(*limits)
