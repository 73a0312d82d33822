"""The light a capture was filmed in, as a smooth factor on the albedo, so that it can be taken off again."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.errors import InputError
from avatars.kernels.extension import empty, extension, in_cpp
from avatars.kernels.threads import kernel_threads

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


def shaded(
    albedo: Float[Tensor, "n 3"],
    normals: Float[Tensor, "frames 3 n"],
    light: Float[Tensor, "8 3"],
    exposure: Float[Tensor, "frames 3"],
    shadow: Float[Tensor, "frames n"] | None = None,
) -> Float[Tensor, "frames n 3"]:
    """Colors in a light, at each frame's exposure and in shadow (logarithms of gains). Normals and shadow get no
    gradient.

    On the CPU our C++ does it, float32 only; as array operations it costs more than skinning. Raises InputError for
    another dtype on the CPU.
    """
    if in_cpp(albedo):
        named = {"albedo": albedo, "normals": normals, "light": light, "exposure": exposure, "shadow": shadow}
        for name, tensor in named.items():
            if tensor is not None and tensor.dtype != torch.float32:
                raise InputError(f"Shading on the CPU takes float32; {name} is {tensor.dtype}. Use `.float()`.")
        return _Shaded.apply(albedo, normals, light, exposure, shadow)  # type: ignore[return-value]
    return shaded_reference(albedo, normals, light, exposure, shadow)


def shaded_reference(
    albedo: Float[Tensor, "n 3"],
    normals: Float[Tensor, "frames 3 n"],
    light: Float[Tensor, "8 3"],
    exposure: Float[Tensor, "frames 3"],
    shadow: Float[Tensor, "frames n"] | None = None,
) -> Float[Tensor, "frames n 3"]:
    """What `shaded` does, in plain PyTorch: any device, any floating dtype."""
    colors = albedo[None] * shading(normals, light) * exposure.exp()[:, None]
    return colors if shadow is None else colors * shadow.exp()[..., None]


class _Shaded(torch.autograd.Function):
    """All frames as one autograd node."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor | None) -> Tensor:
        tensors = tuple(None if t is None else t.detach().contiguous() for t in inputs)
        albedo, normals, *_ = tensors
        assert albedo is not None and normals is not None
        colors = empty((len(normals), len(albedo), 3))
        extension().shade(*_arguments(tensors), colors, kernel_threads())
        ctx.save_for_backward(*tensors)
        return colors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_colors: Tensor) -> tuple[Tensor | None, ...]:
        albedo, normals, *_ = tensors = ctx.saved_tensors
        v_colors, v_albedo = v_colors.contiguous(), empty(albedo.shape)
        sums = torch.empty(len(normals), N_COEFFICIENTS + 1, 3)
        extension().shade_backward(*_arguments(tensors), v_colors, v_albedo, sums, kernel_threads())
        return v_albedo, None, sums[:, :-1].sum(0), sums[:, -1], None


def _arguments(tensors: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    albedo, normals, light, exposure, shadow = tensors
    return normals, light, exposure, shadow, albedo
