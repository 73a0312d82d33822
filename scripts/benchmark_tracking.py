"""Track studio captures from their pixels alone and compare with the truth, with MediaPipe's own 3D points beside.

python scripts/benchmark_tracking.py --json tracking.json [--quick] [--multiview FOLDER]

FOLDER holds videos of one scene by synchronous cameras and their Qualisys calibration (`NAME.mp4`, `*.qca.txt`). Each
is tracked alone; the reference is MediaPipe's 2D points of all cameras, triangulated.
"""

from __future__ import annotations

import json
import logging
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.errors import InputError
from avatars.perception.detector_marks import marked_keypoints
from avatars.progress import StageClock
from avatars.rotations import matrix_from_axis_angle
from avatars.studio.capture import Capture, Truth, sample_capture
from avatars.track_command import TrackConfig
from avatars.tracking import Track, track_video
from avatars.triangulation import AGREEMENT_PX, LensCamera, read_qualisys, triangulate

BODY_JOINTS = slice(0, 22)
LEFT_FINGERS, RIGHT_FINGERS = slice(25, 40), slice(40, 55)
LIMBS = slice(5, 17)
"""COCO shoulders to ankles: the points that MediaPipe's 3D output and the truth share."""
MIN_HAND_PX = 40.0


@dataclass(frozen=True)
class ClipScore:
    """How well one capture was tracked."""

    seed: int
    action: str
    frames: int
    mpjpe_mm: float
    """22 body joints, pelves laid on each other, camera axes."""
    pa_mpjpe_mm: float
    """After the best similarity transform per frame (Procrustes)."""
    error_2d_px: float
    yaw_error_max_deg: float
    hand_pa_mpjpe_mm: float | None
    """Over frames whose hand is at least 40 px long; None where there is none."""
    jitter_ratio: float
    """Mean length of the second difference of the 22 joints about the pelvis, over the same of the truth."""
    mediapipe_mpjpe_mm: float
    """MediaPipe's world landmarks, shoulders to ankles, middle of the hips laid on each other."""
    mpjpe_of_same_points_mm: float
    """Ours, on the same points and alignment."""
    mask_iou: float
    height_error_m: float
    perception_s: float
    fit_s: float


@dataclass(frozen=True)
class Benchmark:
    """Tracking benchmark on studio captures."""

    json: Path
    """File to write."""
    quick: bool = False
    """Two people, a turn and one action each, 108 frames a turn."""
    people: int = 12
    actions: tuple[str, ...] = ("drink_water", "wave", "kick", "pick_up")
    size: int = 512
    frames: int = 324
    """Frames of a turn, at 18 per second."""
    threads: int = 2
    multiview: Path | None = None
    """Folder with synchronous videos and their Qualisys calibration; without it those numbers are null."""
    captures: Path | None = None
    """Folder to keep the captures in, made where they are missing; default: a temporary one."""

    def run(self) -> None:
        """Make the captures, track, print a table, write the JSON."""
        logging.basicConfig(level=logging.WARNING)
        torch.set_num_threads(self.threads)
        people = 2 if self.quick else self.people
        actions = ("turn", *(self.actions[:1] if self.quick else self.actions))
        frames = 108 if self.quick else self.frames
        body = Body.load()
        with TemporaryDirectory() as temporary:
            root = self.captures or Path(temporary)
            scores = []
            for seed in range(1, people + 1):
                for action in actions:
                    scores.append(score_clip(self._capture(root, seed, action, frames), seed, action, body))
                    print(row(scores[-1]), flush=True)
        views = [] if self.multiview is None else multiview_scores(self.multiview, body)
        for view in views:
            print(view_row(view), flush=True)
        if not views:
            print("No --multiview FOLDER: multiview numbers are null.")
        clips = {"clips": [asdict(score) for score in scores], "views": [asdict(view) for view in views]}
        result = {**summary(scores), **multiview_summary(views), **clips}
        self.json.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps({k: v for k, v in result.items() if k not in ("clips", "views")}, indent=2))

    def _capture(self, root: Path, seed: int, action: str, frames: int) -> Capture:
        folder = root / f"{action}_{seed}_{frames if action == 'turn' else 0}_{self.size}"
        if (folder / "camera.json").exists():
            return Capture(folder)
        return sample_capture(folder, seed=seed, action=action, frames=frames, size_hw=(self.size, self.size))


