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

from actionrec.manifest import ManifestClip, write_manifest
from avatars.errors import InputError
from avatars.io.files import atomic_path, write_json
from reenact.data_set.label_file import read_labels
from reenact.planning.data_set_paths import file_inside
from reenact.planning.receipts import manifest_clip, manifest_clips, parts_of, read_receipt, require_whole

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
        """The accepted clips, or all when there was no gate.

        Raises InputError when there is none, when the gate judged other clips than there are now, when a name leads out
        of the folder, and when a video or labels are not the bytes that a receipt names.
        """
        manifest, accepted = manifest_clips(folder / "manifest.jsonl"), folder / "accepted.jsonl"
        gated = accepted.is_file()
        clips = _still_accepted(folder, manifest) if gated else manifest
        if not clips:
            raise InputError(f"{folder} has no clip to export. Look at `reenact status` and gate.json.")
        receipts = {clip.id: read_receipt(folder, clip.id) for clip in clips}
        for clip in clips:
            if manifest_clip(receipts[clip.id]["clip"], f"receipts/{clip.id}.json") != clip:
                raise InputError(f"{folder}: the manifest and the receipt of {clip.id} differ. Run `reenact verify`.")
            require_whole(folder, receipts[clip.id])
        return DataSet(folder, tuple(clips), receipts, gated)

    def hand_on(self, clip: ManifestClip, names: dict[str, str], out: Path) -> None:
        """Files of a clip, by their path in the data set, under other names in `out`: hard links, or copies."""
        for path, name in names.items():
            _link(self.file(clip, path), out / name)

    def file(self, clip: ManifestClip, path: str) -> Path:
        """Where a file of a clip lies, links resolved. Raises InputError when it is not in the data set."""
        return file_inside(self.folder, path, f"clip {clip.id}")

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


def _still_accepted(folder: Path, manifest: list[ManifestClip]) -> list[ManifestClip]:
    """What the gate accepted, when it judged the very clips of the manifest. Raises InputError otherwise."""
    accepted = manifest_clips(folder / "accepted.jsonl")
    rejected = folder / "rejected.jsonl"
    judged = [*accepted, *(manifest_clips(rejected) if rejected.is_file() else [])]
    if len(judged) != len(manifest) or set(judged) != set(manifest):
        raise InputError(
            f"{folder}: accepted.jsonl is of other clips than manifest.jsonl (made before the last run, or edited); "
            f"nothing was exported. Run `reenact gate {folder}` again."
        )
    return accepted


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
        paths = [path for path, _ in parts_of(data.receipts[clip.id])]
        data.hand_on(clip, {path: path for path in (*paths, f"receipts/{clip.id}.json")}, out)
    write_manifest(out / "manifest.jsonl", data.clips)


def to_folders(data: DataSet, out: Path) -> None:
    """One folder of videos per class."""
    moved = [_moved(clip, f"{_folder(clip.label)}/{clip.id}.mp4") for clip in data.clips]
    for clip, there in zip(data.clips, moved, strict=True):
        data.hand_on(clip, {clip.path: there.path}, out)
    write_manifest(out / "manifest.jsonl", moved)


