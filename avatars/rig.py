"""Surface points with offsets and orientations, and a posed body in; the points posed, with their normals, out.

Every blended quantity of a point (the 3x4 skinning transform and a quaternion) comes from one dense matrix product per
batch of frames, and all further arithmetic runs over contiguous rows of n numbers: gathering four joints per point is
five times slower on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.binding import Binding, Neighbors, find_neighbors
from avatars.body import Body, PosedBody
from avatars.rotations import matrix_from_axis_angle, quaternion_from_matrix


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
        surface = self.surface if surface is None else surface
        rest = self._displaced((surface + offsets).t().contiguous(), posed)
        means, turned, normals = _Skinning.apply(
            joints.transpose(1, 2),
            rest.expand(frames, -1, -1),
            quats.t().contiguous(),
            self.weights_t,
            self.normals.t().contiguous(),
        )  # type: ignore[misc]
        return PosedPoints(means, turned, normals)

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
    feature = (matrix_from_axis_angle(posed.poses[:, 1:].detach()) - torch.eye(3)).flatten(1)
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


class _Skinning(torch.autograd.Function):
    """Blend, move and turn, with the backward pass written out: half the time of recording forty small operations."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        joints: Float[Tensor, "frames 16 55"],
        rest: Float[Tensor, "frames 3 n"],
        quats: Float[Tensor, "4 n"],
        weights_t: Float[Tensor, "55 n"],
        normals: Float[Tensor, "3 n"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        frames, n = rest.shape[0], rest.shape[2]
        blended = (joints.reshape(frames * 16, -1) @ weights_t).view(frames, 16, n)
        A = blended[:, :12].view(frames, 3, 4, n)
        ctx.save_for_backward(blended, rest, quats, weights_t)
        means = torch.stack([_along(A[:, r], rest) + A[:, r, 3] for r in range(3)], -1)
        turned = torch.stack([_along(A[:, r], normals[None]) for r in range(3)], 1)
        return means, torch.stack(_product(blended[:, 12:], quats[None]), -1), turned

    @staticmethod
    def backward(ctx: Any, d_means: Tensor, d_quats: Tensor, d_normals: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Normals only shade: nothing is asked of them."""
        blended, rest, quats, weights_t = ctx.saved_tensors
        frames, n = rest.shape[0], rest.shape[2]
        by_mean, by_quat = d_means.transpose(1, 2).contiguous(), d_quats.transpose(1, 2).contiguous()
        d_blended = torch.empty_like(blended)
        d_A = d_blended[:, :12].view(frames, 3, 4, n)
        torch.mul(by_mean[:, :, None], rest[:, None], out=d_A[:, :, :3])
        d_A[:, :, 3] = by_mean
        sign = torch.tensor([1.0, -1.0, -1.0, -1.0])[:, None]
        d_blended[:, 12:] = torch.stack(_product(by_quat, (sign * quats)[None]), 1)
        d_joints = (d_blended.view(frames * 16, n) @ weights_t.t()).view(frames, 16, -1)
        A = blended[:, :12].view(frames, 3, 4, n)
        d_rest = torch.stack([sum(A[:, r, c] * by_mean[:, r] for r in range(3)) for c in range(3)], 1)  # type: ignore
        conjugate = sign * blended[:, 12:]
        return d_joints, d_rest, torch.stack(_product(conjugate, by_quat), 1).sum(0), None, None


def _along(row: Float[Tensor, "frames 4 n"], xyz: Float[Tensor, "*frames 3 n"]) -> Float[Tensor, "frames n"]:
    return torch.addcmul(torch.addcmul(row[:, 0] * xyz[:, 0], row[:, 1], xyz[:, 1]), row[:, 2], xyz[:, 2])


def _product(a: Float[Tensor, "frames 4 n"], b: Float[Tensor, "*frames 4 n"]) -> list[Float[Tensor, "frames n"]]:
    """Hamilton product of rows a and b (w, x, y, z)."""
    aw, ax, ay, az = a.unbind(1)
    bw, bx, by, bz = b.unbind(1)
    return [
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ]
