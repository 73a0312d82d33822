"""What a body hides from itself: closed forms, and poses whose shadow is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from avatars.avatar.ambient_occlusion import BRIGHTEST, MOST, STRENGTH, AmbientOcclusion
from avatars.avatar.binding import spread_over
from avatars.avatar.rig import Rig
from avatars.avatar.shading import harmonics
from avatars.body import load_body
from avatars.body.layout import JOINT_NAMES
from avatars.body.skinning import SkinningWeights

DARK = torch.zeros(8, 3)


@pytest.fixture(scope="module")
def rig() -> Rig:
    body = load_body()
    betas = torch.zeros(body.n_betas)
    return Rig.build(body, spread_over(body, body.shaped(betas)[0], 4000), betas)


@pytest.fixture(scope="module")
def shadows(rig: Rig) -> AmbientOcclusion:
    return AmbientOcclusion.of(rig, torch.zeros(rig.body.n_betas))


def one_sphere(center: tuple[float, float, float], radius_m: float) -> AmbientOcclusion:
    """Over one point at the origin that faces up."""
    return AmbientOcclusion(
        torch.tensor([center]), torch.tensor([radius_m]), torch.tensor([0]), torch.zeros(1, 3),
        torch.tensor([[0.0, 1, 0]]), SkinningWeights.of(torch.ones(1, 1)), torch.ones(1, 1),
        torch.zeros(1, 3, dtype=torch.int32), torch.full((1, 3), 1 / 3),
    )  # fmt: skip


def still(frames: int = 1) -> torch.Tensor:
    return torch.eye(4)[:3].expand(frames, 1, 3, 4)


def posed(rig: Rig, **turns: tuple[float, float, float]) -> torch.Tensor:
    poses = torch.zeros(1, 55, 3)
    for joint, axis_angle in turns.items():
        poses[0, JOINT_NAMES.index(joint)] = torch.tensor(axis_angle)
    return rig.body.pose(poses, torch.zeros(rig.body.n_betas)).A_world_rest


def hidden(shadows: AmbientOcclusion, A_world_rest: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
    """What `AmbientOcclusion.at_anchors` says, in plain PyTorch."""
    blend = torch.einsum("ja,fjkl->fakl", shadows.weights.dense_t, A_world_rest)
    points = (blend[..., :3] @ shadows.anchors[..., None])[..., 0] + blend[..., 3]
    normals = torch.nn.functional.normalize((blend[..., :3] @ shadows.normals[..., None])[..., 0], dim=-1)
    bones = A_world_rest[:, shadows.bones]
    centers = (bones[..., :3] @ shadows.centers[..., None])[..., 0] + bones[..., 3]
    towards = centers[:, None] - points[:, :, None]
    distance = towards.norm(dim=-1)
    towards = towards / distance[..., None]
    cosine = (towards * normals[:, :, None]).sum(-1)
    sine = (shadows.radii_m / distance).clamp_max(1.0)
    above = torch.where(cosine > sine, cosine, (cosine + sine).clamp_min(0).square() / (4 * sine))
    from_there = (harmonics(towards.flatten(1, 2).mT).mT @ light.mean(1)).view(distance.shape)
    brighter = (from_there - (harmonics(normals.mT).mT @ light.mean(1))[..., None]).exp().clamp_max(BRIGHTEST)
    return -STRENGTH * (1 - (1 - (above * sine.square() * shadows.hides.T * brighter).clamp_max(MOST)).prod(-1))


@pytest.mark.parametrize("bright", [0.0, 0.5])
def test_our_cpp_agrees_with_plain_pytorch(
    rig: Rig, shadows: AmbientOcclusion, bright: float, instruction_set: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    poses = 0.4 * torch.randn(3, 55, 3, generator=generator)
    A = rig.body.pose(poses, torch.zeros(rig.body.n_betas)).A_world_rest
    light = bright * torch.randn(8, 3, generator=generator)
    expected = hidden(shadows, A, light)
    assert float((shadows.at_anchors(A, light) - expected).abs().max()) < 1e-5
    between = (expected[:, shadows.near.long()] * shadows.share).sum(-1)
    assert float((shadows.spread(expected) - between).abs().max()) < 1e-6


@pytest.mark.parametrize(("angle_deg", "distance_m"), [(0.0, 2.0), (50.0, 0.5), (70.0, 1.0)])
def test_a_sphere_above_the_horizon_hides_its_form_factor(angle_deg: float, distance_m: float) -> None:
    angle = math.radians(angle_deg)
    center = (distance_m * math.sin(angle), distance_m * math.cos(angle), 0.0)
    found = one_sphere(center, 0.1).at_anchors(still(2), DARK)
    expected = -STRENGTH * math.cos(angle) * (0.1 / distance_m) ** 2
    assert torch.allclose(found, torch.full((2, 1), expected), rtol=1e-4)


def test_a_sphere_sinks_below_the_horizon_without_a_jump() -> None:
    heights = torch.linspace(-0.15, 0.15, 61)
    hidden = torch.cat([-one_sphere((1.0, float(h), 0.0), 0.1).at_anchors(still(), DARK)[0] for h in heights])
    assert float(hidden[heights < -0.105].abs().max()) == 0.0
    assert bool((hidden[1:] >= hidden[:-1]).all())
    assert float((hidden[1:] - hidden[:-1]).max()) < 0.05 * float(hidden[-1])


def test_light_from_the_sphere_s_side_is_missed_more_than_light_from_elsewhere() -> None:
    from_left = DARK.clone()
    from_left[0] = 0.4
    left, right = one_sphere((1.0, 1.0, 0.0), 0.2), one_sphere((-1.0, 1.0, 0.0), 0.2)
    ratio = left.at_anchors(still(), from_left) / right.at_anchors(still(), from_left)
    assert float(ratio) == pytest.approx(math.exp(2 * 0.4 / math.sqrt(2)), rel=0.01)


def test_an_arm_that_hangs_down_darkens_the_side_it_hangs_at(rig: Rig, shadows: AmbientOcclusion) -> None:
    limb = rig.weights.dense_t.t()[:, :22].argmax(1)
    waist = torch.isin(limb, torch.tensor([0, 3])) & (rig.surface[:, 0].abs() > 0.08)
    left = waist & (rig.surface[:, 0] > 0)
    down = shadows.spread(shadows.at_anchors(posed(rig, left_shoulder=(0, 0, -1.3)), DARK))[0]
    apart = shadows.spread(shadows.at_anchors(posed(rig), DARK))[0]
    assert float(down[left].mean()) < float(apart[left].mean()) - 0.01
    assert torch.allclose(down[waist & ~left], apart[waist & ~left], atol=2e-3)
    assert bool((down <= 0).all()) and float(down.min()) >= -STRENGTH


def test_shadow_turns_with_the_body_where_light_is_even(rig: Rig, shadows: AmbientOcclusion) -> None:
    here, turned = (shadows.at_anchors(posed(rig, pelvis=(0, yaw, 0)), DARK) for yaw in (0.0, 2.0))
    assert torch.allclose(here, turned, atol=1e-5)


def test_points_get_the_shadow_of_the_anchors_about_them(rig: Rig, shadows: AmbientOcclusion) -> None:
    assert torch.allclose(shadows.share.sum(1), torch.ones(len(rig.surface)))
    chosen = torch.arange(0, len(rig.surface), len(rig.surface) // len(shadows.anchors))
    values = shadows.at_anchors(posed(rig), DARK)
    assert torch.allclose(shadows.spread(values)[:, chosen], values, atol=0.02)


def test_no_limb_hides_light_from_itself(rig: Rig, shadows: AmbientOcclusion) -> None:
    thigh = shadows.bones == JOINT_NAMES.index("left_hip")
    own = shadows.weights.dense_t[:22].argmax(0) == JOINT_NAMES.index("left_hip")
    assert not shadows.hides[thigh][:, own].any() and shadows.hides[thigh][:, ~own].all()
    alone = replace(shadows, hides=shadows.hides * thigh[:, None])
    assert float(alone.at_anchors(posed(rig), DARK)[0, own].abs().max()) == 0.0
