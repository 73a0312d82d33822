"""The room without the person: given as an image, or the median of a still camera's frames where nobody stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from avatars.errors import InputError
from avatars.io.files import atomic_path
from avatars.io.picture import read_picture


@dataclass(frozen=True, slots=True, eq=False)
class CleanPlate:
    """The person-free background of a still camera, and where it is known."""

    rgb: UInt8[np.ndarray, "height width 3"]
    known: Bool[np.ndarray, "height width"]
    source: str
    """"true", "estimated" or "none", as in `Scores.background`."""

    def at(self, frame: int) -> UInt8[np.ndarray, "height width 3"]:
        """The same in every frame."""
        return self.rgb

    def noiseless_at(self, frame: int) -> None:
        """Not known of a picture of the room."""

    @staticmethod
    def read(path: str | Path, size_hw: tuple[int, int]) -> CleanPlate:
        """An image of the empty room from the very same camera.

        Raises InputError when it cannot be read or has another size than the video.
        """
        try:
            rgb = np.array(read_picture(path, "RGB", size_hw=size_hw))
        except InputError as error:
            raise InputError(
                f"{error} A clean plate is as large as the video; of another size, it is not the same camera."
            ) from None
        return CleanPlate(rgb, np.ones(size_hw, bool), "true")


@dataclass(frozen=True, slots=True, eq=False)
class ShadedRooms:
    """The room as it is behind the person in single frames, their shadow on it: known of made-up captures alone."""

    frames: tuple[int, ...]
    rgb: UInt8[np.ndarray, "frames height width 3"]
    noiseless: UInt8[np.ndarray, "frames height width 3"] | None = None
    """The same frames with the person, as a camera without noise and compression would have taken them."""

    def at(self, frame: int) -> UInt8[np.ndarray, "height width 3"] | None:
        """The room in a frame; None where it was not kept."""
        return self.rgb[self.frames.index(frame)] if frame in self.frames else None

    def noiseless_at(self, frame: int) -> UInt8[np.ndarray, "height width 3"] | None:
        """A frame without noise; None where it was not kept."""
        return None if self.noiseless is None or frame not in self.frames else self.noiseless[self.frames.index(frame)]

    def save(self, path: Path) -> None:
        """Write an npz."""
        with atomic_path(path) as aside, open(aside, "wb") as file:
            noiseless = {} if self.noiseless is None else {"noiseless": self.noiseless}
            np.savez_compressed(file, frames=np.array(self.frames), rgb=self.rgb, **noiseless)

    @staticmethod
    def load(path: Path) -> ShadedRooms:
        """Read what `save` wrote. Raises InputError when it is not there."""
        if not path.is_file():
            raise InputError(f"{path} is missing: make the capture with rooms_every.")
        with np.load(path, allow_pickle=False) as archive:
            noiseless = archive["noiseless"] if "noiseless" in archive.files else None
            return ShadedRooms(tuple(archive["frames"].tolist()), archive["rgb"], noiseless)


def read_room(path: str | Path, size_hw: tuple[int, int]) -> CleanPlate | ShadedRooms:
    """An image of the empty room, or the npz that `ShadedRooms.save` wrote. Raises InputError as their readers do."""
    return ShadedRooms.load(Path(path)) if Path(path).suffix == ".npz" else CleanPlate.read(path, size_hw)


def estimate_clean_plate(
    frames: UInt8[np.ndarray, "frames height width 3"],
    person: Bool[np.ndarray, "frames height width"],
    *,
    min_views: int = 4,
    max_spread: int = 24,
) -> CleanPlate:
    """Median over the frames in which a pixel is clear of the person; known where enough frames saw it and agree.

    A moving camera makes the frames disagree, so that nothing is known and `source` is "none". `person` should be
    generous. `max_spread` bounds the interquartile range, in 8-bit steps.
    """
    views = (~person).sum(0)
    values = np.where(person[..., None], np.int16(1000), frames)
    values = np.ascontiguousarray(np.moveaxis(values, 0, -1))  # the sort runs along contiguous numbers
    values.sort(axis=-1)

    def quantile(q: float) -> np.ndarray:
        index = np.clip((q * (views - 1)).round().astype(np.int64), 0, len(frames) - 1)
        return np.take_along_axis(values, index[..., None, None], axis=-1)[..., 0]

    middle = quantile(0.5)
    spread = (quantile(0.75) - quantile(0.25)).max(-1)
    seen = views >= min_views
    known = seen & (spread <= max_spread)
    if known.sum() < 0.7 * max(int(seen.sum()), 1):
        known[:] = False  # what moves outside the person is the camera
    rgb = np.where(known[..., None], middle, 0).astype(np.uint8)
    return CleanPlate(rgb, known, "estimated" if known.any() else "none")
