"""Fits that are interrupted on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from avatars.fitting.checkpoint import CheckpointWriter
from avatars.fitting.state import FitProgress, StageRun


@contextmanager
def stopped_after(iterations: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fit inside is kept at every iteration, and stopped after so many."""
    keep: Callable = CheckpointWriter.keep

    def keep_and_stop(keeper: CheckpointWriter, progress: FitProgress, run: StageRun) -> None:
        keeper.every_s = 0.0
        keep(keeper, progress, run)
        if len(progress.losses) == iterations:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CheckpointWriter, "keep", keep_and_stop)
        yield
