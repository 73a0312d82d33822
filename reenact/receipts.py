"""What is in a data set's folder: which clips exist, whether they are whole, and how parts of one plan are joined.

A clip exists when `receipts/<id>.json` does: that file is written after the video and the labels it names by hash.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actionrec.manifest import ManifestClip, write_manifest
from avatars.errors import InputError
from avatars.files import atomic_path, read_json, sha256_of
from reenact.plan import PlannedClip, read_clips, read_rows


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
    folder = re.sub(r"[^\w.-]+", "_", clip.label).strip(".") or "_"
    return f"clips/{folder}/{clip.id}.mp4"


def label_paths(clip: PlannedClip) -> tuple[str, ...]:
    """Where the labels of a clip's people lie, the first person's first."""
    return f"labels/{clip.id}.npz", *(f"labels/{clip.id}_{i + 2}.npz" for i in range(len(clip.others)))


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


def status(out: Path) -> Status:
    """Counted from names alone, so that a large data set answers at once. Raises InputError when there is no plan."""
    clips, whole = read_rows(out), whole_ids(out)
    missing = {clip["id"]: clip["label"] for clip in clips if clip["id"] not in whole}
    failures = tuple(failure for failure in read_failures(out) if failure.id in missing)
    return Status(len(clips), len(clips) - len(missing), failures, dict(Counter(missing.values())))


def read_failures(out: Path) -> list[Failure]:
    """The lines of failures.jsonl; none when there is no such file."""
    path = out / "failures.jsonl"
    if not path.is_file():
        return []
    return [Failure(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def conclude(out: Path, clips: Sequence[PlannedClip], failures: Iterable[Failure], *, judged: Set[str]) -> None:
    """Write the manifest of the clips that exist, in the plan's order, and the failures of this run, beside those of
    other runs that concern clips which this one did not have to make (`judged` by id)."""
    whole = whole_ids(out)
    failures = [f for f in read_failures(out) if f.id not in judged and f.id not in whole] + list(failures)
    receipts = (receipt_path(out, clip.id) for clip in clips if clip.id in whole)
    write_manifest(out / "manifest.jsonl", [ManifestClip.from_dict(read_json(p)["clip"], str(p)) for p in receipts])
    lines = [json.dumps(asdict(failure), ensure_ascii=False) + "\n" for failure in failures]
    if lines:
        with atomic_path(out / "failures.jsonl") as aside:
            aside.write_text("".join(lines), "utf-8")
    else:
        (out / "failures.jsonl").unlink(missing_ok=True)


def sweep(out: Path, *, older_than_s: float = 0.0, only_dead: bool = True) -> None:
    """Remove what killed processes of this machine left half written (`atomic_path` names such files
    `.stem.pid.suffix`); where other machines write too, leave what is younger than `older_than_s`. Without `only_dead`
    whatever is half written goes, since process ids say nothing of other machines."""
    for path in half_written(out):
        *_, before, last = path.name.split(".")
        pid = before if before.isdigit() else last
        if only_dead and (int(pid) == os.getpid() or Path(f"/proc/{pid}").exists()):
            continue
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()


def half_written(out: Path) -> list[Path]:
    """Files that were to be renamed when whole."""
    named = re.compile(r"\..+\.\d+(\.\w+)?")
    return [path for path in out.rglob(".*") if path.is_file() and named.fullmatch(path.name)]


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
        if clip.id in whole:
            receipt = read_json(receipt_path(out, clip.id))
            wrong += _wrong_with(out, clip, receipt)
            expected |= {receipt["clip"]["path"], *(labels["path"] for labels in label_files(receipt))}
            lines.append(ManifestClip.from_dict(receipt["clip"]).to_line())
        else:
            expected |= {video_path(clip), *label_paths(clip)}
    there = {p.relative_to(out).as_posix() for kind in ("clips", "labels") for p in (out / kind).rglob("[!.]*.*")}
    wrong += [f"{path}: belongs to no clip of the plan" for path in sorted(there - expected)]
    manifest = out / "manifest.jsonl"
    if not manifest.is_file() or manifest.read_text(encoding="utf-8").splitlines() != lines:
        wrong.append("manifest.jsonl: not the clips that exist; `reenact run` writes it anew")
    return wrong


def _wrong_with(out: Path, clip: PlannedClip, receipt: dict[str, Any]) -> list[str]:
    parts = [(receipt["clip"]["path"], receipt["clip"]["sha256"])]
    parts += [(labels["path"], labels["sha256"]) for labels in label_files(receipt)]
    wrong = [f"receipts/{clip.id}.json: of another clip"] * (receipt["clip"]["id"] != clip.id)
    for path, sha256 in parts:
        if not (out / path).is_file():
            wrong.append(f"{path}: missing, though its receipt is there")
        elif sha256_of(out / path) != sha256:
            wrong.append(f"{path}: other bytes than its receipt names")
    return wrong


def merge(parts: Sequence[Path], out: Path) -> int:
    """Join folders in which parts of one plan were made (hard links where the disk can); how many clips are there now.

    Raises InputError when a folder holds another plan, or the same clip with other bytes.
    """
    plans = {part: (part / "plan.jsonl") for part in parts}
    for part, plan in plans.items():
        read_clips(part)
        if plan.read_bytes() != plans[parts[0]].read_bytes():
            raise InputError(f"{part} holds another plan than {parts[0]}; only parts of one plan can be merged.")
    if (out / "plan.jsonl").is_file():
        if (out / "plan.jsonl").read_bytes() != plans[parts[0]].read_bytes():
            raise InputError(f"{out} holds another plan; nothing was merged. Choose another -o.")
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} already exists and holds no plan; nothing was merged. Choose another -o.")
    failures: dict[str, Failure] = {}
    for part in parts:
        _link(part / "batch.json", out / "batch.json")
        _link(part / "plan.jsonl", out / "plan.jsonl")
        for clip_id in sorted(whole_ids(part)):
            receipt = read_json(receipt_path(part, clip_id))
            labels = [found["path"] for found in label_files(receipt)]
            for path in (receipt["clip"]["path"], *labels, f"receipts/{clip_id}.json"):
                _link(part / path, out / path)
        failures |= {failure.id: failure for failure in read_failures(part)}
    whole = whole_ids(out)
    clips = read_clips(out)
    missing = [failure for failure in failures.values() if failure.id not in whole]
    conclude(out, clips, missing, judged={clip.id for clip in clips})
    return len(whole)


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk cannot."""
    if target.exists():
        if target.name != "batch.json" and sha256_of(target) != sha256_of(source):
            raise InputError(
                f"{source} and {target} differ, though they are of one clip. Run `reenact verify` on both."
            )
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        import shutil

        with atomic_path(target) as aside:
            shutil.copyfile(source, aside)
