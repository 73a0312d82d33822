"""A still place -> a camera that pans, is held in a hand, or goes a little way round the person.

Turning needs no depth: every ray of the turned camera is a ray of the photograph (Hartley & Zisserman 2004, ch. 8.4).
Going round needs depth, and uncovers what the photograph has not seen: `compose.rendering.reprojection` tells how much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import matrix_from_axis_angle
from compose.places.ground import pixel_rays

MARGIN = 0.12
"""Share of the picture on each side that is kept for the camera's turns."""

KINDS = "static", "pan", "handheld", "orbit", "sampled"
ORBIT_DEG, ROLL_DEG = 3.0, 1.5
MOST_UNSEEN = 0.03
"""Share of an orbit's view that the photograph may not have seen."""


@dataclass(frozen=True, slots=True)
class CameraMotion:
    """How the camera turns during a clip."""

    kind: Literal["static", "pan", "handheld", "orbit", "sampled"] = "static"
    amount: float = 1.0
    """1 is a slow pan across what the margin allows, or a calm hand: 0.25 degrees of shake (standard deviation), or an
    orbit of 3 degrees to each side, or a still camera somewhere else, at most 3 degrees around the person to a side, up
    or down, rolled by at most 1.5 degrees."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"camera: {self.kind!r} is none of {', '.join(KINDS)}.")
        if not 0.0 <= self.amount <= 4.0:
            raise InputError(f"camera: amount is {self.amount}, expected 0 to 4.")

    @property
    def goes(self) -> bool:
        """Whether the camera is elsewhere than the photograph's, so that the place is seen anew by its depth."""
        return self.kind in ("orbit", "sampled")

    def turns(self, frames: int, fps: float, camera: Camera, seed: int) -> Float[Tensor, "frames 3 3"] | None:
        """Rotations of the camera in its own axes, within the margin; None for a camera that stands still or goes."""
        if self.kind == "static" or self.goes or self.amount == 0:
            return None
        limit = self._limit(camera)
        angles = self._pan(frames, limit, seed) if self.kind == "pan" else self._hand(frames, fps, seed)
        return matrix_from_axis_angle(torch.from_numpy(np.clip(angles, -limit, limit)).float())

    def path(
        self, frames: int, camera: Camera, pivot: Float[Tensor, " 3"], seed: int
    ) -> Float[Tensor, "frames 4 4"] | None:
        """What takes the still camera's axes to each frame's, for a camera that keeps its distance from a point (world)
        and goes from one side of it to the other, easing in and out, or stands at a sampled angle. None for others."""
        if not self.goes or self.amount == 0:
            return None
        rng = np.random.default_rng([seed, 7])
        center, upward = camera.to_camera(pivot[None])[0], camera.T_cam_world[:3, 1]
        if self.kind == "orbit":
            side = 1.0 if rng.random() < 0.5 else -1.0
            share = torch.cos(torch.linspace(0, math.pi, frames))
            R = matrix_from_axis_angle(side * math.radians(ORBIT_DEG) * self.amount * share[:, None] * upward)
        else:
            around, over, roll = (self.amount * rng.uniform(-1, 1, 3)).tolist()
            turn = math.radians(ORBIT_DEG) * (around * upward + torch.tensor([over, 0.0, 0.0]))
            R = matrix_from_axis_angle(torch.tensor([0.0, 0.0, math.radians(ROLL_DEG) * roll]))
            R = (R @ matrix_from_axis_angle(turn)).expand(frames, 3, 3)
        T = torch.eye(4).repeat(frames, 1, 1)
        T[:, :3, :3], T[:, :3, 3] = R, center - R @ center
        return T

    @staticmethod
    def _limit(camera: Camera) -> np.ndarray:
        """Most radians about x, y, z that keep the view inside the wider picture."""
        height, width = camera.size_hw
        free = MARGIN * min(height, width) / (1 - 2 * MARGIN) * 0.6
        turn = math.atan(free / float(camera.K[0, 0]))
        return np.array([turn, turn, 0.3 * free / max(height, width)])

    def _pan(self, frames: int, limit: np.ndarray, seed: int) -> np.ndarray:
        """From one side to the other, easing in and out."""
        side = 1.0 if np.random.default_rng([seed, 7]).random() < 0.5 else -1.0
        share = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, frames))
        angles = np.zeros((frames, 3))
        angles[:, 1] = side * min(self.amount, 1.0) * limit[1] * (2 * share - 1)
        return angles

    def _hand(self, frames: int, fps: float, seed: int) -> np.ndarray:
        """Noise between 0.3 and 6 Hz that falls with frequency, as a hand's shake does."""
        rng = np.random.default_rng([seed, 11])
        count = max(frames, int(4 * fps))
        frequency = np.fft.rfftfreq(count, 1 / fps)
        power = np.where((frequency >= 0.3) & (frequency <= 6.0), 1.0 / np.maximum(frequency, 0.3), 0.0)
        spectrum = power[:, None] * (rng.standard_normal((len(power), 3)) + 1j * rng.standard_normal((len(power), 3)))
        shake = np.fft.irfft(spectrum, count, axis=0)[:frames]
        shake /= max(float(shake.std()), 1e-9)
        return shake * math.radians(0.25) * self.amount * np.array([1.0, 1.0, 0.5])


def inner_camera(camera: Camera) -> Camera:
    """The camera of the picture without the margin that a moving camera needs."""
    height, width = camera.size_hw
    top, left = round(MARGIN * height), round(MARGIN * width)
    return camera.cropped(top, left, (height - 2 * top, width - 2 * left))


def turned(camera: Camera, R_turned_camera: Float[Tensor, "3 3"]) -> Camera:
    """The camera turned about its center."""
    T = camera.T_cam_world.clone()
    T[:3] = R_turned_camera @ T[:3]
    return Camera(camera.K, T, camera.size_hw)


def reprojection_grid(
    wide: Camera, view: Camera, R_turned_camera: Float[Tensor, "3 3"]
) -> tuple[Float[Tensor, "height width 2"], Float[Tensor, "height width"]]:
    """Where a turned view reads the wide picture, in grid_sample's [-1, 1], and by what its depth is multiplied."""
    rays = pixel_rays(view.K, view.size_hw) @ R_turned_camera  # the turned camera's rays in the wide camera's axes
    pixels = rays[..., :2] / rays[..., 2:] * wide.K[[0, 1], [0, 1]] + wide.K[:2, 2]
    grid = pixels / torch.tensor([wide.size_hw[1], wide.size_hw[0]]) * 2 - 1
    return grid, 1.0 / rays[..., 2]
