"""Groups of clips to make -> their outcomes: in this process, in one process per core, or on a cluster.

All make the same bytes: a group is always made with one thread.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, Protocol

import torch

from avatars.errors import BackendMissing
from avatars.io.files import read_json
from reenact.planning.plan import Plan, PlannedClip, read_plan
from reenact.planning.receipts import Failure, is_whole, receipt_path
from reenact.rendering.render import GroupOutcome, make_group

Group = tuple[PlannedClip, ...]
ALIVE = "alive"
SIGN_OF_LIFE_S, SILENT_S = 20.0, 300.0
"""How often a worker is heard at least, and after how long a silence it is taken for stopped: it is ended, and its
clips are made anew."""
_STOPPED = "the process that made it stood still for minutes (stopped, or swapped out: try fewer --jobs)"
SCHEDULERS = {
    "ray": ("reenact.running.ray:RayTasks", "ray"),
    "slurm": ("reenact.running.slurm:SlurmJobs", "submitit"),
}
"""name: (module:Class, package); the pip extra has the name of the scheduler."""


class Executor(Protocol):
    """Runs groups of clips somewhere."""

    def results(self, groups: deque[Group]) -> Iterator[tuple[Group, GroupOutcome]]:
        """Take groups from the left until none is left, and yield what became of each, in any order.

        The caller may append groups meanwhile. Closing the iterator stops all work.
        """
        ...


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which scheduler hands the work to other machines, all of which see the plan's files under the same paths."""

    scheduler: Literal["ray", "slurm"]
    gpu_share: float = 0.0
    """Part of a GPU that each task reserves (Ray)."""
    parameters: tuple[str, ...] = ()
    """NAME=VALUE for submitit (Slurm)."""

    def executor(self, out: Path, jobs: int) -> Executor:
        """What makes the plan in `out`, at most `jobs` tasks at a time. Raises InputError when it cannot."""
        target, package = SCHEDULERS[self.scheduler]
        if find_spec(package) is None:
            raise BackendMissing(
                f"--executor {self.scheduler} needs the package {package}, which is not installed: "
                f"pip install 'splat-avatars[{self.scheduler}]'"
            )
        module, name = target.split(":")
        return getattr(importlib.import_module(module), name).of(self, out.absolute(), jobs)


@dataclass(frozen=True)
class InProcess:
    """One group after the other, here."""

    plan: Plan
    out: Path

    def results(self, groups: deque[Group]) -> Iterator[tuple[Group, GroupOutcome]]:
        """See `Executor`."""
        while groups:
            group = groups.popleft()
            with _one_thread():
                outcome = make_group(self.plan, self.out, group)
            yield group, outcome


def make_planned(out: Path, group: Group) -> GroupOutcome:
    """Make a group of the plan that is written in `out`: what a machine of a cluster does."""
    with _one_thread():
        return make_group(_plan(out), out, group)


@lru_cache(maxsize=1)
def _plan(out: Path) -> Plan:
    return replace(read_plan(out, check_inputs=False), clips=())


def mark_failed(out: Path, group: Group, reason: str) -> GroupOutcome:
    """The outcome of a group whose process is gone: what has a receipt is made, the rest may work another time."""
    made = [clip for clip in group if is_whole(out, clip)]
    frames = sum(read_json(receipt_path(out, clip.id))["clip"]["n_frames"] for clip in made)
    failures = (Failure(clip.id, clip.label, "process", reason, True) for clip in group if clip not in made)
    return GroupOutcome(made=tuple(clip.id for clip in made), frames=frames, failures=tuple(failures))


@dataclass(frozen=True)
class Processes:
    """`jobs` processes, each with one thread for its work; a process that dies fails its group alone."""

    plan: Plan
    out: Path
    jobs: int

    def results(self, groups: deque[Group]) -> Iterator[tuple[Group, GroupOutcome]]:
        """See `Executor`."""
        workers: list[_Worker] = []
        try:
            while True:
                for index, worker in enumerate(workers):
                    if groups and worker.group is None:
                        workers[index] = worker.given(groups.popleft())
                while groups and len(workers) < self.jobs:
                    workers.append(self._start().given(groups.popleft()))
                busy = [worker for worker in workers if worker.group is not None]
                if not busy:
                    return
                start_s = time.monotonic()
                ready = wait([worker.connection for worker in busy], timeout=SIGN_OF_LIFE_S)
                waited_s = min(time.monotonic() - start_s, 2 * SIGN_OF_LIFE_S)
                for worker in busy:
                    heard = worker.heard(worker.connection in ready, waited_s)
                    workers.remove(worker)
                    assert worker.group is not None
                    if heard.silent_s >= SILENT_S:
                        heard.stop()
                        yield worker.group, mark_failed(self.out, worker.group, _STOPPED)
                    elif worker.connection not in ready or isinstance(outcome := worker.answer(), str):  # ALIVE
                        workers.append(heard)
                    elif outcome is None:
                        yield worker.group, mark_failed(self.out, worker.group, worker.how_it_died())
                    else:
                        workers.append(replace(heard, group=None))
                        yield worker.group, outcome
        finally:
            for worker in workers:
                worker.stop()

    def _start(self) -> _Worker:
        here, there = multiprocessing.Pipe()
        shared = replace(self.plan, clips=())
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(there, shared, self.out), daemon=True
        )
        with _environment(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE"):
            process.start()
        there.close()
        return _Worker(process, here)


@dataclass(frozen=True)
class _Worker:
    """A process and the group that it works on."""

    process: BaseProcess
    connection: Connection
    group: Group | None = None
    silent_s: float = 0.0
    """For how long it has given no sign of life while it was waited for; of a time in which the whole run was stopped
    (Ctrl-Z, a laptop's lid) little is counted."""

    def heard(self, anything: bool, waited_s: float) -> _Worker:
        """The worker after it was waited for."""
        return replace(self, silent_s=0.0 if anything else self.silent_s + waited_s)

    def given(self, group: Group) -> _Worker:
        with contextlib.suppress(BrokenPipeError):  # it has died: `answer` tells
            self.connection.send(group)
        return replace(self, group=group, silent_s=0.0)

    def answer(self) -> GroupOutcome | str | None:
        """What became of its group, or ALIVE; None when the process died of it."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None

    def how_it_died(self) -> str:
        """Why the process is gone."""
        self.process.join()
        code = self.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"the process that made it {how} (out of memory, perhaps: try fewer --jobs)"

    def stop(self) -> None:
        """End the process, in the middle of its work if need be."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def _serve(connection: Connection, plan: Plan, out: Path) -> None:
    """What a worker does: groups in, outcomes out, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("compose.places.place_view").setLevel(logging.ERROR)  # the parent has said it once
    torch.set_num_threads(1)
    groups: queue.SimpleQueue[Group] = queue.SimpleQueue()
    one_at_a_time = threading.Lock()
    threading.Thread(target=_listen, args=(connection, groups), daemon=True).start()
    threading.Thread(target=_tell, args=(connection, one_at_a_time), daemon=True).start()
    while True:
        outcome = make_group(plan, out, groups.get())
        with one_at_a_time:
            connection.send(outcome)


def _tell(connection: Connection, one_at_a_time: threading.Lock) -> None:
    """Give signs of life, several in a parent's round, until the parent is gone."""
    while True:
        time.sleep(SIGN_OF_LIFE_S / 4)
        try:
            with one_at_a_time:
                connection.send(ALIVE)
        except OSError:
            return


def _listen(connection: Connection, groups: queue.SimpleQueue[Group]) -> None:
    """Hand on what the parent sends; when it is gone, however it ended, go too."""
    while True:
        try:
            groups.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
