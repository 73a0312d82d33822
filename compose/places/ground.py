"""Camera height and horizon, or depth -> a camera over the ground plane y = 0; pixels -> points on that plane."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.geometry.camera import Camera

ASSUMED_CAMERA_HEIGHT_M = 1.5
"""Eye level of a standing photographer holding a phone or camera at the chest to the face."""
ASSUMED_HORIZON = 0.45
"""Photographs that show a floor are tilted slightly down, so the horizon lies a little above the middle."""


def pitch_from_horizon(horizon: float, *, focal_px: float, height_px: int, roll: float = 0.0) -> float:
    """Downward pitch (radians) of a camera whose horizon crosses the middle column at `horizon` of the image height
    (0 = top).

    The horizon is where the level directions project: in the middle column, row = c_y - f tan(pitch) / cos(roll)
    (Hartley & Zisserman 2004, ch. 8).
    """
    return math.atan((0.5 - horizon) * height_px / focal_px * math.cos(roll))


def horizon_from_pitch(pitch: float, *, focal_px: float, height_px: int) -> float:
    """The inverse of `pitch_from_horizon`: fraction of the image height, 0 = top; may lie outside [0, 1]."""
    return 0.5 - math.tan(pitch) * focal_px / height_px


def camera_over_ground(
    *, size_hw: tuple[int, int], focal_px: float, camera_height_m: float, pitch: float, roll: float = 0.0
) -> Camera:
    """A camera above the world's origin, looking along -Z, down by `pitch` radians, and turned about its axis so that
    what stands upright leans to the right by `roll` radians in the middle of its picture."""
    eye = torch.tensor([0.0, camera_height_m, 0.0])
    forward = torch.tensor([0.0, -math.sin(pitch), -math.cos(pitch)])
    level = Camera.looking_at(eye, eye + forward, focal_px=focal_px, size_hw=size_hw)
    return level if roll == 0.0 else rolled(level, roll)


def rolled(camera: Camera, roll: float) -> Camera:
    """The camera whose picture is turned clockwise by `roll` radians about the optical axis."""
    c, s = math.cos(roll), math.sin(roll)
    T = torch.tensor([[c, -s, 0.0, 0.0], [s, c, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return replace(camera, T_cam_world=T @ camera.T_cam_world)


def roll_of(camera: Camera) -> float:
    """By how much (radians) what stands upright leans to the right in the middle of the camera's picture."""
    up = camera.T_cam_world[:3, 1]
    return math.atan2(float(up[0]), float(-up[1])) + 0.0  # never -0.0


def ground_point(camera: Camera, pixels: Float[Tensor, "points 2"]) -> Float[Tensor, "points 3"]:
    """Where the rays through `pixels` meet the ground y = 0 (meters); NaN at and above the horizon."""
    R, t = camera.T_cam_world[:3, :3], camera.T_cam_world[:3, 3]
    eye = -R.T @ t
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[:, :1])], -1)
    rays = homogeneous @ torch.linalg.inv(camera.K).T @ R
    steps = torch.where(rays[:, 1:2] < -1e-6, -eye[1] / rays[:, 1:2], torch.nan)
    return eye + steps * rays


def ground_depth(camera: Camera) -> Float[Tensor, "height width"]:
    """Camera z of the ground plane at every pixel (meters); +inf at and above the horizon."""
    rays = pixel_rays(camera.K, camera.size_hw)
    R = camera.T_cam_world[:3, :3]
    height_m = float(-(R.T @ camera.T_cam_world[:3, 3])[1])
    down = -(rays @ R[:, 1])
    return torch.where(down > 1e-4, height_m / down.clamp_min(1e-4), torch.inf)


def height_by_upright(
    camera: Camera, foot_px: Float[Tensor, " 2"], top_px: Float[Tensor, " 2"], height_m: float
) -> float | None:
    """How high the camera is if what stands from `foot_px` to `top_px` is `height_m` tall; `camera` may be at any
    height. None where that cannot stand on its ground.

    Heights grow with the camera's (Criminisi et al. 2000); nearest to both coordinates of the top.
    """
    foot = ground_point(camera, foot_px[None])[0]
    R = camera.K @ camera.T_cam_world[:3, :3]
    a, b = camera.K @ camera.to_camera(foot[None])[0], R[:, 1]
    apart, moves = a[:2] - top_px * a[2], b[:2] - top_px * b[2]
    found_m = -float(apart @ moves) / float(moves @ moves)
    eye_m = -float(camera.T_cam_world[:3, 1] @ camera.T_cam_world[:3, 3])
    return eye_m * height_m / found_m if found_m > 0 else None


