"""Where commands may write. One rule: an output replaces nothing.

What exists is refused: files, devices, pipes, sockets, links to them, folders with anything in them. An empty folder, a
mount point or a link to an empty folder, is filled; a character device (/dev/null) is written to where one file is
asked for. Commands ask before their work (`require_...`) and are held to it when the output appears (`fresh_...`): what
has appeared meanwhile stays, and the result is kept beside it under another name.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from avatars.errors import InputError
from avatars.io.part_files import is_part, living_parts_of, part_folder, parts_in, remove_dead

_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_IGNORED = ("lost+found",)
"""What a file system that was just made holds."""
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EBUSY)


def expanded(path: str | Path) -> Path:
    """`path` with ~ as the home folder. Raises InputError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such home folder here; write the path without ~.") from None


def kind_of(path: Path) -> str | None:
    """What stands at `path` ("a file", "a pipe", ...), links followed; None where nothing is."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a link to nothing" if path.is_symlink() else None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link that leads in a circle"
        if error.errno == errno.ENAMETOOLONG:  # nothing has such a name
            return None
        raise
    return next((name for test, name in _KINDS if test(mode)), "something odd")


def require_readable(path: Path) -> None:
    """Raise InputError for what would be read without end, or never begin: pipes, sockets, devices, and / as a whole.
    Whether a file is there is for its reader to say."""
    kind = kind_of(path)
    if kind in ("a pipe", "a socket", "a device"):
        raise InputError(f"{path} is {kind}; it is read more than once, so save it to a file and give that.")
    if kind == "a link that leads in a circle":
        raise InputError(f"{path} is {kind}.")
    if kind == "a folder" and path.resolve() == Path(path.resolve().anchor):
        raise InputError(f"{path} is the whole file system; name the folder that is meant.")


def require_fresh_file(path: str | Path, *, option: str = "-o") -> Path:
    """`path`, at which nothing is, or a character device. Raises InputError, naming the option, for anything else."""
    path = expanded(path)
    kind = kind_of(path)
    living = living_parts_of(path)
    if kind is not None and not is_stream(path):
        told = f"{path} already exists" if kind in ("a file", "a folder") else f"{path} is {kind}"
        raise InputError(f"{told}; nothing was overwritten. Choose another {option}.")
    if kind is None:
        _require_place_for(path, option)
        _refuse_busy(living, path, option)
    return path


def require_apart(output: Path, inputs: Iterable[Path | None], *, option: str = "-o") -> None:
    """Raise InputError when an input is the output, or lies in it, and so would be replaced with it."""
    whole = output.resolve()
    for path in inputs:
        if path is not None and path.exists() and whole in (path.resolve(), *path.resolve().parents):
            raise InputError(f"{path} is read and lies in {output}, which is written. Choose another {option}.")


def is_stream(path: Path) -> bool:
    """Whether a character device stands there, such as /dev/null."""
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def require_fresh_folder(path: str | Path, *, what: str, option: str = "-o", may_hold: Set[str] = frozenset()) -> Path:
    """`path`, at which nothing is, or a folder that is empty but for `may_hold` (names) and what killed commands left,
    which is removed. A link to such a folder will do. Raises InputError otherwise. The folder is not made here."""
    path = expanded(path)
    kind = kind_of(path)
    living = living_parts_of(path)
    if kind is None:
        _require_place_for(path, option)
        _refuse_busy(living, path, option)
    elif kind != "a folder":
        raise InputError(f"{path} is {kind}; {what} needs a folder. Choose another {option}.")
    elif found := _contents(path) - may_hold:
        _refuse_busy([path / name for name in found if is_part(name)], path, option)
        raise InputError(f"{path} already exists and is not empty; nothing was overwritten. Choose another {option}.")
    return path


def require_folder_for(path: str | Path, *, what: str, option: str = "-o") -> Path:
    """`path`, a folder that is there, whatever it holds, or may be made, for files that are each fresh.

    What killed commands left in it is removed. Raises InputError.
    """
    path = expanded(path)
    kind = kind_of(path)
    if kind is None:
        _require_place_for(path, option)
    elif kind != "a folder":
        raise InputError(f"{path} is {kind}; {what} needs a folder. Choose another {option}.")
    else:
        _require_writable(path, option)
        for part in parts_in(path):
            remove_dead(part)
    return path


def _contents(folder: Path) -> set[str]:
    """Names in a folder, after what killed commands left there was removed."""
    for part in parts_in(folder):
        remove_dead(part)
    return {name for name in os.listdir(folder) if name not in _IGNORED}


def _require_place_for(path: Path, option: str) -> None:
    """Raise InputError where `path` cannot be made, or another command is making it."""
    if path.name in ("", ".."):
        raise InputError(f"{option} {path} is no name for an output.")
    if len(os.fsencode(path.name)) > 255:
        raise InputError(f"{option} {path.name[:40]}... is longer than a file name may be (255 bytes).")
    parent = path.absolute().parent
    while kind_of(parent) is None:
        parent = parent.parent
    if kind_of(parent) != "a folder":
        raise InputError(f"{parent} is {kind_of(parent)}: nothing can be made below it. Choose another {option}.")
    _require_writable(parent, option)


def _require_writable(folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"No permission to write in {folder}. Choose another {option}.")


def _refuse_busy(parts: Iterable[Path], path: Path, option: str) -> None:
    for part in parts:
        raise InputError(f"Another command is making {path} ({part.name}). Wait for it, or choose another {option}.")


@contextmanager
def fresh_file(path: str | Path, *, option: str = "-o") -> Iterator[Path]:
    """A path of the same name aside to write to; it becomes `path` when the block ends well.

    Raises InputError when something stands at `path`, before the block or when it has ended: the result then stays
    beside it under another name.
    """
    path = require_fresh_file(path, option=option)
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
            with open(Path(folder) / path.name, "rb") as made, open(path, "wb") as device:
                shutil.copyfileobj(made, device)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with part_folder(path) as folder:
        aside = folder / path.name
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        if not _moved_where_nothing_is(aside, path):
            kept = path.with_name(f"{path.stem}-{secrets.token_hex(4)}{path.suffix}")
            os.rename(aside, kept)
            raise _appeared(path, kept)


def _moved_where_nothing_is(aside: Path, path: Path) -> bool:
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


def _appeared(path: Path, kept: Path) -> InputError:
    return InputError(f"{path} appeared while this command worked; nothing was overwritten. The result is {kept}.")


@contextmanager
def fresh_folder(
    path: str | Path,
    *,
    what: str,
    option: str = "-o",
    last: str = "",
    replaces: Set[str] = frozenset(),
    beside: Set[str] = frozenset(),
) -> Iterator[Path]:
    """A folder aside to fill; it becomes `path` when the block ends well, and is removed when it does not.

    A folder that is there is filled, since mount points and links cannot be replaced: its entries appear one by one,
    `last` after the others. `beside` may be there and stays; `replaces` is removed first, what is named `last` before
    all else. Raises InputError when `path` holds anything else, before the block or when it has ended: the result then
    stays beside it under another name.
    """
    allowed = replaces | beside
    path = require_fresh_folder(path, what=what, option=option, may_hold=allowed)
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = path.is_dir()
    with part_folder(path / path.absolute().name if inside else path) as aside:
        yield aside
        if not inside and _renamed(aside, path):
            return
        if kind_of(path) != "a folder" or _contents(path) - allowed - {aside.name}:
            kept = path.with_name(f"{path.absolute().name}-{secrets.token_hex(4)}")
            os.rename(aside, kept) if not inside else shutil.move(aside, kept)
            raise _appeared(path, kept)
        _fill(path, aside, last, replaces)


def _renamed(aside: Path, path: Path) -> bool:
    """Rename a folder onto a name that is free, or an empty folder's."""
    if path.is_symlink():
        return False
    try:
        os.rename(aside, path)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    return True


def _fill(path: Path, aside: Path, last: str, replaces: Set[str]) -> None:
    """Move what is in `aside` into `path`."""
    for name in sorted(replaces, key=lambda name: name != last):
        old = path / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    for name in sorted(os.listdir(aside), key=lambda name: (name == last, name)):
        os.rename(aside / name, path / name)
