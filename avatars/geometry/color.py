"""sRGB to linear light, and to OKLab, where equal distances look about equally different (Ottosson 2020); and back."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_LMS_FROM_RGB = torch.tensor(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    dtype=torch.float64,
)
_LAB_FROM_ROOTS = torch.tensor(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    dtype=torch.float64,
)


def linear_from_srgb(rgb: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Linear light of display-referred sRGB in [0, 1] (IEC 61966-2-1)."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(linear: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Display-referred sRGB of linear light in [0, 1] (IEC 61966-2-1)."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def linear_array_from_srgb(rgb: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """`linear_from_srgb` of an array, whose powers differ from PyTorch's in the last bit."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def srgb_array_from_linear(linear: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """`srgb_from_linear` of an array."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def oklab_from_srgb(rgb: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """L in [0, 1], a (green to red) and b (blue to yellow) in about [-0.3, 0.3], of display-referred sRGB in [0, 1]."""
    roots = (linear_from_srgb(rgb.double().clamp(0, 1)) @ _LMS_FROM_RGB.t()) ** (1 / 3)
    return (roots @ _LAB_FROM_ROOTS.t()).float()


def srgb_from_oklab(lab: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Display-referred sRGB in [0, 1]; colors that sRGB does not have lose chroma until it has them."""
    lab = lab.double().clone()
    lab[:, 0] = lab[:, 0].clamp(0, 1)
    inside, outside = torch.zeros(len(lab), 1).double(), torch.ones(len(lab), 1).double()
    for _ in range(12):  # bisection of the chroma's share that sRGB holds
        share = torch.where(_held(_scaled(lab, outside)), outside, (inside + outside) / 2)
        held = _held(_scaled(lab, share))
        inside, outside = torch.where(held, share, inside), torch.where(held, outside, share)
    return srgb_from_linear(_linear_rgb(_scaled(lab, inside)).clamp(0, 1)).clamp(0, 1).float()


def _scaled(lab: Tensor, share: Tensor) -> Tensor:
    return torch.cat([lab[:, :1], lab[:, 1:] * share], -1)


def _linear_rgb(lab: Tensor) -> Tensor:
    roots = lab @ torch.linalg.inv(_LAB_FROM_ROOTS).t()
    return roots**3 @ torch.linalg.inv(_LMS_FROM_RGB).t()


def _held(lab: Tensor) -> Tensor:
    rgb = _linear_rgb(lab)
    return ((rgb >= -1e-6) & (rgb <= 1 + 1e-6)).all(-1, keepdim=True)
