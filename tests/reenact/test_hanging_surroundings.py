"""What surrounds a run and does not answer: workers that are stopped, clusters that are not there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from fakes.tiny_batch import four_groups, write_material

from avatars.body import load_body
from avatars.errors import InputError
from reenact.running import executors
from reenact.running.ray import _require_answer
from reenact.running.run import run_batch


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"), load_body())


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_replaced_and_its_clips_are_made(material, tmp_path, monkeypatch):
    stopped: list[int] = []

    def stop_the_first() -> None:
        end = time.monotonic() + 60
        while not stopped and time.monotonic() < end:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGSTOP)
                stopped.append(child.pid)
                return
            time.sleep(0.01)

    monkeypatch.setattr(executors, "SILENT_S", 25.0)
    monkeypatch.setattr(executors, "SIGN_OF_LIFE_S", 2.0)
    thread = threading.Thread(target=stop_the_first, daemon=True)
    thread.start()
    summary = run_batch(four_groups(material, tmp_path / "b.yaml"), jobs=2)
    thread.join(1)
    assert len(stopped) == 1
    assert (summary.made, summary.failures) == (4, ())
    with pytest.raises(ProcessLookupError):
        os.kill(stopped[0], 0)


def test_a_ray_address_at_which_nobody_listens_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "no-such-host.invalid:6379", "127.0.0.1:99999"):
        with pytest.raises(InputError, match="No Ray cluster answers at"):
            _require_answer(address)
    assert time.monotonic() - start < 40
    _require_answer("auto")


def test_a_ray_address_that_swallows_everything_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr("reenact.running.ray.CONNECT_S", 0.5)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(0)
        full = [socket.socket() for _ in range(8)]  # its queue is full then: further ones get no answer
        for one in full:
            one.setblocking(False)
            one.connect_ex(mute.getsockname())
        with pytest.raises(InputError, match="No Ray cluster answers"):
            _require_answer("{}:{}".format(*mute.getsockname()))
        for one in full:
            one.close()


def test_fewer_than_no_processes_are_refused(material, tmp_path):
    with pytest.raises(InputError, match="--jobs -1"):
        run_batch(four_groups(material, tmp_path / "b.yaml"), jobs=-1)
    assert not (tmp_path / "out").exists()
