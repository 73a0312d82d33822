"""Tracked poses in; poses that make the render agree with the frames out, one small correction per frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.body import Body, PosedBody
from avatars.body.motion import GLOBAL, JAW, LEFT_EYE, N_JOINTS, RIGHT_EYE, Motion
from avatars.geometry.rotations import (
    axis_angle_from_matrix,
    matrix_from_axis_angle,
    nearest_axis_angle,
    rotation_between,
)
from avatars.kernels.row_adam import Rows

WIDTH = N_JOINTS * 3 + 3
"""Numbers per frame: 55 rotations (axis-angle, added) and a translation (m)."""
STEADY = 0.6
"""How far a held-out pose is moved from its tracked place to that between its neighbors' refined poses."""
STEP_MM = 3.6
"""How far a step moves the picture, root mean square over the body."""
FARTHEST = 3.0
"""How many times as far as usual one frame's step may move its picture."""
RECENT = 0.95
"""Share of what a running mean keeps per step."""
NEAR_S = 0.2
"""Frames at most this far apart hardly differ in how the person moves between them."""


@dataclass(slots=True, eq=False)
class PoseRefinement:
    """Tracked frames and the correction of each, trained a few frames at a time."""

    motion: Motion
    corrections: Rows
    length: Float[Tensor, " rows_or_1"]
    """Running mean of the steps' squared lengths (`gauss_newton_step`): of each row, or of all alike."""
    steps: int = 0

    @staticmethod
    def of(motion: Motion, *, decay: float = 0.0, smoothness: float = 0.0, apart: bool = False) -> PoseRefinement:
        """No corrections yet. `decay` and `smoothness` (`Rows`) are weaker for fingers; jaw and eyes are left as
        tracked. Rows that are `apart` are each as long under way as the others, however far off they start, and settle
        in few steps; otherwise what is far off moves further."""
        lr = torch.full((WIDTH,), 0.01)
        lr[-3:] = 0.005
        rows = lr[:-3].view(N_JOINTS, 3)
        rows[25:55] *= 0.5
        rows[[JAW, LEFT_EYE, RIGHT_EYE]] = 0.0
        rows_of = Rows(len(motion), lr, decay=decay, smoothness=smoothness, momentum=0.5 if apart else 0.8)
        return PoseRefinement(motion, rows_of, torch.zeros(len(motion) if apart else 1))

    def step(
        self,
        rows: Int[Tensor, " b"],
        step: Float[Tensor, "b width"],
        length: Float[Tensor, " b"],
        rate: float = 1.0,
    ) -> None:
        """Move different rows along their Gauss-Newton steps (`image_motion.gauss_newton_step`), so that the
        picture moves by about `STEP_MM` times `rate`.

        A frame whose gradient is longer than is usual lately moves more, at most `FARTHEST` times as far.
        """
        self.steps += 1
        at, recent = (slice(None), length.mean()) if len(self.length) == 1 else (rows, length)
        self.length[at] += (recent - self.length[at]) * (1 - RECENT)
        usual = (self.length[at] / (1 - RECENT**self.steps)).clamp_min(1e-30)
        reach = (length / usual).sqrt().clamp_min(1e-9)
        step = step * ((reach.clamp_max(FARTHEST) / reach) / usual.sqrt())[:, None]
        self.corrections.move(rows, -STEP_MM * step, rate)

    def remove_common_lean(self, across: Float[Tensor, " 3"]) -> None:
        """Turn all roots back about `across` (world, unit: the camera's x) by the mean of what corrections turned them.

        How far a person leans towards the camera in all frames alike hardly shows in their picture: left alone it
        drifts (by 0.7 and 1.1 degrees in two studio turns), and the legs come out shorter or longer for it.
        """
        tracked = self.motion.poses[:, GLOBAL]
        now = matrix_from_axis_angle(tracked + self.corrections.values[:, :3])
        turned = axis_angle_from_matrix(now @ matrix_from_axis_angle(tracked).mT) @ across
        back = axis_angle_from_matrix(matrix_from_axis_angle(-turned.mean() * across) @ now)
        self.corrections.values[:, :3] = nearest_axis_angle(back, tracked) - tracked

    def state(self) -> dict[str, Any]:
        """Everything that steps change."""
        return {"rows": self.corrections.state(), "length": self.length, "steps": self.steps}

    def put_state(self, state: dict[str, Any]) -> None:
        """Back to where `state` was taken."""
        self.corrections.put_state(state["rows"])
        self.length, self.steps = state["length"], state["steps"]

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
    middle = rotation_between(now[before], now[after], share[:, None])
    poses = axis_angle_from_matrix(rotation_between(turned, middle, half[:, None]))
    middle_transl = torch.lerp(refined.transl[before], refined.transl[after], share[:, None])
    return replace(unseen, poses=poses, transl=torch.lerp(transl, middle_transl, half[:, None]))


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
