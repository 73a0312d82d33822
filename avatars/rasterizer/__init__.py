"""Gaussians + camera -> Render: one signature, three implementations (reference, CPU, CUDA)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.rasterizer.gaussians import Gaussians
from avatars.rasterizer.render import Render
from avatars.rasterizer.scene import Scene

__all__ = ["PIXEL_VARIANCE", "Render", "rasterize"]

PIXEL_VARIANCE = 0.1
"""Of a pixel's own width, px² (Yu et al. 2024, Mip-Splatting). With gsplat's 0.3 silhouettes are drawn wider and softer
than cameras show them: a fit with it scores half a decibel lower."""


def rasterize(
    gaussians: Gaussians,
    camera: Camera,
    *,
    background: Tensor | None = None,
    extra: Tensor | None = None,
    cull_backfaces: bool = False,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = PIXEL_VARIANCE,
    alpha_threshold: float = 1.0 / 255.0,
    implementation: Literal["auto", "reference", "cpu", "cuda"] = "auto",
    threads: int | None = None,
) -> Render:
    """Draw Gaussians as a camera sees them; keywords mean what they mean in `gsplat.rasterization`.

    The many keywords stand side by side, in no container, because they are that function's: what calls gsplat can call
    this.

    One default differs: `eps2d`, added to each Gaussian's variance on the image (px²), is 0.1 here and 0.3 there.

    Fields of `gaussians` and of `camera` may each have a leading dimension of frames; those without are shared by all
    frames. The result always has one (of 1 if nothing had). Colors may have any number of channels; `rgb` then has as
    many, and so must `background` (channels,), which is laid under. Gaussians are sorted by the z of their centers.

    `extra` (n, k) or (frames, n, k) holds further numbers of each Gaussian (normals, a column of ones and zeros per
    body part or person), drawn in the same pass. `cull_backfaces` leaves out those whose third axis points away from
    the camera: half of an opaque body whose Gaussians lie flat in its surface, third axis outward (no such option in
    gsplat).

    "auto" takes the implementation made for the device the tensors are on: "cpu" (C++, float32) or "cuda" (gsplat);
    there is no fallback from one to another. "reference" is plain PyTorch for tiny images, on any device and in any
    dtype. All three give gradients of every Gaussian field, of `camera.T_cam_world` and of `background`; the gradient
    of `camera.K` comes from "reference" alone, and the others refuse a `K` that requires it.

    `threads` bounds the CPU implementation (default: as many as torch takes); the image is the same bit for bit for
    any number. Depth is the mean camera z of what covers the pixel, weighted by how much it does; +inf where alpha
    is 0.

    Raises InputError for NaN or infinity (naming the field), shapes that do not fit, or an unfit implementation, and
    BackendMissing where the implementation is not installed.
    """
    if extra is not None:
        return _with_extra(
            gaussians, camera, background, extra, cull_backfaces=cull_backfaces, near_plane=near_plane,
            far_plane=far_plane, eps2d=eps2d, alpha_threshold=alpha_threshold, implementation=implementation,
            threads=threads,
        )  # fmt: skip
    scene = Scene.checked(
        gaussians,
        camera,
        background,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        alpha_threshold=alpha_threshold,
        cull_backfaces=cull_backfaces,
    )
    return _rasterized(scene, implementation, threads)


def _rasterized(scene: Scene, implementation: str, threads: int | None) -> Render:
    """By the implementation named, if it is fit for the tensors."""
    device = scene.gaussians.means.device.type
    name = device if implementation == "auto" else implementation
    if name == "reference":
        from avatars.rasterizer.reference import rasterize_reference

        return rasterize_reference(scene)
    if name not in ("cpu", "cuda"):
        raise InputError(f"There is no rasterizer {name!r}; take one of auto, reference, cpu, cuda.")
    if name != device:
        raise InputError(
            f"The {name} rasterizer was asked for, but the tensors are on {device}: move one to the other."
        )
    if scene.K.requires_grad:
        raise InputError(
            f"camera.K requires a gradient, which the {name} rasterizer does not give; detach it, or take "
            'implementation="reference".'
        )
    if name == "cuda":
        from avatars.rasterizer.cuda import rasterize_cuda

        return rasterize_cuda(scene)
    from avatars.rasterizer.cpu import rasterize_cpu

    return rasterize_cpu(scene, threads)


def _with_extra(
    gaussians: Gaussians, camera: Camera, background: Tensor | None, extra: Tensor, **options: Any
) -> Render:
    """Extra values are colors that nobody sees: drawn beside the others, over a background of zeros."""
    colors = gaussians.colors
    if extra.ndim not in (2, 3) or extra.shape[-2] != colors.shape[-2] or 0 in extra.shape[:-2]:
        raise InputError(
            f"extra must have shape (n, k) or (frames, n, k) with n = {colors.shape[-2]}; found {tuple(extra.shape)}."
        )
    if extra.dtype != colors.dtype or extra.device != colors.device:
        raise InputError(
            f"extra is {extra.dtype} on {extra.device}, colors {colors.dtype} on {colors.device}; make them alike."
        )
    if colors.ndim == 3 or extra.ndim == 3:
        frames = max(len(t) for t in (colors, extra) if t.ndim == 3)
        colors, extra = colors.expand(frames, -1, -1), extra.expand(frames, -1, -1)
    if background is not None:
        background = torch.cat([background, background.new_zeros(extra.shape[-1])])
    channels = colors.shape[-1]
    both = replace(gaussians, colors=torch.cat([colors, extra], -1))
    render = rasterize(both, camera, background=background, **options)
    return Render(render.rgb[:, :channels], render.alpha, render.depth_m, render.rgb[:, channels:])
