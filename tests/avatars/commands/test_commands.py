"""What a user can do wrong costs one line and exit code 2, before any long work, and nothing that existed is lost."""

from __future__ import annotations

import shutil
import struct
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.body import load_body
from avatars.body.motion import Motion
from avatars.commands import console
from avatars.commands.fit import FitCommand
from avatars.commands.motion import MotionCommand
from avatars.commands.render import RenderCommand
from avatars.commands.track import TrackCommand
from avatars.io.video import load_frames, write_video
from avatars.studio import sample_capture
from avatars.tracking.config import TrackConfig
from avatars.tracking.pipeline import track_video
from avatars.tracking.track import Track
from reenact.commands.features import FeaturesCommand

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short turn of a studio person."""
    return sample_capture(tmp_path_factory.mktemp("clip") / "turn", seed=4, frames=12, size_hw=(320, 320)).video


@pytest.fixture(scope="module")
def upright(clip: Path) -> Track:
    return track_video(clip, config=TrackConfig(masks=False, iterations=20), body=load_body())


def failure(command: console.Command, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a user's mistake is answered with."""
    assert console.run(command) == console.USER_MISTAKE
    line = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(line) == 1
    return line[0]


def not_a_video(path: Path) -> None:
    path.write_bytes(b"no video here" * 50)


def truncated(path: Path) -> None:
    write_video(path, np.zeros((30, 64, 64, 3), np.uint8), fps=30)
    path.write_bytes(path.read_bytes()[:-400])


def still(path: Path) -> None:
    Image.new("RGB", (64, 64)).save(path, format="PNG")


def one_frame(path: Path) -> None:
    write_video(path, np.zeros((1, 64, 64, 3), np.uint8), fps=30)


def sound_alone(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 20480), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        for packet in [*stream.encode(silence), *stream.encode()]:
            container.mux(packet)


@pytest.mark.parametrize(
    "make", [not_a_video, truncated, still, one_frame, sound_alone, Path.mkdir, Path.touch, lambda path: None]
)
def test_what_is_no_clip_is_refused_by_every_command(make, tmp_path: Path, capsys) -> None:
    video, out = tmp_path / "clip.mp4", tmp_path / "out"
    make(video)
    for command in (FitCommand(video, out), TrackCommand(video, out)):
        assert "clip.mp4" in failure(command, capsys)
        assert not out.exists()


def test_noise_holds_no_person(tmp_path: Path, capsys) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 128, 128, 3), np.uint8)
    video = write_video(tmp_path / "noise.mp4", noise, fps=10)
    assert "No person" in failure(FitCommand(video, tmp_path / "out"), capsys)
    assert not (tmp_path / "out").exists()


def test_two_people_are_refused(clip: Path, tmp_path: Path, capsys) -> None:
    frames, _ = load_frames(clip)
    pair = write_video(tmp_path / "pair.mp4", np.concatenate([frames, frames], 2), fps=18, crf=8)
    assert "Two people" in failure(FitCommand(pair, tmp_path / "out"), capsys)


def test_a_person_cut_off_is_no_capture(clip: Path, tmp_path: Path, capsys) -> None:
    frames, _ = load_frames(clip)
    cut = write_video(tmp_path / "cut.mp4", frames[:, :180], fps=18, crf=8)
    line = failure(FitCommand(cut, tmp_path / "out"), capsys)
    assert "cut off in 12 of 12 frames" in line


def test_an_existing_folder_is_kept(clip: Path, tmp_path: Path, capsys) -> None:
    kept = tmp_path / "precious.txt"
    kept.write_text("mine")
    for command in (FitCommand(clip, tmp_path), TrackCommand(clip, tmp_path)):
        assert "already exists" in failure(command, capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_too_little_space_is_said_before_work(clip: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 2**20))
    assert "Not enough disk space" in failure(FitCommand(clip, tmp_path / "out"), capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (TrackConfig(iterations=5), "--iterations is 5, expected 20 to 100000"),
        (TrackConfig(height_m=170.0), "--height-m is 170.0, expected a person's height in meters, 0.5 to 2.6"),
        (TrackConfig(height_m=float("nan")), "--height-m is nan"),
        (TrackConfig(focal_px=0.0), "--focal-px is 0.0, expected a focal length in pixels"),
        (TrackConfig(person=-1), "--person is -1, expected a person counted from the left"),
        (TrackConfig(person=3, masks=False), "--person 3: turn.mp4 shows 1 person"),
        (TrackConfig(detector="yolo"), "No keypoint detector 'yolo'"),
    ],
)
def test_impossible_settings_are_refused(config: TrackConfig, says: str, clip: Path, tmp_path: Path, capsys) -> None:
    video = shutil.copyfile(clip, tmp_path / "turn.mp4")
    assert says in failure(TrackCommand(video, tmp_path / "out", config=config), capsys)
    assert not (tmp_path / "out").exists()


def test_an_overlay_never_replaces_a_file(clip: Path, tmp_path: Path, capsys) -> None:
    before = clip.read_bytes()
    for name, says in ((clip, "already exists"), (tmp_path / "out.avi", "expected a name that ends in .mp4")):
        assert says in failure(TrackCommand(clip, tmp_path / "out", overlay=name), capsys)
    assert clip.read_bytes() == before and not (tmp_path / "out").exists()


