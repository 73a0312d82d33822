"""One place with its camera, light and shadow -> finished frames of whoever is posed in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.camera import Camera
from avatars.gaussians import Gaussians
from avatars.progress import StageClock
from avatars.rasterizer import rasterize
from avatars.rasterizer.render import Render
from compose.background import Background
from compose.blend import composite, to_uint8
from compose.shadow import ShadowLight, cast_shadow, shade

_REACH_M = 0.08
"""How far Gaussians may reach beyond the centers that the box was measured on."""
_SHADOW_STEP = 4


@dataclass(frozen=True, slots=True)
class Scene:
    """A place at the clip's size, its camera in the motion's world, so that one posed body serves many places."""

    rgb: Float[Tensor, "3 height width"]
    frame: np.ndarray
    """The place alone, (height, width, 3) uint8."""
    depth_m: Float[Tensor, "1 height width"] | None
    """None where nothing in the place can hide the person."""
    camera: Camera
    gain: Float[Tensor, 3] | None
    shadow: ShadowLight | None

    @staticmethod
    def of(
        background: Background,
        T_world_motion: Float[Tensor, "4 4"],
        *,
        gain: Float[Tensor, 3] | None = None,
        shadow: ShadowLight | None = None,
    ) -> Scene:
        """Set the scene for a motion that is placed by `T_world_motion`."""
        camera = replace(background.camera, T_cam_world=background.camera.T_cam_world @ T_world_motion)
        if shadow is not None:
            toward = T_world_motion[:3, :3].T @ torch.tensor(shadow.to_light)
            x, y, z = toward.tolist()
            shadow = replace(shadow, to_light=(x, y, z))
        depth_m = background.depth_m if bool(torch.isfinite(background.depth_m).any()) else None
        return Scene(background.rgb, to_uint8(background.rgb), depth_m, camera, gain, shadow)

    def draw(self, gaussians: Gaussians, clock: StageClock) -> tuple[np.ndarray, Tensor, tuple[int, int]]:
        """One frame (height, width, 3) uint8, the coverage (h, w) of the person's window, and its (top, left)."""
        frame = self.frame.copy()
        person = _window(gaussians.means[::8], self.camera, _REACH_M)
        if person.empty:
            return frame, torch.zeros(0, 0), (0, 0)
        cast = None if self.shadow is None else cast_shadow(gaussians, self.shadow)
        shaded = person if cast is None else _window(cast.means, self.camera, 3.0 * float(cast.scales[:, 0].median()))
        touched = person.joined(shaded)
        canvas = self.rgb[:, touched.rows, touched.columns].clone()
        if cast is not None and not shaded.empty:
            with clock.stage("shadow"):
                self._shade(shaded.of(canvas, touched), cast, shaded)
        with clock.stage("rasterize"):
            render = rasterize(gaussians, self.camera.cropped(person.top, person.left, person.size_hw))
        with clock.stage("compose"):
            depth_m = None if self.depth_m is None else self.depth_m[:, person.rows, person.columns]
            picture = person.of(canvas, touched)
            picture.copy_(composite(self._lit(render), picture, depth_m)[0])
            frame[touched.rows, touched.columns] = to_uint8(canvas)
        return frame, render.alpha[0, 0], (person.top, person.left)

    def _lit(self, render: Render) -> Render:
        """The person in the place's light."""
        if self.gain is None:
            return render
        return Render(torch.minimum(render.rgb * self.gain[:, None, None], render.alpha), render.alpha, render.depth_m)

    def _shade(self, picture: Float[Tensor, "3 height width"], cast: Gaussians, window: _Window) -> None:
        """Darken the place by the shadow, in place. The shadow is soft, so it is rasterized at a quarter size."""
        assert self.shadow is not None
        small_hw = tuple(max(-(-side // _SHADOW_STEP), 1) for side in window.size_hw)
        camera = self.camera.cropped(window.top, window.left, window.size_hw).resized((small_hw[0], small_hw[1]))
        coverage = rasterize(cast, camera).alpha
        coverage = torch.nn.functional.interpolate(coverage, window.size_hw, mode="bilinear", align_corners=False)
        picture.copy_(shade(picture, coverage[0], strength=self.shadow.strength))


@dataclass(frozen=True, slots=True)
class _Window:
    """A rectangle of pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def empty(self) -> bool:
        return min(self.size_hw) < 1

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)

    def joined(self, other: _Window) -> _Window:
        """The smallest window that holds both."""
        if other.empty:
            return self
        low, high = (min(self.top, other.top), min(self.left, other.left)), (self.bottom, self.right)
        return _Window(*low, max(high[0], other.bottom), max(high[1], other.right))

    def of(self, canvas: Tensor, outer: _Window) -> Tensor:
        """The window's part (a view) of a canvas that covers `outer`."""
        top, left = self.top - outer.top, self.left - outer.left
        return canvas[:, top : top + self.size_hw[0], left : left + self.size_hw[1]]


def _window(points: Float[Tensor, "points 3"], camera: Camera, reach_m: float) -> _Window:
    """The part of the image that points and `reach_m` around them cover."""
    seen = camera.to_camera(points)
    front = seen[seen[:, 2] > 0.05]
    if len(front) == 0:
        return _Window(0, 0, 0, 0)
    scale = camera.K[0, 0] / front[:, 2]
    center = front[:, :2] * scale[:, None] + camera.K[:2, 2]
    reach = (reach_m * scale)[:, None] + 2.0
    low, high = (center - reach).amin(0).floor().tolist(), (center + reach).amax(0).ceil().tolist()
    height, width = camera.size_hw
    left, right = (int(min(max(v, 0), width)) for v in (low[0], high[0]))
    top, bottom = (int(min(max(v, 0), height)) for v in (low[1], high[1]))
    return _Window(top, left, bottom, right)
