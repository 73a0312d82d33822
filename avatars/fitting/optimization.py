"""A stage at any iteration in; the same stage at its end out: Gaussians, poses, exposure and shape, step by step."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.avatar.binding import FACE
from avatars.avatar.rig import Rig
from avatars.fitting.checkpoint import CheckpointWriter
from avatars.fitting.config import FitWeights, Stage
from avatars.fitting.drawing import draw
from avatars.fitting.image_motion import gauss_newton_step
from avatars.fitting.stage import EarlyStopping
from avatars.fitting.state import FitInputs, FitProgress, StageRun
from avatars.fitting.target import Comparison, crop_difference
from avatars.io.progress import progress as show_progress
from avatars.kernels.adam import gradient_of
from avatars.kernels.threads import torch_on_one_thread

ROW_RATE = {8: 1.5, 4: 1.5, 2: 1.0, 1: 0.3}
"""By level: steps of poses and exposures follow the resolution, and the last stage polishes."""
LAST_RATE = 0.03
"""A stage's last steps over its first; with 0.1, what one frame does to the Gaussians still shows at the end."""
SMOOTH_EVERY, SMOOTHED = 10, 0.004
"""Iterations between two smoothings of offsets by pose, and how far they are drawn to their neighbors' mean."""
HOLD_LEAN_EVERY = 25
"""Iterations between two corrections of the lean that all frames share."""
WATCH_EVERY = 200
"""Iterations between two looks at held-out frames in the last stage."""


def name_of(stage: Stage) -> str:
    """For clocks and progress bars."""
    return f"fit 1/{stage.level}"


@torch_on_one_thread()
def run_stage(
    inputs: FitInputs, progress: FitProgress, run: StageRun, watch: EarlyStopping, keeper: CheckpointWriter
) -> None:
    """Optimize Gaussians, poses, exposure and, in a coarse stage, shape, to the end of the stage."""
    stage = run.stage
    progress.pose.corrections.spread = 0.3 if stage.level > 1 else 0.0
    for _ in show_progress(run.steps(), name_of(stage), stage.iterations - run.step):
        rows = run.next_rows(len(inputs.train), progress.generator)
        progress.losses.append(_iterate(inputs, progress, run, rows))
        run.step += 1
        if run.number == len(inputs.config.stages) - 1 and run.step % WATCH_EVERY == 0:
            watch.look(inputs, progress, run)
        keeper.keep(progress, run)
    if run.shape is not None:
        found = run.gaussians
        progress.betas = run.shape.detach().clone()
        rig = Rig.build(inputs.body, found.rig.binding, progress.betas, found.loose, found.skirt)
        run.gaussians = found.with_rig(rig)


def _iterate(inputs: FitInputs, progress: FitProgress, run: StageRun, rows: Int[Tensor, " b"]) -> float:
    """One step on a batch of rows. Returns the loss."""
    config, shown, stage = inputs.config, run.gaussians, run.stage
    rate = LAST_RATE ** run.schedule.share(run.step)
    crops = inputs.crops.take_bytes([inputs.train[row] for row in rows.tolist()], stage.level)
    correction, exposure = progress.pose.corrections.leaf(rows), progress.exposure.leaf(rows)
    betas = progress.betas if run.shape is None else run.shape
    surface = None if run.shape is None else shown.rig.surface_on(inputs.body.shaped(run.shape)[0])
    posed = progress.pose.pose(inputs.body, betas, rows, correction)
    lit = {"shade": config.shading, "shadow": shown.shadow_at_rows(rows)}
    render = draw(shown.drawn_rig, shown.corrected(posed), posed, crops.camera, exposure, surface=surface, **lit)
    how, colors = _comparison(config.weights, len(rows), progress.generator)
    loss = crop_difference(render, crops, colors * float(config.random_background), how)
    loss.backward()
    _add_priors(run, config.weights)
    run.optimizer.step(rate)
    if shown.correctives is not None and run.step % SMOOTH_EVERY == SMOOTH_EVERY - 1:
        shown.correctives.smooth(run.ties.neighbors, SMOOTHED)
    shown.parameters.keep_possible(run.ties.spacing_m)
    row_rate = max(rate, 0.2) * ROW_RATE[stage.level]
    if config.refine_pose:
        moved = gauss_newton_step(shown.rig, shown.parameters.offsets, posed, crops.camera, gradient_of(correction))
        progress.pose.step(rows, *moved, row_rate)
        if run.step % HOLD_LEAN_EVERY == HOLD_LEAN_EVERY - 1:
            progress.pose.remove_common_lean(crops.camera.T_cam_world[0, 0, :3])
    if config.exposure:
        progress.exposure.step(rows, gradient_of(exposure), row_rate)
    return float(loss.detach())


def _comparison(
    weights: FitWeights, frames: int, generator: torch.Generator
) -> tuple[Comparison, Float[Tensor, "frames 3"]]:
    """Over the room or over a color, and which color for each frame: by chance."""
    dice, colors = torch.rand(3, generator=generator), torch.rand(frames, 3, generator=generator)
    shift = (int(dice[1] * 4), int(dice[2] * 4))
    return Comparison(bool(dice[0] < 0.7), weights.ssim, weights.mask, shift), colors


def _add_priors(run: StageRun, weights: FitWeights) -> None:
    """What is likely of any person, added to the gradients."""
    shown, p = run.gaussians, run.gaussians.parameters
    if run.step % 2:  # twice as much in every other step, to save time
        run.ties.add_gradient(p, weights.shrink, 2)
    opacity, parts = p.opacity_logits.detach().sigmoid(), shown.drawn_rig.binding.region >= FACE
    gradient_of(p.opacity_logits).sub_(weights.opaque / len(opacity) * (1 - opacity))
    if run.stage.level >= 2:  # thinner than a pixel or a Gaussian: silhouettes would only eat fingers, noses, toes away
        gradient_of(p.offsets)[parts] = 0.0
    if shown.correctives is not None:  # small, and none on faces, hands and feet
        directions = shown.correctives.directions.detach()
        gradient = gradient_of(shown.correctives.directions)
        gradient += 2 * weights.corrective / len(opacity) * directions / run.ties.spacing_m[:, None] ** 2
        gradient[:, parts] = 0.0
