"""What passes before a person is found, and changes neither the avatar nor its scores."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fakes.fake_turn import SIZE, MadeUpTurn, make_turn
from fakes.stopped_fit import stopped_after

from avatars.body import Body, load_body
from avatars.fitting.config import FitConfig, Stage
from avatars.fitting.crops import CropBytes, Crops, CropStack, Window
from avatars.fitting.metrics import ssim
from avatars.fitting.occluders import NEAR_PX, Patches, occluded
from avatars.fitting.pipeline import FitResult, fit_avatar
from avatars.fitting.scoring import score_frame
from avatars.geometry.camera import Camera
from avatars.io.video import load_frames, write_video
from avatars.rasterizer import Render

HEIGHT, WIDTH = 120, 80
BALL = torch.tensor([0.9, 0.9, 0.1])
CONFIG = FitConfig(size_px=SIZE, n_gaussians=1500, stages=(Stage(2, 0.5, 40, 2), Stage(1, 1.0, 40)), score_frames=4)


def disk(row: int, column: int, radius: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def person() -> torch.Tensor:
    """A trunk with a lighter arm beside it."""
    body = torch.zeros(HEIGHT, WIDTH)
    body[10:110, 25:55] = 1.0
    return body


def drawn() -> Render:
    alpha = person()
    rgb = alpha * torch.tensor([0.5, 0.2, 0.2])[:, None, None]
    rgb[:, 40:80, 25:32] = torch.tensor([0.8, 0.6, 0.5])[:, None, None]
    return Render(rgb[None], alpha[None, None], torch.where(alpha > 0, 3.0, math.inf)[None, None])


def crop_of(rgb: torch.Tensor, mask: torch.Tensor, *, known: bool = True) -> Crops:
    one = torch.ones(1, HEIGHT, WIDTH)
    camera = Camera.level(focal_px=90.0, size_hw=(HEIGHT, WIDTH), height_m=1.0, distance_m=3.0)
    plate = torch.full((1, 3, HEIGHT, WIDTH), 0.4) * known
    return Crops(rgb[None], mask[None], plate, one * known, one, mask[None], one, camera)


def filmed(*, known: bool = True) -> Crops:
    render = drawn()
    return crop_of((render.rgb + (1 - render.alpha) * 0.4)[0], person(), known=known)


def painted(crop: Crops, where: torch.Tensor, color: torch.Tensor = BALL) -> Crops:
    rgb = torch.where(where, color[:, None, None], crop.rgb[0])
    return replace(crop, rgb=rgb[None], mask=torch.maximum(crop.mask, where[None].float()))


def found_in(*crops: Crops) -> list[torch.Tensor]:
    return occluded([Patches.of(drawn(), crop) for crop in crops])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("column", [40, 56])
def test_a_ball_before_the_body_is_found_to_its_edge(column: int, known: bool) -> None:
    ball = disk(60, column, 8)
    (found,) = found_in(painted(filmed(known=known), ball))
    assert bool((ball & (person() > 0) & ~found).sum() == 0)
    assert not bool((found & ~disk(60, column, 11)).any())
    if known:
        assert bool(found[ball].all())


def test_what_is_no_patch_of_a_foreign_color_over_the_body_stays() -> None:
    line, beside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool), disk(60, 68, 9)
    line[50:54, 26:54] = True
    crop = filmed()
    for found in found_in(crop, painted(crop, line), painted(crop, beside)):
        assert not bool(found.any())


def test_what_was_seen_before_the_body_is_known_beside_it() -> None:
    before, beside, other = disk(60, 40, 8), disk(60, 68, 9), torch.tensor([0.1, 0.1, 0.9])
    crop = filmed()
    found = found_in(painted(crop, before), painted(crop, beside), painted(crop, beside, other))
    assert bool(found[1][beside].all()) and not bool((found[1] & ~disk(60, 68, 12)).any())
    assert not bool(found[2].any())


def test_a_misplaced_arm_is_no_foreign_thing() -> None:
    crop = filmed()
    rgb = crop.rgb.clone()
    rgb[:, :, 40:80, 25:32] = rgb[:, :, 20:21, 25:26]  # the trunk, where the avatar has its arm
    rgb[:, :, 40:80, 25 + NEAR_PX : 32 + NEAR_PX] = drawn().rgb[:, :, 50:51, 26:27]
    off = (rgb - crop.rgb).abs().amax(1) > 0.2
    assert int(off.sum()) > 300
    assert not bool(found_in(replace(crop, rgb=rgb))[0].any())
    rgb = crop.rgb.clone()
    rgb[:, :, 40:80, 25:32] = 0.4  # the room: the arm is somewhere else
    assert not bool(found_in(replace(crop, rgb=rgb))[0].any())


def test_a_frame_that_is_unlike_the_avatar_all_over_hides_nothing() -> None:
    crop = filmed()
    assert not bool(found_in(painted(crop, person() > 0, torch.tensor([0.1, 0.9, 0.1])))[0].any())


def test_scores_leave_out_what_is_not_shown() -> None:
    ball = disk(60, 40, 8)
    crop = painted(filmed(), ball)
    clean, with_ball = score_frame(drawn(), filmed()), score_frame(drawn(), crop)
    without = score_frame(drawn(), replace(crop, shown=(~ball)[None].float()))
    assert with_ball.psnr_masked_db < 20 and with_ball.ssim_box < 0.95 and with_ball.hidden_share == 0
    assert without.psnr_masked_db == clean.psnr_masked_db == without.psnr_box_db == without.psnr_cutout_db == math.inf
    assert without.ssim_box == pytest.approx(1.0)
    assert without.hidden_share == pytest.approx(float(ball.sum()) / float(person().sum()))


def test_ssim_counts_windows_that_count_wholly() -> None:
    x, y = torch.rand(2, 3, 30, 24, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(30, 24)
    assert ssim(x, y, weight) == pytest.approx(ssim(x, y), abs=1e-12)
    weight[:, 20] = 0.0  # a window that ends before this column sees nothing of what follows
    assert ssim(x, y, weight) == pytest.approx(ssim(x[..., :20], y[..., :20]), abs=1e-12)
    assert math.isnan(ssim(x, y, 0 * weight))


@pytest.mark.parametrize("level", [1, 2, 4])
def test_hidden_pixels_count_at_no_resolution(level: int) -> None:
    sizes = {k: (48 // k, 32 // k) for k in (1, 2, 4, 8)}
    images = {k: [torch.full((11, *size), 255, dtype=torch.uint8)] for k, size in sizes.items()}
    camera = Camera.level(focal_px=50.0, size_hw=(48, 32), height_m=1.0, distance_m=3.0)
    stack = CropStack((0,), (Window(10, 20, 96, 64, (48, 32)),), (camera,), images, (120, 100), "none")
    hidden = torch.zeros(sizes[level], dtype=torch.bool)
    hidden[4, 3] = True
    stack.show_all_but(0, hidden)
    for k, size in sizes.items():
        rows, columns = torch.nonzero(stack.take([0], k).shown[0] == 0).unbind(-1)
        top, left = 4 * level // k, 3 * level // k
        assert rows.min() == top and columns.min() == left
        assert len(rows) == max(level // k, 1) ** 2
        assert stack.take([0], k).shown.shape == (1, *size)
    rows, columns = stack.in_frame(0, hidden).nonzero()
    assert (rows.min(), columns.min(), len(rows)) == (10 + 8 * level, 20 + 6 * level, 4 * level**2)
    stack.show_all_but(0, torch.zeros_like(hidden))
    assert all(bool((stack.take([0], k).shown == 1).all()) for k in sizes)


# Whole fits


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def turn(body: Body, tmp_path_factory: pytest.TempPathFactory) -> MadeUpTurn:
    return make_turn(body, tmp_path_factory.mktemp("turn"))


@pytest.fixture(scope="module")
def juggled(turn: MadeUpTurn, tmp_path_factory: pytest.TempPathFactory) -> MadeUpTurn:
    """The same turn, with a ball that moves up and down before the person, in their mask as detectors have it."""
    frames, masks = load_frames(turn.video)[0].copy(), turn.masks.clone()
    for i, frame in enumerate(frames):
        center = (SIZE // 2, int(SIZE * (0.5 + 0.2 * math.cos(2.4 * i))))
        ball = cv2.circle(np.zeros((SIZE, SIZE), np.uint8), center, 6, 255, -1)
        frame[ball > 0] = (255 * BALL).byte().numpy()
        masks[i] = torch.maximum(masks[i], torch.from_numpy(ball))
    times_s = turn.motion.times_s.numpy()
    video = write_video(tmp_path_factory.mktemp("juggled") / "juggled.mp4", frames, times_s=times_s, crf=8)
    return replace(turn, video=video, masks=masks)


def fitted(turn: MadeUpTurn, body: Body, keep: Path | None = None, **settings: object) -> FitResult:
    return fit_avatar(turn.video, turn, config=replace(CONFIG, **settings), body=body, plate=turn.room, keep=keep)


def yellow(result: FitResult) -> float:
    """Share of the Gaussians that took the ball's color."""
    return float(((result.avatar.albedo - BALL).abs().amax(1) < 0.25).float().mean())


