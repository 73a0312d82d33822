"""UCF101 (Soomro et al. 2012): Class/v_Class_gGG_cCC.avi, split by trainlist0N.txt and testlist0N.txt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from actionrec.errors import DataError
from actionrec.sources.listing import Entry, Listing, Split, listing_of, of_classes, require_some, videos_below
from actionrec.sources.text_lists import read_rows

NAME = re.compile(r"^v_(\w+?)_g(\d{2})_c(\d{2})$")


def build(
    root: str | Path, *, lists: str | Path, fold: int = 1, classes: Sequence[str] | None = None,
    licence: str = "UCF101, research use",
) -> Listing:  # fmt: skip
    """The videos below `root` that the lists of a fold name. A group (g01 ...) is one source video.

    Raises DataError when a list is missing, names a video that is not there, or contradicts a file's class.
    """
    files = videos_below(root, what="UCF101's folder of classes")
    by_name = {path.name: path for path in files}
    entries, missing = [], []
    for split, name in (("train", f"trainlist0{fold}.txt"), ("test", f"testlist0{fold}.txt")):
        for number, line in read_rows(Path(lists) / name, what="split list"):
            folder, _, file = line.split()[0].replace("\\", "/").rpartition("/")
            if file in by_name:
                where = f"{name}, line {number}"
                entries.append(_entry(by_name[file], folder, split, where))  # type: ignore[arg-type]
            else:
                missing.append(f"{line.split()[0]} ({name}, line {number})")
    require_some(entries, files, root, expected="v_ApplyEyeMakeup_g08_c01.avi, as the lists name them")
    if missing:
        raise DataError(f"{len(missing)} of {len(missing) + len(entries)} listed videos are not below {root}: first "
                        f"{missing[0]}.")  # fmt: skip
    return listing_of(of_classes(entries, classes), licence=licence)


def _entry(path: Path, folder: str, split: Split, where: str) -> Entry:
    match = NAME.match(path.stem)
    if match is None or match[1].lower() != folder.lower():  # HandStandPushups is HandstandPushups in file names
        raise DataError(f"{where}: {path.name} is listed under {folder or 'no class'}, which its name contradicts.")
    group = f"{folder}_g{match[2]}"
    return Entry(path, folder, subject="", source=path.stem, split=split, source_video=group)
