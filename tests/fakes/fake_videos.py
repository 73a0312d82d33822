"""Small videos whose pictures hold their own number, in many containers, codecs and layouts of keyframes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 6
HEIGHT, WIDTH = 96, 128
N = 60
ONE = 1 << 16


def numbered(number: int) -> np.ndarray:
    """A picture (96, 128, 3) uint8 that holds a number as bars, over a background that moves with it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.stack([90 + 40 * np.sin((x + 3 * number) / 17), 80 + 0.5 * y, 60 + 0.4 * x], -1)
    for bit in range(BITS):
        picture[4:36, 20 * bit + 6 : 20 * bit + 18] = 220 if number >> bit & 1 else 20
    picture[60:80, (2 * number) % 100 : (2 * number) % 100 + 20] = 230
    return picture.astype(np.uint8)


def number_of(picture: np.ndarray) -> int:
    """The number that a picture holds."""
    return sum(int(picture[8:32, 20 * b + 8 : 20 * b + 16].mean() > 120) << b for b in range(BITS))


@dataclass(frozen=True)
class Layout:
    """How a video is written."""

    suffix: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    pix_fmt: str = "yuv420p"
    kept: Callable[[int], bool] = lambda number: True
    """Which numbers are written, each at its own time."""
    stored: Callable[[np.ndarray], np.ndarray] = lambda picture: picture
    """What is done to a picture before it is written."""
    muxer: str | None = None
    b_frames: int = 0
    gop: int = 12


def write(path: Path, layout: Layout, numbers: Sequence[int] = range(N)) -> Path:
    """Write numbered pictures at 30 a second."""
    with av.open(str(path), "w", format=layout.muxer) as container:
        stream = container.add_stream(layout.codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, layout.pix_fmt
        stream.bit_rate = 1_500_000
        stream.gop_size, stream.max_b_frames = layout.gop, layout.b_frames
        stream.codec_context.options = layout.options
        for number in numbers:
            if layout.kept(number):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(layout.stored(numbered(number))), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 30)
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copy_from(source: Path, target: Path, first_packet: int, first_number: int) -> Path:
    """Copy packets without re-encoding, as `ffmpeg -ss T -i IN -c copy OUT` does: from a packet on, with the time of a
    later frame as 0; what comes before that is left to the edit list."""
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        stream = given.streams.video[0]
        copied = container.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        start = sorted(packet.pts for packet in packets)[first_number]
        for packet in packets[first_packet:]:
            packet.pts, packet.dts = packet.pts - start, packet.dts - start
            packet.stream = copied
            container.mux(packet)
    return target


def set_edit(path: Path, first_ms: int, length_ms: int) -> Path:
    """Let the edit list of an mp4 show a part of it, as phones do that trim (ISO/IEC 14496-12, 8.6.6)."""
    data = bytearray(path.read_bytes())
    (timescale,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    at = data.index(b"elst") + 12
    _, start = struct.unpack_from(">Ii", data, at)
    struct.pack_into(">Ii", data, at, length_ms, start + first_ms * timescale // 1000)
    path.write_bytes(data)
    return path


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the track header of an mp4 (ISO/IEC 14496-12, 8.3.2: x' = a x + c y, y down)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # after version, flags, times, id, duration, layer, group, volume
    struct.pack_into(">9i", data, at, a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


CLOSED = {"preset": "ultrafast", "x264-params": "keyint=12:min-keyint=12:bframes=3:scenecut=0:threads=1"}
OPEN = {"preset": "ultrafast", "x264-params": "keyint=12:min-keyint=12:bframes=3:open-gop=1:scenecut=0:threads=1"}
REFRESH = {"preset": "ultrafast", "x264-params": "keyint=24:intra-refresh=1:bframes=0:threads=1"}
FIELDS = {"preset": "ultrafast", "x264-params": "keyint=12:interlaced=1:bframes=2:threads=1"}
X265 = "keyint=12:min-keyint=12:bframes=3:scenecut=0:log-level=none:pools=1:frame-threads=1"
HEVC = {"preset": "ultrafast", "x265-params": f"{X265}:open-gop=0"}
HEVC_OPEN = {"preset": "ultrafast", "x265-params": f"{X265}:open-gop=1"}
ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "4", "deadline": "good"}

LAYOUTS = {
    "h264 mp4": Layout("mp4", "libx264", CLOSED),
    "h264 mp4 open": Layout("mp4", "libx264", OPEN),
    "h264 mp4 intra refresh": Layout("mp4", "libx264", REFRESH),
    "h264 mp4 interlaced": Layout("mp4", "libx264", FIELDS),
    "h264 mp4 uneven times": Layout("mp4", "libx264", CLOSED, kept=lambda n: n % 5 != 2),
    "h264 mov": Layout("mov", "libx264", CLOSED),
    "h264 mkv": Layout("mkv", "libx264", CLOSED),
    "h264 mkv open": Layout("mkv", "libx264", OPEN),
    "h264 avi": Layout("avi", "libx264", CLOSED),
    "h264 ts": Layout("ts", "libx264", CLOSED),
    "h264 flv": Layout("flv", "libx264", CLOSED),
    "h264 ps": Layout("mpg", "libx264", CLOSED, muxer="vob"),
    "hevc mp4": Layout("mp4", "libx265", HEVC),
    "hevc mov open": Layout("mov", "libx265", HEVC_OPEN),
    "hevc mkv open": Layout("mkv", "libx265", HEVC_OPEN),
    "hevc ts open": Layout("ts", "libx265", HEVC_OPEN),
    "mpeg4 avi": Layout("avi", "mpeg4"),
    "mpeg4 avi b": Layout("avi", "mpeg4", b_frames=2),
    "mpeg4 mp4 b": Layout("mp4", "mpeg4", b_frames=2),
    "msmpeg4v3 avi": Layout("avi", "msmpeg4"),
    "wmv2 wmv": Layout("wmv", "wmv2", muxer="asf"),
    "wmv2 avi": Layout("avi", "wmv2"),
    "mpeg1 mpg b": Layout("mpg", "mpeg1video", b_frames=2),
    "mpeg2 mpg b": Layout("mpg", "mpeg2video", b_frames=2),
    "mpeg2 ts b": Layout("ts", "mpeg2video", b_frames=2),
    "mpeg2 mov b": Layout("mov", "mpeg2video", b_frames=2),
    "vp8 webm": Layout("webm", "libvpx", ALT_REF, gop=60),
    "vp9 webm": Layout("webm", "libvpx-vp9", ALT_REF, gop=60),
    "vp9 mp4": Layout("mp4", "libvpx-vp9", ALT_REF, gop=60),
    "mjpeg avi": Layout("avi", "mjpeg", pix_fmt="yuvj420p"),
    "mjpeg avi gaps": Layout("avi", "mjpeg", pix_fmt="yuvj420p", kept=lambda n: n % 3 == 0 or n % 7 == 0),
    "mpeg4 avi gaps": Layout("avi", "mpeg4", kept=lambda n: n % 3 == 0 or n % 7 == 0),
    "ffv1 mkv": Layout("mkv", "ffv1"),
    "prores mov": Layout("mov", "prores_ks", pix_fmt="yuv422p10le"),
}
