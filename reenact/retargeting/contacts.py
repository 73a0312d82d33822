"""A motion on a new body, and when its feet touched the ground -> the same motion without skating, floating, sinking.

Steps: measure how each sole moves while it touches, take that movement back (it becomes a smooth drift over the whole
clip, given to the root), put the rest right with the legs (two-bone inverse kinematics), feet turned as they were.
Kovar et al. 2002 ("Footskate cleanup") is the idea; contact is followed as a patch that rolls, so that heel and toe
need no labels of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatars.body import Body, BodyPoints
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion, runs
from avatars.geometry.rotations import axis_angle_from_matrix, shortest_rotation

_LEGS = tuple(tuple(JOINT_NAMES.index(f"{side}_{j}") for j in ("hip", "knee", "ankle")) for side in ("left", "right"))
_FEET = tuple(tuple(JOINT_NAMES.index(f"{side}_{name}") for name in ("ankle", "foot")) for side in ("left", "right"))
POINTS_PER_SOLE = 60
_PATCH_M = 0.008
"""Sole points this much higher than the lowest one count 1/e."""
_STRETCH = 0.998
"""Longest leg, as a share of thigh and shin."""
_SOFT_S = 0.02
"""Corrections are smoothed by this (standard deviation), so that landing and lifting stay as soft as they were."""
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Soles:
    """Which points of a body are followed to keep it on the ground."""

    points: BodyPoints
    left: Int[Tensor, " left"]
    right: Int[Tensor, " right"]

    @staticmethod
    def of(body: Body, betas: Float[Tensor, " shape"], *, spread: int = 250) -> Soles:
        """The undersides of both feet and `spread` points all over the body, at the shape `betas`."""
        rest, _ = body.shaped(betas)
        foot = torch.stack([body.lbs_weights[:, list(joints)].sum(-1) > 0.5 for joints in _FEET], -1)
        low = rest[:, 1] < rest[:, 1].min() + 0.03
        sole = [torch.nonzero(foot[:, side] & low)[:, 0] for side in (0, 1)]
        sole = [v[torch.linspace(0, len(v) - 1, POINTS_PER_SOLE).round().long()] for v in sole]
        everywhere = torch.arange(0, body.n_vertices, max(body.n_vertices // spread, 1))
        chosen = torch.cat([*sole, everywhere])
        left = torch.arange(POINTS_PER_SOLE)
        return Soles(body.subset(chosen), left, left + POINTS_PER_SOLE)

    def followed(self, motion: Motion, body: Body) -> Float[Tensor, "frames points 3"]:
        """Where all the points are in every frame."""
        expression = motion.expression if bool(motion.expression.any()) else None
        return body.pose(motion.poses, motion.betas, motion.transl, expression).points(self.points)

    def feet(self, points: Float[Tensor, "frames points 3"]) -> Float[Tensor, "frames 2 sole 3"]:
        """The soles' among them."""
        return torch.stack([points[:, self.left], points[:, self.right]], 1)


@dataclass(frozen=True, slots=True)
class FootTrack:
    """How both feet stand, frame by frame."""

    height_m: Float[Tensor, "frames 2"]
    """Lowest point of the sole over y = 0."""
    slip_m: Float[Tensor, "frames 2 2"]
    """Horizontal movement (x, z) of the patch nearest to the ground to the next frame; 0 for the last frame."""


def foot_track(feet: Float[Tensor, "frames 2 points 3"]) -> FootTrack:
    """Measure sole points."""
    height = feet[..., 1].amin(-1)
    weight = torch.softmax(-feet[..., 1] / _PATCH_M, -1)
    both = (weight[:-1] + weight[1:]) / 2
    moved = (feet[1:] - feet[:-1])[..., [0, 2]]
    slip = (both[..., None] * moved).sum(-2)
    return FootTrack(height, torch.cat([slip, torch.zeros_like(slip[:1])]))


