"""The guess of the floor where there is no depth: what color and texture agree on, and nothing behind other things."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from compose.places.place_folder import floor_guessed
from compose.places.place_view import PlaceView, photo_camera
from compose.preparation.floor_color import floor_by_color
from compose.preparation.hints import PlaceHints
from compose.preparation.prepare import prepare_place

SIZE_HW = (300, 400)
WALL_END = 150
WOOD, SOFA = (150, 115, 80), (95, 110, 150)


def room(seed: int = 0) -> np.ndarray:
    """A gray wall over a floor of wood, with a little texture."""
    rgb = np.empty((*SIZE_HW, 3), np.float32)
    rgb[:WALL_END], rgb[WALL_END:] = (205, 205, 210), WOOD
    return rgb + np.random.default_rng(seed).normal(0, 3, (*SIZE_HW, 1))


def found(rgb: np.ndarray) -> np.ndarray:
    camera = photo_camera(PlaceView(1.5, 0.4, 400.0), SIZE_HW, None)[0]
    return floor_by_color(np.clip(rgb, 0, 255).astype(np.uint8), camera)


def test_an_empty_floor_is_found_up_to_the_wall() -> None:
    floor = found(room())
    assert floor[WALL_END + 12 :].mean() > 0.95
    assert not floor[: WALL_END - 6].any()


def test_a_sofa_that_reaches_the_lower_edge_is_not_floor() -> None:
    rgb = room()
    rgb[200:, :150] = SOFA
    floor = found(rgb)
    assert floor[200:, 160:].mean() > 0.9
    assert floor[200:, :140].mean() < 0.02


def test_a_rough_rug_of_the_floors_mean_color_is_not_taken_for_it() -> None:
    rgb = room()
    rng = np.random.default_rng(1)
    rgb[180:260, 240:360] *= rng.choice([0.75, 1.25], (20, 30, 1)).repeat(4, 0).repeat(4, 1)
    floor = found(rgb)
    assert floor[190:250, 255:345].mean() < 0.1
    assert floor[200:, 20:200].mean() > 0.9


def test_floor_behind_something_that_stands_before_it_is_left_alone() -> None:
    """A bumper hangs over the floor: its columns end where it begins, and it is no floor itself."""
    rgb = room()
    rgb[215:240, 120:280] = (210, 212, 220)
    floor = found(rgb)
    assert floor[264:, 130:270].mean() > 0.9
    assert not floor[:238, 130:270].any()


def test_the_dark_beneath_a_car_is_not_floor() -> None:
    rgb = room()
    rgb[170:210, 100:300] = np.array(WOOD) * 0.2
    assert found(rgb)[:206, 110:290].mean() < 0.02


def test_a_shadow_on_the_floor_is_floor() -> None:
    rgb = room()
    rgb[230:, 150:260] *= 0.6
    assert found(rgb)[245:, 180:230].mean() > 0.9


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_where_no_surface_has_half_of_the_lower_edge_nothing_is_floor(share: float) -> None:
    rgb = room()
    thirds = np.linspace(0, SIZE_HW[1], 4).astype(int)
    for left, right, color in zip(thirds[:-1], thirds[1:], (WOOD, SOFA, (70, 140, 80)), strict=True):
        rgb[round(share * SIZE_HW[0]) :, left:right] = color
    assert not found(rgb).any()


@pytest.mark.slow
def test_a_place_says_whether_its_floor_is_a_guess(tmp_path) -> None:
    photo = tmp_path / "room.png"
    Image.fromarray(np.clip(room(), 0, 255).astype(np.uint8)).save(photo)
    view = PlaceView(1.5, 0.4, 400.0)
    guessed = prepare_place(photo, PlaceHints(view))
    given = prepare_place(photo, PlaceHints(view, floor_px=(((0, 160), (399, 160), (399, 299), (0, 299)),)))
    assert guessed.floor_guessed and floor_guessed(guessed.save(tmp_path / "guessed"))
    assert not given.floor_guessed and not floor_guessed(given.save(tmp_path / "given"))
    assert floor_guessed(photo), "a bare photograph knows nothing of its floor"
