"""One real clip per class: what do synthetic clips made from it gain on people never seen?

python scripts/one_shot_benchmark.py --preset tiny --json one_shot.json          # simulated, two CPU cores
python scripts/one_shot_benchmark.py --real-folder clips --json one_shot.json    # clips/CLASS/PERSON__N.avi, end to end
python scripts/one_shot_benchmark.py --real ntu.jsonl --synthetic made.jsonl --preset paper --device cuda
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.benchmark_results import require_results_file, write_results
from recognition_benchmark import NAME, BenchmarkOptions, arms_of, benchmark, main, require_own_folder, training_of

ARMS = ("real", "real+synthetic", "real-augmented")
STEP_S = 0.1
"""Between frames of a view of a real folder's clips: people do the same thing faster and slower."""


@dataclass(frozen=True)
class OneShotOptions(BenchmarkOptions):
    """One real clip per class, with and without synthetic clips."""

    synthetic_per_class: tuple[int, ...] = (200,)
    """Synthetic clips per class, at most."""
    real_folder: Path | None = None
    """Folder of real clips, CLASS/PERSON__N.ext: each person in turn is the one whose clips are known and reenacted,
    and everybody else is tested."""
    avatars: int = 12
    """Of --real-folder: people, of the studio, who do every motion."""
    view_px: int = 80
    """Of --real-folder: side of a view with the preset tiny."""


def run(options: OneShotOptions) -> None:
    """The arms real and real+synthetic, and those asked for."""
    if options.real_folder is None:
        benchmark(options, n_real=(1,), n_synthetic=options.synthetic_per_class, arms=("real", "real+synthetic"))
    else:
        run_folder(options, options.real_folder)


def run_folder(options: OneShotOptions, folder: Path) -> None:
    """Make synthetic clips from every person's clips, and train and test on each person in turn."""
    from benchmarks.real_folder import RealFolderConfig, make_real_folder_set
    from benchmarks.real_folder_gain import measure

    from actionrec.protocols import Experiment
    from avatars.errors import InputError

    require_results_file(options.json, NAME)
    require_own_folder(options.out)
    if options.real or options.synthetic:
        raise InputError("Give --real-folder, or --real with --synthetic, not both.")
    if max(options.synthetic_per_class) < 1:
        raise InputError("--synthetic-per-class must be at least 1.")
    training = training_of(replace(options, step_s=options.step_s or STEP_S))
    if options.preset == "tiny":
        training = training.seen_at(options.view_px)
    config = RealFolderConfig(avatars=options.avatars, seed=options.seed, jobs=options.jobs)
    made = make_real_folder_set(folder, options.out / "real_folder", config)
    for failure in made.failures:
        print(f"not made: {failure}", file=sys.stderr)
    nowhere = options.out  # every person has manifests and a folder of their own
    template = Experiment(
        folder.name, nowhere, nowhere, nowhere, training, n_real=(1,), n_synthetic=(max(options.synthetic_per_class),),
        arms=arms_of(options, ARMS), seeds=tuple(range(options.seeds)), workers=options.jobs,
    )  # fmt: skip
    found = measure(made, template, options.jobs)
    numbers = found.as_dict() | {"dataset": folder.name, "seeds": options.seeds, "seconds": made.seconds}
    write_results(options.json, NAME, numbers)
    print(found.table())
    gain = found.gain["real+synthetic"]
    print(f"{folder.name}: gain {gain} points (95 % interval over persons, test persons, seeds)")
    print(f"a page for each known person: {made.folder}/runs/*/report/index.html")


if __name__ == "__main__":
    sys.exit(main(OneShotOptions, run, __doc__ or ""))
