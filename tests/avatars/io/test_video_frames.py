"""Every way to ask for frames gives those of sequential decoding, for both packages, in many containers and codecs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from fakes.fake_videos import LAYOUTS, Layout, N, copy_from, number_of, set_edit, set_matrix, write

from actionrec import decoding
from avatars.io.video import probe, read_frames

QUICK = ["h264 mp4", "h264 mp4 open", "h264 avi", "hevc mov open", "mpeg4 avi gaps", "vp8 webm hidden", "h264 cut mp4"]


def cut(layout: str, first_packet: int, first_number: int, suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        source = write(folder / f"source.{LAYOUTS[layout].suffix}", LAYOUTS[layout])
        return copy_from(source, folder / f"copied.{suffix}", first_packet, first_number)

    return make


def edited(layout: str) -> Callable[[Path], Path]:
    return lambda folder: set_edit(write(folder / f"v.{LAYOUTS[layout].suffix}", LAYOUTS[layout]), 500, 800)


def mirrored(folder: Path) -> Path:
    """Stored with left and right exchanged, and shown exchanged again: the numbers are read as ever."""
    layout = LAYOUTS["h264 mp4"]
    return set_matrix(write(folder / "v.mp4", replace(layout, stored=lambda picture: picture[:, ::-1])), -1, 0, 0, 1)


def with_hidden_frames(suffix: str, codec: str, show_bit: int) -> Callable[[Path], Path]:
    """Every keyframe twice, the first time not to be shown, as encoders store pictures for others to look back to."""

    def make(folder: Path) -> Path:
        source = write(folder / f"source.{suffix}", Layout(suffix, codec, {"cpu-used": "8", "deadline": "realtime"}))
        with av.open(str(source)) as given, av.open(str(folder / f"v.{suffix}"), "w") as container:
            stream = given.streams.video[0]
            copied = container.add_stream_from_template(stream)
            for packet in given.demux(stream):
                if packet.size and packet.is_keyframe:
                    data = bytearray(bytes(packet))
                    data[0] &= ~show_bit & 0xFF
                    hidden = av.Packet(bytes(data))
                    hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
                    hidden.stream, hidden.is_keyframe = copied, True
                    container.mux(hidden)
                if packet.size:
                    packet.stream = copied
                    container.mux(packet)
        return folder / f"v.{suffix}"

    return make


def written(layout: Layout) -> Callable[[Path], Path]:
    return lambda folder: write(folder / f"v.{layout.suffix}", layout)


ALL = list(range(N))
CASES = {name: (written(layout), [n for n in ALL if layout.kept(n)]) for name, layout in LAYOUTS.items()}
CASES |= {
    "vp8 webm hidden": (with_hidden_frames("webm", "libvpx", 0x10), ALL),
    "vp9 webm hidden": (with_hidden_frames("webm", "libvpx-vp9", 0x02), ALL),
    "h264 cut mp4": (cut("h264 mp4", 12, 18, "mp4"), ALL[18:]),
    "h264 open cut mp4": (cut("h264 mp4 open", 9, 18, "mp4"), ALL[18:]),
    "h264 mkv cut mp4": (cut("h264 mkv", 12, 18, "mp4"), ALL[18:]),
    "hevc cut mp4": (cut("hevc mp4", 12, 18, "mp4"), ALL[18:]),
    "hevc open cut mov": (cut("hevc mov open", 9, 18, "mov"), ALL[18:]),
    "mpeg4 cut mp4": (cut("mpeg4 mp4 b", 10, 18, "mp4"), ALL[18:]),
    "vp9 cut mp4": (cut("vp9 mp4", 0, 18, "mp4"), ALL[18:]),
    "h264 edited mp4": (edited("h264 mp4"), ALL[15:39]),
    "hevc edited mov": (edited("hevc mov open"), ALL[15:39]),
    "mpeg4 edited mp4": (edited("mpeg4 mp4 b"), ALL[15:39]),
    "h264 middle ts": (cut("h264 ts", 5, 0, "ts"), ALL[12:]),
    "hevc middle ts": (cut("hevc ts open", 5, 0, "ts"), ALL[12:]),
    "mpeg2 middle ts": (cut("mpeg2 ts b", 5, 0, "ts"), ALL[12:]),
    "h264 mirrored mp4": (mirrored, ALL),
}


def asked(count: int, rng: np.random.Generator, lists: int) -> list[np.ndarray]:
    """Index lists: one frame, a few far apart, many, with repeats, in any order."""
    found = [np.array([count - 1]), np.arange(1, count, 7), np.arange(count)[::-1]]
    for _ in range(lists):
        some = rng.integers(0, count, rng.integers(1, 8))
        found += [some, np.unique(some), np.unique(rng.integers(count // 2, count, 3))]
    return found


def compare(name: str, folder: Path, lists: int) -> None:
    make, right = CASES[name]
    path = make(folder)
    info = probe(path)
    assert [number_of(frame) for frame in read_frames(info)] == right
    for wanted in asked(len(right), np.random.default_rng(len(name)), lists):
        found = [number_of(frame) for frame in read_frames(info, wanted)]
        assert found == [right[i] for i in wanted], f"frames {wanted.tolist()}"
    for most in (N, 10, 3):
        found = [number_of(frame) for frame in decoding.decode(path, short_side=96, max_frames=most)]
        assert found == right[:: -(-len(right) // most)]
    assert decoding.probe(path).n_frames == len(right)
    step_s = np.diff(right) / 30
    if "gaps" not in name:
        np.testing.assert_allclose(np.diff(info.times_s), step_s, atol=1.1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_any_list_of_frames_gives_the_frames_of_sequential_decoding(name, tmp_path):
    compare(name, tmp_path, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in QUICK])
def test_any_list_of_frames_gives_the_frames_of_sequential_decoding_everywhere(name, tmp_path):
    compare(name, tmp_path, 12)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_many_lists_of_frames_give_the_frames_of_sequential_decoding(name, tmp_path):
    compare(name, tmp_path, 40)
