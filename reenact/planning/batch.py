"""BATCH.yaml -> Batch: what to combine and how, checked to the last key before anything is made."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from avatars.errors import InputError
from avatars.io.files import read_json
from avatars.io.outputs import require_readable
from avatars.io.yaml_fields import (
    check_keys,
    flag,
    mapping,
    number,
    one_of,
    pair,
    path_in,
    read_yaml,
    shown,
    span,
    text,
    texts,
    whole,
)  # fmt: skip
from compose.rendering.camera_motion import CameraMotion
from compose.rendering.compositor import CameraEffects
from reenact.planning.class_names import label_from_name
from reenact.planning.framing import OWN_PLATE, SourceFraming
from reenact.planning.quotas import Quotas

Up = Literal["auto", "+y", "-y", "+z", "-z", "+x", "-x"]
_TOTALS = ("clips", "per_class", "per_identity")
LIGHTS = ("estimated", "day", "overcast", "night", "indoor")
MOST_ROLL_DEG = 60.0
MOTION_SUFFIXES = (".npz", ".bvh", ".pt", ".pth", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True, slots=True)
class AvatarEntry:
    """An avatar: the folder that `avatars fit` wrote."""

    path: Path
    name: str
    """Subject in the manifest; default: the folder's name."""
    licence: str = ""
    consent: str = ""
    """What the person agreed to; default: what `avatars fit --consent` kept. Without it no export is made."""
    person: str = ""
    """Who the avatar was made from: the identity in the manifest, which the audit of a benchmark holds against the
    people of its test clips. Two avatars of one person have the same."""
    strata: tuple[tuple[str, str], ...] = ()
    """What the person is, for quotas and coverage: (("sex", "female"), ("age", "adult"), ...)."""


@dataclass(frozen=True, slots=True)
class MotionEntry:
    """A motion: what `reenact features` wrote, or anything else that `avatars.motion_formats` reads."""

    path: Path
    label: str
    """Action class in the manifest; default: what `reenact features` noted, else what the file's name tells."""
    licence: str = ""
    up: Up = "auto"
    """Axis of the file's world that points up; auto: what its format states, unless gravity tells of another."""


@dataclass(frozen=True, slots=True)
class BackgroundEntry:
    """A photograph of a place, and what is known about how it was taken."""

    path: Path
    name: str
    camera_height_m: float | None = None
    horizon: float | None = None
    focal_px: float | None = None
    roll_deg: float | None = None
    at: tuple[float, float] | None = None
    """Where the motion starts: meters to the right of the camera and ahead of it; sampled when absent."""
    distance_m: float | None = None
    """How far away the middle of the motion is; sampled by `person_height` when absent."""
    heading_deg: tuple[float, float] = (0.0, 0.0)
    crop: tuple[float, float] | None = None
    """Window of a photograph whose shape differs from the clip's: (across, down) in [0, 1]; sampled when absent."""
    hidden: tuple[float, float] | None = None
    """Share of the person that things in the place must, and may, hide; [0, 0.5] when absent."""
    floor_m: tuple[float, float] | None = None
    """How far ahead of the camera the free floor begins and ends: what stands behind cannot be seen without depth."""
    tags: tuple[str, ...] = ()
    licence: str = ""
    shares: tuple[tuple[str, float], ...] = ()
    """What CLIP took a prepared place for; not given in a batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Every avatar does every motion, over `backgrounds_per_pair` of the backgrounds."""

    avatars: tuple[AvatarEntry, ...]
    motions: tuple[MotionEntry, ...]
    backgrounds: tuple[BackgroundEntry, ...]
    out: Path
    backgrounds_per_pair: int = 1
    size_hw: tuple[int, int] = (512, 512)
    fps: float = 30.0
    seed: int = 0
    person_height: tuple[float, float] = (0.5, 0.9)
    """Standing height as a fraction of the frame's height, from and to."""
    shadow: bool = True
    match_light: bool = True
    light: str = "estimated"
    """Light on the person: the place's own, or day, overcast, night or indoor. Needs `match_light`."""
    film: CameraEffects = field(default_factory=CameraEffects)
    """Motion blur, defocus, grain, lens and compression; none by default."""
    camera: CameraMotion = field(default_factory=CameraMotion)
    """Static, or a pan or a hand-held camera that turns where it stands."""
    others: int = 0
    """How many other people are in each clip: other avatars, each doing one of the motions for as long as it lasts."""
    any_place: bool = False
    """Whether places may be chosen whose tags say that the action is not done there."""
    depth_labels: bool = False
    """Whether labels hold the depth of every pixel of the person and of the place."""
    crf: int = 18
    """H.264 quality: 0 is lossless, 18 hardly visible, 28 small."""
    body: Path | None = None
    """Body file the avatars belong to; None: the default body."""
    quotas: Quotas = field(default_factory=Quotas)
    """How many clips of what; without quotas all."""
    placement: SourceFraming | None = None
    """Where the source's person was, through the source's camera; None: at a spot that is found in the place."""
    speed: tuple[float, float] = (1.0, 1.0)
    """How fast motions are played, from and to, drawn for every avatar and motion."""


