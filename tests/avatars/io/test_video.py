"""Clips are read upright with the container's times, written whole, and refused clearly."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.errors import InputError
from avatars.io import video
from avatars.io.video import VideoWriter, load_frames, probe, read_frames, write_video


def gradient_frames(count: int, height: int, width: int) -> np.ndarray:
    """Smooth frames whose top is dark and whose left is red, each a little brighter than the last."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    base = np.stack([(1 - x) * 200, y * 200, np.full_like(x, 60.0)], -1)
    return np.stack([base + 2 * i for i in range(count)]).clip(0, 255).astype(np.uint8)


def set_display_matrix(path: Path, degrees_clockwise: int) -> None:
    """Write a phone's rotation into the mp4's track header (ISO 14496-12, tkhd matrix, 16.16 and 2.30 fixed point)."""
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees_clockwise]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # after version, flags, times, id, duration, layer, group, volume
    one = 1 << 16
    struct.pack_into(">9i", data, matrix, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", gradient_frames(12, 64, 96), fps=24.0, crf=5)


def test_written_frames_are_read_back(clip: Path) -> None:
    frames, info = load_frames(clip)
    assert frames.shape == (12, 64, 96, 3)
    assert np.abs(frames.astype(int) - gradient_frames(12, 64, 96)).mean() < 3
    np.testing.assert_allclose(info.times_s, np.arange(12) / 24.0, atol=1e-4)
    assert info.fps == pytest.approx(24.0, abs=1e-3)


def test_variable_frame_rate_keeps_the_containers_times(tmp_path: Path) -> None:
    times_s = np.array([0.0, 0.04, 0.05, 0.25, 0.5, 0.52])
    path = write_video(tmp_path / "vfr.mp4", gradient_frames(6, 64, 64), fps=25.0, times_s=times_s)
    np.testing.assert_allclose(probe(path).times_s, times_s, atol=1e-4)


@pytest.mark.parametrize("size_hw", [(65, 97), (63, 64), (64, 95)])
def test_odd_sizes_gain_one_row_or_column(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    source = gradient_frames(3, *size_hw)
    frames, _ = load_frames(write_video(tmp_path / "odd.mp4", source, fps=10.0, crf=5))
    height, width = size_hw
    assert frames.shape[1:3] == (height + height % 2, width + width % 2)
    assert np.abs(frames[:, :height, :width].astype(int) - source).mean() < 3


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_phone_rotation_is_undone(clip: Path, degrees: int) -> None:
    set_display_matrix(clip, degrees)
    frames, info = load_frames(clip)
    upright = np.rot90(gradient_frames(12, 64, 96), -degrees // 90, axes=(1, 2))
    assert info.size_hw == upright.shape[1:3]
    assert np.abs(frames.astype(int) - upright).mean() < 3


def test_decord_and_pyav_give_the_same_frames(clip: Path) -> None:
    pytest.importorskip("decord")
    reader = video._decord_reader(probe(clip))
    with_decord = np.stack([reader[i].asnumpy() for i in range(12)])
    with_pyav, _ = load_frames(clip)
    assert np.abs(with_decord.astype(int) - with_pyav).max() <= 2


def test_chosen_frames_are_the_chosen_ones(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, info = load_frames(clip)
    chosen = np.array([1, 5, 11])
    np.testing.assert_array_equal(np.stack(list(read_frames(info, chosen))), frames[chosen])
    monkeypatch.setattr(video, "_decord_reader", lambda info: None)
    everything, _ = load_frames(clip)
    np.testing.assert_array_equal(np.stack(list(read_frames(info, chosen))), everything[chosen])


def test_sparse_frames_are_jumped_to_and_dense_ones_read_in_sequence(clip: Path, monkeypatch) -> None:
    pytest.importorskip("decord")
    frames, info = load_frames(clip)
    opened = []
    reader = video._decord_reader
    monkeypatch.setattr(video, "_decord_reader", lambda info: opened.append(info) or reader(info))
    for chosen, jumps in (([3, 11], 1), ([2, 5, 8, 11], 0), ([0, 1], 0)):
        opened.clear()
        np.testing.assert_array_equal(np.stack(list(read_frames(info, np.array(chosen)))), frames[chosen])
        assert len(opened) == jumps


def not_a_video(folder: Path) -> Path:
    path = folder / "notes.mp4"
    path.write_text("this is not a video\n" * 100)
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def truncated(folder: Path) -> Path:
    path = write_video(folder / "cut.mp4", gradient_frames(40, 64, 96), fps=24.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def still_image(folder: Path) -> Path:
    path = folder / "photo.png"
    Image.fromarray(gradient_frames(1, 32, 32)[0]).save(path)
    return path


def one_frame(folder: Path) -> Path:
    return write_video(folder / "one.mp4", gradient_frames(1, 32, 32), fps=24.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "missing.mp4", "No video at"),
        (not_a_video, "cannot be read as a video"),
        (empty, "is empty"),
        (truncated, "is truncated: its container says"),
        (still_image, "still image"),
        (one_frame, "single frame"),
    ],
)
def test_what_is_no_clip_is_refused_in_one_line(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        probe(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle_is_told_before_the_work(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", gradient_frames(40, 64, 96), fps=24.0)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov")
    data[start + (end - start) // 2 : end - 4] = bytes(end - 4 - start - (end - start) // 2)
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        probe(path)


def test_a_clip_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    with pytest.raises(RuntimeError), VideoWriter(target, fps=10.0) as writer:
        writer.write(gradient_frames(1, 32, 32)[0])
        raise RuntimeError("the renderer failed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "found"), [("26", 26.0), ("26.5", 26.5), ("0", None), ("wide", None), (None, None)])
def test_a_stated_focal_length_is_read(text: str | None, found: float | None, tmp_path: Path) -> None:
    import av

    from avatars.tracking.clip_camera import ClipCamera

    stated = tmp_path / "stated.mp4"
    with av.open(str(stated), "w", options={"movflags": "use_metadata_tags"}) as container:
        if text is not None:
            container.metadata["com.apple.quicktime.camera.focal_length.35mm_equivalent"] = text
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height = 64, 48
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(picture), *stream.encode(picture), *stream.encode()]:
            container.mux(packet)
    info = probe(stated)
    assert info.focal_35mm == found
    expected_px = None if found is None else found * 80 / 43.267  # 64 x 48: 80 px from corner to corner
    assert info.focal_px == (None if expected_px is None else pytest.approx(expected_px, rel=1e-3))
    assert ClipCamera.of(info).focal_source == ("file" if found else "assumed")
    assert info.focal_px is None or ClipCamera.of(info).focal_px == info.focal_px
