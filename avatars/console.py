"""Runs a command of the toolkit: one line per error, and exit codes that scripts can rely on."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Protocol

from avatars.errors import InputError

DONE, WORK_FAILED, USER_MISTAKE, INTERRUPTED = 0, 1, 2, 130


class Command(Protocol):
    """A frozen dataclass that tyro fills from the command line."""

    def run(self) -> int | None:
        """Do the work; None or 0 when all of it was done."""
        ...


def main(commands: Any, *, prog: str, description: str, argv: Sequence[str] | None = None) -> int:
    """Parse `argv` into one of `commands` (a Union of dataclasses with `run`), run it, return the exit code.

    Set SPLAT_AVATARS_DEBUG=1 to see the traceback of any error. OpenMP's threads are told, before torch loads, to sleep
    while they wait: by default they spin, and on a machine that does anything else two threads then take 5 to 25 times
    as long as one.
    """
    import tyro

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("absl", "matplotlib", "PIL", "jax", "trimesh", "numexpr", "h5py"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    command = tyro.cli(
        commands,
        prog=prog,
        description=description,
        args=argv,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return run(command)


def run(command: Command) -> int:
    """Run a command and turn what it raises into one line on stderr and an exit code."""
    try:
        return command.run() or DONE
    except InputError as error:
        return _fail(USER_MISTAKE, str(error))
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "Interrupted; everything finished so far is whole.")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail(USER_MISTAKE, f"No space left on the disk that holds {error.filename or 'the output'}.")
        if error.errno in (errno.EACCES, errno.EROFS):
            return _fail(USER_MISTAKE, f"No permission to write or read {error.filename or 'a file'}.")
        return _fail(WORK_FAILED, f"{type(error).__name__}: {error}")
    except Exception as error:
        return _fail(WORK_FAILED, f"{type(error).__name__}: {error}")


def _fail(code: int, message: str) -> int:
    if os.environ.get("SPLAT_AVATARS_DEBUG"):
        traceback.print_exc()
    line = " ".join(message.split())
    hint = "" if code != WORK_FAILED else " (SPLAT_AVATARS_DEBUG=1 shows where)"
    print(f"error: {line}{hint}", file=sys.stderr)
    return code
