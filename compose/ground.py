"""Camera height and horizon -> a camera over the ground plane y = 0; pixels -> points on that plane."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.camera import Camera

ASSUMED_CAMERA_HEIGHT_M = 1.5
"""Eye level of a standing photographer holding a phone or camera at the chest to the face."""
ASSUMED_HORIZON = 0.45
"""Photographs that show a floor are tilted slightly down, so the horizon lies a little above the middle."""


def pitch_from_horizon(horizon: float, *, focal_px: float, height_px: int) -> float:
    """Downward pitch (radians) of a camera without roll whose horizon lies at `horizon` of the image height (0 = top).

    The horizon is where the level direction projects: row = c_y - f tan(pitch) (Hartley & Zisserman 2004, ch. 8).
    """
    return math.atan((0.5 - horizon) * height_px / focal_px)


def horizon_from_pitch(pitch: float, *, focal_px: float, height_px: int) -> float:
    """The inverse of `pitch_from_horizon`: fraction of the image height, 0 = top; may lie outside [0, 1]."""
    return 0.5 - math.tan(pitch) * focal_px / height_px


def camera_over_ground(*, size_hw: tuple[int, int], focal_px: float, camera_height_m: float, pitch: float) -> Camera:
    """A camera without roll above the world's origin, looking along -Z and down by `pitch` radians."""
    eye = torch.tensor([0.0, camera_height_m, 0.0])
    forward = torch.tensor([0.0, -math.sin(pitch), -math.cos(pitch)])
    return Camera.looking_at(eye, eye + forward, focal_px=focal_px, size_hw=size_hw)


def ground_point(camera: Camera, pixels: Float[Tensor, "points 2"]) -> Float[Tensor, "points 3"]:
    """Where the rays through `pixels` meet the ground y = 0 (meters); NaN at and above the horizon."""
    R, t = camera.T_cam_world[:3, :3], camera.T_cam_world[:3, 3]
    eye = -R.T @ t
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[:, :1])], -1)
    rays = homogeneous @ torch.linalg.inv(camera.K).T @ R
    steps = torch.where(rays[:, 1:2] < -1e-6, -eye[1] / rays[:, 1:2], torch.nan)
    return eye + steps * rays
