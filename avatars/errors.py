"""Errors the user can fix: printed as one line, exit code 2."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used. The message says what was wrong, what was found and what to do."""


class BodyFileMissing(InputError, FileNotFoundError):
    """A body model was asked for and its file is not there."""


class BackendMissing(InputError, ModuleNotFoundError):
    """An optional package or its weights are not installed; the message holds the command that installs them."""
