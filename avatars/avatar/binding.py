"""Points spread over a body's surface, and everything of the body that a point inherits from its triangle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatars.body import Body
from avatars.body.layout import JOINT_NAMES

TORSO_AND_LIMBS, HEAD, FACE, HAND, FOOT = range(5)
"""Regions of the body, as in `Binding.region`; those from FACE on have parts too thin for coarse images."""

DENSITY = {TORSO_AND_LIMBS: 1.0, HEAD: 1.5, FACE: 4.0, HAND: 3.0, FOOT: 1.0}
"""Gaussians per area, relative to the torso's: faces and hands are small and looked at most."""

GOLDEN = (0.7548776662466927, 0.5698402909980532)
"""Steps of the R2 low-discrepancy sequence (Roberts 2018)."""


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """Where on the body's surface each point sits."""

    corners: Int[Tensor, "n 3"]
    """Vertices of the point's triangle."""
    barycentric: Float[Tensor, "n 3"]
    """Non-negative, sums to 1."""
    region: Int[Tensor, " n"]
    """TORSO_AND_LIMBS, HEAD, FACE, HAND or FOOT."""

    def __len__(self) -> int:
        return self.corners.shape[0]

    def to(self, device: torch.device | str) -> Binding:
        """The binding on `device`."""
        return Binding(self.corners.to(device), self.barycentric.to(device), self.region.to(device))

    def interpolate(
        self, per_vertex: Float[Tensor, "*frames vertices channels"]
    ) -> Float[Tensor, "*frames n channels"]:
        """A quantity given at the body's vertices, at the points."""
        at = [per_vertex.index_select(-2, self.corners[:, i]) for i in range(3)]
        return sum(self.barycentric[:, i, None] * at[i] for i in range(3))  # type: ignore[return-value]

    def normals(self, vertices: Float[Tensor, "vertices 3"], faces: Int[Tensor, "faces 3"]) -> Float[Tensor, "n 3"]:
        """Unit outward normals, smooth over the mesh."""
        return torch.nn.functional.normalize(self.interpolate(vertex_normals(vertices, faces)), dim=-1)

    def __getitem__(self, index: Tensor | slice) -> Binding:
        """Chosen points."""
        return Binding(self.corners[index], self.barycentric[index], self.region[index])


def vertex_normals(vertices: Float[Tensor, "vertices 3"], faces: Int[Tensor, "faces 3"]) -> Float[Tensor, "vertices 3"]:
    """Area-weighted unit vertex normals of a mesh wound counterclockwise seen from outside."""
    normals = torch.zeros_like(vertices)
    across = face_areas(vertices, faces, as_vectors=True)
    for i in range(3):
        normals.index_add_(0, faces[:, i], across)
    return torch.nn.functional.normalize(normals, dim=-1)


def face_areas(vertices: Tensor, faces: Tensor, *, as_vectors: bool = False) -> Tensor:
    """Area of each triangle (m²), or its normal of that length."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    vectors = 0.5 * torch.linalg.cross(b - a, c - a)
    return vectors if as_vectors else vectors.norm(dim=-1)


def vertex_regions(body: Body) -> Int[Tensor, " vertices"]:
    """Which region each vertex belongs to, from the joints that move it; the face is what expressions move."""
    index = {name: i for i, name in enumerate(JOINT_NAMES)}
    head = body.lbs_weights[:, [index[n] for n in ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")]].sum(-1) > 0.5
    fingers = [i for i, name in enumerate(JOINT_NAMES) if i > 24 or name.endswith("wrist")]
    feet = [index[n] for n in ("left_ankle", "right_ankle", "left_foot", "right_foot")]
    region = torch.full((body.n_vertices,), TORSO_AND_LIMBS)
    region[head] = HEAD
    moved = body.exprdirs.square().sum((1, 2)).sqrt()
    if head.any() and moved[head].max() > 0:
        region[head & (moved > 0.05 * moved[head].quantile(0.98))] = FACE
    region[body.lbs_weights[:, fingers].sum(-1) > 0.5] = HAND
    region[body.lbs_weights[:, feet].sum(-1) > 0.5] = FOOT
    return region


def spread_over(body: Body, vertices: Float[Tensor, "vertices 3"], n: int) -> Binding:
    """Exactly `n` points over the surface, evenly within each region, denser on face and hands.

    Systematic sampling along the triangles weighted by area and `DENSITY`: a triangle gets its share rounded up or
    down. Within a triangle the points follow the R2 sequence. No randomness.
    """
    faces = body.faces
    regions = vertex_regions(body)[faces].mode(dim=-1).values
    density = torch.tensor([DENSITY[r] for r in range(len(DENSITY))])
    weights = (face_areas(vertices, faces) * density[regions]).double().numpy()
    cumulative = np.cumsum(weights)
    positions = (np.arange(n) + 0.5) / n * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, positions), len(weights) - 1)
    first = np.searchsorted(face, face, side="left")
    rank = np.arange(n) - first + 1 + face * 7  # the sequence starts elsewhere in each triangle
    u, v = (0.5 + rank * GOLDEN[0]) % 1.0, (0.5 + rank * GOLDEN[1]) % 1.0
    folded = u + v > 1
    u, v = np.where(folded, 1 - u, u), np.where(folded, 1 - v, v)
    barycentric = torch.from_numpy(np.stack([1 - u - v, u, v], -1)).float()
    face_index = torch.from_numpy(face)
    return Binding(faces[face_index].long(), barycentric, regions[face_index])


@dataclass(frozen=True, slots=True, eq=False)
class Neighbors:
    """For each point its nearest points on the same side of the same limb."""

    index: Int[Tensor, "n k"]
    """Where fewer than k were found, the point itself stands in."""
    spacing_m: Float[Tensor, " n"]
    """Root mean squared distance to the three nearest points of any kind."""


def find_neighbors(
    points: Float[Tensor, "n 3"], normals: Float[Tensor, "n 3"], weights: Float[Tensor, "n 55"], k: int = 6
) -> Neighbors:
    """Nearest points whose normals agree and which move with the same joints (no finger is tied to the next)."""
    from scipy.spatial import KDTree

    candidates = min(2 * k + 4, len(points) - 1)
    tree = KDTree(points.numpy())
    distance, found = tree.query(points.numpy(), k=candidates + 1, workers=-1)
    distance, found = torch.from_numpy(distance[:, 1:]).float(), torch.from_numpy(np.asarray(found)[:, 1:])
    facing = torch.einsum("nc,nkc->nk", normals, normals[found]) > 0.3
    unit = torch.nn.functional.normalize(weights, dim=-1)
    together = torch.stack([(unit * unit[found[:, j]]).sum(-1) > 0.5 for j in range(candidates)], -1)
    return Neighbors(_first_k(found, facing & together, k), distance[:, :3].square().mean(-1).sqrt())


def _first_k(found: Int[Tensor, "n c"], wanted: Bool[Tensor, "n c"], k: int) -> Int[Tensor, "n k"]:
    order = torch.argsort((~wanted).to(torch.uint8), dim=-1, stable=True)[:, :k]
    chosen = found.gather(1, order)
    own = torch.arange(len(found))[:, None].expand_as(chosen)
    return torch.where(wanted.gather(1, order), chosen, own)


def laplacian(values: Float[Tensor, "n channels"], neighbors: Int[Tensor, "n k"]) -> Float[Tensor, "n channels"]:
    """Each Gaussian's value minus the mean over its neighbors."""
    n, k = neighbors.shape
    gathered = values.index_select(0, neighbors.reshape(-1)).view(n, k, -1)
    return values - gathered.mean(1)