@pytest.mark.slow
def test_a_ball_before_the_person_costs_next_to_nothing(turn: MadeUpTurn, juggled: MadeUpTurn, body: Body) -> None:
    alone, found, taken_for_them = fitted(turn, body), fitted(juggled, body), fitted(juggled, body, occluders=False)
    assert alone.scores is not None and found.scores is not None and taken_for_them.scores is not None
    assert alone.scores.hidden_share == taken_for_them.scores.hidden_share == 0
    assert 0.05 < found.scores.hidden_share < 0.25
    assert yellow(alone) == 0 and yellow(found) < 0.6 * yellow(taken_for_them)
    assert taken_for_them.scores.psnr_masked_fitpose_db < 18
    assert abs(found.scores.psnr_masked_fitpose_db - alone.scores.psnr_masked_fitpose_db) < 1.5
    assert "passes before the person" in found.scores.table()
    assert alone.occluders is None and found.occluders is not None
    frames, _ = load_frames(juggled.video)
    yellow_px = torch.from_numpy((np.abs(frames / 255.0 - BALL.numpy()) < 0.2).all(-1))
    left_out = found.occluders[:] > 0
    assert left_out.shape == yellow_px.shape and float((left_out & yellow_px).sum() / yellow_px.sum()) > 0.8
    assert float(left_out.float().mean()) < 3 * float(yellow_px.float().mean())


