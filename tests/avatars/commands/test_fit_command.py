"""`avatars fit` throws no work away: a track whose video has moved is used, and an error after the fit keeps it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fakes.fake_turn import MadeUpTurn, make_turn

from avatars.body import load_body
from avatars.commands.fit import FitCommand
from avatars.errors import InputError
from avatars.io.files import sha256_of
from avatars.io.progress import StageClock
from avatars.tracking import capture_check
from avatars.tracking.config import TrackConfig
from avatars.tracking.track import SourceVideo, Track


@pytest.fixture(scope="module")
def turn(tmp_path_factory) -> MadeUpTurn:
    return make_turn(load_body(), tmp_path_factory.mktemp("turn"), 4)


def test_a_track_whose_video_has_moved_reads_the_video_that_was_given(turn, tmp_path, monkeypatch):
    source = SourceVideo(str(tmp_path / "gone.mp4"), sha256_of(turn.video), turn.camera.size_hw)
    track = Track(turn.motion, turn.camera, None, turn.masks, source, TrackConfig())
    monkeypatch.setattr(Track, "load", lambda folder: track)
    monkeypatch.setattr(capture_check, "check_capture", lambda *a: [])
    moved = Path(shutil.copyfile(turn.video, tmp_path / "moved.mp4"))
    command = FitCommand(moved, tmp_path / "anna", track=tmp_path / "track")
    found = command._track(load_body(), StageClock(), tmp_path)
    assert found.video.path == str(moved)
    assert (found.video.sha256, found.motion) == (source.sha256, track.motion)


@pytest.mark.parametrize(("fails", "kept"), [("_track", False), ("_fit", True)])
def test_an_error_after_the_capture_was_accepted_keeps_the_work(fails, kept, turn, tmp_path, monkeypatch):
    def fail(*_):
        raise InputError("something at the end")

    monkeypatch.setattr(FitCommand, "_track", lambda *_: None)
    monkeypatch.setattr(FitCommand, fails, fail)
    with pytest.raises(InputError, match="at the end"):
        FitCommand(turn.video, tmp_path / "anna").fit(StageClock())
    assert (tmp_path / "anna" / ".work" / "job.json").is_file() == kept
