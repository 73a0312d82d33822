"""A vendor's model behind one call, arrays in and arrays out: in this process, or under another Python as a child.

The vendor files beside this one run under old Pythons with neither this package nor torch's newest version, so this
module and they import the standard library and numpy alone, and keep to Python 3.7.

The wire: each message is 8 bytes of length (little endian) and an npz. The child speaks on a private copy of its
standard output, since vendors print; what it prints goes to its standard error, whose last lines a failure shows. It
ends when its standard input does, so that it never outlives the parent.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
import weakref
from pathlib import Path

import numpy as np

TAIL_LINES = 15
STOP_SECONDS = 5.0  # what a child is given to end by itself
PYTHON_SECONDS = 60.0  # what an interpreter is given to say which packages it has
STANDALONE_BATCH = 32


class MissingPiece(Exception):
    """A package, a weight file or a device is not there; the message says where it comes from and what to run."""


def require_device(device):
    """Raise MissingPiece when a CUDA device is asked for and torch sees none: nothing falls back to the CPU unsaid."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise MissingPiece(f"the device {device} was asked for, and {sys.executable} sees no CUDA device.")


class ChildFailed(RuntimeError):
    """The child ended, or answered with an error, in the middle of its work."""


def open_model(model_class, program, python, options, what):
    """The model, made and checked: in this process, or under `python` when that is not None.

    Returns a callable, keyword arrays in and a dict of arrays out, with `close()`. Raises BackendMissing when a piece
    is not there, ChildFailed when the child ends before it answers.
    """
    from avatars.errors import BackendMissing

    if python is not None:
        return ChildModel(python, program, options, what=what)
    try:
        return model_class(**options)
    except MissingPiece as error:
        raise BackendMissing(f"{what}: {error}") from None


def interpreter(python):
    """The interpreter that a user named: the file itself, or `bin/python` of an environment's folder.

    Raises InputError when there is none.
    """
    from avatars.errors import InputError

    path = Path(python).expanduser()
    if path.is_dir():
        path = path / "bin" / "python"
    if not path.is_file() or not os.access(str(path), os.X_OK):
        raise InputError(f"No Python at {path}. Give the interpreter of the environment, for example ENV/bin/python.")
    return path.absolute()  # not resolved: a virtual environment's interpreter is a link


def absent_packages(python, packages):
    """Which of the packages another interpreter does not find; none of them is imported.

    Raises InputError when the file is no working Python.
    """
    from avatars.errors import InputError

    question = "import importlib.util, sys; print([p for p in sys.argv[1:] if importlib.util.find_spec(p) is None])"
    try:
        answer = subprocess.run(
            [str(python), "-c", question, *packages],
            capture_output=True,
            env=_child_environment(),
            timeout=PYTHON_SECONDS,
        )
        text = answer.stdout.decode("utf-8", "replace")
        if answer.returncode == 0 and text.startswith("["):
            return ast.literal_eval(text)
        said = answer.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
    except subprocess.TimeoutExpired:
        said = ["it did not answer"]
    except (OSError, SyntaxError, ValueError) as error:
        said = [str(error)]
    raise InputError(f"{python} is no working Python ({said[0]}).") from None


def _child_environment():
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "MPLBACKEND")}


class ChildModel:
    """A vendor file running under another Python; called like the model itself.

    Made, it has loaded its weights: whatever is missing has been raised as BackendMissing.
    """

    def __init__(self, python, program, options, what):
        self.what = what
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by _stop)
        command = [str(interpreter(python)), str(program), "--serve"]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=_child_environment()
        )
        self._stop = weakref.finalize(self, _stop, self._process, self._errors)
        self._receive()

    def __call__(self, **arrays):
        """Send keyword arrays, return the child's arrays. Raises ChildFailed when it fails or has ended."""
        if not self._stop.alive:
            raise ChildFailed(f"{self.what}: the child process has ended.")
        with contextlib.suppress(BrokenPipeError):  # then it has ended, and what it said explains why
            _send(self._process.stdin, arrays)
        return self._receive()

    def close(self):
        """End the child and wait for it."""
        self._stop()

    @property
    def returncode(self):
        """None while the child runs."""
        return self._process.poll()

    def _receive(self):
        from avatars.errors import BackendMissing

        answer = _receive(self._process.stdout)
        if answer is None:
            self._fail()
        if "missing" in answer:
            self.close()
            raise BackendMissing(f"{self.what}: {answer['missing']}")
        if "failed" in answer:
            self._fail()
        return answer

    def _fail(self):
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            code = None
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()[-TAIL_LINES:]
        self.close()
        said = "\n".join("  " + line for line in lines) or "  (it wrote nothing)"
        raise ChildFailed(f"{self.what}: the child process failed ({_ending(code)}). Its last lines:\n{said}")


