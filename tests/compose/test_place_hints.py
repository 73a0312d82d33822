"""Hints beside a picture: floor outlines, what stands before people, and what tells the camera's height."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from fakes.tiny_batch import SIZE, write_batch, write_material
from PIL import Image

from avatars.body import load_body
from avatars.errors import InputError
from compose.places.ground import ground_depth, height_by_upright, world_points
from compose.places.place_folder import open_place
from compose.places.place_view import PlaceView, photo_camera
from compose.preparation.check_image import draw_check
from compose.preparation.hints import Occluder, PlaceHints, Upright, hints_beside
from compose.preparation.occluders import floor_through, outlined, stood_up
from compose.preparation.prepare import prepare_place
from compose.rendering.placement import PlacementRules, place
from reenact.commands.backgrounds import BackgroundsCommand
from reenact.data_set.label_check import check_data_set
from reenact.rendering.labels import BEHIND_PLACE, VISIBLE
from reenact.running.run import run_batch

pytestmark = pytest.mark.slow

PHOTO_HW = (240, 320)
VIEW = PlaceView(1.5, 0.35, 300.0, 0.0)
LEFT_ANKLE, NOSE = 15, 0


def photo(folder, hints=None, name="hall"):
    """A wall over a floor that changes its color on the right, and hints beside it."""
    pixels = np.full((*PHOTO_HW, 3), 190, np.uint8)
    pixels[130:] = (120, 100, 80)
    pixels[130:, 200:] = (30, 60, 130)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    if hints is not None:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(hints))
    return folder / f"{name}.png"


@pytest.mark.parametrize("roll_deg", [0.0, -20.0])
def test_something_of_known_height_tells_the_height_of_the_camera(roll_deg):
    true = photo_camera(PlaceView(1.37, 0.3, 300.0, roll_deg), PHOTO_HW, None)[0]
    foot, top = true.project(torch.tensor([[0.4, 0.0, -4.0], [0.4, 0.75, -4.0]]))
    guessed = photo_camera(PlaceView(None, 0.3, 300.0, roll_deg), PHOTO_HW, None)[0]
    assert height_by_upright(guessed, foot, top, 0.75) == pytest.approx(1.37, rel=1e-3)
    assert height_by_upright(guessed, top, foot, 0.75) is None, "its top is not beneath its foot"


@pytest.mark.parametrize("roll_deg", [0.0, 15.0])
def test_an_occluder_stands_upright_across_where_its_lowest_pixel_meets_the_floor(roll_deg):
    camera = photo_camera(PlaceView(1.5, 0.35, 300.0, roll_deg), PHOTO_HW, None)[0]
    corners = torch.tensor([[-0.3, 0.0, -3.0], [0.4, 0.0, -3.0], [0.4, 0.9, -3.0], [-0.3, 0.9, -3.0]])
    outline = tuple((float(x), float(y)) for x, y in camera.project(corners))
    card = stood_up(Occluder(outline, reach_m=(0.1, 0.5)), camera, PHOTO_HW, "Occluder 1")
    points = world_points(torch.from_numpy(card.depth_m), camera).numpy()[card.pixels]
    assert np.ptp(points[:, 2]) < 1e-3
    assert np.abs(points[:, 2] + 3.0).max() < 0.03
    assert points[:, 1].min() == pytest.approx(0.0, abs=0.03)
    assert points[:, 1].max() == pytest.approx(0.9, abs=0.03)
    found = card.footprint
    assert (found.left_m, found.right_m) == (pytest.approx(-0.3, abs=0.03), pytest.approx(0.4, abs=0.03))
    assert found.far_m - found.near_m == pytest.approx(0.6)
    assert not np.isfinite(card.depth_m[~card.pixels]).any()


def test_a_foot_out_of_the_picture_needs_a_distance():
    camera = photo_camera(VIEW, PHOTO_HW, None)[0]
    outline = ((100.0, 100.0), (140.0, 100.0), (140.0, 240.0), (100.0, 240.0))
    with pytest.raises(InputError, match=r"goes on below the picture.*distance_m"):
        stood_up(Occluder(outline), camera, PHOTO_HW, "Occluder 1")
    assert stood_up(Occluder(outline, distance_m=1.2), camera, PHOTO_HW, "").footprint.far_m == pytest.approx(1.5)
    with pytest.raises(InputError, match="above the horizon"):
        stood_up(Occluder(outline, foot_px=(120.0, 20.0)), camera, PHOTO_HW, "Occluder 1")
    with pytest.raises(InputError, match="covers no pixel"):
        stood_up(Occluder(((-9.0, -9.0), (-5.0, -9.0), (-5.0, -5.0))), camera, PHOTO_HW, "Occluder 1")


def test_floor_goes_on_behind_what_has_it_on_both_sides():
    floor, hiding = np.zeros((4, 8), bool), np.zeros((4, 8), bool)
    floor[1:, :] = True
    floor[1, 5:] = False
    hiding[:3, 3:5] = True
    hiding[3, :2] = True
    expected = floor.copy()
    expected[1, 3:5] = False  # floor on the left alone
    assert (floor_through(floor & ~hiding, hiding) == expected).all()


def test_the_outlined_floor_is_the_floor_whatever_its_color(tmp_path):
    by_color = prepare_place(photo(tmp_path), PlaceHints(VIEW))
    outline = [[0, 130], [320, 130], [320, 240], [0, 240]]
    place = prepare_place(photo(tmp_path, {"floor_px": outline}), PlaceHints(VIEW))
    assert (place.floor_pixels == outlined((tuple(map(tuple, outline)),), PHOTO_HW, PHOTO_HW)).all()
    assert place.floor.area_m2 > by_color.floor.area_m2
    assert place.measured["floor"] == "given"


def test_hints_of_a_large_clip_are_in_its_own_pixels(tmp_path, monkeypatch):
    from avatars.io.video import write_video

    hints = {"horizon": 0.35, "focal_px": 300, "roll_deg": 0, "floor_px": [[0, 130], [160, 130], [160, 240], [0, 240]]}
    still = np.asarray(Image.open(photo(tmp_path, hints))).copy()
    write_video(tmp_path / "hall.mp4", np.repeat(still[None], 6, 0), fps=10, crf=10)
    monkeypatch.setattr("compose.preparation.prepare.LONG_SIDE_PX", 160)
    place = prepare_place(tmp_path / "hall.mp4")
    assert place.rgb.shape[:2] == (120, 160)
    assert float(place.camera.K[0, 0]) == pytest.approx(150.0)
    assert np.nonzero(place.floor_pixels)[1].max() == pytest.approx(80, abs=1)


def test_people_may_stand_behind_an_occluder_and_not_in_it(tmp_path):
    hints = {
        "floor_px": [[0, 130], [320, 130], [320, 240], [0, 240]],
        "occluders": [{"outline_px": [[120, 150], [200, 150], [200, 190], [120, 190]], "reach_m": [0.0, 0.4]}],
    }
    place = prepare_place(photo(tmp_path, hints), PlaceHints(VIEW))
    (stands,) = place.occupied
    middle = (stands.left_m + stands.right_m) / 2
    spots = torch.tensor([[middle, 0.0, -(stands.near_m + d)] for d in (-0.3, 0.2, 0.8)])
    assert place.floor.is_free(spots).tolist() == [True, False, True]
    body = torch.tensor([[middle, y, -(stands.near_m + 0.8)] for y in (0.0, 0.3, 1.2)])
    assert place.floor.blocked(body) is None
    assert place.floor.hidden_share(body) == pytest.approx(0.5), "the shin is hidden, the chest is not"
    hidden = place.floor.hidden_at(0.3)
    assert (hidden.is_free(spots).tolist(), hidden.is_free(spots + torch.tensor([0.0, 0.0, -4.0])).any()) == (
        [False, False, True],
        False,
    ), "far behind it the floor is seen over it"
    folder = place.save(tmp_path / "place")
    loaded = open_place(folder)
    assert loaded.floor is not None
    assert loaded.floor.is_free(spots).tolist() == [True, False, True]
    assert loaded.floor.area_m2 == pytest.approx(place.floor.area_m2, rel=0.01), "depth is kept at 16 bits"
    assert float(loaded.depth_m[0, 150, 160]) == pytest.approx(float(place.depth_m[150, 160]), rel=1e-3)
    colors = np.asarray(draw_check(place)).reshape(-1, 3).astype(int)
    assert (np.abs(colors - (255, 140, 20)).sum(1) < 9).any(), "the check image shows where it stands"


def test_a_place_seen_steeply_from_above_has_a_spot(tmp_path):
    """Within 3 m of a high camera that looks down nobody is small, however small a person was asked for."""
    hints = {"camera_height_m": 2.7, "horizon": -0.8, "focal_px": 300, "roll_deg": 0,
             "floor_px": [[0, 125], [320, 125], [320, 240], [0, 240]]}  # fmt: skip
    prepared = prepare_place(photo(tmp_path, hints))
    body = torch.tensor([[x, y, z] for x in (-0.2, 0.2) for y in (0.0, 1.6) for z in (-0.15, 0.15)])
    rules = PlacementRules(person_height=(0.3, 0.9))
    found = place(body, 1.7, prepared.camera, (96, 96), rules, 0, floor=prepared.floor)
    assert 0.6 < found.person_height <= 0.9
    assert prepared.floor.blocked(found.moved(body)) is None
    assert found.rejected.get("off the free floor", 0) < 20, "distances are drawn where there is floor"


def test_the_labels_tell_that_a_counter_hides_the_legs(tmp_path):
    material = write_material(tmp_path, load_body())
    hints = {
        "camera_height_m": 1.5, "horizon": 0.35, "focal_px": 300, "roll_deg": 0,
        "floor_px": [[0, 130], [320, 130], [320, 240], [0, 240]],
        "occluders": [{"outline_px": [[0, 125], [320, 125], [320, 180], [0, 180]], "reach_m": 0.1}],
    }  # fmt: skip
    assert BackgroundsCommand("prepare", (photo(tmp_path, hints),), tmp_path / "places", depth="none").run() == 0
    place = {"path": str(tmp_path / "places" / "hall"), "hidden": [0.15, 0.6]}
    write_batch(material, tmp_path / "batch.yaml", backgrounds=[place], person_height=[0.3, 0.5])
    summary = run_batch(tmp_path / "batch.yaml")
    assert summary.made == 1, summary.failures
    ((clip, check),) = check_data_set(tmp_path / "out").items()
    assert check.wrong() == []
    with np.load(tmp_path / "out" / "labels" / f"{clip}.npz") as labels:
        state, share, size_hw = labels["keypoints_state"], labels["hidden_share"], labels["size_hw"]
    assert (state[:, LEFT_ANKLE] == BEHIND_PLACE).all()
    assert (state[:, NOSE] == VISIBLE).all()
    assert (share > 0.1).all()
    assert tuple(size_hw) == (SIZE, SIZE)


def test_what_is_said_as_an_argument_goes_before_the_file(tmp_path):
    upright = {"foot_px": [100, 200], "top_px": [100, 150], "height_m": 0.9}
    path = photo(tmp_path, {"horizon": 0.2, "upright": upright, "tags": "hall", "light": "day"})
    found = hints_beside(path)
    assert (found.view, found.tags, found.light) == (PlaceView(horizon=0.2), ("hall",), "day")
    both = PlaceHints(PlaceView(horizon=0.3, roll_deg=2.0), tags=("office",)).over(found)
    assert (both.view, both.tags, both.light) == (PlaceView(horizon=0.3, roll_deg=2.0), ("office",), "day")
    assert both.upright == Upright((100.0, 200.0), (100.0, 150.0), 0.9)
    assert PlaceHints(PlaceView(camera_height_m=1.2)).over(found).upright is None
    place = prepare_place(path, PlaceHints(PlaceView(focal_px=300.0)))
    assert place.measured["camera_height_m"] == "what stands 0.9 m high"
    assert place.assumed == ("roll_deg",)
    foot = world_points(ground_depth(place.camera), place.camera)[200, 100] * torch.tensor([1.0, 0.0, 1.0])
    top = place.camera.project((foot + torch.tensor([0.0, 0.9, 0.0]))[None])[0]
    assert float(top[1]) == pytest.approx(150, abs=1.5)


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"horizn": 0.3}, r"hall\.yaml: unknown key 'horizn'. Did you mean 'horizon'"),
        ({"horizon": "high"}, "horizon is 'high', expected a number"),
        ({"floor_px": [[0, 1], [2, 3]]}, "expected at least three pixels"),
        ({"occluders": [{"foot_px": [1, 2]}]}, r"occluders\[1\]: give `outline_px` or `mask`, one of them"),
        ({"occluders": [{"mask": "gone.png"}]}, r"mask: nothing at .*gone\.png"),
        ({"camera_height_m": 1, "upright": {"foot_px": [1, 9], "top_px": [1, 2], "height_m": 1}}, "not both"),
        ({"upright": {"foot_px": [1, 9]}}, "height_m, top_px missing"),
        ({"roll_deg": 90}, "roll_deg is 90, expected -60 to 60"),
        ({"light": "day", "sun": {"from_deg": 90, "elevation_deg": 40}}, "give `light` or `sun`, not both"),
        ({"sun": {"from_deg": 90}}, "sun: elevation_deg missing"),
        (["horizon"], "expected `name: value` pairs"),
    ],
)
def test_a_hint_that_is_not_understood_is_refused_by_name(tmp_path, hints, message):
    with pytest.raises(InputError, match=message):
        hints_beside(photo(tmp_path, hints))


@pytest.mark.parametrize(("from_deg", "lit"), [(0, (0, 0, 1)), (90, (1, 0, 0)), (180, (0, 0, -1)), (-90, (-1, 0, 0))])
def test_a_stated_sun_lights_what_faces_it_and_brightness_scales_it(tmp_path, from_deg, lit):
    hints = {"horizon": 0.35, "sun": {"from_deg": from_deg, "elevation_deg": 30}}
    light = prepare_place(photo(tmp_path, hints)).light
    faces = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0]]).float()
    got = light.irradiance(faces).mean(1)
    assert faces[int(got.argmax())].tolist() == list(lit)
    assert light.to_light[1] == pytest.approx(0.5, abs=1e-6)
    dim = prepare_place(photo(tmp_path, hints | {"brightness": 0.5})).light
    assert torch.allclose(dim.irradiance(faces), 0.5 * light.irradiance(faces), atol=1e-5)


def test_an_upright_thing_that_cannot_stand_on_the_floor_is_refused(tmp_path):
    upright = {"foot_px": [100, 20], "top_px": [100, 10], "height_m": 0.9}
    with pytest.raises(InputError, match="below the horizon"):
        prepare_place(photo(tmp_path, {"horizon": 0.35, "upright": upright}))
