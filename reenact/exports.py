"""A data set -> the forms that trainers read, with a card that says what is in it, and only where that is allowed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from actionrec.manifest import ManifestClip, read_manifest, write_manifest
from avatars.errors import InputError
from avatars.files import read_json, write_json
from reenact.receipts import label_files, receipt_path

Purpose = Literal["research", "commercial"]
_FORBIDDING = re.compile(
    r"all rights reserved|no[- ]?redistribution|not for redistribution|\bND\b|no[- ]?derivatives", re.I
)
_NON_COMMERCIAL = re.compile(r"\bNC\b|non[- ]?commercial|research only|academic", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DataSet:
    """The clips that may be used, and what made each of them."""

    folder: Path
    clips: tuple[ManifestClip, ...]
    receipts: dict[str, dict[str, Any]]
    gated: bool
    """Whether `reenact gate` has chosen them."""

    @staticmethod
    def load(folder: Path) -> DataSet:
        """The accepted clips, or all when there was no gate. Raises InputError when there is none."""
        accepted = folder / "accepted.jsonl"
        clips = read_manifest(accepted if accepted.is_file() else folder / "manifest.jsonl")
        if not clips:
            raise InputError(f"{folder} has no clip to export. Look at `reenact status` and gate.json.")
        receipts = {clip.id: read_json(receipt_path(folder, clip.id)) for clip in clips}
        return DataSet(folder, tuple(clips), receipts, accepted.is_file())

    def licences(self) -> Counter[tuple[str, str, str]]:
        """Clips per (kind, name, licence) of everything that they were made from."""
        parts = (
            (kind, part["name"], part["licence"])
            for receipt in self.receipts.values()
            for kind, part in receipt["made_from"].items()
        )
        return Counter(parts)

    def consents(self) -> dict[str, str]:
        """What each identity agreed to; "" when nothing is known."""
        avatars = [
            part
            for receipt in self.receipts.values()
            for kind, part in receipt["made_from"].items()
            if kind.startswith("avatar")
        ]
        return {avatar["name"]: str(avatar.get("consent", "")) for avatar in avatars}


def require_permission(data: DataSet, purpose: Purpose) -> None:
    """Raise InputError when an identity has no consent, or a licence forbids handing the clips on for this purpose."""
    silent = sorted(name for name, consent in data.consents().items() if not consent.strip())
    if silent:
        raise InputError(
            f"No consent is recorded for {', '.join(silent)}; nothing was exported. Say what the person agreed to as "
            "`consent:` in BATCH.yaml (or `avatars fit --consent`), or leave the avatar out."
        )
    for kind, name, licence in sorted(data.licences()):
        forbids = _FORBIDDING.search(licence) or (purpose == "commercial" and _NON_COMMERCIAL.search(licence))
        if forbids:
            raise InputError(
                f"The licence of {kind} {name}, {licence!r}, forbids this ({purpose} use); nothing was exported. Leave "
                "it out of the batch" + ("." if purpose == "research" else ", or export for --purpose research.")
            )


def to_manifest(data: DataSet, out: Path) -> None:
    """Videos, labels and receipts as they are, with a manifest of these clips."""
    for clip in data.clips:
        labels = [found["path"] for found in label_files(data.receipts[clip.id])]
        for path in (clip.path, *labels, f"receipts/{clip.id}.json"):
            _link(data.folder / path, out / path)
    write_manifest(out / "manifest.jsonl", data.clips)


def to_folders(data: DataSet, out: Path) -> None:
    """One folder of videos per class."""
    for clip in data.clips:
        _link(data.folder / clip.path, out / _folder(clip.label) / f"{clip.id}.mp4")
    write_manifest(
        out / "manifest.jsonl", [_moved(clip, f"{_folder(clip.label)}/{clip.id}.mp4") for clip in data.clips]
    )


def to_kinetics(data: DataSet, out: Path) -> None:
    """videos/<id>.mp4 and <split>.csv with Kinetics' columns (Kay et al. 2017); clips without a split are "train"."""
    rows: dict[str, list[list[Any]]] = {}
    for clip in data.clips:
        _link(data.folder / clip.path, out / "videos" / f"{clip.id}.mp4")
        split = clip.split or "train"
        rows.setdefault(split, []).append([clip.label, clip.id, 0, round(clip.n_frames / clip.fps, 3), split])
    for split, lines in rows.items():
        with open(out / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["label", "youtube_id", "time_start", "time_end", "split"], *lines])


