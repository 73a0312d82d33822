"""A tracked video in, an Avatar out: Gaussians on the body, colored from the frames, refined from coarse to fine.

What decides quality is the accuracy of the poses and a dense start on the mesh, hence: colors are projected, not learnt
from gray; poses are refined from the first iteration; and everything is tied to its neighbors on the surface.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatars.avatar import Avatar
from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.fitting.checkpoint import CheckpointWriter
from avatars.fitting.config import FitConfig
from avatars.fitting.crops import CropStack, HeldOut, read_crops
from avatars.fitting.metrics import Scores
from avatars.fitting.observed import settled
from avatars.fitting.optimization import name_of, run_stage
from avatars.fitting.scoring import score_held_out, unscored
from avatars.fitting.stage import EarlyStopping
from avatars.fitting.stage_start import first_stage, next_stage
from avatars.fitting.state import FitInputs, FitProgress, StageRun
from avatars.geometry.camera import Camera
from avatars.io.clean_plate import CleanPlate
from avatars.io.mask_stack import MaskStack
from avatars.io.progress import StageClock

if TYPE_CHECKING:
    from avatars.tracking.track import Track


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


def fit_avatar(
    video: str | Path,
    track: Track,
    *,
    config: FitConfig | None = None,
    body: Body | None = None,
    plate: CleanPlate | None = None,
    held_out: HeldOut | None = None,
    clock: StageClock | None = None,
    keep: Path | None = None,
) -> FitResult:
    """Fit an avatar to a tracked video.

    `plate` is the room without the person, where there is a picture of it; otherwise it is estimated from the frames.
    `held_out` says what is scored and not fitted; by default every eighth frame.
    `keep` is a file in which the fit is kept from time to time; where it is there, the same fit goes on from it, to the
    same avatar. Raises InputError when too few frames show a person, or all are held out.
    """
    config, body, clock = config or FitConfig(), body or load_body(), clock or StageClock()
    held_out = held_out or HeldOut()
    with clock.stage("frames"):
        crops, motion = read_crops(video, track, body, config, plate, held_out.truth)
    inputs = FitInputs.of(config, body, crops, motion, held_out.crops(track.motion, config))
    if not inputs.train:
        raise InputError(f"All {len(crops)} frames of {video} are held out; some are needed to fit.")
    progress, run = _run_stages(inputs, CheckpointWriter(keep), clock)
    with clock.stage("fit unseen"):
        gaussians, coverage = settled(inputs, progress, run.gaussians)
    with clock.stage("score"):
        scores, whole = score_held_out(inputs, progress, gaussians)
    avatar = gaussians.avatar(inputs, progress.betas).with_card(
        fit={"settings": asdict(config), "frames": len(crops), "coverage": round(coverage, 4)},
        scores=None if scores is None else scores.as_dict(),
    )
    motion, occluders = replace(whole, betas=progress.betas), _occluders(inputs.crops, progress)
    return FitResult(avatar, scores, motion, track.camera, coverage, progress.losses, occluders)


def _run_stages(inputs: FitInputs, keeper: CheckpointWriter, clock: StageClock) -> tuple[FitProgress, StageRun]:
    """All stages from where the keeper's file stands, else from the first. Returns the last at its end."""
    stages, watch = inputs.config.stages, EarlyStopping(unscored(inputs.held_out, inputs.config))
    restored = keeper.restore(inputs)
    if restored is None:
        with clock.stage(name_of(stages[0])):
            progress = FitProgress.start(inputs)
            restored = progress, first_stage(inputs, progress)
    progress, run = restored
    for number in range(run.number, len(stages)):
        with clock.stage(name_of(stages[number])):
            if number > run.number:
                run = next_stage(inputs, progress, number, run.gaussians)
            run_stage(inputs, progress, run, watch, keeper)
    return progress, run


def _occluders(crops: CropStack, progress: FitProgress) -> MaskStack | None:
    """What was found to pass before the person, as masks of whole frames; None where nothing was."""
    if not any(bool(where.any()) for where in progress.hidden):
        return None
    return MaskStack.packed(map(crops.in_frame, range(len(crops)), progress.hidden), crops.frame_hw)


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
