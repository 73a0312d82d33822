"""BATCH.yaml -> Batch: what to combine and how, checked to the last key before anything is made."""

from __future__ import annotations

import difflib
import glob
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from avatars.errors import InputError
from avatars.files import read_json
from compose.camera_motion import CameraMotion
from compose.film import Film
from reenact.quotas import Quotas

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
    strata: tuple[tuple[str, str], ...] = ()
    """What the person is, for quotas and coverage: (("sex", "female"), ("age", "adult"), ...)."""


@dataclass(frozen=True, slots=True)
class MotionEntry:
    """A motion: what `reenact features` wrote, or anything else that `avatars.motion_formats` reads."""

    path: Path
    label: str
    """Action class in the manifest; default: what `reenact features` noted, else the file's name without its number."""
    licence: str = ""


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
    film: Film = field(default_factory=Film)
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


def load_batch(path: str | Path) -> Batch:
    """Read and check a BATCH.yaml; paths in it are relative to its folder.

    Raises InputError naming the entry that is wrong, what was found and what was expected.
    """
    import yaml

    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"No batch file at {path}.") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise InputError(f"{path} is not a text file. `reenact run` needs a BATCH.yaml: see README.") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no keys. `reenact run` needs a BATCH.yaml: see README.")
    return parse_batch(document, path.parent, where=str(path))


def parse_batch(document: dict[str, Any], folder: Path, *, where: str = "BATCH.yaml") -> Batch:
    """Check the parsed document; relative paths are taken from `folder`. Raises InputError."""
    keys = {f.name for f in fields(Batch)} - {"size_hw"} | {"size"}
    _check_keys(document, keys, {"avatars", "motions", "backgrounds", "out"}, where)
    backgrounds = _entries(document["backgrounds"], f"{where}: backgrounds", folder, _background)
    avatars = _named_once(_entries(document["avatars"], f"{where}: avatars", folder, _avatar), f"{where}: avatars")
    batch = Batch(
        avatars=avatars,
        motions=_entries(document["motions"], f"{where}: motions", folder, _motion),
        backgrounds=backgrounds,
        out=folder / _text(document["out"], f"{where}: out"),
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
    return batch


def _settings(document: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """The optional keys of the batch that are present, checked."""
    readers: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
        "backgrounds_per_pair": ("backgrounds_per_pair", _whole(1, 10_000)),
        "size": ("size_hw", _size),
        "fps": ("fps", _number(1.0, 240.0)),
        "seed": ("seed", _whole(0, 2**32 - 1)),
        "person_height": ("person_height", _range(0.05, 1.0)),
        "shadow": ("shadow", _flag),
        "match_light": ("match_light", _flag),
        "light": ("light", _light),
        "film": ("film", _film),
        "camera": ("camera", _camera),
        "depth_labels": ("depth_labels", _flag),
        "others": ("others", _whole(0, 8)),
        "any_place": ("any_place", _flag),
        "crf": ("crf", _whole(0, 51)),
        "body": ("body", lambda value, at: _existing(folder, _text(value, at), at)),
        "quotas": ("quotas", _quotas),
    }
    return {
        field: read(document[key], f"{where}: {key}")
        for key, (field, read) in readers.items()
        if document.get(key) is not None
    }


def _light(value: Any, where: str) -> str:
    name = _text(value, where)
    if name not in LIGHTS:
        raise InputError(f"{where} is {name!r}, expected one of {', '.join(LIGHTS)}.")
    return name


def _film(value: Any, where: str) -> Film:
    """The keys of `Film`; its own checks name the bounds."""
    found = _mapping(value, where)
    _check_keys(found, {f.name for f in fields(Film)}, set(), where)
    readers = {"distortion": _pair(-0.4, 0.4), "subframes": _whole(2, 33), "jpeg": _whole(1, 95)}
    return Film(**{key: readers.get(key, _number(0.0, 10.0))(v, f"{where}: {key}") for key, v in found.items()})


def _camera(value: Any, where: str) -> CameraMotion:
    """ "pan", or {kind: pan, amount: 0.5}."""
    found = {"kind": value} if isinstance(value, str) else _mapping(value, where)
    _check_keys(found, {"kind", "amount"}, {"kind"}, where)
    return CameraMotion(found["kind"], _number(0.0, 4.0)(found.get("amount", 1.0), f"{where}: amount"))


def _entries(value: Any, where: str, folder: Path, read: Callable[[dict[str, Any], Path, str], Any]) -> tuple[Any, ...]:
    """Entries of a list whose items are a path (globs allowed) or a mapping with `path`."""
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is {_shown(value)}, expected a list with at least one entry.")
    entries = []
    for number, item in enumerate(value, 1):
        at = f"{where}[{number}]"
        item = {"path": item} if isinstance(item, str) else item
        if not isinstance(item, dict):
            raise InputError(f"{at} is {_shown(item)}, expected a path or a mapping with `path`.")
        if "path" not in item:
            raise InputError(f"{at} has no `path`; found {', '.join(map(str, item)) or 'nothing'}.")
        entries.extend(read(item, found, at) for found in _files(folder, _text(item["path"], f"{at}: path"), at))
    return tuple(entries)


def _files(folder: Path, pattern: str, where: str) -> list[Path]:
    """The files that a path or glob names, sorted."""
    if not glob.has_magic(pattern) or (folder / pattern).expanduser().exists():
        return [_existing(folder, pattern, where)]
    found = sorted(glob.glob(str((folder / pattern).expanduser()), recursive=True))
    if not found:
        raise InputError(f"{where}: no file matches {pattern} in {folder}.")
    return [Path(p) for p in found]


def _existing(folder: Path, name: str, where: str) -> Path:
    path = folder / Path(name).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"{where}: nothing at {path}.{hint}")
    return path


