"""A posed body in; Gauss-Newton pose steps, preconditioned by how its picture moves as the joints turn, out.

A gradient of the pose is badly conditioned: the root moves the whole picture, an upper arm turned about itself hardly
anything, and neighboring joints undo each other. Its natural metric is how far the picture moves. That takes no image:
the points of the surface and their levers about the joints give it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.avatar.rig import Rig
from avatars.body import PosedBody
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import N_JOINTS
from avatars.body.pose_prior import ELBOWS, KNEES
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import cross_product_matrix, matrix_from_axis_angle, right_jacobian
from avatars.kernels.extension import extension
from avatars.kernels.threads import kernel_threads

POINTS = 400
"""Of the surface, taken evenly."""
BODY, FINGERS = slice(0, 22), slice(25, N_JOINTS)
"""Joints that share points enough to be solved for together, and those that are taken one by one; jaw and eyes are
neither."""
N_FINGERS = N_JOINTS - 25
STIFFNESS_MM2 = {
    "pelvis": 65.0, "hip": 50.0, "knee": 80.0, "ankle": 130.0, "foot": 800.0, "spine": 400.0, "neck": 260.0,
    "head": 200.0, "collar": 260.0, "shoulder": 50.0, "elbow": 80.0, "wrist": 130.0,
}  # fmt: skip
"""Mean square motion of the picture per squared radian that each joint is taken to cause besides its own, so that what
the picture hardly shows stays nearly where it is: stiff where people are, and where others do the same."""
FINGER_STIFFNESS_MM2 = 50.0
OFF_HINGE_MM2 = 50_000.0
"""The same of leaving the plane in which a knee or an elbow bends, ten times what a forearm's own motion comes to."""
SHANK_TWIST_MM2 = 1000.0
"""The same of a shank turned about itself: its thigh and foot turn sooner."""


@torch.no_grad()
def gauss_newton_step(
    rig: Rig, offsets: Float[Tensor, "n 3"], posed: PosedBody, camera: Camera, gradient: Float[Tensor, "frames 168"]
) -> tuple[Float[Tensor, "frames 168"], Float[Tensor, " frames"]]:
    """`ImageMotion.gauss_newton_step` of a posed rig, by our C++; float32, all on the CPU but the offsets.

    The definition makes an array of points x numbers of the pose, nearly all of it zeros.
    """
    chosen, weights, shares = _points(rig)
    points = rig.surface[chosen] + offsets[chosen.to(offsets.device)].cpu()
    stiffness, cameras = _stiffness(posed.poses), camera.T_cam_world.reshape(-1, 4, 4).contiguous()
    tensors = (posed.A_world_rest, posed.joints, posed.poses, points, weights, shares, cameras, stiffness)
    tensors = [t.detach().contiguous() for t in tensors]
    gradient, step = gradient.contiguous(), torch.empty_like(gradient)
    length = gradient.new_empty(len(gradient))
    extension().even_steps(*tensors, FINGER_STIFFNESS_MM2, FINGERS.start, gradient, step, length, kernel_threads())
    return step, length


