"""Motions from elsewhere: a BVH skeleton's movement -> Motion.

A BVH joint's rotation in the world is carried over to the SMPL-X joint of the same name after the rest bones of both
skeletons are laid onto each other by the smallest turn; so skeletons whose zero pose is a T-pose, an A-pose or CMU's
pose with spread legs all work. The only assumption is that the zero pose stands along +Y and faces +Z.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import JOINT_NAMES, Body
from avatars.errors import InputError
from avatars.motion import N_JOINTS, Motion
from avatars.rotations import axis_angle_from_matrix, matrix_from_axis_angle

log = logging.getLogger(__name__)

_SIDED = {
    "hip": ("{S}UpLeg", "{S}Hip", "{S}Thigh", "{S}HipJoint"),
    "knee": ("{S}Leg", "{S}Knee", "{S}Shin", "{S}LowLeg"),
    "ankle": ("{S}Foot", "{S}Ankle"),
    "foot": ("{S}ToeBase", "{S}Toe"),
    "collar": ("{S}Shoulder", "{S}Collar", "{S}Clavicle"),
    "shoulder": ("{S}Arm", "{S}Shoulder", "{S}UpArm", "{S}UpperArm"),
    "elbow": ("{S}ForeArm", "{S}Elbow", "{S}LowArm"),
    "wrist": ("{S}Hand", "{S}Wrist"),
}
"""SMPL-X joint -> names that it goes by in BVH files, best first."""
_NAMES: dict[str, tuple[str, ...]] = {
    "pelvis": ("Hips", "Pelvis", "Root"),
    "neck": ("Neck", "Neck1", "lowerneck"),
    "head": ("Head",),
    **{
        f"{side}_{joint}": tuple(name.format(S=side.capitalize()) for name in names)
        for side in ("left", "right")
        for joint, names in _SIDED.items()
    },
}
_SPINES = (("lowerback", "spine", "spine1"), ("spine", "spine1", "spine2"), ("lowerback", "chest", "chest2"))
_TIPS = {"hip": "knee", "knee": "ankle", "ankle": "foot", "shoulder": "elbow", "elbow": "wrist"}
"""Where the bone of a joint ends; joints that are not here are taken to rest alike in both skeletons."""


@dataclass(frozen=True, slots=True)
class Bvh:
    """What a BVH file holds; lengths in the file's own unit."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float[Tensor, "joints 3"]
    rotations: Float[Tensor, "frames joints 3 3"]
    """World rotation of each joint."""
    root: Float[Tensor, "frames 3"]
    frame_s: float


def load_motion(path: str | Path, body: Body) -> Motion:
    """A Motion from an npz of SMPL-X poses or from a BVH file, by suffix. Raises InputError when it is neither."""
    path = Path(path)
    if path.suffix.lower() == ".bvh":
        return motion_from_bvh(read_bvh(path), body, name=path.stem)
    return Motion.load(path)


def motion_from_bvh(bvh: Bvh, body: Body, *, name: str = "") -> Motion:
    """The BVH's movement on `body` at zero betas, starting at the origin and facing +Z; its unit follows from the legs.

    A first frame that is far from the second (mocap files often open with a T-pose) is left out, and said so.
    Raises InputError when the skeleton has no hips, legs and arms that can be told by name.
    """
    index = _joint_indices(bvh.names)
    betas = torch.zeros(body.n_betas)
    _, rest = body.shaped(betas)
    world = _smplx_world_rotations(bvh, index, rest, body.parents)
    parents = torch.tensor(body.parents[1:])
    local = torch.cat([world[:, :1], world[:, parents].transpose(-1, -2) @ world[:, 1:]], 1)
    unit_m = _leg(rest, [JOINT_NAMES.index(f"left_{j}") for j in ("hip", "knee", "ankle")]) / _leg_of_bvh(bvh, index)
    first = int(_opens_with_rest_pose(local))
    if first:
        log.info("%s: first frame left out, a rest pose far from what follows", name)
    turn = _turn_to_face_z(world[first, 0])
    path = (bvh.root - bvh.root[first] * torch.tensor([1.0, 0.0, 1.0])) * unit_m
    local = torch.cat([(turn @ local[:, 0])[:, None], local[:, 1:]], 1)
    frames = len(local) - first
    return Motion(
        poses=axis_angle_from_matrix(local[first:]),
        transl=(path @ turn.T - rest[0])[first:],
        betas=betas,
        expression=torch.zeros(frames, body.n_expression),
        times_s=torch.arange(frames, dtype=torch.float64) * bvh.frame_s,
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
        name=name,
    )


