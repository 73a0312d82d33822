"""Our C++ skinning against plain PyTorch, and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatars.body.skinning import SkinningWeights, skin, skin_reference
from avatars.errors import InputError
from avatars.geometry.rotations import matrix_from_axis_angle, matrix_from_quaternion, quaternion_from_matrix
from avatars.rasterizer import Render, cpu

N, JOINTS = 2100, 55


def weights(seed: int = 0) -> SkinningWeights:
    """One to four joints a point; some points are moved by one alone."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.zeros(N, JOINTS)
    for k in range(4):
        joint = torch.randint(JOINTS, (N,), generator=generator)
        dense[torch.arange(N), joint] += torch.rand(N, generator=generator) * (torch.arange(N) % 4 >= k)
    return SkinningWeights.of(dense / dense.sum(1, keepdim=True))


def points(frames: int, rest_frames: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((frames, JOINTS, 16), (rest_frames, N, 3), (N, 4), (N, 3))
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize(("frames", "rest_frames"), [(1, 1), (3, 1), (3, 3)])
def test_skinning_agrees_with_plain_pytorch_in_values_and_gradients(frames, rest_frames, instruction_set):
    results = []
    for function in (skin, skin_reference):
        joints, rest, quats, normals = points(frames, rest_frames)
        leaves = [t.requires_grad_() for t in (joints, rest, quats)]
        means, turned, turned_normals = function(joints, weights(), rest, quats, normals)
        (means.sin().sum() + (turned * turned.detach().cos()).sum()).backward()
        results.append([means, turned, turned_normals, *(leaf.grad for leaf in leaves)])
    for ours, expected in zip(*results, strict=True):
        assert ours.shape == expected.shape
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_one_joint_moves_its_points_rigidly():
    R = matrix_from_axis_angle(torch.tensor([0.3, -1.1, 0.4]))
    shift = torch.tensor([0.1, 0.2, 0.3])
    joint = torch.cat([torch.cat([R, shift[:, None]], 1).flatten(), quaternion_from_matrix(R)]).view(1, 1, 16)
    rest, quats, normals = points(1, 1)[1:]
    means, turned, turned_normals = skin(joint, SkinningWeights.of(torch.ones(N, 1)), rest, quats, normals)
    assert torch.allclose(means[0], rest[0] @ R.T + shift, atol=1e-5)
    assert torch.allclose(turned_normals[0].T, normals @ R.T, atol=1e-5)
    assert torch.allclose(matrix_from_quaternion(turned[0]), R @ matrix_from_quaternion(quats), atol=1e-4)


def test_the_sparse_weights_are_the_dense_ones():
    w = weights()
    dense = torch.zeros(N, JOINTS)
    for point in range(N):
        part = slice(int(w.begins[point]), int(w.begins[point + 1]))
        dense[point, w.joints[part].long()] = w.values[part]
    assert torch.equal(dense, w.dense_t.T)


def test_double_precision_is_refused_not_misread():
    joints, rest, quats, normals = points(1, 1)
    with pytest.raises(InputError, match=r"rest is torch\.float64"):
        skin(joints, weights(), rest.double(), quats, normals)
    render = Render(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match=r"background is torch\.float64"):
        cpu.frame_bytes(render, torch.zeros(3, 4, 4).double())
