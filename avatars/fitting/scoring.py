"""A fit and its held-out frames in; scores out, with the pose as tracked and with the pose fitted to the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body.motion import Motion
from avatars.fitting.config import FitConfig
from avatars.fitting.crops import Crops
from avatars.fitting.drawing import draw
from avatars.fitting.image_motion import gauss_newton_step
from avatars.fitting.metrics import NoiselessScores, Scores, psnr, ssim
from avatars.fitting.pose_refinement import PoseRefinement, between, carried_over
from avatars.fitting.state import FitInputs, FitProgress, FittedGaussians
from avatars.fitting.target import Comparison, crop_difference
from avatars.io.progress import progress as show_progress
from avatars.kernels.adam import gradient_of
from avatars.kernels.threads import torch_on_one_thread
from avatars.rasterizer import Render

POSE_STEPS = ((2, 14, 0.8, 0.3), (1, 28, 0.4, 0.02))
"""Of fitting the poses to held-out frames: level, iterations, rate of the first and after the last."""
AT_ONCE = 8
"""Frames whose poses are fitted together."""


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame's numbers."""

    psnr_box_db: float
    psnr_masked_db: float
    psnr_cutout_db: float
    ssim_box: float
    hidden_share: float


@dataclass(frozen=True, slots=True)
class FrameScores:
    """One held-out frame, with the pose as tracked and as fitted, as filmed and as it would be without noise."""

    plain: FrameScore
    fitted: FrameScore
    plain_noiseless: FrameScore | None
    fitted_noiseless: FrameScore | None
    video_noiseless: FrameScore | None
    """The filmed frame itself in the render's place."""

    @staticmethod
    def of(plain: Render, fitted: Render, crop: Crops, clean: Crops | None) -> FrameScores:
        """Both renders against the frame, and against the clean one where it is known."""
        filmed = score_frame(plain, crop), score_frame(fitted, crop)
        if clean is None:
            return FrameScores(*filmed, None, None, None)
        video = replace(plain, rgb=crop.rgb, alpha=torch.ones_like(plain.alpha))
        return FrameScores(*filmed, *(score_frame(image, clean) for image in (plain, fitted, video)))


@torch_on_one_thread()
def score_held_out(
    inputs: FitInputs, progress: FitProgress, gaussians: FittedGaussians
) -> tuple[Scores | None, Motion]:
    """Scores over the held-out crops, and the motion of all crops with what refinement found.

    Held-out frames give nothing to the avatar. Their pose is the tracked one, corrected like their neighbors in the
    training set (where poses are refined at all); fitting it to the frame (Gaussians frozen) is the other, kinder,
    figure.
    """
    whole = _refined_motion(inputs, progress)
    if not inputs.held_out:
        return None, whole
    artist, chosen = _Artist(inputs, progress.betas, gaussians), scored(inputs.held_out, inputs.config)
    times_s = inputs.motion.times_s
    exposures = between(progress.exposure.values, inputs.train_motion.times_s, times_s[torch.tensor(chosen)])
    frames: list[FrameScores] = []
    parts = torch.arange(len(chosen)).split(AT_ONCE)
    for rows in show_progress(parts, "score held-out frames", len(parts)):
        crops = [chosen[row] for row in rows.tolist()]
        here, exposure = whole[torch.tensor(crops)], exposures[rows]
        poses = PoseRefinement.of(here), artist.pose_fitted(here, crops, exposure)
        for row, i in enumerate(crops):
            crop = inputs.crops.over_truth(i)
            plain, fitted = (artist.draw(pose, row, crop, exposure[row : row + 1]) for pose in poses)
            frames.append(FrameScores.of(plain, fitted, crop, inputs.crops.without_noise(i)))
    background = "true" if inputs.crops.truth is not None else inputs.crops.background
    return _scores(frames, background), whole


