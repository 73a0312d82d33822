"""What the user states of a camera + EXIF + the edges in its picture -> the camera over the ground, and how each thing
about it is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.room_axes import RoomAxes, room_axes
from compose.places.ground import height_by_upright
from compose.places.place_view import PlaceView, photo_camera
from compose.preparation.hints import PlaceHints
from compose.preparation.upright_lines import roll_from_upright_lines

EDGES = "straight edges"


@dataclass(frozen=True, slots=True, eq=False)
class PlaceCamera:
    """The camera of a picture of bounded size."""

    camera: Camera
    known: dict[str, str]
    """How "camera_height_m", "horizon", "focal_px" and "roll_deg" are known; "" where they were assumed."""

    @staticmethod
    def of(
        rgb: UInt8[np.ndarray, "height width 3"], hints: PlaceHints, full_hw: tuple[int, int], exif_px: float | None
    ) -> PlaceCamera:
        """`full_hw` is the size of the picture in whose pixels hints and EXIF are.

        Raises InputError where what is said to stand on the floor cannot.
        """
        view, size_hw = hints.view, (rgb.shape[0], rgb.shape[1])
        known = {name: "given" if name in view.stated else "" for name in ("camera_height_m", "horizon")}
        known |= {"focal_px": "given" if view.focal_px else "EXIF" if exif_px else "", "roll_deg": ""}
        view = replace(view, focal_px=view.focal_px or exif_px)
        if view.focal_px is None or view.horizon is None or view.roll_deg is None:
            view, known = _by_edges(view, known, rgb, full_hw)
        if "roll_deg" in hints.view.stated:
            known["roll_deg"] = "given"
        elif view.roll_deg is None and known["horizon"]:  # under a wrong horizon upright lines mislead
            roll_deg = roll_from_upright_lines(rgb, photo_camera(view, full_hw, None)[0].resized(size_hw))
            view, known["roll_deg"] = replace(view, roll_deg=roll_deg), "" if roll_deg is None else "upright lines"
        if hints.upright is not None:
            view = replace(view, camera_height_m=_height_m(view, hints, full_hw))
            known["camera_height_m"] = f"what stands {hints.upright.height_m:g} m high"
        return PlaceCamera(photo_camera(view, full_hw, None)[0].resized(size_hw), known)


def _by_edges(
    view: PlaceView, known: dict[str, str], rgb: np.ndarray, full_hw: tuple[int, int]
) -> tuple[PlaceView, dict[str, str]]:
    """The view with what the edges tell where it is open; a focal length that is known otherwise and that they
    contradict leaves nothing to believe."""
    axes = room_axes(np.ascontiguousarray(rgb))
    scale = full_hw[1] / rgb.shape[1]
    if axes is None or not _agrees(axes, view.focal_px, scale):
        return view, known
    focal_px = view.focal_px or axes.focal_px * scale
    right, down, ahead = axes.up_cam
    told = {
        "focal_px": focal_px,
        "horizon": 0.5 - focal_px * ahead / down / full_hw[0],
        "roll_deg": math.degrees(math.atan2(right, -down)),
    }
    told = {name: value for name, value in told.items() if getattr(view, name) is None}
    return replace(view, **told), known | dict.fromkeys(told, EDGES)


def _agrees(axes: RoomAxes, focal_px: float | None, scale: float) -> bool:
    low, high = axes.focal_range_px
    return focal_px is None or low * scale <= focal_px <= high * scale


def _height_m(view: PlaceView, hints: PlaceHints, full_hw: tuple[int, int]) -> float:
    assert hints.upright is not None
    camera, _ = photo_camera(view, full_hw, None)
    foot, top = torch.tensor(hints.upright.foot_px), torch.tensor(hints.upright.top_px)
    height_m = height_by_upright(camera, foot, top, hints.upright.height_m)
    if height_m is None:
        raise InputError("`upright` must stand on the floor: its foot below the horizon, its top above its foot.")
    return height_m