def test_a_motion_never_replaces_a_file(upright: Track, tmp_path: Path, capsys) -> None:
    motion = upright.motion.save(tmp_path / "motion.npz")
    (tmp_path / "kept.bvh").write_text("mine")
    for out in (motion, tmp_path / "kept.bvh"):
        assert "already exists" in failure(MotionCommand(motion, out), capsys)
    assert (tmp_path / "kept.bvh").read_text() == "mine"
    assert console.run(MotionCommand(motion, tmp_path / "new.bvh")) == console.DONE


def test_a_missing_body_file_is_named(clip: Path, tmp_path: Path, capsys) -> None:
    command = FitCommand(clip, tmp_path / "out", tracking=TrackConfig(body=tmp_path / "SMPLX_MALE.npz"))
    assert "SMPLX_MALE.npz" in failure(command, capsys)


def test_render_names_what_is_no_avatar_and_what_is_no_motion(tmp_path: Path, capsys) -> None:
    (tmp_path / "motion.npz").write_bytes(b"")
    command = RenderCommand(tmp_path / "nobody", motion=tmp_path / "motion.npz", output=tmp_path / "out.mp4")
    assert "nobody" in failure(command, capsys)


def test_one_bad_clip_does_not_stop_the_others(clip: Path, tmp_path: Path, capsys) -> None:
    good, bad = tmp_path / "wave_1.mp4", tmp_path / "wave_2.mp4"
    shutil.copyfile(clip, good)
    not_a_video(bad)
    command = FeaturesCommand(
        (bad, good), tmp_path / "motions", preview=False, config=TrackConfig(masks=False, iterations=20)
    )
    assert console.run(command) == console.WORK_FAILED
    printed = capsys.readouterr().out
    assert "1 motions made, 0 already there, 1 failed" in printed
    assert (tmp_path / "motions" / "wave_1.npz").is_file()
    assert not (tmp_path / "motions" / "wave_2.npz").exists()
    assert console.run(replace(command, clips=(good,))) == console.DONE
    assert "0 motions made, 1 already there, 0 failed" in capsys.readouterr().out


def joints_px(track: Track) -> torch.Tensor:
    return track.camera.project(load_body().pose_motion(track.motion).joints[:, :22])


def test_a_rotated_phone_video_gives_the_upright_track(clip: Path, upright: Track, tmp_path: Path) -> None:
    frames, info = load_frames(clip)
    lying = write_video(tmp_path / "phone.mp4", np.rot90(frames, 1, (1, 2)), fps=info.fps, crf=2)
    data = bytearray(lying.read_bytes())
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    lying.write_bytes(data)
    track = track_video(lying, config=TrackConfig(masks=False, iterations=20), body=load_body())
    assert track.video.size_hw == (320, 320)
    assert (joints_px(track) - joints_px(upright)).norm(dim=-1).mean() < 3.0


def test_odd_sizes_and_variable_rates_are_tracked_with_their_own_times(
    clip: Path, upright: Track, tmp_path: Path
) -> None:
    frames, info = load_frames(clip)
    times_s = info.times_s + 0.02 * (np.arange(len(frames)) % 3)
    odd = write_video(tmp_path / "odd.mp4", frames[:, :319, :317], fps=18, times_s=times_s, crf=2)
    track = track_video(odd, config=TrackConfig(masks=False, iterations=20), body=load_body())
    np.testing.assert_allclose(track.motion.times_s, times_s, atol=1e-3)
    both_seen = (track.keypoints.score > 0.5) & (upright.keypoints.score > 0.5)
    apart_px = (track.keypoints.xy - upright.keypoints.xy).norm(dim=-1)
    assert apart_px[:, :17][both_seen[:, :17]].median() < 3.0


def test_a_folder_of_frames_is_tracked_as_its_video(clip, upright, tmp_path, capsys):
    frames, info = load_frames(clip)
    (folder := tmp_path / "turn_1" / "frames").mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    assert "--fps" in failure(TrackCommand(folder.parent, output=tmp_path / "track"), capsys)
    config = replace(upright.config, fps=info.fps)
    command = FeaturesCommand((folder.parent,), output=tmp_path / "motions", config=config, preview=True)
    assert command.run() == 0
    motion = Motion.load(tmp_path / "motions" / "turn_1.npz")
    torch.testing.assert_close(motion.poses, upright.motion.poses, atol=1e-3, rtol=0)
    torch.testing.assert_close(motion.transl, upright.motion.transl, atol=1e-3, rtol=0)
    assert (tmp_path / "motions" / "turn_1_overlay.mp4").is_file()
    assert command.run() == 0 and "already there" in capsys.readouterr().out


def test_damage_is_told_before_anything_is_looked_at(clip, tmp_path, capsys, monkeypatch):
    path = tmp_path / "damaged.mp4"
    data = bytearray(clip.read_bytes())
    start, end = data.index(b"mdat"), data.index(b"moov")
    for at in range(start + (end - start) // 2, start + (end - start) * 3 // 4):
        data[at] ^= 0x5A
    path.write_bytes(data)
    monkeypatch.setattr("avatars.tracking.pipeline.open_detector", lambda *a, **k: pytest.fail("work began"))
    assert "damaged" in failure(TrackCommand(path, output=tmp_path / "track"), capsys)
