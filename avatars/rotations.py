"""Rotations as axis-angle (radians), quaternion (wxyz), 3x3 matrix and 6D (Zhou et al. 2019), and between them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def matrix_from_axis_angle(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rodrigues' formula, smooth and differentiable at zero."""
    squared = axis_angle.square().sum(-1)
    small = squared < 1e-8
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    a = torch.where(small, 1.0 - squared / 6.0, torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - squared / 24.0, (1.0 - torch.cos(angle)) / safe)
    K = cross_product_matrix(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + a[..., None, None] * K + b[..., None, None] * (K @ K)


def right_jacobian(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """How a rotation turns about axes of its own when its axis-angle is added to (Sola et al. 2018, equation 143).

    R(a + e) = R(a) R(J e) to first order in e.
    """
    squared = axis_angle.square().sum(-1)
    small = squared < 1e-6
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    a = torch.where(small, 0.5 - squared / 24.0, (1.0 - torch.cos(angle)) / safe)
    b = torch.where(small, 1.0 / 6.0 - squared / 120.0, (angle - torch.sin(angle)) / (safe * angle))
    K = cross_product_matrix(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye - a[..., None, None] * K + b[..., None, None] * (K @ K)


def cross_product_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """K with K @ x = cross(vector, x)."""
    x, y, z = vector.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*vector.shape[:-1], 3, 3)


def quaternion_from_matrix(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion (wxyz, w >= 0); the best conditioned of Shepperd's (1978) four forms is taken per element."""
    m = matrix.reshape(*matrix.shape[:-2], 9)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = m.unbind(-1)
    forms = torch.stack(
        [
            torch.stack([1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01], -1),
            torch.stack([m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20], -1),
            torch.stack([m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m12 + m21], -1),
            torch.stack([m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22], -1),
        ],
        -2,
    )
    diagonal = torch.stack([forms[..., i, i] for i in range(4)], -1)
    best = diagonal.argmax(-1)[..., None, None].expand(*diagonal.shape[:-1], 1, 4)
    q = forms.gather(-2, best).squeeze(-2)
    q = torch.nn.functional.normalize(q, dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def axis_angle_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle with angle in [0, pi] of a unit quaternion (wxyz)."""
    q = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sin_half = q[..., 1:].norm(dim=-1)
    angle = 2.0 * torch.atan2(sin_half, q[..., 0])
    scale = torch.where(sin_half < 1e-7, torch.full_like(angle, 2.0), angle / sin_half.clamp_min(1e-7))
    return q[..., 1:] * scale[..., None]


def axis_angle_from_matrix(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle with angle in [0, pi]."""
    return axis_angle_from_quaternion(quaternion_from_matrix(matrix))


def matrix_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a quaternion (wxyz), normalized here."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        -1,
    ).reshape(*quaternion.shape[:-1], 3, 3)  # fmt: skip


def quaternion_multiply(a: Float[Tensor, "*batch 4"], b: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Hamilton product (wxyz): the rotation `b` followed by `a`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def matrix_from_6d(d6: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """The 6D representation of Zhou et al. 2019: the first two rows, made orthonormal by Gram-Schmidt."""
    a, b = d6[..., :3], d6[..., 3:]
    x = torch.nn.functional.normalize(a, dim=-1)
    y = torch.nn.functional.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -2)


def d6_from_matrix(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """The first two rows of a rotation matrix."""
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def nearest_axis_angle(rotation: Float[Tensor, "n 3"], to: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """The same rotations (axis-angle, at most pi), written as that of their two nearest forms that lies nearer `to`."""
    angle = rotation.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    other = rotation * (1 - 2 * math.pi / angle)
    nearer = (rotation - to).norm(dim=-1, keepdim=True) <= (other - to).norm(dim=-1, keepdim=True)
    return torch.where(nearer, rotation, other)
