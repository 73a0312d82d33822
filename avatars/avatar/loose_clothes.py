"""A fitted rig and its offsets in; joint weights that carry a skirt as one piece, out.

A Gaussian moves as the skin right under it does. That tears what hangs free: of two neighbors on the front of a skirt
one is bound to the left thigh, the other to the right one, and a step parts them. So weights far off the skin are those
of the space around, the wider the farther off, after the diffused skinning of Lin et al. 2022 ("Learning Implicit
Templates for Point-Based Clothed Human Modeling"). On the skin nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.avatar.binding import TORSO_AND_LIMBS, Binding

CLOSE_M, LOOSE_M = 0.025, 0.05
"""Offsets up to which cloth goes with the skin under it, and from which it goes with the space around. Of the shirts,
trousers and sleeves of eight people 99 of 100 Gaussians lie within 3.2 cm; a skirt's hem lies 8 to 15 cm off."""
WIDTHS = 2.0
"""How far around is looked, in offsets; the standard deviation of the mean is one offset."""
SOURCES = 4000
"""At most about so many points, spread evenly, lend their weights."""


@dataclass(frozen=True, slots=True, eq=False)
class LooseClothes:
    """Points that do not move as the skin under them does."""

    index: Int[Tensor, " m"]
    weights: Float[Tensor, "m joints"]
    """Rows sum to 1."""

    @staticmethod
    def of(
        binding: Binding,
        weights: Float[Tensor, "n joints"],
        surface: Float[Tensor, "n 3"],
        offsets: Float[Tensor, "n 3"],
    ) -> LooseClothes | None:
        """`weights` are the skin's; positions are in the T-pose. None where all clothes are close.

        Hair, faces, hands and feet stay with their own parts, and lend nothing.
        """
        from scipy.spatial import KDTree

        off_m, near = offsets.norm(dim=-1), binding.region == TORSO_AND_LIMBS
        index = torch.nonzero((off_m > CLOSE_M) & near).squeeze(-1)
        if len(index) == 0:
            return None
        places, sources = surface + offsets, torch.nonzero(near).squeeze(-1)
        sources = sources[:: max(len(sources) // SOURCES, 1)]
        tree, mixed = KDTree(places[sources].numpy()), weights[index].clone()
        around = tree.query_ball_point(places[index].numpy(), WIDTHS * off_m[index].numpy(), workers=-1)
        for row, (i, found) in enumerate(zip(index.tolist(), around, strict=True)):
            if found:
                lent = sources[torch.tensor(found)]
                square = (places[lent] - places[i]).square().sum(-1) / off_m[i] ** 2
                mixed[row] = torch.softmax(-0.5 * square, 0) @ weights[lent]
        share = ((off_m[index] - CLOSE_M) / (LOOSE_M - CLOSE_M)).clamp(0, 1)[:, None]
        return LooseClothes(index, torch.lerp(weights[index], mixed, share))

    def worn_over(self, weights: Float[Tensor, "n joints"]) -> Float[Tensor, "n joints"]:
        """The skin's weights, with these in their places."""
        return weights.index_copy(0, self.index, self.weights)
