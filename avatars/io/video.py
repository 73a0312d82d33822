"""Read clips (PyAV, decord where it was found right) and write them (PyAV): what sequential decoding gives, after the
edit list, in display order, as players show it, is the truth for every way to ask for frames."""

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
from avatars.io.files import atomic_path, sha256_of
from avatars.io.frame_folder import FrameFolder, frames_sha256, pictures_of, read_picture
from avatars.io.video_display import Display
from avatars.io.video_index import TIME_BASE, VideoIndex, decoded, decoded_times, opened, read_index, video_stream

log = logging.getLogger(__name__)

FOCAL_KEY = "focal_length.35mm_equivalent"
"""How the name ends under which phones write it (com.apple.quicktime.camera.focal_length.35mm_equivalent)."""
FOCALS_35MM = 8.0, 400.0
FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
DENSE = 4
"""Frames are decoded in sequence when at least one of this many is wanted; else decord jumps from one to the next."""
DECORD_LEVELS = 2.0
"""decord's first frame differs from PyAV's by no more than this mean (of 255) where it is trusted."""
FPS = 0.1, 1000.0
"""Frame rates that can be stated."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a probe of the whole file found. Frames were counted by their packets where packets tell the truth, else by
    decoding them."""

    path: Path
    """A file, or a folder of frames."""
    size_hw: tuple[int, int]
    """Height and width in pixels as displayed: after the display matrix, with square pixels."""
    times_s: np.ndarray
    """Presentation time of each frame, seconds from the first, float64, increasing."""
    codec: str
    focal_35mm: float | None = None
    """Focal length (mm) of the same diagonal field of view on 36 x 24 mm, as the file states it; None where it does
    not."""
    display: Display | None = None
    """How decoded frames become pictures; None for a folder of frames."""
    plain: bool = True
    """Whether packets alone tell the frames."""
    easy_to_seek: bool = False
    """Whether decord may be tried."""
    pictures: tuple[Path, ...] = ()
    """The files of a folder of frames."""

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


def probe(path: str | Path, *, fps: float | None = None) -> VideoInfo:
    """Read a video's size, orientation and frame times; `fps` (Hz) for a folder of frames, or a stream without times.

    Raises InputError when the file is missing, empty, damaged, not a video, a still image, ends before its container
    says, lacks times or has them beside a stated `fps`.
    """
    path = Path(path)
    if fps is not None and not FPS[0] <= fps <= FPS[1]:
        raise InputError(f"--fps {fps:g}: a frame rate, {FPS[0]:g} to {FPS[1]:g} per second.")
    if path.is_dir():
        return _probe_folder(path, fps)
    if not path.is_file():
        raise InputError(f"No video at {path}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes). Copy it again from its source.")
    index = read_index(path)
    stamps = index.times() if index.plain else decoded_times(path)
    with opened(path) as container:
        stream = video_stream(container, path)
        focal_35mm = stated_focal({**container.metadata, **stream.metadata})
        first = next(decoded(container, path, threads="SLICE"), None)
        if first is None or not len(stamps):
            raise InputError(f"{path} holds no frame that can be decoded. Is it complete?")
        display = Display.of(first, float(stream.sample_aspect_ratio or 1))
    if len(stamps) < 2:
        raise InputError(
            f"{path} is a still image or a single frame ({index.codec}); a video of a moving person is needed."
        )
    times_s = _times(path, index, stamps, fps)
    if display.transfer != "sdr":
        log.info("%s is HDR (%s); its frames are mapped to SDR", path, display.transfer)
    seekable = index.easy_to_seek and display.as_decoded and first.format.name == "yuv420p"
    return VideoInfo(path, display.size_hw, times_s, index.codec, focal_35mm, display, index.plain, seekable)


def _times(path: Path, index: VideoIndex, stamps: np.ndarray, fps: float | None) -> np.ndarray:
    """Seconds from the first frame. Raises InputError where neither the file nor the user tells them, or both do."""
    if not np.isfinite(stamps).all():
        if fps is not None:
            return np.arange(len(stamps)) / fps
        raise InputError(
            f"{path} states no times ({index.codec} without a container). Give --fps where the command has it, or wrap "
            f"it: `ffmpeg -framerate FPS -i {path.name} -c copy {path.stem}.mp4`."
        )
    if fps is not None:
        raise InputError(f"--fps is for folders of frames and streams without times; {path} states its own.")
    times_s = (stamps - stamps[0]) * float(index.time_base)
    if np.any(np.diff(times_s) <= 0):
        raise InputError(f"{path} has frames with equal times; re-encode it, for example with `ffmpeg -i IN OUT.mp4`.")
    return times_s


def _probe_folder(path: Path, fps: float | None) -> VideoInfo:
    folder = FrameFolder.open(path)
    if fps is None:
        raise InputError(f"{path} is a folder of {len(folder.pictures)} frames; say how many a second with --fps.")
    codec = folder.pictures[0].suffix.lower().lstrip(".")
    return VideoInfo(path, folder.size_hw, folder.steps / fps, codec, pictures=folder.pictures)


