"""How a skeleton's joint frames lie on the body: for each joint, the rotation that turns the SMPL-X rest pose into it.

A BVH file says how joints turn, not what its zero pose looks like. Three ways to find out, in this order:
1. the offsets stand a person up, arms out or down: they are the reference pose (CMU, Mixamo, AnimatedDrawings);
2. frame 0 does, straight-limbed: it is the reference pose;
3. neither does (rigs whose bones all lie along x): bone directions are read from the offsets, and how a limb is rolled
   about its bone from the axis about which its knee or elbow bends over the clip.
Limbs are then aligned by the smallest rotation that lays the SMPL-X rest bone onto the skeleton's; trunk, head, collars
and feet are taken to stand as they do in the SMPL-X rest pose, because there the two skeletons put joints in different
places rather than in different poses.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from avatars.body.layout import JOINT_NAMES
from avatars.errors import InputError
from avatars.motion_formats.bvh import Bvh
from avatars.motion_formats.gravity import Figure, Up, axis_name, guessed_up, likely_up, rotation_to_y_up
from avatars.motion_formats.skeleton_names import JointMap

log = logging.getLogger(__name__)

INDEX = {name: i for i, name in enumerate(JOINT_NAMES)}
FINGERS = ("index", "middle", "ring", "pinky", "thumb")
_SIDES = ("left", "right")
_X, _Y = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
# Axis about which the left elbow flexes in the T-pose, palms down; the right one's is its negative. It is tilted by 30
# degrees in CMU's skeletons, and by 35 to 39 in poses fitted with SMPL-X.
_ELBOW = np.array([0.0, -np.cos(np.pi / 6), np.sin(np.pi / 6)])
_SNAP_DEG = 30.0

Matrix = Float[np.ndarray, "3 3"]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """SMPL-X global rotation of a joint = `R_body_source` @ source's global rotation @ `R_joint_smplx[joint]`."""

    R_body_source: Matrix
    """Takes the file's world to +Y up."""
    R_joint_smplx: dict[int, Matrix]
    """Per joint of the file."""
    reference: Literal["offsets", "frame 0", "movement"]


@dataclass(frozen=True, slots=True, eq=False)
class _Stance:
    """A pose of the skeleton whose anatomy is known."""

    rotations: Float[np.ndarray, "joints 3 3"]
    positions: Float[np.ndarray, "joints 3"]
    basis: Matrix
    """Columns: the person's left, up and forward, in the file's world."""


def calibrate(
    bvh: Bvh, joints: JointMap, rest: Float[np.ndarray, "55 3"], path: Path, *, up: Up = "auto"
) -> Calibration:
    """Find each joint's rotation against the SMPL-X rest pose, whose joints are `rest`, and which way is up.

    The skeleton's offsets state an up, which the world in which it moves need not share: see `gravity`.

    Raises InputError when the skeleton can stand no way up.
    """
    eyes = np.broadcast_to(np.eye(3), (len(bvh.names), 3, 3))
    offsets = bvh.rest_positions()
    basis = _standing(offsets, joints, strict=False)
    rotations, positions = bvh.global_pose()
    figure = Figure({name: positions[:, joint] for name, joint in joints.limbs.items()})
    if np.linalg.norm(figure.trunk()) < 1e-6:
        raise InputError(f"{path}: hips and shoulders are at one place; this skeleton has no size.")
    if basis is not None:
        stated = axis_name(basis[:, 1])
        found = likely_up(figure, stated) if up == "auto" else up
        if found != stated:
            log.info("%s: its offsets are %s up, its world %s up.", path.name, stated, found)
        R_body_source = basis.T if found == stated else rotation_to_y_up(found)
        return _from_stance(_Stance(eyes, offsets, basis), joints, rest, R_body_source, "offsets")
    upright = _least_rotation(rotation_to_y_up(guessed_up(figure) if up == "auto" else up)[1], _Y)
    turned, moved = upright @ rotations, positions @ upright.T
    basis = _standing(moved[0], joints, strict=True)
    if basis is not None:
        found = _from_stance(_Stance(turned[0], moved[0], basis), joints, rest, upright, "frame 0")
        return found
    try:
        return Calibration(upright, _Movement(turned, moved, joints, rest).calibrated(bvh), "movement")
    except InputError as error:
        raise InputError(f"{path}: neither its offsets nor frame 0 is a T-pose, and {error}") from None


