"""How well and how fast avatars are fitted: studio captures, tracked from their pixels, scored on frames never fitted.

python scripts/benchmark_fit.py --json fit.json            # six people, 324 frames at 512 x 512
python scripts/benchmark_fit.py --json fit.json --quick    # one person
python scripts/benchmark_fit.py --without refine_pose      # an ablation: one part of the recipe off
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import tyro

from avatars.fit_config import FitConfig, Quality

Part = Literal["color_init", "refine_pose", "refine_shape", "shading", "exposure", "random_background"]


@dataclass(frozen=True)
class FitBenchmark:
    """Fit avatars to studio captures and score them against the truth."""

    json: Path | None = None
    """Where to write the numbers."""
    people: int = 6
    first_seed: int = 0
    frames: int = 324
    size: int = 512
    """Height and width of the videos, pixels."""
    quality: Quality = "standard"
    without: tuple[Part, ...] = ()
    """Parts of the recipe to leave out."""
    true_poses: bool = False
    """Give fitting the true poses and camera, for the ceiling."""
    quick: bool = False
    """One person."""
    captures: Path | None = None
    """Keep the captures in this folder, and use those that are there."""

    def run(self) -> dict[str, Any]:
        """Film, track, fit and score every person; print a table and write the numbers."""
        from avatars.files import write_json

        with tempfile.TemporaryDirectory() as scratch:
            root = self.captures or Path(scratch)
            people = [self.one(seed, root) for seed in range(self.first_seed, self.first_seed + self.n_people)]
        means = {key: fmean(p[key] for p in people) for key in people[0] if isinstance(people[0][key], float)}
        report = {"settings": asdict(self), "mean": means, "people": people}
        report["settings"] = {k: str(v) if isinstance(v, Path) else v for k, v in report["settings"].items()}
        for key, value in means.items():
            print(f"{key:<24}{value:10.3f}")
        if self.json is not None:
            write_json(self.json, report)
        return report

    @property
    def n_people(self) -> int:
        return 1 if self.quick else self.people

    def one(self, seed: int, root: Path) -> dict[str, Any]:
        """One person's numbers."""
        from avatars.body import Body
        from avatars.clean_plate import CleanPlate
        from avatars.fitting import fit_avatar
        from avatars.progress import StageClock
        from avatars.studio.capture import Capture, sample_capture
        from avatars.tracking import track_video

        folder, size_hw = root / f"person_{seed}_{self.frames}", (self.size, self.size)
        if not (folder / "camera.json").is_file():
            sample_capture(folder, seed=seed, frames=self.frames, size_hw=size_hw, show_progress=True)
        capture, body = Capture(folder), Body.load()
        start = time.perf_counter()
        track = track_video(capture.video, body=body)
        tracked = time.perf_counter()
        if self.true_poses:
            truth = capture.truth()
            track = replace(track, motion=truth.motion, camera=truth.camera)
        config = replace(FitConfig.preset(self.quality, size_px=self.size), score_frames=1000)
        config = replace(config, **{part: False for part in self.without})
        clock = StageClock()
        plate = CleanPlate.read(folder / "background.png", size_hw)
        result = fit_avatar(capture.video, track, config=config, body=body, truth=plate, clock=clock)
        assert result.scores is not None
        print(f"person {seed}\n{result.scores.table()}\n{clock.table()}")
        fit_s = sum(seconds for stage, seconds in clock.seconds.items() if stage != "score")
        return result.scores.as_dict() | {
            "seed": seed,
            "track_s": tracked - start,
            "fit_s": fit_s,
            "score_s": clock.seconds["score"],
            "total_s": tracked - start + fit_s,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "coverage": result.coverage,
            "n_gaussians": len(result.avatar),
        }


if __name__ == "__main__":
    tyro.cli(Annotated[FitBenchmark, tyro.conf.arg(name="")]).run()