@dataclass(frozen=True, slots=True, eq=False)
class ImageMotion:
    """How points on the surface move across the line of sight, in millimeters at their own distance."""

    coupled: Float[Tensor, "frames points*2 69"]
    """Per radian of the coupled joints' axis-angles, then per meter."""
    fingers: Float[Tensor, "frames points*2 90"]
    """Per radian of the fingers' axis-angles."""
    stiffness: Float[Tensor, "frames joints 3 3"]
    """Of the coupled joints, as `_stiffness`."""

    @staticmethod
    @torch.no_grad()
    def of(rig: Rig, offsets: Float[Tensor, "n 3"], posed: PosedBody, camera: Camera) -> ImageMotion:
        """Of points spread over a posed rig, taken as if a joint turned all that hangs on it by its share.

        A turn w about a joint at j moves a point p along a direction a by (w x (p - j)) . a, which is the product of
        the twist (w, j x w) and the line (p x a, a) (Featherstone 2008, chapter 2).
        """
        chosen, weights, shares = _points(rig)
        expanded = shares.repeat_interleave(2, 0).repeat_interleave(3, 1)
        A = posed.A_world_rest
        blended = (weights @ A.flatten(2)).unflatten(-1, (3, 4))
        points = (blended[..., :3] @ (rig.surface[chosen] + offsets[chosen])[..., None])[..., 0] + blended[..., 3]
        across, center = _across(points, camera.T_cam_world.expand(len(A), 4, 4)), posed.joints[:, :1]
        moments = torch.linalg.cross((points - center)[:, :, None].expand_as(across), across, dim=-1)
        lines = torch.cat([moments, across], -1).flatten(1, 2)
        turns = A[..., :3] @ right_jacobian(posed.poses.reshape(-1, N_JOINTS, 3))
        twists = torch.cat([turns, cross_product_matrix(posed.joints - center) @ turns], 2).transpose(1, 2)

        def moved(joints: slice) -> Tensor:
            columns = slice(3 * joints.start, 3 * joints.stop)
            return lines @ twists[:, :, joints].flatten(2) * expanded[:, columns]

        coupled = torch.cat([moved(BODY), lines[..., 3:]], -1)
        return ImageMotion(coupled, moved(FINGERS), _stiffness(posed.poses))

    def gauss_newton_step(
        self, gradient: Float[Tensor, "frames 168"]
    ) -> tuple[Float[Tensor, "frames 168"], Float[Tensor, " frames"]]:
        """The gradient (55 axis-angles, then a translation) in the metric of the picture, and its squared length there.

        The step s solves M s = gradient, where s' M s is the mean square motion of the points (mm^2) under s and some
        stiffness: the Gauss-Newton step (Levenberg 1944) of a picture whose every point pulls alike. Moved by
        s / sqrt(length), the picture moves by about a millimeter. Jaw and eyes stay.
        """
        gradient = gradient.view(len(gradient), N_JOINTS + 1, 3)
        metric = self.coupled.mT @ self.coupled / POINTS
        for j, block in enumerate(self.stiffness.unbind(1)):
            metric[:, 3 * j : 3 * j + 3, 3 * j : 3 * j + 3] += block
        asked = torch.cat([gradient[:, BODY], gradient[:, N_JOINTS:]], 1)
        found = torch.linalg.solve(metric, asked.flatten(1)[..., None]).view_as(asked)
        alone = self.fingers.square().sum(1).view(-1, N_FINGERS, 3) / POINTS + FINGER_STIFFNESS_MM2
        step = torch.zeros_like(gradient)
        step[:, BODY], step[:, N_JOINTS:] = found[:, :-1], found[:, -1:]
        step[:, FINGERS] = gradient[:, FINGERS] / alone
        return step.flatten(1), (gradient * step).sum((1, 2)).clamp_min(0.0)


def _across(
    points: Float[Tensor, "frames points 3"], T_cam_world: Float[Tensor, "frames 4 4"]
) -> Float[Tensor, "frames points 2 3"]:
    """Motion across the line of sight (mm, right and down) per meter of motion in world axes."""
    R = T_cam_world[:, :3, :3]
    x, y, z = (points @ R.mT + T_cam_world[:, None, :3, 3]).unbind(-1)
    slope = torch.stack([x, y], -1) / z.clamp_min(0.1)[..., None]
    return 1000.0 * (R[:, None, :2] - slope[..., None] * R[:, None, 2:])


@lru_cache(maxsize=1)
def _points(rig: Rig) -> tuple[Int[Tensor, " points"], Float[Tensor, "points joints"], Float[Tensor, "points joints"]]:
    """Which points of a rig, their weights, and each joint's share in their motion."""
    chosen = torch.linspace(0, len(rig.binding) - 1, POINTS).round().long()
    weights = rig.weights.dense_t[:, chosen].t().contiguous()
    return chosen, weights, weights @ _hangs_on(rig.body.parents).t()


@cache
def _hangs_on(parents: tuple[int, ...]) -> Float[Tensor, "joints joints"]:
    """1 where the column's joint is the row's or hangs on it."""
    hangs = torch.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            hangs[:, joint] += hangs[:, parent]
    return hangs


def _stiffness(poses: Float[Tensor, "frames 55 3"]) -> Float[Tensor, "frames joints 3 3"]:
    """What each coupled joint's axis-angle is taken to move the picture by, besides its own (mm^2 per rad^2): alike in
    all directions, and more in those in which knees and elbows do not turn."""
    found = _even_stiffness().expand(len(poses), -1, 3, 3).clone()
    hinges = KNEES + ELBOWS
    R, J = matrix_from_axis_angle(poses[:, hinges]), right_jacobian(poses[:, hinges])
    bone, axis = torch.eye(3)[[1, 1, 0, 0]].expand_as(R[..., 0]), torch.cat([R[:, :2, 0], R[:, 2:, 1]], 1)
    sideways = torch.linalg.cross(bone, axis, dim=-1)  # in the axes of the bone that turns
    for direction, joints, stiffness in ((sideways, slice(0, 4), OFF_HINGE_MM2), (bone, slice(0, 2), SHANK_TWIST_MM2)):
        h = (J.mT @ direction[..., None])[:, joints]
        found[:, hinges[joints]] += stiffness * h @ h.mT
    return found


@cache
def _even_stiffness() -> Float[Tensor, "joints 3 3"]:
    plain = [name.removeprefix("left_").removeprefix("right_").rstrip("123") for name in JOINT_NAMES[BODY]]
    return torch.tensor([STIFFNESS_MM2[name] for name in plain])[:, None, None] * torch.eye(3)
