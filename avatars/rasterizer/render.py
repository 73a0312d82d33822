"""What a rasterizer returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Render:
    """What a camera sees; `rgb` is premultiplied by `alpha`, and laid over the background if one was given."""

    rgb: Float[Tensor, "frames channels height width"]
    alpha: Float[Tensor, "frames 1 height width"]
    """Coverage in [0, 1]."""
    depth_m: Float[Tensor, "frames 1 height width"]
    """Expected camera z of what covers the pixel (alpha-weighted mean); +inf where nothing was hit."""
    extra: Float[Tensor, "frames extra height width"] | None = None
    """Sums of the extra values, weighted as the colors are: divided by `alpha`, their means. None if none given."""

    def to(self, device: torch.device | str) -> Render:
        """The images on `device`."""
        images = (self.rgb, self.alpha, self.depth_m, self.extra)
        return Render(*(None if image is None else image.to(device) for image in images))  # type: ignore[arg-type]
