"""A prepared place on disk: `place.yaml`, its picture or clip, depth, and the check image that shows what was found."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.checked_npz import ArrayRule, read_arrays
from avatars.io.files import atomic_path, sha256_of
from avatars.io.typed_json import typed
from avatars.io.yaml_fields import read_yaml
from compose.places.free_floor import Footprint, FreeFloor
from compose.places.ground import roll_of
from compose.places.light import PlaceLight
from compose.places.place_view import Background, PlaceView

SCHEMA = 1
MOST_SIDE_PX = 8192
PLACE_FILE, PHOTO_FILE, DEPTH_FILE, CHECK_FILE = "place.yaml", "photo.png", "depth.npz", "check.jpg"
FLOOR_GUESSED = "its color"
"""What `measured` says of a floor that nobody gave and no depth told."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPlace:
    """Everything that was found out about a place."""

    name: str
    rgb: np.ndarray
    """(height, width, 3) uint8."""
    camera: Camera
    depth_m: Float[np.ndarray, "height width"]
    """+inf where unknown."""
    floor_pixels: Bool[np.ndarray, "height width"]
    light: PlaceLight
    depth_kind: str
    """How the depth was had: "file", "metric" (a model), "fitted" (relative, by ground and camera height), "pop-up"."""
    depth_noise: float = 0.0
    measured: dict[str, str] = field(default_factory=dict)
    """How each of focal, ground, camera height and floor was had."""
    assumed: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    shares: tuple[tuple[str, float], ...] = ()
    """Kinds of place with their probability, likeliest first, where CLIP was asked."""
    licence: str = ""
    source: Path = Path()
    video: Path | None = None
    behind: Bool[np.ndarray, "height width"] | None = None
    """Pixels of occluders that have floor behind them."""
    occupied: tuple[Footprint, ...] = ()
    """Floor on which occluders stand."""

    @property
    def floor_guessed(self) -> bool:
        """Whether the floor was guessed by its color."""
        return self.measured.get("floor") == FLOOR_GUESSED

    @property
    def floor(self) -> FreeFloor:
        """Where a body can stand."""
        return FreeFloor.of(
            self.depth_m, self.camera, floor=self.floor_pixels, noise=self.depth_noise, behind=self.behind,
            occupied=self.occupied,
        )  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write the folder; `place.yaml` last, so that a folder without it is not a place."""
        import shutil

        import yaml
        from PIL import Image

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / PHOTO_FILE) as aside:
            Image.fromarray(self.rgb).save(aside)
        with atomic_path(folder / DEPTH_FILE) as aside, open(aside, "wb") as file:
            behind = {} if self.behind is None else {"behind": np.packbits(self.behind)}
            floor = np.packbits(self.floor_pixels)
            np.savez_compressed(file, depth_m=self.depth_m.astype(np.float16), floor=floor, **behind)
        if self.video is not None:
            with atomic_path(folder / f"clip{self.video.suffix.lower()}") as aside:
                shutil.copyfile(self.video, aside)
        with atomic_path(folder / PLACE_FILE) as aside:
            aside.write_text(yaml.safe_dump(self._document(), sort_keys=False, allow_unicode=True), encoding="utf-8")
        return folder

    def _document(self) -> dict[str, Any]:
        height_m, pitch_deg, roll_deg = camera_angles(self.camera)
        return {
            "schema": SCHEMA,
            "name": self.name,
            "licence": self.licence,
            "tags": list(self.tags),
            "clip_shares": {tag: round(share, 4) for tag, share in self.shares},
            "source": {"file": self.source.name, "sha256": sha256_of(self.source)},
            "clip": None if self.video is None else f"clip{self.video.suffix.lower()}",
            "camera": {
                "focal_px": round(float(self.camera.K[0, 0]), 3),
                "center_px": [round(float(v), 3) for v in self.camera.K[:2, 2]],
                "size_hw": list(self.camera.size_hw),
                "height_m": round(height_m, 4),
                "pitch_down_deg": round(pitch_deg, 4),
                "roll_deg": round(roll_deg, 4),
                "T_cam_world": [[round(float(v), 7) for v in row] for row in self.camera.T_cam_world],
            },
            "depth": {"kind": self.depth_kind, "noise": round(float(self.depth_noise), 5)},
            "measured": self.measured,
            "assumed": list(self.assumed),
            "free_floor_m2": round(float(self.floor.area_m2), 2),
            "occupied_m": [{k: round(v, 3) for k, v in asdict(found).items()} for found in self.occupied],
            "light": self.light.as_json(),
        }


def camera_angles(camera: Camera) -> tuple[float, float, float]:
    """Height over the ground (m), downward pitch and roll (degrees) of a camera."""
    R, t = camera.T_cam_world[:3, :3], camera.T_cam_world[:3, 3]
    height_m = float(-(R.T @ t)[1])
    return height_m, math.degrees(math.asin(float(-R[2, 1]))), math.degrees(roll_of(camera))


def open_place(
    path: str | Path, view: PlaceView | None = None, *, tags: tuple[str, ...] = (), licence: str = ""
) -> Background:
    """A place to stand in: a photograph, or a folder that `reenact backgrounds prepare` wrote.

    Raises InputError when it is neither.
    """
    if Path(path).is_dir():
        return load_place(path, view, tags=tags, licence=licence)
    return Background.load(path, view, tags=tags, licence=licence)


def load_place(
    folder: str | Path, view: PlaceView | None = None, *, tags: tuple[str, ...] = (), licence: str = ""
) -> Background:
    """Read a prepared folder. `view` may not say otherwise: what is known was measured with the depth.

    Raises InputError when the folder is no place, or a file of it is missing or damaged.
    """
    folder = Path(folder)
    card = _card(folder)
    if view is not None and view.stated:
        raise InputError(
            f"{folder} is a prepared place, which knows its camera; give {', '.join(view.stated)} to "
            "`reenact backgrounds prepare` instead."
        )
    camera = _camera(card.camera, folder / PLACE_FILE)
    rgb = _picture(folder, camera.size_hw)
    depth_m, floor_pixels, behind = _depth(folder, camera.size_hw)
    clip = None if card.clip is None else _clip(folder, card.clip)
    floor = FreeFloor.of(
        depth_m, camera, floor=floor_pixels, noise=card.depth.noise, behind=behind, occupied=card.occupied_m
    )
    return Background(
        rgb=torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1).contiguous(),
        depth_m=torch.from_numpy(np.where(floor_pixels, np.inf, depth_m).astype(np.float32))[None],
        camera=camera,
        assumed=card.assumed,
        tags=tags or card.tags,
        licence=licence or card.licence,
        floor=floor,
        light=card.light,
        depth_noise=card.depth.noise,
        video=clip,
    )


def place_tags(folder: str | Path) -> tuple[str, ...]:
    """What kind of place a folder holds. Raises InputError when it is no place."""
    return _card(Path(folder)).tags


def floor_guessed(path: str | Path) -> bool:
    """Whether it is a guess where people stand in a place: by color in a prepared one, by the horizon alone in a bare
    photograph. Raises InputError when a folder is no place."""
    if not Path(path).is_dir():
        return True
    return _card(Path(path)).measured.get("floor") == FLOOR_GUESSED


def place_shares(folder: str | Path) -> tuple[tuple[str, float], ...]:
    """What CLIP took a place for: kinds with their probability; nothing where it was not asked. Raises InputError when
    the folder is no place, or a probability no number."""
    return tuple(_card(Path(folder)).clip_shares.items())


@dataclass(frozen=True, slots=True)
class CameraCard:
    """What place.yaml must say of the camera."""

    focal_px: float
    center_px: tuple[float, float]
    size_hw: tuple[int, int]
    T_cam_world: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class DepthCard:
    """What place.yaml must say of the depth."""

    noise: float


@dataclass(frozen=True, slots=True)
class PlaceCard:
    """What place.yaml must hold; the file says more, for who reads it."""

    camera: CameraCard
    depth: DepthCard
    light: PlaceLight
    assumed: tuple[str, ...]
    measured: dict[str, str] = field(default_factory=dict)
    clip: str | None = None
    tags: tuple[str, ...] = ()
    clip_shares: dict[str, float] = field(default_factory=dict)
    licence: str = ""
    occupied_m: tuple[Footprint, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.depth.noise <= 10:
            raise InputError(f"{PLACE_FILE}: depth: noise is {self.depth.noise:g}, expected 0 to 10.")
        light = self.light
        numbers = [*light.key_rgb, *(v for row in light.ambient for v in row), light.penumbra, light.shadow_strength]
        shape = len(light.ambient) == 4 and all(len(row) == 3 for row in light.ambient)
        if not shape or not 0.05 < light.to_light[1] <= 1.01 or max(map(abs, numbers)) > 1e3:
            raise InputError(f"{PLACE_FILE}: light is none that shines from above, with 4 rows of ambient.")
        for found in self.occupied_m:
            if not (-1000 < found.left_m <= found.right_m < 1000 and -1000 < found.near_m <= found.far_m < 1000):
                raise InputError(f"{PLACE_FILE}: occupied_m holds {found}, which is no piece of floor.")


def _card(folder: Path) -> PlaceCard:
    path = folder / PLACE_FILE
    if not path.is_file():
        raise InputError(
            f"{folder} is not a place: it has no {PLACE_FILE}. Make one with `reenact backgrounds prepare`."
        )
    document = read_yaml(path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError(f"{path} has no schema {SCHEMA}, which this version reads. Prepare the place again.")
    said = {key: value for key, value in document.items() if value is not None}
    try:
        return typed(PlaceCard, said, str(path), more=True)
    except InputError as error:
        raise InputError(f"{error} Prepare the place again.") from None


def _camera(card: CameraCard, path: Path) -> Camera:
    """Raises InputError when no camera is so."""
    focal, (x, y), (height, width) = card.focal_px, card.center_px, card.size_hw
    K = torch.tensor([[focal, 0.0, x], [0.0, focal, y], [0.0, 0.0, 1.0]])
    T = torch.tensor(card.T_cam_world, dtype=torch.float32)
    sizes = 1 <= focal <= 1e7 and max(abs(x), abs(y)) <= 1e6 and 16 <= height <= MOST_SIDE_PX >= width >= 16
    turns = T.shape == (4, 4) and bool((T[:3, :3] @ T[:3, :3].T - torch.eye(3)).abs().max() < 1e-3)
    if not sizes or not turns or float(T.abs().max()) > 1e4:
        raise InputError(f"{path}: camera: no camera is so ({card}). Prepare the place again.")
    return Camera(K, T, (height, width))


def _clip(folder: Path, name: str) -> Path:
    """The place's clip, a file of its own folder. Raises InputError."""
    path = folder / name
    if re.fullmatch(r"\w[\w.-]*", name) is None or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder / PLACE_FILE}: clip is {name!a}, which is no file of {folder}.")
    if not path.is_file():
        raise InputError(f"{folder} names {name}, which is not there. Prepare the place again.")
    return path


