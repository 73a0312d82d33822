"""NTU RGB+D 60 and 120: files named SsssCcccPpppRrrrAaaa (setup, camera, performer, replication, action).

Shahroudy et al. 2016 (60 actions, cross-subject and cross-view); Liu et al. 2019 (120 actions, cross-subject and
cross-setup).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from actionrec.errors import DataError
from actionrec.sources.listing import Entry, Listing, Split, listing_of, of_classes, require_some, videos_below

Protocol = Literal["60-cross-subject", "60-cross-view", "120-cross-subject", "120-cross-setup"]
NAME = re.compile(r"^S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})(?:_rgb)?$")

TRAIN_SUBJECTS_60 = frozenset((1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38))
TRAIN_SUBJECTS_120 = TRAIN_SUBJECTS_60 | frozenset(
    (45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94,
     95, 97, 98, 100, 103)
)  # fmt: skip
TRAIN_CAMERAS = frozenset((2, 3))  # camera 1 is the test view

ACTION_NAMES = {
    1: "drink water", 2: "eat meal/snack", 3: "brushing teeth", 4: "brushing hair", 5: "drop", 6: "pickup", 7: "throw",
    8: "sitting down", 9: "standing up", 10: "clapping", 11: "reading", 12: "writing", 13: "tear up paper",
    14: "wear jacket", 15: "take off jacket", 16: "wear a shoe", 17: "take off a shoe", 18: "wear on glasses",
    19: "take off glasses", 20: "put on a hat/cap", 21: "take off a hat/cap", 22: "cheer up", 23: "hand waving",
    24: "kicking something", 25: "reach into pocket", 26: "hopping", 27: "jump up", 28: "make a phone call",
    29: "playing with phone/tablet", 30: "typing on a keyboard", 31: "pointing to something", 32: "taking a selfie",
    33: "check time", 34: "rub two hands together", 35: "nod head/bow", 36: "shake head", 37: "wipe face",
    38: "salute", 39: "put the palms together", 40: "cross hands in front",
}  # fmt: skip
"""Single-person daily actions; the others keep their code (A041 ...)."""


def label_of(action: int) -> str:
    """The action's name, or its code where it has none here."""
    return ACTION_NAMES.get(action, f"A{action:03d}")


def split_of(setup: int, camera: int, performer: int, protocol: Protocol) -> Split:
    """Which side of a protocol a clip is on."""
    if protocol == "60-cross-subject":
        train = performer in TRAIN_SUBJECTS_60
    elif protocol == "60-cross-view":
        train = camera in TRAIN_CAMERAS
    elif protocol == "120-cross-subject":
        train = performer in TRAIN_SUBJECTS_120
    else:
        train = setup % 2 == 0
    return "train" if train else "test"


def build(
    root: str | Path, *, protocol: Protocol = "60-cross-subject", classes: Sequence[str] | None = None,
    licence: str = "NTU RGB+D terms",
) -> Listing:  # fmt: skip
    """The RGB videos below `root`; subjects are named P001 ..., a performance is one take, seen by three cameras.

    Raises DataError when no file has the naming, a class has no clip, or the protocol is of the other release.
    """
    files = videos_below(root, what="NTU RGB+D's folder of RGB videos")
    entries = [entry for entry in (_entry(path, protocol) for path in files) if entry is not None]
    require_some(entries, files, root, expected="S001C001P001R001A001_rgb.avi")
    if protocol.startswith("60"):
        beyond = [entry for entry in entries if int(entry.source[1:4]) > 17]
        if len(beyond) == len(entries):
            raise DataError(
                f"All {len(entries)} videos below {root} are of setups 18 to 32, which NTU RGB+D 60 lacks; choose a "
                "protocol of 120."
            )
        entries = [entry for entry in entries if int(entry.source[1:4]) <= 17]
    return listing_of(of_classes(entries, classes), licence=licence)


def _entry(path: Path, protocol: Protocol) -> Entry | None:
    match = NAME.match(path.stem)
    if match is None:
        return None
    setup, camera, performer, replication, action = map(int, match.groups())
    return Entry(
        path,
        label_of(action),
        subject=f"P{performer:03d}",
        source=f"S{setup:03d}P{performer:03d}R{replication:03d}A{action:03d}",
        split=split_of(setup, camera, performer, protocol),
        camera=f"S{setup:03d}C{camera:03d}",
        source_video=path.stem,
        background=f"S{setup:03d}",
    )
