"""What surrounds a command: closed pipes, terminals, alphabets, home folders, disks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from fakes.same_code import same_code

from avatars import __version__
from avatars.body import default_body, load_body
from avatars.body.default_body import default_body_path
from avatars.commands import console
from avatars.errors import InputError
from reenact.planning.plan import PlannedClip


@dataclass(frozen=True)
class Doing:
    """A command that calls something."""

    what: object
    path: Path = Path()
    output: Path = Path()

    def run(self) -> None:
        self.what(self)


@dataclass(frozen=True)
class Mistaken(ValueError):
    said: str = "line 3 is odd"

    def __str__(self) -> str:
        return self.said


def run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in another process."""
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, check=False, timeout=100,
        env=same_code() | environment,
    )  # fmt: skip


def test_a_mistake_of_another_package_is_one_line_and_exit_code_2(capsys):
    def fails(_):
        raise Mistaken

    assert console.run(Doing(fails), mistakes=(Mistaken,)) == console.USER_MISTAKE
    assert capsys.readouterr().err == "error: line 3 is odd\n"
    assert console.run(Doing(fails)) == console.WORK_FAILED


def test_a_full_disk_is_named_by_what_was_written_and_not_by_what_was_copied(capsys):
    def fails(_):
        raise OSError(errno.ENOSPC, "No space left", "/photos/room.png", None, "/out/room.png")

    assert console.run(Doing(fails)) == console.USER_MISTAKE
    assert "/out/room.png" in capsys.readouterr().err


def test_paths_of_a_command_are_expanded_and_pipes_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []
    assert console.run(Doing(lambda c: seen.append((c.path, c.output)), Path("~/a"), Path("~/b"))) == console.DONE
    assert seen == [(tmp_path / "a", tmp_path / "b")]
    os.mkfifo(tmp_path / "pipe")
    assert console.run(Doing(seen.append, Path("~/pipe"))) == console.USER_MISTAKE
    assert "save it to a file" in capsys.readouterr().err
    assert console.run(Doing(seen.append, Path(os.devnull))) == console.USER_MISTAKE
    assert console.run(Doing(seen.append, output=Path(os.devnull))) == console.DONE


def test_an_empty_smplx_body_means_the_default_body(monkeypatch):
    monkeypatch.setenv("SMPLX_BODY", "")
    assert load_body().path == default_body_path()


def test_no_home_folder_is_told_with_what_to_set(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("SPLAT_AVATARS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(InputError, match="SPLAT_AVATARS_CACHE"):
        default_body.cache_folder()


def test_a_cache_that_cannot_be_written_is_told_before_the_body_is_built(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPLAT_AVATARS_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(default_body, "build_default_body", lambda *a, **k: pytest.fail("a minute's work began"))
    with pytest.raises(InputError, match=r"cannot be kept in .* name another folder with SPLAT_AVATARS_CACHE"):
        default_body_path()


@pytest.mark.parametrize("prog", ["avatars", "reenact"])
def test_the_version_is_told_and_the_packages_are_programs(prog):
    done = run([prog, "--version"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{prog} {__version__}\n", "")


def test_a_terminal_one_column_wide_gets_its_help():
    done = run(["avatars", "--help"], COLUMNS="1")
    assert done.returncode == 0
    assert "doctor" in done.stdout


def planned(folder: Path, label: str) -> Path:
    """A data set of which nothing is made."""
    clips = [PlannedClip(f"{i:016x}", f"{label} {i}", 0, 0, 0) for i in range(3000)]
    (folder / "plan.jsonl").write_text(
        "".join(json.dumps(asdict(c), ensure_ascii=False) + "\n" for c in clips), "utf-8"
    )
    return folder


@pytest.mark.slow
def test_labels_that_the_terminal_cannot_show_are_escaped(tmp_path):
    done = run(["reenact", "status", str(planned(tmp_path, "空手"))], PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (done.returncode, done.stderr) == (1, "")
    assert "\\u7a7a\\u624b" in done.stdout


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_no_work_and_leaves_no_error(tmp_path):
    words = [sys.executable, "-m", "reenact", "status", str(planned(tmp_path, "wave"))]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=same_code() | {"PYTHONUNBUFFERED": "1"}
    )
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(100), said) == (1, b"")  # 1: clips are missing


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_onto_a_full_disk_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "reenact", "status", str(planned(tmp_path, "wave"))]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=same_code())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr
