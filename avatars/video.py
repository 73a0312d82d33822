"""Read clips (decord, PyAV where it cannot) and write them (PyAV), with exact times and phone rotation."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from avatars.errors import InputError
from avatars.files import atomic_path

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90_000)
FOCAL_KEY = "focal_length.35mm_equivalent"
"""How the name ends under which phones write it (com.apple.quicktime.camera.focal_length.35mm_equivalent)."""
FOCALS_35MM = 8.0, 400.0
FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
DENSE = 4
"""Frames are decoded in sequence when at least one of this many is wanted; else decord jumps from one to the next."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a probe of the whole file found; every frame was counted, none was decoded but the first."""

    path: Path
    size_hw: tuple[int, int]
    """Height and width in pixels as displayed, after the display matrix."""
    rotation_deg: int
    """Counterclockwise turn (0, 90, 180, 270) that makes decoded frames upright."""
    times_s: np.ndarray
    """Presentation time of each frame, seconds from the first, float64, increasing."""
    codec: str
    focal_35mm: float | None = None
    """Focal length (mm) of the same diagonal field of view on 36 x 24 mm, as the file states it; None where it does
    not."""

    @property
    def focal_px(self) -> float | None:
        """Focal length in pixels, as far as the file states it. Stabilization crops, which no file tells, make it
        longer by some percent."""
        return None if self.focal_35mm is None else self.focal_35mm / FILM_DIAGONAL_MM * math.hypot(*self.size_hw)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.times_s)

    @property
    def fps(self) -> float:
        """Mean frame rate (Hz); 0 for a single frame."""
        return 0.0 if self.n_frames < 2 else (self.n_frames - 1) / float(self.times_s[-1])


def probe(path: str | Path) -> VideoInfo:
    """Read a video's size, rotation and frame times.

    Raises InputError when the file is missing, empty, not a video, a still image, or ends before its index says.
    """
    import av

    path = Path(path)
    if not path.is_file():
        raise InputError(f"No video at {path}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes). Copy it again from its source.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no video stream; found {container.format.long_name}.")
            stream = container.streams.video[0]
            codec = stream.codec_context.name
            declared = stream.frames
            packets = [(p.pts, p.size) for p in container.demux(stream) if p.pts is not None and p.size]
            base = stream.time_base
            focal_35mm = stated_focal({**container.metadata, **stream.metadata})
            container.seek(0)
            first = next(container.decode(stream), None)
    except av.error.FFmpegError as error:
        raise InputError(f"{path} cannot be read as a video ({error.strerror or error}). Is it complete?") from None
    if first is None or not packets:
        raise InputError(f"{path} holds no frame that can be decoded. Is it complete?")
    if len(packets) < 2:
        raise InputError(f"{path} is a still image or a single frame ({codec}); a video of a moving person is needed.")
    if declared and len(packets) < declared:
        raise InputError(f"{path} is truncated: its index names {declared} frames, {len(packets)} are there.")
    rotation = round(getattr(first, "rotation", 0) / 90) * 90 % 360
    height, width = first.height, first.width
    pts = np.sort(np.array([pts for pts, _ in packets], dtype=np.float64))
    times_s = (pts - pts[0]) * float(base or TIME_BASE)
    if np.any(np.diff(times_s) <= 0):
        raise InputError(f"{path} has frames with equal times; re-encode it, for example with `ffmpeg -i IN OUT.mp4`.")
    size_hw = (width, height) if rotation % 180 else (height, width)
    return VideoInfo(path, size_hw, rotation, times_s, codec, focal_35mm)


def stated_focal(metadata: Mapping[str, str]) -> float | None:
    """The 35 mm equivalent focal length (mm) in a container's metadata; None where there is none, or no likely one."""
    for key, text in metadata.items():
        if key.lower().endswith(FOCAL_KEY):
            try:
                focal_mm = float(text)
            except ValueError:
                return None
            return focal_mm if FOCALS_35MM[0] <= focal_mm <= FOCALS_35MM[1] else None
    return None


