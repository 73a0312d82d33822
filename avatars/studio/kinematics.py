"""A person's rest skeleton with the marks that hands reach for, and the two-bone inverse kinematics that reaches them.

Everything is numpy in the SMPL-X T-pose frame: meters, +Y up, facing +Z, the person's left at +X. Limbs are solved for
the left side; the right side is mirrored in and out (`MIRROR`), so each rule is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.transform import Rotation

from avatars.body import Body
from avatars.body.layout import JOINT_NAMES, KEYPOINT_NAMES_133

MIRROR = np.diag([-1.0, 1.0, 1.0])
J = {name: index for index, name in enumerate(JOINT_NAMES)}
K = {name: index for index, name in reversed(list(enumerate(KEYPOINT_NAMES_133)))}
PALM_NORMAL = np.array([0.0, -1.0, 0.0])  # of both hands in the T-pose
ELBOW_HINGE = np.array([0.0, -1.0, 0.0])  # left: turning about it bends the elbow forward
KNEE_HINGE = np.array([1.0, 0.0, 0.0])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) scaled to length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def frame(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Right-handed frames (..., 3, 3) whose first column is `along` and whose second is nearest to `across`."""
    x = unit(along)
    y = unit(across - (across * x).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], -1)


def turned(from_along: np.ndarray, from_across: np.ndarray, to_along: np.ndarray, to_across: np.ndarray) -> np.ndarray:
    """The rotation (..., 3, 3) that takes one pair of directions to the other."""
    return frame(to_along, to_across) @ np.swapaxes(frame(from_along, from_across), -1, -2)


def euler(pitch_deg: float, roll_deg: float, yaw_deg: float) -> np.ndarray:
    """Rotation (3, 3): yaw about +Y after pitch about +X (forward) after roll about +Z (toward the right)."""
    return Rotation.from_euler("ZXY", [roll_deg, pitch_deg, yaw_deg], degrees=True).as_matrix()


def mirrored(rotation: np.ndarray) -> np.ndarray:
    """The same rotation seen in a mirror at x = 0."""
    return MIRROR @ rotation @ MIRROR


