"""An avatar and the motion that it was filmed in; in how many frames each Gaussian was seen out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatars.avatar import Avatar
from avatars.body.motion import Motion
from avatars.fitting.color_init import DEPTH_TOLERANCE_M
from avatars.geometry.camera import Camera
from avatars.io.mask_stack import MaskStack
from avatars.rasterizer import rasterize
from avatars.viewing.rendering import framing_camera, rest_motion

LEAST_COSINE = 0.15
"""Surface seen at a flatter angle than this does not count as seen."""
UNSEEN_RGB = (0.86, 0.12, 0.55)
RARELY_RGB, OFTEN_RGB = (0.16, 0.22, 0.45), (0.98, 0.86, 0.35)


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """How often the frames looked at show each Gaussian."""

    count: Int[Tensor, " n"]
    frames: int

    @property
    def share_seen(self) -> float:
        """Share of the Gaussians that at least one frame shows."""
        return float((self.count > 0).float().mean())

    def colors(self) -> Float[Tensor, "n 3"]:
        """Pink where no frame saw the Gaussian; dark blue (one frame) to yellow (half of the frames or more)."""
        share = (self.count.float() / max(0.5 * self.frames, 1)).clamp(0, 1)[:, None]
        seen = torch.tensor(RARELY_RGB) * (1 - share) + torch.tensor(OFTEN_RGB) * share
        return torch.where(self.count[:, None] > 0, seen, torch.tensor(UNSEEN_RGB))


@torch.no_grad()
def coverage_of(
    avatar: Avatar, motion: Motion, camera: Camera, masks: MaskStack | Tensor, frames: Int[np.ndarray, " frames"]
) -> Coverage:
    """Count the frames of `motion` in which each Gaussian faces the camera, is not hidden, and lies in the mask.

    `frames` are the rows of `masks` that belong to the motion's frames. Depth is drawn at half the resolution.
    """
    small = camera.resized((max(camera.size_hw[0] // 2, 1), max(camera.size_hw[1] // 2, 1)))
    count = torch.zeros(len(avatar), dtype=torch.long)
    for i, frame in enumerate(np.asarray(frames).tolist()):
        mask = masks[frame].float() / 255
        count += _seen(avatar, motion[i : i + 1], small, mask)
    return Coverage(count, len(motion))


def _seen(avatar: Avatar, motion: Motion, camera: Camera, mask: Float[Tensor, "height width"]) -> Tensor:
    posed = avatar.body.pose(motion.poses, avatar.betas, motion.transl, motion.expression)
    normals = avatar.points(posed).normals[0].t()
    gaussians = avatar.posed_with(posed)
    depth = rasterize(gaussians, camera).depth_m[0, 0]
    depth = torch.where(depth.isfinite(), depth, 0.0)
    means = gaussians.means[0]
    in_camera = camera.to_camera(means)
    size = torch.tensor([camera.size_hw[1], camera.size_hw[0]])
    grid = (2 * camera.project(means) / size - 1)[None, None]
    surface = F.grid_sample(depth[None, None], grid, mode="nearest", align_corners=False)[0, 0, 0]
    inside = F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0, 0]
    towards = F.normalize(in_camera, dim=-1)
    cosine = -(towards * (normals @ camera.T_cam_world[:3, :3].t())).sum(-1)
    return (in_camera[:, 2] < surface + DEPTH_TOLERANCE_M) & (cosine > LEAST_COSINE) & (inside > 0.5)


@torch.no_grad()
def draw_coverage(avatar: Avatar, coverage: Coverage, size_px: int = 360) -> list[np.ndarray]:
    """The standing avatar in the colors of `Coverage.colors` from the front, its left, the back and its right."""
    motion = rest_motion(avatar)
    turns = [0.0, np.pi / 2, np.pi, 1.5 * np.pi]
    cameras = framing_camera(avatar, motion, (size_px, size_px), turns_rad=turns)
    posed = avatar.body.pose(motion.poses, avatar.betas, motion.transl)
    normals = F.normalize(avatar.points(posed).normals[0].t(), dim=-1)
    gaussians = avatar.posed_with(posed)
    pictures = []
    for T_cam_world in cameras.T_cam_world:
        camera = replace(cameras, T_cam_world=T_cam_world)
        facing = -(normals @ camera.T_cam_world[2, :3]).clamp(-1, 0)
        colors = coverage.colors() * (0.55 + 0.45 * facing)[:, None]
        image = rasterize(replace(gaussians, colors=colors), camera, background=torch.ones(3)).rgb[0]
        pictures.append((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    return pictures