def pixel_rays(K: Float[Tensor, "3 3"], size_hw: tuple[int, int]) -> Float[Tensor, "height width 3"]:
    """Directions through the pixels' centers in the camera's axes, z = 1."""
    y = (torch.arange(size_hw[0]) + 0.5 - K[1, 2]) / K[1, 1]
    x = (torch.arange(size_hw[1]) + 0.5 - K[0, 2]) / K[0, 0]
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], -1)


def world_points(depth_m: Float[Tensor, "height width"], camera: Camera) -> Float[Tensor, "height width 3"]:
    """Every pixel's point in the world (meters); not finite where the depth is not."""
    points = pixel_rays(camera.K, camera.size_hw) * depth_m[..., None]
    R, t = camera.T_cam_world[:3, :3], camera.T_cam_world[:3, 3]
    return (points - t) @ R


@dataclass(frozen=True, slots=True)
class GroundPlane:
    """The floor as a camera sees it: points p of it have `up . p = -height_m`."""

    up: Float[np.ndarray, " 3"]
    """Unit normal in the camera's axes, against gravity."""
    height_m: float
    """Of the camera above the floor."""
    share: float
    """Share of the pixels with known depth that lie on it."""

    def camera(self, K: Float[Tensor, "3 3"], size_hw: tuple[int, int]) -> Camera:
        """The camera in a world whose ground is y = 0: over its origin and looking along -Z, pitched and rolled."""
        up = torch.tensor(self.up, dtype=torch.float32)
        forward = torch.tensor([0.0, 0.0, 1.0]) - up[2] * up
        back = -torch.nn.functional.normalize(forward, dim=0)
        R = torch.stack([torch.linalg.cross(up, back), up, back], 1)  # columns: the world's axes in the camera's
        T = torch.eye(4)
        T[:3, :3] = R
        T[:3, 3] = -R @ torch.tensor([0.0, self.height_m, 0.0])
        return Camera(K, T, size_hw)


def ground_plane(
    depth_m: Float[np.ndarray, "height width"],
    K: Float[np.ndarray, "3 3"],
    *,
    tilt_deg: float = 50.0,
    least_share: float = 0.02,
    hypotheses: int = 600,
    seed: int = 0,
) -> GroundPlane | None:
    """The lowest large plane whose normal is within `tilt_deg` of the picture's up; None where there is none.

    RANSAC (Fischler & Bolles 1981) over points whose own normal is near gravity, each counted by the area that it
    covers; planes with much below them are tables, not floors. Refined by least squares over the inliers.
    """
    points, normals = _sparse_points(depth_m, K)
    upward = normals @ np.array([0.0, -1.0, 0.0]) > math.cos(math.radians(tilt_deg))
    candidates = points[upward & np.isfinite(points).all(-1)]
    if len(candidates) < max(50, least_share * len(points)):
        return None
    rng = np.random.default_rng(seed)
    best, best_score = None, -np.inf
    thin = candidates[rng.permutation(len(candidates))[:4000]]
    everything = points[rng.permutation(len(points))[:4000]]
    for _ in range(hypotheses):
        plane = _plane_through(*thin[rng.integers(len(thin), size=3)])
        if plane is None or plane[0] @ np.array([0.0, -1.0, 0.0]) < math.cos(math.radians(tilt_deg)):
            continue
        score = _score(*plane, thin, everything)
        if score > best_score:
            best, best_score = plane, score
    if best is None:
        return None
    level = normals[upward & np.isfinite(points).all(-1)] @ best[0] > math.cos(math.radians(20.0))
    even = candidates[level] if level.mean() > 0.3 else candidates  # noisy depth has normals in all directions
    return _refined(*best, even, points, least_share)


