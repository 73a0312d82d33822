"""One real clip per class: what do synthetic clips made from it gain on people never seen?

python scripts/one_shot_benchmark.py --preset tiny --json one_shot.json          # simulated, two CPU cores
python scripts/one_shot_benchmark.py --real ntu.jsonl --synthetic made.jsonl --preset paper --device cuda
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from recognition_benchmark import BenchmarkOptions, benchmark, main


@dataclass(frozen=True)
class OneShotOptions(BenchmarkOptions):
    """One real clip per class, with and without synthetic clips."""

    synthetic_per_class: tuple[int, ...] = (200,)
    """Synthetic clips per class, at most."""


def run(options: OneShotOptions) -> None:
    """The arms real and real+synthetic, and those asked for."""
    benchmark(options, n_real=(1,), n_synthetic=options.synthetic_per_class, arms=("real", "real+synthetic"))


if __name__ == "__main__":
    sys.exit(main(OneShotOptions, run, __doc__ or ""))