def score_clip(capture: Capture, seed: int, action: str, body: Body) -> ClipScore:
    """Track a capture and compare."""
    clock = StageClock()
    track = track_video(capture.video, config=TrackConfig(), body=body, clock=clock)
    truth = capture.truth()
    ours = track.camera.to_camera(body.pose_motion(track.motion).joints)
    true = truth.camera.to_camera(torch.from_numpy(truth.joints_m).float())
    return ClipScore(
        seed=seed,
        action=action,
        frames=len(track.motion),
        mpjpe_mm=1000 * mpjpe(ours[:, BODY_JOINTS], true[:, BODY_JOINTS]),
        pa_mpjpe_mm=1000 * float(procrustes_error(ours[:, BODY_JOINTS], true[:, BODY_JOINTS]).mean()),
        error_2d_px=error_2d_px(track, truth, body),
        yaw_error_max_deg=float(yaw_error_deg(track, truth).max()),
        hand_pa_mpjpe_mm=hand_error_mm(ours, true, truth),
        jitter_ratio=acceleration(ours[:, BODY_JOINTS]) / acceleration(true[:, BODY_JOINTS]),
        **peer_scores(track, truth, body),
        mask_iou=mask_iou(track, truth),
        height_error_m=height_m(body, track.motion.betas) - height_m(body, truth.motion.betas),
        perception_s=clock.seconds["perception"],
        fit_s=clock.seconds["pose fit"],
    )


def mpjpe(a: Float[Tensor, "frames joints 3"], b: Float[Tensor, "frames joints 3"]) -> float:
    """Mean distance after the first joints (the pelvis) are laid on each other."""
    return float(((a - a[:, :1]) - (b - b[:, :1])).norm(dim=-1).mean())


def procrustes_error(a: Float[Tensor, "frames joints 3"], b: Float[Tensor, "frames joints 3"]) -> Tensor:
    """Distances (frames, joints) after the similarity that brings `a` nearest to `b` (Umeyama 1991)."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    U, S, Vh = torch.linalg.svd(a.mT @ b)
    sign = torch.ones_like(S)
    sign[:, 2] = torch.det(U @ Vh).sign()
    R = (U * sign[:, None]) @ Vh
    scale = (S * sign).sum(1) / a.square().sum((1, 2))
    return (scale[:, None, None] * a @ R - b).norm(dim=-1)


def error_2d_px(track: Track, truth: Truth, body: Body) -> float:
    """Mean distance of the 22 body joints in the image."""
    found = track.camera.project(body.pose_motion(track.motion).joints[:, BODY_JOINTS])
    return float((found - torch.from_numpy(truth.joints_px[:, BODY_JOINTS]).float()).norm(dim=-1).mean())


def yaw_error_deg(track: Track, truth: Truth) -> Float[Tensor, " frames"]:
    """Difference of the headings, in camera axes."""

    def heading(motion, camera) -> Tensor:
        forward = (camera.T_cam_world[:3, :3] @ matrix_from_axis_angle(motion.poses[:, 0]))[:, :, 2]
        return torch.atan2(forward[:, 0], -forward[:, 2])

    difference = heading(track.motion, track.camera) - heading(truth.motion, truth.camera)
    return torch.atan2(difference.sin(), difference.cos()).abs().rad2deg()


def hand_error_mm(ours: Tensor, true: Tensor, truth: Truth) -> float | None:
    """Procrustes-aligned error of the finger joints where the hand is large enough in the image."""
    errors = []
    keypoints = torch.from_numpy(truth.keypoints_px).float()
    for joints, first in ((LEFT_FINGERS, 91), (RIGHT_FINGERS, 112)):
        hand = keypoints[:, first : first + 21]
        large = (hand.amax(1) - hand.amin(1)).amax(-1) >= MIN_HAND_PX
        errors.append(procrustes_error(ours[large, joints], true[large, joints]).flatten())
    both = torch.cat(errors)
    return 1000 * float(both.mean()) if len(both) else None


def acceleration(joints: Float[Tensor, "frames joints 3"]) -> float:
    """Mean second difference of the joints about the pelvis."""
    joints = joints - joints[:, :1]
    return float((joints[2:] - 2 * joints[1:-1] + joints[:-2]).norm(dim=-1).mean())


def peer_scores(track: Track, truth: Truth, body: Body) -> dict[str, float]:
    """MediaPipe's world landmarks and ours on the points that both have, about the middle of the hips."""

    def centered(points: Tensor) -> Tensor:
        return points[:, LIMBS] - points[:, [11, 12]].mean(1, keepdim=True)

    true = centered(truth.camera.to_camera(torch.from_numpy(truth.keypoints_m).float()))
    ours = centered(track.camera.to_camera(body.pose_motion(track.motion).keypoints_133()))
    assert track.keypoints.world_m is not None
    peer = centered(track.keypoints.world_m)
    return {
        "mediapipe_mpjpe_mm": 1000 * float((peer - true).norm(dim=-1).nanmean()),
        "mpjpe_of_same_points_mm": 1000 * float((ours - true).norm(dim=-1).mean()),
    }


