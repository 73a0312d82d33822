"""Batch -> Plan: one line per clip, with an id that is the hash of everything that makes the clip what it is.

A plan is a function of the batch and the contents of its files alone: the same batch gives the same plan anywhere, and
a clip whose id is in the output folder need not be made again. A plan that was written is never changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from avatars import __version__
from avatars.errors import InputError
from avatars.io.files import atomic_path, read_json, sha256_of, write_json
from avatars.io.outputs import require_fresh_folder
from avatars.io.typed_json import json_line, lines_of, parse_json, read_text, require_list, require_mapping, typed
from compose.places.place_folder import floor_guessed
from compose.preparation.action_tags import likelihood, why_unfit
from reenact.planning.batch import AvatarEntry, BackgroundEntry, Batch, MotionEntry, load_batch
from reenact.planning.data_set_paths import require_id
from reenact.planning.framing import OWN_PLATE
from reenact.planning.quotas import Candidate, CoverageRow, Quotas, chosen_by, coverage

log = logging.getLogger(__name__)

RECIPE = 14
"""Goes up whenever the same inputs and settings give other pixels or labels than before; a part of every id."""
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
    others: tuple[tuple[int, int], ...] = ()
    """Avatar and motion of everybody else in it."""

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

    def speed(self, avatar: int, motion: int) -> float:
        """How fast an avatar plays a motion."""
        low, high = self.batch.speed
        if low == high:
            return low
        rng = _rng(self.batch.seed, self.avatar_sha256[avatar], self.motion_sha256[motion], "speed")
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def candidate(self, clip: PlannedClip) -> Candidate:
        """A clip as quotas count it."""
        avatar = self.batch.avatars[clip.avatar]
        return Candidate(clip.label, avatar.name, avatar.strata)

    def guessed_floors(self) -> tuple[str, ...]:
        """Names of the places that clips use, in which nobody says where to stand (`at`), and whose floor is a guess;
        places that are gone are left out. Raises InputError when a folder is no place."""
        used = sorted({clip.background for clip in self.clips})
        entries = [self.batch.backgrounds[index] for index in used]
        asked = [entry for entry in entries if entry.at is None and entry.path.exists()]
        return tuple(entry.name for entry in asked if floor_guessed(entry.path))

    def coverage(self) -> list[CoverageRow]:
        """Clips per class, identity and value of every stratum, with what the quotas lack."""
        possible = [
            Candidate(label, avatar.name, avatar.strata)
            for label in dict.fromkeys(motion.label for motion in self.batch.motions)
            for avatar in self.batch.avatars
        ]
        return coverage(self.batch.quotas, [self.candidate(clip) for clip in self.clips], possible)


def make_plan(batch: Batch) -> Plan:
    """Choose backgrounds for every avatar and motion, give each clip its id, and keep what the quotas ask for. Reads
    every input once, to hash it.

    Raises InputError when an input is listed twice or is not what it should be.
    """
    hashes = _hashes(batch)
    avatars, motions, backgrounds = hashes
    for line in refused_places(batch):
        log.warning("%s", line)
    standing = [_standing(entry) for entry in batch.backgrounds]
    recipe = [_settings(batch), __version__, RECIPE]
    clips = []
    for a, avatar in enumerate(avatars):
        for m, motion in enumerate(motions):
            label = batch.motions[m].label
            order = _rng(batch.seed, avatar, motion, label).permutation(len(backgrounds))
            if not batch.any_place:
                order = _fitting(order, label, batch.backgrounds)
                order = _likely_first(order, label, batch, _rng(batch.seed, avatar, motion, label, "likely"))
            for b in sorted(order[: batch.backgrounds_per_pair].tolist()):
                key = [avatar, motion, label, backgrounds[b], standing[b]]
                key += _stated_up(batch.motions[m])
                others = _others(batch, a, _rng(batch.seed, *key))
                with_whom = [[avatars[i], motions[j], *_stated_up(batch.motions[j])] for i, j in others]
                clip_id = _digest([*key, with_whom, *recipe])[:16]
                clips.append(PlannedClip(clip_id, label, a, m, b, others))
    _refuse_twins(clips, batch)
    every = Plan(batch, *hashes, tuple(clips))
    chosen = chosen_by(batch.quotas, [every.candidate(clip) for clip in clips], batch.seed)
    return replace(every, clips=tuple(clips[i] for i in chosen))


def _stated_up(entry: MotionEntry) -> list[str]:
    """What the user says of a motion's up, as a part of ids; nothing where it is left to the file."""
    return [] if entry.up == "auto" else [entry.up]


