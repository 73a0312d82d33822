"""Kills `reenact run` at random moments of a small batch and compares what the resumed runs leave with an unbroken run.

python scripts/kill_test.py --json kill_test.json [--quick] [--executor ray]
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.benchmark_results import main, write_results

from avatars.io.part_files import is_part

CLIPS = 60
KEPT = ("clips", "labels", "receipts")


NAME = "kill_test"


@dataclass(frozen=True)
class KillTest:
    """Run a batch of 60 tiny clips to its end; then once more, with SIGKILLs on the way."""

    json: Path | None = None
    """Where to write kills, identical, partial, duplicate, missing."""
    kills: int = 20
    """How many."""
    quick: bool = False
    """5 kills, however many were asked for."""
    jobs: int = 2
    seed: int = 0
    executor: Literal["local", "ray"] = "local"
    """Who is killed, in turn: the run with all its processes, and one of its workers, which the run survives. With ray
    the runs work in a cluster of several nodes on this machine, and nodes are killed, too."""

    def run(self) -> int:
        """0 when nothing is lost, double, partial or different."""
        folder = Path(tempfile.mkdtemp(prefix="kill_test_"))
        try:
            result = self.measure(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        text = json.dumps(result, indent=2)
        print(text)
        write_results(self.json, NAME, result)
        return int(not result["identical"] or any(result[key] for key in ("partial", "duplicate", "missing")))

    def measure(self, folder: Path) -> dict[str, object]:
        """Make the batch twice in `folder`."""
        write_batch(folder)
        start = time.monotonic()
        finish(command(folder / "unbroken.yaml", self.jobs))
        seconds = time.monotonic() - start
        with ray_nodes() if self.executor == "ray" else no_nodes() as nodes:
            words = command(folder / "killed.yaml", self.jobs, self.executor)
            kills = self._killed_on_the_way(words, folder / "killed", seconds, nodes)
            finish(words)
        victims = {f"kills_{victim}": count for victim, count in kills.items()}
        return {"kills": sum(kills.values())} | victims | compared(folder / "unbroken", folder / "killed")

    def _killed_on_the_way(self, words: list[str], out: Path, seconds: float, nodes: RayNodes | None) -> dict[str, int]:
        """Start runs and kill them, their workers or nodes after random times, until enough have been killed."""
        wanted = 5 if self.quick else self.kills
        rng = random.Random(self.seed)
        longest_s = 1.5 * seconds / wanted
        kills: dict[str, int] = dict.fromkeys(["run", "worker"] if nodes is None else ["worker", "node", "run"], 0)
        while sum(kills.values()) < wanted:
            victim = list(kills)[sum(kills.values()) % len(kills)]
            process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            before = receipts(out)
            # from the start of the processes on, through about a tenth of the work, so that all kills find some
            wait_for_work(process, out)
            time.sleep(rng.uniform(0.0, longest_s))
            working = writers(out) if nodes is not None else workers(process.pid)
            if process.poll() is not None or (victim == "worker" and not working):
                if len(receipts(out)) == CLIPS:
                    shutil.rmtree(out / "receipts")  # done too early: the clips must be made again
                process.kill()
                process.wait()
                longest_s /= 2  # the first run was slower than this one: the machine had other work
                continue
            if victim == "node" and nodes is not None:
                nodes.kill_one()
            else:
                os.kill(process.pid if victim == "run" else working[0], signal.SIGKILL)
            kills[victim] += 1
            if victim != "run":
                time.sleep(rng.uniform(0.0, 1.0))
                process.kill()
            process.wait()
            print(f"kill {sum(kills.values())}: {victim}, {len(receipts(out))} receipts, {len(before)} before")
        return kills


@dataclass
class RayNodes:
    """A Ray cluster on this machine: a head without cores, and two nodes with one core each."""

    cluster: Any
    nodes: list[Any] = field(default_factory=list)

    def add(self) -> None:
        """One more node."""
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20))

    def kill_one(self) -> None:
        """Kill the oldest node with all its processes; another takes its place."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.add()


@contextmanager
def ray_nodes() -> Iterator[RayNodes]:
    """A cluster that RAY_ADDRESS names."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20})
    assert cluster.address is not None
    os.environ["RAY_ADDRESS"] = cluster.address
    nodes = RayNodes(cluster)
    try:
        for _ in range(2):
            nodes.add()
        yield nodes
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()


@contextmanager
def no_nodes() -> Iterator[None]:
    """This machine alone."""
    yield None


def wait_for_work(process: subprocess.Popen[bytes], out: Path) -> None:
    """Until a file is being written, or the run ends."""
    while process.poll() is None and not writers(out):
        time.sleep(0.05)


def writers(out: Path) -> list[int]:
    """The living processes that are writing a file: they hold it open under its name aside."""
    start, found = f"{out.resolve()}/", set()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(entry)
        except OSError:  # it has ended, or closed it
            continue
        if target.startswith(start) and is_part(Path(target).name):
            found.add(int(entry.parts[2]))
    return sorted(found)


def workers(pid: int) -> list[int]:
    """The processes that a run has started, its resource tracker left out."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) if entry.name.isdigit() else 0
            if parent == pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return sorted(found)


