"""Video files -> frames, by decord, and by PyAV where decord cannot. Imports neither torch nor anything of ours but
errors, so that worker processes start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actionrec.errors import DataError


class BrokenVideo(DataError):
    """A video that cannot be decoded whole; the clip is skipped and counted, never filled with zeros."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a probe found without decoding more than the container's index."""

    n_frames: int
    fps: float
    size_hw: tuple[int, int]


def probe(path: str | Path) -> VideoFacts:
    """Count the frames of a video from its packets. Raises BrokenVideo when it is missing, empty, no video or a still.

    The whole index is read, since many containers state no frame count, or a wrong one.
    """
    import av
    from av.error import FFmpegError

    path = Path(path)
    if not path.is_file():
        raise BrokenVideo(f"{path}: no such file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BrokenVideo(f"{path}: no video stream")
            stream = container.streams.video[0]
            declared = stream.frames
            pts = sorted(p.pts for p in container.demux(stream) if p.pts is not None and p.size)
            base = float(stream.time_base or 0) or 1.0 / 90_000
            size_hw = (stream.height, stream.width)
    except (FFmpegError, EOFError, IndexError) as error:
        raise BrokenVideo(f"{path}: cannot be read as a video ({getattr(error, 'strerror', error)})") from None
    if len(pts) < 2:
        raise BrokenVideo(f"{path}: {len(pts)} frame{'s' * (len(pts) != 1)}, an action needs at least 2")
    if declared > len(pts):
        raise BrokenVideo(f"{path}: truncated, {len(pts)} of {declared} frames are there")
    span_s = (pts[-1] - pts[0]) * base
    return VideoFacts(len(pts), round((len(pts) - 1) / span_s, 6) if span_s > 0 else 30.0, size_hw)


def thinned_by(n_frames: int, max_frames: int) -> int:
    """Every so many frames one is kept, so that at most `max_frames` are."""
    return -(-n_frames // max_frames)


def decode(path: str | Path, *, short_side: int, max_frames: int) -> np.ndarray:
    """Frames (frames, height, width, 3) uint8 RGB with the shorter side resized to `short_side` pixels.

    A video longer than `max_frames` is thinned to every k-th frame, k as small as possible.
    Raises BrokenVideo when a frame that the index promises cannot be decoded.
    """
    facts = probe(path)
    wanted = np.arange(0, facts.n_frames, thinned_by(facts.n_frames, max_frames))
    reader = _decord_reader(path, facts)
    frames = _by_pyav(path, wanted, short_side) if reader is None else _by_decord(path, reader, wanted, short_side)
    if len(frames) < len(wanted):
        raise BrokenVideo(f"{path}: {len(frames)} of {len(wanted)} frames could be decoded")
    return np.stack(frames)


def _decord_reader(path: str | Path, facts: VideoFacts) -> Any | None:
    """A decord reader, or None where decord is absent, cannot open the file or counts other frames."""
    try:
        import decord
    except ImportError:
        return None
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        return reader if len(reader) == facts.n_frames and reader[0].shape[:2] == facts.size_hw else None
    except Exception:  # decord raises its own DECORDError, which has no importable base class
        return None


def _by_decord(path: str | Path, reader: Any, wanted: np.ndarray, short_side: int) -> list[np.ndarray]:
    frames = []
    for index in wanted:
        try:
            frames.append(resized(reader[int(index)].asnumpy(), short_side))
        except Exception as error:
            raise BrokenVideo(f"{path}: frame {index} cannot be decoded ({str(error).splitlines()[0]})") from None
    return frames


def _by_pyav(path: str | Path, wanted: np.ndarray, short_side: int) -> list[np.ndarray]:
    import av
    from av.error import FFmpegError

    chosen, frames = set(wanted.tolist()), []
    try:
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(container.streams.video[0])):
                if index in chosen:
                    upright = np.rot90(frame.to_ndarray(format="rgb24"), round(getattr(frame, "rotation", 0) / 90) % 4)
                    frames.append(resized(upright, short_side))
    except FFmpegError as error:
        raise BrokenVideo(f"{path}: decoding stopped after {len(frames)} frames ({error.strerror})") from None
    return frames


def resized(frame: np.ndarray, short_side: int) -> np.ndarray:
    """A frame (height, width, 3) uint8 with its shorter side at `short_side` pixels, filtered."""
    from PIL import Image

    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    if scale == 1.0:
        return np.ascontiguousarray(frame)
    size = (max(round(width * scale), short_side), max(round(height * scale), short_side))
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.BILINEAR))
