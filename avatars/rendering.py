"""An avatar, a motion and a camera in; frames out, for looking at: along a motion, or turning on the spot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatars.avatar import Avatar
from avatars.body import JOINT_NAMES
from avatars.camera import Camera
from avatars.errors import InputError
from avatars.motion import Motion
from avatars.rasterizer import rasterize
from avatars.rasterizer.cpu import frame_bytes

FOCAL_PER_HEIGHT = 1.6
"""Focal length over the image's height of the cameras made here: a view from a few meters away."""


def framing_camera(
    avatar: Avatar, motion: Motion, size_hw: tuple[int, int], *, turn_rad: float = 0.0, margin: float = 1.03
) -> Camera:
    """A camera that sees the whole motion: looking along -Z at its middle, or from `turn_rad` further round to +X."""
    joints = avatar.body.pose(motion.poses, avatar.betas, motion.transl).joints.reshape(-1, 3)
    low, high = joints.amin(0) - 0.15, joints.amax(0) + 0.15
    center = (low + high) / 2
    wide = torch.linalg.vector_norm((high - low)[[0, 2]])
    height, width = size_hw
    focal_px = FOCAL_PER_HEIGHT * height
    needed = torch.maximum((high - low)[1] / height, wide / width) * focal_px
    distance = float(needed) * margin + float(wide) / 2
    around = torch.tensor([math.sin(turn_rad), 0.0, math.cos(turn_rad)]) * distance
    return Camera.looking_at(center + around, center, focal_px=focal_px, size_hw=size_hw)


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


@torch.no_grad()
def draw_frame(
    avatar: Avatar, motion: Motion, camera: Camera, background: Tensor, *, lit: bool = False
) -> UInt8[np.ndarray, "height width 3"]:
    """One frame (a motion of length 1) over a color (3, 1, 1) or an image (3, height, width)."""
    render = rasterize(avatar.posed(motion, lit=lit), camera)
    return frame_bytes(render, background.expand(3, *camera.size_hw))


def draw_motion(
    avatar: Avatar, motion: Motion, size_hw: tuple[int, int], background: Tensor, *, turntable: bool = False
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Every frame of a motion, from a camera that sees all of it; with `turntable` the camera goes once around."""
    motion = replace(motion, valid=torch.ones_like(motion.valid)) if bool(motion.valid.all()) else motion
    camera = framing_camera(avatar, motion, size_hw)
    for i in range(len(motion)):
        if turntable:
            camera = framing_camera(avatar, motion, size_hw, turn_rad=2 * math.pi * i / len(motion))
        yield draw_frame(avatar, motion[i : i + 1], camera, background)


def read_background(value: str, size_hw: tuple[int, int]) -> Float[Tensor, "3 height width"]:
    """A color ("white", "#102030") or an image file, cut and scaled to fill the frame.

    Raises InputError when it is neither.
    """
    from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

    height, width = size_hw
    if Path(value).is_file():
        try:
            picture = ImageOps.fit(Image.open(value).convert("RGB"), (width, height))
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"{value} cannot be read as an image ({error}).") from None
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    try:
        color = ImageColor.getrgb(value)[:3]
    except ValueError:
        raise InputError(
            f"Background {value!r} is neither an image file nor a color. Give a path, a name such as white, or #rrggbb."
        ) from None
    return (torch.tensor(color).float() / 255).view(3, 1, 1).expand(3, height, width)
