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

from avatars.avatar.binding import TORSO_AND_LIMBS, Binding
from avatars.body import Body, PosedBody
from avatars.body.layout import JOINT_NAMES
from avatars.errors import InputError
from avatars.geometry.camera import Camera

STEP_M = 0.015
"""Legs are measured at heights so far apart."""
MIDDLE_M = 0.03
"""The trunk ends where it is lowest so near to the middle."""
SQUARE = 0.2
"""Cosine between the line of sight and that from leg to leg up to which a frame looks between the legs."""
UPRIGHT = 0.85
"""Minimum cosine between thigh and vertical. Below it (sitting, bending) the trunk may show through the gap."""
LEAST_FRAMES = 3
"""Minimum number of frames needed for a decision."""
ACROSS = torch.linspace(0.1, 0.9, 9)[:, None, None]
"""Where between the two legs masks are read."""
CLOSED = 0.9
"""Share of the frames that must see no gap above the hem."""
OPEN = 0.5
"""Share of the bare legs' gap that must be seen soon below it: that between trousers' legs begins narrow."""
BELOW_HEM = slice(2, 6)
"""Heights, counted from the hem, that this is the mean of."""
TOP_STEPS = 3
"""How far under the crotch the first height may be that frames tell of."""
WIDE_M, WIDE_PX = 0.08, 4.0
"""How wide apart the bare legs must be somewhere above the hem: trousers, 3.2 cm off the skin, and masks that are a
pixel or two too wide close less."""
TOP_M, OVERLAP_M = 0.08, 0.03
"""From so far under the crotch up, the middle goes more and more with the trunk, and reaches over it by so much."""

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
        vertices, joints = (points.cpu() for points in body.shaped(betas))
        low, high = float(joints[LEFT + RIGHT, 1].min()), float(vertices[crotch(body, betas), 1])
        if not low < high:
            raise InputError(f"These betas turn a body over: its crotch is at {high:.2f} m, its ankles at {low:.2f} m.")
        heights = np.linspace(low, high, round((high - low) / STEP_M) + 1)
        legs = [Leg._measured(body, vertices, joints[chain], chain, heights) for chain in (LEFT, RIGHT)]
        return legs[0], legs[1]

    @staticmethod
    def _measured(body: Body, vertices: Tensor, joints: Tensor, chain: list[int], heights: np.ndarray) -> Leg:
        toward = -math.copysign(1.0, float(joints[0, 0]))
        own = torch.nonzero(body.lbs_weights[:, chain].sum(1).cpu() > 0.5).squeeze(-1)
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


def crotch(body: Body, betas: Float[Tensor, " shape"]) -> int:
    """The lowest vertex of the trunk of a body at rest."""
    vertices, joints = body.shaped(betas)
    trunk = (vertices[:, 0].abs() < MIDDLE_M) & (body.lbs_weights[:, LEFT + RIGHT].sum(1) < 0.5)
    trunk &= vertices[:, 1] > joints[[LEFT[1], RIGHT[1]], 1].max()  # and no toes
    return int(torch.where(trunk, vertices[:, 1], torch.inf).argmin())


# Looking for one


@dataclass(frozen=True, slots=True, eq=False)
class Silhouette:
    """A person's mask in a frame, and their body in its pose."""

    posed: PosedBody
    """Of this frame alone."""
    camera: Camera
    mask: Bool[Tensor, "height width"]
    counts: Bool[Tensor, "height width"]
    """Where the mask can be believed."""


def find_hem(body: Body, betas: Float[Tensor, " shape"], seen: Iterable[Silhouette]) -> float | None:
    """How far down the legs, from 0 at the crotch to 1 at the ankles, single frames show cloth from leg to leg.

    A frame tells where it looks between the bare legs of who stands, from the front or from behind. None where nothing
    hangs there. A long coat that hangs down behind closes the gap, too.
    """
    legs = Leg.both(body, betas)
    bare_m, open_share = (torch.cat(rows) for rows in zip(*(_between(*legs, s) for s in seen), strict=True))
    tell = ~bare_m.isnan()
    looked = tell.sum(0)
    told = torch.nonzero(looked >= LEAST_FRAMES).squeeze(-1).flip(0)  # from the crotch down
    if len(told) == 0 or len(looked) - 1 - int(told[0]) > TOP_STEPS:
        return None
    closed = ((open_share < 0.1) & tell).sum(0) >= CLOSED * looked
    above = int(closed[told].cumprod(0).sum())
    if above == 0 or not bool((bare_m.nanmean(0)[told[:above]] > WIDE_M).any()):
        return None
    below = told[above:][BELOW_HEM]
    if len(below) and float(open_share.nanmean(0)[below].mean()) < OPEN:
        return None
    return 1.0 - int(told[above - 1]) / (len(looked) - 1)


