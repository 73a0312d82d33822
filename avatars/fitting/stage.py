"""When a stage may end early: once more iterations no longer help frames that are neither fitted nor scored."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from avatars.fitting.scoring import box_psnr_db, drawn_as_tracked
from avatars.fitting.state import FitInputs, FitProgress, StageRun

FLAT_LOOKS = 3
"""So many looks in a row without a gain end a stage early."""


@dataclass(frozen=True, slots=True, eq=False)
class EarlyStopping:
    """Looks at frames that are neither fitted nor scored, to see whether more iterations still help."""

    frames: list[int]
    """Crops to look at; where there are none, stages run to their end."""

    def look(self, inputs: FitInputs, progress: FitProgress, run: StageRun) -> None:
        """Note the score; shorten what is left of the stage once it is flat."""
        flat_db = inputs.config.flat_db
        if not self.frames or flat_db <= 0:
            return
        drawn = drawn_as_tracked(inputs, progress, run.gaussians, self.frames)
        run.seen_db.append(fmean(box_psnr_db(*pair) for pair in drawn))
        before, after = run.seen_db[:-FLAT_LOOKS], run.seen_db[-FLAT_LOOKS:]
        if run.schedule.flat_at is None and before and max(after) < max(before) + flat_db:
            run.schedule.flat_at = run.step
