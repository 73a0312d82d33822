"""Gaussians + camera -> Render: one signature, three implementations (reference, CPU, CUDA)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..camera import Camera
from ..errors import InputError
from ..gaussians import Gaussians
from .render import Render
from .scene import Scene

__all__ = ["Render", "rasterize"]


def rasterize(
    gaussians: Gaussians,
    camera: Camera,
    *,
    background: Tensor | None = None,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    alpha_threshold: float = 1.0 / 255.0,
    implementation: Literal["auto", "reference", "cpu", "cuda"] = "auto",
    threads: int | None = None,
) -> Render:
    """Draw Gaussians as a camera sees them; keywords mean what they mean in `gsplat.rasterization`.

    Fields of `gaussians` and of `camera` may each have a leading dimension of frames; those without are shared by all
    frames. The result always has one (of 1 if nothing had). Colors may have any number of channels; `rgb` then has as
    many, and so must `background` (channels,), which is laid under. Gaussians are sorted by the z of their centers.

    "auto" takes the implementation made for the device the tensors are on: "cpu" (C++, float32) or "cuda" (gsplat);
    there is no fallback from one to another. "reference" is plain PyTorch for tiny images, on any device and in any
    dtype. All three give gradients of every Gaussian field, of `camera.T_cam_world` and of `background`; the gradient
    of `camera.K` comes from "reference" alone, and the others refuse a `K` that requires it.

    `threads` bounds the CPU implementation (default: `torch.get_num_threads()`); the image is the same bit for bit for
    any number. Depth is the mean camera z of what covers the pixel, weighted by how much it does; +inf where alpha
    is 0.

    Raises InputError for NaN or infinity (naming the field), shapes that do not fit, or an unfit implementation, and
    BackendMissing where the implementation is not installed.
    """
    scene = Scene.checked(
        gaussians,
        camera,
        background,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        alpha_threshold=alpha_threshold,
    )
    device = gaussians.means.device.type
    name = device if implementation == "auto" else implementation
    if name == "reference":
        from .reference import rasterize_reference

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
        from .cuda import rasterize_cuda

        return rasterize_cuda(scene)
    from .cpu import rasterize_cpu

    return rasterize_cpu(scene, threads)
