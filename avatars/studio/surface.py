"""Skinned triangle surfaces with painted colors: cut along smooth lines, offset, joined, posed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from avatars.geometry.color import linear_array_from_srgb

Painter = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Rest points (n, 3) and normals (n, 3) to sRGB colors (n, 3) in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Paint:
    """Colors on a triangle mesh without UVs: each face carries its own small grid (mesh colors, Yuksel et al. 2010)."""

    texels_linear: np.ndarray
    """(texels, 3) linear light."""
    first_texel: np.ndarray
    """(faces,) where a face's grid begins."""
    resolution: np.ndarray
    """(faces,) segments along an edge."""
    finish: np.ndarray
    """(faces, 2): gloss and how far light wraps around."""

    @staticmethod
    def join(paints: list[Paint]) -> Paint:
        """Paint of several surfaces, one after the other."""
        starts = np.cumsum([0] + [len(p.texels_linear) for p in paints[:-1]])
        return Paint(
            np.concatenate([p.texels_linear for p in paints]),
            np.concatenate([p.first_texel + start for p, start in zip(paints, starts, strict=True)]),
            np.concatenate([p.resolution for p in paints]),
            np.concatenate([p.finish for p in paints]),
        )


@dataclass(frozen=True)
class Surface:
    """A triangle mesh in the T-pose with skinning weights, and its paint once it has some."""

    rest: np.ndarray
    """(vertices, 3) meters."""
    faces: np.ndarray
    """(faces, 3)."""
    weights: np.ndarray
    """(vertices, 55) skinning weights, each row sums to one."""
    paint: Paint | None = None

    @cached_property
    def _face_to_vertex(self) -> sparse.csr_matrix:
        n = len(self.faces)
        ones = np.ones(3 * n, np.float32)
        return sparse.csr_matrix((ones, (self.faces.reshape(-1), np.repeat(np.arange(n), 3))), (len(self.rest), n))

    @cached_property
    def neighbors(self) -> sparse.csr_matrix:
        """Row-normalized adjacency of the vertices."""
        a, b, c = self.faces.T
        i, j = np.concatenate([a, b, c, b, c, a]), np.concatenate([b, c, a, a, b, c])
        A = sparse.csr_matrix((np.ones(len(i)), (i, j)), (len(self.rest),) * 2)
        A.data[:] = 1.0
        return sparse.diags(1.0 / np.maximum(np.asarray(A.sum(1)).ravel(), 1.0)) @ A

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit vertex normals (vertices, 3), weighted by area, of the surface posed to `vertices`."""
        corners = vertices[self.faces]
        normals = self._face_to_vertex @ np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)

    def smoothed(self, values: np.ndarray, rounds: int, share: float = 0.7) -> np.ndarray:
        """Per-vertex values averaged with their neighbors."""
        for _ in range(rounds):
            values = (1 - share) * values + share * (self.neighbors @ values)
        return values

    def cut(self, keep: np.ndarray) -> Surface:
        """The part where the per-vertex field `keep` is positive; faces are cut along its zero line: smooth edges."""
        inside = keep > 0
        count = inside[self.faces].sum(1)
        whole = self.faces[count == 3]
        rest, weights = [self.rest], [self.weights]
        made: dict[tuple[int, int], int] = {}
        pairs: list[tuple[int, int]] = []

        def crossing(a: int, b: int) -> int:
            key = (min(a, b), max(a, b))
            if key not in made:
                made[key] = len(self.rest) + len(pairs)
                pairs.append(key)
            return made[key]

        new: list[tuple[int, int, int]] = []
        for face in self.faces[(count == 1) | (count == 2)]:
            flags = inside[face]
            lone = int(np.argmax(flags)) if flags.sum() == 1 else int(np.argmin(flags))
            a, b, c = (int(v) for v in np.roll(face, -lone))
            ab, ac = crossing(a, b), crossing(a, c)
            new += [(a, ab, ac)] if flags.sum() == 1 else [(ab, b, c), (ab, c, ac)]
        if pairs:
            i, j = np.array(pairs).T
            t = np.clip(keep[i] / (keep[i] - keep[j]), 0.02, 0.98)[:, None]
            rest.append(self.rest[i] * (1 - t) + self.rest[j] * t)
            weights.append(self.weights[i] * (1 - t) + self.weights[j] * t)
        faces = np.concatenate([whole, np.array(new, whole.dtype).reshape(-1, 3)])
        return Surface(np.concatenate(rest), faces, np.concatenate(weights)).compact()

    def compact(self) -> Surface:
        """The surface without the vertices that no face uses. Paint is kept."""
        used, index = np.unique(self.faces, return_inverse=True)
        return Surface(self.rest[used], index.reshape(-1, 3), self.weights[used], self.paint)

    def painted(self, color: Painter, *, texel_m: float = 0.0025, gloss: float = 0.0, wrap: float = 0.0) -> Surface:
        """The surface painted by a function of rest position, sampled about every `texel_m` meters."""
        corners, normals = self.rest[self.faces], self.normals(self.rest)[self.faces]
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)
        resolution = np.clip(np.ceil(edges / texel_m), 1, 24).astype(np.int64)
        counts = (resolution + 1) * (resolution + 2) // 2
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        points, directions = np.empty((counts.sum(), 3)), np.empty((counts.sum(), 3))
        for n in np.unique(resolution):
            i, j = np.array([(i, j) for i in range(n + 1) for j in range(n + 1 - i)]).T
            grid = np.stack([n - i - j, i, j], 1) / n
            faces = np.flatnonzero(resolution == n)
            where = first[faces][:, None] + np.arange(len(grid))
            points[where] = np.einsum("gk,fkc->fgc", grid, corners[faces])
            directions[where] = np.einsum("gk,fkc->fgc", grid, normals[faces])
        colors = linear_array_from_srgb(np.clip(color(points, directions), 0.0, 1.0))
        finish = np.broadcast_to(np.array([gloss, wrap]), (len(self.faces), 2))
        return replace(self, paint=Paint(colors, first, resolution, finish))

    @staticmethod
    def join(surfaces: list[Surface]) -> Surface:
        """Several painted surfaces as one."""
        starts = np.cumsum([0] + [len(s.rest) for s in surfaces[:-1]])
        return Surface(
            np.concatenate([s.rest for s in surfaces]),
            np.concatenate([s.faces + start for s, start in zip(surfaces, starts, strict=True)]),
            np.concatenate([s.weights for s in surfaces]),
            Paint.join([s.paint for s in surfaces if s.paint is not None]),
        )

    def posed(self, A_world_rest: np.ndarray) -> np.ndarray:
        """Vertices (vertices, 3) under skinning transforms (55, 3, 4)."""
        weights, rest = self._single
        blended = (weights @ A_world_rest.reshape(55, 12).astype(np.float32)).reshape(-1, 3, 4)
        return np.einsum("vij,vj->vi", blended[:, :, :3], rest) + blended[:, :, 3]

    @cached_property
    def _single(self) -> tuple[np.ndarray, np.ndarray]:
        return self.weights.astype(np.float32), self.rest.astype(np.float32)
