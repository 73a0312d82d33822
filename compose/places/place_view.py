"""A photograph of a place, or a prepared folder -> Background: its pixels, depth, floor, light, and a camera that
stands over the ground y = 0."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatars.geometry.camera import Camera
from compose.places.free_floor import FreeFloor
from compose.places.ground import (
    ASSUMED_CAMERA_HEIGHT_M,
    ASSUMED_HORIZON,
    camera_over_ground,
    pitch_from_horizon,
    roll_of,
)
from compose.places.light import PlaceLight
from compose.places.photo import open_photo

log = logging.getLogger(__name__)

_FOCAL_PER_LONG_SIDE = 1.1
"""Without EXIF: a horizontal view of 49 degrees, between a phone's main camera and a normal lens."""


@dataclass(frozen=True, slots=True)
class PlaceView:
    """How the camera saw the place, as far as the user knows it; what is None is estimated or assumed, and said so."""

    camera_height_m: float | None = None
    """Height of the lens above the ground (meters)."""
    horizon: float | None = None
    """Where the horizon crosses the middle column, as a fraction of the image height, 0 = top; it may lie outside the
    image."""
    focal_px: float | None = None
    """Focal length in pixels of the photograph as stored (upright)."""
    roll_deg: float | None = None
    """By how many degrees what stands upright leans to the right in the middle of the image."""

    @property
    def stated(self) -> tuple[str, ...]:
        """The names of what the user knows."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)


@dataclass(frozen=True, slots=True)
class Background:
    """A place to stand in: one picture, how far each pixel is, and the camera that took it."""

    rgb: Float[Tensor, "3 height width"]
    """Display-referred sRGB in [0, 1]."""
    depth_m: Float[Tensor, "1 height width"]
    """Camera z of the place; +inf where unknown, so that nothing hides the person there."""
    camera: Camera
    """Over the world's origin, looking along -Z; the ground is y = 0."""
    assumed: tuple[str, ...] = ()
    """What was assumed instead of measured: any of "camera_height_m", "horizon", "focal_px", "roll_deg"."""
    tags: tuple[str, ...] = ()
    licence: str = ""
    floor: FreeFloor | None = None
    """Where a body can stand; None where nothing but the ground plane is known."""
    light: PlaceLight | None = None
    depth_noise: float = 0.0
    """Relative error of the depth."""
    video: Path | None = None
    """A still camera's clip of the place, of the size of `rgb`'s photograph or scaled to it; None for a photograph."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.camera.size_hw

    @staticmethod
    def load(
        path: str | Path, view: PlaceView | None = None, *, tags: tuple[str, ...] = (), licence: str = ""
    ) -> Background:
        """Read a photograph, turned upright, as sRGB; estimate of its camera what `view` leaves open. `open_place`
        reads prepared folders, too.

        Raises InputError when the file is not a photograph that can be used.
        """
        view = view or PlaceView()
        image, focal_exif_px, original_hw = open_photo(path)
        camera, assumed = photo_camera(view, original_hw, focal_exif_px)
        if assumed:
            log.warning("%s: %s assumed, not measured (%s)", Path(path).name, " and ".join(assumed), _described(camera))
        rgb = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0).permute(2, 0, 1).contiguous()
        size_hw = (image.height, image.width)
        depth_m = torch.full((1, *size_hw), torch.inf)
        return Background(rgb, depth_m, camera.resized(size_hw), assumed, tags, licence)

    def fitted(self, size_hw: tuple[int, int], crop: tuple[float, float] = (0.5, 0.5)) -> Background:
        """Scaled to cover `size_hw`, then cropped; `crop` places the window: (across, down) in [0, 1]."""
        camera = fitted_camera(self.camera, size_hw, crop)
        scaled_hw, (top, left) = _cover(self.size_hw, size_hw, crop)
        window = (slice(None), slice(top, top + size_hw[0]), slice(left, left + size_hw[1]))
        rgb = _resized(self.rgb, scaled_hw, smooth=True)[window].contiguous()
        depth_m = _resized(self.depth_m, scaled_hw, smooth=False)[window].contiguous()
        return replace(self, rgb=rgb, depth_m=depth_m, camera=camera)

    def resized(self, size_hw: tuple[int, int]) -> Background:
        """The whole picture at another size."""
        rgb, depth_m = _resized(self.rgb, size_hw, smooth=True), _resized(self.depth_m, size_hw, smooth=False)
        return replace(self, rgb=rgb, depth_m=depth_m, camera=self.camera.resized(size_hw))


def resized_to_cover(
    frame: UInt8[np.ndarray, "h w 3"], like_hw: tuple[int, int], size_hw: tuple[int, int], crop: tuple[float, float]
) -> UInt8[np.ndarray, "height width 3"]:
    """A frame of a place's clip, cut as `Background.fitted` cuts a picture of `like_hw`."""
    from PIL import Image

    scaled_hw, (top, left) = _cover(like_hw, size_hw, crop)
    image = Image.fromarray(frame).resize((scaled_hw[1], scaled_hw[0]), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(image)[top : top + size_hw[0], left : left + size_hw[1]]


def fitted_camera(camera: Camera, size_hw: tuple[int, int], crop: tuple[float, float]) -> Camera:
    """The camera of `Background.fitted`, without touching pixels."""
    scaled_hw, (top, left) = _cover(camera.size_hw, size_hw, crop)
    return camera.resized(scaled_hw).cropped(top, left, size_hw)


def _cover(
    found_hw: tuple[int, int], wanted_hw: tuple[int, int], crop: tuple[float, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size to scale to so that the wanted size is covered, and the window's (top, left)."""
    scale = max(wanted_hw[0] / found_hw[0], wanted_hw[1] / found_hw[1])
    scaled = (max(round(found_hw[0] * scale), wanted_hw[0]), max(round(found_hw[1] * scale), wanted_hw[1]))
    return scaled, (round((scaled[0] - wanted_hw[0]) * crop[1]), round((scaled[1] - wanted_hw[1]) * crop[0]))


def _resized(image: Tensor, size_hw: tuple[int, int], *, smooth: bool) -> Tensor:
    if tuple(image.shape[-2:]) == size_hw:
        return image
    if not smooth:
        return torch.nn.functional.interpolate(image[None], size_hw, mode="nearest-exact")[0]
    resized = torch.nn.functional.interpolate(image[None], size_hw, mode="bicubic", antialias=True)
    return resized[0].clamp(0.0, 1.0)


def photo_camera(
    view: PlaceView, size_hw: tuple[int, int], focal_exif_px: float | None
) -> tuple[Camera, tuple[str, ...]]:
    """The camera of a photograph of `size_hw`, and the names of what had to be assumed."""
    focal_px = view.focal_px or focal_exif_px or _FOCAL_PER_LONG_SIDE * max(size_hw)
    height_m = ASSUMED_CAMERA_HEIGHT_M if view.camera_height_m is None else view.camera_height_m
    horizon = ASSUMED_HORIZON if view.horizon is None else view.horizon
    roll = math.radians(view.roll_deg or 0.0)
    pitch = pitch_from_horizon(horizon, focal_px=focal_px, height_px=size_hw[0], roll=roll)
    camera = camera_over_ground(size_hw=size_hw, focal_px=focal_px, camera_height_m=height_m, pitch=pitch, roll=roll)
    known = {
        "camera_height_m": view.camera_height_m,
        "horizon": view.horizon,
        "focal_px": view.focal_px or focal_exif_px,
        "roll_deg": view.roll_deg,
    }
    return camera, tuple(name for name, value in known.items() if value is None)


def _described(camera: Camera) -> str:
    forward = camera.T_cam_world[2, :3]
    eye = -camera.T_cam_world[:3, :3].T @ camera.T_cam_world[:3, 3]
    pitch = math.degrees(math.asin(-float(forward[1])))
    return (
        f"camera {float(eye[1]):.2f} m above the ground, {pitch:.1f} deg down, roll "
        f"{math.degrees(roll_of(camera)):.1f} deg, focal {float(camera.K[0, 0]):.0f} px"
    )
