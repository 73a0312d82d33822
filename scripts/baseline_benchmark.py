"""All real clips, equally many per class: real, real + synthetic, and synthetic alone.

    python scripts/baseline_benchmark.py --dataset ntu --real ntu.jsonl --synthetic made.jsonl --preset paper \
        --recognizer slowfast --device cuda
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from recognition_benchmark import BenchmarkOptions, benchmark, main


@dataclass(frozen=True)
class BaselineOptions(BenchmarkOptions):
    """The paper's table."""

    n_real: int | None = None
    """Real clips per class; default: as many as the smallest class has."""
    synthetic_per_class: int = 200
    """Synthetic clips per class, at most."""


def run(options: BaselineOptions) -> None:
    """The arms real, real+synthetic and synthetic."""
    arms = ("real", "real+synthetic", "synthetic")
    benchmark(
        options,
        n_real=None if options.n_real is None else (options.n_real,),
        n_synthetic=(options.synthetic_per_class,),
        arms=arms,
    )


if __name__ == "__main__":
    sys.exit(main(BaselineOptions, run, __doc__ or ""))
