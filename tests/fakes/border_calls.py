"""Calls of every function of our C++ with arrays that are as they must be, and with ones that are not.

Run as a program it makes all the bad calls and prints what came of each as JSON, so that a crash ends that process
alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatars.kernels.extension import extension

Arguments = dict[str, Any]
N, FRAMES, JOINTS, CHANNELS, HEIGHT, WIDTH, ANCHORS, SPHERES, K_NEAR = 37, 3, 5, 4, 18, 23, 11, 6, 3
PARENTS = torch.tensor([-1, 0, 1, 1, 2], dtype=torch.int32)


def _frame() -> Arguments:
    K = torch.tensor([[20.0, 0, WIDTH / 2], [0, 20.0, HEIGHT / 2], [0, 0, 1]])
    T = torch.eye(4)
    T[2, 3] = 2.0
    return {
        "means": torch.randn(N, 3), "quats": torch.randn(N, 4), "scales": torch.rand(N, 3), "opacities": torch.rand(N),
        "colors": torch.rand(N, CHANNELS), "background": torch.rand(CHANNELS), "K": K, "T_cam_world": T,
        "height": HEIGHT, "width": WIDTH, "near_plane": 0.01, "far_plane": 1e9, "eps2d": 0.3, "alpha_threshold": 0.004,
        "cull_cosine": 2.0,
    }  # fmt: skip


def _images(prefix: str = "") -> Arguments:
    channels = {"rgb": CHANNELS, "alpha": 1, "depth": 1}
    return {prefix + name: torch.rand(count, HEIGHT, WIDTH) for name, count in channels.items()}


def _draw() -> Arguments:
    return {"frame": extension().Frame(**_frame()), **_images(), "threads": 2}


def _backward() -> Arguments:
    fields = {"means": (N, 3), "quats": (N, 4), "scales": (N, 3), "opacities": (N,), "colors": (N, CHANNELS)}
    gradients = {}
    for name, shape in fields.items():
        gradients |= {f"v_{name}": torch.zeros(shape), f"add_{name}": True}
    images, pose = _images() | _images("v_"), torch.zeros(3, 4)
    return {"frame": extension().Frame(**_frame()), **images, **gradients, "v_pose": pose, "threads": 2}


def _points() -> Arguments:
    begins = torch.arange(0, 2 * N + 1, 2, dtype=torch.int32)
    moved_by = (torch.arange(2 * N) % JOINTS).to(torch.uint8)
    joints, rest = torch.randn(FRAMES, JOINTS, 16), torch.randn(FRAMES, N, 3)
    return {
        "joints": joints, "begins": begins, "moved_by": moved_by, "weights": torch.rand(2 * N), "rest": rest,
        "quats": torch.randn(N, 4), "normals": torch.randn(N, 3),
    }  # fmt: skip


def _skin() -> Arguments:
    means, turned, normals = torch.zeros(FRAMES, N, 3), torch.zeros(FRAMES, N, 4), torch.zeros(FRAMES, 3, N)
    return {**_points(), "means": means, "turned": turned, "turned_normals": normals, "threads": 2}


def _skin_backward() -> Arguments:
    return {
        **_points(), "v_means": torch.randn(FRAMES, N, 3), "v_turned": torch.randn(FRAMES, N, 4),
        "v_joints": torch.zeros(FRAMES, JOINTS, 16), "v_rest": torch.zeros(FRAMES, N, 3), "v_quats": torch.zeros(N, 4),
        "threads": 2,
    }  # fmt: skip


def _light() -> Arguments:
    return {
        "normals": torch.randn(FRAMES, 3, N), "light": torch.randn(8, 3), "exposure": torch.randn(FRAMES, 3),
        "shadow": -torch.rand(FRAMES, N), "albedo": torch.rand(N, 3),
    }  # fmt: skip


def _shade_backward() -> Arguments:
    sums = {"v_albedo": torch.zeros(N, 3), "v_light": torch.zeros(FRAMES, 9, 3)}
    return {**_light(), "v_colors": torch.randn(FRAMES, N, 3), **sums, "threads": 2}


def _self_shadow() -> Arguments:
    return {
        "points": torch.randn(FRAMES, 3, ANCHORS), "normals": torch.randn(FRAMES, 3, ANCHORS),
        "centers": torch.randn(FRAMES, SPHERES, 3), "radii_m": torch.rand(SPHERES),
        "hides": torch.ones(SPHERES, ANCHORS), "light": torch.randn(8), "strength": 0.7, "brightest": 4.0, "most": 0.9,
        "out": torch.zeros(FRAMES, ANCHORS), "threads": 2,
    }  # fmt: skip


def _spread() -> Arguments:
    near = torch.randint(0, ANCHORS, (N, 3), dtype=torch.int32)
    near[0, 0] = ANCHORS - 1
    values, share = torch.rand(FRAMES, ANCHORS), torch.rand(N, 3)
    return {"values": values, "near": near, "share": share, "out": torch.zeros(FRAMES, N), "threads": 2}


def _relight() -> Arguments:
    return {
        "quats": torch.randn(N, 4), "local": torch.randn(N, 3), "colors": torch.rand(N, 3), "light": torch.rand(23),
        "out": torch.zeros(N, 3), "threads": 2,
    }  # fmt: skip


def _grain() -> Arguments:
    scale = torch.full((256,), 32, dtype=torch.int32)
    pixels, bank = torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8), torch.arange(7, dtype=torch.int16)
    return {"bytes": pixels, "bank": bank, "start": 5, "scale": scale, "threads": 2}


def _joints() -> Arguments:
    return {
        "axis_angles": torch.randn(FRAMES, JOINTS, 3), "rest": torch.randn(FRAMES, JOINTS, 3),
        "transl": torch.randn(FRAMES, 3), "parents": PARENTS.clone(),
    }  # fmt: skip


def _placed(prefix: str = "") -> Arguments:
    places = torch.randn(FRAMES, JOINTS, 3)
    return {f"{prefix}transforms": torch.randn(FRAMES, JOINTS, 3, 4), f"{prefix}places": places}


def _place_joints_backward() -> Arguments:
    gradients = {name: torch.zeros(FRAMES, JOINTS, 3) for name in ("v_axis_angles", "v_rest")}
    return {**_joints(), **_placed(), **_placed("v_"), **gradients, "v_transl": torch.zeros(FRAMES, 3)}


def _quaternions() -> Arguments:
    transforms, q = torch.randn(FRAMES, JOINTS, 3, 4), torch.zeros(FRAMES, JOINTS, 4)
    return {"transforms": transforms, "parents": PARENTS.clone(), "quaternions": q}


def _quaternions_backward() -> Arguments:
    transforms, v_transforms = torch.randn(FRAMES, JOINTS, 3, 4), torch.zeros(FRAMES, JOINTS, 3, 4)
    q, v_q = torch.randn(FRAMES, JOINTS, 4), torch.randn(FRAMES, JOINTS, 4)
    return {"transforms": transforms, "quaternions": q, "v_quaternions": v_q, "v_transforms": v_transforms}


def _even_steps() -> Arguments:
    numbers = 3 * JOINTS + 3
    return {
        **_placed(), "axis_angles": torch.randn(FRAMES, JOINTS, 3), "points": torch.randn(N, 3),
        "weights": torch.rand(N, JOINTS), "shares": torch.rand(N, JOINTS),
        "T_cam_world": torch.eye(4).repeat(FRAMES, 1, 1), "stiffness": torch.eye(3).repeat(FRAMES, 2, 1, 1),
        "finger_stiffness": 50.0, "first_finger": 3, "gradients": torch.randn(FRAMES, numbers),
        "steps": torch.zeros(FRAMES, numbers), "lengths": torch.zeros(FRAMES), "threads": 2,
    }  # fmt: skip


def _step_adam() -> Arguments:
    tensors = {name: torch.rand(N, 3) for name in ("values", "gradient", "first", "second")}
    return {**tensors, "beta1": 0.9, "beta2": 0.99, "rate": 0.1, "spread": 1.0, "epsilon": 1e-8, "threads": 2}


def _image_loss() -> Arguments:
    rgb, alpha = torch.rand(FRAMES, 3, HEIGHT, WIDTH), torch.rand(FRAMES, 1, HEIGHT, WIDTH)
    planes = torch.randint(0, 256, (FRAMES, 11, HEIGHT, WIDTH), dtype=torch.uint8)
    return {
        "rgb": rgb, "alpha": alpha, "planes": planes, "fill": torch.rand(FRAMES, 3), "over_plate": True, "shift_y": 1,
        "shift_x": 2, "ssim_weight": 0.2, "mask_weight": 0.1, "v_rgb": torch.zeros_like(rgb),
        "v_alpha": torch.zeros_like(alpha), "threads": 2,
    }  # fmt: skip


def _add_ties() -> Arguments:
    tied = torch.randint(0, N, (N, K_NEAR))
    begins = torch.zeros(N + 1, dtype=torch.int32)
    begins[1:] = torch.bincount(tied.reshape(-1), minlength=N).cumsum(0)
    tied_by = (torch.argsort(tied.reshape(-1), stable=True) // K_NEAR).int()
    values = {"offsets": torch.randn(N, 3), "log_scales": torch.randn(N, 3), "colors": torch.rand(N, 3)}
    values["quats"] = torch.randn(N, 4)
    gradients = {f"v_{name}": torch.zeros_like(value) for name, value in values.items()}
    return {
        "neighbors": tied.int(), "begins": begins, "tied_by": tied_by, "spacing_m": torch.rand(N) + 0.1,
        "widest": torch.randn(N), "weights": torch.rand(N, 9), "pull": torch.rand(N, 1), "rest": torch.randn(N, 3),
        "flat": torch.rand(N), "normals": torch.randn(N, 3), "shrink": 0.1, "times": 1.0, **values, **gradients,
        "threads": 2,
    }  # fmt: skip


def _lay_over() -> Arguments:
    planes = {name: torch.rand(count, HEIGHT, WIDTH) for name, count in (("rgb", 3), ("alpha", 1), ("background", 3))}
    return {**planes, "out": torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8), "threads": 2}


def _drawn(**arguments: Any) -> None:
    drawing = extension().Drawing()
    assert drawing.draw(**_draw())
    drawing.backward(**arguments)


def _function(name: str) -> Callable[..., Any]:
    return lambda **arguments: getattr(extension(), name)(**arguments)


CALLS: dict[str, tuple[Callable[..., Any], Callable[[], Arguments]]] = {
    "Frame": (_function("Frame"), _frame),
    "Drawing.draw": (lambda **arguments: extension().Drawing().draw(**arguments), _draw),
    "Drawing.backward": (_drawn, _backward),
} | {
    name: (_function(name), arguments)
    for name, arguments in {
        "lay_over": _lay_over,
        "skin": _skin,
        "skin_backward": _skin_backward,
        "shade": lambda: {**_light(), "colors": torch.zeros(FRAMES, N, 3), "threads": 2},
        "shade_backward": _shade_backward,
        "self_shadow": _self_shadow,
        "spread": _spread,
        "relight": _relight,
        "grain": _grain,
        "place_joints": lambda: {**_joints(), **_placed()},
        "place_joints_backward": _place_joints_backward,
        "joint_quaternions": _quaternions,
        "joint_quaternions_backward": _quaternions_backward,
        "even_steps": _even_steps,
        "step_adam": _step_adam,
        "image_loss": _image_loss,
        "add_ties": _add_ties,
    }.items()
}
"""What calls each function of the module, and arguments that it takes."""

OPTIONAL = {
    "Frame": {"background"}, "shade": {"shadow"}, "shade_backward": {"shadow"}, "relight": {"local"},
    "place_joints": {"transl"}, "place_joints_backward": {"transl"},
    "Drawing.backward": {
        "v_rgb", "v_alpha", "v_depth", "v_means", "v_quats", "v_scales", "v_opacities", "v_colors", "v_pose"
    },
}  # fmt: skip
MAY_BE = {
    ("grain", "bytes"): {"more dimensions", "longer 0", "shorter 0", "longer 1", "shorter 1", "longer 2", "shorter 2",
                         "empty 0", "empty 1", "empty 2", "fewer dimensions"},
    ("grain", "bank"): {"longer 0", "shorter 0"}, ("spread", "values"): {"longer 1"}, ("skin", "joints"): {"longer 1"},
    ("relight", "colors"): {"longer 1"}, ("even_steps", "stiffness"): {"longer 1", "shorter 1"},
}  # fmt: skip
"""What is not as in the example and good, since nothing else has to agree with it."""


def bad_arrays(function: str, name: str, good: Tensor) -> Iterator[tuple[str, str, Any]]:
    """What can be wrong with an array: its name, whether "type" or "size" is, and the array."""
    other = torch.float64 if good.is_floating_point() else torch.int64
    yield "other dtype", "type", good.to(other)
    yield "half as many bytes", "type", good.to(torch.float16 if good.is_floating_point() else torch.int8)
    yield "every second number", "type", torch.stack([good, good], -1)[..., 0]
    yield "another device", "type", good.to("meta")
    yield "a list", "type", good.tolist()
    yield "an address", "type", good.data_ptr()
    odd = np.frombuffer(b"\0" * (good.nbytes + 1), np.uint8)[1:].view(good.numpy().dtype).reshape(good.shape)
    if good.element_size() > 1:
        yield "between words", "type", odd
    if name not in OPTIONAL.get(function, set()):
        yield "None", "type", None
    yield "more dimensions", "size", good[None]
    yield "fewer dimensions", "size", good[0]
    for axis in range(good.ndim):
        yield f"longer {axis}", "size", torch.cat([good, good.narrow(axis, 0, 1)], axis).contiguous()
        if good.shape[axis] > 1:
            yield f"shorter {axis}", "size", good.narrow(axis, 0, good.shape[axis] - 1).contiguous()
        yield f"empty {axis}", "size", good.narrow(axis, 0, 0).contiguous()


def outcome(call: Callable[..., Any], arguments: Arguments) -> str:
    """The name of the exception and its first words, or "took it"."""
    try:
        call(**arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "took it"


def main() -> None:
    """Make every bad call."""
    torch.manual_seed(0)
    found: list[list[str]] = []
    for function, (call, make) in CALLS.items():
        for name, good in make().items():
            if not isinstance(good, Tensor):
                continue
            for what, kind, bad in bad_arrays(function, name, good):
                if what not in MAY_BE.get((function, name), set()):
                    found.append([function, name, what, kind, outcome(call, make() | {name: bad})])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
