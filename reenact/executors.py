"""Groups of clips to make -> their outcomes, in this process or in one process per core.

Both make the same bytes: a group is always made with one thread.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import torch

from reenact.filming import Outcome, make_group
from reenact.plan import Plan, PlannedClip
from reenact.receipts import Failure

Group = tuple[PlannedClip, ...]


class Executor(Protocol):
    """Runs groups of clips somewhere."""

    def results(self, groups: deque[Group]) -> Iterator[tuple[Group, Outcome]]:
        """Take groups from the left until none is left, and yield what became of each, in any order.

        The caller may append groups meanwhile. Closing the iterator stops all work.
        """
        ...


@dataclass(frozen=True)
class InProcess:
    """One group after the other, here."""

    plan: Plan
    out: Path

    def results(self, groups: deque[Group]) -> Iterator[tuple[Group, Outcome]]:
        """See `Executor`."""
        while groups:
            group = groups.popleft()
            with _one_thread():
                outcome = make_group(self.plan, self.out, group)
            yield group, outcome


@dataclass(frozen=True)
class Processes:
    """`jobs` processes, each with one thread for its work; a process that dies fails its group alone."""

    plan: Plan
    out: Path
    jobs: int

    def results(self, groups: deque[Group]) -> Iterator[tuple[Group, Outcome]]:
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
                ready = wait([worker.connection for worker in busy])
                for worker in [worker for worker in busy if worker.connection in ready]:
                    group, outcome = worker.group, worker.answer()
                    workers.remove(worker)
                    if outcome is None:
                        outcome = worker.died()
                    else:
                        workers.append(replace(worker, group=None))
                    assert group is not None
                    yield group, outcome
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

    def given(self, group: Group) -> _Worker:
        with contextlib.suppress(BrokenPipeError):  # it has died: `answer` tells
            self.connection.send(group)
        return replace(self, group=group)

    def answer(self) -> Outcome | None:
        """What became of its group; None when the process died of it."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None

    def died(self) -> Outcome:
        """The outcome of a group whose process is gone."""
        self.process.join()
        code = self.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        reason = f"the process that made it {how} (out of memory, perhaps: try fewer --jobs)"
        return Outcome(failures=tuple(Failure(c.id, c.label, "process", reason, True) for c in self.group or ()))

    def stop(self) -> None:
        """End the process, in the middle of its work if need be."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def _serve(connection: Connection, plan: Plan, out: Path) -> None:
    """What a worker does: groups in, outcomes out, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("compose.background").setLevel(logging.ERROR)  # the parent has said it once
    torch.set_num_threads(1)
    groups: queue.SimpleQueue[Group] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, groups), daemon=True).start()
    while True:
        connection.send(make_group(plan, out, groups.get()))


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