def _joint_indices(names: tuple[str, ...]) -> dict[str, int]:
    """SMPL-X joint name -> index in the BVH, for the joints that are found. Raises InputError."""
    at = {name.lower().split(":")[-1]: i for i, name in enumerate(names)}
    # where "Shoulder" is the upper arm there is no "Arm", and the collar bone is "Collar" if anything
    found = {j: next((at[n.lower()] for n in known if n.lower() in at), None) for j, known in _NAMES.items()}
    for side in ("left", "right"):
        if found[f"{side}_collar"] == found[f"{side}_shoulder"]:
            found[f"{side}_collar"] = at.get(f"{side}collar")
    spine = max(_SPINES, key=lambda joints: sum(j in at for j in joints))
    found |= {f"spine{i + 1}": at.get(joint) for i, joint in enumerate(spine)}
    missing = [j for j in ("pelvis", "left_hip", "left_knee", "left_ankle", "left_elbow", "right_hip") if found[j] is None]
    if missing:
        raise InputError(f"BVH skeleton without {', '.join(missing)}: its joints are {', '.join(names)}.")
    return {joint: i for joint, i in found.items() if i is not None}


def _smplx_world_rotations(
    bvh: Bvh, index: dict[str, int], rest: Tensor, parents: tuple[int, ...]
) -> Float[Tensor, "frames 55 3 3"]:
    """World rotation of each SMPL-X joint; a joint that the BVH lacks moves with its parent."""
    frames = len(bvh.root)
    world = torch.eye(3).repeat(frames, N_JOINTS, 1, 1)
    for j, name in enumerate(JOINT_NAMES):
        if name in index:
            world[:, j] = bvh.rotations[:, index[name]] @ _rest_alignment(bvh, index, rest, name)
        elif j > 0:
            world[:, j] = world[:, parents[j]]
    return world


def _rest_alignment(bvh: Bvh, index: dict[str, int], rest: Tensor, name: str) -> Float[Tensor, "3 3"]:
    """The smallest turn that lays the SMPL-X rest bone of a joint onto the BVH's."""
    side, _, joint = name.partition("_")
    tip = f"{side}_{_TIPS[joint]}" if joint in _TIPS else None
    if tip is None or tip not in index:
        return torch.eye(3)
    a = rest[JOINT_NAMES.index(tip)] - rest[JOINT_NAMES.index(name)]
    b = _chain(bvh, index[name], index[tip])
    return _smallest_turn(a, b) if float(b.norm()) > 0 else torch.eye(3)


def _chain(bvh: Bvh, start: int, tip: int) -> Float[Tensor, "3"]:
    """Rest vector from one joint to a descendant."""
    total = torch.zeros(3)
    while tip != start and tip > 0:
        total = total + bvh.offsets[tip]
        tip = bvh.parents[tip]
    return total


