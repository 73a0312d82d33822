"""Videos as phones, editors and broken downloads leave them: shown as players show them, or refused in one line."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from fakes.fake_videos import LAYOUTS, Layout, number_of, numbered, set_matrix, write
from PIL import Image

from actionrec import decoding
from avatars.errors import InputError
from avatars.io import video, video_index
from avatars.io.video import load_frames, probe, read_frames, require_decodable, video_sha256

H264 = LAYOUTS["h264 mp4"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.mp4", H264, range(24))


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda p: np.rot90(p.transpose(1, 0, 2), 2)),
    ],
)
def test_turned_and_mirrored_videos_are_shown_as_players_show_them(clip, matrix, shown):
    stored = next(read_frames(probe(clip)))
    set_matrix(clip, *matrix)
    info = probe(clip)
    frame = next(read_frames(info))
    assert info.size_hw == frame.shape[:2]
    np.testing.assert_array_equal(frame, shown(stored))
    np.testing.assert_array_equal(decoding.decode(clip, short_side=96, max_frames=24)[0], shown(stored))


def squeezed(path: Path, aspect: Fraction) -> Path:
    """A video whose pixels are stated to be so many times as wide as high."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for number in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("aspect", "size_hw"),
    [
        (Fraction(4, 3), (96, 171)),
        (Fraction(16, 11), (96, 186)),
        (Fraction(1, 2), (192, 128)),
        (Fraction(1001, 1000), (96, 128)),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_pixels_are_made_square_and_none_is_lost(tmp_path, aspect, size_hw, suffix):
    frames, info = load_frames(squeezed(tmp_path / f"v.{suffix}", aspect))
    assert info.size_hw == size_hw == frames.shape[1:3]
    assert decoding.probe(tmp_path / f"v.{suffix}").size_hw == size_hw


def test_pixels_are_made_square_before_the_turn(tmp_path):
    path = set_matrix(squeezed(tmp_path / "v.mp4", Fraction(4, 3)), 0, 1, -1, 0)
    assert probe(path).size_hw == next(read_frames(probe(path))).shape[:2] == (171, 96)


HLG_TRC, PQ_TRC, BT2020 = 18, 16, 9


def hlg_of(light: np.ndarray) -> np.ndarray:
    """Signal of linear light whose diffuse white is 1, at 75 % of the signal (BT.2100, BT.2408)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = light * (np.exp((0.75 - c) / a) + b) / 12
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def pq_of(light: np.ndarray) -> np.ndarray:
    """Signal of linear light whose diffuse white is 1, at 203 nits (SMPTE ST 2084)."""
    power = (light * 203 / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def film_hdr(path: Path, trc: int, signal: np.ndarray) -> Path:
    """Four frames of one color, RGB signal in [0, 1] of BT.2020's primaries, 10 bits."""
    red, green, blue = signal
    luma = 0.2627 * red + 0.678 * green + 0.0593 * blue
    planes = luma * 876 + 64, (blue - luma) / 1.8814 * 896 + 512, (red - luma) / 1.4746 * 896 + 512
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=30)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = trc, BT2020, BT2020, 1
        context.options = {"x265-params": "log-level=none", "crf": "8"}
        for _ in range(4):
            frame = av.VideoFrame(128, 96, "yuv420p10le")
            for plane, value in zip(frame.planes, planes, strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(float(value)), "<u2").tobytes())
            frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = trc, BT2020, BT2020, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


BT2020_OF_BT709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.088, 0.8956]])


def linear_of(rgb: list[int]) -> np.ndarray:
    """Linear light, in BT.2020's primaries, of sRGB bytes."""
    value = np.array(rgb) / 255
    return BT2020_OF_BT709 @ np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(("trc", "signal_of"), [(HLG_TRC, hlg_of), (PQ_TRC, pq_of)])
@pytest.mark.parametrize("rgb", [[200, 60, 40], [30, 140, 60], [120, 120, 120], [20, 20, 90]])
def test_hdr_below_white_has_the_colors_of_sdr(tmp_path, trc, signal_of, rgb):
    frames, _ = load_frames(film_hdr(tmp_path / "hdr.mov", trc, signal_of(linear_of(rgb))))
    assert np.abs(frames.mean((0, 1, 2)) - rgb).max() < 4


@pytest.mark.parametrize(("trc", "signal_of"), [(HLG_TRC, hlg_of), (PQ_TRC, pq_of)])
def test_hdr_highlights_are_compressed_in_order_and_keep_their_hue(tmp_path, trc, signal_of):
    shown = []
    for light in (0.8, 1.0, 1.6, 3.0):
        warm = light * np.array([1.0, 0.7, 0.5])
        shown.append(
            load_frames(film_hdr(tmp_path / "hdr.mov", trc, signal_of(BT2020_OF_BT709 @ warm)))[0].mean((0, 1, 2))
        )
    red, green, blue = np.array(shown).T
    assert np.all(np.diff(red) > 0) and red[-1] <= 255 and np.all(green < red) and np.all(blue < green)


