"""Options of fitting; imports nothing heavy, because the command line shows them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from avatars.errors import InputError

Quality = Literal["draft", "standard", "high"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One step from coarse to fine."""

    level: int
    """Reduction of the crop's resolution: 1, 2, 4 or 8."""
    density: float
    """Share of the final number of Gaussians."""
    iterations: int
    batch: int = 1
    """Frames per iteration."""


@dataclass(frozen=True, slots=True)
class FitWeights:
    """Weights of the losses and of the ties between neighbors."""

    ssim: float = 0.4
    mask: float = 0.1
    smooth_offset: float = 0.03
    """Laplacian of offsets, per spacing."""
    smooth_scale: float = 0.01
    smooth_color: float = 0.001
    flat: float = 0.003
    """Of the squared sine between a Gaussian's thin axis and the surface's normal: plates on edge leave gaps through
    which the far side shows, from where no frame looked."""
    rarely_seen: float = 0.5
    """Added to the four above for what no frame shows well."""
    stiff_hands: float = 10.0
    """How much stiffer hands are tied than the rest."""
    pull: float = 0.0005
    """Offsets towards the body's surface (hands and feet: just inside), per spacing; more on hands and face."""
    opaque: float = 0.1
    """Of minus the logarithm of opacities: where frames disagree, a surface would else turn into holes and veils."""
    corrective: float = 0.003
    """Of the squared offsets by pose, per spacing."""
    shrink: float = 1.0
    """Against Gaussians that grow beyond twice their spacing."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How an avatar is fitted to a tracked video."""

    size_px: int = 512
    """The person's crop is about this many pixels on its longer side; smaller videos are not enlarged."""
    n_gaussians: int | None = None
    """None: from the size, 16k at 256 and 45k at 512; with 70k, as many iterations take longer and score no higher."""
    stages: tuple[Stage, ...] = (
        Stage(4, 0.2, 450, 8),
        Stage(2, 0.4, 750, 8),
        Stage(1, 1.0, 3300),
    )
    held_out_every: int = 8
    """Every so many frames one is kept from fitting and scored; 0 keeps none."""
    score_frames: int = 24
    """At most so many of them are scored."""
    color_init: bool = True
    """Colors projected from the frames instead of gray."""
    refine_pose: bool = True
    refine_shape: bool = True
    shading: bool = True
    """Fit a smooth light in the capture's world and take it off the colors, and the body's shadow on itself with it."""
    exposure: bool = True
    """Fit a gain per frame and channel and take it off the colors."""
    random_background: bool = True
    occluders: bool = True
    """Look for what passes before the person ahead of every stage but the first, and leave it out."""
    skirt: bool = True
    """Look for a skirt after the first stage, and let it hang between the legs."""
    flat_db: float = 0.01
    """The last stage is cut short when held-out frames (others than the scored ones) gain less than this in 600
    iterations; 0 never does."""
    correctives: bool = True
    """Let offsets follow the pose in the last stage, where a clip varies the pose and is no turn."""
    seed: int = 0
    device: Device = "cpu"
    """Where Gaussians are drawn and fitted; poses are always refined on the CPU."""
    weights: FitWeights = field(default_factory=FitWeights)

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("A fit needs at least one stage; found none.")

    @staticmethod
    def preset(quality: Quality, *, size_px: int = 512, seed: int = 0, device: Device = "cpu") -> FitConfig:
        """Settings behind a word: draft is for a first look, high takes two to three times as long as standard."""
        config = FitConfig(size_px=size_px, seed=seed, device=device)
        if quality == "draft":
            return replace(config, stages=(Stage(4, 0.2, 400, 8), Stage(2, 0.4, 400, 8)), score_frames=16)
        if quality == "high":
            return replace(config, stages=(Stage(4, 0.2, 900, 8), Stage(2, 0.4, 2000, 8), Stage(1, 1.5, 8000)))
        return config

    @property
    def count(self) -> int:
        """The final number of Gaussians."""
        return self.n_gaussians or round(16_000 * (self.size_px / 256) ** 1.5)
