"""HMDB51 (Kuehne et al. 2011): class/name.avi, split by class_test_splitN.txt with 1 train, 2 test, 0 neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from actionrec.errors import DataError
from actionrec.sources.listing import Entry, Listing, Split, listing_of, of_classes, require_some, videos_below
from actionrec.sources.text_lists import read_rows

SPLITS: dict[str, Split] = {"1": "train", "2": "test"}


def build(
    root: str | Path, *, lists: str | Path, fold: int = 1, classes: Sequence[str] | None = None,
    licence: str = "HMDB51, CC BY 4.0",
) -> Listing:  # fmt: skip
    """The videos below `root` that a fold uses; the source video is the name before the class.

    Raises DataError when there is no list of the fold, a flag is unknown or a listed video is not there.
    """
    files = videos_below(root, what="HMDB51's folder of classes")
    by_name = {(path.parent.name, path.name): path for path in files}
    found = sorted(Path(lists).glob(f"*_test_split{fold}.txt"))
    if not found:
        raise DataError(f"No split list at {lists}: expected brush_hair_test_split{fold}.txt and so on.")
    entries, missing = [], []
    for path in found:
        label = path.name.removesuffix(f"_test_split{fold}.txt")
        for name, flag in _flags(path):
            video = by_name.get((label, name))
            if flag in SPLITS and video is None:
                missing.append(f"{label}/{name}")
            elif flag in SPLITS and video is not None:
                entries.append(_entry(video, label, SPLITS[flag]))
    require_some(entries, files, root, expected="the lists name them (class/name.avi)")
    if missing:
        raise DataError(f"{len(missing)} of {len(missing) + len(entries)} listed videos are not below {root}: first "
                        f"{missing[0]}.")  # fmt: skip
    return listing_of(of_classes(entries, classes), licence=licence)


def _flags(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in read_rows(path, what="split list"):
        name, flag = line.rsplit(None, 1) if len(line.split()) > 1 else ("", line)
        if flag not in ("0", "1", "2") or not name:
            raise DataError(f"{path.name}, line {number}: {line!r} ends with {flag!r}, expected 0, 1 or 2.")
        pairs.append((name.strip(), flag))
    return pairs


def _entry(path: Path, label: str, split: Split) -> Entry:
    source_video = re.split(rf"_{re.escape(label)}_", path.stem)[0]
    return Entry(path, label, subject="", source=path.stem, split=split, source_video=source_video)
