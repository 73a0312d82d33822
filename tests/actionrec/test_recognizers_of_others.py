"""torchvision's and transformers' recognizers are built as they state themselves; a probe fits the head alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.fake_clips import film, sweeps

from actionrec.clips import ClipConfig, ClipStore, normalized
from actionrec.errors import DataError
from actionrec.probe import fit_head, linear_head, probe
from actionrec.protocols import Experiment
from actionrec.recognizers import LocalModel, Small, Torchvision, recognizer
from actionrec.sources import folders
from actionrec.training import TrainingConfig, predict, train

SMALL = TrainingConfig(
    Small(frames=6, size=32, width=6, dropout=0.0),
    ClipConfig(frames=6, size=32, train_short_side=(32, 36), flip=0.0, cache_short_side=36, test_views=2),
    steps=60, batch=6, lr=5e-3, optimizer="adamw", schedule="cosine", warmup=0.1,
)  # fmt: skip


def test_colors_are_normalized_by_channel():
    views = torch.full((2, 3, 4, 5, 5), 0.5)
    found = normalized(views, ClipConfig(mean=(0.5, 0.25, 0.0), std=(1.0, 0.5, 0.25)))
    assert found[:, :, 0, 0, 0].tolist() == [[0.0, 0.5, 2.0]] * 2
    assert normalized(views, ClipConfig(mean=0.45, std=0.225)).mean().item() == pytest.approx(0.05 / 0.225, rel=1e-5)


def test_torchvisions_recognizers_have_the_colors_of_their_weights():
    config = TrainingConfig.preset("paper", recognizer="swin3d_t")
    assert config.clips.mean == (0.485, 0.456, 0.406) and config.clips.size == 224 and config.clips.frames == 16
    assert TrainingConfig.preset("tiny", recognizer="r3d_18").clips.mean == (0.43216, 0.394666, 0.37645)
    with pytest.raises(DataError, match="no video classifier 'resnet18'"):
        Torchvision("resnet18").build(3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames", "size"), [("r3d_18", 4, 32), ("s3d", 16, 224), ("swin3d_t", 4, 64)])
def test_torchvisions_recognizers_give_logits(name, frames, size):
    network = recognizer(name, frames=frames, size=size).build(5).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, frames, size, size)).shape == (1, 5)


def save_model(folder, kind: str) -> None:
    import json

    transformers = pytest.importorskip("transformers")
    common = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 7}
    if kind == "vjepa2":
        config = transformers.VJEPA2Config(
            **common, frames_per_clip=4, crop_size=32, patch_size=16, pred_hidden_size=24, pred_num_hidden_layers=1,
            pred_num_attention_heads=2, num_pooler_layers=1,
        )  # fmt: skip
        network = transformers.VJEPA2ForVideoClassification(config)
    else:
        config = transformers.VideoMAEConfig(**common, image_size=32, num_frames=4, intermediate_size=48)
        network = transformers.VideoMAEForVideoClassification(config)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]})
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["videomae", "vjepa2"])
def test_a_models_folder_says_how_it_wants_its_clips(tmp_path, kind):
    save_model(tmp_path / "model", kind)
    model = LocalModel.read(tmp_path / "model")
    assert (model.frames, model.size) == (4, 32)
    config = TrainingConfig.preset("tiny", recognizer=model)
    assert config.clips.mean == (0.1, 0.2, 0.3) and config.clips.std == (1.0, 2.0, 3.0) and config.clips.frames == 4
    with torch.no_grad():
        assert model.build(3).eval()(torch.zeros(2, 3, 4, 32, 32)).shape == (2, 3)


def test_folders_without_a_model_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"config\.json cannot be read"):
        LocalModel.read(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="holds bert, which states no number of frames"):
        LocalModel.read(tmp_path)


def test_the_head_is_that_of_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)) * [1, 10, 0.1, 1] + [5, 0, 0, 0]
    labels = (x[:, 1] / 10 + rng.normal(size=300) * 0.3 > 0).astype(int)
    head = torch.nn.Linear(4, 2)
    losses = fit_head(head, torch.from_numpy(x).float(), torch.from_numpy(labels))
    told = head(torch.from_numpy(x).float()).argmax(1).numpy()
    assert losses[0] == pytest.approx(np.log(2), rel=1e-4) and losses[-1] < 0.35 and (told == labels).mean() > 0.88
    difference = (head.weight[1] - head.weight[0]).detach().numpy() * [1, 10, 0.1, 1]
    assert np.abs(difference).argmax() == 1 and difference[1] > 5 * np.abs(np.delete(difference, 1)).max()


@pytest.mark.slow
def test_a_probe_leaves_the_network_and_learns_from_what_it_knows(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for label, name in enumerate(("right", "left", "down")):
        for i in range(6):
            film(tmp_path / ("a" if i < 3 else "b") / name / f"{i}.mp4", sweeps(label, rng))
    known, tested = (folders.build(tmp_path / side).clips for side in "ab")
    store = ClipStore(tmp_path / "cache", SMALL.clips)
    store.fill([*known, *tested])
    classes = ("down", "left", "right")
    with pytest.raises(DataError, match="A probe takes no steps"):
        Experiment("x", tmp_path, tmp_path, tmp_path, replace(SMALL, probe=True), arms=("real", "pretrain-finetune"))
    with pytest.raises(DataError, match="probe of random weights tells nothing"):
        probe(store, known, classes, replace(SMALL, probe=True))
    pretrained = train(store, known, classes, SMALL).network
    torch.save(pretrained.state_dict(), tmp_path / "weights.pt")
    probing = replace(SMALL, probe=True, initial_weights=tmp_path / "weights.pt")
    found = probe(store, known, classes, probing)
    head = linear_head(found.network)
    names = {id(p): n for n, p in found.network.named_parameters()}
    own = {names[id(head.weight)], names[id(head.bias)]}
    before, after = pretrained.state_dict(), found.network.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if n not in own and "num_batches" not in n)
    guesses = np.stack(list(predict(found.network, store, tested))).argmax(1)
    assert (guesses == [classes.index(c.label) for c in tested]).mean() > 0.7
    monkeypatch.setattr("actionrec.probe.TestClips", lambda *a: pytest.fail("seen again"))
    again = probe(store, known, classes, probing)
    assert torch.equal(linear_head(again.network).weight, head.weight), "features are kept"
