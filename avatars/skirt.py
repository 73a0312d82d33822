"""A clip whose masks close the gap between the legs in; the inner sides of the legs, hung as cloth between them, out.

Gaussians on the skin can paint trousers, but not what spans from leg to leg: a skirt painted on two thighs comes apart
as they do. Its Gaussians are those of the legs' inner sides, which it hides. They are laid on the two planes that touch
both legs, before and behind, and follow the more of the other leg, the nearer they hang to the middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatars.binding import TORSO_AND_LIMBS, Binding
from avatars.body import JOINT_NAMES, Body, PosedBody
from avatars.crops import Crops

STEP_M = 0.015
"""Legs are measured at heights so far apart."""
MIDDLE_M = 0.03
"""The trunk ends where it is lowest so near to the middle."""
SQUARE = 0.2
"""Cosine between the line of sight and that from leg to leg up to which a frame looks between the legs."""
UPRIGHT = 0.85
"""Cosine between each thigh and the vertical from which on no trunk is seen behind the gap, as in who sits or bends."""
LEAST_FRAMES = 3
"""So many must do so to tell."""
CLOSED = 0.9
"""Share of them that must see cloth there."""
WIDE_M = 0.08
"""How wide apart the bare legs must be somewhere above the hem: wide trousers, 3.2 cm off the skin, close less."""

TOP_M = 0.08
"""From so far under the crotch up, the middle goes more and more with the trunk, and reaches over it."""
OVERLAP_M = 0.03
"""By so much."""

LEFT, RIGHT = ([JOINT_NAMES.index(f"{side}_{part}") for part in ("hip", "knee", "ankle")] for side in ("left", "right"))


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """A leg of a body at rest, at heights from the ankle to the crotch."""

    toward: float
    """The direction along x in which the other leg is, -1 or 1."""
    heights: Float[np.ndarray, " heights"]
    """Meters, ascending."""
    innermost: Int[Tensor, " heights"]
    """The vertex nearest to the other leg."""
    center: Float[np.ndarray, "heights 2"]
    """x and z of the line from hip to knee to ankle, meters."""
    reach: Float[np.ndarray, "heights 3"]
    """How far the skin goes from there toward the other leg, forward and backward, meters."""

    @staticmethod
    def both(body: Body, betas: Float[Tensor, " shape"]) -> tuple[Leg, Leg]:
        """The left and the right one, at the same heights."""
        vertices, joints = body.shaped(betas)
        low, high = float(joints[LEFT + RIGHT, 1].min()), float(vertices[crotch(body, vertices), 1])
        heights = np.linspace(low, high, round((high - low) / STEP_M) + 1)
        legs = [Leg._measured(body, vertices, joints[chain], chain, heights) for chain in (LEFT, RIGHT)]
        return legs[0], legs[1]

    @staticmethod
    def _measured(body: Body, vertices: Tensor, joints: Tensor, chain: list[int], heights: np.ndarray) -> Leg:
        toward = -math.copysign(1.0, float(joints[0, 0]))
        own = torch.nonzero(body.lbs_weights[:, chain].sum(1) > 0.5).squeeze(-1)
        points, line = vertices[own].numpy(), joints.flip(0).numpy()
        center = np.stack([np.interp(heights, line[:, 1], line[:, axis]) for axis in (0, 2)], -1)
        innermost, reach = [], []
        for height, (x, z) in zip(heights, center, strict=True):
            near = np.abs(points[:, 1] - height)
            around = np.flatnonzero(near <= max(STEP_M, near.min()))
            section = points[around]
            innermost.append(int(own[around[(toward * section[:, 0]).argmax()]]))
            off = toward * (section[:, 0] - x), section[:, 2] - z, z - section[:, 2]
            reach.append([max(float(o.max()), 1e-3) for o in off])
        return Leg(toward, heights, torch.tensor(innermost), center, np.array(reach))

    def at(self, y: np.ndarray) -> tuple[np.ndarray, ...]:
        """`center`'s and `reach`'s columns at any heights."""
        columns = [*self.center.T, *self.reach.T]
        return tuple(np.interp(y, self.heights, column) for column in columns)


def crotch(body: Body, vertices: Float[Tensor, "vertices 3"]) -> int:
    """The lowest vertex of the trunk of a body at rest."""
    trunk = (vertices[:, 0].abs() < MIDDLE_M) & (body.lbs_weights[:, LEFT + RIGHT].sum(1) < 0.5)
    return int(torch.where(trunk, vertices[:, 1], torch.inf).argmin())


def legs_exchanged(weights: Float[Tensor, "*points joints"]) -> Float[Tensor, "*points joints"]:
    """Joint weights of a place on the left as they are on the right."""
    exchanged = weights.clone()
    exchanged[..., LEFT + RIGHT] = weights[..., RIGHT + LEFT]
    return exchanged


def find_hem(body: Body, betas: Float[Tensor, " shape"], seen: Iterable[tuple[PosedBody, Crops]]) -> float | None:
    """How far down the legs, from 0 at the crotch to 1 at the ankles, single frames show cloth from leg to leg.

    A frame tells where it looks between the bare legs of who stands, from the front or from behind. None where nothing
    hangs there.
    """
    left, right = Leg.both(body, betas)
    sums = torch.zeros(3, len(left.heights))
    for posed, crop in seen:
        sums += _between(left, right, posed, crop)
    looked, closed, width_m = sums
    told = torch.nonzero(looked >= LEAST_FRAMES).squeeze(-1).flip(0)  # from the crotch down
    above = told[(closed[told] >= CLOSED * looked[told]).cumprod(0).bool()]
    if len(above) == 0 or float((width_m[above] / looked[above]).max()) < WIDE_M:
        return None
    return 1.0 - float(above[-1]) / (len(left.heights) - 1)


def _between(left: Leg, right: Leg, posed: PosedBody, crop: Crops) -> Float[Tensor, "3 heights"]:
    """At which heights a frame looks between the legs, whether it sees cloth there (else 0), and how far apart the bare
    legs are (meters, else 0)."""
    thighs = posed.joints[0, [LEFT[0], RIGHT[0]]] - posed.joints[0, [LEFT[1], RIGHT[1]]]
    if bool((thighs[:, 1] < UPRIGHT * thighs.norm(dim=-1)).any()):
        return torch.zeros(3, len(left.heights))
    inner = [posed.vertices(leg.innermost)[0] for leg in (left, right)]
    across, middle = inner[0] - inner[1], (inner[0] + inner[1]) / 2
    T_cam_world = crop.camera.T_cam_world.reshape(4, 4)
    level = (T_cam_world[:3, :3].t() @ -T_cam_world[:3, 3] - middle) * torch.tensor([1.0, 0.0, 1.0])
    level = torch.nn.functional.normalize(level, dim=-1)  # towards the camera
    square = torch.nn.functional.cosine_similarity(across, level, dim=-1).abs() < SQUARE
    depth_m = torch.from_numpy(0.5 * (left.reach[:, 1:2] + right.reach[:, 1:2])).float()
    column, row = crop.camera.project(middle + depth_m * level).reshape(-1, 2).floor().long().unbind(-1)
    height, width = crop.mask.shape[1:]
    at = row.clamp(0, height - 1), column.clamp(0, width - 1)
    tells = square & (at[0] == row) & (at[1] == column) & (crop.shown[0][at] > 0.5)
    return tells * torch.stack([torch.ones(len(tells)), (crop.mask[0][at] > 0.5).float(), across.norm(dim=-1)])


@dataclass(frozen=True, slots=True, eq=False)
class Skirt:
    """Points that hang between the legs in place of lying on their inner sides, in the axes of the T-pose."""

    index: Int[Tensor, " m"]
    shift: Float[Tensor, "m 3"]
    """From the skin to the cloth, meters."""
    normals: Float[Tensor, "m 3"]
    """Of the cloth, unit, outward."""
    weights: Float[Tensor, "m joints"]
    """Rows sum to 1."""

    @staticmethod
    def hung(body: Body, betas: Float[Tensor, " shape"], binding: Binding, hem: float) -> Skirt:
        """Down to a hem that `find_hem` found."""
        vertices = body.shaped(betas)[0]
        skin, surface = binding.interpolate(body.lbs_weights), binding.interpolate(vertices)
        parts = []
        for leg, chain in zip(Leg.both(body, betas), (LEFT, RIGHT), strict=True):
            own = (skin[:, chain].sum(1) > 0.5) & (binding.region == TORSO_AND_LIMBS)
            parts.append(_laid(leg, surface.numpy(), own.numpy(), hem))
        index, places, normals, share, rise = (torch.cat(column) for column in zip(*parts, strict=True))
        own, trunk = skin[index], body.lbs_weights[crotch(body, vertices)]
        trunk = (0.5 * (trunk + legs_exchanged(trunk))).expand_as(own)
        weights = torch.lerp(torch.lerp(own, legs_exchanged(own), 0.5 * share), trunk, rise)
        return Skirt(index, places - surface[index], normals, weights)

    def worn_over(self, weights: Float[Tensor, "n joints"]) -> Float[Tensor, "n joints"]:
        """The skin's weights, with these in their places."""
        return weights.index_copy(0, self.index, self.weights)


