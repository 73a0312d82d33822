"""The check of a capture: each reason to refuse an identity video, the frames it names, and what it advises."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.drawn_captures import DrawnCapture
from test_tracking import CAMERA, seen, turning_motion

from avatars.body import load_body
from avatars.commands.check import CheckCommand, write_picture
from avatars.errors import InputError
from avatars.io.video import probe, write_video
from avatars.perception.containers import Keypoints
from avatars.perception.frame_quality import FrameQuality, sharpness
from avatars.tracking.capture_check import REASONS, SIDES, Finding, check_capture, check_video, judge, sides_seen
from avatars.tracking.still_camera import camera_drift

pytestmark = pytest.mark.slow

TURN = Path("turn.mp4")
FRAMES = 48


@pytest.fixture(scope="module")
def turn() -> tuple[Keypoints, torch.Tensor]:
    """A whole turn as a perfect detector sees it."""
    body = load_body()
    motion = turning_motion(body, FRAMES)
    return seen(motion, body, CAMERA), motion.times_s


def quality(**values: torch.Tensor) -> FrameQuality:
    good = FrameQuality(
        torch.full((FRAMES,), 0.4), torch.full((FRAMES,), 0.2), torch.full((FRAMES,), 0.1),
        torch.full((FRAMES,), -1),
    )  # fmt: skip
    return replace(good, **values)


def textured_room(size_hw: tuple[int, int] = (288, 384), seed: int = 0) -> np.ndarray:
    import cv2

    noise = np.random.default_rng(seed).integers(0, 256, (size_hw[0] // 8, size_hw[1] // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


def film(path: Path, shift_px: float = 0.0, gain: float = 1.0, frames: int = 12, crop: int = 40) -> Path:
    """A person-like block that moves before a room, by a camera that moves by `shift_px` in all."""
    room = textured_room()
    out = []
    for i in range(frames):
        picture = room.copy()
        picture[80:250, 150 + 4 * i : 210 + 4 * i] = (200, 60, 60)
        left = crop // 2 + round(shift_px * i / (frames - 1))
        out.append((picture[:, left : left + room.shape[1] - 2 * crop] * gain).astype(np.uint8))
    return write_video(path, np.stack(out), fps=8, crf=6)


def reasons(findings: list[Finding], *, refused: bool = True) -> list[str]:
    return [finding.reason for finding in findings if finding.refused == refused]


def test_a_good_capture_has_nothing_against_it(turn, tmp_path: Path) -> None:
    keypoints, times_s = turn
    assert check_video(probe(film(tmp_path / "good.mp4"))) == []
    assert check_capture(keypoints, TURN, times_s, quality()) == []
    judge([], TURN)


def test_a_small_video_is_refused_before_work(tmp_path: Path) -> None:
    frames = np.stack([textured_room((96, 160))] * 4)
    (finding,) = check_video(probe(write_video(tmp_path / "small.mp4", frames, fps=8)))
    assert finding.reason == "resolution" and finding.refused
    assert "160 x 96 pixels" in finding.message and "at least 240" in finding.advice


def test_a_dark_room_is_refused_before_work(tmp_path: Path) -> None:
    (finding,) = check_video(probe(film(tmp_path / "dark.mp4", gain=0.08)))
    assert finding.reason == "light" and finding.refused and len(finding.frames) == 12
    assert "too dark" in finding.message and "lights" in finding.advice
    (dim,) = check_video(probe(film(tmp_path / "dim.mp4", gain=0.2)))
    assert dim.reason == "light" and not dim.refused


def test_a_moving_camera_is_refused_before_work(tmp_path: Path) -> None:
    (finding,) = check_video(probe(film(tmp_path / "pan.mp4", shift_px=20)))
    assert finding.reason == "camera still" and finding.refused
    assert 0 in finding.frames and 6 not in finding.frames
    assert "shelf or a tripod" in finding.advice


@pytest.mark.parametrize("shift_px", [0, 3, 60])
def test_the_shift_of_the_background_is_measured(shift_px: int) -> None:
    room = textured_room((320, 480))
    moved = np.roll(room, shift_px, axis=1)
    moved[100:300, 180:300] = 30  # the person
    assert camera_drift([moved, room, room])[0] * 480 == pytest.approx(shift_px, abs=0.5)


def test_a_bare_wall_does_not_say_whether_the_camera_moves() -> None:
    wall = np.full((320, 480, 3), 180, np.uint8)
    assert np.isnan(camera_drift([wall, wall, wall])).all()


def test_a_bare_wall_is_a_note_and_no_refusal(tmp_path: Path) -> None:
    bare = DrawnCapture("bare", "skirting", "still").frames(12)
    (finding,) = check_video(probe(write_video(tmp_path / "bare.mp4", bare, fps=8)))
    assert finding.reason == "camera still" and not finding.refused and finding.weight == "note"
    assert "cannot be told" in finding.message
    judge([finding], TURN)


def test_a_travel_of_two_percent_is_refused_though_no_frame_is_two_percent_from_the_middle_one(tmp_path: Path) -> None:
    (finding,) = check_video(probe(film(tmp_path / "pan.mp4", shift_px=0.02 * 304, frames=12)))
    assert finding.reason == "camera still" and finding.refused


def test_a_person_who_is_often_away_is_refused(turn) -> None:
    keypoints, times_s = turn
    valid = torch.arange(FRAMES) >= 30
    (finding, *_) = check_capture(replace(keypoints, valid=valid), TURN, times_s)
    assert finding.reason == "person in view" and finding.refused and finding.frames == tuple(range(30))
    assert "No person in 30 of 48 frames of turn.mp4 (first: frame 0)" in finding.message


def test_feet_out_of_the_frame_are_refused(turn) -> None:
    keypoints, times_s = turn
    score = keypoints.score.clone()
    score[5:, 15:23] = 0.0
    (finding,) = check_capture(replace(keypoints, score=score), TURN, times_s)
    assert finding.reason == "whole body" and finding.refused and finding.frames == tuple(range(5, FRAMES))
    assert "cut off in 43 of 48 frames" in finding.message and "head and feet" in finding.advice


def test_two_people_are_refused(turn) -> None:
    keypoints, times_s = turn
    counted = torch.full((FRAMES,), -1)
    counted[::4], counted[8::8] = 1, 2
    (finding,) = check_capture(keypoints, TURN, times_s, quality(n_people=counted))
    assert finding.reason == "one person" and finding.refused and finding.frames == (8, 16, 24, 32, 40)
    assert "5 of 12 sampled frames" in finding.message and "--person largest" in finding.advice


def test_a_half_turn_lacks_sides(turn) -> None:
    keypoints, times_s = turn
    (most,) = check_capture(keypoints[:30], TURN, times_s[:30])
    assert most.reason == "all sides" and not most.refused
    assert most.message.endswith("not seen: left, front left.")
    (front,) = check_capture(keypoints[:10], TURN, times_s[:10])
    assert front.refused and "back, back left, left" in front.message and "all the way round" in front.advice


def test_sides_are_named_as_the_camera_sees_them() -> None:
    counts = sides_seen(torch.tensor([0.0, 0.2, math.pi / 2, math.pi, -math.pi, -math.pi / 4]))
    named = dict(zip(SIDES, counts, strict=True))
    assert named["front"] == 2 and named["back"] == 2
    assert named["right"] == 1  # turned to the left by a quarter, the person shows the right side
    assert named["front left"] == 1


def test_blurred_frames_are_named(turn) -> None:
    keypoints, times_s = turn
    sharp = torch.full((FRAMES,), 0.1)
    sharp[10:20] = 0.01
    (finding,) = check_capture(keypoints, TURN, times_s, quality(sharpness=sharp))
    assert finding.reason == "sharpness" and not finding.refused and finding.frames == tuple(range(10, 20))
    sharp[10:40] = 0.01
    assert reasons(check_capture(keypoints, TURN, times_s, quality(sharpness=sharp))) == ["sharpness"]


def test_sharpness_falls_with_blur_and_not_with_contrast() -> None:
    import cv2

    room = np.where(textured_room((256, 256)) > 127, 200, 40).astype(np.uint8)
    xy = np.stack(np.meshgrid([40.0, 210.0], [30.0, 230.0]), -1).reshape(4, 2).astype(np.float32)
    xy, score = np.resize(xy, (133, 2)), np.full(133, 0.9, np.float32)
    sharp = sharpness(room, xy, score)
    assert sharpness((room * 0.5).astype(np.uint8), xy, score) == pytest.approx(sharp, rel=0.3)
    assert sharpness(cv2.GaussianBlur(room, (0, 0), 5), xy, score) < 0.2 * sharp
    assert math.isnan(sharpness(room, xy, np.zeros(133, np.float32)))


def test_a_small_person_is_refused(turn) -> None:
    keypoints, times_s = turn
    (finding,) = check_capture(keypoints.resized((96, 96)), TURN, times_s)
    assert finding.reason == "resolution" and finding.refused and "px tall" in finding.message


def test_nobody_at_all_is_an_error(turn) -> None:
    keypoints, _ = turn
    with pytest.raises(InputError, match="No person in any of 48 frames"):
        check_capture(replace(keypoints, valid=torch.zeros(FRAMES, dtype=torch.bool)), TURN)


def test_all_reasons_are_told_at_once_and_force_goes_on_with_warnings(caplog) -> None:
    findings = [
        Finding("light", "turn.mp4 is too dark.", "More lights."),
        Finding("sharpness", "Blurred in 9 frames.", "Slower.", (1, 2), refused=False),
        Finding("camera still", "The camera moves.", "Use a tripod."),
    ]
    with pytest.raises(InputError, match=r"too dark\. More lights\. The camera moves\. Use a tripod\..*--force"):
        judge(findings, TURN)
    judge(findings, TURN, force=True)
    assert all(finding.message in caplog.text for finding in findings)


def test_the_command_prints_every_reason_and_writes_a_picture(shared_data: Path, tmp_path: Path, capsys) -> None:
    from avatars.io.video import read_frames

    info = probe(shared_data / "juggler" / "juggler.mp4")
    frames = np.stack(list(read_frames(info, np.arange(0, 48, 6))))[:, ::2, 300:980:2]
    video = write_video(tmp_path / "front.mp4", frames, fps=4)
    command = CheckCommand(video, picture=tmp_path / "check.png")
    assert command.run() == 2
    out = capsys.readouterr().out
    assert all(reason in out for reason in REASONS)
    assert "front.mp4 shows 1 of 8 sides" in out and "cannot make an avatar" in out
    from PIL import Image

    assert Image.open(tmp_path / "check.png").width > 500


def test_a_picture_shows_the_frames_concerned(tmp_path: Path) -> None:
    info = probe(film(tmp_path / "good.mp4"))
    one = write_picture(tmp_path / "one.png", info, [Finding("light", "Dark.", "Lamps.", (3, 4))])
    both = write_picture(tmp_path / "two.png", info, [Finding("light", "Dark.", "Lamps.", (3, 4))] * 2)
    from PIL import Image

    assert Image.open(both).height > 1.8 * Image.open(one).height
