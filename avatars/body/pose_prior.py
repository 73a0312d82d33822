"""What a human body does: natural pose, ranges of motion and how readily each joint leaves its rest, in SMPL-X axes.

SMPL-X rests in a T-pose facing +Z with the left at +X, palms down: a left elbow bends about -Y, a knee about +X, left
fingers about -Z. Ranges are rounded from the ranges of motion of healthy adults (American Academy of Orthopaedic
Surgeons 1965; Boone & Azen 1979), widened where SMPL-X shares one movement between joints. Penalties are soft.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import N_JOINTS

KNEES, ELBOWS = [4, 5], [18, 19]
"""Joints that bend about one axis."""

_Entry: TypeAlias = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], float | tuple[float, ...]]

# joint (left for pairs): low xyz, high xyz, rest xyz, and one standard deviation, of all axes or xyz (degrees).
_RANGES: dict[str, _Entry] = {
    "hip": ((-130, -40, -30), (30, 40, 75), (0, 0, 3), 60),
    "knee": ((-3, -8, -8), (150, 8, 8), (3, 0, 0), (80, 8, 8)),
    "ankle": ((-35, -30, -25), (50, 30, 25), (0, 0, 0), 20),
    "foot": ((-30, -10, -10), (30, 10, 10), (0, 0, 0), 8),
    "spine1": ((-20, -25, -20), (40, 25, 20), (0, 0, 0), 12),
    "spine2": ((-20, -25, -20), (35, 25, 20), (0, 0, 0), 12),
    "spine3": ((-15, -25, -20), (35, 25, 20), (0, 0, 0), 10),
    "neck": ((-40, -45, -35), (40, 45, 35), (0, 0, 0), 15),
    "head": ((-40, -45, -35), (40, 45, 35), (0, 0, 0), 15),
    "collar": ((-10, -25, -20), (10, 25, 35), (0, 0, 0), (4, 10, 10)),
    "shoulder": ((-80, -120, -95), (80, 50, 85), (0, -5, -65), 60),
    "elbow": ((-70, -150, -60), (70, 3, 60), (0, -15, 0), 60),
    "wrist": ((-35, -30, -75), (35, 30, 75), (0, 0, 0), 25),
    "jaw": ((-3, -5, -3), (30, 5, 3), (0, 0, 0), 8),
    "eye_smplhf": ((-20, -30, -10), (20, 30, 10), (0, 0, 0), 5),
    "index1": ((-10, -20, -95), (10, 20, 25), (0, 0, -12), 25),
    "middle1": ((-10, -15, -95), (10, 15, 25), (0, 0, -14), 25),
    "ring1": ((-10, -20, -95), (10, 20, 25), (0, 0, -16), 25),
    "pinky1": ((-15, -25, -95), (15, 25, 25), (0, 0, -18), 25),
    "finger2": ((-4, -4, -110), (4, 4, 5), (0, 0, -18), 35),
    "finger3": ((-4, -4, -80), (4, 4, 8), (0, 0, -10), 25),
    "thumb1": ((-45, -45, -45), (45, 45, 45), (10, 10, 0), 20),
    "thumb2": ((-25, -50, -25), (25, 50, 25), (0, 5, 0), 20),
    "thumb3": ((-10, -70, -10), (10, 25, 10), (0, 0, 0), 20),
}


def _entry(joint: str) -> _Entry:
    plain = joint.removeprefix("left_").removeprefix("right_")
    if plain in _RANGES:
        return _RANGES[plain]
    return _RANGES["finger" + plain[-1]]


@dataclass(frozen=True, slots=True)
class PosePrior:
    """Ranges, rest and spread of the 55 joints' axis-angle components (radians); the root is free."""

    low: Float[Tensor, "joints 3"]
    high: Float[Tensor, "joints 3"]
    rest: Float[Tensor, "joints 3"]
    spread: Float[Tensor, "joints 3"]

    @staticmethod
    def human() -> PosePrior:
        """The table of this module, mirrored in y and z for right joints."""
        low, high = torch.full((N_JOINTS, 3), -math.inf), torch.full((N_JOINTS, 3), math.inf)
        rest, spread = torch.zeros(N_JOINTS, 3), torch.full((N_JOINTS, 3), math.inf)
        for j, joint in enumerate(JOINT_NAMES):
            if joint == "pelvis":
                continue
            a, b, r, s = (torch.tensor(value, dtype=torch.float32).deg2rad() for value in _entry(joint))
            if joint.startswith("right_"):
                mirror = torch.tensor([1.0, -1.0, -1.0])
                a, b = a * mirror, b * mirror
                a, b, r = torch.minimum(a, b), torch.maximum(a, b), r * mirror
            low[j], high[j], rest[j], spread[j] = a, b, r, s.expand(3)
        return PosePrior(low, high, rest, spread)

    def excess(self, poses: Float[Tensor, "frames joints 3"]) -> Float[Tensor, "frames joints 3"]:
        """How far each component lies outside its range (radians, >= 0)."""
        return (poses - self.high).clamp_min(0.0) + (self.low - poses).clamp_min(0.0)

    def off_hinge(self, poses: Float[Tensor, "frames joints 3"]) -> Float[Tensor, "frames 4"]:
        """How far shanks and forearms leave the plane in which their joint bends (sine), however far it is bent and
        they are turned about themselves: row 1, column 0 of an elbow's rotation matrix, and 0, 1 of a knee's."""
        x, y, z = poses[:, KNEES + ELBOWS].unbind(-1)
        angle = (x.square() + y.square() + z.square() + 1e-12).sqrt()
        half_sine = (0.5 * angle).sin() / angle
        toward = x.new_tensor([-1.0, -1.0, 1.0, 1.0])
        return 2.0 * half_sine * (half_sine * x * y + toward * (0.5 * angle).cos() * z)

    def strain(self, poses: Float[Tensor, "frames joints 3"]) -> Float[Tensor, "frames joints 3"]:
        """Distance from rest in standard deviations."""
        return (poses - self.rest) / self.spread
