"""The simulated set keeps people and rooms apart, forgets the truth, and refuses what it cannot make."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import simulated_world as simulated
from simulated_world import (
    PLACE_SEEDS,
    SEED_STEP,
    SimulatedConfig,
    SimulatedScene,
    _claim,
    _publish,
    avatar_people,
    make_simulated_set,
    scenes_of,
)

from avatars.errors import InputError

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize("name", ["smoke", "tiny", "small", "full"])
@pytest.mark.parametrize("seed", [0, 3])
def test_nobody_is_in_two_groups(name, seed):
    config = SimulatedConfig.preset(name, seed=seed)
    scenes = scenes_of(config)
    groups = [{s.person for s in scenes if s.split == split} for split in ("train", "test")] + [
        set(avatar_people(config))
    ]
    assert len(set.union(*groups)) == sum(map(len, groups)) == config.subjects
    assert all(SEED_STEP * seed <= person < SEED_STEP * seed + PLACE_SEEDS for group in groups for person in group)
    assert len({s.id for s in scenes}) == len(scenes)
    for person in groups[0] | groups[1]:
        assert {s.action for s in scenes if s.person == person} == set(config.actions)


def test_the_tiny_set_is_as_large_as_a_claim_needs():
    config = SimulatedConfig.preset("tiny")
    assert len(config.actions) >= 6 and config.subjects >= 12
    assert len(SimulatedConfig.preset("small").actions) >= 8
    assert len(SimulatedConfig.preset("full").actions) == 16


def test_recorded_takes_are_on_one_side(tmp_path):
    for action in ("run", "jump_high"):
        for take in range(1, 6):
            (tmp_path / f"{action}_{take}.bvh").touch()
    config = replace(SimulatedConfig(), actions=("run", "jump_high"), motions=str(tmp_path), train_recordings=2)
    sides = [{s.recording for s in scenes_of(config) if s.split == split} for split in ("train", "test")]
    assert len(sides[0]) == 4 and len(sides[1]) == 6 and not sides[0] & sides[1]
    other = {s.recording for s in scenes_of(replace(config, seed=1)) if s.split == "train"}
    assert len(other) == 4 and other != sides[0], "which are tested follows from the seed"
    with pytest.raises(InputError, match="too few takes of 'run': 5 are for training"):
        make_simulated_set(tmp_path / "set", replace(config, train_recordings=5))
    with pytest.raises(InputError, match="needs a folder of motions"):
        SimulatedConfig.preset("recorded")


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [True, False])
def test_recorded_people_have_room_to_run(tmp_path, monkeypatch, recorded):
    rooms = []

    def film(person, performance, room, camera, folder, **_):
        rooms.append(room)
        Path(folder).mkdir(parents=True)
        (Path(folder) / "capture.mp4").touch()

    perform = simulated._performance
    monkeypatch.setattr(simulated, "_performance", lambda who, scene, c: perform(who, replace(scene, recording=""), c))
    monkeypatch.setattr("avatars.studio.capture.capture", film)
    config = replace(
        SimulatedConfig(), actions=("kick", "wave", "clap", "throw"), motions="recorded" if recorded else ""
    )
    scenes = [SimulatedScene(7, action, 0, "train", "a.bvh" if recorded else "") for action in config.actions]
    simulated.film_person((tmp_path, config, scenes))
    assert len(rooms) == 4 and all(room.outdoors for room in rooms) == recorded


def test_the_truth_of_a_capture_is_thrown_away(tmp_path):
    folder = tmp_path / "truth" / "a"
    folder.mkdir(parents=True)
    for name in ("capture.mp4", "motion.npz", "truth.npz"):
        (folder / name).write_bytes(b"x")
    _publish(folder, tmp_path / "real" / "a.mp4")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()] == ["real/a.mp4"]


def test_folders_and_settings_that_do_not_fit_are_refused(tmp_path):
    config = SimulatedConfig.preset("smoke")
    _claim(tmp_path / "set", config)
    _claim(tmp_path / "set", replace(config, jobs=7))  # changes nothing in the set
    with pytest.raises(InputError, match="with other fps, size_px; choose another folder"):
        _claim(tmp_path / "set", replace(config, fps=8.0, size_px=96))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="is not empty and holds no simulated set"):
        _claim(tmp_path / "other", config)
    with pytest.raises(InputError, match="No action 'fly'"):
        make_simulated_set(tmp_path / "new", replace(config, actions=("fly", "kick")))
    with pytest.raises(InputError, match="No simulated set 'huge'; known: smoke, tiny, recorded, viewpoint, small"):
        SimulatedConfig.preset("huge")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one_shot", "few_shot", "baseline"])
def test_benchmarks_tell_mistakes_in_one_line(name, tmp_path):
    script = str(SCRIPTS / f"{name}_benchmark.py")
    arguments = ["--real", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: Give both --real and --synthetic, or neither for the simulated set."
