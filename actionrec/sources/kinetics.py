"""Kinetics-style csv: label,youtube_id,time_start,time_end,split, with videos named id_SSSSSS_EEEEEE.mp4."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from actionrec.errors import DataError
from actionrec.sources.listing import Entry, Listing, Skipped, Split, listing_of, of_classes, videos_below

COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
SPLITS: dict[str, Split] = {"train": "train", "validate": "validation", "val": "validation", "validation": "validation",
                            "test": "test", "": ""}  # fmt: skip


def build(
    root: str | Path, *, table: str | Path, classes: Sequence[str] | None = None,
    licence: str = "as stated by each video's owner",
) -> Listing:  # fmt: skip
    """The clips of a csv that lie below `root`. A video that is not there (they vanish) is skipped and counted.

    Raises DataError when the csv lacks a column, names an unknown split or none of its videos is there.
    """
    files = {path.stem: path for path in videos_below(root, what="the folder of Kinetics-style videos")}
    entries, absent = [], []
    for number, row in _rows(Path(table)):
        name = f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
        path = files.get(name) or files.get(row["youtube_id"])
        if row["split"] not in SPLITS:
            raise DataError(f"{table}, line {number}: split is {row['split']!r}, expected {', '.join(SPLITS)}.")
        if path is None:
            absent.append(Skipped(Path(root) / f"{name}.mp4", f"{name}.mp4: listed, but not below {root}"))
            continue
        entries.append(Entry(path, row["label"], "", name, SPLITS[row["split"]], source_video=row["youtube_id"]))
    if not entries:
        raise DataError(f"None of the {len(absent)} clips of {table} is below {root}; expected {absent[0].path.name}.")
    listing = listing_of(of_classes(entries, classes), licence=licence)
    return Listing(listing.clips, (*listing.skipped, *absent))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise DataError(f"No table at {path}.")
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        lacking = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if lacking:
            raise DataError(f"{path} lacks the columns {', '.join(lacking)}; found {reader.fieldnames}.")
        rows = list(enumerate(reader, 2))
    if not rows:
        raise DataError(f"{path} lists no clip.")
    return rows