@pytest.mark.slow
def test_a_stopped_fit_remembers_what_it_left_out(juggled: MadeUpTurn, body: Body, tmp_path: Path, monkeypatch) -> None:
    undisturbed = fitted(juggled, body)
    with stopped_after(50, monkeypatch):
        fitted(juggled, body, tmp_path / "fit.pt")
    result = fitted(juggled, body, tmp_path / "fit.pt")
    assert result.scores == undisturbed.scores and result.losses == undisturbed.losses
    assert torch.equal(result.avatar.albedo, undisturbed.avatar.albedo)


def test_what_is_not_shown_gives_no_gradient() -> None:
    from avatars.fitting.target import Comparison, crop_difference

    generator = torch.Generator().manual_seed(1)
    planes = torch.randint(0, 256, (1, 11, 24, 32), generator=generator, dtype=torch.uint8)
    planes[:, 10] = 255
    planes[:, 10, 5:12, 7:20] = 0
    camera = Camera.level(focal_px=50.0, size_hw=(24, 32), height_m=1.0, distance_m=3.0)
    rgb, alpha = torch.rand(1, 3, 24, 32, generator=generator), torch.rand(1, 1, 24, 32, generator=generator)
    losses, hidden = [], planes.clone()
    hidden[:, :10, 5:12, 7:20] = 77
    for bytes_ in (planes, hidden):
        leaves = rgb.clone().requires_grad_(), alpha.clone().requires_grad_()
        render = Render(*leaves, torch.full_like(alpha, math.inf))
        loss = crop_difference(render, CropBytes(bytes_, camera), torch.zeros(1, 3), Comparison(True, 0.4, 0.1))
        loss.backward()
        assert all(not bool(leaf.grad[..., 5:12, 7:20].any()) for leaf in leaves if leaf.grad is not None)
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)  # and what is there makes no difference
