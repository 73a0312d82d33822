"""A set of 3D Gaussians, and the standard 3DGS PLY that other viewers open."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Gaussians in world space, named as in gsplat; a leading dimension holds posed frames."""

    means: Float[Tensor, "*frames n 3"]
    """Centers, meters."""
    quats: Float[Tensor, "*frames n 4"]
    """Orientation, wxyz, not necessarily unit."""
    scales: Float[Tensor, "*frames n 3"]
    """Standard deviations along the axes, meters, positive."""
    opacities: Float[Tensor, "*frames n"]
    """In [0, 1]."""
    colors: Float[Tensor, "*frames n channels"]
    """Display-referred sRGB in [0, 1] in the first three channels."""

    def __len__(self) -> int:
        return self.means.shape[-2]

    def __getitem__(self, index: int | slice | Tensor) -> Gaussians:
        """Chosen Gaussians (not frames)."""
        return Gaussians(
            self.means[..., index, :],
            self.quats[..., index, :],
            self.scales[..., index, :],
            self.opacities[..., index],
            self.colors[..., index, :],
        )

    def to(self, device: torch.device | str) -> Gaussians:
        """The Gaussians with their tensors on `device`."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})
