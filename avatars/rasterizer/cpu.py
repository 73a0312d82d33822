"""Gaussians + camera -> image on the CPU: gives the tensors to our C++ (csrc/) and gradients to autograd."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.errors import InputError
from avatars.kernels.extension import empty, empty_bytes, extension, of_frame
from avatars.kernels.threads import kernel_threads
from avatars.rasterizer.render import Render
from avatars.rasterizer.scene import CULL_COSINE, Scene

_Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, "Tensor | None"]
"""means, quats, scales, opacities, colors, T_cam_world, K (all with a dimension of frames), background; contiguous."""


def rasterize_cpu(scene: Scene, threads: int | None = None) -> Render:
    """Draw all frames of a float32 scene; see `rasterize`."""
    g = scene.gaussians
    if g.means.dtype != torch.float32:
        raise InputError(
            f"The cpu rasterizer takes float32; found {g.means.dtype}. Convert with `.float()`, or take "
            'implementation="reference".'
        )
    if threads is None:
        threads = kernel_threads()
    elif threads < 1:
        raise InputError(f"threads must be at least 1; found {threads}.")
    scene.check_camera()
    tensors = (g.means, g.quats, g.scales, g.opacities, g.colors, scene.T_cam_world, scene.K, scene.background)
    return Render(*_Rasterization.apply(scene, threads, *tensors))


def frame_bytes(
    render: Render, background: Float[Tensor, "3 height width"], frame: int = 0
) -> UInt8[np.ndarray, "height width 3"]:
    """A frame laid over a background, as 8-bit RGB. `render` is one without a background.

    Raises InputError unless all is float32 on the CPU, three channels, of one size.
    """
    background = background.contiguous()
    height, width = background.shape[1:]
    for name, tensor in (("background", background), ("render", render.rgb)):
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tensor.shape[-3:] != (3, height, width):
            raise InputError(
                f"Bytes are made of float32 on the CPU, (3, {height}, {width}) like the background; {name} is "
                f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}."
            )
    out = empty_bytes((height, width, 3))
    rgb, alpha = render.rgb[frame].contiguous(), render.alpha[frame].contiguous()
    extension().lay_over(rgb, alpha, background, out, kernel_threads())
    return out


class _Rasterization(torch.autograd.Function):
    """One autograd node for all frames."""

    @staticmethod
    def forward(ctx: Any, scene: Scene, threads: int, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        cpu = extension()
        tensors: _Tensors = tuple(None if t is None else t.detach().contiguous() for t in inputs)  # type: ignore
        options = (
            *scene.size_hw,
            scene.near_plane,
            scene.far_plane,
            scene.eps2d,
            scene.alpha_threshold,
            CULL_COSINE if scene.cull_backfaces else 2.0,
        )
        height, width = scene.size_hw
        images = tuple(empty((scene.frames, c, height, width)) for c in (scene.channels, 1, 1))
        wants_gradient = any(ctx.needs_input_grad)
        drawings = [cpu.Drawing() for _ in range(scene.frames if wants_gradient else 1)]
        for frame in range(scene.frames):
            planes = (image[frame] for image in images)
            drawing = drawings[frame % len(drawings)]
            if not drawing.draw(_frame(cpu, tensors, options, frame), *planes, threads):
                scene.check_finite()
        if wants_gradient:
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(*images, *tensors)
            ctx.options, ctx.threads, ctx.drawings = options, threads, drawings
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *image_gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        cpu = extension()
        images, tensors = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        wanted = ctx.needs_input_grad[2:]
        arriving = [None if v is None else v.contiguous() for v in image_gradients]
        gradients = [empty(t.shape) if w else None for t, w in zip(tensors[:5], wanted, strict=False)]
        pose = torch.empty(len(ctx.drawings), 3, 4) if wanted[5] else None
        for frame, drawing in enumerate(ctx.drawings):
            wanted_here = [
                part for g in gradients for part in (of_frame(g, frame), frame > 0 and g is not None and len(g) == 1)
            ]
            drawing.backward(
                _frame(cpu, tensors, ctx.options, frame),
                *(image[frame] for image in images),
                *(of_frame(v, frame) for v in arriving),
                *wanted_here,
                of_frame(pose, frame),
                ctx.threads,
            )
        background = _background_gradient(images[1], arriving[0]) if wanted[7] else None
        return None, None, *gradients, _pose_gradient(pose, tensors[5]), None, background


def _frame(cpu: ModuleType, tensors: _Tensors, options: tuple, frame: int) -> Any:
    means, quats, scales, opacities, colors, T_cam_world, K, background = tensors
    gaussians = (of_frame(t, frame) for t in (means, quats, scales, opacities, colors))
    return cpu.Frame(*gaussians, background, of_frame(K, frame), of_frame(T_cam_world, frame), *options)


def _pose_gradient(pose: Tensor | None, T_cam_world: Tensor) -> Tensor | None:
    """Frames' gradients of rotation (9) and translation (3), one after the other, as those of 4x4 matrices."""
    if pose is None:
        return None
    flat = pose.reshape(-1, 12)
    if len(T_cam_world) == 1:
        flat = flat.sum(0, keepdim=True)
    gradient = torch.zeros_like(T_cam_world)
    gradient[:, :3, :3] = flat[:, :9].reshape(-1, 3, 3)
    gradient[:, :3, 3] = flat[:, 9:]
    return gradient


def _background_gradient(alpha: Tensor, rgb_gradient: Tensor | None) -> Tensor | None:
    return None if rgb_gradient is None else ((1.0 - alpha) * rgb_gradient).sum((0, 2, 3))
