"""Fitting recovers what it is shown; its measures mean what their names say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes.fake_turn import BETAS, FRAMES, SIZE, TINY, MadeUpTurn, make_turn, turning

from avatars.avatar import Avatar
from avatars.avatar.binding import HAND, laplacian, spread_over
from avatars.avatar.rig import Rig
from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.fitting.color_init import SeenColors, fill_unseen, settled_colors
from avatars.fitting.config import FitConfig, Stage
from avatars.fitting.crops import LEVELS, HeldOut, held_out_frames, windows_around
from avatars.fitting.losses import block_ssim, mask_loss, weighted_l1
from avatars.fitting.matting import EdgeContrast, boxed, matted, sharpened
from avatars.fitting.metrics import gaussian_window, psnr, ssim
from avatars.fitting.parameters import GaussianParameters, on_the_surface
from avatars.fitting.pipeline import fit_avatar
from avatars.fitting.pose_refinement import PoseRefinement, between, carried_over
from avatars.fitting.regularizers import Regularizer
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle, matrix_from_quaternion
from avatars.io.clean_plate import CleanPlate, estimate_clean_plate
from avatars.kernels.row_adam import RowAdam
from avatars.rasterizer import rasterize
from avatars.rasterizer.gaussians import Gaussians

# Measures


def test_psnr_of_a_constant_error() -> None:
    image = torch.full((3, 4, 4), 0.5)
    assert psnr(image, image + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr(image, image) == math.inf


def test_psnr_counts_only_the_weighted_pixels() -> None:
    image, target = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    target[:, 0, 0], target[:, 1, 1] = 0.1, 1.0
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert psnr(image, target, weight) == pytest.approx(20.0, abs=1e-4)


def test_ssim_of_an_image_with_itself_is_one() -> None:
    image = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0))
    assert ssim(image, image) == pytest.approx(1.0, abs=1e-9)


def test_ssim_of_two_flat_images_is_the_luminance_term() -> None:
    a, b = 0.2, 0.7
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert ssim(torch.full((1, 16, 16), a), torch.full((1, 16, 16), b)) == pytest.approx(expected, abs=1e-6)


def test_ssim_agrees_with_its_definition_window_by_window() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 13, 12, generator=g), torch.rand(1, 13, 12, generator=g)
    window = gaussian_window()[:, None] * gaussian_window()[None]
    values = []
    for i in range(3):
        for j in range(2):
            p, q = (z[0, i : i + 11, j : j + 11].double() for z in (x, y))
            mx, my = (window * p).sum(), (window * q).sum()
            vx, vy = (window * (p - mx) ** 2).sum(), (window * (q - my) ** 2).sum()
            vxy = (window * (p - mx) * (q - my)).sum()
            top, bottom = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4), (mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)
            values.append(float(top / bottom))
    assert ssim(x, y) == pytest.approx(np.mean(values), abs=1e-9)


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(torch.zeros(3, 8, 20), torch.zeros(3, 8, 20))


def test_block_ssim_agrees_with_one_uniform_window() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 1, 8, 8, generator=g), torch.rand(1, 1, 8, 8, generator=g)
    cov = ((x - x.mean()) * (y - y.mean())).mean()
    top = (2 * x.mean() * y.mean() + 1e-4) * (2 * cov + 9e-4)
    bottom = (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (x.var(correction=0) + y.var(correction=0) + 9e-4)
    assert float(block_ssim(x, y)) == pytest.approx(float(top / bottom), abs=1e-5)


def test_weights_decide_which_pixels_count() -> None:
    image, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    target[..., 0] = 1.0
    weight = torch.ones(1, 4, 4)
    weight[..., 0] = 0.0
    assert float(weighted_l1(image, target, weight)) == 0.0
    assert float(weighted_l1(image, target, torch.ones(1, 4, 4))) == pytest.approx(0.25)
    assert float(mask_loss(image[:, 0], target[:, 0], weight)) == 0.0


# Regularizer


def test_the_laplacian_of_equal_values_is_zero() -> None:
    neighbors = torch.tensor([[1, 2], [0, 2], [0, 1]])
    assert float(laplacian(torch.ones(3, 2), neighbors).abs().max()) == 0.0
    assert laplacian(torch.tensor([[3.0], [0.0], [0.0]]), neighbors)[:, 0].tolist() == [3.0, -1.5, -1.5]


def test_the_ties_gradient_is_that_of_their_energy(body: Body) -> None:
    binding = spread_over(body, body.shaped(BETAS)[0], 400)
    rig = Rig.build(body, binding, BETAS)
    neighbors, weights = rig.neighbors(), FitConfig().weights
    ties = Regularizer.between(rig, neighbors, weights)
    g = torch.Generator().manual_seed(0)
    p = on_the_surface(rig, neighbors).require_gradients()
    with torch.no_grad():
        p.offsets.add_(torch.randn(400, 3, generator=g) * 0.01)
        p.albedo.add_(torch.randn(400, 3, generator=g) * 0.1)
        p.quats.mul_(2.0).add_(torch.randn(400, 4, generator=g))
    scaled = p.offsets / neighbors.spacing_m[:, None]
    columns = torch.cat([scaled, p.log_scales, p.albedo], -1)
    energy = (ties.weights * laplacian(columns, neighbors.index).square()).sum() + (
        ties.pull * (scaled - ties.rest).square()
    ).sum()
    cosine = (matrix_from_quaternion(p.quats)[..., 2] * rig.normals).sum(-1)
    energy = energy + (ties.flat * (1 - cosine.square())).sum()
    expected = torch.autograd.grad(energy, [p.offsets, p.albedo, p.quats])
    for leaf in p.leaves().values():
        leaf.grad = torch.zeros_like(leaf)
    ties.add_gradient(p, 0.0)
    for leaf, wanted in zip((p.offsets, p.albedo, p.quats), expected, strict=True):
        assert leaf.grad is not None
        assert float((leaf.grad - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())


def test_gaussians_keep_colors_and_widths_that_leave_no_holes(body: Body) -> None:
    rig = Rig.build(body, spread_over(body, body.shaped(BETAS)[0], 400), BETAS)
    neighbors = rig.neighbors()
    p = on_the_surface(rig, neighbors)
    wide = p.log_scales[0].clone()
    p.log_scales[1:] -= 3.0
    p.albedo[0], p.albedo[1] = 1.5, -0.5
    p.keep_possible(neighbors.spacing_m)
    assert torch.equal(p.log_scales[0], wide)
    width = p.log_scales[1:].exp() / neighbors.spacing_m[1:, None]
    assert torch.allclose(width[:, :2], torch.tensor(0.5)) and bool((width[:, 2] < 0.1).all())
    assert p.albedo[:2, 0].tolist() == [1.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "tolerance"), [(18_000, 0.12), (45_000, 0.04)])
def test_fingers_look_as_thick_as_they_are(body: Body, count: int, tolerance: float) -> None:
    def area(count: int, prepared: Callable[[GaussianParameters, Rig], None]) -> float:
        rig = Rig.build(body, spread_over(body, body.shaped(BETAS)[0], count), BETAS)
        p = on_the_surface(rig, rig.neighbors())
        prepared(p, rig)
        hand = (rig.binding.region == HAND) & (rig.surface[:, 0] > 0)
        means = (rig.surface + p.offsets)[hand]
        K = torch.tensor([[1500.0, 0, 100], [0, 1500, 150], [0, 0, 1]])
        at = body.shaped(BETAS)[1][25]  # the first joint of a finger, from above: the palm looks down
        R = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
        T = torch.eye(4)
        T[:3, :3], T[:3, 3] = -R, R @ at
        T[2, 3] += 2.0
        camera = Camera(K, T, (300, 200))
        shape = p.quats[hand], p.log_scales[hand].exp()
        gaussians = Gaussians(means[None], shape[0][None], shape[1], torch.full((len(means),), 0.99), p.albedo[hand])
        return float(rasterize(gaussians, camera).alpha.sum())

    def tiny(p: GaussianParameters, rig: Rig) -> None:
        p.offsets.copy_(-0.0005 * rig.normals)
        p.log_scales.fill_(math.log(0.0004))

    truth = area(400_000, tiny)
    assert area(count, lambda p, rig: None) == pytest.approx(truth, rel=tolerance)
    assert area(count, lambda p, rig: p.offsets.zero_()) > 1.1 * truth


# Poses


def test_row_adam_finds_each_rows_own_minimum() -> None:
    target = torch.tensor([[0.3, -0.2], [-0.1, 0.4], [0.0, 0.1]])
    rows = RowAdam(3, torch.full((2,), 0.02))
    for step in range(300):
        chosen = torch.tensor([step % 3, (step + 1) % 3])
        rows.step(chosen, 2 * (rows.values[chosen] - target[chosen]), rate=1 - step / 300)
    assert float((rows.values - target).abs().max()) < 0.01


def test_a_column_without_gradient_stays() -> None:
    rows = RowAdam(2, torch.full((2,), 0.02))
    for _ in range(20):
        rows.step(torch.tensor([0]), torch.tensor([[1.0, 0.0]]))
    assert float(rows.values[0, 1]) == 0.0 and float(rows.values[0, 0]) < -0.1
    assert float(rows.values[1].abs().max()) == 0.0


def test_corrections_carry_over_to_the_frames_between(body: Body) -> None:
    motion = turning(body, 9)
    train, unseen = motion[0::2], motion[1::2]
    lean = matrix_from_axis_angle(torch.tensor([0.1, 0.0, 0.0]))
    from avatars.geometry.rotations import axis_angle_from_matrix

    leaned = train.poses.clone()
    leaned[:, 0] = axis_angle_from_matrix(lean @ matrix_from_axis_angle(train.poses[:, 0]))
    refined = replace(train, poses=leaned, transl=train.transl + 0.05)
    found = carried_over(train, refined, unseen)
    wanted = lean @ matrix_from_axis_angle(unseen.poses[:, 0])
    assert float((matrix_from_axis_angle(found.poses[:, 0]) - wanted).abs().max()) < 1e-4
    assert torch.allclose(found.transl, unseen.transl + 0.05, atol=1e-6)
    assert torch.allclose(found.poses[:, 1:], unseen.poses[:, 1:], atol=1e-5)


def test_jitter_of_an_unseen_frame_is_damped_between_near_frames_only(body: Body) -> None:
    motion = turning(body, 9)
    motion.transl[3, 0] += 0.04
    for slow, left in ((1.0, 0.016), (9.0, 0.04)):
        timed = replace(motion, times_s=motion.times_s * slow)
        found = carried_over(timed[0::2], timed[0::2], timed[1::2])
        assert float(found.transl[1, 0]) == pytest.approx(left, abs=1e-6)


def test_values_between_times_are_linear() -> None:
    found = between(torch.tensor([[0.0], [2.0], [3.0]]), torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.25, 1.5, 9.0]))
    assert found[:, 0].tolist() == pytest.approx([0.5, 2.5, 3.0])


# Frames


@pytest.mark.parametrize(("size_hw", "size_px"), [((512, 512), 512), ((720, 1280), 256), ((994, 1768), 512)])
def test_windows_hold_the_box_and_divide_by_every_level(size_hw: tuple[int, int], size_px: int) -> None:
    boxes = np.array([[100.0, 120.0, 430.0, 300.0], [90.0, 0.0, size_hw[0], 200.0]], np.float32)
    for window, (top, left, bottom, right) in zip(windows_around(boxes, size_hw, size_px), boxes, strict=True):
        assert all(side % LEVELS[-1] == 0 for side in window.size_hw)
        assert window.top >= 0 and window.top + window.height <= size_hw[0]
        assert window.left >= 0 and window.left + window.width <= size_hw[1]
        assert window.top <= top + 8 and window.top + window.height >= bottom - 8
        assert window.left <= left + 8 and window.left + window.width >= right - 8


def test_the_clean_plate_is_what_stands_behind_the_person() -> None:
    room = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    frames, person = np.repeat(room[None], 12, 0), np.zeros((12, 24, 32), bool)
    for i in range(12):
        frames[i, 6:20, 2 * i : 2 * i + 6] = 200
        person[i, 5:21, 2 * i : 2 * i + 7] = True
    plate = estimate_clean_plate(frames, person)
    assert plate.source == "estimated" and plate.known.all()
    assert np.array_equal(plate.rgb, room)


def test_what_the_person_always_covers_is_unknown() -> None:
    frames, person = np.full((8, 10, 10, 3), 90, np.uint8), np.zeros((8, 10, 10), bool)
    person[:, 4:6, 4:6] = True
    plate = estimate_clean_plate(frames, person)
    assert not plate.known[4:6, 4:6].any() and plate.known.sum() == 96


def test_a_moving_camera_leaves_no_clean_plate() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (10, 16, 16, 3)).astype(np.uint8)
    plate = estimate_clean_plate(frames, np.zeros((10, 16, 16), bool))
    assert plate.source == "none" and not plate.known.any()


def test_a_clean_plate_of_another_size_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "room.png")
    with pytest.raises(InputError, match="not the same camera"):
        CleanPlate.read(tmp_path / "room.png", (8, 10))


def test_the_empty_room_makes_a_soft_mask_crisp() -> None:
    truth = torch.zeros(64, 64)
    truth[16:48, 20:40] = 1.0
    soft = torch.nn.functional.avg_pool2d(truth[None, None], 3, 1, 1)[0, 0] * 255
    image = torch.zeros(8, 64, 64)
    image[:3], image[3], image[4:7], image[7] = 60 + 120 * truth, soft, 60, 255
    assert float((sharpened(image) / 255 - truth).abs().mean()) < 0.2 * float((soft / 255 - truth).abs().mean())


@pytest.mark.parametrize("person", [200.0, 90.0])
def test_a_rim_of_room_is_cut_off_the_mask_where_it_can_be_told(person: float) -> None:
    truth = torch.zeros(200, 200)
    truth[60:140, 70:130] = 1.0
    image = torch.zeros(8, 200, 200)
    image[:3], image[4:7], image[7] = 60 + (person - 60) * truth, 60, 255
    image[3, 58:142, 68:132] = 255  # two pixels too wide on every side
    found = matted(image, EdgeContrast.of(image)) / 255
    if person > 100:
        assert torch.equal(found, truth)
    else:  # hardly unlike the room: the mask stays
        assert torch.equal(found, image[3] / 255)


def test_a_mask_is_cut_back_where_the_room_is_known_only_beside_it() -> None:
    truth = torch.zeros(200, 200)
    truth[60:140, 70:130] = 1.0
    image = torch.zeros(8, 200, 200)
    image[:3], image[4:7], image[7] = 60 + 140 * truth, 60, 255
    image[3, 58:142, 68:132] = 255
    image[4:8, 57:143, 67:133] = 0.0
    assert torch.equal(matted(image, EdgeContrast.of(image)) / 255, truth)


@pytest.mark.parametrize("shoe", [(120.0, 60.0, 40.0), (40.0, 40.0, 45.0)], ids=["brown", "black"])
def test_a_contact_shadow_on_white_is_no_part_of_the_shoe(shoe: tuple[float, ...]) -> None:
    """The detector's soft mask runs out over the shadow beneath a foot; the shoe ends where it ends."""
    image, leg, shadow = standing_on_white(torch.tensor(shoe))
    image[3] = sharpened(image)
    mask = matted(image, EdgeContrast.of(image)) / 255
    assert float(mask[shadow].mean()) < 0.05
    assert float(mask[leg].mean()) > 0.95


