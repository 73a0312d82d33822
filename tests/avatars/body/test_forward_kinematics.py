"""Our C++ joints in a pose against plain PyTorch, and closed forms."""

from __future__ import annotations

import pytest
import torch

from avatars.body.forward_kinematics import (
    FEW,
    joint_quaternions,
    joint_quaternions_reference,
    place_joints,
    place_joints_reference,
)
from avatars.geometry.rotations import matrix_from_quaternion

PARENTS = (-1, 0, 0, 1, 1, 3, 5, 2, 7)


def inputs(frames: int, rest_frames: int | None, spread: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(frames)
    poses = spread * torch.randn(frames, len(PARENTS), 3, generator=generator)
    poses[0, 1], poses[0, 2] = 0.0, 1e-4
    rest = torch.randn(*([] if rest_frames is None else [rest_frames]), len(PARENTS), 3, generator=generator)
    return [poses, rest, torch.randn(frames, 3, generator=generator)]


@pytest.mark.parametrize(("frames", "rest_frames"), [(1, None), (5, None), (5, 1), (FEW, FEW)])
@pytest.mark.parametrize("moved", [True, False])
def test_joints_agree_with_plain_pytorch_in_values_and_gradients(frames: int, rest_frames: int | None, moved: bool):
    results = []
    for function in (place_joints, place_joints_reference):
        poses, rest, transl = (t.requires_grad_() for t in inputs(frames, rest_frames))
        A, joints = function(poses, rest, transl if moved else None, PARENTS)
        ((A * A.detach().cos()).sum() + (joints * joints.detach().sin()).sum()).backward()
        results.append([A, joints, poses.grad, rest.grad] + [transl.grad] * moved)
    for ours, expected in zip(*results, strict=True):
        assert ours.shape == expected.shape
        assert (ours - expected).abs().max() <= 3e-6 * expected.abs().max()


@pytest.mark.parametrize("spread", [0.2, 3.0])
def test_quaternions_agree_with_plain_pytorch_in_values_and_gradients(spread: float) -> None:
    poses, rest, transl = inputs(FEW, None, spread)
    A = place_joints(poses, rest, transl, PARENTS)[0]
    results = []
    for function in (joint_quaternions, joint_quaternions_reference):
        leaf = A.clone().requires_grad_()
        q = function(leaf, PARENTS)
        (q * torch.linspace(-1, 1, q.numel()).view_as(q)).sum().backward()
        results.append([q, leaf.grad])
    for ours, expected in zip(*results, strict=True):
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_quaternions_are_the_rotations_each_in_its_parents_hemisphere() -> None:
    poses, rest, transl = inputs(FEW, None, 3.0)
    A = place_joints(poses, rest, transl, PARENTS)[0]
    q = joint_quaternions(A, PARENTS)
    assert torch.allclose(matrix_from_quaternion(q), A[..., :3], atol=1e-5)
    assert bool(((q[:, 1:] * q[:, list(PARENTS[1:])]).sum(-1) >= 0).all())
    assert bool((q[:, 0, 0] >= 0).all())


def test_the_identity_pose_leaves_joints_at_rest() -> None:
    _, rest, transl = inputs(3, None)
    A, joints = place_joints(torch.zeros(3, len(PARENTS), 3), rest, transl, PARENTS)
    assert torch.allclose(joints, rest + transl[:, None], atol=1e-6)
    assert torch.allclose(A[..., :3], torch.eye(3).expand(3, len(PARENTS), 3, 3), atol=1e-6)
    assert torch.allclose(A[..., 3], transl[:, None].expand(3, len(PARENTS), 3), atol=1e-6)


def test_a_straight_chain_bent_by_a_right_angle_points_up() -> None:
    rest = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    poses = torch.zeros(1, 3, 3)
    poses[0, 1, 2] = torch.pi / 2
    _, joints = place_joints(poses, rest, None, (-1, 0, 1))
    assert torch.allclose(joints[0], torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 2, 0]]), atol=1e-6)


def test_many_frames_and_few_agree() -> None:
    poses, rest, transl = inputs(FEW + 1, None)
    many = place_joints(poses, rest, transl, PARENTS)
    few = place_joints(poses[:2], rest, transl[:2], PARENTS)
    for a, b in zip(many, few, strict=True):
        assert torch.allclose(a[:2], b, atol=1e-5)
