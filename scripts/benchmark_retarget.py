"""Recorded motions on many bodies: how far feet skate, float, sink, and how much rougher the motion gets.

python scripts/benchmark_retarget.py data/motions/cmu --json retarget.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro


@dataclass(frozen=True)
class RetargetBenchmark:
    """Retarget every n-th motion of a folder onto 12 bodies; contacts are those of the source on its own body."""

    motions: Annotated[Path, tyro.conf.Positional]
    """Folder of BVH or npz files."""
    json: Path | None = None
    n_motions: int = 20
    frames: int = 240
    """At most so many source frames of each, after the first (which may be a T-pose)."""
    fps: float = 30.0

    def run(self) -> int:
        """Measure and print; always 0."""
        import torch

        from avatars.body import Body
        from avatars.motion_formats import load_motion

        torch.set_num_threads(1)
        body = Body.load()
        files = sorted(p for p in self.motions.iterdir() if p.suffix in {".bvh", ".npz"})
        chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(self.n_motions, len(files))).round().astype(int)]
        rows: list[dict[str, Any]] = []
        for path in chosen:
            motion = load_motion(path, body)[1 : self.frames + 1]
            for name, betas in bodies(body).items():
                rows.append({"motion": path.stem, "body": name} | measured(motion, body, betas, self.fps))
            print(path.stem, *(f"{key} {np.mean([r[key] for r in rows[-12:]]):.2f}" for key in list(rows[-1])[2:]))
        result = summary(rows)
        print(json.dumps(result, indent=2))
        if self.json:
            self.json.write_text(json.dumps(result | {"rows": rows}, indent=2) + "\n", encoding="utf-8")
        return 0


def bodies(body: Any) -> dict[str, Any]:
    """12 shapes: both ends of the first three components, and six drawn at 1.3 times the spread of people."""
    import torch

    found = {}
    for i in range(3):
        for end in (-2.5, 2.5):
            found[f"b{i}{end:+}"] = torch.zeros(body.n_betas).index_fill(0, torch.tensor(i), end)
    for seed in range(6):
        draw = torch.randn(10, generator=torch.Generator().manual_seed(seed))
        found[f"drawn{seed}"] = torch.cat([1.3 * draw, torch.zeros(body.n_betas - 10)])
    return found


def measured(motion: Any, body: Any, betas: Any, fps: float) -> dict[str, float]:
    """Of what `retarget` made and of plainly copied rotations: skate (mm per frame), height (mm) in contact, jerk."""
    from reenact.contacts import Soles, foot_track
    from reenact.retarget import on_body, on_ground, resampled, retarget

    found = retarget(motion, body, betas, fps=fps)
    scaled, _ = on_body(resampled(motion, fps), body, betas)
    soles = Soles.of(body, betas)
    copied, points = on_ground(scaled, body, soles, fps)
    before = foot_track(soles.feet(points))
    both = found.contact[:-1] & found.contact[1:]
    skate, was = 1000 * found.slip_m[:-1][both], 1000 * before.slip_m[:-1].norm(dim=-1)[both]
    height, height_was = 1000 * found.sole_m[found.contact].abs(), 1000 * before.height_m[found.contact].abs()
    return {
        "height_m": found.height_m,
        "contact": float(found.contact.float().mean()),
        "skate_max": float(skate.max()) if len(skate) else 0.0,
        "skate_mean": float(skate.mean()) if len(skate) else 0.0,
        "skate_copied_max": float(was.max()) if len(was) else 0.0,
        "off_ground_max": float(height.max()) if len(height) else 0.0,
        "off_ground_copied_max": float(height_was.max()) if len(height_was) else 0.0,
        "sunk_max": max(-1000 * float(found.sole_m.min()), 0.0),
        "jerk_ratio": jerk(found.motion, body) / jerk(copied, body),
    }


def jerk(motion: Any, body: Any) -> float:
    """Mean third difference of the body's joints."""
    import torch

    joints = body.pose(motion.poses, motion.betas, motion.transl).joints[:, :22]
    return float(torch.diff(joints, n=3, dim=0).norm(dim=-1).mean())


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all motions and bodies: median and worst, and the share that keeps each bound."""
    bounds = {"skate_max": 5.0, "off_ground_max": 10.0, "sunk_max": 10.0, "jerk_ratio": 1.1}
    result: dict[str, Any] = {"pairs": len(rows)}
    for key in list(rows[0])[2:]:
        values = np.array([row[key] for row in rows])
        result[key] = {"median": round(float(np.median(values)), 3), "worst": round(float(values.max()), 3)}
        if key in bounds:
            result[key]["share_within"] = round(float((values <= bounds[key]).mean()), 3)
    return result


if __name__ == "__main__":
    sys.exit(tyro.cli(RetargetBenchmark).run())
