"""Points on a body, and the body's joints in a pose, to the points in that pose (linear blend skinning)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.errors import InputError
from avatars.geometry.rotations import quaternion_multiply
from avatars.kernels.extension import empty, extension, in_cpp
from avatars.kernels.threads import kernel_threads


@dataclass(frozen=True, slots=True, eq=False)
class SkinningWeights:
    """Which joints move each point, and how much; rows sum to 1. Dense, and as the nonzero ones point by point."""

    dense_t: Float[Tensor, "joints n"]
    begins: Int32[Tensor, " n+1"]
    """Each point's first place in the next two."""
    joints: UInt8[Tensor, " nonzero"]
    values: Float[Tensor, " nonzero"]

    @staticmethod
    def of(dense: Float[Tensor, "n joints"]) -> SkinningWeights:
        """From the weights of every point for every joint."""
        point, joint = dense.nonzero(as_tuple=True)
        begins = torch.zeros(len(dense) + 1, dtype=torch.int32)
        begins[1:] = torch.bincount(point, minlength=len(dense)).cumsum(0)
        return SkinningWeights(dense.t().contiguous(), begins, joint.to(torch.uint8), dense[point, joint])

    def to(self, device: torch.device | str) -> SkinningWeights:
        """The weights on `device`."""
        return SkinningWeights(*(getattr(self, name).to(device) for name in self.__slots__))


def skin(
    joints: Float[Tensor, "frames joints 16"],
    weights: SkinningWeights,
    rest: Float[Tensor, "frames_or_1 n 3"],
    quats: Float[Tensor, "n 4"],
    normals: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, "frames n 3"], Float[Tensor, "frames n 4"], Float[Tensor, "frames 3 n"]]:
    """Means, quaternions (not unit) and normals (not quite unit; rows of n) moved by the blend of the joints.

    A joint is the 3x4 matrix that takes rest positions to the world, row by row, and a quaternion (wxyz). On the CPU
    our C++ does it, float32 only, with gradients of joints, rest and quats; elsewhere PyTorch does.
    Raises InputError for another dtype on the CPU.
    """
    if in_cpp(joints):
        for name, tensor in (("joints", joints), ("rest", rest), ("quats", quats), ("normals", normals)):
            if tensor.dtype != torch.float32:
                raise InputError(f"Skinning on the CPU takes float32; {name} is {tensor.dtype}. Use `.float()`.")
        return _Skinning.apply(weights, joints, rest, quats, normals)  # type: ignore[return-value]
    return skin_reference(joints, weights, rest, quats, normals)


def skin_points(
    weights: Float[Tensor, "points joints"],
    A_world_rest: Float[Tensor, "frames joints rows 4"],
    rest: Float[Tensor, "*frames points 3"],
) -> Float[Tensor, "frames points rows"]:
    """Linear blend skinning as one matrix product. Three rows give x, y, z; one row gives that coordinate alone.

    In memory the frames stand last (where many are posed at once they do so in `PosedBody.A_world_rest`): make the
    result contiguous where its layout matters.
    """
    frames, joints, rows, _ = A_world_rest.shape
    blended = (weights @ A_world_rest.permute(1, 2, 3, 0).reshape(joints, -1)).reshape(-1, rows, 4, frames)
    rest = rest[..., None] if rest.ndim == 2 else rest.permute(1, 2, 0)
    homogeneous = torch.nn.functional.pad(rest, (0, 0, 0, 1), value=1.0)
    return (blended * homogeneous[:, None]).sum(2).permute(2, 0, 1)


def skin_reference(
    joints: Float[Tensor, "frames joints 16"],
    weights: SkinningWeights,
    rest: Float[Tensor, "frames_or_1 n 3"],
    quats: Float[Tensor, "n 4"],
    normals: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, "frames n 3"], Float[Tensor, "frames n 4"], Float[Tensor, "frames 3 n"]]:
    """What `skin` does, in plain PyTorch: any device, any floating dtype."""
    blend = (joints.transpose(1, 2) @ weights.dense_t).transpose(1, 2)
    A = blend[..., :12].unflatten(-1, (3, 4))
    means = (A[..., :3] @ rest[..., None])[..., 0] + A[..., 3]
    turned = (A[..., :3] @ normals[..., None])[..., 0]
    return means, quaternion_multiply(blend[..., 12:], quats), turned.transpose(1, 2)


class _Skinning(torch.autograd.Function):
    """All frames as one autograd node."""

    @staticmethod
    def forward(ctx: Any, weights: SkinningWeights, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tensors = tuple(t.detach().contiguous() for t in inputs)
        frames, n = len(tensors[0]), len(tensors[2])
        moved = tuple(empty(shape) for shape in ((frames, n, 3), (frames, n, 4), (frames, 3, n)))
        extension().skin(*_point_arguments(weights, tensors), *moved, kernel_threads())
        ctx.save_for_backward(*tensors)
        ctx.weights = weights
        ctx.mark_non_differentiable(moved[2])  # normals only shade
        return moved  # type: ignore[return-value]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_means: Tensor, v_turned: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        joints, rest, quats, _ = tensors = ctx.saved_tensors
        frames = len(joints)
        v_means, v_turned = v_means.contiguous(), v_turned.contiguous()
        v_joints, v_quats = torch.empty_like(joints), empty(quats.shape)
        v_rest = empty((frames, *rest.shape[1:]))
        gradients = (v_means, v_turned, v_joints, v_rest, v_quats)
        extension().skin_backward(*_point_arguments(ctx.weights, tensors), *gradients, kernel_threads())
        if len(rest) < frames:
            v_rest = v_rest.sum(0, keepdim=True)
        return None, v_joints, v_rest, v_quats, None


def _point_arguments(weights: SkinningWeights, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    joints, *points = tensors
    return joints, weights.begins, weights.joints, weights.values, *points
