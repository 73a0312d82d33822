"""Posed points and the frames they stand in, in; a first color per point, and how well it was seen, out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.avatar.skirt import Hanging
from avatars.fitting.crops import Crops

UNSEEN, TRUSTED = 0.02, 0.2
"""Shares of the coverage of what is seen well, up to which a color is a guess, and from which it is sure."""
OWN, LENT = 0.25, 0.5
"""Trust from which a point keeps the color that it was seen in, and from which that color is lent to what is not seen:
at silhouettes it is half the room's."""
SIDES_APART_M = 0.05
"""How far apart nearby points count whose normals are at right angles: a skirt's inside is not its outside."""
LEARNT, DRAWN = 0.025, 0.01
"""Shares of a point that must be drawn in the frames, on average, for its fitted color to stay, and to be believed at
all. With half the first, held-out frames score 0.02 to 0.06 dB more, squats 0.2; a skirt's hidden side is specked."""
STRAY = 0.1
"""How far a fitted color may lie from the one seen where it is, if the frames draw it little; twice as far, it counts
nothing."""
DEPTH_TOLERANCE_M = 0.025
"""How far behind the rendered depth a point may lie and still count as seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One frame's view of the points."""

    crop: Crops
    """One frame."""
    means: Float[Tensor, "n 3"]
    normals: Float[Tensor, "n 3"]
    """World axes, about unit."""
    depth_m: Float[Tensor, "height width"]
    """Camera z of the points' own surface, +inf where there is none."""
    gain: Float[Tensor, "n 3"]
    """Factor by which light and exposure change the albedo here; taken off."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenColors:
    """What the frames say about each point."""

    rgb: Float[Tensor, "n 3"]
    coverage: Float[Tensor, " n"]
    """Sum of the weights of the frames that saw the point; 0 where none did."""

    @property
    def best(self) -> float:
        """Coverage of what is seen well."""
        return float(self.coverage.quantile(0.9))

    @property
    def unseen(self) -> Bool[Tensor, " n"]:
        """Points whose color is a guess."""
        return self.coverage <= UNSEEN * self.best

    @property
    def trust(self) -> Float[Tensor, " n"]:
        """From 0 for points that no frame shows to 1 for those that many do."""
        return (self.coverage / (TRUSTED * max(self.best, 1e-12))).clamp(0, 1)


def seen_colors(sightings: Iterable[Observation], *, rounds: int = 3, tolerance: float = 0.1) -> SeenColors:
    """Robust mean color of each point over the frames that see it, nearest and most frontal first.

    Iteratively reweighted: what lies `tolerance` off the mean counts half (an object passing by, a highlight, a limb
    that the tracked pose puts in the wrong place).
    """
    observed = [_observe(s) for s in sightings]
    rgb = torch.stack([o[0] for o in observed])
    weight = torch.stack([o[1] for o in observed])
    coverage = weight.sum(0)
    trusted = weight
    for _ in range(rounds):
        mean = (rgb * trusted[..., None]).sum(0) / trusted.sum(0).clamp_min(1e-9)[:, None]
        trusted = weight / (1.0 + (rgb - mean).square().sum(-1) / tolerance**2)
    return SeenColors(mean, coverage)


def _observe(s: Observation) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Color and weight of each point in one frame; weight 0 where it is hidden, turned away or outside the mask."""
    height, width = s.depth_m.shape
    camera = s.crop.camera[0]
    in_camera, pixels = camera.to_camera(s.means), camera.project(s.means)
    grid = (2 * pixels / torch.tensor([width, height]) - 1)[None, None]
    sure = -F.max_pool2d(-(s.crop.mask * s.crop.shown)[:, None], 3, 1, 1)
    depth = torch.where(s.depth_m.isfinite(), s.depth_m, 0.0)
    image = torch.cat([s.crop.rgb, sure], 1)
    r, g, b, mask = F.grid_sample(image, grid, align_corners=False)[0, :, 0].unbind(0)
    surface = F.grid_sample(depth[None, None], grid, mode="nearest", align_corners=False)[0, 0, 0]
    towards = F.normalize(in_camera, dim=-1)
    normals = s.normals @ camera.T_cam_world[:3, :3].t()
    cosine = -(towards * normals).sum(-1)
    visible = (in_camera[:, 2] < surface + DEPTH_TOLERANCE_M) & (cosine > 0.15) & (mask > 0.6)
    weight = torch.where(visible, cosine.clamp_min(0) ** 2 * mask / in_camera[:, 2].clamp_min(0.1) ** 2, 0.0)
    return torch.stack([r, g, b], -1) / s.gain, weight


