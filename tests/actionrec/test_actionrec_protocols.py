"""Scores and intervals are right; experiments audit first, pair their arms, go on where they stopped, and report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes.fake_clips import clip, film, sweeps

from actionrec import protocols
from actionrec.audit import LeakError
from actionrec.clips import ClipConfig
from actionrec.errors import DataError
from actionrec.evaluation import (
    Predictions,
    accuracy_interval,
    fold_interval,
    gain_interval,
    load_run,
    save_run,
    score,
)
from actionrec.manifest import read_manifest, write_manifest
from actionrec.protocols import ARMS, Experiment, cells_of, gather, run_experiment, training_set
from actionrec.published import published
from actionrec.recognizers import Small
from actionrec.report import summary, table, write_report
from actionrec.sources import folders
from actionrec.training import TrainingConfig

CLASSES = ("a", "b", "c")
TRAINING = TrainingConfig(
    Small(frames=6, size=32, width=6, dropout=0.0),
    ClipConfig(frames=6, size=32, train_short_side=(32, 36), flip=0.0, cache_short_side=36),
    steps=40, batch=8, lr=5e-3, optimizer="adamw", schedule="cosine", warmup=0.1, ema=0.9,
)  # fmt: skip


def predictions(labels, predicted, subjects=None) -> Predictions:
    subjects = subjects or [f"s{i}" for i in range(len(labels))]
    clips = [
        clip(id=str(i), label=CLASSES[l], subject=s) for i, (l, s) in enumerate(zip(labels, subjects, strict=True))
    ]
    return Predictions.of(clips, 0.2 + 0.4 * np.eye(3)[predicted], CLASSES)


def test_scores_are_counted_right():
    found = score(predictions([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]))
    assert found.top1 == pytest.approx(3 / 6) and found.top5 == 1.0
    assert found.per_class == {"a": pytest.approx(2 / 3), "b": 0.5, "c": 0.0}
    assert found.macro == pytest.approx((2 / 3 + 0.5) / 3)
    assert found.confusion == [[2, 1, 0], [1, 1, 0], [1, 0, 0]] and found.largest_share == pytest.approx(4 / 6)
    with pytest.raises(DataError, match="no test clip"):
        score(Predictions.of([], np.zeros((0, 3)), CLASSES))
    with pytest.raises(DataError, match="2 predictions for 1 clips"):
        Predictions.of([clip(id="a")], np.zeros((2, 3)), CLASSES)


def test_the_interval_of_the_mean_is_that_of_theory():
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.7
    interval = accuracy_interval([predictions([0] * 400, [0 if r else 1 for r in right])])
    theory = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert interval.mean == pytest.approx(right.mean())
    assert interval.high - interval.low == pytest.approx(2 * theory, rel=0.1)


def test_clips_of_one_subject_count_as_one_draw():
    labels, guesses = [0] * 60, [0] * 30 + [1] * 30  # half of the subjects are always right
    alone = accuracy_interval([predictions(labels, guesses)])
    grouped = accuracy_interval([predictions(labels, guesses, [f"s{i // 10}" for i in range(60)])])
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_gains_are_paired():
    rng = np.random.default_rng(1)
    hard = (rng.random(90) < 0.5).astype(int)  # clips that both arms get wrong
    better = np.where(np.arange(90) % 5 == 0, 0, hard)
    without, with_ = ([predictions([0] * 90, g.tolist())] * 3 for g in (hard, better))
    gain = gain_interval(without, with_)
    assert gain.mean == pytest.approx((hard.sum() - better.sum()) / 90) and gain.low > 0
    none = gain_interval(without, without)
    assert none.low == none.high == 0.0
    with pytest.raises(DataError, match="same seeds"):
        gain_interval(without, with_[:2])


def _folds(rng, spread: float, gain: float) -> tuple[list, list]:
    """Two arms of 4 training persons, 3 seeds, 3 test subjects of 10 clips. The true gain is `gain`; that of a training
    person and of a test subject varies by `spread`."""
    without, with_ = [], []
    subjects = [f"s{i // 10}" for i in range(30)]
    for _ in range(4):
        own = gain + spread * rng.standard_normal() + np.repeat(spread * rng.standard_normal(3), 10)
        hard = rng.random(30)  # the same clips are hard in every seed and arm
        for arm, added in ((without, 0.0), (with_, own)):
            right = [0.8 * hard + 0.2 * rng.random(30) < 0.5 + added for _ in range(3)]
            arm.append([predictions([0] * 30, np.where(r, 0, 1).tolist(), subjects) for r in right])
    return without, with_


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "least"), [(0.03, 0.93), (0.1, 0.84)])
def test_the_interval_over_training_persons_holds_the_truth_as_often_as_it_says(spread, least):
    rng = np.random.default_rng(3)
    many = [_folds(rng, spread, 0.1) for _ in range(1500)]  # the mean gain of the model, clipped probabilities and all
    truth = np.mean([np.mean([[r.correct.mean() for r in runs] for runs in w]) -
                     np.mean([[r.correct.mean() for r in runs] for runs in o]) for o, w in many])  # fmt: skip
    found = [fold_interval(w, less=o, draws=600) for o, w in many[:150]]
    held = np.mean([i.low <= truth <= i.high for i in found])
    assert held >= least
    assert np.mean([i.mean for i in found]) == pytest.approx(truth, abs=0.02)


def test_folds_are_paired_and_of_one_mean():
    rng = np.random.default_rng(0)
    without, with_ = _folds(rng, 0.0, 0.2)
    assert fold_interval(without, less=without).low == 0.0 == fold_interval(without, less=without).high
    both = [fold_interval(arm).mean for arm in (without, with_)]
    assert fold_interval(with_, less=without).mean == pytest.approx(both[1] - both[0])
    with pytest.raises(DataError, match="same folds, seeds"):
        fold_interval(with_, less=without[::-1][:3])


def test_runs_are_saved_with_settings_and_hashes(tmp_path):
    manifest = write_manifest(tmp_path / "m.jsonl", [clip(id="a")])
    run = predictions([0, 1], [0, 2])
    path = save_run(tmp_path / "r.json", run, config={"lr": 1}, manifests={"real": manifest})
    document = json.loads(path.read_text())
    assert document["config"] == {"lr": 1} and len(document["manifests"]["real"]) == 64
    loaded = load_run(path)
    assert loaded.ids == run.ids and np.allclose(loaded.scores, run.scores)
    with pytest.raises(DataError, match="is no saved run"):
        load_run(manifest)


def test_published_numbers_are_of_the_same_data_set_and_recognizer_alone():
    assert published("smarthome", "resnet50", "real") == 20.46
    assert published("ntu", "slowfast", "real+synthetic") == 36.29
    assert published("simulated", "resnet50", "real") is None and published("ntu", "x3d", "real") is None


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Moving bars: a real set with subjects and splits, and "synthetic" clips made from its training clips."""
    root = tmp_path_factory.mktemp("bars")
    rng = np.random.default_rng(0)
    names = ["right", "left", "down", "up"]
    for label, name in enumerate(names):
        for i in range(7):
            film(root / "videos" / ("train" if i < 3 else "test") / name / f"s{i}__{i}.mp4", sweeps(label, rng))
        for i in range(6):
            film(root / "made" / name / f"av{i % 2}__{i}.mp4", sweeps(label, rng))
    real = folders.build(root / "videos")
    real.save(root / "real.jsonl")
    made = folders.build(root / "made")
    sources = {n: [c.source for c in real.clips if c.label == n and c.split == "train"] for n in names}
    made.save(root / "plain.jsonl")
    clips = [
        replace(c, kind="synthetic", source=sources[c.label][i % 3], background=f"room{i % 2}", source_video="")
        for i, c in enumerate(read_manifest(root / "plain.jsonl"))
    ]  # fmt: skip
    write_manifest(root / "made.jsonl", clips)
    return root


def experiment(root, out, **changes) -> Experiment:
    return Experiment("made-up", root / "real.jsonl", root / "made.jsonl", out, TRAINING, **changes)


@pytest.mark.slow
def test_one_shot_trains_on_one_clip_and_on_what_was_made_from_it(bars, tmp_path):
    material = gather(experiment(bars, tmp_path))
    one, both = (
        training_set(material, protocols.Cell(arm, 1, n), 0) for arm, n in (("real", 0), ("real+synthetic", 9))
    )
    assert len(one) == 4 and set(one) < set(both)
    references = {c.source for c in both if c.kind == "synthetic"}
    assert references == {c.source for c in one}
    alone = training_set(material, protocols.Cell("synthetic", 1, 9), 0)
    assert {c.kind for c in alone} == {"synthetic"} and set(alone) < set(both)


@pytest.mark.slow
def test_a_clip_whose_motion_was_not_read_is_drawn_in_no_arm(bars, tmp_path, capsys):
    clips = read_manifest(bars / "made.jsonl")
    lost = sorted({c.source for c in clips if c.label == "up"})[:2]
    write_manifest(bars / "lost.jsonl", [c for c in clips if c.source not in lost])
    made = replace(experiment(bars, tmp_path), synthetic=bars / "lost.jsonl")
    material = gather(made)
    assert "2 of 12 training clips are drawn in no arm" in capsys.readouterr().err
    for arm, n in (("real", 0), ("real+synthetic", 9)):
        for seed in range(6):
            chosen = training_set(material, protocols.Cell(arm, 1, n), seed)
            assert not {c.source for c in chosen} & set(lost)
    everything = training_set(material, protocols.Cell("real", None, 0), 0)
    assert set(lost) <= {c.source for c in everything}
    alone = gather(replace(made, arms=("real",)))
    assert alone.drawn == alone.split.train and not capsys.readouterr().err


