"""Points on a body, and the body's joints in a pose, to the points in that pose (linear blend skinning)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.errors import InputError
from avatars.rasterizer.cpu import address_of, empty, extension, in_cpp
from avatars.rotations import quaternion_multiply
from avatars.threads import kernel_threads


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
        for frame in range(frames):
            places = (address_of(t, frame) for t in moved)
            extension().skin(*_point_arguments(weights, tensors, frame), *places, kernel_threads())
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
        for frame in range(frames):
            places = (address_of(t, frame) for t in (v_means, v_turned, v_joints, v_rest))
            arguments = (*places, address_of(v_quats, 0), frame > 0, kernel_threads())
            extension().skin_backward(*_point_arguments(ctx.weights, tensors, frame), *arguments)
        if len(rest) < frames:
            v_rest = v_rest.sum(0, keepdim=True)
        return None, v_joints, v_rest, v_quats, None


def _point_arguments(weights: SkinningWeights, tensors: tuple[Tensor, ...], frame: int) -> tuple[int, ...]:
    joints, rest, quats, normals = tensors
    return (
        address_of(joints, frame),
        *(t.data_ptr() for t in (weights.begins, weights.joints, weights.values)),
        *(address_of(t, frame) for t in (rest, quats[None], normals[None])),
        len(quats),
        joints.shape[1],
    )
