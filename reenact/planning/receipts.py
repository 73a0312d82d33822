"""What is in a data set's folder: which clips exist, whether they are whole, and how parts of one plan are joined.

A clip exists when `receipts/<id>.json` does: that file is written after the video and the labels it names by hash.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from actionrec.manifest import ManifestClip, ManifestError, read_manifest, write_manifest
from avatars.errors import InputError
from avatars.io.files import atomic_path, read_json, sha256_of
from avatars.io.part_files import is_part, remove, remove_dead
from avatars.io.typed_json import json_line, lines_of, read_json_lines, read_text, require_mapping, typed
from reenact.planning.data_set_paths import file_inside, require_id, require_relative
from reenact.planning.plan import PlannedClip, read_clips, read_rows, require_new_data_set


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that could not be made."""

    id: str
    label: str
    stage: str
    reason: str
    transient: bool = False
    """Whether it may work another time: it has been tried twice then."""


@dataclass(frozen=True, slots=True)
class Status:
    """How far a data set has come."""

    planned: int
    whole: int
    failures: tuple[Failure, ...]
    """Of the last run, as far as these clips are still missing."""
    missing_by_label: dict[str, int]


def receipt_path(out: Path, clip_id: str) -> Path:
    """Where a clip's receipt lies."""
    return out / "receipts" / f"{clip_id}.json"


def video_path(clip: PlannedClip) -> str:
    """Where a clip lies in its data set."""
    return f"clips/{class_folder(clip.label)}/{clip.id}.mp4"


@lru_cache(maxsize=4096)
def class_folder(label: str) -> str:
    """The name of the folder that a class's videos lie in."""
    return re.sub(r"[^\w.-]+", "_", label).strip(".") or "_"


def label_paths(clip: PlannedClip) -> tuple[str, ...]:
    """Where the labels of a clip's people lie, the first person's first."""
    return f"labels/{clip.id}.npz", *(f"labels/{clip.id}_{i + 2}.npz" for i in range(len(clip.others)))


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A file of labels."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class OtherPerson:
    """Somebody else in a clip."""

    label: str
    labels: LabelFile


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """An avatar, a motion or a place that a clip was made from."""

    name: str
    sha256: str
    licence: str
    consent: str = ""
    strata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `receipts/<id>.json` must hold; the file says more, which nobody relies on."""

    labels: LabelFile
    made_from: dict[str, MadeFrom]
    made_by: str
    others: tuple[OtherPerson, ...] = ()


def read_receipt(out: Path, clip_id: str) -> dict[str, Any]:
    """A clip's receipt as JSON holds it, checked to the last key that somebody uses.

    Raises InputError when it is not there, is of another clip, or names files outside of the data set.
    """
    path = receipt_path(out, require_id(clip_id, str(out)))
    where = str(path)
    found = require_mapping(read_json(file_inside(out, f"receipts/{clip_id}.json", str(out))), where)
    typed(Receipt, found, where, more=True)
    clip = manifest_clip(found.get("clip"), where)
    if clip.id != clip_id:
        raise InputError(f"{where} is the receipt of {clip.id}. Remove it, and run `reenact run` again.")
    for kind, name in [("clips", clip.path), *(("labels", labels["path"]) for labels in label_files(found))]:
        if not require_relative(name, where).startswith(f"{kind}/"):
            raise InputError(f"{where}: {name} lies elsewhere than in {kind}/; nothing of it was used.")
    missing = {"avatar", "motion", "background"} - set(found["made_from"])
    if missing:
        raise InputError(f"{where}: made_from lacks {', '.join(sorted(missing))}.")
    return found


def manifest_clip(values: Any, where: str) -> ManifestClip:
    """A clip of a data set from its JSON. Raises InputError, also for an id or a path that would lead elsewhere."""
    try:
        clip = ManifestClip.from_dict(values, where)
    except ManifestError as error:
        raise InputError(str(error)) from None
    require_id(clip.id, where)
    require_relative(clip.path, where)
    return clip


def manifest_clips(path: Path) -> list[ManifestClip]:
    """The clips that a data set's manifest.jsonl, accepted.jsonl or rejected.jsonl names. Raises InputError."""
    try:
        clips = read_manifest(path)
    except ManifestError as error:
        raise InputError(str(error)) from None
    for clip in clips:
        require_id(clip.id, str(path))
        require_relative(clip.path, str(path))
    return clips


def label_files(receipt: dict[str, Any]) -> list[dict[str, str]]:
    """Path and hash of the labels of a clip's people."""
    return [receipt["labels"], *(other["labels"] for other in receipt.get("others", ()))]


def whole_ids(out: Path) -> set[str]:
    """Ids of the clips that exist."""
    try:
        with os.scandir(out / "receipts") as found:
            return {e.name[:-5] for e in found if e.name.endswith(".json") and not e.name.startswith(".")}
    except FileNotFoundError:
        return set()