def _refined_motion(inputs: FitInputs, progress: FitProgress) -> Motion:
    """All crops' motion: refined where fitted, carried over from there where held out."""
    if not inputs.config.refine_pose:
        return inputs.motion
    train, found = torch.tensor(inputs.train), progress.pose.refined()
    whole = carried_over(inputs.train_motion, found, inputs.motion)
    whole.poses[train], whole.transl[train] = found.poses, found.transl
    return whole


def scored(held_out: list[int], config: FitConfig) -> list[int]:
    """The held-out crops that are scored."""
    step = max(len(held_out) / config.score_frames, 1.0)
    return [held_out[int(i * step)] for i in range(int(len(held_out) / step))]


def unscored(held_out: list[int], config: FitConfig, at_most: int = 8) -> list[int]:
    """Held-out crops that are not scored: these may be looked at while fitting."""
    left = sorted(set(held_out) - set(scored(held_out, config)))
    return left[:: max(math.ceil(len(left) / at_most), 1)]


def drawn_as_tracked(
    inputs: FitInputs, progress: FitProgress, gaussians: FittedGaussians, chosen: Sequence[int], level: int = 1
) -> Iterator[tuple[Render, Crops]]:
    """Chosen crops at 1/`level` of the resolution, and renders of them in the poses and exposures that their neighbors
    in the training set suggest."""
    train, wanted = inputs.train_motion, inputs.motion[torch.tensor(list(chosen))]
    if inputs.config.refine_pose:
        wanted = carried_over(train, progress.pose.refined(), wanted)
    exposures = between(progress.exposure.values, train.times_s, wanted.times_s)
    poses, artist = PoseRefinement.of(wanted), _Artist(inputs, progress.betas, gaussians)
    for row, i in enumerate(chosen):
        crop = inputs.crops.take([i], level)
        yield artist.draw(poses, row, crop, exposures[row : row + 1]), crop


@dataclass(frozen=True, slots=True, eq=False)
class _Artist:
    """Draws the Gaussians as they stand in frames that need not be fitted ones."""

    inputs: FitInputs
    betas: Float[Tensor, " shape"]
    gaussians: FittedGaussians

    @torch.no_grad()
    def draw(self, refinement: PoseRefinement, row: int, crop: Crops, exposure: Float[Tensor, "1 3"]) -> Render:
        """One frame of a refinement, on the CPU."""
        rows = torch.tensor([row])
        posed = refinement.pose(self.inputs.body, self.betas, rows, refinement.corrections.values[rows])
        rig, worn = self.gaussians.drawn_rig, self.gaussians.corrected(posed)
        lit = {"shade": self.inputs.config.shading, "shadow": self.gaussians.shadow_at_poses(posed)}
        return draw(rig, worn, posed, crop.camera, exposure, **lit).to("cpu")

    def pose_fitted(self, here: Motion, crops: list[int], exposures: Float[Tensor, "frames 3"]) -> PoseRefinement:
        """The poses `here` fitted to those crops; Gaussians, shape, light and exposure stay as they are."""
        config, body, rows = self.inputs.config, self.inputs.body, torch.arange(len(crops))
        frozen = replace(self.gaussians, parameters=self.gaussians.parameters.require_gradients(False))
        pose, black = PoseRefinement.of(here, apart=True), torch.zeros(len(crops), 3)
        how = Comparison(over_plate=True, ssim_weight=config.weights.ssim, mask_weight=config.weights.mask)
        with torch.no_grad():
            posed = pose.pose(body, self.betas, rows, pose.corrections.values)
        lit = {"shade": config.shading, "shadow": frozen.shadow_at_poses(posed)}
        for level, iterations, first, last in POSE_STEPS:
            crop = self.inputs.crops.take_bytes(crops, level)
            for step in range(iterations):
                correction = pose.corrections.leaf(rows)
                posed = pose.pose(body, self.betas, rows, correction)
                render = draw(frozen.drawn_rig, frozen.corrected(posed), posed, crop.camera, exposures, **lit)
                crop_difference(render, crop, black, how).backward()
                moved = gauss_newton_step(
                    frozen.rig, frozen.parameters.offsets, posed, crop.camera, gradient_of(correction)
                )
                pose.step(rows, *moved, first + (last - first) * step / iterations)
        return pose