def test_gray_shoes_in_their_shadow_stay() -> None:
    image, leg, _ = standing_on_white(torch.full((3,), 130.0))
    before = image[3].clone()
    assert float((matted(image, EdgeContrast.of(image)) - before)[leg].abs().mean()) < 5


def standing_on_white(shoe: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The planes of a crop, where the leg is, and where the mask runs out: a leg with its contact shadow before a white
    room, and a mask with undecided spikes over the shadow."""
    y, x = torch.meshgrid(torch.arange(240), torch.arange(160), indexing="ij")
    leg = (y > 20) & (y < 200) & ((x - 80).abs() < 24)
    spill = (y >= 200) & (y < 216) & ((x - 80).abs() < 40) & ((x // 6) % 2 == 0)
    under = (y >= 200) & (y < 222) & ((x - 80).abs() < 50)
    image = torch.full((8, 240, 160), 240.0)
    image[:3] = torch.where(under, 240 * (0.55 + 0.4 * (y - 200) / 22).clamp(0, 1), image[:3])
    image[:3, leg] = shoe[:, None]
    image[3] = torch.where(leg, 255.0, torch.where(spill, 180.0, 0.0))
    image[7] = 255.0
    return image, leg, spill


def test_room_beside_a_finger_is_cut_off_the_mask() -> None:
    truth = torch.zeros(200, 200)
    truth[60:140, 94:98] = 1.0
    image = torch.zeros(8, 200, 200)
    image[:3], image[4:7], image[7] = 60 + 140 * truth, 60, 255
    image[3, 58:142, 91:101] = 255  # too thin to have an inside at a quarter of the resolution
    assert torch.equal(matted(image, EdgeContrast.of(image)) / 255, truth)


def test_means_over_squares_are_those_of_pooling() -> None:
    images = torch.rand(2, 30, 40, generator=torch.Generator().manual_seed(0)) * 255
    pooled = torch.nn.functional.avg_pool2d(images[:, None], 7, 1, 3)[:, 0]
    assert float((boxed(images, 3) - pooled).abs().max()) < 1e-3


def test_unseen_points_take_the_color_of_their_mirror_image() -> None:
    rest = torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0], [0.0, 1.0, 0.0]])
    seen = SeenColors(torch.tensor([[0.9, 0.1, 0.1], [0.0, 0.0, 0.0], [0.2, 0.2, 0.2]]), torch.tensor([1.0, 0.0, 1.0]))
    filled = fill_unseen(seen, rest, torch.tensor([0.0, 0.0, 1.0]).expand(3, 3))
    assert torch.allclose(filled[1], seen.rgb[0], atol=0.01)
    assert torch.equal(filled[[0, 2]], seen.rgb[[0, 2]])


def test_what_is_seen_badly_lends_no_color_and_takes_that_of_what_is_seen_well() -> None:
    shares = torch.tensor([1.0] * 6 + [0.06, 0.035, 0.0])  # of the best coverage; the last lies behind the silhouette
    rest = torch.stack([torch.zeros(9), 0.1 * torch.arange(9), torch.zeros(9)], -1)
    rgb = torch.tensor([0.9] * 6 + [0.1, 0.2, 0.3])[:, None].expand(9, 3)
    filled = fill_unseen(SeenColors(rgb, shares), rest, torch.tensor([0.0, 0.0, 1.0]).expand(9, 3))
    assert torch.equal(filled[:7], rgb[:7]) and torch.allclose(filled[8], rgb[0])
    assert torch.allclose(filled[7], torch.full((3,), 0.55), atol=0.01)  # halfway


def test_colors_stay_where_frames_draw_them_and_are_those_seen_elsewhere() -> None:
    seen = SeenColors(torch.full((5, 3), 0.5), torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
    fitted = torch.tensor([0.9, 0.9, 0.9, 0.55, 0.9])[:, None].expand(5, 3)
    drawn = torch.tensor([0.03, 0.01, 0.0, 0.01, 0.03])  # well; at the rim of others; not at all; a little; grazing
    places = torch.stack([torch.zeros(5), torch.arange(5.0), torch.zeros(5)], -1)
    settled = settled_colors(fitted, drawn, seen, places, torch.tensor([0.0, 0.0, 1.0]).expand(5, 3))[:, 0]
    assert torch.equal(settled[[0, 3, 4]], fitted[[0, 3, 4], 0])
    assert settled[1] == pytest.approx(0.66 + 0.16 * 0.24, abs=1e-5)  # two fifths learnt, and far from what is seen
    assert settled[2] == 0.5


def test_every_eighth_frame_is_held_out() -> None:
    assert held_out_frames(26, FitConfig()) == [4, 12, 20]
    assert held_out_frames(26, FitConfig(held_out_every=0)) == []


# The whole


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def capture(body: Body, tmp_path_factory: pytest.TempPathFactory) -> MadeUpTurn:
    return make_turn(body, tmp_path_factory.mktemp("capture"))


@pytest.mark.slow
def test_a_fit_recovers_the_colors_and_scores_well_on_frames_it_never_saw(capture, body: Body) -> None:
    result = fit_avatar(capture.video, capture, config=TINY, body=body, held_out=HeldOut(truth=capture.room))
    assert np.mean(result.losses[-10:]) < 0.6 * np.mean(result.losses[:5])
    assert result.scores is not None and result.scores.background == "true" and result.scores.n_frames == 2
    assert result.scores.psnr_box_db > 24 and result.scores.psnr_box_fitpose_db > 24
    albedo, height = result.avatar.albedo, result.avatar.rig.surface[:, 1]
    middle = capture.rig.surface[:, 1].mean()
    assert torch.allclose(albedo[height > middle + 0.2].median(0).values, torch.tensor([0.8, 0.3, 0.2]), atol=0.06)
    assert torch.allclose(albedo[height < middle - 0.2].median(0).values, torch.tensor([0.2, 0.4, 0.7]), atol=0.06)
    assert result.coverage > 0.8


@pytest.mark.slow
def test_frames_to_hold_out_may_be_named(capture, body: Body) -> None:
    config = replace(TINY, stages=(Stage(2, 0.5, 6, 2),))
    valid = capture.motion.valid.clone()
    valid[2] = False
    track = SimpleNamespace(
        motion=replace(capture.motion, valid=valid), camera=capture.camera, masks=capture.masks, config=capture.config
    )
    result = fit_avatar(capture.video, track, config=config, body=body, held_out=HeldOut([2, 3, 5, 6]))
    assert result.scores is not None and result.scores.n_frames == 3  # nobody was seen in frame 2
    with pytest.raises(InputError, match=r"All 15 frames .* are held out"):
        fit_avatar(capture.video, track, config=config, body=body, held_out=HeldOut(range(FRAMES)))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_avatar(capture, body: Body) -> None:
    config = replace(TINY, stages=(Stage(2, 0.5, 6, 2),), held_out_every=0)
    a, b = (fit_avatar(capture.video, capture, config=config, body=body) for _ in range(2))
    other = fit_avatar(capture.video, capture, config=replace(config, seed=1), body=body)
    assert a.scores is None
    for name in ("offsets", "albedo", "log_scales"):
        assert torch.equal(getattr(a.avatar, name), getattr(b.avatar, name))
    assert torch.equal(a.motion.poses, b.motion.poses)
    assert not torch.equal(a.avatar.albedo, other.avatar.albedo)


@pytest.mark.slow
def test_pose_refinement_undoes_a_wrong_pose(capture, body: Body) -> None:
    wrong = capture.motion.poses.clone()
    wrong[:, 16, 2] += 0.15 * torch.tensor([1.0, -1.0]).repeat(FRAMES // 2)
    wrong[:, 0, 1] += 0.08 * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(FRAMES // 4)
    track = SimpleNamespace(
        motion=replace(capture.motion, poses=wrong), camera=capture.camera, masks=capture.masks, config=capture.config
    )
    config = replace(TINY, stages=(Stage(2, 0.6, 180, 4),), held_out_every=0, refine_shape=False)
    found = fit_avatar(capture.video, track, config=config, body=body).motion

    def off_px(motion: Motion) -> float:  # of the left hand: shoulder, collar and elbow may share the correction
        wrists = [body.pose(m.poses, BETAS, m.transl).joints[:, 20:21] for m in (motion, capture.motion)]
        a, b = (capture.camera.project(w) for w in wrists)
        return float((a - b).norm(dim=-1).mean())

    assert off_px(found) < 0.45 * off_px(track.motion)


def test_a_lean_common_to_all_frames_stays_as_tracked(capture) -> None:
    pose = PoseRefinement.of(capture.motion)
    generator = torch.Generator().manual_seed(0)
    own = 0.05 * torch.randn(FRAMES, 3, generator=generator)
    across = torch.tensor([1.0, 0.0, 0.0])
    leaning = matrix_from_axis_angle(own + 0.1 * across) @ matrix_from_axis_angle(capture.motion.poses[:, 0])
    pose.corrections.values[:, :3] = axis_angle_from_matrix(leaning) - capture.motion.poses[:, 0]

    def turned() -> torch.Tensor:
        now = matrix_from_axis_angle(capture.motion.poses[:, 0] + pose.corrections.values[:, :3])
        return axis_angle_from_matrix(now @ matrix_from_axis_angle(capture.motion.poses[:, 0]).mT)

    before = turned()
    pose.remove_common_lean(across)
    after = turned()
    assert abs(float(before[:, 0].mean())) > 0.08
    assert abs(float(after[:, 0].mean())) < 2e-3
    assert (after[:, 0].diff() - before[:, 0].diff()).abs().max() < 0.01  # frames keep what is their own
    assert (after[:, 1:] - before[:, 1:]).abs().max() < 0.01
    assert pose.corrections.values[:, :3].abs().max() < 0.5  # and the form of axis-angle that is near the tracked one


@pytest.mark.slow
def test_wrong_poses_of_a_half_turn_grow_no_needles_and_no_holes(capture, body: Body) -> None:
    jitter = 0.15 * torch.randn(FRAMES, 21, 3, generator=torch.Generator().manual_seed(0))
    poses = torch.cat(
        [capture.motion.poses[:, :1], capture.motion.poses[:, 1:22] + jitter, capture.motion.poses[:, 22:]], 1
    )
    seen = torch.linspace(0, 2 * math.pi, FRAMES + 1)[:-1].cos() > -0.2
    motion = replace(capture.motion, poses=poses, valid=seen)
    track = replace(capture, motion=motion)
    config = replace(
        TINY, stages=(Stage(2, 0.5, 60, 2), Stage(1, 1.0, 800)), held_out_every=0, refine_pose=False, flat_db=0
    )
    avatar = fit_avatar(capture.video, track, config=config, body=body).avatar
    longest = avatar.log_scales.exp().amax(1) / avatar.rig.neighbors().spacing_m
    opacity = avatar.opacity_logits.sigmoid()
    assert opacity.quantile(0.05) > 0.9  # 0.997, and 0.03 without the weight against what is not opaque
    assert longest.quantile(0.999) < 2.5
    assert longest.quantile(0.99) < 2.25  # spacings; 2.06, and 2.9 with a fiftieth of the weight against growing


def test_too_few_frames_with_a_person_are_refused(capture, body: Body) -> None:
    few = replace(capture.motion, valid=torch.arange(FRAMES) < 5)
    track = replace(capture, motion=few)
    with pytest.raises(InputError, match=r"Only 5 of 16 frames"):
        fit_avatar(capture.video, track, config=TINY, body=body)


def test_a_fit_has_stages() -> None:
    with pytest.raises(InputError, match="at least one stage; found none"):
        FitConfig(stages=())


def test_a_fitted_avatar_survives_the_disk(capture, body: Body, tmp_path: Path) -> None:
    config = replace(TINY, stages=(Stage(2, 0.3, 2, 2),))
    result = fit_avatar(capture.video, capture, config=config, body=body)
    loaded = Avatar.load(result.avatar.save(tmp_path / "a"), body)
    assert loaded.card["scores"]["n_frames"] == 2
    assert loaded.card["fit"]["settings"]["size_px"] == SIZE
