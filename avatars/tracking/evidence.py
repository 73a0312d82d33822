"""Keypoints of a clip -> what a fit is held to: pixels about the principal point, bone directions, their weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.perception.containers import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, SKELETON, Keypoints
from avatars.perception.hint_bias import unbiased_directions
from avatars.tracking.initialization import torso_px, view_hints

# Pairs of keypoints whose direction the 3D hint gives: the skeleton's lines, and enough lines across torso and face
# to fix their orientation. Not the feet: there the hint is 45 degrees off.
_ACROSS = ((5, 6), (11, 12), (5, 12), (6, 11), (3, 4), (0, 3), (0, 4))
_FACE_LINES = tuple((23 + a, 23 + b) for a, b in ((0, 16), (27, 8), (27, 30), (0, 30), (16, 30), (36, 45), (8, 30)))
_PALMS = tuple((w + a, w + b) for w in (91, 112) for a, b in ((0, 5), (0, 9), (0, 17), (5, 17)))
BONES: tuple[tuple[int, int], ...] = (
    *(line for line in SKELETON if line not in {(0, 1), (0, 2), (1, 3), (2, 4)} and not set(line) & set(range(17, 23))),
    *_ACROSS,
    *_FACE_LINES,
    *_PALMS,
)

_TRUNK_AND_LEGS = [i for i, bone in enumerate(BONES) if set(bone) <= {5, 6, *range(11, 17)}]
_ARMS = [i for i, bone in enumerate(BONES) if set(bone) <= set(range(5, 11)) and bone != (5, 6)]
MIN_MISSED = 0.03
"""No hint is better than this (radians)."""

JAW_ENDS = [23, 39]
MIN_FRONTAL = 0.93
"""Cosine of the turn from which on a face's breadth is measured."""
MIN_FACE_PX = 12.0


@dataclass(frozen=True, slots=True)
class Deviations:
    """One standard deviation of a keypoint, as a fraction of the torso's pixels times three (about the height)."""

    body: float = 0.012
    face: float = 0.008
    hand: float = 0.008
    trunk_direction: float = 5.0
    """Directions of the hint, in trunk and legs and in arms, as multiples of how far they miss the keypoints' own
    directions in the image: a hint that misses there misses more in depth, and for many frames on end."""
    arm_direction: float = 4.0
    fine_direction: float = 0.5
    """Directions of the hint in hands and face (radians)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the fit is held to, in tensors made once."""

    xy: Float[Tensor, "frames 133 2"]
    """Pixels from the principal point, y up."""
    weight: Float[Tensor, "frames 133"]
    deviation_px: Float[Tensor, "frames 133"]
    bones: Tensor
    """(bones, 2) keypoints at either end."""
    directions: Float[Tensor, "frames bones 3"]
    """Unit vectors in view axes."""
    direction_weight: Float[Tensor, "frames bones"]
    direction_deviation: Float[Tensor, " bones"]
    tilt_deviation: float
    """Of an error that all directions share (radians)."""
    step_s: Float[Tensor, " steps"]
    face_px: Float[Tensor, " frames"]
    """Breadth of the jaw as it would be seen from the front."""
    face_weight: Float[Tensor, " frames"]
    """Zero where the face is turned away or was not found."""

    def of(self, count: int) -> Evidence:
        """Of the first `count` keypoints alone."""
        kept = (self.bones < count).all(1)
        return Evidence(
            self.xy[:, :count],
            self.weight[:, :count],
            self.deviation_px[:, :count],
            self.bones[kept],
            self.directions[:, kept],
            self.direction_weight[:, kept],
            self.direction_deviation[kept],
            self.tilt_deviation,
            self.step_s,
            self.face_px,
            self.face_weight,
        )


