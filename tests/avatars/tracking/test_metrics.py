"""Errors of poses are zero for the truth, exact for known errors, and blind to what they should not see."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.tracking.metrics import pose_errors, procrustes


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture
def motion(body: Body) -> Motion:
    generator = torch.Generator().manual_seed(0)
    poses = 0.2 * torch.randn(5, 55, 3, generator=generator)
    poses[:, 0] = 0.0
    frames = len(poses)
    return Motion(
        poses, torch.tensor([[0.0, 1.3, 0.0]]).expand(frames, 3), torch.zeros(20), torch.zeros(frames, 10),
        torch.arange(frames).double() / 30, torch.ones(frames, dtype=torch.bool), body.sha256,
    )  # fmt: skip


CAMERA = Camera.level(focal_px=500.0, size_hw=(512, 512), height_m=1.2, distance_m=3.0)


def test_the_truth_has_no_error(body: Body, motion: Motion) -> None:
    errors = pose_errors(motion, CAMERA, motion, CAMERA, body)
    assert errors.mpjpe_mm == pytest.approx(0.0, abs=1e-3)
    assert errors.joints_px == pytest.approx(0.0, abs=1e-3)
    assert errors.yaw_error_max_deg < 0.1


def test_a_shift_moves_pixels_but_not_the_rooted_pose(body: Body, motion: Motion) -> None:
    shifted = replace(motion, transl=motion.transl + torch.tensor([0.1, 0.0, 0.0]))
    errors = pose_errors(shifted, CAMERA, motion, CAMERA, body)
    assert errors.mpjpe_mm == pytest.approx(0.0, abs=1e-2)
    assert errors.joints_px == pytest.approx(500.0 * 0.1 / 3.0, rel=0.1)


def test_a_turn_is_seen_in_facing_and_undone_by_procrustes(body: Body, motion: Motion) -> None:
    poses = motion.poses.clone()
    poses[:, 0, 1] = math.radians(30.0)
    errors = pose_errors(replace(motion, poses=poses), CAMERA, motion, CAMERA, body)
    assert errors.yaw_error_max_deg == pytest.approx(30.0, abs=0.5)
    assert errors.mpjpe_mm > 30.0
    assert errors.pa_mpjpe_mm == pytest.approx(0.0, abs=0.05)


def test_invalid_frames_are_not_scored(body: Body, motion: Motion) -> None:
    poses = motion.poses.clone()
    poses[2] += 1.0
    valid = motion.valid.clone()
    valid[2] = False
    errors = pose_errors(replace(motion, poses=poses, valid=valid), CAMERA, motion, CAMERA, body)
    assert errors.mpjpe_mm == pytest.approx(0.0, abs=1e-3)
    assert (errors.valid_frames, errors.frames) == (4, 5)


def test_procrustes_undoes_a_similarity_and_never_mirrors() -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(3, 10, 3, generator=generator)
    R = matrix_from_axis_angle(torch.randn(3, 3, generator=generator))
    moved = 1.7 * target @ R.transpose(1, 2) + torch.randn(3, 1, 3, generator=generator)
    torch.testing.assert_close(procrustes(moved, target), target, atol=1e-5, rtol=0)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0])
    assert (procrustes(mirrored, target) - target).norm(dim=-1).mean() > 0.1
