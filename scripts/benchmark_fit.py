"""How well and how fast avatars are fitted: studio captures, tracked from their pixels, scored on frames never fitted.

python scripts/benchmark_fit.py --json fit.json            # six people, 324 frames at 512 x 512
python scripts/benchmark_fit.py --json fit.json --quick    # one person
python scripts/benchmark_fit.py --ablations                # each part of the recipe off once, as a table

Every person is fitted twice: from the tracked poses and from the true ones (`psnr_true_pose_db`, the ceiling). Held-out
frames are every eighth; "box" is the person's box over the room as it truly is behind them in that frame, with their
shadow on it. `psnr_novel_pose_db` has four actions that were never filmed for the fit, in their true poses, before the
same lights. Captures carry sensor noise and compression: a perfect avatar would reach about 39 dB and an SSIM of 0.96.
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from avatars.fit_config import FitConfig, Quality

if TYPE_CHECKING:
    from avatars.avatar import Avatar
    from avatars.body import Body
    from avatars.fitting import FitResult
    from avatars.motion import Motion
    from avatars.progress import StageClock
    from avatars.studio.capture import Capture
    from avatars.tracking import Track

Part = Literal["color_init", "refine_pose", "refine_shape", "shading", "exposure", "random_background"]
PARTS: tuple[Part, ...] = ("color_init", "refine_pose", "refine_shape", "shading", "exposure", "random_background")
ROOMS_EVERY = 8
NOVEL_FRAMES = 6
"""Of each action."""


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
    actions: tuple[str, ...] = ("wave", "kick", "pick_up", "sit_down")
    """Never filmed for the fit; drawn in their true poses."""
    without: tuple[Part, ...] = ()
    """Parts of the recipe to leave out."""
    ceiling: bool = True
    """Fit from the true poses, too."""
    ablations: bool = False
    """Leave out each part once, and print a table (takes as many times as long)."""
    quick: bool = False
    """One person."""
    captures: Path | None = None
    """Keep the captures in this folder, and use those that are there."""

    def run(self) -> None:
        """Film, track, fit and score every person; print a table and write the numbers."""
        from avatars.files import write_json

        with tempfile.TemporaryDirectory() as scratch:
            root = self.captures or Path(scratch)
            report = self.measured(root)
            if self.ablations:
                report["ablations"] = {
                    part: replace(self, without=(part,), ceiling=False).measured(root)["mean"] for part in PARTS
                }
                for part, mean in {"all": report["mean"], **report["ablations"]}.items():
                    print(f"without {part:<20}" + "".join(f"{mean[key]:9.3f}" for key in ABLATION_KEYS))
        if self.json is not None:
            write_json(self.json, report)

    def measured(self, root: Path) -> dict[str, Any]:
        """Numbers of every person and their means, the means also at the top."""
        count = 1 if self.quick else self.people
        people = [self.one(seed, root) for seed in range(self.first_seed, self.first_seed + count)]
        means = {key: fmean(p[key] for p in people) for key in people[0] if isinstance(people[0][key], float)}
        for key, value in means.items():
            print(f"{key:<28}{value:10.3f}", flush=True)
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return {**means, "settings": settings, "mean": means, "people": people}

    def filmed(self, root: Path, seed: int, action: str) -> Capture:
        """The capture, made where it is missing."""
        from avatars.studio.capture import Capture, sample_capture

        folder = root / f"person_{seed}_{action}_{self.frames}_{self.size}"
        if (folder / "camera.json").is_file():
            return Capture(folder)
        size_hw = (self.size, self.size)
        return sample_capture(
            folder, seed=seed, action=action, frames=self.frames, size_hw=size_hw, rooms_every=ROOMS_EVERY,
            show_progress=True,
        )  # fmt: skip

    def one(self, seed: int, root: Path) -> dict[str, Any]:
        """One person's numbers."""
        from avatars.body import Body
        from avatars.progress import StageClock
        from avatars.tracking import track_video

        capture, body, clock = self.filmed(root, seed, "turn"), Body.load(), StageClock()
        start = time.perf_counter()
        track = track_video(capture.video, body=body)
        track_s = time.perf_counter() - start
        result = self.fitted(capture, track, body, clock)
        assert result.scores is not None
        print(f"person {seed}\n{result.scores.table()}\n{clock.table()}", flush=True)
        scores = result.scores.as_dict()
        numbers = {key: scores[key] for key in SCORES} | {
            "ssim_box": scores["ssim_box_fitpose"],
            "ssim_box_pose_tracked": scores["ssim_box"],
            "psnr_novel_pose_db": novel_pose_db(result.avatar, track, capture, self.novel(root, seed)),
        }
        fit_s = sum(seconds for stage, seconds in clock.seconds.items() if stage != "score")
        if self.ceiling:
            truth = capture.truth()
            true_track = replace(track, motion=truth.motion, camera=truth.camera)
            ceiling = self.fitted(capture, true_track, body, StageClock()).scores
            assert ceiling is not None
            numbers["psnr_true_pose_db"] = ceiling.psnr_box_db
        return numbers | {
            "seed": seed,
            "track_s": track_s,
            "fit_s": fit_s,
            "score_s": clock.seconds["score"],
            "total_s": track_s + fit_s,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "coverage": result.coverage,
            "n_gaussians": len(result.avatar),
        }

    def fitted(self, capture: Capture, track: Track, body: Body, clock: StageClock) -> FitResult:
        """A fit scored over the true room."""
        from avatars.fitting import fit_avatar

        config = replace(FitConfig.preset(self.quality, size_px=self.size), **{part: False for part in self.without})
        return fit_avatar(capture.video, track, config=config, body=body, truth=capture.rooms(), clock=clock)

    def novel(self, root: Path, seed: int) -> list[Capture]:
        """The actions that the fit never saw."""
        return [self.filmed(root, seed, action) for action in self.actions]


