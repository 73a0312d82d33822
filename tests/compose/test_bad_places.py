"""Clips of places in their own time, or too short; and a photograph that is odd in two ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.errors import InputError
from avatars.io.video import write_video
from compose.places.ground import camera_over_ground
from compose.places.place_view import Background
from compose.rendering.placement import Placement
from reenact.rendering.staging import clip_plates

SIZE = (96, 128)


@pytest.fixture
def clip_place(tmp_path) -> Background:
    """A clip of 10 frames at 10 a second, whose gray rises by 20 each frame."""
    frames = np.full((10, *SIZE, 3), 20, np.uint8) + (20 * np.arange(10, dtype=np.uint8))[:, None, None, None]
    (tmp_path / "hall").mkdir()
    write_video(tmp_path / "hall" / "clip.mp4", frames, fps=10, crf=8)
    camera = camera_over_ground(size_hw=SIZE, focal_px=120.0, camera_height_m=1.5, pitch=0.1)
    rgb, depth = torch.zeros(3, *SIZE), torch.full((1, *SIZE), torch.inf)
    return Background(rgb, depth, camera, video=tmp_path / "hall" / "clip.mp4")


SPOT = Placement(0.0, -4.0, 0.0, (0.5, 0.5), 0.5, {})


def test_a_clip_goes_on_behind_the_motion_in_its_own_time(clip_place):
    plates = clip_plates(clip_place, clip_place.fitted((64, 64)), SPOT, frames=20, fps=20.0)
    assert plates.shape == (20, 64, 64, 3)
    assert np.abs(plates.mean((1, 2, 3)) - (20 + 20 * (np.arange(20) // 2))).max() < 4


def test_a_clip_that_is_shorter_than_the_motion_is_refused(clip_place):
    with pytest.raises(InputError, match=r"The clip of hall lasts 1\.00 s and the motion 1\.05 s"):
        clip_plates(clip_place, clip_place.fitted((64, 64)), SPOT, frames=21, fps=20.0)


def test_a_turned_cmyk_photograph_is_upright_and_right_in_color(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8  # turn counterclockwise to see it upright
    stored = Image.new("RGB", (200, 120), (200, 40, 40))
    stored.paste((40, 40, 200), (100, 0, 200, 120))
    stored.convert("CMYK").save(tmp_path / "p.jpg", exif=exif, quality=95)
    place = Background.load(tmp_path / "p.jpg")
    assert place.size_hw == (200, 120)
    top, bottom = place.rgb[:, :80].mean((1, 2)), place.rgb[:, 120:].mean((1, 2))
    assert float(top[2]) > float(top[0]) + 0.4, "what was right is up"
    assert float(bottom[0]) > float(bottom[2]) + 0.4
