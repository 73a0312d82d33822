"""Surface points with offsets and orientations, and a posed body in; the points posed, with their normals, out.

Every blended quantity of a point (the 3x4 skinning transform and a quaternion) comes from one dense matrix product per
batch of frames, and all further arithmetic runs over contiguous rows of n numbers: gathering four joints per point is
five times slower on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.binding import Binding, Neighbors, find_neighbors
from avatars.body import Body, PosedBody
from avatars.rotations import quaternion_from_matrix


@dataclass(frozen=True, slots=True, eq=False)
class PosedPoints:
    """Points carried along by a body, one pose per frame."""

    means: Float[Tensor, "frames n 3"]
    quats: Float[Tensor, "frames n 4"]
    """wxyz, not unit."""
    normals: Float[Tensor, "frames 3 n"]
    """Outward, in world axes, not quite unit; rows of n because the shading reads them so."""


@dataclass(frozen=True, slots=True, eq=False)
class Rig:
    """A binding together with the body's rest shape: all that posing points needs."""

    body: Body
    binding: Binding
    surface: Float[Tensor, "n 3"]
    """Rest (T-pose) positions on the surface for the person's betas, meters."""
    normals: Float[Tensor, "n 3"]
    weights_t: Float[Tensor, "55 n"]
    """Skinning weights, transposed."""
    expressive: Int[Tensor, " m"]
    """Points that expressions move."""
    exprdirs: Float[Tensor, "expression 3*m"]
    """Their displacements per expression coefficient."""

    @staticmethod
    def build(body: Body, binding: Binding, betas: Float[Tensor, " shape"]) -> Rig:
        """Interpolate the body at the binding's points."""
        vertices = body.shaped(betas)[0]
        moving = body.exprdirs.abs().amax((1, 2)) > 1e-5
        expressive = torch.nonzero(moving[binding.corners].any(-1)).squeeze(-1)
        dirs = binding[expressive].interpolate(body.exprdirs.flatten(1))  # (m, 3 * expression)
        dirs = dirs.view(len(expressive), 3, -1).permute(2, 1, 0).reshape(body.n_expression, -1)
        return Rig(
            body,
            binding,
            binding.interpolate(vertices),
            binding.normals(vertices, body.faces),
            binding.interpolate(body.lbs_weights).t().contiguous(),
            expressive,
            dirs.contiguous(),
        )

    def neighbors(self, k: int = 6) -> Neighbors:
        """The graph that ties points to their neighbors on the surface."""
        return find_neighbors(self.surface, self.normals, self.weights_t.t(), k)

    def pose(
        self,
        posed: PosedBody,
        offsets: Float[Tensor, "n 3"],
        quats: Float[Tensor, "n 4"],
        surface: Float[Tensor, "n 3"] | None = None,
    ) -> PosedPoints:
        """Linear blend skinning of `surface + offsets`, both in the axes of the T-pose.

        `surface` replaces the rig's own while betas are being refined. Orientations turn with the linearly blended
        joint quaternions (signs aligned along the skeleton), which for neighboring joints is the rotation of the
        blended matrix.
        """
        A = posed.A_world_rest
        frames = A.shape[0]
        joints = torch.cat([A.reshape(frames, -1, 12), _aligned_quaternions(A[..., :3], self.body.parents)], -1)
        blended = (joints.transpose(1, 2).reshape(frames * 16, -1) @ self.weights_t).view(frames, 16, -1)
        M = blended.unbind(1)
        rest = ((self.surface if surface is None else surface) + offsets).t()
        x, y, z = self._displaced(rest, posed).unbind(-2)
        means = torch.stack([M[r] * x + M[r + 1] * y + M[r + 2] * z + M[r + 3] for r in (0, 4, 8)], -1)
        nx, ny, nz = self.normals.t()
        normals = torch.stack([M[r] * nx + M[r + 1] * ny + M[r + 2] * nz for r in (0, 4, 8)], -2)
        return PosedPoints(means, _product(M[12:], quats.t()), normals)

    def _displaced(self, rest: Float[Tensor, "3 n"], posed: PosedBody) -> Float[Tensor, "*frames 3 n"]:
        """Rest positions moved by expression and, where the body has them, by pose correctives."""
        if posed.expression is not None and len(self.expressive):
            expression = posed.expression.reshape(-1, posed.expression.shape[-1])
            moved = (expression @ self.exprdirs[: expression.shape[-1]]).view(len(expression), 3, -1)
            rest = rest.expand(len(expression), -1, -1).index_add(-1, self.expressive, moved)
        if self.body.points.posedirs is not None:
            rest = rest + self.binding.interpolate(_pose_correctives(posed)).transpose(-1, -2)
        return rest


def _pose_correctives(posed: PosedBody) -> Float[Tensor, "frames vertices 3"]:
    """SMPL-X's pose-dependent displacements at the vertices; no gradient, they are small and the poses have better."""
    posedirs = posed.body.points.posedirs
    assert posedirs is not None
    feature = (posed.rotations[:, 1:].detach() - torch.eye(3)).flatten(1)
    vertices = posed.body.n_vertices
    return (feature @ posedirs.reshape(vertices * 3, -1).t()).view(-1, vertices, 3)


def _aligned_quaternions(
    rotations: Float[Tensor, "frames 55 3 3"], parents: tuple[int, ...]
) -> Float[Tensor, "frames 55 4"]:
    """Quaternions of the skinning rotations, each in its parent's hemisphere, so that blending takes the short way."""
    q = quaternion_from_matrix(rotations)
    values = q.detach().numpy()
    signs = np.ones(values.shape[:2], values.dtype)
    dots = np.einsum("fjc,fjc->fj", values, values[:, np.maximum(parents, 0)])
    for joint, parent in enumerate(parents):
        if parent >= 0:
            signs[:, joint] = signs[:, parent] * np.where(dots[:, joint] < 0, -1.0, 1.0)
    return q * torch.from_numpy(signs)[..., None]


def _product(a: tuple[Tensor, ...], b: Float[Tensor, "4 n"]) -> Float[Tensor, "frames n 4"]:
    """Hamilton product of rows a (w, x, y, z) and b."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )
