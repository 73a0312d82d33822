"""A recipe is checked before work; videos keep to their times; references are chosen by the seed; counts are exact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.fake_clips import clip, film, sweeps
from fakes.tiny_batch import make_avatar, make_motion, write_material

from actionrec.manifest import read_manifest, write_manifest
from avatars.body import load_body
from avatars.commands import console
from avatars.errors import InputError
from avatars.io.files import sha256_of
from avatars.io.video import load_frames, probe, write_video
from reenact.reproduction import stages
from reenact.reproduction.command import ReproduceCommand
from reenact.reproduction.costs import costs_of
from reenact.reproduction.recipe import Counts, Recipe, Timing, load_recipe, parse_recipe
from reenact.reproduction.references import candidates, choose_references
from reenact.reproduction.standard_video import frames_at, standard_video

PAPER = Counts()


def document(folder: Path, **changes) -> dict:
    for name in ("a.mp4", "b.mp4", "room.png"):
        (folder / name).touch()
    write_manifest(folder / "real.jsonl", [clip(id="x", split="train")])
    return {
        "out": "runs/x", "dataset": {"kind": "manifest", "folder": "real.jsonl"}, "identities": ["*.mp4"],
        "places": ["room.png"], "counts": {"references": 1, "identities": 2, "places_per_pair": 1, "real": 2,
        "synthetic": 2, "test": 2, "few_real": [1], "few_synthetic": [0, 2]},
    } | changes  # fmt: skip


def test_the_papers_counts_are_the_default_and_can_be_had():
    assert (PAPER.references * PAPER.identities * PAPER.places_per_pair, PAPER.synthetic, PAPER.real) == (225, 225, 225)
    assert PAPER.test == 50 and PAPER.few_real == (1, 5) and PAPER.few_synthetic == (0, 50, 100, 150, 200)
    recipe = Recipe(Path("o"), None, tuple(Path(f"{i}.mp4") for i in range(15)), ())
    assert stages.counts_asked(recipe, 16)["synthetic clips"] == 3600
    assert recipe.identity_video.frames == 324 and recipe.reference_video.frames == 500
    small = PAPER.scaled(0.02)
    assert (small.references, small.identities, small.real, small.synthetic, small.test) == (1, 1, 4, 4, 1)
    assert small.few_synthetic == (0, 1, 2, 3, 4) and small.few_real == (1,) and small.places_per_pair == 3


@pytest.mark.parametrize(("change", "message"), [
    ({"countz": {}}, "unknown key 'countz'. Did you mean 'counts'?"),
    ({"places": ["none.png"]}, "places: nothing at"),
    ({"dataset": {"kind": "ntu"}}, "dataset: folder missing"),
    ({"dataset": {"kind": "kth", "folder": "."}}, "expected one of ntu, smarthome, manifest"),
    ({"counts": {"identities": 3, "synthetic": 1, "few_synthetic": [0]}}, "2 identity videos are given and"),
    ({"counts": {"identities": 2, "places_per_pair": 2}}, "1 places are given and"),
    ({"counts": {"references": 1, "identities": 2, "places_per_pair": 1, "synthetic": 3, "few_synthetic": [0]}},
     "1 references x 2 avatars x 1 places make 2 synthetic clips per class; 3 are asked for"),
    ({"recognizers": ["resnet"]}, "expected one of resnet50, slowfast"),
])  # fmt: skip
def test_a_wrong_recipe_is_refused_naming_what(tmp_path, change, message):
    with pytest.raises(InputError) as error:
        parse_recipe(document(tmp_path, **change), tmp_path)
    assert message in str(error.value)


def test_a_recipe_is_scaled_and_its_costs_told(tmp_path, capsys):
    import yaml

    (tmp_path / "r.yaml").write_text(yaml.safe_dump(document(tmp_path)))
    recipe = load_recipe(tmp_path / "r.yaml", scale=0.5)
    assert len(recipe.identities) == 1 and recipe.counts.real == 2 and recipe.out == tmp_path / "runs/x"
    with pytest.raises(InputError, match="more than 0"):
        recipe.scaled(0.0)
    assert console.run(ReproduceCommand(tmp_path / "r.yaml", dry_run=True)) == console.DONE
    told = capsys.readouterr().out
    assert "synthetic clips" in told and "2 avatars" in told and not (tmp_path / "runs").exists()
    whole = Recipe(Path("o"), None, tuple(Path(f"{i}.mp4") for i in range(15)), ())
    costs = costs_of(whole, 16)
    assert costs.rows[2][1] == "3600 synthetic clips" and costs.hours == pytest.approx(sum(r[2] for r in costs.rows))
    assert costs_of(replace(whole, quality="draft"), 16).hours < costs.hours


def test_frames_are_taken_by_their_times():
    times = np.cumsum([0.0] + [1 / 30, 1 / 15] * 600)  # of a phone that drops frames: 60 s
    turn = frames_at(times, Timing(18, 18), whole=True)
    assert len(turn) == 324 and np.allclose(times[turn], np.linspace(0, 60 - 60 / 324, 324), atol=0.1)
    begun = frames_at(times, Timing(20, 25), whole=False)
    assert len(begun) == 500 and np.allclose(times[begun], np.arange(500) / 25, atol=0.04)
    short = frames_at(np.arange(90) / 30, Timing(20, 25), whole=False)
    assert len(short) == 75 and (np.diff(short) >= 1).all(), "three seconds stay three seconds"


def test_a_standard_video_is_as_long_as_asked_and_made_once(tmp_path):
    frames = np.full((120, 32, 32, 3), 10, np.uint8) + (2 * np.arange(120, dtype=np.uint8)[:, None, None, None])
    write_video(tmp_path / "a.mp4", frames, fps=30.0)
    made = standard_video(tmp_path / "a.mp4", tmp_path / "b.mp4", Timing(2.0, 18.0), whole=True)
    shown, info = load_frames(made)
    assert abs(len(shown) - 36) <= 1 and info.fps == pytest.approx(18.0)
    assert shown[-1].mean() - shown[0].mean() > 150, "a longer turn is gone through whole"
    written = made.read_bytes()
    standard_video(tmp_path / "gone.mp4", made, Timing(1.0, 5.0), whole=False)
    assert made.read_bytes() == written


def test_references_follow_from_the_seed_take_people_in_turn_and_are_not_judged_twice(tmp_path):
    clips = [
        clip(id=f"{label}{i}", label=label, subject=f"P{i % 3}",
             split="train" if i < 6 else "test", sha256=f"{i}{label}")
        for label in ("kick", "wave") for i in range(8)
    ]  # fmt: skip
    order = [c.id for c in candidates(clips, "kick", 0)]
    assert len(order) == 6 and len({clips_of.subject for clips_of in candidates(clips, "kick", 0)[:3]}) == 3
    assert order == [c.id for c in candidates(clips, "kick", 0)] != [c.id for c in candidates(clips, "kick", 5)]
    judged = []

    def judge(one):
        judged.append(one.id)
        return "two people" if one.id == order[0] else ""

    found = choose_references(clips, 2, judge, tmp_path / "r.json", seed=0)
    taken = [v.id for v in found if v.accepted]
    assert [i for i in taken if i.startswith("kick")] == order[1:3] and len(taken) == 4
    again = choose_references(clips, 2, lambda one: pytest.fail("judged twice"), tmp_path / "r.json", seed=0)
    assert again == found and json.loads((tmp_path / "r.json").read_text())["verdicts"][0]["reason"] == "two people"
    with pytest.raises(InputError, match=r"1 of 2 classes have fewer than 6 suitable references: kick 5.*two people"):
        choose_references(clips, 6, judge, tmp_path / "other.json", seed=0)


@pytest.fixture
def experiment(tmp_path, monkeypatch) -> Path:
    """A recipe over moving bars, whose references are tracked and avatars fitted by nobody: both are put there."""
    import yaml

    rng = np.random.default_rng(0)
    clips = []
    for label, name in enumerate(("right", "left")):
        for i in range(6):
            split = "train" if i < 4 else "test"
            path = film(tmp_path / "videos" / split / name / f"s{i}__{i}.mp4", sweeps(label, rng))
            info = probe(path)
            clips.append(
                clip(id=f"{name}{i}", path=f"videos/{split}/{name}/s{i}__{i}.mp4", label=name, subject=f"s{i}",
                     source=f"{name}{i}", split=split, n_frames=info.n_frames, fps=info.fps, size_hw=info.size_hw,
                     sha256=sha256_of(path))
            )  # fmt: skip
    write_manifest(tmp_path / "real.jsonl", clips)
    write_material(tmp_path, load_body())
    body = load_body()

    def tracked(recipe, one, folder):
        if one.id == "left0":
            return "somebody else is there as well"
        motion = folder / "motions" / f"{one.id}.npz"
        if not motion.is_file():
            motion.parent.mkdir(parents=True, exist_ok=True)
            make_motion(body, frames=8 + int(one.id[-1])).save(motion)
        return ""

    def fitted(recipe):
        for tall, video in enumerate(recipe.identities):
            if not (recipe.out / "avatars" / video.stem).exists():
                make_avatar(body, tall=float(tall)).save(recipe.out / "avatars" / video.stem)

    monkeypatch.setattr(stages, "tracked", tracked)
    monkeypatch.setattr(stages, "fit_avatars", fitted)
    recipe = {
        "out": "runs/bars", "dataset": {"kind": "manifest", "folder": "real.jsonl"},
        "identities": ["identities/ann.mp4", "identities/ben.mp4"], "places": ["gray.png", "night.png"],
        "counts": {"references": 2, "identities": 2, "places_per_pair": 2, "real": 3, "synthetic": 4, "test": 2,
                   "few_real": [1], "few_synthetic": [0, 2, 4]},
        "size_px": 96, "fps": 5, "preset": "tiny", "recognizers": ["small"], "steps": 2, "seeds": 1,
    }  # fmt: skip
    (tmp_path / "identities").mkdir()
    for name in ("ann", "ben"):
        (tmp_path / "identities" / f"{name}.mp4").touch()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "recipe.yaml"


@pytest.mark.slow
def test_an_experiment_has_exactly_the_clips_that_were_asked_for_and_goes_on(experiment, monkeypatch, capsys):
    def all_pass(dataset, jobs):
        write_manifest(dataset / "accepted.jsonl", read_manifest(dataset / "manifest.jsonl"))
        (dataset / "gate.json").write_text("{}")

    monkeypatch.setattr(stages, "_filter", all_pass)
    recipe = load_recipe(experiment)
    real_recognize = stages.recognize
    monkeypatch.setattr(stages, "recognize", lambda r: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        stages.reproduce(recipe, jobs=1)
    made = {p: p.stat().st_mtime_ns for p in (recipe.out / "dataset" / "clips").rglob("*.mp4")}
    assert len(made) == 16
    monkeypatch.setattr(stages, "recognize", real_recognize)
    assert console.run(ReproduceCommand(experiment, jobs=1)) == console.DONE
    assert {p: p.stat().st_mtime_ns for p in made} == made, "what was made stays"
    text = (recipe.out / "index.html").read_text(encoding="utf-8")
    assert "differs" not in text and "somebody else is there as well" in text and "data:image/png" in text
    assert "counts as asked for" in capsys.readouterr().out
    results = stages.recognize(recipe)
    base, few = results["baseline, small"], results["few-shot, small"]
    assert [o.train_clips for o in base.outcomes] == [(6, 0), (6, 8)] and base.test_clips == 4
    assert [o.train_clips for o in few.outcomes] == [(2, 0), (2, 4), (2, 8)]
    assert {c.identity for c in read_manifest(recipe.out / "synthetic.jsonl")} == {"ann", "ben"}
    other = replace(recipe, seed=5)
    with pytest.raises(InputError, match="holds an experiment with other seed; choose another `out`"):
        stages.reproduce(other, jobs=1)


@pytest.mark.slow
def test_a_test_persons_avatar_is_a_leak_and_too_few_accepted_clips_are_told(experiment, monkeypatch):
    def one_lost(dataset, jobs):
        clips = read_manifest(dataset / "manifest.jsonl")
        write_manifest(dataset / "accepted.jsonl", sorted(clips, key=lambda c: c.label)[5:])
        (dataset / "gate.json").write_text("{}")

    monkeypatch.setattr(stages, "_filter", one_lost)
    recipe = load_recipe(experiment)
    with pytest.raises(InputError, match=r"classes have fewer than 4 accepted synthetic clips.*Nothing was cut to fit"):
        stages.reproduce(recipe, jobs=1)
    leaky = replace(recipe, out=recipe.out.with_name("leaky"), identities=(Path("s4.mp4"), Path("ben.mp4")))

    def all_pass(dataset, jobs):
        write_manifest(dataset / "accepted.jsonl", read_manifest(dataset / "manifest.jsonl"))
        (dataset / "gate.json").write_text("{}")

    monkeypatch.setattr(stages, "_filter", all_pass)
    with pytest.raises(InputError, match="identity"):
        stages.reproduce(leaky, jobs=1)


def test_too_few_real_clips_are_told_before_any_work(experiment):
    recipe = load_recipe(experiment)
    for counts, split in (({"real": 5}, "train"), ({"test": 3}, "test")):
        with pytest.raises(InputError, match=f"2 of 2 classes have fewer than . clips for {split}: left"):
            stages.reproduce(replace(recipe, counts=replace(recipe.counts, **counts)), jobs=1)
        (recipe.out / "recipe.json").unlink()
