"""Names beside an output for what is being written, locked as long as their writer lives.

A part is called `.NAME.part-TOKEN.SUFFIX` with a random token, so that two writers never meet, whatever their process
ids. Its writer holds a lock on it that the system drops with the process: a part whose lock can be had is what a killed
process left, and the next run removes it. Process ids are not asked: in containers all are 1, and other machines have
their own. Where a file system knows no locks, a part counts as left behind after a day.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

_NAMED = re.compile(r"\..+\.part-[0-9a-f]{16}(\.\w+)?", re.DOTALL)
_WITHOUT_LOCKS_S = 24 * 3600.0
_NAME_BYTES = 200
"""Of the output's name that a part's name repeats: names have 255 bytes at most."""


def is_part(name: str) -> bool:
    """Whether a file name is that of a part."""
    return _NAMED.fullmatch(name) is not None


def part_path(path: Path) -> Path:
    """A new name beside `path`, with its suffix."""
    suffix = path.suffix if re.fullmatch(r"\.\w{1,16}", path.suffix) else ""
    stem = os.fsdecode(os.fsencode(path.stem if suffix else path.name)[:_NAME_BYTES])
    return path.with_name(f".{stem}.part-{secrets.token_hex(8)}{suffix}")


@contextmanager
def part_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, locked while the block lasts; removed at its end unless it was moved away."""
    while True:
        aside = part_path(path)
        lock = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if _claimed(lock, aside):
            break
        os.close(lock)
    if fcntl is None:  # an open file cannot be renamed there
        os.close(lock)
        lock = None
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def part_folder(path: Path) -> Iterator[Path]:
    """The same as a folder."""
    while True:
        aside = part_path(path)
        aside.mkdir()
        lock = None if fcntl is None else os.open(aside, os.O_RDONLY)
        if lock is None or _claimed(lock, aside):
            break
        os.close(lock)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _claimed(lock: int, aside: Path) -> bool:
    """Whether the new part is ours: another run that was clearing up may just have removed it."""
    if _locked(lock) is False:
        return False
    try:
        return os.path.samestat(os.fstat(lock), os.stat(aside))
    except FileNotFoundError:
        return False


def _locked(file: int) -> bool | None:
    """Lock an open file: True, or False where another process holds it, or None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES) else None
    return True


def remove_dead(part: Path, *, older_than_s: float = 0.0) -> bool:
    """Remove a part that no living process is writing; whether it is gone. Younger ones than `older_than_s` stay."""
    try:
        found = part.lstat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return False
        lock = os.open(part, (os.O_RDONLY if stat.S_ISDIR(found.st_mode) else os.O_RDWR) | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return True
    except OSError:  # another user's
        return False
    try:
        locked = _locked(lock)
        least_s = max(older_than_s, _WITHOUT_LOCKS_S) if locked is None else older_than_s
        if locked is False or time.time() - found.st_mtime < least_s:
            return False
        remove(part)
        return True
    finally:
        os.close(lock)


def remove(part: Path) -> None:
    """Remove a part, whoever writes it."""
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def parts_in(folder: Path) -> list[Path]:
    """The parts that lie in a folder itself."""
    try:
        with os.scandir(folder) as found:
            return sorted(folder / entry.name for entry in found if is_part(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def living_parts_of(path: Path) -> list[Path]:
    """Parts beside `path` that living processes are writing to become it; what dead ones left is removed."""
    token = len("0123456789abcdef")
    found = []
    for part in parts_in(path.parent):
        for stem in (f".{path.stem}.part-", f".{path.name}.part-"):
            if part.name.startswith(stem) and part.name[len(stem) + token :] in ("", path.suffix):
                found.append(part)
    return [part for part in dict.fromkeys(found) if not remove_dead(part)]
