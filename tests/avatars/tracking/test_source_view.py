"""The place of an action clip, without its person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_batch import make_motion

from avatars.body import load_body
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.video import write_video
from avatars.perception.containers import Keypoints
from avatars.tracking.config import TrackConfig
from avatars.tracking.source_view import clean_plate_of
from avatars.tracking.track import SourceVideo, Track

FRAMES, HEIGHT, WIDTH = 30, 96, 128


def track_of(folder: Path, *, shift_px: int = 0, missed: tuple[int, ...] = ()) -> tuple[Track, np.ndarray]:
    """A dark box crosses a patterned room; in `missed` frames its mask is empty, its feet are never in it."""
    y, x = np.indices((HEIGHT, WIDTH + FRAMES * shift_px))
    wall = np.stack([100 + 40 * np.sin(x / 9), 130 + 30 * np.cos(y / 7), 120 + 0 * x], -1).astype(np.uint8)
    frames = np.stack([wall[:, i * shift_px : i * shift_px + WIDTH] for i in range(FRAMES)]).copy()
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    feet = np.full((FRAMES, 133, 2), np.nan, np.float32)
    for i in range(FRAMES):
        left = 10 + 3 * i
        frames[i, 30:80, left : left + 14] = 10
        if i not in missed:
            masks[i, 30:74, left : left + 14] = 255
        feet[i, 15:23] = (left + 7, 77)
    write_video(folder / "clip.mp4", frames, fps=15, crf=0)
    motion = make_motion(load_body(), FRAMES)
    keypoints = Keypoints(
        torch.from_numpy(feet), torch.ones(FRAMES, 133), torch.ones(FRAMES, dtype=torch.bool), (HEIGHT, WIDTH)
    )
    video = SourceVideo(str(folder / "clip.mp4"), "", (HEIGHT, WIDTH))
    camera = Camera.level(focal_px=100.0, size_hw=(HEIGHT, WIDTH), height_m=1.5)
    return Track(motion, camera, keypoints, torch.from_numpy(masks), video, TrackConfig()), wall


def test_the_plate_is_the_room_also_where_masks_miss_the_feet_and_whole_frames(tmp_path):
    track, wall = track_of(tmp_path, missed=(3, 4, 20))
    plate = clean_plate_of(track)
    assert np.abs(plate.astype(int) - wall[:, :WIDTH]).max() < 20
    assert np.abs(plate.astype(int) - wall[:, :WIDTH]).mean() < 2


def test_a_moving_camera_has_no_plate(tmp_path):
    track, _ = track_of(tmp_path, shift_px=4)
    with pytest.raises(InputError, match="its background moves"):
        clean_plate_of(track)
