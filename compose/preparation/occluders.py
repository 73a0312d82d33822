"""Outlines of what stands before people + a camera over the ground -> upright cards: their depth, the floor behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.picture import read_picture
from compose.places.free_floor import FOOT_M, HEADROOM_M, Footprint
from compose.places.ground import ground_point, pixel_rays, world_points
from compose.preparation.hints import Occluder, Outline


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """An upright plane across the view on which an occluder is taken to lie."""

    pixels: Bool[np.ndarray, "height width"]
    depth_m: Float[np.ndarray, "height width"]
    """Camera z on the occluder's pixels, +inf elsewhere."""
    footprint: Footprint


def stood_up(occluder: Occluder, camera: Camera, full_hw: tuple[int, int], where: str) -> Card:
    """The card of an occluder. `full_hw` is the size of the picture that its pixels belong to.

    Raises InputError when it is empty, or nothing tells where it stands.
    """
    if occluder.mask is not None:
        pixels = read_mask(occluder.mask, camera.size_hw)
    else:
        pixels = outlined((occluder.outline_px,), camera.size_hw, full_hw)
    if not pixels.any():
        raise InputError(f"{where} covers no pixel of the picture ({full_hw[1]} x {full_hw[0]}).")
    ahead_m = (
        occluder.distance_m
        if occluder.distance_m is not None
        else _foot_ahead_m(occluder, pixels, camera, full_hw, where)
    )
    slope = -(pixel_rays(camera.K, camera.size_hw) @ camera.T_cam_world[:3, :3])[..., 2].numpy()  # ahead per camera z
    depth_m = np.where(pixels & (slope > 1e-3), ahead_m / np.maximum(slope, 1e-3), np.inf).astype(np.float32)
    points = world_points(torch.from_numpy(depth_m), camera).numpy()[np.isfinite(depth_m)]
    near_m, far_m = occluder.reach_m
    body = points[(points[:, 1] > FOOT_M) & (points[:, 1] < HEADROOM_M)]
    sides = (body if len(body) else points)[:, 0]
    if not len(sides):
        raise InputError(f"{where} is seen in no direction in which something ahead could stand: see the horizon.")
    return Card(pixels, depth_m, Footprint(float(sides.min()), float(sides.max()), ahead_m - near_m, ahead_m + far_m))


def _foot_ahead_m(
    occluder: Occluder, pixels: np.ndarray, camera: Camera, full_hw: tuple[int, int], where: str
) -> float:
    """How far ahead the occluder touches the floor: at its foot, else at its lowest pixel."""
    if occluder.foot_px is not None:
        scale = np.array(camera.size_hw[::-1]) / full_hw[::-1]
        foot = torch.tensor((np.array(occluder.foot_px) * scale)[None], dtype=torch.float32)
    else:
        rows, columns = np.nonzero(pixels)
        up = camera.T_cam_world[:2, 1].numpy()
        lowest = int((columns * up[0] + rows * up[1]).argmin())
        row, column = int(rows[lowest]), int(columns[lowest])
        if row >= camera.size_hw[0] - 2:
            raise InputError(
                f"{where} goes on below the picture, so that its foot is not seen. Say `distance_m`, how far ahead of "
                "the camera it stands, or `foot_px`."
            )
        foot = torch.tensor([[column + 0.5, row + 1.0]])
    ahead_m = -float(ground_point(camera, foot)[0, 2])
    if not ahead_m > 0:
        raise InputError(f"{where} has its foot above the horizon. Say where it touches the floor: `foot_px`.")
    return ahead_m


def outlined(
    outlines: Sequence[Outline], size_hw: tuple[int, int], full_hw: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Pixels inside any of the outlines, which are given in pixels of a picture of `full_hw`."""
    from PIL import Image, ImageDraw

    mask = Image.new("1", (size_hw[1], size_hw[0]))
    scale = size_hw[1] / full_hw[1], size_hw[0] / full_hw[0]
    for outline in outlines:
        ImageDraw.Draw(mask).polygon([(x * scale[0] - 0.5, y * scale[1] - 0.5) for x, y in outline], fill=1)
    return np.asarray(mask, dtype=bool)


def read_mask(path: str | Path, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """A mask that is white on something, at the picture's size. Raises InputError for another shape."""
    mask = read_picture(path, "L")
    if abs(mask.width / mask.height / (size_hw[1] / size_hw[0]) - 1) > 0.02:
        raise InputError(f"{path} is {mask.height} x {mask.width}, the photograph {size_hw[0]} x {size_hw[1]}.")
    return np.asarray(mask.resize((size_hw[1], size_hw[0]))) > 127


def floor_through(
    floor: Bool[np.ndarray, "height width"], hiding: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """The floor, going on behind what hides it wherever it is seen on both sides in a row (or on one, the other being
    the picture's border)."""
    columns = np.arange(floor.shape[1])[None]
    seen = ~hiding
    before = np.maximum.accumulate(np.where(seen, columns, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, columns, floor.shape[1])[:, ::-1], axis=1)[:, ::-1]
    outside = (before < 0) & (after >= floor.shape[1])
    sides = [
        np.where(there, np.take_along_axis(floor & seen, at.clip(0, floor.shape[1] - 1), 1), True)
        for at, there in ((before, before >= 0), (after, after < floor.shape[1]))
    ]
    return np.where(hiding, sides[0] & sides[1] & ~outside, floor)
