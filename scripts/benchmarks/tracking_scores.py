"""A track and what is true of its video -> its errors, MediaPipe's own 3D points on the same frames beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.errors import InputError
from avatars.geometry.rotations import matrix_from_axis_angle, nearest_rotation
from avatars.geometry.triangulation import AGREEMENT_PX, LensCamera, read_qualisys, triangulate
from avatars.io.progress import StageClock, peak_gib
from avatars.perception.detector_marks import marked_keypoints
from avatars.studio.capture import Capture, Truth
from avatars.tracking.config import TrackConfig
from avatars.tracking.metrics import procrustes
from avatars.tracking.pipeline import track_video
from avatars.tracking.track import Track

BODY_JOINTS = slice(0, 22)
LEFT_FINGERS, RIGHT_FINGERS = slice(25, 40), slice(40, 55)
LIMBS = slice(5, 17)
"""COCO shoulders to ankles: the points that MediaPipe's 3D output and the truth share."""
HIPS = [6, 7]
"""Among `LIMBS`."""
MIN_HAND_PX = 40.0


@dataclass(frozen=True, slots=True)
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
    """MediaPipe's world landmarks where it has any, shoulders to ankles, middle of the hips laid on each other."""
    mediapipe_pa_mpjpe_mm: float
    limbs_mpjpe_mm: float
    """Ours, on the same points, frames and alignment."""
    limbs_pa_mpjpe_mm: float
    mask_iou: float
    height_error_m: float
    perception_s: float
    fit_s: float
    peak_gib: float
    """Of the process so far."""


def score_clip(capture: Capture, seed: int, action: str, body: Body) -> ClipScore:
    """Track a capture from its pixels and compare with its truth."""
    clock = StageClock()
    track = track_video(capture.video, config=TrackConfig(), body=body, clock=clock)
    most_gib = peak_gib()
    truth = capture.truth()
    ours = track.camera.to_camera(body.pose_motion(track.motion).joints)
    true = truth.camera.to_camera(torch.from_numpy(truth.joints_m).float())
    return ClipScore(
        seed=seed,
        action=action,
        frames=len(track.motion),
        mpjpe_mm=mean_mm(about(ours[:, BODY_JOINTS], [0]) - about(true[:, BODY_JOINTS], [0])),
        pa_mpjpe_mm=mean_mm(procrustes(ours[:, BODY_JOINTS], true[:, BODY_JOINTS]) - true[:, BODY_JOINTS]),
        error_2d_px=error_2d_px(track, truth, body),
        yaw_error_max_deg=float(yaw_error_deg(track, truth).max()),
        hand_pa_mpjpe_mm=hand_error_mm(ours, true, truth),
        jitter_ratio=acceleration(ours[:, BODY_JOINTS]) / acceleration(true[:, BODY_JOINTS]),
        **peer_scores(track, truth, body),
        mask_iou=mask_iou(track, truth),
        height_error_m=height_m(body, track.motion.betas) - height_m(body, truth.motion.betas),
        perception_s=clock.seconds["perception"],
        fit_s=clock.seconds["pose fit"],
        peak_gib=most_gib,
    )


def about(points: Float[Tensor, "frames points 3"], center: list[int]) -> Float[Tensor, "frames points 3"]:
    """The points with the middle of some of them as the origin, frame by frame."""
    return points - points[:, center].mean(1, keepdim=True)


def mean_mm(apart_m: Float[Tensor, "frames points 3"]) -> float:
    """Mean length in millimeters."""
    return 1000 * float(apart_m.norm(dim=-1).mean())


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
        a, b = ours[large, joints], true[large, joints]
        errors.append((procrustes(a, b) - b).norm(dim=-1).flatten())
    both = torch.cat(errors)
    return 1000 * float(both.mean()) if len(both) else None


def acceleration(joints: Float[Tensor, "frames joints 3"]) -> float:
    """Mean second difference of the joints about the pelvis."""
    joints = about(joints, [0])
    return float((joints[2:] - 2 * joints[1:-1] + joints[:-2]).norm(dim=-1).mean())


def peer_scores(track: Track, truth: Truth, body: Body) -> dict[str, float]:
    """MediaPipe's world landmarks and ours on the points and frames that both have, about the middle of the hips."""
    true = truth.camera.to_camera(torch.from_numpy(truth.keypoints_m).float())[:, LIMBS]
    ours = track.camera.to_camera(body.pose_motion(track.motion).keypoints_133())[:, LIMBS]
    assert track.keypoints.world_m is not None
    peer = track.keypoints.world_m[:, LIMBS]
    known = torch.isfinite(peer).all(-1).all(-1)
    a, b = aligned_errors_mm(ours[known], true[known]), aligned_errors_mm(peer[known], true[known])
    return {
        "limbs_mpjpe_mm": a[0],
        "limbs_pa_mpjpe_mm": a[1],
        "mediapipe_mpjpe_mm": b[0],
        "mediapipe_pa_mpjpe_mm": b[1],
    }


def aligned_errors_mm(found: Float[Tensor, "frames 12 3"], true: Float[Tensor, "frames 12 3"]) -> tuple[float, float]:
    """MPJPE of `LIMBS` about the middle of the hips, and PA-MPJPE."""
    return mean_mm(about(found, HIPS) - about(true, HIPS)), mean_mm(procrustes(found, true) - true)


