"""A motion on a new body -> the same motion whose hands touch what they touched, and whose arms stay out of the body.

Where a hand comes near the head, the trunk, the thighs or the other arm in the source, the way from the touched place
to the hand is kept (the idea of relationship descriptors: Ho et al. 2010, Al-Asqhar et al. 2013); where an arm enters
the new body deeper than it did the source's, it is pushed out. Both turn the joints of the arms alone, smoothly in
time; all frames are solved at once (L-BFGS, Liu & Nocedal 1989).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.body import Body, BodyPoints, PosedBody
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from reenact.retargeting.surface import HANDS, HEAD, THIGHS, TORSO, Closeness, PlacedSurface, Surface

_ARM = ("collar", "shoulder", "elbow", "wrist")
_ARM_JOINTS = tuple(JOINT_NAMES.index(f"{side}_{name}") for name in _ARM for side in ("left", "right"))
_STIFFNESS = (4.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5)
"""Rotation stiffness per joint."""
TOUCH_M = 0.01
"""A hand this near touches."""
_FREE_M = 0.10
"""A hand this far is free; between, it is held the more, the nearer it is."""
_SPREAD_M = 0.02
"""Points of a hand this much further away than its nearest count 1/e."""
_CONTACT_M, _DEPTH_M = 0.004, 0.003
"""Errors of this size weigh as much as turning one joint by half a radian."""
_AROUND_M = 0.06
"""Arms that are no nearer than this to what they could enter are left alone."""
_REACH_M = 0.04
"""What is this far outside does not get inside by what is done for other points."""
_NEGLIGIBLE_M, _ENOUGH_M = 0.001, 0.006
"""A motion that is this near to right is left alone; one that was not is made this good, if it can be."""
_ASTRAY_M = (0.02, 0.04)
"""What is this deep in an arm, or in anything else, went through it: nothing tells which way is out, and it stays."""
_SKIN_M = 0.005
"""Flesh gives this much; what is deeper inside in the source was wrong there already, and is not kept."""
_MARGIN_M = 0.002
"""Arms are pushed out this much further than to the surface, which is known at points alone."""
_APPROACH_S = 0.5
"""So long before and after a touch a hand is held, too."""
_SMOOTH_S = 0.16
"""Corrections are smoothed by this (standard deviation)."""
_JERK = 10.0
"""Corrections whose third derivative is this (rad/s^3) weigh as much as turning one joint by half a radian."""
_SOLVED_HZ = 15.0
"""Corrections are this smooth at least, so that they need no more frames a second to be solved."""
_MIN_SOLVED = 4
"""Splines with free ends take so many frames."""
_STEPS = 22
_ROUNDS = 2
"""Neighbors are looked for anew so often, at most."""


@dataclass(frozen=True, slots=True)
class Touches:
    """What the hands touched in the source, one entry per frame and point of a hand that is near something."""

    close: Closeness
    way_m: Float[Tensor, "entries 3"]
    """From the nearest place to the point."""
    weight: Float[Tensor, " entries"]
    """Those of a hand and frame add up to how much it is held, at most 1."""
    held: Float[Tensor, "frames 2"]
    """How much each hand is held: 1 where it touches."""

    def every(self, step: int) -> Touches:
        """Those of every `step`-th frame."""
        keep = self.close.frame % step == 0
        close = self.close[keep]
        close = replace(close, frame=close.frame // step)
        return Touches(close, self.way_m[keep], self.weight[keep], self.held[::step])


@dataclass(frozen=True, slots=True)
class Residuals:
    """What is left of gaps and depths, frame by frame."""

    touches: Float[Tensor, "frames 2"]
    """How much each hand (left, right) is held at what it touched in the source; 1 in contact, 0 when free."""
    gap_m: Float[Tensor, "frames 2"]
    """How much further from there each hand is than in the source; 0 when free."""
    depth_m: Float[Tensor, " frames"]
    """How much deeper than in the source, or than skin gives, arms are in the body, at worst."""


def posed(motion: Motion, body: Body) -> PosedBody:
    """The body of every frame, without its face."""
    return body.pose(motion.poses, motion.betas, motion.transl)


def touches_of(source: PlacedSurface, joints: Float[Tensor, "frames 55 3"], fps: float) -> Touches:
    """What the hands touch in the source, and are near to shortly before and after. An arm that hangs straight is
    beside the trunk without meaning it."""
    close = source.closeness(within_m=_FREE_M)
    part = source.surface.part
    close = close[part[close.point] <= max(HANDS)]
    side, touched = part[close.point], part[close.near[:, 0]]
    frames = len(source.places)
    group = close.frame * 2 + side
    straight = (touched == TORSO) | torch.isin(touched, torch.tensor(THIGHS))
    meant = torch.where(straight, _bent(joints)[close.frame, side], torch.ones(()))
    nearness = _step((_FREE_M - close.distance_m) / (_FREE_M - TOUCH_M)) * meant
    touching = torch.zeros(frames * 2).scatter_reduce(0, group, (close.distance_m < TOUCH_M) * meant, "amax")
    nearness = nearness * _around(touching.reshape(frames, 2), fps).reshape(-1)[group]
    least = torch.full((frames * 2,), torch.inf).scatter_reduce(0, group, close.distance_m, "amin")
    share = torch.exp(-(close.distance_m - least[group]) / _SPREAD_M)
    total = torch.zeros(frames * 2).index_add(0, group, share)
    weight = nearness * share / total[group]
    held = torch.zeros(frames * 2).scatter_reduce(0, group, nearness, "amax").reshape(frames, 2)
    way = source.places[close.frame, close.point] - source.places[close.frame, close.near[:, 0]]
    too_deep_m = (_allowed_m(source, close) - source.signed_m(close)).clamp_min(0.0)
    way = way + too_deep_m[:, None] * source.normals[close.frame, close.near[:, 0]]
    keep = weight > 1e-3
    return Touches(close[keep], way[keep], weight[keep], held)


def keep_touches(
    motion: Motion, body: Body, surface: Surface, source: PlacedSurface, touches: Touches, fps: float
) -> Motion:
    """Turn the arms of `motion` (on its new shape, `surface`) so that `touches` stay and nothing is entered deeper than
    in `source`, the same frames on the source's body."""
    step = max(min(int(fps / _SOLVED_HZ), len(motion) // _MIN_SOLVED), 1)
    few, source, touches = motion[::step], source[::step], touches.every(step)
    turns = torch.zeros(len(few), len(_ARM_JOINTS), 3)
    enough_m = _NEGLIGIBLE_M
    for _ in range(_ROUNDS):
        placed = surface.placed(posed(_turned(few, turns), body))
        close = placed.closeness(within_m=_AROUND_M)
        left = _residuals(placed, source, touches, close)
        if max(float((left.touches * left.gap_m).max()), float(left.depth_m.max())) < enough_m:
            break
        turns = _solved(few, body, _problem(placed, close, _allowed_m(source, close), touches), turns, fps / step)
        enough_m = _ENOUGH_M
    return _turned(motion, _in_between(turns, step, len(motion)))


def _allowed_m(source: PlacedSurface, close: Closeness) -> Float[Tensor, " entries"]:
    """How far outside each entry's point has to be, at least: as deep as in the source, within what skin gives where
    the way out is known. In faces and hands it is not: they are not round, and the points are too far apart."""
    signed_m, part = source.signed_m(close), source.surface.part
    entered, arm = part[close.near[:, 0]], close.frame * 2 + part[close.point] % 2
    share = signed_m / torch.where(entered < TORSO, *_ASTRAY_M)
    through = torch.zeros(len(source.places) * 2).scatter_reduce(0, arm, share, "amin") < -1
    as_it_is = through[arm] | torch.isin(entered, torch.tensor((*HANDS, HEAD)))
    return torch.where(as_it_is, signed_m, signed_m.clamp_min(-_SKIN_M)).clamp_max(0.0)


def residuals(placed: PlacedSurface, source: PlacedSurface, touches: Touches) -> Residuals:
    """Measure a motion against its source."""
    return _residuals(placed, source, touches, placed.closeness(within_m=_AROUND_M))


def _residuals(placed: PlacedSurface, source: PlacedSurface, touches: Touches, close: Closeness) -> Residuals:
    frames = len(placed.places)
    deeper = _allowed_m(source, close) - placed.signed_m(close)
    depth_m = torch.zeros(frames).scatter_reduce(0, close.frame, deeper.clamp_min(0.0), "amax")
    entries = touches.close
    way = placed.places[entries.frame, entries.point] - placed.places[entries.frame, entries.near[:, 0]]
    group = entries.frame * 2 + placed.surface.part[entries.point]
    off = torch.zeros(frames * 2).index_add(0, group, touches.weight * (way - touches.way_m).norm(dim=-1))
    total = torch.zeros(frames * 2).index_add(0, group, touches.weight)
    return Residuals(touches.held, (off / total.clamp_min(1e-3)).reshape(frames, 2), depth_m)


def _turned(motion: Motion, turns: Float[Tensor, "frames arms 3"]) -> Motion:
    poses = motion.poses.clone()
    poses[:, list(_ARM_JOINTS)] += turns
    return replace(motion, poses=poses)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Where points of the arms should be, with the neighbors as they are in `placed`."""

    placed: PlacedSurface
    """Only the points that matter, those of the arms first."""
    arms: BodyPoints
    close: Closeness
    allowed_m: Float[Tensor, " entries"]
    """Each entry of `close` has to be this far outside, at least."""
    touches: Touches

    def cost(self, moved: Float[Tensor, "frames arms 3"]) -> Float[Tensor, ""]:
        """Of the arms' points where they are `moved` to."""
        places = torch.cat([moved, self.placed.places[:, len(self.arms) :]], 1)
        kept = self.touches.close
        way = places[kept.frame, kept.point] - places[kept.frame, kept.near[:, 0]]
        gap = self.touches.weight[:, None] * (way - self.touches.way_m).square()
        inside = (self.allowed_m - self.placed.signed_m(self.close, places)).clamp_min(0.0).square()
        return gap.sum() / _CONTACT_M**2 + inside.sum() / (2 * _DEPTH_M) ** 2


def _problem(
    placed: PlacedSurface, close: Closeness, allowed_m: Float[Tensor, " entries"], touches: Touches
) -> _Problem:
    allowed_m = allowed_m + _MARGIN_M
    matters = placed.signed_m(close) < allowed_m + _REACH_M
    close, allowed_m = close[matters], allowed_m[matters]
    entries = (close.point, close.near.flatten(), touches.close.point, touches.close.near[:, 0])
    used = torch.cat(entries).unique()
    arms = placed.surface.points[used[used < placed.surface.n_arm]]
    few = PlacedSurface(placed.surface, placed.places[:, used], placed.normals[:, used])
    touches = replace(touches, close=_renumbered(touches.close, used))
    return _Problem(few, arms, _renumbered(close, used), allowed_m, touches)


def _renumbered(close: Closeness, used: Int[Tensor, " used"]) -> Closeness:
    """With points counted among those that are `used` (sorted)."""
    near = torch.searchsorted(used, close.near).clamp_max(len(used) - 1)
    return replace(close, point=torch.searchsorted(used, close.point), near=near)


def _solved(
    motion: Motion, body: Body, problem: _Problem, start: Float[Tensor, "frames arms 3"], fps: float
) -> Float[Tensor, "frames arms 3"]:
    """Turns of the arms' joints by L-BFGS (Liu & Nocedal 1989) from `start`."""
    stiffness = torch.tensor(_STIFFNESS)[:, None]
    free = torch.zeros(len(motion), len(_ARM_JOINTS), 3, requires_grad=True)
    solver = torch.optim.LBFGS([free], max_iter=_STEPS, max_eval=_STEPS + 4, line_search_fn="strong_wolfe")
    joints = list(_ARM_JOINTS)

    def cost() -> Tensor:
        solver.zero_grad()
        turns = start + _smooth(free, _SMOOTH_S * fps)
        poses = motion.poses.clone()
        poses[:, joints] = poses[:, joints] + turns
        moved = body.pose(poses, motion.betas, motion.transl).points(problem.arms)
        jerk = torch.diff(turns, n=3, dim=0) * fps**3 / _JERK
        loss = problem.cost(moved) + 4 * (stiffness * turns.square()).sum() + jerk.square().sum()
        loss.backward()
        return loss.detach()

    with torch.enable_grad():
        solver.step(cost)
    return (start + _smooth(free, _SMOOTH_S * fps)).detach()


def _in_between(turns: Float[Tensor, "few arms 3"], step: int, frames: int) -> Float[Tensor, "frames arms 3"]:
    """Turns of every `step`-th frame, by cubic splines at all frames; their ends are free, for a slope that is imposed
    there jerks."""
    if step == 1:
        return turns
    from scipy.interpolate import CubicSpline

    spline = CubicSpline(np.arange(0, frames, step), turns.numpy(), axis=0)
    return torch.from_numpy(spline(np.arange(frames))).float()


def _bent(joints: Float[Tensor, "frames 55 3"]) -> Float[Tensor, "frames 2"]:
    """0 for an arm that is straight, 1 from 45 degrees at the elbow on."""
    bent = []
    for side in ("left", "right"):
        shoulder, elbow, wrist = (joints[:, JOINT_NAMES.index(f"{side}_{n}")] for n in ("shoulder", "elbow", "wrist"))
        cosine = torch.nn.functional.cosine_similarity(elbow - shoulder, wrist - elbow, dim=-1)
        bent.append(_step((torch.rad2deg(torch.acos(cosine.clamp(-1.0, 1.0))) - 25.0) / 20.0))
    return torch.stack(bent, -1)


def _around(touching: Float[Tensor, "frames 2"], fps: float) -> Float[Tensor, "frames 2"]:
    """1 in contact and just beside it, falling to 0 within `_APPROACH_S`."""
    from scipy.ndimage import gaussian_filter1d, maximum_filter1d

    wide = maximum_filter1d(touching.numpy(), 2 * int(0.6 * _APPROACH_S * fps) + 1, axis=0)
    return torch.from_numpy(gaussian_filter1d(wide, 0.2 * _APPROACH_S * fps, axis=0, mode="nearest"))


def _step(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, smooth between."""
    x = x.clamp(0.0, 1.0)
    return x * x * (3 - 2 * x)


def _smooth(values: Float[Tensor, "frames arms 3"], sigma: float) -> Float[Tensor, "frames arms 3"]:
    """Gaussian along the frames; the ends are held."""
    radius = max(int(3 * sigma + 0.5), 1)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / max(sigma, 1e-3)).square())
    flat = values.reshape(len(values), -1).T[:, None]
    padded = torch.nn.functional.pad(flat, (radius, radius), mode="replicate")
    return torch.nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T.reshape(values.shape)