def score_frame(render: Render, crop: Crops) -> FrameScore:
    """Compare a one-frame render with its crop.

    The box is the tight one around the mask. The background is the plate; where that is unknown, frame (by its mask)
    and render are both laid over black, since the render knows nothing of the room in an edge's pixels. "Masked" counts
    the person's pixels alone, by the mask; for "cutout" both are laid over black everywhere in the box, as papers do
    whose data sets mask the background. Pixels that are not shown count nowhere.
    """
    image, truth, box = _compared(render, crop)
    mask, shown = crop.mask[0], crop.shown[0]
    small = min(image[box].shape[1:]) < 11
    return FrameScore(
        psnr(image[box], truth[box], shown[box[1:]]),
        psnr(image, truth, mask * shown),
        psnr(render.rgb[0][box].clamp(0, 1), (crop.rgb[0] * mask)[box], shown[box[1:]]),
        float("nan") if small else ssim(image[box], truth[box], shown[box[1:]]),
        float((mask * (1 - shown)).sum() / mask.sum().clamp_min(1e-9)),
    )


def box_psnr_db(render: Render, crop: Crops) -> float:
    """`score_frame`'s PSNR in the box alone, which costs next to nothing beside its SSIM."""
    image, truth, box = _compared(render, crop)
    return psnr(image[box], truth[box], crop.shown[0][box[1:]])


def _compared(render: Render, crop: Crops) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    """A one-frame render over the plate, what it is held against, and the box of the person."""
    image = (render.rgb + (1 - render.alpha) * crop.plate)[0].clamp(0, 1)
    truth, mask, known = crop.rgb[0], crop.mask[0], crop.known[0] > 0
    rows, columns = torch.nonzero(mask > 0.5).unbind(-1)
    if len(rows) == 0:
        rows, columns = torch.tensor([0, mask.shape[0] - 1]), torch.tensor([0, mask.shape[1] - 1])
    box = (..., slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1))
    return image, torch.where(known, truth, truth * mask), box


def _scores(frames: list[FrameScores], background: str) -> Scores:
    fitted, plain = [f.fitted for f in frames], [f.plain for f in frames]
    return Scores(
        psnr_box_fitpose_db=fmean(s.psnr_box_db for s in fitted),
        psnr_box_db=fmean(s.psnr_box_db for s in plain),
        ssim_box_fitpose=fmean(s.ssim_box for s in fitted),
        ssim_box=fmean(s.ssim_box for s in plain),
        psnr_masked_fitpose_db=fmean(s.psnr_masked_db for s in fitted),
        psnr_masked_db=fmean(s.psnr_masked_db for s in plain),
        psnr_cutout_fitpose_db=fmean(s.psnr_cutout_db for s in fitted),
        psnr_cutout_db=fmean(s.psnr_cutout_db for s in plain),
        background=background,
        n_frames=len(fitted),
        hidden_share=fmean(s.hidden_share for s in fitted),
        noiseless=_noiseless(frames),
    )


def _noiseless(frames: list[FrameScores]) -> NoiselessScores | None:
    fitted = [f.fitted_noiseless for f in frames if f.fitted_noiseless is not None]
    plain = [f.plain_noiseless for f in frames if f.plain_noiseless is not None]
    video = [f.video_noiseless for f in frames if f.video_noiseless is not None]
    if len(video) < len(frames):
        return None
    return NoiselessScores(
        psnr_box_fitpose_db=fmean(s.psnr_box_db for s in fitted),
        psnr_box_db=fmean(s.psnr_box_db for s in plain),
        ssim_box_fitpose=fmean(s.ssim_box for s in fitted),
        ssim_box=fmean(s.ssim_box for s in plain),
        video_psnr_box_db=fmean(s.psnr_box_db for s in video),
        video_ssim_box=fmean(s.ssim_box for s in video),
    )
