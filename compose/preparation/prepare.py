"""A photograph or a still clip of a place -> PreparedPlace: depth, focal length, ground, free floor and light."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.video import probe
from compose.places.free_floor import Footprint, is_floor
from compose.places.ground import ground_depth, ground_plane, popup_depth, world_points
from compose.places.light import PlaceLight, brightened, estimated_light, preset_light, sunlight
from compose.places.photo import VIDEO_SUFFIXES, open_photo
from compose.places.place_folder import FLOOR_GUESSED, PreparedPlace
from compose.preparation.action_tags import likeliest
from compose.preparation.camera import PlaceCamera
from compose.preparation.depth import cleaned, depth_file_beside, noise_level, read_depth
from compose.preparation.floor_color import floor_by_color
from compose.preparation.hints import PlaceHints, hints_beside
from compose.preparation.occluders import Card, floor_through, outlined, read_mask, stood_up
from compose.preparation.video_background import clip_plate

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

LONG_SIDE_PX = 1600
"""Prepared places are kept at this size; clips are smaller."""
LEAST_FLOOR_M2 = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class _Geometry:
    camera: Camera
    depth_m: Float[np.ndarray, "height width"]
    floor: Bool[np.ndarray, "height width"]
    kind: str
    noise: float
    measured: dict[str, str]
    assumed: tuple[str, ...]
    behind: Bool[np.ndarray, "height width"] | None = None
    occupied: tuple[Footprint, ...] = ()


def prepare_place(path: str | Path, hints: PlaceHints | None = None) -> PreparedPlace:
    """Find out about a place what composing needs. What `hints` leave open is read from `X.yaml` beside picture X.

    Raises InputError when the picture cannot be used or shows no floor to stand on.
    """
    path = Path(path)
    hints = (hints or PlaceHints()).over(hints_beside(path))
    picture = _picture(path)
    rgb = picture.rgb
    seen = PlaceCamera.of(rgb, hints, picture.full_hw, picture.focal_px)
    floor = _given_floor(path, hints, picture)
    geometry = _geometry(path, rgb, seen, floor, hints, picture.full_hw)
    geometry = _behind_occluders(geometry, hints, picture.full_hw)
    tensor = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)
    light = _light(tensor, geometry.camera, hints)
    shares = () if hints.classifier is None else tuple(hints.classifier(rgb).items())
    place = PreparedPlace(
        name=path.stem, rgb=rgb, camera=geometry.camera, depth_m=geometry.depth_m, floor_pixels=geometry.floor,
        light=light, depth_kind=geometry.kind, depth_noise=geometry.noise, measured=picture.told | geometry.measured,
        assumed=geometry.assumed, tags=hints.tags or likeliest(shares), shares=shares, licence=hints.licence,
        source=path, video=picture.video, behind=geometry.behind, occupied=geometry.occupied,
    )  # fmt: skip
    area_m2 = place.floor.area_m2
    if area_m2 < LEAST_FLOOR_M2:
        raise InputError(
            f"{path} shows {area_m2:.2f} m2 of free floor; somebody who stands needs {LEAST_FLOOR_M2}. Take another "
            f"picture, or say where floor and horizon are: `floor_px`, `horizon` in {path.stem}.yaml beside it."
        )
    return place


def _light(rgb: Float[torch.Tensor, "3 height width"], camera: Camera, hints: PlaceHints) -> PlaceLight:
    """The place's light as the user says, or as the picture looks."""
    if hints.sun is not None:
        light = sunlight(*hints.sun)
    else:
        light = estimated_light(rgb, camera) if hints.light == "estimated" else preset_light(hints.light)
    return brightened(light, hints.brightness)


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    rgb: UInt8[np.ndarray, "height width 3"]
    """Of bounded size."""
    focal_px: float | None
    """At full size, if EXIF tells it."""
    full_hw: tuple[int, int]
    video: Path | None = None
    """The clip, if it is one and nobody is in it."""
    told: dict[str, str] = field(default_factory=dict)


def _picture(path: Path) -> _Picture:
    from PIL import Image

    if path.suffix.lower() not in VIDEO_SUFFIXES:
        image, focal_px, full_hw = open_photo(path)
        return _Picture(_bounded(image), focal_px, full_hw)
    plate = clip_plate(path)
    image, told = Image.fromarray(plate.rgb), {}
    full_hw = (image.height, image.width)  # before the picture is reduced in place
    if not plate.still:
        told["camera"] = "taken to stand still; the picture is too bare to tell"
    if plate.people:
        told["picture"] = f"the clip's, without its people; {100 * plate.unseen:.1f}% never seen and painted in"
    return _Picture(_bounded(image), probe(path).focal_px, full_hw, None if plate.people else path, told)


def _bounded(image: Image) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image

    image.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _geometry(
    path: Path, rgb: np.ndarray, seen: PlaceCamera, floor: np.ndarray | None, hints: PlaceHints,
    full_hw: tuple[int, int],
) -> _Geometry:  # fmt: skip
    camera, size_hw = seen.camera, (rgb.shape[0], rgb.shape[1])
    depth_file = hints.depth or depth_file_beside(path)
    if depth_file is not None:
        depth_m = read_depth(depth_file, size_hw)
        return _from_depth(path, rgb, depth_m, seen, floor, f"file {depth_file.name}", "file")
    if hints.depth_model is not None:
        estimate = _model_depth(rgb, hints.depth_model)
        if estimate.kind == "metric":
            depth_m = estimate.meters()[0].numpy()
            return _from_depth(path, rgb, depth_m, seen, floor, hints.depth_model, "metric")
        return _from_relative(path, rgb, estimate, seen, floor, hints.depth_model)
    pixels = floor if floor is not None else _floor_by_color(rgb, camera, hints, full_hw)
    pixels = pixels & np.isfinite(ground_depth(camera).numpy())
    _require_floor(path, pixels)
    how = {"floor": "given" if floor is not None else FLOOR_GUESSED, "depth": "everything stands upright on the floor"}
    measured, assumed = _told(seen.known)
    return _Geometry(camera, popup_depth(camera, pixels), pixels, "pop-up", 0.02, measured | how, assumed)


