"""What of a synthetic clip does a recognizer of real clips not know? One thing changed at a time, each with its cost.

python scripts/benchmarks/sim_to_real.py --real-folder clips --out sim_to_real --json sim_to_real.json

For each person of the folder a recognizer is trained on the real clips of all others and tested on that person's: the
clip itself, the person cut out over another place, an avatar doing the same in the same place, and so on to a clip as
the benchmarks draw it. The masks alone, white on black, tell motion and shape from appearance. Costs are paired by
clip. With --also-train the other way round as well: trained on one person's clips of a variant, tested on all others'
real ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.benchmark_results import require_results_file, write_results
from benchmarks.clip_variants import ClipVariants, make_variants, variants_of
from benchmarks.real_folder import RealFolderConfig, make_real_folder_set
from benchmarks.simulated_world import each
from recognition_benchmark import main, require_own_folder

from actionrec.evaluation import Interval, Predictions, fold_interval
from actionrec.manifest import ManifestClip, write_manifest
from actionrec.protocols import Experiment, run_experiment
from actionrec.training import TrainingConfig
from avatars.errors import InputError

NAME = "sim_to_real"
MASKS = ("silhouette of real", "silhouette of avatar")
STEP_S = 0.1


@dataclass(frozen=True)
class SimToRealOptions:
    """Where real and synthetic clips part."""

    real_folder: Path
    """Folder of real clips, CLASS/PERSON__N.ext."""
    out: Path = Path("sim_to_real")
    """Folder for all that is made; a run that was stopped goes on there."""
    set: Path | None = None
    """Set that one_shot_benchmark.py made of the same clips (its OUT/real_folder); default: made here."""
    seeds: int = 2
    steps: int | None = None
    """Optimizer steps; default: until the loss stops falling."""
    view_px: int = 80
    """Side of a view."""
    per_clip: int = 2
    """Avatars that do each motion in each variant."""
    avatars: int = 12
    """Of the set, when it is made here."""
    also_train: tuple[str, ...] = ()
    """Variants to train on, too."""
    jobs: int = 2
    json: Path | None = None


Side = Literal["test", "train"]


@dataclass(frozen=True, slots=True)
class Row:
    """A variant's accuracy, and what its one change costs."""

    variant: str
    what: str
    accuracy: Interval
    less: str
    cost: Interval | None
    """Accuracy less that of `less`: negative costs."""


def run(options: SimToRealOptions) -> None:
    """Make the variants, train, test, and tell."""
    require_results_file(options.json, NAME)
    require_own_folder(options.out)
    config = RealFolderConfig(avatars=options.avatars, jobs=options.jobs)
    known = {v.name for v in variants_of(config)}
    if unknown := sorted(set(options.also_train) - known):
        raise InputError(f"--also-train: no variant {unknown[0]!r}; there are {', '.join(sorted(known))}.")
    folder = options.out / "real_folder" if options.set is None else options.set
    made = make_real_folder_set(options.real_folder, folder, config)
    real = _all_clips(made.real(made.persons[0]))
    variants = make_variants(made.folder, real, config, options.out / "simulated_variants", avatars=options.per_clip)
    training = TrainingConfig.preset("tiny").seen_at(options.view_px)
    views = replace(training.clips, stride=None, step_s=STEP_S, test_views=max(training.clips.test_views, 4))
    training = replace(training, clips=views, steps=options.steps)
    tested = predicted_on_variants(variants, training, options)
    rows = rows_of(tested, config)
    print(table(rows, "trained on the real clips of all others, tested on"))
    numbers: dict[str, Any] = {"test": as_dict(rows), "clips": len(variants.clips["real"]), "seeds": options.seeds}
    if options.also_train:
        taught = rows_of(predicted_from_variants(variants, training, options), config)
        print(table(taught, "tested on the real clips of all others, trained on"))
        numbers["train"] = as_dict(taught)
    write_results(options.json, NAME, numbers)
    print(f"{len(variants.clips['real'])} clips of {len(made.persons)} people; {options.out}")


def _all_clips(manifest: Path) -> list[ManifestClip]:
    from actionrec.clips import load_clips

    return load_clips(manifest)


def predicted_on_variants(
    variants: ClipVariants, training: TrainingConfig, options: SimToRealOptions
) -> dict[str, list[list[Predictions]]]:
    """Predictions by variant, person and seed; rows are (clip, avatar), the same in every variant."""
    experiments = []
    for kind in ("seen", "masks"):
        names = [n for n in variants.clips if (n in MASKS) == (kind == "masks")]
        for person in _people(variants):
            folder = options.out / "runs" / f"test_{kind}_{person}"
            train = _of(variants, names[0], person, own=False)
            test = [replace(c, kind="real") for name in names for c in _of(variants, name, person, own=True)]
            experiments.append(_experiment(folder, train, test, training, options))
    _train_all(experiments, options)
    found: dict[str, list[list[Predictions]]] = {name: [] for name in variants.clips}
    for experiment in experiments:
        runs = run_experiment(experiment).outcome("real").runs
        person = experiment.out.name.rsplit("_", 1)[1]
        for name in variants.clips:
            if (name in MASKS) == ("_masks_" in experiment.out.name):
                found[name].append([_rows(run, variants, name, person, options.per_clip) for run in runs])
    return found


