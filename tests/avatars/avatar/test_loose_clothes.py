"""What hangs off the body moves as one piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.fake_turn import BETAS, TINY, MadeUpTurn, make_turn

from avatars.avatar import Avatar
from avatars.avatar.binding import HEAD, spread_over
from avatars.avatar.loose_clothes import LOOSE_M, LooseClothes
from avatars.avatar.rig import Rig
from avatars.avatar.variation import reshaped
from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.fitting.checkpoint import from_state, state_of
from avatars.fitting.crops import read_crops
from avatars.fitting.observed import settled
from avatars.fitting.parameters import on_the_surface
from avatars.fitting.stage_start import refined_stage
from avatars.fitting.state import FitInputs, FitProgress, FittedGaussians

HEM_M = 0.3
"""Below the hips."""


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def rig(body: Body) -> Rig:
    return Rig.build(body, spread_over(body, body.shaped(BETAS)[0], 8000), BETAS)


@pytest.fixture(scope="module")
def capture(body: Body, tmp_path_factory: pytest.TempPathFactory) -> MadeUpTurn:
    return make_turn(body, tmp_path_factory.mktemp("capture"))


@pytest.fixture(scope="module")
def skirt(rig: Rig, body: Body) -> torch.Tensor:
    """Offsets that bring the front of both thighs onto one panel, some 8 cm before them and closed in the middle."""
    hips = body.pose(torch.zeros(1, 55, 3), BETAS).joints[0, [1, 2]].mean(0)
    below = hips[1] - rig.surface[:, 1]
    worn = (rig.weights.dense_t[[1, 2]].sum(0) > 0.5) & (rig.normals[:, 2] > 0.2) & (below > 0.1) & (below < HEM_M)
    x, _, z = rig.surface.unbind(-1)
    offsets = torch.zeros_like(rig.surface)
    offsets[:, 0] = -x.sign() * x[worn].abs().min()
    offsets[:, 2] = z[worn].max() + 0.08 - z
    return offsets * worn[:, None]


def a_kick() -> torch.Tensor:
    """The left leg half raised."""
    poses = torch.zeros(1, 55, 3)
    poses[:, JOINT_NAMES.index("left_hip"), 0] = -0.8
    return poses


def torn_m(rig: Rig, offsets: torch.Tensor, poses: torch.Tensor) -> float:
    """How far apart points of the skirt that lie within 2 cm come to lie in a pose, at the worst."""
    places, worn = rig.surface + offsets, torch.nonzero(offsets.norm(dim=-1) > LOOSE_M).squeeze(-1)
    still = torch.cdist(places[worn], places[worn])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(len(places), 4)
    moved = rig.pose(rig.body.pose(poses, BETAS), offsets, quats).means[0, worn]
    return float(torch.cdist(moved, moved)[still < 0.02].max())


def test_a_skirt_stays_in_one_piece_when_a_leg_is_raised(rig: Rig, body: Body, skirt: torch.Tensor) -> None:
    loose = LooseClothes.of(rig.binding, rig.weights.dense_t.t(), rig.surface, skirt)
    assert loose is not None and torch.allclose(loose.weights.sum(1), torch.ones(len(loose.index)), atol=1e-5)
    free = Rig.build(body, rig.binding, BETAS, loose)
    bound, whole = (torn_m(r, skirt, a_kick()) for r in (rig, free))
    assert bound > 0.15 and whole < 0.06
    still = torch.zeros(1, 55, 3)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(len(skirt), 4)
    at_rest = [r.pose(body.pose(still, BETAS), skirt, quats).means for r in (rig, free)]
    assert torch.allclose(*at_rest, atol=1e-5)


def test_the_left_of_a_skirt_goes_with_the_left_leg(rig: Rig, skirt: torch.Tensor) -> None:
    loose = LooseClothes.of(rig.binding, rig.weights.dense_t.t(), rig.surface, skirt)
    assert loose is not None
    places = (rig.surface + skirt)[loose.index]
    left, right = (loose.weights[:, JOINT_NAMES.index(f"{side}_hip")] for side in ("left", "right"))
    assert (left - right)[places[:, 0] > 0.12].min() > 0.4
    assert (left - right)[places[:, 0].abs() < 0.02].abs().max() < 0.5


def test_what_lies_close_and_hair_move_as_the_skin_does(rig: Rig) -> None:
    weights, generator = rig.weights.dense_t.t(), torch.Generator().manual_seed(0)
    shirt = 0.024 * torch.nn.functional.normalize(torch.randn(len(weights), 3, generator=generator), dim=-1)
    assert LooseClothes.of(rig.binding, weights, rig.surface, shirt) is None
    hair = torch.zeros_like(rig.surface)
    hair[rig.binding.region == HEAD] = torch.tensor([0.0, -0.1, -0.05])
    assert LooseClothes.of(rig.binding, weights, rig.surface, hair) is None


def test_an_avatar_keeps_it_on_disk_and_in_other_shapes(
    rig: Rig, body: Body, skirt: torch.Tensor, tmp_path: Path
) -> None:
    p = on_the_surface(rig, rig.neighbors())
    loose = LooseClothes.of(rig.binding, rig.weights.dense_t.t(), rig.surface, skirt)
    leaves = p.leaves() | {"offsets": skirt}
    avatar = Avatar(body, BETAS, rig.binding, **leaves, loose=loose)  # type: ignore[arg-type]
    again = Avatar.load(avatar.save(tmp_path / "avatar"), body)
    posed = body.pose(a_kick(), BETAS)
    assert torch.equal(avatar.points(posed).means, again.points(posed).means)
    assert not torch.equal(avatar.points(posed).means, replace(avatar, loose=None).points(posed).means)
    taller = reshaped(again, BETAS + torch.eye(len(BETAS))[0])
    assert torch.equal(taller.rig.weights.dense_t, avatar.rig.weights.dense_t)


@pytest.fixture
def inputs(capture: MadeUpTurn, body: Body, rig: Rig) -> FitInputs:
    """At the true poses, with every frame fitted."""
    config = replace(TINY, n_gaussians=len(rig.binding))
    crops, motion = read_crops(capture.video, capture, body, config)  # type: ignore[arg-type]
    return FitInputs.of(config, body, crops, motion, held_out=[])


def gaussians_on_the_skin(rig: Rig) -> FittedGaussians:
    """As after a stage."""
    return FittedGaussians(2, rig, rig.to("cpu"), on_the_surface(rig, rig.neighbors()), shadows=None)


@pytest.mark.slow
def test_a_stage_lets_the_skirts_of_the_stage_before_go_and_goes_on_so_after_a_kill(
    inputs: FitInputs, rig: Rig, skirt: torch.Tensor
) -> None:
    before, progress = gaussians_on_the_skin(rig), FitProgress.start(inputs)
    before.parameters.offsets = skirt.clone()
    run = refined_stage(inputs, progress, 1, before)
    loose = run.gaussians.loose
    assert loose is not None and run.gaussians.avatar(inputs, progress.betas).loose is loose
    _, again = from_state(inputs, state_of(progress, run))
    assert torch.equal(again.gaussians.rig.weights.dense_t, run.gaussians.rig.weights.dense_t)
    assert torch.equal(again.ties.neighbors, run.ties.neighbors)
    before.parameters.offsets = torch.zeros_like(skirt)
    assert refined_stage(inputs, progress, 1, before).gaussians.loose is None


def test_the_end_of_a_fit_colors_what_lies_hidden_as_what_is_seen_there(inputs: FitInputs, rig: Rig) -> None:
    fitted = gaussians_on_the_skin(rig)
    p = fitted.parameters
    upper = rig.surface[:, 1] > rig.surface[:, 1].mean()
    p.albedo = torch.where(upper[:, None], torch.tensor([0.8, 0.3, 0.2]), torch.tensor([0.2, 0.4, 0.7]))
    chest = torch.nonzero(rig.weights.dense_t[JOINT_NAMES.index("spine3")] > 0.8).squeeze(-1)
    behind = chest[::4]
    p.log_scales[:, :2] += 0.5  # no gaps between those before
    p.opacity_logits += 5.0
    p.offsets[behind] = -0.02 * rig.normals[behind]
    p.albedo[behind] = torch.tensor([0.0, 1.0, 0.0])
    found, _ = settled(inputs, FitProgress.start(inputs), fitted)
    off = (found.parameters.albedo[behind] - torch.tensor([0.8, 0.3, 0.2])).abs().amax(1)
    assert off.quantile(0.75) < 0.06
