"""Fits that are interrupted on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from avatars.fit_state import Keeper


@contextmanager
def stopped_after(iterations: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fit inside is kept at every iteration, and stopped after so many."""
    keep: Callable = Keeper.keep

    def keep_and_stop(keeper: Keeper, fit) -> None:
        keeper.every_s = 0.0
        keep(keeper, fit)
        if len(fit.losses) == iterations:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Keeper, "keep", keep_and_stop)
        yield
