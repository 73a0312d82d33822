"""A person who holds their limbs still and turns on the spot: what that adds to the evidence of where they are.

Such a person turns about one axis, which is the same in every frame. How far that axis leans towards the camera shows
in how much higher the far side's points lie than the near side's; but detectors take the camera for level and mark
hidden points where a level camera would see them (`depth_shares`), so that is undone, and hidden points count little.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avatars.perception.detector_marks import depth_shares
from avatars.tracking.evidence import Evidence

TRUNK_SIDES = ((5, 11), (6, 12))
"""Shoulder and hip of the left and of the right (COCO)."""
HIDDEN = 0.1
"""Share of its weight that a trunk's point keeps on the side turned away."""
TILT_DEVIATION_RAD = 0.3
"""Of an error that all directions of the hint share: what the person stands like tells the tilt here."""
AXIS_RAD = 0.035
"""How far a person who stands still leans from their own mean."""


def of_a_held_turn(evidence: Evidence, rotation: Float[Tensor, "frames 3 3"]) -> Evidence:
    """The evidence with the trunk's hidden points nearly mute. `rotation` is the root's, in view axes."""
    weight, left_is_near = evidence.weight.clone(), rotation[:, 2, 0]
    for points, near in zip(TRUNK_SIDES, (left_is_near, -left_is_near), strict=True):
        seen = torch.sigmoid((near + 0.45) / 0.12)
        weight[:, points] *= (HIDDEN + (1 - HIDDEN) * seen)[:, None]
    return replace(evidence, weight=weight, tilt_deviation=TILT_DEVIATION_RAD)


def mean_axis(root: Float[Tensor, "frames 3 3"]) -> Float[Tensor, " 3"]:
    """The body's own up over all frames, unit, view axes."""
    return F.normalize(root[..., 1].mean(0), dim=0)


def off_axis(root: Float[Tensor, "frames 3 3"]) -> Float[Tensor, " frames"]:
    """Squared distance of each frame's up from the mean, in standard deviations."""
    return (root[..., 1] - mean_axis(root)).square().sum(-1) / AXIS_RAD**2


def as_marked(
    placed: Float[Tensor, "frames points 3"], up: Float[Tensor, " 3"], detector: str
) -> Float[Tensor, "frames points 3"]:
    """Points (view axes, the camera at the origin) moved across the line of sight to where a detector marks them that
    believes the camera level: of two sides' distance in depth along the ground it shows but a share as height."""
    left, right, share = depth_shares(detector, placed.shape[1])
    if len(left) == 0:
        return placed
    sight = F.normalize(placed[:, left] + placed[:, right], dim=-1)
    ahead = F.normalize(sight - (sight @ up)[..., None] * up, dim=-1)
    apart = ((placed[:, left] - placed[:, right]) * ahead).sum(-1, keepdim=True)
    across = ahead - (ahead * sight).sum(-1, keepdim=True) * sight
    shift = 0.5 * (1 - share)[:, None] * apart * across
    return placed.index_add(1, torch.cat([left, right]), torch.cat([-shift, shift], 1))
