"""A tracked video in, an Avatar out: Gaussians on the body, colored from the frames, refined from coarse to fine.

What decides quality is the accuracy of the poses and a dense start on the mesh, hence: colors are projected, not learnt
from gray; poses are refined from the first iteration; and everything is tied to its neighbors on the surface.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.avatar import Avatar
from avatars.binding import FACE, spread_over
from avatars.body import Body, PosedBody
from avatars.camera import Camera
from avatars.clean_plate import CleanPlate, ShadedRooms
from avatars.color_init import SeenColors, Sighting, fill_unseen, seen_colors, settled_colors
from avatars.correctives import Correctives
from avatars.crops import CropStack, boxes_of, load_crops
from avatars.drawing import draw
from avatars.errors import InputError
from avatars.fit_config import FitConfig, Stage
from avatars.fit_stage import StageRun, Watch
from avatars.fit_target import Comparison, crop_difference
from avatars.gaussian_parameters import GaussianParameters, on_the_surface, refined
from avatars.gaussians import Gaussians
from avatars.image_motion import even_step
from avatars.loose_clothes import LooseClothes
from avatars.mask_stack import MaskStack
from avatars.metrics import Scores
from avatars.motion import Motion
from avatars.occluders import leave_out_occluders
from avatars.pose_refinement import PoseRefinement
from avatars.progress import StageClock, progress
from avatars.rasterizer import rasterize
from avatars.rig import Rig
from avatars.row_adam import RowAdam
from avatars.self_shadow import SelfShadow
from avatars.shading import shading
from avatars.skirt import Silhouette, Skirt, find_hem
from avatars.threads import torch_on_one_thread
from avatars.ties import Ties

if TYPE_CHECKING:
    from avatars.fit_state import Keeper
    from avatars.tracking import Track

COLOR_FRAMES = 36
"""At most so many frames give the first colors."""
ROW_RATE = {8: 1.5, 4: 1.5, 2: 1.0, 1: 0.3}
"""By level: steps of poses and exposures follow the resolution, and the last stage polishes."""
POSE_DECAY, MANY_FRAMES = 2.0, 280
"""How strongly poses are drawn back to the tracked ones, and up to twice as strongly where frames are fewer: what few
frames show of hair and loose clothes, which the body does not have, would else turn heads and bend backs."""
LAST_RATE = 0.03
"""A stage's last steps over its first; with 0.1, what one frame does to the Gaussians still shows at the end."""
SMOOTH_EVERY, SMOOTHED = 10, 0.004
"""Iterations between two smoothings of offsets by pose, and how far they are drawn to their neighbors' mean."""
HOLD_LEAN_EVERY = 25
"""Iterations between two corrections of the lean that all frames share."""
WATCH_EVERY = 200
"""Iterations between two looks at held-out frames in the last stage."""


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
    occluders: MaskStack | None = None
    """Where something passes before the person, a mask for each usable frame; None where nothing does."""


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
    drawn_rig: Rig | None = None
    """The same on the device that draws, as are ties and parameters."""
    ties: Ties | None = None
    trust: Tensor | None = None
    """How well the frames show each Gaussian, as `SeenColors.trust`."""
    parameters: GaussianParameters | None = None
    correctives: Correctives | None = None
    """Of the last stage, where the clip teaches any; on the device that draws, but for what makes codes of poses."""
    loose: LooseClothes | None = None
    """As the stage before left it; None in the first."""
    hem: float | None = None
    """How far down a skirt goes (`find_hem`), looked for after the first stage; None for no skirt."""
    skirt: Skirt | None = None
    """Of the stage's Gaussians."""
    shadows: SelfShadow | None = None
    """Of the stage's Gaussians; None where no light is fitted."""
    shadow: Tensor | None = None
    """What the body hides from itself in training frames (rows, anchors), as the stage began: poses change little."""
    coverage: float = 0.0
    hidden: list[Tensor] = field(default_factory=list)
    """By crop, where something passes before the person (height, width), bool; empty before anyone looked."""
    level: int = 0
    """Of the stage entered last."""
    run: StageRun | None = None
    """The stage under way."""
    losses: list[float] = field(default_factory=list)
    """Of every iteration so far."""

    @staticmethod
    def start(config: FitConfig, body: Body, crops: CropStack, train: list[int], motion: Motion) -> Fit:
        """No Gaussians yet. `motion` has the frames of `crops`."""
        rows = motion[torch.tensor(train)]
        decay = POSE_DECAY * min(max(MANY_FRAMES / len(train), 1.0), 2.0)
        pose = PoseRefinement.of(rows, decay=decay, smoothness=2.0)
        exposure = RowAdam(len(train), torch.full((3,), 0.002), decay=2.0, smoothness=20.0)
        generator = torch.Generator().manual_seed(config.seed)
        betas = torch.zeros(body.n_betas)
        betas[: len(motion.betas)] = motion.betas[: body.n_betas]
        return Fit(config, body, betas, crops.to(config.device), train, pose, exposure, generator)

    def hide(self, hidden: list[Tensor]) -> None:
        """Let those pixels of each crop count nowhere from now on, and all others."""
        self.hidden = hidden
        for i, where in enumerate(hidden):
            self.crops.show_all_but(i, where)

    def put_correctives(self, correctives: Correctives | None) -> None:
        """Fit these, too."""
        self.correctives = correctives
        if correctives is not None:
            directions = correctives.directions.to(self.config.device, copy=True).requires_grad_()
            self.correctives = replace(correctives, directions=directions)

    def put_rig(self, rig: Rig) -> None:
        """Go on with this rig."""
        self.rig, self.drawn_rig = rig, rig.to(self.config.device)

    def avatar(self) -> Avatar:
        """The avatar as it stands."""
        assert self.rig is not None and self.parameters is not None
        leaves = self.parameters.require_gradients(False, "cpu").leaves()
        found = self.correctives
        if found is not None:
            found = replace(found, directions=found.directions.detach().cpu().clone())
        extra = {"correctives": found, "loose": self.loose, "skirt": self.skirt, "self_shadow": self.config.shading}
        return Avatar(self.body, self.betas.clone(), self.rig.binding, **leaves, **extra)  # type: ignore[arg-type]

    def shadow_in(self, posed: PosedBody) -> Tensor | None:
        """What the body hides from itself in those poses (frames, n), as `shaded` takes it."""
        if self.shadows is None or self.parameters is None:
            return None
        return self.shadows.spread(self.shadows.at_anchors(posed.A_world_rest, self.parameters.light))

    def shadow_of(self, rows: Tensor) -> Tensor | None:
        """The same of training frames, as the stage began."""
        return None if self.shadows is None or self.shadow is None else self.shadows.spread(self.shadow[rows])

    def worn(self, p: GaussianParameters, posed: PosedBody) -> GaussianParameters:
        """The Gaussians as they are in those poses: with an offset for every frame where there are correctives."""
        if self.correctives is None:
            return p
        return replace(p, offsets=self.correctives.offsets(p.offsets, posed.poses))