def gather_evidence(
    keypoints: Keypoints,
    times_s: Float[Tensor, " frames"],
    rotation: Float[Tensor, "frames 3 3"],
    sd: Deviations,
    detector: str = "",
) -> Evidence:
    """`rotation` is the root's (view axes): it says whether a face can be seen."""
    height, width = keypoints.size_hw
    xy = (keypoints.xy - torch.tensor([width / 2, height / 2])) * torch.tensor([1.0, -1.0])
    deviation = torch.empty(keypoints.xy.shape[1])
    for part, fraction in (
        (BODY, sd.body), (FEET, sd.body), (FACE, sd.face), (LEFT_HAND, sd.hand), (RIGHT_HAND, sd.hand)
    ):  # fmt: skip
        deviation[part] = fraction
    weight = _weights(keypoints, rotation)
    bones = torch.tensor(BONES)
    a, b = bones.unbind(1)
    hints = view_hints(keypoints)
    lines = hints[:, b] - hints[:, a]
    known = torch.isfinite(lines).all(-1)
    directions = torch.nn.functional.normalize(torch.nan_to_num(lines), dim=-1)
    face_px, face_weight = _frontal_face(keypoints)
    flat = 0.0 if keypoints.world_m is None else 1.0
    directions = unbiased_directions(directions, BONES, rotation, detector)
    direction_weight = torch.minimum(weight[:, a], weight[:, b]) * known * flat
    missed = _missed_in_image(directions, xy[:, b] - xy[:, a], direction_weight)
    return Evidence(
        xy=xy,
        weight=weight,
        deviation_px=3.0 * torso_px(keypoints)[:, None] * deviation,
        bones=bones,
        directions=directions,
        direction_weight=direction_weight,
        direction_deviation=_direction_deviations(missed, sd),
        tilt_deviation=float(missed[_TRUNK_AND_LEGS].square().mean().sqrt().clamp_min(MIN_MISSED)),
        step_s=(times_s[1:] - times_s[:-1]).float().clamp(1e-3, 1.0),
        face_px=face_px,
        face_weight=face_weight,
    )


def _missed_in_image(
    directions: Float[Tensor, "frames bones 3"],
    lines_px: Float[Tensor, "frames bones 2"],
    weight: Float[Tensor, "frames bones"],
) -> Float[Tensor, " bones"]:
    """By how much (radians, root mean square over the clip) each direction of the hint leaves the plane in which the
    image shows its bone."""
    seen = torch.nn.functional.normalize(lines_px, dim=-1)
    flat = directions[..., :2]
    along = (flat * seen).sum(-1)
    off = (flat.square().sum(-1) - torch.where(along > 0, along, 0.0).square()).clamp_min(0.0)
    return ((weight * off).sum(0) / weight.sum(0).clamp_min(1e-6)).sqrt()


def _direction_deviations(missed: Float[Tensor, " bones"], sd: Deviations) -> Float[Tensor, " bones"]:
    """Bones of one part share a deviation: that of one bone alone is badly known."""
    deviation = torch.full((len(BONES),), sd.fine_direction)
    for part, times in ((_TRUNK_AND_LEGS, sd.trunk_direction), (_ARMS, sd.arm_direction)):
        deviation[part] = times * missed[part].square().mean().sqrt().clamp_min(MIN_MISSED)
    return deviation


def _frontal_face(keypoints: Keypoints) -> tuple[Tensor, Tensor]:
    """The jaw's breadth (frames,) in pixels, the turn of the head undone by the 3D hint; and its weight."""
    if keypoints.world_m is None:
        return torch.ones(len(keypoints)), torch.zeros(len(keypoints))
    left, right = JAW_ENDS
    line = torch.nan_to_num(keypoints.world_m[:, right] - keypoints.world_m[:, left])
    frontal = torch.nn.functional.normalize(line, dim=-1)[:, :2].norm(dim=-1)
    breadth = (keypoints.xy[:, right] - keypoints.xy[:, left]).norm(dim=-1) / frontal.clamp_min(0.5)
    seen = keypoints.score[:, JAW_ENDS].amin(1) * (frontal > MIN_FRONTAL) * (breadth > MIN_FACE_PX)
    return breadth.clamp_min(1.0), seen


def _weights(keypoints: Keypoints, rotation: Tensor) -> Float[Tensor, "frames 133"]:
    """Scores made weights: squared, many points of one part sharing one say, faces seen from behind nearly mute."""
    weight = keypoints.score.square()
    facing = torch.sigmoid((rotation[:, 2, 2] + 0.2) / 0.1)[:, None]
    weight[:, FACE] *= 0.15 * facing
    weight[:, :5] *= 0.1 + 0.9 * facing
    weight[:, LEFT_HAND] *= 0.3
    weight[:, RIGHT_HAND] *= 0.3
    return weight