def predicted_from_variants(
    variants: ClipVariants, training: TrainingConfig, options: SimToRealOptions
) -> dict[str, list[list[Predictions]]]:
    """Predictions of everybody else's real clips, by variant, person trained on, and seed."""
    found: dict[str, list[list[Predictions]]] = {}
    plans = {}
    for name in dict.fromkeys(("real", *options.also_train)):
        for person in _people(variants):
            folder = options.out / "runs" / f"train_{name}_{person}"
            train = [replace(c, kind="real") for c in _of(variants, name, person, own=True)]
            test = _of(variants, "real", person, own=False)
            plans[name, person] = _experiment(folder, train, test, training, options)
    _train_all(list(plans.values()), options)
    for (name, _), experiment in plans.items():
        found.setdefault(name, []).append(list(run_experiment(experiment).outcome("real").runs))
    return found


def _experiment(
    folder: Path,
    train: Sequence[ManifestClip],
    test: Sequence[ManifestClip],
    training: TrainingConfig,
    options: SimToRealOptions,
) -> Experiment:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "clips.jsonl"
    split = [replace(c, split="train") for c in train] + [replace(c, split="test") for c in test]
    write_manifest(manifest, [replace(c, path=str(Path(c.path).resolve())) for c in split])
    return Experiment(
        "sim_to_real", manifest, None, folder, training, n_real=None, arms=("real",), seeds=tuple(range(options.seeds)),
        workers=options.jobs,
    )  # fmt: skip


def _train_all(experiments: Sequence[Experiment], options: SimToRealOptions) -> None:
    """Every training, several at once; the runs lie on disk then."""
    each(train_and_test, [replace(e, workers=1) for e in experiments], options.jobs)


def train_and_test(experiment: Experiment) -> None:
    """All seeds of one experiment."""
    run_experiment(experiment)


def _people(variants: ClipVariants) -> list[str]:
    return sorted({clips[0].subject for clips in variants.clips["real"].values()})


def _of(variants: ClipVariants, name: str, person: str, *, own: bool) -> list[ManifestClip]:
    """Clips of a variant of one person, or of all others; synthetic ones count as their source's person."""
    real = variants.clips["real"]
    chosen = [motion for motion, clips in real.items() if (clips[0].subject == person) == own]
    return [replace(c, subject=real[motion][0].subject) for motion in chosen for c in variants.clips[name][motion]]


def _rows(run: Predictions, variants: ClipVariants, name: str, person: str, per_clip: int) -> Predictions:
    """A variant's predictions, one row for each clip and avatar; groups are the source's clips."""
    where = {clip: i for i, clip in enumerate(run.ids)}
    real = variants.clips["real"]
    chosen = [motion for motion, clips in real.items() if clips[0].subject == person]
    ids = [(motion, k) for motion in chosen for k in range(per_clip)]
    index = [where[variants.clips[name][m][min(k, len(variants.clips[name][m]) - 1)].id] for m, k in ids]
    return Predictions(
        tuple(f"{m} {k}" for m, k in ids), tuple(m for m, _ in ids), run.labels[index], run.scores[index], run.classes
    )


def rows_of(tested: Mapping[str, list[list[Predictions]]], config: RealFolderConfig) -> list[Row]:
    """Accuracy and cost of every variant that was tested (or trained on)."""
    names = {v.name: (v.what, v.less) for v in variants_of(config)}
    names |= {MASKS[0]: ("the real person's mask alone", ""), MASKS[1]: ("the avatar's mask alone", MASKS[0])}
    rows = []
    for name, folds in tested.items():
        what, less = names[name]
        less = less if less in tested else "real" if less and "real" in tested else ""
        cost = fold_interval(folds, less=tested[less]) if less else None
        rows.append(Row(name, what, fold_interval(folds), less, cost))
    return rows


def as_dict(rows: Sequence[Row]) -> dict[str, Any]:
    """The keys of the results file."""

    def numbers(interval: Interval | None) -> list[float] | None:
        return None if interval is None else [round(v, 4) for v in (interval.mean, interval.low, interval.high)]

    return {r.variant: {"accuracy": numbers(r.accuracy), "less": r.less, "cost": numbers(r.cost)} for r in rows}


def table(rows: Sequence[Row], title: str) -> str:
    """Rows in percent and points."""
    lines = [("variant", title, "accuracy", "against", "points")]
    lines += [(r.variant, r.what, str(r.accuracy), r.less, "" if r.cost is None else str(r.cost)) for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main(SimToRealOptions, run, __doc__ or ""))
