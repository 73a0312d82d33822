"""Checkpoints of a running fit; resuming reproduces the same avatar bit for bit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatars.avatar.ambient_occlusion import AmbientOcclusion
from avatars.avatar.binding import Binding
from avatars.avatar.loose_clothes import LooseClothes
from avatars.avatar.pose_correctives import PoseCorrectives
from avatars.avatar.rig import Rig
from avatars.avatar.skirt import Skirt
from avatars.fitting.parameters import GaussianParameters
from avatars.fitting.regularizers import Regularizer
from avatars.fitting.state import FitInputs, FitProgress, FittedGaussians, StageRun, StageShadows
from avatars.io.files import atomic_path

EVERY_S = 20.0
"""Between two writings, which take about a tenth of a second."""


@dataclass(slots=True)
class CheckpointWriter:
    """Writes a fit to a file now and then; without a path it does nothing."""

    path: Path | None
    every_s: float = EVERY_S
    _written_s: float = field(default_factory=time.monotonic)

    def keep(self, progress: FitProgress, run: StageRun) -> None:
        """Write the fit if the last time is long ago; the file is whole at any time."""
        if self.path is None or time.monotonic() - self._written_s < self.every_s:
            return
        with atomic_path(self.path) as aside:
            torch.save(state_of(progress, run), aside)
        self._written_s = time.monotonic()

    def restore(self, inputs: FitInputs) -> tuple[FitProgress, StageRun] | None:
        """What the file holds of the same fit; None where there is no file."""
        if self.path is None or not self.path.is_file():
            return None
        return from_state(inputs, torch.load(self.path, map_location="cpu", weights_only=True))


def state_of(progress: FitProgress, run: StageRun) -> dict[str, Any]:
    """A fit in the middle of a stage as numbers and tensors."""
    shown, binding = run.gaussians, run.gaussians.rig.binding
    return {
        "binding": [binding.corners, binding.barycentric, binding.region],
        "parameters": {name: value.detach() for name, value in shown.parameters.leaves().items()},
        "fit": {
            "betas": progress.betas,
            "trust": run.trust,
            "level": run.stage.level,
            "hem": progress.hem,
            "losses": progress.losses,
        },
        "hidden": progress.hidden,
        "shadow": None if shown.shadows is None else shown.shadows.training,
        "correctives": _tensors(shown.correctives),
        "loose": _tensors(shown.loose),
        "skirt": _tensors(shown.skirt),
        "generator": progress.generator.get_state(),
        "pose": progress.pose.state(),
        "exposure": progress.exposure.state(),
        "stage": {"number": run.number, "step": run.step, "order": run.order, "seen_db": run.seen_db},
        "flat_at": run.schedule.flat_at,
        "shape": None if run.shape is None else run.shape.detach(),
        "optimizer": run.optimizer.state(),
    }


def _tensors(part: PoseCorrectives | LooseClothes | Skirt | None) -> list[Tensor] | None:
    """A part of the avatar that not all have, field by field."""
    return None if part is None else [getattr(part, f.name).detach() for f in fields(part)]


def from_state(inputs: FitInputs, state: dict[str, Any]) -> tuple[FitProgress, StageRun]:
    """The fit of those inputs where `state_of` found it; what it hides is hidden in their crops."""
    progress = _progress(inputs, state)
    gaussians, ties = _gaussians(inputs, progress, state)
    found = state["stage"]
    run = StageRun.start(inputs, found["number"], gaussians, progress.betas, ties, state["fit"]["trust"])
    run.step, run.order, run.seen_db = found["step"], found["order"], found["seen_db"]
    run.schedule.flat_at = state["flat_at"]
    if run.shape is not None:
        with torch.no_grad():
            run.shape.copy_(state["shape"])
    run.optimizer.put_state(state["optimizer"])
    return progress, run


def _progress(inputs: FitInputs, state: dict[str, Any]) -> FitProgress:
    progress = FitProgress.start(inputs)
    progress.betas, progress.hem = state["fit"]["betas"], state["fit"]["hem"]
    progress.losses = state["fit"]["losses"]
    progress.hide(inputs.crops, state["hidden"])
    progress.generator.set_state(state["generator"])
    progress.pose.put_state(state["pose"])
    progress.exposure.put_state(state["exposure"])
    return progress


def _gaussians(inputs: FitInputs, progress: FitProgress, state: dict[str, Any]) -> tuple[FittedGaussians, Regularizer]:
    """The Gaussians as kept, and what follows from where they lie."""
    binding, device, betas = Binding(*state["binding"]), inputs.config.device, progress.betas
    loose = None if state["loose"] is None else LooseClothes(*state["loose"])
    skirt = None if state["skirt"] is None else Skirt(*state["skirt"])
    correctives = None if state["correctives"] is None else PoseCorrectives(*state["correctives"])
    rig = Rig.build(inputs.body, binding, betas, loose, skirt)
    neighbors = Rig.build(inputs.body, binding, betas, skirt=skirt).neighbors()
    ties = Regularizer.between(rig, neighbors, inputs.config.weights, state["fit"]["trust"]).to(device)
    parameters = GaussianParameters(**state["parameters"]).require_gradients(True, device)
    shadows = None if state["shadow"] is None else StageShadows(AmbientOcclusion.of(rig, betas), state["shadow"])
    level = state["fit"]["level"]
    gaussians = FittedGaussians(level, rig, rig.to(device), parameters, shadows, loose, skirt)
    return gaussians.with_correctives(correctives), ties
