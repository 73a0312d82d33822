"""Foot contacts: a synthetic step is labelled, a slide and a jump are not contacts."""

from __future__ import annotations

import torch

from avatars.tracking.foot_contacts import CONTACT_POINTS, foot_contacts, stands

FPS = 30.0


def feet(frames: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Both feet on the ground; the left one steps 0.6 m ahead, 0.15 m high, in frames 20 to 35."""
    keypoints = torch.zeros(frames, 133, 3)
    times = torch.arange(frames).double() / FPS
    for point in CONTACT_POINTS:
        keypoints[:, point, 1] = 0.02
    phase = ((torch.arange(frames) - 20) / 15.0).clamp(0, 1)
    for point in CONTACT_POINTS[:2]:
        keypoints[:, point, 2] = 0.6 * (phase - torch.sin(2 * torch.pi * phase) / (2 * torch.pi))
        keypoints[:, point, 1] += 0.15 * torch.sin(torch.pi * phase) ** 2
    return keypoints, times


def test_a_step_lifts_one_foot_and_leaves_the_other() -> None:
    contacts = foot_contacts(*feet())
    assert contacts[:, 2:].all()
    assert contacts[:19, :2].all()
    assert contacts[37:, :2].all()
    assert not contacts[24:32, :2].any()


def test_a_tiptoe_leaves_the_heel_in_the_air() -> None:
    keypoints, times = feet()
    keypoints[:, CONTACT_POINTS[2], 1] = 0.12
    contacts = foot_contacts(keypoints, times)
    assert not contacts[:, 2].any()
    assert contacts[:, 3].all()


def test_a_foot_that_slides_is_no_contact() -> None:
    keypoints, times = feet()
    keypoints[:, CONTACT_POINTS[3], 0] = 1.0 * times.float()
    assert not foot_contacts(keypoints, times)[:, 3].any()


def test_the_ground_may_lie_anywhere() -> None:
    keypoints, times = feet()
    lifted = keypoints + torch.tensor([0.0, 3.0, 0.0])
    assert torch.equal(foot_contacts(lifted, times, ground_m=3.0), foot_contacts(keypoints, times))
    assert not foot_contacts(lifted, times).any()


def test_a_jump_has_no_contacts_and_one_odd_frame_is_outvoted() -> None:
    keypoints, times = feet()
    keypoints[40, list(CONTACT_POINTS), 1] = 0.3
    keypoints[50:55, list(CONTACT_POINTS), 1] = 0.4
    contacts = foot_contacts(keypoints, times)
    assert not contacts[51:54].any()
    assert contacts[45].all()


def test_a_single_frame_is_judged_by_height() -> None:
    keypoints, times = feet(1)
    assert foot_contacts(keypoints, times).all()


def test_a_point_stands_where_it_is_low_and_slow_by_the_callers_own_thresholds() -> None:
    height, speed = torch.tensor([0.0, 0.05, 0.2, 0.0]), torch.tensor([0.1, 0.1, 0.1, 0.5])
    assert stands(height, speed).tolist() == [True, True, False, False]
    assert stands(height, speed, near_m=0.03, still_m_s=1.0).tolist() == [True, False, False, True]
