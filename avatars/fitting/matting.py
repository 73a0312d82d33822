"""A frame's soft mask and the empty room in; a crisper mask, and how far to trust it, out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

EDGE_BAND = 0.012
"""Half width of the band around a mask's edge where it is not trusted, as a share of the crop's longer side."""
UNDECIDED = (20.0, 235.0)
"""A mask between these, of 255, leaves the decision to the clean plate."""
DIFFERS = (12.0, 34.0)
"""Largest channel difference from the clean plate, in 8-bit steps, that means the room, and that means the person."""
TOLD = (60.0, 110.0)
"""The same between the room and what lies inside the mask nearby: from the first on the mask's edge is told from the
room, from the second on it is trusted."""
DARKEST_SHADOW = 0.4
"""How dark a shadow may be, relative to the room in light, and still count as room."""
FEET = 0.12
"""Lower share of the mask's height in which the mask's edge may lie in the person's contact shadow."""


def generous(masks: UInt8[Tensor, "frames height width"], reach: float = 0.01) -> Tensor:
    """Where the person may be: the mask's fainter part, widened by a share of the image's longer side."""
    radius = max(int(reach * max(masks.shape[1:])), 2)
    return dilated((masks > 64).float(), radius) > 0


def dilated(masks: Float[Tensor, "frames height width"], radius: int) -> Float[Tensor, "frames height width"]:
    """Maximum over squares of the given radius."""
    import cv2  # a pooling layer takes 40 times as long

    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return torch.stack([torch.from_numpy(cv2.dilate(mask.numpy(), square)) for mask in masks])


def sharpened(image: Float[Tensor, "8 height width"]) -> Float[Tensor, "height width"]:
    """The mask (0 to 255) made crisp by the empty room: where it is undecided, what is unlike the room is the person.

    Where the room is not known, or the mask is decided, the mask stays. At the feet the room in shadow is room, too;
    higher up gray clothes before a white wall would look like that.
    """
    mask, known = image[3], image[7] > 254
    undecided = (mask > UNDECIDED[0]) & (mask < UNDECIDED[1]) & known
    unlike = unlike_room(image, darkest_shadow=1.0)
    feet = at_feet(mask)
    if bool((undecided & feet).any()):
        unlike = torch.where(feet, unlike_room(image, darkest_shadow=DARKEST_SHADOW), unlike)
    return torch.where(undecided, 255 * unlike, mask)