def two_bone(
    root: np.ndarray, target: np.ndarray, pole: np.ndarray, lengths: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions (..., 3) of the upper and the lower bone and of the hinge between them.

    The middle joint points toward `pole`. A target out of reach is reached for with a nearly straight limb.
    """
    upper, lower = lengths
    offset = target - root
    distance = np.clip(np.linalg.norm(offset, axis=-1, keepdims=True), abs(upper - lower) + 1e-3, 0.998 * sum(lengths))
    along = unit(offset)
    pole = unit(pole - (pole * along).sum(-1, keepdims=True) * along)
    cosine = np.clip((upper**2 + distance**2 - lower**2) / (2 * upper * distance), -1.0, 1.0)
    upper_direction = cosine * along + np.sqrt(1.0 - cosine**2) * pole
    lower_direction = unit(along * distance - upper * upper_direction)
    return upper_direction, lower_direction, np.cross(pole, along)


def twist_about(rotation: np.ndarray, axis: np.ndarray) -> float:
    """Angle (radians, in (-pi, pi]) of the part of `rotation` that turns about `axis` (swing-twist)."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    angle = 2.0 * np.arctan2(np.dot([x, y, z], axis), w)
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


@dataclass(frozen=True)
class Rig:
    """Rest joints of one person and the marks on their skin, in the T-pose frame."""

    joints: np.ndarray
    """(55, 3) meters."""
    parents: tuple[int, ...]
    keypoints: np.ndarray
    """(133, 3) meters, COCO-WholeBody, T-pose."""
    sole_y: float
    """Height of the lowest point of the feet in the T-pose frame."""
    chest_z: float
    """Depth of the skin in front of the middle of the chest."""
    thigh_m: float
    """From the thigh's bone to the skin in front of it, below its middle."""
    forearm_m: float
    """From the forearm's bone to the skin around its middle."""
    shoe_sole_m: float = 0.0

    @staticmethod
    def of(body: Body, betas: np.ndarray, *, shoe_sole_m: float = 0.0) -> Rig:
        """The rig of `body` with shape `betas`; `shoe_sole_m` is how far the feet are kept above the ground."""
        import torch

        with torch.no_grad():
            shape = torch.as_tensor(betas, dtype=torch.float32)
            vertices, joints = body.shaped(shape)
            keypoints = body.keypoints_133(torch.zeros(1, 55, 3), shape)[0]
        vertices, joints = vertices.double().numpy(), joints.double().numpy()
        chest = joints[J["spine3"]]
        near = (np.abs(vertices[:, 0] - chest[0]) < 0.04) & (np.abs(vertices[:, 1] - chest[1]) < 0.05)
        chest_z = float(vertices[near, 2].max()) if near.any() else chest[2] + 0.12
        sole_y = float(vertices[:, 1].min())
        thigh_m = _front_m(vertices, joints[J["left_hip"]], joints[J["left_knee"]], 0.65)
        forearm_m = _front_m(vertices, joints[J["left_elbow"]], joints[J["left_wrist"]], 0.5)
        return Rig(joints, body.parents, keypoints.double().numpy(), sole_y, chest_z, thigh_m, forearm_m, shoe_sole_m)

    @cached_property
    def arm_lengths(self) -> tuple[float, float]:
        """Upper arm and forearm, meters."""
        shoulder, elbow, wrist = (self.joints[J[f"left_{name}"]] for name in ("shoulder", "elbow", "wrist"))
        return float(np.linalg.norm(elbow - shoulder)), float(np.linalg.norm(wrist - elbow))

    @cached_property
    def leg_lengths(self) -> tuple[float, float]:
        """Thigh and shin, meters."""
        hip, knee, ankle = (self.joints[J[f"left_{name}"]] for name in ("hip", "knee", "ankle"))
        return float(np.linalg.norm(knee - hip)), float(np.linalg.norm(ankle - knee))

    @cached_property
    def head_marks(self) -> dict[str, np.ndarray]:
        """Rest positions (3,) of marks that move with the head: mouth, forehead, temple (left), chin."""
        face = self.keypoints[K["face0"] : K["face0"] + 68]
        brows, nose = face[17:27].mean(0), face[27:36].mean(0)
        return {
            "mouth": face[48:68].mean(0),
            "chin": face[8],
            "forehead": brows + 0.35 * (brows - nose),
            "temple": face[26] + np.array([0.01, 0.01, 0.0])
            if face[26][0] > 0
            else face[17] + np.array([0.01, 0.01, 0]),
        }

    @cached_property
    def chest_mark(self) -> np.ndarray:
        """Skin in front of the breastbone, moving with the chest."""
        return np.array([self.joints[J["spine3"]][0], self.joints[J["spine3"]][1] + 0.02, self.chest_z])

    @cached_property
    def hand_marks(self) -> dict[str, np.ndarray]:
        """Rest offsets (3,) from the left wrist: wrist, palm, tips (of the fingers), grip (a held cup), pinch."""
        wrist = self.joints[J["left_wrist"]]
        knuckles = np.mean([self.joints[J[f"left_{f}1"]] for f in ("index", "middle", "ring", "pinky")], axis=0) - wrist
        tips = np.mean([self.keypoints[K[f"left_{f}"]] for f in ("index", "middle", "ring")], axis=0) - wrist
        return {
            "wrist": np.zeros(3),
            "palm": 0.8 * knuckles + 0.022 * PALM_NORMAL,
            "tips": tips,
            "grip": 1.05 * knuckles + 0.05 * PALM_NORMAL,
            "pinch": 0.45 * knuckles + 0.55 * tips + 0.05 * PALM_NORMAL + np.array([0.0, 0.0, 0.02]),
        }

    @cached_property
    def standing_pelvis(self) -> np.ndarray:
        """Pelvis joint (3,) when standing straight over the origin: ground at y = 0."""
        return self.joints[0] - np.array([0.0, self.sole_y - self.shoe_sole_m, 0.0])

    @cached_property
    def seat_height_m(self) -> float:
        """Height of a stool on which the thighs are level."""
        shin = self.joints[J["left_knee"]][1] - self.sole_y + self.shoe_sole_m
        return float(shin - 0.055 * self.stature_m / 1.7)

    @cached_property
    def stature_m(self) -> float:
        """Rough height of the person, meters (head joint to sole and a head's worth)."""
        return float((self.keypoints[K["nose"]][1] - self.sole_y) * 1.09)

    def local_to_global(
        self, local: np.ndarray, pelvis: np.ndarray, wanted: tuple[int, ...] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forward kinematics: global rotations (..., 55, 3, 3) and joints (..., 55, 3) from local ones and the pelvis
        position (..., 3). Joints after the last one wanted are left at zero."""
        rotations, joints = np.zeros_like(local), np.zeros(local.shape[:-1])
        last = 54 if wanted is None else max(wanted)
        for index in range(last + 1):
            parent = self.parents[index]
            if parent < 0:
                rotations[..., index, :, :], joints[..., index, :] = local[..., index, :, :], pelvis
                continue
            offset = self.joints[index] - self.joints[parent]
            rotations[..., index, :, :] = rotations[..., parent, :, :] @ local[..., index, :, :]
            joints[..., index, :] = joints[..., parent, :] + rotations[..., parent, :, :] @ offset
        return rotations, joints


def _front_m(vertices: np.ndarray, start: np.ndarray, end: np.ndarray, share: float) -> float:
    """How far the skin in front of a bone is from it, at this share of the way from its start."""
    along = unit(end - start)
    apart = vertices - (start + share * (end - start))
    near = (np.abs(apart @ along) < 0.02) & (np.linalg.norm(apart, axis=-1) < 0.2)
    sideways = np.cross(along, [0.0, 0.0, 1.0])
    return float(apart[near & (np.abs(apart @ sideways) < 0.03), 2].max())
