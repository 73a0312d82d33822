"""Manifest: one typed JSON line per clip of a data set, real or synthetic.

Paths in a manifest are relative to the folder that holds it, so that a data set can be moved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from actionrec.errors import DataError

KINDS = Literal["real", "synthetic"]


class ManifestError(DataError):
    """A manifest that cannot be used; the message names the file, the line and what to do."""


@dataclass(frozen=True, slots=True)
class ManifestClip:
    """One clip of a data set."""

    id: str
    path: str
    """Video file, relative to the manifest's folder, with forward slashes."""
    label: str
    subject: str
    """Who is seen: a person of the real set, or the avatar's name; "" when it is not known."""
    source: str
    """Where the motion comes from: the real performance itself, or the reference motion of a synthetic clip."""
    kind: KINDS
    n_frames: int
    fps: float
    size_hw: tuple[int, int]
    sha256: str
    """Hash of the video file."""
    background: str = ""
    camera: str = ""
    split: str = ""
    licence: str = ""
    """Licences of everything that the clip was made from, joined by "; "."""
    source_video: str = ""
    """The longer recording that a real clip was cut from; "" when it is not known."""
    identity: str = ""
    """The person whom a synthetic clip's avatar was made from; "" when it is not known."""

    def __post_init__(self) -> None:
        for name in ("id", "path", "label"):
            if not getattr(self, name):
                raise ManifestError(f"A clip without {name}: {self}.")
        if self.kind not in get_args(KINDS):
            raise ManifestError(f"Clip {self.id}: kind is {self.kind!r}, expected one of {get_args(KINDS)}.")
        if self.n_frames < 1 or self.fps <= 0:
            raise ManifestError(f"Clip {self.id}: n_frames {self.n_frames} and fps {self.fps} must be positive.")

    def to_line(self) -> str:
        """The clip as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_dict(values: dict[str, Any], where: str = "clip") -> ManifestClip:
        """Check and convert one JSON object. Raises ManifestError naming `where` and the key."""
        known = {f.name: f.type for f in fields(ManifestClip)}
        unknown = sorted(set(values) - set(known))
        missing = [f.name for f in fields(ManifestClip) if f.name not in values and f.name in _REQUIRED]
        if unknown or missing:
            found = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"missing {', '.join(missing)}"] * bool(
                missing
            )
            raise ManifestError(f"{where}: {' and '.join(found)}. Expected the keys {', '.join(known)}.")
        for key, value in values.items():
            if not _fits(value, str(known[key])):
                raise ManifestError(f"{where}: {key} is {value!r}, expected {known[key]}.")
        size = tuple(values["size_hw"])
        return ManifestClip(**{**values, "size_hw": (int(size[0]), int(size[1])), "fps": float(values["fps"])})


_REQUIRED = {"id", "path", "label", "subject", "source", "kind", "n_frames", "fps", "size_hw", "sha256"}


def _fits(value: Any, kind: str) -> bool:
    """Whether a JSON value has the type that a field's annotation names."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "int":
        return number and isinstance(value, int)
    if kind == "float":
        return number
    if kind.startswith("tuple"):
        return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, int) for v in value)
    return isinstance(value, str)


def write_manifest(path: str | Path, clips: Iterable[ManifestClip]) -> Path:
    """Write one line per clip, whole or not at all. Raises ManifestError when two clips share an id."""
    path = Path(path)
    lines, seen = [], set()
    for clip in clips:
        if clip.id in seen:
            raise ManifestError(f"Two clips have the id {clip.id}.")
        seen.add(clip.id)
        lines.append(clip.to_line() + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def read_manifest(path: str | Path) -> list[ManifestClip]:
    """Read a manifest. Raises ManifestError naming the line that is wrong."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ManifestError(f"No manifest at {path}.") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not a text file ({error}).") from None
    clips, seen = [], set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ManifestError(f"{where} is not JSON ({error}).") from None
        if not isinstance(values, dict):
            raise ManifestError(f"{where} is a JSON {type(values).__name__}, expected an object per clip.")
        clip = ManifestClip.from_dict(values, where)
        if clip.id in seen:
            raise ManifestError(f"{where}: the id {clip.id} stands twice.")
        seen.add(clip.id)
        clips.append(clip)
    return clips
