"""Depth + camera over the ground -> where a body can stand: floor that was seen, with nothing on or above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.geometry.camera import Camera
from compose.places.ground import ground_depth, world_points

CELL_M = 0.05
CLEARANCE_M = 0.05
REACH_M = 15.0
"""Farther floor is not looked at: nobody is placed so far away."""
HEADROOM_M = 2.2
FOOT_M = 0.12
"""Points of the body lower than this need floor beneath them; higher ones may lean over what was seen to be empty."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """A rectangle of floor on which something stands, meters to the right of the camera and ahead of it."""

    left_m: float
    right_m: float
    near_m: float
    far_m: float

    def points(self) -> Float[np.ndarray, "points 3"]:
        """World points of the ground, one in each cell."""
        x = np.arange(self.left_m, self.right_m + CELL_M, CELL_M)
        z = -np.arange(self.near_m, self.far_m + CELL_M, CELL_M)
        across, ahead = np.meshgrid(x, z)
        return np.stack([across, np.zeros_like(across), ahead], -1).reshape(-1, 3)


@dataclass(frozen=True, slots=True)
class FreeFloor:
    """A grid over the ground (world x to the right, -z ahead) and the depth that it was made from."""

    free: Bool[np.ndarray, "ahead across"]
    """Floor was seen here, and nothing stands or hangs within the clearance."""
    left_m: float
    """World x of the first column; rows begin at the camera, z = 0, and go ahead."""
    depth_m: Float[np.ndarray, "height width"]
    camera: Camera
    """The camera of `depth_m`."""

    @staticmethod
    def of(
        depth_m: Float[np.ndarray, "height width"],
        camera: Camera,
        *,
        floor: Bool[np.ndarray, "height width"] | None = None,
        noise: float = 0.0,
        behind: Bool[np.ndarray, "height width"] | None = None,
        occupied: Sequence[Footprint] = (),
    ) -> FreeFloor:
        """From a place's depth; `floor` overrules which pixels are floor, `noise` is the depth's relative error.
        `behind` are pixels of what has floor behind it, `occupied` is floor on which things stand."""
        points = world_points(torch.from_numpy(np.asarray(depth_m, np.float32)), camera).numpy()
        if floor is None:
            floor = is_floor(points, noise=noise)
        left_m = -REACH_M
        shape = (int(REACH_M / CELL_M), int(2 * REACH_M / CELL_M))
        low = 0.05 + 2.0 * noise * _camera_height_m(camera)
        standing = (points[..., 1] > low) & (points[..., 1] < HEADROOM_M) & ~floor
        seen = _rasterized(points[floor], left_m, shape) >= 1
        taken = _rasterized(points[standing], left_m, shape) >= (1 if noise < 0.01 else 2)
        if behind is not None and behind.any():
            hidden = world_points(ground_depth(camera), camera).numpy()[behind]
            seen |= _rasterized(hidden, left_m, shape) >= 1
        for footprint in occupied:
            taken |= _rasterized(footprint.points(), left_m, shape) >= 1
        return FreeFloor(_free_cells(seen, taken), left_m, np.asarray(depth_m, np.float32), camera)

    @property
    def area_m2(self) -> float:
        """Free floor in square meters."""
        return float(self.free.sum()) * CELL_M**2

    def is_free(self, points: Float[Tensor, "points 3"]) -> Bool[np.ndarray, " points"]:
        """Whether the ground beneath points is free floor."""
        row, column = _cells(points.numpy(), self.left_m)
        inside = (row >= 0) & (row < self.free.shape[0]) & (column >= 0) & (column < self.free.shape[1])
        return inside & self.free[np.where(inside, row, 0), np.where(inside, column, 0)]

    def gap_m(self, points: Float[Tensor, "points 3"]) -> Float[np.ndarray, " points"]:
        """How far points are in front of what was seen in their direction; negative behind it, NaN out of view."""
        z = self.camera.to_camera(points)[:, 2].numpy()
        pixels = self.camera.project(points).numpy()
        column, row = np.floor(pixels[:, 0]).astype(int), np.floor(pixels[:, 1]).astype(int)
        height, width = self.depth_m.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (z > 0)
        seen = self.depth_m[np.where(inside, row, 0), np.where(inside, column, 0)]
        return np.where(inside, seen - z, np.nan)

    def blocked(self, points: Float[Tensor, "points 3"]) -> str | None:
        """Why a body that touches `points` (world) cannot be here, or None when it can."""
        free = self.is_free(points)
        low = points[:, 1].numpy() < FOOT_M
        if not free[low].all():
            return "off the free floor"
        doubtful = ~free & ~low
        margin_m = 0.05 + 0.01 * self.camera.to_camera(points)[:, 2].numpy()
        gap_m = self.gap_m(points)
        if (doubtful & ~(gap_m > margin_m) & np.isfinite(gap_m)).any():
            return "in furniture or unseen space"
        return None

    def hidden_share(self, points: Float[Tensor, "points 3"]) -> float:
        """Share of points in view that something in the place hides."""
        gap_m = self.gap_m(points)
        seen = np.isfinite(gap_m) | np.isposinf(gap_m)
        above = points[:, 1].numpy() > FOOT_M
        return float((gap_m[seen & above] < -0.03).mean()) if (seen & above).any() else 0.0

    def hidden_at(self, height_m: float) -> FreeFloor:
        """The part of the floor over which something hides what is `height_m` above it."""
        rows, columns = np.nonzero(self.free)
        x, z = self.left_m + (columns + 0.5) * CELL_M, -(rows + 0.5) * CELL_M
        points = np.stack([x, np.full(len(x), height_m), z], -1)
        gap_m = self.gap_m(torch.from_numpy(points).float())
        free = np.zeros_like(self.free)
        free[rows, columns] = np.isfinite(gap_m) & (gap_m < -0.03)
        return replace(self, free=free)

    def without(self, points: Float[Tensor, "points 3"], *, clearance_m: float = 0.15) -> FreeFloor:
        """The floor that is left when somebody else touches `points` (world)."""
        from scipy.ndimage import binary_dilation

        taken = _rasterized(points.numpy(), self.left_m, (self.free.shape[0], self.free.shape[1])) > 0
        steps = max(round(clearance_m / CELL_M), 1)
        left = self.free & ~np.asarray(binary_dilation(taken, _disc(steps)), bool)
        return FreeFloor(left, self.left_m, self.depth_m, self.camera)

    def per_pixel(self, camera: Camera) -> Bool[np.ndarray, "height width"]:
        """The free floor as a camera sees it, for check images (what hides it is not looked at)."""
        depth = ground_depth(camera)
        points = world_points(depth.clamp_max(1e4), camera).reshape(-1, 3)
        return self.is_free(points).reshape(camera.size_hw) & np.isfinite(depth.numpy())


def is_floor(points: Float[np.ndarray, "height width 3"], *, noise: float = 0.0) -> Bool[np.ndarray, "height width"]:
    """Pixels whose world points lie on y = 0, within depth's error.

    An error e of depth moves a floor point up or down by e times the camera's height, however far away it is.
    """
    with np.errstate(invalid="ignore"):
        near = np.abs(points[..., 1]) < 0.03 + 3.0 * noise * 1.5
        below = points[..., 1] < 0
        return (near | (below & (points[..., 1] > -0.3))) & np.isfinite(points).all(-1)


def _camera_height_m(camera: Camera) -> float:
    T = camera.T_cam_world
    return float(-(T[:3, :3].T @ T[:3, 3])[1])


def _cells(points: np.ndarray, left_m: float) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):
        row = np.floor(np.nan_to_num(-points[..., 2], nan=-1e3, posinf=1e3, neginf=-1e3) / CELL_M).astype(int)
        column = np.floor((np.nan_to_num(points[..., 0], nan=-1e3, posinf=1e3, neginf=-1e3) - left_m) / CELL_M).astype(
            int
        )
    return row, column


def _rasterized(points: np.ndarray, left_m: float, shape: tuple[int, int]) -> np.ndarray:
    """How many points fall onto each cell."""
    row, column = _cells(points.reshape(-1, 3), left_m)
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    flat = np.bincount(row[inside] * shape[1] + column[inside], minlength=shape[0] * shape[1])
    return flat.reshape(shape)


def _free_cells(seen: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Seen floor, holes between its pixels closed, less what is taken and the clearance about it."""
    from scipy.ndimage import binary_closing, binary_dilation, binary_opening

    padded = np.pad(seen, 3)
    closed = binary_closing(padded, _disc(2))[3:-3, 3:-3]
    blocked = np.asarray(binary_dilation(taken, _disc(round(CLEARANCE_M / CELL_M))), bool)
    return np.asarray(binary_opening(closed & ~blocked, _disc(1)), bool)


def _disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius + 0.5
