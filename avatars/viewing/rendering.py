"""An avatar, a motion and a camera in; frames out, for looking at: along a motion, or turning on the spot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatars.avatar import Avatar
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.outputs import fresh_file, require_fresh_file
from avatars.io.picture import read_picture
from avatars.io.progress import progress
from avatars.io.video import VideoWriter
from avatars.rasterizer import rasterize
from avatars.rasterizer.cpu import frame_bytes

FOCAL_PER_HEIGHT = 1.6
"""Focal length over the image's height of the cameras made here: a view from a few meters away."""


def framing_camera(
    avatar: Avatar,
    motion: Motion,
    size_hw: tuple[int, int],
    *,
    turns_rad: Sequence[float] = (0.0,),
    margin: float = 1.03,
) -> Camera:
    """Cameras that see the whole motion, one per turn: looking along -Z at its middle, or from so far round to +X."""
    joints = avatar.body.pose(motion.poses, avatar.betas, motion.transl).joints.reshape(-1, 3)
    low, high = joints.amin(0) - 0.15, joints.amax(0) + 0.15
    center = (low + high) / 2
    wide = torch.linalg.vector_norm((high - low)[[0, 2]])
    height, width = size_hw
    focal_px = FOCAL_PER_HEIGHT * height
    needed = torch.maximum((high - low)[1] / height, wide / width) * focal_px
    distance = float(needed) * margin + float(wide) / 2
    cameras = [
        Camera.looking_at(
            center + torch.tensor([math.sin(turn), 0.0, math.cos(turn)]) * distance,
            center,
            focal_px=focal_px,
            size_hw=size_hw,
        )
        for turn in turns_rad
    ]
    return replace(cameras[0], T_cam_world=torch.stack([camera.T_cam_world for camera in cameras]))


def rest_motion(avatar: Avatar, frames: int = 1) -> Motion:
    """The avatar standing still with its arms lowered, feet on the ground."""
    poses = torch.zeros(frames, 55, 3)
    poses[:, JOINT_NAMES.index("left_shoulder"), 2] = -math.radians(50)
    poses[:, JOINT_NAMES.index("right_shoulder"), 2] = math.radians(50)
    transl = torch.zeros(frames, 3)
    transl[:, 1] = -avatar.body.pose(poses[:1], avatar.betas).vertices()[0, :, 1].min()
    return Motion(
        poses=poses,
        transl=transl,
        betas=avatar.betas,
        expression=torch.zeros(frames, avatar.body.n_expression),
        times_s=torch.arange(frames).double() / 30,
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=avatar.body.sha256,
        name="standing",
    )