def load_batch(path: str | Path) -> Batch:
    """Read and check a BATCH.yaml; paths in it are relative to its folder.

    Raises InputError naming the entry that is wrong, what was found and what was expected.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"No batch file at {path}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder. `reenact run` needs a BATCH.yaml: see docs/batch.md.")
    require_readable(path)
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no keys. `reenact run` needs a BATCH.yaml: see docs/batch.md.")
    return parse_batch(document, path.parent, where=str(path))


def parse_batch(document: dict[str, Any], folder: Path, *, where: str = "BATCH.yaml") -> Batch:
    """Check the parsed document; relative paths are taken from `folder`. Raises InputError."""
    keys = {f.name for f in fields(Batch)} - {"size_hw"} | {"size"}
    check_keys(document, keys, {"avatars", "motions", "backgrounds", "out"}, where)
    backgrounds = _entries(document["backgrounds"], f"{where}: backgrounds", folder, _background)
    avatars = _named_once(_entries(document["avatars"], f"{where}: avatars", folder, _avatar), f"{where}: avatars")
    batch = Batch(
        avatars=avatars,
        motions=_entries(document["motions"], f"{where}: motions", folder, _motion),
        backgrounds=backgrounds,
        out=path_in(folder, document["out"], f"{where}: out"),
        **_settings(document, folder, where),
    )
    if not 1 <= batch.backgrounds_per_pair <= len(backgrounds):
        raise InputError(
            f"{where}: backgrounds_per_pair is {batch.backgrounds_per_pair}, with {len(backgrounds)} backgrounds "
            f"given. Choose 1 to {len(backgrounds)}, or add backgrounds."
        )
    if batch.others >= len(avatars):
        raise InputError(
            f"{where}: others is {batch.others}, with {len(avatars)} avatars given: the people in a clip are different "
            f"ones. Choose 0 to {len(avatars) - 1}, or add avatars."
        )
    _check_placement(batch, where)
    return batch


def _check_placement(batch: Batch, where: str) -> None:
    """Raise InputError for settings that a source's framing cannot have, and for its plates without it."""
    if batch.placement is None:
        if any(entry.path == OWN_PLATE for entry in batch.backgrounds):
            raise InputError(f"{where}: backgrounds: `source` is for `placement: source`; add that, or give pictures.")
        return
    if batch.camera.kind != "static" or batch.others:
        raise InputError(
            f"{where}: `placement: source` has the source's own still camera and its one person; it goes with no "
            "`camera` and no `others`."
        )


def _settings(document: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """The optional keys of the batch that are present, checked."""
    readers: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
        "backgrounds_per_pair": ("backgrounds_per_pair", whole(1, 10_000)),
        "size": ("size_hw", _size),
        "fps": ("fps", number(1.0, 240.0)),
        "seed": ("seed", whole(0, 2**32 - 1)),
        "person_height": ("person_height", span(0.05, 1.0)),
        "shadow": ("shadow", flag),
        "match_light": ("match_light", flag),
        "light": ("light", one_of(*LIGHTS)),
        "film": ("film", _film),
        "camera": ("camera", _camera),
        "depth_labels": ("depth_labels", flag),
        "others": ("others", whole(0, 8)),
        "any_place": ("any_place", flag),
        "crf": ("crf", whole(0, 51)),
        "body": ("body", lambda value, at: _existing(folder, text(value, at), at)),
        "quotas": ("quotas", _quotas),
        "placement": ("placement", _placement),
        "speed": ("speed", span(0.25, 4.0)),
    }
    return {
        field: read(document[key], f"{where}: {key}")
        for key, (field, read) in readers.items()
        if document.get(key) is not None
    }


