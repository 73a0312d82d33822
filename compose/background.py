"""A photograph of a place -> Background: its pixels, depth, and a camera that stands over the ground y = 0."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.camera import Camera
from avatars.errors import InputError
from compose.ground import ASSUMED_CAMERA_HEIGHT_M, ASSUMED_HORIZON, camera_over_ground, pitch_from_horizon

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

MIN_SIDE_PX = 64
MAX_SIDE_PX = 2560
"""Larger photographs are reduced on reading; clips are smaller than this."""
MAX_PIXELS = 400_000_000
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}

_EXIF_IFD, _EXIF_FOCAL_35MM = 0x8769, 0xA405
_DIAGONAL_35MM = math.hypot(36.0, 24.0)
_FOCAL_PER_LONG_SIDE = 1.1
"""Without EXIF: a horizontal view of 49 degrees, between a phone's main camera and a normal lens."""


@dataclass(frozen=True, slots=True)
class PlaceView:
    """How the camera saw the place, as far as the user knows it; what is None is estimated or assumed, and said so."""

    camera_height_m: float | None = None
    """Height of the lens above the ground (meters)."""
    horizon: float | None = None
    """Row of the horizon as a fraction of the image height, 0 = top; it may lie outside the image."""
    focal_px: float | None = None
    """Focal length in pixels of the photograph as stored (upright)."""


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
    """What was assumed instead of measured: any of "camera_height_m", "horizon", "focal_px"."""
    tags: tuple[str, ...] = ()
    licence: str = ""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.camera.size_hw

    @staticmethod
    def load(
        path: str | Path, view: PlaceView | None = None, *, tags: tuple[str, ...] = (), licence: str = ""
    ) -> Background:
        """Read a photograph, turned upright, as sRGB; estimate of its camera what `view` leaves open.

        Raises InputError when the file is not a photograph that can be used.
        """
        view = view or PlaceView()
        image, focal_exif_px, original_hw = open_photo(path)
        camera, assumed = _camera(view, original_hw, focal_exif_px)
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


def _camera(view: PlaceView, size_hw: tuple[int, int], focal_exif_px: float | None) -> tuple[Camera, tuple[str, ...]]:
    """The camera of a photograph of `size_hw`, and the names of what had to be assumed."""
    focal_px = view.focal_px or focal_exif_px or _FOCAL_PER_LONG_SIDE * max(size_hw)
    height_m = ASSUMED_CAMERA_HEIGHT_M if view.camera_height_m is None else view.camera_height_m
    horizon = ASSUMED_HORIZON if view.horizon is None else view.horizon
    pitch = pitch_from_horizon(horizon, focal_px=focal_px, height_px=size_hw[0])
    camera = camera_over_ground(size_hw=size_hw, focal_px=focal_px, camera_height_m=height_m, pitch=pitch)
    known = {
        "camera_height_m": view.camera_height_m,
        "horizon": view.horizon,
        "focal_px": view.focal_px or focal_exif_px,
    }
    return camera, tuple(name for name, value in known.items() if value is None)


def _described(camera: Camera) -> str:
    forward = camera.T_cam_world[2, :3]
    eye = -camera.T_cam_world[:3, :3].T @ camera.T_cam_world[:3, 3]
    pitch = math.degrees(math.asin(-float(forward[1])))
    return f"camera {float(eye[1]):.2f} m above the ground, {pitch:.1f} deg down, focal {float(camera.K[0, 0]):.0f} px"


def open_photo(path: str | Path) -> tuple[Image, float | None, tuple[int, int]]:
    """A photograph as upright 8-bit sRGB of at most MAX_SIDE_PX, its focal length (pixels at full size) when EXIF
    tells it, and its upright full size (height, width).

    Raises InputError when there is no photograph to use.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    _refuse_non_photos(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            _check_size(path, image.size)
            focal_px = _focal_from_exif(image)
            turned = image.getexif().get(0x0112, 1) in {5, 6, 7, 8}
            size_hw = image.size if turned else (image.height, image.width)
            image.draft("RGB", (MAX_SIDE_PX, MAX_SIDE_PX))
            image.load()
    except UnidentifiedImageError:
        raise InputError(f"{path} is not a picture that can be read. Give a JPEG, PNG, TIFF or WebP file.") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path} has more than {MAX_PIXELS // 10**6} megapixels. Reduce it first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}). Copy it again from its source.") from None
    image = _as_srgb(ImageOps.exif_transpose(image), path)
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image, focal_px, size_hw


def _refuse_non_photos(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"No photograph at {path}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes). Copy it again from its source.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(f"{path} is a video; a place is given as a photograph. Save one frame of it as PNG.")


def _check_size(path: Path, size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    if min(width, height) < MIN_SIDE_PX:
        raise InputError(f"{path} is {width} x {height} pixels; a place needs at least {MIN_SIDE_PX} on each side.")
    if width * height > MAX_PIXELS:
        raise InputError(f"{path} is {width} x {height}, more than {MAX_PIXELS // 10**6} megapixels. Reduce it first.")


def _focal_from_exif(image: Image) -> float | None:
    """Focal length in pixels from the 35 mm equivalent, which compares diagonals (CIPA DCG-001)."""
    try:
        focal_35mm = float(image.getexif().get_ifd(_EXIF_IFD).get(_EXIF_FOCAL_35MM, 0))
    except (TypeError, ValueError):
        return None
    return focal_35mm / _DIAGONAL_35MM * math.hypot(*image.size) if focal_35mm > 0 else None


def _as_srgb(image: Image, path: Path) -> Image:
    """8-bit sRGB from whatever mode and profile the file has."""
    from PIL import Image, ImageCms

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        scale = 1.0 if values.max() <= 1.0 and image.mode == "F" else 255.0 if values.max() <= 255 else 65535.0
        return Image.fromarray((np.clip(values / scale, 0, 1) * 255 + 0.5).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        layered = image.convert("RGBA")
        if np.asarray(layered.getchannel("A")).min() < 255:
            log.warning("%s is partly transparent; laid over white", path.name)
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layered).convert("RGB")
    profile = image.info.get("icc_profile")
    if profile and image.mode in {"RGB", "CMYK", "L"}:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError):
            log.warning("%s has a color profile that cannot be used; read as sRGB", path.name)
    return image.convert("RGB")
