"""Names that a data set's files hold: taken at their word only when they stay inside the data set's folder."""

from __future__ import annotations

import re
from pathlib import Path

from avatars.errors import InputError
from avatars.io.typed_json import shown

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_PART = re.compile(r"[\w-][\w.-]{0,254}")


def require_id(value: object, where: str) -> str:
    """A clip's id, which names files: letters, digits, "_" and "-". Raises InputError."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InputError(f"{where}: the id {shown(value)} cannot name a file; nothing of it was used.")
    return value


def require_relative(value: object, where: str) -> str:
    """A path below a data set's folder, with forward slashes and plain names. Raises InputError."""
    if not isinstance(value, str) or not all(_PART.fullmatch(part) for part in value.split("/")):
        raise InputError(f"{where}: the path {shown(value)} does not lie in the data set; nothing of it was used.")
    return value


def file_inside(folder: Path, path: str, where: str) -> Path:
    """The file at a relative path, links resolved. Raises InputError when it is not there or lies outside."""
    there = (folder / require_relative(path, where)).resolve()
    if not there.is_relative_to(folder.resolve()):
        raise InputError(f"{where}: {path} leads to {there}, outside of {folder}; nothing of it was used.")
    if not there.is_file():
        raise InputError(f"{where}: {path} is missing in {folder}. Run `reenact verify {folder}`.")
    return there
