"""A photograph in any usual format -> upright 8-bit sRGB of bounded size, and the focal length that EXIF tells."""

from __future__ import annotations

import logging
import math
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatars.errors import InputError
from avatars.io.picture import picture_formats

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
            image = Image.open(path, formats=picture_formats())
            _check_size(path, image.size)
            focal_px = _focal_from_exif(image)
            full_wh = image.size
            image.draft("RGB", (MAX_SIDE_PX, MAX_SIDE_PX))
            image.load()  # turns a TIFF upright by itself
            drafted = image.format in {"JPEG", "MPO"}
            width, height = full_wh if drafted else image.size
            turned = image.getexif().get(0x0112, 1) in {5, 6, 7, 8}
            size_hw = (width, height) if turned else (height, width)
    except InputError:
        raise
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
