"""Few real clips per class and more and more synthetic ones: the curves of accuracy.

python scripts/few_shot_benchmark.py --real ntu.jsonl --synthetic made.jsonl --preset paper --device cuda
python scripts/few_shot_benchmark.py --simulated small --steps 600 --n-real 1 4 --synthetic-per-class 0 72

Many synthetic clips drown a few real ones: half-real draws every second clip of a batch from the real.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from recognition_benchmark import BenchmarkOptions, benchmark, main


@dataclass(frozen=True)
class FewShotOptions(BenchmarkOptions):
    """Curves over the number of synthetic clips."""

    n_real: tuple[int, ...] = (1, 5)
    """Real clips per class."""
    synthetic_per_class: tuple[int, ...] = (0, 50, 100, 150, 200)


def run(options: FewShotOptions) -> None:
    """Every number of real clips with every number of synthetic ones, mixed as they are and half and half."""
    arms = ("real", "real+synthetic", "half-real")
    benchmark(options, n_real=options.n_real, n_synthetic=options.synthetic_per_class, arms=arms)


if __name__ == "__main__":
    sys.exit(main(FewShotOptions, run, __doc__ or ""))
