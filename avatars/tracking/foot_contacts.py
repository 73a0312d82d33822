"""A motion's foot points -> which of them stand on the ground, frame by frame."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CONTACT_POINTS = (19, 17, 22, 20)
"""COCO-WholeBody numbers of left heel, left big toe, right heel, right big toe: the order of `Motion.contacts`."""
NEAR_GROUND_M = 0.07
"""Higher points are in the air: an ankle's roll moves the heel of a tracked foot by some centimeters."""
STANDING_M_S = 0.35
"""Faster points slide or swing. A walking foot swings at 2 to 4 m/s (Winter 2009)."""
SPEED_OVER_S = 0.2
"""Time over which a point's speed is measured: single frames tremble."""


SEEN_SCORE = 0.3
ANKLES = (15, 15, 16, 16)


def foot_contacts(
    keypoints: Float[Tensor, "frames 133 3"], times_s: Float[Tensor, " frames"], ground_m: float = 0.0
) -> Bool[Tensor, "frames 4"]:
    """Whether each of `CONTACT_POINTS` stands on the ground (world, +Y up): near it, and nearly still.

    Speeds are central differences over `SPEED_OVER_S`; a label that holds for a single frame takes its neighbors'.
    """
    return resting(keypoints, times_s, torch.full((len(keypoints),), ground_m))


def resting(
    keypoints: Float[Tensor, "frames 133 3"], times_s: Float[Tensor, " frames"], level_m: Float[Tensor, " frames"]
) -> Bool[Tensor, "frames 4"]:
    """`foot_contacts` with a level for each frame."""
    points = keypoints[:, list(CONTACT_POINTS)]
    return _steady(stands(points[..., 1] - level_m[:, None], _speeds_m_s(points, times_s)))


def stands(
    height_m: Float[Tensor, "*any"],
    speed_m_s: Float[Tensor, "*any"],
    *,
    near_m: float = NEAR_GROUND_M,
    still_m_s: float = STANDING_M_S,
) -> Bool[Tensor, "*any"]:
    """Whether points that high over the ground and that fast stand on it: within `near_m` and slower than `still_m_s`.

    The one definition of a foot's contact. The defaults are for joints tracked in a video; points of a sole, whose
    thickness is known and which no detector makes tremble, take narrower ones.
    """
    return (height_m < near_m) & (speed_m_s < still_m_s)


def feet_seen(score: Float[Tensor, "frames 133"]) -> Bool[Tensor, "frames 4"]:
    """Whether a detector saw each of `CONTACT_POINTS`, or its ankle."""
    return torch.maximum(score[:, list(CONTACT_POINTS)], score[:, list(ANKLES)]) > SEEN_SCORE


def _speeds_m_s(points: Float[Tensor, "frames points 3"], times_s: Float[Tensor, " frames"]) -> Tensor:
    """(frames, points), over `SPEED_OVER_S` around each frame."""
    n = len(points)
    if n < 2:
        return points.new_zeros(points.shape[:2])
    frame_s = float((times_s[1:] - times_s[:-1]).median())
    reach = max(1, round(SPEED_OVER_S / 2 / max(frame_s, 1e-3)))
    frames = torch.arange(n)
    before, after = (frames - reach).clamp_min(0), (frames + reach).clamp_max(n - 1)
    elapsed = (times_s[after] - times_s[before]).float().clamp_min(1e-3)
    return (points[after] - points[before]).norm(dim=-1) / elapsed[:, None]


def _steady(labels: Bool[Tensor, "frames points"]) -> Bool[Tensor, "frames points"]:
    """The majority of each frame and its two neighbors."""
    if len(labels) < 3:
        return labels
    padded = torch.cat([labels[:1], labels, labels[-1:]]).int()
    return padded[:-2] + padded[1:-1] + padded[2:] >= 2
