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
_SHADOW_STEP = 2
"""The shadow is soft: it is rasterized at half the resolution."""


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
        scene_rgb = self.rgb
        if self.shadow is not None:
            with clock.stage("shadow"):
                scene_rgb = self._shaded(gaussians, frame)
        window = _window(gaussians.means[::8], self.camera, _REACH_M)
        rows, columns = window
        top, left, size_hw = rows.start, columns.start, (rows.stop - rows.start, columns.stop - columns.start)
        if min(size_hw) < 1:
            return frame, torch.zeros(0, 0), (0, 0)
        with clock.stage("rasterize"):
            render = rasterize(gaussians, self.camera.cropped(top, left, size_hw))
        with clock.stage("compose"):
            if self.gain is not None:
                lit = torch.minimum(render.rgb * self.gain[:, None, None], render.alpha)
                render = Render(lit, render.alpha, render.depth_m)
            depth_m = None if self.depth_m is None else self.depth_m[:, rows, columns]
            picture = composite(render, scene_rgb[:, rows, columns], depth_m)
            frame[rows, columns] = to_uint8(picture.reshape(3, *size_hw))
            alpha = render.alpha.reshape(size_hw)
        return frame, alpha, (top, left)

    def _shaded(self, gaussians: Gaussians, frame: np.ndarray) -> Tensor:
        """The place with the person's shadow on its ground; also drawn into `frame`."""
        assert self.shadow is not None
        cast = cast_shadow(gaussians, self.shadow)
        reach_m = 3.0 * float(cast.scales[:, 0].quantile(0.9))
        rows, columns = _window(cast.means, self.camera, reach_m)
        size_hw = (rows.stop - rows.start, columns.stop - columns.start)
        if min(size_hw) < _SHADOW_STEP:
            return self.rgb
        small_hw = (-(-size_hw[0] // _SHADOW_STEP), -(-size_hw[1] // _SHADOW_STEP))
        camera = self.camera.cropped(rows.start, columns.start, size_hw).resized(small_hw)
        coverage = rasterize(cast, camera).alpha.reshape(1, 1, *small_hw)
        coverage = torch.nn.functional.interpolate(coverage, size_hw, mode="bilinear", align_corners=False)[0]
        shaded = self.rgb.clone()
        shaded[:, rows, columns] = shade(self.rgb[:, rows, columns], coverage, strength=self.shadow.strength)
        frame[rows, columns] = to_uint8(shaded[:, rows, columns])
        return shaded


def _window(points: Float[Tensor, "points 3"], camera: Camera, reach_m: float) -> tuple[slice, slice]:
    """Rows and columns of the image that points and `reach_m` around them cover."""
    seen = camera.to_camera(points)
    front = seen[seen[:, 2] > 0.05]
    if len(front) == 0:
        return slice(0, 0), slice(0, 0)
    scale = camera.K[0, 0] / front[:, 2]
    center = front[:, :2] * scale[:, None] + camera.K[:2, 2]
    reach = (reach_m * scale)[:, None] + 2.0
    low, high = (center - reach).amin(0).floor(), (center + reach).amax(0).ceil()
    height, width = camera.size_hw
    left, right = (int(v.clamp(0, width)) for v in (low[0], high[0]))
    top, bottom = (int(v.clamp(0, height)) for v in (low[1], high[1]))
    return slice(top, bottom), slice(left, right)
