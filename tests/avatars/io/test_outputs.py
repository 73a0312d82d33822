"""Outputs replace nothing, appear whole or not at all, and leave nothing that cannot be told from work in hand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avatars.errors import InputError
from avatars.io import outputs, part_files
from avatars.io.files import atomic_path
from avatars.io.outputs import fresh_file, fresh_folder, require_fresh_file, require_fresh_folder, require_readable
from avatars.io.part_files import is_part, living_parts_of, part_file, part_folder, part_path, remove_dead


def taken(folder: Path, kind: str) -> Path:
    """Something of a kind at a path."""
    path = folder / kind
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        bound = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(folder)  # names of sockets are short
        bound.bind(kind)
        os.chdir(here)
        bound.close()
    elif kind == "device":
        return Path(os.devnull)
    elif kind == "link to nothing":
        path.symlink_to(folder / "absent")
    else:
        path.symlink_to(taken(folder, kind.removeprefix("link to ")))
    return path


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Kind and content of everything in a folder."""
    return {
        p.relative_to(folder).as_posix(): (p.lstat().st_mode, p.read_bytes() if p.is_file() else b"")
        for p in folder.rglob("*")
    }


KINDS = ("file", "folder", "pipe", "socket", "device", "link to file", "link to folder", "link to pipe",
         "link to device", "link to nothing")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_never_made_where_something_is(kind, tmp_path):
    path = taken(tmp_path, kind)
    before, device = tree(tmp_path), os.stat(os.devnull)
    with pytest.raises(InputError), fresh_folder(path, what="a test"):
        raise AssertionError("the work began")
    assert tree(tmp_path) == before
    assert os.stat(os.devnull).st_rdev == device.st_rdev


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "device" not in kind])
def test_a_file_is_never_made_where_something_is(kind, tmp_path):
    path = taken(tmp_path, kind)
    before = tree(tmp_path)
    with pytest.raises(InputError), fresh_file(path):
        raise AssertionError("the work began")
    assert tree(tmp_path) == before


def test_a_device_takes_a_file_and_stays_a_device():
    with fresh_file(os.devnull) as aside:
        aside.write_bytes(b"0" * 1000)
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("linked", [False, True])
def test_an_empty_folder_is_filled_and_stays_the_same_folder(linked, tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    path = real
    if linked:
        path = tmp_path / "link"
        path.symlink_to(real)
    number = real.stat().st_ino
    with fresh_folder(path, what="a test", last="receipt.json") as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "a").write_text("a")
        (aside / "receipt.json").write_text("{}")
        assert list(real.iterdir()) == [aside.parent.resolve() / aside.name]
    assert (real.stat().st_ino, path.is_symlink()) == (number, linked)
    assert sorted(p.name for p in real.iterdir()) == ["deep", "receipt.json"]


def test_in_a_folder_that_is_there_the_receipt_appears_last(tmp_path, monkeypatch):
    moved, rename = [], os.rename
    monkeypatch.setattr(os, "rename", lambda a, b: (moved.append(Path(b).name), rename(a, b)))
    with fresh_folder(tmp_path, what="a test", last="a.json") as aside:
        for name in ("a.json", "b.npz", "c.png"):
            (aside / name).touch()
    assert moved == ["b.npz", "c.png", "a.json"]


def test_a_folder_that_appears_meanwhile_stays_and_the_result_is_kept_beside_it(tmp_path):
    path = tmp_path / "out"
    with pytest.raises(InputError, match="appeared while") as raised, fresh_folder(path, what="a test") as aside:
        (aside / "result").write_text("hours")
        path.mkdir()
        (path / "mine").write_text("mine")
    assert [p.name for p in path.iterdir()] == ["mine"]
    kept = next(p for p in tmp_path.iterdir() if p != path)
    assert str(kept) in str(raised.value)
    assert (kept / "result").read_text() == "hours"


