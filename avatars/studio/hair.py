"""Hair as shells grown from the scalp: styles by where the hairline runs, how thick it is, how far it falls."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from avatars.studio.clothes import tube_faces
from avatars.studio.figure import Figure
from avatars.studio.kinematics import J
from avatars.studio.patterns import Pattern, cloudy, value_noise
from avatars.studio.surface import Surface

HAIR_STYLES = ("buzz", "short", "bob", "long", "bun", "bald")


@dataclass(frozen=True, slots=True)
class Hair:
    """A style of `HAIR_STYLES` in a color (sRGB)."""

    style: str
    color: np.ndarray
    thickness_m: float = 0.02

    @staticmethod
    def sample(rng: np.random.Generator, *, feminine: float, dark: bool, gray: bool) -> Hair:
        """Hair drawn from a generator."""
        woman = np.array([0.03, 0.17, 0.27, 0.33, 0.2, 0.0])
        man = np.array([0.25, 0.55, 0.05, 0.05, 0.02, 0.08])
        chances = feminine * woman + (1 - feminine) * man
        style = str(rng.choice(HAIR_STYLES, p=chances / chances.sum()))
        value = rng.uniform(0.06, 0.16) if dark or rng.random() < 0.5 else rng.uniform(0.25, 0.7)
        hue, saturation = rng.uniform(0.05, 0.11), rng.uniform(0.3, 0.65)
        if gray:
            value, saturation = rng.uniform(0.45, 0.75), 0.08
        thickness = {"buzz": 0.005, "bald": 0.004}.get(style, float(rng.uniform(0.014, 0.024)))
        return Hair(style, np.array(colorsys.hsv_to_rgb(hue, saturation, value)), thickness)

    @property
    def covers_ears(self) -> bool:
        """Whether the hair falls over the ears."""
        return self.style in ("bob", "long")

    def extent_m(self, figure: Figure) -> np.ndarray:
        """(vertices,) how far within the hairline each vertex of the skin is, meters; negative outside."""
        field = _scalp_field(figure, covers_ears=self.covers_ears)
        if self.style == "bald":  # a wreath around a bare crown
            field = np.minimum(field, figure.keypoint("left_ear")[1] + 0.065 - figure.skin.rest[:, 1])
        return np.where(figure.weight_of("head", "neck") > 0.4, field, -1.0)

    def grow(self, figure: Figure, *, seed: int) -> list[Surface]:
        """The hair on a figure's head, as painted surfaces."""
        paint = _strands(figure, self.color, seed)
        field = self.extent_m(figure)
        depth = self.thickness_m * np.clip(0.16 + field / 0.035, 0.16, 1.0)
        rest = figure.skin.rest
        depth *= 0.85 + 0.5 * value_noise(rest * [1, 0.6, 1], 0.03, seed + 2)
        shell = figure.shell(depth, smooth=10 if self.covers_ears or self.style == "bun" else 4)
        parts = [_head_only(shell, figure).cut(field)]
        if self.covers_ears:
            parts.append(_curtain(figure, 0.16 if self.style == "bob" else 0.34, self.thickness_m))
        if self.style == "bun":
            crown = _head_center(figure) + np.array([0.0, 0.075, -0.105])
            parts.append(_ball(crown, 0.045, seed))
        return [part.painted(paint, texel_m=0.0025, gloss=0.10, wrap=0.15) for part in parts]


def _head_center(figure: Figure) -> np.ndarray:
    ears = 0.5 * (figure.keypoint("left_ear") + figure.keypoint("right_ear"))
    return ears + np.array([0.0, 0.03, 0.005])


def _scalp_field(figure: Figure, *, covers_ears: bool) -> np.ndarray:
    """Meters above the hairline (vertices,); negative on the face, ears and neck."""
    v, center = figure.skin.rest, _head_center(figure)
    brow = figure.face[17:27, 1].mean()
    ear = figure.keypoint("left_ear")
    azimuth = np.abs(np.degrees(np.arctan2(v[:, 0], v[:, 2] - center[2])))  # 0 at the face, 180 at the nape
    turns = [0, 35, 58, 72, 84, 110, 140, 180]
    nape = figure.face[48:68, 1].mean() + 0.01
    lines = [
        brow + 0.052,
        brow + 0.046,
        brow + 0.022,
        ear[1] + 0.012,
        ear[1] + 0.03,
        ear[1] - 0.005,
        nape,
        nape - 0.012,
    ]
    if covers_ears:
        lines[3:6] = [ear[1] - 0.02, ear[1] - 0.035, ear[1] - 0.04]
    field = v[:, 1] - np.interp(azimuth, turns, lines)
    if not covers_ears:
        for name in ("left_ear", "right_ear"):
            field = np.minimum(field, np.linalg.norm(v - figure.keypoint(name), axis=1) - 0.038)
    skull = v[:, 1] > figure.joint("neck")[1] + 0.02
    eyes_or_mouth = figure.eyes | (v[:, 2] > figure.face[36:48, 2].mean() + 0.1)
    return np.where(skull & ~eyes_or_mouth, field, -1.0)


