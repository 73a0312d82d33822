"""What the three benchmarks of recognition share: their options, the simulated set, and how results are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.benchmark_results import require_results_file, write_results

from avatars.commands import console
from avatars.errors import InputError
from avatars.io.files import read_json
from avatars.io.outputs import require_folder_for
from avatars.io.part_files import is_part

if TYPE_CHECKING:
    from actionrec.training import TrainingConfig

NAME = "recognition"


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
    recognizer: (
        Literal[
            "small", "resnet50", "slowfast", "x3d-s", "x3d-xs", "x3d-thin", "videomae",
            "r3d_18", "s3d", "mvit_v2_s", "swin3d_t",
        ]
        | None
    ) = None  # fmt: skip
    """Default: small for tiny, resnet50 for the others."""
    model: Path | None = None
    """Folder of a video classifier in transformers' form (VideoMAE, V-JEPA 2, TimeSformer, ViViT) instead."""
    weights: Path | None = None
    """Checkpoint of the recognizer to begin with; its head stays fresh where it has other classes."""
    probe: bool = False
    """Fit a linear classifier on the features of --weights or --model, and train nothing else."""
    seeds: int = 5
    steps: int | None = None
    """Optimizer steps of every run, whatever its number of clips; default: as the preset says."""
    step_s: float | None = None
    """Seconds from one frame of a view to the next, and four views at test; default: spread evenly over the whole clip,
    which hides how fast people move where clips are of different lengths."""
    n_test: int | None = None
    """Test clips per class; default: all."""
    motion_from: Literal["drawn", "training"] = "drawn"
    """Whose motions synthetic clips may have: of the real clips that a run draws, or of any real training clip."""
    hold_out: float | None = None
    """Hold out this share of the subjects where the manifest states no split."""
    allow: tuple[Literal["subject", "performance"], ...] = ()
    """What a protocol has on both sides on purpose: cross-view shares subjects and performances."""
    extra_arms: tuple[
        Literal[
            "synthetic", "half-real", "pretrain-finetune", "shuffled-background", "one-background",
            "similar", "diverse", "hard", "real-augmented", "real-as-long",
        ],
        ...,
    ] = ()  # fmt: skip
    """More arms; similar, diverse and hard choose synthetic clips by a first recognizer instead of at random."""
    clip_model: Path | None = None
    """Folder of a CLIP model in transformers' form, by whose features similar and diverse choose."""
    real_share: float | None = None
    """Share of real clips in every batch of an arm with both; default: as many as there are among its clips."""
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

    require_results_file(options.json, NAME)
    require_own_folder(options.out)
    if (options.real is None) != (options.synthetic is None):
        raise InputError("Give both --real and --synthetic, or neither for the simulated set.")
    real, synthetic, making = options.real, options.synthetic, {}
    if real is None:
        real, synthetic, making = _simulated(options)
    experiment = Experiment(
        dataset=options.dataset or ("simulated" if options.real is None else real.stem),
        real=real,
        synthetic=synthetic,
        out=options.out,
        training=training_of(options),
        n_real=n_real,
        n_synthetic=n_synthetic,
        arms=arms_of(options, arms),
        seeds=tuple(range(options.seeds)),
        n_test=options.n_test,
        motion_from=options.motion_from,
        hold_out_share=options.hold_out,
        allow=options.allow,
        workers=options.jobs,
        clip_model=options.clip_model,
    )
    results = run_experiment(experiment)
    total_s = round(results.seconds + sum(making.get("seconds", {}).values()), 1)
    more: dict[str, Any] = {"seconds": total_s, "seconds_training": results.seconds, "simulated": making or None}
    page = write_report(results, options.out / "report", command=" ".join(["python", *sys.argv]), more=more)
    write_results(options.json, NAME, read_json(page.with_name("results.json")))
    head = summary(results)
    print(table(results))
    print(
        f"{experiment.dataset}: gain {100 * head['gain']:+.1f} points, 95 % interval {100 * head['gain_low']:+.1f} to "
        f"{100 * head['gain_high']:+.1f}; {head['classes']} classes, {head['seeds']} seeds, {total_s:.0f} s; see {page}"
    )


def training_of(options: BenchmarkOptions) -> TrainingConfig:
    """How networks are trained."""
    from actionrec.recognizers import LocalModel
    from actionrec.training import TrainingConfig

    if options.model is not None and options.recognizer is not None:
        raise InputError("--model is a recognizer of its own; leave --recognizer out.")
    chosen = options.recognizer if options.model is None else LocalModel.read(options.model)
    training = TrainingConfig.preset(options.preset, recognizer=chosen, device=options.device)
    if options.weights is not None and not options.weights.is_file():
        raise InputError(f"No checkpoint at {options.weights}.")
    training = replace(training, initial_weights=options.weights, probe=options.probe)
    views = training.clips
    if options.step_s is not None:
        views = replace(views, stride=None, step_s=options.step_s, test_views=max(views.test_views, 4))
    share = training.real_share if options.real_share is None else options.real_share
    return replace(training, clips=views, steps=options.steps or training.steps, real_share=share)


def arms_of(options: BenchmarkOptions, arms: tuple[str, ...]) -> tuple[Any, ...]:
    """The benchmark's own arms, and those asked for."""
    return tuple(dict.fromkeys((*arms, *options.extra_arms)))


def require_own_folder(out: Path) -> None:
    """Raise InputError when `out` is there and holds anything that these benchmarks do not write: they go on in a
    folder of their own, and write parts of it anew."""
    if out.is_dir() and {path.name for path in out.iterdir() if not is_own(path.name)}:
        raise InputError(
            f"{out} holds other files than those of a benchmark; nothing was overwritten. Choose another --out."
        )
    require_folder_for(out, what="the benchmark", option="--out")


def is_own(name: str) -> bool:
    """Whether the benchmarks write something of that name into their folder."""
    own = ("cache", "runs", "training", "report", "real_folder")
    return name in own or name.startswith("simulated_") or is_part(name)


def _simulated(options: BenchmarkOptions) -> tuple[Path, Path, dict[str, Any]]:
    """The simulated set's manifests, and what is worth noting about its making."""
    from benchmarks.simulated_world import SimulatedConfig, make_simulated_set

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

    @dataclass(frozen=True)
    class Given:
        """The options, as a command."""

        options: Any

        def run(self) -> None:
            run(self.options)

    return console.run(Given(given), mistakes=(DataError,))
