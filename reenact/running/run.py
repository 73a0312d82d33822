"""Plan -> data set: makes the clips that are not there yet, tries again what may work another time, tells the rest.

A run that was stopped anywhere, by whatever, goes on where it was, and the files are the same bytes.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avatars.body import load_body
from avatars.errors import InputError
from avatars.io.files import require_space
from avatars.io.machine import processors
from avatars.io.progress import StageClock, progress
from reenact.planning.plan import Plan, open_output, other_versions, plan_of
from reenact.planning.receipts import Failure, finish_manifest, remove_partial_files, whole_clips
from reenact.rendering.render import CpuClock, check_inputs
from reenact.running.executors import Cluster, Executor, Group, InProcess, Processes

log = logging.getLogger(__name__)

TRIES = 2
_OTHERS_S = 3600.0
"""Half written files that are younger than this may be those that another machine is writing."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run did."""

    out: Path
    planned: int
    """Clips that this run is to see made: all, or its share."""
    made: int
    already_there: int
    frames: int
    seconds: float
    failures: tuple[Failure, ...]
    stopped: str = ""
    """Why the run ended early; "" when it did not."""
    cpu_s: float = 0.0
    """CPU seconds of all stages together."""
    peak_mib: float = 0.0
    """Most memory that any one process had."""
    guessed_floors: tuple[str, ...] = ()
    """Names of the plan's places whose floor nobody gave and no depth told."""

    @property
    def fps(self) -> float:
        """Finished frames per second of the whole run."""
        return self.frames / max(self.seconds, 1e-9)


@dataclass
class _State:
    made: int = 0
    frames: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    peak_mib: float = 0.0


class _TooManyFailures(Exception):
    pass


def run_batch(
    path: str | Path,
    *,
    clock: StageClock | None = None,
    jobs: int = 1,
    max_failures: int | None = None,
    share: tuple[int, int] = (0, 1),
    cluster: Cluster | None = None,
) -> RunSummary:
    """Make every clip of a BATCH.yaml, or of a written plan, that is not there yet.

    `jobs` processes work at it; 0 means one per core. `clock` gets the CPU seconds of each stage. With more than
    `max_failures` failures the run stops. `share` (i, n) makes every n-th avatar and motion only, from the i-th on.
    `cluster` hands the work to other machines, which must see the plan's files under the same paths.

    Raises InputError when the batch, an input or the output folder cannot be used, before anything is rendered; and
    when the disk is full, with what is finished left whole. A clip that fails is counted and the others are made.
    """
    start = time.perf_counter()
    if jobs < 0:
        raise InputError(f"--jobs {jobs}: take 1 or more processes, or 0 for one per core.")
    clock, own = clock or StageClock(), CpuClock()
    with own.stage("plan"):
        plan = plan_of(path)
        lengths_s = check_inputs(plan, load_body(plan.batch.body))
    clock.seconds.update(own.seconds)
    remote = None if cluster is None else cluster.executor(plan.batch.out, jobs)
    out = open_output(plan)
    if told := other_versions(out):
        log.warning("%s", told)
    remove_partial_files(out, older_than_s=_OTHERS_S if cluster or share[1] > 1 else 0.0)
    wanted = [group for i, group in enumerate(plan.groups()) if i % share[1] == share[0]]
    planned = sum(map(len, wanted))
    whole = whole_clips(out, plan.clips)
    missing = [group for group in (tuple(c for c in g if c.id not in whole) for g in wanted) if group]
    missing.sort(key=lambda g: (g[0].avatar, -lengths_s[g[0].motion]))  # short ones last: all processes end together
    count = sum(map(len, missing))
    require_space(out, needed_mib=min(count, 100) * _expected_mib(plan) + 16)
    state, stopped = _State(), ""
    try:
        executor = remote or _executor(plan, out, jobs, missing)
        for _ in progress(_made(executor, missing, state, clock, max_failures), f"{count} clips", total=count):
            pass
    except _TooManyFailures:
        stopped = f"stopped after {len(state.failures)} failures (--max-failures {max_failures})"
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(
            f"No space left for {out}: {planned - count + state.made} of {planned} clips are whole. "
            "Free some and run the same command again; it goes on where it stopped."
        ) from None
    finally:
        _conclude(out, plan, wanted, state, whole_plan=share[1] == 1, here=cluster is None)
    summary = RunSummary(
        out=out,
        planned=planned,
        made=state.made,
        already_there=planned - count,
        frames=state.frames,
        seconds=time.perf_counter() - start,
        failures=tuple(state.failures.values()),
        stopped=stopped,
        cpu_s=sum(clock.seconds.values()),
        peak_mib=state.peak_mib,
        guessed_floors=plan.guessed_floors(),
    )
    if state.made or state.failures:
        _note(summary, clock)
    return summary


def _note(summary: RunSummary, clock: StageClock) -> None:
    """A line in runs.jsonl: what the run made, how fast, and what its stages cost."""
    line = {
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "made": summary.made,
        "failed": len(summary.failures),
        "frames": summary.frames,
        "seconds": round(summary.seconds, 2),
        "cpu_s": {stage: round(seconds, 3) for stage, seconds in clock.seconds.items()},
        "peak_mib": round(summary.peak_mib),
    }
    with open(summary.out / "runs.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _conclude(out: Path, plan: Plan, wanted: Sequence[Group], state: _State, *, whole_plan: bool, here: bool) -> None:
    """Manifest and failures; on a full disk what was there stays, and the next run writes them."""
    try:
        finish_manifest(
            out, plan.clips, state.failures.values(), judged={clip.id for group in wanted for clip in group}
        )
        # what a cluster left half written is nobody's now that its tasks have ended
        remove_partial_files(out, older_than_s=0.0 if whole_plan else _OTHERS_S, only_dead=here or not whole_plan)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _executor(plan: Plan, out: Path, jobs: int, missing: Sequence[Group]) -> Executor:
    jobs = min(jobs or processors(), len(missing))
    return Processes(plan, out, jobs) if jobs > 1 else InProcess(plan, out)


def _made(
    executor: Executor, missing: Sequence[Group], state: _State, clock: StageClock, max_failures: int | None
) -> Iterator[str]:
    """Ids of clips as they come to exist. Raises OSError (ENOSPC) when the disk is full."""
    groups = deque(missing)
    results = executor.results(groups)
    try:
        for group, outcome in results:
            state.made += len(outcome.made)
            state.frames += outcome.frames
            state.peak_mib = max(state.peak_mib, outcome.peak_mib)
            for stage, seconds in outcome.cpu_s.items():
                clock.seconds[stage] = clock.seconds.get(stage, 0.0) + seconds
            yield from outcome.made
            if outcome.disk_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            again = _to_try_again(outcome.failures, state)
            if again:
                groups.append(tuple(clip for clip in group if clip.id in again))
            if max_failures is not None and len(state.failures) > max_failures:
                raise _TooManyFailures
    finally:
        results.close()  # type: ignore[attr-defined]


def _to_try_again(failures: Sequence[Failure], state: _State) -> set[str]:
    """Ids of the failures that deserve another try; the others are final."""
    again = set()
    for failure in failures:
        state.tries[failure.id] = state.tries.get(failure.id, 0) + 1
        if failure.transient and state.tries[failure.id] < TRIES:
            again.add(failure.id)
        else:
            state.failures[failure.id] = failure
    return again


def _expected_mib(plan: Plan) -> float:
    """Generous size of one clip of 10 s."""
    height, width = plan.batch.size_hw
    return 10 * plan.batch.fps * (0.03 * height * width + 8_000) / 2**20
