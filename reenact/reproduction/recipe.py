"""RECIPE.yaml -> Recipe: which data set, people and places, how many clips of what, checked before any work."""

from __future__ import annotations

import glob
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from avatars.errors import InputError
from avatars.io.yaml_fields import check_keys, fields_of, listed, number, one_of, path_in, read_yaml, text, texts, whole

DataSetKind = Literal["ntu", "smarthome", "manifest"]
PROTOCOLS = {"ntu": "60-cross-subject", "smarthome": "cross-subject", "manifest": ""}
RECOGNIZERS = ("resnet50", "slowfast", "x3d-s", "small")
QUALITIES = ("draft", "standard", "high")


@dataclass(frozen=True, slots=True)
class DataSetEntry:
    """Where the real clips are."""

    kind: DataSetKind
    folder: Path
    """Of the videos; for kind `manifest`, a manifest that `python -m actionrec.sources` wrote."""
    protocol: str
    classes: Path | None
    """A class list; None: all classes."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Clips and people; those of Knapp & Bohacek 2025 by default."""

    references: int = 5
    """Reference clips per class, of the training side, whose motions are reenacted."""
    identities: int = 15
    places_per_pair: int = 3
    """Places in which each avatar does each motion."""
    real: int = 225
    """Real training clips per class of the baseline."""
    synthetic: int = 225
    """Synthetic training clips per class of the baseline."""
    test: int = 50
    """Test clips per class."""
    few_real: tuple[int, ...] = (1, 5)
    few_synthetic: tuple[int, ...] = (0, 50, 100, 150, 200)

    def scaled(self, scale: float) -> Counts:
        """A share of everything but the places, at least one of each and different ones; none stays none."""

        def few(n: int, least: int = 1) -> int:
            return max(round(scale * n), least)

        several = tuple(sorted({0 if n == 0 else few(n) for n in self.few_synthetic}))
        return replace(
            self, references=few(self.references), identities=few(self.identities), real=few(self.real, 2),
            synthetic=few(self.synthetic), test=few(self.test), few_real=tuple(sorted({few(n) for n in self.few_real})),
            few_synthetic=several,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timing:
    """What a video is brought to before it is used."""

    seconds: float
    fps: float

    @property
    def frames(self) -> int:
        """Of a video that is long enough."""
        return round(self.seconds * self.fps)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One experiment."""

    out: Path
    dataset: DataSetEntry
    identities: tuple[Path, ...]
    """Videos of people turning on the spot."""
    places: tuple[Path, ...]
    """Photographs, or folders of prepared places."""
    counts: Counts = field(default_factory=Counts)
    identity_video: Timing = Timing(18.0, 18.0)
    reference_video: Timing = Timing(20.0, 25.0)
    quality: str = "standard"
    """Of the avatars."""
    avatar_px: int = 512
    size_px: int = 512
    """Height and width of synthetic clips."""
    fps: float = 25.0
    recognizers: tuple[str, ...] = ("resnet50", "slowfast")
    preset: str = "paper"
    steps: int | None = None
    """Optimizer steps of every run; None: as the preset says."""
    motion_from: str = "training"
    seeds: int = 3
    seed: int = 0
    device: str = "cpu"

    def scaled(self, scale: float) -> Recipe:
        """The same experiment on a share of the clips. Raises InputError unless 0 < scale <= 1."""
        if not 0 < scale <= 1:
            raise InputError(f"--scale is {scale:g}, expected more than 0 and at most 1.")
        counts = self.counts if scale == 1 else self.counts.scaled(scale)
        return replace(self, counts=counts, identities=self.identities[: counts.identities])

    @property
    def planned_per_class(self) -> int:
        """Synthetic clips of a class that a plan holds."""
        return self.counts.references * len(self.identities) * self.counts.places_per_pair


def load_recipe(path: str | Path, *, scale: float = 1.0) -> Recipe:
    """Read and check a RECIPE.yaml; paths are relative to its folder. Raises InputError naming what is wrong."""
    path = Path(path)
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no keys. See docs/reproduce.md for what a recipe says.")
    return parse_recipe(document, path.parent, where=str(path), scale=scale)


def parse_recipe(document: dict[str, Any], folder: Path, *, where: str = "RECIPE.yaml", scale: float = 1.0) -> Recipe:
    """Check a parsed recipe. Raises InputError."""
    required = {"out", "dataset", "identities", "places"}
    readers = _readers()
    check_keys(document, {*required, *readers}, required, where)
    given = {key: value for key, value in document.items() if key not in required}
    recipe = Recipe(
        out=path_in(folder, document["out"], f"{where}: out"),
        dataset=_dataset(document["dataset"], folder, f"{where}: dataset"),
        identities=_files(document["identities"], folder, f"{where}: identities"),
        places=_files(document["places"], folder, f"{where}: places"),
        **fields_of(given, readers, where),
    ).scaled(scale)
    _check_counts(recipe, where)
    return recipe


def _check_counts(recipe: Recipe, where: str) -> None:
    """Raise InputError for counts that the material cannot give."""
    counts = recipe.counts
    if len(recipe.identities) < counts.identities:
        raise InputError(
            f"{where}: {len(recipe.identities)} identity videos are given and counts.identities asks for "
            f"{counts.identities}. Give more videos, or ask for fewer."
        )
    if len(recipe.places) < counts.places_per_pair:
        raise InputError(
            f"{where}: {len(recipe.places)} places are given and counts.places_per_pair asks for "
            f"{counts.places_per_pair} different ones."
        )
    most = max(counts.synthetic, *counts.few_synthetic)
    if recipe.planned_per_class < most:
        raise InputError(
            f"{where}: {counts.references} references x {len(recipe.identities)} avatars x {counts.places_per_pair} "
            f"places make {recipe.planned_per_class} synthetic clips per class; {most} are asked for."
        )


def _readers() -> dict[str, Any]:
    timing = lambda value, where: Timing(  # noqa: E731
        **{"seconds": 0.0, "fps": 0.0} | fields_of(value, {"seconds": number(0.5, 600), "fps": number(1, 240)}, where)
    )
    several = listed(whole(0, 10**6))
    counts = {
        name: whole(1, 10**6) for name in ("references", "identities", "places_per_pair", "real", "synthetic", "test")
    }
    return {
        "counts": lambda v, where: Counts(
            **fields_of(v, {**counts, "few_real": several, "few_synthetic": several}, where)
        ),
        "identity_video": timing,
        "reference_video": timing,
        "quality": one_of(*QUALITIES),
        "avatar_px": whole(64, 4096),
        "size_px": whole(32, 4320),
        "fps": number(1.0, 240.0),
        "recognizers": lambda v, where: tuple(one_of(*RECOGNIZERS)(name, where) for name in texts(v, where)),
        "preset": one_of("paper", "modern", "tiny"),
        "steps": whole(1, 10**9),
        "motion_from": one_of("training", "drawn"),
        "seeds": whole(1, 1000),
        "seed": whole(0, 2**32 - 1),
        "device": text,
    }


def _dataset(value: Any, folder: Path, where: str) -> DataSetEntry:
    readers = {
        "kind": one_of(*get_args(DataSetKind)),
        "folder": lambda v, at: path_in(folder, v, at),
        "protocol": text,
        "classes": lambda v, at: path_in(folder, v, at),
    }
    found = fields_of(value, readers, where)
    missing = [key for key in ("kind", "folder") if key not in found]
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing.")
    for key in ("folder", "classes"):
        if key in found and not found[key].exists():
            raise InputError(f"{where}: {key}: nothing at {found[key]}.")
    kind = found["kind"]
    return DataSetEntry(kind, found["folder"], found.get("protocol", PROTOCOLS[kind]), found.get("classes"))


def _files(value: Any, folder: Path, where: str) -> tuple[Path, ...]:
    """Paths and globs, sorted within each."""
    found: list[Path] = []
    for name in texts(value, where):
        pattern = path_in(folder, name, where)
        matches = sorted(Path(p) for p in glob.glob(str(pattern))) if glob.has_magic(name) else [pattern]
        if not matches or not all(path.exists() for path in matches):
            raise InputError(f"{where}: nothing at {pattern}.")
        found += matches
    names = [path.stem for path in found]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise InputError(f"{where}: two files are named {twins[0]!r}. Rename one.")
    return tuple(found)