def _smallest_turn(a: Float[Tensor, "3"], b: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    axis = torch.linalg.cross(a, b)
    angle = torch.atan2(axis.norm(), a @ b)
    return matrix_from_axis_angle(axis / axis.norm().clamp_min(1e-9) * angle)


def _leg(points: Tensor, chain: list[int]) -> float:
    return sum(float((points[a] - points[b]).norm()) for a, b in zip(chain[:-1], chain[1:], strict=True))


def _leg_of_bvh(bvh: Bvh, index: dict[str, int]) -> float:
    hip, knee, ankle = (index[f"left_{j}"] for j in ("hip", "knee", "ankle"))
    length = float(_chain(bvh, hip, knee).norm() + _chain(bvh, knee, ankle).norm())
    if length <= 0:
        raise InputError("BVH skeleton with legs of no length.")
    return length


def _opens_with_rest_pose(local: Float[Tensor, "frames 55 3 3"]) -> bool:
    """Whether the joints turn by more than 5 degrees on average between the first two frames, and far less after."""
    if len(local) < 4:
        return False
    steps = axis_angle_from_matrix(local[:3].transpose(-1, -2) @ local[1:4])[:, 1:22].norm(dim=-1).mean(-1).rad2deg()
    return bool(steps[0] > 5.0 and steps[0] > 4.0 * steps[1:].max())


def _turn_to_face_z(root: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """Turn about +Y after which a root with this rotation faces +Z."""
    yaw = torch.atan2(root[0, 2], root[2, 2])
    return matrix_from_axis_angle(torch.stack([torch.zeros(()), -yaw, torch.zeros(())]))


def read_bvh(path: str | Path) -> Bvh:
    """Parse a BVH file. Raises InputError naming what is wrong."""
    path = Path(path)
    try:
        words = path.read_text(encoding="utf-8", errors="strict").split()
        split = words.index("MOTION")
    except FileNotFoundError:
        raise InputError(f"No motion file at {path}.") from None
    except (UnicodeDecodeError, ValueError):
        raise InputError(f"{path} is not a BVH file: it has no MOTION section.") from None
    try:
        names, parents, offsets, channels = _hierarchy(words[:split])
        frames, frame_s, values = _frames(words[split:])
        table = values.reshape(frames, -1)
        if frames < 1 or table.shape[1] != sum(map(len, channels)) or not np.isfinite(table).all() or frame_s <= 0:
            raise ValueError(f"{frames} frames of {sum(map(len, channels))} channels, {values.size} numbers")
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is not a whole BVH file ({error}).") from None
    rotations, root = _forward(parents, channels, torch.from_numpy(table).float())
    return Bvh(tuple(names), tuple(parents), torch.tensor(offsets), rotations, root + torch.tensor(offsets[0]), frame_s)


def _hierarchy(words: list[str]) -> tuple[list[str], list[int], list[list[float]], list[list[str]]]:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    open_joints: list[int] = []
    i = 0
    while i < len(words):
        word = words[i]
        if word in {"ROOT", "JOINT"}:
            parents.append(open_joints[-1] if open_joints else -1)
            names.append(words[i + 1])
            channels.append([])
            offsets.append([0.0, 0.0, 0.0])
            open_joints.append(len(names) - 1)
        elif word == "End":
            open_joints.append(-2)  # an end site has an offset that nothing needs
        elif word == "OFFSET" and open_joints[-1] >= 0:
            offsets[open_joints[-1]] = [float(v) for v in words[i + 1 : i + 4]]
        elif word == "CHANNELS":
            channels[open_joints[-1]] = words[i + 2 : i + 2 + int(words[i + 1])]
        elif word == "}":
            open_joints.pop()
        i += 1
    if not names:
        raise ValueError("no ROOT")
    return names, parents, offsets, channels


def _frames(words: list[str]) -> tuple[int, float, np.ndarray]:
    frames = int(words[words.index("Frames:") + 1])
    at = words.index("Time:") + 1
    return frames, float(words[at]), np.array(words[at + 1 :], dtype=np.float64)


def _forward(parents: list[int], channels: list[list[str]], table: Tensor) -> tuple[Tensor, Tensor]:
    """World rotations (frames, joints, 3, 3) and the root's position from the channels (degrees), in their order."""
    world: list[Tensor] = []
    root = torch.zeros(len(table), 3)
    column = 0
    for joint, (parent, names) in enumerate(zip(parents, channels, strict=True)):
        local = torch.eye(3).expand(len(table), 3, 3)
        for name in names:
            values, axis = table[:, column], "XYZ".index(name[0].upper())
            column += 1
            if name.lower().endswith("rotation"):
                vector = torch.zeros(len(table), 3)
                vector[:, axis] = torch.deg2rad(values)
                local = local @ matrix_from_axis_angle(vector)
            elif joint == 0:
                root[:, axis] = values
        world.append(local if parent < 0 else world[parent] @ local)
    return torch.stack(world, 1), root
