"""Known from the front, tested from the side: what do avatars gain that can be seen from where no camera stood?

python scripts/viewpoint_benchmark.py --json viewpoint.json

Simulated. Real training clips are filmed from the front, test clips 60 to 90 degrees beside. Synthetic clips made from
the same front views turn to all sides, or, to tell views from numbers of clips, stay as they were filmed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.benchmark_results import require_results_file, write_results
from recognition_benchmark import NAME, BenchmarkOptions, main, require_own_folder, training_of

from actionrec.evaluation import Interval, gain_interval
from actionrec.protocols import Experiment, Results, run_experiment
from actionrec.report import write_report
from avatars.errors import InputError


@dataclass(frozen=True)
class ViewpointOptions(BenchmarkOptions):
    """Front views known, side views tested."""

    simulated: Literal["viewpoint"] = "viewpoint"  # type: ignore[assignment]
    n_real: int = 1
    """Real clips per class, all from the front."""
    synthetic_per_class: int = 36
    """Synthetic clips per class, at most."""


def run(options: ViewpointOptions) -> None:
    """Both synthetic sets, each held against the real clips alone, and against each other."""
    from benchmarks.simulated_world import SimulatedConfig, make_simulated_set

    require_results_file(options.json, NAME)
    require_own_folder(options.out)
    if options.real or options.synthetic:
        raise InputError("The benchmark of viewpoints is simulated; it takes no --real and no --synthetic.")
    config = SimulatedConfig.preset("viewpoint", seed=options.seed, jobs=options.jobs)
    made = make_simulated_set(options.out / f"simulated_viewpoint_{options.seed}", config)
    for failure in made.failures:
        print(f"not made: {failure}", file=sys.stderr)
    turned = _measured(options, made.real, made.synthetic, "turned")
    front = _measured(options, made.real, made.folder / "synthetic_front.jsonl", "front")
    sides = [r.outcome("real+synthetic") for r in (turned, front)]
    gains = {
        "gain": sides[0].gain,
        "gain_front": sides[1].gain,
        "gain_of_views": gain_interval(sides[1].runs, sides[0].runs),
    }
    numbers = {
        "accuracy_real": round(turned.outcome("real").accuracy.mean, 4),
        "accuracy_real_synthetic": round(sides[0].accuracy.mean, 4),
        "accuracy_real_synthetic_front": round(sides[1].accuracy.mean, 4),
        "test_clips": turned.test_clips,
        "seeds": options.seeds,
        **{f"{name}{end}": value for name, gain in gains.items() if gain for end, value in _ends(gain).items()},
    }
    write_results(options.json, NAME, numbers)
    print(f"real, front                       {turned.outcome('real').accuracy}")
    print(f"+ {sides[1].train_clips[1]} synthetic, front              {sides[1].accuracy}, gain {gains['gain_front']}")
    print(f"+ {sides[0].train_clips[1]} synthetic, from all sides     {sides[0].accuracy}, gain {gains['gain']}")
    print(f"seen from all sides instead of the front: {gains['gain_of_views']} points; {options.out}")


def _ends(interval: Interval) -> dict[str, float]:
    return {"": round(interval.mean, 4), "_low": round(interval.low, 4), "_high": round(interval.high, 4)}


def _measured(options: ViewpointOptions, real: Path, synthetic: Path, name: str) -> Results:
    """Train and test with one synthetic set; its report lies in a folder of its own."""
    out = options.out / "runs" / name
    experiment = Experiment(
        "viewpoint", real, synthetic, out, training_of(options), n_real=(options.n_real,),
        n_synthetic=(options.synthetic_per_class,), seeds=tuple(range(options.seeds)), workers=options.jobs,
    )  # fmt: skip
    results = run_experiment(experiment)
    write_report(results, out / "report", command=" ".join(["python", *sys.argv]))
    return results


if __name__ == "__main__":
    sys.exit(main(ViewpointOptions, run, __doc__ or ""))
