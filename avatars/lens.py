"""Refining a focal length that was guessed: zoom and distance change together, so that the person keeps its size.

A guess 15% off makes near limbs too small or too large; size alone does not show it, turning does.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.camera import Camera


def dollied(
    means: Float[Tensor, "frames n 3"], camera: Camera, log_zoom: Float[Tensor, ""], depth_m: float
) -> Float[Tensor, "frames n 3"]:
    """World points moved so that `camera` sees them where `zoomed(camera, ...)` sees the points themselves.

    The rasterizer gives no gradient of the intrinsics; this gives one of the zoom, through the points. What has a size
    of its own must grow by the zoom, besides.
    """
    R, t = camera.T_cam_world[..., :3, :3], camera.T_cam_world[..., None, :3, 3]
    seen = means @ R.transpose(-1, -2) + t
    zoom = log_zoom.exp()
    moved = torch.cat([seen[..., :2] * zoom, seen[..., 2:] + (zoom - 1) * depth_m], -1)
    return (moved - t) @ R


def zoomed(camera: Camera, log_zoom: float, depth_m: float) -> Camera:
    """A longer focal length seen from farther back: what stands `depth_m` away keeps its size in the image."""
    zoom = float(torch.tensor(log_zoom).exp())
    K, T = camera.K.clone(), camera.T_cam_world.clone()
    K[..., :2, :2] *= zoom
    T[..., 2, 3] += (zoom - 1) * depth_m
    return replace(camera, K=K, T_cam_world=T)