def steady_contacts(contact: Bool[Tensor, "frames 2"], fps: float) -> Bool[Tensor, "frames 2"]:
    """Contacts without gaps under 0.07 s, then without touches under 0.1 s: what is left is a foot that stands."""
    found = contact.numpy().copy()
    for foot in (0, 1):
        for value, shortest_s in ((False, 0.07), (True, 0.1)):
            for start, stop in runs(torch.from_numpy(found[:, foot] == value)):
                inner = start > 0 and stop < len(found)
                if stop - start < shortest_s * fps and (inner or value):
                    found[start:stop, foot] = not value
    return torch.from_numpy(found)


def keep_contacts(motion: Motion, body: Body, soles: Soles, contact: Bool[Tensor, "frames 2"], fps: float) -> Motion:
    """Move root and legs so that a foot in `contact` stands still on y = 0, and no foot sinks below."""
    for _ in range(ROUNDS):
        track = foot_track(soles.feet(soles.followed(motion, body)))
        shift = torch.stack([_correction(track, contact, foot, fps) for foot in (0, 1)], 1)
        motion = _moved_feet(motion, body, shift, fps)
    return motion


def _correction(
    track: FootTrack, contact: Bool[Tensor, "frames 2"], foot: int, fps: float
) -> Float[Tensor, "frames 3"]:
    """Where a foot has to go: against its slip and onto the ground in contact, smoothly between contacts."""
    touches = contact[:, foot].numpy()
    spans = runs(contact[:, foot])
    frames = len(touches)
    if not spans:
        return torch.zeros(frames, 3)
    slip, height = track.slip_m[:, foot].numpy(), track.height_m[:, foot].numpy()
    wanted = np.full((frames, 3), np.nan)
    for start, stop in spans:
        drift = -np.cumsum(np.concatenate([np.zeros((1, 2)), slip[start : stop - 1]]), 0)
        wanted[start:stop, 0] = drift[:, 0] - drift[:, 0].mean()
        wanted[start:stop, 2] = drift[:, 1] - drift[:, 1].mean()
        wanted[start:stop, 1] = -height[start:stop]
    shift = _bridged(wanted, touches)
    shift[:, 1] = np.maximum(shift[:, 1], -height)  # a swinging foot does not sink either
    return _smooth(torch.from_numpy(shift).float(), _SOFT_S * fps)


def _bridged(wanted: np.ndarray, touches: np.ndarray) -> np.ndarray:
    """Fill the frames between contacts by cubic Hermite pieces with the slopes at both ends (held at the clip's ends,
    slope falling to 0)."""
    from scipy.interpolate import CubicHermiteSpline

    known = np.flatnonzero(touches)
    frames = np.arange(len(touches))
    values = wanted[known]
    slopes = np.zeros_like(values)
    if len(known) > 1:
        neighbors = np.diff(known) == 1
        step = np.where(neighbors[:, None], np.diff(values, axis=0), 0.0)
        slopes[:-1] += step
        slopes[1:] += step
        count = np.zeros(len(known))
        count[:-1] += neighbors
        count[1:] += neighbors
        slopes /= np.maximum(count, 1)[:, None]
        gap = np.maximum(np.diff(known, append=known[-1] + 1), np.diff(known, prepend=known[0] - 1))
        slopes *= np.where(gap > 1, 0.5 / gap, 1.0)[:, None]  # a steep end of a long swing would overshoot
        filled = CubicHermiteSpline(known, values, slopes, axis=0, extrapolate=False)(frames)
    else:
        filled = np.full((len(frames), wanted.shape[1]), np.nan)
    filled[: known[0]] = values[0]
    filled[known[-1] :] = values[-1]
    filled[known] = values
    return filled


