"""An avatar and a seed in; another identity out: another body shape, and other skin, hair and clothes.

Colors move in OKLab by one step for each part (skin, hair, each color of the clothes), so that folds, prints and
shadows stay. A variation is marked as derived, and the consent of the person filmed goes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.avatar.binding import FACE, FOOT, HAND, HEAD, TORSO_AND_LIMBS, face_areas
from avatars.avatar.model import Avatar
from avatars.avatar.rig import Rig
from avatars.body import Body
from avatars.body.layout import JOINT_NAMES
from avatars.geometry.color import oklab_from_srgb, srgb_from_oklab

Part = Literal["shape", "skin", "hair", "clothes"]
PARTS: tuple[Part, ...] = ("shape", "skin", "hair", "clothes")

COVERED = ("pelvis", "left_hip", "right_hip", "spine1", "spine2", "spine3", "left_collar", "right_collar")
"""Joints whose skin clothes cover in most people."""

BETAS_VARIED, BETAS_SPREAD, BETAS_LIMIT = 10, 0.8, 2.0
"""The first coefficients are drawn anew, with this standard deviation and within these bounds (standard deviations
among adults); the finer ones stay the person's own."""
HEIGHT_M = (1.48, 2.0)
"""Standing heights that a variation may have."""

SKIN_TONES = ("f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a")
"""The Monk Skin Tone scale (Monk 2019), second to ninth tone."""
SKIN_LIGHTNESS = (0.36, 0.83)
"""OKLab L that a skin may have: lighter tones of the scale are highlights rather than albedo."""
HAIR_COLORS = ("1c1513", "2f2018", "4a3020", "6b4a2f", "7c3f22", "a98250", "c9ad7d", "8d8985")
"""Black to blond, auburn and gray."""
CLOTHES_CHROMA, CLOTHES_LIGHTNESS = (0.01, 0.13), (0.25, 0.82)
UNLIKE_SKIN = 6.0
"""From so many of the skin's own deviations on a color is a cloth's for certain."""
FOLDS = torch.tensor([0.33, 1.0, 1.0])
"""Lightness counts a third where cloths are told apart: a fold is no other cloth."""
SAME_COLOR = 0.06
"""OKLab distance, of those, below which two colors are one."""
MAX_LIGHTER, MAX_DARKER = 0.25, 0.22
"""How far (OKLab L) clothes may change in lightness: farther, and folds and prints drown in black or white."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What each Gaussian belongs to, softly; the rest (eyes, brows, lips' shadows) keeps its color."""

    skin: Float[Tensor, " n"]
    hair: Float[Tensor, " n"]
    clothes: Float[Tensor, "n colors"]
    """One column for each color of the clothes."""


def vary(avatar: Avatar, seed: int, *, keep: Sequence[Part] = ()) -> tuple[Avatar, dict[str, Any]]:
    """Another identity, and what was changed. Deterministic in `seed`; parts in `keep` stay as they are."""
    g = torch.Generator().manual_seed(seed)
    draws = {part: torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=g))) for part in PARTS}
    changes: dict[str, Any] = {"seed": seed}
    lab, parts = oklab_from_srgb(avatar.albedo), find_parts(avatar)
    moved = lab.clone()
    if "skin" not in keep:
        moved += parts.skin[:, None] * _skin_step(lab, parts.skin, draws["skin"], changes)
    if "hair" not in keep and float(parts.hair.sum()) > 0.2 * float((avatar.binding.region == HEAD).sum()):
        moved += parts.hair[:, None] * _hair_step(lab, parts.hair, draws["hair"], changes)
    if "clothes" not in keep:
        for k in range(parts.clothes.shape[1]):
            step = _clothes_step(lab, parts.clothes[:, k], draws["clothes"], changes)
            moved += parts.clothes[:, k, None] * step
    changed = (moved - lab).abs().amax(-1, keepdim=True) > 0
    varied = replace(avatar, albedo=torch.where(changed, srgb_from_oklab(moved), avatar.albedo))
    if "shape" not in keep:
        betas = draw_betas(avatar.body, avatar.betas, draws["shape"])
        varied = reshaped(varied, betas)
        changes["betas"] = [round(float(b), 4) for b in betas]
        changes["height_m"] = [round(height_m(avatar.body, b), 3) for b in (avatar.betas, betas)]
    return varied, changes


# Shape


def draw_betas(body: Body, own: Float[Tensor, " shape"], generator: torch.Generator) -> Float[Tensor, " shape"]:
    """A body of another person within plausible bounds of shape and height."""
    betas = own.clone()
    count = min(BETAS_VARIED, len(own))
    for _ in range(100):
        drawn = torch.randn(count, generator=generator) * BETAS_SPREAD
        betas[:count] = drawn.clamp(-BETAS_LIMIT, BETAS_LIMIT)
        if HEIGHT_M[0] <= height_m(body, betas) <= HEIGHT_M[1]:
            return betas
    return own.clone()


