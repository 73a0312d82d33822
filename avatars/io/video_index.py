"""The packets of a video file -> how many frames sequential decoding gives, and when, without decoding where the
packets alone can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avatars.errors import InputError

TIME_BASE = Fraction(1, 90_000)
REORDERED = 16
"""No codec shows a frame more than so many places before or after its place in decoding."""
MOV, MATROSKA, AVI, FLV = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv"
NO_INDEX = {MATROSKA, FLV}
GAP = 2.5
"""A step in time of more than so many usual ones may be where a demuxer passed over damage, if no index tells."""
INTRA_ONLY = {"prores", "ffv1", "dnxhd", "rawvideo", "png", "huffyuv", "ffvhuff", "utvideo", "qtrle", "cfhd"}
H264_SLICE, H264_IDR = {1, 2, 5}, 5
HEVC_LAST_SLICE, HEVC_BROKEN_LINKS, HEVC_END_OF_SEQUENCE = 31, {16, 17, 18}, 36
VOP_START, B_VOP, SMALLEST_VOP = b"\x00\x00\x01\xb6", 2, 12


@contextmanager
def opened(path: Path, **options: str) -> Iterator[Any]:
    """The container of a video file; whatever PyAV raises within becomes an InputError with the file and the reason."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(f"file:{path}", metadata_errors="replace", options=options) as container:
            yield container
    except FFmpegError as error:
        raise InputError(f"{path} cannot be read as a video ({error.strerror or error}). Is it complete?") from None


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """What a demuxer says of a file's video stream."""

    container: str
    codec: str
    time_base: Fraction
    declared: int
    """Frames that the container's header counts; 0 where it does not."""
    pts: np.ndarray
    """Presentation time of each packet that is no empty one, in decoding order; NaN where none is stated."""
    shown: np.ndarray
    """False where the edit list has a packet decoded for others' sake alone."""
    keyframes: np.ndarray
    """Where the container says that decoding can begin."""
    closed: bool
    """For H.264: every keyframe is an IDR picture, which no later frame looks back beyond."""
    one_to_one: bool
    """Every packet was found to be intact and to hold just one frame that is shown."""

    @property
    def plain(self) -> bool:
        """Whether the packets that are shown are the frames of sequential decoding, at their own times."""
        return bool(
            self.one_to_one
            and len(self.pts)
            and self.keyframes[0]
            and np.isfinite(self.pts).all()
            and len(np.unique(self.pts)) == len(self.pts)
            and not np.any(self.shown & (self.pts < self.pts[0]))
            and not (self.container in NO_INDEX and self._has_gaps())
        )

    def _has_gaps(self) -> bool:
        gaps = np.diff(np.sort(self.pts))
        return len(gaps) > 0 and gaps.max() > GAP * np.median(gaps)

    @property
    def easy_to_seek(self) -> bool:
        """Whether decord 0.6 was found to seek right in such files: H.264 in MP4 or MOV without an edit list that does
        more than make up for B-frames, every frame after a keyframe shown after it."""
        if not (self.plain and self.container == MOV and self.codec == "h264"):
            return False
        earliest_after = np.minimum.accumulate(self.pts[::-1])[::-1]
        in_order = np.all(earliest_after[self.keyframes] == self.pts[self.keyframes])
        return bool(
            self.closed and in_order and self.shown.all() and self.declared == len(self.pts) and self.pts[0] == 0
        )

    def times(self) -> np.ndarray:
        """Times of the frames of a plain file, in units of the time base, increasing."""
        return np.sort(self.pts[self.shown])


def read_index(path: Path) -> VideoIndex:
    """Demux a whole file. Raises InputError when it is no video, or ends before its container says."""
    _require_whole(path)
    with opened(path) as container:
        stream = video_stream(container, path)
        holds_one_frame = _inspector(container.format.name, stream.codec_context)
        pts, shown, keyframes, closed = [], [], [], True
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if holds_one_frame is not None:
                data = memoryview(packet)
                holds_one_frame = holds_one_frame if holds_one_frame(data) and not packet.is_corrupt else None
                closed &= not packet.is_keyframe or _is_closed(stream.codec_context, data)
            pts.append(np.nan if packet.pts is None else packet.pts)
            shown.append(not packet.is_discard)
            keyframes.append(packet.is_keyframe)
        index = VideoIndex(
            container.format.name, stream.codec_context.name, stream.time_base or TIME_BASE, stream.frames,
            np.array(pts, float), np.array(shown, bool), np.array(keyframes, bool), closed,
            holds_one_frame is not None,
        )  # fmt: skip
    if index.container == MOV and index.declared > len(pts) and index.declared > (found := _without_edits(path)):
        raise InputError(f"{path} is truncated: its index names {index.declared} frames, {found} are there.")
    return index


