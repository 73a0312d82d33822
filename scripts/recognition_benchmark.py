"""What the three benchmarks of recognition share: their options, the simulated set, and how results are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from avatars.errors import InputError


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of every benchmark of recognition."""

    out: Path = Path("recognition")
    """Folder for the simulated set, decoded clips, runs and the report; a run that was stopped goes on there."""
    real: Path | None = None
    """Manifest of real clips with stated splits (python -m actionrec.sources ...); default: the simulated set."""
    synthetic: Path | None = None
    """Manifest of synthetic clips made from the real training clips (reenact run)."""
    dataset: str = ""
    """Name of the data set: "ntu" or "smarthome" sets the published numbers beside ours."""
    simulated: Literal["smoke", "tiny", "small", "recorded", "full"] = "tiny"
    """The simulated set that is made when no manifest is given; recorded is like tiny, with the movement of --motions;
    small has 8 actions, full all 16 of the studio."""
    motions: Path | None = None
    """Folder of recorded motions named action_take.bvh, for the recorded set."""
    preset: Literal["tiny", "paper", "modern"] = "tiny"
    """Training: tiny is for two CPU cores."""
    recognizer: Literal["small", "resnet50", "slowfast", "x3d-s", "x3d-xs", "x3d-thin", "videomae"] | None = None
    """Default: small for tiny, resnet50 for the others."""
    seeds: int = 3
    steps: int | None = None
    """Optimizer steps of every run, whatever its number of clips; default: as the preset says."""
    step_s: float | None = None
    """Seconds from one frame of a view to the next, and four views at test; default: spread evenly over the whole clip,
    which hides how fast people move where clips are of different lengths."""
    hold_out: float | None = None
    """Hold out this share of the subjects where the manifest states no split."""
    allow: tuple[Literal["subject", "performance"], ...] = ()
    """What a protocol has on both sides on purpose: cross-view shares subjects and performances."""
    extra_arms: tuple[
        Literal[
            "synthetic", "half-real", "pretrain-finetune", "shuffled-background", "one-background",
            "similar", "diverse", "hard",
        ],
        ...,
    ] = ()  # fmt: skip
    """More arms; similar, diverse and hard choose synthetic clips by a first recognizer instead of at random."""
    clip_model: Path | None = None
    """Folder of a CLIP model in transformers' form, by whose features similar and diverse choose."""
    device: str = "cpu"
    jobs: int = 2
    """Processes that make and decode clips."""
    seed: int = 0
    """Of the simulated set."""
    json: Path | None = None
    """Also write the headline numbers there."""


def benchmark(
    options: BenchmarkOptions,
    *,
    n_real: tuple[int, ...] | None,
    n_synthetic: tuple[int, ...],
    arms: tuple[str, ...],
) -> None:
    """Make the simulated set where no manifest is given, run the experiment, print the table and write the report.

    Raises InputError for manifests that do not go together, and DataError.
    """
    from actionrec.protocols import Experiment, run_experiment
    from actionrec.report import summary, table, write_report
    from actionrec.training import TrainingConfig

    if (options.real is None) != (options.synthetic is None):
        raise InputError("Give both --real and --synthetic, or neither for the simulated set.")
    training = TrainingConfig.preset(options.preset, recognizer=options.recognizer, device=options.device)
    views = training.clips
    if options.step_s is not None:
        views = replace(views, stride=None, step_s=options.step_s, test_views=max(views.test_views, 4))
    real, synthetic, making = options.real, options.synthetic, {}
    if real is None:
        real, synthetic, making = _simulated(options)
    experiment = Experiment(
        dataset=options.dataset or ("simulated" if options.real is None else real.stem),
        real=real,
        synthetic=synthetic,
        out=options.out,
        training=replace(training, clips=views, steps=options.steps or training.steps),
        n_real=n_real,
        n_synthetic=n_synthetic,
        arms=tuple(dict.fromkeys((*arms, *options.extra_arms))),  # type: ignore[arg-type]
        seeds=tuple(range(options.seeds)),
        hold_out_share=options.hold_out,
        allow=options.allow,
        workers=options.jobs,
        clip_model=options.clip_model,
    )
    results = run_experiment(experiment)
    total_s = round(results.seconds + sum(making.get("seconds", {}).values()), 1)
    more: dict[str, Any] = {"seconds": total_s, "seconds_training": results.seconds, "simulated": making or None}
    page = write_report(
        results, options.out / "report", command=" ".join(["python", *sys.argv]), json_path=options.json, more=more
    )
    head = summary(results)
    print(table(results))
    print(
        f"{experiment.dataset}: gain {100 * head['gain']:+.1f} points, 95 % interval {100 * head['gain_low']:+.1f} to "
        f"{100 * head['gain_high']:+.1f}; {head['classes']} classes, {head['seeds']} seeds, {total_s:.0f} s; see {page}"
    )


def _simulated(options: BenchmarkOptions) -> tuple[Path, Path, dict[str, Any]]:
    """The simulated set's manifests, and what is worth noting about its making."""
    from reenact.simulated import SimulatedConfig, make_simulated_set

    motions = "" if options.motions is None else str(options.motions)
    config = SimulatedConfig.preset(options.simulated, seed=options.seed, jobs=options.jobs, motions=motions)
    made = make_simulated_set(options.out / f"simulated_{options.simulated}_{options.seed}", config)
    for failure in made.failures:
        print(f"not made: {failure}", file=sys.stderr)
    note = {"preset": options.simulated, "subjects": config.subjects, "failures": list(made.failures)}
    return made.real, made.synthetic, note | {"seconds": made.seconds}


def main(options: Any, run: Callable[[Any], None], description: str) -> int:
    """Parse the options, run, and print what the user has to mend in one line; exit code 2 then."""
    import tyro

    from actionrec.errors import DataError

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = tyro.cli(options, description=description, config=(tyro.conf.OmitArgPrefixes,))
    try:
        run(given)
    except (InputError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
