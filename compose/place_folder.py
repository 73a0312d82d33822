"""A prepared place on disk: `place.yaml`, its picture or clip, depth, and the check image that shows what was found."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from avatars.camera import Camera
from avatars.errors import InputError
from avatars.files import atomic_path, sha256_of
from compose.free_floor import Footprint, FreeFloor
from compose.ground import roll_of
from compose.light import PlaceLight

if TYPE_CHECKING:
    from compose.background import Background, PlaceView

SCHEMA = 1
PLACE_FILE, PHOTO_FILE, DEPTH_FILE, CHECK_FILE = "place.yaml", "photo.png", "depth.npz", "check.jpg"


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


def load_place(
    folder: str | Path, view: PlaceView | None = None, *, tags: tuple[str, ...] = (), licence: str = ""
) -> Background:
    """Read a prepared folder. `view` may not say otherwise: what is known was measured with the depth.

    Raises InputError when the folder is no place, or a file of it is missing or damaged.
    """
    from compose.background import Background

    folder = Path(folder)
    document = _document(folder)
    if view is not None and view.stated:
        raise InputError(
            f"{folder} is a prepared place, which knows its camera; give {', '.join(view.stated)} to "
            "`reenact backgrounds prepare` instead."
        )
    try:
        camera = _camera(document["camera"])
        light = PlaceLight.from_json(document["light"])
        noise, assumed = float(document["depth"]["noise"]), tuple(document["assumed"])
        clip = document.get("clip")
        occupied = tuple(Footprint(**found) for found in document.get("occupied_m") or ())
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / PLACE_FILE}: {error} is missing or no number. Prepare the place again.") from None
    rgb = _picture(folder, camera.size_hw)
    depth_m, floor_pixels, behind = _depth(folder, camera.size_hw)
    if clip is not None and not (folder / clip).is_file():
        raise InputError(f"{folder} names {clip}, which is not there. Prepare the place again.")
    return Background(
        rgb=torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1).contiguous(),
        depth_m=torch.from_numpy(np.where(floor_pixels, np.inf, depth_m).astype(np.float32))[None],
        camera=camera,
        assumed=assumed,
        tags=tags or tuple(document.get("tags") or ()),
        licence=licence or str(document.get("licence") or ""),
        floor=FreeFloor.of(depth_m, camera, floor=floor_pixels, noise=noise, behind=behind, occupied=occupied),
        light=light,
        depth_noise=noise,
        video=None if clip is None else folder / clip,
    )


def place_tags(folder: str | Path) -> tuple[str, ...]:
    """What kind of place a folder holds. Raises InputError when it is no place."""
    return tuple(str(tag) for tag in _document(Path(folder)).get("tags") or ())


def place_shares(folder: str | Path) -> tuple[tuple[str, float], ...]:
    """What CLIP took a place for: kinds with their probability; nothing where it was not asked. Raises InputError when
    the folder is no place, or a probability no number."""
    found = _document(Path(folder)).get("clip_shares") or {}
    try:
        return tuple((str(tag), float(share)) for tag, share in found.items())
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{Path(folder) / PLACE_FILE}: clip_shares: {error}. Prepare the place again.") from None


def _document(folder: Path) -> dict[str, Any]:
    import yaml

    path = folder / PLACE_FILE
    if not path.is_file():
        raise InputError(
            f"{folder} is not a place: it has no {PLACE_FILE}. Make one with `reenact backgrounds prepare`."
        )
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError(f"{path} has no schema {SCHEMA}, which this version reads. Prepare the place again.")
    return document


def _camera(values: dict[str, Any]) -> Camera:
    focal, (x, y) = float(values["focal_px"]), values["center_px"]
    K = torch.tensor([[focal, 0.0, float(x)], [0.0, focal, float(y)], [0.0, 0.0, 1.0]])
    height, width = (int(v) for v in values["size_hw"])
    return Camera(K, torch.tensor(values["T_cam_world"], dtype=torch.float32), (height, width))


def _picture(folder: Path, size_hw: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    try:
        rgb = np.asarray(Image.open(folder / PHOTO_FILE).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise InputError(f"{folder / PHOTO_FILE} cannot be read ({error}). Prepare the place again.") from None
    if rgb.shape[:2] != size_hw:
        raise InputError(f"{folder / PHOTO_FILE} is {rgb.shape[:2]}, {PLACE_FILE} says {size_hw}. Prepare it again.")
    return rgb


def _depth(folder: Path, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Depth, which pixels are floor, and which have floor behind them."""
    path = folder / DEPTH_FILE
    try:
        with np.load(path) as archive:
            depth_m, packed = archive["depth_m"].astype(np.float32), archive["floor"]
            hidden = archive["behind"] if "behind" in archive.files else None
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise InputError(f"{path} cannot be read ({str(error).splitlines()[0]}). Prepare the place again.") from None
    if depth_m.shape != size_hw:
        raise InputError(f"{path} is {depth_m.shape}, {PLACE_FILE} says {size_hw}. Prepare the place again.")

    def mask(bits: np.ndarray) -> np.ndarray:
        return np.unpackbits(bits, count=depth_m.size).reshape(size_hw).astype(bool)

    return depth_m, mask(packed), None if hidden is None else mask(hidden)


def with_light(background: Background, light: PlaceLight) -> Background:
    """The place in another light."""
    return replace(background, light=light)