def to_kinetics(data: DataSet, out: Path) -> None:
    """videos/<id>.mp4 and <split>.csv with Kinetics' columns (Kay et al. 2017); clips without a split are "train"."""
    rows: dict[str, list[list[Any]]] = {}
    for clip in data.clips:
        data.hand_on(clip, {clip.path: f"videos/{clip.id}.mp4"}, out)
        split = _folder(clip.split) if clip.split else "train"
        seconds = round(clip.n_frames / clip.fps, 3)
        rows.setdefault(split, []).append([_cell(clip.label), clip.id, 0, seconds, _cell(clip.split or "train")])
    for split, lines in rows.items():
        with open(out / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["label", "youtube_id", "time_start", "time_end", "split"], *lines])


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe before what would begin one (OWASP, "CSV
    Injection")."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def to_webdataset(data: DataSet, out: Path, shard_bytes: int) -> None:
    """Plain tar shards of <id>.mp4, <id>.npz (labels) and <id>.json, as the webdataset package reads them; index.json,
    written last, names each shard with its samples."""
    out.mkdir(parents=True, exist_ok=True)
    index = []
    for number, clips in enumerate(_shards(data, shard_bytes)):
        name = f"shard-{number:06d}.tar"
        with atomic_path(out / name) as aside, tarfile.open(aside, "w", format=tarfile.USTAR_FORMAT) as tar:
            for clip in clips:
                _add(tar, f"{clip.id}.json", json.dumps(data.receipts[clip.id]).encode())
                _add(tar, f"{clip.id}.mp4", data.file(clip, clip.path).read_bytes())
                _add(tar, f"{clip.id}.npz", data.file(clip, _labels(data, clip)).read_bytes())
        index.append({"shard": name, "samples": len(clips), "bytes": (out / name).stat().st_size})
    classes = sorted({clip.label for clip in data.clips})
    write_json(out / "index.json", {"samples": len(data.clips), "classes": classes, "shards": index})


def _shards(data: DataSet, shard_bytes: int) -> Iterator[list[ManifestClip]]:
    """Clips in a mixed but fixed order (by id, which is a hash), cut where a shard would grow too large."""
    shard: list[ManifestClip] = []
    size = 0
    for clip in sorted(data.clips, key=lambda clip: clip.id):
        needed = sum(data.file(clip, path).stat().st_size for path in (clip.path, _labels(data, clip))) + 8192
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
    `times_s`, and, where the labels hold depth, their `depth_mm` and `place_depth_mm` (uint16, 0: none)."""
    moved = [_moved(clip, f"videos/{clip.id}.mp4") for clip in data.clips]
    for clip, there in zip(data.clips, moved, strict=True):
        data.hand_on(clip, {clip.path: there.path}, out)
        labels = read_labels(data.file(clip, _labels(data, clip)), (*_SEQUENCE_KEYS, *_DEPTH_KEYS), clip)
        state = np.concatenate([labels.pop("poses"), labels.pop("trans")], 1)
        action = np.concatenate([np.diff(state, axis=0), np.zeros_like(state[:1])])
        with atomic_path(out / "sequences" / f"{clip.id}.npz") as aside, open(aside, "wb") as file:
            np.savez_compressed(file, state=state, action=action, **labels)
    write_manifest(out / "manifest.jsonl", moved)


_SEQUENCE_KEYS = ("poses", "trans", "K", "T_cam_world", "times_s")
_DEPTH_KEYS = ("depth_mm", "place_depth_mm")


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
        f"{len(places)} places; {gate}. Made by {_plain(made_by)}, exported for {purpose} use with",
        "",
        f"    {' '.join(command.split())}",
        "",
        *_table("Class", classes),
        *_table("Person", people),
        *_table("Place", places),
        *_table("Stratum", Counter({f"{name}: {value}": count for (name, value), count in strata.items()})),
        "## Consent",
        "",
        *[f"- {_plain(name)}: {_plain(consent)}" for name, consent in sorted(data.consents().items())],
        "",
        "## Licences",
        "",
        *[
            f"- {_plain(kind)} {_plain(name)}: {_plain(licence) or 'not stated'} ({count} clips)"
            for (kind, name, licence), count in sorted(data.licences().items())
        ],
    ]
    path = out / "README.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


_MARKUP = re.compile(r"[\\`*\[\]<>|&]")


def _plain(text: str) -> str:
    """A text as Markdown shows it unchanged, on one line: names and licences may hold markup, links and table bars."""
    return _MARKUP.sub(lambda found: f"&#{ord(found.group())};", " ".join(text.split()))


def _table(head: str, counts: Counter[str]) -> list[str]:
    if not counts:
        return []
    rows = [
        f"| {_plain(name)} | {count} |" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return [f"| {head} | clips |", "| --- | --- |", *rows, ""]


def _labels(data: DataSet, clip: ManifestClip) -> str:
    return data.receipts[clip.id]["labels"]["path"]


def _moved(clip: ManifestClip, path: str) -> ManifestClip:
    return replace(clip, path=path)


def _folder(label: str) -> str:
    return re.sub(r"[^\w.-]+", "_", label).strip(".") or "_"


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk cannot. `source` is no symbolic link."""
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
