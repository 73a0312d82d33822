"""The stages of an experiment, each done when its files are whole: what was stopped goes on with the same command."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actionrec.manifest import ManifestClip, read_manifest, write_manifest
from avatars.errors import InputError
from avatars.io.files import atomic_path, read_json, write_json
from avatars.io.progress import StageClock
from reenact.reproduction.recipe import Recipe
from reenact.reproduction.references import Verdict, choose_references, unsuitable
from reenact.reproduction.standard_video import standard_video

if TYPE_CHECKING:
    from actionrec.protocols import Experiment, Results

STAGES = ("manifest", "references", "avatars", "clips", "filter", "recognizers", "report")


@dataclass(frozen=True, slots=True)
class Reproduced:
    """What came out."""

    out: Path
    counts: dict[str, int]
    """Clips asked for and got, by name."""
    exact: bool
    """Whether every count is the one asked for."""
    results: dict[str, Results]
    """By name of the experiment."""
    page: Path


def reproduce(recipe: Recipe, *, jobs: int = 0, clock: StageClock | None = None) -> Reproduced:
    """Run every stage that is not done. Raises InputError for what the user can mend, before the work it concerns."""
    from actionrec.errors import DataError

    clock = clock or StageClock()
    _claim(recipe)
    try:
        with _told(clock, "manifest"):
            real = real_clips(recipe)
        with _told(clock, "references"):
            chosen = references(recipe, real)
        with _told(clock, "avatars"):
            fit_avatars(recipe)
        with _told(clock, "clips"):
            make_clips(recipe, chosen, jobs)
        with _told(clock, "filter"):
            synthetic = accepted_clips(recipe, real, jobs)
        with _told(clock, "recognizers"):
            results = recognize(recipe)
    except DataError as error:
        raise InputError(str(error)) from None
    with _told(clock, "report"):
        from reenact.reproduction.page import write_page

        counts = counted(recipe, real, chosen, synthetic, results)
        write_json(recipe.out / "counts.json", {name: {"asked": a, "got": g} for name, (a, g) in counts.items()})
        exact = all(asked == got for asked, got in counts.values())
        page = write_page(recipe, counts, results, chosen)
    return Reproduced(recipe.out, {name: got for name, (_, got) in counts.items()}, exact, results, page)


class _told:
    """Times a stage and says where the work is."""

    def __init__(self, clock: StageClock, name: str) -> None:
        self._stage, self._name = clock.stage(name), name

    def __enter__(self) -> None:
        print(f"[{STAGES.index(self._name) + 1}/{len(STAGES)}] {self._name}", flush=True)
        self._stage.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._stage.__exit__(*error)


def _claim(recipe: Recipe) -> None:
    """Write the recipe into an empty folder, or check that it is the one found. Raises InputError."""
    settings = _as_json(recipe)
    path = recipe.out / "recipe.json"
    if path.is_file():
        found = read_json(path)
        changed = sorted(key for key in settings if not isinstance(found, dict) or found.get(key) != settings[key])
        if changed:
            raise InputError(f"{recipe.out} holds an experiment with other {', '.join(changed)}; choose another `out`.")
    elif recipe.out.is_dir() and any(recipe.out.iterdir()):
        raise InputError(f"{recipe.out} is not empty and holds no experiment; choose another `out`.")
    else:
        write_json(path, settings)


def _as_json(recipe: Recipe) -> dict[str, Any]:
    """Everything that decides what comes out."""
    import json

    return json.loads(json.dumps({k: v for k, v in asdict(recipe).items() if k != "out"}, default=str))


def real_clips(recipe: Recipe) -> list[ManifestClip]:
    """The data set's clips, listed once in `real.jsonl`; their paths are absolute."""
    from actionrec.sources import ntu, smarthome
    from actionrec.sources.listing import read_classes

    path, source = recipe.out / "real.jsonl", recipe.dataset
    if not path.is_file():
        classes = None if source.classes is None else read_classes(source.classes)
        if source.kind == "manifest":
            wanted = None if classes is None else {name.casefold() for name in classes}
            clips = [
                replace(c, path=str((source.folder.parent / c.path).absolute()))
                for c in read_manifest(source.folder)
                if c.kind == "real" and (wanted is None or c.label.casefold() in wanted)
            ]
        else:
            build: Callable[..., Any] = ntu.build if source.kind == "ntu" else smarthome.build
            clips = list(build(source.folder, protocol=source.protocol, classes=classes).clips)
        _require_enough(recipe, clips)
        write_manifest(path, [replace(c, path=os.path.relpath(c.path, recipe.out)) for c in clips])
    return [replace(c, path=str(recipe.out / c.path)) for c in read_manifest(path)]


