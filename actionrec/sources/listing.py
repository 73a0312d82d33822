"""What every builder shares: find files, keep the wanted classes, probe and hash, report what was left out."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from actionrec.decoding import BrokenVideo, probe
from actionrec.errors import DataError
from actionrec.manifest import ManifestClip, write_manifest
from actionrec.sources.text_lists import read_text

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")
Split = Literal["train", "validation", "test", ""]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a data set, as its name and the data set's lists tell."""

    path: Path
    label: str
    subject: str
    source: str
    """The performance: clips of one take seen by several cameras share it."""
    split: Split
    camera: str = ""
    source_video: str = ""
    background: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that did not become a clip."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The clips of a data set and what was left out of it."""

    clips: tuple[ManifestClip, ...]
    """Paths are absolute until `save`."""
    skipped: tuple[Skipped, ...]

    def save(self, path: str | Path) -> Path:
        """Write the manifest, its clips' paths relative to its folder. Raises DataError when something is there."""
        import os

        folder = Path(path).absolute().parent
        moved = (_replace_path(c, Path(os.path.relpath(c.path, folder)).as_posix()) for c in self.clips)
        return write_manifest(path, moved, fresh=True)

    def summary(self) -> str:
        """Counts by split, and of what was skipped."""
        splits = Counter(clip.split or "no split" for clip in self.clips)
        classes = len({clip.label for clip in self.clips})
        lines = [f"{len(self.clips)} clips of {classes} classes: " + ", ".join(f"{n} {s}" for s, n in splits.items())]
        if self.skipped:
            first = self.skipped[0]
            lines.append(f"{len(self.skipped)} skipped; the first: {first.reason}")
        return "\n".join(lines)


def _replace_path(clip: ManifestClip, path: str) -> ManifestClip:
    return replace(clip, path=path)


def require_folder(root: str | Path, *, what: str) -> Path:
    """`root` as a Path. Raises DataError when it is no folder."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"No folder at {root}; {what} is expected there.")
    return root


def videos_below(root: str | Path, *, what: str) -> list[Path]:
    """All video files below a folder, linked folders too, sorted; each folder is entered once.

    Raises DataError when there are none, or a folder cannot be read.
    """
    root = require_folder(root, what=what)
    files, others = _files_below(root)
    if not files:
        raise DataError(f"No video below {root} ({others} other files); {what} is expected there.")
    return files


def _files_below(root: Path) -> tuple[list[Path], int]:
    """Videos, and how many other files; folders themselves come before links to them, and no link leads back up."""
    here = root.resolve()
    entered, files, others, broken = {here}, [], 0, []
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        try:
            inside = sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path.name))
        except OSError as error:
            raise DataError(f"The folder {folder} cannot be read ({error.strerror}).") from None
        for path in inside:
            if path.is_dir():
                real = path.resolve()
                if real not in entered and not here.is_relative_to(real):
                    entered.add(real)
                    (waiting.append if path.is_symlink() else waiting.appendleft)(path)
            elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                files.append(path)
            elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_symlink():
                broken.append(path)
            else:
                others += path.is_file()
    if broken:
        log.warning("%d videos below %s are links to nothing, the first: %s", len(broken), root, min(broken))
    return sorted(files), others


def require_some(entries: Sequence[Entry], files: Sequence[Path], root: str | Path, *, expected: str) -> None:
    """Raise DataError when none of the files found has the naming of the data set."""
    if not entries:
        raise DataError(
            f"None of the {len(files)} videos below {root} is named like {expected}; found {files[0].name}. "
            "Is this the right folder?"
        )


def of_classes(entries: Sequence[Entry], classes: Sequence[str] | None) -> list[Entry]:
    """Entries of the wanted classes, named as `classes` spells them, all when it is None; capital letters do not
    matter. Raises DataError naming the classes without a clip."""
    if classes is None:
        return list(entries)
    known = Counter(entry.label for entry in entries)
    there = {label.casefold() for label in known}
    empty = [name for name in classes if name.casefold() not in there]
    if empty:
        near = difflib.get_close_matches(empty[0], known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"{len(empty)} of {len(classes)} classes have no clip here: {', '.join(empty[:5])}.{hint} "
            f"Classes found: {', '.join(sorted(known)[:8])}{' ...' if len(known) > 8 else ''}."
        )
    wanted = {name.casefold(): name for name in classes}
    found = ((entry, wanted.get(entry.label.casefold())) for entry in entries)
    return [replace(entry, label=name) for entry, name in found if name is not None]


def listing_of(entries: Iterable[Entry], *, licence: str = "") -> Listing:
    """Probe and hash every file. Raises DataError when no file can be decoded, or two have the same name and bytes."""
    clips, skipped = [], []
    for entry in entries:
        try:
            clips.append(_clip(entry, licence))
        except BrokenVideo as error:
            skipped.append(Skipped(entry.path, str(error)))
    if not clips:
        reason = f"; the first: {skipped[0].reason}" if skipped else ""
        raise DataError(f"None of the {len(skipped)} videos can be used{reason}.")
    return Listing(tuple(clips), tuple(skipped))


def _clip(entry: Entry, licence: str) -> ManifestClip:
    facts = probe(entry.path)
    sha256 = sha256_of(entry.path)
    return ManifestClip(
        id=f"{entry.path.stem}-{sha256[:8]}",
        path=entry.path.absolute().as_posix(),
        label=entry.label,
        subject=entry.subject,
        source=entry.source,
        kind="real",
        n_frames=facts.n_frames,
        fps=facts.fps,
        size_hw=facts.size_hw,
        sha256=sha256,
        background=entry.background,
        camera=entry.camera,
        split=entry.split,
        licence=licence,
        source_video=entry.source_video,
    )


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_classes(path: str | Path) -> list[str]:
    """Class names of a list: text with one per line, or JSON with a list `classes` of names or of {"name": ...}.

    Raises DataError when the file is missing, broken or empty.
    """
    path = Path(path)
    text = read_text(path, what="class list")
    if path.suffix == ".json":
        try:
            items = json.loads(text)["classes"]
            names = [item if isinstance(item, str) else item["name"] for item in items]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path} holds no JSON list `classes` ({error}).") from None
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise DataError(f"{path} names no class.")
    return names
