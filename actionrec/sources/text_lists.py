"""Lists and tables as data sets and spreadsheets write them -> text, without traces of who wrote them."""

from __future__ import annotations

import logging
from pathlib import Path

from actionrec.errors import DataError

log = logging.getLogger(__name__)


def read_text(path: str | Path, *, what: str) -> str:
    """A list's text: UTF-8 or UTF-16 with or without a byte-order mark, else Latin-1, said so.

    Raises DataError when it is missing, cannot be read or is no text.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"No {what} at {path}.") from None
    except OSError as error:
        raise DataError(f"The {what} {path} cannot be read ({error.strerror}).") from None
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
        log.warning("%s is not UTF-8; read as Latin-1.", path)
    if "\0" in text:
        raise DataError(f"The {what} {path} is no text: it holds zero bytes.")
    return text


def read_rows(path: str | Path, *, what: str) -> list[tuple[int, str]]:
    """Number (from 1) and text of a list's lines that hold something. Raises DataError when there are none."""
    # Not splitlines: U+2028 and the like are parts of a name, not ends of a line.
    lines = read_text(path, what=what).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rows = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"The {what} {path} is empty.")
    return rows
