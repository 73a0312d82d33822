"""What the user says of a place, as arguments or in `X.yaml` beside picture X -> PlaceHints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatars.errors import InputError
from avatars.io.yaml_fields import fields_of, listed, number, one_of, path_in, read_yaml, shown, text
from compose.places.place_view import PlaceView

if TYPE_CHECKING:
    from compose.preparation.clip_model_tags import PlaceClassifier

Pixel = tuple[float, float]
"""Across and down from the upper left corner of the upright picture or clip as stored."""
Outline = tuple[Pixel, ...]
LIGHTS = ("estimated", "day", "overcast", "night", "indoor")


@dataclass(frozen=True, slots=True)
class Upright:
    """Something of known height that stands on the floor: it tells how high the camera is."""

    foot_px: Pixel
    top_px: Pixel
    height_m: float


@dataclass(frozen=True, slots=True)
class Occluder:
    """Something that stands on the floor and may hide people, told by an outline or a mask."""

    outline_px: Outline = ()
    mask: Path | None = None
    """Picture that is white on it."""
    foot_px: Pixel | None = None
    """Where its middle touches the floor; None: its lowest pixel."""
    distance_m: float | None = None
    """How far ahead of the camera it stands, where its foot is out of the picture."""
    reach_m: tuple[float, float] = (0.3, 0.3)
    """How far it reaches from its foot towards the camera and away from it: nobody stands there."""


@dataclass(frozen=True, slots=True)
class PlaceHints:
    """What the user knows about a place; what is left out is looked for beside the picture, estimated or assumed."""

    view: PlaceView = field(default_factory=PlaceView)
    upright: Upright | None = None
    """In place of the camera's height."""
    depth: Path | None = None
    """Depth file (npy in meters, 16-bit PNG in millimeters); None: `X_depth.npy` or `X_depth.png` beside picture X."""
    depth_model: str | None = None
    """A backend of `avatars.perception.depth_maps`, such as "depth-anything"."""
    floor: Path | None = None
    """Picture that is white where there is free floor; None: `X_floor.png` beside picture X."""
    floor_px: tuple[Outline, ...] = ()
    """Outlines of the floor in place of a picture of it. Floor goes on behind occluders within them."""
    occluders: tuple[Occluder, ...] = ()
    light: str = "estimated"
    sun: tuple[float, float] | None = None
    """Where the sun stands, in place of `light`: degrees from behind the camera to its right, and above the horizon."""
    brightness: float = 1.0
    """How bright the light on people is, as a factor of linear light."""
    tags: tuple[str, ...] = ()
    """What kind of place; left out, what `classifier` takes it for, where there is one."""
    classifier: PlaceClassifier | None = None
    licence: str = ""

    def over(self, other: PlaceHints) -> PlaceHints:
        """These hints, and what only `other` says."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "view"}
        default = PlaceHints()
        kept = {name: getattr(other, name) for name, value in found.items() if value == getattr(default, name)}
        said = {name: getattr(self.view, name) for name in self.view.stated}
        if "camera_height_m" in said:
            kept["upright"] = None
        if self.light != default.light:
            kept["sun"] = None
        return replace(self, view=replace(other.view, **said), **kept)


def hints_beside(photo: str | Path) -> PlaceHints:
    """What `X.yaml` or `X.yml` beside picture X says; nothing where there is none. Raises InputError, naming the key,
    for what is not understood."""
    photo = Path(photo)
    beside = next((path for end in (".yaml", ".yml") if (path := photo.with_suffix(end)).is_file()), None)
    return PlaceHints() if beside is None else read_hints(beside)


def read_hints(path: Path) -> PlaceHints:
    """The hints in a file; masks in it are relative to its folder. Raises InputError."""
    document = read_yaml(path)
    found = fields_of(
        document, _READERS | {"occluders": listed(lambda v, at: _occluder(v, at, path.parent))}, str(path)
    )
    view = PlaceView(**{f.name: found.pop(f.name, None) for f in fields(PlaceView)})
    if found.get("upright") and view.camera_height_m is not None:
        raise InputError(f"{path}: give `camera_height_m` or `upright`, not both.")
    if found.get("sun") and found.get("light"):
        raise InputError(f"{path}: give `light` or `sun`, not both.")
    return PlaceHints(view, **found)


def _occluder(value: Any, where: str, folder: Path) -> Occluder:
    def mask(value: Any, at: str) -> Path:
        path = path_in(folder, value, at)
        if not path.is_file():
            raise InputError(f"{at}: nothing at {path}.")
        return path

    readers = {
        "outline_px": _outline, "mask": mask, "foot_px": _pixel, "distance_m": number(0.3, 100.0), "reach_m": _reach,
    }  # fmt: skip
    found = Occluder(**fields_of(value, readers, where))
    if bool(found.outline_px) == (found.mask is not None):
        raise InputError(f"{where}: give `outline_px` or `mask`, one of them.")
    if found.foot_px is not None and found.distance_m is not None:
        raise InputError(f"{where}: give `foot_px` or `distance_m`, not both.")
    return found


def _pixel(value: Any, where: str) -> Pixel:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where} is {shown(value)}, expected a pixel, [across, down].")
    x, y = (number(-1e5, 1e5)(v, where) for v in value)
    return x, y


def _outline(value: Any, where: str) -> Outline:
    if not isinstance(value, list) or len(value) < 3:
        raise InputError(f"{where} is {shown(value)}, expected at least three pixels, [[across, down], ...].")
    return tuple(_pixel(point, where) for point in value)


def _outlines(value: Any, where: str) -> tuple[Outline, ...]:
    """One outline or a list of them."""
    nested = isinstance(value, list) and value and isinstance(value[0], list) and isinstance(value[0][:1], list)
    if nested and value[0] and isinstance(value[0][0], list):
        return tuple(_outline(outline, f"{where}[{i}]") for i, outline in enumerate(value, 1))
    return (_outline(value, where),)


def _reach(value: Any, where: str) -> tuple[float, float]:
    """One number, or one each for towards the camera and away from it."""
    both = value if isinstance(value, list) else [value, value]
    if len(both) != 2:
        raise InputError(f"{where} is {shown(value)}, expected meters, or [towards the camera, away from it].")
    near, far = (number(0.0, 20.0)(v, where) for v in both)
    return near, far


def _upright(value: Any, where: str) -> Upright:
    readers = {"foot_px": _pixel, "top_px": _pixel, "height_m": number(0.05, 100.0)}
    found = fields_of(value, readers, where)
    missing = sorted(set(readers) - set(found))
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing.")
    return Upright(**found)


def _sun(value: Any, where: str) -> tuple[float, float]:
    readers = {"from_deg": number(-360.0, 360.0), "elevation_deg": number(4.0, 90.0)}
    found = fields_of(value, readers, where)
    missing = sorted(set(readers) - set(found))
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing.")
    return found["from_deg"], found["elevation_deg"]


def _tags(value: Any, where: str) -> tuple[str, ...]:
    return listed(text)([value] if isinstance(value, str) else value, where)


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "camera_height_m": number(0.05, 50.0),
    "horizon": number(-5.0, 5.0),
    "focal_px": number(10.0, 1e6),
    "roll_deg": number(-60.0, 60.0),
    "upright": _upright,
    "floor_px": _outlines,
    "light": one_of(*LIGHTS),
    "sun": _sun,
    "brightness": number(0.05, 5.0),
    "tags": _tags,
    "licence": text,
}