def video_stream(container: Any, path: Path) -> Any:
    """The first stream of pictures that is no cover. Raises InputError where there is none that can be decoded."""
    from av.stream import Disposition

    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    for stream in container.streams.video:
        if not covers & stream.disposition:
            if stream.codec_context is None:
                raise InputError(f"{path} holds video in a codec that is not known. Re-encode it as H.264 in an .mp4.")
            return stream
    raise InputError(f"{path} has no video stream; found {container.format.long_name}.")


def _without_edits(path: Path) -> int:
    """Number of packets, those included that the edit list leaves out."""
    with opened(path, ignore_editlist="1") as container:
        return sum(packet.size > 0 for packet in container.demux(video_stream(container, path)))


def decoded(container: Any, path: Path, *, threads: str) -> Iterator[Any]:
    """Frames in the order of sequential decoding. What cannot be decoded before the first frame (a recording that
    begins between keyframes) is passed over, as players do.

    Raises InputError when decoding stops later, or a frame is marked as damaged: its decoder made up a part of it.
    """
    from av.error import FFmpegError, InvalidDataError

    stream, count = video_stream(container, path), 0
    stream.thread_type = threads
    try:
        for packet in container.demux(stream):
            if not packet.size and packet.dts is not None:
                continue  # an empty chunk repeats the last frame; to a decoder it would mean the end
            try:
                frames = packet.decode()
            except InvalidDataError:
                if count:
                    raise
                continue
            for frame in frames:
                if frame.is_corrupt:
                    raise InputError(
                        f"{path} is damaged: frame {count} cannot be decoded wholly. Copy it again from its source; to "
                        "keep it as it is, re-encode it: `ffmpeg -i IN OUT.mp4`."
                    )
                count += 1
                yield frame
    except FFmpegError as error:
        reason = error.strerror or error
        raise InputError(f"{path} is damaged: decoding stops after {count} frames ({reason}).") from None


def decoded_times(path: Path) -> np.ndarray:
    """Times (units of the time base, increasing; NaN where the file states none) of all frames, by decoding them.

    Raises InputError when decoding stops, when frames change their size, or when times jump back.
    """
    pts, dts, sizes = [], [], set()
    with opened(path) as container:
        for frame in decoded(container, path, threads="SLICE"):
            pts.append(np.nan if frame.pts is None else frame.pts)
            dts.append(np.nan if frame.dts is None else frame.dts)
            sizes.add((frame.height, frame.width))
    if len(sizes) > 1:
        raise InputError(f"{path} changes its size ({sizes}); re-encode it, for example with `ffmpeg -i IN OUT.mp4`.")
    stamps = np.array(pts, float)
    if not _distinct(stamps) and _distinct(np.array(dts, float)):
        stamps = np.array(dts, float)
    order = np.argsort(stamps, kind="stable")
    if np.isfinite(stamps).all() and np.abs(order - np.arange(len(order))).max(initial=0) > REORDERED:
        raise InputError(
            f"{path} has times that jump back (parts joined end to end?); re-encode it, for example with "
            "`ffmpeg -i IN OUT.mp4`."
        )
    return stamps[order]


def _distinct(stamps: np.ndarray) -> bool:
    return bool(np.isfinite(stamps).all() and len(np.unique(stamps)) == len(stamps))


def _inspector(container: str, context: Any) -> Callable[[memoryview], bool] | None:
    """A test whether a packet is intact and holds one frame that is shown; None where packets cannot tell."""
    if container not in {MOV, MATROSKA, AVI, FLV}:
        return None
    codec, extradata = context.name, context.extradata or b""
    if codec == "mjpeg":
        return lambda data: bytes(data[:2]) == b"\xff\xd8"
    if codec in INTRA_ONLY:
        return lambda data: True
    if codec == "mpeg4":
        return lambda data: _is_one_vop(bytes(data), b_frames=container != AVI)
    if container == AVI:
        return None
    if codec in {"libdav1d", "av1", "libaom-av1"}:
        return lambda data: True  # by its specification, a sample shows one frame
    if codec in {"vp8", "libvpx"}:
        return lambda data: bool(data[0] & 0x10 and (data[0] & 1 or bytes(data[3:6]) == b"\x9d\x01\x2a"))
    if codec in {"vp9", "libvpx-vp9"}:
        return _shows_vp9
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return lambda data: bool(H264_SLICE & set(_nal_types(data, (extradata[4] & 3) + 1, codec)))
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return lambda data: _is_one_hevc(_nal_types(data, (extradata[21] & 3) + 1, codec))
    return None


