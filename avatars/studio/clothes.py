"""Clothes as shells of real geometry about a figure: cut along smooth hems, loose, wrinkled, skinned like the body.

A garment's extent is a field over the skin (meters inside its hem, negative outside), so that hems are smooth whatever the
triangles are, and the skin beneath can be taken away a little inside the hem.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatars.studio.figure import Figure
from avatars.studio.patterns import Palette, Pattern, plain, value_noise
from avatars.studio.surface import Surface

TUCK_M = 0.03  # skin goes on this far beneath a hem


@dataclass(frozen=True, slots=True)
class Wardrobe:
    """What a person wears: lengths in shares of the limb, looseness in meters, patterns."""

    sleeve: float
    """0 no sleeves, 0.45 T-shirt, 0.95 long sleeves: share of the way from shoulder to wrist."""
    shirt_loose_m: float
    shirt: Pattern
    neckline_m: float
    """How far the collar dips below the neck."""
    shirt_hem_m: float
    """How far the shirt ends below the pelvis joint."""
    legs: float
    """Share of the way from hip to ankle: 0.4 shorts, 0.95 trousers."""
    legs_loose_m: float
    trousers: Pattern
    skirt: bool
    """A skirt that ends at `legs` instead of trousers."""
    shoes: Pattern
    sole: np.ndarray
    sole_m: float = 0.008

    @staticmethod
    def sample(rng: np.random.Generator, figure: Figure, *, feminine: float) -> Wardrobe:
        """Clothes drawn from a generator; skirts are likelier where `feminine` is near one."""
        palette = Palette(rng)
        long = rng.random() < 0.45
        chest = figure.joint("spine3") + np.array([0.0, -0.02, 0.1])
        short = rng.random() < 0.25
        skirt = bool(rng.random() < 0.22 * feminine)
        trousers = plain(palette.color(saturation=(0.05, 0.6), value=(0.12, 0.7)), roughness=0.16, size_m=0.02)
        return Wardrobe(
            sleeve=float(rng.uniform(0.9, 0.97) if long else rng.uniform(0.3, 0.5)),
            shirt_loose_m=float(rng.uniform(0.012, 0.022)),
            shirt=palette.cloth(center=chest),
            neckline_m=float(rng.uniform(-0.005, 0.025)),
            shirt_hem_m=float(rng.uniform(0.07, 0.13)),
            legs=float(rng.uniform(0.42, 0.6) if short or skirt else rng.uniform(0.93, 0.98)),
            legs_loose_m=float(rng.uniform(0.011, 0.02)),
            trousers=trousers if rng.random() < 0.85 else palette.cloth(),
            skirt=skirt,
            shoes=plain(palette.color(saturation=(0.0, 0.8), value=(0.1, 0.9))),
            sole=np.full(3, rng.choice([0.12, 0.85])),
        )


@dataclass(frozen=True, slots=True)
class Dressed:
    """Garments, and how far under cloth each vertex of the skin is (m, negative where bare)."""

    garments: list[Surface]
    under_m: np.ndarray


def dress(figure: Figure, wear: Wardrobe, *, texel_m: float, seed: int) -> Dressed:
    """Put the clothes on a figure."""
    fields = {"shirt": _shirt_field(figure, wear), "legs": _legs_field(figure, wear), "shoes": _shoe_field(figure)}
    garments = [_shirt(figure, wear, fields, texel_m, seed)]
    garments.append(_skirt(figure, wear, texel_m) if wear.skirt else _trousers(figure, wear, fields, texel_m, seed))
    garments.append(_shoes(figure, wear, fields, texel_m))
    socks = _shoe_field(figure) + 0.0
    under = np.max([fields["shirt"], np.full_like(socks, -1.0) if wear.skirt else fields["legs"], fields["shoes"]], axis=0)
    if wear.skirt:
        hidden = np.minimum(_legs_field(figure, wear) - 0.12, 1.0)
        under = np.maximum(under, hidden)
    return Dressed(garments, under)


def _shirt_field(figure: Figure, wear: Wardrobe) -> np.ndarray:
    v = figure.skin.rest
    shoulder, wrist = figure.joint("left_shoulder"), figure.joint("left_wrist")
    sleeve_end = shoulder[0] + wear.sleeve * (wrist[0] - shoulder[0])
    hem = v[:, 1] - (figure.joint("pelvis")[1] - wear.shirt_hem_m)
    neck = figure.joint("neck")
    slope = np.array([0.0, 0.86, 0.5])  # a collar is lower in front
    collar = (neck + [0.0, 0.012 - wear.neckline_m, 0.0] - v) @ slope
    return np.min([hem, sleeve_end - np.abs(v[:, 0]), collar], axis=0)


def _legs_field(figure: Figure, wear: Wardrobe) -> np.ndarray:
    v = figure.skin.rest
    hip, ankle = figure.joint("left_hip")[1], figure.joint("left_ankle")[1]
    hem = v[:, 1] - (hip + wear.legs * (ankle - hip))
    return np.minimum(hem, figure.joint("pelvis")[1] + 0.04 - v[:, 1])


def _shoe_field(figure: Figure) -> np.ndarray:
    v = figure.skin.rest
    ankle = figure.joint("left_ankle")
    # Lower in front of the ankle than behind it, as the top of a trainer is.
    return ankle[1] + 0.012 - v[:, 1] - 0.12 * np.maximum(v[:, 2] - ankle[2], 0.0)


def _wrinkles(figure: Figure, places: list[tuple[np.ndarray, float]], depth_m: float, seed: int) -> np.ndarray:
    """Displacement (vertices, 3) of folds that gather about the given places (point, reach m)."""
    v = figure.skin.rest
    strength = np.full(len(v), 0.35)
    for place, reach in places:
        strength += np.exp(-np.square((v - place) * [1.0, 1.0, 0.6]).sum(1) / reach**2)
    along_arm = np.abs(v[:, 0]) > figure.joint("left_shoulder")[0] * 1.05
    stretch = np.where(along_arm[:, None], [1.0, 0.4, 0.4], [0.4, 1.0, 0.4])
    slanted = v * stretch + 0.25 * v[:, [1, 0, 2]]
    folds = value_noise(slanted, 0.045, seed) + 0.5 * value_noise(slanted, 0.022, seed + 1) - 0.75
    return figure.loose_normals * (depth_m * np.minimum(strength, 1.2) * folds)[:, None]


def _shirt(figure: Figure, wear: Wardrobe, fields: dict[str, np.ndarray], texel_m: float, seed: int) -> Surface:
    v, field = figure.skin.rest, fields["shirt"]
    below = np.clip((figure.joint("spine2")[1] - v[:, 1]) / 0.3, 0.0, 1.0)
    sleeve = np.clip((np.abs(v[:, 0]) - figure.joint("left_shoulder")[0]) / 0.12, 0.0, 1.0)
    offset = wear.shirt_loose_m * (0.75 + 0.55 * below + (0.35 if wear.sleeve < 0.6 else 0.1) * sleeve) + 0.004 * below
    offset *= 0.35 + 0.65 * np.clip((figure.joint("neck")[1] - v[:, 1] + 0.02) / 0.08, 0, 1)  # snug at the collar
    if wear.sleeve > 0.6:  # a cuff
        cuff = np.abs(v[:, 0]) - (figure.joint("left_elbow")[0] + 0.6 * (figure.joint("left_wrist") - figure.joint("left_elbow"))[0])
        offset *= 1 - 0.45 * np.clip(cuff / 0.06, 0, 1)
    places = [(figure.joint(f"{s}_{n}"), 0.11) for s in ("left", "right") for n in ("elbow", "shoulder")]
    places.append((figure.joint("pelvis"), 0.2))
    shell = figure.shell(offset, smooth=8, free=_wrinkles(figure, places, 0.011, seed))
    return shell.cut(field).painted(wear.shirt, texel_m=texel_m, wrap=0.1)


def _trousers(figure: Figure, wear: Wardrobe, fields: dict[str, np.ndarray], texel_m: float, seed: int) -> Surface:
    v = figure.skin.rest
    down = np.clip((figure.joint("left_hip")[1] - v[:, 1]) / 0.6, 0.0, 1.0)
    offset = wear.legs_loose_m * (0.45 + 0.75 * down)
    places = [(figure.joint(f"{s}_{n}"), 0.12) for s in ("left", "right") for n in ("knee", "ankle")]
    places.append((figure.joint("pelvis") - [0, 0.1, 0], 0.12))
    shell = figure.shell(offset, smooth=6, free=_wrinkles(figure, places, 0.010, seed + 7))
    # Nothing of them shows beneath the shirt but near its hem, where arms raised lift it.
    keep = np.minimum(fields["legs"], 0.06 - fields["shirt"])
    return shell.cut(keep).painted(wear.trousers, texel_m=texel_m, wrap=0.1)


def _shoes(figure: Figure, wear: Wardrobe, fields: dict[str, np.ndarray], texel_m: float) -> Surface:
    shell = figure.shell(0.007, smooth=14)
    rest = shell.rest.copy()
    ground = figure.sole_y - wear.sole_m
    low = rest[:, 1] < figure.sole_y + 0.014
    rest[low, 1] = ground + np.maximum(rest[low, 1] - figure.sole_y + 0.004, 0.0) * 0.5
    rest[:, 1] = np.maximum(rest[:, 1], ground)
    sole_top = figure.sole_y + 0.014

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        return np.where((points[:, 1] < sole_top)[:, None], wear.sole, wear.shoes(points, normals))

    return Surface(rest, shell.faces, shell.weights).cut(fields["shoes"]).painted(paint, texel_m=texel_m, gloss=0.04)


def _skirt(figure: Figure, wear: Wardrobe, texel_m: float, rings: int = 22, around: int = 72) -> Surface:
    """A flared tube from the waist to the hem, carried by pelvis and thighs."""
    hip, ankle = figure.joint("left_hip"), figure.joint("left_ankle")
    top, bottom = figure.joint("pelvis")[1] + 0.035, hip[1] + wear.legs * (ankle[1] - hip[1])
    v = figure.skin.rest[np.abs(figure.skin.rest[:, 0]) < 0.3]
    angles = np.linspace(0, 2 * np.pi, around, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    center = np.array([0.0, figure.joint("pelvis")[2]])
    radius = np.zeros((rings, around))
    heights = np.linspace(top, bottom, rings)
    for k, y in enumerate(heights):
        band = v[np.abs(v[:, 1] - y) < 0.025][:, [0, 2]] - center
        radius[k] = (band @ directions.T).max(0)  # the support function: the band's convex hull
    radius = np.maximum.accumulate(radius, axis=0) + np.linspace(0.008, 0.05, rings)[:, None]
    share = np.linspace(0, 1, rings)[:, None]
    radius += 0.012 * share * np.sin(angles * 9)
    x, z = center[0] + radius * directions[:, 0], center[1] + radius * directions[:, 1]
    rest = np.stack([x, np.broadcast_to(heights[:, None], x.shape), z], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij")
    a, b = i * around + j, i * around + (j + 1) % around
    faces = np.concatenate([np.stack([a, b, a + around], -1), np.stack([b, b + around, a + around], -1)]).reshape(-1, 3)
    drop = np.clip((hip[1] - rest[:, 1]) / 0.35, 0, 1) * 0.75
    left = np.clip(0.5 + rest[:, 0] / 0.16, 0, 1)
    weights = np.zeros((len(rest), 55))
    weights[:, 0], weights[:, 1], weights[:, 2] = 1 - drop, drop * left, drop * (1 - left)
    return Surface(rest, faces, weights).painted(wear.trousers, texel_m=texel_m, wrap=0.1)


def bare_skin(figure: Figure, dressed: Dressed) -> Surface:
    """The skin that clothes leave bare, and a little beneath their hems."""
    return figure.skin.cut(TUCK_M - dressed.under_m)
