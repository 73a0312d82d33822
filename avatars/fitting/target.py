"""Crops in; what the renders should look like, over what background, and how much each pixel counts, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.fitting.crops import CropBytes, Crops
from avatars.fitting.losses import block_ssim, mask_loss, weighted_l1
from avatars.kernels.extension import empty, extension, in_cpp
from avatars.kernels.threads import kernel_threads
from avatars.rasterizer import Render


@dataclass(frozen=True, slots=True, eq=False)
class FitTarget:
    """What renders are held against."""

    image: Float[Tensor, "b 3 height width"]
    background: Float[Tensor, "b 3 height width"]
    """What to lay under the render: the room where it is known, else one color."""
    weight: Float[Tensor, "b height width"]
    mask: Float[Tensor, "b height width"]
    mask_weight: Float[Tensor, "b height width"]
    shown: Float[Tensor, "b height width"]
    """1 where a pixel counts at all."""

    @staticmethod
    def of(crops: Crops, colors: Float[Tensor, "b 3"], *, over_plate: bool) -> FitTarget:
        """The person over a color of each frame's own, or over the room where that is known.

        Over the room no mask is needed at the silhouette: the frame itself is the target near the person, and the empty
        room away from it, so that shadows and passers-by are not fitted. Over a color the soft mask cuts the person
        out, and its edge counts little; where the room is known, its share of an edge's pixel is taken out.
        """
        fill = colors[:, :, None, None]
        mask, room = crops.mask[:, None], crops.known[:, None] > 0
        person = torch.where(room, (crops.rgb - (1 - mask) * crops.plate).clamp_min(0).minimum(mask), mask * crops.rgb)
        cut_out = person + (1 - mask) * fill
        sure = crops.sure * crops.shown
        if not over_plate:
            return FitTarget(cut_out, fill.expand_as(crops.rgb), sure, crops.mask, sure, crops.shown)
        near = crops.near[:, None]
        in_room = near * crops.rgb + (1 - near) * crops.plate
        image = torch.where(room, in_room, cut_out)
        background = torch.where(room, crops.plate, fill)
        weight = torch.where(crops.known > 0, crops.shown, sure)
        return FitTarget(image, background, weight, crops.mask, sure, crops.shown)


def difference(
    render: Render, target: FitTarget, *, ssim_weight: float, mask_weight: float, shift: tuple[int, int] = (0, 0)
) -> Float[Tensor, ""]:
    """L1, SSIM and coverage between renders and their targets, mean over frames."""
    image = render.rgb + (1 - render.alpha) * target.background
    loss = (1 - ssim_weight) * weighted_l1(image, target.image, target.weight)
    if ssim_weight > 0:
        shown, still = target.shown[:, None] > 0, image.detach()  # elsewhere both are alike and nothing is learnt
        both = torch.where(shown, image, still), torch.where(shown, target.image, still)
        loss = loss + ssim_weight * (1 - block_ssim(*both, shift=shift))
    if mask_weight > 0:
        loss = loss + mask_weight * mask_loss(render.alpha[:, 0], target.mask, target.mask_weight)
    return loss


@dataclass(frozen=True, slots=True)
class Comparison:
    """How renders are held against crops."""

    over_plate: bool
    """Over the room where it is known, else over a color (`FitTarget.of`)."""
    ssim_weight: float
    mask_weight: float
    shift: tuple[int, int] = (0, 0)
    """Of SSIM's grid, rows and columns, each less than 4."""


def crop_difference(
    render: Render, crops: CropBytes, colors: Float[Tensor, "b 3"], how: Comparison
) -> Float[Tensor, ""]:
    """`difference` from the target that `FitTarget.of` makes of the crops; on the CPU (float32) in one pass of our C++
    over the bytes, since as array operations it takes as long as drawing and its gradient together."""
    if not in_cpp(render.rgb):
        there = Crops.of(crops.to(render.rgb.device))
        target = FitTarget.of(there, colors.to(render.rgb.device), over_plate=how.over_plate)
        return difference(render, target, ssim_weight=how.ssim_weight, mask_weight=how.mask_weight, shift=how.shift)
    return _CropDifference.apply(render.rgb, render.alpha, crops.planes, colors, how)  # type: ignore[return-value]


class _CropDifference(torch.autograd.Function):
    """The gradient is computed with the value, since it costs little more."""

    @staticmethod
    def forward(ctx: Any, rgb: Tensor, alpha: Tensor, planes: Tensor, colors: Tensor, how: Comparison) -> Tensor:
        tensors = [t.detach().contiguous() for t in (rgb, alpha, planes, colors)]
        v_rgb, v_alpha = empty(rgb.shape), empty(alpha.shape)
        options = (how.over_plate, *how.shift, how.ssim_weight, how.mask_weight)
        value = extension().image_loss(*tensors, *options, v_rgb, v_alpha, kernel_threads())
        ctx.save_for_backward(v_rgb, v_alpha)
        return rgb.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        v_rgb, v_alpha = ctx.saved_tensors
        if float(v) != 1.0:
            v_rgb, v_alpha = v * v_rgb, v * v_alpha
        return v_rgb, v_alpha, None, None, None
