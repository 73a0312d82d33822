"""Rooms with known geometry: floor, walls and furniture from boxes and cylinders, lit by one lamp, seen as a plate.

The person stands at the origin and the camera looks from +Z; a disc about the origin and the way to the
camera stay free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from avatars.studio.patterns import Palette, Pattern, emblem, plain, stripes, tiles, wood
from avatars.studio.raycast import Light


@dataclass(frozen=True, slots=True)
class Part:
    """One box or upright cylinder: center, full size (m), heading (degrees about +Y) and what it is painted with."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    paint: Pattern
    yaw_deg: float = 0.0
    round: bool = False
    glow: float = 0.0
    """Light that it gives off itself (a window, a screen)."""

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (n, 3) in the world and faces (m, 3)."""
        vertices, faces = _cylinder() if self.round else _box()
        c, s = np.cos(np.radians(self.yaw_deg)), np.sin(np.radians(self.yaw_deg))
        R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        return (vertices * np.array(self.size)) @ R.T + np.array(self.center), faces


def _box() -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def _cylinder(n: int = 28) -> tuple[np.ndarray, np.ndarray]:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    ring = np.stack([0.5 * np.cos(angle), 0 * angle, 0.5 * np.sin(angle)], 1)
    vertices = np.concatenate([ring - np.array([0, 0.5, 0]), ring + np.array([0, 0.5, 0]), [[0, -0.5, 0], [0, 0.5, 0]]])
    i, j = np.arange(n), (np.arange(n) + 1) % n
    side = np.concatenate([np.stack([i, n + i, j], 1), np.stack([j, n + i, n + j], 1)])
    return vertices, np.concatenate(
        [side, np.stack([i, j, 0 * i + 2 * n], 1), np.stack([n + i, 0 * i + 2 * n + 1, n + j], 1)]
    )


def placed(parts: list[Part], x: float, z: float, yaw_deg: float) -> list[Part]:
    """Parts built about the origin, turned and moved to (x, z)."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return [
        replace(
            p,
            center=(c * p.center[0] + s * p.center[2] + x, p.center[1], -s * p.center[0] + c * p.center[2] + z),
            yaw_deg=p.yaw_deg + yaw_deg,
        )
        for p in parts
    ]  # fmt: skip


def sofa(palette: Palette) -> list[Part]:
    cloth = plain(palette.color(value=(0.25, 0.7), saturation=(0.1, 0.6)), roughness=0.12)
    width = palette.rng.uniform(1.5, 2.0)
    parts = [Part((0, 0.22, 0), (width, 0.36, 0.85), cloth), Part((0, 0.58, -0.34), (width, 0.5, 0.2), cloth)]
    parts += [Part((side * (width / 2 + 0.08), 0.32, 0), (0.18, 0.56, 0.85), cloth) for side in (-1, 1)]
    parts += [Part((side * width / 4, 0.45, 0.06), (width / 2 - 0.03, 0.13, 0.66), cloth) for side in (-1, 1)]
    cushion = stripes(palette.color(), palette.color(), width_m=0.06)
    return [*parts, Part((-width / 3, 0.64, -0.15), (0.38, 0.34, 0.12), cushion, 12)]


def table(palette: Palette) -> list[Part]:
    finish = wood(palette.wood(), plank_m=0.2, seed=int(palette.rng.integers(99)))
    w, d, h = palette.rng.uniform(0.9, 1.5), palette.rng.uniform(0.6, 0.8), 0.74
    legs = [
        Part((x * (w / 2 - 0.06), h / 2 - 0.02, z * (d / 2 - 0.06)), (0.06, h - 0.04, 0.06), finish)
        for x in (-1, 1)
        for z in (-1, 1)
    ]
    mug = Part((0.2, h + 0.05, 0.05), (0.08, 0.1, 0.08), plain(palette.color()), round=True)
    book = Part((-0.2, h + 0.02, 0.0), (0.22, 0.04, 0.16), plain(palette.color()), 20)
    return [*legs, Part((0, h - 0.02, 0), (w, 0.04, d), finish), mug, book]


def chair(palette: Palette) -> list[Part]:
    finish = wood(palette.wood(), plank_m=0.3)
    legs = [Part((x * 0.19, 0.22, z * 0.19), (0.04, 0.44, 0.04), finish) for x in (-1, 1) for z in (-1, 1)]
    back = [Part((x * 0.19, 0.68, -0.19), (0.04, 0.5, 0.04), finish) for x in (-1, 1)]
    slats = [Part((0, y, -0.19), (0.36, 0.07, 0.02), finish) for y in (0.62, 0.75, 0.88)]
    return [*legs, *back, *slats, Part((0, 0.45, 0), (0.43, 0.04, 0.43), finish)]