def _picture(folder: Path, size_hw: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(folder / PHOTO_FILE, formats=["PNG"]) as picture:
                found = (picture.height, picture.width)
                rgb = np.asarray(picture.convert("RGB")) if found == size_hw else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{folder / PHOTO_FILE} cannot be read ({error}). Prepare the place again.") from None
    if rgb is None:
        raise InputError(f"{folder / PHOTO_FILE} is {found}, {PLACE_FILE} says {size_hw}. Prepare it again.")
    return rgb


_DEPTH_RULES = {
    "depth_m": ArrayRule(("height", "width"), infinite=True),
    "floor": ArrayRule(("packed",), "u"),
    "behind": ArrayRule(("packed",), "u", optional=True),
}


def _depth(folder: Path, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Depth, which pixels are floor, and which have floor behind them."""
    path, (height, width) = folder / DEPTH_FILE, size_hw
    sizes = {"height": height, "width": width, "packed": (height * width + 7) // 8}
    try:
        found = read_arrays(path, _DEPTH_RULES, sizes=sizes)
    except InputError as error:
        raise InputError(f"{error} Prepare the place again.") from None
    depth_m, packed, hidden = found["depth_m"].astype(np.float32), found["floor"], found.get("behind")
    if not (depth_m > 0).all():
        raise InputError(f"{path} holds depths of 0 and less. Prepare the place again.")

    def mask(bits: np.ndarray) -> np.ndarray:
        return np.unpackbits(bits, count=depth_m.size).reshape(size_hw).astype(bool)

    return depth_m, mask(packed), None if hidden is None else mask(hidden)