def _avatar(item: dict[str, Any], path: Path, where: str) -> AvatarEntry:
    _check_keys(item, {f.name for f in fields(AvatarEntry)}, {"path"}, where)
    if not path.is_dir():
        raise InputError(f"{where}: {path} is a file; an avatar is the folder that `avatars fit` wrote.")
    return AvatarEntry(
        path,
        _optional_text(item, "name", where) or path.resolve().name,
        _optional_text(item, "licence", where),
        _optional_text(item, "consent", where) or _consent_in(path),
        tuple((key, str(value)) for key, value in _mapping(item.get("strata") or {}, f"{where}: strata").items()),
    )


def _consent_in(avatar: Path) -> str:
    """What `avatars fit --consent` kept with an avatar; "" where there is nothing."""
    card = avatar / "avatar.json"
    found = read_json(card) if card.is_file() else {}
    return str(found.get("consent") or "") if isinstance(found, dict) else ""


def _motion(item: dict[str, Any], path: Path, where: str) -> MotionEntry:
    _check_keys(item, {"path", "label", "licence"}, {"path"}, where)
    if path.is_file() and path.suffix.lower() not in MOTION_SUFFIXES:
        raise InputError(
            f"{where}: {path} is no motion. Give an npz (from `reenact features CLIP`), or one of "
            f"{', '.join(MOTION_SUFFIXES)}."
        )
    label = _optional_text(item, "label", where) or _label_beside(path) or label_from_name(path)
    return MotionEntry(path, label, _optional_text(item, "licence", where))


def _label_beside(path: Path) -> str:
    """The label in the card that `reenact features` writes beside a motion; "" where there is none."""
    card = path.with_suffix(".json")
    found = read_json(card) if card.is_file() else {}
    return str(found.get("label", "")) if isinstance(found, dict) else ""


def label_from_name(path: Path) -> str:
    """The action that a file name tells: "wave_07.npz" -> "wave"."""
    return path.stem.rstrip("0123456789").rstrip("_- ") or path.stem


