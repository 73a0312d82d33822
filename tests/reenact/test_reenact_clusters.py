"""The same data set from a Ray cluster of which a process and a machine are killed, and from jobs of submitit."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes.tiny_batch import four_groups, write_material
from kill_test import writers

from avatars.body import load_body
from avatars.commands import console
from avatars.errors import BackendMissing, InputError
from reenact.commands.run import RunCommand
from reenact.planning.receipts import receipt_path, status, verify
from reenact.running import executors
from reenact.running.executors import Cluster
from reenact.running.run import run_batch

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory):
    """Processes of a cluster look for packages where they are started: here that must not be the source tree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"), load_body())


@pytest.fixture(scope="module")
def alone(material, tmp_path_factory) -> Path:
    """The data set, made by one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert run_batch(four_groups(material, folder / "b.yaml")).made == 4
    return folder / "out"


def contents(out: Path) -> dict[str, bytes]:
    """Every file but those that name paths and times."""
    files = (p for p in out.rglob("*") if p.is_file() and p.name not in ("batch.json", "runs.jsonl"))
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files if p.relative_to(out).parts[0] != "slurm"}


@pytest.fixture(scope="module")
def ray_cluster():
    """A head without cores and two nodes with one core each; yields the cluster and its nodes."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as RayCluster

    store = 80 * 2**20
    cluster = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": store})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=store) for _ in range(2)]
    yield cluster, nodes
    cluster.shutdown()


def first_writer(out: Path) -> int:
    """The process that writes the first file of a clip."""
    end = time.monotonic() + 100
    while time.monotonic() < end:
        for writer in writers(out / "clips"):
            return writer
        time.sleep(0.005)
    raise AssertionError("nothing was written")


@pytest.mark.slow
def test_ray_with_a_process_and_a_machine_killed_makes_the_same_bytes(
    material, alone, tmp_path, monkeypatch, ray_cluster
):
    cluster, nodes = ray_cluster
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    out, killed = tmp_path / "out", []

    def kill() -> None:
        writer = first_writer(out)
        os.kill(writer, signal.SIGKILL)
        killed.append(writer)
        while not any((out / "receipts").glob("[!.]*.json")):
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        killed.append("node")

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    summary = run_batch(four_groups(material, tmp_path / "b.yaml"), cluster=Cluster("ray"))
    thread.join(60)
    assert len(killed) == 2
    assert summary.failures == ()
    assert contents(out) == contents(alone)
    assert verify(out) == []


@pytest.mark.slow
def test_ray_that_we_start_listens_on_loopback_alone():
    pytest.importorskip("ray")
    pytest.importorskip("psutil")
    program = (
        "import os, ray, psutil\n"
        "from reenact.running.ray import _connected\n"
        "with _connected():\n"
        "    assert ray.get(ray.remote(lambda: 7).remote()) == 7\n"
        "    own = {p.pid for p in psutil.Process().children(recursive=True)} | {os.getpid()}\n"
        "    found = psutil.net_connections('tcp')\n"
        "    print('HEARD', {c.laddr.ip for c in found if c.status == 'LISTEN' and c.pid in own})\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_ADDRESS": "local"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-1500:]
    said = next(line for line in done.stdout.splitlines() if line.startswith("HEARD"))
    heard = ast.literal_eval(said.removeprefix("HEARD").strip())
    assert heard and all(address.removeprefix("::ffff:").startswith("127.") for address in heard), heard


def test_a_share_of_a_gpu_that_the_cluster_lacks_is_refused(material, tmp_path, monkeypatch, ray_cluster):
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster[0].address)
    with pytest.raises(InputError, match=r"--gpu-share 0.5, but no machine of this Ray cluster has a GPU"):
        run_batch(four_groups(material, tmp_path / "b.yaml"), cluster=Cluster("ray", gpu_share=0.5))


@pytest.mark.slow
def test_slurm_jobs_make_the_same_bytes_and_keep_their_logs(material, alone, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setattr("reenact.running.slurm._ROUNDS", 1)  # every job loads torch
    batch = four_groups(material, tmp_path / "b.yaml")
    command = RunCommand(batch, jobs=2, executor="slurm", slurm=("cluster=local", "timeout_min=5"))
    assert console.run(command) == console.DONE
    assert contents(tmp_path / "out") == contents(alone)
    assert list((tmp_path / "out" / "slurm").glob("*_log.out"))


@pytest.mark.slow
def test_a_job_that_is_killed_fails_what_it_did_not_finish_and_that_is_tried_again(
    material, alone, tmp_path, monkeypatch
):
    pytest.importorskip("submitit")
    monkeypatch.setattr("reenact.running.slurm._ROUNDS", 1)
    out = tmp_path / "out"
    batch = four_groups(material, tmp_path / "b.yaml")
    thread = threading.Thread(target=lambda: os.kill(first_writer(out), signal.SIGKILL), daemon=True)
    thread.start()
    summary = run_batch(batch, jobs=1, cluster=Cluster("slurm", parameters=("cluster=local",)))
    thread.join(1)
    assert not thread.is_alive()
    assert (summary.made, summary.failures) == (4, ())
    assert contents(out) == contents(alone)


@pytest.mark.parametrize(
    ("cluster", "jobs", "message"),
    [
        (Cluster("slurm"), 0, r"--executor slurm needs --jobs"),
        (Cluster("slurm", parameters=("long",)), 1, r"--slurm 'long', expected NAME=VALUE"),
        (Cluster("slurm", parameters=("cluster=local", "speed=9")), 1, r"submitit cannot use .*speed"),
        (Cluster("slurm", gpu_share=0.5), 1, r"--gpu-share is for --executor ray"),
    ],
)
def test_what_slurm_cannot_do_is_told_before_anything_is_made(material, tmp_path, cluster, jobs, message):
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match=message):
        run_batch(four_groups(material, tmp_path / "b.yaml"), jobs=jobs, cluster=cluster)
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_is_not_installed_is_named_with_its_extra(material, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match=r"pip install 'splat-avatars\[ray\]'"):
        run_batch(four_groups(material, tmp_path / "b.yaml"), cluster=Cluster("ray"))
    with pytest.raises(InputError, match="--gpu-share and --slurm are for"):
        RunCommand(tmp_path / "b.yaml", gpu_share=0.5).run()


def test_runs_that_share_a_folder_keep_each_others_failures(material, tmp_path, monkeypatch):
    from reenact.rendering import render as filming

    def broken(*_, **__):
        raise ValueError("broken")

    batch = four_groups(material, tmp_path / "b.yaml")
    monkeypatch.setattr(filming, "retarget", broken)
    assert len(run_batch(batch, share=(0, 2)).failures) == 2
    monkeypatch.undo()
    assert run_batch(batch, share=(1, 2)).made == 2
    found = status(tmp_path / "out")
    assert (found.whole, len(found.failures)) == (2, 2)
    assert not any(receipt_path(tmp_path / "out", failure.id).exists() for failure in found.failures)