def _ending(code):
    if code is None:
        return "it hung"
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", often for lack of memory" if name == "SIGKILL" else "")
    return f"exit code {code}"


def _stop(process, errors):
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    errors.close()


def _send(pipe, arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    pipe.write(struct.pack("<Q", buffer.getbuffer().nbytes))
    pipe.write(buffer.getbuffer())
    pipe.flush()


def _receive(pipe):
    """The next message, or None at the end."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    length = struct.unpack("<Q", head)[0]
    body = pipe.read(length)
    if len(body) < length:
        return None
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


# ----------------------------------------------------------------------------------------- what runs inside the child


def child_main(model_class, options, inputs=()):
    """The program that a vendor file is: `--serve` answers a parent, `--frames ... --output ...` works alone.

    `options` maps the model's keyword arguments to help texts, `inputs` names the arrays that it takes per frame.
    """
    parser = argparse.ArgumentParser(description=model_class.__doc__)
    parser.add_argument(
        "--serve", action="store_true", help="answer requests on standard input (used by splat-avatars)"
    )
    parser.add_argument("--frames", help="npy (frames, height, width, 3) uint8 RGB, or a video")
    parser.add_argument("--inputs", help="npz with one row per frame of: " + (", ".join(inputs) or "nothing"))
    parser.add_argument("--output", help="npz to write")
    for name, text in options.items():
        parser.add_argument("--" + name.replace("_", "-"), help=text)
    arguments = vars(parser.parse_args())
    chosen = {name: arguments[name] for name in options if arguments[name] is not None}
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]  # our file names shadow nothing
    if arguments["serve"]:
        sys.exit(_serve(model_class, chosen))
    if not arguments["frames"] or not arguments["output"]:
        parser.error("--frames and --output are needed (or --serve)")
    sys.exit(_work_alone(model_class, chosen, arguments))


def _serve(model_class, options):
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        model = model_class(**options)
        _send(answers, {})
        while True:
            request = _receive(requests)
            if request is None:
                return 0
            _send(answers, model(**request))
    except MissingPiece as error:
        _send(answers, {"missing": np.array(str(error))})
        return 3
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        _send(answers, {"failed": np.array(1)})
        return 1


def _work_alone(model_class, options, arguments):
    try:
        model = model_class(**options)
    except MissingPiece as error:
        print(error, file=sys.stderr)
        return 3
    rows = {}
    if arguments["inputs"]:
        with np.load(arguments["inputs"], allow_pickle=False) as archive:
            rows = {name: archive[name] for name in archive.files}
    answers, start = [], 0
    for frames in _batches(arguments["frames"]):
        batch = {name: array[start : start + len(frames)] for name, array in rows.items()}
        answers.append(model(frames=frames, **batch))
        start += len(frames)
    if not answers:
        print("No frame in " + arguments["frames"], file=sys.stderr)
        return 2
    # what has one row per frame is joined; the rest (a depth's kind) is the same in every batch
    joined = {k: v if v.ndim == 0 else np.concatenate([a[k] for a in answers]) for k, v in answers[0].items()}
    aside = arguments["output"] + ".part"
    with open(aside, "wb") as file:
        np.savez_compressed(file, **joined)
    os.replace(aside, arguments["output"])
    return 0


def _batches(path):
    if path.endswith(".npy"):
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
        for start in range(0, len(frames), STANDALONE_BATCH):
            yield np.ascontiguousarray(frames[start : start + STANDALONE_BATCH])
        return
    import cv2

    reader, batch = cv2.VideoCapture(path), []
    while True:
        good, frame = reader.read()
        if good:
            batch.append(frame[:, :, ::-1])
        if batch and (not good or len(batch) == STANDALONE_BATCH):
            yield np.ascontiguousarray(np.stack(batch))
            batch = []
        if not good:
            return
