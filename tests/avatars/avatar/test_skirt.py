"""What spans from leg to leg is found in masks, and hangs between the legs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.fake_turn import BETAS, TINY, make_turn

from avatars.avatar import Avatar
from avatars.avatar.binding import TORSO_AND_LIMBS, spread_over
from avatars.avatar.rig import Rig
from avatars.avatar.skirt import LEFT, OVERLAP_M, RIGHT, STEP_M, Leg, Silhouette, Skirt, find_hem
from avatars.avatar.variation import reshaped
from avatars.body import Body, load_body
from avatars.fitting.checkpoint import from_state, state_of
from avatars.fitting.color_init import SeenColors, fill_unseen
from avatars.fitting.config import Stage
from avatars.fitting.crops import read_crops
from avatars.fitting.parameters import on_the_surface
from avatars.fitting.pipeline import fit_avatar
from avatars.fitting.stage_start import first_stage, next_stage
from avatars.fitting.state import FitInputs, FitProgress
from avatars.geometry.camera import Camera
from avatars.rasterizer import rasterize
from avatars.rasterizer.gaussians import Gaussians

HEM = 0.5
ROUND = [0.0, 0.05, -0.05, 1.5, 3.1]
"""Headings: three from the front, one from a side, one from behind."""


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def bare(body: Body) -> Rig:
    return Rig.build(body, spread_over(body, body.shaped(BETAS)[0], 8000), BETAS)


@pytest.fixture(scope="module")
def skirted(bare: Rig) -> Rig:
    return Rig.build(bare.body, bare.binding, BETAS, skirt=Skirt.of(bare.body, BETAS, bare.binding, HEM))


def seen(
    rig: Rig,
    headings: list[float],
    *,
    px: float = 220.0,
    eye_m: float = 1.5,
    off_m: float = 0.0,
    forward: float = 0.0,
    outward: float = 0.0,
) -> list[Silhouette]:
    """What a camera sees of the rig's points, one heading after the other: a person about half of `px` tall, in clothes
    that are `off_m` off the skin, with both legs turned forward and outward."""
    p, found = on_the_surface(rig, rig.neighbors()), []
    size = round(1.2 * px)
    camera = Camera.level(focal_px=px, size_hw=(size, size), height_m=eye_m, distance_m=3.0)
    for heading in headings:
        poses = torch.zeros(1, 55, 3)
        poses[0, 0, 1] = heading
        poses[0, [LEFT[0], RIGHT[0]]] = torch.tensor([[-forward, 0.0, outward], [-forward, 0.0, -outward]])
        low = float(rig.body.pose(poses, BETAS).vertices()[..., 1].amin())
        posed = rig.body.pose(poses, BETAS, torch.tensor([[0.0, -low, 0.0]]))
        points = rig.pose(posed, p.offsets + off_m * rig.normals, p.quats)
        render = rasterize(
            Gaussians(points.means, points.quats, p.log_scales.exp(), p.opacity_logits.sigmoid(), p.albedo), camera
        )
        mask = render.alpha[0, 0] > 0.5
        found.append(Silhouette(posed, camera, mask, torch.ones_like(mask)))
    return found


def test_a_skirts_hem_is_found_where_it_hangs(body: Body, skirted: Rig) -> None:
    leg = Leg.both(body, BETAS)[0]
    hem = find_hem(body, BETAS, seen(skirted, ROUND))
    assert hem == pytest.approx(HEM, abs=3 * STEP_M / (leg.heights[-1] - leg.heights[0]))


@pytest.mark.slow
@pytest.mark.parametrize("px", [80.0, 220.0])
@pytest.mark.parametrize("off_m", [0.0, 0.032])
def test_bare_legs_and_trousers_are_no_skirt(body: Body, bare: Rig, off_m: float, px: float) -> None:
    assert find_hem(body, BETAS, seen(bare, ROUND, off_m=off_m, px=px)) is None


def test_trousers_that_close_a_wide_gap_are_no_skirt_since_they_open_slowly(
    body: Body, bare: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = seen(bare, ROUND, off_m=0.06)
    assert find_hem(body, BETAS, wide) is None
    monkeypatch.setattr("avatars.avatar.skirt.OPEN", 0.0)
    assert find_hem(body, BETAS, wide) is not None


def test_a_trunk_seen_between_the_thighs_of_who_sits_is_no_skirt(body: Body, bare: Rig) -> None:
    assert find_hem(body, BETAS, seen(bare, ROUND, eye_m=0.2, forward=1.4, outward=0.4)) is None


def test_sides_and_few_frames_tell_of_no_skirt(body: Body, skirted: Rig) -> None:
    assert find_hem(body, BETAS, seen(skirted, [1.5] * 9)) is None
    assert find_hem(body, BETAS, seen(skirted, ROUND[:2])) is None


def test_what_counts_nowhere_tells_of_no_skirt(body: Body, skirted: Rig) -> None:
    sights = seen(skirted, ROUND)
    hips = sights[0].mask.nonzero()[:, 0].float().mean()  # half of the mask lies above
    above = torch.arange(len(sights[0].mask))[:, None] < hips + 15
    for nothing in (torch.ones_like(above), above):
        hidden = [replace(s, counts=~nothing.expand_as(s.mask)) for s in sights]
        assert find_hem(body, BETAS, hidden) is None


def test_a_gap_that_one_frame_in_four_shows_is_no_skirt(body: Body, bare: Rig, skirted: Rig) -> None:
    closed, opened = seen(skirted, [0.0, 0.05, -0.05]), seen(bare, [0.02])
    assert find_hem(body, BETAS, closed) is not None
    assert find_hem(body, BETAS, closed + opened) is None


def test_legs_that_cross_are_no_skirt(body: Body, bare: Rig) -> None:
    assert find_hem(body, BETAS, seen(bare, ROUND, outward=-0.2)) is None


def test_a_skirt_that_ends_where_legs_are_close_cannot_be_told(body: Body, bare: Rig) -> None:
    short = Rig.build(body, bare.binding, BETAS, skirt=Skirt.of(body, BETAS, bare.binding, 0.25))
    assert find_hem(body, BETAS, seen(short, ROUND)) is None
    assert find_hem(body, BETAS, seen(short, ROUND, outward=0.2)) is not None


def widest_gap_m(rig: Rig, apart: float) -> float:
    """Between the points midway from crotch to hem, seen from the front, with each leg turned out by an angle."""
    poses = torch.zeros(1, 55, 3)
    poses[0, LEFT[0], 2], poses[0, RIGHT[0], 2] = apart, -apart
    n, heights = len(rig.binding), Leg.both(rig.body, BETAS)[0].heights
    quats = torch.tensor([1.0, 0, 0, 0]).expand(n, 4)
    means = rig.pose(rig.body.pose(poses, BETAS), torch.zeros(n, 3), quats).means[0]
    middle = heights[-1] - HEM / 2 * (heights[-1] - heights[0])
    return float(means[(means[:, 1] - middle).abs() < 0.02, 0].sort().values.diff().max())


def test_a_skirt_does_not_open_when_the_legs_part(bare: Rig, skirted: Rig) -> None:
    assert widest_gap_m(bare, 0.5) > 0.15
    assert widest_gap_m(skirted, 0.5) < 0.03


def test_a_skirt_hangs_on_two_planes_that_touch_both_legs(body: Body, bare: Rig) -> None:
    skirt, legs = Skirt.of(body, BETAS, bare.binding, HEM).hung(body, BETAS, bare.binding), Leg.both(body, BETAS)
    places, heights = bare.surface[skirt.index] + skirt.shift, legs[0].heights
    assert (bare.binding.region[skirt.index] == TORSO_AND_LIMBS).all()
    assert places[:, 1].min() > heights[-1] - HEM * (heights[-1] - heights[0])
    assert places[:, 1].max() < heights[-1] + OVERLAP_M
    assert torch.equal(skirt.normals[:, :2], torch.zeros(len(places), 2))
    for side in (1.0, -1.0):
        panel = places[skirt.normals[:, 2] == side]
        assert panel[:, 0].abs().min() < 0.005 and panel[:, 0].max() > 0.05 and panel[:, 0].min() < -0.05
        for leg in legs:
            own = panel[panel[:, 0] * -leg.toward > 0]
            _, z, _, forward, backward = (torch.from_numpy(column).float() for column in leg.at(own[:, 1].numpy()))
            lower = own[:, 1] < heights[-1] - 0.1  # nothing lifts them over the trunk
            assert torch.allclose(own[lower, 2], (z + (forward if side > 0 else -backward))[lower], atol=1e-5)


def test_the_middle_of_a_skirt_follows_both_legs_and_its_sides_one(body: Body, bare: Rig) -> None:
    skirt = Skirt.of(body, BETAS, bare.binding, HEM).hung(body, BETAS, bare.binding)
    places = bare.surface[skirt.index] + skirt.shift
    assert torch.allclose(skirt.weights.sum(1), torch.ones(len(places)), atol=1e-5)
    left = skirt.weights[:, LEFT].sum(1) - skirt.weights[:, RIGHT].sum(1)
    assert left[places[:, 0].abs() < 0.003].abs().max() < 0.1
    low = places[:, 1] < places[:, 1].min() + 0.1
    assert left[low & (places[:, 0] > 0.07)].min() > 0.3 and left[low & (places[:, 0] < -0.07)].max() < -0.3


def test_an_avatar_keeps_its_skirt_on_disk_and_on_other_bodies(body: Body, skirted: Rig, tmp_path: Path) -> None:
    p, skirt = on_the_surface(skirted, skirted.neighbors()), Skirt.of(body, BETAS, skirted.binding, HEM)
    avatar = Avatar(body, BETAS, skirted.binding, **p.leaves(), skirt=skirt)  # type: ignore[arg-type]
    again = Avatar.load(avatar.save(tmp_path / "avatar"), body)
    assert torch.equal(again.rig.surface, skirted.surface)
    assert torch.equal(again.rig.weights.dense_t, skirted.weights.dense_t)
    heavier = BETAS.clone()
    heavier[:4] = torch.tensor([1.0, -2.0, 2.0, 1.0])
    moved = (reshaped(again, heavier).rig.surface - again.rig.surface)[skirt.index]
    skin = skirted.binding.interpolate(body.shaped(heavier)[0] - body.shaped(BETAS)[0])[skirt.index]
    assert (moved - skin).norm(dim=-1).max() < 0.05  # none jumps to the other side
    places = reshaped(again, heavier).rig.surface[skirt.index]
    assert places[skirt.share > 0.97, 0].abs().max() < 0.005


def test_the_back_of_a_skirt_that_no_frame_shows_has_the_color_of_its_front(skirted: Rig) -> None:
    skirt, n = skirted.hanging, len(skirted.binding)
    assert skirt is not None
    front, back = (skirt.index[skirt.normals[:, 2] == side] for side in (1.0, -1.0))
    cloth, skin = torch.tensor([0.2, 0.2, 0.6]), torch.tensor([0.8, 0.6, 0.5])
    rgb, coverage = skin.repeat(n, 1), torch.ones(n)
    rgb[front], coverage[back], coverage[skirted.normals[:, 2] < -0.2] = cloth, 0.0, 0.0
    for worn, most in ((skirt, 0.06), (None, 1.0)):
        off = (fill_unseen(SeenColors(rgb, coverage), skirted.surface, skirted.normals, worn)[back] - cloth).abs()
        assert float(off.mean()) < most
    assert float(off.mean()) > 0.2


def test_on_another_shape_a_skirt_stays_as_far_off_the_skin(body: Body, skirted: Rig, bare: Rig) -> None:
    taller = body.shaped(BETAS + torch.eye(len(BETAS))[0])[0]
    off = skirted.surface_on(taller) - bare.surface_on(taller)
    assert torch.allclose(off, skirted.surface - bare.surface, atol=1e-6) and float(off.abs().max()) > 0.05
    assert torch.equal(skirted.surface_on(body.shaped(BETAS)[0]), skirted.surface)


@pytest.mark.slow
def test_a_fit_finds_the_skirt_and_goes_on_with_it_after_a_kill(body: Body, tmp_path: Path) -> None:
    long = 0.8  # in so small a picture gaps must be wide
    turn = make_turn(body, tmp_path, count=40, hem=long)
    short = replace(TINY, stages=(Stage(2, 0.5, 6, 2), Stage(1, 1.0, 6)))
    result = fit_avatar(turn.video, turn, config=short, body=body)  # type: ignore[arg-type]
    assert result.avatar.skirt is not None
    plain = fit_avatar(turn.video, turn, config=replace(short, skirt=False), body=body)  # type: ignore[arg-type]
    assert plain.avatar.skirt is None
    crops, motion = read_crops(turn.video, turn, body, short)  # type: ignore[arg-type]
    inputs = FitInputs.of(short, body, crops, motion, held_out=[])
    progress = FitProgress.start(inputs)
    first = first_stage(inputs, progress)
    assert first.gaussians.avatar(inputs, progress.betas).skirt is None
    run = next_stage(inputs, progress, 1, first.gaussians)
    resumed, again = from_state(inputs, state_of(progress, run))
    assert resumed.hem == progress.hem == pytest.approx(long, abs=0.15)
    assert torch.equal(again.gaussians.rig.surface, run.gaussians.rig.surface)
    assert torch.equal(again.ties.neighbors, run.ties.neighbors)
