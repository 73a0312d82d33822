"""Avatars, motions and photographs of a batch that is made in seconds: coarse people, tiny clips."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.body import Body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion

SIZE = 96


def make_avatar(body: Body, color=(1.0, 1.0, 1.0), tall: float = 0.0) -> Avatar:
    """A person of one color whose body is the default one, coarse enough for tiny clips."""
    n = 6000
    betas = torch.zeros(body.n_betas)
    betas[0] = tall
    vertices, _ = body.shaped(betas)
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1.0
    return Avatar(
        body=body,
        betas=betas,
        binding=spread_over(body, vertices, n),
        offsets=torch.zeros(n, 3),
        quats=quats,
        log_scales=torch.full((n, 3), math.log(0.012)),
        opacity_logits=torch.full((n,), 4.0),
        albedo=torch.tensor(color).repeat(n, 1),
        light=torch.zeros(8, 3),
    )


def make_motion(body: Body, frames: int = 8, fps: float = 15.0) -> Motion:
    """Raises the left arm while stepping aside, feet on the ground."""
    poses = torch.zeros(frames, 55, 3)
    poses[:, JOINT_NAMES.index("left_shoulder"), 2] = torch.linspace(-1.2, 0.3, frames)
    poses[:, JOINT_NAMES.index("right_shoulder"), 2] = 1.2
    ground = -float(body.v_template[:, 1].min())
    transl = torch.tensor([0.0, ground, 0.0]) + torch.linspace(0, 0.1, frames)[:, None] * torch.tensor([1.0, 0, 0])
    return Motion(
        poses=poses,
        transl=transl,
        betas=torch.zeros(body.n_betas),
        expression=torch.zeros(frames, body.n_expression),
        times_s=torch.arange(frames, dtype=torch.float64) / fps,
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
        name="raise",
    )


def write_material(folder: Path, body: Body) -> Path:
    """Two avatars, two motions and two photographs."""
    make_avatar(body).save(folder / "white")
    make_avatar(body, (0.1, 0.1, 0.9), tall=1.5).save(folder / "blue")
    make_motion(body).save(folder / "raise_01.npz")
    motion = make_motion(body)
    replace(motion, poses=motion.poses.flip(0)).save(folder / "lower_01.npz")
    Image.new("RGB", (200, 160), (0, 0, 0)).save(folder / "night.png")
    Image.new("RGB", (160, 200), (120, 140, 160)).save(folder / "gray.png")
    return folder


def write_batch(material: Path, path: Path, **changes) -> Path:
    document = {
        "out": str(path.parent / "out"),
        "seed": 1,
        "size": SIZE,
        "fps": 15,
        "avatars": [{"path": str(material / "white"), "licence": "consent 7"}],
        "motions": [{"path": str(material / "raise_01.npz"), "label": "raise arm"}],
        "backgrounds": [{"path": str(material / "night.png"), "horizon": 0.4, "camera_height_m": 1.5, "focal_px": 200}],
    } | changes
    path.write_text(json.dumps(document))  # JSON is YAML
    return path


def four_groups(material: Path, path: Path) -> Path:
    """Two avatars x two motions over one place."""
    return write_batch(
        material,
        path,
        avatars=[str(material / "white"), str(material / "blue")],
        motions=[str(material / "raise_01.npz"), str(material / "lower_01.npz")],
    )
