"""How every program in scripts/ ends: exit codes as the commands have them, and a --json file that is its own.

The file is written where nothing is, or over what the same program wrote before: its `benchmark` says whose it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avatars.errors import InputError
from avatars.io.files import read_json, write_json
from avatars.io.outputs import expanded, is_stream, require_fresh_file

KEY = "benchmark"


def require_results_file(path: Path | None, benchmark: str) -> Path | None:
    """`path`, where nothing is, or numbers of this benchmark, or a device. Raises InputError for anything else."""
    if path is None:
        return None
    path = expanded(path)
    if path.is_file() and not path.is_symlink():
        try:
            found = read_json(path)
        except InputError:
            found = None
        if isinstance(found, dict) and found.get(KEY) == benchmark:
            return path
    return require_fresh_file(path, option="--json")


def write_results(path: Path | None, benchmark: str, numbers: Mapping[str, Any]) -> None:
    """Write the numbers, with whose they are. Raises InputError when something else has appeared there."""
    path = require_results_file(path, benchmark)
    if path is None:
        return
    document = {KEY: benchmark, **numbers}
    if is_stream(path):
        import json

        path.write_text(json.dumps(document) + "\n", encoding="utf-8")
    else:
        write_json(path, document)


def main(options: Any, benchmark: str, description: str) -> int:
    """Parse `options` (a dataclass with `run`), look at its --json, run it; errors in one line."""
    import tyro

    from actionrec.errors import DataError
    from avatars.commands import console

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
    given = tyro.cli(options, description=description, config=(tyro.conf.OmitArgPrefixes,))
    try:
        require_results_file(getattr(given, "json", None), benchmark)
    except InputError as error:
        return console.fail(console.USER_MISTAKE, str(error))
    return console.run(given, mistakes=(DataError,))
