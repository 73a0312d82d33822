"""Clips are chosen by what is asked for: likeness to the real ones, spread, loss, or chance."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_clips import clip, film

from actionrec.clips import ClipConfig, ClipStore
from actionrec.errors import DataError
from actionrec.recognizers import Small
from actionrec.selection import Described, choose, describe
from actionrec.sources import folders

ANGLES = np.radians([0, 5, 10, 90, 95, 180])
MADE = Described(
    tuple(clip(id=f"m{i}", kind="synthetic") for i in range(6)),
    np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1),
    np.array([0.1, 0.9, 0.2, 0.8, 0.3, 0.4]),
)
REAL = Described((clip(id="r"),), np.array([[0.0, 1.0]]), np.zeros(1))


def ids(how, n, seed=0) -> list[str]:
    return [c.id for c in choose(MADE, REAL, n, how=how, seed=seed)]


def test_each_choice_does_what_it_says():
    assert ids("similar", 2) == ["m3", "m4"]
    assert ids("hard", 2) == ["m1", "m3"]
    picked = ANGLES[[int(i[1]) for i in ids("diverse", 3)]]
    assert np.degrees(np.diff(np.sort(picked))).min() >= 80
    assert ids("random", 6) != ids("random", 6, seed=1) and sorted(ids("random", 6)) == [f"m{i}" for i in range(6)]
    with pytest.raises(DataError, match="Class 'wave' has no real clip"):
        choose(MADE, Described((clip(id="x", label="kick"),), REAL.features, REAL.losses), 1, how="similar")


def test_clips_are_described_by_the_recognizer_itself(tmp_path):
    for i in range(3):
        film(tmp_path / "c" / "wave" / f"{i}.mp4", 6, seed=i)
    config = ClipConfig(frames=4, size=32, train_short_side=(32, 36), cache_short_side=32, test_views=2)
    store = ClipStore(tmp_path / "cache", config)
    clips = store.fill(folders.build(tmp_path / "c").clips)
    found = describe(Small(frames=4, size=32, width=4).build(2), store, clips, ["wave", "kick"])
    assert found.features.shape == (3, 64) and np.allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-5)
    assert found.losses.shape == (3,) and (found.losses > 0).all()
