"""A fit under way, kept in a file from time to time, so that killed work goes on to the very same avatar."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avatars.binding import Binding
from avatars.correctives import Correctives
from avatars.files import atomic_path
from avatars.fit_stage import StageRun
from avatars.gaussian_parameters import GaussianParameters
from avatars.loose_clothes import LooseClothes
from avatars.rig import Rig
from avatars.self_shadow import SelfShadow
from avatars.skirt import Skirt
from avatars.ties import Ties

if TYPE_CHECKING:
    from avatars.fitting import Fit

EVERY_S = 20.0
"""Between two writings, which take about a tenth of a second."""


@dataclass(slots=True)
class Keeper:
    """Writes a fit to a file now and then; without a path it does nothing."""

    path: Path | None
    every_s: float = EVERY_S
    _written_s: float = field(default_factory=time.monotonic)

    def keep(self, fit: Fit) -> None:
        """Write the fit if the last time is long ago; the file is whole at any time."""
        if self.path is None or time.monotonic() - self._written_s < self.every_s:
            return
        with atomic_path(self.path) as aside:
            torch.save(state_of(fit), aside)
        self._written_s = time.monotonic()

    def restore(self, fit: Fit) -> int:
        """Take up what the file holds, if it is there. Returns the number of the stage to go on with."""
        if self.path is None or not self.path.is_file():
            return 0
        return put_state(fit, torch.load(self.path, map_location="cpu", weights_only=True))


def state_of(fit: Fit) -> dict[str, Any]:
    """A fit in the middle of a stage as numbers and tensors."""
    run, p, rig = fit.run, fit.parameters, fit.rig
    assert run is not None and p is not None and rig is not None
    return {
        "binding": [rig.binding.corners, rig.binding.barycentric, rig.binding.region],
        "parameters": {name: value.detach() for name, value in p.leaves().items()},
        "fit": {"betas": fit.betas, "trust": fit.trust, "level": fit.level, "hem": fit.hem, "losses": fit.losses},
        "hidden": fit.hidden,
        "shadow": fit.shadow,
        "correctives": _tensors(fit.correctives),
        "loose": _tensors(fit.loose),
        "skirt": _tensors(fit.skirt),
        "generator": fit.generator.get_state(),
        "pose": fit.pose.state(),
        "exposure": fit.exposure.state(),
        "stage": {"number": run.number, "step": run.step, "order": run.order, "seen_db": run.seen_db},
        "flat_at": run.schedule.flat_at,
        "shape": None if run.shape is None else run.shape.detach(),
        "optimizer": run.optimizer.state(),
    }


def _tensors(part: Correctives | LooseClothes | Skirt | None) -> list[Tensor] | None:
    """A part of the avatar that not all have, field by field."""
    return None if part is None else [getattr(part, f.name).detach() for f in fields(part)]


def put_state(fit: Fit, state: dict[str, Any]) -> int:
    """Put a started fit where `state_of` found it. Returns the number of its stage."""
    for name, value in state["fit"].items():
        setattr(fit, name, value)
    fit.hide(state["hidden"])
    binding, device = Binding(*state["binding"]), fit.config.device
    fit.loose = None if state["loose"] is None else LooseClothes(*state["loose"])
    fit.skirt = None if state["skirt"] is None else Skirt(*state["skirt"])
    rig = Rig.build(fit.body, binding, fit.betas, fit.loose, fit.skirt)
    fit.put_rig(rig)
    if (shadow := state["shadow"]) is not None:
        fit.shadows, fit.shadow = SelfShadow.of(rig, fit.betas), shadow
    neighbors = Rig.build(fit.body, binding, fit.betas, skirt=fit.skirt).neighbors()
    fit.ties = Ties.between(rig, neighbors, fit.config.weights, fit.trust).to(device)
    number = state["stage"]["number"]
    stage = fit.config.stages[number]
    fit.parameters = GaussianParameters(**state["parameters"]).require_gradients(True, device)
    fit.generator.set_state(state["generator"])
    fit.pose.put_state(state["pose"])
    fit.exposure.put_state(state["exposure"])
    fit.put_correctives(None if state["correctives"] is None else Correctives(*state["correctives"]))
    run = fit.run = StageRun.start(fit, stage, number)
    for name, value in state["stage"].items():
        setattr(run, name, value)
    run.schedule.flat_at = state["flat_at"]
    if run.shape is not None:
        with torch.no_grad():
            run.shape.copy_(state["shape"])
    run.optimizer.put_state(state["optimizer"])
    return number
