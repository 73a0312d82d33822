"""Gaussians + camera -> image on an NVIDIA GPU, by gsplat (Ye et al. 2024), whose first call builds kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avatars.errors import BackendMissing, InputError
from avatars.rasterizer.reference import faces_camera
from avatars.rasterizer.render import Render
from avatars.rasterizer.scene import Scene

_GSPLAT_ALPHA_THRESHOLD = 1.0 / 255.0


def rasterize_cuda(scene: Scene) -> Render:
    """Draw all frames; see `rasterize`. gsplat fixes the alpha threshold at 1/255 and computes in float32."""
    if not torch.cuda.is_available():
        raise BackendMissing(
            "The cuda rasterizer needs an NVIDIA GPU that PyTorch can use (torch.cuda.is_available() is False here). "
            "Move the tensors to the CPU with `.to('cpu')`."
        )
    if abs(scene.alpha_threshold - _GSPLAT_ALPHA_THRESHOLD) > 1e-6:
        raise InputError(f"The cuda rasterizer has a fixed alpha_threshold of 1/255; found {scene.alpha_threshold}.")
    if scene.gaussians.means.dtype != torch.float32:
        raise InputError(f"The cuda rasterizer takes float32; found {scene.gaussians.means.dtype}. Use `.float()`.")
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise BackendMissing(
            "The cuda rasterizer is gsplat, which is not installed: pip install 'splat-avatars[cuda]'"
        ) from error
    scene.check_finite()
    if len(scene.gaussians) == 0:
        return _empty(scene)
    image, alpha, _ = rasterization(**gsplat_arguments(scene))
    # (frames, 1 camera, height, width, channels + depth) -> (frames, channels, height, width)
    image, alpha = image[:, 0].movedim(-1, 1), alpha[:, 0].movedim(-1, 1)
    rgb, depth_m = image[:, :-1], image[:, -1:]
    if scene.background is not None:
        rgb = rgb + (1.0 - alpha) * scene.background[:, None, None]
    return Render(rgb, alpha, torch.where(alpha > 0, depth_m, torch.inf))


def gsplat_arguments(scene: Scene) -> dict[str, Any]:
    """The keywords of `gsplat.rasterization` (1.5): frames are its batch dimension, each seen by one camera."""
    height, width = scene.size_hw
    g = scene.gaussians

    def per_frame(tensor: Tensor) -> Tensor:
        return tensor.expand(scene.frames, *tensor.shape[1:]).contiguous()

    opacities = per_frame(g.opacities)
    if scene.cull_backfaces:
        faces = faces_camera(g.means, g.quats, scene.T_cam_world[:, None])
        opacities = torch.where(faces, opacities, 0.0)
    return {
        "means": per_frame(g.means),
        "quats": per_frame(g.quats),
        "scales": per_frame(g.scales),
        "opacities": opacities,
        "colors": per_frame(g.colors),
        "viewmats": per_frame(scene.T_cam_world)[:, None],
        "Ks": per_frame(scene.K)[:, None],
        "width": width,
        "height": height,
        "near_plane": scene.near_plane,
        "far_plane": scene.far_plane,
        "eps2d": scene.eps2d,
        "packed": False,
        "render_mode": "RGB+ED",
    }


def _empty(scene: Scene) -> Render:
    height, width = scene.size_hw
    alpha = scene.K.new_zeros(scene.frames, 1, height, width)
    rgb = alpha.expand(-1, scene.channels, -1, -1)
    if scene.background is not None:
        rgb = rgb + scene.background[:, None, None]
    return Render(rgb, alpha, torch.full_like(alpha, torch.inf))