SCORES = ("psnr_box_fitpose_db", "psnr_box_db", "psnr_masked_fitpose_db", "psnr_masked_db")
ABLATION_KEYS = ("psnr_box_fitpose_db", "psnr_box_db", "ssim_box", "psnr_novel_pose_db")


def novel_pose_db(avatar: Avatar, track: Track, turn: Capture, actions: list[Capture]) -> float:
    """Mean PSNR in the person's box over the true room, of true poses that were never filmed for the fit.

    The light was fitted in the track's world, so the true motions are brought there by way of the camera of the turn.
    """
    import torch

    from avatars.metrics import psnr
    from avatars.rasterizer import rasterize
    from avatars.video import load_frames

    T_track_true = torch.linalg.inv(track.camera.T_cam_world) @ turn.truth().camera.T_cam_world
    found = []
    for capture in actions:
        truth, rooms, (frames, _) = capture.truth(), capture.rooms(), load_frames(capture.video)
        motion = in_world(truth.motion, avatar, T_track_true)
        camera = replace(truth.camera, T_cam_world=truth.camera.T_cam_world @ torch.linalg.inv(T_track_true))
        for i in rooms.frames[:: max(len(rooms.frames) // NOVEL_FRAMES, 1)]:
            with torch.no_grad():
                render = rasterize(avatar.posed(motion[i : i + 1], lit=True), camera)
            room, frame = (torch.from_numpy(x.copy()).permute(2, 0, 1).float() / 255 for x in (rooms.at(i), frames[i]))
            image = (render.rgb + (1 - render.alpha) * room)[0].clamp(0, 1)
            rows, columns = torch.nonzero(torch.from_numpy(truth.masks[i]) > 127).unbind(-1)
            box = (..., slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1))
            found.append(psnr(image[box], frame[box]))
    return fmean(found)


def in_world(motion: Motion, avatar: Avatar, T_there_here: Any) -> Motion:
    """A true motion in another world, its pelvis where it truly is, on the avatar's own shape."""
    import torch

    from avatars.rotations import axis_angle_from_matrix, matrix_from_axis_angle

    def pelvis(betas: torch.Tensor) -> torch.Tensor:
        return avatar.body.pose(torch.zeros(1, 55, 3), betas).joints[0, 0]

    R, t = T_there_here[:3, :3], T_there_here[:3, 3]
    poses = motion.poses.clone()
    poses[:, 0] = axis_angle_from_matrix(R @ matrix_from_axis_angle(motion.poses[:, 0]))
    transl = (pelvis(motion.betas) + motion.transl) @ R.T + t - pelvis(avatar.betas)
    return replace(motion, poses=poses, transl=transl)


if __name__ == "__main__":
    tyro.cli(Annotated[FitBenchmark, tyro.conf.arg(name="")]).run()