def _head_only(shell: Surface, figure: Figure) -> Surface:
    """The shell carried by the head and neck alone, so that the jaw does not pull it."""
    weights = np.zeros_like(shell.weights)
    neck = figure.weight_of("neck", "spine3")
    weights[:, J["neck"]] = neck
    weights[:, J["head"]] = 1.0 - neck
    return Surface(shell.rest, shell.faces, weights)


def _curtain(figure: Figure, length_m: float, thickness_m: float, rows: int = 20, columns: int = 48) -> Surface:
    """Hair falling from the sides and back of the head, a closed sheet carried by head, neck and upper back."""
    center, ear = _head_center(figure), figure.keypoint("left_ear")
    head = figure.skin.rest[figure.weight_of("head", "neck", "spine3", "spine2") > 0.5]
    angles = np.radians(np.linspace(78, 282, columns))
    top = ear[1] + 0.05
    heights = np.linspace(top, top - length_m, rows)
    outer = np.zeros((rows, columns, 3))
    previous = None
    for row, y in enumerate(heights):
        band = head[np.abs(head[:, 1] - y) < 0.02]
        band = band[np.linalg.norm((band - center)[:, [0, 2]], axis=1) < 0.16]
        directions = np.stack([np.sin(angles), np.cos(angles)], 1)
        reach = ((band - center)[:, [0, 2]] @ directions.T).max(0) if len(band) else np.full(columns, 0.08)
        reach = reach + 0.7 * thickness_m
        if previous is not None:  # falls straight, and never moves in or out by more than cloth would
            reach = np.clip(reach, previous - 0.0035, previous + 0.012)
        previous = reach
        outer[row] = np.stack(
            [center[0] + reach * directions[:, 0], np.full(columns, y), center[2] + reach * directions[:, 1]], 1
        )
    outer[..., 0] += 0.003 * np.sin(np.linspace(0, 40, columns)) * np.linspace(0.2, 1, rows)[:, None]
    middle = np.array([center[0], 0.0, center[2]])
    inner = outer + (middle - outer) * [1, 0, 1] * 0.14
    rest = np.concatenate([outer.reshape(-1, 3), inner.reshape(-1, 3)])
    grid = np.arange(rows * columns).reshape(rows, columns)

    def quads(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
        return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])

    back = grid + rows * columns
    faces = [
        quads(grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]),
        quads(back[:-1, :-1], back[:-1, 1:], back[1:, :-1], back[1:, 1:]),
        quads(grid[-1, :-1], back[-1, :-1], grid[-1, 1:], back[-1, 1:]),
        quads(grid[:-1, 0], back[:-1, 0], grid[1:, 0], back[1:, 0]),
        quads(grid[:-1, -1], grid[1:, -1], back[:-1, -1], back[1:, -1]),
    ]
    neck, chest = figure.joint("neck")[1], figure.joint("spine3")[1]
    weights = np.zeros((len(rest), 55))
    down = np.clip((neck + 0.06 - rest[:, 1]) / (neck + 0.06 - chest), 0, 1)
    weights[:, J["spine3"]] = 0.7 * down
    weights[:, J["neck"]] = 0.3 * down
    weights[:, J["head"]] = 1 - down
    return Surface(rest, np.concatenate(faces), weights)


def _ball(center: np.ndarray, radius: float, seed: int, n: int = 20) -> Surface:
    theta, phi = np.meshgrid(np.linspace(0, np.pi, n), np.linspace(0, 2 * np.pi, 2 * n, endpoint=False), indexing="ij")
    directions = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1).reshape(-1, 3)
    rest = center + radius * directions * (0.9 + 0.2 * value_noise(directions, 0.4, seed))[:, None]
    weights = np.zeros((len(rest), 55))
    weights[:, J["head"]] = 1.0
    return Surface(rest, tube_faces(n, 2 * n), weights)


def _strands(figure: Figure, color: np.ndarray, seed: int) -> Pattern:
    """Fine streaks that run down from the crown."""
    center = _head_center(figure)

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        offset = points - center
        around = np.arctan2(offset[:, 0], offset[:, 2]) * 0.09
        down = offset[:, 1] * 0.12
        streak = value_noise(np.stack([around, down, 0 * down], 1), 0.0025, seed)
        lock = cloudy(np.stack([around, 1.6 * down, 0 * down], 1), 0.02, seed + 9, 2)
        return color * (0.72 + 0.32 * streak + 0.34 * lock)[:, None]

    return paint
