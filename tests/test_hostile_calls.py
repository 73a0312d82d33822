"""Careless and hostile calls of every command: an exit code and at most one line of error, and nothing lost.

A call is a line with placeholders (see `place`) and the exit codes that it may end with. To add some, add lines to a
table below, or a table to `CALLS`.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from fakes.tiny_batch import write_batch, write_material

from actionrec.manifest import ManifestError
from actionrec.sources import __main__ as sources
from avatars.body import load_body
from avatars.commands import cli, console
from avatars.io.video import write_video
from reenact import cli as reenact_cli
from reenact.running.run import run_batch

pytestmark = pytest.mark.slow

HANGS_S = 100

FOLDER_MAKERS = {
    "track": "avatars track {video} -o {out}",
    "fit": "avatars fit {video} -o {out}",
    "fit --force": "avatars fit {video} --force -o {out}",
    "vary": "avatars vary {avatar} -o {out}",
    "motion for ExAvatar": "avatars motion {motion} -o {out}",
    "motion of PLYs": "avatars export {avatar} --format motion-ply --motion {motion} -o {out}",
    "export": "reenact export {data} --to folders -o {out}",
    "merge": "reenact merge {data} -o {out}",
    "demo": "reenact demo --out {out} --quick",
}
FILE_MAKERS = {
    "check": "avatars check {video} -o {out}",
    "render": "avatars render {avatar} -o {out}",
    "export": "avatars export {avatar} --format ply -o {out}",
    "overlay": "avatars track {video} -o {new} --overlay {out}",
    "sources": "sources folders {root} -o {out}",
}
GATHERERS = {
    "features": "reenact features {video} -o {out}",
    "normalize": "reenact normalize {motion} -o {out}",
    "backgrounds": "reenact backgrounds prepare {photo} --depth none -o {out}",
}
BAD_FOLDERS = (
    "{file}",
    "{full}",
    "{pipe}",
    "{socket}",
    "{null}",
    "{dead}",
    "{link}",
    "{file}/x",
    "{long}",
    "/",
    "{circle}",
)
BAD_FILES = ("{file}", "{full}", "{pipe}", "{socket}", "{dead}", "{link}", "{file}/x.mp4", "{long}", "/", "{circle}")
BAD_GATHERED = ("{file}", "{pipe}", "{socket}", "{null}", "{dead}", "{link}", "{file}/x", "{long}", "{circle}")

READERS = {
    "check": "avatars check {in}",
    "track": "avatars track {in} -o {new}",
    "fit": "avatars fit {in} -o {new}",
    "fit, track": "avatars fit {video} --track {in} -o {new}",
    "motion": "avatars motion {in} -o {new}.npz",
    "render": "avatars render {in} -o {new}.mp4",
    "render, motion": "avatars render {avatar} --motion {in} -o {new}.mp4",
    "view": "avatars view {in}",
    "export": "avatars export {in} -o {new}.ply",
    "vary": "avatars vary {in} -o {new}",
    "body": "avatars body show --body {in}",
    "normalize": "reenact normalize {in} -o {new}",
    "backgrounds": "reenact backgrounds prepare {in} --depth none -o {new}",
    "plan": "reenact plan {in}",
    "run": "reenact run {in} --jobs 1",
    "status": "reenact status {in}",
    "verify": "reenact verify {in}",
    "merge": "reenact merge {in} -o {new}",
    "gate": "reenact gate {in} --detector none",
    "export data": "reenact export {in} --to folders -o {new}",
    "report": "reenact report {in}",
    "sources": "sources folders {in} -o {new}.jsonl",
}
BAD_INPUTS = ("{absent}", "{file}", "{pipe}", "{socket}", "{null}", "{dead}", "/", "{empty}", "{circle}")

OTHERS = (
    ("avatars fit {anna}/clip.mp4 -o {anna} --force", (2,)),
    ("avatars fit {anna}/clip.mp4 -o {anna}", (2,)),
    ("avatars check {video} -o {video}", (2,)),
    ("avatars motion {motion} -o {motion}", (2,)),
    ("avatars motion {motion} -o {file}.xyz", (2,)),
    ("avatars export {avatar} -o {new}", (2,)),
    ("avatars export {avatar} -o {new}.ply --frame 7", (0, 2)),
    ("avatars export {avatar} --format ply -o {null}", (0,)),
    ("avatars render {avatar} --size 16 --motion {motion} -o {null}", (0,)),
    ("avatars render {avatar} --size 8 -o {new}.mp4", (2,)),
    ("avatars render ~nobody-of-this-name/x -o {new}.mp4", (2,)),
    ("avatars view {avatar} --port -1", (2,)),
    ("avatars view {avatar} --port 99999", (2,)),
    ("avatars vary {avatar} --count 0 -o {new}", (2,)),
    ("avatars body show --body ''", (2,)),
    ("avatars --version", (0,)),
    ("avatars --help", (0,)),
    ("avatars", (2,)),
    ("avatars nothing", (2,)),
    ("reenact --version", (0,)),
    ("reenact nothing", (2,)),
    ("reenact normalize {motion} -o {material}", (2,)),
    ("reenact normalize {motion} {motion} -o {new}", (2,)),
    ("reenact features {video} {video} -o {new}", (2,)),
    ("reenact features {absent} -o {new}", (2,)),
    ("reenact features {video} -o {beside}", (1, 2)),
    ("reenact run {batch} --jobs -1", (2,)),
    ("reenact run {batch} --share 3/2", (2,)),
    ("reenact run {batch} --executor slurm", (2,)),
    ("reenact run {batch} --gpu-share 0.5", (2,)),
    ("reenact run {holding} --jobs 1", (2,)),
    ("reenact plan {holding}", (2,)),
    ("reenact gate {data} --jobs -3", (2,)),
    ("reenact backgrounds prepare {photo} {photo} -o {new}", (2,)),
    ("sources folders {root} -o {file}", (2,)),
    ("sources folders / -o {new}.jsonl", (2,)),
    ("sources folders ~nobody-of-this-name -o {new}.jsonl", (2,)),
)


def table(makers: dict[str, str], bad: tuple[str, ...], name: str, codes: tuple[int, ...]) -> list:
    """Every maker with every bad value of one placeholder."""
    return [
        pytest.param(line.replace(name, value), codes, id=f"{what}-{value}")
        for what, line in makers.items()
        for value in bad
    ]


CALLS = [
    *table(FOLDER_MAKERS, BAD_FOLDERS, "{out}", (2,)),
    *table(FILE_MAKERS, BAD_FILES, "{out}", (2,)),
    *table(GATHERERS, BAD_GATHERED, "{out}", (2,)),
    *table(READERS, BAD_INPUTS, "{in}", (1, 2)),
    *(pytest.param(line, codes, id=line) for line, codes in OTHERS),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> dict[str, Path]:
    """What the placeholders stand for."""
    root = tmp_path_factory.mktemp("hostile")
    material = root / "material"
    material.mkdir()
    write_material(material, load_body())
    run_batch(write_batch(material, root / "b.yaml", out=str(root / "data")))
    made = {
        name: root / name for name in ("file", "full", "pipe", "socket", "dead", "link", "circle", "empty", "absent")
    }
    made["file"].write_text("mine")
    for name in ("full", "empty", "anna", "beside", "root/wave"):
        (root / name).mkdir(parents=True)
    (root / "full" / "mine.txt").write_text("mine")
    os.mkfifo(made["pipe"])
    with socket.socket(socket.AF_UNIX) as bound, pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # names of sockets are short
        bound.bind("socket")
    made["dead"].symlink_to(root / "nowhere")
    made["link"].symlink_to(made["file"])
    made["circle"].symlink_to(made["circle"])
    video = write_video(root / "clip.mp4", np.full((6, 64, 64, 3), 128, np.uint8))
    (root / "root" / "wave" / "a.mp4").write_bytes(video.read_bytes())
    (root / "anna" / "clip.mp4").write_bytes(video.read_bytes())
    (root / "anna" / "avatar.json").write_text("{}")
    (root / "beside" / "clip.json").write_text('{"mine": 1}')
    holding = write_batch(material, root / "h.yaml", out=str(root / "full"))
    return made | {
        "video": video, "avatar": material / "white", "motion": material / "raise_01.npz", "material": material,
        "photo": material / "night.png", "data": root / "data", "batch": root / "b.yaml", "anna": root / "anna",
        "beside": root / "beside", "root": root / "root", "holding": holding, "null": Path(os.devnull),
        "long": root / ("n" * 300),
    }  # fmt: skip


def kept(root: Path) -> dict[str, tuple]:
    """What tells whether anything below a folder was changed or lost."""
    found = {}
    for path in root.rglob("*"):
        stat = path.lstat()
        found[str(path)] = (stat.st_mode, stat.st_ino, None if path.is_dir() else (stat.st_size, stat.st_mtime_ns))
    return found


def called(line: str) -> int:
    """The exit code of a call, in this process."""
    prog, *words = shlex.split(line)
    if prog == "sources":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["sources", *words])
            return sources.main()
    commands = {"avatars": cli.Commands, "reenact": reenact_cli.Commands}[prog]
    return console.main(commands, prog=prog, description="", argv=words, mistakes=(ManifestError,))


def raise_hang(*_):
    raise AssertionError(f"no end within {HANGS_S} s")


@pytest.mark.parametrize(("line", "codes"), CALLS)
def test_a_hostile_call_is_refused_in_a_line_and_nothing_is_lost(line, codes, place, tmp_path, capsys):
    root = place["file"].parent
    values = {name: str(path) for name, path in place.items()}
    before, device = kept(root), os.stat(os.devnull)
    signal.signal(signal.SIGALRM, raise_hang)
    signal.alarm(HANGS_S)
    parsed = True
    try:
        code = called(line.format(**values, new=tmp_path / "new"))
    except SystemExit as ended:  # the parser's, which says more than a line
        code, parsed = ended.code or 0, False
    finally:
        signal.alarm(0)
    said = capsys.readouterr().err
    after = kept(root)
    assert {name: after.get(name) for name in before} == before
    assert (os.stat(os.devnull).st_mode, os.stat(os.devnull).st_rdev) == (device.st_mode, device.st_rdev)
    assert "Traceback" not in said
    assert code in codes, said
    errors = [text for text in said.splitlines() if text.startswith("error: ")]
    assert len(errors) <= 1
    assert not parsed or len(errors) == 1 or code != 2 or "cannot make an avatar" in said, said
