"""A folder of videos is judged into a table: who can become an avatar, and why the others cannot."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from fakes.fake_clips import film, sweeps

from avatars.commands import console
from avatars.commands.check import CheckCommand, videos_in
from avatars.errors import InputError
from avatars.tracking.capture_check import Finding
from avatars.tracking.config import TrackConfig


@pytest.fixture
def captures(tmp_path, monkeypatch):
    import numpy as np

    rng = np.random.default_rng(0)
    folder = tmp_path / "captures"
    for name in ("anna", "ben", "cy"):
        film(folder / f"{name}.mp4", sweeps(0, rng))
    (folder / "broken.mp4").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("x")
    found = {
        "anna": [],
        "ben": [Finding("one person", "Two people.", "Film one."), Finding("light", "Dark.", "Lamp.", refused=False)],
        "cy": [Finding("sharpness", "Blurred.", "More light.", refused=False)],
    }  # fmt: skip
    monkeypatch.setattr(CheckCommand, "findings", lambda self, info: found[info.path.stem])
    return folder


def test_every_video_has_its_line_and_its_reasons(captures, tmp_path, capsys):
    assert console.run(CheckCommand(captures, table=tmp_path / "t.csv")) == console.DONE
    told = capsys.readouterr().out
    assert "4 videos: 2 accepted, 2 rejected" in told and "one person 1" in told
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "anna.mp4": "accepted", "ben.mp4": "rejected", "broken.mp4": "rejected", "cy.mp4": "accepted",
    }  # fmt: skip
    assert rows["ben.mp4"]["one person"] == "REFUSED" and rows["ben.mp4"]["light"] == "warning"
    assert rows["ben.mp4"]["message"] == "Two people. Film one." and rows["anna.mp4"]["light"] == "ok"
    assert rows["broken.mp4"]["unusable"] == "REFUSED" and rows["broken.mp4"]["light"] == ""


def test_options_of_one_video_and_of_many_are_not_mixed(captures, tmp_path):
    with pytest.raises(InputError, match="--picture is of one video"):
        CheckCommand(captures, picture=tmp_path / "a.png").run()
    with pytest.raises(InputError, match="--table is of a folder of videos"):
        CheckCommand(captures / "anna.mp4", table=tmp_path / "t.csv").run()
    assert [path.name for path in videos_in(captures)] == ["anna.mp4", "ben.mp4", "broken.mp4", "cy.mp4"]
    assert videos_in(captures / "anna.mp4") == []
    frames = replace(TrackConfig(), fps=25.0)  # a folder of frames stays one capture
    with pytest.raises(InputError):
        CheckCommand(captures, tracking=frames).run()


def test_none_that_can_is_an_error(captures):
    for name in ("anna", "cy"):
        (captures / f"{name}.mp4").unlink()
    assert console.run(CheckCommand(captures)) == console.USER_MISTAKE