def is_whole(out: Path, clip: PlannedClip) -> bool:
    """Whether a clip has its receipt, its video and its labels."""
    files = (receipt_path(out, clip.id), out / video_path(clip), *(out / path for path in label_paths(clip)))
    return all(path.is_file() and path.stat().st_size > 0 for path in files)


def whole_clips(out: Path, clips: Iterable[PlannedClip]) -> set[str]:
    """Ids of those clips that have their receipt and still their video and labels."""
    found = _Found.look(out)
    return {clip.id for clip in clips if found.holds(clip.id, clip.label, len(clip.others))}


@dataclass(frozen=True, slots=True)
class _Found:
    """The names of what a data set holds; files that are empty are left out."""

    receipts: Set[str]
    videos: dict[str, Set[str]]
    """By the folder of their class."""
    labels: Set[str]

    @staticmethod
    def look(out: Path) -> _Found:
        """List the folders; what has no receipt need not be looked for."""
        receipts = whole_ids(out)
        videos: dict[str, Set[str]] = {}
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(out / "clips") as folders:
            videos = {folder.name: _files_in(folder.path) for folder in folders if receipts}
        return _Found(receipts, videos, _files_in(out / "labels") if receipts else frozenset())

    def holds(self, clip_id: str, label: str, others: int) -> bool:
        """Whether receipt, video and labels of a clip are there."""
        if clip_id not in self.receipts or f"{clip_id}.npz" not in self.labels:
            return False
        if f"{clip_id}.mp4" not in self.videos.get(class_folder(label), ()):
            return False
        return all(f"{clip_id}_{i + 2}.npz" in self.labels for i in range(others))


def _files_in(folder: str | Path) -> set[str]:
    """Names of the files in a folder that hold anything."""
    try:
        with os.scandir(folder) as found:
            return {entry.name for entry in found if entry.stat().st_size > 0}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def status(out: Path) -> Status:
    """Counted without opening a clip, so that a large data set answers at once. Raises InputError when there is no
    plan."""
    clips, found = read_rows(out), _Found.look(out)
    missing = {
        clip["id"]: clip["label"]
        for clip in clips
        if not found.holds(clip["id"], clip["label"], len(clip.get("others", ())))
    }
    failures = tuple(failure for failure in read_failures(out) if failure.id in missing)
    return Status(len(clips), len(clips) - len(missing), failures, dict(Counter(missing.values())))


def read_failures(out: Path) -> list[Failure]:
    """The lines of failures.jsonl; none when there is no such file. Raises InputError for a line that is none."""
    path = out / "failures.jsonl"
    return [typed(Failure, row, where) for where, row in read_json_lines(path)] if path.is_file() else []


def finish_manifest(out: Path, clips: Sequence[PlannedClip], failures: Iterable[Failure], *, judged: Set[str]) -> None:
    """Write the manifest of the clips that exist, in the plan's order, and the failures of this run, beside those of
    other runs that concern clips which this one did not have to make (`judged` by id)."""
    whole = whole_clips(out, clips)
    failures = [f for f in read_failures(out) if f.id not in judged and f.id not in whole] + list(failures)
    receipts = (read_receipt(out, clip.id) for clip in clips if clip.id in whole)
    write_manifest(out / "manifest.jsonl", [ManifestClip.from_dict(receipt["clip"]) for receipt in receipts])
    lines = [json_line(asdict(failure)) + "\n" for failure in failures]
    if lines:
        with atomic_path(out / "failures.jsonl") as aside:
            aside.write_text("".join(lines), "utf-8")
    else:
        (out / "failures.jsonl").unlink(missing_ok=True)


def remove_partial_files(out: Path, *, older_than_s: float = 0.0, only_dead: bool = True) -> None:
    """Remove what killed processes left half written (see `avatars.io.part_files`); where other machines write too,
    whose locks this one may not see, leave what is younger than `older_than_s`. Without `only_dead` whatever is half
    written goes."""
    for path in half_written(out):
        if only_dead:
            remove_dead(path, older_than_s=older_than_s)
        else:
            remove(path)


def half_written(out: Path) -> list[Path]:
    """Files that were to be renamed when whole."""
    return [path for path in out.rglob(".*") if is_part(path.name)]


