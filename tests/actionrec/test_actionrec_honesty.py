"""What keeps a table honest: corrected probabilities, calibration, warnings, published numbers if comparable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.fake_clips import clip, film, sweeps

from actionrec import protocols
from actionrec.evaluation import Predictions, by_group, calibration_error, gain_interval, holm
from actionrec.manifest import read_manifest, write_manifest
from actionrec.mistakes import mistakes, strip
from actionrec.protocols import Cell, CellOutcome, Experiment, Results, gather, run_experiment
from actionrec.report import comparable, write_report
from actionrec.sources import folders
from actionrec.training import TrainingConfig

CLASSES = ("a", "b", "c")


def said(labels, scores, subjects=None) -> Predictions:
    subjects = subjects or [f"s{i}" for i in range(len(labels))]
    clips = [
        clip(id=str(i), label=CLASSES[n], subject=s) for i, (n, s) in enumerate(zip(labels, subjects, strict=True))
    ]
    return Predictions.of(clips, np.asarray(scores, float), CLASSES)


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_probabilities_agree_with_the_interval():
    rng = np.random.default_rng(2)
    for gain in (0.0, 0.1, 0.15, 0.2, 0.3):
        hard = rng.random(40)
        arms = [
            [said([0] * 40, np.eye(3)[np.where(hard < share, 0, 1)]) for _ in range(3)] for share in (0.5, 0.5 + gain)
        ]
        found = gain_interval(*arms)
        assert (found.low > 0) == (found.p < 0.05) or abs(found.p - 0.05) < 0.01
    assert gain_interval(arms[0], arms[0]).p == 1.0


def test_calibration_is_confidence_less_accuracy_by_bin():
    sure = [[0.9, 0.05, 0.05]] * 10
    assert calibration_error(said([0] * 9 + [1], sure)) == pytest.approx(0.0)
    assert calibration_error(said([0] * 5 + [1] * 5, sure)) == pytest.approx(0.4)
    two = said([0] * 10, [[0.9, 0.1, 0.0]] * 5 + [[0.4, 0.6, 0.0]] * 5)  # right and 0.1 too humble; wrong and 0.6 sure
    assert calibration_error(two) == pytest.approx((5 * 0.1 + 5 * 0.6) / 10)


def test_accuracy_by_person_is_over_their_own_clips():
    runs = [said([0, 0, 1], np.eye(3)[list(guess)], ["ann", "ann", "ben"]) for guess in ((0, 1, 1), (0, 0, 2))]
    assert by_group(runs) == {"ann": 0.75, "ben": 0.5}


def test_the_worst_mistakes_come_first_and_right_ones_never():
    runs = [said([0, 0, 1, 2], [[0.9, 0.1, 0], [0.3, 0.7, 0], [0.8, 0.2, 0], [0.1, 0.6, 0.3]])] * 2
    runs.append(said([0, 0, 1, 2], [[0.9, 0.1, 0], [0.6, 0.4, 0], [0.8, 0.2, 0], [0.1, 0.6, 0.3]]))
    found = mistakes(runs)
    assert [(m.id, m.true, m.said, m.wrong) for m in found] == [
        ("2", "b", "a", 3),
        ("3", "c", "b", 3),
        ("1", "a", "b", 2),
    ]
    assert found[0].confidence == pytest.approx(0.8)
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    assert strip(frames, 4)[0, ::3, 0].tolist() == [0, 3, 6, 9] and strip(frames[:2], 4).shape == (2, 6, 3)


def outcome(arm, *, loss=0.1, clips=(3600, 0), n_real=None) -> CellOutcome:
    run = said([0, 1, 2], np.eye(3))
    interval = protocols.accuracy_interval([run])
    return CellOutcome(Cell(arm, n_real, 0), (run,), clips, 0, 1.0, loss, 10.0, interval, None)


def test_published_numbers_stand_beside_ours_only_where_everything_is_the_same():
    training = TrainingConfig.preset("paper", recognizer="resnet50")
    experiment = Experiment("ntu", Path("r"), Path("s"), Path("o"), training, n_real=None)
    classes = tuple(str(i) for i in range(16))
    real, both = outcome("real"), outcome("real+synthetic", clips=(3600, 3600))
    same = Results(experiment, classes, 800, 10, 0, {}, (real, both), 1.0)
    assert comparable(same, real) == 8.66 and comparable(same, both) == 42.98
    for other in (
        replace(same, classes=classes[:15]),
        replace(same, test_clips=799),
        replace(same, experiment=replace(experiment, training=replace(training, steps=300))),
        replace(same, experiment=replace(experiment, dataset="simulated")),
    ):
        assert comparable(other, real) is None
    assert comparable(same, outcome("real", clips=(3599, 0))) is None
    assert comparable(same, outcome("real", n_real=1, clips=(16, 0))) is None


def test_an_arm_that_had_not_learnt_its_clips_is_told():
    told = protocols._unlearnt([outcome("real"), outcome("half-real", loss=0.4), outcome("real+synthetic", loss=0.9)])
    assert len(told) == 2 and "real+synthetic" in told[1] and "0.90, `real` with 0.10" in told[1]
    assert not protocols._unlearnt([outcome("real", loss=0.5), outcome("half-real", loss=0.7)])


@pytest.mark.slow
def test_classes_short_of_clips_are_told_and_a_share_holds_where_there_are_two_kinds(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for label, name in enumerate(("right", "left")):
        for i in range(4):
            film(tmp_path / "videos" / ("train" if i < 2 else "test") / name / f"s{i}__{i}.mp4", sweeps(label, rng))
        for i in range(4 - 2 * label):
            film(tmp_path / "made" / name / f"av__{i}.mp4", sweeps(label, rng))
    real, made = folders.build(tmp_path / "videos"), folders.build(tmp_path / "made")
    real.save(tmp_path / "real.jsonl")
    made.save(tmp_path / "made.jsonl")
    sources = {n: [c.source for c in real.clips if c.label == n and c.split == "train"] for n in ("right", "left")}
    clips = [
        replace(c, kind="synthetic", source=sources[c.label][i % 2], source_video="", identity="av")
        for i, c in enumerate(read_manifest(tmp_path / "made.jsonl"))
    ]  # fmt: skip
    write_manifest(tmp_path / "made.jsonl", clips)
    training = replace(TrainingConfig.preset("tiny").seen_at(32), steps=3, real_share=0.5)
    plan = Experiment(
        "made-up", tmp_path / "real.jsonl", tmp_path / "made.jsonl", tmp_path / "out", training, n_real=(2,),
        n_synthetic=(4,), arms=("real", "real+synthetic", "synthetic"), seeds=(0,),
    )  # fmt: skip
    results = run_experiment(plan)
    short = "real+synthetic_r2_s4: 1 of 2 classes have fewer than 4 synthetic clips; the fewest, left, has 2."
    assert short in results.warnings and short in capsys.readouterr().err
    assert protocols._trained_as(plan, Cell("real", 2, 0), 0).real_share is None
    assert protocols._trained_as(plan, Cell("real+synthetic", 2, 4), 0).real_share == 0.5
    page = write_report(results, tmp_path / "report", command="x").read_text(encoding="utf-8")
    assert short.replace("&", "&amp;") in page and "expected calibration error" in page and "p (Holm)" in page
    wrong = [c for c in gather(plan).split.test if any(c.id == m.id for m in mistakes(results.outcomes[1].runs))]
    assert page.count("<figure>") == len(wrong) and ("data:image/jpeg" in page) == bool(wrong)
