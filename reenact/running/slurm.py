"""Groups of clips -> Slurm jobs through submitit, each of which makes many groups.

Slurm places, watches and kills; which clips exist and what is tried again is decided by receipts, as everywhere.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatars.errors import InputError
from reenact.rendering.render import GroupOutcome
from reenact.running.executors import Cluster, Group, make_planned, mark_failed

_ROUNDS = 4
"""Jobs that each of the places for them gets: few, since each starts Python and loads avatars anew; more than one, so
that all end together."""
_POLL_S = 0.5


@dataclass(frozen=True)
class SlurmJobs:
    """At most `jobs` jobs in Slurm at a time; their logs are in OUT/slurm."""

    out: Path
    jobs: int
    kind: str
    """Of submitit: `slurm`, or `local` for processes of this machine, to try a batch without Slurm."""
    parameters: Mapping[str, Any]

    @staticmethod
    def of(cluster: Cluster, out: Path, jobs: int) -> SlurmJobs:
        """Raises InputError when there is no Slurm here or a parameter is not one of submitit's."""
        if cluster.gpu_share:
            raise InputError("--gpu-share is for --executor ray; for Slurm ask with --slurm gpus_per_node=1.")
        if jobs < 1:
            raise InputError("--executor slurm needs --jobs: how many jobs may be in Slurm at a time.")
        parameters = dict(map(_parsed, cluster.parameters))
        found = SlurmJobs(out, jobs, str(parameters.pop("cluster", "slurm")), parameters)
        with tempfile.TemporaryDirectory() as folder:  # submitit makes its folder, and OUT must not be made yet
            found._executor(Path(folder))
        return found

    def results(self, groups: deque[Group]) -> Iterator[tuple[Group, GroupOutcome]]:
        """See `Executor`."""
        executor = self._executor(self.out / "slurm")
        size = -(-len(groups) // (_ROUNDS * self.jobs))
        pending: list[tuple[Any, tuple[Group, ...]]] = []
        try:
            while groups or pending:
                while groups and len(pending) < self.jobs:
                    part = tuple(groups.popleft() for _ in range(min(size, len(groups))))
                    pending.append((executor.submit(_make_all, self.out, part), part))
                done = [entry for entry in pending if entry[0].done()]
                for entry in done:
                    pending.remove(entry)
                    yield from self._outcomes(*entry)
                if not done:
                    time.sleep(_POLL_S)
        finally:
            for job, _ in pending:
                job.cancel()

    def _outcomes(self, job: Any, part: tuple[Group, ...]) -> list[tuple[Group, GroupOutcome]]:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            outcomes = job.result()
        except FailedJobError:
            raise
        except UncompletedJobError as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return [(group, mark_failed(self.out, group, f"the job that made it ended: {said}")) for group in part]
        return list(zip(part, outcomes, strict=False))  # a full disk ends the list early, and the run with it

    def _executor(self, folder: Path) -> Any:
        import submitit

        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=self.kind)
            executor.update_parameters(**{"name": "reenact", "cpus_per_task": 1, **self.parameters})
        except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as error:
            raise InputError(
                f"submitit cannot use --slurm cluster={self.kind} {dict(self.parameters)} here: {error}"
            ) from None
        return executor


def _make_all(out: Path, part: tuple[Group, ...]) -> list[GroupOutcome]:
    """What a job does. A full disk ends it."""
    outcomes = []
    for group in part:
        outcomes.append(make_planned(out, group))
        if outcomes[-1].disk_full:
            break
    return outcomes


def _parsed(text: str) -> tuple[str, Any]:
    """ "timeout_min=60" -> ("timeout_min", 60). Raises InputError."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise InputError(f"--slurm {text!r}, expected NAME=VALUE of submitit, such as slurm_partition=long.")
    return name, int(value) if value.lstrip("-").isdigit() else value
