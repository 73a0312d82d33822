"""Toyota Smarthome (trimmed): files named Activity_pPP_rRR_vVV_cCC.mp4 (person, repetition, video, camera).

Das et al. 2019: cross-subject, and two cross-view protocols of 19 activities.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from actionrec.sources.listing import Entry, Listing, Split, listing_of, of_classes, require_some, videos_below

Protocol = Literal["cross-subject", "cross-view-1", "cross-view-2"]
NAME = re.compile(r"^([A-Za-z.]+)_p(\d{2})_r(\d{2})_v?(\d{2})_c(\d{2})$")

TRAIN_SUBJECTS = frozenset((3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25))
TRAIN_CAMERAS = {"cross-view-1": frozenset((1,)), "cross-view-2": frozenset((1, 3, 4, 6, 7))}
VALIDATION_CAMERA, TEST_CAMERA = 5, 2
CROSS_VIEW_ACTIVITIES = (
    "Cutbread", "Drink.Frombottle", "Drink.Fromcan", "Drink.Fromcup", "Drink.Fromglass", "Eat.Attable", "Eat.Snack",
    "Enter", "Getup", "Leave", "Pour.Frombottle", "Pour.Fromcan", "Readbook", "Sitdown", "Takepills", "Uselaptop",
    "Usetablet", "Usetelephone", "Walk",
)  # fmt: skip


def split_of(subject: int, camera: int, protocol: Protocol) -> Split:
    """Which side of a protocol a clip is on; "" when the protocol leaves it out."""
    if protocol == "cross-subject":
        return "train" if subject in TRAIN_SUBJECTS else "test"
    if camera in TRAIN_CAMERAS[protocol]:
        return "train"
    return {VALIDATION_CAMERA: "validation", TEST_CAMERA: "test"}.get(camera, "")  # type: ignore[return-value]


def build(
    root: str | Path, *, protocol: Protocol = "cross-subject", classes: Sequence[str] | None = None,
    licence: str = "Toyota Smarthome terms",
) -> Listing:  # fmt: skip
    """The trimmed videos below `root`. Raises DataError when no file has the naming or a class has no clip."""
    files = videos_below(root, what="Toyota Smarthome's folder of trimmed videos")
    entries = [entry for entry in (_entry(path, protocol) for path in files) if entry is not None]
    require_some(entries, files, root, expected="Cook.Cleandishes_p02_r00_v02_c03.mp4")
    if protocol != "cross-subject":
        entries = [entry for entry in entries if entry.split and entry.label in CROSS_VIEW_ACTIVITIES]
        require_some(entries, files, root, expected="one of the protocol's activities and cameras")
    return listing_of(of_classes(entries, classes), licence=licence)


def _entry(path: Path, protocol: Protocol) -> Entry | None:
    match = NAME.match(path.stem)
    if match is None:
        return None
    label, (subject, repetition, video, camera) = match[1], map(int, match.groups()[1:])
    return Entry(
        path,
        label,
        subject=f"p{subject:02d}",
        source=path.stem,
        split=split_of(subject, camera, protocol),
        camera=f"c{camera:02d}",
        source_video=f"p{subject:02d}_r{repetition:02d}_v{video:02d}_c{camera:02d}",
    )