def read_frames(info: VideoInfo, indices: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield frames (height, width, 3) uint8 RGB, upright, in order of time: all, or the chosen increasing indices.

    Raises InputError when a frame that the container promises cannot be decoded.
    """
    wanted = np.arange(info.n_frames) if indices is None else np.asarray(indices)
    quarter_turns = info.rotation_deg // 90
    count = 0
    for frame in _decoded(info, wanted):
        count += 1
        yield np.ascontiguousarray(np.rot90(frame, quarter_turns)) if quarter_turns else frame
    if count < len(wanted):
        raise InputError(f"{info.path} is truncated or damaged: {count} of {len(wanted)} frames could be decoded.")


def _decoded(info: VideoInfo, wanted: np.ndarray) -> Iterator[np.ndarray]:
    # decord decodes ahead of a slow consumer without a bound that counts (gigabytes), and is no faster in sequence
    in_sequence = len(wanted) and DENSE * len(wanted) > wanted[-1]
    reader = None if in_sequence else _decord_reader(info)
    if reader is None:
        yield from _decoded_by_pyav(info, wanted)
        return
    for index in wanted:
        try:
            yield reader[int(index)].asnumpy()
        except Exception as error:  # decord raises its own DECORDError, which has no importable base class
            raise InputError(f"{info.path}: frame {index} cannot be decoded ({str(error).splitlines()[0]}).") from None


def _decord_reader(info: VideoInfo) -> Any | None:
    """A decord reader, or None where decord is absent, lacks the codec, may turn frames, or counts other frames."""
    if info.codec in {"libdav1d", "av1"} or info.rotation_deg:
        return None  # decord 0.6.0 ships no AV1 decoder, and turns some rotated clips by itself and others not
    try:
        import decord
    except ImportError:
        return None
    try:
        reader = decord.VideoReader(str(info.path), num_threads=1)
    except Exception as error:
        log.info("decord cannot open %s (%s); using PyAV", info.path, str(error).splitlines()[0])
        return None
    if len(reader) != info.n_frames:
        log.info("decord counts %d frames in %s, PyAV %d; using PyAV", len(reader), info.path, info.n_frames)
        return None
    return reader


def _decoded_by_pyav(info: VideoInfo, wanted: np.ndarray) -> Iterator[np.ndarray]:
    import av

    remaining = iter(wanted.tolist())
    target = next(remaining, None)
    try:
        with av.open(str(info.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if target is None:
                    return
                if index == target:
                    yield frame.to_ndarray(format="rgb24")
                    target = next(remaining, None)
    except av.error.FFmpegError as error:
        raise InputError(f"{info.path} is damaged: decoding stopped ({error.strerror or error}).") from None


def load_frames(path: str | Path) -> tuple[np.ndarray, VideoInfo]:
    """All frames (frames, height, width, 3) uint8 RGB of a short clip, and its info."""
    info = probe(path)
    frames = np.empty((info.n_frames, *info.size_hw, 3), np.uint8)
    for i, frame in enumerate(read_frames(info)):
        frames[i] = frame
    return frames, info


class VideoWriter:
    """Write an H.264 mp4 that appears whole or not at all.

    Use as a context manager; `write` takes a frame (height, width, 3) uint8 RGB and, for variable rates, its time. Odd
    sizes gain a repeated last row or column, since 4:2:0 video has even sizes only.
    """

    def __init__(self, path: str | Path, *, fps: float, crf: int = 18, threads: int = 0) -> None:
        self.path = Path(path)
        self._fps, self._crf, self._threads = fps, crf, threads
        self._aside = atomic_path(self.path)
        self._container: Any = None
        self._stream: Any = None
        self._count = 0
        self._last_pts = -1

    def __enter__(self) -> VideoWriter:
        import av

        self._container = av.open(str(self._aside.__enter__()), "w", format="mp4")
        return self

    def _open_stream(self, height: int, width: int) -> None:
        rate = Fraction(self._fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.time_base = TIME_BASE
        self._stream.codec_context.thread_count = self._threads
        # with its macroblock tree, x264 0.165 now and then makes unequal files of equal frames
        self._stream.options = {"crf": str(self._crf), "preset": "veryfast", "x264-params": "mbtree=0"}

    def write(self, frame: np.ndarray, time_s: float | None = None) -> None:
        """Append a frame (height, width, 3) uint8 RGB shown from `time_s` (default: count / fps)."""
        import av

        height, width = frame.shape[:2]
        if self._stream is None:
            self._open_stream(height, width)
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        seconds = self._count / self._fps if time_s is None else time_s
        picture.pts = max(round(seconds / TIME_BASE), self._last_pts + 1)
        picture.time_base = TIME_BASE
        self._last_pts = picture.pts
        self._count += 1
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._stream is not None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
        finally:
            self._aside.__exit__(kind, error, trace)


def write_video(
    path: str | Path, frames: np.ndarray, *, fps: float = 30.0, times_s: np.ndarray | None = None, crf: int = 18
) -> Path:
    """Write frames (frames, height, width, 3) uint8 RGB, at a constant rate or at the given times (seconds)."""
    with VideoWriter(path, fps=fps, crf=crf) as writer:
        for i, frame in enumerate(frames):
            writer.write(frame, None if times_s is None else float(times_s[i]))
    return Path(path)
