"""Motion + shutter -> the poses that an open shutter sees, several to a frame."""

from __future__ import annotations

from dataclasses import replace

import torch

from avatars.body.motion import Motion
from avatars.geometry.rotations import axis_angle_from_quaternion, matrix_from_axis_angle, quaternion_from_matrix, slerp
from compose.rendering.compositor import CameraEffects


def exposed(motion: Motion, film: CameraEffects) -> Motion:
    """The motion at every frame's subframes, spread evenly about the frame's time: `subframes` times as many frames.

    The first and last frame do not reach beyond the motion. Without a shutter the motion is returned as it is.
    """
    if film.shutter <= 0 or len(motion) < 2:
        return motion
    frames = torch.arange(len(motion), dtype=torch.float64)
    offsets = film.shutter * torch.linspace(-0.5, 0.5, film.subframes, dtype=torch.float64)
    at = (frames[:, None] + offsets).reshape(-1).clamp(0, len(motion) - 1)
    below = at.floor().long().clamp_max(len(motion) - 2)
    share = (at - below).float()
    quats = quaternion_from_matrix(matrix_from_axis_angle(motion.poses))
    poses = axis_angle_from_quaternion(slerp(quats[below], quats[below + 1], share[:, None]))

    def mixed(values: torch.Tensor) -> torch.Tensor:
        return torch.lerp(values[below], values[below + 1], share[:, None].to(values.dtype))

    times_s = motion.times_s[below] + (motion.times_s[below + 1] - motion.times_s[below]) * share.to(motion.times_s)
    return replace(
        motion, poses=poses, transl=mixed(motion.transl), expression=mixed(motion.expression), times_s=times_s,
        valid=torch.ones(len(at), dtype=torch.bool), confidence=None,
    )  # fmt: skip
