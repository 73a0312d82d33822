"""Procedural colors as functions of place: noise, wood, tiles, stripes, checks, dots. Sharp at any resolution.

A pattern takes points (n, 3) m and normals (n, 3) and returns sRGB (n, 3) in [0, 1].
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]


def hashed(cells: np.ndarray, seed: int) -> np.ndarray:
    """A repeatable uniform number in [0, 1) for each integer cell (n, k)."""
    h = np.full(len(cells), (seed * 2654435761 + 12345) & 0xFFFFFFFF, np.uint32)
    with np.errstate(over="ignore"):
        for column in cells.astype(np.int64).T:
            h ^= (column & 0xFFFFFFFF).astype(np.uint32) * np.uint32(0x9E3779B1)
            h = (h ^ (h >> np.uint32(15))) * np.uint32(0x85EBCA77)
            h ^= h >> np.uint32(13)
    return h.astype(np.float64) / 2.0**32


def value_noise(points: np.ndarray, size_m: float, seed: int) -> np.ndarray:
    """Smooth noise (n,) in [0, 1] with features of about `size_m`: lattice values under a smooth trilinear blend."""
    scaled = points / size_m
    low = np.floor(scaled).astype(np.int64)
    part = scaled - low
    part = part * part * (3 - 2 * part)
    x, y, z = ((1 - t, t) for t in part.T)
    total = np.zeros(len(points))
    for corner in range(8):
        i, j, k = corner & 1, corner >> 1 & 1, corner >> 2
        total += x[i] * y[j] * z[k] * hashed(low + np.array([i, j, k]), seed)
    return total


def cloudy(points: np.ndarray, size_m: float, seed: int, octaves: int = 3) -> np.ndarray:
    """Fractal noise (n,) in [0, 1]: octaves of value noise, each half the size and strength."""
    total, scale = np.zeros(len(points)), 0.0
    for octave in range(octaves):
        total += 0.5**octave * value_noise(points, size_m / 2**octave, seed + octave)
        scale += 0.5**octave
    return total / scale


def plane_uv(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Two coordinates (n, 2) m in the axis plane that faces each normal: (x, y) on walls across z, and so on."""
    axis = np.abs(normals).argmax(1)
    u = np.where(axis == 0, points[:, 2], points[:, 0])
    v = np.where(axis == 1, points[:, 2], points[:, 1])
    return np.stack([u, v], 1)


def _rgb(color: np.ndarray, shade: np.ndarray | float) -> np.ndarray:
    return np.clip(np.asarray(color) * np.reshape(shade, (-1, 1)), 0, 1)


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a + (b - a) * np.reshape(share, (-1, 1))


def plain(color: np.ndarray, *, roughness: float = 0.06, size_m: float = 0.03, seed: int = 0) -> Pattern:
    """One color with slight clouds."""
    return lambda p, n: _rgb(color, 1 + roughness * (2 * cloudy(p, size_m, seed) - 1))


def wood(color: np.ndarray, *, plank_m: float = 0.14, seed: int = 0, along: int = 0) -> Pattern:
    """Planks with grain along the first (0) or second (1) plane axis."""

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        uv = plane_uv(points, normals)
        length, across = uv[:, along], uv[:, 1 - along]
        plank = np.floor(across / plank_m)
        shifted = length + hashed(plank[:, None], seed) * 1.3
        board = np.stack([plank, np.floor(shifted / 1.3)], 1)
        grain = value_noise(np.stack([length / 12, across, plank * 3.7], 1), 0.009, seed + 1)
        rings = value_noise(np.stack([length / 6, across, plank * 5.1], 1), 0.05, seed + 2)
        shade = 0.8 + 0.22 * hashed(board, seed + 3) + 0.14 * (grain - 0.5) + 0.16 * (rings - 0.5)
        seam = (np.abs(across / plank_m - np.round(across / plank_m)) < 0.012) | (shifted % 1.3 < 0.003)
        return _rgb(color, np.where(seam, 0.55 * shade, shade))

    return paint


def tiles(
    color: np.ndarray, grout: np.ndarray, *, size_m: tuple[float, float] = (0.3, 0.3), seed: int = 0, bond: float = 0.0
) -> Pattern:
    """Tiles or (with bond 0.5) bricks with grout."""

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        uv = plane_uv(points, normals) / np.array(size_m)
        row = np.floor(uv[:, 1])
        uv[:, 0] += bond * (row % 2)
        cell = np.floor(uv)
        edge = np.min(np.minimum(uv - cell, 1 - (uv - cell)) * np.array(size_m), axis=1)
        shade = 0.9 + 0.2 * hashed(cell, seed) * (0.3 + bond) + 0.1 * (cloudy(points, 0.08, seed + 1) - 0.5)
        return np.where((edge < 0.004)[:, None], _rgb(grout, np.ones(len(uv))), _rgb(color, shade))

    return paint


