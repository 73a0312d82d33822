"""Plain folders: ROOT/class/clip.mp4, or ROOT/split/class/clip.mp4. Names like anna__take3.mp4 state the subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actionrec.errors import DataError
from actionrec.sources.listing import Entry, Listing, Split, listing_of, of_classes, require_folder, videos_below

SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation",
                            "test": "test"}  # fmt: skip


def build(root: str | Path, *, classes: Sequence[str] | None = None, licence: str = "", split: Split = "") -> Listing:
    """Every video in a class folder; the split is the folder above it where that is train, val or test, else `split`.

    Raises DataError when videos lie outside class folders, or a class folder holds none.
    """
    root = require_folder(root, what="a folder of classes")
    files = videos_below(root, what="a folder of classes")
    entries = [_entry(path, root, split) for path in files]
    tops = {p.relative_to(root).parts[0].lower() for p in files}
    levels = [root / p.name for p in root.iterdir() if p.is_dir()]
    folders = [q for p in levels for q in (p.iterdir() if tops <= set(SPLITS) else [p]) if q.is_dir()]
    empty = sorted(p.name for p in folders if not any(q.is_relative_to(p) for q in files))
    if empty:
        raise DataError(f"{len(empty)} of {len(folders)} class folders below {root} hold no video: {', '.join(empty)}.")
    return listing_of(of_classes(entries, classes), licence=licence)


def _entry(path: Path, root: Path, split: Split) -> Entry:
    parts = path.relative_to(root).parts
    stated = SPLITS.get(parts[0].lower())
    inner = parts[1:] if stated and len(parts) > 2 else parts
    if len(inner) < 2:
        raise DataError(f"{path} lies in no class folder; expected {root}/CLASS/clip.mp4.")
    subject = path.stem.split("__")[0] if "__" in path.stem else ""
    return Entry(path, inner[0], subject, "/".join(inner), stated or split, source_video="/".join(inner))