def height_m(body: Body, betas: Float[Tensor, " shape"]) -> float:
    """From the soles to the crown in the T-pose, meters."""
    y = body.shaped(betas)[0][:, 1]
    return float(y.max() - y.min())


def reshaped(avatar: Avatar, betas: Float[Tensor, " shape"]) -> Avatar:
    """The avatar on another body shape: Gaussians and their offsets grow with the triangles they sit on."""
    corners = avatar.binding.corners
    before, after = (face_areas(avatar.body.shaped(b)[0], corners) for b in (avatar.betas, betas))
    growth = (after / before.clamp_min(1e-12)).sqrt().clamp(0.5, 2.0)[:, None]
    new = replace(avatar, betas=betas, offsets=avatar.offsets * growth, log_scales=avatar.log_scales + growth.log())
    if avatar.correctives is not None:
        grown = replace(avatar.correctives, directions=avatar.correctives.directions * growth)
        new = replace(new, correctives=grown)
    rig = Rig.build(avatar.body, avatar.binding, betas, avatar.loose, avatar.skirt)
    new.__dict__["rig"] = rig  # where cached_property keeps it
    return new


# Colors


def find_parts(avatar: Avatar, colors: int = 5) -> Parts:
    """Skin is what looks like the hands and the face, hair the rest of the head, clothes the rest of the body.

    Where clothes are the rule (`COVERED`) it takes more to be skin. A color between skin and a cloth's, as at hems and
    where the fit was unsure, belongs to both.
    """
    lab, region = oklab_from_srgb(avatar.albedo), avatar.binding.region
    bare = lab[(region == HAND) | (region == FACE)]
    middle = bare.median(0).values
    spread = 2.2 * (bare - middle).abs().median(0).values[1:].clamp(0.006, 0.012)
    weights = avatar.rig.weights.dense_t
    covered, neck = (sum(weights[JOINT_NAMES.index(n)] for n in names) for names in (COVERED, ("neck", "head")))
    apart = ((lab - middle) / torch.cat([torch.tensor([0.16]), spread])).norm(dim=-1) * (1 + covered)
    dressed = (region == TORSO_AND_LIMBS) | (region == FOOT)
    cloths = color_centers(lab, (dressed & (apart > UNLIKE_SKIN)).float(), colors)
    mixed = torch.where(region == TORSO_AND_LIMBS, skin_share(lab, middle, cloths), 0.0)
    alike = torch.maximum(torch.sigmoid((1.8 - apart) / 0.15), mixed)
    chroma, own_chroma = lab[:, 1:].norm(dim=-1), middle[1:].norm()
    dark = torch.sigmoid((0.62 * middle[0] - lab[:, 0]) / 0.03)  # brows, pupils, nostrils
    white = torch.sigmoid((lab[:, 0] - middle[0] - 0.1) / 0.03) * torch.sigmoid((0.5 * own_chroma - chroma) / 0.01)
    skin = torch.where((region == FACE) | (region == HAND), (1 - dark) * (1 - white), alike)
    hair = torch.where(region == HEAD, 1 - skin, 0.0)
    nape = (neck > 0.5) & (region == TORSO_AND_LIMBS) & ((lab - _mean(lab, hair)).norm(dim=-1) < 0.12)
    hair = torch.where(nape, 1 - skin, hair)
    clothed = torch.where(dressed & ~nape, 1 - skin, 0.0)
    return Parts(skin, hair, clothed[:, None] * membership(lab, color_centers(lab, clothed, colors)))


def skin_share(
    lab: Float[Tensor, "n 3"], skin: Float[Tensor, " 3"], cloths: Float[Tensor, "k 3"]
) -> Float[Tensor, " n"]:
    """How far a color is from the nearest cloth's towards the skin's; 0 where the two are much alike."""
    if len(cloths) == 0:
        return torch.zeros(len(lab))
    x, goal = lab * FOLDS, skin * FOLDS
    start = cloths[torch.cdist(x, cloths).argmin(-1)]
    way = goal - start
    share = ((x - start) * way).sum(-1) / way.square().sum(-1).clamp_min(1e-8)
    return torch.where(way.norm(dim=-1) > SAME_COLOR, ((share - 0.25) / 0.5).clamp(0, 1), 0.0)


