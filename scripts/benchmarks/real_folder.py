"""A folder of real clips, CLASS/PERSON__N.ext: what do synthetic clips made from one person's clips gain on the others?

Each person in turn is the one whose clips are known; everybody else is tested. Motions are tracked out of the clips,
through whose own camera and over whose own place (the person taken out) they are done again by avatars of people who
are in no clip: ray-cast people, filmed while they turn on the spot.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.simulated_world import SimulatedConfig, each, fit_person

from actionrec.manifest import ManifestClip, read_manifest, write_manifest
from avatars.errors import InputError
from avatars.io.files import atomic_path, read_json, require_space, write_json
from avatars.io.progress import StageClock

SPACE_MIB = 1000.0
FIRST_AVATAR = 900
"""Seed of the first studio person with an avatar."""
LONGEST_SIDE = 512
"""Synthetic clips are no larger, whatever the real ones are."""


@dataclass(frozen=True, slots=True)
class RealFolderConfig:
    """What is made from a folder of clips."""

    avatars: int = 12
    """People of the studio who do every motion, once each."""
    turn_deg: float = 15.0
    """The camera walks around the person by so much to either side."""
    size: float = 1.08
    """People are drawn up to so many times larger or smaller than the source's."""
    speed: float = 1.22
    """Motions are played up to so many times faster or slower."""
    softness_px: float = 0.5
    """Of the people (`film: {softness: ...}`)."""
    seed: int = 0
    jobs: int = 2


@dataclass(frozen=True, slots=True)
class RealFolderSet:
    """What was made."""

    folder: Path
    persons: tuple[str, ...]
    """Everybody in the clips whose motions could be read in every class: each is the known person once."""
    failures: tuple[str, ...]
    seconds: dict[str, float]

    def real(self, person: str) -> Path:
        """Manifest of all clips, those of `person` for training, all others for testing."""
        return self.folder / f"real_{person}.jsonl"

    def synthetic(self, person: str) -> Path:
        """Manifest of the clips made from those of `person`."""
        return self.folder / f"synthetic_{person}.jsonl"


def make_real_folder_set(real: Path, out: Path, config: RealFolderConfig) -> RealFolderSet:
    """Track, fit and reenact; what is there already (of the same settings) is kept.

    Raises InputError when the folder holds a set of other settings, or no person is seen in every class, and DataError
    when `real` is no folder of classes.
    """
    from actionrec.sources import folders
    from avatars.body import load_body

    listing = folders.build(real)
    for skipped in listing.skipped:
        print(f"left out: {skipped.reason}", file=sys.stderr)
    clips = [replace(clip, source=motion_name(clip)) for clip in listing.clips]
    require_people(real, clips)
    _claim(out, clips, config)
    require_space(out, SPACE_MIB)
    load_body()  # built here when it is the first time, not by several processes at once
    clock = StageClock()
    with clock.stage("track"):
        tasks = [(out, link_of(out, clip), clip.label) for clip in clips]
        failures = [reason for reason in each(track_clip, tasks, config.jobs) if reason]
    with clock.stage("avatars"):
        studio = SimulatedConfig(turn_frames=36, jobs=config.jobs)
        each(fit_person, [(out, studio, FIRST_AVATAR + i) for i in range(config.avatars)], config.jobs)
    with clock.stage("reenact"):
        made, more = reenact_all(out, clips, config)
    persons = _write_folds(out, clips, made)
    return RealFolderSet(out, persons, (*failures, *more), {k: round(v, 1) for k, v in clock.seconds.items()})


def motion_name(clip: ManifestClip) -> str:
    """The name of a clip's motion, which is also the performance that synthetic clips refer to."""
    return f"{clip.label}_{Path(clip.path).stem}"


def require_people(folder: Path, clips: Sequence[ManifestClip]) -> None:
    """Raise InputError unless two people or more are named, and motions' names differ."""
    people = {clip.subject for clip in clips}
    if "" in people or len(people) < 2:
        raise InputError(
            f"{folder} names {len(people - {''})} people in its clips; at least two are needed, in file names "
            "CLASS/PERSON__N.ext."
        )
    twins = [name for name, n in Counter(clip.source for clip in clips).items() if n > 1]
    if twins:
        raise InputError(f"Two clips of {folder} are named {twins[0]}; rename one.")


