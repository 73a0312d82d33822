"""Offsets follow the pose where a clip teaches them, and stay away where it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.fake_turn import BETAS, SIZE, turning
from fakes.stopped_fit import stopped_after

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.avatar.pose_correctives import LIMIT, PoseCorrectives
from avatars.avatar.rig import Rig
from avatars.avatar.variation import reshaped
from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.fitting.config import FitConfig, Stage
from avatars.fitting.drawing import draw
from avatars.fitting.parameters import on_the_surface
from avatars.fitting.pipeline import FitResult, fit_avatar
from avatars.geometry.camera import Camera
from avatars.io.clean_plate import CleanPlate
from avatars.io.video import write_video
from avatars.tracking.config import TrackConfig
from avatars.viewing.rendering import rest_motion

FRAMES = 32
SHOULDER, KNEE = 16, 4
CONFIG = FitConfig(size_px=SIZE, n_gaussians=2000, stages=(Stage(2, 0.5, 60, 2), Stage(1, 1.0, 150)), score_frames=4)


def swinging(frames: int = FRAMES) -> torch.Tensor:
    """Poses of one arm that swings up and down."""
    poses = torch.zeros(frames, 55, 3)
    poses[:, SHOULDER, 2] = 0.6 * torch.sin(torch.linspace(0, 4 * math.pi, frames)) - 0.6
    return poses


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def avatar(body: Body) -> Avatar:
    """Everything moves 2 cm up when the arm is a standard deviation higher than on average."""
    binding = spread_over(body, body.shaped(BETAS)[0], 3000)
    rig = Rig.build(body, binding, BETAS)
    start = on_the_surface(rig, rig.neighbors())
    found = PoseCorrectives.of(swinging(), len(binding))
    assert found is not None and found.directions.shape == (1, len(binding), 3) and not found.directions.any()
    up = torch.zeros_like(found.directions)
    up[..., 1] = 0.02 * found.axes[0].sum().sign()
    return Avatar(body, BETAS, binding, **start.leaves(), correctives=replace(found, directions=up))


def test_clips_that_vary_no_pose_and_turns_teach_nothing(body: Body) -> None:
    assert PoseCorrectives.of(torch.zeros(FRAMES, 55, 3), 10) is None
    assert PoseCorrectives.of(swinging()[:4], 10) is None
    turned = swinging()
    turned[:, 0, 1] = turning(body, FRAMES).poses[:, 0, 1]
    assert PoseCorrectives.of(turned, 10) is None
    half = swinging()
    half[:, 0, 1] = torch.linspace(-0.7, 0.7, FRAMES)
    assert PoseCorrectives.of(half, 10) is not None


def test_codes_are_standard_deviations_within_the_clip_and_none_elsewhere(avatar: Avatar) -> None:
    found, poses = avatar.correctives, swinging()
    assert found is not None
    codes, x = found.codes(poses)[:, 0], poses[:, SHOULDER, 2]
    expected = (x - x.mean()) / x.std(unbiased=False)
    assert torch.allclose(codes * found.axes[0].sum().sign(), expected, atol=1e-3)
    farther, elsewhere = poses[:1].clone(), poses[:1].clone()
    farther[:, SHOULDER, 2] = 0.6  # some way beyond the clip's end
    assert 1.5 < float(found.codes(farther).abs()) <= LIMIT
    farther[:, SHOULDER, 2] = 1.2
    assert float(found.codes(farther).abs()) == 0
    elsewhere[:, SHOULDER, 2], elsewhere[:, KNEE, 0] = 0.0, 1.5
    assert float(found.codes(elsewhere).abs()) < 0.05
    assert torch.allclose(found.offsets(avatar.offsets, elsewhere)[0], avatar.offsets, atol=1e-3)
    nobody_moved = found.offsets(avatar.offsets, poses.mean(0, keepdim=True))
    assert torch.allclose(nobody_moved[0], avatar.offsets, atol=1e-6)


def test_an_avatar_wears_them_and_keeps_them_on_disk(avatar: Avatar, tmp_path: Path) -> None:
    motion = replace(rest_motion(avatar, 2), poses=torch.zeros(2, 55, 3))
    motion.poses[1, SHOULDER, 2] = float(swinging()[:, SHOULDER, 2].mean() + swinging()[:, SHOULDER, 2].std())
    motion.poses[0, SHOULDER, 2] = float(swinging()[:, SHOULDER, 2].mean())
    plain, worn = replace(avatar, correctives=None).posed(motion), avatar.posed(motion)
    legs = avatar.rig.surface[:, 1] < avatar.rig.surface[:, 1].mean() - 0.2  # not turned by the arm
    shift = (worn.means - plain.means)[:, legs]
    assert float(shift[0].abs().max()) < 1e-5
    assert torch.allclose(shift[1], torch.tensor([0.0, 0.02, 0.0]), atol=5e-4)
    loaded = Avatar.load(avatar.save(tmp_path / "avatar"))
    assert loaded.correctives is not None and torch.equal(loaded.posed(motion).means, worn.means)
    assert Avatar.load(replace(avatar, correctives=None).save(tmp_path / "plain")).correctives is None
    assert avatar.to("cpu").correctives is avatar.correctives


def test_they_grow_with_the_body(avatar: Avatar) -> None:
    grown = reshaped(avatar, avatar.betas + torch.nn.functional.one_hot(torch.tensor(0), 20) * 1.5)
    assert grown.correctives is not None and avatar.correctives is not None
    growth = grown.correctives.directions[0, :, 1] / avatar.correctives.directions[0, :, 1]
    assert torch.allclose(growth, (grown.log_scales - avatar.log_scales)[:, 0].exp(), atol=1e-4)
    assert float((growth - 1).abs().mean()) > 0.005


# Whole fits


@dataclass(frozen=True)
class Clip:
    """What fitting reads of a track."""

    video: Path
    motion: Motion
    camera: Camera
    masks: torch.Tensor
    room: CleanPlate
    config: TrackConfig = field(default_factory=TrackConfig)


@pytest.fixture(scope="module")
def clip(body: Body, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A figure whose waist, where red meets blue, rises by 4 cm when its arm rises by a standard deviation."""
    binding = spread_over(body, body.shaped(BETAS)[0], 6000)
    rig = Rig.build(body, binding, BETAS)
    p = on_the_surface(rig, rig.neighbors())
    height = rig.surface[:, 1]
    red, blue = torch.tensor([0.8, 0.3, 0.2]), torch.tensor([0.2, 0.4, 0.7])
    p.albedo = torch.where((height > height.mean())[:, None], red, blue)
    poses = swinging()
    truth = PoseCorrectives.of(poses, len(binding))
    assert truth is not None
    waist = ((height - height.mean()).abs() < 0.15) & (rig.surface[:, 0].abs() < 0.25)
    truth.directions[0, waist, 1] = 0.04 * truth.axes[0].sum().sign()
    transl = torch.zeros(FRAMES, 3)
    transl[:, 1] = -body.pose(poses[:1], BETAS).vertices()[0, :, 1].min()
    seconds, valid = torch.arange(FRAMES).double() / 18, torch.ones(FRAMES, dtype=torch.bool)
    motion = Motion(poses, transl, BETAS, torch.zeros(FRAMES, 10), seconds, valid, body.sha256, "swing")
    camera = Camera.level(focal_px=SIZE * 1.1, size_hw=(SIZE, SIZE), height_m=0.9, distance_m=2.4)
    room = torch.linspace(0.3, 0.6, SIZE).expand(3, SIZE, SIZE)
    with torch.no_grad():
        worn = replace(p, offsets=truth.offsets(p.offsets, poses))
        render = draw(rig, worn, body.pose(poses, BETAS, transl), camera, torch.zeros(FRAMES, 3))
    images = (render.rgb + (1 - render.alpha) * room).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1)
    folder = tmp_path_factory.mktemp("swing")
    video = write_video(folder / "swing.mp4", images.numpy(), times_s=seconds.numpy(), crf=8)
    plate = CleanPlate((room * 255).round().byte().permute(1, 2, 0).numpy(), np.ones((SIZE, SIZE), bool), "true")
    return Clip(video, motion, camera, (render.alpha[:, 0] * 255).byte(), plate)


