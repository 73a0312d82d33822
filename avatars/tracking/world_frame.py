"""A fit in view axes -> Motion and Camera in a world whose +Y is up, whose ground is y = 0 where feet stand, with the
person near the origin."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.body import Body
from avatars.body.motion import GLOBAL, N_JOINTS, Motion
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import axis_angle_from_matrix, heading_sectors, headings_seen_deg
from avatars.tracking.foot_contacts import feet_seen, foot_contacts
from avatars.tracking.keypoint_fit import BodyFit
from avatars.tracking.standing_ground import ground_normal, stances

MAX_TILT_DEG = 25.0
FULL_TURN_DEG = 300.0
LEVEL_DEG, STANCE_DEG, TURNED_DEG = 12.0, 5.0, 2.0
"""Standard deviations of a hand-held or tripod camera from level, and of a standing person's axis from upright: seen
from one side, and from all round."""
FEET = slice(17, 23)


def place_in_world(
    fit: BodyFit,
    body: Body,
    *,
    size_hw: tuple[int, int],
    times_s: Float[Tensor, " frames"],
    valid: Bool[Tensor, " frames"],
    score: Float[Tensor, "valid 133"],
    name: str,
    up: Float[Tensor, " 3"] | None = None,
) -> tuple[Motion, Camera]:
    """Motion over all frames (invalid ones hold the nearest valid pose) and the still camera that saw it.

    `up` is up in view axes where it is known; else it is how the person stands (`up_direction`), corrected by the slope
    of the places where their feet stood. The ground is where soles mostly are while a foot stands. `score` says which
    feet a detector saw in the valid frames: what was not seen stands nowhere; where nothing ever stood, the ground is
    the lowest that feet often reach.
    """
    posed = body.pose(fit.poses, fit.betas, None, fit.expression)
    root = posed.joints[:, 0]
    in_view = (posed.keypoints_133() - root[:, None]) @ fit.rotation.mT + fit.pelvis[:, None]
    feet = feet_seen(score)
    if up is None:
        up = _up_of_ground(*up_direction(fit, body), in_view, times_s[valid], feet)
    R_world_view = level_rotation(up)
    points, pelvis = in_view @ R_world_view.T, fit.pelvis @ R_world_view.T
    lowest_m, stood = points[:, FEET, 1].amin(1), stances(points, times_s[valid], feet).frames
    standing_m = float(lowest_m[stood].median() if bool(stood.any()) else lowest_m.quantile(0.1))
    contacts = foot_contacts(points, times_s[valid], ground_m=standing_m) & feet
    center = pelvis.median(0).values
    origin = torch.stack([center[0], standing_m - _above_soles_m(body, fit.betas), center[2]])
    poses = fit.poses.clone()
    poses[:, GLOBAL] = axis_angle_from_matrix(R_world_view @ fit.rotation)
    nearest = _nearest_valid(valid)
    motion = Motion(
        poses=poses[nearest],
        transl=(pelvis - origin - root)[nearest],
        betas=fit.betas,
        expression=fit.expression[nearest],
        times_s=times_s,
        valid=valid,
        body_sha256=body.sha256,
        name=name,
        contacts=contacts[nearest] & valid[:, None],
    )
    return motion, _camera(R_world_view, origin, fit.focal_px, size_hw)


def _up_of_ground(up: Tensor, deviation_deg: float, in_view: Tensor, times_s: Tensor, feet: Tensor) -> Tensor:
    """Up in view axes, corrected by where the feet stood."""
    R_world_view = level_rotation(up)
    stood = stances(in_view @ R_world_view.T, times_s, feet)
    return _believable(R_world_view.T @ ground_normal(stood, math.tan(math.radians(deviation_deg))), up)


def _above_soles_m(body: Body, betas: Float[Tensor, " shape"]) -> Tensor:
    """Height of the lowest of the feet's keypoints above the soles of a body that stands in rest."""
    marks = body.pose(torch.zeros(1, N_JOINTS, 3), betas).keypoints_133()[0, FEET, 1]
    return marks.amin() - body.shaped(betas)[0][:, 1].amin()


def _camera(R_world_view: Tensor, origin: Tensor, focal_px: float, size_hw: tuple[int, int]) -> Camera:
    height, width = size_hw
    to_opencv = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    T_cam_world = torch.eye(4)
    T_cam_world[:3, :3] = to_opencv @ R_world_view.T
    T_cam_world[:3, 3] = T_cam_world[:3, :3] @ origin
    K = torch.tensor([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])
    return Camera(K, T_cam_world, size_hw)


def up_direction(fit: BodyFit, body: Body) -> tuple[Float[Tensor, " 3"], float]:
    """Up in view axes, and its standard deviation (degrees), from how the person stands: the mean direction from
    between the feet to the middle of the trunk (of the trunk itself where legs are not seen), over the frames in which
    they stand upright.

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
    if turns_around(fit.rotation):
        sector = heading_sectors(fit.rotation)
        axis = torch.stack([axis[sector == k].mean(0) for k in sector.unique().tolist()]).mean(0)
        share, deviation_deg = 1.0, TURNED_DEG
    else:
        axis = axis[upright].mean(0)
        share = LEVEL_DEG**2 / (LEVEL_DEG**2 + STANCE_DEG**2)
        deviation_deg = math.sqrt(share) * STANCE_DEG
    up = torch.nn.functional.normalize(level + share * (axis - level), dim=0)
    return _believable(up, level), deviation_deg


def _believable(up: Float[Tensor, " 3"], otherwise: Float[Tensor, " 3"]) -> Float[Tensor, " 3"]:
    return up if up[1] > math.cos(math.radians(MAX_TILT_DEG)) else otherwise


def turns_around(rotation: Float[Tensor, "frames 3 3"]) -> bool:
    """Whether the headings cover (nearly) the whole circle."""
    return headings_seen_deg(rotation) >= FULL_TURN_DEG


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
