"""A folder of numbered pictures as a video: ExAvatar's and NeuMan's, PeopleSnapshot's, MMAction2's layouts."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatars.errors import InputError
from avatars.io.files import sha256_of

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
SUBFOLDERS = ("frames", "images", "image", "rgb", "img")
"""Where the pictures lie in folders that hold none themselves; the first that does."""
COLOR_STEMS = ("img", "image", "frame", "rgb", "")
"""How names of pictures begin where others (optical flow, masks) lie beside them; the first that is there."""
ENDS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND"}
TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """Pictures of one size in the order of their numbers."""

    pictures: tuple[Path, ...]
    size_hw: tuple[int, int]
    steps: np.ndarray
    """Place of each picture in time, in frames from the first: gaps in the numbers are gaps in time."""

    @staticmethod
    def open(folder: Path) -> FrameFolder:
        """Find the pictures and look at each one's size and end. Raises InputError when they make no video."""
        pictures = pictures_of(folder)
        if len(pictures) < 2:
            raise InputError(
                f"{folder} holds {len(pictures)} numbered pictures ({', '.join(sorted(SUFFIXES))}); frames, or a "
                "video, are needed."
            )
        sizes: dict[tuple[int, int], Path] = {}
        for path in pictures:
            sizes.setdefault(_checked_size_hw(path), path)
        if len(sizes) > 1:
            (first, a), (other, b), *_ = sizes.items()
            raise InputError(
                f"{folder} holds pictures of different sizes: {a.name} is {first[1]} x {first[0]} pixels, {b.name} "
                f"{other[1]} x {other[0]}. Keep the frames of one video there."
            )
        return FrameFolder(tuple(pictures), next(iter(sizes)), _steps(folder, pictures))


def pictures_of(folder: Path) -> list[Path]:
    """The frames in a folder, or in its folder of frames, by their numbers. Raises InputError where it is not clear
    which pictures are meant."""
    for place in (folder, *(folder / name for name in SUBFOLDERS)):
        groups: dict[str, list[Path]] = defaultdict(list)
        for path in place.iterdir() if place.is_dir() else ():
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                groups[_stem(path)].append(path)
        numbered = {stem: paths for stem, paths in groups.items() if len(paths) > 1 or len(groups) == 1}
        if numbered:
            return sorted(_chosen(place, numbered), key=lambda path: (_number(path), path.name))
    return []


def _chosen(folder: Path, groups: dict[str, list[Path]]) -> list[Path]:
    if len(groups) == 1:
        return next(iter(groups.values()))
    for stem in COLOR_STEMS:
        if stem in groups:
            return groups[stem]
    raise InputError(
        f"{folder} holds pictures of several names ({', '.join(f'{stem}*' for stem in sorted(groups)[:5])}). Keep the "
        "frames of one video there."
    )


def _stem(path: Path) -> str:
    """The name without its last number: img_00012.jpg and img_00013.jpg share it."""
    return re.sub(r"\d*$", "", path.stem).rstrip("_- .").lower()


def _number(path: Path) -> int:
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits[1]) if digits else -1


def _steps(folder: Path, pictures: list[Path]) -> np.ndarray:
    numbers = np.array([_number(path) for path in pictures], float)
    if len(np.unique(numbers)) < len(numbers):
        twins = [a.name for a, b in itertools.pairwise(pictures) if _number(a) == _number(b)]
        raise InputError(f"{folder} holds two pictures of one number, or without a number ({twins[0]}). Remove one.")
    steps = numbers - numbers[0]
    return steps / np.diff(steps).min()  # every fifth frame of a video is a video, too


def _checked_size_hw(path: Path) -> tuple[int, int]:
    """Upright height and width. Raises InputError when the file is no picture, or is cut off."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in {5, 6, 7, 8}
            width, height = image.size
            size_hw = (width, height) if turned else (height, width)
            if image.mode[0] in "IF":
                raise InputError(f"{path} is no color picture (mode {image.mode}): depth, or a mask?")
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a picture ({error}). Is it complete?") from None
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - TAIL_BYTES, 0))
        if ENDS.get(path.suffix.lower(), b"") not in file.read():
            raise InputError(f"{path} is truncated. Copy it again from its source.")
    return size_hw


def read_picture(path: Path, size_hw: tuple[int, int]) -> np.ndarray:
    """One frame, (height, width, 3) uint8 RGB, upright. Raises InputError when it is damaged or changed its size."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            rgb = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}). Copy it again from its source.") from None
    if rgb.shape[:2] != size_hw:
        raise InputError(f"{path} is {rgb.shape[1]} x {rgb.shape[0]} pixels now; it was {size_hw[1]} x {size_hw[0]}.")
    return rgb


def frames_sha256(pictures: tuple[Path, ...] | list[Path]) -> str:
    """SHA-256 of the names and hashes of the frames of a folder."""
    digest = hashlib.sha256()
    for path in pictures:
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
