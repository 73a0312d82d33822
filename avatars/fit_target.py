"""A crop in; what the render should look like, over what background, and how much each pixel counts, out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatars.crops import Crop
from avatars.losses import block_ssim, mask_loss, weighted_l1
from avatars.rasterizer import Render

EDGE_BAND = 0.012
"""Half width of the band around a mask's edge where it is not trusted, as a share of the crop's longer side."""


@dataclass(frozen=True, slots=True, eq=False)
class FitTarget:
    """What a render is held against."""

    image: Float[Tensor, "3 height width"]
    background: Float[Tensor, "3 height width"]
    """What to lay under the render: the room where it is known, else one color."""
    weight: Float[Tensor, "height width"]
    mask: Float[Tensor, "height width"]
    mask_weight: Float[Tensor, "height width"]

    @staticmethod
    def of(crop: Crop, color: Float[Tensor, " 3"], *, over_plate: bool) -> FitTarget:
        """The person over `color`, or over the room where that is known.

        Over the room no mask is needed at the silhouette: the frame itself is the target near the person, and the empty
        room away from it, so that shadows and passers-by are not fitted. Over a color the soft mask cuts the person
        out, and its edge counts little.
        """
        radius = max(round(EDGE_BAND * max(crop.mask.shape)), 1)
        wide, narrow = _dilated(crop.mask, radius), -_dilated(-crop.mask, radius)
        sure = 1.0 - 0.9 * (wide - narrow)
        fill = color[:, None, None]
        cut_out = crop.mask * crop.rgb + (1 - crop.mask) * fill
        if not over_plate:
            return FitTarget(cut_out, fill.expand_as(crop.rgb), sure, crop.mask, sure)
        near = _dilated(crop.mask, 2 * radius)
        in_room = near * crop.rgb + (1 - near) * crop.plate
        image = torch.where(crop.known > 0, in_room, cut_out)
        background = torch.where(crop.known > 0, crop.plate, fill)
        return FitTarget(image, background, torch.where(crop.known > 0, 1.0, sure), crop.mask, sure)


def _dilated(mask: Tensor, radius: int) -> Tensor:
    return F.max_pool2d(mask[None, None], 2 * radius + 1, 1, radius)[0, 0]


def difference(
    render: Render, target: FitTarget, *, ssim_weight: float, mask_weight: float, shift: tuple[int, int] = (0, 0)
) -> Float[Tensor, ""]:
    """L1, SSIM and coverage between a one-frame render and its target."""
    alpha = render.alpha[0, 0]
    image = render.rgb[0] + (1 - alpha) * target.background
    loss = (1 - ssim_weight) * weighted_l1(image, target.image, target.weight)
    if ssim_weight > 0:
        loss = loss + ssim_weight * (1 - block_ssim(image, target.image, shift=shift))
    if mask_weight > 0:
        loss = loss + mask_weight * mask_loss(alpha, target.mask, target.mask_weight)
    return loss
