"""What a fit knows and changes: its inputs, what runs on from stage to stage, and the stage under way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.avatar import Avatar
from avatars.avatar.ambient_occlusion import AmbientOcclusion
from avatars.avatar.loose_clothes import LooseClothes
from avatars.avatar.pose_correctives import PoseCorrectives
from avatars.avatar.rig import Rig
from avatars.avatar.skirt import Skirt
from avatars.body import Body, PosedBody
from avatars.body.motion import Motion
from avatars.fitting.config import FitConfig, Stage
from avatars.fitting.crops import CropStack
from avatars.fitting.parameters import GaussianParameters
from avatars.fitting.pose_refinement import PoseRefinement
from avatars.fitting.regularizers import Regularizer
from avatars.kernels.adam import Adam
from avatars.kernels.row_adam import RowAdam

POSE_DECAY, MANY_FRAMES = 2.0, 280
"""How strongly poses are drawn back to the tracked ones, and up to twice as strongly where frames are fewer: what few
frames show of hair and loose clothes, which the body does not have, would else turn heads and bend backs."""
SHAPE_LR = 0.01
"""Step of the betas (standard deviations)."""
COARSE_LEVEL = 4
"""From this reduction on a stage is coarse: it refines the betas, before offsets settle."""
TAIL = 0.1
"""What then is left of the stage, as a share of it, to let the steps become small."""


@dataclass(frozen=True, slots=True, eq=False)
class FitInputs:
    """What is fitted; nothing of it changes but what `CropStack.show_all_but` hides."""

    config: FitConfig
    body: Body
    crops: CropStack
    """On the device that draws."""
    motion: Motion
    """Of every crop, as tracked."""
    train: list[int]
    """Crops that are fitted; poses and exposures have one row for each."""
    held_out: list[int]
    """Crops that are not."""

    @staticmethod
    def of(config: FitConfig, body: Body, crops: CropStack, motion: Motion, held_out: list[int]) -> FitInputs:
        """`motion` has the frames of `crops`; crops that are not held out are fitted."""
        train = sorted(set(range(len(crops))) - set(held_out))
        return FitInputs(config, body, crops.to(config.device), motion, train, held_out)

    @property
    def train_motion(self) -> Motion:
        """Of the fitted crops, as tracked."""
        return self.motion[torch.tensor(self.train)]


@dataclass(slots=True, eq=False)
class FitProgress:
    """What every stage changes and hands on to the next."""

    betas: Float[Tensor, " shape"]
    pose: PoseRefinement
    exposure: RowAdam
    generator: torch.Generator
    hidden: list[Tensor] = field(default_factory=list)
    """By crop, where something passes before the person (height, width), bool; empty before anyone looked."""
    hem: float | None = None
    """How far down a skirt goes (`find_hem`), looked for after the first stage; None for no skirt."""
    losses: list[float] = field(default_factory=list)
    """Of every iteration so far."""

    @staticmethod
    def start(inputs: FitInputs) -> FitProgress:
        """As tracked."""
        config, rows = inputs.config, len(inputs.train)
        decay = POSE_DECAY * min(max(MANY_FRAMES / rows, 1.0), 2.0)
        pose = PoseRefinement.of(inputs.train_motion, decay=decay, smoothness=2.0)
        exposure = RowAdam(rows, torch.full((3,), 0.002), decay=2.0, smoothness=20.0)
        generator = torch.Generator().manual_seed(config.seed)
        betas = torch.zeros(inputs.body.n_betas)
        betas[: len(inputs.motion.betas)] = inputs.motion.betas[: inputs.body.n_betas]
        return FitProgress(betas, pose, exposure, generator)

    def posed(self, body: Body, rows: Int[Tensor, " b"]) -> PosedBody:
        """The body in training frames, in its poses of now."""
        return self.pose.pose(body, self.betas, rows, self.pose.corrections.values[rows])

    def hide(self, crops: CropStack, hidden: list[Tensor]) -> None:
        """Let those pixels of each crop count nowhere from now on, and all others."""
        self.hidden = hidden
        for i, where in enumerate(hidden):
            crops.show_all_but(i, where)


@dataclass(frozen=True, slots=True, eq=False)
class StageShadows:
    """What the body hides from itself."""

    occlusion: AmbientOcclusion
    """Of the stage's Gaussians."""
    training: Float[Tensor, "rows anchors"]
    """In training frames, as the stage began: poses change little."""

    def at_rows(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b n"]:
        """In training frames, as `shaded` takes it."""
        return self.occlusion.spread(self.training[rows])

    def at_poses(self, posed: PosedBody, light: Float[Tensor, "8 3"]) -> Float[Tensor, "frames n"]:
        """In any poses, likewise."""
        return self.occlusion.spread(self.occlusion.at_anchors(posed.A_world_rest, light))


@dataclass(frozen=True, slots=True, eq=False)
class FittedGaussians:
    """The Gaussians of a stage on their rig: all that drawing them takes."""

    level: int
    """Of the stage."""
    rig: Rig
    drawn_rig: Rig
    """The same on the device that draws, as are parameters."""
    parameters: GaussianParameters
    shadows: StageShadows | None
    """None where no light is fitted."""
    loose: LooseClothes | None = None
    """As the stage before left it; None in the first, and where all clothes are close."""
    skirt: Skirt | None = None
    """None for no skirt."""
    correctives: PoseCorrectives | None = None
    """Of the last stage, where the clip teaches any; on the device that draws, but for what makes codes of poses."""

    def with_rig(self, rig: Rig) -> FittedGaussians:
        """On another rig."""
        return replace(self, rig=rig, drawn_rig=rig.to(self.parameters.offsets.device))

    def taking_gradients(self, albedo: Float[Tensor, "n 3"] | None = None) -> FittedGaussians:
        """Copies that are leaves, with other colors where these are given."""
        p = self.parameters if albedo is None else replace(self.parameters, albedo=albedo)
        return replace(self, parameters=p.require_gradients(True, self.parameters.offsets.device))

    def with_correctives(self, correctives: PoseCorrectives | None) -> FittedGaussians:
        """With offsets by pose that take gradients, or with none."""
        if correctives is not None:
            device = self.parameters.offsets.device
            directions = correctives.directions.to(device, copy=True).requires_grad_()
            correctives = replace(correctives, directions=directions)
        return replace(self, correctives=correctives)

    def corrected(self, posed: PosedBody) -> GaussianParameters:
        """The Gaussians as they are in those poses: with an offset for every frame where there are correctives."""
        if self.correctives is None:
            return self.parameters
        return replace(self.parameters, offsets=self.correctives.offsets(self.parameters.offsets, posed.poses))

    def shadow_at_rows(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b n"] | None:
        """What the body hides from itself in training frames; None where no light is fitted."""
        return None if self.shadows is None else self.shadows.at_rows(rows)

    def shadow_at_poses(self, posed: PosedBody) -> Float[Tensor, "frames n"] | None:
        """The same in any poses."""
        return None if self.shadows is None else self.shadows.at_poses(posed, self.parameters.light)

    def avatar(self, inputs: FitInputs, betas: Float[Tensor, " shape"]) -> Avatar:
        """The avatar as it stands."""
        leaves, found = self.parameters.require_gradients(False, "cpu").leaves(), self.correctives
        if found is not None:
            found = replace(found, directions=found.directions.detach().cpu().clone())
        extra = {"correctives": found, "loose": self.loose, "skirt": self.skirt, "self_shadow": inputs.config.shading}
        return Avatar(inputs.body, betas.clone(), self.rig.binding, **leaves, **extra)  # type: ignore[arg-type]


@dataclass(slots=True)
class Schedule:
    """How far the steps have shrunk: over the whole stage or, once the score is flat, over a short tail."""

    iterations: int
    flat_at: int | None = None

    @property
    def end(self) -> int:
        """The iteration after the last."""
        if self.flat_at is None:
            return self.iterations
        return min(self.iterations, self.flat_at + max(round(TAIL * self.iterations), 1))

    def share(self, step: int) -> float:
        """From 0 at the start to 1 at the end."""
        if self.flat_at is None or step < self.flat_at:
            return step / max(self.iterations, 1)
        before = self.flat_at / self.iterations
        return before + (1 - before) * (step - self.flat_at) / max(self.end - self.flat_at, 1)


@dataclass(slots=True, eq=False)
class StageRun:
    """A stage under way: its Gaussians and what moves them."""

    number: int
    """Of the stage in the config."""
    stage: Stage
    gaussians: FittedGaussians
    trust: Float[Tensor, " n"]
    """How well the frames show each Gaussian, as `SeenColors.trust`."""
    ties: Regularizer
    """On the device that draws."""
    shape: Float[Tensor, " shape"] | None
    """Betas being refined: joints and surface move together, before offsets settle; None in fine stages."""
    optimizer: Adam
    schedule: Schedule
    step: int = 0
    """Iterations done."""
    order: Int[Tensor, " rows"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Rows still to come before any comes again."""
    seen_db: list[float] = field(default_factory=list)
    """What `EarlyStopping` saw."""

    @staticmethod
    def start(
        inputs: FitInputs, number: int, gaussians: FittedGaussians, betas: Tensor, ties: Regularizer, trust: Tensor
    ) -> StageRun:
        """At its first iteration."""
        stage, config = inputs.config.stages[number], inputs.config
        refines_shape = config.refine_shape and stage.level >= COARSE_LEVEL
        shape = betas.clone().requires_grad_() if refines_shape else None
        optimizer = _optimizer(gaussians, ties, shape, shading=config.shading)
        return StageRun(number, stage, gaussians, trust, ties, shape, optimizer, Schedule(stage.iterations))

    def steps(self) -> Iterator[int]:
        """The iterations left."""
        while self.step < self.schedule.end:
            yield self.step

    def next_rows(self, n: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
        """A batch of different rows in random order, each row as often as any other."""
        batch = min(self.stage.batch, n)
        if len(self.order) < batch:
            self.order = torch.randperm(n, generator=generator)
        rows, self.order = self.order[:batch], self.order[batch:]
        return rows


def _optimizer(gaussians: FittedGaussians, ties: Regularizer, shape: Tensor | None, *, shading: bool) -> Adam:
    """Adam whose step sizes follow the Gaussians' spacing."""
    p = gaussians.parameters
    by_name = {
        "offsets": 0.12 * float(ties.spacing_m.median()),
        "quats": 0.024,
        "log_scales": 0.036,
        "opacity_logits": 0.04,
        "albedo": 0.016,
        "light": 0.002 if shading else 0.0,
    }
    leaves, rates = list(p.leaves().values()), [by_name[name] for name in p.leaves()]
    if shape is not None:
        leaves, rates = [*leaves, shape], [*rates, SHAPE_LR]
    if gaussians.correctives is not None:
        leaves, rates = [*leaves, gaussians.correctives.directions], [*rates, 0.25 * by_name["offsets"]]
    return Adam(leaves, rates, betas=(0.9, 0.99), eps=1e-12)
