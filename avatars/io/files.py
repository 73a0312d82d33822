"""Files that appear whole or not at all, JSON, and hashes that name inputs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avatars.errors import InputError
from avatars.io.outputs import require_fresh_file, require_fresh_folder, require_readable
from avatars.io.part_files import part_file
from avatars.io.typed_json import parse_json, read_text

__all__ = (
    "atomic_path",
    "read_json",
    "require_fresh_file",
    "require_fresh_folder",
    "require_space",
    "sha256_of",
    "state_of",
    "write_json",
)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path aside to write to; renamed onto `path` when the block ends well, removed when it does not.

    For files of our own that may be written anew: what a user names as an output is opened with
    `avatars.io.outputs.fresh_file`. The name aside keeps the suffix, so that writers which choose a format by suffix
    work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with part_file(path) as aside:
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON, whole or not at all."""
    path = Path(path)
    with atomic_path(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_json(path: str | Path) -> Any:
    """Read JSON. Raises InputError naming the file when it is missing or broken."""
    require_readable(Path(path))
    return parse_json(read_text(path), str(path))


def state_of(path: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time (ns) and size of a file, or of every file in a folder: what is kept in memory is right while these
    stay."""
    path = Path(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = ((file.name, file.stat()) for file in files)
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal. Raises InputError for a pipe or a device."""
    require_readable(Path(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


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
