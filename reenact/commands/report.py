"""`reenact report OUT`: one HTML page about a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ReportCommand:
    """Show samples per class, coverage, gate, failures and throughput on one page that needs no other file."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set."""

    def run(self) -> int:
        """Write OUT/report.html. Raises InputError when the folder holds no plan."""
        from reenact.data_set.report import write_data_report

        print(write_data_report(self.out, self.out / "report.html"))
        return 0