def _film(value: Any, where: str) -> CameraEffects:
    """The keys of `CameraEffects`; its own checks name the bounds."""
    found = mapping(value, where)
    check_keys(found, {f.name for f in fields(CameraEffects)}, set(), where)
    readers = {"distortion": pair(-0.4, 0.4), "subframes": whole(2, 33), "jpeg": whole(1, 95)}
    return CameraEffects(**{key: readers.get(key, number(0.0, 10.0))(v, f"{where}: {key}") for key, v in found.items()})


def _camera(value: Any, where: str) -> CameraMotion:
    """ "pan", or {kind: pan, amount: 0.5}."""
    found = {"kind": value} if isinstance(value, str) else mapping(value, where)
    check_keys(found, {"kind", "amount"}, {"kind"}, where)
    kind = cast(Any, text(found["kind"], f"{where}: kind"))  # CameraMotion refuses others
    return CameraMotion(kind, number(0.0, 4.0)(found.get("amount", 1.0), f"{where}: amount"))


def _placement(value: Any, where: str) -> SourceFraming | None:
    """ "place", "source", or {kind: source, turn_deg: [-8, 8], size: [0.9, 1.1]}."""
    found = {"kind": value} if isinstance(value, str) else mapping(value, where)
    check_keys(found, {"kind", "turn_deg", "size"}, {"kind"}, where)
    kind = one_of("place", "source")(found["kind"], f"{where}: kind")
    if kind == "place":
        if len(found) > 1:
            raise InputError(f"{where}: turn_deg and size are for `kind: source`; a place has `heading_deg`.")
        return None
    readers = {"turn_deg": span(-180.0, 180.0), "size": span(0.25, 4.0)}
    return SourceFraming(**{key: read(found[key], f"{where}: {key}") for key, read in readers.items() if key in found})


def _entries(value: Any, where: str, folder: Path, read: Callable[[dict[str, Any], Path, str], Any]) -> tuple[Any, ...]:
    """Entries of a list whose items are a path (globs allowed) or a mapping with `path`."""
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is {shown(value)}, expected a list with at least one entry.")
    entries = []
    for place, item in enumerate(value, 1):
        at = f"{where}[{place}]"
        if read is _background and item == str(OWN_PLATE):
            entries.append(BackgroundEntry(OWN_PLATE, str(OWN_PLATE)))
            continue
        item = {"path": item} if isinstance(item, str) else item
        if not isinstance(item, dict):
            raise InputError(f"{at} is {shown(item)}, expected a path or a mapping with `path`.")
        if "path" not in item:
            raise InputError(f"{at} has no `path`; found {', '.join(map(str, item)) or 'nothing'}.")
        entries.extend(read(item, found, at) for found in _files(folder, text(item["path"], f"{at}: path"), at))
    return tuple(entries)


def _files(folder: Path, pattern: str, where: str) -> list[Path]:
    """The files that a path or glob names, sorted."""
    whole_path = path_in(folder, pattern, where)
    if not glob.has_magic(pattern) or whole_path.exists():
        return [_existing(folder, pattern, where)]
    found = sorted(glob.glob(str(whole_path), recursive=True))
    if not found:
        raise InputError(f"{where}: no file matches {pattern} in {folder}.")
    return [Path(p) for p in found]


def _existing(folder: Path, name: str, where: str) -> Path:
    path = path_in(folder, name, where)
    require_readable(path)
    if not path.exists():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"{where}: nothing at {path}.{hint}")
    return path


def _avatar(item: dict[str, Any], path: Path, where: str) -> AvatarEntry:
    check_keys(item, {f.name for f in fields(AvatarEntry)}, {"path"}, where)
    if not path.is_dir():
        raise InputError(f"{where}: {path} is a file; an avatar is the folder that `avatars fit` wrote.")
    return AvatarEntry(
        path,
        _optional_text(item, "name", where) or path.resolve().name,
        _optional_text(item, "licence", where),
        _optional_text(item, "consent", where) or _consent_in(path),
        _optional_text(item, "person", where),
        tuple(
            (key, _stratum(value, f"{where}: strata: {key}"))
            for key, value in mapping(item.get("strata") or {}, f"{where}: strata").items()
        ),
    )


def _stratum(value: Any, where: str) -> str:
    return str(value) if isinstance(value, (bool, int, float)) else text(value, where)


