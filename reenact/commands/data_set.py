"""`reenact status | verify | merge`: what is in a data set, whether it is whole, and joining parts of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatars.io.option_rules import Range, Suffix


@dataclass(frozen=True)
class StatusCommand:
    """Say how many clips of a plan are there, missing and failed."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set."""

    def run(self) -> int:
        """Print; 0 when every clip is there, else 1. Raises InputError when there is no plan."""
        from reenact.planning.receipts import status

        found = status(self.out)
        missing = found.planned - found.whole
        print(f"{found.whole} of {found.planned} clips are whole, {missing} missing")
        for label, count in sorted(found.missing_by_label.items(), key=lambda item: -item[1])[:10]:
            print(f"  missing {count:6d} of {label}")
        stages: dict[str, list[str]] = {}
        for failure in found.failures:
            stages.setdefault(failure.stage, []).append(failure.reason)
        for stage, reasons in stages.items():
            print(f"  {len(reasons)} failed during {stage}, the first: {reasons[0]}")
        return 1 if missing else 0


@dataclass(frozen=True)
class VerifyCommand:
    """Check every video and label against its receipt, and look for what does not belong."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set."""
    labels: Annotated[int, Range(0, 10**9, also=(-1,))] = 0
    """Also draw this many clips anew from their labels and compare them with the videos; -1 all."""

    def run(self) -> int:
        """Print what is wrong; 0 when nothing is, else 1. Raises InputError when there is no plan."""
        from reenact.planning.receipts import status, verify

        wrong = verify(self.out)
        if self.labels:
            from reenact.data_set.label_check import check_data_set

            checks = check_data_set(self.out, clips=None if self.labels < 0 else self.labels)
            wrong += [f"{clip}: {line}" for clip, check in checks.items() for line in check.wrong()]
            read = [check for check in checks.values() if not check.broken]
            if read:
                joint_px, iou = max(c.joint_px for c in read), min(c.mask_iou for c in read)
                print(f"labels of {len(read)} clips: joints within {joint_px:.2f} px, masks IoU at least {iou:.3f}")
        for line in wrong:
            print(line)
        found = status(self.out)
        print(f"{len(wrong)} problems found; {found.whole} of {found.planned} clips complete")
        return 1 if wrong else 0


@dataclass(frozen=True)
class MergeCommand:
    """Join folders in which several machines made parts of one plan (reenact run --share)."""

    parts: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that hold the same plan."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder for all clips; made when absent."""

    def run(self) -> int:
        """Merge; 0 when every clip of the plan is there then, else 1. Raises InputError when the plans differ."""
        from reenact.planning.receipts import merge, status

        merge(self.parts, self.output)
        found = status(self.output)
        print(f"{found.whole} of {found.planned} clips -> {self.output}/manifest.jsonl")
        return 0 if found.whole == found.planned else 1