def _told(known: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """How each thing is known, and what was assumed."""
    return {name: how for name, how in known.items() if how}, tuple(name for name, how in known.items() if not how)


def _given_floor(path: Path, hints: PlaceHints, picture: _Picture) -> Bool[np.ndarray, "height width"] | None:
    """The floor as the user marked it."""
    size_hw = (picture.rgb.shape[0], picture.rgb.shape[1])
    if hints.floor is None and hints.floor_px:
        return outlined(hints.floor_px, size_hw, picture.full_hw)
    file = hints.floor or _floor_beside(path)
    return None if file is None else read_mask(file, size_hw)


def _cards(hints: PlaceHints, camera: Camera, full_hw: tuple[int, int]) -> list[Card]:
    return [stood_up(o, camera, full_hw, f"Occluder {i}") for i, o in enumerate(hints.occluders, 1)]


def _floor_by_color(
    rgb: np.ndarray, camera: Camera, hints: PlaceHints, full_hw: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Floor by its color, going on behind the occluders."""
    floor = floor_by_color(rgb, camera)
    cards = _cards(hints, camera, full_hw)
    return floor_through(floor, np.any([card.pixels for card in cards], axis=0)) if cards else floor


def _behind_occluders(geometry: _Geometry, hints: PlaceHints, full_hw: tuple[int, int]) -> _Geometry:
    """The geometry with the occluders' cards stood up in it."""
    cards = _cards(hints, geometry.camera, full_hw)
    if not cards:
        return geometry
    hiding = np.any([card.pixels for card in cards], axis=0)
    depth_m = np.where(hiding, np.min([card.depth_m for card in cards], axis=0), geometry.depth_m)
    told = {"occluders": ", ".join(f"{(c.footprint.near_m + c.footprint.far_m) / 2:.1f} m" for c in cards)}
    return replace(
        geometry, depth_m=depth_m, floor=geometry.floor & ~hiding, behind=geometry.floor & hiding,
        occupied=tuple(card.footprint for card in cards), measured=geometry.measured | told,
    )  # fmt: skip


def _from_depth(
    path: Path, rgb: np.ndarray, depth_m: np.ndarray, seen: PlaceCamera, floor: np.ndarray | None, source: str,
    kind: str,
) -> _Geometry:  # fmt: skip
    """Metric depth tells the ground, and so the camera's height, pitch and roll."""
    K, focal = seen.camera.K, seen.known["focal_px"]
    smooth = cleaned(depth_m, rgb.astype(np.float32) / 255)
    noise = _remaining_noise(depth_m, smooth)
    plane = ground_plane(smooth, K.double().numpy())
    if plane is None:
        raise InputError(
            f"{path}: no floor in its depth ({source}): no large level surface. Choose a picture that shows the floor."
        )
    camera = plane.camera(K, (rgb.shape[0], rgb.shape[1]))
    points = world_points(torch.from_numpy(smooth), camera).numpy()
    pixels = is_floor(points, noise=noise) if floor is None else floor & is_floor(points, noise=max(noise, 0.05))
    measured = {"depth": source, "ground": f"a plane through {100 * plane.share:.0f}% of the depth"}
    measured |= {"camera_height_m": "depth", "floor": "depth" if floor is None else "given"}
    measured |= {"focal_px": focal} if focal else {}
    return _Geometry(camera, smooth, pixels, kind, noise, measured, () if focal else ("focal_px",))


def _remaining_noise(raw: np.ndarray, smooth: np.ndarray) -> float:
    """Relative error of cleaned depth: none when nothing was cleaned, else about a fifth of what was there."""
    return 0.0 if smooth is raw else max(0.2 * noise_level(raw), noise_level(smooth))


def _from_relative(
    path: Path, rgb: np.ndarray, estimate: Any, seen: PlaceCamera, floor: np.ndarray | None, model: str
) -> _Geometry:
    """Relative depth gets its meters from the ground plane under a camera of stated height."""
    camera = seen.camera
    pixels = floor if floor is not None else floor_by_color(rgb, camera)
    ground_m = ground_depth(camera)
    _require_floor(path, pixels)
    known = torch.from_numpy(pixels) & ground_m.isfinite()
    fitted = estimate.fitted(ground_m[None], known[None]).meters()[0].numpy()
    points = world_points(torch.from_numpy(fitted), camera).numpy()
    measured, assumed = _told(seen.known)
    measured |= {
        "depth": f"{model}, relative, fitted to the ground",
        "floor": "given" if floor is not None else FLOOR_GUESSED,
    }
    return _Geometry(camera, fitted, pixels | is_floor(points, noise=0.02), "fitted", 0.03, measured, assumed)


def _model_depth(rgb: np.ndarray, backend: str) -> Any:
    from avatars.perception.depth_maps import depth_maps

    return depth_maps([rgb], backend=backend)


def _floor_beside(path: Path) -> Path | None:
    beside = path.with_name(f"{path.stem}_floor.png")
    return beside if beside.is_file() else None


def _require_floor(path: Path, floor: np.ndarray) -> None:
    if floor.mean() < 0.02:
        raise InputError(
            f"{path}: no floor found ({100 * floor.mean():.1f}% of the picture). Choose a picture that shows the floor "
            f"at its lower edge, or outline it: `floor_px` in {path.stem}.yaml beside it."
        )
