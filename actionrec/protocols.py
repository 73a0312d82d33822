"""Experiments that ask what synthetic clips gain: arms, numbers of clips, seeds; audited, trained, scored and saved.

All arms of a seed share their real clips, their test clips and, where the training states its steps, its length.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from actionrec.audit import Kind, audit
from actionrec.clip_model_features import clip_features, load_clip
from actionrec.clips import ClipStore, labels_of, load_clips
from actionrec.errors import DataError
from actionrec.evaluation import Interval, Predictions, accuracy_interval, gain_interval, load_run, save_run
from actionrec.manifest import ManifestClip
from actionrec.probe import probe
from actionrec.selection import Described, choose, describe
from actionrec.splits import (
    Split,
    by_class,
    equal_per_class,
    few_per_class,
    hold_out_subjects,
    made_from,
    references,
    stated_split,
    synthetic_per_class,
)
from actionrec.training import Trained, TrainingConfig, collapsed_class, predict, train

Arm = Literal[
    "real", "synthetic", "real+synthetic", "half-real", "pretrain-finetune", "shuffled-background", "one-background",
    "similar", "diverse", "hard", "real-augmented", "real-as-long",
]  # fmt: skip
"""real, synthetic and real+synthetic are what they say; half-real draws half of each batch from the real clips;
pretrain-finetune trains on synthetic clips first and on real ones then; shuffled-background and one-background are
real+synthetic with places that tell nothing of the class, or everything; similar, diverse and hard are real+synthetic
with clips chosen by a first recognizer, trained half as long on all of them (`selection`), where the others draw;
similar and diverse go by CLIP's features where its weights are given. real-augmented and real-as-long hold synthetic
clips against what needs none: real clips in random colors, at random speeds and closer crops; and real clips trained
for as many steps as real+synthetic was with that seed."""
REAL_ALONE = ("real", "real-augmented", "real-as-long")
STRONG_COLOR, STRONG_SPEED, STRONG_CROP = 0.4, 1.4, 1.25
"""Of real-augmented: see `ClipConfig`; crops are so many times closer at most."""
TEST_SEED = 0
CHOSEN = ("similar", "diverse", "hard")
ARMS: tuple[str, ...] = get_args(Arm)
UNLEARNT_FROM, UNLEARNT_TIMES = 0.3, 1.5
"""A training loss above this and so many times that of `real` says that an arm was stopped before it had learnt."""
FINETUNE_RATE = 0.3
"""Rate of the second half of pretrain-finetune against the first."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is compared, on which clips."""

    dataset: str
    """"ntu", "smarthome", "simulated" ...: published numbers are shown for the same name alone."""
    real: Path
    synthetic: Path | None
    out: Path
    training: TrainingConfig = field(default_factory=TrainingConfig)
    n_real: tuple[int, ...] | None = (1,)
    """Real clips per class; None: as many as the smallest class has."""
    n_synthetic: tuple[int, ...] = (50,)
    """Synthetic clips per class of the arms that use any."""
    arms: tuple[Arm, ...] = ("real", "real+synthetic")
    seeds: tuple[int, ...] = (0, 1, 2)
    hold_out_share: float | None = None
    """Hold out this share of the subjects where the manifest states no split."""
    allow: tuple[Kind, ...] = ()
    """Kinds of leak that the data set's protocol shares on purpose."""
    workers: int = 2
    n_test: int | None = None
    """Test clips per class, drawn once for all seeds; None: all that there are."""
    motion_from: Literal["drawn", "training"] = "drawn"
    """Whose motions synthetic clips of a run may have: those of the real clips that it draws, or of any real training
    clip, as where few real clips are augmented by clips made from others'."""
    clip_model: Path | None = None
    """Folder of a CLIP model: similar and diverse then go by its features instead of the first recognizer's."""

    def __post_init__(self) -> None:
        unknown = [arm for arm in self.arms if arm not in ARMS]
        if unknown or not self.arms or not self.seeds:
            raise DataError(f"Arms are {self.arms} and seeds {self.seeds}; known arms: {', '.join(ARMS)}.")
        if self.synthetic is None and any(arm not in ("real", "real-augmented") for arm in self.arms):
            raise DataError("Arms other than `real` and `real-augmented` need a manifest of synthetic clips.")
        if self.training.probe and {"pretrain-finetune", "real-as-long"} & set(self.arms):
            raise DataError("A probe takes no steps: it goes with neither pretrain-finetune nor real-as-long.")
        if "real-as-long" in self.arms and "real+synthetic" not in self.arms:
            raise DataError("The arm real-as-long is as long as real+synthetic, which is not among the arms.")


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm with numbers of clips: a row of the table."""

    arm: Arm
    n_real: int | None
    n_synthetic: int

    def __str__(self) -> str:
        return f"{self.arm}_r{'all' if self.n_real is None else self.n_real}_s{self.n_synthetic}"


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """What a cell reached, over all seeds."""

    cell: Cell
    runs: tuple[Predictions, ...]
    train_clips: tuple[int, int]
    """Real and synthetic clips of the first seed's training set."""
    collapsed: int
    """Seeds whose network collapsed onto one class."""
    seconds: float
    final_loss: float
    """Mean training loss of the last steps: an arm that ends higher has learnt its clips less."""
    steps: float
    """Optimizer steps, mean over seeds."""
    accuracy: Interval
    gain: Interval | None
    """Against `real` of the same n_real; None for `real` itself and where it was not run."""


