"""What long work has finished so far, in a folder beside its output, so that a killed run can be taken up again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO, Any

from avatars.errors import InputError
from avatars.io.files import read_json, write_json
from avatars.io.machine import locked
from avatars.io.part_files import is_part

NAME = ".work"
JOB = "job.json"


class WorkFolder:
    """Finished pieces of one job. Pieces appear whole or not at all; the folder belongs to one process at a time."""

    def __init__(self, path: Path, lock: IO[bytes]) -> None:
        self.path = path
        self._lock = lock

    @staticmethod
    def open(path: str | Path, job: dict[str, Any]) -> WorkFolder:
        """Make the folder, or take up the one that the same `job` (JSON: inputs by hash, settings) left there.

        Raises InputError when it holds another job's work, or when another process is at work in it.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / "lock", "ab")  # noqa: SIM115  (held as long as the work)
        if not locked(lock):
            lock.close()
            raise InputError(f"Another process is working in {path.parent}. Wait for it, or choose another -o.")
        if not (path / JOB).exists():
            write_json(path / JOB, job)
        elif read_json(path / JOB) != job:
            raise InputError(
                f"{path.parent} holds the unfinished work of another video, or of other settings or models "
                f"({_difference(read_json(path / JOB), job)}). Remove that folder, or choose another -o."
            )
        return WorkFolder(path, lock)

    def pieces(self, kind: str) -> list[Path]:
        """Finished pieces of one kind, in order."""
        return sorted(self.path.glob(f"{kind}_[0-9]*.npz"))

    def piece(self, kind: str, number: int) -> Path:
        """Where one piece lies, or will lie."""
        return self.path / f"{kind}_{number:06d}.npz"

    def discard(self) -> None:
        """Remove the folder, and the one above it when nothing else is in there."""
        self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


def holds_only_work(folder: str | Path) -> bool:
    """Whether a job's pieces, and nothing else but what killed commands left, lie in `folder`."""
    return is_unfinished(folder) and {p.name for p in Path(folder).iterdir() if not is_part(p.name)} == {NAME}


def is_unfinished(folder: str | Path) -> bool:
    """Whether `folder` holds a job's pieces, or a job was killed before it had any."""
    work = Path(folder) / NAME
    if (work / JOB).is_file():
        return True
    return work.is_dir() and all(p.name == "lock" or is_part(p.name) for p in work.iterdir())


def _difference(there: Any, asked: dict[str, Any]) -> str:
    if not isinstance(there, dict):
        return "its job.json is odd"
    names = sorted(key for key in {*there, *asked} if there.get(key) != asked.get(key))
    return "different: " + ", ".join(names)
