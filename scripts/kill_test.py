"""Kills `reenact run` at random moments of a small batch and compares what the resumed runs leave with an unbroken run.

python scripts/kill_test.py --json kill_test.json [--quick]
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
from dataclasses import dataclass
from pathlib import Path

import tyro

CLIPS = 60
KEPT = ("clips", "labels", "receipts")


@dataclass(frozen=True)
class KillTest:
    """Run a batch of 60 tiny clips to its end; then once more, with SIGKILLs on the way."""

    json: Path | None = None
    """Where to write kills, identical, partial, duplicate, missing."""
    quick: bool = False
    """5 kills instead of 20."""
    jobs: int = 2
    seed: int = 0
    victims: tuple[str, ...] = ("run", "worker")
    """Who is killed, in turn: the run with all its processes, or one of its workers, which the run survives."""

    def run(self) -> int:
        """0 when nothing is lost, double, partial or different."""
        folder = Path(tempfile.mkdtemp(prefix="kill_test_"))
        try:
            result = self.measure(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        text = json.dumps(result, indent=2)
        print(text)
        if self.json:
            self.json.write_text(text + "\n", encoding="utf-8")
        return int(not result["identical"] or any(result[key] for key in ("partial", "duplicate", "missing")))

    def measure(self, folder: Path) -> dict[str, object]:
        """Make the batch twice in `folder`."""
        write_batch(folder)
        start = time.monotonic()
        finish(folder / "unbroken.yaml", self.jobs)
        seconds = time.monotonic() - start
        kills = self._killed_on_the_way(folder / "killed.yaml", folder / "killed", seconds)
        finish(folder / "killed.yaml", self.jobs)
        return {"kills": kills} | compared(folder / "unbroken", folder / "killed")

    def _killed_on_the_way(self, batch: Path, out: Path, seconds: float) -> int:
        """Start runs and kill them (or their workers) after random times, until enough have been killed."""
        wanted = 5 if self.quick else 20
        rng = random.Random(self.seed)
        kills = 0
        while kills < wanted:
            victim = self.victims[kills % len(self.victims)]
            process = subprocess.Popen(command(batch, self.jobs), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            before = receipts(out)
            # from the start of the processes on, through about a tenth of the work, so that all kills find some
            wait_for_work(process, out)
            time.sleep(rng.uniform(0.0, 1.5 * seconds / wanted))
            targets = [process.pid] if victim == "run" else workers(process.pid)[:1]
            if process.poll() is not None or not targets:
                if len(receipts(out)) == CLIPS:
                    shutil.rmtree(out / "receipts")  # done too early: the clips must be made again
                process.kill()
                process.wait()
                continue
            os.kill(targets[0], signal.SIGKILL)
            kills += 1
            if victim == "worker":
                time.sleep(rng.uniform(0.0, 1.0))
                process.kill()
            process.wait()
            print(f"kill {kills}: {victim}, {len(receipts(out))} receipts, {before and len(before)} before")
        return kills


def wait_for_work(process: subprocess.Popen[bytes], out: Path) -> None:
    """Until a first file is being written by this run, or the run ends."""
    pids: set[str] = set()
    while process.poll() is None:
        pids = {str(process.pid), *map(str, workers(process.pid))}
        if any(path.name.split(".")[-2] in pids for path in out.rglob(".*.*.*")):
            return
        time.sleep(0.05)


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


def command(batch: Path, jobs: int) -> list[str]:
    """Start `reenact run` in this Python."""
    return [sys.executable, "-m", "reenact.cli", "run", str(batch), "--jobs", str(jobs)]


def finish(batch: Path, jobs: int) -> None:
    """Run a batch to its end."""
    done = subprocess.run(command(batch, jobs), capture_output=True, text=True, check=False)
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
    from avatars.binding import spread_over
    from avatars.body import JOINT_NAMES, Body
    from avatars.motion import Motion

    body, n = Body.load(), 2000
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
    sys.exit(tyro.cli(KillTest).run())