def test_cells_are_arms_times_numbers():
    made = Experiment("x", "r", "s", "o", arms=("real", "real+synthetic"), n_real=(1, 5), n_synthetic=(0, 50, 100))  # type: ignore[arg-type]
    assert [str(c) for c in cells_of(made)] == [
        "real_r1_s0", "real+synthetic_r1_s50", "real+synthetic_r1_s100",
        "real_r5_s0", "real+synthetic_r5_s50", "real+synthetic_r5_s100",
    ]  # fmt: skip
    with pytest.raises(DataError, match="known arms: real"):
        Experiment("x", "r", "s", "o", arms=("reel",))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="need a manifest of synthetic clips"):
        Experiment("x", "r", None, "o")  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_experiment_runs_goes_on_and_reports(bars, tmp_path, monkeypatch):
    arms = ARMS
    quick = replace(TRAINING, steps=6)
    made = replace(experiment(bars, tmp_path, arms=arms, n_synthetic=(2,), seeds=(0, 1)), training=quick)
    results = run_experiment(made)
    assert len(results.outcomes) == len(ARMS) == 12 and all(len(o.runs) == 2 for o in results.outcomes)
    assert results.test_clips == 16 and results.test_subjects == 4
    assert results.outcome("real").gain is None and results.outcome("half-real").gain is not None
    head = summary(results)
    keys = {"accuracy_real", "accuracy_real_synthetic", "gain", "gain_low", "gain_high", "classes", "seeds", "seconds"}
    assert keys <= set(head) and head["classes"] == 4 and head["seeds"] == 2
    assert head["gain"] == pytest.approx(head["accuracy_real_synthetic"] - head["accuracy_real"], abs=1e-3)
    page = write_report(results, tmp_path / "report", command="python x.py", json_path=tmp_path / "j.json")
    text = page.read_text()
    assert "data:image/png;base64," in text and "http" not in text and "Beside the published" not in text
    assert json.loads((tmp_path / "j.json").read_text())["gain"] == head["gain"]
    assert "pretrain-finetune" in table(results)
    assert not list((tmp_path / "training").rglob("*.pt"))
    monkeypatch.setattr(protocols, "train", lambda *a, **k: pytest.fail("trained again"))
    again = run_experiment(made)
    assert [o.accuracy for o in again.outcomes] == [o.accuracy for o in results.outcomes]
    with pytest.raises(DataError, match="of other clips or settings"):
        run_experiment(replace(made, training=replace(quick, lr=1.0)))


@pytest.mark.slow
def test_a_leak_stops_the_experiment_before_training(bars, tmp_path, monkeypatch):
    monkeypatch.setattr(protocols, "train", lambda *a, **k: pytest.fail("trained"))
    clips = read_manifest(bars / "made.jsonl")
    leaky = [replace(c, identity="s5") for c in clips]  # s5 is a test subject
    write_manifest(bars / "leaky.jsonl", leaky)
    with pytest.raises(LeakError, match="identity 1 "):
        run_experiment(replace(experiment(bars, tmp_path), synthetic=bars / "leaky.jsonl"))


@pytest.mark.slow
def test_real_clips_alone_may_be_augmented_or_trained_as_long(bars, tmp_path):
    arms = ("real", "real-as-long", "real+synthetic", "real-augmented")
    plan = replace(experiment(bars, tmp_path, seeds=(0,), arms=arms, n_synthetic=(3,)), training=replace(
        TRAINING, steps=None, epochs=2))  # fmt: skip
    results = run_experiment(plan)
    runs = {
        arm: json.loads((tmp_path / "runs" / f"{results.outcome(arm).cell}_seed0.json").read_text()) for arm in arms
    }
    assert {arm: run["train_clips"] for arm, run in runs.items()} == {
        "real": [4, 0], "real-as-long": [4, 0], "real-augmented": [4, 0], "real+synthetic": [4, 8],
    }  # fmt: skip
    assert [runs[arm]["steps"] for arm in arms] == [1, 3, 3, 1]
    assert runs["real-augmented"]["config"]["clips"]["color"] > 0 == runs["real"]["config"]["clips"]["color"]
    assert {o.cell.arm for o in results.outcomes if o.gain is None} == {"real"}
    with pytest.raises(DataError, match="which is not among the arms"):
        replace(plan, arms=("real", "real-as-long"))


@pytest.mark.slow
def test_manifests_that_do_not_go_together_are_refused_with_counts(bars, tmp_path):
    clips = read_manifest(bars / "made.jsonl")
    write_manifest(bars / "odd.jsonl", [replace(c, label="Up") if c.label == "up" else c for c in clips])
    with pytest.raises(DataError, match="6 of 24 clips have an unknown class: Up; known: down, left"):
        gather(replace(experiment(bars, tmp_path), synthetic=bars / "odd.jsonl"))
    write_manifest(bars / "few.jsonl", [c for c in clips if c.label != "up"])
    with pytest.raises(DataError, match="1 of 4 classes have no synthetic clip: up"):
        run_experiment(replace(experiment(bars, tmp_path), synthetic=bars / "few.jsonl"))
    with pytest.raises(DataError, match="4 of 4 classes have fewer than 9 clips: down 3"):
        run_experiment(experiment(bars, tmp_path, n_real=(9,)))
    with pytest.raises(DataError, match="No manifest at"):
        gather(replace(experiment(bars, tmp_path), real=bars / "none.jsonl"))