def video_sha256(path: str | Path) -> str:
    """SHA-256 of a video file; of a folder of frames, of their names and hashes."""
    path = Path(path)
    return frames_sha256(pictures_of(path)) if path.is_dir() else sha256_of(path)


def require_decodable(info: VideoInfo) -> None:
    """Decode every frame where the probe did not: seconds, before hours of work on frames that are not all there.

    Raises InputError when a frame is damaged.
    """
    if info.pictures:
        for picture in info.pictures:
            read_picture(picture, info.size_hw)
    elif info.plain:
        with opened(info.path) as container:
            count = sum(1 for _ in decoded(container, info.path, threads="AUTO"))
        if count != info.n_frames:
            raise InputError(f"{info.path} is damaged: {count} of {info.n_frames} frames could be decoded.")


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
    """Yield frames (height, width, 3) uint8 RGB, upright: all, or the chosen ones in the order asked for.

    Any order and repetition is allowed; frames of indices that do not increase are held in memory.
    Raises InputError when a frame that the container promises cannot be decoded wholly, IndexError for one that it does
    not promise.
    """
    wanted = np.arange(info.n_frames) if indices is None else np.asarray(indices, int)
    if len(wanted) and not 0 <= wanted.min() <= wanted.max() < info.n_frames:
        raise IndexError(f"frames {wanted.min()} to {wanted.max()} of {info.n_frames} in {info.path}")
    if np.all(np.diff(wanted) > 0):
        yield from _increasing(info, wanted)
        return
    unique, back = np.unique(wanted, return_inverse=True)
    frames = list(_increasing(info, unique))
    for place in back:
        yield frames[place]


def _increasing(info: VideoInfo, wanted: np.ndarray) -> Iterator[np.ndarray]:
    count = 0
    for frame in _decoded(info, wanted):
        count += 1
        yield frame
    if count < len(wanted):
        raise InputError(f"{info.path} is truncated or damaged: {count} of {len(wanted)} frames could be decoded.")


def _decoded(info: VideoInfo, wanted: np.ndarray) -> Iterator[np.ndarray]:
    if info.pictures:
        for index in wanted:
            yield read_picture(info.pictures[index], info.size_hw)
        return
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
    """A decord reader that was found right, or None.

    Tried for plain H.264 in MP4 and MOV alone (`VideoIndex.easy_to_seek`), shown as decoded; trusted when it counts the
    same frames at the same times and its first frame is PyAV's. Elsewhere decord 0.6.0 gives other frames than asked
    for: AVI, MPEG-TS and PS, WMV, open groups of pictures, edit lists; turns some clips by itself; and lacks AV1.
    """
    if not info.easy_to_seek:
        return None
    try:
        import decord
    except ImportError:
        return None
    try:
        reader = decord.VideoReader(str(info.path), num_threads=1)
        same = len(reader) == info.n_frames and _at_the_same_times(reader, info)
        first = reader[0].asnumpy() if same else None
    except Exception as error:  # DECORDError, as above
        log.info("decord cannot open %s (%s); using PyAV", info.path, str(error).splitlines()[0])
        return None
    if first is not None and first.shape[:2] == info.size_hw:
        truth = next(_decoded_by_pyav(info, np.array([0])))
        if np.abs(first.astype(np.int16) - truth).mean() <= DECORD_LEVELS:
            return reader
    log.info("decord has other frames or times in %s than PyAV; using PyAV", info.path)
    return None


def _at_the_same_times(reader: Any, info: VideoInfo) -> bool:
    starts_s = np.asarray(reader.get_frame_timestamp(np.arange(info.n_frames)))[:, 0]
    return bool(np.abs(starts_s - starts_s[0] - info.times_s).max() < 0.5 * np.diff(info.times_s).min())


def _decoded_by_pyav(info: VideoInfo, wanted: np.ndarray) -> Iterator[np.ndarray]:
    assert info.display is not None
    remaining = iter(wanted.tolist())
    target = next(remaining, None)
    if target is None:
        return
    with opened(info.path) as container:
        # with threads for frames, an error can hide frames that were decoded before it
        for index, frame in enumerate(decoded(container, info.path, threads="AUTO" if info.plain else "SLICE")):
            if index == target:
                if (frame.height, frame.width) != info.display.coded_hw:
                    raise InputError(f"{info.path} changes its size at frame {index}; re-encode it, for example with "
                                     "`ffmpeg -i IN OUT.mp4`.")  # fmt: skip
                yield info.display.picture(frame)
                target = next(remaining, None)
                if target is None:
                    return


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

        self._container = av.open(f"file:{self._aside.__enter__()}", "w", format="mp4")  # else "run:1" is a protocol
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
        for packet in self._stream.encode(picture):  # pyright: ignore[reportOptionalMemberAccess]  # opened above
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