def at_feet(mask: Float[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """The lowest `FEET` of what the mask (0 to 255) surely shows, and all below it."""
    rows = torch.nonzero((mask > 127).any(1))[:, 0]
    if not len(rows):
        return torch.zeros_like(mask, dtype=torch.bool)
    top, bottom = int(rows[0]), int(rows[-1])
    first = bottom - FEET * (bottom - top)
    return (torch.arange(mask.shape[0], device=mask.device) >= first)[:, None].expand_as(mask)


def matted(image: Float[Tensor, "8 height width"], edge: EdgeContrast) -> Float[Tensor, "height width"]:
    """The mask (0 to 255) cut back where its edge shows the room.

    A rim of wall around the person costs nothing over that wall, and is a halo over anything else. Coverage at the edge
    is how far a pixel is from the room, relative to what lies inside the mask nearby; where that is hardly unlike the
    room itself, the mask stays. At the feet the room in shadow, where what lies inside is something else, covers
    nothing.
    """
    mask = image[3]
    coverage = (255 * (edge.apart - DIFFERS[0]) / (0.7 * edge.contrast - DIFFERS[0]).clamp_min(1.0)).clamp(0, 255)
    unlike = 255 * unlike_room(image, darkest_shadow=DARKEST_SHADOW)
    shadows = at_feet(mask) & (image[7] > 254) & (edge.unshaded > DIFFERS[1])
    coverage = torch.where(shadows, torch.minimum(coverage, unlike), coverage)
    return torch.where((edge.contrast > TOLD[0]) & ~edge.inside, torch.minimum(mask, coverage), mask)


@dataclass(frozen=True, slots=True, eq=False)
class EdgeContrast:
    """How well a mask's edge can be told from the room, in 8-bit steps of the largest channel difference."""

    inside: Bool[Tensor, "height width"]
    """Well inside the mask."""
    apart: Float[Tensor, "height width"]
    """Between the pixel and the room there, or what is known of the room around it."""
    contrast: Float[Tensor, "height width"]
    """Between the person inside the mask nearby and the room; 0 where one of them is not there."""
    unshaded: Float[Tensor, "height width"]
    """The same to the room in the shadow that comes nearest to the person: little for gray clothes before white."""

    @property
    def told(self) -> Float[Tensor, "height width"]:
        """How far the edge can be trusted, in [0, 1]."""
        return ((self.contrast - TOLD[0]) / (TOLD[1] - TOLD[0])).clamp(0, 1)

    @staticmethod
    def of(image: Float[Tensor, "8 height width"]) -> EdgeContrast:
        """Compare what lies inside a mask (0 to 255) with what lies behind its edge; means are taken at a quarter of
        the resolution. What is too thin to have an inside, such as a hand, is where the mask shows no room."""
        small = F.avg_pool2d(image[None], 4)[0]
        radius = max(round(EDGE_BAND * max(small.shape[1:])), 1)
        inside = (-dilated(-small[3:4], radius)[0] > 200).float()
        around, some_room = _mean_around(small[4:7], (small[7] > 254).float(), 2 * radius + 1)
        person, some_person = _mean_around(small[:3], inside, 2 * radius + 1)
        unlike = (small[:3] - torch.where(small[7] > 254, small[4:7], around)).abs().amax(0) > TOLD[0]
        thin, some_thin = _mean_around(small[:3], ((small[3] > 200) & unlike).float(), 2 * radius + 1)
        person, some_person = torch.where(some_person, person, thin), some_person | some_thin
        both = (some_person & some_room).float()
        coarse = torch.cat([person, around, both[None], inside[None]])[None]
        fine = F.interpolate(coarse, image.shape[1:], mode="bilinear", align_corners=False)[0]
        room = torch.where(image[7] > 254, image[4:7], fine[3:6])
        apart, contrast = ((x - room).abs().amax(0) for x in (image[:3], fine[:3]))
        unshaded = from_shadow(fine[:3], room, darkest=DARKEST_SHADOW)
        contrast, unshaded = (torch.where(fine[6] > 0.99, x, 0.0) for x in (contrast, unshaded))
        return EdgeContrast(fine[7] > 0.99, apart, contrast, unshaded)


def _mean_around(
    image: Float[Tensor, "3 height width"], weight: Float[Tensor, "height width"], radius: int
) -> tuple[Float[Tensor, "3 height width"], Bool[Tensor, "height width"]]:
    """Weighted mean over squares, and where there is anything to average."""
    total = boxed(torch.cat([image * weight, weight[None]]), radius)
    return total[:3] / total[3].clamp_min(1e-6), total[3] > 0.02


def boxed(images: Float[Tensor, "frames height width"], radius: int) -> Float[Tensor, "frames height width"]:
    """Mean over squares of the given radius, by running sums along columns and then rows; 0 outside."""
    span = 2 * radius + 1
    for padding, axis in (((0, 0, radius + 1, radius), -2), ((radius + 1, radius), -1)):
        sums = F.pad(images, padding).cumsum(axis)
        end = sums.shape[axis]
        images = (sums.narrow(axis, span, end - span) - sums.narrow(axis, 0, end - span)) / span
    return images


def unlike_room(image: Float[Tensor, "8 height width"], *, darkest_shadow: float) -> Float[Tensor, "height width"]:
    """0 where a pixel shows the empty room, in light or in shadow, 1 where it shows something else."""
    lowest, highest = DIFFERS
    return ((from_shadow(image[:3], image[4:7], darkest=darkest_shadow) - lowest) / (highest - lowest)).clamp(0, 1)


def from_shadow(
    rgb: Float[Tensor, "3 height width"], room: Float[Tensor, "3 height width"], *, darkest: float
) -> Float[Tensor, "height width"]:
    """Largest channel difference from the room in the light, from `darkest` to 1, in which it is most alike."""
    brightness = ((rgb * room).sum(0) / room.square().sum(0).clamp_min(1.0)).clamp(darkest, 1.0)
    return (rgb - brightness * room).abs().amax(0)


def trusted(
    image: Float[Tensor, "8 height width"], told: Float[Tensor, "height width"]
) -> Float[Tensor, "2 height width"]:
    """How far the mask is trusted, and where the person is near (`Crops.sure`, `Crops.near`), times 255."""
    mask = image[3:4]
    radius = max(round(EDGE_BAND * max(mask.shape)), 1)
    wide, narrow = dilated(mask, radius), -dilated(-mask, radius)
    near = torch.maximum(mask, dilated(wide, radius) * unlike_room(image, darkest_shadow=DARKEST_SHADOW))
    return torch.cat([255.0 - (0.9 - 0.4 * told) * (wide - narrow), near])