def test_a_healthy_mp4_is_probed_without_decoding_it(clip, monkeypatch):
    monkeypatch.setattr(video, "decoded_times", lambda path: pytest.fail("decoded"))
    read = []
    real = video_index.decoded
    monkeypatch.setattr(video, "decoded", lambda *a, **k: (read.append(f) or f for f in real(*a, **k)))
    assert probe(clip).n_frames == 24 and len(read) == 1


@pytest.mark.parametrize(
    "name",
    ["h264 mp4 open", "h264 avi", "h264 ts", "hevc mov open", "mpeg4 avi b", "wmv2 wmv", "mpeg1 mpg b", "h264 mkv"],
)
def test_decord_is_not_tried_where_it_seeks_wrong(name, tmp_path, monkeypatch):
    decord = pytest.importorskip("decord")
    info = probe(write(tmp_path / f"v.{LAYOUTS[name].suffix}", LAYOUTS[name]))
    monkeypatch.setattr(decord, "VideoReader", lambda *a, **k: pytest.fail("decord was asked"))
    assert [number_of(frame) for frame in read_frames(info, np.array([3, 50]))] == [3, 50]


@pytest.mark.parametrize("wrong", ["frames", "times", "colors"])
def test_decord_is_not_trusted_where_it_differs(clip, monkeypatch, wrong):
    decord = pytest.importorskip("decord")
    real = decord.VideoReader

    class Odd:
        def __init__(self, *args, **options):
            self.reader = real(*args, **options)

        def __len__(self):
            return len(self.reader) - (wrong == "frames")

        def __getitem__(self, index):
            picture = self.reader[index].asnumpy()
            return type("Array", (), {"asnumpy": lambda _: picture // (1 + (wrong == "colors"))})()

        def get_frame_timestamp(self, index):
            return self.reader.get_frame_timestamp(index) * (1 + (wrong == "times"))

    info = probe(clip)
    assert video._decord_reader(info) is not None
    monkeypatch.setattr(decord, "VideoReader", Odd)
    assert video._decord_reader(info) is None
    assert [number_of(frame) for frame in read_frames(info, np.array([20]))] == [20]


def test_frames_are_given_in_the_order_asked_for_and_others_refused(clip):
    info = probe(clip)
    assert [number_of(frame) for frame in read_frames(info, np.array([9, 2, 2, 23]))] == [9, 2, 2, 23]
    assert list(read_frames(info, np.array([], int))) == []
    for wrong in ([24], [-1, 3]):
        with pytest.raises(IndexError, match="of 24"):
            list(read_frames(info, np.array(wrong)))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_raw_stream_is_told_how_to_get_times_or_takes_them(tmp_path, codec):
    layout = Layout(codec, "libx264" if codec == "h264" else "libx265", LAYOUTS[f"{codec} mp4"].options, muxer=codec)
    path = write(tmp_path / f"raw.{codec}", layout, range(20))
    with pytest.raises(InputError, match=r"states no times.*--fps.*ffmpeg -framerate FPS -i raw\.") as caught:
        probe(path)
    assert "\n" not in str(caught.value)
    info = probe(path, fps=25)
    assert [number_of(frame) for frame in read_frames(info)] == list(range(20))
    np.testing.assert_allclose(info.times_s, np.arange(20) / 25)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_frame_rate_that_cannot_be_meant_is_refused(clip, fps):
    with pytest.raises(InputError, match="--fps"):
        probe(clip, fps=fps)


def test_a_frame_rate_beside_the_videos_own_times_is_refused(clip):
    with pytest.raises(InputError, match="states its own"):
        probe(clip, fps=30)


@pytest.mark.parametrize("name", ["10:30.mp4", "100%d.mp4", "http:x.mp4", "räum 1.mp4", "-i.mp4"])
def test_any_name_is_a_file(clip, name):
    path = clip.rename(clip.with_name(name))
    assert probe(path).n_frames == 24


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h264 mp4", "h264 mkv", "vp9 webm", "mpeg4 avi", "h264 mov"])
def test_a_file_that_ends_early_is_told_at_once(tmp_path, name):
    path = write(tmp_path / f"v.{LAYOUTS[name].suffix}", LAYOUTS[name])
    whole = path.read_bytes()
    for share in (0.3, 0.7, 0.98):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match="truncated") as caught:
            probe(path)
        assert "\n" not in str(caught.value)
        with pytest.raises(decoding.BrokenVideo, match="truncated"):
            decoding.probe(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["h264 mp4", "hevc mp4", "h264 avi", "mpeg4 avi", "h264 mkv", "mpeg2 ts b", "h264 flv"]
)
def test_a_hole_in_the_middle_is_told_before_the_work(tmp_path, name):
    path = write(tmp_path / f"v.{LAYOUTS[name].suffix}", LAYOUTS[name])
    data = bytearray(path.read_bytes())
    hole = slice(len(data) * 2 // 5, len(data) * 3 // 5)
    data[hole] = bytes(hole.stop - hole.start)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged|cannot be read") as caught:
        require_decodable(probe(path))
    assert "\n" not in str(caught.value)


def test_a_codec_that_nobody_knows_is_refused(clip):
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"xyz9"))
    with pytest.raises(InputError, match=r"not known|cannot be read"):
        probe(clip)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"prores mov"}))
