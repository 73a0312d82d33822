"""What somebody set with sliders, and a camera in; a picture of the avatar out. No server, no window: see viewer.py."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatars.avatar import Avatar
from avatars.avatar.variation import reshaped
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle, matrix_from_quaternion
from avatars.rasterizer import rasterize
from avatars.rasterizer.cpu import frame_bytes
from avatars.rasterizer.gaussians import Gaussians


@dataclass(frozen=True, slots=True)
class Light:
    """A far lamp over even light."""

    strength: float = 0.0
    """0: the albedo as it is; 1: what the lamp does not reach is dark."""
    azimuth_deg: float = 30.0
    """0: from +Z, which the resting avatar faces; 90: from +X, its left."""
    elevation_deg: float = 40.0
    capture: bool = False
    """The light that the avatar was filmed in, as well."""

    @property
    def direction(self) -> Float[Tensor, " 3"]:
        """Unit vector towards the lamp, world."""
        a, e = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        return torch.tensor([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])


@dataclass(slots=True, eq=False)
class Settings:
    """Where all sliders stand."""

    motion: Motion
    betas: Float[Tensor, " shape"]
    frame: int = 0
    turns_deg: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Further rotation (axis-angle, degrees) of joints by name, on the right of the motion's own."""
    expression: dict[int, float] = field(default_factory=dict)
    """Added to the motion's coefficients."""
    light: Light = field(default_factory=Light)
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)


class LiveView:
    """An avatar that is drawn as the settings say, again and again."""

    def __init__(self, avatar: Avatar, motion: Motion) -> None:
        self.avatar = avatar
        self.settings = Settings(motion[motion.valid], avatar.betas.clone())
        self._shaped = avatar

    @torch.no_grad()
    def draw(self, camera: Camera) -> UInt8[np.ndarray, "height width 3"]:
        """The picture that the camera sees now."""
        background = torch.tensor(self.settings.background).view(3, 1, 1).expand(3, *camera.size_hw)
        return frame_bytes(rasterize(self.gaussians(), camera), background)

    @torch.no_grad()
    def gaussians(self) -> Gaussians:
        """Posed, shaped and lit."""
        avatar, s = self._current_shape(), self.settings
        moment = posed_as_set(s)
        posed = avatar.body.pose(moment.poses, avatar.betas, moment.transl, moment.expression)
        points = avatar.points(posed)
        factor = lamp(points.normals, s.light)[0]
        if s.light.capture:
            factor = factor * avatar.lit(points, posed)[0]
        elif avatar.self_shadow:
            factor = factor * avatar.shadow(posed)[0, :, None]
        colors = (avatar.albedo * factor).clamp(0, 1)
        return Gaussians(points.means, points.quats, avatar.log_scales.exp(), avatar.opacity_logits.sigmoid(), colors)

    def _current_shape(self) -> Avatar:
        if not torch.equal(self._shaped.betas, self.settings.betas):
            own = torch.equal(self.avatar.betas, self.settings.betas)
            self._shaped = self.avatar if own else reshaped(self.avatar, self.settings.betas.clone())
        return self._shaped


def posed_as_set(s: Settings) -> Motion:
    """The one frame to draw: the motion's, with the sliders' rotations and expression added."""
    i = min(max(s.frame, 0), len(s.motion) - 1)
    moment = s.motion[i : i + 1]
    poses, expression = moment.poses.clone(), moment.expression.clone()
    for name, degrees in s.turns_deg.items():
        if any(degrees):
            joint = JOINT_NAMES.index(name)
            turn = matrix_from_axis_angle(torch.tensor(degrees) * (math.pi / 180))
            poses[0, joint] = axis_angle_from_matrix(matrix_from_axis_angle(poses[0, joint]) @ turn)
    for k, value in s.expression.items():
        if k < expression.shape[1]:
            expression[0, k] += value
    return replace(moment, poses=poses, expression=expression)


def lamp(normals: Float[Tensor, "frames 3 n"], light: Light) -> Float[Tensor, "frames n 1"]:
    """Factor on display-referred colors: Lambert's law in linear light, as the 2.2th root."""
    toward = torch.nn.functional.normalize(normals, dim=1)
    lit = torch.einsum("c,fcn->fn", light.direction.to(normals), toward).clamp_min(0)
    linear = (1 - light.strength) + 1.6 * light.strength * lit
    return linear.clamp_min(1e-4).pow(1 / 2.2)[..., None]


def camera_of(wxyz: np.ndarray, position: np.ndarray, fov_rad: float, aspect: float, height_px: int = 480) -> Camera:
    """A viewer's camera: orientation (camera to world, OpenCV axes), place (m), vertical field of view; what a browser
    could not have is brought to the nearest that it could."""
    aspect = min(max(aspect, 0.05), 20.0) if math.isfinite(aspect) else 1.0
    fov_rad = min(max(fov_rad, 0.02), 3.0) if math.isfinite(fov_rad) else 0.9
    height, width = height_px, max(16, min(round(height_px * aspect), 4 * height_px))
    R_world_cam = matrix_from_quaternion(torch.as_tensor(np.asarray(wxyz), dtype=torch.float32))
    T = torch.eye(4)
    T[:3, :3] = R_world_cam.t()
    T[:3, 3] = -R_world_cam.t() @ torch.as_tensor(np.asarray(position), dtype=torch.float32)
    focal = 0.5 * height / math.tan(0.5 * fov_rad)
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Camera(K, T, (height, width))
