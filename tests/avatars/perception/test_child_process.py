"""A vendor file under another Python: what it answers, and how it ends."""

from __future__ import annotations

import ast
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from avatars.errors import BackendMissing, InputError
from avatars.perception import backend_table
from avatars.perception.backend_table import BACKENDS
from avatars.perception.child_process import ChildFailed, ChildModel, absent_packages, interpreter

pytestmark = pytest.mark.slow

FOLDER = Path(backend_table.__file__).parent
VENDOR_FILES = sorted({FOLDER / (b.target.split(":")[0].rsplit(".", 1)[1] + ".py") for b in BACKENDS.values()})
PYTHON = Path(sys.executable)

STUB_PROGRAM = f"""
import os, signal, sys, time
sys.path.insert(0, {str(FOLDER)!r})
from child_process import MissingPiece, child_main

class Stub:
    "a stub"
    def __init__(self, mode="good"):
        print("vendors print to standard output")
        if mode == "missing":
            raise MissingPiece("no weights at nowhere. Get them from a friend.")
        if mode == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "stubborn":
            import threading
            threading.Thread(target=time.sleep, args=(60,)).start()
        self.mode = mode
    def __call__(self, frames, shift):
        print("and again")
        if self.mode == "raises":
            raise ValueError("the ninth joint is odd")
        return {{"sum": frames.reshape(len(frames), -1).sum(1) + shift, "pid": __import__("numpy").array(os.getpid())}}

if __name__ == "__main__":
    child_main(Stub, {{"mode": "what it does"}}, inputs=("shift",))
"""


@pytest.fixture(scope="module")
def stub_program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stub") / "stub_vendor.py"
    path.write_text(STUB_PROGRAM)
    return path


def test_a_child_answers_although_the_vendor_prints(stub_program):
    frames = np.arange(24, dtype=np.int64).reshape(2, 12)
    child = ChildModel(PYTHON, stub_program, {}, what="stub")
    for shift in (0, 7):
        assert child(frames=frames, shift=np.full(2, shift))["sum"].tolist() == [66 + shift, 210 + shift]
    child.close()
    assert child.returncode == 0


def test_a_closed_or_forgotten_child_leaves_no_process(stub_program):
    children = [ChildModel(PYTHON, stub_program, {}, what="stub") for _ in range(2)]
    pids = [child._process.pid for child in children]
    children[0].close()
    with pytest.raises(ChildFailed, match="has ended"):
        children[0](frames=np.zeros((1, 1)), shift=np.zeros(1))
    del children
    gc.collect()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # neither running nor a zombie


def test_a_child_ends_when_its_parent_is_killed(stub_program):
    parent = subprocess.Popen(
        [PYTHON, "-c", textwrap.dedent(f"""
            import time
            from avatars.perception.child_process import ChildModel
            child = ChildModel({str(PYTHON)!r}, {str(stub_program)!r}, {{}}, what="stub")
            print(child._process.pid, flush=True)
            time.sleep(60)
            """)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def test_a_child_that_does_not_end_is_killed(stub_program, monkeypatch):
    monkeypatch.setattr("avatars.perception.child_process.STOP_SECONDS", 0.2)
    child = ChildModel(PYTHON, stub_program, {"mode": "stubborn"}, what="stub")
    child.close()
    assert child.returncode == -signal.SIGKILL


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_missing_piece_in_the_child_is_the_users_error_before_any_work(stub_program):
    with pytest.raises(BackendMissing, match=r"stub: no weights at nowhere\. Get them from a friend\."):
        ChildModel(PYTHON, stub_program, {"mode": "missing"}, what="stub")


def test_a_failing_child_shows_its_last_lines(stub_program):
    child = ChildModel(PYTHON, stub_program, {"mode": "raises"}, what="stub")
    with pytest.raises(ChildFailed, match=r"(?s)exit code 1.*ValueError: the ninth joint is odd"):
        child(frames=np.zeros((1, 1)), shift=np.zeros(1))
    assert child.returncode == 1


def test_a_killed_child_is_said_to_be_killed(stub_program):
    with pytest.raises(ChildFailed, match="killed by SIGKILL"):
        ChildModel(PYTHON, stub_program, {"mode": "dies"}, what="stub")
    child = ChildModel(PYTHON, stub_program, {}, what="stub")
    os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(ChildFailed, match="killed by SIGKILL"):
        child(frames=np.zeros((50, 100_000)), shift=np.zeros(50))


def test_a_vendor_file_works_alone_frames_in_one_npz_out(stub_program, tmp_path):
    frames = np.arange(40 * 6, dtype=np.uint8).reshape(40, 1, 2, 3)
    np.save(tmp_path / "frames.npy", frames)
    np.savez(tmp_path / "inputs.npz", shift=np.arange(40))
    command = [PYTHON, stub_program, "--frames", "frames.npy", "--inputs", "inputs.npz", "--output", "out.npz"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with np.load(tmp_path / "out.npz") as out:
        assert out["sum"].tolist() == (frames.reshape(40, -1).sum(1) + np.arange(40)).tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames.npy", "inputs.npz", "out.npz"]


def test_no_python_at_a_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"No Python at .*nowhere"):
        interpreter(tmp_path / "nowhere")
    assert interpreter(PYTHON.parent.parent if (PYTHON.parent.name == "bin") else PYTHON).is_file()


@pytest.mark.parametrize("path", [*VENDOR_FILES, FOLDER / "child_process.py"], ids=lambda p: p.stem)
def test_a_vendor_file_is_readable_by_old_pythons(path):
    assert ast.parse(path.read_text(), feature_version=(3, 7)).body  # SyntaxError where it is too new


def test_vendor_files_import_neither_this_package_nor_a_vendor():
    names = ", ".join(path.stem for path in VENDOR_FILES)
    code = f"""
        import sys
        sys.path.insert(0, {str(FOLDER)!r})
        import {names}
        loaded = {{name.split(".")[0] for name in sys.modules}}
        assert not loaded & {{"avatars", "torch", "mmpose", "cv2", "transformers", "segment_anything"}}, loaded
        """
    subprocess.run([PYTHON, "-c", textwrap.dedent(code)], check=True, cwd="/")


def test_another_python_is_asked_for_its_packages():
    assert absent_packages(PYTHON, ("numpy", "no_such_package")) == ["no_such_package"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("#!/bin/sh\necho hello\n", "it said nothing"), ("#!/bin/sh\necho broken >&2; exit 3\n", "broken")],
)
def test_a_program_that_is_no_python_is_told_so(tmp_path, text, said):
    program = tmp_path / "python"
    program.write_text(text)
    program.chmod(0o755)
    with pytest.raises(InputError, match=f"is no working Python .*{said}"):
        absent_packages(program, ("numpy",))