def fit_avatar(
    video: str | Path,
    track: Track,
    *,
    config: FitConfig | None = None,
    body: Body | None = None,
    plate: CleanPlate | None = None,
    truth: CleanPlate | ShadedRooms | None = None,
    clock: StageClock | None = None,
    keep: Path | None = None,
    held_out: Sequence[int] | None = None,
) -> FitResult:
    """Fit an avatar to a tracked video.

    `plate` is the room without the person, where there is a picture of it; otherwise it is estimated from the frames.
    `truth` is such a picture, too, or one per frame with the person's shadow on it, but used for scoring alone.
    `held_out` are frames of the track that are scored and not fitted, in place of every eighth.
    `keep` is a file in which the fit is kept from time to time; where it is there, the same fit goes on from it, to the
    same avatar. Raises InputError when too few frames show a person, or all are held out.
    """
    from avatars.fit_state import Keeper
    from avatars.scoring import score_held_out, unscored

    config, body, clock = config or FitConfig(), body or Body.load(), clock or StageClock()
    with clock.stage("frames"):
        crops, motion = read_crops(video, track, body, config, plate, truth)
    kept = held_out_frames(len(crops), config) if held_out is None else _crops_of(held_out, track)
    train = [i for i in range(len(crops)) if i not in set(kept)]
    if not train:
        raise InputError(f"All {len(crops)} frames of {video} are held out; some are needed to fit.")
    fit, keeper = Fit.start(config, body, crops, train, motion), Keeper(keep)
    watch = Watch(motion, unscored(kept, config))
    for number in range(keeper.restore(fit), len(config.stages)):
        stage = config.stages[number]
        with clock.stage(name_of(stage)):
            if fit.run is None:
                if number > 0 and config.occluders:
                    leave_out_occluders(fit, motion)
                if number == 1 and config.skirt:
                    fit.hem = find_hem(fit.body, fit.betas, silhouettes(fit))
                enter(fit, stage, number)
            run_stage(fit, watch, keeper)
    with clock.stage("fit unseen"):
        finish(fit)
    with clock.stage("score"):
        scores, whole = score_held_out(fit, motion, kept)
    avatar = fit.avatar().with_card(
        fit={"settings": asdict(config), "frames": len(crops), "coverage": round(fit.coverage, 4)},
        scores=None if scores is None else scores.as_dict(),
    )
    found = any(bool(where.any()) for where in fit.hidden)
    occluders = MaskStack.packed(map(crops.in_frame, range(len(crops)), fit.hidden), crops.frame_hw) if found else None
    motion = replace(whole, betas=fit.betas)
    return FitResult(avatar, scores, motion, track.camera, fit.coverage, fit.losses, occluders)


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


