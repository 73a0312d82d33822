"""Where a fit starts: sides put right, times between valid frames, the root's turn and distance in every frame."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.perception.containers import Keypoints

SHOULDERS, HIPS = (5, 6), (11, 12)
TORSO = (5, 6, 11, 12)
PAIRED = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)

FLIP_COST = 3.0
"""What believing that a frame's sides are exchanged costs; a jump of one radian costs about one."""


def side_exchanges(keypoints: Keypoints, times_s: Float[Tensor, " frames"]) -> Bool[Tensor, " frames"]:
    """Frames in which the detector took the back for the front, or left for right.

    Viterbi (1967) over two states per frame, as seen and mirrored: a state costs `FLIP_COST` times how surely the
    frame shows its sides, a step costs what the body would have to jump. All frames are taken as valid.
    """
    mirrored = keypoints.mirrored(torch.ones(len(keypoints), dtype=torch.bool))
    points = torch.stack([keypoints.xy, mirrored.xy], 1)[:, :, PAIRED]
    weight = torch.stack([keypoints.score, mirrored.score], 1)[:, :, PAIRED]
    scale = torso_px(keypoints)
    yaw = torch.stack([yaw_of(keypoints), yaw_of(mirrored)], 1)
    step_s = (times_s[1:] - times_s[:-1]).float().clamp(1 / 60, 0.5)
    both = (weight[1:, :, None] * weight[:-1, None]).clamp_min(0.0)
    moved = (points[1:, :, None] - points[:-1, None]).norm(dim=-1) / scale[1:, None, None, None]
    jump = (both * (moved / (step_s[:, None, None, None] * 6.0 + 0.1)).square().clamp_max(4.0)).sum(-1)
    jump = jump / both.sum(-1).clamp_min(1e-3)
    turned = _wrapped(yaw[1:, :, None] - yaw[:-1, None]).abs()
    turn = (turned / (step_s[:, None, None] * 8.0 + 0.3)).square().clamp_max(4.0)
    cost_of_step = jump + turn  # (frames - 1, state now, state before)
    cost_of_state = torch.stack([torch.zeros(len(keypoints)), FLIP_COST * _frontal_evidence(keypoints)], 1)
    return _viterbi(cost_of_state, cost_of_step) == 1


def _frontal_evidence(keypoints: Keypoints) -> Float[Tensor, " frames"]:
    """In [0.03, 1]: how surely the detector saw a face, which it does not find on the back of a head."""
    return 0.03 + 0.97 * keypoints.score[:, 23:91].mean(1)