def mask_iou(track: Track, truth: Truth) -> float:
    """Mean intersection over union of the masks at one half."""
    assert track.masks is not None
    a, b = track.masks[:] > 127, torch.from_numpy(truth.masks) > 127
    return float(((a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp_min(1)).mean())


def height_m(body: Body, betas: Tensor) -> float:
    """Height of the T-pose."""
    y = body.shaped(betas)[0][:, 1]
    return float(y.max() - y.min())


# ------------------------------------------------------------------------------------------------- several cameras


@dataclass(frozen=True, slots=True)
class Rig:
    """Synchronous videos of one scene, and the cameras that took them."""

    cameras: list[LensCamera]
    videos: list[Path]

    @staticmethod
    def open(folder: Path) -> Rig:
        """`NAME.mp4` of each camera NAME in the folder's one `*.qca.txt`. Raises InputError where any is missing."""
        calibrations = sorted(folder.glob("*.qca.txt"))
        if len(calibrations) != 1:
            raise InputError(f"{len(calibrations)} *.qca.txt in {folder}; --multiview needs one Qualisys calibration.")
        cameras = read_qualisys(calibrations[0])
        videos = [folder / f"{camera.name}.mp4" for camera in cameras]
        if missing := [path.name for path in videos if not path.is_file()]:
            raise InputError(f"{folder} lacks {', '.join(missing)} of the cameras in {calibrations[0].name}.")
        return Rig(cameras, videos)


@dataclass(frozen=True, slots=True)
class ViewScore:
    """How well one camera's track, and MediaPipe's world landmarks, meet the points triangulated from all cameras."""

    camera: str
    frames: int
    mpjpe_mm: float
    """Shoulders to ankles after alignment: the middle of the hips laid on each other, and one rotation for the whole
    clip, since a track stands in a world of its own. Nothing scaled."""
    mpjpe_as_calibrated_mm: float
    """The same without the rotation, in the camera's calibrated axes."""
    pa_mpjpe_mm: float
    """After the best similarity transform per frame (Procrustes)."""
    mediapipe_mpjpe_mm: float
    mediapipe_mpjpe_as_calibrated_mm: float
    mediapipe_pa_mpjpe_mm: float
    reference_error_px: float
    """Median distance of the triangulated points from this camera's 2D points."""


def score_rig(rig: Rig, body: Body) -> list[ViewScore]:
    """Track each camera's video alone; compare with the 2D points of all, triangulated."""
    tracks = [track_video(video, config=TrackConfig(masks=False), body=body) for video in rig.videos]
    reference, error_px = triangulated_limbs(rig.cameras, tracks)
    return [
        view_score(camera, track, reference, errors, body)
        for camera, track, errors in zip(rig.cameras, tracks, error_px, strict=True)
    ]


def triangulated_limbs(cameras: list[LensCamera], tracks: list[Track]) -> tuple[Tensor, Tensor]:
    """World points (frames, 12, 3) of `LIMBS`, NaN where fewer than three cameras agree, and each camera's distance
    (cameras, frames, 12) in pixels."""
    frames = min(len(track.keypoints) for track in tracks)
    xy = torch.stack([track.keypoints.xy[:frames, LIMBS].reshape(-1, 2) for track in tracks])
    score = torch.stack([track.keypoints.score[:frames, LIMBS].flatten() for track in tracks])
    points, error_px = triangulate(cameras, xy, score)
    agree = ((error_px < 3 * AGREEMENT_PX) & (score > 0.3)).sum(0) >= 3
    points[~agree] = torch.nan
    return points.reshape(frames, -1, 3), error_px.reshape(len(tracks), frames, -1)


def view_score(camera: LensCamera, track: Track, reference: Tensor, error_px: Tensor, body: Body) -> ViewScore:
    """Over frames that have all twelve points. Ours as MediaPipe would mark it, since its marks are the reference."""
    assert track.keypoints.world_m is not None
    frames = len(reference)
    marks = marked_keypoints(body.pose_motion(track.motion), track.config.detector)
    ours, peer = track.camera.to_camera(marks)[:frames, LIMBS], track.keypoints.world_m[:frames, LIMBS]
    known = torch.isfinite(reference).all(-1).all(-1) & torch.isfinite(peer).all(-1).all(-1)
    true = camera.camera.to_camera(reference[known])
    return ViewScore(
        camera.name,
        int(known.sum()),
        rotated_error_mm(ours[known], true),
        *aligned_errors_mm(ours[known], true),
        rotated_error_mm(peer[known], true),
        *aligned_errors_mm(peer[known], true),
        float(error_px.median()),
    )


def rotated_error_mm(found: Float[Tensor, "frames 12 3"], true: Float[Tensor, "frames 12 3"]) -> float:
    """MPJPE of `LIMBS` about the middle of the hips, after the rotation that serves all frames best (Kabsch 1976)."""
    a, b = about(found, HIPS).reshape(-1, 3), about(true, HIPS).reshape(-1, 3)
    return mean_mm(a @ nearest_rotation(b.T @ a).T - b)