@dataclass(frozen=True, slots=True)
class Results:
    """All outcomes of an experiment."""

    experiment: Experiment
    classes: tuple[str, ...]
    test_clips: int
    test_subjects: int
    skipped: int
    """Clips whose video could not be used."""
    unchecked: dict[str, int]
    outcomes: tuple[CellOutcome, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    """What a reader of the table has to know: classes short of clips, arms that had not learnt their clips."""

    def outcome(self, arm: str, n_real: int | None = None) -> CellOutcome:
        """The outcome of an arm with the most synthetic clips. Raises DataError when it was not run."""
        found = [o for o in self.outcomes if o.cell.arm == arm and n_real in (None, o.cell.n_real)]
        if not found:
            raise DataError(f"No outcome of arm {arm!r}.")
        return max(found, key=lambda o: o.cell.n_synthetic)


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that can be trained and tested on."""

    split: Split
    synthetic: tuple[ManifestClip, ...]
    classes: tuple[str, ...]
    store: ClipStore
    drawn: tuple[ManifestClip, ...]
    """Training clips among which few are drawn, in every arm: where synthetic clips are compared, those that some were
    made from. A clip whose motion could not be read is no one-shot example of what synthetic clips gain."""
    motion_from: Literal["drawn", "training"] = "drawn"
    """See `Experiment`."""


def gather(experiment: Experiment) -> Material:
    """Load the manifests, decode the clips and hold the test set apart.

    Raises DataError when a manifest or class is empty, labels do not match, or the split is missing.
    """
    real = load_clips(experiment.real)
    synthetic = [] if experiment.synthetic is None else load_clips(experiment.synthetic)
    share = experiment.hold_out_share
    split = stated_split(real) if share is None else hold_out_subjects(real, share=share, seed=0)
    classes = tuple(by_class(split.train))
    if len(classes) < 2:
        raise DataError(f"{experiment.real} has {len(classes)} class for training; at least 2 are needed.")
    labels_of(split.test, classes)
    labels_of(synthetic, classes)
    store = ClipStore(experiment.out / "cache", experiment.training.clips)
    usable = {clip.id: clip for clip in store.fill([*split.train, *split.test, *synthetic], workers=experiment.workers)}

    def kept(clips: Sequence[ManifestClip]) -> tuple[ManifestClip, ...]:
        return tuple(c for c in clips if c.id in usable)

    train_clips, made, test_clips = kept(split.train), kept(synthetic), kept(split.test)
    if experiment.n_test is not None:
        test_clips = few_per_class(test_clips, experiment.n_test, seed=TEST_SEED)
        labels_of(test_clips, classes)
    compared = (
        any(arm not in REAL_ALONE for arm in experiment.arms)
        and experiment.n_real is not None
        and experiment.motion_from == "drawn"
    )
    drawn = _with_synthetic(train_clips, made) if compared else train_clips
    return Material(Split(train_clips, test_clips), made, classes, store, drawn, experiment.motion_from)


def _with_synthetic(real: tuple[ManifestClip, ...], synthetic: Sequence[ManifestClip]) -> tuple[ManifestClip, ...]:
    """The real clips from which synthetic ones were made; the others are told on stderr."""
    sources = {clip.source for clip in synthetic}
    left_out = [clip.id for clip in real if not sources & references(clip)]
    if left_out:
        print(
            f"{len(left_out)} of {len(real)} training clips are drawn in no arm, because no synthetic clip was made "
            f"from them; the first: {left_out[0]}",
            file=sys.stderr,
        )
    return tuple(clip for clip in real if sources & references(clip))


def cells_of(experiment: Experiment) -> list[Cell]:
    """Every row of the table: `real` once per n_real, the others for every number of synthetic clips."""
    cells = []
    for n_real in experiment.n_real or (None,):
        for arm in experiment.arms:
            counts = (0,) if arm in REAL_ALONE else tuple(n for n in experiment.n_synthetic if n)
            cells += [Cell(arm, n_real, n) for n in counts]
    return cells


def training_set(material: Material, cell: Cell, seed: int) -> tuple[ManifestClip, ...]:
    """The clips of a cell and seed, before `similar`, `diverse` and `hard` choose among them.

    Synthetic clips count only when their motion is from the real clips chosen.

    Raises DataError when a class has too few.
    """
    if cell.n_real is None:
        sources = {clip.source for clip in material.synthetic}
        chosen = equal_per_class(material.split.train, seed=seed, first=sources)
    else:
        chosen = few_per_class(material.drawn, cell.n_real, seed=seed)
    if cell.arm in REAL_ALONE:
        return chosen
    ways: dict[str, Any] = {"shuffled-background": "shuffled", "one-background": "one-per-class"}
    eligible = made_from(material.synthetic, chosen if material.motion_from == "drawn" else material.split.train)
    made = synthetic_per_class(
        eligible, len(eligible) if cell.arm in CHOSEN else cell.n_synthetic, labels=material.classes, seed=seed,
        backgrounds=ways.get(cell.arm, "random"),
    )  # fmt: skip
    return made if cell.arm == "synthetic" else (*chosen, *made)


def run_experiment(experiment: Experiment) -> Results:
    """Audit every training set, then train and score every cell and seed; finished runs are taken from `out/runs`.

    Raises LeakError before anything is trained when something of the test set would be, and DataError for bad input.
    """
    start_s = time.perf_counter()
    if experiment.clip_model is not None:
        load_clip(experiment.clip_model)
    material = gather(experiment)
    cells = cells_of(experiment)
    unchecked: dict[str, int] = {}
    for cell in cells:
        for seed in experiment.seeds:
            clips = training_set(material, cell, seed)
            found = audit(Split(clips, material.split.test), allow=experiment.allow).require_clean()
            unchecked = {k: max(unchecked.get(k, 0), v) for k, v in (unchecked | found.unchecked).items()}
    prepared_s = time.perf_counter() - start_s
    finished: dict[Cell, list[_Run]] = {cell: [] for cell in cells}
    for seed in experiment.seeds:  # seed by seed, so that an interrupted experiment has whole pairs
        for cell in sorted(cells, key=lambda c: c.arm == "real-as-long"):  # which needs to know the others' steps
            run = _run(experiment, material, cell, seed)
            finished[cell].append(run)
            accuracy = 100 * run.predictions.correct.mean()
            print(f"{cell} seed {seed}: {accuracy:.1f} % ({run.seconds:.0f} s)", file=sys.stderr, flush=True)
    outcomes = tuple(_outcome(cell, finished) for cell in cells)
    seconds = prepared_s + sum(o.seconds for o in outcomes)
    subjects = {c.subject for c in material.split.test if c.subject}
    warnings = [*_short_of(material, cells, experiment.seeds[0]), *_unlearnt(outcomes)]
    for warning in warnings:
        print(warning, file=sys.stderr, flush=True)
    return Results(
        experiment, material.classes, len(material.split.test), len(subjects), len(material.store.skipped), unchecked,
        outcomes, round(seconds, 1), tuple(warnings),
    )  # fmt: skip


def _short_of(material: Material, cells: Sequence[Cell], seed: int) -> list[str]:
    """Classes that got fewer synthetic clips than asked for while others got more: an arm out of balance."""
    found = []
    for cell in cells:
        if not cell.n_synthetic or cell.arm in CHOSEN:
            continue
        made = Counter(c.label for c in training_set(material, cell, seed) if c.kind == "synthetic")
        short = {label: made[label] for label in material.classes if made[label] < cell.n_synthetic}
        if short and min(made.values()) < max(made.values()):
            fewest = min(short, key=lambda label: short[label])
            found.append(
                f"{cell}: {len(short)} of {len(material.classes)} classes have fewer than {cell.n_synthetic} synthetic "
                f"clips; the fewest, {fewest}, has {short[fewest]}."
            )
    return found


def _unlearnt(outcomes: Sequence[CellOutcome]) -> list[str]:
    """Arms whose loss ended far above that of `real`: more steps would change their numbers."""
    real = {o.cell.n_real: o.final_loss for o in outcomes if o.cell.arm == "real"}
    return [
        f"{o.cell} ended with a training loss of {o.final_loss:.2f}, `real` with {real[o.cell.n_real]:.2f}: it had not "
        "learnt its clips. Compare again with more --steps."
        for o in outcomes
        if o.cell.n_real in real and o.final_loss > max(UNLEARNT_FROM, UNLEARNT_TIMES * real[o.cell.n_real])
    ]


@dataclass(frozen=True, slots=True)
class _Run:
    predictions: Predictions
    train_clips: tuple[int, int]
    collapsed: bool
    seconds: float
    final_loss: float
    steps: int


def _run(experiment: Experiment, material: Material, cell: Cell, seed: int) -> _Run:
    """Train and score one cell with one seed, or take it from disk."""
    clips = training_set(material, cell, seed)
    config = _trained_as(experiment, cell, seed)
    path = _run_path(experiment, cell, seed)
    manifests = {"real": experiment.real} | ({"synthetic": experiment.synthetic} if experiment.synthetic else {})
    parts = [config.as_dict(), [c.sha256 for c in clips], [c.sha256 for c in material.split.test], str(cell)]
    by_clip = experiment.clip_model if cell.arm in ("similar", "diverse") else None
    key = _digest(parts if by_clip is None else [*parts, str(by_clip)])
    if path.is_file():
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("key") != key:
            raise DataError(f"{path} is of other clips or settings; choose another folder for the results.")
        return _Run(
            load_run(path), tuple(document["train_clips"]), bool(document["collapsed_onto"]), document["seconds"],
            document["final_loss"], document["steps"],
        )  # fmt: skip
    start_s = time.perf_counter()
    folder = experiment.out / "training" / f"{cell}_seed{seed}"
    if cell.arm in CHOSEN:
        clips = _chosen(material, clips, config, cell, folder / "first", by_clip)
    as_trained = replace(material, store=ClipStore(material.store.folder, config.clips))  # tests keep their views
    trained = _train(as_trained, clips, config, cell, folder)
    scores = np.stack(list(predict(trained.network, material.store, material.split.test, device=config.device)))
    predictions = Predictions.of(material.split.test, scores, material.classes)
    named = predictions.predicted.tolist()
    collapsed = trained.collapsed_onto or collapsed_class(named, predictions.labels.tolist(), material.classes)
    seconds = round(time.perf_counter() - start_s, 1)
    counts = (sum(c.kind == "real" for c in clips), sum(c.kind == "synthetic" for c in clips))
    more = {
        "key": key, "arm": cell.arm, "seed": seed, "train_clips": list(counts), "seconds": seconds,
        "collapsed_onto": collapsed, "final_loss": trained.final_loss, "steps": len(trained.losses),
        "train_ids": [c.id for c in clips], "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    save_run(path, predictions, config=config.as_dict(), manifests=manifests, more=more)
    for finished in folder.rglob("*.pt"):  # checkpoints are for going on; logs stay
        finished.unlink()
    return _Run(predictions, counts, collapsed is not None, seconds, trained.final_loss, len(trained.losses))


def _trained_as(experiment: Experiment, cell: Cell, seed: int) -> TrainingConfig:
    """The training of an arm. Raises DataError where real-as-long does not know how long that is."""
    config = replace(experiment.training, seed=seed)
    if cell.arm in (*REAL_ALONE, "synthetic", "pretrain-finetune"):
        config = replace(config, real_share=None)
    if cell.arm == "real-augmented":
        clips = config.clips
        low, high = clips.train_short_side
        pace = STRONG_SPEED if clips.step_s is not None else 1.0
        closer = (low, round(STRONG_CROP * high))
        return replace(config, clips=replace(clips, color=STRONG_COLOR, speed=pace, train_short_side=closer))
    if cell.arm == "real-as-long":
        other = Cell("real+synthetic", cell.n_real, max(experiment.n_synthetic))
        path = _run_path(experiment, other, seed)
        return replace(config, steps=int(json.loads(path.read_text(encoding="utf-8"))["steps"]))
    return config


def _run_path(experiment: Experiment, cell: Cell, seed: int) -> Path:
    return experiment.out / "runs" / f"{cell}_seed{seed}.json"


def _chosen(
    material: Material,
    clips: Sequence[ManifestClip],
    config: TrainingConfig,
    cell: Cell,
    folder: Path,
    by_clip: Path | None,
) -> tuple[ManifestClip, ...]:
    """The real clips, and the synthetic ones that a first recognizer, or CLIP, would have."""
    how: Any = cell.arm  # one of CHOSEN
    if by_clip is not None:
        clip = load_clip(by_clip).to(config.device)
        real, synthetic = (_seen_by_clip(clip, material.store, clips, kind) for kind in ("real", "synthetic"))
        return (*real.clips, *choose(synthetic, real, cell.n_synthetic, how=how, seed=config.seed))
    half = config.halved
    network = _taught(material, clips, half, folder).network
    real, synthetic = (
        describe(network, material.store, [c for c in clips if c.kind == kind], material.classes)
        for kind in ("real", "synthetic")
    )
    return (*real.clips, *choose(synthetic, real, cell.n_synthetic, how=how, seed=config.seed))


def _seen_by_clip(network: torch.nn.Module, store: ClipStore, clips: Sequence[ManifestClip], kind: str) -> Described:
    chosen = tuple(c for c in clips if c.kind == kind)
    return Described(chosen, clip_features(network, store, chosen), np.full(len(chosen), np.nan))


def _train(
    material: Material, clips: Sequence[ManifestClip], config: TrainingConfig, cell: Cell, folder: Path
) -> Trained:
    """Train as the arm says; an interrupted training goes on from its checkpoints in `folder`."""
    if cell.arm == "half-real":
        config = replace(config, real_share=0.5)
    if cell.arm != "pretrain-finetune":
        return _taught(material, clips, config, folder)
    half = config.halved
    synthetic, real = ([c for c in clips if c.kind == kind] for kind in ("synthetic", "real"))
    first = train(material.store, synthetic, material.classes, half, folder=folder / "first")
    weights = folder / "pretrained.pt"
    torch.save(first.network.state_dict(), weights)
    second = replace(half, initial_weights=weights, lr=FINETUNE_RATE * config.lr)
    trained = train(material.store, real, material.classes, second, folder=folder / "second")
    return replace(trained, losses=(*first.losses, *trained.losses), seconds=first.seconds + trained.seconds)


def _taught(material: Material, clips: Sequence[ManifestClip], config: TrainingConfig, folder: Path) -> Trained:
    """The whole network trained, or its head alone."""
    if config.probe:
        return probe(material.store, clips, material.classes, config)
    return train(material.store, clips, material.classes, config, folder=folder)


def _outcome(cell: Cell, finished: dict[Cell, list[_Run]]) -> CellOutcome:
    runs = finished[cell]
    predictions = tuple(run.predictions for run in runs)
    base = [run.predictions for run in finished.get(Cell("real", cell.n_real, 0), [])]
    return CellOutcome(
        cell,
        predictions,
        runs[0].train_clips,
        sum(run.collapsed for run in runs),
        sum(run.seconds for run in runs),
        float(np.mean([run.final_loss for run in runs])),
        float(np.mean([run.steps for run in runs])),
        accuracy_interval(predictions),
        gain_interval(base, predictions) if base and cell.arm != "real" else None,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