def number_of_classes(recipe: Recipe) -> int:
    """How many classes the experiment has, before its manifest is written."""
    from actionrec.sources.listing import read_classes

    path = recipe.out / "real.jsonl"
    if path.is_file():
        return len({clip.label for clip in read_manifest(path)})
    if recipe.dataset.classes is not None:
        return len(read_classes(recipe.dataset.classes))
    if recipe.dataset.kind == "manifest":
        return len({clip.label for clip in read_manifest(recipe.dataset.folder)})
    raise InputError("The recipe's dataset names no `classes`: give a class list (data/manifests/*.json).")


def counts_asked(recipe: Recipe, classes: int) -> dict[str, int]:
    """Everything that is to be made, over all classes."""
    counts = recipe.counts
    return {
        "classes": classes,
        "references": counts.references * classes,
        "avatars": len(recipe.identities),
        "synthetic clips": recipe.planned_per_class * classes,
        "real training clips, baseline": counts.real * classes,
        "synthetic training clips": counts.synthetic * classes,
        "test clips": counts.test * classes,
        "trainings": len(recipe.recognizers) * recipe.seeds * (
            2 + len(counts.few_real) * (1 + sum(n > 0 for n in counts.few_synthetic))
        ),
    }  # fmt: skip


def _require_enough(recipe: Recipe, clips: Sequence[ManifestClip]) -> None:
    """Raise InputError where a class has fewer clips than are asked for: before hours of work, not after."""
    asked = {"train": max(recipe.counts.real, *recipe.counts.few_real), "test": recipe.counts.test}
    for split, n in asked.items():
        labels = sorted({c.label for c in clips})
        has = {label: sum(c.label == label and c.split == split for c in clips) for label in labels}
        short = {label: count for label, count in has.items() if count < n}
        if short:
            found = ", ".join(f"{label} {count}" for label, count in list(short.items())[:5])
            raise InputError(
                f"{len(short)} of {len(has)} classes have fewer than {n} clips for {split}: {found}. Ask for fewer "
                f"(counts.{'real' if split == 'train' else 'test'}), or leave these classes out."
            )


def references(recipe: Recipe, real: Sequence[ManifestClip]) -> list[Verdict]:
    """Choose and track reference clips; their motions lie in `references/motions`, named by the clips' ids."""
    folder = recipe.out / "references"

    def judge(clip: ManifestClip) -> str:
        return tracked(recipe, clip, folder)

    return choose_references(real, recipe.counts.references, judge, folder / "references.json", seed=recipe.seed)


def tracked(recipe: Recipe, clip: ManifestClip, folder: Path) -> str:
    """Track a clip's standard video; why it is no reference, "" when it is one."""
    from avatars.body import load_body
    from reenact.commands.features import FeaturesCommand, Source
    from reenact.reproduction.references import LEAST_TRACKED

    try:
        video = standard_video(
            Path(clip.path), folder / "videos" / f"{clip.id}.mp4", recipe.reference_video, whole=False
        )
        against = unsuitable(video)
        if against:
            return against
        motions = folder / "motions"
        motions.mkdir(parents=True, exist_ok=True)
        told = {"subject": clip.subject, "source": clip.source, "split": clip.split}
        command = FeaturesCommand((video,), motions, preview=False)
        command.make(Source(video, clip.id, clip.label, told), load_body())
        counts = read_json(motions / f"{clip.id}.json")
    except InputError as error:
        return str(error)
    share = counts["valid_frames"] / max(counts["frames"], 1)
    return "" if share >= LEAST_TRACKED else f"tracked in {100 * share:.0f}% of its frames"


def fit_avatars(recipe: Recipe) -> None:
    """Fit an avatar to the standard video of every identity; those that are there stay."""
    from avatars.commands.fit import FitCommand
    from avatars.io.progress import progress

    for video in progress(recipe.identities, "avatars"):
        avatar = recipe.out / "avatars" / video.stem
        if (avatar / "avatar.json").is_file():
            continue
        standard = standard_video(
            video, recipe.out / "identities" / f"{video.stem}.mp4", recipe.identity_video, whole=True
        )
        fit = FitCommand(
            standard, avatar, quality=recipe.quality, size=recipe.avatar_px, seed=recipe.seed,  # pyright: ignore[reportArgumentType]
            device=recipe.device if recipe.device == "cuda" else "cpu",
        )  # fmt: skip
        fit.check()
        fit.fit(StageClock())


def make_clips(recipe: Recipe, chosen: Sequence[Verdict], jobs: int) -> None:
    """Plan and make every synthetic clip."""
    import yaml

    from reenact.running.run import run_batch

    batch = {
        "out": "dataset", "seed": recipe.seed, "size": recipe.size_px, "fps": recipe.fps,
        "backgrounds_per_pair": recipe.counts.places_per_pair, "any_place": True,
        "avatars": [{"path": f"avatars/{video.stem}", "person": video.stem} for video in recipe.identities],
        "motions": [
            {"path": f"references/motions/{v.id}.npz", "label": v.label} for v in chosen if v.accepted
        ],
        "backgrounds": [{"path": str(place.absolute())} for place in recipe.places],
    }  # fmt: skip
    with atomic_path(recipe.out / "batch.yaml") as aside:
        aside.write_text(yaml.safe_dump(batch, sort_keys=False), encoding="utf-8")
    summary = run_batch(recipe.out / "batch.yaml", jobs=jobs)
    if summary.stopped:
        raise InputError(summary.stopped)
    print(f"{summary.made} clips made, {summary.already_there} already there, {len(summary.failures)} failed")