def _sparse_points(depth_m: np.ndarray, K: np.ndarray, most_px: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Points of a thinned depth map in the camera's axes, and their normals towards the camera; finite ones."""
    step = max(-(-max(depth_m.shape) // most_px), 1)
    y, x = np.mgrid[step // 2 : depth_m.shape[0] : step, step // 2 : depth_m.shape[1] : step]
    z = depth_m[y, x]
    with np.errstate(invalid="ignore"):
        p = np.stack([(x + 0.5 - K[0, 2]) / K[0, 0] * z, (y + 0.5 - K[1, 2]) / K[1, 1] * z, z], -1)
        across, down = p[1:-1, 2:] - p[1:-1, :-2], p[2:, 1:-1] - p[:-2, 1:-1]
        normals = np.cross(down, across)
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
        normals = np.where((normals * p[1:-1, 1:-1]).sum(-1, keepdims=True) > 0, -normals, normals)
    middle = p[1:-1, 1:-1].reshape(-1, 3)
    keep = np.isfinite(middle).all(-1) & np.isfinite(normals.reshape(-1, 3)).all(-1)
    return middle[keep], normals.reshape(-1, 3)[keep]


def _plane_through(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Unit normal with negative y (up in the camera's axes) and the camera's height above the plane."""
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal)
    if length < 1e-6:
        return None
    normal = normal / length if normal[1] < 0 else -normal / length
    return normal, float(-normal @ a)


def _tolerance_m(points: np.ndarray) -> np.ndarray:
    return 0.02 + 0.01 * points[:, 2]


def _score(up: np.ndarray, height_m: float, candidates: np.ndarray, everything: np.ndarray) -> float:
    """Area of the inliers, less that of what lies below."""
    if height_m < 0.05:
        return -np.inf
    area = np.minimum(candidates[:, 2], 8.0) ** 2
    on = np.abs(candidates @ up + height_m) < _tolerance_m(candidates)
    below = everything @ up + height_m < -3 * _tolerance_m(everything) - 0.05
    share_below = float(below.mean())
    return float((area * on).sum() / area.sum()) - 4.0 * max(share_below - 0.03, 0.0)


def _refined(
    up: np.ndarray, height_m: float, candidates: np.ndarray, points: np.ndarray, least_share: float
) -> GroundPlane | None:
    """Least squares over the inliers, each weighed by the inverse of its tolerance; three rounds."""
    for scale in (2.0, 1.0, 1.0, 0.6):
        on = candidates[np.abs(candidates @ up + height_m) < scale * _tolerance_m(candidates)]
        if len(on) < 20:
            return None
        weight = 1.0 / _tolerance_m(on)
        center = (on * weight[:, None] ** 2).sum(0) / (weight**2).sum()
        _, _, axes = np.linalg.svd((on - center) * weight[:, None], full_matrices=False)
        up = axes[2] if axes[2, 1] < 0 else -axes[2]
        height_m = float(-up @ center)
    share = float((np.abs(points @ up + height_m) < _tolerance_m(points)).mean())
    if share < least_share or height_m < 0.05:
        return None
    return GroundPlane(up, height_m, share)


def popup_depth(camera: Camera, floor: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Depth of a picture of which only the floor is known: all else stands upright where it meets it straight beneath.

    Hoiem et al. 2005, "Automatic photo pop-up". Meters as far as the camera's height is; +inf where nothing beneath a
    pixel is floor, and on the floor beyond the horizon.
    """
    if abs(roll_of(camera)) > 1e-3:
        return _rolled_popup(camera, floor)
    depth = ground_depth(camera).numpy().copy()
    height = floor.shape[0]
    rows = np.where(floor, np.arange(height)[:, None], height)
    base = np.minimum.accumulate(rows[::-1], axis=0)[::-1]  # the first floor row at or beneath each pixel
    columns = np.arange(floor.shape[1])[None].repeat(height, 0)
    standing = np.where(base < height, depth[np.minimum(base, height - 1), columns], np.inf)
    return np.where(floor, depth, standing).astype(np.float32)


def _rolled_popup(camera: Camera, floor: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Pop-up in a picture turned upright; camera z is the same in both."""
    roll, center = roll_of(camera), camera.K[:2, 2].numpy()
    c, s = math.cos(roll), math.sin(roll)
    R_rolled_upright = np.array([[c, -s], [s, c]])
    corners = np.array([[x, y] for x in (0, floor.shape[1]) for y in (0, floor.shape[0])]) - center
    low = np.floor((corners @ R_rolled_upright).min(0)).astype(int)
    high = np.ceil((corners @ R_rolled_upright).max(0)).astype(int)

    def pixels(size_hw: tuple[int, int], origin: np.ndarray) -> np.ndarray:
        y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
        return np.stack([x, y], -1) - origin

    width, height = (int(v) for v in high - low)
    there = np.floor(pixels((height, width), -low) @ R_rolled_upright.T + center).astype(int)
    inside = ((there >= 0) & (there < floor.shape[::-1])).all(-1)
    upright = inside & floor[np.where(inside, there[..., 1], 0), np.where(inside, there[..., 0], 0)]
    K = camera.K.clone()
    K[:2, 2] = torch.from_numpy(-low).float()
    depth = popup_depth(replace(rolled(camera, -roll), K=K, size_hw=(height, width)), upright)
    back = np.floor(pixels(camera.size_hw, center) @ R_rolled_upright - low).astype(int)
    standing = depth[back[..., 1].clip(0, height - 1), back[..., 0].clip(0, width - 1)]
    return np.where(floor, ground_depth(camera).numpy(), standing).astype(np.float32)
