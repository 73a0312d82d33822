"""`reenact run BATCH.yaml`: avatars x motions x places -> clips, labels and a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatars.io.option_rules import Range


@dataclass(frozen=True)
class RunCommand:
    """Make the clips of a batch that are not there yet; run it again to go on after a stop."""

    batch: Annotated[Path, tyro.conf.Positional]
    """BATCH.yaml (see docs/batch.md), or a folder into which `reenact plan` wrote a plan."""
    jobs: Annotated[int, Range(0, 4096)] = 0
    """Processes to work with; 0: one per core. The files are the same bytes with any number."""
    max_failures: Annotated[int | None, Range(0, 10**9)] = None
    """Stop when more clips than this have failed."""
    share: str = "0/1"
    """Make a part of the plan only, as one of several machines: "2/8" is the third of eight."""

    executor: Literal["local", "ray", "slurm"] = "local"
    """Where: processes of this machine; tasks of a Ray cluster (RAY_ADDRESS); jobs of Slurm. All see the same files."""
    gpu_share: Annotated[float, Range(0, 1)] = 0.0
    """Part of a GPU that each Ray task reserves, for clusters that are shared by GPU; drawing itself uses one core."""
    slurm: tuple[str, ...] = ()
    """Parameters of submitit as NAME=VALUE: slurm_partition=long timeout_min=240; cluster=local tries it without."""

    def run(self) -> int:
        """Render; 0 when every clip is there, 1 when some failed. Raises InputError for what the user can mend."""
        from avatars.errors import InputError
        from avatars.io.progress import StageClock
        from reenact.running.executors import Cluster
        from reenact.running.run import run_batch

        clock, cluster = StageClock(), None
        if self.executor != "local":
            cluster = Cluster(self.executor, self.gpu_share, self.slurm)
        elif self.gpu_share or self.slurm:
            raise InputError("--gpu-share and --slurm are for --executor ray and slurm; this is --executor local.")
        summary = run_batch(
            self.batch,
            clock=clock,
            jobs=self.jobs,
            max_failures=self.max_failures,
            share=_share(self.share),
            cluster=cluster,
        )
        print(f"CPU time by stage:\n{clock.table()}")
        for failure in summary.failures[:5]:
            print(f"{failure.id} ({failure.label}): failed during {failure.stage}: {failure.reason}")
        if summary.stopped:
            print(summary.stopped)
        if summary.guessed_floors:
            names = ", ".join(summary.guessed_floors[:8]) + (", ..." if len(summary.guessed_floors) > 8 else "")
            print(
                f"The floor is a guess in {len(summary.guessed_floors)} of the places: {names}. Look at clips made "
                "there; give depth, or `floor_px`, to `reenact backgrounds prepare`."
            )
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
