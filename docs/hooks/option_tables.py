"""Writes the option tables of the pages: `<!-- options: avatars fit -->` becomes a table made from the command itself.

A hook of MkDocs (`hooks:` in mkdocs.yml). The commands are frozen dataclasses that tyro turns into command lines, so
their fields, defaults and docstrings say all that `--help` says, and a table can never be older than its command.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

PROGRAMS = {"avatars": "avatars.commands.cli", "reenact": "reenact.cli"}
MARK = re.compile(r"^<!-- options: (.+?) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """One option or positional argument of a command."""

    flags: tuple[str, ...]
    """As typed: `-o`, `--output`; a positional argument has its name in capitals."""
    values: str
    """What it takes."""
    default: str
    """Empty where a value must be given."""
    meaning: str


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace every mark of a page by its table (called by MkDocs)."""
    return MARK.sub(lambda found: table(found.group(1)), markdown)


def table(command: str) -> str:
    """A Markdown table of `avatars fit`, `avatars body build`, ... Raises KeyError for an unknown command."""
    rows = ["| option | value | default | |", "| --- | --- | --- | --- |"]
    for option in options_of(command):
        flags = ", ".join(f"`{flag}`" for flag in option.flags)
        cells = (flags, _code(option.values), _code(option.default), option.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([f"`{command}`:", "", *rows])


def options_of(command: str) -> list[Option]:
    """All options of a command, positional arguments first. Raises KeyError for an unknown command."""
    found = list(_options(commands()[command]))
    return sorted(found, key=lambda option: option.flags[0].startswith("-"))


@lru_cache(maxsize=1)
def commands() -> dict[str, type]:
    """The dataclass of every command, by its words."""
    found: dict[str, type] = {}
    for program, module in PROGRAMS.items():
        found |= _subcommands(importlib.import_module(module).Commands, program)
    return found


def _subcommands(union: Any, words: str) -> dict[str, type]:
    """The commands of a union of annotated dataclasses, and of those that hold such a union themselves."""
    found: dict[str, type] = {}
    for member in get_args(union):
        cls, *notes = get_args(member)
        name = next(note.name for note in notes if hasattr(note, "name"))
        hints = get_type_hints(cls, include_extras=True)
        nested = [hint for hint in hints.values() if _is_union_of_commands(hint)]
        found |= _subcommands(nested[0], f"{words} {name}") if nested else {f"{words} {name}": cls}
    return found


def _is_union_of_commands(hint: Any) -> bool:
    members = get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union) else ()
    return bool(members) and all(
        get_origin(m) is Annotated and dataclasses.is_dataclass(get_args(m)[0]) for m in members
    )


def _options(cls: type, defaults: Any = None) -> Iterator[Option]:
    """Options of a dataclass, with those of dataclasses in it in their places."""
    meanings, hints = field_docstrings(cls), get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint, notes = hints[field.name], ()
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
        if any(note is tyro.conf.Suppress for note in notes) or "Suppress" in str(notes):
            continue
        default = _default(field) if defaults is None else getattr(defaults, field.name)
        if dataclasses.is_dataclass(hint):
            yield from _options(typing.cast(type, hint), default)
            continue
        positional = any("POSITIONAL" in str(note).upper() for note in notes)
        aliases = [alias for note in notes for alias in (getattr(note, "aliases", None) or ())]
        flag = "--" + field.name.replace("_", "-")
        flags = (field.name.upper(),) if positional else (*aliases, flag)
        if hint is bool:
            flags = (flag, f"--no-{flag[2:]}")
        ranges = [f"{note}" for note in notes if hasattr(note, "low") and hasattr(note, "high")]
        yield Option(flags, ", ".join([_values(hint), *ranges]), _shown(default), meanings.get(field.name, ""))


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _shown(default: Any) -> str:
    """A default as it would be typed."""
    if default is dataclasses.MISSING or default in (None, (), ""):
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _values(hint: Any) -> str:
    """What an option takes, in a word."""
    origin, members = get_origin(hint), get_args(hint)
    if hint is bool or hint is type(None):
        return ""
    if origin is Annotated:
        return _values(members[0])
    if origin is Literal:
        return " or ".join(map(str, members))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(filter(None, map(_values, members)))
    if origin is tuple:
        return f"{_values(members[0])} ..."
    return {Path: "PATH", int: "INT", float: "FLOAT", str: "TEXT"}[hint]


def field_docstrings(cls: type) -> dict[str, str]:
    """The text under each field of a dataclass and of its bases, on one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        body = ast.parse(inspect.cleandoc(inspect.getsource(base))).body[0].body
        for line, after in itertools.pairwise(body):
            if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(line.target, ast.Name):
                value = getattr(after.value, "value", None)
                if isinstance(value, str):
                    found[line.target.id] = " ".join(value.split())
    return found


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
