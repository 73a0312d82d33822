"""A picture that somebody else may have made: its size is judged by its header, before any pixel is unpacked."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from avatars.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 100_000_000
_FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")


def picture_formats() -> list[str]:
    """What cameras and painting programs write and PIL reads here: its rare readers, as of GIMP's brushes, believe any
    length that a file names."""
    from PIL import Image

    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def read_picture(path: str | Path, mode: str | None = None, *, size_hw: tuple[int, int] | None = None) -> Image:
    """The picture, converted to a PIL mode where one is given. Raises InputError when it cannot be read, has more than
    MOST_PIXELS, or, where `size_hw` is given, has another size."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is judged here
            with Image.open(path, formats=picture_formats()) as picture:
                found = picture.height, picture.width
                if found[0] * found[1] > MOST_PIXELS:
                    raise InputError(f"{path} has {found[0]} x {found[1]} pixels; at most {MOST_PIXELS} are read.")
                if size_hw is not None and found != size_hw:
                    raise InputError(f"{path} is {found} (height, width), expected {size_hw}.")
                picture.load()
                return picture.copy() if mode is None else picture.convert(mode)
    except InputError:
        raise
    except Exception as error:  # PIL's plugins raise OSError, SyntaxError, ValueError, struct.error and others
        raise InputError(f"{path} cannot be read as a picture ({' '.join(str(error).split())[:200]}).") from None
