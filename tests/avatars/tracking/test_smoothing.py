"""What smoothing a fitted motion keeps and what it takes away."""

from __future__ import annotations

import numpy as np
import torch

from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.tracking.keypoint_fit import BodyFit
from avatars.tracking.smoothing import smoothed, steadied

TIMES_S = np.arange(120) / 30.0


def trembling(seed: int, size: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, size, (len(TIMES_S), 1))


def second_difference(values: np.ndarray) -> float:
    return float(np.abs(np.diff(values, 2, axis=0)).mean())


def swing(duration_s: float) -> np.ndarray:
    """From 0 to 1 around the middle of the clip, within so many seconds."""
    t = np.clip((TIMES_S - 2.0) / duration_s + 0.5, 0.0, 1.0)
    return (t**3 * (10 - 15 * t + 6 * t * t))[:, None]


def test_a_straight_line_stays_as_it_is():
    line = 0.3 + 0.7 * TIMES_S[:, None]
    np.testing.assert_allclose(smoothed(line, TIMES_S), line, atol=1e-9)


def test_a_still_joint_becomes_stiller_and_stays_where_it_is():
    noisy = 0.5 + trembling(0, 0.02)
    smooth = smoothed(noisy, TIMES_S)
    assert second_difference(smooth) < 0.05 * second_difference(noisy)
    assert abs(float(smooth.mean()) - 0.5) < 0.005


def test_a_fast_swing_keeps_its_course_under_noise():
    true = swing(0.4)
    noisy = true + trembling(1, 0.01)
    smooth = smoothed(noisy, TIMES_S)
    during = np.abs(TIMES_S - 2.0) < 0.25
    still = np.abs(TIMES_S - 2.0) > 0.6
    assert np.abs(smooth - true)[during].mean() < 0.02
    assert np.abs(smooth - true)[still].mean() < 0.6 * np.abs(noisy - true)[still].mean()


def test_uneven_times_are_taken_into_account():
    times_s = np.cumsum(np.random.default_rng(2).uniform(0.01, 0.08, 120))
    line = 1.0 - 0.4 * times_s[:, None]
    np.testing.assert_allclose(smoothed(line, times_s), line, atol=1e-9)


def test_a_fit_keeps_rotations_and_what_does_not_move():
    n = len(TIMES_S)
    turn = torch.zeros(n, 3)
    turn[:, 1] = torch.linspace(0.0, 6.0, n) + torch.from_numpy(trembling(3, 0.03)[:, 0]).float()
    poses = torch.zeros(n, 55, 3)
    poses[:, 4, 0] = torch.from_numpy(0.4 + trembling(4, 0.03)[:, 0]).float()
    fit = BodyFit(
        matrix_from_axis_angle(turn), torch.tensor([0.1, 0.9, -3.0]).expand(n, 3), poses, torch.zeros(10),
        torch.zeros(n, 10), 500.0, 1.0,
    )  # fmt: skip
    steady = steadied(fit, torch.from_numpy(TIMES_S))
    torch.testing.assert_close(steady.rotation @ steady.rotation.mT, torch.eye(3).expand(n, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(steady.pelvis, fit.pelvis, atol=1e-5, rtol=0)
    assert second_difference(steady.poses[:, 4, :1].numpy()) < 0.1 * second_difference(poses[:, 4, :1].numpy())
    heading = torch.atan2(steady.rotation[:, 0, 2], steady.rotation[:, 2, 2])
    off = torch.remainder(heading - torch.linspace(0.0, 6.0, n) + torch.pi, 2 * torch.pi) - torch.pi
    assert float(off.abs().max()) < 0.06


def test_too_few_frames_are_left():
    fit = BodyFit(
        torch.eye(3).expand(3, 3, 3), torch.zeros(3, 3), torch.randn(3, 55, 3), torch.zeros(10), torch.zeros(3, 10),
        500.0, 1.0,
    )  # fmt: skip
    assert steadied(fit, torch.arange(3) / 30.0) is fit
