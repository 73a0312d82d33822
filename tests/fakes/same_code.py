"""Processes that tests start import the toolkit that the tests import: installed, or in the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import avatars

HOME = Path(avatars.__file__).parents[1]
"""Folder that holds the imported package `avatars`."""


def same_code(*more: Path) -> dict[str, str]:
    """This process's environment, for another Python that imports the same toolkit, and modules of `more`."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [HOME, *more]))}
