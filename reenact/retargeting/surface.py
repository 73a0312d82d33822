"""A body's surface as points: where they are in every frame, which way they face, how near the arms come to the rest.

The arms' points come first; all others are what arms may touch, beside each other. The points are the same vertices for
every shape, so that a touch on one body names the same places on another. Looking for what is near goes through a
coarse tenth of the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatars.body import Body, BodyPoints, PosedBody
from avatars.body.layout import JOINT_NAMES
from avatars.body.skinning import skin_points

PARTS = ("left_hand", "right_hand", "left_forearm", "right_forearm", "left_upper_arm", "right_upper_arm",
         "torso", "head", "left_thigh", "right_thigh", "left_shin", "right_shin")  # fmt: skip
_POINTS = (150, 150, 60, 60, 40, 40, 900, 350, 350, 350, 80, 80)
_COARSE = (50, 50, 30, 30, 20, 20, 150, 60, 50, 50, 20, 20)
HANDS = (0, 1)
UPPER_ARM, TORSO, HEAD, THIGHS = 4, 6, 7, (8, 9)
_SHOULDER_M = 0.14
"""Skin this near to a shoulder touches the trunk on everybody whose arms hang."""
NEAR_M = 0.10
"""Points further apart than this are not looked at."""
_NEIGHBORS, _AROUND = 6, 32
_COARSE_M = 0.05
"""Coarse points are at most this far from the points that they stand for."""
_SPACING_M = 0.015


@dataclass(frozen=True, slots=True)
class Surface:
    """Points of a body at one shape."""

    points: BodyPoints
    normals: Float[Tensor, "points 3"]
    """Outward, in the T-pose."""
    part: Int[Tensor, " points"]
    """Place in `PARTS`."""
    n_arm: int
    """The first so many points are the arms'."""
    asking: Int[Tensor, " asking"]
    """The arms' points that are held apart from others."""
    coarse: Int[Tensor, " coarse"]
    around: Int[Tensor, "coarse around"]
    """The points that each coarse one stands for."""
    may_touch: Bool[Tensor, "asking coarse"]
    """Not what is of the same arm."""

    @staticmethod
    def of(body: Body, betas: Float[Tensor, " shape"]) -> Surface:
        """The points of `body` at the shape `betas`."""
        chosen, part, coarse, around = _chosen(body)
        arm = part < TORSO
        asking = coarse[arm[coarse]]
        side = part % 2
        asks, asked = asking[:, None], coarse[None]
        may_touch = ~arm[asked] | (side[asks] != side[asked])
        may_touch &= ~((part[asks] >= UPPER_ARM) & (part[asked] > HEAD))  # upper arms do not reach legs
        rest, _ = body.shaped(betas)
        normals = _normals(rest, body.faces)[chosen]
        return Surface(body.subset(chosen), normals, part, int(arm.sum()), asking, coarse, around, may_touch)

    def placed(self, posed: PosedBody) -> PlacedSurface:
        """Where the points are in every frame."""
        turns = posed.A_world_rest.clone()
        turns[..., 3] = 0.0
        normals = skin_points(self.points.weights, turns, self.normals).contiguous()
        return PlacedSurface(self, posed.points(self.points), torch.nn.functional.normalize(normals, dim=-1))


@dataclass(frozen=True, slots=True)
class Closeness:
    """Points of arms that are near to something, one entry per frame and point."""

    frame: Int[Tensor, " entries"]
    point: Int[Tensor, " entries"]
    near: Int[Tensor, "entries neighbors"]
    """The nearest points that it may touch, the nearest first."""
    distance_m: Float[Tensor, " entries"]
    """To the nearest of them."""

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, chosen: Tensor) -> Closeness:
        """Some of the entries."""
        return Closeness(self.frame[chosen], self.point[chosen], self.near[chosen], self.distance_m[chosen])


@dataclass(frozen=True, slots=True)
class PlacedSurface:
    """The points of a surface over time, meters, world."""

    surface: Surface
    places: Float[Tensor, "frames points 3"]
    normals: Float[Tensor, "frames points 3"]

    def __getitem__(self, index: slice) -> PlacedSurface:
        """Chosen frames."""
        return PlacedSurface(self.surface, self.places[index], self.normals[index])

    def closeness(self, *, within_m: float = NEAR_M) -> Closeness:
        """Every point of an arm that comes within `within_m` of something that it may touch."""
        surface, found = self.surface, []
        for start in range(0, len(self.places), 16):
            places = self.places[start : start + 16]
            distance = torch.cdist(places[:, surface.asking], places[:, surface.coarse])
            distance.masked_fill_(~surface.may_touch, torch.inf)
            least, nearest = distance.min(-1)
            frame, asking = torch.nonzero(least < within_m + _COARSE_M, as_tuple=True)
            point, near = surface.asking[asking], surface.around[nearest[frame, asking]]
            gap = (places[frame, point][:, None] - places[frame[:, None], near]).norm(dim=-1)
            values, order = gap.topk(_NEIGHBORS, largest=False)
            keep = values[:, 0] < within_m
            found.append(Closeness(frame + start, point, near.gather(1, order), values[:, 0])[keep])
        return Closeness(*(torch.cat([getattr(c, n) for c in found]) for n in Closeness.__slots__))

    def signed_m(
        self, close: Closeness, places: Float[Tensor, "frames points 3"] | None = None
    ) -> Float[Tensor, " entries"]:
        """How far each entry's point is outside of the surface that its neighbors span, negative inside: their tangent
        planes, the nearer the more (implicit moving least squares, Shen et al. 2004). `places` may be others than
        those that the normals were taken at."""
        places = self.places if places is None else places
        frames = places.shape[0]
        flat = places.reshape(-1, 3)
        n_points = flat.shape[0] // frames
        base = close.frame * n_points
        apart = flat[base + close.point][:, None] - flat[base[:, None] + close.near]
        normals = self.normals.reshape(-1, 3)[base[:, None] + close.near]
        weight = torch.softmax(-apart.detach().square().sum(-1) / _SPACING_M**2, -1)
        return (weight * (apart * normals).sum(-1)).sum(-1)


