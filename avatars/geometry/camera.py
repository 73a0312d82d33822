"""A pinhole camera in OpenCV convention: +x right, +y down, +z forward, pixel centers at +0.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera, or one per frame when the tensors have a leading dimension."""

    K: Float[Tensor, "*#frames 3 3"]
    """Intrinsics in pixels."""
    T_cam_world: Float[Tensor, "*#frames 4 4"]
    """Takes world points (meters, +Y up) to camera points."""
    size_hw: tuple[int, int]
    """Image height and width in pixels."""

    @staticmethod
    def level(*, focal_px: float, size_hw: tuple[int, int], height_m: float = 0.0, distance_m: float = 0.0) -> Camera:
        """A camera at `height_m` above the ground, `distance_m` along +Z, looking level along -Z."""
        height, width = size_hw
        K = torch.tensor([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])
        T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        T[1, 3] = height_m
        T[2, 3] = distance_m
        return Camera(K, T, size_hw)

    @staticmethod
    def looking_at(
        eye: Float[Tensor, " 3"] | Sequence[float],
        target: Float[Tensor, " 3"] | Sequence[float],
        *,
        focal_px: float,
        size_hw: tuple[int, int],
    ) -> Camera:
        """A camera at `eye` (world, meters) whose optical axis meets `target`; world +Y is up in the image."""
        eye = torch.as_tensor(eye, dtype=torch.float32)
        forward = torch.nn.functional.normalize(torch.as_tensor(target, dtype=torch.float32) - eye, dim=0)
        up = torch.tensor([0.0, 1.0, 0.0])
        right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=0)
        down = torch.linalg.cross(forward, right)
        R = torch.stack([right, down, forward])
        T = torch.eye(4)
        T[:3, :3] = R
        T[:3, 3] = -R @ eye
        height, width = size_hw
        K = torch.tensor([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])
        return Camera(K, T, size_hw)

    def to_camera(self, points: Float[Tensor, "*frames points 3"]) -> Float[Tensor, "*frames points 3"]:
        """World points (m) in camera coordinates (m)."""
        R, t = self.T_cam_world[..., :3, :3], self.T_cam_world[..., :3, 3]
        return points @ R.transpose(-1, -2) + t[..., None, :]

    def project(self, points: Float[Tensor, "*frames points 3"]) -> Float[Tensor, "*frames points 2"]:
        """World points (m) to pixels. Points behind the camera land anywhere: test `to_camera(...)[..., 2]`."""
        p = self.to_camera(points)
        uvw = p @ self.K.transpose(-1, -2)
        return uvw[..., :2] / uvw[..., 2:].clamp_min(1e-6)

    def cropped(self, top: int, left: int, size_hw: tuple[int, int]) -> Camera:
        """The same camera seeing only the window whose first pixel is (top, left)."""
        K = self.K.clone()
        K[..., 0, 2] -= left
        K[..., 1, 2] -= top
        return replace(self, K=K, size_hw=size_hw)

    def resized(self, size_hw: tuple[int, int]) -> Camera:
        """The same view sampled on another pixel grid."""
        scale = torch.tensor(
            [size_hw[1] / self.size_hw[1], size_hw[0] / self.size_hw[0], 1.0], dtype=self.K.dtype, device=self.K.device
        )
        return replace(self, K=self.K * scale[:, None], size_hw=size_hw)

    def to(self, device: torch.device | str) -> Camera:
        """The camera with its tensors on `device`."""
        return replace(self, K=self.K.to(device), T_cam_world=self.T_cam_world.to(device))

    def __getitem__(self, index: int | slice | Tensor) -> Camera:
        """Chosen frames of a per-frame camera; a single camera is returned as it is."""
        if self.K.ndim == 2:
            return self
        return replace(self, K=self.K[index], T_cam_world=self.T_cam_world[index])
