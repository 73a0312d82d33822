"""Hands touch on another body what they touched on their own, and arms that a wider body would swallow stay outside."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_batch import make_motion

from avatars.body import JOINT_NAMES, Body
from avatars.studio.actions import act
from avatars.studio.keyframes import Manner
from reenact.retarget import on_body, resampled, retarget
from reenact.self_contact import keep_touches, posed, residuals, touches_of
from reenact.surface import HANDS, HEAD, THIGHS, TORSO, Surface

FPS = 10.0


@pytest.fixture(scope="module")
def body() -> Body:
    return Body.load()


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
    assert jerk(kept, body) < 1.15 * jerk(copied, body)


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
