"""Kinetics-style csv: label,youtube_id,time_start,time_end,split, with videos named id_SSSSSS_EEEEEE.mp4."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from actionrec.errors import DataError
from actionrec.sources.listing import Entry, Listing, Skipped, Split, listing_of, of_classes, videos_below
from actionrec.sources.text_lists import read_text

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
        where = f"{table}, line {number}"
        start_s, end_s = (_seconds(row[key], key, where) for key in ("time_start", "time_end"))
        name = f"{row['youtube_id']}_{start_s:06d}_{end_s:06d}"
        path = files.get(name) or files.get(row["youtube_id"])
        split = row["split"].lower()
        if split not in SPLITS:
            known = ", ".join(filter(None, SPLITS))
            raise DataError(f"{where}: split is {row['split']!r}, expected {known} or nothing.")
        if path is None:
            absent.append(Skipped(Path(root) / f"{name}.mp4", f"{name}.mp4: listed, but not below {root}"))
            continue
        entries.append(Entry(path, row["label"], "", name, SPLITS[split], source_video=row["youtube_id"]))
    if not entries:
        raise DataError(f"None of the {len(absent)} clips of {table} is below {root}; expected {absent[0].path.name}.")
    listing = listing_of(of_classes(entries, classes), licence=licence)
    return Listing(listing.clips, (*listing.skipped, *absent))


def _seconds(value: str, key: str, where: str) -> int:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < 1e6:
        raise DataError(f"{where}: {key} is {value!r}, expected seconds.")
    return int(seconds)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The table's rows that hold something, by the number of their last line.

    Raises DataError for a table without the columns, and for a row that has fewer or more fields, or lacks a label or
    a video.
    """
    reader = csv.reader(io.StringIO(read_text(path, what="table"), newline=""))
    found: list[tuple[int, dict[str, str]]] = []
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        lacking = [name for name in COLUMNS if name not in names]
        if lacking:
            raise DataError(f"{path} lacks the columns {', '.join(lacking)}; found {', '.join(names) or 'nothing'}.")
        for fields in reader:
            if any(field.strip() for field in fields):
                found.append((reader.line_num, _row(fields, names, f"{path}, line {reader.line_num}")))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} is no line of a csv ({error}).") from None
    if not found:
        raise DataError(f"{path} lists no clip.")
    return found


def _row(fields: list[str], names: list[str], where: str) -> dict[str, str]:
    row = dict(zip(names, (field.strip() for field in fields), strict=False))
    short = [name for name in COLUMNS if name not in row]
    if short:
        raise DataError(f"{where} has {len(fields)} fields of {len(names)}; {', '.join(short)} missing.")
    if any(field.strip() for field in fields[len(names) :]):
        raise DataError(f"{where} has {len(fields)} fields, expected {len(names)}: put a label with commas in quotes.")
    empty = [name for name in ("label", "youtube_id") if row[name].lower() in ("", "nan")]
    if empty:
        raise DataError(f"{where}: {' and '.join(empty)} empty.")
    return row
