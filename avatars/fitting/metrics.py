"""How good an avatar is: PSNR and SSIM of its renders against frames, and the named scores of a fit."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.fitting.losses import ssim_from_moments


def psnr(
    image: Float[Tensor, "channels height width"],
    target: Float[Tensor, "channels height width"],
    weight: Float[Tensor, "height width"] | None = None,
) -> float:
    """Peak signal-to-noise ratio, dB, for a range of [0, 1]; with `weight`, over the pixels that it counts.

    +inf for equal images.
    """
    squared = (image.double() - target.double()).square().mean(0)
    if weight is None:
        error = float(squared.mean())
    else:
        error = float((squared * weight).sum() / weight.double().sum().clamp_min(1e-9))
    return math.inf if error == 0 else -10.0 * math.log10(error)


def gaussian_window(size: int = 11, sigma: float = 1.5) -> Float[Tensor, " size"]:
    """Normalized 1D Gaussian window."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-(x**2) / (2 * sigma**2))
    return window / window.sum()


def ssim(
    image: Float[Tensor, "channels height width"],
    target: Float[Tensor, "channels height width"],
    weight: Float[Tensor, "height width"] | None = None,
) -> float:
    """Mean SSIM with the 11x11 Gaussian window (sigma 1.5) of Wang et al. 2004, windows wholly inside the image,
    averaged over channels; range [0, 1] images, population variances. With `weight`, over the windows whose every pixel
    counts; NaN where there is none.

    Raises ValueError when the image is smaller than the window.
    """
    height, width = image.shape[-2:]
    window = gaussian_window()
    if min(height, width) < len(window):
        raise ValueError(f"SSIM needs at least {len(window)} x {len(window)} pixels, found {height} x {width}.")
    x, y = image.double(), target.double()
    maps = torch.cat([x, y, x * x, y * y, x * y])
    values = ssim_from_moments(*_blurred(maps, window).chunk(5))
    if weight is None:
        return float(values.mean())
    whole = -torch.nn.functional.max_pool2d(-weight[None], len(window), 1)[0] > 0
    return float(values[:, whole].mean())


def _blurred(
    maps: Float[Tensor, "maps height width"], window: Float[Tensor, " size"]
) -> Float[Tensor, "maps rows columns"]:
    """Weighted means over windows wholly inside."""
    import cv2  # torch's convolution in float64 takes nine times as long

    inside = slice(len(window) // 2, -(len(window) // 2))
    blurred = [cv2.sepFilter2D(x, -1, window.numpy(), window.numpy())[inside, inside] for x in maps.numpy()]
    return torch.from_numpy(np.stack(blurred))


@dataclass(frozen=True, slots=True)
class NoiselessScores:
    """In the person's box, against the frames as a camera without noise and compression would have taken them."""

    psnr_box_fitpose_db: float
    psnr_box_db: float
    ssim_box_fitpose: float
    ssim_box: float
    video_psnr_box_db: float
    """Of the video's own frames against these: what a perfect avatar scores against the video."""
    video_ssim_box: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the held-out frames; what stands behind each number is in its name and `background`."""

    psnr_box_fitpose_db: float
    """In the person's box over the background, pose fitted on the held-out frame (Gaussians frozen)."""
    psnr_box_db: float
    """The same with the pose as tracked and corrected from the neighboring training frames only."""
    ssim_box_fitpose: float
    ssim_box: float
    psnr_masked_fitpose_db: float
    """Over the person's pixels only."""
    psnr_masked_db: float
    psnr_cutout_fitpose_db: float
    """In the person's box, frame (by its mask) and render both over black."""
    psnr_cutout_db: float
    background: str
    """"true" (a person-free image was given), "estimated" (median of the video where nobody stands) or "none"."""
    n_frames: int
    hidden_share: float = 0.0
    """Share of the person's pixels that something else was found before, and that count nowhere."""
    noiseless: NoiselessScores | None = None
    """Known of made-up captures alone."""

    def as_dict(self) -> dict[str, Any]:
        """The scores by name, rounded to 3 decimals."""
        return _rounded({key: value for key, value in asdict(self).items() if value is not None})

    def table(self) -> str:
        """Lines for a terminal."""
        lines = [
            f"held-out frames: {self.n_frames}; background of the box: {self.background}",
            f"{'':<14}{'pose fitted':>14}{'pose tracked':>14}",
            f"{'PSNR box':<14}{self.psnr_box_fitpose_db:>11.2f} dB{self.psnr_box_db:>11.2f} dB",
            f"{'PSNR masked':<14}{self.psnr_masked_fitpose_db:>11.2f} dB{self.psnr_masked_db:>11.2f} dB",
            f"{'PSNR cutout':<14}{self.psnr_cutout_fitpose_db:>11.2f} dB{self.psnr_cutout_db:>11.2f} dB",
            f"{'SSIM box':<14}{self.ssim_box_fitpose:>14.4f}{self.ssim_box:>14.4f}",
        ]
        if self.hidden_share > 0:
            lines.append(
                f"left out, because something passes before the person: {self.hidden_share:.1%} of their pixels"
            )
        if (clean := self.noiseless) is not None:
            lines += [
                "against the frames without noise and compression:",
                f"{'PSNR box':<14}{clean.psnr_box_fitpose_db:>11.2f} dB{clean.psnr_box_db:>11.2f} dB"
                f"   (the video itself {clean.video_psnr_box_db:.2f} dB)",
                f"{'SSIM box':<14}{clean.ssim_box_fitpose:>14.4f}{clean.ssim_box:>14.4f}"
                f"   (the video itself {clean.video_ssim_box:.4f})",
            ]
        return "\n".join(lines)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, 3) if isinstance(value, float) else _rounded(value) if isinstance(value, dict) else value
        for key, value in values.items()
    }
