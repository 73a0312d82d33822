"""A tracked motion, and what face and hand networks saw in its frames -> the motion with their jaw and fingers.

The fit to keypoints sees a mouth and fingers as a few points; DECA and Hand4Whole see their pictures. Each answers
frame by frame, so their answers are steadied over time first, then blended in by how well the part was seen: where it
was not, the fit's own pose stays.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.body.anny import EXPRESSIONS
from avatars.body.motion import GLOBAL, JAW, LEFT_HAND, RIGHT_HAND, Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import (
    axis_angle_from_matrix,
    matrix_from_axis_angle,
    nearest_rotation,
    rotation_between,
)
from avatars.io.work_folder import WorkFolder
from avatars.perception.backend_table import BackendOptions, backends_of, open_backend
from avatars.perception.body_estimates import (
    SMPLX_VERTICES,
    BodyEstimate,
    FaceEstimate,
    body_seen_by,
    face_seen_by,
)
from avatars.perception.containers import FACE, Keypoints
from avatars.perception.containers import LEFT_HAND as LEFT_HAND_POINTS
from avatars.perception.containers import RIGHT_HAND as RIGHT_HAND_POINTS

log = logging.getLogger(__name__)

SMOOTHING_S = 0.03
"""Standard deviation of the Gaussian over time: a finger's quickest bends last about a tenth of a second."""
UNSURE, SURE = 0.3, 0.6
"""Mean keypoint scores at which a part counts as not seen, and as well seen."""
MIN_HAND_PX, GOOD_HAND_PX = 12.0, 28.0
"""Longer side of a hand's keypoints below which a picture says nothing of its fingers, and from which it does."""
MAX_ARM_DEG, GOOD_ARM_DEG = 75.0, 40.0
"""Angle between the forearm of the network's body and of the fit's from which the network looked at another arm."""
LEFT_CHAIN, RIGHT_CHAIN = (3, 6, 9, 13, 16, 18), (3, 6, 9, 14, 17, 19)
"""Joints between the root and the forearm, which points along +x (left) or -x (right) in the T-pose."""

MOUTH_OPEN = list(EXPRESSIONS).index("mouth_open")


@dataclass(frozen=True, slots=True)
class FaceAndHands:
    """The networks, with their weights loaded: what is missing shows before any long work."""

    face: Any | None
    hands: Any | None

    @staticmethod
    def open(
        face: str = "none",
        hands: str = "none",
        face_options: BackendOptions | None = None,
        hand_options: BackendOptions | None = None,
    ) -> FaceAndHands:
        """Networks by name: "deca", "hand4whole", or "none".

        Raises InputError for an unknown name, BackendMissing where a package or weights are not there.
        """
        for name, task in ((face, "face"), (hands, "body")):
            if name != "none" and name not in backends_of(task):  # pyright: ignore[reportArgumentType]
                known = ", ".join(backends_of(task))  # pyright: ignore[reportArgumentType]
                raise InputError(f"No {'face' if task == 'face' else 'hand'} model {name!r}; known: {known}.")
        face_model = None if face == "none" else open_backend(face, face_options)
        try:
            return FaceAndHands(face_model, None if hands == "none" else open_backend(hands, hand_options))
        except BaseException:
            if face_model is not None:
                face_model.close()
            raise

    @property
    def any(self) -> bool:
        """Whether there is a network at all."""
        return self.face is not None or self.hands is not None

    def refined(
        self,
        frames: Callable[[], Iterable[np.ndarray]],
        motion: Motion,
        keypoints: Keypoints,
        camera: Camera,
        body: Body,
        work: WorkFolder | None = None,
    ) -> Motion:
        """The motion with jaw, expression and fingers as the networks saw them, and the networks closed.

        `frames` gives the clip's pictures from the first, once per network; `keypoints` have their sides put right.
        With `work`, answers are kept there and taken up.
        """
        if self.face is not None:
            face = face_seen_by(self.face, frames(), keypoints, None if work is None else partial(work.piece, "face"))
            motion = with_face(motion, face, face_confidence(keypoints), body)
        if self.hands is not None:
            piece = None if work is None else partial(work.piece, "hands")
            estimate = body_seen_by(self.hands, frames(), keypoints, piece)
            confidence = hand_confidence(keypoints) * arm_agreement(motion, estimate, camera)
            motion = with_hands(motion, estimate, confidence)
        return motion