def to_webdataset(data: DataSet, out: Path, shard_bytes: int) -> None:
    """Plain tar shards of <id>.mp4, <id>.npz (labels) and <id>.json, as the webdataset package reads them; index.json,
    written last, names each shard with its samples."""
    out.mkdir(parents=True, exist_ok=True)
    index = []
    for number, clips in enumerate(_shards(data, shard_bytes)):
        name = f"shard-{number:06d}.tar"
        aside = out / f".{name}.{os.getpid()}"
        with tarfile.open(aside, "w", format=tarfile.USTAR_FORMAT) as tar:
            for clip in clips:
                _add(tar, f"{clip.id}.json", json.dumps(data.receipts[clip.id]).encode())
                _add(tar, f"{clip.id}.mp4", (data.folder / clip.path).read_bytes())
                _add(tar, f"{clip.id}.npz", _labels(data, clip).read_bytes())
        os.replace(aside, out / name)
        index.append({"shard": name, "samples": len(clips), "bytes": (out / name).stat().st_size})
    classes = sorted({clip.label for clip in data.clips})
    write_json(out / "index.json", {"samples": len(data.clips), "classes": classes, "shards": index})


def _shards(data: DataSet, shard_bytes: int) -> Iterator[list[ManifestClip]]:
    """Clips in a mixed but fixed order (by id, which is a hash), cut where a shard would grow too large."""
    shard: list[ManifestClip] = []
    size = 0
    for clip in sorted(data.clips, key=lambda clip: clip.id):
        needed = (data.folder / clip.path).stat().st_size + _labels(data, clip).stat().st_size + 8192
        if shard and size + needed > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(clip)
        size += needed
    yield shard


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def to_sequences(data: DataSet, out: Path) -> None:
    """For world models: per clip videos/<id>.mp4 and sequences/<id>.npz of `state` (frames, 168: SMPL-X poses and
    transl in the place's world), `action` (frames, 168: the change to the next state, the last 0), `K`, `T_cam_world`,
    `times_s`, and `depth_m` where the labels hold it."""
    (out / "sequences").mkdir(parents=True, exist_ok=True)
    for clip in data.clips:
        _link(data.folder / clip.path, out / "videos" / f"{clip.id}.mp4")
        with np.load(_labels(data, clip)) as labels:
            state = np.concatenate([labels["poses"], labels["trans"]], 1)
            action = np.concatenate([np.diff(state, axis=0), np.zeros_like(state[:1])])
            kept = {key: labels[key] for key in ("K", "T_cam_world", "times_s", "depth_m") if key in labels}
        np.savez_compressed(out / "sequences" / f"{clip.id}.npz", state=state, action=action, **kept)
    write_manifest(out / "manifest.jsonl", [_moved(clip, f"videos/{clip.id}.mp4") for clip in data.clips])


def write_card(data: DataSet, out: Path, command: str, purpose: Purpose) -> Path:
    """README.md: counts, coverage, licences, consent, the command."""
    seconds = sum(clip.n_frames / clip.fps for clip in data.clips)
    classes, people = Counter(c.label for c in data.clips), Counter(c.subject for c in data.clips)
    places = Counter(clip.background for clip in data.clips)
    strata = Counter(
        (name, value)
        for receipt in data.receipts.values()
        for name, value in receipt["made_from"]["avatar"].get("strata", {}).items()
    )
    gate = "chosen by `reenact gate`" if data.gated else "not checked by `reenact gate`"
    made_by = ", ".join(sorted({receipt["made_by"] for receipt in data.receipts.values()}))
    lines = [
        "# Data-set card",
        "",
        f"{len(data.clips)} synthetic clips, {seconds / 60:.1f} minutes, {len(classes)} classes, {len(people)} people, "
        f"{len(places)} places; {gate}. Made by {made_by}, exported for {purpose} use with",
        "",
        f"    {command}",
        "",
        *_table("Class", classes),
        *_table("Person", people),
        *_table("Place", places),
        *_table("Stratum", Counter({f"{name}: {value}": count for (name, value), count in strata.items()})),
        "## Consent",
        "",
        *[f"- {name}: {consent}" for name, consent in sorted(data.consents().items())],
        "",
        "## Licences",
        "",
        *[
            f"- {kind} {name}: {licence or 'not stated'} ({count} clips)"
            for (kind, name, licence), count in sorted(data.licences().items())
        ],
    ]
    path = out / "README.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _table(head: str, counts: Counter[str]) -> list[str]:
    if not counts:
        return []
    rows = [f"| {name} | {count} |" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return [f"| {head} | clips |", "| --- | --- |", *rows, ""]


def _labels(data: DataSet, clip: ManifestClip) -> Path:
    return data.folder / data.receipts[clip.id]["labels"]["path"]


def _moved(clip: ManifestClip, path: str) -> ManifestClip:
    return replace(clip, path=path)


def _folder(label: str) -> str:
    return re.sub(r"[^\w.-]+", "_", label).strip(".") or "_"


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def writers(shard_mib: float) -> dict[str, Any]:
    """The forms by name; each takes (data, out)."""
    return {
        "manifest": to_manifest,
        "folders": to_folders,
        "kinetics": to_kinetics,
        "webdataset": lambda data, out: to_webdataset(data, out, int(shard_mib * 2**20)),
        "sequences": to_sequences,
    }