def accepted_clips(recipe: Recipe, real: Sequence[ManifestClip], jobs: int) -> list[ManifestClip]:
    """Judge the clips, and write those that pass to `synthetic.jsonl`. Raises InputError where a class lacks some."""
    dataset = recipe.out / "dataset"
    made = dataset / "manifest.jsonl"
    judged = dataset / "gate.json"
    if not judged.is_file() or judged.stat().st_mtime_ns < made.stat().st_mtime_ns:
        _filter(dataset, jobs)
    clips = [replace(c, path=f"dataset/{c.path}") for c in read_manifest(dataset / "accepted.jsonl")]
    write_manifest(recipe.out / "synthetic.jsonl", clips)
    asked = max(recipe.counts.synthetic, *recipe.counts.few_synthetic)
    has = {label: sum(c.label == label for c in clips) for label in sorted({c.label for c in real})}
    short = {label: n for label, n in has.items() if n < asked}
    if short:
        found = ", ".join(f"{label} {n}" for label, n in list(short.items())[:5])
        raise InputError(
            f"{len(short)} of {len(has)} classes have fewer than {asked} accepted synthetic clips: {found}. Nothing "
            f"was cut to fit. See why in {judged} and {dataset / 'failures.jsonl'}; ask for fewer, or plan more "
            "(references, identities, places_per_pair) with another `out`."
        )
    return clips


def _filter(dataset: Path, jobs: int) -> None:
    from reenact.commands.filter import FilterCommand

    FilterCommand(dataset, jobs=jobs).run()


def experiments(recipe: Recipe) -> dict[str, Experiment]:
    """The baseline and the few-shot experiment of every recognizer."""
    from actionrec.protocols import Experiment
    from actionrec.training import TrainingConfig

    found = {}
    counts = recipe.counts
    for name in recipe.recognizers:
        training = TrainingConfig.preset(recipe.preset, recognizer=name, device=recipe.device)
        training = replace(training, steps=recipe.steps or training.steps)
        common: dict[str, Any] = {
            "dataset": recipe.dataset.kind, "real": recipe.out / "real.jsonl",
            "synthetic": recipe.out / "synthetic.jsonl", "training": training, "seeds": tuple(range(recipe.seeds)),
            "n_test": counts.test, "motion_from": recipe.motion_from,
        }  # fmt: skip
        out = recipe.out / "recognizers" / name
        found[f"baseline, {name}"] = Experiment(
            out=out / "baseline", n_real=(counts.real,), n_synthetic=(counts.synthetic,), **common
        )
        found[f"few-shot, {name}"] = Experiment(
            out=out / "few_shot", n_real=counts.few_real, n_synthetic=counts.few_synthetic, **common
        )
    return found


def recognize(recipe: Recipe) -> dict[str, Results]:
    """Train and test everything; a report beside each experiment."""
    from actionrec.protocols import run_experiment
    from actionrec.report import write_report

    results = {}
    for name, experiment in experiments(recipe).items():
        print(f"  {name}", flush=True)
        results[name] = run_experiment(experiment)
        write_report(results[name], experiment.out / "report", command=f"reenact reproduce: {name}")
    return results


def counted(
    recipe: Recipe,
    real: Sequence[ManifestClip],
    chosen: Sequence[Verdict],
    synthetic: Sequence[ManifestClip],
    results: dict[str, Results],
) -> dict[str, tuple[int, int]]:
    """Asked for and got, as the runs themselves tell it."""
    classes = len({c.label for c in real})
    counts = recipe.counts
    found = {
        "references": (counts.references * classes, sum(v.accepted for v in chosen)),
        "avatars": (len(recipe.identities), len({c.identity for c in synthetic})),
        "synthetic clips planned": (recipe.planned_per_class * classes, _planned(recipe)),
    }
    for name, result in results.items():
        found[f"{name}: test clips"] = (counts.test * classes, result.test_clips)
        for outcome in result.outcomes:
            asked = (outcome.cell.n_real or 0, outcome.cell.n_synthetic)
            for kind, n, got in zip(("real", "synthetic"), asked, outcome.train_clips, strict=True):
                found[f"{name}: {outcome.cell}: {kind}"] = (n * classes, got)
    return found


def _planned(recipe: Recipe) -> int:
    from reenact.planning.plan import read_plan

    return len(read_plan(recipe.out / "dataset").clips)
