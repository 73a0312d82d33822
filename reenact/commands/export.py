"""`reenact export OUT --to FORM -o DIR`: a data set in the form that a trainer reads, with its card."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatars.io.option_rules import Range, Suffix


@dataclass(frozen=True)
class ExportCommand:
    """Hand a data set on: refused where an identity's consent is not recorded or a licence forbids it."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set."""
    to: Literal["manifest", "folders", "webdataset", "kinetics", "sequences"]
    """manifest: clips, labels, receipts; folders: one per class; webdataset: tar shards with labels; kinetics: videos
    and csv; sequences: state, action and camera per frame for world models."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder to make."""
    purpose: Literal["research", "commercial"] = "research"
    """What the clips are handed on for; licences are held against it."""
    shard_mib: Annotated[float, Range(0.001, 2**20)] = 1024.0
    """Largest shard of a webdataset."""

    def run(self) -> int:
        """Export. Raises InputError when it is not allowed, before anything is written."""
        from avatars.io.outputs import fresh_folder, require_fresh_folder
        from reenact.data_set.export import DataSet, require_permission, write_card, writers

        require_fresh_folder(self.output, what="an export")
        data = DataSet.load(self.out)
        require_permission(data, self.purpose)
        with fresh_folder(self.output, what="an export", last="README.md") as aside:
            writers(self.shard_mib)[self.to](data, aside)
            write_card(data, aside, f"reenact {shlex.join(sys.argv[1:])}", self.purpose)
        unchecked = "" if data.gated else "; `reenact gate` has not checked them"
        print(f"{len(data.clips)} clips{unchecked} -> {self.output}")
        return 0
