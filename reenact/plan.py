"""Batch -> Plan: one line per clip, with an id that is the hash of everything that makes the clip what it is.

A plan is a function of the batch and the contents of its files alone: the same batch gives the same plan anywhere, and
a clip whose id is in the output folder need not be made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from avatars import __version__
from avatars.errors import InputError
from avatars.files import atomic_path, sha256_of, write_json
from reenact.batch import AvatarEntry, BackgroundEntry, Batch, MotionEntry

AVATAR_FILES = ("avatar.json", "gaussians.safetensors")


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """One avatar doing one motion in one place."""

    id: str
    label: str
    avatar: int
    """Place in the batch's list of avatars; motion and background likewise."""
    motion: int
    background: int

    @property
    def seed(self) -> int:
        """Seed of the clip's random choices; follows from the id, so from the batch's seed, too."""
        return int(self.id[:12], 16)


@dataclass(frozen=True, slots=True)
class Plan:
    """All clips of a batch, those of one avatar and motion next to each other."""

    batch: Batch
    avatar_sha256: tuple[str, ...]
    motion_sha256: tuple[str, ...]
    background_sha256: tuple[str, ...]
    clips: tuple[PlannedClip, ...]

    def groups(self) -> Iterator[tuple[PlannedClip, ...]]:
        """Clips that share avatar and motion, so that the body is posed once for them."""
        for _, group in groupby(self.clips, key=lambda clip: (clip.avatar, clip.motion)):
            yield tuple(group)

    def settings(self) -> dict[str, Any]:
        """What every clip has in common, as JSON."""
        return _settings(self.batch)

    def inputs(self) -> dict[str, list[dict[str, Any]]]:
        """Every input with its path and hash, as JSON."""
        return {
            "avatars": _described(self.batch.avatars, self.avatar_sha256),
            "motions": _described(self.batch.motions, self.motion_sha256),
            "backgrounds": _described(self.batch.backgrounds, self.background_sha256),
        }


def make_plan(batch: Batch) -> Plan:
    """Choose backgrounds for every avatar and motion, and give each clip its id. Reads every input once, to hash it.

    Raises InputError when an input is listed twice or is not what it should be.
    """
    avatars = tuple(avatar_sha256(entry.path) for entry in batch.avatars)
    motions = tuple(content_sha256(entry.path) for entry in batch.motions)
    backgrounds = tuple(sha256_of(entry.path) for entry in batch.backgrounds)
    clips = []
    for a, avatar in enumerate(avatars):
        for m, motion in enumerate(motions):
            label = batch.motions[m].label
            order = _rng(batch.seed, avatar, motion, label).permutation(len(backgrounds))
            for b in sorted(order[: batch.backgrounds_per_pair].tolist()):
                made_of = [avatar, motion, label, backgrounds[b], _standing(batch.backgrounds[b])]
                clip_id = _digest([*made_of, _settings(batch), __version__])[:16]
                clips.append(PlannedClip(clip_id, label, a, m, b))
    _refuse_twins(clips, batch)
    return Plan(batch, avatars, motions, backgrounds, tuple(clips))


def avatar_sha256(folder: Path) -> str:
    """Hash of what makes an avatar look as it does. Raises InputError when the folder is no avatar."""
    missing = [name for name in AVATAR_FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} is not an avatar: it has no {missing[0]}. Make one with `avatars fit VIDEO -o DIR`."
        )
    return _digest([sha256_of(folder / name) for name in AVATAR_FILES])


def content_sha256(path: Path) -> str:
    """Hash of a file's bytes, or of a folder's files and their names."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return _digest([[p.relative_to(path).as_posix(), sha256_of(p)] for p in files])


def open_output(plan: Plan) -> Path:
    """The output folder, with the plan written into it, or found there and equal.

    Raises InputError when the folder holds something else; nothing is overwritten.
    """
    out = plan.batch.out
    lines = [json.dumps(asdict(clip), ensure_ascii=False) for clip in plan.clips]
    plan_path = out / "plan.jsonl"
    if out.is_file():
        raise InputError(f"{out} is a file; the data set needs a folder. Choose another `out:`.")
    if plan_path.is_file():
        found = plan_path.read_text(encoding="utf-8").splitlines()
        if found != lines:
            raise InputError(
                f"{out} holds the clips of another plan ({_difference(found, lines)}); nothing was overwritten. Choose "
                "another `out:`, or restore the batch file, its inputs and the version that made it."
            )
        return out
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} already exists and holds no plan; nothing was overwritten. Choose another `out:`.")
    write_json(
        out / "batch.json", {"made_by": f"splat-avatars {__version__}", "settings": plan.settings()} | plan.inputs()
    )
    with atomic_path(plan_path) as aside:
        aside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return out


def _difference(found: list[str], wanted: list[str]) -> str:
    shared = len(set(found) & set(wanted))
    return f"{len(found)} clips there, {len(wanted)} wanted, {shared} in common"


def _settings(batch: Batch) -> dict[str, Any]:
    """Settings that change every clip."""
    names = ("size_hw", "fps", "seed", "person_height", "shadow", "match_light", "crf")
    return {name: getattr(batch, name) for name in names}


def _standing(entry: BackgroundEntry) -> dict[str, Any]:
    """What the batch says of a place, beside its pixels, that changes the clip."""
    names = ("camera_height_m", "horizon", "focal_px", "at", "distance_m", "heading_deg", "crop", "floor_m")
    return {name: getattr(entry, name) for name in names}


def _described(entries: tuple[AvatarEntry | MotionEntry | BackgroundEntry, ...], hashes: tuple[str, ...]) -> list[dict]:
    return [{**asdict(e), "path": str(e.path), "sha256": sha} for e, sha in zip(entries, hashes, strict=True)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _rng(*parts: Any) -> np.random.Generator:
    return np.random.default_rng(int(_digest(parts)[:16], 16))


def _refuse_twins(clips: list[PlannedClip], batch: Batch) -> None:
    seen: dict[str, PlannedClip] = {}
    for clip in clips:
        twin = seen.setdefault(clip.id, clip)
        if twin is not clip:
            first, second = (_parts(c, batch) for c in (twin, clip))
            raise InputError(f"The same clip is asked for twice: {first}, and {second} with equal files and label.")


def _parts(clip: PlannedClip, batch: Batch) -> str:
    motion, background = batch.motions[clip.motion], batch.backgrounds[clip.background]
    return f"{batch.avatars[clip.avatar].name} + {motion.path.name} + {background.name}"
