"""A two-colored figure that turns before a gray gradient, drawn by the rasterizer, and its exact track."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatars.avatar.binding import spread_over
from avatars.avatar.rig import Rig
from avatars.avatar.skirt import Skirt
from avatars.body import Body
from avatars.body.motion import Motion
from avatars.fitting.config import FitConfig, Stage
from avatars.fitting.drawing import draw
from avatars.fitting.parameters import on_the_surface
from avatars.geometry.camera import Camera
from avatars.io.clean_plate import CleanPlate
from avatars.io.video import write_video
from avatars.tracking.config import TrackConfig

SIZE, FRAMES = 96, 16
BETAS = torch.zeros(20)
TINY = FitConfig(size_px=SIZE, n_gaussians=1500, stages=(Stage(2, 0.5, 30, 2), Stage(1, 1.0, 40)))


@dataclass(frozen=True)
class MadeUpTurn:
    """What fitting reads of a track, and the truth."""

    video: Path
    motion: Motion
    camera: Camera
    masks: Tensor
    room: CleanPlate
    rig: Rig
    config: TrackConfig = field(default_factory=TrackConfig)


def turning(body: Body, frames: int = FRAMES) -> Motion:
    angle = torch.linspace(0, 2 * math.pi, frames + 1)[:-1]
    poses = torch.zeros(frames, 55, 3)
    poses[:, 0, 1] = (angle + math.pi) % (2 * math.pi) - math.pi
    poses[:, 16, 2], poses[:, 17, 2] = -0.9, 0.9
    transl = torch.zeros(frames, 3)
    transl[:, 1] = -body.pose(poses[:1], BETAS).vertices()[0, :, 1].min()
    return Motion(
        poses, transl, BETAS, torch.zeros(frames, 10), torch.arange(frames).double() / 18,
        torch.ones(frames, dtype=torch.bool), body.sha256, "turn",
    )  # fmt: skip


def make_turn(body: Body, folder: Path, count: int = FRAMES, hem: float | None = None) -> MadeUpTurn:
    """Draw `count` frames of it, with their exact track; with a `hem`, in a skirt."""
    binding = spread_over(body, body.shaped(BETAS)[0], 6000)
    skirt = None if hem is None else Skirt.of(body, BETAS, binding, hem)
    rig = Rig.build(body, binding, BETAS, skirt=skirt)
    p = on_the_surface(rig, rig.neighbors())
    upper = rig.surface[:, 1] > rig.surface[:, 1].mean()
    p.albedo = torch.where(upper[:, None], torch.tensor([0.8, 0.3, 0.2]), torch.tensor([0.2, 0.4, 0.7]))
    motion = turning(body, count)
    camera = Camera.level(focal_px=SIZE * 1.1, size_hw=(SIZE, SIZE), height_m=0.9, distance_m=2.4)
    room = torch.linspace(0.3, 0.6, SIZE).expand(3, SIZE, SIZE)
    frames, masks = np.empty((count, SIZE, SIZE, 3), np.uint8), torch.empty(count, SIZE, SIZE, dtype=torch.uint8)
    with torch.no_grad():
        for i in range(count):
            posed = body.pose(motion.poses[i : i + 1], BETAS, motion.transl[i : i + 1])
            render = draw(rig, p, posed, camera, torch.zeros(1, 3))
            image = render.rgb[0] + (1 - render.alpha[0]) * room
            frames[i] = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            masks[i] = (render.alpha[0, 0] * 255).byte()
    video = write_video(folder / "turn.mp4", frames, times_s=motion.times_s.numpy(), crf=8)
    empty = (room * 255).round().byte().permute(1, 2, 0).numpy()
    plate = CleanPlate(empty, np.ones((SIZE, SIZE), bool), "true")
    return MadeUpTurn(video, motion, camera, masks, plate, rig)
