"""What a process asks its machine, on Linux and macOS alike: processors, locks of files."""

from __future__ import annotations

import os
from typing import IO, Any


def processors() -> int:
    """How many this process may use; where the system does not tell (macOS), how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def locked(file: IO[Any]) -> bool:
    """Whether the file is now locked by this process alone; the kernel drops the lock with the process or the file.

    On systems without such locks nothing keeps a second process out, and this is True.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