def link_of(out: Path, clip: ManifestClip) -> Path:
    """The clip under a name of its own, since every class has files of the same names."""
    link = out / "clips" / f"{motion_name(clip)}{Path(clip.path).suffix}"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(Path(clip.path).absolute())
    return link


def track_clip(task: tuple[Path, Path, str]) -> str:
    """Track one clip, with its camera and its place; "" or the reason why that did not go."""
    from reenact.commands.features import FeaturesCommand

    out, clip, label = task
    command = FeaturesCommand((clip,), out / "motions", label=label, plates=True)
    if (out / "motions" / f"{clip.stem}.npz").is_file():
        return ""
    heard = _Heard()
    stdout, sys.stdout = sys.stdout, heard  # type: ignore[assignment]
    try:
        return heard.text if command.run() else ""
    finally:
        sys.stdout = stdout


class _Heard:
    """What a command prints."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        if "failed: " in text:
            self.text += text.strip()

    def flush(self) -> None:
        pass


def reenact_all(
    out: Path, clips: Sequence[ManifestClip], config: RealFolderConfig
) -> tuple[list[ManifestClip], list[str]]:
    """Every avatar does every motion where the source's person was; the clips, and why others could not be made."""
    import yaml

    from reenact.running.run import run_batch

    height, width = Counter(clip.size_hw for clip in clips).most_common(1)[0][0]
    scale = min(LONGEST_SIDE / max(height, width), 1.0)
    batch: dict[str, Any] = {
        "out": "dataset",
        "seed": config.seed,
        "size": [2 * round(scale * side / 2) for side in (height, width)],
        "fps": Counter(round(clip.fps, 3) for clip in clips).most_common(1)[0][0],
        "placement": {
            "kind": "source",
            "turn_deg": [-config.turn_deg, config.turn_deg],
            "size": [round(1 / config.size, 4), config.size],
        },
        "speed": [round(1 / config.speed, 4), config.speed],
        "film": {"softness": config.softness_px},
        "avatars": [f"avatars/avatar_{FIRST_AVATAR + i}" for i in range(config.avatars)],
        "motions": ["motions/*.npz"],
        "backgrounds": ["source"],
    }
    with atomic_path(out / "batch.yaml") as aside:
        aside.write_text(yaml.safe_dump(batch, sort_keys=False), encoding="utf-8")
    summary = run_batch(out / "batch.yaml", jobs=config.jobs)
    made = [
        replace(clip, path=f"dataset/{clip.path}", identity=f"studio_{clip.subject}")
        for clip in read_manifest(out / "dataset" / "manifest.jsonl")
    ]
    return made, [f"{f.id} ({f.label}), {f.stage}: {f.reason}" for f in summary.failures]


def _write_folds(out: Path, clips: Sequence[ManifestClip], made: Sequence[ManifestClip]) -> tuple[str, ...]:
    """A split for every person whose clips were all reenacted in some class or other; who that is."""
    classes = {clip.label for clip in clips}
    persons = []
    for person in sorted({clip.subject for clip in clips}):
        own = {clip.source for clip in clips if clip.subject == person}
        of_person = [clip for clip in made if clip.source in own]
        lacking = sorted(classes - {clip.label for clip in of_person})
        if lacking:
            print(f"{person} is no training person: nothing was made of {', '.join(lacking)}.", file=sys.stderr)
            continue
        split = [replace(clip, split="train" if clip.subject == person else "test") for clip in clips]
        moved = [replace(clip, path=os.path.relpath(clip.path, out)) for clip in split]
        write_manifest(out / f"real_{person}.jsonl", moved)
        write_manifest(out / f"synthetic_{person}.jsonl", of_person)
        persons.append(person)
    if not persons:
        raise InputError("Of no person were synthetic clips made in every class.")
    return tuple(persons)


def _claim(out: Path, clips: Sequence[ManifestClip], config: RealFolderConfig) -> None:
    """Write settings and contents into an empty folder, or check that they are those found. Raises InputError."""
    settings = {k: v for k, v in asdict(config).items() if k != "jobs"}
    settings |= {"clips": sorted(clip.sha256 for clip in clips)}
    path = out / "real_folder.json"
    if path.is_file():
        found = read_json(path)
        changed = sorted(k for k in settings if found.get(k) != settings[k])
        if changed:
            raise InputError(f"{out} holds a set with other {', '.join(changed)}; choose another folder.")
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty and holds no such set; choose another folder.")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