def _viterbi(state: Float[Tensor, "frames 2"], step: Float[Tensor, "steps 2 2"]) -> Tensor:
    """Cheapest path of states, one per frame."""
    total, back = state[0], []
    for now, between in zip(state[1:], step, strict=True):
        best = (total[None] + between).min(1)
        back.append(best.indices)
        total = best.values + now
    path = [int(total.argmin())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return torch.tensor(path[::-1])


def yaw_of(keypoints: Keypoints) -> Float[Tensor, " frames"]:
    """Heading (radians) from shoulders and hips: 0 facing the camera, positive turned to the person's left."""
    across = _across(keypoints)
    return torch.atan2(-across[:, 2], across[:, 0])


def _across(keypoints: Keypoints) -> Float[Tensor, "frames 3"]:
    """The person's left minus right at shoulders and hips, in view axes: x right, y up, z toward the viewer."""
    points = view_hints(keypoints)
    across = (points[:, 5] - points[:, 6]) + (points[:, 11] - points[:, 12])
    return torch.nn.functional.normalize(across, dim=-1)


def view_hints(keypoints: Keypoints) -> Float[Tensor, "frames 133 3"]:
    """The 3D hint in view axes (x right, y up, z toward the viewer), NaN where there is none.

    Without a hint the image stands in, flat but for which side is nearer: nothing.
    """
    flip = torch.tensor([1.0, -1.0, -1.0])
    if keypoints.world_m is not None:
        return keypoints.world_m * flip
    meters = keypoints.xy / torso_px(keypoints)[:, None, None] * 0.5
    return torch.cat([meters, torch.zeros_like(meters[..., :1])], -1) * flip


def torso_px(keypoints: Keypoints) -> Float[Tensor, " frames"]:
    """Shoulders to hips in pixels, smoothed over the clip by a running median, at least 5."""
    shoulders, hips = keypoints.xy[:, SHOULDERS].mean(1), keypoints.xy[:, HIPS].mean(1)
    width = (keypoints.xy[:, 5] - keypoints.xy[:, 6]).norm(dim=-1)
    return running_median(torch.maximum((shoulders - hips).norm(dim=-1), width), 9).clamp_min(5.0)


def running_median(values: Float[Tensor, " frames"], width: int) -> Float[Tensor, " frames"]:
    """Median over `width` (odd) neighbors; the ends repeat."""
    half = width // 2
    padded = torch.cat([values[:1].expand(half), values, values[-1:].expand(half)])
    return padded.unfold(0, width, 1).median(-1).values


def root_rotations(keypoints: Keypoints, times_s: Float[Tensor, " frames"]) -> Float[Tensor, "frames 3 3"]:
    """Root orientation in view axes from the torso's 3D hint: across from right to left, up from hips to shoulders.

    The headings are steadied over time (`steady_headings`).
    """
    points = view_hints(keypoints)
    x = _across(keypoints)
    up = points[:, SHOULDERS].mean(1) - points[:, HIPS].mean(1)
    z = torch.nn.functional.normalize(torch.linalg.cross(x, up), dim=-1)
    R = torch.stack([x, torch.linalg.cross(z, x), z], -1)
    yaw = yaw_of(keypoints)
    turned = torch.zeros(len(keypoints), 3)
    turned[:, 1] = steady_headings(yaw, times_s) - yaw
    return matrix_from_axis_angle(turned) @ R


HEADING_NOISE_RAD, HEADING_ACCELERATION_RAD_S2 = 0.25, 4.0
"""The hint's headings err by this much for half a second at a time; people seldom change their turning faster."""
HEADING_MEMORY_S = 0.5


def steady_headings(yaw: Float[Tensor, " frames"], times_s: Float[Tensor, " frames"]) -> Float[Tensor, " frames"]:
    """Headings (radians, unwrapped) as a body can turn: least squares on the heading and on its second difference, both
    robust (iteratively reweighted, Geman & McClure 1987)."""
    n = len(yaw)
    if n < 4:
        return yaw
    times = times_s.double()
    near = torch.exp(-0.5 * ((times[:, None] - times) / (0.3 * HEADING_MEMORY_S)).square())
    coarse = torch.atan2(near @ yaw.sin().double(), near @ yaw.cos().double())
    smooth = torch.cat([coarse[:1], coarse[0] + _wrapped(coarse[1:] - coarse[:-1]).cumsum(0)])
    dt = (times[1:] - times[:-1]).clamp(1e-3, 1.0)
    first = torch.diff(torch.eye(n, dtype=torch.float64), dim=0) / dt[:, None]
    second = torch.diff(first, dim=0) * (2.0 / (dt[1:] + dt[:-1]))[:, None] / HEADING_ACCELERATION_RAD_S2
    say = float(dt.median()) / HEADING_MEMORY_S  # of one frame: errors last
    for _ in range(8):
        off = _wrapped(yaw.double() - smooth)
        trust = say * (1.0 + (off / (3.0 * HEADING_NOISE_RAD)).square()).pow(-2) / HEADING_NOISE_RAD**2
        bend = say * (1.0 + (second @ smooth / 3.0).square()).pow(-2)
        smooth = torch.linalg.solve(torch.diag(trust) + (second.mT * bend) @ second, trust * (smooth + off))
    return smooth.float()


def limb_poses(
    keypoints: Keypoints, rotation: Float[Tensor, "frames 3 3"], rest: Float[Tensor, "55 3"]
) -> Float[Tensor, "frames 55 3"]:
    """`rest` with hips, knees, shoulders and elbows bent as the 3D hint's bones point, in closed form: gradient descent
    does not find a thigh that is turned by 100 degrees from where it starts."""
    points = view_hints(keypoints) @ rotation  # in the root's axes
    poses = rest.expand(len(keypoints), -1, -1).clone()
    for upper, lower, chain, along, hinge in _LIMBS:
        bones = [torch.nn.functional.normalize(points[:, b] - points[:, a], dim=-1) for a, b in pairwise(chain)]
        known = (keypoints.score[:, chain].amin(1) > 0.3) & torch.isfinite(points[:, chain]).all(-1).all(-1)
        first, second = (torch.where(known[:, None], bone, torch.tensor(along)) for bone in bones)
        R, bend = _two_bones(first, second, torch.tensor(along), torch.tensor(hinge))
        poses[:, upper] = torch.where(known[:, None], axis_angle_from_matrix(R), poses[:, upper])
        poses[:, lower] = torch.where(known[:, None], bend[:, None] * torch.tensor(hinge), poses[:, lower])
    return poses


_LIMBS = (  # SMPL-X joints of the two bones, the keypoints along them, rest direction, axis about which they fold
    (1, 4, (11, 13, 15), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
    (2, 5, (12, 14, 16), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
    (16, 18, (5, 7, 9), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
    (17, 19, (6, 8, 10), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
)
STRAIGHT = 0.35
"""Sine of the bend below which a limb's plane is taken from its least turn rather than from its own bend."""


def _two_bones(first: Tensor, second: Tensor, along: Tensor, hinge: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (frames, 3, 3) of the upper bone and bend (frames,) of the lower one, from their directions."""
    least = torch.nn.functional.normalize(_least_turn(along, first) @ hinge, dim=-1)
    own = torch.linalg.cross(first, second)
    x = own + STRAIGHT * least
    x = torch.nn.functional.normalize(x - (x * first).sum(-1, keepdim=True) * first, dim=-1)
    target = torch.stack([x, first, torch.linalg.cross(x, first)], -1)
    source = torch.stack([hinge, along, torch.linalg.cross(hinge, along)], -1)
    bend = torch.acos((first * second).sum(-1).clamp(-1.0, 1.0)) * torch.sign((own * x).sum(-1)).clamp_min(0.0)
    return target @ source.T, bend


def _least_turn(a: Float[Tensor, " 3"], b: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 3 3"]:
    """The smallest rotation that takes unit `a` to unit `b` (Rodrigues)."""
    axis = torch.linalg.cross(a.expand_as(b), b)
    angle = torch.atan2(axis.norm(dim=-1), b @ a)
    return matrix_from_axis_angle(torch.nn.functional.normalize(axis, dim=-1) * angle[:, None])


def distances_m(
    keypoints: Keypoints, points_m: Float[Tensor, "frames 133 3"], focal_px: float
) -> Float[Tensor, " frames"]:
    """Distance at which the posed points (view axes) spread over the image as widely as the keypoints do."""
    order = [*range(17), 19, 22]
    weight = (keypoints.score[:, order] * (keypoints.score[:, order] > 0.3)).clamp_min(1e-4)[..., None]
    weight = weight / weight.sum(1, keepdim=True)

    def spread(points: Tensor) -> Tensor:
        centered = points - (points * weight).sum(1, keepdim=True)
        return (centered.square() * weight).sum((1, 2)).sqrt()

    ratio = spread(points_m[:, order, :2]) / spread(keypoints.xy[:, order]).clamp_min(1.0)
    return running_median(focal_px * ratio, 9).clamp(0.3, 100.0)


def _wrapped(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
