"""Rotations between, shortest from, and nearest to one another."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from avatars.geometry.rotations import (
    matrix_from_axis_angle,
    matrix_from_quaternion,
    nearest_rotation,
    quaternion_from_matrix,
    rotation_between,
    rotation_from_columns,
    shortest_rotation,
    slerp,
)


def some_rotations(n: int, seed: int = 0) -> torch.Tensor:
    return matrix_from_axis_angle(torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double())


def test_rotations_between_are_scipys_slerp_as_matrices_and_as_quaternions() -> None:
    a, b, share = some_rotations(20), some_rotations(20, seed=1), torch.linspace(0, 1, 20).double()
    pairs = (Slerp([0, 1], Rotation.from_matrix(np.stack(pair))) for pair in zip(a.numpy(), b.numpy(), strict=True))
    expected = torch.from_numpy(np.stack([s(t).as_matrix() for s, t in zip(pairs, share.tolist(), strict=True)]))
    assert torch.allclose(rotation_between(a, b, share), expected, atol=1e-6)
    quats = slerp(quaternion_from_matrix(a), quaternion_from_matrix(b), share)
    assert torch.allclose(matrix_from_quaternion(quats), expected, atol=1e-5)


def test_the_shortest_rotation_takes_one_direction_to_the_other_about_their_normal() -> None:
    a, b = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(2)).double()
    R = shortest_rotation(a, b)
    unit = torch.nn.functional.normalize
    assert torch.allclose((R @ unit(a, dim=-1)[..., None])[..., 0], unit(b, dim=-1), atol=1e-12)
    normal = torch.linalg.cross(a, b)
    assert torch.allclose((R @ normal[..., None])[..., 0], normal, atol=1e-10)


def test_the_nearest_rotation_brings_points_onto_each_other_and_mirrors_nothing() -> None:
    R = some_rotations(1, seed=3)[0]
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(4)).double()
    assert torch.allclose(nearest_rotation((points @ R.T).T @ points), R, atol=1e-9)
    mirrored = points * torch.tensor([-1.0, 1.0, 1.0]).double()
    assert float(torch.linalg.det(nearest_rotation(mirrored.T @ points))) > 0.999


def test_a_rotation_is_made_of_two_columns_that_need_be_neither_unit_nor_at_right_angles() -> None:
    R = some_rotations(8, seed=5)
    assert torch.allclose(rotation_from_columns(2 * R[..., 0], 0.5 * R[..., 1] + 3 * R[..., 0]), R, atol=1e-9)


def test_half_of_a_quarter_turn_is_an_eighth() -> None:
    quarter = matrix_from_axis_angle(torch.tensor([0.0, math.pi / 2, 0.0]))
    half = rotation_between(torch.eye(3), quarter, torch.tensor(0.5))
    assert torch.allclose(half, matrix_from_axis_angle(torch.tensor([0.0, math.pi / 4, 0.0])), atol=1e-6)
