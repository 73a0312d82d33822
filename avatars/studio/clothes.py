"""Clothes as shells of real geometry about a figure: cut along smooth hems, loose, wrinkled, skinned like the body.

A garment's extent is a field over the skin (meters inside its hem, negative outside), so that hems are smooth whatever
the triangles are, and the skin beneath can be taken away a little inside the hem.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avatars.studio.figure import Figure
from avatars.studio.kinematics import J
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
    socks: np.ndarray
    socks_m: float
    """How far the socks reach above the ankle joint."""
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
            shirt_loose_m=float(rng.uniform(0.014, 0.027)),
            shirt=palette.cloth(center=chest),
            neckline_m=float(rng.uniform(-0.005, 0.025)),
            shirt_hem_m=0.0 if skirt else float(rng.uniform(0.03, 0.06)),
            legs=float(rng.uniform(0.42, 0.6) if short or skirt else rng.uniform(0.93, 0.98)),
            legs_loose_m=float(rng.uniform(0.013, 0.03)),
            trousers=trousers if rng.random() < 0.85 else palette.cloth(),
            skirt=skirt,
            shoes=plain(palette.color(saturation=(0.0, 0.8), value=(0.1, 0.9))),
            sole=np.full(3, rng.choice([0.12, 0.85])),
            socks=np.full(3, rng.choice([0.1, 0.25, 0.85])),
            socks_m=float(rng.uniform(0.04, 0.12)),
        )


@dataclass(frozen=True, slots=True)
class Dressed:
    """Garments, and how far under cloth each vertex of the skin is (m, negative where bare)."""

    garments: list[Surface]
    under_m: np.ndarray


def dress(figure: Figure, wear: Wardrobe, hair_m: np.ndarray, *, texel_m: float, seed: int) -> Dressed:
    """Put the clothes on a figure; `hair_m` (vertices,) is how far within the hairline each vertex of the skin is."""
    skin = figure.skin.rest
    shirt, legs = _shirt_field(figure, wear, skin), _legs_field(figure, wear, skin)
    lower = _skirt(figure, wear, texel_m) if wear.skirt else _trousers(figure, wear, texel_m, seed)
    garments = [_shirt(figure, wear, texel_m, seed), lower, _shoes(figure, wear, texel_m)]
    if wear.skirt:
        legs = np.minimum(legs, skin[:, 1] - figure.joint("left_hip")[1] + 0.1)  # thighs show from below
    return Dressed(garments, np.max([shirt, legs, _shoe_field(figure), hair_m + TUCK_M - 0.012], axis=0))


def _shirt_field(figure: Figure, wear: Wardrobe, v: np.ndarray) -> np.ndarray:
    shoulder, wrist = figure.joint("left_shoulder"), figure.joint("left_wrist")
    sleeve_end = shoulder[0] + wear.sleeve * (wrist[0] - shoulder[0])
    hem = v[:, 1] - (figure.joint("pelvis")[1] - wear.shirt_hem_m)
    neck = figure.joint("neck")
    slope = np.array([0.0, 0.86, 0.5])  # a collar is lower in front
    below_neck = (neck + np.array([0.0, 0.012 - wear.neckline_m, 0.0]) - v) @ slope
    beside_neck = np.abs(v[:, 0]) - 0.085
    collar = np.maximum(below_neck, np.where(v[:, 1] < neck[1], beside_neck, -1.0))
    return np.min([hem, sleeve_end - np.abs(v[:, 0]), collar], axis=0)


def _legs_field(figure: Figure, wear: Wardrobe, v: np.ndarray) -> np.ndarray:
    hip, ankle = figure.joint("left_hip")[1], figure.joint("left_ankle")[1]
    hem = v[:, 1] - (hip + wear.legs * (ankle - hip))
    return np.minimum(hem, figure.joint("pelvis")[1] + 0.09 - v[:, 1])


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
    folds = np.maximum(value_noise(slanted, 0.045, seed) + 0.5 * value_noise(slanted, 0.022, seed + 1) - 0.75, -0.3)
    return figure.loose_normals * (depth_m * np.minimum(strength, 1.2) * folds)[:, None]


def _shirt(figure: Figure, wear: Wardrobe, texel_m: float, seed: int) -> Surface:
    v = figure.skin.rest
    below = np.clip((figure.joint("spine2")[1] - v[:, 1]) / 0.3, 0.0, 1.0)
    sleeve = np.clip((np.abs(v[:, 0]) - figure.joint("left_shoulder")[0]) / 0.12, 0.0, 1.0)
    offset = wear.shirt_loose_m * (0.75 + 0.55 * below + (0.35 if wear.sleeve < 0.6 else 0.1) * sleeve) + 0.004 * below
    offset *= 0.35 + 0.65 * np.clip((figure.joint("neck")[1] - v[:, 1] + 0.02) / 0.08, 0, 1)  # snug at the collar
    if wear.sleeve > 0.6:  # a cuff
        cuff = np.abs(v[:, 0]) - (
            figure.joint("left_elbow")[0] + 0.6 * (figure.joint("left_wrist") - figure.joint("left_elbow"))[0]
        )
        offset *= 1 - 0.45 * np.clip(cuff / 0.06, 0, 1)
    places = [(figure.joint(f"{s}_{n}"), 0.11) for s in ("left", "right") for n in ("elbow", "shoulder")]
    places.append((figure.joint("pelvis"), 0.2))
    shell = figure.shell(offset, smooth=8, free=_wrinkles(figure, places, 0.011, seed))
    keep = np.where(_carried_by_head(figure), -1.0, _shirt_field(figure, wear, shell.rest))
    return shell.cut(keep).painted(_tailored(wear.shirt, figure), texel_m=texel_m, wrap=0.1)


def _carried_by_head(figure: Figure) -> np.ndarray:
    return figure.weight_of("head", "jaw") > 0.3


def _tailored(pattern: Pattern, figure: Figure) -> Pattern:
    """The pattern laid out as cloth is sewn: on the sleeves, what ran down the body runs down the arm."""
    shoulder = figure.joint("left_shoulder")
    seam = shoulder[0] + 0.015

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        out = np.abs(points[:, 0]) - seam
        sleeve = np.stack([points[:, 2], shoulder[1] - out, points[:, 1]], 1)
        turned = np.stack([normals[:, 2], normals[:, 0], np.minimum(normals[:, 1], 0.0)], 1)
        on_sleeve = (out > 0)[:, None]
        return pattern(np.where(on_sleeve, sleeve, points), np.where(on_sleeve, turned, normals))

    return paint


def _trousers(figure: Figure, wear: Wardrobe, texel_m: float, seed: int) -> Surface:
    v = figure.skin.rest
    down = np.clip((figure.joint("left_hip")[1] - v[:, 1]) / 0.6, 0.0, 1.0)
    offset = wear.legs_loose_m * (0.45 + 0.75 * down)
    places = [(figure.joint(f"{s}_{n}"), 0.12) for s in ("left", "right") for n in ("knee", "ankle")]
    places.append((figure.joint("pelvis") - [0, 0.1, 0], 0.12))
    shell = figure.shell(offset, smooth=6, free=_wrinkles(figure, places, 0.010, seed + 7))
    # Nothing of them shows beneath the shirt but near its hem, where arms raised lift it.
    keep = np.minimum(_legs_field(figure, wear, shell.rest), 0.06 - _shirt_field(figure, wear, shell.rest))
    return shell.cut(keep).painted(wear.trousers, texel_m=texel_m, wrap=0.1)


def _shoes(figure: Figure, wear: Wardrobe, texel_m: float) -> Surface:
    left = _shoe(figure, wear)
    mirror = np.array([-1.0, 1.0, 1.0])
    swap = list(range(55))
    for a, b in (("left_knee", "right_knee"), ("left_ankle", "right_ankle"), ("left_foot", "right_foot")):
        swap[J[a]], swap[J[b]] = J[b], J[a]
    right = Surface(left.rest * mirror, left.faces[:, ::-1], left.weights[:, swap])
    sole_top = figure.sole_y + 0.014

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        return np.where((points[:, 1] < sole_top)[:, None], wear.sole, wear.shoes(points, normals))

    return Surface.join([shoe.painted(paint, texel_m=texel_m, gloss=0.04) for shoe in (left, right)])


def _shoe(figure: Figure, wear: Wardrobe, slices: int = 44, around: int = 48) -> Surface:
    """A left shoe: the hull of the foot's cross-sections from heel to toe, flat below, open at the ankle."""
    ground, top = figure.sole_y - wear.sole_m, figure.joint("left_ankle")[1] + 0.02
    foot = figure.skin.rest[(figure.skin.rest[:, 0] > 0) & (figure.skin.rest[:, 1] < top)]
    heel, toe = foot[:, 2].min(), foot[:, 2].max()
    angles = np.linspace(0, 2 * np.pi, around, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    stations = np.linspace(heel, toe, slices)
    centers, reach = np.empty((slices, 2)), np.empty((slices, around))
    for k, z in enumerate(np.clip(stations, heel + 0.022, toe - 0.03)):
        band = foot[np.abs(foot[:, 2] - z) < 0.012][:, :2]
        centers[k] = [(band[:, 0].min() + band[:, 0].max()) / 2, ground + 0.028]
        reach[k] = hull_radius(band - centers[k], angles) + 0.006
    centers, reach = (gaussian_filter1d(a, 1.6, axis=0, mode="nearest") for a in (centers, reach))
    stations = np.linspace(heel - 0.01, toe + 0.012, slices)
    rounding = np.minimum((stations - stations[0]) / 0.022, (stations[-1] - stations) / 0.04)
    reach *= np.sqrt(1 - np.square(1 - np.clip(rounding, 0.0, 1.0)))[:, None]
    xy = centers[:, None] + reach[..., None] * directions
    rest = np.concatenate([xy, np.broadcast_to(stations[:, None, None], (slices, around, 1))], -1).reshape(-1, 3)
    rest[:, 1] = np.maximum(rest[:, 1], ground)
    weights = np.zeros((len(rest), 55))
    toes = np.clip((rest[:, 2] - figure.joint("left_foot")[2]) / 0.05 + 0.5, 0, 1)
    weights[:, J["left_foot"]], weights[:, J["left_ankle"]] = toes, 1 - toes
    shoe = Surface(rest, tube_faces(slices, around), weights)
    ankle = figure.joint("left_ankle")
    return shoe.cut(ankle[1] + 0.012 - rest[:, 1] - 0.12 * np.maximum(rest[:, 2] - ankle[2], 0.0))


def hull_radius(points: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Distance (angles,) from the origin to the convex hull of points (n, 2) along each angle."""
    support = (points @ np.stack([np.cos(angles), np.sin(angles)])).max(0)
    cosine = np.cos(angles[:, None] - angles)
    return np.where(cosine > 0.05, support / np.maximum(cosine, 0.05), np.inf).min(1)


def tube_faces(rings: int, around: int) -> np.ndarray:
    """Triangles (n, 3) of a closed tube whose vertices are numbered ring by ring."""
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij")
    a, b = i * around + j, i * around + (j + 1) % around
    return np.concatenate([np.stack([a, b, a + around], -1), np.stack([b, b + around, a + around], -1)]).reshape(-1, 3)


def _skirt(figure: Figure, wear: Wardrobe, texel_m: float, rings: int = 22, around: int = 72) -> Surface:
    """A flared tube from the waist to the hem, carried by pelvis and thighs."""
    hip, ankle = figure.joint("left_hip"), figure.joint("left_ankle")
    top, bottom = figure.joint("pelvis")[1] + 0.05, hip[1] + wear.legs * (ankle[1] - hip[1])
    v = figure.skin.rest[np.abs(figure.skin.rest[:, 0]) < 0.3]
    angles = np.linspace(0, 2 * np.pi, around, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    center = np.array([0.0, figure.joint("pelvis")[2]])
    radius = np.zeros((rings, around))
    heights = np.linspace(top, bottom, rings)
    for k, y in enumerate(heights):
        band = v[np.abs(v[:, 1] - y) < 0.025][:, [0, 2]] - center
        radius[k] = hull_radius(band, angles)
    radius = np.maximum.accumulate(radius, axis=0) + np.linspace(0.006 + 1.2 * wear.shirt_loose_m, 0.06, rings)[:, None]
    share = np.linspace(0, 1, rings)[:, None]
    radius += 0.012 * share * np.sin(angles * 9)
    x, z = center[0] + radius * directions[:, 0], center[1] + radius * directions[:, 1]
    rest = np.stack([x, np.broadcast_to(heights[:, None], x.shape), z], -1).reshape(-1, 3)
    drop = np.clip((hip[1] + 0.05 - rest[:, 1]) / 0.2, 0, 1)
    left = np.clip(0.5 + rest[:, 0] / 0.16, 0, 1)
    weights = np.zeros((len(rest), 55))
    weights[:, 0], weights[:, 1], weights[:, 2] = 1 - drop, drop * left, drop * (1 - left)
    return Surface(rest, tube_faces(rings, around), weights).painted(wear.trousers, texel_m=texel_m, wrap=0.1)


def bare_skin(figure: Figure, dressed: Dressed) -> Surface:
    """The skin that clothes leave bare, and a little beneath their hems."""
    return figure.skin.cut(TUCK_M - dressed.under_m)