def shelf(palette: Palette) -> list[Part]:
    finish = wood(palette.wood(), plank_m=0.4)
    w, h, d = palette.rng.uniform(0.7, 1.2), palette.rng.uniform(1.4, 2.0), 0.3
    levels = np.linspace(0.04, h, 6)
    parts = [Part((x * w / 2, h / 2, 0), (0.03, h, d), finish) for x in (-1, 1)]
    parts += [Part((0, y, 0), (w, 0.025, d), finish) for y in levels] + [Part((0, h / 2, -d / 2), (w, h, 0.01), finish)]
    for y in levels[:-1]:
        x = -w / 2 + 0.05
        while x < w / 2 - 0.08:
            thick, tall = palette.rng.uniform(0.02, 0.05), palette.rng.uniform(0.16, 0.25)
            if palette.rng.random() < 0.8:
                parts.append(Part((x, y + 0.0125 + tall / 2, 0.02), (thick, tall, 0.2), plain(palette.color())))
            x += thick + palette.rng.uniform(0.002, 0.03)
    return parts


def plant(palette: Palette) -> list[Part]:
    green = np.array([0.16, 0.36, 0.14]) * palette.rng.uniform(0.8, 1.4)
    parts = [Part((0, 0.17, 0), (0.32, 0.34, 0.32), plain(palette.color(saturation=(0.1, 0.6))), round=True)]
    for _ in range(26):
        angle, tilt, tall = palette.rng.uniform(0, 360), palette.rng.uniform(0, 0.3), palette.rng.uniform(0.4, 1.0)
        x, z = tilt * np.cos(np.radians(angle)), tilt * np.sin(np.radians(angle))
        parts.append(
            Part((x, 0.3 + tall / 2, z), (0.1, tall * 0.5, 0.012), plain(green * palette.rng.uniform(0.7, 1.3)), angle)
        )
    return parts


def cabinet(palette: Palette) -> list[Part]:
    finish = wood(palette.wood(), plank_m=0.5)
    w = palette.rng.uniform(1.0, 1.6)
    doors = [Part(((k - 1) * w / 3, 0.38, 0.21), (w / 3 - 0.02, 0.56, 0.02), finish) for k in range(3)]
    knobs = [
        Part(((k - 1) * w / 3 + 0.1, 0.42, 0.23), (0.03, 0.03, 0.03), plain(np.array([0.7, 0.7, 0.68])))
        for k in range(3)
    ]
    screen = Part((0, 1.08, -0.1), (min(w, 1.1), 0.6, 0.04), plain(np.array([0.03, 0.03, 0.035])))
    return [Part((0, 0.37, 0), (w, 0.66, 0.4), finish), *doors, *knobs, screen]


def stool(height_m: float, x: float, z: float) -> list[Part]:
    """A round stool to sit on."""
    finish = wood(np.array([0.55, 0.38, 0.22]), plank_m=0.5)
    legs = [
        Part((dx * 0.11 + x, height_m / 2 - 0.02, dz * 0.11 + z), (0.035, height_m - 0.04, 0.035), finish)
        for dx in (-1, 1)
        for dz in (-1, 1)
    ]
    return [*legs, Part((x, height_m - 0.02, z), (0.34, 0.04, 0.34), finish, round=True)]


FURNITURE: tuple[Callable[[Palette], list[Part]], ...] = (sofa, table, chair, shelf, plant, cabinet)


@dataclass(frozen=True, slots=True)
class Room:
    """Parts, a lamp and the light that it gives."""

    parts: tuple[Part, ...]
    light: Light
    lamp_m: tuple[float, float, float]
    """Where the lamp hangs; the sun is a lamp far away."""
    lamp_radius_m: float
    outdoors: bool = False
    seed: int = 0

    @staticmethod
    def sample(seed: int, *, outdoors: bool | None = None) -> Room:
        """A room (or, one time in six, a yard) drawn from `seed`."""
        rng = np.random.default_rng([seed, 21])
        outside = rng.random() < 1 / 6
        if outdoors if outdoors is not None else outside:
            return _yard(rng, seed)
        return _indoors(rng, seed)

    def with_parts(self, parts: list[Part]) -> Room:
        """The room with more in it."""
        return replace(self, parts=(*self.parts, *parts))


