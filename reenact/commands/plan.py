"""`reenact plan BATCH.yaml`: what would be made, counted before anything is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class PlanCommand:
    """Write the plan of a batch into its output folder, one line per clip, and show what it covers."""

    batch: Annotated[Path, tyro.conf.Positional]
    """BATCH.yaml (see docs/batch.md)."""
    dry_run: bool = False
    """Show it only; nothing is written."""

    def run(self) -> int:
        """Plan. Raises InputError for what the user can mend."""
        from reenact.planning.batch import load_batch
        from reenact.planning.plan import make_plan, open_output
        from reenact.planning.quotas import coverage_table

        plan = make_plan(load_batch(self.batch))
        rows = plan.coverage()
        print(coverage_table(rows))
        short = sum(row.short > 0 for row in rows)
        where = "nothing was written" if self.dry_run else f"-> {open_output(plan) / 'plan.jsonl'}"
        lacking = f"; {short} quotas cannot be filled" if short else ""
        print(f"{len(plan.clips)} clips from {sum(1 for _ in plan.groups())} (avatar, motion) pairs{lacking}; {where}")
        return 0
