"""`reenact run BATCH.yaml`: avatars x motions x places -> clips, labels and a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class RunCommand:
    """Make the clips of a batch that are not there yet; run it again to go on after a stop."""

    batch: Annotated[Path, tyro.conf.Positional]
    """BATCH.yaml: avatars, motions, backgrounds, backgrounds_per_pair, size, fps, seed, out (see README)."""

    def run(self) -> int:
        """Render; 0 when every clip is there, 1 when some failed. Raises InputError for what the user can mend."""
        from avatars.progress import StageClock
        from reenact.run import run_batch

        clock = StageClock()
        summary = run_batch(self.batch, clock=clock)
        print(clock.table())
        for failure in summary.failures[:5]:
            print(f"failed: {failure.id} ({failure.label}) while {failure.stage}: {failure.reason}")
        failed = f", {len(summary.failures)} failed (failures.jsonl)" if summary.failures else ""
        print(
            f"{summary.made} clips made, {summary.already_there} already there{failed}, {summary.planned} planned; "
            f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.fps:.1f} fps) "
            f"-> {summary.out}/manifest.jsonl"
        )
        return 1 if summary.failures else 0
