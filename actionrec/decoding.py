"""Video files -> frames, by the reader that all packages share. Imports neither torch nor anything else that is heavy,
so that worker processes start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actionrec.errors import DataError
from avatars.errors import InputError
from avatars.io.video import VideoInfo, read_frames
from avatars.io.video import probe as probe_video


class BrokenVideo(DataError):
    """A video that cannot be decoded whole; the clip is skipped and counted, never filled with zeros."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a probe found; frames are decoded only where the container's index cannot tell them."""

    n_frames: int
    fps: float
    size_hw: tuple[int, int]
    """As displayed."""


def probe(path: str | Path) -> VideoFacts:
    """Count the frames of a video. Raises BrokenVideo when it is missing, empty, damaged, no video or a still."""
    info = _info(path)
    return VideoFacts(info.n_frames, round(info.fps, 6), info.size_hw)


def _info(path: str | Path) -> VideoInfo:
    if Path(path).is_dir():
        raise BrokenVideo(f"{path}: a folder, no video")
    try:
        return probe_video(path)
    except InputError as error:
        raise BrokenVideo(str(error)) from None


def thinned_by(n_frames: int, max_frames: int) -> int:
    """Every so many frames one is kept, so that at most `max_frames` are."""
    return -(-n_frames // max_frames)


def decode(path: str | Path, *, short_side: int, max_frames: int) -> np.ndarray:
    """Frames (frames, height, width, 3) uint8 RGB, upright, with the shorter side resized to `short_side` pixels.

    A video longer than `max_frames` is thinned to every k-th frame, k as small as possible.
    Raises BrokenVideo when a frame that the index promises cannot be decoded.
    """
    info = _info(path)
    wanted = np.arange(0, info.n_frames, thinned_by(info.n_frames, max_frames))
    try:
        return np.stack([resized(frame, short_side) for frame in read_frames(info, wanted)])
    except InputError as error:
        raise BrokenVideo(str(error)) from None


def resized(frame: np.ndarray, short_side: int) -> np.ndarray:
    """A frame (height, width, 3) uint8 with its shorter side at `short_side` pixels, filtered."""
    from PIL import Image

    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    if scale == 1.0:
        return np.ascontiguousarray(frame)
    size = (max(round(width * scale), short_side), max(round(height * scale), short_side))
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.BILINEAR))