def verify(out: Path) -> list[str]:
    """Everything that is wrong with a data set, one line each: videos and labels that differ from their receipts, files
    without a receipt, half written files, and a manifest that tells something else. Missing clips are not wrong,
    nor are files of a clip that a stopped run has not finished: the next run writes them anew.

    Raises InputError when there is no plan.
    """
    clips, whole = read_clips(out), whole_ids(out)
    wrong = [f"{path.relative_to(out)}: half written" for path in half_written(out)]
    wrong += [f"receipts/{other}.json: not in the plan" for other in sorted(whole - {clip.id for clip in clips})]
    expected: set[str] = set()
    lines = []
    for clip in clips:
        if clip.id not in whole:
            expected |= {video_path(clip), *label_paths(clip)}
            continue
        try:
            receipt = read_receipt(out, clip.id)
        except InputError as error:
            wrong.append(str(error))
            expected |= {video_path(clip), *label_paths(clip)}
            continue
        wrong += [problem for path, sha256 in parts_of(receipt) if (problem := _wrong_with(out, path, sha256))]
        expected |= {path for path, _ in parts_of(receipt)}
        lines.append(ManifestClip.from_dict(receipt["clip"]).to_line())
    there = {p.relative_to(out).as_posix() for kind in ("clips", "labels") for p in (out / kind).rglob("[!.]*.*")}
    wrong += [f"{path}: belongs to no clip of the plan" for path in sorted(there - expected)]
    manifest = out / "manifest.jsonl"
    if not manifest.is_file() or lines_of(read_text(manifest)) != lines:
        wrong.append("manifest.jsonl: not the clips that exist; `reenact run` writes it anew")
    return wrong


def parts_of(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    """Path and hash of a clip's video and of the labels of its people."""
    labels = [(found["path"], found["sha256"]) for found in label_files(receipt)]
    return [(receipt["clip"]["path"], receipt["clip"]["sha256"]), *labels]


def _wrong_with(out: Path, path: str, sha256: str) -> str:
    """What is wrong with a file that a receipt names; "" when nothing is."""
    if not (out / path).is_file():
        return f"{path}: missing, though its receipt is there"
    try:
        there = file_inside(out, path, str(out))
    except InputError as error:
        return str(error)
    return "" if sha256_of(there) == sha256 else f"{path}: other bytes than its receipt names"


def require_whole(out: Path, receipt: dict[str, Any]) -> dict[str, Path]:
    """Where each file of a clip lies, links resolved, by its path in the data set.

    Raises InputError when one is missing, lies outside of the data set, or has other bytes than the receipt names.
    """
    where = f"receipts/{receipt['clip']['id']}.json"
    files = {path: file_inside(out, path, where) for path, _ in parts_of(receipt)}
    for path, sha256 in parts_of(receipt):
        if sha256_of(files[path]) != sha256:
            raise InputError(f"{out / path} has other bytes than {where} names. Run `reenact verify {out}`.")
    return files | {where: file_inside(out, where, str(out))}


def merge(parts: Sequence[Path], out: Path) -> int:
    """Join folders in which parts of one plan were made (hard links where the disk can); how many clips are there now.

    Raises InputError, before anything is written, when a folder holds another plan, the same clip with other bytes, or
    files that are not what their receipts name.
    """
    planned = {clip.id for clip in read_clips(parts[0])}
    _require_one_plan(parts, out)
    if not (out / "plan.jsonl").is_file():
        require_new_data_set(out, option="-o")
    files: dict[str, Path] = {name: file_inside(parts[0], name, "merge") for name in ("batch.json", "plan.jsonl")}
    failures: dict[str, Failure] = {}
    for part in parts:
        stray = sorted(whole_ids(part) - planned)
        if stray:
            raise InputError(f"{part} holds receipts/{stray[0]}.json, which is not in its plan. Run `reenact verify`.")
        for clip_id in sorted(whole_ids(part)):
            for path, source in require_whole(part, read_receipt(part, clip_id)).items():
                _require_same(source, files.get(path, out / path))
                files[path] = source
        failures |= {failure.id: failure for failure in read_failures(part)}
    remove_partial_files(out)
    for path in sorted(files, key=lambda path: path.startswith("receipts/")):  # receipts last
        _link(files[path], out / path)
    clips = read_clips(out)
    whole = whole_clips(out, clips)
    missing = [failure for failure in failures.values() if failure.id not in whole]
    finish_manifest(out, clips, missing, judged={clip.id for clip in clips})
    return len(whole)


def _require_one_plan(parts: Sequence[Path], out: Path) -> None:
    """Raise InputError unless all folders, and `out` where it is there, hold the same plan."""
    first = file_inside(parts[0], "plan.jsonl", "merge").read_bytes()
    for part in parts[1:]:
        read_clips(part)
        if file_inside(part, "plan.jsonl", "merge").read_bytes() != first:
            raise InputError(f"{part} holds another plan than {parts[0]}; only parts of one plan can be merged.")
    if (out / "plan.jsonl").is_file():
        if (out / "plan.jsonl").read_bytes() != first:
            raise InputError(f"{out} holds another plan; nothing was merged. Choose another -o.")
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} already exists and holds no plan; nothing was merged. Choose another -o.")


def _require_same(source: Path, other: Path) -> None:
    if other.exists() and sha256_of(other) != sha256_of(source):
        raise InputError(f"{source} and {other} differ, though they are of one clip. Run `reenact verify` on both.")


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk cannot. What is there already stays."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:  # another merge
        return
    except OSError:
        import shutil

        with atomic_path(target) as aside:
            shutil.copyfile(source, aside)