def test_what_appears_in_an_empty_folder_meanwhile_stays(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    with pytest.raises(InputError, match="appeared while"), fresh_folder(path, what="a test") as aside:
        (aside / "result").write_text("hours")
        (path / "result").write_text("mine")
    assert [p.read_text() for p in path.iterdir()] == ["mine"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_stays_and_the_result_is_kept_beside_it(links, tmp_path, monkeypatch):
    if not links:

        def refuse(*_):
            raise PermissionError(1, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "clip.mp4"
    with pytest.raises(InputError, match="appeared while"), fresh_file(path) as aside:
        aside.write_text("hours")
        path.write_text("mine")
    assert path.read_text() == "mine"
    assert [p.read_text() for p in tmp_path.glob("clip-*.mp4")] == ["hours"]
    with fresh_file(tmp_path / "new.mp4") as aside:
        aside.write_text("new")
    assert (tmp_path / "new.mp4").read_text() == "new"
    assert not [p for p in tmp_path.iterdir() if is_part(p.name)]


def test_of_two_commands_into_one_output_the_second_is_told_before_its_work(tmp_path):
    with fresh_folder(tmp_path / "out", what="a test") as aside:
        (aside / "a").touch()
        with pytest.raises(InputError, match="Another command is making"):
            require_fresh_folder(tmp_path / "out", what="a test")
    with fresh_file(tmp_path / "clip.mp4") as aside:
        aside.touch()
        with pytest.raises(InputError, match="Another command is making"):
            require_fresh_file(tmp_path / "clip.mp4")


def test_what_a_killed_command_left_is_removed_by_the_next_and_nothing_else_is(tmp_path):
    code = (
        "import os, sys; from avatars.io.outputs import fresh_folder, fresh_file\n"
        "with fresh_file(sys.argv[2]) as b, fresh_folder(sys.argv[1], what='x') as a:\n"
        "    (a / 'half').write_text('half'); b.write_text('half'); os._exit(9)"
    )
    out, clip = tmp_path / "out", tmp_path / "clip.mp4"
    mine = [tmp_path / ".notes.2024.txt", tmp_path / ".out.123.new", tmp_path / ".clip.999999999.mp4"]
    for path in mine:
        path.write_text("mine")
    assert subprocess.run([sys.executable, "-c", code, str(out), str(clip)], check=False).returncode == 9
    assert sum(is_part(p.name) for p in tmp_path.iterdir()) == 2
    with fresh_folder(out, what="a test") as aside:
        (aside / "whole").touch()
    with fresh_file(clip) as aside:
        aside.touch()
    assert {p.name for p in tmp_path.iterdir()} == {"out", "clip.mp4", *(p.name for p in mine)}


def test_parts_of_living_writers_stay_and_those_of_dead_ones_go(tmp_path):
    with part_file(tmp_path / "a.json") as living, part_folder(tmp_path / "b") as folder:
        assert not remove_dead(living)
        assert not remove_dead(folder)
        assert living_parts_of(tmp_path / "a.json") == [living]
    dead = part_path(tmp_path / "a.json")
    dead.write_text("half")
    assert not remove_dead(dead, older_than_s=60)
    assert living_parts_of(tmp_path / "a.json") == []
    assert not dead.exists()


def test_where_there_are_no_locks_a_part_is_dead_after_a_day(tmp_path, monkeypatch):
    monkeypatch.setattr(part_files, "fcntl", None)
    with part_file(tmp_path / "a.json") as living:
        assert not remove_dead(living)
    old = part_path(tmp_path / "a.json")
    old.write_text("half")
    os.utime(old, (time.time() - 90_000,) * 2)
    assert remove_dead(old)


def test_two_writers_of_one_file_in_one_process_never_meet(tmp_path):
    path = tmp_path / "manifest.jsonl"
    with atomic_path(path) as one, atomic_path(path) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path):
    path = tmp_path / ("ä" * 125 + ".json")
    with atomic_path(path) as aside:
        aside.write_text("{}")
    assert path.read_text() == "{}"
    with pytest.raises(InputError, match="longer than a file name"):
        require_fresh_file(tmp_path / ("a" * 300))


def test_what_has_no_place_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: nothing can be made below it"):
        require_fresh_file(tmp_path / "file" / "deeper" / "clip.mp4")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="No permission to write"):
        require_fresh_folder(tmp_path / "out", what="a test")


def test_home_is_expanded_and_no_home_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert require_fresh_file("~/clip.mp4") == tmp_path / "clip.mp4"
    with pytest.raises(InputError, match="no such home folder"):
        outputs.expanded("~nobody-of-this-name/x")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to pipe"])
def test_what_can_be_read_only_once_is_no_input(kind, tmp_path):
    with pytest.raises(InputError, match="save it to a file"):
        require_readable(taken(tmp_path, kind))


def test_the_whole_file_system_is_no_input():
    with pytest.raises(InputError, match="whole file system"):
        require_readable(Path("/"))
