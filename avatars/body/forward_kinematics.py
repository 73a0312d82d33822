"""Axis-angles of the joints of a kinematic tree in; where the joints are, and how they take points along, out.

Two ways that agree: plain PyTorch, whose operations run along the frames, and our C++, for the few frames that a step
of fitting poses, where PyTorch's overhead would be most of the work.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.geometry.rotations import quaternion_from_matrix
from avatars.kernels.extension import extension, in_cpp

FEW = 16
"""At most so many frames go to our C++, which takes one after the other."""


def place_joints(
    poses: Float[Tensor, "frames joints 3"],
    rest: Float[Tensor, "*frames joints 3"],
    transl: Float[Tensor, "frames 3"] | None,
    parents: tuple[int, ...],
) -> tuple[Float[Tensor, "frames joints 3 4"], Float[Tensor, "frames joints 3"]]:
    """Skinning transforms and posed joints (meters) of axis-angles (radians) and joints at rest.

    Parents stand before their children; the root's is -1. Gradients of all three tensors.
    """
    if _few(poses, rest, transl):
        return _PlacedJoints.apply(poses, rest, transl, parents)  # type: ignore[return-value]
    return place_joints_reference(poses, rest, transl, parents)


def place_joints_reference(
    poses: Float[Tensor, "frames joints 3"],
    rest: Float[Tensor, "*frames joints 3"],
    transl: Float[Tensor, "frames 3"] | None,
    parents: tuple[int, ...],
) -> tuple[Float[Tensor, "frames joints 3 4"], Float[Tensor, "frames joints 3"]]:
    """What `place_joints` does, in plain PyTorch; in memory the frames stand last."""
    rest = rest[..., None] if rest.ndim == 2 else rest.permute(1, 2, 0)
    omega = poses.permute(1, 2, 0).contiguous()
    A, joints = _ForwardKinematics.apply(omega, rest, None if transl is None else transl.T, parents)  # type: ignore
    return A.permute(3, 0, 1, 2), joints.permute(2, 0, 1)


def joint_quaternions(
    A_world_rest: Float[Tensor, "frames joints 3 4"], parents: tuple[int, ...]
) -> Float[Tensor, "frames joints 4"]:
    """Quaternions (wxyz) of skinning rotations, each in its parent's hemisphere, so that blending takes the short
    way."""
    if _few(A_world_rest):
        return _JointQuaternions.apply(A_world_rest, parents)  # type: ignore[return-value]
    return joint_quaternions_reference(A_world_rest, parents)


def joint_quaternions_reference(
    A_world_rest: Float[Tensor, "frames joints 3 4"], parents: tuple[int, ...]
) -> Float[Tensor, "frames joints 4"]:
    """What `joint_quaternions` does, in plain PyTorch."""
    q = quaternion_from_matrix(A_world_rest[..., :3])
    away = (q.detach() * q.detach()[:, [max(parent, 0) for parent in parents]]).sum(-1) < 0
    turned = (away.to(q.dtype) @ _chains(parents).to(q)) % 2  # how often on the way from the root
    return q * (1 - 2 * turned)[..., None]


def _few(*tensors: Tensor | None) -> bool:
    there = [t for t in tensors if t is not None]
    return len(there[0]) <= FEW and all(in_cpp(t) and t.dtype == torch.float32 for t in there)


class _PlacedJoints(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, poses: Tensor, rest: Tensor, transl: Tensor | None, parents: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        tensors = tuple(None if t is None else t.detach().contiguous() for t in (poses, rest, transl))
        A, joints = poses.new_empty(*poses.shape[:2], 3, 4), poses.new_empty(poses.shape)
        extension().place_joints(*_arguments(tensors, parents), A, joints)
        ctx.save_for_backward(*tensors, A, joints)
        ctx.parents = parents
        return A, joints

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_A: Tensor, v_joints: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, A, joints = ctx.saved_tensors
        poses, rest, transl = tensors
        arriving = v_A.contiguous(), v_joints.contiguous()
        v_poses, v_rest, v_transl = torch.empty_like(poses), torch.empty_like(poses), poses.new_empty(len(poses), 3)
        extension().place_joints_backward(
            *_arguments(tensors, ctx.parents), A, joints, *arriving, v_poses, v_rest, v_transl
        )
        if rest.ndim == 2:
            v_rest = v_rest.sum(0)
        elif len(rest) < len(poses):
            v_rest = v_rest.sum(0, keepdim=True)
        return v_poses, v_rest, None if transl is None else v_transl, None


def _arguments(tensors: Any, parents: tuple[int, ...]) -> tuple[Tensor | None, ...]:
    poses, rest, transl = tensors
    return poses, rest[None] if rest.ndim == 2 else rest, transl, _numbers(parents)


class _JointQuaternions(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, A_world_rest: Tensor, parents: tuple[int, ...]) -> Tensor:
        A = A_world_rest.detach().contiguous()
        q = A.new_empty(*A.shape[:2], 4)
        extension().joint_quaternions(A, _numbers(parents), q)
        ctx.save_for_backward(A, q)
        return q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_q: Tensor) -> tuple[Tensor | None, ...]:
        A, q = ctx.saved_tensors
        v_A, v_q = torch.empty_like(A), v_q.contiguous()
        extension().joint_quaternions_backward(A, q, v_q, v_A)
        return v_A, None


@functools.cache
def _numbers(parents: tuple[int, ...]) -> Tensor:
    return torch.tensor(parents, dtype=torch.int32)


class _ForwardKinematics(torch.autograd.Function):
    """Axis-angles (55, 3, frames), rest joints (55, 3, frames or 1) and transl (3, frames) or None to skinning
    transforms (55, 3, 4, frames) and posed joints (55, 3, frames).

    Frames stand last, so that every operation runs along them. The gradient is written out, because this runs a
    thousand times per tracked video: turning joint c moves all below it rigidly, so its world gradient is the sum of
    their torques about it, which one product with the tree's descendant matrix gives for all joints. Axis-angles get
    theirs through the left Jacobian of SO(3) (Sola et al. 2018, "A micro Lie theory", eq. 145).
    """

    @staticmethod
    def forward(ctx, omega: Tensor, j: Tensor, transl: Tensor | None, parents: tuple[int, ...]):
        tree = _tree(parents, omega.device)
        offsets = torch.cat([j[:1], j[1:] - j[tree.parent[1:]]]).expand(omega.shape)
        local = torch.cat([_rodrigues(omega), offsets[:, :, None]], 2)[tree.order]
        levels = [local[: tree.sizes[0]]]
        for part, above in zip(local.split(tree.sizes)[1:], tree.above[1:], strict=True):
            outer = levels[-1].index_select(0, above)
            inner = (outer[:, :, :3, None] * part[:, None]).sum(2)
            inner[:, :, 3] += outer[:, :, 3]
            levels.append(inner)
        placed = torch.cat(levels)[tree.back]  # T_world_joint
        if transl is not None:
            placed[:, :, 3] += transl
        W, p = placed[:, :, :3], placed[:, :, 3].clone()
        ctx.save_for_backward(omega, j, W, p)
        ctx.tree = tree
        return torch.cat([W, (p - (W * j[:, None]).sum(2))[:, :, None]], 2), p

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_A: Tensor, grad_p: Tensor):
        omega, j, W, p = ctx.saved_tensors
        tree, count = ctx.tree, len(p)
        gt = grad_A[:, :, 3]
        force = grad_p + gt
        gW = grad_A[:, :, :3] - gt[:, :, None] * j[:, None]
        torque = _cross(p, force)
        for k in range(3):
            torque += _cross(W[:, :, k], gW[:, :, k])
        below = (tree.descendants @ torch.cat([force, torque], 1).reshape(count, -1)).reshape(count, 6, -1)
        force = below[:, :3]
        torque = below[:, 3:] - _cross(p, force)
        W_parent = torch.cat([torch.eye(3, device=p.device)[..., None].expand_as(W[:1]), W[tree.parent[1:]]])
        turn = (W_parent * torque[:, :, None]).sum(1)  # both in the parent's frame
        push = (W_parent * force[:, :, None]).sum(1)
        grad_j = (push - (W * gt[:, :, None]).sum(1)).index_add(0, tree.parent[1:], push[1:], alpha=-1)
        if j.shape[-1] == 1:
            grad_j = grad_j.sum(-1, keepdim=True)
        _, b, c = _rodrigues_factors(omega)
        turned = _cross(omega, turn)
        grad_omega = turn - b * turned + c * _cross(omega, turned)
        return grad_omega, grad_j, force[0] if ctx.needs_input_grad[2] else None, None


def _cross(a: Float[Tensor, "n 3 frames"], b: Float[Tensor, "n 3 frames"]) -> Float[Tensor, "n 3 frames"]:
    return torch.linalg.cross(a, b, dim=1)


def _rodrigues_factors(omega: Float[Tensor, "n 3 frames"]) -> tuple[Tensor, Tensor, Tensor]:
    """sin(t)/t, (1 - cos t)/t^2 and (t - sin t)/t^3 (n, 1, frames) for t = |omega|, by their series for small t."""
    squared = omega.square().sum(1, keepdim=True)
    small = squared < 1e-2
    t = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sin = torch.sin(t)
    a = torch.where(small, 1.0 - squared / 6.0 * (1.0 - squared / 20.0), sin / t)
    b = torch.where(small, 0.5 - squared / 24.0 * (1.0 - squared / 30.0), (1.0 - torch.cos(t)) / t**2)
    c = torch.where(small, 1.0 / 6.0 - squared / 120.0 * (1.0 - squared / 42.0), (t - sin) / t**3)
    return a, b, c


def _rodrigues(omega: Float[Tensor, "n 3 frames"]) -> Float[Tensor, "n 3 3 frames"]:
    a, b, _ = _rodrigues_factors(omega)
    x, y, z = (omega * a).unbind(1)
    outer = (omega * b)[:, :, None] * omega[:, None]
    o = (1.0 - b * omega.square().sum(1, keepdim=True))[:, 0]
    return outer + torch.stack([o, -z, y, z, o, -x, -y, x, o], 1).reshape(outer.shape)


@dataclass(frozen=True, eq=False)
class _Tree:
    """The kinematic tree by levels of depth."""

    parent: Tensor
    sizes: list[int]
    """Joints in each level."""
    above: list[Tensor]
    """Per level, the place of each joint's parent in the level above."""
    order: Tensor
    """Joints, level after level."""
    back: Tensor
    """The place of each joint in `order`."""
    descendants: Float[Tensor, "joints joints"]
    """1 where the column's joint is the row's joint or hangs below it."""


@functools.lru_cache(maxsize=8)
def _tree(parents: tuple[int, ...], device: torch.device) -> _Tree:
    depth = [0] * len(parents)
    descendants = torch.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            depth[joint] = depth[parent] + 1
        while parent >= 0:
            descendants[parent, joint] = 1.0
            parent = parents[parent]
    levels = [[j for j, at in enumerate(depth) if at == d] for d in range(max(depth) + 1)]
    above = [[levels[max(d - 1, 0)].index(max(parents[j], 0)) for j in level] for d, level in enumerate(levels)]
    order = [j for level in levels for j in level]
    return _Tree(
        parent=torch.tensor([max(p, 0) for p in parents], device=device),
        sizes=[len(level) for level in levels],
        above=[torch.tensor(places, device=device) for places in above],
        order=torch.tensor(order, device=device),
        back=torch.tensor([order.index(j) for j in range(len(parents))], device=device),
        descendants=descendants.to(device),
    )


@functools.cache
def _chains(parents: tuple[int, ...]) -> Float[Tensor, "joints joints"]:
    """Column j marks the joints on the way from the root to j, the root left out and j included."""
    chains = torch.zeros(len(parents), len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            chains[:, joint] = chains[:, parent]
            chains[joint, joint] = 1
    return chains
