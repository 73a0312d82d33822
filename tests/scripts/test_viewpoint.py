"""Front views are known, side views tested; both synthetic sets are held against the same real clips."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import simulated_world
from fakes.fake_clips import film, sweeps
from simulated_world import SimulatedConfig, SimulatedScene, SimulatedSet, _azimuth_deg
from viewpoint_benchmark import ViewpointOptions, run

from actionrec.manifest import write_manifest
from actionrec.sources import folders
from avatars.errors import InputError


def test_training_clips_are_filmed_from_the_front_and_test_clips_from_the_side():
    config, rng = SimulatedConfig.preset("viewpoint"), np.random.default_rng(0)
    known, tested = (
        np.array([_azimuth_deg(SimulatedScene(1, "kick", 0, split), config, rng) for _ in range(200)])
        for split in ("train", "test")
    )
    assert np.abs(known).max() <= 20 and np.abs(tested).min() >= 60 and np.abs(tested).max() <= 90
    assert (tested > 0).any() and (tested < 0).any() and config.heading_deg == 90


def test_people_turn_to_all_sides_and_stay_as_filmed_beside(tmp_path, monkeypatch):
    batches = {}
    monkeypatch.setattr(simulated_world, "_reenacted", lambda out, batch, name: batches.update({name: batch}) or [])
    monkeypatch.setattr(simulated_world, "plate_of", lambda room, camera: None)
    monkeypatch.setattr("avatars.studio.raycast.developed", lambda plate: np.zeros((8, 8, 3), np.uint8))
    config = replace(SimulatedConfig.preset("viewpoint"), places=2)
    assert simulated_world.reenact_all(tmp_path, config) == []
    headings = {name: [place["heading_deg"] for place in b["backgrounds"]] for name, b in batches.items()}
    assert headings == {"": [[-90.0, 90.0]] * 2, "_front": [[-20.0, 20.0]] * 2}
    assert batches["_front"]["out"] == "dataset_front" and batches[""]["out"] == "dataset"
    told = {key for place in batches[""]["backgrounds"] for key in place}
    assert told == {"path", "heading_deg"}, "no photograph tells its camera's height"


@pytest.mark.slow
def test_both_sets_are_measured_and_told(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    made = SimulatedSet(tmp_path / "set", (), {})
    for label, name in enumerate(("right", "left")):
        for i in range(4):
            film(made.folder / "videos" / ("train" if i < 2 else "test") / name / f"s{i}__{i}.mp4", sweeps(label, rng))
        for folder in ("side", "front"):
            for i in range(2):
                film(made.folder / folder / name / f"av__{i}.mp4", sweeps(label, rng))
    real = folders.build(made.folder / "videos")
    real.save(made.real)
    sources = {(c.label, c.subject): c.source for c in real.clips if c.split == "train"}
    for folder, path in (("side", made.synthetic), ("front", made.folder / "synthetic_front.jsonl")):
        clips = [
            replace(c, kind="synthetic", source=sources[c.label, f"s{i % 2}"], source_video="", identity="av")
            for i, c in enumerate(folders.build(made.folder / folder).clips)
        ]  # fmt: skip
        write_manifest(path, clips)
    monkeypatch.setattr(simulated_world, "make_simulated_set", lambda out, config: made)
    monkeypatch.setattr("benchmarks.simulated_world.make_simulated_set", lambda out, config: made)
    options = ViewpointOptions(out=tmp_path / "out", steps=2, seeds=2, json=tmp_path / "numbers.json")
    run(options)
    found = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert {"accuracy_real", "gain_low", "gain_front", "gain_of_views_high"} <= set(found) and found["test_clips"] == 4
    assert found["gain"] == pytest.approx(found["accuracy_real_synthetic"] - found["accuracy_real"], abs=1e-3)
    assert (tmp_path / "out" / "runs" / "front" / "report" / "index.html").is_file()
    assert "seen from all sides instead of the front" in capsys.readouterr().out
    with pytest.raises(InputError, match="takes no --real"):
        run(replace(options, real=made.real))
