"""Keypoints of a person -> how far their center of mass is from above the feet that carry it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FEET = (17, 18, 19, 19, 19), (20, 21, 22, 22, 22)
"""Toes and heel of each foot: their mean, two fifths of the way from heel to toes, is where the foot of a person who
stands quietly carries (about 5 cm before the ankle; Winter 1995)."""
MASSES = (
    ([3, 4], 0.07), ([5, 6, 11, 12], 0.43), ([5, 7], 0.027), ([6, 8], 0.027), ([7, 9], 0.016), ([8, 10], 0.016),
    ([9], 0.006), ([10], 0.006), ([11, 11, 11, 13, 13], 0.14), ([12, 12, 12, 14, 14], 0.14), ([13, 13, 15], 0.043),
    ([14, 14, 16], 0.043), ([17, 18, 19], 0.014), ([20, 21, 22], 0.014),
)  # fmt: skip
"""COCO-WholeBody points whose mean is the center of a part of the body, and the part's share of the mass: rounded from
de Leva 1996."""
LOAD_M = 0.04
"""A foot that is higher by so much carries less by a factor of e."""


def balance_offset(points: Float[Tensor, "frames points 3"], up: Float[Tensor, " 3"]) -> Float[Tensor, "frames 3"]:
    """From the feet that carry a person to below their center of mass, meters, at right angles to `up` (unit).
    `points` are at least the first 23 of COCO-WholeBody's."""
    mass = points.new_zeros(points.shape[1])
    for indices, share in MASSES:
        mass.index_add_(0, torch.tensor(indices), torch.full((len(indices),), share / len(indices)))
    center = torch.einsum("fpd,p->fd", points, mass / mass.sum())
    feet = torch.stack([points[:, list(foot)].mean(1) for foot in FEET], 1)
    load = torch.softmax(-(feet @ up) / LOAD_M, 1)
    off = center - (load[..., None] * feet).sum(1)
    return off - (off @ up)[:, None] * up