def render(
    avatar: Avatar,
    motion: Motion,
    path: str | Path,
    *,
    size_px: int = 512,
    background: str = "white",
    turntable: bool = False,
    fps: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> int:
    """Write a square video (.mp4) of the avatar performing a motion. Returns the number of frames.

    `background` is a color or an image file (`read_background`); `turntable` lets the camera go once around; without
    `fps`, frames keep the motion's own times. Frames without a person are left out.
    Raises InputError for an output that exists, an unusable background, or a motion without a person.
    """
    require_fresh_file(Path(path))
    if size_px < 16:
        raise InputError(f"--size {size_px} is too small; take 16 or more.")
    where = chosen_device(device)
    ground = read_background(background, (size_px, size_px))
    if not bool(motion.valid.any()):
        raise InputError(f"The motion {motion.name!r} has no frame with a person in it.")
    motion = motion[motion.valid]
    frames = draw_motion(avatar, motion, (size_px, size_px), ground, turntable=turntable, device=where)
    with fresh_file(Path(path)) as aside, VideoWriter(aside, fps=fps or motion.fps or 30.0) as writer:
        for i, frame in enumerate(progress(frames, "Render", len(motion))):
            writer.write(frame, None if fps else float(motion.times_s[i] - motion.times_s[0]))
    return len(motion)


@torch.no_grad()
def draw_frame(
    avatar: Avatar, motion: Motion, camera: Camera, background: Tensor, *, lit: bool = False
) -> UInt8[np.ndarray, "height width 3"]:
    """One frame (a motion of length 1) over a color (3, 1, 1) or an image (3, height, width)."""
    render = rasterize(avatar.posed(motion, lit=lit, shadowed=True), camera)
    return frame_bytes(render, background.expand(3, *camera.size_hw))


def draw_motion(
    avatar: Avatar,
    motion: Motion,
    size_hw: tuple[int, int],
    background: Tensor,
    *,
    turntable: bool = False,
    device: torch.device | str = "cpu",
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Every frame of a motion, from a camera that sees all of it; with `turntable` the camera goes once around."""
    turns = [2 * math.pi * i / len(motion) for i in range(len(motion))] if turntable else [0.0]
    camera = framing_camera(avatar, motion, size_hw, turns_rad=turns)
    yield from stream_frames(avatar.to(device), motion, camera, background.expand(3, *size_hw))


@torch.no_grad()
def stream_frames(
    avatar: Avatar, motion: Motion, camera: Camera, background: Float[Tensor, "3 height width"], *, batch: int = 16
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The frames of a motion, drawn in batches on the avatar's device.

    On a GPU the next batch is being drawn, and the last one copied to pinned memory, while the caller encodes.
    """
    device = avatar.offsets.device
    background, camera = background.to(device), camera.to(device)
    waiting: _Copy | None = None
    for start in range(0, len(motion), batch):
        some = slice(start, start + batch)
        poses = camera.T_cam_world if len(camera.T_cam_world) == 1 else camera.T_cam_world[some]
        render = rasterize(avatar.posed(motion[some], shadowed=True), replace(camera, T_cam_world=poses))
        if device.type == "cpu":
            yield from (frame_bytes(render, background, i) for i in range(len(render.rgb)))
            continue
        copy = _Copy.begun(render.rgb + (1 - render.alpha) * background)
        if waiting is not None:
            yield from waiting.frames()
        waiting = copy
    if waiting is not None:
        yield from waiting.frames()


@dataclass(frozen=True, slots=True)
class _Copy:
    """Images on their way from a GPU to pinned memory."""

    host: UInt8[Tensor, "frames height width 3"]
    done: torch.cuda.Event

    @staticmethod
    def begun(images: Float[Tensor, "frames 3 height width"]) -> _Copy:
        pixels = (images.clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1).contiguous()
        host = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        host.copy_(pixels, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return _Copy(host, done)

    def frames(self) -> Iterator[np.ndarray]:
        self.done.synchronize()
        yield from self.host.numpy()


def read_background(value: str, size_hw: tuple[int, int]) -> Float[Tensor, "3 height width"]:
    """A color ("white", "#102030") or an image file, cut and scaled to fill the frame.

    Raises InputError when it is neither.
    """
    from PIL import ImageColor, ImageOps

    height, width = size_hw
    if Path(value).is_file():
        picture = ImageOps.fit(read_picture(value, "RGB"), (width, height))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    try:
        color = ImageColor.getrgb(value)[:3]
    except ValueError:
        raise InputError(
            f"Background {value!r} is neither an image file nor a color. Give a path, a name such as white, or #rrggbb."
        ) from None
    return (torch.tensor(color).float() / 255).view(3, 1, 1).expand(3, height, width)


def chosen_device(wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Where to draw. Raises InputError when a GPU is asked for and cannot be used."""
    usable, gsplat = torch.cuda.is_available(), find_spec("gsplat") is not None
    if wanted == "auto":
        return "cuda" if usable and gsplat else "cpu"
    if wanted == "cuda" and not usable:
        raise InputError("--device cuda: PyTorch finds no NVIDIA GPU here. Leave it out, or take --device cpu.")
    if wanted == "cuda" and not gsplat:
        raise InputError("--device cuda needs gsplat: pip install 'splat-avatars[cuda]'")
    return wanted
