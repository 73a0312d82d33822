"""A picture with depth -> what a camera sees that goes a few steps aside, and how much of it was never seen.

Points are carried forward to tell the new view's depth, then pixels are read backward, so that the picture stays sharp.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.geometry.camera import Camera
from compose.places.ground import ground_depth, pixel_rays
from compose.rendering.compositor import warped

FARTHEST_M = 200.0
"""What is of unknown depth is taken to be this far: sky, and what is seen through windows."""
_SAME = 0.05
"""A source pixel whose depth differs by more is another thing than the one that was to be read."""


@dataclass(frozen=True, slots=True)
class NewView:
    """A place as the moved camera sees it."""

    rgb: Float[Tensor, "3 height width"]
    depth_m: Float[Tensor, "1 height width"]
    """Camera z of what may hide somebody; +inf on the floor."""
    holes: Bool[Tensor, "height width"]
    """What the picture has not seen; painted with what is beside it and farther away."""

    @property
    def hole_share(self) -> float:
        """Share of the view that was never seen."""
        return float(self.holes.float().mean())


def solid_depth(hiding_m: Float[Tensor, "1 height width"], camera: Camera) -> Float[Tensor, "1 height width"]:
    """Depth of every pixel: of what may hide somebody, else of the floor, else far away."""
    floor = ground_depth(camera)[None]
    known = torch.where(torch.isfinite(hiding_m), hiding_m, floor)
    return torch.where(torch.isfinite(known), known, FARTHEST_M).clamp(max=FARTHEST_M)


def reprojected(
    rgb: Float[Tensor, "3 height width"],
    hiding_m: Float[Tensor, "1 height width"],
    solid_m: Float[Tensor, "1 height width"],
    wide: Camera,
    view: Camera,
    T_view_wide: Float[Tensor, "4 4"],
) -> NewView:
    """The picture of camera `wide`, seen by `view`, which stands where `T_view_wide` takes the wide camera's axes."""
    points = pixel_rays(wide.K, wide.size_hw) * solid_m[0, ..., None]
    depth = _splatted(points.reshape(-1, 3) @ T_view_wide[:3, :3].T + T_view_wide[:3, 3], view)
    holes = ~torch.isfinite(depth)
    depth = _from_behind(depth, holes)
    there = (pixel_rays(view.K, view.size_hw) * depth[..., None] - T_view_wide[:3, 3]) @ T_view_wide[:3, :3]
    pixels = there[..., :2] / there[..., 2:] * wide.K[[0, 1], [0, 1]] + wide.K[:2, 2]
    size = torch.tensor([wide.size_hw[1], wide.size_hw[0]])
    grid = pixels / size * 2 - 1
    read = torch.nn.functional.grid_sample(
        torch.cat([solid_m, torch.where(torch.isfinite(hiding_m), 1.0, 0.0)])[None], grid[None], mode="nearest",
        padding_mode="border", align_corners=False,
    )[0]  # fmt: skip
    holes = holes | ((read[0] / there[..., 2] - 1).abs() > _SAME) | (grid.abs() > 1).any(-1)
    hiding = torch.where(read[1] > 0.5, depth, torch.inf)
    return NewView(warped(rgb, grid), hiding[None], holes)


def _splatted(points: Float[Tensor, "n 3"], view: Camera) -> Float[Tensor, "height width"]:
    """Nearest z per pixel of points, each two pixels wide so that surfaces stay closed; +inf where there is none."""
    height, width = view.size_hw
    front = points[points[:, 2] > 0.05]
    pixels = front[:, :2] / front[:, 2:] * view.K[[0, 1], [0, 1]] + view.K[:2, 2]
    first = (pixels - 0.5).floor().long()
    depth = torch.full((height * width,), torch.inf)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = first[:, 0] + dx, first[:, 1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            depth.scatter_reduce_(0, (y * width + x)[inside], front[inside, 2], "amin")
    return depth.view(height, width)


def _from_behind(depth: Float[Tensor, "height width"], holes: Bool[Tensor, "height width"]) -> Tensor:
    """Holes get the depth of the farther side in their row: a thing that moved aside uncovers what is behind it."""
    columns = torch.arange(depth.shape[1]).expand_as(holes)
    before = torch.where(holes, -1, columns).cummax(1).values
    after = torch.where(holes, depth.shape[1], columns).flip(1).cummin(1).values.flip(1)
    sides = [
        torch.where(ok, depth.gather(1, at.clamp(0, depth.shape[1] - 1)), -torch.inf)
        for at, ok in ((before, before >= 0), (after, after < depth.shape[1]))
    ]
    farther = torch.maximum(*sides)
    return torch.where(holes, torch.where(torch.isfinite(farther), farther, FARTHEST_M), depth)
