"""Rotations as axis-angle (radians), quaternion (wxyz), and 3x3 matrix, and between them; rotations between, nearest
to and shortest from one thing to another."""

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


def quaternion_multiply(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*#batch 4"]:
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


def slerp(
    a: Float[Tensor, "*batch 4"], b: Float[Tensor, "*batch 4"], share: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch 4"]:
    """Shortest way between unit quaternions at constant speed (Shoemake 1985)."""
    dot = (a * b).sum(-1)
    b = torch.where(dot[..., None] < 0, -b, b)
    angle = torch.acos(dot.abs().clamp(max=1.0))
    near = angle < 1e-3
    sine = torch.where(near, torch.ones_like(angle), angle.sin())
    wa = torch.where(near, 1 - share.expand_as(angle), ((1 - share) * angle).sin() / sine)
    wb = torch.where(near, share.expand_as(angle), (share * angle).sin() / sine)
    return torch.nn.functional.normalize(wa[..., None] * a + wb[..., None] * b, dim=-1)


def rotation_between(
    a: Float[Tensor, "*batch 3 3"], b: Float[Tensor, "*batch 3 3"], share: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """The rotation a share of the way from `a` to `b`, the short way round: Shoemake's slerp of 1985, as matrices."""
    return matrix_from_axis_angle(share[..., None] * axis_angle_from_matrix(b @ a.mT)) @ a


def shortest_rotation(a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The shortest rotation that turns a's direction into b's; they must not be opposite."""
    a, b = (v / v.norm(dim=-1, keepdim=True).clamp_min(1e-12) for v in (a, b))
    v, c = torch.linalg.cross(a, b), (a * b).sum(-1)
    K = cross_product_matrix(v)
    return torch.eye(3, dtype=a.dtype) + K + K @ K / (1 + c).clamp_min(1e-9)[..., None, None]


def rotation_from_columns(
    first: Float[Tensor, "*batch 3"], second: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3 3"]:
    """Rotations from their first two columns, about (Zhou et al. 2019, "On the Continuity of Rotation
    Representations"), by Gram-Schmidt."""
    x = torch.nn.functional.normalize(first, dim=-1)
    y = torch.nn.functional.normalize(second - (second * x).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation nearest to a matrix (Frobenius norm). Of `b.mT @ a` it is the one that brings centered points `a`
    (points, 3) nearest to `b` (Kabsch 1976)."""
    U, _, Vh = torch.linalg.svd(matrix)
    flip = torch.ones_like(matrix[..., 0])
    flip[..., 2] = torch.linalg.det(U @ Vh).sign()
    return (U * flip[..., None, :]) @ Vh


def nearest_axis_angle(rotation: Float[Tensor, "n 3"], to: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """The same rotations (axis-angle, at most pi), written as that of their two nearest forms that lies nearer `to`."""
    angle = rotation.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    other = rotation * (1 - 2 * math.pi / angle)
    nearer = (rotation - to).norm(dim=-1, keepdim=True) <= (other - to).norm(dim=-1, keepdim=True)
    return torch.where(nearer, rotation, other)


def headings_seen_deg(rotation: Float[Tensor, "frames 3 3"]) -> float:
    """How much of the circle the headings cover, in steps of 30 degrees."""
    return len(heading_sectors(rotation).unique()) * 30.0


def heading_sectors(rotation: Float[Tensor, "frames 3 3"]) -> Tensor:
    """Which of twelve headings each frame has."""
    heading = torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])
    return ((heading + math.pi) / (2 * math.pi) * 12).long().clamp(0, 11)
