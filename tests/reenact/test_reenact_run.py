"""Processes that die, work that fails, runs that are shared or stopped: the data set is the same bytes in the end."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from fakes.tiny_batch import four_groups, write_batch, write_material

from actionrec.manifest import read_manifest
from avatars.body import load_body
from avatars.commands import console
from avatars.errors import InputError
from reenact.commands.data_set import MergeCommand, StatusCommand, VerifyCommand
from reenact.commands.plan import PlanCommand
from reenact.commands.run import RunCommand
from reenact.planning.batch import load_batch
from reenact.planning.plan import PlannedClip, make_plan, open_output
from reenact.planning.receipts import read_failures, remove_partial_files, status, verify
from reenact.rendering import render as filming
from reenact.running.run import run_batch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"), load_body())


HALF = ".half.part-0123456789abcdef.mp4"
"""What a killed writer of half.mp4 leaves."""
LOCAL = ("batch.json", "runs.jsonl")


@pytest.fixture(scope="module")
def alone(material, tmp_path_factory) -> Path:
    """The data set, made by one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert run_batch(four_groups(material, folder / "b.yaml")).made == 4
    return folder / "out"


def contents(out: Path) -> dict[str, bytes]:
    """Every file but those that name paths and times."""
    return {
        p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name not in LOCAL
    }


def test_a_killed_process_is_replaced_and_two_make_the_same_bytes_as_one(material, alone, tmp_path):
    killed = []

    def kill_the_first() -> None:
        while not killed:
            for child in multiprocessing.active_children():
                time.sleep(0.3)
                child.kill()
                killed.append(child)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=kill_the_first, daemon=True)
    thread.start()
    summary = run_batch(four_groups(material, tmp_path / "b.yaml"), jobs=2)
    thread.join(1)
    assert killed
    assert (summary.made, summary.failures) == (4, ())
    assert contents(tmp_path / "out") == contents(alone)


def test_what_may_work_another_time_is_tried_twice_and_what_cannot_once(material, alone, tmp_path, monkeypatch):
    tries: list[str] = []

    def failing(error: Exception, times: int):
        def retarget(motion, *rest, **named):
            tries.append(motion.name)
            if tries.count(motion.name) <= times:
                raise error
            return working(motion, *rest, **named)

        return retarget

    working = filming.retarget
    batch = write_batch(material, tmp_path / "b.yaml")
    monkeypatch.setattr(filming, "retarget", failing(OSError("stale file handle"), 9))
    failure = run_batch(batch).failures[0]
    assert (failure.stage, failure.transient, len(tries)) == ("retarget", True, 2)
    assert read_failures(tmp_path / "out") == [failure]
    tries.clear()
    monkeypatch.setattr(filming, "retarget", failing(ValueError("always"), 9))
    assert [f.transient for f in run_batch(batch).failures] == [False]
    assert len(tries) == 1
    tries.clear()
    monkeypatch.setattr(filming, "retarget", failing(OSError("once"), 1))
    assert run_batch(batch).made == 1
    assert not (tmp_path / "out" / "failures.jsonl").exists()


def test_a_disk_that_fills_up_stops_the_run_and_the_next_one_goes_on(material, alone, tmp_path, monkeypatch):
    batch, write, frames = four_groups(material, tmp_path / "b.yaml"), filming.VideoWriter.write, itertools.count()

    def fails_in_the_third_clip(self, frame, time_s=None):
        if next(frames) >= 20:  # clips have 8 frames
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, frame, time_s)

    monkeypatch.setattr(filming.VideoWriter, "write", fails_in_the_third_clip)
    with pytest.raises(InputError, match=r"No space left .* 2 of 4 clips are whole"):
        run_batch(batch)
    assert verify(tmp_path / "out") == []
    monkeypatch.undo()
    assert run_batch(batch).made == 2
    assert contents(tmp_path / "out") == contents(alone)


def test_too_many_failures_stop_the_run(material, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise ValueError("broken")

    monkeypatch.setattr(filming, "retarget", broken)
    command = RunCommand(four_groups(material, tmp_path / "b.yaml"), jobs=1, max_failures=1)
    assert console.run(command) == console.WORK_FAILED
    assert "stopped after 2 failures" in capsys.readouterr().out
    assert status(tmp_path / "out").planned == 4
    assert len(status(tmp_path / "out").failures) == 2


def test_parts_of_a_plan_made_apart_are_merged_into_the_same_data_set(material, alone, tmp_path, capsys):
    parts = []
    for part in (0, 1):
        (tmp_path / str(part)).mkdir()
        batch = four_groups(material, tmp_path / str(part) / "b.yaml")
        assert console.run(RunCommand(batch, jobs=1, share=f"{part}/2")) == console.DONE
        parts.append(tmp_path / str(part) / "out")
    assert console.run(StatusCommand(parts[0])) == console.WORK_FAILED
    assert "2 of 4 clips are whole, 2 missing" in capsys.readouterr().out
    for _ in range(2):
        assert console.run(MergeCommand(tuple(parts), tmp_path / "all")) == console.DONE
    assert contents(tmp_path / "all") == contents(alone)
    assert console.run(VerifyCommand(tmp_path / "all")) == console.DONE
    other = write_batch(material, tmp_path / "other.yaml", out=str(tmp_path / "other"))
    open_output(make_plan(load_batch(other)))
    with pytest.raises(InputError, match="holds another plan"):
        MergeCommand((parts[0], tmp_path / "other"), tmp_path / "none").run()
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match=r"--share is '2/2'"):
        RunCommand(other, share="2/2").run()