def mask_iou(track: Track, truth: Truth) -> float:
    """Mean intersection over union of the masks at one half."""
    assert track.masks is not None
    a, b = track.masks[:] > 127, torch.from_numpy(truth.masks) > 127
    return float(((a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp_min(1)).mean())


def height_m(body: Body, betas: Tensor) -> float:
    """Height of the T-pose."""
    y = body.shaped(betas)[0][:, 1]
    return float(y.max() - y.min())


@dataclass(frozen=True)
class ViewScore:
    """How well one camera's track, and MediaPipe's world landmarks, meet the points triangulated from all cameras."""

    camera: str
    frames: int
    mpjpe_mm: float
    """Shoulders to ankles, the middle of the hips laid on each other, camera axes as calibrated, nothing scaled."""
    pa_mpjpe_mm: float
    """After the best similarity transform per frame (Procrustes)."""
    mediapipe_mpjpe_mm: float
    mediapipe_pa_mpjpe_mm: float
    reference_error_px: float
    """Median distance of the triangulated points from this camera's 2D points."""


def multiview_scores(folder: Path, body: Body) -> list[ViewScore]:
    """Track each camera's video alone and compare. Raises InputError when the folder lacks the calibration."""
    calibrations = sorted(folder.glob("*.qca.txt"))
    if not calibrations:
        raise InputError(f"No *.qca.txt in {folder}: --multiview needs a Qualisys calibration beside the videos.")
    cameras = read_qualisys(calibrations[0])
    tracks = [
        track_video(folder / f"{camera.name}.mp4", config=TrackConfig(masks=False), body=body) for camera in cameras
    ]
    reference, error_px = triangulated_limbs(cameras, tracks)
    return [
        view_score(camera, track, reference, errors, body)
        for camera, track, errors in zip(cameras, tracks, error_px, strict=True)
    ]


def triangulated_limbs(cameras: list[LensCamera], tracks: list[Track]) -> tuple[Tensor, Tensor]:
    """World points (frames, 12, 3) of shoulders to ankles, NaN where fewer than three cameras agree, and each camera's
    distance (cameras, frames, 12) in pixels."""
    frames = min(len(track.keypoints) for track in tracks)
    xy = torch.stack([track.keypoints.xy[:frames, LIMBS].reshape(-1, 2) for track in tracks])
    score = torch.stack([track.keypoints.score[:frames, LIMBS].flatten() for track in tracks])
    points, error_px = triangulate(cameras, xy, score)
    agree = ((error_px < 3 * AGREEMENT_PX) & (score > 0.3)).sum(0) >= 3
    points[~agree] = torch.nan
    return points.reshape(frames, -1, 3), error_px.reshape(len(tracks), frames, -1)


def view_score(camera: LensCamera, track: Track, reference: Tensor, error_px: Tensor, body: Body) -> ViewScore:
    """Ours as MediaPipe would mark it, since its marks are the reference."""
    known = torch.isfinite(reference).all(-1).all(-1) & track.motion.valid[: len(reference)]
    hips = [6, 7]

    def scores(points: Tensor) -> tuple[float, float]:
        points, true = points[: len(known)][known], camera.camera.to_camera(reference)[known]
        apart = (points - points[:, hips].mean(1, keepdim=True)) - (true - true[:, hips].mean(1, keepdim=True))
        return 1000 * float(apart.norm(dim=-1).mean()), 1000 * float(procrustes_error(points, true).mean())

    ours = scores(
        track.camera.to_camera(marked_keypoints(body.pose_motion(track.motion), track.config.detector))[:, LIMBS]
    )
    assert track.keypoints.world_m is not None
    peer = scores(track.keypoints.world_m[:, LIMBS])
    return ViewScore(camera.name, int(known.sum()), *ours, *peer, float(error_px.median()))


def view_row(view: ViewScore) -> str:
    """One line of the table."""
    return (
        f"{view.camera} {view.frames:4d} frames  MPJPE {view.mpjpe_mm:5.1f} mm  PA {view.pa_mpjpe_mm:5.1f}  "
        f"MediaPipe {view.mediapipe_mpjpe_mm:5.1f}, PA {view.mediapipe_pa_mpjpe_mm:5.1f}  "
        f"reference {view.reference_error_px:.1f} px"
    )


def multiview_summary(views: list[ViewScore]) -> dict[str, float | None]:
    """Means over the cameras, null without any."""
    names = ("mpjpe_mm", "pa_mpjpe_mm", "mediapipe_mpjpe_mm", "mediapipe_pa_mpjpe_mm")
    return {
        f"multiview_{name}": sum(getattr(view, name) for view in views) / len(views) if views else None
        for name in names
    }


def row(score: ClipScore) -> str:
    """One line of the table."""
    return (
        f"person {score.seed:2d} {score.action:12s} {score.frames:4d} frames  MPJPE {score.mpjpe_mm:5.1f} mm  "
        f"PA {score.pa_mpjpe_mm:5.1f}  2D {score.error_2d_px:4.1f} px  yaw <= {score.yaw_error_max_deg:4.1f} deg  "
        f"jitter {score.jitter_ratio:4.2f}  same points: ours {score.mpjpe_of_same_points_mm:5.1f}, MediaPipe "
        f"{score.mediapipe_mpjpe_mm:5.1f}  mask IoU {score.mask_iou:.3f}  {score.perception_s:.0f}+{score.fit_s:.0f} s"
    )


def summary(scores: list[ClipScore]) -> dict[str, float | None]:
    """Means over the clips; the worst yaw; speed and memory."""

    def mean(name: str) -> float:
        return sum(getattr(score, name) for score in scores) / len(scores)

    hands = [score.hand_pa_mpjpe_mm for score in scores if score.hand_pa_mpjpe_mm is not None]
    seconds = sum(score.perception_s + score.fit_s for score in scores)
    names = ("mpjpe_mm", "pa_mpjpe_mm", "error_2d_px", "jitter_ratio", "mediapipe_mpjpe_mm", "mpjpe_of_same_points_mm")
    return {
        **{name: mean(name) for name in names},
        "yaw_error_max_deg": max(score.yaw_error_max_deg for score in scores),
        "hand_pa_mpjpe_mm": sum(hands) / len(hands) if hands else None,
        "mask_iou": mean("mask_iou"),
        "frames_per_s": sum(score.frames for score in scores) / seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    started = time.perf_counter()
    tyro.cli(Benchmark).run()
    print(f"{time.perf_counter() - started:.0f} s")
