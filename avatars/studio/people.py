"""Procedural people: a shape of the default body, skin, eyes, brows, lips, hair and clothes, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from avatars.body import Body, load_body
from avatars.studio.clothes import Wardrobe, bare_skin, dress
from avatars.studio.figure import Figure
from avatars.studio.hair import HAIR_STYLES, Hair
from avatars.studio.keyframes import Manner
from avatars.studio.kinematics import J
from avatars.studio.patterns import Pattern, cloudy, value_noise
from avatars.studio.surface import Surface

SKIN_TONES = np.array(
    [[0.94, 0.78, 0.69], [0.87, 0.67, 0.55], [0.77, 0.56, 0.42], [0.58, 0.39, 0.28], [0.38, 0.25, 0.18]]
)
EYE_COLORS = np.array([[0.30, 0.19, 0.10], [0.24, 0.32, 0.22], [0.30, 0.42, 0.55], [0.17, 0.11, 0.07]])


@dataclass(frozen=True)
class Person:
    """Who is filmed: shape, looks and manner. `surface` is the painted mesh that is photographed."""

    body: Body
    betas: np.ndarray
    """(20,) shape of the default body."""
    skin_tone: np.ndarray
    eye_color: np.ndarray
    hair: Hair
    wardrobe: Wardrobe
    manner: Manner
    seed: int = 0
    phenotype: dict[str, float] = field(default_factory=dict)
    texel_m: float = 0.0025

    @staticmethod
    def sample(seed: int, body: Body | None = None) -> Person:
        """A person drawn from `seed`: sex, age, weight, height, proportions, skin, hair, clothes and manner."""
        body = body or load_body()
        rng = np.random.default_rng([seed, 31])
        phenotype = sample_phenotype(rng)
        betas = betas_of(phenotype, body)
        figure = Figure.of(body, betas)
        tone = rng.uniform(0, len(SKIN_TONES) - 1.001)
        low = int(tone)
        skin = SKIN_TONES[low] + (tone - low) * (SKIN_TONES[low + 1] - SKIN_TONES[low])
        feminine = 1.0 - phenotype["gender"]
        hair = Hair.sample(rng, feminine=feminine, dark=tone > 2.2, gray=phenotype["age"] > 0.82)
        wardrobe = Wardrobe.sample(rng, figure, feminine=feminine)
        eyes = EYE_COLORS[int(rng.integers(len(EYE_COLORS)))] if tone < 2 else EYE_COLORS[3]
        person = Person(body, betas, skin, eyes, hair, wardrobe, Manner.sample(seed), seed, phenotype)
        person.__dict__["figure"] = figure  # the cached property, already made
        return person

    @cached_property
    def figure(self) -> Figure:
        """The bare body in the T-pose."""
        return Figure.of(self.body, self.betas)

    @cached_property
    def surface(self) -> Surface:
        """Skin, clothes and hair as one painted, skinned mesh."""
        figure = self.figure
        dressed = dress(figure, self.wardrobe, self.hair.extent_m(figure), texel_m=self.texel_m, seed=self.seed)
        skin = bare_skin(figure, dressed).painted(self.complexion, texel_m=0.8 * self.texel_m, gloss=0.05, wrap=0.25)
        return Surface.join([skin, *dressed.garments, *self.hair.grow(figure, seed=self.seed)])

    @property
    def complexion(self) -> Pattern:
        """The color of skin, lips, brows, eyes and socks by place."""
        bare = _complexion(self.figure, self.skin_tone, self.eye_color, self.hair.color, self.seed)
        top = self.figure.joint("left_ankle")[1] + self.wardrobe.socks_m

        def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
            return np.where((points[:, 1] < top)[:, None], self.wardrobe.socks, bare(points, normals))

        return paint

    def describe(self) -> dict[str, Any]:
        """What is worth writing down about this person, for json."""
        return {
            "seed": self.seed,
            "body_sha256": self.body.sha256,
            "betas": [float(b) for b in self.betas],
            "phenotype": self.phenotype,
            "skin_tone": [round(float(c), 4) for c in self.skin_tone],
            "hair": {"style": self.hair.style, "color": [round(float(c), 4) for c in self.hair.color]},
            "clothes": {"sleeve": self.wardrobe.sleeve, "legs": self.wardrobe.legs, "skirt": self.wardrobe.skirt},
            "manner": {name: getattr(self.manner, name) for name in self.manner.__slots__},
        }


def sample_phenotype(rng: np.random.Generator) -> dict[str, float]:
    """Anny's knobs in [0, 1] for one adult."""
    gender = float(np.clip(rng.choice([0.08, 0.92]) + rng.normal(0, 0.08), 0, 1))
    race = rng.dirichlet([1.0, 1.0, 1.0])
    return {
        "gender": gender,
        "age": float(rng.uniform(0.62, 0.92)),
        "muscle": float(np.clip(rng.normal(0.5, 0.14), 0.2, 0.85)),
        "weight": float(np.clip(rng.normal(0.48, 0.15), 0.2, 0.88)),
        "height": float(np.clip(rng.normal(0.4, 0.1), 0.15, 0.65)),
        "proportions": float(np.clip(rng.normal(0.6, 0.14), 0.25, 0.95)),
        "african": float(race[0]), "asian": float(race[1]), "caucasian": float(race[2]),
    }  # fmt: skip


def betas_of(phenotype: dict[str, float], body: Body) -> np.ndarray:
    """The body's betas that come nearest to an Anny phenotype, drawn in where they are far out."""
    from avatars.body.default_body import phenotype_vertices, project_shape

    betas = project_shape(phenotype_vertices(phenotype), body.n_betas)
    return np.clip(betas, -3.0, 3.0).astype(np.float32)