def _indoors(rng: np.random.Generator, seed: int) -> Room:
    palette = Palette(rng)
    back, left, right, high = (
        -rng.uniform(1.5, 3.0),
        -rng.uniform(1.7, 2.8),
        rng.uniform(1.7, 2.8),
        rng.uniform(2.4, 2.8),
    )
    front = 5.5
    middle, deep = (left + right) / 2, front - back
    wall = _wallpaper(palette)
    parts = [
        Part((middle, -0.05, (back + front) / 2), (right - left, 0.1, deep), _flooring(palette)),
        Part(
            (middle, high + 0.05, (back + front) / 2),
            (right - left, 0.1, deep),
            plain(np.array([0.9, 0.9, 0.88]), roughness=0.01),
        ),
        Part((middle, high / 2, back - 0.05), (right - left + 0.2, high, 0.1), wall),
        Part((left - 0.05, high / 2, (back + front) / 2), (0.1, high, deep), wall),
        Part((right + 0.05, high / 2, (back + front) / 2), (0.1, high, deep), wall),
        Part((middle, high / 2, front + 0.05), (right - left, high, 0.1), wall),
    ]
    trim = plain(palette.wall() * 0.95)
    parts += [Part((middle, 0.05, back + 0.01), (right - left, 0.1, 0.02), trim)]
    parts += [Part((x, 0.05, (back + front) / 2), (0.02, 0.1, deep), trim) for x in (left + 0.01, right - 0.01)]
    parts += _on_the_wall(palette, left, right, back, high)
    if rng.random() < 0.5:
        parts.append(
            Part(
                (rng.uniform(-0.3, 0.3), 0.006, rng.uniform(-0.6, 0.1)),
                (rng.uniform(1.6, 2.4), 0.012, rng.uniform(1.2, 1.7)),
                palette.cloth(),
                0.0,
            )
        )
        parts[-1] = replace(
            parts[-1], center=(parts[-1].center[0], -0.0055, parts[-1].center[2])
        )  # flush: the ground stays y = 0
    for x, z, yaw in _spots(rng, left, right, back):
        parts += placed(FURNITURE[int(rng.integers(len(FURNITURE)))](palette), x, z, yaw)
    lamp = (rng.uniform(-1.4, 1.4), high - 0.15, rng.uniform(0.6, 2.8))
    warmth = rng.uniform(-0.06, 0.1)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    strength, fill = rng.uniform(0.65, 1.05), rng.uniform(0.5, 0.75)
    light = Light(
        _toward(lamp),
        strength * tint,
        rng.uniform(0.1, 0.22),
        fill * np.array([1.0, 1.0, 1.02]),
        fill * rng.uniform(0.55, 0.75) * tint,
    )
    return Room(
        tuple(parts), light, lamp, light.key_spread * float(np.linalg.norm(np.array(lamp) - [0, 1, 0])), seed=seed
    )


def _yard(rng: np.random.Generator, seed: int) -> Room:
    palette = Palette(rng)
    grass = plain(np.array([0.33, 0.45, 0.2]) * rng.uniform(0.8, 1.2), roughness=0.5, size_m=0.05)
    stone = tiles(palette.wall() * 0.75, np.array([0.4, 0.4, 0.38]), size_m=(0.5, 0.5), seed=seed)
    brick = tiles(
        np.array([0.55, 0.3, 0.22]) * rng.uniform(0.8, 1.3),
        np.array([0.7, 0.68, 0.64]),
        size_m=(0.22, 0.07),
        seed=seed,
        bond=0.5,
    )
    wall_z = -rng.uniform(3, 7)
    parts = [
        Part((0, -0.05, -10), (60, 0.1, 60), grass if rng.random() < 0.5 else stone),
        Part((rng.uniform(-3, 3), 1.4, wall_z), (9, 2.8, 0.3), brick),
    ]
    for _ in range(7):
        x, z, tall = rng.uniform(-7, 7), wall_z - rng.uniform(0.6, 6), rng.uniform(2.5, 6)
        leaf = plain(np.array([0.2, 0.38, 0.16]) * rng.uniform(0.7, 1.3), roughness=0.6, size_m=0.25)
        parts += [Part((x, tall / 3, z), (0.25, tall / 1.5, 0.25), plain(np.array([0.3, 0.22, 0.15])), round=True)]
        parts += [
            Part(
                (x + rng.normal(0, 0.4), tall + rng.normal(0, 0.4), z + rng.normal(0, 0.4)),
                tuple(rng.uniform(0.8, 1.9, 3)),
                leaf,
                rng.uniform(0, 90),
                round=bool(k % 2),
            )
            for k in range(5)
        ]
    toward = np.array([rng.uniform(-0.8, 0.8), rng.uniform(0.8, 1.4), rng.uniform(0.2, 0.9)])
    toward /= np.linalg.norm(toward)
    overcast = rng.random() < 0.4
    key = (0.25 if overcast else 0.95) * np.array([1.05, 1.0, 0.92])
    fill = 0.75 if overcast else 0.5
    light = Light(
        toward,
        key,
        0.3 if overcast else 0.03,
        fill * np.array([0.94, 1.0, 1.1]),
        0.5 * fill * np.array([1.0, 1.0, 0.9]),
    )
    return Room(tuple(parts), light, tuple(80 * toward), 80 * light.key_spread, outdoors=True, seed=seed)


