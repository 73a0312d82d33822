"""Other people for a clip: who they are with, where they stand beside the first, and for how long they go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.avatar import Avatar
from avatars.body.motion import Motion
from compose.places.free_floor import FreeFloor
from compose.rendering.placement import NoPlacement, Placement
from reenact.rendering.labels import ClipLabels, MaskTrack
from reenact.retargeting.retarget import Retargeted

APART_M = 0.15
"""Between the floor areas over which two people move."""
_TRIES = 20

Touched = Float[Tensor, "points 3"]
Finder = Callable[[Retargeted, Touched, int, FreeFloor | None], Placement]
"""Finds a spot for a motion that touches points, by a seed, on the floor that is left. Raises NoPlacement."""


@dataclass(frozen=True, slots=True)
class Performer:
    """Somebody, and what they do."""

    avatar: Avatar
    retargeted: Retargeted


@dataclass(frozen=True, slots=True)
class Companion:
    """Somebody who is in the clip beside the first person."""

    avatar: Avatar
    motion: Motion
    """In the world of the first person's motion."""
    placement: Placement
    labels: ClipLabels
    masks: MaskTrack


def there_and_back(retargeted: Retargeted, frames: int) -> Retargeted:
    """A motion that lasts `frames`: cut, or played there and back for as long as it takes."""
    length = len(retargeted.motion)
    order = np.arange(frames) % max(2 * length - 2, 1)
    order = torch.from_numpy(np.where(order < length, order, 2 * length - 2 - order))
    times_s = retargeted.motion.times_s
    step_s = float(times_s[-1] - times_s[0]) / max(length - 1, 1)
    motion = replace(retargeted.motion[order], times_s=torch.arange(frames, dtype=torch.float64) * step_s)
    return replace(
        retargeted, motion=motion, sole_m=retargeted.sole_m[order], contact=retargeted.contact[order],
        slip_m=retargeted.slip_m[order],
    )  # fmt: skip


def place_beside(
    wanted: Sequence[tuple[Retargeted, Touched]], taken: Touched, find: Finder, floor: FreeFloor | None, seed: int
) -> list[Placement]:
    """Spots where people move clear of each other and of what is `taken` (world).

    Raises NoPlacement where there is no room.
    """
    placements = []
    for number, (retargeted, touched) in enumerate(wanted, 1):
        left = None if floor is None else floor.without(taken)
        placement, world = _clear(retargeted, touched, taken, find, left, seed + 1009 * number)
        placements.append(placement)
        taken = torch.cat([taken, world])
    return placements


def _clear(
    retargeted: Retargeted, touched: Touched, taken: Touched, find: Finder, floor: FreeFloor | None, seed: int
) -> tuple[Placement, Touched]:
    for attempt in range(_TRIES):
        placement = find(retargeted, touched, seed + attempt, floor)
        world = placement.moved(touched)
        if _distance_m(world, taken) > APART_M:
            return placement, world
    raise NoPlacement(
        f"No room beside the first person ({_TRIES} spots tried, all in their way). Ask for fewer `others`, a smaller "
        "person_height, or a place with more floor in view."
    )


def _distance_m(one: Touched, other: Touched) -> float:
    """Between the areas of the ground that two sets of points are over, to about 5 cm."""
    cells = [torch.unique((points[:, [0, 2]] / 0.05).round(), dim=0) * 0.05 for points in (one, other)]
    return float(torch.cdist(*cells).min())
