"""An avatar drawn where the source's person was: the same pixels, whatever the body's size, over whatever picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_batch import write_batch, write_material

from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.video import probe, read_frames
from avatars.tracking.source_view import SourceView
from compose.places.place_view import Background
from reenact.planning.batch import parse_batch
from reenact.planning.framing import SourceFraming
from reenact.planning.plan import make_plan
from reenact.rendering.source_framing import framed
from reenact.retargeting.retarget import retarget
from reenact.running.run import run_batch


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def walk(body: Body, *, frames: int = 20) -> Motion:
    """Somebody slides past, upright, 5 cm above what the tracker took for the ground."""
    transl = torch.zeros(frames, 3)
    transl[:, 0] = torch.linspace(-1.0, 1.0, frames)
    rest, _ = body.shaped(torch.zeros(body.n_betas))
    transl[:, 1] = 0.05 - float(rest[:, 1].min())
    return Motion(
        torch.zeros(frames, 55, 3), transl, torch.zeros(body.n_betas), torch.zeros(frames, 10),
        torch.arange(frames, dtype=torch.float64) / 10, torch.ones(frames, dtype=torch.bool), body.sha256,
    )  # fmt: skip


CAMERA = Camera.looking_at([2.0, 1.4, 3.5], [0.2, 0.9, 0.0], focal_px=180.0, size_hw=(144, 180))


def pixels(camera: Camera, motion: Motion, body: Body) -> torch.Tensor:
    return camera.project(body.pose(motion.poses, motion.betas, motion.transl).joints[:, :22])


def drawn_pixels(body: Body, betas: torch.Tensor, framing: SourceFraming, seed: int = 0) -> torch.Tensor:
    found = retarget(walk(body), body, betas, fps=10.0)
    picture = Background(torch.rand(3, 60, 90), torch.full((1, 60, 90), torch.inf), CAMERA)
    place, spot = framed(SourceView(CAMERA), picture, found, framing, seed)
    assert place.size_hw == CAMERA.size_hw
    joints = body.pose(found.motion.poses, found.motion.betas, found.motion.transl).joints[:, :22]
    return place.camera.project(torch.stack([spot.moved(points) for points in joints]))


def test_on_the_same_body_every_joint_is_at_the_sources_pixel(body):
    expected = pixels(CAMERA, walk(body), body)
    found = drawn_pixels(body, torch.zeros(body.n_betas), SourceFraming())
    assert (found - expected).norm(dim=-1).max() < 0.1


def test_the_camera_stands_over_the_origin_and_looks_along_minus_z(body):
    found = retarget(walk(body), body, torch.zeros(body.n_betas), fps=10.0)
    plate = np.zeros((144, 180, 3), np.uint8)
    place, _ = framed(SourceView(CAMERA, plate), None, found, SourceFraming(), 0)
    T = place.camera.T_cam_world
    eye = -T[:3, :3].T @ T[:3, 3]
    assert eye[[0, 2]].abs().max() < 1e-4
    assert abs(float(T[2, 0])) < 1e-5 and float(T[2, 2]) < -0.9


def test_a_taller_body_is_as_large_in_the_picture_and_takes_the_same_path(body):
    expected = pixels(CAMERA, walk(body), body)
    betas = torch.zeros(body.n_betas)
    betas[0] = 2.0
    assert retarget(walk(body), body, betas, fps=10.0).height_m > 1.05 * 1.65
    found = drawn_pixels(body, betas, SourceFraming())
    assert (found[:, 0] - expected[:, 0]).norm(dim=-1).max() < 1.5  # of about 70
    height, wanted = ((p[:, 15] - p[:, 7:9].mean(1)).norm(dim=-1) for p in (found, expected))
    assert ((height / wanted) - 1).abs().max() < 0.06


def test_size_and_turn_are_drawn_from_their_ranges(body):
    betas = torch.zeros(body.n_betas)
    plain = drawn_pixels(body, betas, SourceFraming())
    large = drawn_pixels(body, betas, SourceFraming(size=(1.2, 1.2)))
    ratio = (large[:, 15] - large[:, 7]).norm(dim=-1) / (plain[:, 15] - plain[:, 7]).norm(dim=-1)
    assert (ratio - 1.2).abs().max() < 0.06
    across = drawn_pixels(body, betas, SourceFraming(turn_deg=(90.0, 90.0)))
    assert (across[-1, 0] - across[0, 0]).norm() < 0.6 * (plain[-1, 0] - plain[0, 0]).norm()
    drawn = np.array([SourceFraming((-8, 8), (0.9, 1.1)).drawn(seed) for seed in range(200)])
    assert -8 <= drawn[:, 0].min() < -6 and 6 < drawn[:, 0].max() <= 8
    assert 0.9 <= drawn[:, 1].min() < 0.92 and 1.08 < drawn[:, 1].max() <= 1.1


def test_a_motion_keeps_its_view_and_plate_and_another_file_says_that_it_has_none(body, tmp_path):
    plate = np.random.default_rng(0).integers(0, 256, (144, 180, 3), dtype=np.uint8)
    path = walk(body).save(tmp_path / "a.npz", more=SourceView(CAMERA, plate).entries())
    found = SourceView.load(path)
    assert np.array_equal(found.plate, plate)
    torch.testing.assert_close(found.camera.T_cam_world, CAMERA.T_cam_world)
    torch.testing.assert_close(Motion.load(path).poses, walk(body).poses)
    with pytest.raises(InputError, match="does not say how its clip was filmed"):
        SourceView.load(walk(body).save(tmp_path / "b.npz"))


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"), load_body())


def batch_over_its_own_plate(material: Path, folder: Path, body: Body, **more: object) -> Path:
    plate = np.full((144, 180, 3), (40, 90, 160), np.uint8)
    motion = replace(walk(body), name="slide")
    motion.save(folder / "slide.npz", more=SourceView(CAMERA, plate).entries())
    return write_batch(
        material, folder / "b.yaml", motions=[{"path": str(folder / "slide.npz"), "label": "slide"}],
        backgrounds=["source"], placement="source", size=[144, 180], fps=10, out=str(folder / "out"), **more,
    )  # fmt: skip


@pytest.mark.slow
def test_a_batch_draws_over_the_motions_own_place_and_its_labels_say_where(material, body, tmp_path):
    result = run_batch(batch_over_its_own_plate(material, tmp_path, body, crf=0))
    assert result.made == 1
    video = next((tmp_path / "out" / "clips").rglob("*.mp4"))
    frame = next(read_frames(probe(video)))
    assert np.abs(frame[5, 5].astype(int) - (40, 90, 160)).max() <= 4
    with np.load(next((tmp_path / "out" / "labels").rglob("*.npz"))) as labels:
        root = labels["joints_px"][:, 0]
    expected = pixels(CAMERA, walk(body), body)[:, 0].numpy()
    assert np.abs(root - expected).max() < 2.0


def test_speed_shortens_the_clip_and_differs_by_avatar_and_motion(material, body, tmp_path):
    plan = make_plan(parse_batch(
        {"avatars": [str(material / "white")], "motions": [str(material / "*.npz")],
         "backgrounds": [str(material / "night.png")], "out": str(tmp_path / "out"), "speed": [0.5, 2.0]},
        tmp_path,
    ))  # fmt: skip
    speeds = [plan.speed(0, motion) for motion in range(len(plan.batch.motions))]
    assert all(0.5 <= speed <= 2.0 for speed in speeds) and len(set(speeds)) == len(speeds)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backgrounds": ["source"], "placement": "place"}, "is for `placement: source`"),
        ({"placement": "source", "camera": "pan"}, "own still camera"),
        ({"placement": {"kind": "place", "size": [1, 1]}}, "are for `kind: source`"),
        ({"placement": "sauce"}, "place, source|source"),
    ],
)
def test_what_does_not_go_together_is_refused(material, tmp_path, settings, words):
    document = {
        "avatars": [str(material / "white")], "motions": [str(material / "*.npz")],
        "backgrounds": [str(material / "night.png")], "out": "out",
    }  # fmt: skip
    with pytest.raises(InputError, match=words):
        parse_batch(document | settings, tmp_path)
