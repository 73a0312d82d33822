"""Ties between neighboring Gaussians: how unlike its neighbors each one is, as a gradient ready to be added.

The energy is quadratic, so that its gradient is two sparse products; going through autograd costs several times more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.binding import FACE, FOOT, HAND, Binding, Neighbors
from avatars.fit_config import FitWeights
from avatars.gaussian_parameters import GaussianParameters

PULL_BY_REGION = {HAND: 100.0, FACE: 20.0, FOOT: 3.0}


@dataclass(frozen=True, slots=True, eq=False)
class Ties:
    """Sum over Gaussians of weight * |value - mean of its neighbors' values|² / n."""

    matrix: Tensor
    """Sparse n x n: identity minus the neighbors' mean."""
    matrix_t: Tensor
    spacing_m: Float[Tensor, " n"]
    weights: Float[Tensor, "n 9"]
    pull: Float[Tensor, "n 1"]
    """Weight of |offset|² (in spacings), besides: hands and face belong where the body has them."""

    @staticmethod
    def between(binding: Binding, neighbors: Neighbors, weights: FitWeights) -> Ties:
        """Build the graph's Laplacian; hands get the stiffest offsets."""
        n, k = neighbors.index.shape
        row = torch.cat([torch.arange(n).repeat_interleave(k), torch.arange(n)])
        column = torch.cat([neighbors.index.reshape(-1), torch.arange(n)])
        value = torch.cat([torch.full((n * k,), -1.0 / k), torch.ones(n)])
        matrix = torch.sparse_coo_tensor(torch.stack([row, column]), value, (n, n), check_invariants=False).coalesce()
        per_column = [weights.smooth_offset] * 3 + [weights.smooth_scale] * 3 + [weights.smooth_color] * 3
        table = torch.tensor(per_column).repeat(n, 1) / n
        table[binding.region == HAND, :6] *= weights.stiff_hands
        pull = torch.full((n, 1), weights.pull / n)
        for region, factor in PULL_BY_REGION.items():
            pull[binding.region == region] *= factor
        return Ties(matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr(), neighbors.spacing_m, table, pull)

    @torch.no_grad()
    def add_gradient(self, p: GaussianParameters, shrink: float, times: float = 1.0) -> None:
        """Add `times` the energy's gradient to `p`'s, and that of Gaussians wider than twice their spacing."""
        n = len(self.spacing_m)
        in_spacings = p.offsets / self.spacing_m[:, None]
        values = torch.cat([in_spacings, p.log_scales, p.albedo], -1)
        gradient = 2 * (self.matrix_t @ (self.weights * (self.matrix @ values)))
        assert p.offsets.grad is not None and p.log_scales.grad is not None and p.albedo.grad is not None
        p.offsets.grad += times * (gradient[:, :3] + 2 * self.pull * in_spacings) / self.spacing_m[:, None]
        p.log_scales.grad += times * gradient[:, 3:6]
        p.albedo.grad += times * gradient[:, 6:]
        excess = (p.log_scales - (2 * self.spacing_m).log()[:, None]).clamp_min(0)
        p.log_scales.grad += times * (2 * shrink / n) * excess
