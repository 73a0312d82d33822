"""The error that is the user's to mend: scripts print it in one line."""

from __future__ import annotations


class DataError(ValueError):
    """Clips, lists or settings that cannot be used. The message says what was wrong, what was found and what to do."""


class PackageMissing(DataError, ModuleNotFoundError):
    """An optional package is not installed; the message holds the command that installs it."""
