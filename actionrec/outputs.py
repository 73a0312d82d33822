"""Files that appear whole or not at all, and never in place of something else.

This package imports none of its siblings, so it holds in short what `avatars.io.part_files` and `avatars.io.outputs`
say: the names aside are alike, so that a data set's next run clears up after a killed one of either.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actionrec.errors import DataError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None


@contextmanager
def part_file(path: Path) -> Iterator[Path]:
    """An empty file `.STEM.part-TOKEN.SUFFIX` beside `path`, locked while the block lasts, which may move it away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        aside = path.with_name(f".{path.stem}.part-{secrets.token_hex(8)}{path.suffix}")
        lock = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if _claimed(lock, aside):
            break
        os.close(lock)
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)
        os.close(lock)


def _claimed(lock: int, aside: Path) -> bool:
    """Whether the file is locked, or needs no lock, and still there: another run may be clearing up."""
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
    return aside.exists()


def write_whole(path: Path, text: str, *, fresh: bool = False) -> Path:
    """Write a file, whole or not at all: one of our own anew, or with `fresh` where nothing is.

    Raises DataError when something is there after all.
    """
    with part_file(path) as aside:
        with open(aside, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if not fresh:
            os.replace(aside, path)
        elif not _linked(aside, path):
            raise DataError(f"{path} appeared while this command worked; nothing was overwritten. Choose another -o.")
    return path


def _linked(aside: Path, path: Path) -> bool:
    """Give a file its name in one step, unless the name is taken."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            return False
        os.rename(aside, path)
    return True


def require_regular(path: Path) -> Path:
    """`path` with ~ expanded: a file, a folder or nothing. Raises DataError for pipes, devices and sockets."""
    try:
        path = path.expanduser()
    except RuntimeError:
        raise DataError(f"{path}: there is no such home folder here; write the path without ~.") from None
    try:
        path.stat()
    except FileNotFoundError:
        return path
    except OSError as error:
        raise DataError(f"{path} cannot be looked at ({error.strerror}).") from None
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path} is a pipe or a device; give a file or a folder.")
    return path


def require_fresh(path: Path, *, option: str = "-o") -> Path:
    """`path`, at which nothing is. Raises DataError otherwise, and where no file can be made."""
    if os.path.lexists(path):
        raise DataError(f"{path} already exists; nothing was overwritten. Choose another {option}.")
    parent = path.absolute().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise DataError(f"{parent} is no folder: nothing can be made below it. Choose another {option}.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise DataError(f"No permission to write in {parent}. Choose another {option}.")
    return path
