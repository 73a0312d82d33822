"""What the camera of an action clip saw: how it stood to the motion, and its picture without the person.

Kept in the motion's own file, so that a motion can be drawn where its source's person was.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.clean_plate import estimate_clean_plate
from avatars.io.video import probe, read_frames
from avatars.tracking.track import Track

FEET = slice(15, 23)
"""Ankles, toes and heels among COCO-WholeBody's keypoints."""
FOOT_SHARE = 0.07
"""Radius of a foot's disk against the person's height in the picture."""
MOST_PLATE_FRAMES = 60
"""A plate is the median of at most so many frames, evenly spread."""
CLEAR_SHARE = 0.5
"""A pixel that is clear of the person in fewer of them may be one where the mask missed a limb: it is painted in."""
GENEROUS = 1 / 40
"""Masks are grown by this share of the picture's height: shadows at the feet and soft edges are no background."""


@dataclass(frozen=True, slots=True)
class SourceView:
    """The still camera of an action clip, in the motion's world, and what it saw without the person."""

    camera: Camera
    plate: UInt8[np.ndarray, "height width 3"] | None = None
    """The place alone, of the camera's size; None where nobody made one."""

    def entries(self) -> dict[str, np.ndarray]:
        """What a motion's npz holds of it, for `Motion.save(more=...)`."""
        found = {
            "source_K": self.camera.K.numpy().astype(np.float64),
            "source_T_cam_world": self.camera.T_cam_world.numpy().astype(np.float64),
            "source_size_hw": np.array(self.camera.size_hw),
        }
        return found if self.plate is None else found | {"source_plate_png": _as_png(self.plate)}

    @staticmethod
    def of(track: Track, *, with_plate: bool) -> SourceView:
        """The view of a track; a plate needs the track's masks. Raises InputError where the camera moved, so that no
        plate can be made."""
        return SourceView(track.camera, clean_plate_of(track) if with_plate else None)

    @staticmethod
    def load(path: Path) -> SourceView:
        """The view that a motion's file holds. Raises InputError when it holds none."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files if name.startswith("source_")}
            height, width = (int(v) for v in found["source_size_hw"])
            K, T = (torch.from_numpy(found[name]).float() for name in ("source_K", "source_T_cam_world"))
            if K.shape != (3, 3) or T.shape != (4, 4) or not bool(torch.isfinite(K).all() & torch.isfinite(T).all()):
                raise ValueError("its camera is not one")
            plate = found.get("source_plate_png")
            return SourceView(Camera(K, T, (height, width)), None if plate is None else _from_png(plate))
        except (KeyError, OSError, ValueError) as error:
            raise InputError(
                f"{path} does not say how its clip was filmed ({error}). Track the clip with `reenact features`, which "
                "keeps that."
            ) from None


def clean_plate_of(track: Track) -> UInt8[np.ndarray, "height width 3"]:
    """The place of a track's video without the person: the median of frames in which a pixel is clear of them, painted
    in from around (Telea 2004) where there are none. Raises InputError without masks, and for a moving camera."""
    import cv2

    if track.masks is None:
        raise InputError("A clean plate needs masks, and this track has none.")
    info = probe(track.video.path)
    chosen = np.unique(np.linspace(0, info.n_frames - 1, min(info.n_frames, MOST_PLATE_FRAMES)).round().astype(int))
    sizes = np.array([int((np.asarray(track.masks[int(i)]) > 127).sum()) for i in chosen])
    chosen = chosen[sizes >= 0.5 * np.median(sizes)]  # where the mask missed the person, they would stay in the picture
    frames = np.stack(list(read_frames(info, chosen)))
    people = np.stack([_generous(track, int(i)) for i in chosen])
    views = max(math.ceil(CLEAR_SHARE * len(chosen)), 1)
    plate = estimate_clean_plate(frames, people, min_views=views, max_spread=256)
    steady = estimate_clean_plate(frames, people)
    if steady.source == "none" and len(chosen) >= 4:
        raise InputError(
            f"{track.video.path}: its background moves, so there is no plate without the person. Film with a still "
            "camera, or give other backgrounds."
        )
    return cv2.inpaint(plate.rgb, (~plate.known).astype(np.uint8), 3, cv2.INPAINT_TELEA)


def _generous(track: Track, frame: int) -> Bool[np.ndarray, "height width"]:
    """Where the person may be: the mask, grown, and a disk about each foot, which masks of small people miss."""
    import cv2

    assert track.masks is not None
    mask = np.asarray(track.masks[frame])
    side = 2 * max(round(GENEROUS * mask.shape[0]), 1) + 1
    grown = cv2.dilate(mask, np.ones((side, side), np.uint8)) > 64
    top, bottom = np.flatnonzero(grown.any(1))[[0, -1]] if grown.any() else (0, 0)
    disks = np.zeros(mask.shape, np.uint8)
    for x, y in track.keypoints.xy[frame, FEET].tolist():
        if math.isfinite(x) and math.isfinite(y):
            cv2.circle(disks, (round(x), round(y)), max(round(FOOT_SHARE * (bottom - top)), 1), (1,), -1)
    return grown | (disks > 0)


def _as_png(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, " bytes"]:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _from_png(data: UInt8[np.ndarray, " bytes"]) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image, UnidentifiedImageError

    try:
        return np.array(Image.open(io.BytesIO(data.tobytes()), formats=["PNG"]).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"its plate is damaged: {error}") from None
