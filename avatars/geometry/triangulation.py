"""Points seen by several calibrated cameras at once -> points in the world, and the reader of Qualisys calibrations."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.errors import InputError
from avatars.geometry.camera import Camera

SUBPIXELS = 64.0
"""Qualisys writes lengths on the sensor in 64ths of a pixel."""
AGREEMENT_PX = 15.0
"""Reprojection error at which a view counts half (Geman & McClure 1987) in a robust triangulation."""


@dataclass(frozen=True, slots=True)
class LensCamera:
    """A camera with its lens' distortion."""

    name: str
    camera: Camera
    distortion: tuple[float, float, float, float]
    """k1, k2 (radial), p1, p2 (tangential) of Brown & Conrady, as OpenCV orders them."""

    def undistorted(self, xy: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points 2"]:
        """Pixels as a camera without distortion would see them, by fixed-point iteration."""
        K = self.camera.K.double()
        focal, center = K.diagonal()[:2], K[:2, 2]
        seen = (xy.double() - center) / focal
        ideal = seen
        for _ in range(10):
            ideal = ideal - (distorted(ideal, self.distortion) - seen)
        return ideal * focal + center


def distorted(
    ideal: Float[Tensor, "*points 2"], distortion: tuple[float, float, float, float]
) -> Float[Tensor, "*points 2"]:
    """Where the lens puts points of the image plane at distance one (Brown 1971)."""
    k1, k2, p1, p2 = distortion
    x, y = ideal.unbind(-1)
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * k2)
    return torch.stack(
        [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], -1
    )


def read_qualisys(path: str | Path) -> list[LensCamera]:
    """Cameras of a Qualisys Track Manager calibration (`*.qca.txt`), in meters; the world is the file's own, +Z up.

    Its `transform` holds the camera's place (mm) and the rotation from the world to a camera whose y points up and
    whose z points backward (OpenCV's are the opposite). Raises InputError when the file is no such calibration.
    """
    try:
        cameras = [_qualisys_camera(node) for node in ElementTree.parse(path).getroot().iter("camera")]
    except FileNotFoundError:
        raise InputError(f"No calibration file at {path}.") from None
    except (ElementTree.ParseError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no Qualisys calibration ({error}). Export *.qca.txt from QTM.") from None
    if not cameras:
        raise InputError(f"{path} is no Qualisys calibration: it names no camera. Export *.qca.txt from QTM.")
    return cameras


def _qualisys_camera(node: ElementTree.Element) -> LensCamera:
    transform, intrinsic, view = (
        {key: float(value) for key, value in _child(node, name).attrib.items()}
        for name in ("transform", "intrinsic", "fov_video")
    )
    to_opencv = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    R = torch.tensor([[transform[f"r{i}{j}"] for j in (1, 2, 3)] for i in (1, 2, 3)], dtype=torch.float64)
    center = torch.tensor([transform[axis] for axis in "xyz"], dtype=torch.float64) / 1000.0
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = to_opencv @ R
    T[:3, 3] = -T[:3, :3] @ center
    K = torch.eye(3, dtype=torch.float64)
    for row, axis in enumerate("UV"):
        K[row, row] = intrinsic[f"focalLength{axis}"] / SUBPIXELS
        K[row, 2] = intrinsic[f"centerPoint{axis}"] / SUBPIXELS + 0.5  # their first pixel's center is 0
    size_hw = (int(view["bottom"] - view["top"]) + 1, int(view["right"] - view["left"]) + 1)
    names = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
    k1, k2, p1, p2 = (intrinsic[name] for name in names)
    return LensCamera(node.attrib["serial"], Camera(K.float(), T.float(), size_hw), (k1, k2, p1, p2))


def _child(node: ElementTree.Element, name: str) -> ElementTree.Element:
    found = node.find(name)
    if found is None:
        raise ValueError(f"a camera without <{name}>")
    return found


def triangulate(
    cameras: list[LensCamera],
    xy: Float[Tensor, "views points 2"],
    score: Float[Tensor, "views points"],
    *,
    rounds: int = 12,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "views points"]]:
    """World points (meters) nearest to all views, and each view's reprojection error (pixels).

    The direct linear transform (Hartley & Zisserman 2004, 12.2) on undistorted pixels, rows weighted by the score and,
    in `rounds` of reweighting, by how well a view agrees (Geman & McClure 1987): one wrong view of four is outvoted.
    """
    P = torch.stack([c.camera.K.double() @ c.camera.T_cam_world[:3].double() for c in cameras])
    seen = torch.stack([c.undistorted(x) for c, x in zip(cameras, xy, strict=True)])
    rows = seen[..., None] * P[:, None, 2:] - P[:, None, :2]  # (views, points, 2, 4)
    rows = rows / P[:, None, :1, :3].norm(dim=-1, keepdim=True)
    weight = score.double().clamp_min(1e-6)
    for _ in range(rounds):
        A = (weight[..., None, None] * rows).permute(1, 0, 2, 3).flatten(1, 2)
        homogeneous = torch.linalg.svd(A).Vh[:, -1]
        points = homogeneous[:, :3] / homogeneous[:, 3:]
        image = torch.einsum("vij,pj->vpi", P[..., :3], points) + P[:, None, :, 3]
        error = (image[..., :2] / image[..., 2:] - seen).norm(dim=-1)
        weight = score.double().clamp_min(1e-6) / (1.0 + (error / AGREEMENT_PX).square())
    return points.float(), error.float()
