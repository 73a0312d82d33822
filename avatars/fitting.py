"""A tracked video in, an Avatar out: Gaussians on the body, colored from the frames, refined from coarse to fine.

What decides quality is the accuracy of the poses and a dense start on the mesh, hence: colors are projected, not learnt
from gray; poses are refined from the first iteration; and everything is tied to its neighbors on the surface.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.avatar import Avatar
from avatars.binding import FACE, spread_over
from avatars.body import Body
from avatars.camera import Camera
from avatars.clean_plate import CleanPlate, ShadedRooms
from avatars.color_init import SeenColors, Sighting, fill_unseen, seen_colors
from avatars.crops import CropStack, boxes_of, load_crops
from avatars.drawing import draw
from avatars.errors import InputError
from avatars.fit_config import FitConfig, Stage
from avatars.fit_target import Comparison, crop_difference
from avatars.gaussian_parameters import GaussianParameters, on_the_surface, refined
from avatars.gaussians import Gaussians
from avatars.metrics import Scores
from avatars.motion import Motion
from avatars.pose_refinement import PoseRefinement
from avatars.progress import StageClock, progress
from avatars.rasterizer import rasterize
from avatars.rig import Rig
from avatars.row_adam import RowAdam
from avatars.shading import shading
from avatars.ties import Ties

if TYPE_CHECKING:
    from avatars.tracking import Track

COLOR_FRAMES = 36
"""At most so many frames give the first colors."""


SHAPE_LR = 0.01
"""Step of the betas (standard deviations)."""


@dataclass(frozen=True, slots=True, eq=False)
class FitResult:
    """What fitting made."""

    avatar: Avatar
    scores: Scores | None
    """None when no frame was held out."""
    motion: Motion
    """The usable frames with refined poses (held-out ones as carried over from their neighbors)."""
    camera: Camera
    coverage: float
    """Share of the Gaussians that the frames show; the others got their neighbors' or mirror image's color."""
    losses: list[float]


@dataclass(slots=True, eq=False)
class Fit:
    """Everything that changes while fitting."""

    config: FitConfig
    body: Body
    betas: Float[Tensor, " shape"]
    crops: CropStack
    train: list[int]
    """Crops that are fitted; poses and exposures have one row for each."""
    pose: PoseRefinement
    exposure: RowAdam
    generator: torch.Generator
    rig: Rig | None = None
    ties: Ties | None = None
    parameters: GaussianParameters | None = None
    coverage: float = 0.0
    level: int = 0
    """Of the stage entered last."""

    @staticmethod
    def start(config: FitConfig, body: Body, crops: CropStack, train: list[int], motion: Motion) -> Fit:
        """No Gaussians yet. `motion` has the frames of `crops`."""
        rows = motion[torch.tensor(train)]
        pose = PoseRefinement.of(rows, rotation_lr=0.01, transl_lr=0.005, decay=0.2, smoothness=2.0)
        exposure = RowAdam(len(train), torch.full((3,), 0.002), decay=2.0, smoothness=20.0)
        generator = torch.Generator().manual_seed(config.seed)
        betas = torch.zeros(body.n_betas)
        betas[: len(motion.betas)] = motion.betas[: body.n_betas]
        return Fit(config, body, betas, crops, train, pose, exposure, generator)

    def avatar(self) -> Avatar:
        """The avatar as it stands."""
        assert self.rig is not None and self.parameters is not None
        leaves = self.parameters.require_gradients(False).leaves()
        return Avatar(self.body, self.betas.clone(), self.rig.binding, **leaves)  # type: ignore[arg-type]


def fit_avatar(
    video: str | Path,
    track: Track,
    *,
    config: FitConfig | None = None,
    body: Body | None = None,
    plate: CleanPlate | None = None,
    truth: CleanPlate | ShadedRooms | None = None,
    clock: StageClock | None = None,
) -> FitResult:
    """Fit an avatar to a tracked video.

    `plate` is the room without the person, where there is a picture of it; otherwise it is estimated from the frames.
    `truth` is such a picture, too, or one per frame with the person's shadow on it, but used for scoring alone.
    Raises InputError when too few frames show a person.
    """
    from avatars.scoring import score_held_out

    config, body, clock = config or FitConfig(), body or Body.load(), clock or StageClock()
    with clock.stage("frames"):
        crops, motion = read_crops(video, track, body, config, plate, truth)
    held_out = held_out_frames(len(crops), config)
    train = [i for i in range(len(crops)) if i not in set(held_out)]
    fit = Fit.start(config, body, crops, train, motion)
    losses: list[float] = []
    for stage in config.stages:
        with clock.stage(f"fit 1/{stage.level}"):
            enter(fit, stage)
            losses += run_stage(fit, stage)
    with clock.stage("score"):
        scores, whole = score_held_out(fit, motion, held_out)
    avatar = fit.avatar().with_card(
        fit={"settings": asdict(config), "frames": len(crops), "coverage": round(fit.coverage, 4)},
        scores=None if scores is None else scores.as_dict(),
    )
    return FitResult(avatar, scores, replace(whole, betas=fit.betas), track.camera, fit.coverage, losses)


def read_crops(
    video: str | Path,
    track: Track,
    body: Body,
    config: FitConfig,
    plate: CleanPlate | None = None,
    truth: CleanPlate | ShadedRooms | None = None,
) -> tuple[CropStack, Motion]:
    """Crops of the frames that show a person, and the motion of those frames.

    Raises InputError when there are fewer than 8.
    """
    if track.masks is None:
        raise InputError(f"The track of {video} has no masks, which fitting needs; track it again with masks.")
    usable = torch.nonzero(track.motion.valid).squeeze(-1)
    if len(usable) < 8:
        raise InputError(f"Only {len(usable)} of {len(track.motion)} frames of {video} show a person; 8 are needed.")
    motion = track.motion[usable]
    posed = body.pose(motion.poses, motion.betas, motion.transl)
    some = torch.arange(0, body.n_vertices, max(body.n_vertices // 800, 1))
    boxes = boxes_of(track.camera.project(posed.vertices(some)), track.camera.size_hw)
    crops = load_crops(
        video, track.masks, usable, boxes, track.camera, size_px=config.size_px, plate=plate, truth=truth
    )
    return crops, motion


def held_out_frames(n: int, config: FitConfig) -> list[int]:
    """Every eighth frame (by default), from the middle of the first eight."""
    every = config.held_out_every
    return list(range(every // 2, n, every)) if every > 1 else []


def enter(fit: Fit, stage: Stage) -> None:
    """Make the stage's Gaussians: from those of the stage before, with colors projected anew at the poses of now."""
    count = max(int(fit.config.count * stage.density), 200)
    binding = spread_over(fit.body, fit.body.shaped(fit.betas)[0], count)
    rig = Rig.build(fit.body, binding, fit.betas)
    neighbors = rig.neighbors()
    if fit.parameters is None or fit.rig is None:
        parameters = on_the_surface(rig, neighbors)
    else:
        parameters = refined(fit.parameters, fit.rig, rig, neighbors)
    if stage.level < 4 <= fit.level:  # coarse Gaussians are fat: to fill a silhouette they lie too far inside it
        parameters.offsets = torch.zeros_like(parameters.offsets)
    fit.rig, fit.parameters, fit.level = rig, parameters, stage.level
    fit.ties = Ties.between(binding, neighbors, fit.config.weights)
    if fit.config.color_init:
        seen = look(fit, stage.level)
        least = 0.02 * float(seen.coverage.quantile(0.9)) if len(binding) < 1e6 else 0.0
        parameters.albedo = fill_unseen(seen, rig.surface + parameters.offsets, least_coverage=least).clamp(0, 1)
        fit.coverage = float((seen.coverage > least).float().mean())
    fit.parameters = parameters.require_gradients()