def _toward(lamp: tuple[float, float, float]) -> np.ndarray:
    offset = np.array(lamp) - [0, 1.0, 0]
    return offset / np.linalg.norm(offset)


def _flooring(palette: Palette) -> Pattern:
    seed = int(palette.rng.integers(1000))
    kind = palette.rng.choice(["wood", "wood", "tiles", "carpet"])
    if kind == "wood":
        return wood(
            palette.wood(), plank_m=palette.rng.uniform(0.09, 0.2), seed=seed, along=int(palette.rng.integers(2))
        )
    if kind == "tiles":
        side = palette.rng.uniform(0.25, 0.5)
        return tiles(palette.wall() * 0.9, palette.wall() * 0.6, size_m=(side, side), seed=seed)
    return plain(palette.color(saturation=(0.05, 0.45), value=(0.3, 0.7)), roughness=0.25, size_m=0.02, seed=seed)


def _wallpaper(palette: Palette) -> Pattern:
    color, seed = palette.wall(), int(palette.rng.integers(1000))
    kind = palette.rng.choice(["paint", "paint", "stripes", "brick", "panels"])
    if kind == "stripes":
        across = stripes(color, color * 0.92, width_m=0.2, axis=0)
        along = stripes(color, color * 0.92, width_m=0.2, axis=2)
        return lambda p, n: np.where(np.abs(n[:, :1]) > 0.5, along(p, n), across(p, n))
    if kind == "brick":
        return tiles(color * 0.85, color, size_m=(0.24, 0.08), seed=seed, bond=0.5)
    if kind == "panels":
        return wood(color, plank_m=0.3, seed=seed, along=1)
    return plain(color, roughness=0.03, size_m=0.4, seed=seed)


def _on_the_wall(palette: Palette, left: float, right: float, back: float, high: float) -> list[Part]:
    rng, white = palette.rng, plain(np.array([0.86, 0.86, 0.84]), roughness=0.01)
    x = rng.uniform(left + 0.7, right - 0.7)
    if rng.random() < 0.35:  # a door
        leaf = plain(palette.wall() * 0.9, roughness=0.02)
        frame = [Part((x + s * 0.47, 1.03, back + 0.02), (0.08, 2.06, 0.06), white) for s in (-1, 1)]
        handle = Part((x + 0.33, 1.02, back + 0.06), (0.12, 0.025, 0.04), plain(np.array([0.6, 0.6, 0.6])))
        out = [
            *frame,
            Part((x, 2.07, back + 0.02), (1.02, 0.08, 0.06), white),
            Part((x, 1.0, back + 0.01), (0.86, 2.0, 0.03), leaf),
            handle,
        ]
    else:  # a window
        w, h = rng.uniform(0.8, 1.4), rng.uniform(0.9, 1.2)
        y = 0.9 + h / 2
        view = plain(np.array([0.72, 0.82, 0.92]), roughness=0.25, size_m=0.5)
        bars = [Part((x + dx * w / 2, y, back + 0.03), (0.06, h + 0.06, 0.06), white) for dx in (-1, 0, 1)]
        out = [Part((x, y, back + 0.005), (w, h, 0.02), view, glow=0.35), *bars]
        out += [Part((x, y + dy * h / 2, back + 0.03), (w + 0.06, 0.06, 0.06), white) for dy in (-1, 1)]
    for _ in range(int(rng.integers(1, 4))):  # pictures
        px, py, w = rng.uniform(left + 0.4, right - 0.4), rng.uniform(1.4, 1.8), rng.uniform(0.3, 0.7)
        if abs(px - x) < 0.95:
            continue
        h = w * rng.uniform(0.7, 1.4)
        art = emblem(
            palette.cloth(),
            palette.color(),
            center=np.array([px, py, back]),
            radius_m=w / 3,
            seed=int(rng.integers(999)),
        )
        out += [
            Part((px, py, back + 0.01), (w + 0.06, h + 0.06, 0.03), plain(palette.wood() * 0.6)),
            Part((px, py, back + 0.02), (w, h, 0.03), art),
        ]
    return out


def _spots(rng: np.random.Generator, left: float, right: float, back: float) -> list[tuple[float, float, float]]:
    """Places (x, z, heading in degrees) for furniture: along the back wall and the side walls."""
    spots = [(x, back + 0.5, 0.0) for x in np.linspace(left + 0.9, right - 0.9, 2 if right - left < 4 else 3)]
    spots += [(left + 0.5, back + rng.uniform(1.4, 2.2), 90.0), (right - 0.5, back + rng.uniform(1.4, 2.2), -90.0)]
    return [(x + rng.normal(0, 0.08), z, yaw) for x, z, yaw in spots if rng.random() < 0.72 and np.hypot(x, z) > 1.25]
