"""Hands touch on another body what they touched on their own, and arms that a wider body would swallow stay outside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.tiny_batch import make_motion

from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.studio.actions import act, motion_of
from avatars.studio.keyframes import IN, STANCE, Arm, Key, Manner, duration_s, perform
from avatars.studio.kinematics import Rig
from reenact.retargeting.retarget import on_body, resampled, retarget
from reenact.retargeting.self_contact import keep_touches, posed, residuals, touches_of
from reenact.retargeting.surface import HANDS, HEAD, THIGHS, TORSO, Surface

pytestmark = pytest.mark.slow

FPS = 10.0


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def shape(body: Body, **values: float) -> torch.Tensor:
    betas = torch.zeros(body.n_betas)
    for name, value in values.items():
        betas[int(name[1:])] = value
    return betas


def action(body: Body, name: str, **values: float):
    return resampled(act(name, body, shape(body, **values).numpy(), Manner.sample(1)).motion, FPS)


def test_the_surface_tells_inside_from_outside(body):
    surface = Surface.of(body, shape(body))
    motion = make_motion(body)[:1]
    motion = replace(motion, poses=torch.zeros_like(motion.poses))
    placed = surface.placed(posed(motion, body))
    in_t_pose = placed.closeness().point
    assert not torch.isin(surface.part[in_t_pose], torch.tensor(HANDS)).any()
    for part in (TORSO, *THIGHS, HEAD):
        skin = torch.nonzero(surface.part == part)[:, 0]
        onto = skin[torch.linspace(0, len(skin) - 1, len(surface.asking)).long()]
        for out_m in (0.01, -0.01):
            places = placed.places.clone()
            places[:, surface.asking] = places[:, onto] + out_m * placed.normals[:, onto]
            moved = replace(placed, places=places)
            close = moved.closeness()
            signed = moved.signed_m(close[surface.part[close.near[:, 0]] == part])  # not the other arm there
            assert len(signed) > 40
            assert float((signed.sign() == torch.tensor(out_m).sign()).float().mean()) > 0.98
            assert float(signed.median()) == pytest.approx(out_m, abs=0.002)


def test_a_straight_arm_that_hangs_beside_the_thigh_touches_nothing(body):
    motion = action(body, "nod_bow")
    at = posed(motion, body)
    touches = touches_of(Surface.of(body, motion.betas).placed(at), at.joints, FPS)
    assert float(touches.held[:3].max()) < 0.05


@pytest.mark.parametrize(("values", "copied_m"), [({"b0": -2.5}, 0.0), ({"b4": -2.5}, 0.01)], ids=["short", "heavy"])
def test_palms_that_met_meet_on_another_body_and_nothing_is_entered(body, values, copied_m):
    motion, betas = action(body, "palms_together"), shape(body, **values)
    copied, _ = on_body(motion, body, betas)
    at = posed(motion, body)
    source = Surface.of(body, motion.betas).placed(at)
    touches = touches_of(source, at.joints, FPS)
    assert int((touches.held > 0.99).all(1).sum()) > 10
    surface = Surface.of(body, betas)
    kept = keep_touches(copied, body, surface, source, touches, FPS)
    left, before = (residuals(surface.placed(posed(m, body)), source, touches) for m in (kept, copied))
    together = touches.held > 0.99
    assert float(left.gap_m[together].max()) < 0.01
    assert float(before.depth_m.max()) > copied_m
    assert float(left.depth_m.max()) < 0.007
    entries = touches.close
    facing = surface.part[entries.near[:, 0]]
    assert torch.isin(facing[touches.weight > 0.05], torch.tensor(HANDS)).float().mean() > 0.9
    moved = [i for i, name in enumerate(JOINT_NAMES) if name.endswith(("collar", "shoulder", "elbow", "wrist"))]
    still = [i for i in range(55) if i not in moved]
    assert torch.equal(kept.poses[:, still], copied.poses[:, still])
    assert jerk(kept, body) < 1.1 * jerk(copied, body)


def test_hands_come_to_the_hips_of_a_heavy_person_as_smoothly_as_to_their_own(body):
    rig, manner = Rig.of(body, shape(body).numpy()), Manner.sample(1)
    hip = (0.185, float(rig.joints[0][1] - rig.sole_y) + 0.12, 0.0)
    hand = Arm(mark="ground", point="palm", to=hip, palm=IN, fingers=(-0.2, -0.4, 0.9), elbow=(1, 0, -0.35))
    rest = Key(0.8, STANCE, 0.3)
    script = [rest, Key(0.8, STANCE.but(left=hand, right=hand), 0.6), rest]
    times_s = np.arange(round(duration_s(script) * 30) + 1) / 30
    motion = motion_of(perform(script, rig, manner, times_s), rig, body, shape(body).numpy(), name="hips")
    betas = shape(body, b4=-2.5)
    copied, _ = on_body(motion, body, betas)
    found = retarget(motion, body, betas, fps=30.0)
    assert float((found.motion.poses - copied.poses).abs().max()) > 0.03
    assert jerk(found.motion, body) < 1.1 * jerk(copied, body)


def deepest_m(motion, body: Body) -> torch.Tensor:
    placed = Surface.of(body, motion.betas).placed(posed(motion, body))
    close = placed.closeness()
    return torch.zeros(len(motion)).scatter_reduce(0, close.frame, placed.signed_m(close), "amin")


def test_a_hand_that_is_too_deep_in_the_source_comes_out(body):
    motion = action(body, "nod_bow")
    found = retarget(motion, body, motion.betas, fps=FPS)
    before_m, after_m = (deepest_m(m, body) for m in (motion, found.motion))
    assert float(before_m.min()) < -0.03
    assert float(after_m.min()) > -0.016
    assert int((before_m < -0.01).sum()) > 7
    assert int((after_m < -0.01).sum()) < 2


def test_an_arm_that_went_through_a_thigh_is_left_as_it_was(body):
    motion = action(body, "sit_down")
    poses = motion.poses.clone()
    poses[:, JOINT_NAMES.index("spine1"), 0] += 0.5  # hands on the thighs go down with the trunk
    through = replace(motion, poses=poses)
    assert float(deepest_m(through, body).min()) < -0.07
    found = retarget(through, body, through.betas, fps=FPS)
    assert float((found.motion.poses - through.poses)[:, 1:].abs().max()) < 0.05


def test_on_its_own_body_a_motion_keeps_its_arms(body):
    motion = action(body, "drink_water", b0=1.0)
    found = retarget(motion, body, motion.betas, fps=FPS)
    arms = [i for i, name in enumerate(JOINT_NAMES) if name.endswith(("shoulder", "elbow", "wrist"))]
    assert torch.allclose(found.motion.poses[:, arms], motion.poses[:, arms], atol=1e-3)
    assert float(found.residuals.depth_m.max()) < 0.002
    assert float(found.residuals.gap_m.max()) < 0.002
    assert float(found.residuals.touches[:, 1].max()) > 0.99  # the hand was at the mouth


def jerk(motion, body: Body) -> float:
    return float(torch.diff(posed(motion, body).joints[:, :22], n=3, dim=0).norm(dim=-1).mean())