def _moved_feet(motion: Motion, body: Body, shift: Float[Tensor, "frames 2 3"], fps: float) -> Motion:
    """Move the ankles by `shift`: what both feet share, smoothed, moves the root, the rest bends the legs."""
    root = _smooth(shift.mean(1), 0.15 * fps)
    root[:, 1] += _smooth(_too_far(motion, body, shift - root[:, None]), 0.1 * fps)
    motion = replace(motion, transl=motion.transl + root)
    rest = shift - root[:, None]
    posed = body.pose(motion.poses, motion.betas, motion.transl)
    turned = posed.A_world_rest[..., :3]
    poses = motion.poses.clone()
    for foot, (hip, knee, ankle) in enumerate(_LEGS):
        joints = posed.joints[:, [hip, knee, ankle]]
        thigh, shin = two_bone(joints, joints[:, 2] + rest[:, foot])
        globals_ = (thigh @ turned[:, hip], shin @ turned[:, knee], turned[:, ankle])
        parent = turned[:, 0]
        for joint, rotation in zip((hip, knee, ankle), globals_, strict=True):
            poses[:, joint] = axis_angle_from_matrix(parent.transpose(-1, -2) @ rotation)
            parent = rotation
    return replace(motion, poses=poses)


def _too_far(motion: Motion, body: Body, shift: Float[Tensor, "frames 2 3"]) -> Float[Tensor, " frames"]:
    """How far (negative meters) the root must sink for both legs to reach their feet."""
    joints = body.pose(motion.poses, motion.betas, motion.transl).joints
    lower = torch.zeros(len(motion))
    for foot, (hip, knee, ankle) in enumerate(_LEGS):
        bones = (joints[:, knee] - joints[:, hip]).norm(dim=-1) + (joints[:, ankle] - joints[:, knee]).norm(dim=-1)
        before = joints[:, ankle] - joints[:, hip]
        longest = torch.maximum(before.norm(dim=-1), _STRETCH * bones)  # a leg that was straight may stay so
        after = before + shift[:, foot]
        drop = (longest.square() - after[:, [0, 2]].square().sum(-1)).clamp_min(0.0).sqrt()
        lower = torch.minimum(lower, drop + after[:, 1])
    return lower


def two_bone(
    joints: Float[Tensor, "frames 3 3"], target: Float[Tensor, "frames 3"]
) -> tuple[Float[Tensor, "frames 3 3"], Float[Tensor, "frames 3 3"]]:
    """World rotations to put before those of thigh and shin, so that hip, knee, ankle (`joints`) end at `target`.

    The knee bends in its plane, which turns the shortest way. What is out of reach is pointed at.
    """
    hip, knee, ankle = joints.double().unbind(1)
    thigh, shin = knee - hip, ankle - knee
    a, b = thigh.norm(dim=-1, keepdim=True), shin.norm(dim=-1, keepdim=True)
    was, now = ankle - hip, target.double() - hip
    longest = torch.maximum(was.norm(dim=-1, keepdim=True), _STRETCH * (a + b))
    far = torch.minimum(torch.maximum(now.norm(dim=-1, keepdim=True), (a - b).abs() + 1e-3), longest)
    u = was / was.norm(dim=-1, keepdim=True)
    side = thigh - (thigh * u).sum(-1, keepdim=True) * u
    w = side / side.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    cosine = ((a.square() + far.square() - b.square()) / (2 * a * far)).clamp(-1.0, 1.0)
    bent = a * (cosine * u + (1 - cosine.square()).clamp_min(0).sqrt() * w)
    swing = shortest_rotation(u, now / now.norm(dim=-1, keepdim=True))
    return (swing @ shortest_rotation(thigh, bent)).float(), (swing @ shortest_rotation(shin, far * u - bent)).float()


def _smooth(values: Tensor, sigma: float) -> Tensor:
    """Gaussian along the frames; the ends are held."""
    from scipy.ndimage import gaussian_filter1d

    return torch.from_numpy(gaussian_filter1d(values.numpy(), sigma, axis=0, mode="nearest"))