def _crops_of(frames: Sequence[int], track: Track) -> list[int]:
    """Which crops (`read_crops`) are of these frames of the track."""
    usable = torch.nonzero(track.motion.valid).squeeze(-1).tolist()
    return [i for i, frame in enumerate(usable) if frame in set(frames)]


def name_of(stage: Stage) -> str:
    """For clocks and progress bars."""
    return f"fit 1/{stage.level}"


def enter(fit: Fit, stage: Stage, number: int) -> None:
    """Make the stage's Gaussians: from those of the stage before, with colors projected anew at the poses of now.

    What hangs free by then moves as one piece from now on; ties go on to join what the skin joins.
    """
    count = max(int(fit.config.count * stage.density), 200)
    binding = spread_over(fit.body, fit.body.shaped(fit.betas)[0], count)
    fit.skirt = None if fit.hem is None else Skirt.of(fit.body, fit.betas, binding, fit.hem)
    rig = Rig.build(fit.body, binding, fit.betas, skirt=fit.skirt)
    neighbors = rig.neighbors()
    if fit.parameters is None or fit.rig is None:
        parameters = on_the_surface(rig, neighbors)
    else:
        parameters = refined(fit.parameters.require_gradients(False, "cpu"), fit.rig, rig, neighbors)
        if fit.skirt is not None and fit.rig.hanging is None:  # offsets from skin that now hangs
            parameters.offsets[fit.skirt.index] = 0.0
        fit.loose = LooseClothes.of(binding, rig.weights.dense_t.t(), rig.surface, parameters.offsets)
        rig = Rig.build(fit.body, binding, fit.betas, fit.loose, fit.skirt)
    if stage.level < 4 <= fit.level:  # coarse Gaussians are fat: to fill a silhouette they lie too far inside it
        parameters.offsets = on_the_surface(rig, neighbors).offsets
    fit.put_rig(rig)
    fit.parameters, fit.level = parameters.require_gradients(False, fit.config.device), stage.level
    if fit.config.shading:
        fit.shadows = SelfShadow.of(rig, fit.betas)
        everyone = torch.arange(len(fit.train))
        posed = fit.pose.pose(fit.body, fit.betas, everyone, fit.pose.corrections.values)
        fit.shadow = fit.shadows.at_anchors(posed.A_world_rest, parameters.light)
    seen = look(fit, stage.level)
    if fit.config.color_init:
        parameters.albedo = fill_unseen(seen, rig.surface, rig.normals, rig.hanging).clamp(0, 1)
    fit.trust = seen.trust
    fit.ties = Ties.between(rig, neighbors, fit.config.weights, fit.trust).to(fit.config.device)
    fit.parameters = parameters.require_gradients(True, fit.config.device)
    if stage is fit.config.stages[-1] and fit.config.correctives:
        fit.put_correctives(Correctives.of(fit.pose.refined().poses, len(binding)))
    fit.run = StageRun.start(fit, stage, number)


