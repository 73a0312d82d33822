"""Clips are chosen by what is asked for: likeness to the real ones, spread, loss, or chance."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from fakes.fake_clips import clip, film

from actionrec.clip_model_features import clip_features, load_clip
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


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """CLIP's true architecture, tiny, with random weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=16,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def test_clips_are_described_by_clip(clip_folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    for i in (0, 0, 1):
        film(tmp_path / "c" / "wave" / f"{len(list(tmp_path.rglob('*.mp4')))}.mp4", 6, seed=i)
    config = ClipConfig(frames=4, size=32, train_short_side=(32, 36), cache_short_side=32)
    store = ClipStore(tmp_path / "cache", config)
    clips = store.fill(folders.build(tmp_path / "c").clips)
    network = load_clip(clip_folder)
    found = clip_features(network, store, clips)
    assert found.shape == (3, 16) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[0], found[1]) and not np.allclose(found[0], found[2], atol=1e-4)

    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    frames = store.frames(clips[0])[((np.arange(4) + 0.5) * len(store.frames(clips[0])) / 4).astype(int)]
    with torch.no_grad():
        theirs = network(processor(list(frames), return_tensors="pt")["pixel_values"]).image_embeds
    theirs = torch.nn.functional.normalize(torch.nn.functional.normalize(theirs, dim=1).mean(0), dim=0)
    assert found[0] @ theirs.numpy() > 0.999


@pytest.mark.parametrize("broken", ["missing", "other", "no weights"])
def test_folders_without_clip_are_refused(broken, clip_folder, tmp_path):
    if broken == "other":
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    if broken == "no weights":
        shutil.copy(clip_folder / "config.json", tmp_path)
    with pytest.raises(DataError, match="No CLIP model at"):
        load_clip(tmp_path)
