"""Tracked poses in; poses that make the render agree with the frames out, one small correction per frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.body import Body, PosedBody
from avatars.motion import JAW, LEFT_EYE, N_JOINTS, RIGHT_EYE, Motion
from avatars.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.row_adam import RowAdam

WIDTH = N_JOINTS * 3 + 3
"""Numbers per frame: 55 rotations (axis-angle, added) and a translation (m)."""
STEADY = 0.6
"""How far a held-out pose is moved from its tracked place to that between its neighbors' refined poses."""
NEAR_S = 0.2
"""Frames at most this far apart hardly differ in how the person moves between them."""


@dataclass(slots=True, eq=False)
class PoseRefinement:
    """Tracked frames and the correction of each, trained a few frames at a time."""

    motion: Motion
    corrections: RowAdam

    @staticmethod
    def of(
        motion: Motion, *, rotation_lr: float, transl_lr: float, decay: float, smoothness: float, spread: float = 0.0
    ) -> PoseRefinement:
        """No corrections yet. Learning rates in radians and meters; face and eyes are left as tracked."""
        lr = torch.full((WIDTH,), rotation_lr)
        lr[-3:] = transl_lr
        rows = lr[:-3].view(N_JOINTS, 3)
        rows[25:55] *= 0.5  # fingers: small in the image, easily led astray
        rows[[JAW, LEFT_EYE, RIGHT_EYE]] = 0.0
        return PoseRefinement(motion, RowAdam(len(motion), lr, decay=decay, smoothness=smoothness, spread=spread))

    def pose(
        self, body: Body, betas: Tensor, rows: Int[Tensor, " b"], corrections: Float[Tensor, "b width"]
    ) -> PosedBody:
        """The body in chosen frames with corrections added to its tracked pose."""
        poses = self.motion.poses[rows] + corrections[:, :-3].view(-1, N_JOINTS, 3)
        transl = self.motion.transl[rows] + corrections[:, -3:]
        expression = self.motion.expression[rows]
        return body.pose(poses, betas, transl, expression if bool(expression.any()) else None)

    def refined(self) -> Motion:
        """The motion with its corrections added."""
        delta = self.corrections.values
        poses = self.motion.poses + delta[:, :-3].view(-1, N_JOINTS, 3)
        return replace(self.motion, poses=poses, transl=self.motion.transl + delta[:, -3:])


def carried_over(tracked: Motion, refined: Motion, unseen: Motion) -> Motion:
    """`unseen` frames as tracked, with what refinement found in the nearest training frames before and after.

    `tracked` and `refined` are the same training frames, before and after. The corrections (rotations on the left of
    the joint's own, weighted by time) are applied to the tracked pose; where the two frames are near in time, it
    is moved towards what lies between their own refined poses, which steadies the tracker's jitter. Nothing of the
    unseen frames is used but their tracked pose.
    """
    before, after, share = _bracket(tracked.times_s, unseen.times_s)
    was, now, here = (matrix_from_axis_angle(m.poses) for m in (tracked, refined, unseen))
    correction = axis_angle_from_matrix(now @ was.transpose(-1, -2))
    turned = matrix_from_axis_angle(torch.lerp(correction[before], correction[after], share[:, None, None])) @ here
    shift = refined.transl - tracked.transl
    transl = unseen.transl + torch.lerp(shift[before], shift[after], share[:, None])
    near = (tracked.times_s[after] - tracked.times_s[before] <= NEAR_S) & (after > before)
    half = STEADY * near.float()
    middle = _turned_towards(now[before], now[after], share)
    poses = axis_angle_from_matrix(_turned_towards(turned, middle, half))
    middle_transl = torch.lerp(refined.transl[before], refined.transl[after], share[:, None])
    return replace(unseen, poses=poses, transl=torch.lerp(transl, middle_transl, half[:, None]))


def _turned_towards(
    a: Float[Tensor, "frames 55 3 3"], b: Float[Tensor, "frames 55 3 3"], share: Float[Tensor, " frames"]
) -> Float[Tensor, "frames 55 3 3"]:
    """Rotations part of the way from `a` to `b`, the short way round."""
    return matrix_from_axis_angle(share[:, None, None] * axis_angle_from_matrix(b @ a.transpose(-1, -2))) @ a


def between(
    values: Float[Tensor, "frames channels"], times_s: Tensor, wanted_s: Tensor
) -> Float[Tensor, "wanted channels"]:
    """Values at times in between, linearly."""
    before, after, share = _bracket(times_s, wanted_s)
    return torch.lerp(values[before], values[after], share[:, None])


def _bracket(times_s: Tensor, wanted_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices before and after each wanted time, and how far it lies between them, in [0, 1]."""
    after = torch.searchsorted(times_s.contiguous(), wanted_s.contiguous()).clamp(0, len(times_s) - 1)
    before = (after - 1).clamp_min(0)
    span = (times_s[after] - times_s[before]).clamp_min(1e-9)
    return before, after, ((wanted_s - times_s[before]) / span).clamp(0.0, 1.0).float()