def face_confidence(keypoints: Keypoints) -> Float[Tensor, " frames"]:
    """How well the face was seen, in [0, 1]."""
    return _confidence(keypoints.score[:, FACE].mean(1)) * keypoints.valid


def hand_confidence(keypoints: Keypoints) -> Float[Tensor, "frames 2"]:
    """How well the left and the right hand were seen, in [0, 1]: found, and large enough in the picture."""
    sides = []
    for points in (LEFT_HAND_POINTS, RIGHT_HAND_POINTS):
        xy = keypoints.xy[:, points]
        side_px = (xy.amax(1) - xy.amin(1)).amax(-1)
        large = ((side_px - MIN_HAND_PX) / (GOOD_HAND_PX - MIN_HAND_PX)).clamp(0, 1)
        sides.append(_confidence(keypoints.score[:, points].mean(1)) * large)
    return torch.stack(sides, 1) * keypoints.valid[:, None]


def arm_agreement(motion: Motion, estimate: BodyEstimate, camera: Camera) -> Float[Tensor, "frames 2"]:
    """1 where the network's left (right) forearm lies as the fit's does, falling to 0 where it lies elsewhere: then
    the network took the other arm, another person, or guessed."""
    root = camera.T_cam_world[..., :3, :3] @ matrix_from_axis_angle(motion.poses[:, GLOBAL])
    sides = []
    for chain, sign in ((LEFT_CHAIN, 1.0), (RIGHT_CHAIN, -1.0)):
        fit = _turned(root, motion.poses, chain) @ torch.tensor([sign, 0.0, 0.0])
        own = matrix_from_axis_angle(estimate.poses[:, GLOBAL])
        seen = _turned(own, estimate.poses, chain) @ torch.tensor([sign, 0.0, 0.0])
        angle_deg = torch.rad2deg(torch.acos((fit * seen).sum(-1).clamp(-1, 1)))
        sides.append(((MAX_ARM_DEG - angle_deg) / (MAX_ARM_DEG - GOOD_ARM_DEG)).clamp(0, 1))
    return torch.stack(sides, 1)


def with_face(motion: Motion, face: FaceEstimate, confidence: Float[Tensor, " frames"], body: Body) -> Motion:
    """The motion with FLAME's jaw, which is SMPL-X's; and FLAME's expression, which is the licensed SMPL-X's.

    The default body has other expressions: for it FLAME's are left out and the fit's own stay, but for the one that
    opens the mouth, in whose place the jaw comes.
    """
    sure = confidence * face.valid * motion.valid
    jaw, weight = steadied(face.jaw_pose[:, None], sure, motion.times_s)
    poses = motion.poses.clone()
    poses[:, JAW] = blended(motion.poses[:, JAW], jaw[:, 0], weight)
    if body.n_vertices == SMPLX_VERTICES:
        expression = _flames(face, sure, weight, motion, body)
    else:
        log.info("%s: the default body has other expressions than FLAME; the jaw alone is taken over.", motion.name)
        expression = motion.expression.clone()
        expression[:, MOUTH_OPEN : MOUTH_OPEN + 1] *= 1.0 - weight[:, None]
    return replace(motion, poses=poses, expression=expression)


def _flames(face: FaceEstimate, sure: Tensor, weight: Tensor, motion: Motion, body: Body) -> Tensor:
    """The fit's expression on the way to FLAME's, in as many components as the body has."""
    smooth, _ = _smoothed(face.expression_for(body), sure, motion.times_s)
    before = torch.zeros_like(smooth)
    n = min(before.shape[1], motion.expression.shape[1])
    before[:, :n] = motion.expression[:, :n]
    return before + weight[:, None] * (smooth - before)


