"""What is taken away from a detector's 3D hint, and how far the rest is believed."""

from __future__ import annotations

import math

import torch

from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.perception.containers import Keypoints
from avatars.perception.hint_bias import unbiased_directions
from avatars.tracking.evidence import BONES, Deviations, gather_evidence
from avatars.tracking.initialization import root_rotations

LEGS = ((11, 13), (13, 15), (12, 14), (14, 16))
PLACES = {
    5: (0.2, -0.5), 6: (-0.2, -0.5), 7: (0.3, -0.2), 8: (-0.3, -0.2), 9: (0.35, 0.1), 10: (-0.35, 0.1),
    11: (0.1, 0.0), 12: (-0.1, 0.0), 13: (0.1, 0.4), 14: (-0.1, 0.4), 15: (0.1, 0.8), 16: (-0.1, 0.8),
}  # fmt: skip
"""Keypoints of a person in meters, y down."""
DOWN = torch.tensor([0.0, -1.0, 0.0])


def facing(heading_rad: float) -> torch.Tensor:
    return matrix_from_axis_angle(torch.tensor([[0.0, heading_rad, 0.0]]))


def test_bent_knees_of_a_person_seen_from_the_front_are_straightened():
    bent = torch.nn.functional.normalize(
        torch.tensor([[[0.0, -1, 0.1], [0, -1, -0.1], [0, -1, 0.1], [0, -1, -0.1]]]), dim=-1
    )
    straight = unbiased_directions(bent, LEGS, facing(0.0), "mediapipe")
    assert (straight[0, :, 2].abs() < bent[0, :, 2].abs()).all()
    torch.testing.assert_close(straight.norm(dim=-1), torch.ones(1, 4))


def test_a_mirrored_person_gets_the_mirrored_correction():
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    directions = torch.nn.functional.normalize(torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    as_seen = unbiased_directions(directions, LEGS, facing(0.7), "mediapipe")
    mirrored = unbiased_directions(directions[:, [2, 3, 0, 1]] * mirror, LEGS, facing(-0.7), "mediapipe")
    torch.testing.assert_close(mirrored[:, [2, 3, 0, 1]] * mirror, as_seen)


def test_a_bone_turned_round_gets_the_same_correction():
    backward = tuple((b, a) for a, b in LEGS)
    directions = DOWN.expand(1, 4, 3)
    there = unbiased_directions(directions, LEGS, facing(1.0), "mediapipe")
    torch.testing.assert_close(unbiased_directions(-directions, backward, facing(1.0), "mediapipe"), -there)


def test_other_detectors_and_bones_stay_as_they_are():
    directions = DOWN.expand(1, 2, 3)
    torch.testing.assert_close(unbiased_directions(directions, LEGS[:2], facing(0.3), "imported"), directions)
    torch.testing.assert_close(
        unbiased_directions(directions, ((91, 92), (0, 3)), facing(0.3), "mediapipe"), directions
    )


def standing(hint_turned_rad: float) -> Keypoints:
    """A standing person whose hint is rolled in the image plane against the keypoints."""
    points = torch.randn(133, 3, generator=torch.Generator().manual_seed(1)) * 0.05
    for k, place in PLACES.items():
        points[k] = torch.tensor([*place, 0.0])
    roll = matrix_from_axis_angle(torch.tensor([0.0, 0.0, hint_turned_rad]))
    xy = 256 + 200 * points[:, :2]
    return Keypoints(
        xy.expand(6, -1, -1),
        torch.ones(6, 133),
        torch.ones(6, dtype=torch.bool),
        (512, 512),
        (points @ roll.T).expand(6, -1, -1),
    )


def test_a_hint_that_contradicts_the_image_is_believed_less():
    times_s = torch.arange(6) / 30.0
    legs = [BONES.index(bone) for bone in LEGS]

    def deviation(turned_deg: float) -> float:
        keypoints = standing(math.radians(turned_deg))
        rotation = root_rotations(keypoints, times_s)
        return float(gather_evidence(keypoints, times_s, rotation, Deviations()).direction_deviation[legs].mean())

    assert deviation(6.0) < deviation(12.0) < deviation(25.0)
    assert abs(deviation(12.0) - Deviations().trunk_direction * math.sin(math.radians(12.0))) < 0.05
