"""A fit in view axes -> Motion and Camera in a world whose +Y is up, whose ground is y = 0, with the person near the
origin."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.body import Body
from avatars.camera import Camera
from avatars.foot_contacts import foot_contacts
from avatars.keypoint_fit import BodyFit
from avatars.motion import GLOBAL, Motion
from avatars.rotations import axis_angle_from_matrix

MAX_TILT_DEG = 25.0
FULL_TURN_DEG = 300.0
LEVEL_DEG, STANCE_DEG = 12.0, 5.0
"""Standard deviations of a hand-held or tripod camera from level, and of a standing person's axis from upright."""
FEET = slice(17, 23)


def place_in_world(
    fit: BodyFit,
    body: Body,
    *,
    size_hw: tuple[int, int],
    times_s: Float[Tensor, " frames"],
    valid: Bool[Tensor, " frames"],
    name: str,
) -> tuple[Motion, Camera]:
    """Motion over all frames (invalid ones hold the nearest valid pose) and the still camera that saw it."""
    R_world_view = level_rotation(up_direction(fit, body))
    rotation, pelvis = R_world_view @ fit.rotation, fit.pelvis @ R_world_view.T
    posed = body.pose(fit.poses, fit.betas, None, fit.expression)
    root = posed.joints[:, 0]
    points = (posed.keypoints_133() - root[:, None]) @ rotation.transpose(-1, -2) + pelvis[:, None]
    ground = points[:, FEET, 1].amin(1).quantile(0.1)
    contacts = foot_contacts(points, times_s[valid], ground_m=float(ground))
    center = pelvis.median(0).values
    origin = torch.stack([center[0], ground, center[2]])
    poses = fit.poses.clone()
    poses[:, GLOBAL] = axis_angle_from_matrix(rotation)
    seen = _nearest_valid(valid)
    motion = Motion(
        poses=poses[seen],
        transl=(pelvis - origin - root)[seen],
        betas=fit.betas,
        expression=fit.expression[seen],
        times_s=times_s,
        valid=valid,
        body_sha256=body.sha256,
        name=name,
        contacts=contacts[seen] & valid[:, None],
    )
    return motion, _camera(R_world_view, origin, fit.focal_px, size_hw)


def _camera(R_world_view: Tensor, origin: Tensor, focal_px: float, size_hw: tuple[int, int]) -> Camera:
    height, width = size_hw
    to_opencv = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    T_cam_world = torch.eye(4)
    T_cam_world[:3, :3] = to_opencv @ R_world_view.T
    T_cam_world[:3, 3] = T_cam_world[:3, :3] @ origin
    K = torch.tensor([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])
    return Camera(K, T_cam_world, size_hw)


def up_direction(fit: BodyFit, body: Body) -> Float[Tensor, " 3"]:
    """Up in view axes, from how the person stands: the mean direction from between the feet to the middle of the trunk
    (of the trunk itself where legs are not seen), over the frames in which they stand upright.

    Seen from all round, leaning cancels out and the mean is believed; else the camera is believed level by its share of
    the evidence (`STANCE_DEG` against `LEVEL_DEG`). A camera tilted by more than `MAX_TILT_DEG` is not believed.
    """
    level = torch.tensor([0.0, 1.0, 0.0])
    joints = body.pose(fit.poses, fit.betas).joints
    feet = joints[:, [7, 8]].mean(1)
    trunk = (joints[:, 0] + joints[:, 12]) / 2
    stretch = (joints[:, 12] - feet).norm(dim=-1)
    upright = stretch > 0.95 * stretch.quantile(0.9)
    body_axis = trunk - feet if fit.legs_seen > 0.5 else joints[:, 12] - joints[:, 0]
    axis = (fit.rotation @ torch.nn.functional.normalize(body_axis, dim=-1)[..., None])[..., 0]
    sector = _sectors(fit.rotation)
    if turns_around(fit.rotation):
        axis = torch.stack([axis[sector == k].mean(0) for k in sector.unique().tolist()]).mean(0)
        share = 1.0
    else:
        axis = axis[upright].mean(0)
        share = LEVEL_DEG**2 / (LEVEL_DEG**2 + STANCE_DEG**2)
    up = torch.nn.functional.normalize(level + share * (axis - level), dim=0)
    return up if up[1] > math.cos(math.radians(MAX_TILT_DEG)) else level


def turns_around(rotation: Float[Tensor, "frames 3 3"]) -> bool:
    """Whether the headings cover (nearly) the whole circle."""
    return len(_sectors(rotation).unique()) * 30.0 >= FULL_TURN_DEG


def _sectors(rotation: Float[Tensor, "frames 3 3"]) -> Tensor:
    """Which of twelve headings each frame has."""
    heading = torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])
    return ((heading + math.pi) / (2 * math.pi) * 12).long().clamp(0, 11)


def level_rotation(up: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """The smallest turn that takes `up` (unit) to +Y, with no turn about +Y: x stays horizontal in the view."""
    z = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([1.0, 0.0, 0.0]), up), dim=0)
    return torch.stack([torch.linalg.cross(up, z), up, z])


def _nearest_valid(valid: Bool[Tensor, " frames"]) -> Tensor:
    """For each frame of the clip, which of the valid frames (counted among themselves) is nearest."""
    index = torch.nonzero(valid)[:, 0]
    frames = torch.arange(len(valid))
    after = torch.searchsorted(index, frames).clamp_max(len(index) - 1)
    before = (after - 1).clamp_min(0)
    return torch.where((frames - index[before]).abs() <= (index[after] - frames).abs(), before, after)
