"""The action class that the name of a clip or motion tells, as the data sets of the field name their files."""

from __future__ import annotations

import re
from pathlib import Path

_HMDB = (
    "brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor fencing "
    "flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push pushup ride_bike "
    "ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand swing_baseball "
    "sword sword_exercise talk throw turn walk wave"
)
_NAMED = tuple(
    re.compile(pattern)
    for pattern in (
        r"^v_(?P<label>\w+?)_g\d+_c\d+$",  # UCF101
        rf"_(?P<label>{'|'.join(sorted(_HMDB.split(), key=len, reverse=True))})_[fhlu]_(?:cm|nm)_np\d_(?:ba|fr|le|ri)_"
        r"(?:bad|med|goo)_\d+$",  # HMDB51
        r"^(?P<label>[A-Za-z.]+)_p\d+_r\d+_v?\d+_c\d+$",  # Toyota Smarthome
        r"^person\d+_(?P<label>[a-z]+)_d\d+(?:_uncomp)?$",  # KTH
        r"^(?P<label>\d{3})_\d{3}_\d{3}$",  # LSA64
    )
)
_KINETICS = re.compile(r"^[\w-]{11}_\d{6}_\d{6}$")
"""A video's id and its seconds: the class is the folder's."""
_CODES = re.compile(r"^(?:[A-Z]\d+)+$")
"""NTU RGB+D's SsssCccPpppRrrrAaaa, HumanAct12's and the like."""
_STREAM = re.compile(r"[_-](?:rgb|color|colour|depth|ir|skeleton)$", re.IGNORECASE)
_SPELLED = {"HandStandPushups": "HandstandPushups"}
"""UCF101's files write one class otherwise than its folders and lists."""


def label_from_name(path: Path) -> str:
    """The action that a file name tells: "wave_07.npz" -> "wave", "S001C001P001R001A043_rgb.avi" -> "A043".

    In NTU RGB+D, UCF101, HMDB51, Toyota Smarthome and others of the same kinds it is the data set's class or its code,
    in Kinetics the folder's name. Elsewhere the number at the end goes, unless it is what tells classes apart (A001).
    """
    stem = _STREAM.sub("", path.stem)
    for pattern in _NAMED:
        match = pattern.search(stem)
        if match:
            return _SPELLED.get(match["label"], match["label"])
    if _KINETICS.match(stem):
        return path.absolute().parent.name or stem
    code = _action_code(stem)
    if code:
        return code
    without = stem.rstrip("0123456789").rstrip("_- ")
    return without if len(without) > 1 else stem


def _action_code(stem: str) -> str:
    """The part that begins with A in a name made of codes alone (A001, a12_s03_t1, P01G01A0101); "" in other names."""
    parts = re.findall(r"[A-Z]\d+", stem) if _CODES.match(stem) else stem.split("_")
    if not all(re.fullmatch(r"[A-Za-z]\d+", part) for part in parts):
        return ""
    actions = [part for part in parts if part[0] in "aA"]
    return actions[0] if len(actions) == 1 else ""