@lru_cache(maxsize=4)
def _chosen(body: Body) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vertices spread over each part, the part of each, the coarse ones among them and what those stand for; by the
    template, so that all shapes have the same."""
    names = [_part_of(name) for name in JOINT_NAMES]
    part = torch.tensor(names)[body.lbs_weights.argmax(-1)].numpy()
    rest, joints = body.v_template.numpy(), body.shaped(torch.zeros(body.n_betas))[1].numpy()
    for side in ("left", "right"):
        gap = np.linalg.norm(rest - joints[JOINT_NAMES.index(f"{side}_shoulder")], axis=-1)
        part[(gap < _SHOULDER_M) & np.isin(part, (4, 5, TORSO))] = -1
    head = np.flatnonzero(part == HEAD)
    part[np.setdiff1d(head, head[_outermost(rest[head])])] = -1
    spread = [_spread(rest, np.flatnonzero(part == p), count) for p, count in enumerate(_POINTS)]
    counts = [len(vertices) for vertices in spread]
    first = np.cumsum([0, *counts[:-1]])
    chosen, parts = np.concatenate(spread), np.repeat(np.arange(len(PARTS)), counts)
    coarse = np.concatenate([np.arange(a, a + min(n, c)) for a, n, c in zip(first, counts, _COARSE, strict=True)])
    group = np.where(parts < TORSO, parts % 2, 2)
    gap = np.linalg.norm(rest[chosen[coarse]][:, None] - rest[chosen][None], axis=-1)
    gap[group[coarse][:, None] != group[None]] = np.inf
    around = np.argpartition(gap, _AROUND, axis=1)[:, :_AROUND]
    return tuple(map(torch.from_numpy, (chosen, parts, coarse, around)))  # type: ignore[return-value]


def _part_of(joint: str) -> int:
    side, _, name = joint.partition("_")
    if joint in ("head", "jaw") or "eye" in joint:
        return HEAD
    if side not in ("left", "right") or name == "collar":
        return TORSO
    kinds = {"shoulder": "upper_arm", "elbow": "forearm", "hip": "thigh", "knee": "shin", "ankle": "shin",
             "foot": "shin"}  # fmt: skip
    return PARTS.index(f"{side}_{kinds.get(name, 'hand')}")


def _outermost(points: np.ndarray) -> np.ndarray:
    """The points of a head that lie farthest out in their direction: skin, not the mouth's inside."""
    out = points - points.mean(0)
    length = np.linalg.norm(out, axis=-1)
    index = np.arange(600) + 0.5  # directions on a Fibonacci spiral
    height, turn = 1 - 2 * index / 600, np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    rays = np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], -1)
    reach = np.where((out / length[:, None]) @ rays.T > 0.995, length[:, None], -np.inf)
    return np.unique(reach.argmax(0)[np.isfinite(reach.max(0))])


def _spread(points: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """`count` of the vertices `among`, each as far from those before as can be (farthest point sampling): the first few
    are spread over the part, too."""
    chosen = [int(among[0])]
    gap = np.linalg.norm(points[among] - points[chosen[0]], axis=-1)
    for _ in range(min(count, len(among)) - 1):
        chosen.append(int(among[gap.argmax()]))
        gap = np.minimum(gap, np.linalg.norm(points[among] - points[chosen[-1]], axis=-1))
    return np.array(chosen)


def _normals(rest: Float[Tensor, "vertices 3"], faces: Int[Tensor, "faces 3"]) -> Float[Tensor, "vertices 3"]:
    """Area-weighted vertex normals, outward.

    As `avatars.avatar.binding.vertex_normals`, which sums in another order: the last bits move arms, whose optimization
    magnifies them, by up to 0.003 radians.
    """
    a, b, c = rest[faces].unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(rest).index_add(0, faces.reshape(-1), across.repeat_interleave(3, 0))
    return torch.nn.functional.normalize(total, dim=-1)