def _between(left: Leg, right: Leg, seen: Silhouette) -> tuple[Float[Tensor, "1 heights"], Float[Tensor, "1 heights"]]:
    """How wide the bare legs are apart (meters, less `WIDE_PX`), and in which share of that the mask is open; NaN at
    heights at which the frame does not look between them."""
    posed, camera = seen.posed, seen.camera
    hips, knees = (posed.joints[0, [LEFT[i], RIGHT[i]]] for i in (0, 1))
    upright = ((hips - knees)[:, 1] > UPRIGHT * (hips - knees).norm(dim=-1)).all()
    inner = [posed.vertices(leg.innermost)[0] for leg in (left, right)]
    width_m = (inner[0] - inner[1]) @ torch.nn.functional.normalize(hips[0] - hips[1], dim=0)
    T_cam_world = camera.T_cam_world.reshape(4, 4)
    level = (T_cam_world[:3, :3].t() @ -T_cam_world[:3, 3] - (inner[0] + inner[1]) / 2) * torch.tensor([1.0, 0.0, 1.0])
    level = torch.nn.functional.normalize(level, dim=-1)  # towards the camera
    square = torch.nn.functional.cosine_similarity(inner[0] - inner[1], level, dim=-1).abs() < SQUARE
    depth_m = torch.from_numpy(0.5 * (left.reach[:, 1:2] + right.reach[:, 1:2])).float()
    cloth = torch.lerp(inner[0], inner[1], ACROSS) + depth_m * level  # (places across, heights, 3)
    column, row = camera.project(cloth).floor().long().unbind(-1)
    height, width = seen.mask.shape
    at = row.clamp(0, height - 1), column.clamp(0, width - 1)
    counts = ((at[0] == row) & (at[1] == column) & seen.counts[at]).all(0)
    tells = upright & square & counts & (width_m > 0)
    px_m = camera.to_camera(cloth)[..., 2].mean(0) / camera.K.reshape(3, 3)[0, 0]
    open_share = (~seen.mask[at]).float().mean(0)
    return (
        torch.where(tells, width_m - WIDE_PX * px_m, torch.nan)[None],
        torch.where(tells, open_share, torch.nan)[None],
    )


# Hanging it


@dataclass(frozen=True, slots=True, eq=False)
class Hanging:
    """Points of a skirt on one body, in the axes of the T-pose."""

    index: Int[Tensor, " m"]
    shift: Float[Tensor, "m 3"]
    """From the skin to the cloth, meters."""
    normals: Float[Tensor, "m 3"]
    """Of the cloth, unit, outward."""
    weights: Float[Tensor, "m joints"]
    """Rows sum to 1."""
    across: Float[Tensor, "m 3"]
    """From the cloth to that on the other side of the legs, meters."""

    def to(self, device: torch.device | str) -> Hanging:
        """The points on `device`."""
        return Hanging(*(getattr(self, name).to(device) for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Skirt:
    """Points that hang between the legs in place of lying on their inner sides, and where on the cloth, on any body."""

    index: Int[Tensor, " m"]
    side: Float[Tensor, " m"]
    """1 on the cloth before the legs, -1 on that behind."""
    share: Float[Tensor, " m"]
    """Of the way from where the cloth touches the leg to the middle."""

    @staticmethod
    def of(body: Body, betas: Float[Tensor, " shape"], binding: Binding, hem: float) -> Skirt:
        """Down to a hem that `find_hem` found.

        Around a leg, from its front to its inner side, points go evenly from where the front plane touches the leg to
        the middle between the legs, and likewise behind.
        """
        skin, surface = binding.interpolate(body.lbs_weights), binding.interpolate(body.shaped(betas)[0])
        parts = []
        x, y, z = surface.numpy().T
        for leg, chain in zip(Leg.both(body, betas), (LEFT, RIGHT), strict=True):
            center_x, center_z, inward, forward, backward = leg.at(y)
            side = np.where(z >= center_z, 1.0, -1.0)
            depth = np.where(side > 0, forward, backward)
            share = np.arctan2(leg.toward * (x - center_x) / inward, np.abs(z - center_z) / depth) / (math.pi / 2)
            low, high = leg.heights[0], leg.heights[-1]
            hangs = torch.from_numpy((share > 0) & (y < high) & (y > high - hem * (high - low)))
            hangs &= (skin[:, chain].sum(1) > 0.5) & (binding.region == TORSO_AND_LIMBS)
            index = torch.nonzero(hangs).squeeze(-1)
            parts.append((index, *(torch.from_numpy(column).float()[index] for column in (side, share))))
        return Skirt(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def hung(self, body: Body, betas: Float[Tensor, " shape"], binding: Binding) -> Hanging:
        """On a body at rest."""
        bound = binding[self.index]
        skin, surface = bound.interpolate(body.lbs_weights).cpu(), bound.interpolate(body.shaped(betas)[0]).cpu()
        legs, right = Leg.both(body, betas), skin[:, RIGHT].sum(1) > skin[:, LEFT].sum(1)
        y, side, share = surface[:, 1], self.side.cpu(), self.share.cpu()
        at = [np.stack(leg.at(y.numpy())) for leg in legs]
        center_x, center_z, _, forward, backward = torch.from_numpy(np.where(right, at[1], at[0])).float()
        rise = share * (1 - (legs[0].heights[-1] - y) / TOP_M).clamp(0, 1)
        z = center_z + torch.where(side > 0, forward, -backward)
        places = torch.stack([center_x * (1 - share), y + OVERLAP_M * rise, z], -1)
        trunk = body.lbs_weights[crotch(body, betas)].cpu()
        trunk = (0.5 * (trunk + legs_exchanged(trunk))).expand_as(skin)
        weights = torch.lerp(torch.lerp(skin, legs_exchanged(skin), 0.5 * share[:, None]), trunk, rise[:, None])
        normals = side[:, None] * torch.tensor([0.0, 0.0, 1.0])
        across = -(forward + backward)[:, None] * normals
        return Hanging(self.index.cpu(), places - surface, normals, weights, across).to(self.index.device)


def legs_exchanged(weights: Float[Tensor, "*points joints"]) -> Float[Tensor, "*points joints"]:
    """Joint weights of a place on the left as they are on the right."""
    exchanged = weights.clone()
    exchanged[..., LEFT + RIGHT] = weights[..., RIGHT + LEFT]
    return exchanged
