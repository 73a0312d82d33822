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
    """BATCH.yaml (see README), or a folder into which `reenact plan` wrote a plan."""
    jobs: int = 0
    """Processes to work with; 0: one per core. The files are the same bytes with any number."""
    max_failures: int | None = None
    """Stop when more clips than this have failed."""
    share: str = "0/1"
    """Make a part of the plan only, as one of several machines: "2/8" is the third of eight."""

    def run(self) -> int:
        """Render; 0 when every clip is there, 1 when some failed. Raises InputError for what the user can mend."""
        from avatars.progress import StageClock
        from reenact.run import run_batch

        clock = StageClock()
        share = _share(self.share)
        summary = run_batch(self.batch, clock=clock, jobs=self.jobs, max_failures=self.max_failures, share=share)
        print(f"CPU time by stage:\n{clock.table()}")
        for failure in summary.failures[:5]:
            print(f"failed: {failure.id} ({failure.label}) while {failure.stage}: {failure.reason}")
        if summary.stopped:
            print(summary.stopped)
        failed = f", {len(summary.failures)} failed (failures.jsonl)" if summary.failures else ""
        print(
            f"{summary.made} clips made, {summary.already_there} already there{failed}, {summary.planned} planned; "
            f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.fps:.1f} fps) "
            f"-> {summary.out}/manifest.jsonl"
        )
        return 1 if summary.failures else 0


def _share(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8). Raises InputError."""
    from avatars.errors import InputError

    part, slash, parts = text.partition("/")
    if not (slash and part.isdigit() and parts.isdigit() and int(part) < int(parts)):
        raise InputError(f"--share is {text!r}, expected PART/PARTS, counted from 0: the third of eight is 2/8.")
    return int(part), int(parts)