def test_verify_names_everything_that_is_wrong(alone, tmp_path, capsys):
    assert verify(alone) == []
    out = Path(shutil.copytree(alone, tmp_path / "out"))
    one, two, three, _ = read_manifest(out / "manifest.jsonl")
    (out / one.path).write_bytes(b"other")
    (out / "labels" / f"{two.id}.npz").unlink()
    (out / "receipts" / f"{three.id}.json").unlink()
    (out / "clips" / HALF).write_bytes(b"half")
    (out / "clips" / "holiday.mp4").write_bytes(b"mine")
    found = verify(out)
    assert f"{one.path}: other bytes than its receipt names" in found
    assert f"labels/{two.id}.npz: missing, though its receipt is there" in found
    assert "clips/holiday.mp4: belongs to no clip of the plan" in found
    assert f"clips/{HALF}: half written" in found
    assert any(line.startswith("manifest.jsonl: not the clips that exist") for line in found)
    assert len(found) == 5
    assert console.run(VerifyCommand(out)) == console.WORK_FAILED
    assert "5 problems found; 2 of 4 clips complete" in capsys.readouterr().out
    remove_partial_files(out, older_than_s=3600)
    assert (out / "clips" / HALF).exists()
    remove_partial_files(out)
    assert not (out / "clips" / HALF).exists()


def test_a_plan_that_was_written_is_run_from_its_folder(material, alone, tmp_path):
    batch = four_groups(material, tmp_path / "b.yaml")
    assert console.run(PlanCommand(batch)) == console.DONE
    batch.unlink()
    assert run_batch(tmp_path / "out").made == 4
    assert contents(tmp_path / "out") == contents(alone)


def test_ctrl_c_leaves_everything_whole_and_the_next_run_goes_on(material, alone, tmp_path):
    batch = four_groups(material, tmp_path / "b.yaml")
    words = [sys.executable, "-m", "reenact.cli", "run", str(batch), "--jobs", "2"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path)  # not the source tree
    receipts = tmp_path / "out" / "receipts"
    while process.poll() is None and not (receipts.is_dir() and any(receipts.glob("[!.]*.json"))):
        time.sleep(0.02)
    process.send_signal(2)
    _, said = process.communicate(timeout=60)
    if process.returncode != console.DONE:  # else all was done before the signal came
        assert process.returncode == console.INTERRUPTED, said
        assert "Finished outputs are complete" in said
        assert verify(tmp_path / "out") == []
    run_batch(batch)
    assert contents(tmp_path / "out") == contents(alone)


def test_places_whose_floor_is_a_guess_are_named_at_the_end(material, tmp_path, capsys):
    known = {"path": str(material / "gray.png"), "at": [0.0, 3.0], "horizon": 0.4}
    guessed = {"path": str(material / "night.png"), "horizon": 0.4, "camera_height_m": 1.5, "focal_px": 200}
    batch = write_batch(material, tmp_path / "b.yaml", backgrounds=[guessed, known], backgrounds_per_pair=2)
    assert console.run(RunCommand(batch, jobs=1)) == console.DONE
    last = capsys.readouterr().out.splitlines()[-2]
    assert last.startswith("The floor is a guess in 1 of the places: night. Look at clips made there")


def test_status_is_counted_from_names(tmp_path):
    ids = [f"{i:016x}" for i in range(2000)]
    for folder in ("receipts", "labels", "clips/kick", "clips/wave"):
        (tmp_path / folder).mkdir(parents=True)
    clips = [PlannedClip(clip_id, ("kick", "wave")[i % 2], 0, 0, 0) for i, clip_id in enumerate(ids)]
    (tmp_path / "plan.jsonl").write_text("".join(json.dumps(asdict(clip)) + "\n" for clip in clips))
    for clip in clips[:1500]:
        for path in (f"receipts/{clip.id}.json", f"labels/{clip.id}.npz", f"clips/{clip.label}/{clip.id}.mp4"):
            (tmp_path / path).write_bytes(b"not looked into")
    found = status(tmp_path)
    assert (found.planned, found.whole, found.missing_by_label) == (2000, 1500, {"kick": 250, "wave": 250})