def _standing(positions: np.ndarray, joints: JointMap, *, strict: bool) -> Matrix | None:
    """The person's left, up and forward when these joints stand upright with unbent limbs; None otherwise.

    `strict`: limbs straight within 15 degrees and up is +Y, for a pose out of a movement.
    """
    limb = {name: positions[joint] for name, joint in joints.limbs.items()}
    hips = (limb["left_hip"] + limb["right_hip"]) / 2
    top = positions[joints.neck[-1]] if joints.neck else (limb["left_shoulder"] + limb["right_shoulder"]) / 2
    up = _Y if strict else _nearest_axis(top - hips)
    left = limb["left_hip"] - limb["right_hip"]
    left = left - up * (left @ up)
    if np.linalg.norm(left) < 1e-6 or (top - hips) @ up < 0.8 * np.linalg.norm(top - hips):
        return None
    left = _unit(left)
    if not strict and np.abs(left).max() > 0.98:
        left = _nearest_axis(left)
    basis = np.stack([left, up, np.cross(left, up)], 1)
    straight = np.cos(np.deg2rad(15.0 if strict else 45.0))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        thigh, shin = (_direction(limb, side, a, b) @ basis for a, b in (("hip", "knee"), ("knee", "ankle")))
        upper = _direction(limb, side, "shoulder", "elbow") @ basis
        if (
            -thigh[1] < 0.7
            or thigh @ shin < straight
            or sign * upper[0] < -0.2
            or abs(upper[2]) > 0.6
            or upper[1] > 0.6
        ):
            return None
        if f"{side}_wrist" in limb and upper @ (_direction(limb, side, "elbow", "wrist") @ basis) < straight:
            return None
        if f"{side}_foot" in limb and (_direction(limb, side, "ankle", "foot") @ basis)[2] < 0.2:
            return None
    return basis


def _from_stance(
    stance: _Stance, joints: JointMap, rest: np.ndarray, R_body_source: Matrix, reference: Literal["offsets", "frame 0"]
) -> Calibration:
    """Trunk and head as in the rest pose, limbs aligned bone by bone from the trunk outwards."""
    canonical = stance.positions @ stance.basis
    aligned: dict[int, Matrix] = {joint: np.eye(3) for joint in (joints.pelvis, *joints.spine, *joints.neck)}
    aligned |= {joint: np.eye(3) for name, joint in joints.limbs.items() if not name.startswith(_SIDES)}
    for side in _SIDES:
        parent = np.eye(3)
        for part, child in (("hip", "knee"), ("knee", "ankle"), ("ankle", ""), ("foot", "")):
            parent = _align(joints, canonical, rest, f"{side}_{part}", f"{side}_{child}", parent, aligned)
        if reference == "frame 0":
            _turn_out(joints, canonical, rest, side, aligned)
        parent = np.eye(3)
        for part, child in (("collar", ""), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "")):
            parent = _align(joints, canonical, rest, f"{side}_{part}", f"{side}_{child}", parent, aligned)
        palm = _palm_rotation(joints, canonical, rest, side)
        if palm is not None:
            parent = aligned[joints.limbs[f"{side}_wrist"]] = palm
        _align_fingers(joints, canonical, rest, side, parent, aligned)
    # `aligned` turns the rest pose onto the stance in the person's axes; the joint frame undoes the stance's rotation.
    basis = stance.basis
    if reference == "frame 0":
        frames = {joint: stance.rotations[joint].T @ basis @ D for joint, D in aligned.items()}
        return Calibration(R_body_source, frames, reference)
    return Calibration(R_body_source, {joint: basis @ D for joint, D in aligned.items()}, reference)


def _align(
    joints: JointMap, positions: np.ndarray, rest: np.ndarray, name: str, child: str, parent: Matrix, out: dict
) -> Matrix:
    """Turn the parent's alignment by the least that lays the bone from `name` to `child` onto the skeleton's."""
    if name not in joints.limbs:
        return parent
    if child in joints.limbs:
        source = positions[joints.limbs[child]] - positions[joints.limbs[name]]
        if np.linalg.norm(source) > 1e-9:
            parent = _least_rotation(parent @ (rest[INDEX[child]] - rest[INDEX[name]]), source) @ parent
    out[joints.limbs[name]] = parent
    return parent


