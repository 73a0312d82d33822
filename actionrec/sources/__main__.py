"""`python -m actionrec.sources ntu ROOT -o manifest.jsonl`: a data set on disk -> a manifest."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from actionrec.errors import DataError
from actionrec.outputs import require_fresh, require_regular
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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]  # asked above
    command = tyro.cli(Ntu | Smarthome | Ucf101 | Hmdb51 | Kinetics | Folders, prog="python -m actionrec.sources")
    try:
        command = _with_paths(command)
        print(_listed(command), flush=True)
    except BrokenPipeError:  # nobody reads what is told; the manifest is there
        sys.stdout = None  # type: ignore[assignment]
    except (DataError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _listed(command: Any) -> str:
    """Write the manifest; what to tell. Raises DataError."""
    output = require_fresh(command.output)
    root = command.root.resolve()
    if root == Path(root.anchor):
        raise DataError(f"{command.root} is the whole file system; name the data set's folder.")
    listing = command.listing()
    return f"{listing.summary()}\n-> {listing.save(output)}"


def _with_paths(command: Any) -> Any:
    """The command with ~ expanded in all its paths. Raises DataError for pipes and the like."""
    values = {f.name: getattr(command, f.name) for f in fields(command)}
    paths = {name: require_regular(value) for name, value in values.items() if isinstance(value, Path)}
    return replace(command, **paths)


if __name__ == "__main__":
    sys.exit(main())
