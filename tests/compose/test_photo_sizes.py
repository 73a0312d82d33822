"""A photograph's upright size is the same whatever its format, and its faults are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from avatars.errors import InputError
from compose.places.photo import MAX_SIDE_PX, open_photo


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_picture_in_every_format(tmp_path, suffix, orientation):
    upright = np.zeros((120, 200, 3), np.uint8)
    upright[:60, :100] = 250  # bright at the top left, so that each of the eight ways looks different
    upright[:60, 100:, 0] = 250
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # PIL's Transpose of the stored picture
    stored = Image.fromarray(upright) if undo is None else Image.fromarray(upright).transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"p.{suffix}", exif=exif, quality=95)
    with Image.open(tmp_path / f"p.{suffix}") as written:
        assert ImageOps.exif_transpose(written).size == (200, 120)
    image, _, size_hw = open_photo(tmp_path / f"p.{suffix}")
    assert size_hw == (120, 200) == (image.height, image.width)
    assert np.abs(np.asarray(image, int) - upright).mean() < 8


def test_the_full_size_of_a_reduced_photograph_is_told(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3 * MAX_SIDE_PX, 2 * MAX_SIDE_PX)).save(tmp_path / "p.jpg", exif=exif)
    image, _, size_hw = open_photo(tmp_path / "p.jpg")
    assert size_hw == (3 * MAX_SIDE_PX, 2 * MAX_SIDE_PX) and image.height == MAX_SIDE_PX > image.width


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_a_picture_that_is_too_small_is_not_called_damaged(tmp_path, suffix):
    Image.new("RGB", (60, 45)).save(tmp_path / f"thumb.{suffix}")
    with pytest.raises(InputError, match="is 60 x 45 pixels; a place needs at least 64") as caught:
        open_photo(tmp_path / f"thumb.{suffix}")
    assert "damaged" not in str(caught.value)
