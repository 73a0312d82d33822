"""Files that appear whole or not at all, folders that are never overwritten, and hashes that name inputs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avatars.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path aside to write to; renamed onto `path` when the block ends well, removed when it does not.

    The name aside keeps the suffix, so that writers which choose a format by suffix work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON, whole or not at all."""
    path = Path(path)
    with atomic_path(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_json(path: str | Path) -> Any:
    """Read JSON. Raises InputError naming the file when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"No file at {path}.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}).") from None


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def require_fresh_folder(path: str | Path, *, what: str) -> Path:
    """`path`, which must not exist or be an empty folder; nothing that exists is ever overwritten.

    Raises InputError otherwise. The folder is not made here.
    """
    path = Path(path)
    if path.is_file():
        raise InputError(f"{path} is a file; {what} needs a folder. Choose another -o.")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} already exists and is not empty; nothing was overwritten. Choose another -o.")
    return path


def require_fresh_file(path: str | Path, *, option: str) -> Path:
    """`path`, which must not exist: nothing that exists is ever overwritten. Raises InputError, naming the option."""
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} already exists; nothing was overwritten. Choose another {option}.")
    return path


def require_space(path: str | Path, needed_mib: float) -> None:
    """Raise InputError when the disk that will hold `path` has less than `needed_mib` MiB free."""
    import shutil

    probe = Path(path).absolute()
    while not probe.exists():
        probe = probe.parent
    free_mib = shutil.disk_usage(probe).free / 2**20
    if free_mib < needed_mib:
        raise InputError(
            f"Not enough disk space for {path}: about {needed_mib:.0f} MiB needed, {free_mib:.0f} MiB free on {probe}."
        )
