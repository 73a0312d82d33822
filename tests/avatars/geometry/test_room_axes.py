"""Rooms drawn as lines, whose camera is known: what their edges tell of it, and when they tell nothing."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from avatars.geometry.room_axes import room_axes
from avatars.geometry.triangulation import read_qualisys
from avatars.io.mask_stack import MaskStack
from avatars.io.video import probe, read_frames, write_video
from avatars.tracking.clip_camera import FOCAL_PER_LONG_SIDE, ClipCamera
from compose.places.place_view import PlaceView
from compose.preparation.hints import PlaceHints
from compose.preparation.prepare import prepare_place

pytestmark = pytest.mark.slow

SIZE = (480, 640)


def drawn_room(focal_px: float, *, yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Sixteen boxes as wires, all parallel to the room's axes, 2 to 6 m ahead."""
    rng = np.random.default_rng(0)
    image = np.full((*SIZE, 3), 230, np.uint8)
    R = camera_rotation(yaw_deg, pitch_deg, roll_deg)
    for _ in range(16):
        ahead_m = rng.uniform(2, 6)
        middle = R.T @ (np.array([*rng.uniform(-0.5, 0.5, 2), 1.0]) * ahead_m)
        half = rng.uniform(0.2, 0.8, 3)
        corners = (middle + half * np.array(list(itertools.product((-1, 1), repeat=3)))) @ R.T
        pixels = (focal_px * corners[:, :2] / corners[:, 2:].clip(0.3) + (SIZE[1] / 2, SIZE[0] / 2)).round().astype(int)
        for i, j in itertools.combinations(range(8), 2):
            if (i ^ j).bit_count() == 1:
                cv2.line(image, tuple(map(int, pixels[i])), tuple(map(int, pixels[j])), (40, 40, 40), 1, cv2.LINE_AA)
    return image


def camera_rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """World (x right, y down, z ahead) to camera."""
    return Rotation.from_euler("yxz", [yaw_deg, -pitch_deg, roll_deg], degrees=True).as_matrix().T


@pytest.mark.parametrize(
    ("focal_px", "yaw_deg", "pitch_deg", "roll_deg"), [(608, 35, -8, 0), (500, 28, -15, 10), (820, 50, -5, -6)]
)
def test_the_edges_of_a_room_tell_focal_length_and_up(focal_px, yaw_deg, pitch_deg, roll_deg):
    found = room_axes(drawn_room(focal_px, yaw_deg=yaw_deg, pitch_deg=pitch_deg, roll_deg=roll_deg))
    assert found is not None
    assert found.focal_px == pytest.approx(focal_px, rel=0.05)
    up = camera_rotation(yaw_deg, pitch_deg, roll_deg) @ np.array([0.0, -1.0, 0.0])
    assert math.degrees(math.acos(min(1.0, float(np.dot(up, found.up_cam))))) < 1.5
    low, high = found.focal_range_px
    assert low < focal_px < high


def test_a_wall_seen_from_the_front_tells_no_focal_length():
    image = np.full((*SIZE, 3), 230, np.uint8)
    for at in range(40, 440, 40):
        cv2.line(image, (30, at), (600, at), (40, 40, 40), 2)
        cv2.line(image, (at + 50, 20), (at + 50, 460), (40, 40, 40), 2)
    assert room_axes(image) is None


def test_edges_in_all_directions_tell_nothing():
    rng = np.random.default_rng(3)
    image = np.full((*SIZE, 3), 230, np.uint8)
    for _ in range(80):
        a, b = rng.integers(0, SIZE[0], (2, 2))
        cv2.line(image, tuple(map(int, a)), tuple(map(int, b)), (40, 40, 40), 2, cv2.LINE_AA)
    assert room_axes(image) is None
    assert room_axes(np.full((*SIZE, 3), 90, np.uint8)) is None


def test_edges_of_what_is_ignored_do_not_count():
    room = drawn_room(608, yaw_deg=35, pitch_deg=-8, roll_deg=0)
    assert room_axes(room, ignore=np.ones(SIZE, bool)) is None


def test_a_clip_takes_the_focal_length_that_is_known_best(tmp_path):
    room = drawn_room(500, yaw_deg=35, pitch_deg=-8, roll_deg=0)
    info = probe(write_video(tmp_path / "room.mp4", np.stack([room] * 5), fps=10))
    assert ClipCamera.of(info, 321.0) == ClipCamera(321.0, "given"), "up was seen with another focal length"
    told = ClipCamera.of(info)
    assert told.focal_source == "edges"
    assert told.focal_px == pytest.approx(500, rel=0.05)
    given = ClipCamera.of(info, 500.0)
    assert (given.focal_px, given.focal_source) == (500.0, "given")
    assert given.up_cam == told.up_cam is not None
    hidden = MaskStack.of(torch.full((5, *SIZE), 255, dtype=torch.uint8))
    assert ClipCamera.of(info, None, hidden).focal_source == "assumed"
    plain = probe(write_video(tmp_path / "plain.mp4", np.full((5, *SIZE, 3), 90, np.uint8), fps=10))
    assert ClipCamera.of(plain) == ClipCamera(FOCAL_PER_LONG_SIDE * 640, "assumed")


def test_a_camera_that_turns_between_looks_tells_nothing(tmp_path):
    frames = [drawn_room(500, yaw_deg=35, pitch_deg=pitch, roll_deg=0) for pitch in (-4, -8, -12, -16, -20)]
    assert ClipCamera.of(probe(write_video(tmp_path / "tilt.mp4", np.stack(frames), fps=10))).up_cam is None


def test_a_place_takes_its_camera_from_edges_where_nobody_states_it(tmp_path):
    Image.fromarray(drawn_room(500, yaw_deg=35, pitch_deg=-15, roll_deg=6)).save(tmp_path / "room.png")
    outline = ((((0, 400), (640, 400), (640, 480), (0, 480))),)
    place = prepare_place(tmp_path / "room.png", PlaceHints(PlaceView(1.5), floor_px=outline))
    assert place.measured["horizon"] == place.measured["roll_deg"] == place.measured["focal_px"] == "straight edges"
    assert place.measured["camera_height_m"] == "given" and place.assumed == ()
    up = camera_rotation(35, -15, 6) @ np.array([0.0, -1.0, 0.0])
    found = place.camera.T_cam_world[:3, 1].numpy()
    assert math.degrees(math.acos(min(1.0, float(up @ found)))) < 1.5
    assert float(place.camera.K[0, 0]) == pytest.approx(500, rel=0.05)
    stated = PlaceView(1.5, 0.3, 900.0)
    other = prepare_place(tmp_path / "room.png", PlaceHints(stated, floor_px=outline))
    assert (other.measured["horizon"], other.measured["focal_px"]) == ("given", "given")
    assert float(other.camera.K[0, 0]) == 900.0
    assert "straight edges" not in other.measured.values(), "edges contradict the focal length that is stated"


@pytest.mark.parametrize("name", ["cam01", "cam02", "cam03", "cam04"])
def test_one_frame_of_a_calibrated_lab_tells_its_camera(shared_data, name):
    true = {c.name: c.camera for c in read_qualisys(next((shared_data / "multiview").glob("*.qca.txt")))}[name]
    frame = next(iter(read_frames(probe(shared_data / "multiview" / f"{name}.mp4"), np.array([0]))))
    found = room_axes(frame)
    assert found is not None
    assert found.focal_px == pytest.approx(float(true.K[0, 0]), rel=0.03)
    up = true.T_cam_world[:3, 2].numpy()  # that world is +Z up
    assert math.degrees(math.acos(min(1.0, float(up @ found.up_cam)))) < 0.8
