"""Surface points with offsets and orientations, and a posed body in; the points posed, with their normals, out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.avatar.binding import Binding, Neighbors, find_neighbors
from avatars.avatar.loose_clothes import LooseClothes
from avatars.avatar.skirt import Hanging, Skirt
from avatars.body import Body, PosedBody
from avatars.body.forward_kinematics import joint_quaternions
from avatars.body.skinning import SkinningWeights, skin
from avatars.geometry.rotations import matrix_from_axis_angle


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
    """Rest (T-pose) positions on the surface, or on a skirt, for the person's betas, meters."""
    normals: Float[Tensor, "n 3"]
    weights: SkinningWeights
    expressive: Int[Tensor, " m"]
    """Points that expressions move."""
    exprdirs: Float[Tensor, "expression m*3"]
    """Their displacements per expression coefficient."""
    hanging: Hanging | None = None
    """What hangs between the legs."""

    @staticmethod
    def build(
        body: Body,
        binding: Binding,
        betas: Float[Tensor, " shape"],
        loose: LooseClothes | None = None,
        skirt: Skirt | None = None,
    ) -> Rig:
        """Interpolate the body at the binding's points; what is `loose` has weights of its own, and so has a skirt,
        which has its own places, too."""
        weights = binding.interpolate(body.lbs_weights)
        vertices = body.shaped(betas)[0]
        moving = body.exprdirs.abs().amax((1, 2)) > 1e-5
        expressive = torch.nonzero(moving[binding.corners].any(-1)).squeeze(-1)
        dirs = binding[expressive].interpolate(body.exprdirs.flatten(1))  # (m, 3 * expression)
        dirs = dirs.view(len(expressive) * 3, -1).t()
        surface, normals = binding.interpolate(vertices), binding.normals(vertices, body.faces)
        hanging = None if skirt is None else skirt.hung(body, betas, binding)
        if hanging is not None:
            surface = surface.index_add(0, hanging.index, hanging.shift)
            normals = normals.index_copy(0, hanging.index, hanging.normals)
            weights = weights.index_copy(0, hanging.index, hanging.weights)
        return Rig(
            body,
            binding,
            surface,
            normals,
            SkinningWeights.of(weights if loose is None else loose.worn_over(weights)),
            expressive,
            dirs.contiguous(),
            hanging,
        )

    def to(self, device: torch.device | str) -> Rig:
        """The rig with what poses points on `device`; the body stays where it is, and so may poses."""
        return Rig(
            self.body,
            self.binding.to(device),
            self.surface.to(device),
            self.normals.to(device),
            self.weights.to(device),
            self.expressive.to(device),
            self.exprdirs.to(device),
            None if self.hanging is None else self.hanging.to(device),
        )

    def surface_on(self, vertices: Float[Tensor, "vertices 3"]) -> Float[Tensor, "n 3"]:
        """Where the points are on another rest shape; a skirt stays as far off the skin as it is."""
        surface = self.binding.interpolate(vertices)
        return surface if self.hanging is None else surface.index_add(0, self.hanging.index, self.hanging.shift)

    def neighbors(self, k: int = 6) -> Neighbors:
        """The graph that ties points to their neighbors on the surface."""
        return find_neighbors(self.surface, self.normals, self.weights.dense_t.t(), k)

    def pose(
        self,
        posed: PosedBody,
        offsets: Float[Tensor, "*frames n 3"],
        quats: Float[Tensor, "n 4"],
        surface: Float[Tensor, "n 3"] | None = None,
    ) -> PosedPoints:
        """Linear blend skinning of `surface + offsets`, both in the axes of the T-pose; offsets may differ by frame.

        `surface` replaces the rig's own while betas are being refined. Orientations turn with the linearly blended
        joint quaternions (signs aligned along the skeleton), which for neighboring joints is the rotation of the
        blended matrix.
        """
        A = posed.A_world_rest
        frames = A.shape[0]
        joints = torch.cat([A.reshape(frames, -1, 12), joint_quaternions(A, self.body.parents)], -1)
        surface = self.surface if surface is None else surface.to(offsets.device)
        rest = self._displaced((surface + offsets).view(-1, *surface.shape), posed)
        return PosedPoints(*skin(joints.to(offsets.device), self.weights, rest, quats, self.normals))

    def _displaced(self, rest: Float[Tensor, "#frames n 3"], posed: PosedBody) -> Float[Tensor, "#frames n 3"]:
        """Rest positions moved by expression and, where the body has them, by pose correctives."""
        if posed.expression is not None and len(self.expressive):
            expression = posed.expression.reshape(-1, posed.expression.shape[-1])
            moved = (expression.to(rest.device) @ self.exprdirs[: expression.shape[-1]]).view(len(expression), -1, 3)
            rest = rest.expand(len(expression), -1, -1).index_add(1, self.expressive, moved)
        if self.body.points.posedirs is not None:
            moved = self.binding.interpolate(_pose_correctives(posed).to(rest.device))
            rest = rest + (moved if self.hanging is None else moved.index_fill(1, self.hanging.index, 0.0))
        return rest


def _pose_correctives(posed: PosedBody) -> Float[Tensor, "frames vertices 3"]:
    """SMPL-X's pose-dependent displacements at the vertices; no gradient, they are small and the poses have better."""
    posedirs = posed.body.points.posedirs
    assert posedirs is not None
    feature = (matrix_from_axis_angle(posed.poses[:, 1:].detach()) - torch.eye(3)).flatten(1)
    vertices = posed.body.n_vertices
    return (feature @ posedirs.reshape(vertices * 3, -1).t()).view(-1, vertices, 3)
