"""Trains a recognizer: the same clips, settings and seed give the same weights, also after a kill in between.

The whole stream of samples is drawn beforehand from the seed; step s uses its s-th batch, and every random number of a
step comes from the seed and s.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from actionrec.clips import ClipConfig, ClipStore, TrainClips
from actionrec.errors import DataError
from actionrec.manifest import ManifestClip
from actionrec.outputs import part_file
from actionrec.recognizers import RECOGNIZERS, Recognizer, Small, load_weights

log = logging.getLogger(__name__)

COLLAPSE_SHARE = 0.9
LAST_STEPS = 50
"""The loss of a finished training is the mean of so many steps."""


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; training stopped at once."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """Train until the loss has stopped falling, then let the rate fall: the same rule for every arm of an experiment,
    so that none is compared before it has learnt. The rate is constant until then (warm-up, stable, decay)."""

    window: int = 60
    """Steps whose mean loss is one value."""
    patience: int = 4
    """So many windows without a new low end it."""
    least: float = 0.02
    """A new low is lower than the last by at least this share."""
    most: int = 1800
    """Steps before the rate falls, at most."""
    decay: float = 0.3
    """The rate falls for this share of the steps before."""

    def __post_init__(self) -> None:
        if min(self.window, self.patience, self.most) < 1 or not 0 <= self.least < 1 or not 0 < self.decay <= 1:
            raise DataError(f"No rule to stop training by: {self}.")

    @property
    def total(self) -> int:
        """Most steps of a training."""
        return self.most + self.falling(self.most)

    def falling(self, steps: int) -> int:
        """Steps with a falling rate after so many."""
        return max(round(self.decay * steps), 1)

    def reached(self, losses: Sequence[float]) -> bool:
        """Whether the rate is to fall now."""
        whole = len(losses) // self.window
        if len(losses) >= self.most:
            return True
        if len(losses) % self.window or whole <= self.patience:
            return False
        means = np.reshape(losses[: whole * self.window], (whole, self.window)).mean(1)
        best, since = np.inf, 0
        for mean in means:
            best, since = (mean, 0) if mean < (1 - self.least) * best else (best, since + 1)
        return since >= self.patience


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a recognizer is trained. Presets: `TrainingConfig.preset`."""

    recognizer: Recognizer = field(default_factory=Small)
    clips: ClipConfig = field(default_factory=ClipConfig)
    epochs: int = 5
    steps: int | None = None
    """Optimizer steps in all, whatever the number of clips, so that arms of an experiment are equally long; None: as
    `plateau` says, or without one `epochs` times the clips."""
    plateau: Plateau | None = None
    batch: int = 4
    lr: float = 1e-4
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0
    """Share of the steps in which the rate rises linearly."""
    label_smoothing: float = 0.0
    ema: float | None = None
    """Decay of the average of the weights that is evaluated, less in the first steps; None: the last weights."""
    amp: bool = False
    """Mixed precision: on CUDA, and on CPUs that calculate in bfloat16, which are twice as fast then."""
    clip_gradient: float | None = None
    real_share: float | None = None
    """Share of real clips in a batch (the mixing ratio); None: as there are clips."""
    initial_weights: Path | None = None
    """A checkpoint to begin with (`recognizers.load_weights`)."""
    probe: bool = False
    """Train a linear classifier alone, on features of the network as it is (`probe`)."""
    workers: int = 0
    device: str = "cpu"
    seed: int = 0
    save_every: int = 200
    """Steps between checkpoints."""

    @staticmethod
    def preset(
        name: str, *, recognizer: str | Recognizer | None = None, seed: int = 0, device: str = "cpu"
    ) -> TrainingConfig:
        """paper: Knapp & Bohacek 2025, 5 epochs, Adam at 1e-4, batches of 4, 224 px, 16 or 32 frames. modern: cosine,
        warm-up, mixed precision, label smoothing, averaged weights. tiny: a small network for 2 CPU cores.

        Raises DataError for an unknown name.
        """
        if name == "tiny":
            return TrainingConfig(
                _named(recognizer or "small"),
                ClipConfig(frames=8, size=112, train_short_side=(112, 144), cache_short_side=128, brightness=0.3,
                           test_views=2),
                plateau=Plateau(), batch=8, lr=2e-3, optimizer="adamw", weight_decay=0.02, schedule="cosine",
                warmup=0.1, label_smoothing=0.05, ema=0.98, amp=True, clip_gradient=5.0, seed=seed, device=device,
            )._sized()  # fmt: skip
        chosen = _named(recognizer or "resnet50")
        if name == "paper":
            return TrainingConfig(chosen, seed=seed, device=device)._sized()
        if name == "modern":
            return TrainingConfig(
                chosen, ClipConfig(brightness=0.3, test_views=4, test_crops=3), epochs=30, batch=16, lr=5e-4,
                optimizer="adamw", weight_decay=0.05, schedule="cosine", warmup=0.1, label_smoothing=0.1, ema=0.998,
                amp=True, clip_gradient=5.0, seed=seed, device=device,
            )._sized()  # fmt: skip
        raise DataError(f"No preset {name!r}; known: paper, modern, tiny.")

    @property
    def halved(self) -> TrainingConfig:
        """Half as long."""
        if self.steps or self.plateau is None:
            return replace(self, steps=self.steps and max(self.steps // 2, 1))
        return replace(self, plateau=replace(self.plateau, most=max(self.plateau.most // 2, 1)))

    def seen_at(self, size_px: int) -> TrainingConfig:
        """With views of another size, where the recognizer takes any."""
        return replace(self, recognizer=replace(self.recognizer, size=size_px))._sized()

    def _sized(self) -> TrainingConfig:
        """With clips of the recognizer's frames and size."""
        size, scale = self.recognizer.size, self.recognizer.size / self.clips.size
        low, high = self.clips.train_short_side
        colors = getattr(self.recognizer, "normalization", None)
        mean, std = (self.clips.mean, self.clips.std) if colors is None else colors
        clips = replace(
            self.clips, mean=mean, std=std, frames=self.recognizer.frames, size=size,
            train_short_side=(max(round(low * scale), size), max(round(high * scale), size)),
            cache_short_side=max(round(self.clips.cache_short_side * scale), size),
        )  # fmt: skip
        return replace(self, clips=clips)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return json.loads(json.dumps({"model": type(self.recognizer).__name__} | asdict(self), default=str))


def _named(recognizer: str | Recognizer) -> Recognizer:
    return RECOGNIZERS[recognizer] if isinstance(recognizer, str) else recognizer


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network and how the training went."""

    network: nn.Module
    losses: tuple[float, ...]
    """Loss of each step."""
    seconds: float
    collapsed_onto: str | None
    """The class that the network called nearly every training clip at the end, if any."""

    @property
    def final_loss(self) -> float:
        """Mean loss of the last steps."""
        return float(np.mean(self.losses[-LAST_STEPS:]))


def train(
    store: ClipStore,
    clips: Sequence[ManifestClip],
    classes: Sequence[str],
    config: TrainingConfig,
    *,
    folder: str | Path | None = None,
) -> Trained:
    """Train on the clips; with a `folder`, checkpoints are kept there and an interrupted training goes on.

    Raises DataError when there is no clip, a label is unknown or a checkpoint is of another training; and
    TrainingDiverged when the loss is not finite.
    """
    if not clips:
        raise DataError("There is no clip to train on.")
    start_s = time.perf_counter()
    run = _Run.begin(config, len(classes), len(clips), None if folder is None else Path(folder))
    batches = sample_stream([c.kind == "real" for c in clips], config, run.total)
    loader = DataLoader(
        TrainClips(store, clips, classes, seed=config.seed),
        batch_sampler=[] if run.finished else batches[run.step :],  # type: ignore[arg-type]
        num_workers=config.workers,
        pin_memory=config.device.startswith("cuda"),
    )
    board = _tensorboard(folder)
    guesses: list[tuple[int, int]] = []
    for views, labels in loader:
        loss, predicted = run.advance(views.to(config.device), labels.to(config.device))
        guesses += zip(predicted.tolist(), labels.tolist(), strict=True)
        if board is not None:
            board.add_scalar("loss", loss, run.step)
        if run.step % config.save_every == 0 or run.finished:
            run.save()
        if run.finished:
            break
    collapsed = collapsed_class([g for g, _ in guesses[-256:]], [l for _, l in guesses[-256:]], classes)
    if collapsed:
        print(f"The network calls nearly every training clip {collapsed!r}: it has collapsed.", file=sys.stderr)
    if board is not None:
        board.close()
    return Trained(run.result(), tuple(run.losses), time.perf_counter() - start_s, collapsed)


def sample_stream(real: Sequence[bool], config: TrainingConfig, total: int) -> list[list[tuple[int, int]]]:
    """Batches of (position, clip) for all steps: every clip once per round, or real and synthetic in a stated ratio.

    Raises DataError when a ratio is asked for and one kind is absent.
    """
    rng = np.random.default_rng([config.seed, 53])
    need = total * config.batch
    if config.real_share is None:
        order = _rounds(np.arange(len(real)), need, rng)
    else:
        kinds = [np.flatnonzero(np.asarray(real)), np.flatnonzero(~np.asarray(real))]
        if min(map(len, kinds)) == 0:
            raise DataError(f"real_share is {config.real_share}, but {len(kinds[0])} clips are real and "
                            f"{len(kinds[1])} synthetic.")  # fmt: skip
        streams = [iter(_rounds(kind, need, rng)) for kind in kinds]
        order = [next(streams[0] if rng.random() < config.real_share else streams[1]) for _ in range(need)]
    positions = list(enumerate(int(i) for i in order))
    return [positions[s * config.batch : (s + 1) * config.batch] for s in range(total)]


def _rounds(items: np.ndarray, need: int, rng: np.random.Generator) -> list[int]:
    count = -(-need // len(items))
    return np.concatenate([rng.permutation(items) for _ in range(count)])[:need].tolist()


def collapsed_class(predicted: Sequence[int], labels: Sequence[int], classes: Sequence[str]) -> str | None:
    """The class that more than 90 % of the predictions name although the labels do not; None when there is none."""
    if len(predicted) < 8 or len(classes) < 2:
        return None
    counts = np.bincount(predicted, minlength=len(classes))
    top = int(counts.argmax())
    of_labels = np.bincount(labels, minlength=len(classes))[top] / len(labels)
    return classes[top] if counts[top] / len(predicted) > COLLAPSE_SHARE and of_labels < 0.7 else None


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """Factor of the rate at a step: linear warm-up, then constant or half a cosine down to 1 % (Loshchilov 2017)."""
    warm = max(round(config.warmup * total), 1)
    rise = min((step + 1) / warm, 1.0) if config.warmup else 1.0
    if config.schedule == "constant":
        return rise
    return rise * _cosine(max(step - warm, 0) / max(total - warm, 1))


def plateau_rate(step: int, falls_at: int | None, plateau: Plateau) -> float:
    """Factor of the rate at a step: linear warm-up, constant, then half a cosine down to 1 % from `falls_at` on."""
    if falls_at is None:
        return min((step + 1) / plateau.window, 1.0)
    return _cosine((step - falls_at) / plateau.falling(falls_at))


def _cosine(done: float) -> float:
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def mixed_precision(config: TrainingConfig) -> torch.dtype | None:
    """What networks calculate in; None: full precision."""
    if not config.amp:
        return None
    if config.device.startswith("cuda"):
        return torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


@dataclass
class _Run:
    """The state of a training."""

    config: TrainingConfig
    network: nn.Module
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    total: int
    checkpoint: Path | None
    step: int = 0
    losses: list[float] = field(default_factory=list)
    falls_at: int | None = None
    """Step from which on the rate falls, where a plateau decides."""

    @staticmethod
    def begin(config: TrainingConfig, n_classes: int, n_clips: int, folder: Path | None) -> _Run:
        torch.manual_seed(config.seed)
        network = config.recognizer.build(n_classes)
        if config.initial_weights is not None:
            load_weights(network, config.initial_weights)
        network = network.to(config.device)
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        average = None
        if config.ema is not None:
            average = AveragedModel(network, multi_avg_fn=_average(config.ema), use_buffers=False)
        by_loss = None if config.steps else config.plateau
        total = by_loss.total if by_loss else config.steps or -(-config.epochs * n_clips // config.batch)
        amp = config.amp and config.device.startswith("cuda")
        scaler = torch.amp.GradScaler("cuda", enabled=amp)
        run = _Run(config, network, average, optimizer, scaler, total, folder and folder / "checkpoint.pt")
        run._resume()
        return run

    def advance(self, views: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        """One step of the optimizer; its loss and the predicted classes."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * self._rate()
        self.network.train()
        dtype = mixed_precision(self.config)
        with torch.autocast(self.config.device.split(":")[0], dtype=dtype, enabled=dtype is not None):
            logits = self.network(views)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"The loss is {value} at step {self.step + 1} of {self.total}; training stopped. Try a lower rate than "
                f"{self.config.lr:g}."
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.config.clip_gradient is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_gradient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        self.losses.append(value)
        self._look_for_plateau()
        return value, logits.detach().argmax(1)

    @property
    def by_loss(self) -> Plateau | None:
        """The rule that ends the training, unless its steps are stated."""
        return None if self.config.steps else self.config.plateau

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        if self.by_loss is not None and self.falls_at is not None:
            return self.step >= self.falls_at + self.by_loss.falling(self.falls_at)
        return self.step >= self.total

    def _rate(self) -> float:
        if self.by_loss is not None:
            return plateau_rate(self.step, self.falls_at, self.by_loss)
        return learning_rate(self.step, self.total, self.config)

    def _look_for_plateau(self) -> None:
        if self.by_loss is not None and self.falls_at is None and self.by_loss.reached(self.losses):
            self.falls_at = self.step

    def result(self) -> nn.Module:
        """The network to evaluate. Averaged weights keep the last statistics of batch normalization."""
        if self.average is None:
            return self.network.eval()
        with torch.no_grad():
            for mine, last in zip(self.average.module.buffers(), self.network.buffers(), strict=True):
                mine.copy_(last)
        return self.average.module.eval()

    def _identity(self) -> dict[str, Any]:
        settings = self.config.as_dict()
        return {k: v for k, v in settings.items() if k not in ("workers", "save_every", "device")} | {
            "total": self.total
        }

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self.checkpoint is None:
            return
        state = {
            "config": self._identity(), "step": self.step, "losses": self.losses, "falls_at": self.falls_at,
            "model": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "average": self.average and self.average.state_dict(),
        }  # fmt: skip
        with part_file(self.checkpoint) as aside:
            torch.save(state, aside)
            os.replace(aside, self.checkpoint)

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, map_location=self.config.device, weights_only=True)
        if state["config"] != self._identity():
            raise DataError(f"{self.checkpoint} is of a training with other settings; choose another folder.")
        self.step, self.losses, self.falls_at = state["step"], list(state["losses"]), state["falls_at"]
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def _average(decay: float) -> Any:
    """An average of the weights that forgets the first ones: in step n it keeps (1 + n) / (10 + n) of itself, at most
    `decay` (the warm-up of TensorFlow's moving averages)."""

    @torch.no_grad()
    def update(averages: Any, weights: Any, count: Any) -> None:
        n = int(count)
        torch._foreach_lerp_(averages, weights, 1.0 - min(decay, (1.0 + n) / (10.0 + n)))  # pyright: ignore[reportPrivateImportUsage]

    return update


def _tensorboard(folder: str | Path | None) -> Any | None:
    """A writer of TensorBoard logs beside the checkpoints; None, and a line in the log, without the package."""
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("No TensorBoard logs: the package tensorboard is not installed.")
        return None
    return SummaryWriter(str(Path(folder) / "tensorboard"))


def predict(
    network: nn.Module, store: ClipStore, clips: Sequence[ManifestClip], *, device: str = "cpu"
) -> Iterator[np.ndarray]:
    """Class probabilities (classes,) of each clip, averaged over its test views."""
    from actionrec.clips import TestClips

    network.eval()
    dataset = TestClips(store, clips)
    for index in range(len(dataset)):
        with torch.no_grad():
            yield network(dataset[index].to(device)).float().softmax(1).mean(0).cpu().numpy()
