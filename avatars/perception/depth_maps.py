"""Depth of a place's pictures: in meters where the model knows them, and otherwise said to be relative."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.errors import InputError
from avatars.perception.backend_table import BackendOptions, open_backend


@dataclass(frozen=True, slots=True)
class DepthMaps:
    """What a depth model says about pictures of one size."""

    values: Float[Tensor, "frames height width"]
    """`metric`: camera z in meters. `relative`: larger is nearer; inverse depth up to an unknown scale and offset."""
    kind: Literal["metric", "relative"]

    def meters(self) -> Float[Tensor, "frames height width"]:
        """Camera z in meters. Raises InputError for relative depth, which has none."""
        if self.kind == "relative":
            raise InputError(
                "This depth is relative: it orders the scene and has no meters. Use a metric checkpoint "
                "(Depth-Anything-V2-Metric-Indoor or -Outdoor), or fit it to known depth with `fitted`."
            )
        return self.values

    def fitted(
        self, depth_m: Float[Tensor, "frames height width"], known: Bool[Tensor, "frames height width"]
    ) -> DepthMaps:
        """Relative depth made metric by known depth, such as that of the ground plane: per frame, the scale and offset
        of inverse depth that fit best (least squares, Ranftl et al. 2020). What lies beyond infinity becomes +inf.

        Raises InputError where fewer than 16 pixels of a frame are known or they do not fix a scale.
        """
        if self.kind == "metric":
            return self
        fitted = [_fitted(*frame) for frame in zip(self.values, depth_m, known, strict=True)]
        return DepthMaps(torch.stack(fitted), "metric")


def depth_maps(
    frames: Iterable[np.ndarray], options: BackendOptions | None = None, *, backend: str = "depth-anything"
) -> DepthMaps:
    """Depth of pictures (height, width, 3) uint8 RGB of one size. Raises BackendMissing before any work."""
    model: Any = open_backend(backend, options)
    try:
        parts = [model(frames=np.asarray(frame)[None]) for frame in frames]
    finally:
        model.close()
    if not parts:
        raise InputError("No picture was given to estimate depth of.")
    values = torch.from_numpy(np.concatenate([part["depth"] for part in parts]))
    return DepthMaps(values, cast(Literal["metric", "relative"], str(parts[0]["kind"])))


def _fitted(value: Tensor, depth_m: Tensor, known: Tensor) -> Tensor:
    known = known & depth_m.isfinite() & (depth_m > 0)
    if int(known.sum()) < 16:
        raise InputError(
            f"Only {int(known.sum())} pixels of known depth; at least 16 are needed to fit relative depth."
        )
    x, y = value[known].double(), 1.0 / depth_m[known].double()
    spread = x - x.mean()
    variance = spread.square().mean()
    scale = (spread * y).mean() / variance.clamp_min(1e-12)
    if variance < 1e-12 or scale <= 0:
        raise InputError(
            "The known depth does not rise and fall with the estimated one; relative depth cannot be fitted."
        )
    inverse = scale * (value.double() - x.mean()) + y.mean()
    depth = torch.where(inverse > 0, 1.0 / inverse.clamp_min(1e-9), torch.inf)
    return depth.to(value.dtype)