def fitted(clip: Clip, body: Body, keep: Path | None = None, **settings: object) -> FitResult:
    config = replace(CONFIG, refine_pose=False, **settings)
    return fit_avatar(clip.video, clip, config=config, body=body, plate=clip.room, keep=keep)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_fit_finds_what_follows_the_pose(clip: Clip, body: Body) -> None:
    without, found = fitted(clip, body, correctives=False), fitted(clip, body)
    assert without.avatar.correctives is None and found.avatar.correctives is not None
    assert without.scores is not None and found.scores is not None
    assert found.scores.psnr_masked_db > without.scores.psnr_masked_db + 1.0
    directions, surface = found.avatar.correctives.directions[0], found.avatar.rig.surface
    sign, height = found.avatar.correctives.axes[0].sum().sign(), surface[:, 1] - surface[:, 1].mean()
    waist = (height.abs() < 0.05) & (surface[:, 0].abs() < 0.2) & (surface[:, 2] > 0)
    assert 0.01 < float(sign * directions[waist, 1].mean()) < 0.06
    assert float(directions[height.abs() > 0.4].norm(dim=-1).mean()) < 0.004


@pytest.mark.slow
def test_a_stopped_fit_goes_on_with_them(clip: Clip, body: Body, tmp_path: Path, monkeypatch) -> None:
    stages = (Stage(2, 0.5, 10, 2), Stage(1, 1.0, 30))
    undisturbed = fitted(clip, body, stages=stages)
    with stopped_after(25, monkeypatch):
        fitted(clip, body, tmp_path / "fit.pt", stages=stages)
    result = fitted(clip, body, tmp_path / "fit.pt", stages=stages)
    assert undisturbed.avatar.correctives is not None and result.avatar.correctives is not None
    assert undisturbed.avatar.correctives.directions.any()
    assert torch.equal(result.avatar.correctives.directions, undisturbed.avatar.correctives.directions)
    assert result.scores == undisturbed.scores
