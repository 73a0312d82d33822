"""The names that capture systems and rigs give to joints, matched to the SMPL-X body's.

Known: CMU and its conversions, Biovision, Mixamo, AnimatedDrawings, fairmotion, Perception Neuron, LAFAN1, Xsens,
Rokoko, OptiTrack Motive, HumanIK, (Azure) Kinect, DAZ, Poser, MakeHuman, MocapNET, Character Creator, 3ds Max Biped,
Source's ValveBiped, Unreal, Unity/VRM, Rigify, Auto-Rig Pro, AdvancedSkeleton, MikuMikuDance (Japanese and English),
and SMPL/SMPL-X itself. What (almost) all names of a skeleton begin or end with says whose it is, not which joint, and
is left away. The trunk is read off the tree instead of the names: the pelvis is where the legs meet, the chest where
the arms meet.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avatars.errors import InputError

# Best first: `LeftShoulder` is the upper arm in some rigs and the collar in those that also have `LeftArm`; `leg` is
# the shin in most, but the thigh in those that have a `knee`, too.
_LIMBS: dict[str, tuple[str, ...]] = {
    "hip": ("upleg", "upperleg", "thigh", "thighbend", "femur", "hip", "leg"),
    "knee": ("knee", "lowerleg", "lowleg", "leg", "calf", "shin", "tibia"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toe", "toes", "ball", "toe0", "toeex", "foot"),
    "shoulder": ("arm", "upperarm", "uparm", "uarm", "shldr", "shldrbend", "humerus", "shoulder"),
    "elbow": ("elbow", "forearm", "forearmbend", "lowerarm", "lowarm", "farm", "radius"),
    "wrist": ("wrist", "hand"),
    "collar": ("collar", "clavicle", "collarbone", "scapula", "shoulder"),
}
_ALIASES = frozenset(alias for aliases in _LIMBS.values() for alias in aliases)
_HEAD = ("head", "head1", "mhead")
_NEEDED = ("hip", "knee", "ankle", "shoulder", "elbow")
_FINGER = re.compile(
    r"^(?:hand|inhand)?(thumb|index|middle|mid|ring|pinky|pinkie|little)(?:finger)?0?([123]|proximal|intermediate|distal)$"
)
_FINGER_NAMES = {"mid": "middle", "pinkie": "pinky", "little": "pinky"}
_PHALANGES = {"proximal": "1", "intermediate": "2", "distal": "3"}
_RIG_PREFIX = re.compile(
    r"^(mixamorig\d*|character\d+|valvebiped|bip0*\d+|ccbase|cc_base|def|org|jbip[clr]?)(?:[_\-. ]+|(?=[A-Z]))",
    re.IGNORECASE,
)
_COPY = re.compile(r"\.\d{3}$")
"""What Blender appends to a name that exists already."""
_MIDDLE = re.compile(r"[_.][mMxXcC]$|^[mMcC][_.]")
"""Side of what has none, as AdvancedSkeleton, Auto-Rig Pro and VRoid write it."""
_NOTE = re.compile(r"\s*\[[^\]]*\]$|_(?:stretch|bind|jnt|joint|bone)(?=[_.]|$)", re.IGNORECASE)
_SEPARATOR = re.compile(r"[_\-. ]")
_SHARED = 0.8
"""Share of the names that have to begin or end alike for that to be no part of a joint's name."""
_MINOR = re.compile(
    "|".join(("finger", "thumb", "index", "middle", "ring", "pink", "little", "eye", "brow", "lip", "jaw", "teeth",
              "tongue", "cheek", "nose", "ear", "hair", "twist", "roll", "ik", "pole", "helper", "breast", "skirt",
              "指", "目", "髪", "捩")), re.IGNORECASE)  # fmt: skip
