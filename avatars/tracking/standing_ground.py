"""Where feet stood, and for how long -> the plane they stood on: its slope corrects gravity, its height is y = 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.body.motion import runs
from avatars.tracking.foot_contacts import CONTACT_POINTS, resting

MIN_STANCE_S = 0.25
"""A foot that rests for less may be one that turns in the air: at the top of a jump, or of a kick."""
STANCE_DEVIATION_M = 0.04
"""How far one stance's height is from the truth, one standard deviation: a person's distance from the camera is known
to a few percent, and the camera looks down on their feet."""
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Stances:
    """Times in which one point of a foot rested."""

    points: Float[Tensor, "stances 3"]
    """Median place in each."""
    frames: Bool[Tensor, " frames"]
    """Whether any point is in one."""


def stances(
    keypoints: Float[Tensor, "frames 133 3"], times_s: Float[Tensor, " frames"], seen: Bool[Tensor, "frames 4"]
) -> Stances:
    """Where the points of `CONTACT_POINTS` rested, +Y nearly up: still, seen, and near the lowest foot point,
    so that no ground need be known yet."""
    points = keypoints[:, list(CONTACT_POINTS)]
    rests = resting(keypoints, times_s, points[..., 1].amin(1)) & seen
    places, frames = [], torch.zeros(len(points), dtype=torch.bool)
    for k in range(len(CONTACT_POINTS)):
        for start, stop in runs(rests[:, k]):
            if float(times_s[stop - 1] - times_s[start]) >= MIN_STANCE_S:
                places.append(points[start:stop, k].median(0).values)
                frames[start:stop] = True
    return Stances(torch.stack(places) if places else torch.zeros(0, 3), frames)


def ground_normal(stood: Stances, slope_deviation: float) -> Float[Tensor, " 3"]:
    """Unit normal of the plane through the stances, expected to be +Y within `slope_deviation` (tangent).

    Maximum a posteriori of height = a x + b z + c with Gaussian slopes (a, b) and robust heights (Geman & McClure 1987,
    reweighted), so that somebody who stays in one spot says little about gravity, one who walks about much, and one
    step onto something nothing.
    """
    if len(stood.points) < 2:
        return torch.tensor([0.0, 1.0, 0.0])
    A = torch.cat([stood.points[:, [0, 2]], torch.ones(len(stood.points), 1)], 1).double()
    A[:, :2] -= A[:, :2].median(0).values
    height = stood.points[:, 1].double()
    prior = torch.diag(torch.tensor([1.0, 1.0, 1e-9]).double()) * (STANCE_DEVIATION_M / slope_deviation) ** 2
    plane = torch.tensor([0.0, 0.0, float(height.median())]).double()
    for _ in range(ROUNDS):
        residual = (height - A @ plane) / (3 * STANCE_DEVIATION_M)
        weight = (1 + residual.square()) ** -2
        plane = torch.linalg.solve(A.T @ (weight[:, None] * A) + prior, A.T @ (weight * height))
    return torch.nn.functional.normalize(torch.stack([-plane[0], torch.ones(()).double(), -plane[1]]), dim=0).float()
