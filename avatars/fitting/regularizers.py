"""Gradient of the Laplacian and flatness regularizers, which tie Gaussians to their neighbors and the surface.

What ties neighbors is quadratic, so that its gradient is two sums over neighbors, which our C++ takes with the rest:
going through autograd costs ten times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from avatars.avatar.binding import FACE, FOOT, HAND, Neighbors, laplacian
from avatars.avatar.rig import Rig
from avatars.fitting.config import FitWeights
from avatars.fitting.parameters import GaussianParameters, resting_offsets
from avatars.geometry.rotations import matrix_from_quaternion
from avatars.kernels.adam import gradient_of
from avatars.kernels.extension import extension, in_cpp
from avatars.kernels.threads import kernel_threads

PULL_BY_REGION = {HAND: 100.0, FACE: 20.0, FOOT: 3.0}


@dataclass(frozen=True, slots=True, eq=False)
class Regularizer:
    """Sum over Gaussians of weight * |value - mean of its neighbors' values|² / n."""

    neighbors: Int32[Tensor, "n k"]
    begins: Int32[Tensor, " n+1"]
    """Each Gaussian's first place in the next."""
    tied_by: Int32[Tensor, " n*k"]
    """Whose neighbor it is."""
    spacing_m: Float[Tensor, " n"]
    widest: Float[Tensor, " n"]
    """Logarithm of twice the spacing."""
    weights: Float[Tensor, "n 9"]
    pull: Float[Tensor, "n 1"]
    """Weight of |offset - rest|² (in spacings), besides: hands and face belong where the body has them."""
    rest: Float[Tensor, "n 3"]
    """As `resting_offsets`, in spacings."""
    flat: Float[Tensor, " n"]
    """Weight of the squared sine between third axis and normal."""
    normals: Float[Tensor, "n 3"]
    """Of the surface, unit, in the axes of the T-pose."""

    @staticmethod
    def between(
        rig: Rig, neighbors: Neighbors, weights: FitWeights, trust: Float[Tensor, " n"] | None = None
    ) -> Regularizer:
        """Build the graph; hands get the stiffest offsets, and what is rarely seen (little `trust`) follows the rest.

        Adam moves what has a gradient in few frames far in each of them: a color seen twice at the silhouette would be
        that of the room behind.
        """
        (n, k), region = neighbors.index.shape, rig.binding.region
        tied = neighbors.index.reshape(-1)
        begins = torch.zeros(n + 1, dtype=torch.int32)
        begins[1:] = torch.bincount(tied, minlength=n).cumsum(0)
        tied_by = torch.argsort(tied, stable=True) // k
        per_column = [weights.smooth_offset] * 3 + [weights.smooth_scale] * 3 + [weights.smooth_color] * 3
        table = torch.tensor(per_column).repeat(n, 1) / n
        table[region == HAND, :6] *= weights.stiff_hands
        flat = torch.full((n,), weights.flat / n)
        if trust is not None:
            rarely = weights.rarely_seen * (1 - trust).square() / n
            table, flat = table + rarely[:, None], flat + rarely
        pull = torch.full((n, 1), weights.pull / n)
        for where, factor in PULL_BY_REGION.items():
            pull[region == where] *= factor
        graph, spacing_m = (neighbors.index.int(), begins, tied_by.int()), neighbors.spacing_m
        rest = resting_offsets(rig, spacing_m) / spacing_m[:, None]
        return Regularizer(*graph, spacing_m, (2 * spacing_m).log(), table, pull, rest, flat, rig.normals.contiguous())

    def to(self, device: torch.device | str) -> Regularizer:
        """The ties on `device`."""
        return Regularizer(*(getattr(self, name).to(device) for name in self.__slots__))

    def energy(self, p: GaussianParameters, shrink: float) -> Float[Tensor, ""]:
        """What `add_gradient` takes the gradient of: ties, and `shrink` times the mean squared excess in logarithm of
        widths over twice the spacing."""
        spacing = self.spacing_m[:, None]
        offsets = p.offsets / spacing
        apart = laplacian(torch.cat([offsets, p.log_scales, p.albedo], -1), self.neighbors.long())
        cosine = (matrix_from_quaternion(p.quats)[..., 2] * self.normals).sum(-1)
        excess = (p.log_scales - self.widest[:, None]).clamp_min(0)
        return (
            (self.weights * apart.square()).sum()
            + (self.pull * (offsets - self.rest).square()).sum()
            + (self.flat * (1 - cosine.square())).sum()
            + shrink / len(p.offsets) * excess.square().sum()
        )

    @torch.no_grad()
    def add_gradient(self, p: GaussianParameters, shrink: float, times: float = 1.0) -> None:
        """Add `times` the energy's gradient to `p`'s."""
        values = (p.offsets, p.log_scales, p.albedo, p.quats)
        if not in_cpp(p.offsets):
            with torch.enable_grad():
                found = torch.autograd.grad(self.energy(p, shrink), values)
            for value, gradient in zip(values, found, strict=True):
                gradient_of(value).add_(times * gradient)
            return
        gradients = [gradient_of(value) for value in values]
        assert all(tensor.is_contiguous() for tensor in (*values, *gradients))
        extension().add_ties(
            *(self.neighbors, self.begins, self.tied_by, self.spacing_m, self.widest, self.weights, self.pull),
            *(self.rest, self.flat, self.normals, shrink, times, *values, *gradients, kernel_threads()),
        )
