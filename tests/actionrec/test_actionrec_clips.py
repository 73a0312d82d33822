"""Clips are decoded whole or skipped with a count, cut at the stated stride, and the same views come from a seed."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.fake_clips import clip, film

from actionrec import decoding
from actionrec.clips import (
    ClipConfig,
    ClipStore,
    TrainClips,
    labels_of,
    load_clips,
    test_indices,
    test_views,
    train_indices,
    train_view,
)
from actionrec.errors import DataError
from actionrec.manifest import write_manifest
from actionrec.sources import folders

SMALL = ClipConfig(frames=4, size=24, train_short_side=(24, 28), cache_short_side=28)


def gray_ramp(n: int = 10, height: int = 48, width: int = 64) -> np.ndarray:
    return np.broadcast_to(np.linspace(20, 220, n, dtype=np.uint8)[:, None, None, None], (n, height, width, 3)).copy()


def test_both_decoders_give_the_frames_in_order(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4", gray_ramp())
    first = decoding.decode(path, short_side=24, max_frames=100)
    monkeypatch.setitem(sys.modules, "decord", None)
    second = decoding.decode(path, short_side=24, max_frames=100)
    assert first.shape == second.shape == (10, 24, 32, 3)
    for frames in (first, second):
        assert np.abs(frames.mean((1, 2, 3)) - np.linspace(20, 220, 10)).max() < 6
    assert len(decoding.decode(path, short_side=24, max_frames=4)) == 4  # every third


def test_broken_videos_are_skipped_with_a_count_and_never_zeros(tmp_path, capsys):
    good = film(tmp_path / "c" / "wave" / "good.mp4", 12)
    listing = folders.build(tmp_path / "c")
    bad = {
        "cut": good.read_bytes()[: good.stat().st_size // 2],
        "other": film(tmp_path / "other.mp4", 12, seed=5).read_bytes(),
    }
    clips = list(listing.clips)
    for name, data in bad.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        sha = clips[0].sha256 if name == "other" else decoding_hash(data)
        clips.append(replace(clips[0], id=name, path=str(path), sha256=sha if name == "cut" else "f" * 64))
    clips.append(replace(clips[0], id="gone", path=str(tmp_path / "gone.mp4"), sha256="e" * 64))
    store = ClipStore(tmp_path / "cache", SMALL)
    assert [c.id for c in store.fill(clips)] == [clips[0].id]
    assert set(store.skipped) == {"cut", "other", "gone"}
    assert "3 of 4 clips skipped" in capsys.readouterr().err
    assert "not those that the manifest names" in store.skipped["other"].reason
    lonely = replace(clips[-1], label="kick")
    with pytest.raises(DataError, match="1 classes have none: kick"):
        ClipStore(tmp_path / "cache", SMALL).fill([clips[0], lonely])


def decoding_hash(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_the_cache_is_made_once_and_by_workers(tmp_path, monkeypatch):
    for i in range(10):
        film(tmp_path / "c" / "wave" / f"{i}.mp4", 4, seed=i)
    clips = folders.build(tmp_path / "c").clips
    store = ClipStore(tmp_path / "cache", SMALL)
    assert len(store.fill(clips, workers=2)) == 10
    monkeypatch.setattr("actionrec.clips.decode", lambda *a, **k: pytest.fail("decoded again"))
    assert len(ClipStore(tmp_path / "cache", SMALL).fill(clips)) == 10
    assert store.frames(clips[0]).dtype == np.uint8 and store.frames(clips[0]).shape == (4, 28, 35, 3)


def test_training_frames_keep_the_stated_stride():
    config = replace(SMALL, frames=4, stride=3)
    for seed in range(20):
        indices = train_indices(30, config, np.random.default_rng(seed), fps=25.0)
        assert set(np.diff(indices)) == {3} and indices[0] >= 0 and indices[-1] < 30
    spread = train_indices(8, config, np.random.default_rng(0), fps=25.0)  # shorter than the window of 10
    assert len(spread) == 4 and np.all(np.diff(spread) >= 0) and spread[-1] < 8
    even = train_indices(40, replace(SMALL, stride=None), np.random.default_rng(1), fps=25.0)
    assert [int(i) // 10 for i in even] == [0, 1, 2, 3]


@pytest.mark.parametrize("fps, step", [(10.0, 2), (30.0, 6), (24.0, 4.8)])
def test_a_step_in_seconds_is_as_long_at_every_frame_rate(fps, step):
    config, rng = replace(SMALL, frames=4, step_s=0.2, test_views=2), np.random.default_rng(0)
    views = [train_indices(40, config, np.random.default_rng(seed), fps=fps) for seed in range(50)]
    views += test_indices(40, config, fps=fps)
    for view in views:
        assert np.abs(np.diff(view) - step).max() < 1 and view[-1] - view[0] == round(3 * step)
        assert view[0] >= 0 and view[-1] < 40
    assert max(view[-1] for view in views) == 39 and min(view[0] for view in views) == 0
    for view in (
        *test_indices(round(2.5 * step), config, fps=fps),
        train_indices(round(2.5 * step), config, rng, fps=fps),
    ):
        assert np.abs(np.diff(view)[:2] - step).max() < 1 and view[-1] == round(2.5 * step) - 1  # the last is held


def test_a_step_counts_the_frames_that_a_long_video_keeps(tmp_path):
    film(tmp_path / "c" / "wave" / "a.mp4", gray_ramp(40))
    (found,) = folders.build(tmp_path / "c").clips
    store = ClipStore(tmp_path / "cache", replace(SMALL, frames=3, step_s=6 / found.fps, max_frames=20))
    store.fill([found])
    frames = store.frames(found)
    assert len(frames) == 20 and store.fps(found) == pytest.approx(found.fps / 2)
    (view,) = test_indices(len(frames), store.config, fps=store.fps(found))
    assert set(np.diff(view)) == {3}  # of every second frame


@pytest.mark.parametrize("wrong", [{"stride": 2, "step_s": 0.2}, {"stride": 0}, {"step_s": 0.0}])
def test_a_step_is_stated_once_and_positive(wrong):
    with pytest.raises(DataError, match=r"not both|positive"):
        ClipConfig(**wrong)


def test_test_views_are_uniform():
    views = test_indices(31, replace(SMALL, stride=2, test_views=3), fps=25.0)
    assert [int(v[0]) for v in views] == [4, 12, 20] and all(set(np.diff(v)) == {2} for v in views)
    (middle,) = test_indices(40, SMALL, fps=25.0)
    assert middle.tolist() == [5, 15, 25, 35]
    frames = gray_ramp(12, 28, 60)
    frames[:, :, :28] = 0
    out = test_views(frames, replace(SMALL, test_views=2, test_crops=3), fps=25.0)
    assert out.shape == (6, 3, 4, 24, 24)
    left, _, right = out[0], out[1], out[2]
    assert left.max() < right.min()


def test_views_are_normalized_flipped_and_seeded():
    frames = np.zeros((6, 30, 30, 3), np.uint8)
    frames[:, :, :15] = 255
    config = replace(SMALL, flip=1.0, train_short_side=(24, 24))
    view = train_view(frames, config, np.random.default_rng(0), fps=25.0)
    assert view.shape == (3, 4, 24, 24)
    assert torch.allclose(view[..., :8].max(), torch.tensor(-0.45 / 0.225)) and view[..., -8:].min() > 2.4
    jitter = replace(config, brightness=0.3, train_short_side=(24, 30))
    one, same, other = (train_view(frames, jitter, np.random.default_rng(s), fps=25.0) for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_training_view_depends_on_its_place_in_the_stream_alone(tmp_path):
    for i in range(2):
        film(tmp_path / "c" / "wave" / f"{i}.mp4", 8, seed=i)
    clips = folders.build(tmp_path / "c").clips
    store = ClipStore(tmp_path / "cache", SMALL)
    clips = store.fill(clips)
    one, two = (TrainClips(store, clips, ["wave"], seed=3) for _ in range(2))
    two[(0, 1)]
    assert torch.equal(one[(7, 0)][0], two[(7, 0)][0]) and not torch.equal(one[(8, 0)][0], two[(7, 0)][0])


def test_unknown_labels_and_empty_manifests_are_refused(tmp_path):
    with pytest.raises(DataError, match="1 of 2 clips have an unknown class: kick; known: wave"):
        labels_of([clip(id="a"), clip(id="b", label="kick")], ["wave"])
    with pytest.raises(DataError, match="lists no clip"):
        load_clips(write_manifest(tmp_path / "m.jsonl", []))
    (loaded,) = load_clips(write_manifest(tmp_path / "m.jsonl", [clip(id="a", path="../x/a.mp4")]))
    assert loaded.path == str(tmp_path.parent / "x" / "a.mp4")
