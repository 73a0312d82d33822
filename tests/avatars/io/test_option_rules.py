"""Every number of every command declares its range, and a number outside is refused in one line before any work."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

import avatars.commands.cli
import reenact.cli
from avatars.commands import console
from avatars.errors import InputError
from avatars.io.option_rules import Range, Suffix, check_options, numbers_without_range


def commands() -> list[type]:
    """The dataclass of every command."""
    unions = avatars.commands.cli.Commands, reenact.cli.Commands
    return [get_args(part)[0] for union in unions for part in get_args(union)]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.__name__)
def test_every_number_of_a_command_declares_its_range(command):
    assert numbers_without_range(command) == []


def numeric_options() -> list[tuple[str, str, str]]:
    """Program, words and option of every number on the command line, those of nested settings included."""
    found = []
    for program, union in (("avatars", avatars.commands.cli.Commands), ("reenact", reenact.cli.Commands)):
        for part in get_args(union):
            command, (mark, *_) = get_args(part)[0], part.__metadata__
            for option in _numeric(command):
                found.append((program, mark.name, option))
    return found


def _numeric(owner: type) -> list[str]:
    from typing import get_type_hints

    options = []
    for name, hint in get_type_hints(owner, include_extras=True).items():
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if is_dataclass(bare):
            options += _numeric(bare)
        elif get_origin(hint) is Annotated and any(isinstance(mark, Range) for mark in hint.__metadata__):
            options.append(name)
    return [o for o in options if o != "thresholds"]  # not on the command line


POSITIONAL = {
    "reproduce": ["recipe.yaml"],
    "fit": ["v.mp4", "-o", "o"], "track": ["v.mp4", "-o", "o"], "check": ["v.mp4"], "render": ["a", "-o", "o.mp4"],
    "view": ["a"], "vary": ["a", "-o", "o"], "motion": ["m.npz", "-o", "o.npz"], "features": ["c.mp4", "-o", "o"],
    "normalize": ["m.npz", "-o", "o"], "backgrounds": ["prepare", "p.png", "-o", "o"], "run": ["b.yaml"],
    "verify": ["o"], "gate": ["o"], "demo": [],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("program", "word", "option"), numeric_options())
@pytest.mark.parametrize("value", ["nan", "-777", "1e15"])
def test_numbers_outside_are_refused_in_one_line_before_any_work(
    program, word, option, value, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    commands = avatars.commands.cli.Commands if program == "avatars" else reenact.cli.Commands
    positional = POSITIONAL.get(word) or (["a", "-o", "o.ply"] if program == "avatars" else _export())
    arguments = [word, *(positional if word != "demo" else []), "--" + option.replace("_", "-"), value]
    try:
        code = console.main(commands, prog=program, description="", argv=arguments)
    except SystemExit as stop:  # tyro: no whole number
        code = stop.code
        assert value != "-777"
    told = capsys.readouterr().err
    assert code == console.USER_MISTAKE, told
    if option == "horizon" or value == "-777" or "expected" in told:
        assert option.replace("_", "-") in told
    assert list(tmp_path.iterdir()) == []


def _export() -> list[str]:
    return ["o", "--to", "folders", "-o", "e"]


@dataclass(frozen=True)
class Inner:
    """Settings within settings."""

    rate: Annotated[float | None, Range(1, 10)] = None
    bare: float = 0.0


@dataclass(frozen=True)
class Outer:
    """A command."""

    pair: Annotated[tuple[float, float], Range(0, 1)] = (0.0, 1.0)
    count: Annotated[int, Range(1, 9, also=(-1,))] = 1
    even: Annotated[int, Range(2, 8, step=2)] = 2
    word: Annotated[str | int, Range(0, 5)] = "all"
    flag: bool = False
    path: Path = Path()
    inner: Inner = field(default_factory=Inner)
    many: tuple[int, ...] = ()


def test_a_number_without_a_range_is_found_at_any_depth():
    assert numbers_without_range(Outer) == ["Inner.bare", "Outer.many"]


CASES: list[tuple[dict[str, Any], str]] = [
    ({"pair": (0.0, float("nan"))}, "--pair is nan, expected 0 to 1"),
    ({"count": 0}, "--count is 0, expected 1 to 9 or -1"),
    ({"even": 3}, "--even is 3, expected 2 to 8 in steps of 2"),
    ({"word": -1}, "--word is -1"),
    ({"inner": Inner(rate=float("inf"))}, "--rate is inf, expected 1 to 10"),
]


@pytest.mark.parametrize(("change", "message"), CASES)
def test_what_is_outside_is_named_with_its_range(change, message):
    with pytest.raises(InputError, match=message):
        check_options(Outer(**change))


def test_what_is_inside_passes():
    check_options(Outer(count=-1, even=8, word="one", inner=Inner(rate=10.0)))
    assert len(fields(Outer)) == 8


@pytest.mark.parametrize(
    "arguments",
    [
        ["avatars", "render", "a", "-o", "o.gif"],
        ["avatars", "render", "a", "-o", "o"],
        ["avatars", "check", "v.mp4", "-o", "o.mp4"],
        ["avatars", "track", "v.mp4", "-o", "t", "--overlay", "o.avi"],
        ["avatars", "fit", "v.mp4", "-o", "anna.mp4"],
        ["avatars", "vary", "a", "-o", "people.zip"],
        ["avatars", "export", "a", "-o", "o.ply", "--format", "glb"],
        ["avatars", "export", "a", "-o", "o.obj", "--format", "ply"],
        ["avatars", "export", "a", "-o", "o.ply", "--format", "motion-ply", "--motion", "m.npz"],
        ["avatars", "motion", "m.npz", "-o", "o.bvh", "--amass"],
        ["reenact", "export", "o", "--to", "webdataset", "-o", "o.tar"],
        ["reenact", "merge", "o", "-o", "o.jsonl"],
        ["reenact", "features", "c.mp4", "-o", "o.npz"],
        ["reenact", "normalize", "m.npz", "-o", "o.npz"],
        ["reenact", "backgrounds", "prepare", "p.png", "-o", "o.png"],
        ["reenact", "demo", "--out", "o.html"],
    ],
    ids=" ".join,
)
def test_a_name_that_promises_another_format_is_refused_before_any_work(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program, *words = arguments
    commands = avatars.commands.cli.Commands if program == "avatars" else reenact.cli.Commands
    assert console.main(commands, prog=program, description="", argv=words) == console.USER_MISTAKE
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and (
        "that is what is written" in told or "a folder is made here" in told or "AMASS" in told
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["run.1", "anna v2.0", "o", "a.b/c"])
def test_a_folder_may_have_a_dot_in_its_name(name):
    Suffix().check(Path(name), "-o")
