"""The numbers that fitting changes: how they start on the body's surface, and how a coarse set becomes a fine one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.avatar.binding import FACE, FOOT, HAND, Neighbors
from avatars.avatar.rig import Rig
from avatars.avatar.shading import N_COEFFICIENTS
from avatars.geometry.rotations import quaternion_from_matrix

FLATNESS = 0.3
"""Standard deviation along the normal, relative to that along the surface, at the start."""
WIDTH_PER_SPACING = 0.75
"""Standard deviation along the surface, relative to the spacing: neighbors overlap with no hole between."""
LEAST_WIDTH_PER_SPACING = 0.5
"""Standard deviation along the surface below which neighbors no longer meet: where clothes slide over skin, frames that
disagree would else shrink both away, and leave a hole."""
START_OPACITY = 0.9
INSET_PER_SPACING = {HAND: 1.0, FOOT: 0.8}
"""How far inside the surface Gaussians of thin parts belong: plates on a finger stand out over its curve, and its
picture would be half a pixel too fat on either side."""
DEEPEST_M = 0.004
"""No inset is deeper: about half a finger's radius."""


@dataclass(slots=True, eq=False)
class GaussianParameters:
    """Leaves of the optimization, named as in `Avatar`; positions are in the axes of the T-pose."""

    offsets: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    log_scales: Float[Tensor, "n 3"]
    opacity_logits: Float[Tensor, " n"]
    albedo: Float[Tensor, "n 3"]
    light: Float[Tensor, "8 3"]

    def leaves(self) -> dict[str, Tensor]:
        """Name -> tensor."""
        return {name: getattr(self, name) for name in self.__slots__}

    @torch.no_grad()
    def keep_possible(self, spacing_m: Float[Tensor, " n"]) -> None:
        """Back to colors in [0, 1] and to widths that leave no holes."""
        self.albedo.clamp_(0.0, 1.0)
        widths = self.log_scales[:, :2]
        torch.maximum(widths, (LEAST_WIDTH_PER_SPACING * spacing_m).log()[:, None], out=widths)

    def require_gradients(self, required: bool = True, device: torch.device | str | None = None) -> GaussianParameters:
        """Copies, on `device` if one is named, that are leaves and do or do not take gradients."""
        copies = {name: value.detach().to(device or value.device, copy=True) for name, value in self.leaves().items()}
        return GaussianParameters(**{name: copy.requires_grad_(required) for name, copy in copies.items()})


def on_the_surface(rig: Rig, neighbors: Neighbors) -> GaussianParameters:
    """Flat gray Gaussians lying in the surface (`resting_offsets`), as wide as their spacing asks for."""
    n = len(rig.binding)
    width = (WIDTH_PER_SPACING * neighbors.spacing_m).clamp(2e-4, 0.05)
    scales = torch.stack([width, width, FLATNESS * width], -1)
    return GaussianParameters(
        resting_offsets(rig, neighbors.spacing_m),
        lying_flat(rig.normals),
        scales.log(),
        torch.full((n,), math.log(START_OPACITY / (1 - START_OPACITY))),
        torch.full((n, 3), 0.5),
        torch.zeros(N_COEFFICIENTS, 3),
    )


def resting_offsets(rig: Rig, spacing_m: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Offsets from the surface (m) at which the picture of thin parts is as thick as they are."""
    per_spacing = torch.zeros(len(spacing_m))
    for region, inset in INSET_PER_SPACING.items():
        per_spacing[rig.binding.region == region] = inset
    return -(per_spacing * spacing_m).clamp_max(DEEPEST_M)[:, None] * rig.normals


def lying_flat(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Orientations (wxyz) whose third axis is the normal."""
    helper = torch.where(normals[:, :1].abs() < 0.9, torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    first = torch.nn.functional.normalize(torch.linalg.cross(helper, normals), dim=-1)
    second = torch.linalg.cross(normals, first)
    return quaternion_from_matrix(torch.stack([first, second, normals], -1))


def refined(
    coarse: GaussianParameters, coarse_rig: Rig, fine_rig: Rig, fine_neighbors: Neighbors, k: int = 4
) -> GaussianParameters:
    """A finer set whose offsets and colors are those of the nearest coarse Gaussians on the same side of the surface.

    Shapes, opacities and thin parts' insets start afresh: they belong to the spacing.
    """
    from scipy.spatial import KDTree

    def place(rig: Rig) -> Tensor:  # normals keep the two sides of thin parts apart
        return torch.cat([rig.surface, 0.03 * rig.normals], -1)

    distance, index = KDTree(place(coarse_rig).numpy()).query(place(fine_rig).numpy(), k=k, workers=-1)
    weight = torch.from_numpy(1.0 / (distance + 1e-3) ** 2).float()
    weight = (weight / weight.sum(-1, keepdim=True))[..., None]
    index = torch.from_numpy(index)
    fine = on_the_surface(fine_rig, fine_neighbors)
    offsets = (coarse.offsets.detach()[index] * weight).sum(1)
    fine.offsets = torch.where((fine_rig.binding.region >= FACE)[:, None], fine.offsets, offsets)
    fine.albedo = (coarse.albedo.detach()[index] * weight).sum(1)
    fine.light = coarse.light.detach().clone()
    return fine