def silhouettes(fit: Fit) -> Iterator[Silhouette]:
    """Of every training frame, with the body in its pose of now."""
    for row, i in enumerate(fit.train):
        rows = torch.tensor([row])
        posed = fit.pose.pose(fit.body, fit.betas, rows, fit.pose.corrections.values[rows])
        yield Silhouette(posed, fit.crops.cameras[i], *fit.crops.silhouette(i))


def finish(fit: Fit) -> None:
    """Settle the colors, which ties smear where no frame shows them."""
    assert fit.rig is not None and fit.parameters is not None
    p, rig = fit.parameters.require_gradients(False), fit.rig
    fit.parameters = p
    seen = look(fit, fit.level)
    places, drawn = rig.surface + p.offsets.cpu(), drawn_share(fit, fit.level)
    p.albedo = settled_colors(p.albedo.cpu(), drawn, seen, places, rig.normals, rig.hanging).to(fit.config.device)
    fit.coverage = 1.0 - float(seen.unseen.float().mean())


def drawn_share(fit: Fit, level: int) -> Float[Tensor, " n"]:
    """How much of each Gaussian the frames show: 1 for one that all of them show whole and face on."""
    assert fit.drawn_rig is not None and fit.parameters is not None
    p, chosen = fit.parameters, looked_at(fit)
    white, face_on = torch.ones_like(p.albedo, requires_grad=True), torch.zeros(len(p.albedo))
    for row in chosen:
        crop, rows = fit.crops.take([fit.train[row]], level), torch.tensor([row])
        posed = fit.pose.pose(fit.body, fit.betas, rows, fit.pose.corrections.values[rows])
        with torch.no_grad():
            points = fit.drawn_rig.pose(posed, fit.worn(p, posed).offsets, p.quats)
        scales, camera = p.log_scales.exp(), crop.camera.to(p.offsets.device)
        render = rasterize(Gaussians(points.means, points.quats, scales, p.opacity_logits.sigmoid(), white), camera)
        (render.rgb[0, 0] * (crop.mask * crop.shown)[0].to(white.device)).sum().backward()
        per_m = camera.K[0, 0, 0] / camera[0].to_camera(points.means[0])[:, 2].clamp_min(0.1)
        face_on += (2 * math.pi * scales[:, :2].prod(1) * per_m**2).cpu()
    assert white.grad is not None
    return white.grad[:, 0].cpu() / face_on


@torch.no_grad()
def look(fit: Fit, level: int) -> SeenColors:
    """What the frames show of each Gaussian at the poses of now."""
    return seen_colors(_sighting(fit, row, level) for row in looked_at(fit))


def looked_at(fit: Fit) -> list[int]:
    """Rows spread over the clip."""
    return torch.linspace(0, len(fit.train) - 1, min(COLOR_FRAMES, len(fit.train))).round().long().unique().tolist()


def _sighting(fit: Fit, row: int, level: int) -> Sighting:
    assert fit.drawn_rig is not None and fit.parameters is not None
    p, crop = fit.parameters, fit.crops.take([fit.train[row]], level)
    rows = torch.tensor([row])
    posed = fit.pose.pose(fit.body, fit.betas, rows, fit.pose.corrections.values[rows])
    points = fit.drawn_rig.pose(posed, fit.worn(p, posed).offsets, p.quats)
    gaussians = Gaussians(points.means, points.quats, p.log_scales.exp(), p.opacity_logits.sigmoid(), p.albedo)
    gain = shading(points.normals, p.light)[0].cpu() * fit.exposure.values[row].exp()
    if (shadow := fit.shadow_of(rows)) is not None:
        gain = gain * shadow[0].exp()[:, None]
    depth_m = rasterize(gaussians, crop.camera.to(p.offsets.device)).depth_m[0, 0].cpu()
    return Sighting(crop, points.means[0].cpu(), points.normals[0].t().cpu(), depth_m, gain)


