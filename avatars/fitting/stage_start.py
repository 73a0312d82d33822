"""A fit between two stages in; the next stage at its first iteration out.

Each stage has more Gaussians than the one before and starts from those, with colors projected anew at the poses of now.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.avatar.ambient_occlusion import AmbientOcclusion
from avatars.avatar.binding import Binding, Neighbors, spread_over
from avatars.avatar.loose_clothes import LooseClothes
from avatars.avatar.pose_correctives import PoseCorrectives
from avatars.avatar.rig import Rig
from avatars.avatar.skirt import Skirt, find_hem
from avatars.fitting.color_init import fill_unseen
from avatars.fitting.observed import look, silhouettes
from avatars.fitting.occluders import leave_out_occluders
from avatars.fitting.parameters import GaussianParameters, on_the_surface, refined
from avatars.fitting.regularizers import Regularizer
from avatars.fitting.state import COARSE_LEVEL, FitInputs, FitProgress, FittedGaussians, StageRun, StageShadows

FEWEST = 200
"""No stage has fewer Gaussians."""


def first_stage(inputs: FitInputs, progress: FitProgress) -> StageRun:
    """With Gaussians lying in the body's surface."""
    binding = _binding(inputs, progress, 0)
    rig = Rig.build(inputs.body, binding, progress.betas)
    neighbors = rig.neighbors()
    return _started(inputs, progress, 0, _fitted(inputs, progress, 0, rig, on_the_surface(rig, neighbors)), neighbors)


def next_stage(inputs: FitInputs, progress: FitProgress, number: int, before: FittedGaussians) -> StageRun:
    """With the Gaussians of the stage `before`, after a look at what hides the person, and for a skirt."""
    if inputs.config.occluders:
        leave_out_occluders(inputs, progress, before)
    if number == 1 and inputs.config.skirt:
        progress.hem = find_hem(inputs.body, progress.betas, silhouettes(inputs, progress))
    return refined_stage(inputs, progress, number, before)


def refined_stage(inputs: FitInputs, progress: FitProgress, number: int, before: FittedGaussians) -> StageRun:
    """With the Gaussians of the stage `before`, made finer.

    What hangs free by then moves as one piece from now on; ties go on to join what the skin joins.
    """
    binding, betas = _binding(inputs, progress, number), progress.betas
    skirt = None if progress.hem is None else Skirt.of(inputs.body, betas, binding, progress.hem)
    bare = Rig.build(inputs.body, binding, betas, skirt=skirt)
    neighbors = bare.neighbors()
    p = refined(before.parameters.require_gradients(False, "cpu"), before.rig, bare, neighbors)
    if skirt is not None and before.rig.hanging is None:  # offsets from skin that now hangs
        p.offsets[skirt.index] = 0.0
    loose = LooseClothes.of(binding, bare.weights.dense_t.t(), bare.surface, p.offsets)
    rig = Rig.build(inputs.body, binding, betas, loose, skirt)
    if inputs.config.stages[number].level < COARSE_LEVEL <= before.level:
        # coarse Gaussians are fat: to fill a silhouette they lie too far inside it
        p.offsets = on_the_surface(rig, neighbors).offsets
    return _started(inputs, progress, number, _fitted(inputs, progress, number, rig, p, loose, skirt), neighbors)


def _binding(inputs: FitInputs, progress: FitProgress, number: int) -> Binding:
    count = max(int(inputs.config.count * inputs.config.stages[number].density), FEWEST)
    return spread_over(inputs.body, inputs.body.shaped(progress.betas)[0], count)


def _fitted(
    inputs: FitInputs,
    progress: FitProgress,
    number: int,
    rig: Rig,
    p: GaussianParameters,
    loose: LooseClothes | None = None,
    skirt: Skirt | None = None,
) -> FittedGaussians:
    """Those Gaussians on the device that draws, in the light of the poses of now; no gradients yet."""
    config, shadows = inputs.config, None
    if config.shading:
        occlusion = AmbientOcclusion.of(rig, progress.betas)
        posed = progress.posed(inputs.body, torch.arange(len(inputs.train)))
        shadows = StageShadows(occlusion, occlusion.at_anchors(posed.A_world_rest, p.light))
    level, p = config.stages[number].level, p.require_gradients(False, config.device)
    return FittedGaussians(level, rig, rig.to(config.device), p, shadows, loose, skirt)


def _started(
    inputs: FitInputs, progress: FitProgress, number: int, gaussians: FittedGaussians, neighbors: Neighbors
) -> StageRun:
    """With colors as the frames show them, and with everything that moves the Gaussians."""
    config, rig = inputs.config, gaussians.rig
    seen = look(inputs, progress, gaussians)
    albedo: Tensor | None = None
    if config.color_init:
        albedo = fill_unseen(seen, rig.surface, rig.normals, rig.hanging).clamp(0, 1)
    gaussians = gaussians.taking_gradients(albedo)
    if number == len(config.stages) - 1 and config.correctives:
        gaussians = gaussians.with_correctives(PoseCorrectives.of(progress.pose.refined().poses, len(rig.binding)))
    ties = Regularizer.between(rig, neighbors, config.weights, seen.trust).to(config.device)
    return StageRun.start(inputs, number, gaussians, progress.betas, ties, seen.trust)
