"""Manifest: one typed JSON line per clip of a data set, real or synthetic.

Paths in a manifest are relative to the folder that holds it, so that a data set can be moved.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from actionrec.errors import DataError
from actionrec.outputs import write_whole

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
                raise ManifestError(f"A clip without {name}: {str(self)[:200]}.")
        for f in fields(self):
            if isinstance(getattr(self, f.name), str) and _unwritable(getattr(self, f.name)):
                raise ManifestError(f"A clip's {f.name} holds what no text file or file name can: {ascii(self)[:200]}.")
        if self.kind not in get_args(KINDS):
            raise ManifestError(f"Clip {self.id[:80]}: kind is {self.kind[:40]!a}, expected one of {get_args(KINDS)}.")
        if self.n_frames < 1 or not 0 < self.fps < math.inf or min(self.size_hw) < 1:
            numbers = f"n_frames {self.n_frames}, fps {self.fps} and size_hw {self.size_hw}"
            raise ManifestError(f"Clip {self.id[:80]}: {numbers} must be positive.")

    def to_line(self) -> str:
        """The clip as one line of JSON, whatever its texts hold."""
        line = json.dumps(asdict(self), ensure_ascii=False)
        for end, escaped in _LINE_ENDS.items():
            line = line.replace(end, escaped)
        return line

    @staticmethod
    def from_dict(values: dict[str, Any], where: str = "clip") -> ManifestClip:
        """Check and convert one JSON object. Raises ManifestError naming `where` and the key."""
        if not isinstance(values, dict):
            raise ManifestError(f"{where} is a JSON {type(values).__name__}, expected an object per clip.")
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
                shown = f"a {type(value).__name__}" if isinstance(value, (dict, list)) else ascii(value)[:80]
                raise ManifestError(f"{where}: {key} is {shown}, expected {known[key]}.")
        size = tuple(values["size_hw"])
        return ManifestClip(**{**values, "size_hw": (int(size[0]), int(size[1])), "fps": float(values["fps"])})


_LINE_ENDS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085"}
"""Ends of lines to many programs; written escaped, as JSON allows."""
_MOST_WHOLE = 2**63


def _unwritable(text: str) -> bool:
    """Whether a text holds NUL or half of a surrogate pair."""
    return "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)


_REQUIRED = {"id", "path", "label", "subject", "source", "kind", "n_frames", "fps", "size_hw", "sha256"}


def _fits(value: Any, kind: str) -> bool:
    """Whether a JSON value has the type that a field's annotation names."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST_WHOLE
    if kind == "int":
        return number and isinstance(value, int)
    if kind == "float":
        return number
    if kind.startswith("tuple"):
        return isinstance(value, (list, tuple)) and len(value) == 2 and all(_fits(v, "int") for v in value)
    return isinstance(value, str)


def write_manifest(path: str | Path, clips: Iterable[ManifestClip], *, fresh: bool = False) -> Path:
    """Write one line per clip, whole or not at all; with `fresh` only where nothing is.

    Raises ManifestError when two clips share an id, DataError when something is there.
    """
    path = Path(path)
    lines, seen = [], set()
    for clip in clips:
        if clip.id in seen:
            raise ManifestError(f"Two clips have the id {clip.id}.")
        seen.add(clip.id)
        lines.append(clip.to_line() + "\n")
    return write_whole(path, "".join(lines), fresh=fresh)


def read_manifest(path: str | Path) -> list[ManifestClip]:
    """Read a manifest. Raises ManifestError naming the line that is wrong."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise ManifestError(f"No manifest at {path}.") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not a text file ({error}).") from None
    clips, seen = [], set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{where} is not JSON ({error}).") from None
        clip = ManifestClip.from_dict(values, where)
        if clip.id in seen:
            raise ManifestError(f"{where}: the id {clip.id[:80]} stands twice.")
        seen.add(clip.id)
        clips.append(clip)
    return clips
