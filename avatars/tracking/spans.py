"""A motion and its confidence -> the spans of a clip that say nothing: nobody there, frames missing, parts not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body.motion import Motion, runs
from avatars.tracking.joint_confidence import PARTS, part_confidence

DOUBTFUL = 0.35
"""Confidence below which a part counts as not seen."""
BODY_PARTS = ("torso", "left arm", "right arm", "left leg", "right leg")
"""Parts whose absence is told; hands and head are often out of sight without harm."""
LASTING_S = 0.2
"""Doubt that lasts for less is not told."""
GAP_STEPS = 2.5
"""A step of more than this many usual steps is a gap: frames were dropped."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive frames, first and last included, in which something was not seen."""

    kind: Literal["nobody", "gap", "doubtful"]
    """Nobody in view; no frames between these two; parts that were not seen."""
    first: int
    last: int
    start_s: float
    end_s: float
    parts: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.start_s:.2f} to {self.end_s:.2f} s (frames {self.first} to {self.last})"
        what = {"nobody": "nobody in view", "gap": "frames missing", "doubtful": f"{', '.join(self.parts)} not seen"}
        return f"{where}: {what[self.kind]}"


def unsure_spans(motion: Motion) -> list[Span]:
    """What of a motion must not be taken for seen, in order of time."""
    times_s = motion.times_s
    spans = [_span("nobody", motion, a, b - 1) for a, b in runs(~motion.valid)]
    spans += [_span("gap", motion, i, i + 1) for i in gaps(times_s)]
    unseen = (part_confidence(motion) < DOUBTFUL) & motion.valid[:, None]
    by_part: dict[tuple[int, int], list[str]] = {}
    for k, part in enumerate(PARTS):
        if part not in BODY_PARTS:
            continue
        for a, b in runs(unseen[:, k]):
            if float(times_s[b - 1] - times_s[a]) >= LASTING_S:
                by_part.setdefault((a, b - 1), []).append(part)
    spans += [_span("doubtful", motion, a, b, tuple(parts)) for (a, b), parts in by_part.items()]
    return sorted(spans, key=lambda span: (span.first, span.last))


def gaps(times_s: Float[Tensor, " frames"]) -> list[int]:
    """Frames after which frames were dropped."""
    if len(times_s) < 3:
        return []
    steps = times_s[1:] - times_s[:-1]
    return torch.nonzero(steps > GAP_STEPS * steps.median())[:, 0].tolist()


def _span(kind: Literal["nobody", "gap", "doubtful"], motion: Motion, a: int, b: int, parts: tuple[str, ...] = ()):
    return Span(kind, a, b, round(float(motion.times_s[a]), 4), round(float(motion.times_s[b]), 4), parts)
