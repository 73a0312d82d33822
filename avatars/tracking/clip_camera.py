"""What a clip tells of its camera: the focal length, as given, stated by the file, told by the room's edges or assumed;
and where up is, as far as edges tell."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from avatars.geometry.room_axes import RoomAxes, room_axes
from avatars.io.mask_stack import MaskStack
from avatars.io.video import VideoInfo, read_frames

log = logging.getLogger(__name__)

FOCAL_PER_LONG_SIDE = 0.95
"""Focal length over the longer side where nothing is known: between a phone's main camera (about 0.8 as video) and a
portrait lens."""
LOOKS = 5
"""Frames whose edges are looked at."""
SAME_FOCAL, SAME_UP_DEG = 1.1, 2.0
"""Most by which frames may differ to count as agreeing."""
MASK_EDGE = 32


@dataclass(frozen=True, slots=True)
class ClipCamera:
    """A focal length, how it is known, and up (unit, in the camera's axes: x right, y down, z ahead) where it is."""

    focal_px: float
    focal_source: Literal["given", "file", "edges", "assumed"]
    up_cam: tuple[float, float, float] | None = None

    @staticmethod
    def of(info: VideoInfo, given_px: float | None = None, masks: MaskStack | None = None) -> ClipCamera:
        """Edges within `masks` (the person) do not count. Up is believed where it was seen with the focal length."""
        axes = _axes_of_clip(info, masks)
        known = _focal(info, given_px, axes)
        if axes is None or not axes.focal_range_px[0] <= known.focal_px <= axes.focal_range_px[1]:
            return known
        return replace(known, up_cam=axes.up_cam)


def _focal(info: VideoInfo, given_px: float | None, axes: RoomAxes | None) -> ClipCamera:
    if given_px is not None:
        return ClipCamera(given_px, "given")
    if info.focal_px is not None:
        log.info("%s states a focal length of %g mm (35 mm equivalent).", info.path.name, info.focal_35mm)
        return ClipCamera(info.focal_px, "file")
    if axes is not None:
        log.info("%s: focal length %.0f px, from straight edges in the picture.", info.path.name, axes.focal_px)
        return ClipCamera(axes.focal_px, "edges")
    return ClipCamera(FOCAL_PER_LONG_SIDE * max(info.size_hw), "assumed")


def _axes_of_clip(info: VideoInfo, masks: MaskStack | None) -> RoomAxes | None:
    """Of the frames whose edges tell something the one with the middle focal length; None where most tell nothing, or
    where they differ (a camera that turns, a room that misleads)."""
    indices = np.unique(np.linspace(0, info.n_frames - 1, LOOKS).round().astype(int))
    looks = [
        room_axes(frame, ignore=None if masks is None else masks[i].numpy() >= MASK_EDGE)
        for i, frame in zip(indices.tolist(), read_frames(info, indices), strict=True)
    ]
    found = sorted((look for look in looks if look is not None), key=lambda look: look.focal_px)
    if 2 * len(found) <= len(looks) or found[-1].focal_px > SAME_FOCAL * found[0].focal_px:
        return None
    middle = found[len(found) // 2]
    alike = np.array([look.up_cam for look in found]) @ np.array(middle.up_cam)
    return middle if alike.min() > np.cos(np.radians(SAME_UP_DEG)) else None
