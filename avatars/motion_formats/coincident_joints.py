"""Joints of a skeleton that lie on top of each other count as one: which of them says how the bone is turned.

Rigs split a joint into several of zero length (CMU's LHipJoint, roll and buffer bones), and some turn one of them by
what the next takes back. Only the last one before a bone turns what is seen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from avatars.motion_formats.bvh import Bvh
from avatars.motion_formats.skeleton_names import JointMap

_ZERO = 1e-3
"""Of the longest offset."""
_NEXT = {"hip": "knee", "knee": "ankle", "ankle": "foot", "collar": "shoulder", "shoulder": "elbow", "elbow": "wrist"}
_AGREE_DEG = 1.0
_TOGETHER = 0.35
_TURNED_DEG = 20.0


def counted_as_one(bvh: Bvh, joints: JointMap) -> JointMap:
    """The same parts of the body, each played by the joint that carries its bone.

    A limb's part passes to the last joint at its place before the bone; a collar without length is left out. A joint
    of the trunk all of whose bones hang from joints at its place passes to one of these when they turn alike: its own
    turning is then seen nowhere.
    """
    at_parent = _at_parent(bvh)
    if not at_parent.any():
        return joints
    limbs = dict(joints.limbs)
    for name, joint in joints.limbs.items():
        side, _, part = name.partition("_")
        child = joints.limbs.get(f"{side}_{_NEXT.get(part, '')}")
        if child is None:
            continue
        carrier = _last_in_place(bvh, joint, child, at_parent)
        if carrier == child and part == "collar":
            del limbs[name]
        elif carrier != child:
            limbs[name] = carrier
    rotations, _ = bvh.global_pose()
    played: dict[int, int] = {}
    for joint in (joints.pelvis, *joints.spine, *joints.neck):
        above = bvh.parents[joint]
        # What lies where a joint that was passed on does turns with that group.
        grouped = bool(at_parent[joint]) and played.get(above, above) != above
        played[joint] = played[above] if grouped else _carrier(bvh, joint, at_parent, rotations)
    pelvis = played[joints.pelvis]
    spine = tuple(dict.fromkeys(played[joint] for joint in joints.spine if played[joint] != pelvis))
    neck = tuple(dict.fromkeys(played[joint] for joint in joints.neck if played[joint] not in (pelvis, *spine)))
    return replace(joints, pelvis=pelvis, spine=spine, neck=neck, limbs=limbs)


def _at_parent(bvh: Bvh) -> np.ndarray:
    """Per joint whether it always lies where its parent does."""
    lengths = np.linalg.norm(bvh.offsets, axis=1)
    zero = lengths <= _ZERO * lengths[1:].max(initial=0.0)
    zero[0] = False
    moved = [any(channel.endswith("position") for channel in channels) for channels in bvh.channels]
    if any(moved[1:]):
        _, positions = bvh.local_pose()
        lengths = np.linalg.norm(positions, axis=-1).max(0)
        zero &= lengths <= _ZERO * max(float(np.linalg.norm(bvh.offsets, axis=1).max()), 1e-12)
    return zero


def _last_in_place(bvh: Bvh, joint: int, child: int, at_parent: np.ndarray) -> int:
    """The last joint on the way from `joint` to `child` that lies where `joint` does."""
    way = [child]
    while way[-1] not in (joint, -1):
        way.append(bvh.parents[way[-1]])
    if way[-1] != joint:
        return joint
    for below in reversed(way[:-1]):
        if not at_parent[below]:
            break
        joint = below
    return joint


def _carrier(bvh: Bvh, joint: int, at_parent: np.ndarray, rotations: Float[np.ndarray, "frames joints 3 3"]) -> int:
    """The joint that tells how the bones at a trunk joint's place are turned as a whole: itself, or one below."""
    children = [i for i, parent in enumerate(bvh.parents) if parent == joint and _has_length_below(bvh, i)]
    if not children or not all(at_parent[i] for i in children):
        return joint
    turns = rotations[:, children]
    apart = _angles_deg(turns[:, :, None], turns[:, None])
    middle = int(apart.mean(0).sum(1).argmin())
    away = _angles_deg(turns, rotations[:, joint][:, None]).mean()
    if apart.max() < _AGREE_DEG or (away > _TURNED_DEG and apart.mean() < _TOGETHER * away):
        return _carrier(bvh, children[middle], at_parent, rotations)
    return joint


def _has_length_below(bvh: Bvh, joint: int) -> bool:
    """Whether a joint moves anything: it, or one below it, has a child elsewhere that turns or ends a bone."""
    children = [i for i, parent in enumerate(bvh.parents) if parent == joint]
    return any(np.linalg.norm(bvh.offsets[i]) > 0 or _has_length_below(bvh, i) for i in children)


def _angles_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    cos = (np.einsum("...ij,...ij->...", a, b) - 1) / 2
    return np.rad2deg(np.arccos(np.clip(cos, -1.0, 1.0)))
