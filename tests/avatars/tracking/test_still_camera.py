"""Whether a camera stood still, before walls that tell and walls that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.drawn_captures import DrawnCapture, moved_captures, still_captures

from avatars.io.video import probe, write_video
from avatars.tracking.capture_check import Finding, check_video
from avatars.tracking.still_camera import camera_drift, camera_motion

pytestmark = pytest.mark.slow

HARD_STILLS = (
    "skirting, nothing else", "skirting, soft shadow", "bare, hard shadow", "bare, fan", "skirting, television",
    "bare, curtain",
)  # fmt: skip
HARD_MOVES = ("pan, door", "pan, pegs", "tilt, door", "knocked, picture", "roll, pegs", "walking in, door")


def camera_finding(capture: DrawnCapture, folder: Path, crf: int = 23) -> Finding | None:
    """What the check of a capture says of its camera, from an encoded file."""
    video = write_video(folder / "drawn.mp4", capture.frames(), fps=12, crf=crf)
    found = [finding for finding in check_video(probe(video)) if finding.reason == "camera still"]
    return found[0] if found else None


def named(captures: Callable[[], list[DrawnCapture]], names: tuple[str, ...]) -> list[DrawnCapture]:
    chosen = {capture.name: capture for capture in captures()}
    return [chosen[name] for name in names]


@pytest.mark.parametrize("capture", named(still_captures, HARD_STILLS), ids=lambda c: c.name)
def test_what_moves_before_a_bare_wall_is_not_the_camera(capture: DrawnCapture, tmp_path: Path) -> None:
    finding = camera_finding(capture, tmp_path)
    assert finding is None or finding.weight == "note", str(finding)


@pytest.mark.parametrize("capture", named(moved_captures, HARD_MOVES), ids=lambda c: c.name)
def test_a_moved_camera_is_refused_before_a_nearly_bare_wall(capture: DrawnCapture, tmp_path: Path) -> None:
    finding = camera_finding(capture, tmp_path)
    assert finding is not None and finding.refused


def test_along_one_edge_no_shift_is_seen() -> None:
    frames = list(DrawnCapture("skirting", "skirting", "pan", travel=0.1).frames(5))
    assert np.isnan(camera_drift(frames)).all()


def test_a_pan_is_measured_over_the_whole_clip_and_from_the_middle_frame() -> None:
    motion = camera_motion(list(DrawnCapture("room", "room", "pan", travel=0.04).frames(11)))
    assert motion.drift[0] == pytest.approx(0.02, abs=0.001) and motion.drift[5] == 0
    assert motion.travel == pytest.approx(0.036, abs=0.002), "but for the frame that is farthest from the others"


def test_black_bars_beside_a_moving_picture_do_not_stand_still_for_it() -> None:
    frames = DrawnCapture("door", "door", "pan", (480, 360), travel=0.06).frames(9)
    barred = np.pad(frames, ((0, 0), (0, 0), (140, 140), (0, 0)))
    assert camera_motion(list(barred)).travel > 0.02


def test_a_picture_full_of_texture_tells() -> None:
    blocks = (np.random.default_rng(3).random((24, 48, 3)) * 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    motion = camera_motion([blocks[:, i * 10 : i * 10 + 320] for i in range(6)])
    assert motion.told.sum() == 5
    assert motion.travel == pytest.approx(40 / 320, abs=0.002)


def test_brightness_that_changes_is_no_move() -> None:
    motion = camera_motion(list(DrawnCapture("door", "door", "still", extra="exposure").frames(9)))
    assert motion.told.any() and motion.travel < 0.003


@pytest.mark.exhaustive
def test_forty_still_captures_pass_and_forty_moved_ones_are_refused(tmp_path: Path) -> None:
    rows = table(tmp_path)
    print("\n".join(f"{moved!s:<6}{refused!s:<6}{name}" for name, moved, refused in rows))
    assert len(rows) == 80
    assert [name for name, moved, refused in rows if moved != refused] == []


def table(folder: Path) -> list[tuple[str, bool, bool]]:
    """Each drawn capture's name, whether its camera moved, and whether it was refused for that."""
    rows = []
    for moved, captures in ((False, still_captures()), (True, moved_captures())):
        for i, capture in enumerate(captures):
            finding = camera_finding(capture, folder, (18, 23, 28)[i % 3])
            rows.append((capture.name, moved, finding is not None and finding.refused))
    return rows