def _consent_in(avatar: Path) -> str:
    """What `avatars fit --consent` kept with an avatar; "" where there is nothing."""
    card = avatar / "avatar.json"
    found = read_json(card) if card.is_file() else {}
    return str(found.get("consent") or "") if isinstance(found, dict) else ""


def _motion(item: dict[str, Any], path: Path, where: str) -> MotionEntry:
    check_keys(item, {"path", "label", "licence", "up"}, {"path"}, where)
    if path.is_file() and path.suffix.lower() not in MOTION_SUFFIXES:
        raise InputError(
            f"{where}: {path} is no motion. Give an npz (from `reenact features CLIP`), or one of "
            f"{', '.join(MOTION_SUFFIXES)}."
        )
    label = _optional_text(item, "label", where) or _label_beside(path)
    label = label or text(label_from_name(path), f"{where}: the label that {path.name!r} tells")
    up = one_of(*get_args(Up))(item.get("up") or "auto", f"{where}: up")
    return MotionEntry(path, label, _optional_text(item, "licence", where), up)


def _label_beside(path: Path) -> str:
    """The label in the card that `reenact features` writes beside a motion; "" where there is none."""
    card = path.with_suffix(".json")
    found = read_json(card) if card.is_file() else {}
    return str(found.get("label", "")) if isinstance(found, dict) else ""


def _background(item: dict[str, Any], path: Path, where: str) -> BackgroundEntry:
    names = {f.name for f in fields(BackgroundEntry)} - {"shares"}
    check_keys(item, names, {"path"}, where)
    readers: dict[str, Callable[[Any, str], Any]] = {
        "camera_height_m": number(0.05, 50.0),
        "horizon": number(-1.0, 0.95),
        "focal_px": number(10.0, 1e6),
        "roll_deg": number(-MOST_ROLL_DEG, MOST_ROLL_DEG),
        "at": _at,
        "distance_m": number(0.5, 100.0),
        "heading_deg": span(-360.0, 360.0),
        "crop": pair(0.0, 1.0),
        "floor_m": span(0.0, 1000.0),
        "hidden": span(0.0, 1.0),
        "tags": texts,
    }
    values = {k: read(item[k], f"{where}: {k}") for k, read in readers.items() if item.get(k) is not None}
    if "at" in values and "distance_m" in values:
        raise InputError(f"{where}: give `at` or `distance_m`, not both.")
    if path.is_dir():
        from compose.places.place_folder import place_shares, place_tags

        values["tags"] = values.get("tags") or place_tags(path)
        values["shares"] = place_shares(path)
    name = _optional_text(item, "name", where) or path.stem
    return BackgroundEntry(path, name, **values, licence=_optional_text(item, "licence", where))


def _quotas(value: Any, where: str) -> Quotas:
    found = mapping(value, where)
    check_keys(found, {f.name for f in fields(Quotas)}, set(), where)
    count = whole(0, 10**9)
    totals = {k: count(found[k], f"{where}: {k}") for k in _TOTALS if found.get(k) is not None}
    strata = []
    for name, wanted in mapping(found.get("strata") or {}, f"{where}: strata").items():
        at = f"{where}: strata: {name}"
        strata.append((name, tuple((value, count(n, f"{at}: {value}")) for value, n in mapping(wanted, at).items())))
    return Quotas(**totals, strata=tuple(strata))


def _named_once(entries: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    names = [entry.name for entry in entries]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise InputError(f"{where}: the name {twins[0]!r} stands twice. Give one of them another `name:`.")
    return entries


def _optional_text(item: dict[str, Any], key: str, where: str) -> str:
    return "" if item.get(key) is None else text(item[key], f"{where}: {key}")


def _at(value: Any, where: str) -> tuple[float, float]:
    right_m, ahead_m = pair(-100.0, 100.0)(value, where)
    if ahead_m < 0.5:
        raise InputError(f"{where} is {value!r}: the second number is meters ahead of the camera, at least 0.5.")
    return right_m, ahead_m


def _size(value: Any, where: str) -> tuple[int, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value, value]
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where} is {shown(value)}, expected [height, width] in pixels, or one number for a square.")
    height, width = (whole(32, 4320)(v, where) for v in value)
    if height % 2 or width % 2:
        raise InputError(f"{where} is {height} x {width}; H.264 video needs even numbers.")
    return height, width