def _turn_out(joints: JointMap, positions: np.ndarray, rest: np.ndarray, side: str, out: dict[int, Matrix]) -> None:
    """Turn a straight leg about itself until its foot points as the skeleton's does: somebody who stands in a T-pose
    may turn the feet out, which the offsets of a rig do not."""
    names = [f"{side}_{part}" for part in ("hip", "knee", "ankle", "foot")]
    if names[-1] not in joints.limbs:
        return
    ankle, foot = joints.limbs[names[2]], joints.limbs[names[3]]
    leg = _unit(positions[ankle] - positions[joints.limbs[names[0]]])
    wanted = positions[foot] - positions[ankle]
    found = out[ankle] @ (rest[INDEX[names[3]]] - rest[INDEX[names[2]]])
    wanted, found = (vector - leg * (vector @ leg) for vector in (wanted, found))
    turn = _least_rotation(found, wanted)
    for name in names:
        out[joints.limbs[name]] = turn @ out[joints.limbs[name]]


def _align_fingers(
    joints: JointMap, positions: np.ndarray, rest: np.ndarray, side: str, hand: Matrix, out: dict[int, Matrix]
) -> None:
    for finger in FINGERS:
        parent = hand
        for i in (1, 2, 3):
            parent = _align(joints, positions, rest, f"{side}_{finger}{i}", f"{side}_{finger}{i + 1}", parent, out)


def _palm_rotation(joints: JointMap, positions: np.ndarray, rest: np.ndarray, side: str) -> Matrix | None:
    """The rotation that lays the rest pose's palm (middle finger's base, line of knuckles) onto the skeleton's."""
    names = [f"{side}_{part}" for part in ("wrist", "middle1", "index1", "pinky1")]
    if not all(name in joints.limbs for name in names):
        return None
    frames = []
    for points in (positions[[joints.limbs[name] for name in names]], rest[[INDEX[name] for name in names]]):
        frames.append(_frame(points[1] - points[0], points[2] - points[3]))
    return frames[0] @ frames[1].T


class _Movement:
    """Calibration from the clip itself, for skeletons whose zero pose is no pose of a person."""

    def __init__(self, rotations: np.ndarray, positions: np.ndarray, joints: JointMap, rest: np.ndarray) -> None:
        self.rotations, self.positions, self.joints, self.rest = rotations, positions, joints, rest
        self.found: dict[int, Matrix] = {}

    def calibrated(self, bvh: Bvh) -> dict[int, Matrix]:
        joints, limbs = self.joints, self.joints.limbs
        left = self._local(joints.pelvis, self.positions[:, limbs["left_hip"]] - self.positions[:, limbs["right_hip"]])
        up = self._local(joints.pelvis, np.broadcast_to(_Y, (len(bvh), 3)))
        self.found[joints.pelvis] = _snapped(_frame(left, up))
        for joint in joints.spine:
            self._like(joint, joints.pelvis)
        chest = joints.spine[-1] if joints.spine else joints.pelvis
        for joint in joints.neck:
            self._like(joint, chest)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            if f"{side}_collar" in limbs:
                self._like(limbs[f"{side}_collar"], chest)
            self._bending(f"{side}_hip", f"{side}_knee", f"{side}_ankle", _X)
            self._extremity(f"{side}_ankle", f"{side}_knee", f"{side}_foot")
            self._extremity(f"{side}_foot", f"{side}_ankle", "")
            if f"{side}_wrist" in limbs:
                self._bending(f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist", sign * _ELBOW)
                self._hand(side, bvh)
        return self.found

    def _local(self, joint: int, vectors: np.ndarray) -> np.ndarray:
        """Mean over the clip of world vectors in the joint's frame, unit length."""
        return _unit(np.einsum("tji,tj->i", self.rotations[:, joint], vectors))

    def _body(self, joint: int) -> np.ndarray:
        return self.rotations[:, joint] @ self.found[joint]

    def _like(self, joint: int, other: int) -> None:
        """On average the joint turns as `other` does; rigs put frames along the body's axes, so snap to them."""
        relative = np.swapaxes(self.rotations[:, joint], 1, 2) @ self._body(other)
        self.found[joint] = _snapped(Rotation.from_matrix(relative).mean().as_matrix())

    def _bending(self, upper: str, lower: str, end: str, axis: np.ndarray) -> None:
        """Both bones of a limb: the bone and the axis about which the joint between them flexes (`axis` at rest)."""
        a, b, c = (self.joints.limbs[name] for name in (upper, lower, end))
        first, second = self.positions[:, b] - self.positions[:, a], self.positions[:, c] - self.positions[:, b]
        hinge = np.cross(first, second)
        bend = np.linalg.norm(hinge, axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))
        if bend.mean() < np.sin(np.deg2rad(5.0)):
            raise InputError(
                f"{lower} never bends, so the joints' axes cannot be told. Export the skeleton again with a T-pose as "
                "its rest pose."
            )
        for joint, bone, name, child in ((a, first, upper, lower), (b, second, lower, end)):
            source = _frame(self._local(joint, bone), self._local(joint, hinge))
            smplx = _frame(self.rest[INDEX[child]] - self.rest[INDEX[name]], axis)
            self.found[joint] = source @ smplx.T

    def _extremity(self, name: str, parent: str, child: str) -> None:
        """On average the joint turns as its parent does, but its bone is where the offsets say."""
        limbs = self.joints.limbs
        if name not in limbs or limbs.get(parent) not in self.found:
            return
        joint = limbs[name]
        relative = np.swapaxes(self.rotations[:, joint], 1, 2) @ self._body(limbs[parent])
        frame = Rotation.from_matrix(relative).mean().as_matrix()
        if child in limbs:
            bone = self._local(joint, self.positions[:, limbs[child]] - self.positions[:, joint])
            frame = _least_rotation(frame @ (self.rest[INDEX[child]] - self.rest[INDEX[name]]), bone) @ frame
        self.found[joint] = frame

    def _hand(self, side: str, bvh: Bvh) -> None:
        wrist = self.joints.limbs[f"{side}_wrist"]
        palm = _palm_rotation(self.joints, bvh.rest_positions(), self.rest, side)
        if palm is None:
            self._like(wrist, self.joints.limbs[f"{side}_elbow"])
            return
        self.found[wrist] = palm
        _align_fingers(self.joints, bvh.rest_positions(), self.rest, side, palm, self.found)