@torch.no_grad()
def look(fit: Fit, level: int) -> SeenColors:
    """What the frames show of each Gaussian at the poses of now."""
    chosen = torch.linspace(0, len(fit.train) - 1, min(COLOR_FRAMES, len(fit.train))).round().long().unique()
    return seen_colors(_sighting(fit, row, level) for row in chosen.tolist())


def _sighting(fit: Fit, row: int, level: int) -> Sighting:
    assert fit.rig is not None and fit.parameters is not None
    p, crop = fit.parameters, fit.crops.take([fit.train[row]], level)
    rows = torch.tensor([row])
    posed = fit.pose.pose(fit.body, fit.betas, rows, fit.pose.corrections.values[rows])
    points = fit.rig.pose(posed, p.offsets, p.quats)
    gaussians = Gaussians(points.means, points.quats, p.log_scales.exp(), p.opacity_logits.sigmoid(), p.albedo)
    gain = shading(points.normals, p.light)[0] * fit.exposure.values[row].exp()
    depth_m = rasterize(gaussians, crop.camera).depth_m[0, 0]
    return Sighting(crop, points.means[0], points.normals[0].t(), depth_m, gain)


def run_stage(fit: Fit, stage: Stage) -> list[float]:
    """Optimize Gaussians, poses, exposure and, in a coarse stage, shape. Returns the loss of every iteration."""
    assert fit.rig is not None and fit.parameters is not None
    shape = _shape_leaf(fit, stage)
    optimizer = _optimizer(fit, stage, shape)
    fit.pose.corrections.spread = 0.6 if stage.level > 1 else 0.0
    pose_rate = 1.0 if stage.level > 1 else 0.3  # the last stage polishes
    losses = []
    batches = _shuffled(len(fit.train), stage.iterations, stage.batch, fit.generator)
    for step, rows in enumerate(progress(batches, f"fit 1/{stage.level}", stage.iterations)):
        rate = 0.1 ** (step / max(stage.iterations, 1))
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate
        losses.append(_iterate(fit, stage, rows, optimizer, shape, max(rate, 0.2) * pose_rate, tie=2 * (step % 2)))
    if shape is not None:
        fit.betas = shape.detach().clone()
        fit.rig = Rig.build(fit.body, fit.rig.binding, fit.betas)
    return losses