def stripes(a: np.ndarray, b: np.ndarray, *, width_m: float = 0.03, axis: int = 1, ratio: float = 0.5) -> Pattern:
    """Stripes across a space axis; `ratio` of each period is `b`."""

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        return _mix(np.asarray(a), np.asarray(b), ((points[:, axis] / width_m) % 1.0 < ratio).astype(float))

    return paint


def checks(a: np.ndarray, b: np.ndarray, *, width_m: float = 0.06) -> Pattern:
    """Woven checks of two colors in the frontal plane."""

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        across = ((points[:, 0] / width_m) % 1.0 < 0.5).astype(float)
        down = ((points[:, 1] / width_m) % 1.0 < 0.5).astype(float)
        return _mix(np.asarray(a), np.asarray(b), 0.5 * across + 0.5 * down)

    return paint


def dots(a: np.ndarray, b: np.ndarray, *, spacing_m: float = 0.05) -> Pattern:
    """Dots of `b` on `a`, in a staggered grid of the frontal plane."""

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        uv = points[:, :2] / spacing_m
        uv[:, 0] += 0.5 * (np.floor(uv[:, 1]) % 2)
        distance = np.linalg.norm(uv - np.floor(uv) - 0.5, axis=1)
        return _mix(np.asarray(a), np.asarray(b), (distance < 0.24).astype(float))

    return paint


def camouflage(a: np.ndarray, b: np.ndarray, *, size_m: float = 0.09, seed: int = 0) -> Pattern:
    """Irregular patches of two colors and their mean."""

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        noise = cloudy(points, size_m, seed, 2)
        return _mix(np.asarray(a), np.asarray(b), 0.5 * (noise > 0.45) + 0.5 * (noise > 0.56))

    return paint


def emblem(base: Pattern, color: np.ndarray, *, center: np.ndarray, radius_m: float = 0.07, seed: int = 0) -> Pattern:
    """A made-up logo on the front of `base`: a disc, ring or bar grid with pieces missing."""

    def paint(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        under = base(points, normals)
        uv = (points - center)[:, :2] / radius_m
        cell = np.floor((uv + 1) * 3.0)
        radius = np.linalg.norm(uv, axis=1)
        lit = hashed(np.stack([np.abs(cell[:, 0] - 2.5), cell[:, 1]], 1), seed) < 0.6
        shape = (radius < 1.0) & (lit | (radius > 0.82))
        front = normals[:, 2] > 0.2
        return np.where((shape & front)[:, None], np.asarray(color), under)

    return paint


@dataclass(frozen=True, slots=True)
class Palette:
    """Draws colors from a generator."""

    rng: np.random.Generator

    def color(
        self, *, saturation: tuple[float, float] = (0.25, 0.85), value: tuple[float, float] = (0.2, 0.9)
    ) -> np.ndarray:
        """A color of any hue, sRGB."""
        h, s, v = self.rng.random(), self.rng.uniform(*saturation), self.rng.uniform(*value)
        return np.array(colorsys.hsv_to_rgb(h, s, v))

    def wood(self) -> np.ndarray:
        """A wooden brown."""
        return np.array(
            colorsys.hsv_to_rgb(self.rng.uniform(0.06, 0.1), self.rng.uniform(0.3, 0.6), self.rng.uniform(0.35, 0.8))
        )

    def wall(self) -> np.ndarray:
        """A pale wall color."""
        return np.array(
            colorsys.hsv_to_rgb(self.rng.random(), self.rng.uniform(0.02, 0.2), self.rng.uniform(0.72, 0.92))
        )

    def cloth(self, *, center: np.ndarray | None = None) -> Pattern:
        """A fabric: plain, striped, checked, dotted, patchy or with a logo at `center`."""
        rng, a, b = self.rng, self.color(), self.color()
        if np.abs(a - b).sum() < 0.5:
            b = 1.0 - 0.85 * a
        kind = rng.choice(["plain", "stripes", "wide", "checks", "dots", "patches", "logo"])
        if kind == "stripes":
            return stripes(a, b, width_m=rng.uniform(0.035, 0.07), axis=1, ratio=rng.uniform(0.3, 0.6))
        if kind == "wide":
            return stripes(a, b, width_m=rng.uniform(0.12, 0.22), axis=1, ratio=rng.uniform(0.25, 0.5))
        if kind == "checks":
            return checks(a, b, width_m=rng.uniform(0.05, 0.11))
        if kind == "dots":
            return dots(a, b, spacing_m=rng.uniform(0.045, 0.08))
        if kind == "patches":
            return camouflage(a, b, size_m=rng.uniform(0.07, 0.14), seed=int(rng.integers(1 << 30)))
        if kind == "logo" and center is not None:
            return emblem(plain(a), b, center=center, radius_m=rng.uniform(0.06, 0.1), seed=int(rng.integers(1 << 30)))
        return plain(a, roughness=0.08)
