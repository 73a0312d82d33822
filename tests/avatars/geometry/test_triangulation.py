"""Triangulation and the Qualisys reader: exact on synthetic cameras, one wrong view outvoted, bad files refused."""

from __future__ import annotations

import math

import pytest
import torch

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.triangulation import LensCamera, distorted, read_qualisys, triangulate

LENS = (-0.046, 0.14, 0.0006, -0.0005)

QUALISYS = """<?xml version="1.0"?>
<calibration><cameras>
  <camera serial="front">
    <fov_video bottom="1919" left="0" right="1087" top="0"/>
    <transform r11="1" r12="0" r13="0" r21="0" r22="0" r23="1" r31="0" r32="-1" r33="0" x="0" y="-4000" z="1000"/>
    <intrinsic focalLengthU="107520" focalLengthV="107520" centerPointU="34816" centerPointV="61440"
      radialDistortion1="0" radialDistortion2="0" tangentalDistortion1="0" tangentalDistortion2="0"/>
  </camera>
</cameras></calibration>"""


def ring(count: int = 4) -> list[LensCamera]:
    """Cameras around the origin, with a phone's distortion."""
    cameras = []
    for k in range(count):
        angle = 2 * math.pi * k / count
        eye = torch.tensor([4 * math.sin(angle), 1.5, 4 * math.cos(angle)])
        camera = Camera.looking_at(eye, torch.tensor([0.0, 1.0, 0.0]), focal_px=1600.0, size_hw=(1920, 1080))
        cameras.append(LensCamera(f"cam{k}", camera, LENS))
    return cameras


def views(cameras: list[LensCamera], points: torch.Tensor) -> torch.Tensor:
    seen = []
    for lens in cameras:
        p = lens.camera.to_camera(points).double()
        image = distorted(p[:, :2] / p[:, 2:], lens.distortion)
        seen.append(image * 1600.0 + torch.tensor([540.0, 960.0]))
    return torch.stack(seen)


@pytest.fixture
def points() -> torch.Tensor:
    return torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) * 0.4 + torch.tensor([0.0, 1.0, 0.0])


def test_points_are_found_again_through_four_lenses(points) -> None:
    cameras = ring()
    found, error_px = triangulate(cameras, views(cameras, points), torch.ones(4, len(points)))
    assert (found - points).norm(dim=-1).max() < 1e-4
    assert error_px.max() < 0.02


def test_one_wrong_view_of_four_is_outvoted(points) -> None:
    cameras = ring()
    seen = views(cameras, points)
    seen[2] += 120.0
    found, error_px = triangulate(cameras, seen, torch.ones(4, len(points)))
    assert (found - points).norm(dim=-1).max() < 0.01
    assert (error_px.argmax(0) == 2).all()


def test_views_without_confidence_have_no_say(points) -> None:
    cameras = ring()
    seen, score = views(cameras, points), torch.ones(4, len(points))
    seen[1], score[1] = 0.0, 0.0
    found, _ = triangulate(cameras, seen, score, rounds=1)
    assert (found - points).norm(dim=-1).max() < 1e-3


def test_a_qualisys_camera_looks_where_its_file_says(tmp_path) -> None:
    path = tmp_path / "Calib.qca.txt"
    path.write_text(QUALISYS)
    (lens,) = read_qualisys(path)
    assert lens.camera.size_hw == (1920, 1088)
    # 4 m before the camera, level with it; then one meter to its right, and one meter higher
    ahead = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    seen = lens.camera.project(ahead)
    expected = torch.tensor([[544.5, 960.5], [544.5 + 420.0, 960.5], [544.5, 960.5 - 420.0]])
    assert torch.allclose(seen, expected, atol=1e-2)


@pytest.mark.parametrize("text", ["nonsense", "<calibration/>", "<a><camera serial='1'/></a>"])
def test_what_is_no_calibration_is_refused(tmp_path, text) -> None:
    path = tmp_path / "Calib.qca.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="no Qualisys calibration"):
        read_qualisys(path)
    with pytest.raises(InputError, match="No calibration file"):
        read_qualisys(tmp_path / "absent.txt")