def with_hands(motion: Motion, estimate: BodyEstimate, confidence: Float[Tensor, "frames 2"]) -> Motion:
    """The motion with the estimate's fingers: they turn against the wrist, so they fit any body and any camera."""
    poses = motion.poses.clone()
    for side, joints in enumerate((LEFT_HAND, RIGHT_HAND)):
        sure = confidence[:, side] * estimate.valid * motion.valid
        fingers, weight = steadied(estimate.poses[:, joints], sure, motion.times_s)
        poses[:, joints] = blended(motion.poses[:, joints], fingers, weight[:, None])
    return replace(motion, poses=poses)


def steadied(
    poses: Float[Tensor, "frames joints 3"],
    confidence: Float[Tensor, " frames"],
    times_s: Float[Tensor, " frames"],
    *,
    deviation_s: float = SMOOTHING_S,
) -> tuple[Float[Tensor, "frames joints 3"], Float[Tensor, " frames"]]:
    """Axis-angle poses averaged over time with Gaussian weights times confidence, and the confidence averaged alike.

    The mean of rotations is the rotation nearest to the mean matrix (Hartley et al. 2013, chordal L2). A frame without
    confidence takes its neighbors' pose, and as little weight as they are far.
    """
    flat = matrix_from_axis_angle(poses).flatten(1)
    mean, weight = _smoothed(flat, confidence, times_s, deviation_s=deviation_s)
    return axis_angle_from_matrix(nearest_rotation(mean.reshape(*poses.shape, 3) + 1e-9 * torch.eye(3))), weight


def blended(
    before: Float[Tensor, "*batch 3"], after: Float[Tensor, "*batch 3"], weight: Float[Tensor, "*weights"]
) -> Float[Tensor, "*batch 3"]:
    """The rotation a share `weight` in [0, 1] of the way from one axis-angle pose to another, the short way round."""
    moved = rotation_between(matrix_from_axis_angle(before), matrix_from_axis_angle(after), weight)
    moved = axis_angle_from_matrix(moved)
    return torch.where(weight[..., None] > 0, moved, before)


def _smoothed(
    rows: Float[Tensor, "frames values"], confidence: Tensor, times_s: Tensor, *, deviation_s: float = SMOOTHING_S
) -> tuple[Tensor, Tensor]:
    """Weighted means over time, and the mean confidence; frame by frame only near neighbors are visited."""
    frames = len(rows)
    step_s = float((times_s[-1] - times_s[0]) / max(frames - 1, 1)) if frames > 1 else 0.0
    reach = min(frames - 1, math.ceil(3 * deviation_s / step_s)) if step_s > 0 else 0
    total, weights, kernel = torch.zeros_like(rows), torch.zeros(frames), torch.zeros(frames)
    for shift in range(-reach, reach + 1):
        here = slice(max(0, -shift), min(frames, frames - shift))
        there = slice(max(0, shift), min(frames, frames + shift))
        near = torch.exp(-((times_s[there] - times_s[here]) ** 2) / (2 * deviation_s**2)).float()
        weight = near * confidence[there]
        total[here] += weight[:, None] * rows[there]
        weights[here] += weight
        kernel[here] += near
    return total / weights.clamp_min(1e-9)[:, None], weights / kernel.clamp_min(1e-9)


def _turned(root: Tensor, poses: Tensor, chain: tuple[int, ...]) -> Tensor:
    """The orientation of the last joint of a chain."""
    for joint in chain:
        root = root @ matrix_from_axis_angle(poses[:, joint])
    return root


def _confidence(score: Tensor) -> Tensor:
    return ((score - UNSURE) / (SURE - UNSURE)).clamp(0, 1)