def _distance_to_path(points: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Distance (n,) in the frontal plane to a polyline (k, 2)."""
    best = np.full(len(points), np.inf)
    for a, b in pairwise(path):
        t = np.clip((points - a) @ (b - a) / max(np.dot(b - a, b - a), 1e-12), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[:, None] * (b - a), axis=1))
    return best


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Whether points (n, 2) lie in a polygon (k, 2) (even-odd rule)."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    straddles = (a[:, 1] > y) != (b[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = (b[:, 0] - a[:, 0]) * (y - a[:, 1]) / (b[:, 1] - a[:, 1]) + a[:, 0]
    return (straddles & (x < cross)).sum(1) % 2 == 1


def _complexion(figure: Figure, tone: np.ndarray, iris: np.ndarray, hair: np.ndarray, seed: int) -> Pattern:
    face = figure.face
    lips = tone * np.array([0.86, 0.6, 0.6])
    brow = 0.55 * hair + 0.12 * tone

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        blotches = cloudy(points, 0.05, seed, 3)[:, None] - 0.5
        pores = value_noise(points, 0.006, seed + 5)[:, None] - 0.5
        color = tone * (1 + 0.10 * blotches + 0.05 * pores) + np.array([0.03, -0.01, -0.01]) * blotches
        near = np.linalg.norm(points - face[30], axis=1) < 0.14
        front = np.flatnonzero(near & (points[:, 2] > face[36:48, 2].min() - 0.03))
        color[front] = _face_color(points[front], color[front], face, lips, brow)
        for side in ("left", "right"):
            _paint_eye(points, color, figure.joint(f"{side}_eye_smplhf"), figure, iris)
        nails = np.zeros(len(points), bool)
        for hand in ("left", "right"):
            for finger in ("thumb", "index", "middle", "ring", "pinky"):
                tip = figure.keypoint(f"{hand}_{finger}")
                nails |= (np.linalg.norm(points - tip, axis=1) < 0.011) & (normals[:, 1] > 0.35)
        color[nails] = 0.75 * color[nails] + 0.25 * np.array([0.98, 0.84, 0.82])
        return np.clip(color, 0, 1)

    return paint


def _face_color(
    points: np.ndarray, color: np.ndarray, face: np.ndarray, lips: np.ndarray, brow: np.ndarray
) -> np.ndarray:
    xy = points[:, :2]
    for cheek in (face[[2, 31]].mean(0), face[[14, 35]].mean(0)):
        blush = np.exp(-np.square(np.linalg.norm(points - cheek, axis=1) / 0.022))[:, None]
        color = color * (1 + blush * np.array([0.05, -0.08, -0.07]))
    for socket in (face[36:42].mean(0), face[42:48].mean(0)):
        shadow = np.exp(-np.square(np.linalg.norm(xy - socket[:2], axis=1) / 0.02))[:, None]
        color = color * (1 - 0.18 * shadow)
    edge = _distance_to_path(xy, np.concatenate([face[48:60], face[48:49]])[:, :2])
    mouth = _inside(xy, face[48:60, :2])
    depth = np.where(mouth, edge, -edge)
    color = color + np.clip((depth + 0.0015) / 0.003, 0, 1)[:, None] * (lips - color)
    seam = _distance_to_path(xy, face[[48, 60, 61, 62, 63, 64, 54]][:, :2])
    color = color * (1 - 0.55 * np.exp(-np.square(seam / 0.0016)))[:, None]
    for path in (face[17:22], face[22:27]):
        lift = np.array([0.0, 0.002])
        near = _distance_to_path(xy, path[:, :2] + lift)
        hairs = 0.75 + 0.5 * value_noise(points * [1, 0.5, 1], 0.002, 3)
        color = color + (np.clip((0.0048 - near) / 0.0025, 0, 1) * np.clip(hairs, 0, 1))[:, None] * (brow - color)
    for lid in (face[[36, 37, 38, 39]], face[[42, 43, 44, 45]]):
        near = _distance_to_path(xy, lid[:, :2] + np.array([0.0, 0.001]))
        color = color * (1 - 0.7 * np.exp(-np.square(near / 0.0016)))[:, None]
    return color


def _paint_eye(points: np.ndarray, color: np.ndarray, center: np.ndarray, figure: Figure, iris: np.ndarray) -> None:
    """Sclera, iris and pupil on the eyeball about `center`, in place."""
    offset = points - center
    ball = figure.skin.rest[figure.eyes & (np.sign(figure.skin.rest[:, 0]) == np.sign(center[0]))]
    radius = float(np.median(np.linalg.norm(ball - center, axis=1)))
    on_ball = np.flatnonzero(np.abs(np.linalg.norm(offset, axis=1) - radius) < 0.0012)
    if not len(on_ball):
        return
    sideways = np.linalg.norm(offset[on_ball, :2], axis=1)
    shown = np.array([0.93, 0.92, 0.9]) * np.ones((len(on_ball), 1))
    shown = np.where((sideways < 0.0064)[:, None], iris * (0.8 + 0.5 * (sideways / 0.0064)[:, None]), shown)
    shown = np.where((np.abs(sideways - 0.0064) < 0.0006)[:, None], 0.5 * iris, shown)
    shown = np.where((sideways < 0.0027)[:, None], 0.03, shown)
    shown = np.where((offset[on_ball, 2] > 0.2 * radius)[:, None], shown, 0.6 * color[on_ball])
    color[on_ball] = shown


__all__ = ["HAIR_STYLES", "J", "Person", "betas_of", "sample_phenotype"]