def color_centers(lab: Float[Tensor, "n 3"], weight: Float[Tensor, " n"], count: int) -> Float[Tensor, "k 3"]:
    """At most `count` colors of what weighs more than a half, times `FOLDS`: k-means, started from the farthest colors.

    Colors closer than `SAME_COLOR` are one, and what lies between two is a mix of them.
    """
    x = lab * FOLDS
    some = torch.nonzero(weight > 0.5).squeeze(-1)
    if len(some) == 0:
        return torch.zeros(0, 3)
    x = x[some[torch.linspace(0, len(some) - 1, min(len(some), 4000)).long()]]
    centers = x.median(0).values[None]
    for _ in range(count - 1):
        distance = torch.cdist(x, centers).amin(-1)
        far = distance.topk(max(len(x) // 100, 1)).indices  # a group, not a stray Gaussian
        if float(distance[far].min()) < SAME_COLOR:
            break
        centers = torch.cat([centers, x[far].median(0).values[None]])
    for _ in range(12):
        nearest = torch.cdist(x, centers).argmin(-1)
        means = [x[nearest == k].mean(0) if bool((nearest == k).any()) else c for k, c in enumerate(centers)]
        centers = torch.stack(means)
    kept: list[Tensor] = []
    for center in centers[torch.bincount(nearest, minlength=len(centers)).argsort(descending=True, stable=True)]:
        alike = any(float((center - other).norm()) < SAME_COLOR for other in kept)
        if not alike and not any(_between(center, a, b) for a, b in combinations(kept, 2)):
            kept.append(center)
    return torch.stack(kept)


def _between(color: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether a color is about a mix of two others."""
    share = float((color - a) @ (b - a) / (b - a).square().sum())
    return 0 < share < 1 and float((torch.lerp(a, b, share) - color).norm()) < SAME_COLOR / 2


def membership(lab: Float[Tensor, "n 3"], centers: Float[Tensor, "k 3"]) -> Float[Tensor, "n k"]:
    """To which of `color_centers` each color belongs, softly."""
    return torch.softmax(-(torch.cdist(lab * FOLDS, centers) ** 2) / (2 * 0.02**2), -1)


def _skin_step(lab: Tensor, weight: Tensor, g: torch.Generator, changes: dict[str, Any]) -> Float[Tensor, " 3"]:
    """From the tone of the scale that is as light as the person's skin to another: the capture's tint stays."""
    tones = _lab_of(SKIN_TONES)
    own = _mean(lab, weight)
    here = float((tones[:, 0] - own[0]).abs().argmin())
    there = float(torch.rand(1, generator=g)) * (len(tones) - 1)
    changes["skin_tone"] = [here + 2, round(there + 2, 2)]
    low = min(int(there), len(tones) - 2)
    target = torch.lerp(tones[low], tones[low + 1], there - low)
    step = target - tones[int(here)]
    step[0] = target[0].clamp(*SKIN_LIGHTNESS) - own[0]
    return step


def _hair_step(lab: Tensor, weight: Tensor, g: torch.Generator, changes: dict[str, Any]) -> Float[Tensor, " 3"]:
    name = HAIR_COLORS[int(torch.randint(len(HAIR_COLORS), (1,), generator=g))]
    jitter = torch.randn(3, generator=g) * torch.tensor([0.02, 0.004, 0.006])
    changes["hair"] = f"#{name}"
    return _lab_of((name,))[0] + jitter - _mean(lab, weight)


def _clothes_step(lab: Tensor, weight: Tensor, g: torch.Generator, changes: dict[str, Any]) -> Float[Tensor, " 3"]:
    """One color of the clothes becomes another of any hue."""
    own = _mean(lab, weight)
    dice = torch.rand(3, generator=g)
    lightness = float((own[0] + dice[0] * (MAX_LIGHTER + MAX_DARKER) - MAX_DARKER).clamp(*CLOTHES_LIGHTNESS))
    chroma = CLOTHES_CHROMA[0] + float(dice[1]) * (CLOTHES_CHROMA[1] - CLOTHES_CHROMA[0])
    hue = 2 * torch.pi * dice[2]
    target = torch.stack([torch.tensor(lightness), chroma * torch.cos(hue), chroma * torch.sin(hue)])
    before, after = (_hex(srgb_from_oklab(color[None])[0]) for color in (own, target))
    changes.setdefault("clothes", []).append([before, after])
    return target - own


def _mean(lab: Tensor, weight: Tensor) -> Float[Tensor, " 3"]:
    return (lab * weight[:, None]).sum(0) / weight.sum().clamp_min(1e-6)


def _lab_of(names: Sequence[str]) -> Float[Tensor, "n 3"]:
    return oklab_from_srgb(torch.tensor([list(bytes.fromhex(name)) for name in names]).float() / 255)


def _hex(rgb: Tensor) -> str:
    return "#" + bytes((rgb * 255).round().byte().tolist()).hex()
