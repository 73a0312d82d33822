"""JSON that somebody else may have written -> values of the types that dataclasses declare, or one line that says no.

`typed(PlannedClip, row, "plan.jsonl, line 3")` checks names, types and finiteness all the way down. Lines of a .jsonl
end with "\\n" alone: U+2028 and its like may stand in a text, and are escaped when we write.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from avatars.errors import InputError

MOST_BYTES = 2**30
"""Of one JSON file; a plan of a million clips has a fifth of it."""
_MOST_WHOLE = 2**63
_LINE_ENDS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085"}


def parse_json(text: str, where: str) -> Any:
    """Parse one JSON value. Raises InputError for broken text and for nesting without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{where} is nested too deeply to be ours.") from None
    except ValueError as error:  # JSONDecodeError, and integers of thousands of digits
        raise InputError(f"{where} is not valid JSON ({error}).") from None


def read_text(path: str | Path) -> str:
    """The text of a file of reasonable size. Raises InputError when it is not there, no file or no text."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"No file at {path}.")
    if not path.is_file():
        raise InputError(f"{path} is no file.")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes, more than any file of its kind ({MOST_BYTES}).")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file ({error}).") from None


def lines_of(text: str) -> list[str]:
    """The lines of a .jsonl, split at "\\n" alone; empty ones are left out."""
    return [line for line in text.split("\n") if line.strip()]


def read_json_lines(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Where it stands, for messages, and the value of each line. Raises InputError naming the line that is wrong."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, parse_json(line, where)


def json_line(value: Any) -> str:
    """One line of JSON, whatever its texts hold."""
    line = json.dumps(value, ensure_ascii=False)
    for end, escaped in _LINE_ENDS.items():
        line = line.replace(end, escaped)
    return line


def typed(kind: Any, value: Any, where: str, *, more: bool = False) -> Any:
    """`value` as an instance of `kind`: a dataclass, or anything that its fields' annotations may say.

    Unknown keys of a mapping are refused, or with `more` left out. Raises InputError naming `where` and the key.
    """
    return _converter(kind, more)(value, where)


@lru_cache(maxsize=512)
def _converter(kind: Any, more: bool) -> Callable[[Any, str], Any]:
    """The function that checks and converts values of one kind."""
    if is_dataclass(kind):
        return _record(kind, more)
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _either(parts, more)
    if origin is Literal:
        return lambda value, where: value if _plain_in(value, parts) else _refuse(value, where, f"one of {parts}")
    if origin is tuple:
        return _sequence(parts, more)
    if origin is dict:
        item = _converter(parts[1], more)
        return lambda value, where: {
            _text(k, where): item(v, f"{where}: {k}") for k, v in require_mapping(value, where).items()
        }
    raise TypeError(f"no JSON is checked against {kind}")


def _plain_in(value: Any, parts: tuple[Any, ...]) -> bool:
    return isinstance(value, (str, int)) and value in parts


def require_mapping(value: Any, where: str) -> dict[Any, Any]:
    """`value`, which must be `name: value` pairs. Raises InputError."""
    return value if isinstance(value, dict) else _refuse(value, where, "`name: value` pairs")


def require_list(value: Any, where: str) -> list[Any]:
    """`value`, which must be a list. Raises InputError."""
    return value if isinstance(value, list) else _refuse(value, where, "a list")


def _record(kind: Any, more: bool) -> Callable[[Any, str], Any]:
    hints = get_type_hints(kind)
    readers = {f.name: hints[f.name] for f in fields(kind) if f.init}
    required = [f.name for f in fields(kind) if f.init and f.default is MISSING and f.default_factory is MISSING]

    def read(value: Any, where: str) -> Any:
        found = require_mapping(value, where)
        unknown = [] if more else [str(key) for key in found if key not in readers]
        missing = [name for name in required if name not in found]
        if unknown or missing:
            said = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(missing)
            raise InputError(f"{where}: {' and '.join(said)}. Expected the keys {', '.join(readers)}.")
        return kind(
            **{
                key: _converter(hint, more)(found[key], f"{where}: {key}")
                for key, hint in readers.items()
                if key in found
            }
        )

    return read


def _either(parts: tuple[Any, ...], more: bool) -> Callable[[Any, str], Any]:
    if types.NoneType not in parts or len(parts) != 2:
        raise TypeError(f"no JSON is checked against {parts}")
    inner = _converter(next(part for part in parts if part is not types.NoneType), more)
    return lambda value, where: None if value is None else inner(value, where)


def _sequence(parts: tuple[Any, ...], more: bool) -> Callable[[Any, str], Any]:
    if len(parts) == 2 and parts[1] is Ellipsis:
        item = _converter(parts[0], more)
        return lambda value, where: tuple(item(v, where) for v in require_list(value, where))
    items = [_converter(part, more) for part in parts]

    def read(value: Any, where: str) -> tuple[Any, ...]:
        found = require_list(value, where)
        if len(found) != len(items):
            return _refuse(value, where, f"a list of {len(items)}")
        return tuple(item(v, where) for item, v in zip(items, found, strict=True))

    return read


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= _MOST_WHOLE:
        return _refuse(value, where, "a whole number")
    return value


def _number(value: Any, where: str) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or (isinstance(value, int) and abs(value) >= _MOST_WHOLE) or not math.isfinite(value):
        return _refuse(value, where, "a finite number")
    return float(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        return _refuse(value, where, "text")
    return value


def _flag(value: Any, where: str) -> bool:
    return value if isinstance(value, bool) else _refuse(value, where, "true or false")


def _path(value: Any, where: str) -> Path:
    return Path(_text(value, where)) if value else _refuse(value, where, "a path")


_PLAIN: dict[Any, Callable[[Any, str], Any]] = {
    bool: _flag, int: _whole, float: _number, str: _text, Path: _path, Any: lambda value, where: value,
}  # fmt: skip


def shown(value: Any) -> str:
    """A value for a message: short, and a container by its kind alone."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) >= _MOST_WHOLE:
        return "a huge number"
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse(value: Any, where: str, expected: str) -> Any:
    raise InputError(f"{where} is {shown(value)}, expected {expected}.")
