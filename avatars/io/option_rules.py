"""Which numbers and file names an option takes: declared in its annotation, checked in one place before any work.

`fps: Annotated[float, Range(1, 240)] = 30.0` in a command's dataclass, or in a config that is a field of one;
`output: Annotated[Path, Suffix(".mp4")]` for a file, `Suffix()` for a folder.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from avatars.errors import InputError

_Mark = TypeVar("_Mark")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both allowed; NaN is in no range, and of floats only finite ones are."""

    low: float
    high: float
    also: tuple[float, ...] = ()
    """Single numbers outside that have a meaning of their own, such as -1 for "all"."""
    step: int = 1
    """2: whole numbers must be even."""
    what: str = ""
    """What the number is, where its name does not say it."""

    def holds(self, value: float) -> bool:
        """Whether a number is allowed."""
        inside = math.isfinite(value) and self.low <= value <= self.high
        return value in self.also or (inside and (self.step == 1 or value % self.step == 0))

    def __str__(self) -> str:
        alone = "".join(f" or {value:g}" for value in self.also)
        even = "" if self.step == 1 else f" in steps of {self.step}"
        what = self.what and f"{self.what}, "
        return f"{what}{_shown(self.low)} to {_shown(self.high)}{even}{alone}"


_FILES = {
    *(".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".gif", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"),
    *(".npz", ".npy", ".json", ".jsonl", ".csv", ".txt", ".md", ".yaml", ".yml", ".html", ".pdf", ".bvh", ".bmp"),
    *(".ply", ".splat", ".glb", ".gltf", ".obj", ".fbx", ".tar", ".zip", ".gz", ".pt", ".pth", ".pkl", ".safetensors"),
}
"""Suffixes that promise one file of a kind, so that no folder is made with such a name."""


@dataclass(frozen=True, slots=True)
class Suffix:
    """What the name of an output must end in, because that is what is written; nothing stands for a folder."""

    allowed: tuple[str, ...]

    def __init__(self, *allowed: str) -> None:
        object.__setattr__(self, "allowed", allowed)

    def check(self, path: Path, option: str) -> None:
        """Raise InputError for a name that promises another format."""
        suffix = path.suffix.lower()
        if self.allowed and suffix not in self.allowed and not path.is_char_device():
            kinds = " or ".join(self.allowed)
            raise InputError(f"{option} {path}: expected a name that ends in {kinds}, since that is what is written.")
        if not self.allowed and suffix in _FILES:
            raise InputError(f"{option} {path}: a folder is made here, and {suffix} says that it is a file.")


def check_options(options: Any) -> None:
    """Raise InputError for the first number of a dataclass, or of the dataclasses in it, that its range excludes, and
    for the first name that promises another format than is written."""
    for owner, name, hint in _hints(type(options)):
        value, option = getattr(options, name), f"--{name.replace('_', '-')}"
        if owner is None:
            check_options(value)
            continue
        allowed, named = _mark_in(hint, Range), _mark_in(hint, Suffix)
        for number in _numbers(value):
            if allowed is not None and not allowed.holds(number):
                raise InputError(f"{option} is {number}, expected {allowed}.")
        if named is not None and isinstance(value, Path):
            named.check(value, option)


def numbers_without_range(options: type) -> list[str]:
    """CLASS.FIELD of every number in a dataclass, or in the dataclasses of its fields, that declares no range."""
    found = []
    for owner, name, hint in _hints(options):
        if owner is None:
            found += [line for inner in hint for line in numbers_without_range(inner)]
        elif _takes_numbers(hint) and _mark_in(hint, Range) is None:
            found.append(f"{owner.__name__}.{name}")
    return found


def _hints(options: type) -> Iterator[tuple[type | None, str, Any]]:
    """The class, name and annotation of each field; where it holds a dataclass, None and which ones it may hold."""
    hints = get_type_hints(options, include_extras=True)
    for f in fields(options):
        bare = _bare(hints[f.name])
        inner = tuple(part for part in map(_bare, (bare, *_parts(bare))) if is_dataclass(part))
        yield (None, f.name, inner) if inner else (options, f.name, hints[f.name])


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _parts(hint: Any) -> tuple[Any, ...]:
    """What a union, a tuple, a list or a dict is made of."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType, tuple, list, dict) else ()


def _takes_numbers(hint: Any) -> bool:
    bare = _bare(hint)
    if get_origin(bare) is Literal:
        return False
    return bare in (int, float) or any(_takes_numbers(part) for part in _parts(bare))


def _mark_in(hint: Any, kind: type[_Mark]) -> _Mark | None:
    """The range or suffix in an annotation, at whatever depth."""
    if get_origin(hint) is Annotated:
        own = [mark for mark in hint.__metadata__ if isinstance(mark, kind)]
        return own[0] if own else _mark_in(get_args(hint)[0], kind)
    return next((found for part in _parts(hint) if (found := _mark_in(part, kind)) is not None), None)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _shown(bound: float) -> str:
    return f"{bound:.0f}" if float(bound).is_integer() and abs(bound) < 1e12 else f"{bound:g}"