@torch_on_one_thread()
def run_stage(fit: Fit, watch: Watch, keeper: Keeper) -> None:
    """Optimize Gaussians, poses, exposure and, in a coarse stage, shape, to the end of the stage under way."""
    run = fit.run
    assert run is not None and fit.rig is not None
    stage = run.stage
    fit.pose.corrections.spread = 0.3 if stage.level > 1 else 0.0
    for _ in progress(run.steps(), name_of(stage), stage.iterations - run.step):
        rate = LAST_RATE ** run.schedule.share(run.step)
        rows = run.next_rows(len(fit.train), fit.generator)
        fit.losses.append(_iterate(fit, run, rows, rate))
        run.step += 1
        if stage is fit.config.stages[-1] and run.step % WATCH_EVERY == 0:
            watch.look(fit, run)
        keeper.keep(fit)
    if run.shape is not None:
        fit.betas = run.shape.detach().clone()
        fit.put_rig(Rig.build(fit.body, fit.rig.binding, fit.betas, fit.loose, fit.skirt))
    fit.run = None


def _iterate(fit: Fit, run: StageRun, rows: Tensor, rate: float) -> float:
    """One step on a batch of rows."""
    config, rig, p, stage = fit.config, fit.rig, fit.parameters, run.stage
    assert rig is not None and fit.drawn_rig is not None and p is not None and fit.ties is not None
    crops = fit.crops.take_bytes([fit.train[row] for row in rows.tolist()], stage.level)
    correction, exposure = fit.pose.corrections.leaf(rows), fit.exposure.leaf(rows)
    betas = fit.betas if run.shape is None else run.shape
    surface = None if run.shape is None else rig.surface_on(fit.body.shaped(run.shape)[0])
    posed = fit.pose.pose(fit.body, betas, rows, correction)
    worn = fit.worn(p, posed)
    lit = {"shade": config.shading, "shadow": fit.shadow_of(rows)}
    render = draw(fit.drawn_rig, worn, posed, crops.camera, exposure, surface=surface, **lit)
    dice = torch.rand(3, generator=fit.generator)
    colors = torch.rand(len(rows), 3, generator=fit.generator) * float(config.random_background)
    w, shift = config.weights, (int(dice[1] * 4), int(dice[2] * 4))
    how = Comparison(bool(dice[0] < 0.7), w.ssim, w.mask, shift)
    loss = crop_difference(render, crops, colors, how)
    loss.backward()
    if run.step % 2:  # twice as much in every other step, to save time
        fit.ties.add_gradient(p, w.shrink, 2)
    opacity = p.opacity_logits.detach().sigmoid()
    assert p.opacity_logits.grad is not None and p.offsets.grad is not None
    p.opacity_logits.grad -= w.opaque / len(opacity) * (1 - opacity)
    if stage.level >= 2:  # thinner than a pixel or a Gaussian: silhouettes would only eat fingers, noses and toes away
        p.offsets.grad[fit.drawn_rig.binding.region >= FACE] = 0.0
    if fit.correctives is not None:
        directions = fit.correctives.directions
        assert directions.grad is not None
        with torch.no_grad():
            directions.grad += 2 * w.corrective / len(opacity) * directions / fit.ties.spacing_m[:, None] ** 2
        directions.grad[:, fit.drawn_rig.binding.region >= FACE] = 0.0
    run.optimizer.step(rate)
    if fit.correctives is not None and run.step % SMOOTH_EVERY == SMOOTH_EVERY - 1:
        fit.correctives.smooth(fit.ties.neighbors, SMOOTHED)
    p.keep_possible(fit.ties.spacing_m)
    row_rate = max(rate, 0.2) * ROW_RATE[stage.level]
    if config.refine_pose and correction.grad is not None:
        fit.pose.step(rows, *even_step(rig, p.offsets, posed, crops.camera, correction.grad), row_rate)
        if run.step % HOLD_LEAN_EVERY == HOLD_LEAN_EVERY - 1:
            fit.pose.hold_lean(crops.camera.T_cam_world[0, 0, :3])
    if config.exposure and exposure.grad is not None:
        fit.exposure.step(rows, exposure.grad, row_rate)
    return float(loss.detach())


def describe(result: FitResult) -> dict[str, Any]:
    """What fit.json says of a fit."""
    return {
        "n_gaussians": len(result.avatar),
        "pose_codes": 0 if result.avatar.correctives is None else len(result.avatar.correctives.axes),
        "skirt": result.avatar.skirt is not None,
        "iterations": len(result.losses),
        "coverage": round(result.coverage, 4),
        "scores": None if result.scores is None else result.scores.as_dict(),
        "final_loss": round(sum(result.losses[-20:]) / max(len(result.losses[-20:]), 1), 5),
    }
