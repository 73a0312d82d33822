"""A camera that goes round: closed forms of what it sees, labels that go with it, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from fakes.tiny_batch import write_batch, write_material
from PIL import Image

from avatars.body import load_body
from avatars.geometry.camera import Camera
from compose.places.ground import camera_over_ground, ground_depth
from compose.places.place_view import PlaceView
from compose.preparation.prepare import PlaceHints, prepare_place
from compose.rendering.camera_motion import CameraMotion, inner_camera
from compose.rendering.reprojection import reprojected, solid_depth
from reenact.data_set.label_check import check_data_set
from reenact.running.run import run_batch

pytestmark = pytest.mark.slow

SIZE = (120, 160)


@pytest.fixture
def camera() -> Camera:
    return camera_over_ground(size_hw=SIZE, focal_px=140.0, camera_height_m=1.5, pitch=0.2)


def wall_m(camera: Camera, z_m: float) -> torch.Tensor:
    """Depth of a wall across the view that stands on the ground; +inf on the floor before it."""
    from compose.places.ground import world_points

    rays = world_points(torch.ones(SIZE), camera) - torch.tensor([0.0, 1.5, 0.0])
    wall = -z_m / rays[..., 2]
    return torch.where(wall < ground_depth(camera), wall, torch.inf)[None]


def test_a_camera_that_stays_sees_the_picture(camera):
    rgb, hiding = torch.rand(3, *SIZE), wall_m(camera, 5.0)
    view = reprojected(rgb, hiding, solid_depth(hiding, camera), camera, camera, torch.eye(4))
    assert view.hole_share == 0.0
    assert torch.allclose(view.rgb, rgb, atol=1e-4)
    assert torch.equal(torch.isfinite(view.depth_m), torch.isfinite(hiding))


def test_a_mark_on_the_wall_is_seen_where_its_point_is(camera):
    hiding, inner = wall_m(camera, 5.0), inner_camera(camera)
    (row, column) = (30, 60)
    rgb = torch.zeros(3, *SIZE)
    rgb[:, row : row + 3, column : column + 3] = 1.0
    from compose.places.ground import world_points

    mark = world_points(solid_depth(hiding, camera)[0], camera)[row + 1, column + 1]
    path = CameraMotion("orbit", 1.0).path(9, camera, torch.tensor([0.0, 0.0, -3.0]), 0)
    assert torch.allclose(path[:, :3, :3].det(), torch.ones(9), atol=1e-5)
    seen = []
    for T in path:
        view = reprojected(rgb, hiding, solid_depth(hiding, camera), camera, inner, T)
        bright = torch.nonzero(view.rgb[0] > 0.5).float().mean(0) + 0.5
        moved = Camera(inner.K, T @ camera.T_cam_world, inner.size_hw)
        seen.append(bright.tolist())
        assert bright.flip(0).tolist() == pytest.approx(moved.project(mark[None])[0].tolist(), abs=0.8)
    assert abs(seen[0][1] - seen[-1][1]) > 5.0, "the wall behind moves aside"


def test_what_orbits_keeps_its_distance_and_its_point(camera):
    pivot = torch.tensor([0.3, 0.9, -3.0])
    path = CameraMotion("orbit", 2.0).path(5, camera, pivot, 1)
    eyes = [-(T @ camera.T_cam_world)[:3, :3].T @ (T @ camera.T_cam_world)[:3, 3] for T in path]
    assert [float(eye[1]) for eye in eyes] == pytest.approx([1.5] * 5, abs=1e-4)
    assert [float((eye - pivot).norm()) for eye in eyes] == pytest.approx(
        [float((eyes[2] - pivot).norm())] * 5, abs=1e-3
    )
    angle = 2 * math.asin(float((eyes[0] - eyes[-1]).norm()) / 2 / math.hypot(0.3, 3.0))
    assert math.degrees(angle) == pytest.approx(12.0, abs=0.1)


def test_a_sampled_camera_stands_still_elsewhere(camera):
    pivot = torch.tensor([0.3, 0.9, -3.0])
    eyes, rolls_deg = [], []
    for seed in range(30):
        path = CameraMotion("sampled", 2.0).path(4, camera, pivot, seed)
        assert torch.equal(path, path[:1].expand(4, 4, 4))
        T = path[0] @ camera.T_cam_world
        eyes.append(-T[:3, :3].T @ T[:3, 3])
        rolls_deg.append(math.degrees(math.atan2(float(T[0, 1]), -float(T[1, 1]))))
    eyes = torch.stack(eyes)
    assert (eyes - pivot).norm(dim=-1).std() < 1e-4, "at the same distance"
    high = eyes[:, 1] - 1.5
    assert high.min() < -0.1 and high.max() > 0.1, "from lower and from higher"
    assert eyes[:, 0].min() < -0.1 and eyes[:, 0].max() > 0.1, "from left and right"
    assert min(rolls_deg) < -1 and max(rolls_deg) > 1 and max(map(abs, rolls_deg)) < 4


def test_what_a_near_thing_uncovers_is_a_hole(camera):
    hiding = wall_m(camera, 6.0)
    hiding[:, 40:90, 60:100] = 1.5
    solid = solid_depth(hiding, camera)
    path = CameraMotion("orbit", 4.0).path(2, camera, torch.tensor([0.0, 0.0, -3.0]), 0)
    view = reprojected(torch.rand(3, *SIZE), hiding, solid, camera, inner_camera(camera), path[0])
    assert 0.03 < view.hole_share < 0.3


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """People, and a place with a wall at 5 m; and the same with pillars near the camera."""
    folder = write_material(tmp_path_factory.mktemp("orbit"), load_body())
    camera = camera_over_ground(size_hw=SIZE, focal_px=140.0, camera_height_m=1.5, pitch=0.2)
    rng = np.random.default_rng(0)
    depth = torch.minimum(wall_m(camera, 5.0)[0], ground_depth(camera))
    pillars = depth.clone()
    pillars[15:110, 25:45] = pillars[15:110, 115:135] = 1.8
    for name, values in (("hall", depth), ("pillars", pillars)):
        Image.fromarray(rng.integers(60, 90, (*SIZE, 3), dtype=np.uint8)).save(folder / f"{name}.png")
        np.save(folder / f"{name}_depth.npy", values.numpy())
        prepare_place(folder / f"{name}.png", PlaceHints(PlaceView(focal_px=140.0))).save(folder / name)
    return folder


def batch_of(material, folder, background: str, amount: float, kind: str = "orbit"):
    return write_batch(
        material, folder / "batch.json", person_height=[0.3, 0.6], camera={"kind": kind, "amount": amount},
        light="day",        backgrounds=[{"path": str(material / background)}],
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["orbit", "sampled"])
def test_a_clip_of_a_camera_elsewhere_fits_its_labels(material, tmp_path, kind):
    summary = run_batch(batch_of(material, tmp_path, "hall", 1.0, kind))
    assert summary.made == 1, summary.failures
    ((clip, check),) = check_data_set(tmp_path / "out").items()
    assert check.wrong() == []
    with np.load(tmp_path / "out" / "labels" / f"{clip}.npz") as labels:
        assert labels["T_cam_world"].shape == (8, 4, 4)
        eyes = -np.einsum("fji,fj->fi", labels["T_cam_world"][:, :3, :3], labels["T_cam_world"][:, :3, 3])
    if kind == "orbit":
        assert np.ptp(eyes[:, 0]) > 0.1, "the camera goes"
    else:
        assert np.ptp(eyes, axis=0).max() < 1e-6 < abs(eyes[0, 0]), "it stands, elsewhere than the photograph's"


@pytest.mark.parametrize(
    ("background", "amount", "reason"),
    [("gray.png", 1.0, "has no depth, which `camera: orbit` needs"), ("pillars", 4.0, "has not seen; at most 3%")],
)
def test_an_orbit_without_depth_or_with_too_many_holes_is_refused(material, tmp_path, background, amount, reason):
    summary = run_batch(batch_of(material, tmp_path, background, amount))
    assert summary.made == 0
    assert reason in json.loads((tmp_path / "out" / "failures.jsonl").read_text())["reason"]