def _nal_types(data: memoryview, length_size: int, codec: str) -> list[int]:
    """Types of a packet's NAL units; none where their lengths do not fill the packet, as in a damaged one."""
    types, at = [], 0
    while at + length_size < len(data):
        start = at + length_size
        size = int.from_bytes(data[at:start], "big")
        if not size or start + size > len(data) or data[start] & 0x80:
            return []
        types.append(data[start] & 31 if codec == "h264" else data[start] >> 1)
        at = start + size
    return types if at == len(data) else []


def _is_closed(context: Any, data: memoryview) -> bool:
    return context.name == "h264" and H264_IDR in _nal_types(data, (context.extradata[4] & 3) + 1, "h264")


def _is_one_hevc(types: list[int]) -> bool:
    """Frames that lead a broken link, or a keyframe after an end of sequence, are not shown."""
    slices = {kind for kind in types if kind <= HEVC_LAST_SLICE}
    return bool(slices) and not slices & HEVC_BROKEN_LINKS and HEVC_END_OF_SEQUENCE not in types


def _is_one_vop(data: bytes, *, b_frames: bool) -> bool:
    """Encoders pack two frames in one chunk of an AVI, and then an all but empty one that repeats a frame."""
    at = data.find(VOP_START)
    if at < 0 or len(data) < at + SMALLEST_VOP or data.find(VOP_START, at + 4) >= 0:
        return False
    return b_frames or data[at + 4] >> 6 != B_VOP


def _shows_vp9(data: memoryview) -> bool:
    """Whether a VP9 packet shows just one frame: bits of the uncompressed header (VP9 specification, 6.2, annex B)."""
    frames = [data]
    if data[-1] & 0xE0 == 0xC0:
        count, bytes_per_size = (data[-1] & 7) + 1, (data[-1] >> 3 & 3) + 1
        table = len(data) - 1 - count * bytes_per_size
        if table > 1 and data[table - 1] == data[-1]:
            sizes = [table + i * bytes_per_size for i in range(count)]
            ends = np.cumsum([int.from_bytes(data[at : at + bytes_per_size], "little") for at in sizes]).tolist()
            frames = [data[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True) if b > a]
    if any(frame[0] >> 6 != 2 for frame in frames if len(frame)):
        return False
    return sum(map(_shows_vp9_frame, frames)) == 1


def _shows_vp9_frame(frame: memoryview) -> bool:
    if not len(frame):
        return False
    shift = 1 if frame[0] >> 4 & 3 == 3 else 0  # profile 3 has a reserved bit
    existing = frame[0] >> (3 - shift) & 1
    return bool(existing or frame[0] >> (1 - shift) & 1)


def _require_whole(path: Path) -> None:
    """Raise InputError for an AVI, MP4, MOV, WebM or MKV that ends before its container says: a broken download."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            end = 8 + int.from_bytes(head[4:8], "little")
        elif head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}:
            end = _end_of_boxes(file, size)
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            end = _end_of_segment(file, size)
        else:
            return
    if end > size:
        raise InputError(
            f"{path} is truncated: its container says {end:,} bytes, {size:,} are there. Copy it again from its source."
        )


def _end_of_boxes(file: Any, size: int) -> int:
    """Where the last box of a file of boxes ends (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        length = int.from_bytes(head[8:16], "big") if length == 1 else length
        if length < 8 or not kind.isalnum():  # 0: to the end of the file; else what is no box was appended
            return size
        at += length
    return at


def _end_of_segment(file: Any, size: int) -> int:
    """Where a Matroska segment ends (RFC 8794, RFC 9559); the file's end where its writer did not know."""
    at = 0
    for _ in range(2):  # the EBML header, and the segment
        file.seek(at)
        head = file.read(12)
        id_length = 9 - head[0].bit_length() if head and head[0] else 1
        first = head[id_length] if len(head) > id_length else 0
        length = 9 - first.bit_length()
        value = int.from_bytes(head[id_length : id_length + length], "big") & ((1 << 7 * length) - 1)
        if value == (1 << 7 * length) - 1:
            return size
        at += id_length + length + value
    return at