def _others(batch: Batch, first: int, rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """Who else is in a clip, and what they do."""
    people = rng.permutation([i for i in range(len(batch.avatars)) if i != first])[: batch.others]
    return tuple((int(i), int(rng.integers(len(batch.motions)))) for i in people)


def _fitting(order: np.ndarray, label: str, entries: tuple[BackgroundEntry, ...]) -> np.ndarray:
    """The places in which the action is done. Raises InputError, saying why, when there is none."""
    reasons = {int(b): why_unfit(label, entries[b].tags) for b in order}
    fitting = [b for b in order if reasons[int(b)] is None]
    if not fitting:
        raise InputError(
            f"No background fits {label!r}: {next(iter(reasons.values()))}. Add one that does, mend its tags, or set "
            "`any_place: true`."
        )
    return np.array(fitting)


def _likely_first(order: np.ndarray, label: str, batch: Batch, rng: np.random.Generator) -> np.ndarray:
    """The places drawn one after another, each as probably as CLIP finds that it is one for the action; as they were
    where CLIP was not asked (Efraimidis & Spirakis 2006)."""
    found = [likelihood(label, batch.backgrounds[b].shares) for b in order]
    if all(share is None for share in found):
        return order
    weight = np.array([1.0 if share is None else max(share, 1e-3) for share in found])
    return order[np.argsort(-(rng.random(len(order)) ** (1.0 / weight)), kind="stable")]


def refused_places(batch: Batch) -> list[str]:
    """Which backgrounds no clip of an action is made in, and why; nothing where `any_place` is set."""
    labels = () if batch.any_place else dict.fromkeys(motion.label for motion in batch.motions)
    found: dict[str, list[str]] = {}
    for label in labels:
        for entry in batch.backgrounds:
            reason = why_unfit(label, entry.tags)
            if reason is not None:
                found.setdefault(reason, []).append(entry.name)
    return [f"not in {', '.join(names)}: {reason} (any_place: true allows it)" for reason, names in found.items()]


def _hashes(batch: Batch) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Of the avatars, the motions and the backgrounds."""
    return (
        tuple(avatar_sha256(entry.path) for entry in batch.avatars),
        tuple(content_sha256(entry.path) for entry in batch.motions),
        tuple(
            str(entry.path) if entry.path == OWN_PLATE else content_sha256(entry.path) for entry in batch.backgrounds
        ),  # a source's plate lies in its motion's file
    )


def plan_of(path: str | Path) -> Plan:
    """The plan of a BATCH.yaml, or the one that was written into a data set's folder (the folder or its plan.jsonl).

    Raises InputError when the batch cannot be used, or an input is no longer the one that was planned with.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".jsonl":
        return read_plan(path if path.is_dir() else path.parent)
    return make_plan(load_batch(path))


def read_plan(out: Path, *, check_inputs: bool = True) -> Plan:
    """The plan in a data set's folder.

    Raises InputError when there is none, or, with `check_inputs`, when an input has changed since.
    """
    clips = tuple(read_clips(out))
    where = str(out / "batch.json")
    card = require_mapping(read_json(where), where)
    try:
        batch = _batch_from(card, out, where)
        hashes = tuple(
            tuple(typed(str, entry["sha256"], f"{where}: {kind}: sha256") for entry in card[kind]) for kind in _KINDS
        )
    except KeyError as error:
        raise InputError(f"{where} was written by another version (it lacks {error}). Plan again.") from None
    for clip in clips:
        _require_entries(clip, batch, out)
    if check_inputs:
        _refuse_changes(batch, hashes, out)
    return Plan(batch, hashes[0], hashes[1], hashes[2], clips)


def read_clips(out: Path) -> list[PlannedClip]:
    """The lines of the plan in a data set's folder. Raises InputError when there is none, or a line is not a clip."""
    path = out / "plan.jsonl"
    return [typed(PlannedClip, row, f"{path}, line {n}") for n, row in enumerate(read_rows(out), 1)]


def read_rows(out: Path) -> list[dict[str, Any]]:
    """`read_clips` as JSON holds them, with ids, labels and others checked, for callers that only count rows.

    Raises InputError when there is no plan."""
    path = out / "plan.jsonl"
    if not path.is_file():
        raise InputError(f"{out} holds no plan.jsonl. Make one with `reenact plan BATCH.yaml`.")
    try:
        rows = parse_json("[" + ",".join(lines_of(read_text(path))) + "]", str(path))
    except InputError as error:
        raise InputError(f"{path} is damaged ({error}). Make it again with `reenact plan BATCH.yaml`.") from None
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        where = f"{path}, line {number}"
        clip_id = require_id(require_mapping(row, where).get("id"), where)
        if not typed(str, row.get("label"), f"{where}: label"):
            raise InputError(f"{where}: the label is empty. Make the plan again.")
        require_list(row.get("others", []), f"{where}: others")
        if clip_id in seen:
            raise InputError(f"{where}: the id {clip_id} stands twice. Make the plan again.")
        seen.add(clip_id)
    return rows


_KINDS = ("avatars", "motions", "backgrounds")


def _batch_from(card: dict[str, Any], out: Path, where: str) -> Batch:
    """The batch that batch.json describes. Raises InputError, or KeyError for a key that is not there."""
    entries = {
        kind: tuple(
            typed(cls, row, f"{where}: {kind}[{n}]", more=True)
            for n, row in enumerate(require_list(card[kind], f"{where}: {kind}"), 1)
        )
        for kind, cls in zip(_KINDS, (AvatarEntry, MotionEntry, BackgroundEntry), strict=True)
    }
    settings = require_mapping(card["settings"], f"{where}: settings")
    hints = get_type_hints(Batch)
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        raise InputError(f"{where} was written by another version (unknown {', '.join(unknown)}). Plan again.")
    return Batch(
        **entries,
        **{key: typed(hints[key], value, f"{where}: settings: {key}") for key, value in settings.items()},
        out=out,
        backgrounds_per_pair=typed(int, card["backgrounds_per_pair"], f"{where}: backgrounds_per_pair"),
        body=typed(hints["body"], card["body"], f"{where}: body"),
        quotas=typed(Quotas, card["quotas"], f"{where}: quotas"),
    )


def _require_entries(clip: PlannedClip, batch: Batch, out: Path) -> None:
    """Raise InputError when a clip names an avatar, a motion or a place that the batch has not."""
    pairs = ((clip.avatar, clip.motion), *clip.others)
    places = [(a, batch.avatars) for a, _ in pairs] + [(m, batch.motions) for _, m in pairs]
    for number, entries in [*places, (clip.background, batch.backgrounds)]:
        if not 0 <= number < len(entries):
            raise InputError(
                f"{out / 'plan.jsonl'}: clip {clip.id} names entry {number} of {len(entries)}. Plan again."
            )


def _refuse_changes(batch: Batch, planned: tuple[tuple[str, ...], ...], out: Path) -> None:
    for entries, before, now in zip(
        (batch.avatars, batch.motions, batch.backgrounds), planned, _hashes_there(batch), strict=True
    ):
        for entry, old, new in zip(entries, before, now, strict=True):
            if old != new:
                raise InputError(
                    f"{entry.path} is no longer what the plan in {out} was made with. Restore it, or plan again into "
                    "another folder."
                )


def _hashes_there(batch: Batch) -> tuple[tuple[str, ...], ...]:
    for entry in (*batch.avatars, *batch.motions, *batch.backgrounds):
        if entry.path != OWN_PLATE and not entry.path.exists():
            raise InputError(f"Nothing at {entry.path}, which the plan in {batch.out} was made with. Restore it.")
    return _hashes(batch)


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
    lines = [json_line(asdict(clip)) for clip in plan.clips]
    plan_path = out / "plan.jsonl"
    if plan_path.is_file():
        found = lines_of(read_text(plan_path))
        if found != lines:
            raise InputError(
                f"{out} holds the clips of another plan ({_difference(found, lines)}); nothing was overwritten. Choose "
                "another `out:`, or restore the batch file, its inputs and the version that made it."
            )
        return out
    require_new_data_set(out)
    write_json(out / "batch.json", _card(plan))
    with atomic_path(plan_path) as aside:
        aside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return out


def require_new_data_set(out: Path, *, option: str = "`out:`") -> None:
    """Raise InputError when anything stands at `out` but an empty folder, or what a command that was killed before it
    had written the plan left there: it is written anew."""
    begun = is_card(out / "batch.json")
    require_fresh_folder(out, what="the data set", option=option, may_hold={"batch.json"} if begun else frozenset())


def is_card(path: Path) -> bool:
    """Whether a file describes a batch, as `open_output` writes it."""
    if not path.is_file() or path.is_symlink():
        return False
    try:
        card = read_json(path)
    except InputError:
        return False
    return isinstance(card, dict) and {"made_by", "recipe", "settings", *_KINDS} <= card.keys()


def _difference(found: list[str], wanted: list[str]) -> str:
    shared = len(set(found) & set(wanted))
    return f"{len(found)} clips there, {len(wanted)} wanted, {shared} in common"


_SETTINGS = (
    "size_hw", "fps", "seed", "person_height", "shadow", "match_light", "light", "depth_labels", "others", "crf",
    "film", "camera", "placement", "speed",
)  # fmt: skip


def _settings(batch: Batch) -> dict[str, Any]:
    """Settings that change every clip."""
    settings = {name: getattr(batch, name) for name in _SETTINGS[:-4]}
    newer = {} if batch.placement is None else {"placement": asdict(batch.placement)}
    newer |= {} if batch.speed == (1.0, 1.0) else {"speed": batch.speed}  # without them, ids are as they were
    return settings | {"film": asdict(batch.film), "camera": asdict(batch.camera)} | newer


def _standing(entry: BackgroundEntry) -> dict[str, Any]:
    """What the batch says of a place, beside its pixels, that changes the clip."""
    names = ("camera_height_m", "horizon", "focal_px", "at", "distance_m", "heading_deg", "crop", "floor_m")
    newer = {"roll_deg": entry.roll_deg, "hidden": entry.hidden}
    said = {name: value for name, value in newer.items() if value}  # without them, ids are as they were
    return {name: getattr(entry, name) for name in names} | said


def _card(plan: Plan) -> dict[str, Any]:
    """Everything but the clips, as JSON."""
    batch = plan.batch
    hashes = (plan.avatar_sha256, plan.motion_sha256, plan.background_sha256)
    entries = (batch.avatars, batch.motions, batch.backgrounds)
    described = {
        kind: [{**asdict(e), "path": _kept_path(e.path), "sha256": sha} for e, sha in zip(es, hs, strict=True)]
        for kind, es, hs in zip(_KINDS, entries, hashes, strict=True)
    }
    return {
        "made_by": f"splat-avatars {__version__}",
        "recipe": RECIPE,
        "versions": versions(),
        "settings": plan.settings(),
        "backgrounds_per_pair": batch.backgrounds_per_pair,
        "body": None if batch.body is None else str(batch.body.absolute()),
        "quotas": asdict(batch.quotas),
        "refused_places": refused_places(batch),
        **described,
    }


def _kept_path(path: Path) -> str:
    return str(path if path == OWN_PLATE else path.absolute())


def versions() -> dict[str, str]:
    """What decides a clip's bytes beside its id: the libraries that calculate, and those that encode."""
    import av
    import torch

    from avatars.kernels.extension import extension

    encoders = {name: ".".join(map(str, av.library_versions.get(name, ()))) for name in ("libavcodec", "libswscale")}
    return {"PyAV": av.__version__, **encoders, "torch": str(torch.__version__), "numpy": np.__version__,
            "instructions": extension().instruction_set()}  # fmt: skip


def other_versions(out: Path) -> str:
    """The libraries that the plan in `out` was written with and that are others here, as one line; "" for none."""
    card = read_json(out / "batch.json") if (out / "batch.json").is_file() else {}
    planned, here = card.get("versions", {}) if isinstance(card, dict) else {}, versions()
    changed = [
        f"{name} {planned[name]} (here {here[name]})" for name in here if planned.get(name, here[name]) != here[name]
    ]
    if not changed:
        return ""
    return f"{out} was planned with {', '.join(changed)}: clips made now may have other bytes than those made there."


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
