"""Scores of one frame: what counts in each of them."""

from __future__ import annotations

import math

import pytest
import torch

from avatars.fitting.crops import Crops
from avatars.fitting.scoring import score_frame
from avatars.geometry.camera import Camera
from avatars.rasterizer import Render

HEIGHT, WIDTH = 48, 40


@pytest.fixture
def crop() -> Crops:
    """A person (a rectangle of noise, 24 x 16 pixels) in a room of noise that is known."""
    generator = torch.Generator().manual_seed(0)
    room, person = torch.rand(2, 1, 3, HEIGHT, WIDTH, generator=generator)
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 12:36, 12:28] = 1.0
    rgb = torch.where(mask[:, None] > 0, person, room)
    one = torch.ones(1, HEIGHT, WIDTH)
    camera = Camera.level(focal_px=50.0, size_hw=(HEIGHT, WIDTH), height_m=1.0, distance_m=3.0)
    return Crops(rgb, mask, room, one, one, mask, one, camera)


def drawn(rgb: torch.Tensor, alpha: torch.Tensor) -> Render:
    return Render(rgb * alpha, alpha, torch.where(alpha > 0, 3.0, math.inf))


def test_the_person_drawn_as_filmed_is_beyond_reproach(crop: Crops) -> None:
    score = score_frame(drawn(crop.rgb, crop.mask[:, None]), crop)
    assert score.psnr_box_db == score.psnr_masked_db == score.psnr_cutout_db == math.inf
    assert score.ssim_box == pytest.approx(1.0)


def test_a_halo_outside_the_person_costs_the_box_and_the_cutout_alone(crop: Crops) -> None:
    alpha = crop.mask[:, None].clone()
    alpha[:, :, 14, 11] = 1.0  # a pixel beside the mask: the box, which ends at the mask, does not hold it
    assert score_frame(drawn(crop.rgb, alpha), crop).psnr_cutout_db == math.inf
    mask = crop.mask.clone()
    mask[:, 12, 12] = 0.0  # the box's corner is now the room's
    crop = Crops(crop.rgb, mask, crop.plate, crop.known, crop.sure, crop.near, crop.shown, crop.camera)
    alpha = mask[:, None].clone()
    alpha[:, :, 12, 12] = 1.0
    white = torch.where(alpha > mask[:, None], 1.0, crop.rgb)
    score = score_frame(drawn(white, alpha), crop)
    assert score.psnr_masked_db == math.inf
    assert score.psnr_cutout_db == pytest.approx(10 * math.log10(24 * 16))  # one white pixel in place of a black one
    assert math.isfinite(score.psnr_box_db)


def test_an_error_in_the_person_weighs_by_the_pixels_that_count(crop: Crops) -> None:
    rgb = crop.rgb.clone()
    rgb[:, :, 20, 20] = (rgb[:, :, 20, 20] + 0.5) % 1.0  # off by a half in every channel
    score = score_frame(drawn(rgb, crop.mask[:, None]), crop)
    expected = 10 * math.log10(24 * 16 / 0.25)
    for name in ("psnr_box_db", "psnr_masked_db", "psnr_cutout_db"):
        assert getattr(score, name) == pytest.approx(expected, abs=1e-3)


def test_where_the_room_is_not_known_its_share_of_an_edge_is_no_error(crop: Crops) -> None:
    """The render cannot know what shows through half a pixel of hair."""
    mask = crop.mask.clone()
    mask[:, 12:36, 12] = 0.5
    person = torch.where(mask[:, None] == 1, crop.rgb, 0.0)  # black along the edge
    room_through = mask[:, None] * person + (1 - mask[:, None]) * 1.0  # before a white wall
    none = torch.zeros_like(crop.known)
    unknown = Crops(room_through, mask, 0 * crop.plate, none, crop.sure, crop.near, crop.shown, crop.camera)
    score = score_frame(drawn(person, mask[:, None]), unknown)
    wall = 0.5 * (1 - 0.5)  # what is left of it where the frame is cut out by its mask
    expected = -10 * math.log10(24 * 0.5 * wall**2 / float(mask.sum()))
    assert score.psnr_masked_db == pytest.approx(expected, abs=0.01)
    known = Crops(
        room_through, mask, torch.ones_like(crop.plate), none + 1, crop.sure, crop.near, crop.shown, crop.camera
    )
    assert score_frame(drawn(person, mask[:, None]), known).psnr_masked_db > 100
