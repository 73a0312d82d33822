"""A folder of real clips becomes one split for every person, and what cannot become one is refused before any work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes.fake_clips import clip, film, sweeps
from real_folder import RealFolderConfig, RealFolderSet, _claim, _write_folds, make_real_folder_set
from real_folder_gain import experiment_of, measure

from actionrec.clips import ClipConfig
from actionrec.manifest import read_manifest, write_manifest
from actionrec.protocols import Experiment
from actionrec.recognizers import Small
from actionrec.sources import folders
from actionrec.training import TrainingConfig
from avatars.errors import InputError


def test_each_person_is_known_once_and_everybody_else_tested(tmp_path):
    clips = [
        clip(id=f"{l}{p}", path=str(tmp_path / f"{l}_{p}.avi"), label=l, subject=p, source=f"{l}_{p}", sha256=f"{l}{p}")
        for l in ("bend", "run") for p in ("ann", "ben", "cy")
    ]  # fmt: skip
    made = [replace(c, id=f"made {c.id}", kind="synthetic", subject="avatar_900", identity="studio") for c in clips]
    persons = _write_folds(tmp_path, clips, [c for c in made if c.source != "run_cy"])
    assert persons == ("ann", "ben"), "of cy's run nothing was made"
    for person in persons:
        real = read_manifest(tmp_path / f"real_{person}.jsonl")
        assert {c.subject for c in real if c.split == "train"} == {person}
        assert {c.subject for c in real if c.split == "test"} == {"ann", "ben", "cy"} - {person}
        assert {c.source for c in read_manifest(tmp_path / f"synthetic_{person}.jsonl")} == {
            f"bend_{person}", f"run_{person}",
        }  # fmt: skip


def test_folders_that_name_nobody_are_refused_at_once(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        film(tmp_path / "clips" / name / "1.mp4", sweeps(0, rng))
    with pytest.raises(InputError, match="names 0 people in its clips; at least two are needed"):
        make_real_folder_set(tmp_path / "clips", tmp_path / "out", RealFolderConfig())
    assert not (tmp_path / "out").exists()


def test_a_set_of_other_settings_is_not_touched(tmp_path):
    clips = [clip(id="a", sha256="1")]
    _claim(tmp_path / "set", clips, RealFolderConfig())
    _claim(tmp_path / "set", clips, RealFolderConfig(jobs=7))
    with pytest.raises(InputError, match="with other avatars; choose another folder"):
        _claim(tmp_path / "set", clips, RealFolderConfig(avatars=3))
    with pytest.raises(InputError, match="with other clips"):
        _claim(tmp_path / "set", [clip(id="a", sha256="2")], RealFolderConfig())


@pytest.mark.slow
def test_what_is_gained_is_the_mean_over_persons(tmp_path):
    rng = np.random.default_rng(0)
    for label, name in enumerate(["right", "left", "down"]):
        for person in ("ann", "ben", "cy"):
            film(tmp_path / "videos" / name / f"{person}__1.mp4", sweeps(label, rng))
        for i in range(3):
            film(tmp_path / "made" / name / f"av{i}__{i}.mp4", sweeps(label, rng))
    clips = [replace(c, source=f"{c.label}_{c.subject}") for c in folders.build(tmp_path / "videos").clips]
    people = ["ann", "ben", "cy"]
    made = [
        replace(c, kind="synthetic", source=f"{c.label}_{people[i % 3]}", source_video="", identity="studio")
        for i, c in enumerate(folders.build(tmp_path / "made").clips)
    ]  # fmt: skip
    (tmp_path / "set").mkdir()
    write_manifest(tmp_path / "all.jsonl", clips)
    persons = _write_folds(tmp_path / "set", clips, made)
    assert persons == ("ann", "ben", "cy")
    training = TrainingConfig(
        Small(frames=6, size=32, width=6, dropout=0.0),
        ClipConfig(frames=6, size=32, train_short_side=(32, 36), flip=0.0, cache_short_side=36), steps=6, batch=4,
    )  # fmt: skip
    folder = RealFolderSet(tmp_path / "set", persons, (), {})
    template = Experiment(
        "made-up",
        tmp_path,
        tmp_path,
        tmp_path,
        training,
        arms=("real", "real+synthetic", "real-augmented"),
        seeds=(0, 1),
    )
    found = measure(folder, template, 1)
    numbers = found.as_dict()
    for key in ("accuracy_real", "accuracy_real_synthetic", "accuracy_real_augmented"):
        assert 0 <= numbers[key] <= 1
    assert numbers["gain"] == pytest.approx(numbers["accuracy_real_synthetic"] - numbers["accuracy_real"], abs=1e-3)
    assert numbers["gain_low"] <= numbers["gain"] <= numbers["gain_high"]
    means = [found.by_person[p]["real"] for p in persons]
    assert numbers["accuracy_real"] == pytest.approx(np.mean(means), abs=1e-3)
    assert numbers["test_clips"] == 6 and numbers["synthetic_clips"] == 3
    assert "real-augmented" in found.table() and found.steps == {arm: 6.0 for arm in found.accuracy}
    assert experiment_of(folder, "ben", template).out == tmp_path / "set" / "runs" / "ben"
