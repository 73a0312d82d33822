"""Groups of clips -> tasks of a Ray cluster: the one that RAY_ADDRESS names or that was started here, else a local one.

Ray places, watches and kills; which clips exist and what is tried again is decided by receipts, as everywhere.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatars.errors import InputError
from reenact.rendering.render import GroupOutcome
from reenact.running.executors import Cluster, Group, make_planned, mark_failed

CONNECT_S = 10.0
"""How long to wait for somebody who listens at RAY_ADDRESS."""


@dataclass(frozen=True)
class RayTasks:
    """One Ray task per group, each with one core and, where asked, a share of a GPU."""

    out: Path
    jobs: int
    """Most tasks at a time; 0: as many as the cluster has cores for, and as many again in waiting."""
    gpu_share: float

    @staticmethod
    def of(cluster: Cluster, out: Path, jobs: int) -> RayTasks:
        """Raises InputError for parameters that are not Ray's."""
        if cluster.parameters:
            raise InputError(f"--slurm {' '.join(cluster.parameters)} is for --executor slurm, not ray.")
        if not (0.0 <= cluster.gpu_share <= 1.0):
            raise InputError(f"--gpu-share is {cluster.gpu_share}, expected a part of one GPU, 0 to 1.")
        return RayTasks(out, jobs, cluster.gpu_share)

    def results(self, groups: deque[Group]) -> Iterator[tuple[Group, GroupOutcome]]:
        """See `Executor`. Raises InputError when there is no such cluster, or none of its machines has a GPU."""
        import ray

        with _connected():
            self._require_gpu()
            make = ray.remote(num_cpus=1, num_gpus=self.gpu_share, max_retries=0)(make_planned)
            pending: dict[Any, Group] = {}
            try:
                while groups or pending:
                    while groups and len(pending) < self._room():
                        group = groups.popleft()
                        pending[make.remote(self.out, group)] = group
                    done, _ = ray.wait(list(pending), num_returns=1)
                    for task in done:
                        group = pending.pop(task)
                        yield group, self._outcome(task, group)
            finally:
                for task in pending:
                    ray.cancel(task, force=True)

    def _room(self) -> int:
        import ray

        return self.jobs or max(2 * int(ray.cluster_resources().get("CPU", 1)), 1)

    def _require_gpu(self) -> None:
        import ray

        if self.gpu_share and ray.cluster_resources().get("GPU", 0.0) < self.gpu_share:
            raise InputError(f"--gpu-share {self.gpu_share}, but no machine of this Ray cluster has a GPU.")

    def _outcome(self, task: Any, group: Group) -> GroupOutcome:
        import ray.exceptions

        try:
            return ray.get(task)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            return mark_failed(self.out, group, f"the Ray task that made it ended: {said[0]}")


@contextmanager
def _connected() -> Iterator[None]:
    """Connected to Ray; left as it was found. Raises InputError when the cluster does not answer in a minute."""
    address = os.environ.get("RAY_ADDRESS", "this machine")
    _require_answer(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports to its makers
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # else it asks 20 times, for seven minutes
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address in ("this machine", "auto", "local"):
            _join_or_start("" if address == "this machine" else address)
        else:
            ray.init(logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, ValueError) as error:
        raise InputError(f"No Ray cluster answers at {address} ({error}). Start it, or correct RAY_ADDRESS.") from None
    try:
        yield
    finally:
        ray.shutdown()


def _join_or_start(address: str) -> None:
    """Connected to the cluster that was started on this machine, else to one of our own that nobody else can reach.

    Ray's ports obey whoever reaches them, and by default they listen on every network. Ray keeps to loopback only where
    it takes the system for one that makes no clusters (macOS, Windows), so that is what it is told while it starts. A
    cluster that other machines join is started by hand: `ray start --head`.
    """
    import ray
    from ray._private import ray_constants

    if address != "local":
        try:
            ray.init(address="auto", logging_level=logging.ERROR)
            return
        except ConnectionError:
            if address == "auto":
                raise
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False, logging_level=logging.ERROR)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters


def _require_answer(address: str) -> None:
    """Raise InputError when nobody listens at HOST:PORT; other addresses ("auto", "local") are Ray's own affair."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"No Ray cluster answers at {address} ({error}). Start it, or correct RAY_ADDRESS.") from None
