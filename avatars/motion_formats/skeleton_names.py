"""The names that capture systems and rigs give to joints, matched to the SMPL-X body's.

Known: CMU and its conversions, Mixamo, AnimatedDrawings, fairmotion, Perception Neuron, LAFAN1, Xsens, Rokoko, DAZ,
3ds Max Biped, Unreal, Unity/VRM, and SMPL/SMPL-X itself. The trunk is read off the tree instead of the names: the
pelvis is where the legs meet, the chest where the arms meet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avatars.errors import InputError

# Best first: `LeftShoulder` is the upper arm in some rigs and the collar in those that also have `LeftArm`.
_LIMBS: dict[str, tuple[str, ...]] = {
    "hip": ("upleg", "upperleg", "thigh", "thighbend", "femur", "hip"),
    "knee": ("knee", "lowerleg", "lowleg", "leg", "calf", "shin", "tibia"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toe", "toes", "ball", "toe0", "foot"),
    "shoulder": ("arm", "upperarm", "uparm", "shldr", "shldrbend", "humerus", "shoulder"),
    "elbow": ("elbow", "forearm", "forearmbend", "lowerarm", "lowarm", "radius"),
    "wrist": ("wrist", "hand"),
    "collar": ("collar", "clavicle", "collarbone", "shoulder"),
}
_HEAD = ("head",)
_NEEDED = ("hip", "knee", "ankle", "shoulder", "elbow")
_FINGER = re.compile(
    r"^(?:hand|inhand)?(thumb|index|middle|mid|ring|pinky|pinkie|little)(?:finger)?0?([123]|proximal|intermediate|distal)$"
)
_FINGER_NAMES = {"mid": "middle", "pinkie": "pinky", "little": "pinky"}
_PHALANGES = {"proximal": "1", "intermediate": "2", "distal": "3"}
_RIG_PREFIX = re.compile(r"^(mixamorig\d*|bip0*1|ccbase|valvebiped|def|jbip[clr]?)[_\-. ]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class JointMap:
    """Which joints of a skeleton play which part; indices into the skeleton."""

    pelvis: int
    spine: tuple[int, ...]
    """From above the pelvis up to the chest, which carries the arms; may be empty."""
    neck: tuple[int, ...]
    """From above the chest up to the head; empty when the skeleton has no head."""
    limbs: dict[str, int]
    """SMPL-X name to joint: limbs, collars, fingers."""


def map_joints(names: Sequence[str], parents: Sequence[int], path: Path) -> JointMap:
    """Find the body in a skeleton.

    Raises InputError, listing what is missing and the names that were not understood, when a leg or arm is not found.
    """
    sided = [_side_and_part(name) for name in names]
    limbs: dict[str, int] = {}
    for side in ("left", "right"):
        taken: set[int] = set()
        for part, aliases in _LIMBS.items():
            joint = next((sided.index((side, alias)) for alias in aliases if (side, alias) in sided), None)
            if joint is not None and joint not in taken:
                limbs[f"{side}_{part}"] = joint
                taken.add(joint)
    missing = [f"{side}_{part}" for part in _NEEDED for side in ("left", "right") if f"{side}_{part}" not in limbs]
    if missing:
        unknown = [name for i, name in enumerate(names) if i not in limbs.values() and not name.endswith("_end")]
        shown = ", ".join(unknown[:20]) + (f" and {len(unknown) - 20} more" if len(unknown) > 20 else "")
        raise InputError(
            f"{path}: no joint found for {', '.join(missing)}; names not understood: {shown}. Rename the joints as in "
            "Mixamo (LeftUpLeg, LeftLeg, LeftFoot, LeftArm, LeftForeArm, LeftHand, ...) or as in SMPL-X."
        )
    limbs |= _fingers(sided)
    pelvis = _meeting(limbs["left_hip"], limbs["right_hip"], parents)
    arms = [limbs.get(f"{side}_collar", limbs[f"{side}_shoulder"]) for side in ("left", "right")]
    chest = _meeting(arms[0], arms[1], parents)
    head = next((i for i, name in enumerate(names) if _plain(name) in _HEAD), None)
    spine = _path(pelvis, chest, parents) or ()
    neck = () if head is None else (_path(chest, head, parents) or ())
    return JointMap(pelvis, spine, neck, limbs | _face(names))


def _fingers(sided: list[tuple[str, str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for joint, (side, part) in enumerate(sided):
        match = _FINGER.match(part)
        if side and match:
            finger = _FINGER_NAMES.get(match[1], match[1])
            found.setdefault(f"{side}_{finger}{_PHALANGES.get(match[2], match[2])}", joint)
    # A lone first phalanx (CMU's mitten) says nothing about how a finger bends.
    return {name: joint for name, joint in found.items() if f"{name[:-1]}1" in found and f"{name[:-1]}2" in found}


def _face(names: Sequence[str]) -> dict[str, int]:
    wanted = ("jaw", "left_eye_smplhf", "right_eye_smplhf")
    return {name: list(names).index(name) for name in wanted if name in names}


def _plain(name: str) -> str:
    name = _RIG_PREFIX.sub("", name.rpartition(":")[2])
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _side_and_part(name: str) -> tuple[str, str]:
    """("left" | "right" | "", what remains), lower case, without separators."""
    name = _RIG_PREFIX.sub("", name.rpartition(":")[2])
    for pattern in (
        r"^(?P<side>left|right|Left|Right|LEFT|RIGHT)(?P<part>.+)$",
        r"^(?P<part>.+?)[_\-. ]?(?P<side>left|right|Left|Right)$",
        r"^(?P<side>[lrLR])[_\-. ](?P<part>.+)$",
        r"^(?P<part>.+)[_\-. ](?P<side>[lrLR])$",
        r"^(?P<side>[lrLR])(?P<part>[A-Z].*)$",
        r"^(?P<side>[lr])(?P<part>femur|tibia|foot|toes|clavicle|humerus|radius|wrist|hand|thumb|fingers|hipjoint)$",
    ):
        match = re.match(pattern, name)
        if match:
            side = "left" if match["side"].lower().startswith("l") else "right"
            return side, re.sub(r"[^a-z0-9]", "", match["part"].lower())
    return "", re.sub(r"[^a-z0-9]", "", name.lower())


def _ancestors(joint: int, parents: Sequence[int]) -> list[int]:
    line = [joint]
    while parents[line[-1]] >= 0:
        line.append(parents[line[-1]])
    return line


def _meeting(a: int, b: int, parents: Sequence[int]) -> int:
    line = set(_ancestors(a, parents))
    return next(joint for joint in _ancestors(b, parents) if joint in line and joint not in (a, b))


def _path(top: int, bottom: int, parents: Sequence[int]) -> tuple[int, ...] | None:
    """Joints after `top` down to `bottom`; None when `bottom` does not hang below `top`."""
    line = _ancestors(bottom, parents)
    return tuple(reversed(line[: line.index(top)])) if top in line else None
