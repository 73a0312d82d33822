"""Recognizers take a step at the paper's sizes, learn what can be learned, resume exactly and refuse to go astray."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.fake_clips import film, sweeps

from actionrec.clips import ClipConfig, ClipStore
from actionrec.errors import DataError
from actionrec.recognizers import RECOGNIZERS, Small, load_weights, recognizer
from actionrec.sources import folders
from actionrec.training import (
    Plateau,
    TrainingConfig,
    TrainingDiverged,
    collapsed_class,
    learning_rate,
    plateau_rate,
    predict,
    sample_stream,
    train,
)

CLASSES = ["down", "left", "right", "up"]
QUICK = TrainingConfig(
    Small(frames=6, size=32, width=6, dropout=0.0),
    ClipConfig(frames=6, size=32, train_short_side=(32, 36), flip=0.0, cache_short_side=36),
    steps=60, batch=8, lr=5e-3, optimizer="adamw", schedule="cosine", warmup=0.1, ema=0.9, seed=1, save_every=1000,
)  # fmt: skip


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Clips of bars that move in four directions, over noise: no single frame tells the class."""
    root = tmp_path_factory.mktemp("bars")
    rng = np.random.default_rng(0)
    for label, name in enumerate(["right", "left", "down", "up"]):
        for i in range(8):
            film(root / "videos" / ("train" if i < 5 else "test") / name / f"{i}.mp4", sweeps(label, rng))
    store = ClipStore(root / "cache", QUICK.clips)
    clips = store.fill(folders.build(root / "videos").clips, workers=1)
    return store, [c for c in clips if c.split == "train"], [c for c in clips if c.split == "test"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "slowfast", "x3d-xs"])
def test_full_size_models_take_a_step_at_the_papers_sizes(name):
    pytest.importorskip("torchvision")
    pytest.importorskip("pytorchvideo")
    config = recognizer(name)
    network = config.build(16)
    parameters = list(network.parameters())
    stem, head = parameters[0].detach().clone(), parameters[-1].detach().clone()
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    torch.manual_seed(0)
    logits = network(torch.randn(1, 3, config.frames, config.size, config.size))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([3]))
    loss.backward()
    optimizer.step()
    assert logits.shape == (1, 16) and torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in parameters)
    assert not torch.equal(stem, parameters[0]) and not torch.equal(head, parameters[-1])
    if name != "x3d-xs":
        assert (config.frames, config.size) == ({"resnet50": 16, "slowfast": 32}[name], 224)


def test_videomae_is_an_extra_and_gives_logits():
    pytest.importorskip("transformers")
    network = recognizer("videomae", frames=4, size=32, hidden_size=24, layers=1, heads=2).build(5)
    assert network(torch.randn(1, 3, 4, 32, 32)).shape == (1, 5)


def test_unknown_recognizers_presets_and_checkpoints_are_named(tmp_path):
    with pytest.raises(DataError, match="No recognizer 'resnet5'; known: resnet50"):
        recognizer("resnet5")
    with pytest.raises(DataError, match="small has no setting depth"):
        recognizer("small", depth=3)
    with pytest.raises(DataError, match="No preset 'old'; known: paper"):
        TrainingConfig.preset("old")
    with pytest.raises(DataError, match="No checkpoint at"):
        load_weights(torch.nn.Linear(2, 2), tmp_path / "none.pt")
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="fits 0 of 2 tensors"):
        load_weights(torch.nn.Linear(2, 2), tmp_path / "other.pt")


def test_a_checkpoint_with_another_head_keeps_the_rest(tmp_path):
    old, new = Small(width=4).build(5), Small(width=4).build(3)
    torch.save({"model_state": old.state_dict()}, tmp_path / "w.pt")
    assert load_weights(new, tmp_path / "w.pt") == len(new.state_dict()) - 2
    assert torch.equal(old.stem[0].weight, new.stem[0].weight)


def test_the_paper_preset_is_the_papers_protocol():
    for name, frames in (("resnet50", 16), ("slowfast", 32)):
        config = TrainingConfig.preset("paper", recognizer=name)
        assert (config.epochs, config.lr, config.batch, config.optimizer) == (5, 1e-4, 4, "adam")
        assert (config.clips.frames, config.clips.size) == (frames, 224)
    assert set(RECOGNIZERS) >= {"resnet50", "slowfast", "x3d-s", "videomae"}
    tiny = TrainingConfig.preset("tiny")
    assert (tiny.clips.size, tiny.clips.frames) == (112, 8)


@pytest.mark.slow
def test_movement_is_learned_and_seeds_decide_everything(bars):
    store, clips, tests = bars
    trained = train(store, clips, CLASSES, QUICK)
    scores = np.stack(list(predict(trained.network, store, tests)))
    accuracy = np.mean([CLASSES[i] == c.label for i, c in zip(scores.argmax(1), tests, strict=True)])
    assert accuracy >= 0.75 and trained.losses[-1] < trained.losses[0] and trained.collapsed_onto is None
    assert np.allclose(scores.sum(1), 1, atol=1e-5)
    short = replace(QUICK, steps=3)
    one, same, other = (train(store, clips, CLASSES, replace(short, seed=s)).losses for s in (1, 1, 2))
    assert one == same != other


def test_a_plateau_is_a_loss_that_falls_no_more():
    rule = Plateau(window=10, patience=2, least=0.05, most=200)
    falling = list(np.linspace(2.0, 1.0, 60))
    assert not rule.reached(falling)
    assert not rule.reached([*falling, *[1.0] * 20]), "the first window after it may still be a new low"
    assert rule.reached([*falling, *[1.0] * 30])
    assert not rule.reached([*falling, *[1.0] * 29]), "asked at whole windows alone"
    assert rule.reached(list(np.linspace(2.0, 0.1, 200))), "at most so long"
    noisy = 1.0 + 0.3 * np.random.default_rng(0).standard_normal(60)
    assert rule.reached(noisy.tolist())
    with pytest.raises(DataError, match="No rule to stop"):
        Plateau(patience=0)


def test_the_rate_is_even_until_the_plateau_and_falls_after_it():
    rule = Plateau(window=10, decay=0.5)
    assert [plateau_rate(s, None, rule) for s in (0, 4, 9, 500)] == [0.1, 0.5, 1.0, 1.0]
    falling = [plateau_rate(s, 100, rule) for s in range(100, 150)]
    assert falling[0] == pytest.approx(1.0) and falling[-1] < 0.02 and falling == sorted(falling, reverse=True)


@pytest.mark.slow
def test_training_to_a_plateau_ends_there_and_goes_on_where_it_was_killed(bars, tmp_path, monkeypatch):
    store, clips, _ = bars
    rule = Plateau(window=4, patience=1, least=0.9, most=50, decay=0.25)
    config = replace(QUICK, steps=None, plateau=rule, save_every=3, ema=0.9)
    whole = train(store, clips, CLASSES, config, folder=tmp_path / "whole")
    assert len(whole.losses) == 8 + 2, "no window is lower by 90 %: over after two, and a quarter more"
    from actionrec import training

    save = training._Run.save

    def dies(self):
        save(self)
        if self.step == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._Run, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        train(store, clips, CLASSES, config, folder=tmp_path / "part")
    monkeypatch.setattr(training._Run, "save", save)
    resumed = train(store, clips, CLASSES, config, folder=tmp_path / "part")
    assert resumed.losses == whole.losses
    again = train(store, clips, CLASSES, config, folder=tmp_path / "part")
    assert again.losses == whole.losses, "a finished training is not trained again"


def test_averaged_weights_forget_the_first_ones():
    """After n steps at the same place an average with a fixed decay of 0.98 still holds 0.98^n of its beginning."""
    from torch.optim.swa_utils import AveragedModel

    from actionrec.training import _average

    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = AveragedModel(model, multi_avg_fn=_average(0.98), use_buffers=False)
    average.update_parameters(model)
    torch.nn.init.ones_(model.weight)
    for _ in range(20):
        average.update_parameters(model)
    assert float(average.module.weight) > 0.99 > 1 - 0.98**20


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(bars, tmp_path, monkeypatch):
    store, clips, _ = bars
    config = replace(QUICK, steps=8, save_every=3)
    whole = train(store, clips, CLASSES, config, folder=tmp_path / "whole")

    class Killed(Exception):
        pass

    from actionrec import training

    advance = training._Run.advance

    def dies(self, views, labels):
        if self.step == 5:
            raise Killed
        return advance(self, views, labels)

    monkeypatch.setattr(training._Run, "advance", dies)
    with pytest.raises(Killed):
        train(store, clips, CLASSES, config, folder=tmp_path / "part")
    monkeypatch.setattr(training._Run, "advance", advance)
    resumed = train(store, clips, CLASSES, config, folder=tmp_path / "part")
    assert resumed.losses == whole.losses
    for a, b in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(DataError, match="of a training with other settings"):
        train(store, clips, CLASSES, replace(config, lr=1.0), folder=tmp_path / "part")


def test_a_loss_that_is_no_number_stops_at_once(bars, monkeypatch):
    store, clips, _ = bars
    from actionrec import training

    monkeypatch.setattr(training.F, "cross_entropy", lambda *a, **k: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(TrainingDiverged, match="nan at step 1 of 60"):
        train(store, clips, CLASSES, QUICK)


def test_collapse_onto_one_class_is_seen():
    assert collapsed_class([2] * 19 + [1], [0, 1, 2, 3] * 5, CLASSES) == "right"
    assert collapsed_class([0, 1, 2, 3] * 5, [0, 1, 2, 3] * 5, CLASSES) is None
    assert collapsed_class([2] * 20, [2] * 20, CLASSES) is None  # there is nothing else to name


def test_the_mixing_ratio_holds_and_every_clip_has_its_turn():
    real = [True] * 2 + [False] * 30
    mixed = sample_stream(real, replace(QUICK, real_share=0.25), 200)
    share = np.mean([real[i] for batch in mixed for _, i in batch])
    assert 0.2 < share < 0.3
    plain = [i for batch in sample_stream(real, QUICK, 8) for _, i in batch]
    assert sorted(plain[:32]) == list(range(32))
    with pytest.raises(DataError, match="2 clips are real and 0 synthetic"):
        sample_stream([True, True], replace(QUICK, real_share=0.5), 1)


def test_the_rate_warms_up_and_falls():
    config = replace(QUICK, warmup=0.1, schedule="cosine")
    rates = [learning_rate(s, 100, config) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and rates[-1] < 0.02
    assert learning_rate(50, 100, replace(config, warmup=0.0, schedule="constant")) == 1.0
