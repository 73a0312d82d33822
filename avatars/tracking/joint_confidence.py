"""How well each joint of a track was seen: the detector's scores, the fit's agreement with them, and motion blur."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.geometry.camera import Camera
from avatars.perception.containers import Keypoints
from avatars.perception.frame_quality import FrameQuality
from avatars.tracking.initialization import torso_px

AGREEMENT = 0.2
"""Distance of a fitted keypoint from the detected one, in torso lengths, at which confidence has fallen to 0.6."""
BLURRED = 0.5
"""Share of the clip's usual sharpness below which frames are doubted, in proportion."""
CHUNK = 512

_SIDES = ("left", "right")
_BODY = {
    "pelvis": (11, 12), "spine1": (5, 6, 11, 12), "spine2": (5, 6, 11, 12), "spine3": (5, 6),
    "neck": (0, 3, 4, 5, 6), "head": (0, 1, 2, 3, 4), "jaw": tuple(range(71, 91)),
    "left_eye_smplhf": tuple(range(65, 71)), "right_eye_smplhf": tuple(range(59, 65)),
    "left_hip": (11,), "right_hip": (12,), "left_knee": (13,), "right_knee": (14,), "left_ankle": (15,),
    "right_ankle": (16,), "left_foot": (17, 19), "right_foot": (20, 22), "left_collar": (5,), "right_collar": (6,),
    "left_shoulder": (5,), "right_shoulder": (6,), "left_elbow": (7,), "right_elbow": (8,), "left_wrist": (9,),
    "right_wrist": (10,),
}  # fmt: skip
_FINGERS = {"thumb": 1, "index": 5, "middle": 9, "ring": 13, "pinky": 17}
PARTS: dict[str, tuple[str, ...]] = {
    "torso": ("pelvis", "left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    "head": ("head",),
    "left arm": ("left_elbow", "left_wrist"),
    "right arm": ("right_elbow", "right_wrist"),
    "left leg": ("left_knee", "left_ankle"),
    "right leg": ("right_knee", "right_ankle"),
    "left hand": ("left_index1", "left_middle1", "left_pinky1"),
    "right hand": ("right_index1", "right_middle1", "right_pinky1"),
}
"""Joints by which each part is judged."""


def joint_confidence(
    motion: Motion, camera: Camera, keypoints: Keypoints, body: Body, quality: FrameQuality | None = None
) -> Float[Tensor, "frames 55"]:
    """Confidence in [0, 1] of each SMPL-X joint in each frame; 0 where nobody is.

    The mean over the joint's keypoints of their score times a Gaussian of the distance between the fitted and the
    detected point, times how sharp the frame is where it is much less sharp than usual.
    """
    score = keypoints.score * _agreement(motion, camera, keypoints, body)
    if quality is not None:
        score = score * relative_sharpness(quality)[:, None]
    score = score * keypoints.valid[:, None]
    return torch.stack([score[:, list(points)].mean(1) for points in _keypoints_of_joints()], 1).clamp(0, 1)


def relative_sharpness(quality: FrameQuality) -> Float[Tensor, " frames"]:
    """1 where a frame is about as sharp as the clip usually is, less where it is much less sharp."""
    usual = quality.sharpness.nanmedian()
    if not bool(usual > 0):
        return torch.ones_like(quality.sharpness)
    return torch.nan_to_num(quality.sharpness / (BLURRED * usual), nan=1.0).clamp(0, 1)


def part_confidence(motion: Motion) -> Float[Tensor, "frames parts"]:
    """Confidence of each of `PARTS`, the mean of its joints. Ones and zeros of `valid` where nothing was measured."""
    if motion.confidence is None:
        return motion.valid.float()[:, None].expand(-1, len(PARTS))
    index = {name: i for i, name in enumerate(JOINT_NAMES)}
    return torch.stack([motion.confidence[:, [index[j] for j in joints]].mean(1) for joints in PARTS.values()], 1)


def _agreement(motion: Motion, camera: Camera, keypoints: Keypoints, body: Body) -> Float[Tensor, "frames 133"]:
    rows = []
    for start in range(0, len(motion), CHUNK):
        part = motion[start : start + CHUNK]
        rows.append(camera.project(body.pose_motion(part).keypoints_133()))
    away = (torch.cat(rows) - keypoints.xy).norm(dim=-1)
    scale = torch.full((len(motion), 1), torch.inf)
    if bool(keypoints.valid.any()):
        scale[keypoints.valid, 0] = torso_px(keypoints[keypoints.valid])
    return torch.exp(-0.5 * (away / (AGREEMENT * scale)).square())


def _keypoints_of_joints() -> list[tuple[int, ...]]:
    """For each of the 55 joints, the COCO-WholeBody points that show it."""
    rows = []
    for name in JOINT_NAMES:
        if name in _BODY:
            rows.append(_BODY[name])
            continue
        side, finger = name[:-1].split("_")
        first = (91, 112)[_SIDES.index(side)] + _FINGERS[finger] + int(name[-1]) - 1
        rows.append((first, first + 1))
    return rows
