"""`python -m actionrec.sources ntu ROOT -o manifest.jsonl`: a data set on disk -> a manifest."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from actionrec.errors import DataError
from actionrec.sources import folders, hmdb, kinetics, ntu, smarthome, ucf
from actionrec.sources.listing import Listing, read_classes

Root = Annotated[Path, tyro.conf.Positional]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclass(frozen=True)
class Ntu:
    """NTU RGB+D 60 or 120."""

    root: Root
    output: Output
    protocol: ntu.Protocol = "60-cross-subject"
    classes: Path | None = None
    """Class list (data/manifests/*.json, or text with a name per line); default: all."""

    def listing(self) -> Listing:
        return ntu.build(self.root, protocol=self.protocol, classes=_classes(self.classes))


@dataclass(frozen=True)
class Smarthome:
    """Toyota Smarthome, trimmed."""

    root: Root
    output: Output
    protocol: smarthome.Protocol = "cross-subject"
    classes: Path | None = None

    def listing(self) -> Listing:
        return smarthome.build(self.root, protocol=self.protocol, classes=_classes(self.classes))


@dataclass(frozen=True)
class Ucf101:
    """UCF101 with its train and test lists."""

    root: Root
    output: Output
    lists: Path
    fold: int = 1
    classes: Path | None = None

    def listing(self) -> Listing:
        return ucf.build(self.root, lists=self.lists, fold=self.fold, classes=_classes(self.classes))


@dataclass(frozen=True)
class Hmdb51:
    """HMDB51 with its lists by class."""

    root: Root
    output: Output
    lists: Path
    fold: int = 1
    classes: Path | None = None

    def listing(self) -> Listing:
        return hmdb.build(self.root, lists=self.lists, fold=self.fold, classes=_classes(self.classes))


@dataclass(frozen=True)
class Kinetics:
    """A csv in the style of Kinetics."""

    root: Root
    output: Output
    table: Path
    classes: Path | None = None

    def listing(self) -> Listing:
        return kinetics.build(self.root, table=self.table, classes=_classes(self.classes))


@dataclass(frozen=True)
class Folders:
    """A folder per class."""

    root: Root
    output: Output
    classes: Path | None = None

    def listing(self) -> Listing:
        return folders.build(self.root, classes=_classes(self.classes))


def _classes(path: Path | None) -> list[str] | None:
    return None if path is None else read_classes(path)


def main() -> int:
    """Build, write, tell what came out; 2 when the input cannot be used."""
    command = tyro.cli(Ntu | Smarthome | Ucf101 | Hmdb51 | Kinetics | Folders, prog="python -m actionrec.sources")
    try:
        listing = command.listing()
        print(f"{listing.summary()}\n-> {listing.save(command.output)}")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