# MikuMikuDance's joints; the longest first, as 足首 (ankle) begins with 足 (leg).
_JAPANESE = (
    ("足首", "ankle"), ("足先", "toe"), ("つま先", "toe"), ("爪先", "toe"), ("手首", "wrist"), ("ひざ", "knee"),
    ("膝", "knee"), ("ひじ", "elbow"), ("肘", "elbow"), ("肩", "shoulder"), ("腕", "arm"), ("足", "leg"),
    ("頭", "head"), ("首", "neck"), ("親指", "thumb"), ("人差指", "index"), ("人指", "index"), ("中指", "middle"),
    ("薬指", "ring"), ("小指", "little"),
)  # fmt: skip


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

    Raises InputError, saying which bones are missing and which names could be theirs, when a leg or arm is not found.
    """
    plain = _bare(names)
    sided = [_side_and_part(name) for name in plain]
    limbs: dict[str, int] = {}
    for side in ("left", "right"):
        taken: set[int] = set()
        for part, aliases in _LIMBS.items():
            joint = next((sided.index((side, alias)) for alias in aliases if (side, alias) in sided), None)
            if joint is not None and joint not in taken:
                limbs[f"{side}_{part}"] = joint
                taken.add(joint)
    if any(f"{side}_{part}" not in limbs for part in _NEEDED for side in ("left", "right")):
        raise InputError(f"{path}: {_what_is_missing(names, plain, parents, limbs)}")
    limbs |= _fingers(sided)
    pelvis = _meeting(limbs["left_hip"], limbs["right_hip"], parents)
    arms = [limbs.get(f"{side}_collar", limbs[f"{side}_shoulder"]) for side in ("left", "right")]
    chest = _meeting(arms[0], arms[1], parents)
    head = _head(plain, parents, chest, limbs)
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


def _what_is_missing(names: Sequence[str], plain: Sequence[str], parents: Sequence[int], limbs: dict[str, int]) -> str:
    """One sentence: the bones without which no body can be posed, and the skeleton's names that could be theirs: those
    from which other joints hang, without fingers, face and helpers."""
    missing = []
    for part in _NEEDED:
        lacking = [side for side in ("left", "right") if f"{side}_{part}" not in limbs]
        missing += [f"{' and '.join(lacking)} {part}"] if lacking else []
    sides = ("Left", "Right") if all(not item.startswith("right") for item in missing) else ("Right",)
    likely = [
        names[i]
        for i in sorted(set(parents) - {-1})
        if i not in limbs.values() and parents[i] >= 0 and not _MINOR.search(plain[i])
    ]
    shown = f"; its joints of other names are {', '.join(likely[:8])}{' ...' * (len(likely) > 8)}" if likely else ""
    mixamo = {"hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "shoulder": "Arm", "elbow": "ForeArm"}
    wanted = ", ".join(f"{sides[0]}{mixamo[item.split()[-1]]}" for item in missing)
    return f"the skeleton has no {', no '.join(missing)}{shown}. Rename those that are meant as in Mixamo ({wanted})."


def _head(plain: Sequence[str], parents: Sequence[int], chest: int, limbs: dict[str, int]) -> int | None:
    """The joint called head, else the last of the joints called spine or neck above the chest (Rigify's spine.006)."""
    named = next((i for i, name in enumerate(plain) if _letters(_japanese(_MIDDLE.sub("", name))) in _HEAD), None)
    if named is not None:
        return named
    above = [
        i
        for i, name in enumerate(plain)
        if _letters(_COPY.sub("", name)) == "spine" and i != chest and chest in _ancestors(i, parents)
    ]
    return max(above, key=lambda i: len(_ancestors(i, parents)), default=None)


def _bare(names: Sequence[str]) -> list[str]:
    """The names without name spaces, notes, and what (almost) all of them begin or end with."""
    bare = [re.split(r"[:|]", unicodedata.normalize("NFKC", name))[-1].strip() or name for name in names]
    own = [name for name in names if not name.endswith("_end")] or list(names)
    for _ in range(3):
        before = bare
        first, last = (_shared([name[::step] for name, given in zip(bare, names, strict=True) if given in own])
                       for step in (1, -1))  # fmt: skip
        bare = [_without(name, first) for name in bare]
        bare = [_without(name[::-1], last)[::-1] for name in bare]
        bare = [_NOTE.sub("", _RIG_PREFIX.sub("", name)) or name for name in bare]
        if bare == before:
            break
    return bare


def _shared(names: Sequence[str]) -> str:
    """The longest beginning, up to a separator, of `_SHARED` of the names; "" in a skeleton of few joints."""
    cuts: Counter[str] = Counter()
    for name in names:
        cuts.update({_SEPARATOR.sub("_", name[: match.end()]) for match in _SEPARATOR.finditer(name[:-1])})
    shared = [cut for cut, count in cuts.items() if count >= max(_SHARED * len(names), 8)]
    return max(shared, key=len, default="")


def _without(name: str, beginning: str) -> str:
    return name[len(beginning) :] if _SEPARATOR.sub("_", name).startswith(beginning) and name != beginning else name


def _japanese(name: str) -> str:
    """A Japanese name in English; others as they are."""
    for word, english in _JAPANESE:
        if name.startswith(word):
            return english + name[len(word) :]
    return name


def _letters(name: str) -> str:
    """Lower case without separators; letters of other scripts stay, as they tell one joint from another."""
    return re.sub(r"[^\w]|_", "", name.lower())


def _side_and_part(name: str) -> tuple[str, str]:
    """("left" | "right" | "", what remains), lower case, without separators."""
    name = _COPY.sub("", name)
    if name[:1] in "左右" and name:
        return {"左": "left", "右": "right"}[name[0]], _letters(_japanese(name[1:]))
    for pattern in (
        r"^(?P<side>left|right|Left|Right|LEFT|RIGHT)(?P<part>.+)$",
        r"^(?P<part>.+?)[_\-. ]?(?P<side>left|right|Left|Right|LEFT|RIGHT)$",
        r"^(?P<side>[lrLR])[_\-. ](?P<part>.+)$",
        r"^(?P<part>.+)[_\-. ](?P<side>[lrLR])$",
        r"^(?P<side>[lrLR])(?P<part>[A-Z].*)$",
        r"^(?P<side>[lr])(?P<part>thumb|fingers|hipjoint)$",
    ):
        match = re.match(pattern, name)
        if match:
            side = "left" if match["side"].lower().startswith("l") else "right"
            return side, _known(_letters(match["part"]))
    lower = _letters(name)
    if lower[:1] in ("l", "r") and _known(lower[1:]) in _ALIASES:
        return {"l": "left", "r": "right"}[lower[0]], _known(lower[1:])
    return "", lower


def _known(part: str) -> str:
    """MakeHuman and others number the parts of a limb: the first stands for the limb. Second Life writes mHipLeft."""
    match = re.fullmatch(r"m?([a-z]+?)(?:0*1)?", part)
    return match[1] if match and part not in _ALIASES and match[1] in _ALIASES else part


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