def _iterate(
    fit: Fit,
    stage: Stage,
    rows: Tensor,
    optimizer: torch.optim.Optimizer,
    shape: Tensor | None,
    rate: float,
    *,
    tie: int,
) -> float:
    """One step on a batch of rows; `tie` weighs the ties (twice as much in every other step, to save time)."""
    config, rig, p = fit.config, fit.rig, fit.parameters
    assert rig is not None and p is not None and fit.ties is not None
    crops = fit.crops.take_bytes([fit.train[row] for row in rows.tolist()], stage.level)
    correction, exposure = fit.pose.corrections.leaf(rows), fit.exposure.leaf(rows)
    betas = fit.betas if shape is None else shape
    surface = None if shape is None else rig.binding.interpolate(fit.body.shaped(shape)[0])
    posed = fit.pose.pose(fit.body, betas, rows, correction)
    render = draw(rig, p, posed, crops.camera, exposure, shade=config.shading, surface=surface)
    dice = torch.rand(3, generator=fit.generator)
    colors = torch.rand(len(rows), 3, generator=fit.generator) * float(config.random_background)
    w, shift = config.weights, (int(dice[1] * 4), int(dice[2] * 4))
    how = Comparison(bool(dice[0] < 0.7), w.ssim, w.mask, shift)
    loss = crop_difference(render, crops, colors, how)
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    if tie:
        fit.ties.add_gradient(p, w.shrink, tie)
    if stage.level >= 2:  # thinner than a pixel or a Gaussian: silhouettes would only eat fingers, noses and toes away
        assert p.offsets.grad is not None
        p.offsets.grad[rig.binding.region >= FACE] = 0.0
    optimizer.step()
    with torch.no_grad():
        p.albedo.clamp_(0.0, 1.0)
    if config.refine_pose and correction.grad is not None:
        fit.pose.corrections.step(rows, correction.grad, rate)
    if config.exposure and exposure.grad is not None:
        fit.exposure.step(rows, exposure.grad, rate)
    return float(loss.detach())


def _optimizer(fit: Fit, stage: Stage, shape: Tensor | None) -> torch.optim.Optimizer:
    """Adam whose step sizes follow the Gaussians' spacing."""
    p, spacing = fit.parameters, float(fit.ties.spacing_m.median())  # type: ignore[union-attr]
    assert p is not None
    lrs = {
        "offsets": 0.03 * spacing,
        "quats": 0.004,
        "log_scales": 0.006,
        "opacity_logits": 0.02,
        "albedo": 0.008,
        "light": 0.002 if fit.config.shading else 0.0,
    }
    groups = [{"params": [value], "lr": lrs[name], "base_lr": lrs[name]} for name, value in p.leaves().items()]
    if shape is not None:
        groups.append({"params": [shape], "lr": SHAPE_LR, "base_lr": SHAPE_LR})
    for group in groups:
        group["params"][0].grad = torch.zeros_like(group["params"][0])
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-12, fused=True)


def _shape_leaf(fit: Fit, stage: Stage) -> Tensor | None:
    """Betas to be refined in a coarse stage: joints and surface move together, before offsets settle."""
    if not fit.config.refine_shape or stage.level < 4:
        return None
    return fit.betas.clone().requires_grad_()


def _shuffled(n: int, iterations: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of different rows in random order, each row as often as any other."""
    batch = min(batch, n)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(iterations):
        if len(order) < batch:
            order = torch.randperm(n, generator=generator)
        yield order[:batch]
        order = order[batch:]


def describe(result: FitResult) -> dict[str, Any]:
    """What fit.json says of a fit."""
    return {
        "n_gaussians": len(result.avatar),
        "coverage": round(result.coverage, 4),
        "scores": None if result.scores is None else result.scores.as_dict(),
        "final_loss": round(sum(result.losses[-20:]) / max(len(result.losses[-20:]), 1), 5),
    }
