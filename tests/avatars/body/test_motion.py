"""Motions over time."""

from __future__ import annotations

import pytest
import torch

from avatars.body.motion import runs


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], []), ([0, 0], []), ([1, 1], [(0, 2)]), ([0, 1, 1, 0, 1], [(1, 3), (4, 5)]), ([1, 0, 1], [(0, 1), (2, 3)])],
)
def test_runs_of_flags_begin_at_the_first_and_end_after_the_last(flags: list[int], expected: list[tuple]) -> None:
    assert runs(torch.tensor(flags, dtype=torch.bool)) == expected
