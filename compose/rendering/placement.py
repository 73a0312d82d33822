"""A motion's swept volume + a place's camera -> a spot and heading where the whole motion is seen at a useful size."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from compose.places.free_floor import CELL_M, FreeFloor
from compose.places.ground import roll_of
from compose.places.place_view import fitted_camera

_NEAREST_M = 0.4


@dataclass(frozen=True, slots=True)
class PlacementRules:
    """What the user asks of a spot; what is None is sampled."""

    person_height: tuple[float, float] = (0.5, 0.9)
    """Standing height as a fraction of the frame's height, from and to."""
    at: tuple[float, float] | None = None
    """Where the motion starts: meters to the right of the camera and ahead of it."""
    distance_m: float | None = None
    """How far ahead of the camera the middle of the motion is; the spot across is sampled."""
    heading_deg: tuple[float, float] = (0.0, 0.0)
    """Turn to the person's left, from and to; 0 keeps the heading towards the camera that the source clip has."""
    crop: tuple[float, float] | None = None
    """Window of the photograph, (across, down) in [0, 1], where its shape differs from the clip's."""
    floor_m: tuple[float, float] = (0.0, math.inf)
    """How far ahead of the camera the free floor begins and ends; the motion stays between."""
    margin: float = 0.02
    """Border of the frame to stay clear of, as a fraction of its height."""
    hidden: tuple[float, float] = (0.0, 0.5)
    """Share of the body that things in the place must, and may, hide."""
    tries: int = 200


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a motion is put in a place."""

    x_m: float
    z_m: float
    """Where the motion's origin is put on the ground of the place's world, in which the camera stands over the origin
    and looks along -Z."""
    yaw_deg: float
    """Turn about +Y (counterclockwise seen from above) from the motion's world to the place's."""
    crop: tuple[float, float]
    person_height: float
    """Standing height in the middle of the motion as a fraction of the frame's height."""
    rejected: dict[str, int]
    """How many sampled spots were rejected, by reason."""
    relaxed: bool = False
    """True when no spot of the asked-for size was found and a smaller one (at least 0.6 of it) was taken."""

    @property
    def T_world_motion(self) -> Float[Tensor, "4 4"]:
        """Takes points of the motion's world to the place's world."""
        c, s = math.cos(math.radians(self.yaw_deg)), math.sin(math.radians(self.yaw_deg))
        return torch.tensor([[c, 0, s, self.x_m], [0, 1, 0, 0], [-s, 0, c, self.z_m], [0, 0, 0, 1]])

    def moved(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Points of the motion's world in the place's."""
        T = self.T_world_motion
        return points @ T[:3, :3].T + T[:3, 3]


class NoPlacement(InputError):
    """No spot was found where the motion fits; the message counts the rejections by reason."""


def place(
    swept: Float[Tensor, "points 3"],
    body_height_m: float,
    camera: Camera,
    size_hw: tuple[int, int],
    rules: PlacementRules,
    seed: int,
    *,
    floor: FreeFloor | None = None,
    touched: Float[Tensor, "touched 3"] | None = None,
) -> Placement:
    """Find a spot. `swept` are points that the body touches over the whole motion (motion's world, starting at the
    origin), or the corners of their convex hull; `camera` is the whole photograph's. Where the place's `floor` is
    known, all that the body touches, densely (`touched`, default `swept`), stays on it and out of what stands there.

    Raises NoPlacement when no sampled spot will do; the message counts the reasons.
    """
    rng = np.random.default_rng(seed)
    rejected: Counter[str] = Counter()
    low, high = rules.person_height
    fixed = rules.at is not None or rules.distance_m is not None
    tries = rules.tries if floor is None else 5 * rules.tries  # furniture leaves less room
    behind = None if floor is None or rules.hidden[0] <= 0.0 else floor.hidden_at(0.3 * body_height_m)
    for attempt in range(tries):
        relaxed = attempt >= tries // 2
        sizes = (0.6 * low, low) if relaxed else (low, high)
        spots = behind if behind is not None and behind.free.any() and attempt % 2 else floor
        candidate = _candidate(swept, body_height_m, camera, size_hw, rules, sizes, rng, None if fixed else spots)
        if isinstance(candidate, Placement) and floor is not None:
            candidate = _blocked(candidate, swept if touched is None else touched, floor, rules) or candidate
        if isinstance(candidate, str):
            rejected[candidate] += 1
            continue
        return replace(candidate, rejected=dict(rejected), relaxed=relaxed and not fixed)
    reasons = ", ".join(f"{reason} {count}x" for reason, count in rejected.most_common())
    raise NoPlacement(
        f"No spot keeps the whole motion in the frame ({tries} tried: {reasons}). "
        "Allow other person_height, a wider size, or a place with more floor in view."
    )


def _blocked(placement: Placement, touched: Tensor, floor: FreeFloor, rules: PlacementRules) -> str | None:
    """Why the place has no room for a placement that is in the frame, or None when it has."""
    world = placement.moved(touched)
    reason = floor.blocked(world)
    if reason is not None:
        return reason
    least, most = rules.hidden
    share = floor.hidden_share(world)
    return "too much hidden" if share > most else "too little hidden" if share < least else None


def _free_spot(floor: FreeFloor, ahead_m: float, rng: np.random.Generator) -> float | None:
    """Sideways position (m) of a free cell at about `ahead_m`, drawn evenly; None where there is none."""
    row = int(ahead_m / CELL_M)
    if row >= len(floor.free):
        return None
    columns = np.flatnonzero(floor.free[row])
    return None if len(columns) == 0 else floor.left_m + (float(rng.choice(columns)) + float(rng.uniform())) * CELL_M


def _candidate(
    swept: Tensor,
    body_height_m: float,
    camera: Camera,
    size_hw: tuple[int, int],
    rules: PlacementRules,
    sizes: tuple[float, float],
    rng: np.random.Generator,
    floor: FreeFloor | None = None,
) -> Placement | str:
    """A sampled placement, or the reason why it was rejected."""
    size = rng.uniform(*sizes)
    across, down, share = (float(v) for v in rng.uniform(size=3))
    crop = rules.crop or (across, down)
    turn_deg = float(rng.uniform(*rules.heading_deg))
    view = fitted_camera(camera, size_hw, crop)
    middle = (swept.amin(0) + swept.amax(0)) / 2
    if rules.at is not None:
        right_m, ahead_m = rules.at
        start = torch.zeros(3)
    else:
        ahead_m = rules.distance_m or _ahead_m(view, body_height_m, size)
        start = middle
        right_m = None if floor is None or ahead_m is None else _free_spot(floor, ahead_m, rng)
        if floor is not None and right_m is None:  # of that size there is none; of another that was asked for?
            ahead_m = _free_distance(floor, view, body_height_m, sizes, rng)
            right_m = None if ahead_m is None else _free_spot(floor, ahead_m, rng)
            if right_m is None:
                return "off the free floor"
        if ahead_m is None:
            return "too near"
        right_m = (
            right_m
            if right_m is not None
            else _spot_across(swept, _put(start, 0.0, ahead_m, turn_deg, crop), view, rules.margin, share)
        )
        if right_m is None:
            return "too wide"
    placement = _put(start, right_m, ahead_m, turn_deg, crop)
    if floor is not None and rules.crop is None:
        placement = replace(
            placement, crop=_crop_about(camera, size_hw, placement.moved(swept), rules.margin, placement.crop)
        )
        view = fitted_camera(camera, size_hw, placement.crop)
    reason = _why_outside(swept, view, placement, rules)
    return reason or replace(placement, person_height=_height_fraction(view, placement.moved(middle), body_height_m))


def _ahead_m(view: Camera, body_height_m: float, size: float) -> float | None:
    """How far ahead a standing body of that height fills the fraction `size` of the frame's height; None where it does
    nowhere, since the camera is high and looks down.

    With pitch p, eye height h, G = h - body height and a = ahead: size = f a H / ((a cos p + h sin p)(a cos p + G sin
    p)), H being the body's height; the farther solution of the quadratic.
    """
    eye_m, s, c = _stance(view)
    wanted_m = float(view.K[1, 1]) * body_height_m / (size * view.size_hw[0])
    half = (wanted_m - c * s * (2.0 * eye_m - body_height_m)) / 2.0
    inside = half * half - (c * s) ** 2 * eye_m * (eye_m - body_height_m)
    return None if inside < 0.0 or half <= 0.0 else (half + math.sqrt(inside)) / (c * c)


def _sizes_at(view: Camera, body_height_m: float, ahead_m: np.ndarray) -> np.ndarray:
    """The fraction of the frame's height that somebody fills who stands so far ahead: `_ahead_m` inverted."""
    eye_m, s, c = _stance(view)
    apart = (ahead_m * c + eye_m * s) * (ahead_m * c + (eye_m - body_height_m) * s)
    return float(view.K[1, 1]) * ahead_m * body_height_m / (np.maximum(apart, 1e-6) * view.size_hw[0])


def _stance(view: Camera) -> tuple[float, float, float]:
    """Height of the eye (m), sine and cosine of the downward pitch."""
    T = view.T_cam_world
    s = -float(T[2, 1])
    return -float(T[:3, 1] @ T[:3, 3]), s, math.sqrt(max(1.0 - s * s, 1e-9))


def _free_distance(
    floor: FreeFloor, view: Camera, body_height_m: float, sizes: tuple[float, float], rng: np.random.Generator
) -> float | None:
    """How far ahead there is free floor where a person has one of the sizes, drawn evenly; None where there is none."""
    ahead_m = (np.arange(len(floor.free)) + 0.5) * CELL_M
    size = _sizes_at(view, body_height_m, ahead_m)
    rows = np.flatnonzero(floor.free.any(1) & (size >= sizes[0]) & (size <= sizes[1]))
    return None if len(rows) == 0 else float(ahead_m[rng.choice(rows)])


def _crop_about(
    camera: Camera, size_hw: tuple[int, int], points: Float[Tensor, "points 3"], margin: float,
    share: tuple[float, float],
) -> tuple[float, float]:  # fmt: skip
    """A window of the photograph that holds `points` (world), as far as there is one; `share` in [0, 1] picks among
    them, across and down."""
    first, last = fitted_camera(camera, size_hw, (0.0, 0.0)), fitted_camera(camera, size_hw, (1.0, 1.0))
    pixels = first.project(points)
    border = margin * size_hw[0]
    found = []
    for axis in (0, 1):
        free = float(first.K[axis, 2] - last.K[axis, 2])
        if free < 0.5:
            found.append(share[axis])
            continue
        side = size_hw[1 - axis]
        low = (float(pixels[:, axis].max()) + border - side) / free
        high = (float(pixels[:, axis].min()) - border) / free
        low, high = max(low, 0.0), min(high, 1.0)
        found.append(low + share[axis] * (high - low) if low <= high else min(max((low + high) / 2, 0.0), 1.0))
    return found[0], found[1]


def _put(start: Tensor, right_m: float, ahead_m: float, turn_deg: float, crop: tuple[float, float]) -> Placement:
    """Put the motion's point `start` onto a spot, turned so that what faced the source's camera faces this one."""
    yaw_deg = math.degrees(math.atan2(-right_m, ahead_m)) + turn_deg
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    x, z = float(start[0]), float(start[2])
    return Placement(right_m - (c * x + s * z), -ahead_m - (c * z - s * x), yaw_deg, crop, 0.0, {})


def _spot_across(swept: Tensor, middle: Placement, view: Camera, margin: float, share: float) -> float | None:
    """Sideways position (m) at which the swept volume lies within the frame; `share` in [0, 1] picks among them.

    `middle` is the placement straight ahead of the camera.
    """
    points = view.to_camera(middle.moved(swept))
    if float(points[:, 2].min()) < _NEAREST_M:
        return 0.0  # refused afterwards, with its reason
    columns = points[:, 0] / points[:, 2] * view.K[0, 0] + view.K[0, 2]
    border = margin * view.size_hw[0]
    first, last = border - float(columns.min()), view.size_hw[1] - border - float(columns.max())
    if first > last:
        return None
    depth_m = float(points[:, 2].mean())
    return (first + share * (last - first)) * depth_m / (float(view.K[0, 0]) * math.cos(roll_of(view)))


def _why_outside(swept: Tensor, view: Camera, placement: Placement, rules: PlacementRules) -> str | None:
    """Why the swept volume is not wholly inside the frame and over the floor, or None when it is."""
    world = placement.moved(swept)
    if float(view.to_camera(world)[:, 2].min()) < _NEAREST_M:
        return "too near"
    pixels = view.project(world)
    height, width = view.size_hw
    border = rules.margin * height
    low, high = pixels.amin(0), pixels.amax(0)
    if float(-world[:, 2].max()) < rules.floor_m[0] or float(-world[:, 2].min()) > rules.floor_m[1]:
        return "off the free floor"
    if float(high[1]) > height - border:
        return "feet below the frame"
    if float(low[1]) < border:
        return "head above the frame"
    if float(low[0]) < border or float(high[0]) > width - border:
        return "leaves the frame sideways"
    return None


def _height_fraction(view: Camera, spot: Float[Tensor, " 3"], body_height_m: float) -> float:
    """Height in the frame of somebody who stands at `spot`, along what stands upright in its middle, as a fraction."""
    ends = spot * torch.tensor([[1.0, 0.0, 1.0]]) + torch.tensor([[0.0, 0.0, 0.0], [0.0, body_height_m, 0.0]])
    feet, head = view.project(ends)
    right, down = (head - feet).tolist()
    roll = roll_of(view)
    return (math.sin(roll) * right - math.cos(roll) * down) / view.size_hw[0]
