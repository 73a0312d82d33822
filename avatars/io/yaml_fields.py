"""YAML that people write -> checked values: one reader and one set of checks for every such file.

A check takes a value and where it stands ("BATCH.yaml: fps") and gives the value as it is used, or raises InputError
in one line: what was found, what was expected.
"""

from __future__ import annotations

import difflib
import reprlib
import unicodedata
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

from avatars.errors import InputError
from avatars.io.outputs import require_readable

MOST_BYTES = 16 * 2**20
Check = Callable[[Any, str], Any]

_SHOW = reprlib.Repr()
_SHOW.maxstring = _SHOW.maxother = 80
_SHOW.maxlist = _SHOW.maxdict = _SHOW.maxtuple = 6
_SHOW.maxlevel = 3


class _Loader(yaml.SafeLoader):
    """YAML's safe types without dates and base-60 numbers (`10:30` is text), in which no key stands twice."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        return node.value if ":" in node.value else super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> Any:
        return node.value if ":" in node.value else super().construct_yaml_float(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in lines:
                raise _Twice(f"`{key_node.value}` stands twice, in lines {lines[key_node.value]} and {line}.")
            lines[key_node.value] = line
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


class _Twice(ValueError):
    """A key that stands twice in one mapping."""


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds. Raises InputError, in one line, when it is missing, no text, no valid YAML, or holds a
    key twice."""
    path = Path(path)
    require_readable(path)
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes, more than any file of its kind ({MOST_BYTES}).")
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except FileNotFoundError:
        raise InputError(f"No file at {path}.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a text file in UTF-8 ({' '.join(str(error).split())}).") from None
    except _Twice as error:
        raise InputError(f"{path}: {error} Keep one of them.") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from None


def shown(value: Any) -> str:
    """A value as a message shows it: short, whatever it is."""
    return "empty" if value is None or value == [] else _SHOW.repr(value)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """`name: value` pairs."""
    if not isinstance(value, dict):
        raise InputError(f"{where} is {shown(value)}, expected `name: value` pairs.")
    return {str(key): item for key, item in value.items()}


def check_keys(found: dict[str, Any], known: Collection[str], required: Collection[str], where: str) -> None:
    """Raises InputError for a key that is not known, suggesting the nearest, and for one that is missing."""
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known))}."
            raise InputError(f"{where}: unknown key {shown(key)}.{hint}")
    missing = sorted(key for key in required if found.get(key) is None)
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing.")


def fields_of(value: Any, readers: dict[str, Check], where: str) -> dict[str, Any]:
    """The entries of a mapping that are given, each read by its reader."""
    found = mapping(value, where)
    check_keys(found, readers, (), where)
    return {key: readers[key](item, f"{where}: {key}") for key, item in found.items() if item is not None}


def text(value: Any, where: str) -> str:
    """Text of one line; not what YAML takes for a number or for true and false."""
    if isinstance(value, (bool, int, float)):
        raise InputError(f"{where} is {shown(value)}, expected text: put it in quotes.")
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is {shown(value)}, expected text.")
    odd = next((char for char in value if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs")), None)
    if odd is not None:
        raise InputError(f"{where} is {shown(value)}: it holds the control character U+{ord(odd):04X}; take it out.")
    return value


def texts(value: Any, where: str) -> tuple[str, ...]:
    """One word or a list of them."""
    if isinstance(value, str):
        return (text(value, where),)
    if not isinstance(value, list):
        raise InputError(f"{where} is {shown(value)}, expected a list of words.")
    return tuple(text(item, where) for item in value)


def path_in(folder: Path, value: Any, where: str) -> Path:
    """A path relative to `folder`; `~` is the user's home."""
    name = Path(text(value, where))
    try:
        return folder / name.expanduser()
    except RuntimeError:
        raise InputError(f"{where} is {shown(value)}: there is no home folder of {name.parts[0]}.") from None


def flag(value: Any, where: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise InputError(f"{where} is {shown(value)}, expected true or false.")
    return value


def one_of(*names: str) -> Check:
    """One of these words."""

    def read(value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in names:
            raise InputError(f"{where} is {shown(value)}, expected one of {', '.join(names)}.")
        return value

    return read


def number(low: float, high: float) -> Check:
    """A finite number within bounds."""

    def read(value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e18 < value < 1e18:
            raise InputError(f"{where} is {shown(value)}, expected a number.")
        if not low <= value <= high:
            raise InputError(f"{where} is {shown(value)}, expected {low:g} to {high:g}.")
        return float(value)

    return read


def whole(low: int, high: int) -> Check:
    """A whole number within bounds."""

    def read(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{where} is {shown(value)}, expected a whole number, {low} to {high}.")
        return value

    return read


def pair(low: float, high: float) -> Check:
    """Two numbers within bounds."""

    def read(value: Any, where: str) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:
            raise InputError(f"{where} is {shown(value)}, expected two numbers, [a, b].")
        one, two = (number(low, high)(v, where) for v in value)
        return one, two

    return read


def span(low: float, high: float) -> Check:
    """From and to, or one number for both."""

    def read(value: Any, where: str) -> tuple[float, float]:
        if isinstance(value, list):
            first, last = pair(low, high)(value, where)
        else:
            first = last = number(low, high)(value, where)
        if first > last:
            raise InputError(f"{where} is {shown(value)}, expected [from, to] with from at most to.")
        return first, last

    return read


def listed(read: Check) -> Check:
    """A list whose items are read alike."""

    def every(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InputError(f"{where} is {shown(value)}, expected a list.")
        return tuple(read(item, f"{where}[{i}]") for i, item in enumerate(value, 1))

    return every
