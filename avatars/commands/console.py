"""Runs a command of the toolkit: one line per error, and exit codes that scripts can rely on."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from avatars.errors import InputError
from avatars.io.option_rules import check_options

DONE, WORK_FAILED, USER_MISTAKE, INTERRUPTED = 0, 1, 2, 130
OUTPUTS = ("output", "out", "json", "overlay", "picture")
"""Names of options that may be a device: what they are is judged where they are written."""
_REASONS = {
    errno.EACCES: "No permission to write or read",
    errno.EPERM: "No permission to write or read",
    errno.EROFS: "The disk is read-only that holds",
    errno.ENAMETOOLONG: "This name is longer than the disk allows:",
    errno.ELOOP: "Links lead in a circle at",
    errno.ENOTDIR: "A part of this path is no folder:",
    errno.EISDIR: "A folder stands where a file is expected:",
    errno.ENXIO: "Nothing can be read from",
}
"""What the system says of a path, in words; all of them are the user's to mend."""
_Given = TypeVar("_Given")


class Command(Protocol):
    """A frozen dataclass that tyro fills from the command line."""

    def run(self) -> int | None:
        """Do the work; None or 0 when all of it was done."""
        ...


def main(
    commands: Any,
    *,
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    mistakes: tuple[type[Exception], ...] = (),
) -> int:
    """Parse `argv` into one of `commands` (a Union of dataclasses with `run`), run it, return the exit code.

    `mistakes` are errors that are the user's to mend, beside InputError. Set SPLAT_AVATARS_DEBUG=1 to see the traceback
    of any error. OpenMP's threads are told, before torch loads, to sleep while they wait: by default they spin, and on
    a machine that does anything else two threads then take 5 to 25 times as long as one.
    """
    import tyro

    from avatars import __version__

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _widen_terminal()
    argv = sys.argv[1:] if argv is None else argv
    with _lasting_streams():
        if list(argv) == ["--version"]:
            print(f"{prog} {__version__}")
            return _flushed(DONE)
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        logging.raiseExceptions = False
        for chatty in ("absl", "matplotlib", "PIL", "jax", "trimesh", "numexpr", "h5py"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        command = tyro.cli(
            commands,
            prog=prog,
            description=description,
            args=argv,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        return _flushed(run(command, mistakes=mistakes))


def run(command: Command, *, mistakes: tuple[type[Exception], ...] = ()) -> int:
    """Run a command, once its numbers are in their ranges, and turn what it raises into one line on stderr and an exit
    code."""
    try:
        if dataclasses.is_dataclass(command):
            check_options(command)
        return with_paths(command).run() or DONE
    except (InputError, *mistakes) as error:
        return fail(USER_MISTAKE, str(error))
    except KeyboardInterrupt:
        return fail(INTERRUPTED, "Interrupted. Finished outputs are complete; run the same command to resume.")
    except OSError as error:
        name = error.filename2 or error.filename  # a copy's second name is what was being written
        if error.errno == errno.ENOSPC:
            return fail(USER_MISTAKE, f"No space left on the disk that holds {name or 'the output'}.")
        if error.errno in _REASONS:
            return fail(USER_MISTAKE, f"{_REASONS[error.errno]} {name or 'a file'}.")
        return fail(WORK_FAILED, f"{type(error).__name__}: {error}")
    except Exception as error:
        return fail(WORK_FAILED, f"{type(error).__name__}: {error}")


def with_paths(given: _Given, name: str = "") -> _Given:
    """The command with ~ expanded in all its paths. Raises InputError for one that no command can read."""
    from avatars.io.outputs import expanded, is_stream, require_readable

    if isinstance(given, Path):
        path = expanded(given)
        if not (name in OUTPUTS and is_stream(path)):
            require_readable(path)
        return path  # type: ignore[return-value]
    if isinstance(given, tuple):
        return tuple(with_paths(value, name) for value in given)  # type: ignore[return-value]
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        values = {f.name: getattr(given, f.name) for f in dataclasses.fields(given) if f.init}
        found = {key: with_paths(value, key) for key, value in values.items()}
        changed = {key: value for key, value in found.items() if value is not values[key]}
        return dataclasses.replace(given, **changed) if changed else given  # type: ignore[type-var]
    return given


class _Lasting:
    """A stream that outlives its reader: when a pipe is closed (`| head`), the work goes on and is told to nobody."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._silent = False

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        if not self._silent:
            try:
                return self._stream.write(text)
            except BrokenPipeError:
                self._close()
        return len(text)

    def flush(self) -> None:
        """Flush what somebody reads."""
        if not self._silent:
            try:
                self._stream.flush()
            except BrokenPipeError:
                self._close()

    def _close(self) -> None:
        self._silent = True
        silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, so that the interpreter can end without another error."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # a stream without a file has no reader to lose
        return


@contextmanager
def _lasting_streams() -> Iterator[None]:
    """What cannot be written in the terminal's alphabet is escaped, and a closed pipe ends no work."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]  # asked above
    sys.stdout, sys.stderr = (None if s is None else _Lasting(s) for s in before)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _flushed(code: int) -> int:
    """The exit code, or 2 when what was printed could not be written (a full disk behind `>`)."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout)  # pyright: ignore[reportArgumentType]  # None cannot fail
        return fail(USER_MISTAKE, f"What the command prints cannot be written ({os.strerror(error.errno or 0)}).")
    return code


def _widen_terminal() -> None:
    """A terminal that is said to be narrower than a word makes the parser's boxes wrap without end."""
    if os.environ.get("COLUMNS", "").isdigit() and int(os.environ["COLUMNS"]) < 20:
        os.environ["COLUMNS"] = "20"


def fail(code: int, message: str) -> int:
    """Print an error in one line; the exit code."""
    if os.environ.get("SPLAT_AVATARS_DEBUG"):
        traceback.print_exc()
    line = " ".join(message.split())
    hint = "" if code != WORK_FAILED else " (SPLAT_AVATARS_DEBUG=1 shows where)"
    print(f"error: {line}{hint}", file=sys.stderr)
    return code
