"""BVH to Motion (retargeted onto the body by global rotations) and Motion to BVH (lossless)."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from avatars.body import Body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import LEFT_HAND, N_JOINTS, RIGHT_HAND, Motion
from avatars.errors import InputError
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.motion_formats.bvh import Bvh, euler_zxy, read_bvh, write_bvh
from avatars.motion_formats.coincident_joints import counted_as_one
from avatars.motion_formats.gravity import Up
from avatars.motion_formats.ground import placed
from avatars.motion_formats.resting_hands import resting_hands
from avatars.motion_formats.skeleton_calibration import INDEX, Calibration, calibrate
from avatars.motion_formats.skeleton_names import JointMap, map_joints

log = logging.getLogger(__name__)

_SPINE, _NECK = ("spine1", "spine2", "spine3"), ("neck", "head")
_EXPORT_UNITS_PER_M = 100.0
_UNLIKELY_FINGER_DEG = 120.0


def load_bvh(path: str | Path, body: Body, *, up: Up = "auto", place: bool = True) -> Motion:
    """Read a BVH and put its movement onto `body`.

    Joints turn as in the file; bones have the body's lengths; the path of the hips is scaled by the ratio of leg
    lengths, which also settles the file's unit. `place`: the feet tread y = 0 and the clip begins over the origin
    facing +Z; otherwise height, place and heading are the file's. Hands whose fingers the file does not hold rest.
    Files that `save_bvh` wrote come back as they were, betas too, and are not placed. `up` says which axis of the
    file's world points up; `auto`: that of the offsets unless gravity tells of another.

    Raises InputError for a broken file, a skeleton whose joints are not understood, and one without a usable pose.
    """
    path = Path(path)
    bvh = read_bvh(path)
    joints = counted_as_one(bvh, map_joints(bvh.names, bvh.parents, path))
    if set(JOINT_NAMES) <= set(bvh.names):
        betas = _betas_of(bvh, body)
        if betas is not None and up in ("auto", "+y"):
            return _exact(bvh, body, betas, path.stem)
    bvh = _without_calibration_frame(bvh, joints, path)
    motion = retarget(bvh, joints, body, path, up=up)
    return placed(motion, body) if place else motion


def retarget(bvh: Bvh, joints: JointMap, body: Body, path: Path, *, up: Up = "auto") -> Motion:
    """The skeleton's movement as the body's, hips at the height that the leg lengths give."""
    rest = _rest_joints(body, torch.zeros(body.n_betas))
    calibration = calibrate(bvh, joints, rest, path, up=up)
    rotations, positions = bvh.global_pose()
    R_world = _global_rotations(rotations, calibration, joints)
    local = _local_rotations(R_world, body.parents)
    local = _with_fingers(local, joints, body)
    scale = _leg_length(rest, INDEX) / _leg_length(np.median(positions - positions[:, :1], 0), joints.limbs, positions)
    log.info("%s: reference pose from %s, %.4g m per unit", path.name, calibration.reference, scale)
    hips = (positions[:, joints.limbs["left_hip"]] + positions[:, joints.limbs["right_hip"]]) / 2
    hips = scale * hips @ calibration.R_body_source.T
    between_hips = (rest[INDEX["left_hip"]] + rest[INDEX["right_hip"]]) / 2 - rest[0]
    transl = hips - np.einsum("tij,j->ti", local[:, 0], between_hips) - rest[0]
    return _motion(local, transl, torch.zeros(body.n_betas), bvh.fps, body, path.stem)


def _global_rotations(
    rotations: Float[np.ndarray, "frames joints 3 3"], calibration: Calibration, joints: JointMap
) -> dict[str, Float[np.ndarray, "frames 3 3"]]:
    """Global rotation of each SMPL-X joint that the skeleton speaks of."""

    def turned(joint: int) -> np.ndarray:
        return calibration.R_body_source @ rotations[:, joint] @ calibration.R_joint_smplx[joint]

    world = {"pelvis": turned(joints.pelvis)}
    spine = [world["pelvis"], *(turned(joint) for joint in joints.spine)]
    world |= dict(zip(_SPINE, _spread(spine, len(_SPINE)), strict=True))
    if joints.neck:
        neck = [world["spine3"], *(turned(joint) for joint in joints.neck)]
        world |= dict(zip(_NECK, _spread(neck, len(_NECK)), strict=True))
    found = calibration.R_joint_smplx
    return world | {name: turned(joint) for name, joint in joints.limbs.items() if joint in found}


def _spread(chain: list[np.ndarray], count: int) -> list[np.ndarray]:
    """A chain of global rotations (the first is its base) resampled to `count` joints after the base; the last stays
    the last, those between are interpolated on the shortest arc."""
    last = len(chain) - 1
    out = []
    for i in range(1, count + 1):
        position = i * last / count
        low = min(int(position), max(last - 1, 0))
        fraction = position - low
        if fraction < 1e-9 or last == 0:
            out.append(chain[low])
        elif fraction > 1 - 1e-9:
            out.append(chain[low + 1])
        else:
            step = Rotation.from_matrix(np.swapaxes(chain[low], 1, 2) @ chain[low + 1]).as_rotvec()
            out.append(chain[low] @ Rotation.from_rotvec(fraction * step).as_matrix())
    return out


def _local_rotations(world: dict[str, np.ndarray], parents: tuple[int, ...]) -> Float[np.ndarray, "frames 55 3 3"]:
    """Relative to the parent; a joint that the skeleton does not speak of stays as its parent."""
    frames = len(world["pelvis"])
    placed = np.empty((frames, N_JOINTS, 3, 3))
    local = np.empty_like(placed)
    for joint, name in enumerate(JOINT_NAMES):
        parent = placed[:, parents[joint]] if joint else np.broadcast_to(np.eye(3), (frames, 3, 3))
        placed[:, joint] = world.get(name, parent)
        local[:, joint] = np.swapaxes(parent, 1, 2) @ placed[:, joint]
    return local


def _with_fingers(local: np.ndarray, joints: JointMap, body: Body) -> Float[np.ndarray, "frames 55 3 3"]:
    """Rest the hands that the file says nothing of, and leave straight the fingers whose frame cannot be a finger's
    (some exporters turn the frame of a last phalanx half around)."""
    resting = matrix_from_axis_angle(resting_hands(body).double()).numpy()
    fingers = [name for name in joints.limbs if name[-1] in "123"]
    for side, own, hand in (("left", resting[:15], LEFT_HAND), ("right", resting[15:], RIGHT_HAND)):
        if not any(name.startswith(side) for name in fingers):
            local[:, hand] = own
    straightened = []
    for name in fingers:
        joint = INDEX[name]
        mean_cos = (np.trace(local[:, joint], axis1=1, axis2=2).mean() - 1) / 2
        if mean_cos < np.cos(np.deg2rad(_UNLIKELY_FINGER_DEG)):
            local[:, joint] = np.eye(3)
            straightened.append(name)
    if straightened:
        log.warning("%s: no finger bends by %g degrees; left straight.", ", ".join(straightened), _UNLIKELY_FINGER_DEG)
    return local


def _without_calibration_frame(bvh: Bvh, joints: JointMap, path: Path) -> Bvh:
    """Drop a frame 0 that is the T-pose for calibration and not part of the movement."""
    if len(bvh) < 3:
        return bvh
    rotations, _ = replace(bvh, values=bvh.values[:3]).local_pose()
    used = [joints.pelvis, *joints.spine, *(joint for name, joint in joints.limbs.items() if name[-1] not in "123")]
    step = np.swapaxes(rotations[:-1, used], -1, -2) @ rotations[1:, used]
    angle = np.rad2deg(np.arccos(np.clip((np.trace(step, axis1=-2, axis2=-1) - 1) / 2, -1, 1))).max(1)
    if angle[0] < 25.0 or angle[0] < 4.0 * angle[1]:
        return bvh
    log.info("%s: frame 0 is a calibration pose, %.0f degrees from frame 1; left out.", path.name, angle[0])
    return replace(bvh, values=bvh.values[1:])


def _leg_length(points: np.ndarray, index: dict[str, int], frames: np.ndarray | None = None) -> float:
    """Mean of both legs, hip to ankle along the bones; over all `frames` when given."""
    frames = points[None] if frames is None else frames
    bones = [
        (f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in (("hip", "knee"), ("knee", "ankle"))
    ]
    lengths = [np.linalg.norm(frames[:, index[a]] - frames[:, index[b]], axis=-1).mean() for a, b in bones]
    total = float(sum(lengths)) / 2
    if total < 1e-9:
        raise InputError("The skeleton's legs have no length; nothing can be scaled to them.")
    return total


def _rest_joints(body: Body, betas: torch.Tensor) -> Float[np.ndarray, "55 3"]:
    return body.shaped(betas)[1].double().numpy()


def _motion(local: np.ndarray, transl: np.ndarray, betas: torch.Tensor, fps: Fraction, body: Body, name: str) -> Motion:
    frames = len(local)
    return Motion(
        poses=axis_angle_from_matrix(torch.from_numpy(local)).float(),
        transl=torch.from_numpy(transl).float(),
        betas=betas,
        expression=torch.zeros(frames, body.n_expression),
        times_s=torch.arange(frames, dtype=torch.float64) / float(fps),
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
        name=name,
    )


def _betas_of(bvh: Bvh, body: Body) -> torch.Tensor | None:
    """Betas, on which joints depend linearly, that give exactly this skeleton's offsets (cm); None when no betas do:
    the file is of another body."""
    order = [bvh.names.index(name) for name in JOINT_NAMES]
    offsets = bvh.offsets[order] / _EXPORT_UNITS_PER_M
    parents = list(body.parents)[1:]

    def bones(betas: torch.Tensor) -> np.ndarray:
        joints = _rest_joints(body, betas)
        return (joints[1:] - joints[parents]).ravel()

    base = bones(torch.zeros(body.n_betas))
    slopes = np.stack([bones(unit) - base for unit in torch.eye(body.n_betas)], 1)
    if np.abs(offsets[1:].ravel() - base).max() < 1e-5:
        return torch.zeros(body.n_betas)
    betas, *_ = np.linalg.lstsq(slopes, offsets[1:].ravel() - base, rcond=1e-6)
    if np.abs(slopes @ betas + base - offsets[1:].ravel()).max() > 1e-4 or np.abs(betas).max() > 10.0:
        return None
    return torch.from_numpy(betas).float()


def _exact(bvh: Bvh, body: Body, betas: torch.Tensor, name: str) -> Motion:
    rotations, positions = bvh.local_pose()
    order = [bvh.names.index(joint) for joint in JOINT_NAMES]
    pelvis = positions[:, order[0]] / _EXPORT_UNITS_PER_M
    transl = pelvis - _rest_joints(body, betas)[0]
    return _motion(rotations[:, order], transl, betas, bvh.fps, body, name)


def save_bvh(motion: Motion, path: str | Path, body: Body) -> Path:
    """Write the motion as a BVH of the body's 55 joints in centimeters (+Y up, T-pose offsets, ZXY rotations).

    BVH has no place for expression, validity, or uneven times: what is lost is said in the log.
    """
    if len(motion) < 1:
        raise InputError(f"Motion {motion.name!r} has no frames; nothing to write.")
    rest = _rest_joints(body, motion.betas)
    parents = body.parents
    tips = [joint for joint in range(N_JOINTS) if joint not in parents]
    offsets = np.stack([rest[j] - rest[p] if p >= 0 else np.zeros(3) for j, p in enumerate(parents)])
    # A leaf needs an end site; half its own bone is as good a length as any.
    offsets = np.concatenate([offsets, 0.5 * offsets[tips]]) * _EXPORT_UNITS_PER_M
    names = (*JOINT_NAMES, *(f"{JOINT_NAMES[joint]}_end" for joint in tips))
    turns = ("Zrotation", "Xrotation", "Yrotation")
    channels = (("Xposition", "Yposition", "Zposition", *turns), *((turns,) * (N_JOINTS - 1)), *(((),) * len(tips)))
    angles = euler_zxy(matrix_from_axis_angle(motion.poses.double()).numpy())
    order = _depth_first((*parents, *tips))
    pelvis = (motion.transl.double().numpy() + rest[0]) * _EXPORT_UNITS_PER_M
    columns = [pelvis, *(angles[:, joint] for joint in order if joint < N_JOINTS)]
    rank = {joint: i for i, joint in enumerate(order)}
    all_parents = (*parents, *tips)
    return write_bvh(
        Bvh(
            names=tuple(names[joint] for joint in order),
            parents=tuple(rank.get(all_parents[joint], -1) for joint in order),
            offsets=offsets[list(order)],
            channels=tuple(channels[joint] for joint in order),
            values=np.concatenate(columns, 1),
            fps=_even_rate(motion),
        ),
        path,
    )


def _depth_first(parents: tuple[int, ...]) -> tuple[int, ...]:
    """Joints in the order in which a hierarchy lists them, which is also that of its channels."""
    children: dict[int, list[int]] = {}
    for joint, parent in enumerate(parents):
        children.setdefault(parent, []).append(joint)
    order: list[int] = []
    stack = [0]
    while stack:
        joint = stack.pop()
        order.append(joint)
        stack.extend(reversed(children.get(joint, [])))
    return tuple(order)


def _even_rate(motion: Motion) -> Fraction:
    """The frame rate of a format that knows only one; warns of what such a format cannot say."""
    lost = []
    if not bool(motion.valid.all()):
        lost.append(f"{int((~motion.valid).sum())} frames without a person are written as they are")
    if bool((motion.expression != 0).any()):
        lost.append("facial expression is left out")
    fps = motion.fps or 30.0
    even = motion.times_s[0] + torch.arange(len(motion), dtype=torch.float64) / fps
    if float((motion.times_s - even).abs().max()) > 0.5e-3:
        lost.append("uneven frame times become even")
    for line in lost:
        log.warning("%s to BVH: %s.", motion.name or "motion", line)
    whole = Fraction(round(fps))
    if whole and abs(float(whole) - fps) < 1e-4 * fps:
        return whole
    film = Fraction(round(fps * 1.001) * 1000, 1001)
    return film if film and abs(float(film) - fps) < 1e-5 * fps else Fraction(fps).limit_denominator(100000)
