"""Feet that stood on the ground stand still on it on any body, and the legs that hold them stay legs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.tiny_batch import make_motion

from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.geometry.rotations import shortest_rotation
from avatars.motion_formats import load_motion
from reenact.retargeting.contacts import Soles, foot_track, keep_contacts, steady_contacts, two_bone
from reenact.retargeting.retarget import on_body, resampled, retarget

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def random_rotation(generator: torch.Generator) -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    return q * torch.sign(torch.linalg.det(q))


def test_two_bones_reach_their_target_and_keep_their_lengths():
    generator = torch.Generator().manual_seed(0)
    hip = torch.randn(50, 3, generator=generator)
    thigh, shin = torch.randn(2, 50, 3, generator=generator).unbind(0)
    thigh, shin = 0.4 * thigh / thigh.norm(dim=-1, keepdim=True), 0.35 * shin / shin.norm(dim=-1, keepdim=True)
    joints = torch.stack([hip, hip + thigh, hip + thigh + shin], 1)
    toward = torch.randn(50, 3, generator=generator)
    reach = 0.1 + 0.6 * torch.rand(50, 1, generator=generator)
    target = hip + reach * toward / toward.norm(dim=-1, keepdim=True)
    first, second = two_bone(joints, target)
    found = hip + (first @ thigh[..., None])[..., 0] + (second @ shin[..., None])[..., 0]
    assert torch.allclose(found, target, atol=1e-4)
    eye = torch.eye(3).expand(50, 3, 3)
    for rotation in (first, second):
        assert torch.allclose(rotation @ rotation.transpose(-1, -2), eye, atol=1e-4)
    unmoved, _ = two_bone(joints, joints[:, 2])
    assert torch.allclose(unmoved, eye, atol=2e-3)


def test_the_shortest_rotation_turns_one_direction_into_the_other():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 20, 3, generator=generator).double().unbind(0)
    turned = (shortest_rotation(a, b) @ a[..., None])[..., 0]
    assert torch.allclose(turned / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True), atol=1e-9)


def test_short_gaps_and_short_touches_are_no_contacts_of_their_own():
    touch = torch.zeros(30, 2, dtype=torch.bool)
    touch[3:10, 0] = True
    touch[11:18, 0] = True  # a gap of one frame
    touch[25, 1] = True  # a touch of one frame
    found = steady_contacts(touch, 30.0)
    assert found[3:18, 0].all()
    assert not found[18:, 0].any()
    assert not found[:, 1].any()


def test_a_wheel_that_rolls_does_not_slip_and_one_that_slides_does():
    angle = torch.linspace(0, 2 * np.pi, 400)[:-1]
    turn = torch.arange(20) * 0.05
    around = angle[None] - turn[:, None]
    rim = torch.stack([0.3 * torch.sin(around) + 0.3 * turn[:, None], 0.3 - 0.3 * torch.cos(around)], -1)
    points = torch.stack([rim[..., 0], rim[..., 1], torch.zeros_like(rim[..., 0])], -1)
    rolls = points[:, None].expand(-1, 2, -1, -1)
    assert float(foot_track(rolls).slip_m[:-1].abs().max()) < 1e-3
    slides = points[:1].expand(20, -1, -1) + torch.tensor([0.01, 0.0, 0.0]) * torch.arange(20)[:, None, None]
    slip = foot_track(slides[:, None].expand(-1, 2, -1, -1)).slip_m[:-1]
    assert torch.allclose(slip[..., 0], torch.tensor(0.01), atol=1e-5)


def test_a_motion_without_contacts_is_left_as_it_is(body):
    motion = make_motion(body)
    motion = replace(motion, transl=motion.transl + torch.tensor([0.0, 1.0, 0.0]))
    soles = Soles.of(body, motion.betas)
    kept = keep_contacts(motion, body, soles, torch.zeros(len(motion), 2, dtype=torch.bool), 15.0)
    assert torch.allclose(kept.transl, motion.transl, atol=1e-5)
    assert torch.allclose(kept.poses, motion.poses, atol=2e-3)


@pytest.mark.parametrize("shape", [(0, 2.0), (0, -2.0), (1, 2.0)], ids=["b0+", "b0-", "b1+"])
def test_recorded_feet_stand_still_on_another_body(body, shared_data, shape):
    fps = 30.0
    motion = load_motion(shared_data / "motions" / "cmu" / "walking_1.bvh", body)[1:300]
    betas = torch.zeros(body.n_betas)
    betas[shape[0]] = shape[1]
    found = retarget(motion, body, betas, fps=fps)
    both = found.contact[:-1] & found.contact[1:]
    assert 0.3 < float(found.contact.float().mean()) < 0.9
    assert float(found.slip_m[:-1][both].max()) < 0.005
    assert float(found.sole_m[found.contact].abs().max()) < 0.01
    assert float(found.sole_m.min()) > -0.01
    copied, _ = on_body(resampled(motion, fps), body, betas)
    assert jerk(found.motion, body) < 1.1 * jerk(copied, body)
    trunk = [i for i, name in enumerate(JOINT_NAMES) if "spine" in name or name in ("pelvis", "neck", "head")]
    assert torch.allclose(found.motion.poses[:, trunk], copied.poses[:, trunk], atol=1e-4)


def jerk(motion, body: Body) -> float:
    joints = body.pose(motion.poses, motion.betas, motion.transl).joints[:, :22]
    return float(torch.diff(joints, n=3, dim=0).norm(dim=-1).mean())
