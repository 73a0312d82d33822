"""A finished fit in; pictures of it out: input, tracked body and avatar side by side, and the avatar turning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avatars.avatar import Avatar
from avatars.fitting.crops import usable_frames
from avatars.fitting.pipeline import FitResult
from avatars.geometry.camera import Camera
from avatars.io.progress import progress
from avatars.io.video import VideoWriter, probe, read_frames
from avatars.tracking.track import Track
from avatars.viewing.contact_sheet import contact_sheet
from avatars.viewing.overlay import draw_overlay
from avatars.viewing.rendering import draw_frame, draw_motion, rest_motion

TURNTABLE_FRAMES = 48


def write_preview(path: str | Path, result: FitResult, track: Track, *, count: int = 4) -> Path:
    """A PNG with a row per chosen frame: the input, the tracked body over it, and the avatar in its refined pose over
    black and over white."""
    usable = usable_frames(track.motion)
    picked = np.linspace(0, len(usable) - 1, count + 2).round().astype(int)[1:-1]
    frames = list(read_frames(probe(track.video.path, fps=track.config.fps), usable[picked].numpy()))
    rows = []
    for i, frame in zip(picked.tolist(), frames, strict=True):
        index, one = int(usable[i]), result.motion[i : i + 1]
        window = _around_person(result.avatar, one, result.camera)
        over = [
            draw_frame(result.avatar, one, result.camera, torch.full((3, 1, 1), value), lit=True)
            for value in (0.0, 1.0)
        ]
        pictures = [frame, draw_overlay(frame, track, index, result.avatar.body), *over]
        rows.append((f"frame {index}: input, tracked, avatar", [picture[window] for picture in pictures]))
    return contact_sheet(path, rows, cell_height_px=420)


def _around_person(avatar: Avatar, motion, camera: Camera) -> tuple[slice, slice]:
    """Rows and columns of the image that hold the posed body, with a margin."""
    posed = avatar.body.pose(motion.poses, avatar.betas, motion.transl)
    pixels = camera.project(posed.vertices()[:, ::16])[0]
    low, high = pixels.amin(0), pixels.amax(0)
    margin = 0.12 * (high - low).max()
    height, width = camera.size_hw
    x0, y0 = (int(v) for v in (low - margin).clamp_min(0))
    x1, y1 = (int(v) for v in (high + margin))
    return slice(min(y0, height - 2), max(min(y1, height), 2)), slice(min(x0, width - 2), max(min(x1, width), 2))


def write_turntable(path: str | Path, avatar: Avatar, *, size_px: int = 384) -> Path:
    """A video of the avatar standing with lowered arms while the camera goes around."""
    motion = rest_motion(avatar, TURNTABLE_FRAMES)
    motion = replace(motion, times_s=torch.arange(TURNTABLE_FRAMES).double() / 16)
    white = torch.ones(3, 1, 1)
    with VideoWriter(path, fps=16) as writer:
        for frame in progress(
            draw_motion(avatar, motion, (size_px, size_px), white, turntable=True), "turntable", TURNTABLE_FRAMES
        ):
            writer.write(frame)
    return Path(path)