def command(batch: Path, jobs: int, executor: str = "local") -> list[str]:
    """Start `reenact run` in this Python."""
    run = ["run", str(batch), "--jobs", str(jobs), "--executor", executor]
    return [sys.executable, "-m", "reenact.cli", *run]


def finish(words: list[str]) -> None:
    """Run a batch to its end."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"reenact run failed: {(done.stdout + done.stderr)[-1000:]}")


def receipts(out: Path) -> list[Path]:
    """Of the clips that exist."""
    return sorted((out / "receipts").glob("[!.]*.json"))


def compared(unbroken: Path, killed: Path) -> dict[str, object]:
    """identical: every file has the same bytes; partial, duplicate, missing: counts in what was killed."""
    wanted = {p.relative_to(unbroken): p for kind in KEPT for p in (unbroken / kind).rglob("*") if p.is_file()}
    found = {p.relative_to(killed): p for kind in KEPT for p in (killed / kind).rglob("*") if p.is_file()}
    wanted |= {Path("manifest.jsonl"): unbroken / "manifest.jsonl", Path("plan.jsonl"): unbroken / "plan.jsonl"}
    found |= {Path("manifest.jsonl"): killed / "manifest.jsonl", Path("plan.jsonl"): killed / "plan.jsonl"}
    same = [name for name in wanted if name in found and wanted[name].read_bytes() == found[name].read_bytes()]
    ids = [json.loads(line)["id"] for line in (killed / "manifest.jsonl").read_text().splitlines()]
    videos = [p.stem for p in (killed / "clips").rglob("[!.]*.mp4")]
    verified = subprocess.run(
        [sys.executable, "-m", "reenact.cli", "verify", str(killed)], capture_output=True, text=True, check=False
    )
    return {
        "identical": len(same) == len(wanted) == len(found) and verified.returncode == 0,
        "partial": sum(p.name.startswith(".") for p in found.values()),
        "duplicate": len(ids) - len(set(ids)) + len(videos) - len(set(videos)),
        "missing": CLIPS - len(set(ids) & set(videos)),
        "clips": len(ids),
    }


def write_batch(folder: Path) -> None:
    """Two batches of the same 60 clips, 64 pixels wide: 2 people of one color, 10 motions, 3 places."""
    import numpy as np
    import torch
    from PIL import Image

    from avatars.avatar import Avatar
    from avatars.avatar.binding import spread_over
    from avatars.body import load_body
    from avatars.body.layout import JOINT_NAMES
    from avatars.body.motion import Motion

    body, n = load_body(), 2000
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1.0
    for name, color in (("one", 0.9), ("two", 0.2)):
        betas = torch.zeros(body.n_betas)
        betas[0] = color
        binding = spread_over(body, body.shaped(betas)[0], n)
        colors = torch.full((n, 3), color)
        look = (torch.zeros(n, 3), quats, torch.full((n, 3), -4.0), torch.full((n,), 4.0), colors, torch.zeros(8, 3))
        Avatar(body, betas, binding, *look).save(folder / name)
    frames = 12
    for number in range(10):
        poses = torch.zeros(frames, 55, 3)
        poses[:, JOINT_NAMES.index("left_shoulder"), 2] = torch.linspace(-1.2, 0.1 * number, frames)
        transl = torch.tensor([0.0, -float(body.v_template[:, 1].min()), 0.0]).repeat(frames, 1)
        times_s = torch.arange(frames, dtype=torch.float64) / 15
        valid = torch.ones(frames, dtype=torch.bool)
        face = torch.zeros(frames, body.n_expression)
        betas = torch.zeros(body.n_betas)
        Motion(poses, transl, betas, face, times_s, valid, body.sha256, f"m{number}").save(folder / f"m_{number}.npz")
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (80, 80, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"place{number}.png")
    for out in ("unbroken", "killed"):
        document = {
            "out": out,
            "size": 64,
            "fps": 15,
            "avatars": ["one", "two"],
            "motions": [{"path": "m_*.npz", "label": "raise"}],
            "backgrounds": ["place*.png"],
            "backgrounds_per_pair": 3,
        }
        (folder / f"{out}.yaml").write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML


if __name__ == "__main__":
    sys.exit(main(KillTest, NAME, __doc__ or ""))
