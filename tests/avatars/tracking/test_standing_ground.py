"""Gravity and ground from where feet stood: known slopes and heights come back, and what was not seen says nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_tracking import CAMERA, EXACT, seen, turning_motion

from avatars.body import load_body
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.tracking.foot_contacts import CONTACT_POINTS, feet_seen
from avatars.tracking.pipeline import track_keypoints
from avatars.tracking.standing_ground import Stances, ground_normal, stances

FPS = 30.0
SLOPE_DEVIATION = math.tan(math.radians(4.6))


def walk(steps: int = 8, *, stride_m: float = 0.6, stand_s: float = 0.5, swing_s: float = 0.4):
    """Feet that stand and swing in turns along +Z on y = 0, 0.2 m apart: keypoints and times."""
    frames = round(steps * (stand_s + swing_s) * FPS)
    times_s = torch.arange(frames).double() / FPS
    keypoints = torch.zeros(frames, 133, 3)
    for side, points in ((0, CONTACT_POINTS[:2]), (1, CONTACT_POINTS[2:])):
        cycle = times_s / (stand_s + swing_s) + 0.5 * side
        swing = ((cycle % 1.0) * (stand_s + swing_s) / swing_s).clamp(0, 1).float()
        for ahead_m, point in zip((0.0, 0.2), points, strict=True):
            keypoints[:, point, 0] = 0.2 * side - 0.1
            keypoints[:, point, 1] = 0.12 * torch.sin(math.pi * swing) ** 2
            keypoints[:, point, 2] = stride_m * (cycle.floor().float() + swing) + ahead_m
    return keypoints, times_s


ALL_SEEN = torch.ones(1, 4, dtype=torch.bool)


def tilted(keypoints: torch.Tensor, about_x_deg: float, about_z_deg: float) -> tuple[torch.Tensor, torch.Tensor]:
    R = matrix_from_axis_angle(torch.tensor([math.radians(about_x_deg), 0.0, math.radians(about_z_deg)]))
    return keypoints @ R.T, R[:, 1]


def angle_deg(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.degrees(math.acos(min(1.0, float(a @ b))))


def test_the_floor_that_a_walk_treads_says_where_up_is() -> None:
    keypoints, times_s = walk()
    sloping, up = tilted(keypoints, 4.0, 0.0)
    stood = stances(sloping, times_s, ALL_SEEN.expand(len(times_s), 4))
    assert angle_deg(ground_normal(stood, SLOPE_DEVIATION), up) < 0.3
    assert angle_deg(torch.tensor([0.0, 1.0, 0.0]), up) == pytest.approx(4.0, abs=0.01)


def test_who_stays_in_one_spot_says_nothing_about_gravity() -> None:
    keypoints, times_s = walk(stride_m=0.0)
    sloping, _ = tilted(keypoints, 0.0, 4.0)  # 0.2 m between the feet
    stood = stances(sloping, times_s, ALL_SEEN.expand(len(times_s), 4))
    assert angle_deg(ground_normal(stood, SLOPE_DEVIATION / 10), torch.tensor([0.0, 1.0, 0.0])) < 0.1
    nobody = Stances(torch.zeros(0, 3), torch.zeros(5, dtype=torch.bool))
    assert ground_normal(nobody, SLOPE_DEVIATION).tolist() == [0.0, 1.0, 0.0]


def test_one_step_onto_something_does_not_tilt_the_world() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(12, 3, generator=generator) * torch.tensor([2.0, 0.01, 2.0])
    raised = points.clone()
    raised[0, 1] += 0.45
    flat = ground_normal(Stances(points, torch.ones(1, dtype=torch.bool)), SLOPE_DEVIATION)
    assert angle_deg(ground_normal(Stances(raised, torch.ones(1, dtype=torch.bool)), SLOPE_DEVIATION), flat) < 0.5


def test_feet_stand_only_where_they_rest_and_were_seen() -> None:
    keypoints, times_s = walk()
    both = stances(keypoints, times_s, ALL_SEEN.expand(len(times_s), 4))
    assert both.points[:, 1].max() < 0.02
    left_alone = torch.tensor([[True, True, False, False]]).expand(len(times_s), 4)
    left = stances(keypoints, times_s, left_alone)
    assert (left.points[:, 0] < 0).all() and 0 < len(left.points) < len(both.points)


def test_the_top_of_a_jump_is_no_stance() -> None:
    times_s = torch.arange(60).double() / FPS
    keypoints = torch.zeros(60, 133, 3)
    keypoints[..., 1] = (0.44 - 4.9 * (times_s - 1).square()).clamp_min(0).float()[:, None]
    stood = stances(keypoints, times_s, ALL_SEEN.expand(60, 4))
    assert len(stood.points) == 8 and stood.points[:, 1].max() < 0.02
    assert stood.frames[:18].all() and not stood.frames[22:39].any() and stood.frames[42:].all()


def test_a_detected_ankle_vouches_for_its_foot() -> None:
    score = torch.zeros(3, 133)
    score[1, 15], score[2, 22] = 0.9, 0.9
    assert feet_seen(score).tolist() == [[False] * 4, [True, True, False, False], [False, False, True, False]]


@pytest.mark.slow
def test_soles_stand_on_the_ground_and_unseen_feet_nowhere() -> None:
    body = load_body()
    motion = turning_motion(body, frames=24)
    motion.poses[:, 0] = 0.0  # stands and moves its arms
    keypoints = seen(motion, body, CAMERA)
    config = replace(EXACT, iterations=60)
    found, camera, _ = track_keypoints(keypoints, motion.times_s, body, config=config)
    assert found.contacts is not None and found.contacts[:, 2:].all()
    soles_m = body.pose_motion(found).vertices()[..., 1].amin(1)
    assert soles_m.median().abs() < 0.02
    assert (camera.T_cam_world[1, 1] < -0.98).all()
    keypoints.score[:, [13, 14, 15, 16, *range(17, 23)]] = 0.02
    found, _, _ = track_keypoints(keypoints, motion.times_s, body, config=config)
    assert found.contacts is not None and not found.contacts.any()


@pytest.mark.slow
def test_where_up_is_known_the_person_is_not_asked() -> None:
    body = load_body()
    motion = turning_motion(body, frames=8)
    up = torch.nn.functional.normalize(torch.tensor([0.4, -0.85, -0.3]), dim=0)
    config = replace(EXACT, iterations=20)
    up_cam = (float(up[0]), float(up[1]), float(up[2]))
    _, camera, _ = track_keypoints(seen(motion, body, CAMERA), motion.times_s, body, config=config, up_cam=up_cam)
    assert torch.allclose(camera.T_cam_world[:3, 1], up, atol=1e-5)
