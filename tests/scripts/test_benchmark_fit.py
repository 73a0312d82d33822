"""The fitting benchmark: numbers belong to a state of the code, and true poses land on bodies of other proportions."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import torch
from benchmark_fit import VERTEX_STEP, code_state, in_track_world, onto_picture
from fakes.fake_turn import turning

from avatars.body import load_body
from avatars.geometry.camera import Camera


def test_the_state_of_the_code_is_that_of_some_code() -> None:
    assert code_state() != hashlib.sha256().hexdigest()[:12]


def test_true_poses_bring_another_body_to_where_the_person_is_in_the_picture() -> None:
    body = load_body()
    motion = turning(body)[::4]
    betas = torch.zeros(body.n_betas)
    betas[:4] = torch.tensor([1.0, -1.0, 0.5, 0.5])  # taller, and of other proportions
    avatar = SimpleNamespace(body=body, betas=betas)
    camera = Camera.level(focal_px=500.0, size_hw=(512, 512), height_m=1.0, distance_m=3.0)
    vertices = torch.arange(0, body.n_vertices, VERTEX_STEP)
    targets = camera.project(body.pose(motion.poses, motion.betas, motion.transl).vertices(vertices))

    def off_px(m) -> float:
        seen = camera.project(body.pose(m.poses, betas, m.transl).vertices(vertices))
        return float((seen - targets).norm(dim=-1).mean())

    T = camera.T_cam_world.reshape(4, 4)
    copied = in_track_world(motion, avatar, T, T)
    assert torch.allclose(copied.poses[:, 1:], motion.poses[:, 1:])
    larger = off_px(replace(copied, transl=motion.transl))
    placed = onto_picture(copied, avatar, camera, targets)
    assert off_px(copied) < larger  # size and distance agree
    assert off_px(placed) < 0.6 * off_px(copied)
    assert (placed.poses[:, :22] - copied.poses[:, :22]).abs().mean() < 0.1


def test_a_body_of_the_same_shape_lands_where_it_was() -> None:
    body = load_body()
    motion = turning(body)[::4]
    avatar = SimpleNamespace(body=body, betas=motion.betas)
    camera = Camera.level(focal_px=500.0, size_hw=(512, 512), height_m=1.0, distance_m=3.0)
    T = camera.T_cam_world.reshape(4, 4)
    copied = in_track_world(motion, avatar, T, T)
    assert torch.allclose(copied.transl, motion.transl, atol=1e-4)