def _background(item: dict[str, Any], path: Path, where: str) -> BackgroundEntry:
    names = {f.name for f in fields(BackgroundEntry)} - {"shares"}
    _check_keys(item, names, {"path"}, where)
    readers: dict[str, Callable[[Any, str], Any]] = {
        "camera_height_m": _number(0.05, 50.0),
        "horizon": _number(-1.0, 0.95),
        "focal_px": _number(10.0, 1e6),
        "roll_deg": _number(-MOST_ROLL_DEG, MOST_ROLL_DEG),
        "at": _at,
        "distance_m": _number(0.5, 100.0),
        "heading_deg": _range(-360.0, 360.0),
        "crop": _pair(0.0, 1.0),
        "floor_m": _range(0.0, 1000.0),
        "hidden": _range(0.0, 1.0),
        "tags": _texts,
    }
    values = {k: read(item[k], f"{where}: {k}") for k, read in readers.items() if item.get(k) is not None}
    if "at" in values and "distance_m" in values:
        raise InputError(f"{where}: give `at` or `distance_m`, not both.")
    if path.is_dir():
        from compose.place_folder import place_shares, place_tags

        values["tags"] = values.get("tags") or place_tags(path)
        values["shares"] = place_shares(path)
    name = _optional_text(item, "name", where) or path.stem
    return BackgroundEntry(path, name, **values, licence=_optional_text(item, "licence", where))


def _quotas(value: Any, where: str) -> Quotas:
    found = _mapping(value, where)
    _check_keys(found, {f.name for f in fields(Quotas)}, set(), where)
    count = _whole(0, 10**9)
    totals = {k: count(found[k], f"{where}: {k}") for k in _TOTALS if found.get(k) is not None}
    strata = []
    for name, wanted in _mapping(found.get("strata") or {}, f"{where}: strata").items():
        at = f"{where}: strata: {name}"
        strata.append((name, tuple((value, count(n, f"{at}: {value}")) for value, n in _mapping(wanted, at).items())))
    return Quotas(**totals, strata=tuple(strata))


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {_shown(value)}, expected `name: value` pairs.")
    return {str(key): item for key, item in value.items()}


def _named_once(entries: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    names = [entry.name for entry in entries]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise InputError(f"{where}: the name {twins[0]!r} stands twice. Give one of them another `name:`.")
    return entries


def _check_keys(found: dict[str, Any], known: set[str], required: set[str], where: str) -> None:
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known))}."
            raise InputError(f"{where}: unknown key {key!r}.{hint}")
    missing = sorted(key for key in required if found.get(key) is None)
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing.")


def _shown(value: Any) -> str:
    return "empty" if value is None or value == [] else repr(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{where} is {_shown(value)}, expected text.")
    return value


def _optional_text(item: dict[str, Any], key: str, where: str) -> str:
    return "" if item.get(key) is None else _text(item[key], f"{where}: {key}")


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise InputError(f"{where} is {_shown(value)}, expected a list of words.")
    return tuple(_text(v, where) for v in value)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{where} is {_shown(value)}, expected true or false.")
    return value


def _number(low: float, high: float) -> Callable[[Any, str], float]:
    def read(value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{where} is {_shown(value)}, expected a number.")
        if not low <= value <= high:
            raise InputError(f"{where} is {value}, expected {low:g} to {high:g}.")
        return float(value)

    return read


def _whole(low: int, high: int) -> Callable[[Any, str], int]:
    def read(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{where} is {_shown(value)}, expected a whole number, {low} to {high}.")
        return value

    return read


def _pair(low: float, high: float) -> Callable[[Any, str], tuple[float, float]]:
    def read(value: Any, where: str) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:
            raise InputError(f"{where} is {_shown(value)}, expected two numbers, [a, b].")
        one, two = (_number(low, high)(v, where) for v in value)
        return one, two

    return read


def _range(low: float, high: float) -> Callable[[Any, str], tuple[float, float]]:
    def read(value: Any, where: str) -> tuple[float, float]:
        if isinstance(value, list):
            first, last = _pair(low, high)(value, where)
        else:
            first = last = _number(low, high)(value, where)
        if first > last:
            raise InputError(f"{where} is {value!r}, expected [from, to] with from at most to.")
        return first, last

    return read


def _at(value: Any, where: str) -> tuple[float, float]:
    right_m, ahead_m = _pair(-100.0, 100.0)(value, where)
    if ahead_m < 0.5:
        raise InputError(f"{where} is {value!r}: the second number is meters ahead of the camera, at least 0.5.")
    return right_m, ahead_m


def _size(value: Any, where: str) -> tuple[int, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value, value]
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where} is {_shown(value)}, expected [height, width] in pixels, or one number for a square.")
    height, width = (_whole(32, 4320)(v, where) for v in value)
    if height % 2 or width % 2:
        raise InputError(f"{where} is {height} x {width}; H.264 video needs even numbers.")
    return height, width
