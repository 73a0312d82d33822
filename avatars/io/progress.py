"""Progress of long work: a bar on a terminal, plain lines elsewhere; where the time went, and how much memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class StageClock:
    """Wall-clock seconds by named stage, in the order in which the stages ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block; a stage entered twice adds up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def table(self) -> str:
        """One line per stage with seconds and share."""
        total = sum(self.seconds.values())
        width = max((len(name) for name in self.seconds), default=5)
        rows = [f"{name:<{width}}  {s:7.1f} s  {100 * s / max(total, 1e-9):4.0f} %" for name, s in self.seconds.items()]
        return "\n".join([*rows, f"{'total':<{width}}  {total:7.1f} s"])


def peak_gib() -> float:
    """Most memory that this process has had resident so far, GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`; show a rich bar on a terminal, else a line at the start, every 10 s, and at the end."""
    total = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from _bar(items, what, total)
    else:
        yield from _lines(items, what, total)


def _bar(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield from bar.track(items, total=total, description=escape(what))


def _lines(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    count = 0
    of = f" of {total}" if total else ""
    print(f"{what} ...", file=sys.stderr, flush=True)
    for item in items:
        yield item
        count += 1
        if time.monotonic() - last > 10:
            last = time.monotonic()
            left = f", about {(last - start) * (total / count - 1):.0f} s left" if total else ""
            print(f"{what}: {count}{of} ({last - start:.0f} s{left})", file=sys.stderr, flush=True)
    print(f"{what}: {count}{of} done in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