def _direction(limb: dict[str, np.ndarray], side: str, joint: str, child: str) -> np.ndarray:
    return _unit(limb[f"{side}_{child}"] - limb[f"{side}_{joint}"])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _nearest_axis(vector: np.ndarray) -> np.ndarray:
    axis = int(np.abs(vector).argmax())
    return np.eye(3)[axis] * (1.0 if vector[axis] >= 0 else -1.0)


def _frame(first: np.ndarray, second: np.ndarray) -> Matrix:
    """Orthonormal columns: along `first`, along `second` made perpendicular to it, and their cross product."""
    x = _unit(first)
    y = _unit(second - x * (second @ x))
    if np.linalg.norm(x) < 0.5 or np.linalg.norm(y) < 0.5:
        raise InputError("hips, a limb or a hand of the skeleton has no extent, so its joints' axes cannot be told.")
    return np.stack([x, y, np.cross(x, y)], 1)


def _least_rotation(a: np.ndarray, b: np.ndarray) -> Matrix:
    """The smallest rotation that takes the direction of `a` to that of `b`."""
    a, b = _unit(a), _unit(b)
    axis, cos = np.cross(a, b), float(a @ b)
    if cos < -1.0 + 1e-9:
        axis = _unit(np.cross(a, np.eye(3)[int(np.abs(a).argmin())]))
        return Rotation.from_rotvec(np.pi * axis).as_matrix()
    K = np.cross(np.eye(3), axis)
    return np.eye(3) + K + K @ K / (1.0 + cos)


_AXIS_FRAMES = np.stack(
    [
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
)
_AXIS_FRAMES = _AXIS_FRAMES[np.linalg.det(_AXIS_FRAMES) > 0]


def _snapped(frame: Matrix) -> Matrix:
    """The nearest of the 24 axis-aligned frames when it is within 30 degrees, else the frame itself."""
    traces = np.einsum("nij,ij->n", _AXIS_FRAMES, frame)
    best = int(traces.argmax())
    return _AXIS_FRAMES[best] if (traces[best] - 1) / 2 > np.cos(np.deg2rad(_SNAP_DEG)) else frame
