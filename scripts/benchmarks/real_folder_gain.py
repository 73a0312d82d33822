"""Recognizers trained on each person of a real folder in turn: what synthetic clips gain, and how sure that is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.real_folder import RealFolderSet
from benchmarks.simulated_world import each

from actionrec.evaluation import Interval, Predictions, fold_interval, score
from actionrec.protocols import Experiment, Results, gather, run_experiment
from actionrec.report import write_report


@dataclass(frozen=True, slots=True)
class FolderGain:
    """What was measured over all persons."""

    persons: tuple[str, ...]
    accuracy: Mapping[str, Interval]
    """By arm."""
    gain: Mapping[str, Interval]
    """By arm, against `real`."""
    by_person: Mapping[str, Mapping[str, float]]
    """Accuracy by training person and arm."""
    by_class: Mapping[str, Mapping[str, float]]
    """Accuracy by class and arm."""
    clips: tuple[int, int]
    """Synthetic clips in a training set of the first person, and test clips."""
    final_loss: Mapping[str, float]
    """Mean training loss at the end, by arm: an arm that ends higher has learnt its clips less."""
    steps: Mapping[str, float]
    """Mean optimizer steps, by arm."""

    def as_dict(self) -> dict[str, Any]:
        """The keys of the results file."""
        gain = self.gain["real+synthetic"]
        arms = {f"accuracy_{arm.replace('+', '_').replace('-', '_')}": v.mean for arm, v in self.accuracy.items()}
        return {
            **{name: round(value, 4) for name, value in arms.items()},
            "gain": round(gain.mean, 4),
            "gain_low": round(gain.low, 4),
            "gain_high": round(gain.high, 4),
            "gains": {arm: [round(v, 4) for v in (g.mean, g.low, g.high)] for arm, g in self.gain.items()},
            "by_person": self.by_person,
            "by_class": self.by_class,
            "synthetic_clips": self.clips[0],
            "test_clips": self.clips[1],
            "final_loss": self.final_loss,
            "steps": self.steps,
        }

    def table(self) -> str:
        """Arms as rows: accuracy, gain, and what each training person brings, in percent and points."""
        rows = [["arm", "accuracy", "gain", *self.persons, "loss", "steps"]]
        for arm, accuracy in self.accuracy.items():
            gain = str(self.gain[arm]) if arm in self.gain else ""
            each_one = [f"{100 * self.by_person[person][arm]:.1f}" for person in self.persons]
            rows.append([arm, str(accuracy), gain, *each_one, f"{self.final_loss[arm]:.2f}", f"{self.steps[arm]:.0f}"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) for row in rows)


def measure(made: RealFolderSet, template: Experiment, jobs: int) -> FolderGain:
    """Train and test every arm, seed and person; what was trained before is taken from disk. A page of each person's
    results lies in `runs/PERSON/report`.

    `template`: arms, seeds, training, numbers of clips; its manifests and folder are replaced for every person.
    """
    experiments = {person: experiment_of(made, person, template) for person in made.persons}
    for experiment in experiments.values():
        gather(experiment)  # decoded here, not by several processes at once
    tasks = [replace(e, seeds=(seed,)) for seed in template.seeds for e in experiments.values()]
    each(train_and_test, tasks, jobs)
    results = {person: run_experiment(e) for person, e in experiments.items()}
    for found in results.values():
        write_report(found, found.experiment.out / "report", command=" ".join(["python", *sys.argv]))
    return summarized(results)


def experiment_of(made: RealFolderSet, person: str, template: Experiment) -> Experiment:
    """The experiment in which one person's clips are known."""
    return replace(
        template, real=made.real(person), synthetic=made.synthetic(person), out=made.folder / "runs" / person,
        dataset=person,
    )  # fmt: skip


def train_and_test(experiment: Experiment) -> None:
    """One person and seed, whole; the runs lie on disk then."""
    run_experiment(experiment)


def summarized(results: Mapping[str, Results]) -> FolderGain:
    """Means and intervals over persons, test persons and seeds."""
    runs = {
        arm: [list(found.outcome(arm).runs) for found in results.values()]
        for arm in next(iter(results.values())).experiment.arms
    }
    first = next(iter(results.values()))
    told = {arm: [_told(e, arm) for e in results.values()] for arm in runs}
    return FolderGain(
        tuple(results),
        {arm: fold_interval(folds) for arm, folds in runs.items()},
        {arm: fold_interval(folds, less=runs["real"]) for arm, folds in runs.items() if arm != "real"},
        {
            person: {arm: _accuracy(folds[i]) for arm, folds in runs.items()} for i, person in enumerate(results)
        },
        _by_class(runs),
        (first.outcome("real+synthetic").train_clips[1], first.test_clips),
        {arm: round(float(np.mean([t[0] for t in many])), 3) for arm, many in told.items()},
        {arm: round(float(np.mean([t[1] for t in many])), 1) for arm, many in told.items()},
    )  # fmt: skip


def _told(results: Results, arm: str) -> tuple[float, float]:
    """Mean final loss and steps of an arm, as its run files say."""
    from avatars.io.files import read_json

    cell = results.outcome(arm).cell
    files = [results.experiment.out / "runs" / f"{cell}_seed{seed}.json" for seed in results.experiment.seeds]
    found = [read_json(Path(file)) for file in files]
    return float(np.mean([f["final_loss"] for f in found])), float(np.mean([f["steps"] for f in found]))


def _accuracy(runs: Sequence[Predictions]) -> float:
    return round(float(np.mean([run.correct.mean() for run in runs])), 4)


def _by_class(runs: Mapping[str, list[list[Predictions]]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for arm, folds in runs.items():
        scores = [score(run).per_class for fold in folds for run in fold]
        for name in sorted({name for per_class in scores for name in per_class}):
            values = [per_class[name] for per_class in scores if name in per_class]
            found.setdefault(name, {})[arm] = round(float(np.mean(values)), 4)
    return found
