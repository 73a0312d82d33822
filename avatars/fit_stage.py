"""One stage of a fit under way: where it stands, in what order frames come, and when it may end early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.adam import Adam
from avatars.fit_config import Stage
from avatars.motion import Motion

if TYPE_CHECKING:
    from avatars.fitting import Fit

SHAPE_LR = 0.01
"""Step of the betas (standard deviations)."""
FLAT_LOOKS = 3
"""So many looks in a row without a gain end a stage early."""
TAIL = 0.1
"""What then is left of the stage, as a share of it, to let the steps become small."""


@dataclass(slots=True)
class Schedule:
    """How far the steps have shrunk: over the whole stage or, once the score is flat, over a short tail."""

    iterations: int
    flat_at: int | None = None

    @property
    def end(self) -> int:
        """The iteration after the last."""
        if self.flat_at is None:
            return self.iterations
        return min(self.iterations, self.flat_at + max(round(TAIL * self.iterations), 1))

    def share(self, step: int) -> float:
        """From 0 at the start to 1 at the end."""
        if self.flat_at is None or step < self.flat_at:
            return step / max(self.iterations, 1)
        before = self.flat_at / self.iterations
        return before + (1 - before) * (step - self.flat_at) / max(self.end - self.flat_at, 1)


@dataclass(slots=True, eq=False)
class StageRun:
    """Everything of a stage that is not the fit's own."""

    stage: Stage
    number: int
    """Of the stage in the config."""
    optimizer: Adam
    shape: Float[Tensor, " shape"] | None
    """Betas being refined: joints and surface move together, in coarse stages, before offsets settle."""
    schedule: Schedule
    step: int = 0
    """Iterations done."""
    order: Int[Tensor, " rows"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Rows still to come before any comes again."""
    seen_db: list[float] = field(default_factory=list)
    """What `Watch` saw."""

    @staticmethod
    def start(fit: Fit, stage: Stage, number: int) -> StageRun:
        """At its first iteration."""
        shape = None
        if fit.config.refine_shape and stage.level >= 4:
            shape = fit.betas.clone().requires_grad_()
        return StageRun(stage, number, _optimizer(fit, shape), shape, Schedule(stage.iterations))

    def steps(self) -> Iterator[int]:
        """The iterations left."""
        while self.step < self.schedule.end:
            yield self.step

    def next_rows(self, n: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
        """A batch of different rows in random order, each row as often as any other."""
        batch = min(self.stage.batch, n)
        if len(self.order) < batch:
            self.order = torch.randperm(n, generator=generator)
        rows, self.order = self.order[:batch], self.order[batch:]
        return rows


def _optimizer(fit: Fit, shape: Tensor | None) -> Adam:
    """Adam whose step sizes follow the Gaussians' spacing."""
    p, ties = fit.parameters, fit.ties
    assert p is not None and ties is not None
    by_name = {
        "offsets": 0.12 * float(ties.spacing_m.median()),
        "quats": 0.024,
        "log_scales": 0.036,
        "opacity_logits": 0.04,
        "albedo": 0.016,
        "light": 0.002 if fit.config.shading else 0.0,
    }
    leaves, rates = list(p.leaves().values()), [by_name[name] for name in p.leaves()]
    if shape is not None:
        leaves, rates = [*leaves, shape], [*rates, SHAPE_LR]
    if fit.correctives is not None:
        leaves, rates = [*leaves, fit.correctives.directions], [*rates, 0.25 * by_name["offsets"]]
    return Adam(leaves, rates, betas=(0.9, 0.99), eps=1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """Looks at frames that are neither fitted nor scored, to see whether more iterations still help."""

    motion: Motion
    """Of every crop."""
    frames: list[int]
    """Crops to look at; where there are none, stages run to their end."""

    def look(self, fit: Fit, run: StageRun) -> None:
        """Note the score; shorten what is left of the stage once it is flat."""
        if not self.frames or fit.config.flat_db <= 0:
            return
        run.seen_db.append(self._psnr_db(fit))
        before, after = run.seen_db[:-FLAT_LOOKS], run.seen_db[-FLAT_LOOKS:]
        if run.schedule.flat_at is None and before and max(after) < max(before) + fit.config.flat_db:
            run.schedule.flat_at = run.step

    def _psnr_db(self, fit: Fit) -> float:
        from avatars.scoring import box_psnr_db, drawn_as_tracked

        return fmean(box_psnr_db(*drawn) for drawn in drawn_as_tracked(fit, self.motion, self.frames))