def fill_unseen(
    seen: SeenColors,
    rest: Float[Tensor, "n 3"],
    normals: Float[Tensor, "n 3"],
    skirt: Hanging | None = None,
    *,
    k: int = 32,
) -> Float[Tensor, "n 3"]:
    """Colors with every unseen point given the mean of its nearest well seen ones, or of their mirror images; what is
    seen badly is drawn towards that mean, the more the worse it is seen.

    `rest` and `normals` (unit) are in the axes of the T-pose. The mirror plane is x = 0: what only the left side shows
    is a better guess for the right than the nearest color is. The front of a skirt is one for its back, and the other
    way around.
    """
    from scipy.spatial import KDTree

    if not bool((~seen.unseen).any()):
        return torch.full_like(seen.rgb, 0.5)
    trust = seen.trust
    own = ((trust - UNSEEN / TRUSTED) / (OWN - UNSEEN / TRUSTED)).clamp(0, 1)
    source, asks = trust >= min(LENT, float(trust.max())), own < 1
    if not bool(asks.any()):
        return seen.rgb
    place = torch.cat([rest, SIDES_APART_M / 2**0.5 * normals], -1)
    lent, lender = place[source], torch.nonzero(source).squeeze(-1)
    lent, lender = torch.cat([lent, lent * torch.tensor([-1.0, 1.0, 1.0]).repeat(2)]), lender.repeat(2)
    if skirt is not None:
        turned = torch.cat([place[skirt.index, :3] + skirt.across, -place[skirt.index, 3:]], -1)
        lends = source[skirt.index]
        lent, lender = torch.cat([lent, turned[lends]]), torch.cat([lender, skirt.index[lends]])
    found = KDTree(lent.numpy()).query(place[asks].numpy(), k=min(k, len(lent)), workers=-1)
    distance, index = (np.asarray(part) for part in found)
    weight = 1.0 / (torch.from_numpy(distance).float().reshape(len(index), -1) + 1e-3) ** 2
    colors = seen.rgb[lender[torch.from_numpy(index).reshape(len(index), -1)]]
    guess = (colors * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
    filled = seen.rgb.clone()
    filled[asks] = torch.lerp(guess, seen.rgb[asks], own[asks, None])
    return filled


def settled_colors(
    fitted: Float[Tensor, "n 3"],
    drawn: Float[Tensor, " n"],
    seen: SeenColors,
    places: Float[Tensor, "n 3"],
    normals: Float[Tensor, "n 3"],
    skirt: Hanging | None = None,
) -> Float[Tensor, "n 3"]:
    """Fitted colors where the frames draw the points, what is seen where they are or next to them (`fill_unseen`)
    elsewhere. `drawn` is how much of each point the frames draw; `places` are those of the T-pose, offsets included.

    What is seen at a grazing angle alone was never seen well, but has learnt its color as the frames' edges have it.
    What lies hidden behind others has learnt none, since Adam takes full steps along the least of gradients; nor has
    what shines through at the rim of others, where frames disagree.
    """
    learnt = (drawn / LEARNT).clamp(0, 1)[:, None]
    stray = ((fitted - seen.rgb).abs().amax(1, keepdim=True) / STRAY - 1).clamp(0, 1) * (seen.trust >= OWN)[:, None]
    believed = (drawn / DRAWN).clamp(0, 1)[:, None] * (1 - stray * (1 - learnt))
    own = torch.lerp(seen.rgb, fitted, believed)
    return torch.lerp(fill_unseen(replace(seen, rgb=own), places, normals, skirt), fitted, learnt * believed)
