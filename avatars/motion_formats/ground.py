"""Puts a motion where the toolkit expects one: feet on the ground y = 0, beginning over the origin, facing +Z."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.body import Body
from avatars.motion import GLOBAL, Motion
from avatars.rotations import axis_angle_from_matrix, matrix_from_axis_angle

_FEET = {"left": (7, 10), "right": (8, 11)}
_CHUNK = 512


def sole_vertices(body: Body, *, per_foot: int = 60) -> Int[Tensor, " points"]:
    """Vertices of both soles: those of a foot within 2 cm of its lowest in the T-pose, thinned."""
    chosen = []
    for foot in _FEET.values():
        own = torch.where(body.lbs_weights[:, foot].sum(1) > 0.5)[0]
        height = body.v_template[own, 1]
        sole = own[height < height.min() + 0.02]
        chosen.append(sole[:: max(1, len(sole) // per_foot)])
    return torch.cat(chosen)


def lowest_sole_m(motion: Motion, body: Body) -> Float[Tensor, " frames"]:
    """Height (m) of the lower sole in each frame."""
    points = body.subset(sole_vertices(body))
    lowest = []
    for start in range(0, len(motion), _CHUNK):
        part = motion[slice(start, start + _CHUNK)]
        posed = body.pose(part.poses, part.betas, part.transl)
        lowest.append(posed.points(points)[..., 1].amin(1))
    return torch.cat(lowest)


def grounded(motion: Motion, body: Body, *, quantile: float = 0.05) -> Motion:
    """The motion moved up or down as a whole so that the ground that its feet tread is y = 0.

    The ground is where the lower sole is at its lowest in 5% of the valid frames: jumps do not lift it and a
    few bad frames do not sink it. A motion whose feet never tread the ground (lying, hanging) cannot be told.
    """
    if not bool(motion.valid.any()):
        return motion
    ground_m = lowest_sole_m(motion[motion.valid], body).quantile(quantile)
    return replace(motion, transl=motion.transl - torch.stack([ground_m * 0, ground_m, ground_m * 0]))


def turned(motion: Motion, body: Body, R_new_old: Float[Tensor, "3 3"], *, about: Float[Tensor, " 3"]) -> Motion:
    """The motion in another world: world points x become R_new_old (x - about)."""
    pelvis = body.shaped(motion.betas)[1][0].double()
    R = R_new_old.double()
    root = R @ matrix_from_axis_angle(motion.poses[:, GLOBAL].double())
    poses = motion.poses.clone()
    poses[:, GLOBAL] = axis_angle_from_matrix(root).float()
    transl = (motion.transl.double() + pelvis - about.double()) @ R.T - pelvis
    return replace(motion, poses=poses, transl=transl.float())


def facing_front(motion: Motion, body: Body) -> Motion:
    """The motion turned about the vertical and moved along the ground so that its first valid frame stands over the
    origin and faces +Z."""
    if not bool(motion.valid.any()):
        return motion
    first = int(motion.valid.int().argmax())
    forward = matrix_from_axis_angle(motion.poses[first, GLOBAL].double())[:, 2]
    yaw = torch.atan2(forward[0], forward[2])
    back = matrix_from_axis_angle(torch.stack([yaw * 0, -yaw, yaw * 0]))
    pelvis = motion.transl[first] + body.shaped(motion.betas)[1][0]
    return turned(motion, body, back, about=pelvis * torch.tensor([1.0, 0.0, 1.0]))
