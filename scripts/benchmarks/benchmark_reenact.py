"""Speed of `reenact`: finished, labelled, composed frames a second, what each stage costs, and of planning and status.

python scripts/benchmarks/benchmark_reenact.py --json reenact.json
python scripts/benchmarks/benchmark_reenact.py --avatars runs/anna --motions motions/*.npz --backgrounds photos/*.jpg
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark_results import main, write_results

NAME = "reenact"


@dataclass(frozen=True)
class ReenactBenchmark:
    """Make a batch in a folder that is thrown away; without --avatars, a made-up person raises an arm over noise."""

    json: Path | None = None
    """Where to write frames_per_s, share_of_bound, plan_1000_s, status_100k_s, peak_gib, and each stage's share."""
    avatars: tuple[Path, ...] = ()
    motions: tuple[Path, ...] = ()
    backgrounds: tuple[Path, ...] = ()
    backgrounds_per_pair: int = 3
    size: int = 512
    fps: float = 30.0
    jobs: int = 0
    """0: one process per core."""

    def run(self) -> int:
        """Measure and print; 1 when a clip failed."""
        folder = Path(tempfile.mkdtemp(prefix="benchmark_reenact_"))
        try:
            result = self._throughput(folder)
            result |= {"plan_1000_s": plan_seconds(folder / "plan"), "status_100k_s": status_seconds(folder / "status")}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(result, indent=2))
        write_results(self.json, NAME, result)
        return int(result["failed"] > 0)

    def _throughput(self, folder: Path) -> dict[str, Any]:
        from avatars.io.machine import processors
        from avatars.io.progress import StageClock, peak_gib
        from reenact.running.run import run_batch

        jobs = self.jobs or processors()
        clock = StageClock()
        summary = run_batch(self._batch(folder), clock=clock, jobs=jobs)
        bound = jobs * summary.frames / summary.cpu_s
        own_mib = 1024 * peak_gib()
        return {
            "frames_per_s": round(summary.fps, 1),
            "share_of_bound": round(summary.fps / bound, 3),
            "bound_frames_per_s": round(bound, 1),
            "clips": summary.made,
            "failed": len(summary.failures),
            "frames": summary.frames,
            "seconds": round(summary.seconds, 1),
            "jobs": jobs,
            "peak_gib": round((own_mib + jobs * summary.peak_mib) / 1024, 2),
            "share_of_cpu": {stage: round(s / summary.cpu_s, 3) for stage, s in clock.seconds.items()},
        }

    def _batch(self, folder: Path) -> Path:
        made = made_up(folder) if not self.avatars else {}
        given = {"avatars": self.avatars, "motions": self.motions, "backgrounds": self.backgrounds}
        document = {
            "out": str(folder / "out"),
            "size": self.size,
            "fps": self.fps,
            "backgrounds_per_pair": self.backgrounds_per_pair,
            **{kind: [str(p.absolute()) for p in paths] or made[kind] for kind, paths in given.items()},
        }
        path = folder / "batch.yaml"
        path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
        return path


def made_up(folder: Path) -> dict[str, list[str]]:
    """Two people of 60,000 Gaussians, four motions of 4 s, three pictures of noise."""
    import numpy as np
    import torch
    from PIL import Image

    from avatars.avatar import Avatar
    from avatars.avatar.binding import spread_over
    from avatars.body import load_body
    from avatars.body.layout import JOINT_NAMES
    from avatars.body.motion import Motion

    body, n, frames = load_body(), 60_000, 120
    for seed, name in enumerate(("one", "two")):
        betas = torch.zeros(body.n_betas)
        binding = spread_over(body, body.shaped(betas)[0], n)
        quats = torch.zeros(n, 4).index_fill(1, torch.tensor(0), 1.0)
        colors = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
        look = (torch.zeros(n, 3), quats, torch.full((n, 3), -5.3), torch.full((n,), 3.0), colors, torch.zeros(8, 3))
        Avatar(body, betas, binding, *look).save(folder / name)
    for number in range(4):
        poses = torch.zeros(frames, 55, 3)
        swing = torch.linspace(0.0, 6.0 + number, frames)
        poses[:, JOINT_NAMES.index("left_shoulder"), 2] = -0.4 + 0.8 * torch.sin(swing)
        poses[:, JOINT_NAMES.index("right_shoulder"), 2] = 1.2
        transl = torch.tensor([0.0, -float(body.v_template[:, 1].min()), 0.0]).repeat(frames, 1)
        times_s, valid = torch.arange(frames, dtype=torch.float64) / 30, torch.ones(frames, dtype=torch.bool)
        face, betas = torch.zeros(frames, body.n_expression), torch.zeros(body.n_betas)
        Motion(poses, transl, betas, face, times_s, valid, body.sha256, "").save(folder / f"raise_{number}.npz")
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).resize((640, 640)).save(folder / f"place{number}.png")
    return {
        "avatars": ["one", "two"],
        "motions": ["raise_*.npz"],
        "backgrounds": ["place*.png"],
    }


def plan_seconds(folder: Path) -> float:
    """Time to check a batch of 10 people, 50 motions and 4 places, plan its 1,000 clips and write the plan.

    The inputs are files of random bytes (26 MiB in all), which a plan hashes and does not open.
    """
    from reenact.planning.batch import load_batch
    from reenact.planning.plan import make_plan, open_output

    folder.mkdir()
    for number in range(10):
        (folder / f"person{number}").mkdir()
        (folder / f"person{number}" / "avatar.json").write_text("{}", encoding="utf-8")
        (folder / f"person{number}" / "gaussians.safetensors").write_bytes(os.urandom(2**20))
    for number in range(50):
        (folder / f"act_{number}.npz").write_bytes(os.urandom(2**18))
    for number in range(4):
        (folder / f"place{number}.png").write_bytes(os.urandom(2**20))
    document = {"out": "out", "avatars": ["person*"], "motions": ["act_*.npz"], "backgrounds": ["place*.png"]}
    (folder / "batch.yaml").write_text(json.dumps({**document, "backgrounds_per_pair": 2}), encoding="utf-8")
    start = time.perf_counter()
    plan = make_plan(load_batch(folder / "batch.yaml"))
    open_output(plan)
    seconds = time.perf_counter() - start
    assert len(plan.clips) == 1000
    return round(seconds, 3)


def status_seconds(folder: Path) -> float:
    """Time to count a plan of 100,000 clips of which every third is there."""
    from reenact.planning.receipts import status

    for name in ("receipts", "labels", "clips/wave"):
        (folder / name).mkdir(parents=True)
    clip = {"label": "wave", "avatar": 0, "motion": 0, "background": 0}
    with open(folder / "plan.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": f"{i:016x}", **clip}) + "\n" for i in range(100_000))
    for i in range(0, 100_000, 3):
        for path in (f"receipts/{i:016x}.json", f"labels/{i:016x}.npz", f"clips/wave/{i:016x}.mp4"):
            (folder / path).write_bytes(b"0")
    start = time.perf_counter()
    found = status(folder)
    seconds = time.perf_counter() - start
    assert (found.planned, found.whole) == (100_000, 33_334)
    return round(seconds, 3)


if __name__ == "__main__":
    sys.exit(main(ReenactBenchmark, NAME, __doc__ or ""))