def _laid(leg: Leg, surface: Float[np.ndarray, "n 3"], own: Bool[np.ndarray, " n"], hem: float) -> tuple[Tensor, ...]:
    """Which points of a leg hang; where, with what normals; how near to the middle; and how like the trunk.

    Around the leg, from its front to its inner side, they go evenly from where the front plane touches the leg to the
    middle between the legs, and likewise behind.
    """
    (x, y, z), low, high = surface.T, leg.heights[0], leg.heights[-1]
    center_x, center_z, inward, forward, backward = leg.at(y)
    side = np.where(z >= center_z, 1.0, -1.0)
    depth = np.where(side > 0, forward, backward)
    share = np.arctan2(leg.toward * (x - center_x) / inward, np.abs(z - center_z) / depth) / (math.pi / 2)
    rise = share * np.clip(1 - (high - y) / TOP_M, 0, 1)
    places = np.stack([center_x * (1 - share), y + OVERLAP_M * rise, center_z + side * depth], -1)
    index = np.flatnonzero(own & (share > 0) & (y > high - hem * (high - low)) & (y < high))
    normals = side[:, None] * np.array([0.0, 0.0, 1.0])
    columns = (torch.from_numpy(column[index]).float() for column in (places, normals, share[:, None], rise[:, None]))
    return torch.from_numpy(index), *columns
