"""Places whose camera was held askew: horizon, ground, upright things, placement and labels against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fakes.tiny_batch import SIZE, make_motion, write_batch, write_material
from PIL import Image, ImageDraw

from avatars.body import Body, load_body
from avatars.geometry.camera import Camera
from avatars.geometry.triangulation import read_qualisys
from compose.places.ground import (
    camera_over_ground,
    ground_depth,
    ground_point,
    pitch_from_horizon,
    popup_depth,
    roll_of,
    rolled,
    world_points,
)
from compose.places.place_folder import camera_angles, open_place
from compose.places.place_view import PlaceView, photo_camera
from compose.preparation.camera import EDGES, PlaceCamera
from compose.preparation.prepare import PlaceHints, prepare_place
from compose.preparation.upright_lines import roll_from_upright_lines
from reenact.data_set.label_check import check_data_set
from reenact.running.run import run_batch

pytestmark = pytest.mark.slow

ROLLS_DEG = [-26.0, -3.0, 0.0, 13.0]
PHOTO_HW = (480, 640)


def photo_of(view: PlaceView) -> Camera:
    return photo_camera(view, PHOTO_HW, None)[0]


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.mark.parametrize("roll_deg", ROLLS_DEG)
@pytest.mark.parametrize("horizon", [0.1, 0.5, 0.8])
def test_a_stated_roll_leans_what_is_upright_and_keeps_the_horizon_in_the_middle_column(horizon, roll_deg):
    camera = photo_of(PlaceView(1.6, horizon, 700.0, roll_deg))
    u, v = (camera.K @ camera.T_cam_world[:3, :3] @ torch.tensor([[0.0, 0.3], [0.0, 0.0], [-1.0, -1.0]])).T[:, :2] / (
        camera.T_cam_world[2, :3] @ torch.tensor([[0.0, 0.3], [0.0, 0.0], [-1.0, -1.0]])
    )[:, None]  # two level directions
    slope = (v[1] - u[1]) / (v[0] - u[0])
    middle = u[1] + slope * (PHOTO_HW[1] / 2 - u[0])
    assert float(middle) / PHOTO_HW[0] == pytest.approx(horizon, abs=1e-4)
    assert math.degrees(math.atan(float(slope))) == pytest.approx(roll_deg, abs=1e-3)
    foot = ground_point(camera, torch.tensor([[320.0, 470.0]]))[0]
    assert float(camera.project(foot[None])[0, 1]) == pytest.approx(470.0, abs=1e-2)
    height_m, pitch_deg, found_deg = camera_angles(camera)
    assert (height_m, found_deg) == (pytest.approx(1.6, abs=1e-5), pytest.approx(roll_deg, abs=1e-4))
    expected = pitch_from_horizon(horizon, focal_px=700.0, height_px=480, roll=math.radians(roll_deg))
    assert pitch_deg == pytest.approx(math.degrees(expected), abs=1e-3)


def test_turning_the_picture_of_an_upright_camera_is_the_rolled_camera():
    level = camera_over_ground(size_hw=PHOTO_HW, focal_px=700.0, camera_height_m=1.6, pitch=0.2)
    points = torch.tensor([[0.4, 0.0, -4.0], [0.4, 1.7, -4.0], [-1.0, 0.3, -6.0]])
    center, roll = torch.tensor([320.0, 240.0]), math.radians(13.0)
    turn = torch.tensor([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    expected = (level.project(points) - center) @ turn.T + center
    camera = camera_over_ground(size_hw=PHOTO_HW, focal_px=700.0, camera_height_m=1.6, pitch=0.2, roll=roll)
    assert torch.allclose(camera.project(points), expected, atol=1e-2)
    assert torch.allclose(camera.to_camera(points)[:, 2], level.to_camera(points)[:, 2], atol=1e-5)
    assert roll_of(rolled(camera, -roll)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("roll_deg", [-26.0, 13.0])
def test_a_wall_across_stands_upright_in_a_rolled_picture(roll_deg):
    camera = photo_of(PlaceView(1.6, 0.3, 600.0, roll_deg))
    ahead_m = -world_points(ground_depth(camera).clamp(max=1e4), camera)[..., 2].numpy()
    floor = (ahead_m < 5.0) & np.isfinite(ground_depth(camera).numpy())
    foot_m = float(camera.to_camera(torch.tensor([[0.0, 0.0, -5.0]]))[0, 2])  # the same all along the wall's foot
    depth = popup_depth(camera, floor)
    wall = ~floor & np.isfinite(depth)
    assert wall.mean() > 0.3
    assert np.abs(depth[wall] - foot_m).max() < 0.15  # a pixel there is up to 8 cm deep
    assert np.allclose(depth[floor], ground_depth(camera).numpy()[floor])


@pytest.mark.parametrize("roll_deg", [-20.0, -2.0, 9.0])
def test_roll_is_read_from_posts_and_not_from_noise(roll_deg):
    camera = photo_of(PlaceView(1.6, 0.25, 700.0, roll_deg))
    large = camera.resized((4 * PHOTO_HW[0], 4 * PHOTO_HW[1]))
    picture = Image.new("RGB", large.size_hw[::-1], (180, 180, 180))
    draw = ImageDraw.Draw(picture)
    for x in np.linspace(-3, 3, 9):
        corners = [[x, 0.0, -5.0], [x + 0.2, 0.0, -5.0], [x + 0.2, 3.0, -5.0], [x, 3.0, -5.0]]
        draw.polygon([tuple(p) for p in large.project(torch.tensor(corners).float()).tolist()], fill=(40, 50, 60))
    known = photo_of(PlaceView(1.6, 0.25, 700.0))
    assert roll_from_upright_lines(np.asarray(picture.reduce(4)), known) == pytest.approx(roll_deg, abs=0.5)
    noise = np.random.default_rng(0).integers(0, 255, (*PHOTO_HW, 3)).astype(np.uint8)
    assert roll_from_upright_lines(noise, known) is None


def test_a_prepared_place_keeps_the_stated_roll_and_an_unknown_one_is_said_to_be_assumed(tmp_path):
    floor = np.full((*PHOTO_HW, 3), 200, np.uint8)
    floor[250:] = 90
    Image.fromarray(floor).save(tmp_path / "hall.png")
    stated = prepare_place(tmp_path / "hall.png", PlaceHints(PlaceView(1.5, 0.3, 700.0, 10.0)))
    folder = stated.save(tmp_path / "place")
    assert camera_angles(open_place(folder).camera)[2] == pytest.approx(10.0, abs=1e-3)
    assert (stated.measured["roll_deg"], stated.assumed) == ("given", ())
    unknown = prepare_place(tmp_path / "hall.png", PlaceHints(PlaceView(1.5, 0.3, 700.0)))
    assert unknown.assumed == ("roll_deg",)
    assert roll_of(unknown.camera) == pytest.approx(0.0, abs=1e-6)


def test_labels_of_a_rolled_place_are_drawn_anew_and_lean_with_it(tmp_path, body):
    material = write_material(tmp_path, body)
    make_motion(body).save(material / "raise_01.npz")
    place = {"path": str(material / "gray.png"), "horizon": 0.35, "camera_height_m": 1.5, "focal_px": 200}
    write_batch(material, tmp_path / "batch.yaml", backgrounds=[place | {"roll_deg": 18}], person_height=[0.3, 0.4])
    summary = run_batch(tmp_path / "batch.yaml")
    assert summary.made == 1, summary.failures
    ((clip, check),) = check_data_set(tmp_path / "out").items()
    assert check.wrong() == []
    with np.load(tmp_path / "out" / "labels" / f"{clip}.npz") as labels:
        up = labels["T_cam_world"][:3, 1]
        box, feet, head = labels["box_px"][0], labels["joints_px"][0, 10:12].mean(0), labels["joints_px"][0, 15]
        spine = labels["joints_m"][0, 15] - labels["joints_m"][0, 10:12].mean(0)
    assert math.degrees(math.atan2(up[0], -up[1])) == pytest.approx(18.0, abs=1e-3)
    assert abs(spine[0]) < 0.25 * spine[1], "upright in the world"
    assert 10 < math.degrees(math.atan2(head[0] - feet[0], feet[1] - head[1])) < 30, "and leaning in the picture"
    assert box[3] <= SIZE


@pytest.mark.parametrize("name", ["cam02", "cam03", "cam04"])
def test_roll_of_a_calibrated_room_is_read_from_its_windows_and_furniture(shared_data, name):
    from avatars.io.video import probe, read_frames

    rig = {c.name: c.camera for c in read_qualisys(next((shared_data / "multiview").glob("*.qca.txt")))}
    true = rig[name]
    up, (height, width) = true.T_cam_world[:3, 2], true.size_hw  # that world is +Z up
    aside = (width / 2 - true.K[0, 2]) / true.K[0, 0]
    row = true.K[1, 2] - true.K[1, 1] * (up[0] * aside + up[2]) / up[1]
    view = PlaceView(1.7, float(row) / height, float(true.K[1, 1]))
    frame = next(iter(read_frames(probe(shared_data / "multiview" / f"{name}.mp4"), np.array([0]))))
    camera, _ = photo_camera(view, frame.shape[:2], None)
    found_deg = roll_from_upright_lines(np.asarray(frame), camera)
    assert found_deg == pytest.approx(math.degrees(math.atan2(float(up[0]), -float(up[1]))), abs=0.6)


def test_the_stated_horizon_holds_whatever_focal_length_the_photograph_tells(tmp_path):
    floor = np.full((*PHOTO_HW, 3), 200, np.uint8)
    floor[250:] = 90
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 60
    Image.fromarray(floor).save(tmp_path / "tele.jpg", exif=exif)
    camera = prepare_place(tmp_path / "tele.jpg", PlaceHints(PlaceView(1.5, 0.3))).camera
    far = camera.project(torch.tensor([[0.0, 1.5, -1e5]]))[0, 1] / camera.size_hw[0]
    assert float(far) == pytest.approx(0.3, abs=1e-3)


def wired_room(camera: Camera) -> np.ndarray:
    """Sixteen boxes as wires ahead of a camera, all turned by 35 degrees."""
    rng = np.random.default_rng(0)
    large = camera.resized((2 * camera.size_hw[0], 2 * camera.size_hw[1]))
    picture = Image.new("RGB", large.size_hw[::-1], (230, 230, 230))
    draw = ImageDraw.Draw(picture)
    c, s = math.cos(math.radians(35)), math.sin(math.radians(35))
    for _ in range(16):
        middle = np.array([rng.uniform(-1.5, 1.5), rng.uniform(0.3, 1.6), -rng.uniform(2.5, 6)])
        half = rng.uniform(0.2, 0.8, 3)
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        corners = middle + (signs * half) @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
        pixels = large.project(torch.tensor(corners).float()).tolist()
        for i in range(8):
            for bit in (1, 2, 4):
                if not i & bit and min(-corners[i, 2], -corners[i | bit, 2]) > 0.5:
                    draw.line([tuple(pixels[i]), tuple(pixels[i | bit])], fill=(40, 40, 40), width=2)
    return np.asarray(picture.reduce(2))


@pytest.mark.parametrize(("horizon", "roll_deg"), [(0.3, 0.0), (0.1, -20.0), (0.4, 12.0)])
def test_the_edges_of_a_room_tell_horizon_roll_and_focal_length(horizon, roll_deg):
    true = photo_of(PlaceView(1.6, horizon, 560.0, roll_deg))
    seen = PlaceCamera.of(wired_room(true), PlaceHints(), PHOTO_HW, None)
    assert seen.known == {"camera_height_m": "", "horizon": EDGES, "focal_px": EDGES, "roll_deg": EDGES}
    assert float(seen.camera.K[0, 0]) == pytest.approx(560, rel=0.05)
    apart = (true.T_cam_world[:3, 1] @ seen.camera.T_cam_world[:3, 1]).clamp(max=1.0)
    assert math.degrees(math.acos(float(apart))) < 1.5
    stated = PlaceCamera.of(wired_room(true), PlaceHints(PlaceView(horizon=0.35)), PHOTO_HW, None)
    assert stated.known["horizon"] == "given"
    assert (stated.known["roll_deg"], camera_angles(stated.camera)[2]) == (EDGES, pytest.approx(roll_deg, abs=1.0))
    other = PlaceCamera.of(wired_room(true), PlaceHints(PlaceView(focal_px=1500.0)), PHOTO_HW, None)
    assert other.known["horizon"] == "", "edges that contradict a stated focal length are not believed"


@pytest.mark.parametrize("name", ["cam01", "cam02", "cam03", "cam04"])
def test_the_edges_of_a_calibrated_room_tell_its_camera(shared_data, name):
    from avatars.io.video import probe, read_frames

    rig = {c.name: c.camera for c in read_qualisys(next((shared_data / "multiview").glob("*.qca.txt")))}
    frame = np.asarray(next(iter(read_frames(probe(shared_data / "multiview" / f"{name}.mp4"), np.array([0])))))
    seen = PlaceCamera.of(frame, PlaceHints(), frame.shape[:2], None)
    assert set(seen.known.values()) == {"", EDGES}
    assert float(seen.camera.K[1, 1]) == pytest.approx(float(rig[name].K[1, 1]), rel=0.05)
    apart = (rig[name].T_cam_world[:3, 2] @ seen.camera.T_cam_world[:3, 1]).clamp(max=1.0)  # the rig's world is +Z up
    assert math.degrees(math.acos(float(apart))) < 1.0
