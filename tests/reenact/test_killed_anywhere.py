"""Commands that are killed before any one change of a file: the same command then ends in the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import kill_points
from fakes.tiny_batch import make_avatar, make_motion, write_batch, write_material

from avatars.body import load_body
from avatars.motion_formats import save_motion
from reenact.running.run import run_batch

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"), load_body())


def killed_everywhere(folder: Path, prog: str, words: list[str], *, ignore: tuple[str, ...] = ()) -> int:
    """Kill a command in `folder`/sandbox, which begins as `folder`/template, at every point; how many there are."""
    spec = {
        "prog": prog, "words": words, "template": str(folder / "template"), "sandbox": str(folder / "sandbox"),
        "ignore": ["runs.jsonl", *ignore],
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))
    words = [sys.executable, kill_points.__file__, str(folder / "spec.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    return result["points"]


def test_run_goes_on_wherever_it_was_killed(material, tmp_path):
    (tmp_path / "template").mkdir()
    write_batch(material, tmp_path / "b.yaml", out=str(tmp_path / "sandbox" / "out"))
    assert killed_everywhere(tmp_path, "reenact", ["run", str(tmp_path / "b.yaml"), "--jobs", "1"]) > 15


def test_run_into_an_empty_folder_goes_on_wherever_it_was_killed_while_planning(material, tmp_path):
    (tmp_path / "template" / "out").mkdir(parents=True)
    write_batch(material, tmp_path / "b.yaml", out=str(tmp_path / "sandbox" / "out"))
    assert killed_everywhere(tmp_path, "reenact", ["plan", str(tmp_path / "b.yaml")]) >= 4


def test_merge_goes_on_wherever_it_was_killed(material, tmp_path):
    batch = write_batch(material, tmp_path / "b.yaml", motions=[str(material / "raise_01.npz")])
    run_batch(batch)
    (tmp_path / "template").mkdir()
    words = ["merge", str(tmp_path / "out"), "-o", str(tmp_path / "sandbox" / "all")]
    assert killed_everywhere(tmp_path, "reenact", words) > 8


def test_normalize_of_two_goes_on_wherever_it_was_killed(material, tmp_path):
    (tmp_path / "template").mkdir()
    motions = [str(material / "raise_01.npz"), str(material / "lower_01.npz")]
    words = ["normalize", *motions, "-o", str(tmp_path / "sandbox" / "motions"), "--fps", "15"]
    assert killed_everywhere(tmp_path, "reenact", words) > 8


def test_gate_goes_on_wherever_it_was_killed(material, tmp_path):
    batch = write_batch(material, tmp_path / "b.yaml", out=str(tmp_path / "template"))
    run_batch(batch)
    words = ["gate", str(tmp_path / "sandbox"), "--detector", "none", "--jobs", "1"]
    assert killed_everywhere(tmp_path, "reenact", words) >= 6


def test_export_goes_on_wherever_it_was_killed(material, tmp_path):
    avatars = [{"path": str(material / "white"), "consent": "to everything"}]
    run_batch(write_batch(material, tmp_path / "b.yaml", avatars=avatars))
    (tmp_path / "template").mkdir()
    for form in ("webdataset", "manifest"):
        shutil.rmtree(tmp_path / "sandbox", ignore_errors=True)
        words = ["export", str(tmp_path / "out"), "--to", form, "-o", str(tmp_path / "sandbox" / "given")]
        assert killed_everywhere(tmp_path, "reenact", words) > 4


@pytest.mark.parametrize("name", ["made.npz", "made.bvh", "made"])
def test_motion_goes_on_or_has_ended_wherever_it_was_killed(name, tmp_path):
    body = load_body()
    (tmp_path / "template").mkdir()
    save_motion(make_motion(body), tmp_path / "m.npz", body)
    words = ["motion", str(tmp_path / "m.npz"), "-o", str(tmp_path / "sandbox" / name)]
    assert killed_everywhere(tmp_path, "avatars", words) >= 3


def test_vary_goes_on_or_has_ended_wherever_it_was_killed(tmp_path):
    make_avatar(load_body()).save(tmp_path / "white")
    (tmp_path / "template").mkdir()
    words = ["vary", str(tmp_path / "white"), "-o", str(tmp_path / "sandbox" / "more"), "--count", "1"]
    assert killed_everywhere(tmp_path, "avatars", words) > 5
