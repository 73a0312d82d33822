"""A posed body in; how its picture moves as the joints turn, and steps of the pose that move the picture evenly, out.

A gradient of the pose is badly conditioned: the root moves the whole picture, an upper arm turned about itself hardly
anything, and neighboring joints undo each other. Its natural metric is how far the picture moves. That takes no image:
the points of the surface and their levers about the joints give it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import JOINT_NAMES, PosedBody
from avatars.camera import Camera
from avatars.motion import N_JOINTS
from avatars.rig import Rig
from avatars.rotations import right_jacobian

POINTS = 400
"""Of the surface, taken evenly."""
N_COUPLED = 22
"""Joints that share points enough to be solved for together: the body's without jaw, eyes and fingers."""
STIFFNESS_MM2 = {
    "pelvis": 65.0, "hip": 50.0, "knee": 80.0, "ankle": 130.0, "foot": 800.0, "spine": 400.0, "neck": 260.0,
    "head": 200.0, "collar": 260.0, "shoulder": 50.0, "elbow": 80.0, "wrist": 130.0,
}  # fmt: skip
"""Mean square motion of the picture per squared radian that each joint is taken to cause besides its own, so that what
the picture hardly shows stays nearly where it is: stiff where people are, and where others do the same."""
FINGER_STIFFNESS_MM2 = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class ImageMotion:
    """How points on the surface move across the line of sight, in millimeters at their own distance."""

    joints: Float[Tensor, "frames points 2 55 3"]
    """Per radian of each joint's axis-angle."""
    transl: Float[Tensor, "frames points 2 3"]
    """Per meter."""

    @staticmethod
    @torch.no_grad()
    def of(rig: Rig, offsets: Float[Tensor, "n 3"], posed: PosedBody, camera: Camera) -> ImageMotion:
        """Of points spread over a posed rig, taken as if a joint turned all that hangs on it by its share."""
        chosen = torch.linspace(0, len(rig.binding) - 1, POINTS).round().long()
        weights, A = rig.weights.dense_t[:, chosen], posed.A_world_rest
        blended = torch.einsum("jn,bjrc->bnrc", weights, A)
        points = (blended[..., :3] @ (rig.surface + offsets)[chosen, :, None])[..., 0] + blended[..., 3]
        across = _across(points, camera.T_cam_world.expand(len(A), 4, 4))
        lever = points[:, :, None] - posed.joints[:, None]
        turned = torch.linalg.cross(lever[:, :, None], across[..., None, :], dim=-1)  # per radian about world axes
        turned = turned * (_hangs_on(rig.body.parents) @ weights).t()[:, None, :, None]
        axes = A[..., :3] @ right_jacobian(posed.poses.reshape(-1, N_JOINTS, 3))
        return ImageMotion(torch.einsum("bnpjc,bjcd->bnpjd", turned, axes), across)

    def even_step(
        self, gradient: Float[Tensor, "frames 168"]
    ) -> tuple[Float[Tensor, "frames 168"], Float[Tensor, " frames"]]:
        """The gradient (55 axis-angles, then a translation) in the metric of the picture, and its squared length there.

        The step s solves M s = gradient, where s' M s is the mean square motion of the points (mm^2) under s and some
        stiffness: the Gauss-Newton step (Levenberg 1944) of a picture whose every point pulls alike. Moved by
        s / sqrt(length), the picture moves by about a millimeter. Jaw and eyes stay.
        """
        frames, points = self.joints.shape[:2]
        gradient = gradient.view(frames, N_JOINTS + 1, 3)
        coupled = torch.cat([self.joints[:, :, :, :N_COUPLED], self.transl[:, :, :, None]], 3).flatten(3).flatten(1, 2)
        metric = coupled.mT @ coupled / points + torch.diag(_stiffness())
        asked = gradient[:, [*range(N_COUPLED), N_JOINTS]].flatten(1)
        found = torch.linalg.solve(metric, asked[..., None]).view(frames, -1, 3)
        step = torch.zeros_like(gradient)
        step[:, :N_COUPLED], step[:, N_JOINTS] = found[:, :-1], found[:, -1]
        alone = self.joints[:, :, :, FINGERS].square().sum((1, 2)) / points + FINGER_STIFFNESS_MM2
        step[:, FINGERS] = gradient[:, FINGERS] / alone
        return step.flatten(1), (gradient * step).sum((1, 2)).clamp_min(0.0)


FINGERS = slice(25, N_JOINTS)


def _across(
    points: Float[Tensor, "frames points 3"], T_cam_world: Float[Tensor, "frames 4 4"]
) -> Float[Tensor, "frames points 2 3"]:
    """Motion across the line of sight (mm, right and down) per meter of motion in world axes."""
    R = T_cam_world[:, :3, :3]
    x, y, z = (points @ R.mT + T_cam_world[:, None, :3, 3]).unbind(-1)
    slope = torch.stack([x, y], -1) / z.clamp_min(0.1)[..., None]
    return 1000.0 * (R[:, None, :2] - slope[..., None] * R[:, None, 2:])


@cache
def _hangs_on(parents: tuple[int, ...]) -> Float[Tensor, "joints joints"]:
    """1 where the column's joint is the row's or hangs on it."""
    hangs = torch.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            hangs[:, joint] += hangs[:, parent]
    return hangs


@cache
def _stiffness() -> Float[Tensor, " coupled"]:
    """Of the coupled joints' axis-angles, then none of the translation."""
    plain = [name.removeprefix("left_").removeprefix("right_").rstrip("123") for name in JOINT_NAMES[:N_COUPLED]]
    return torch.tensor([STIFFNESS_MM2[name] for name in plain] + [0.0]).repeat_interleave(3)