def test_no_change_of_bytes_raises_anything_but_one_line(tmp_path, name):
    layout, rng = LAYOUTS[name], random.Random(name)
    path = write(tmp_path / f"v.{layout.suffix}", layout, range(20))
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 4, 30])):
            at = rng.choice([rng.randrange(len(data)), rng.randrange(min(1500, len(data)))])
            data[at] = rng.randrange(256)
        if rng.random() < 0.3:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3000)] = bytes(rng.randrange(200))
        path.write_bytes(data)
        try:
            info = probe(path)
            count = sum(1 for _ in read_frames(info))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert count == info.n_frames


def folder_of(folder: Path, names: list[str], size: tuple[int, int] | None = None) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        picture = Image.fromarray(numbered(number))
        (picture if size is None else picture.resize(size)).save(folder / name, quality=95)
    return folder


@pytest.mark.parametrize(
    ("below", "names"),
    [
        ("frames", [f"{i}.png" for i in range(12)]),  # ExAvatar
        ("images", [f"{i:05d}.png" for i in range(12)]),  # NeuMan
        ("images", [f"image_{i:04d}.png" for i in range(12)]),  # PeopleSnapshot as InstantAvatar prepares it
        (".", [f"img_{i:05d}.jpg" for i in range(1, 13)]),  # MMAction2
        (".", [f"Frame {i}.JPG" for i in range(3, 15)]),
        (".", [f"clip-{5 * i}.webp" for i in range(12)]),  # every fifth
    ],
)
def test_a_folder_of_frames_is_a_video_in_the_order_of_its_numbers(tmp_path, below, names):
    folder_of(tmp_path / "take" / below, names)
    info = probe(tmp_path / "take", fps=25)
    assert [number_of(frame) for frame in read_frames(info)] == list(range(12))
    assert [number_of(frame) for frame in read_frames(info, np.array([7, 2]))] == [7, 2]
    assert info.size_hw == (96, 128)
    np.testing.assert_allclose(info.times_s, np.arange(12) / 25)
    require_decodable(info)


def test_optical_flow_beside_the_frames_is_passed_over(tmp_path):
    folder = folder_of(tmp_path / "raw", [f"img_{i:05d}.jpg" for i in range(1, 6)])
    for axis in "xy":
        for i in range(1, 6):
            Image.new("L", (20, 20)).save(folder / f"flow_{axis}_{i:05d}.jpg")
    assert [path.name[:3] for path in probe(folder, fps=30).pictures] == ["img"] * 5


def test_a_gap_in_the_numbers_is_a_gap_in_time(tmp_path):
    folder = folder_of(tmp_path / "f", [f"{i:03d}.png" for i in (0, 1, 2, 6, 7)])
    np.testing.assert_allclose(probe(folder, fps=10).times_s, [0, 0.1, 0.2, 0.6, 0.7])


def cut_off(folder: Path) -> None:
    data = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("spoil", "fps", "message"),
    [
        (lambda folder: None, None, "is a folder of 5 frames; say how many a second with --fps"),
        (lambda folder: Image.new("RGB", (64, 64)).save(folder / "009.png"), 30, "pictures of different sizes"),
        (lambda folder: Image.new("RGB", (128, 96)).save(folder / "3.png"), 30, "two pictures of one number"),
        (cut_off, 30, r"003\.png .*truncated"),
        (lambda folder: (folder / "004.png").write_bytes(b"no picture"), 30, "cannot be read as a picture"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], 30, "holds 0 numbered pictures"),
    ],
)
def test_a_folder_that_is_no_video_is_refused_in_one_line(tmp_path, spoil, fps, message):
    spoil(folder := folder_of(tmp_path / "f", [f"{i:03d}.png" for i in range(5)]))
    with pytest.raises(InputError, match=message) as caught:
        probe(folder, fps=fps)
    assert "\n" not in str(caught.value)


def test_a_folders_hash_is_of_its_frames_alone(tmp_path):
    folder = folder_of(tmp_path / "f", [f"{i}.png" for i in range(3)])
    before = video_sha256(folder)
    (folder / "notes.txt").write_text("x")
    assert video_sha256(folder) == before
    Image.fromarray(numbered(9)).save(folder / "1.png")
    assert video_sha256(folder) != before


def test_a_folder_is_no_clip_of_a_data_set(tmp_path):
    with pytest.raises(decoding.BrokenVideo, match="a folder, no video"):
        decoding.probe(tmp_path)
