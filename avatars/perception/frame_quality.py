"""How well each frame of a clip is exposed, and how sharply it shows its person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatars.errors import InputError
from avatars.io.files import atomic_path

PERSON_PX = 256
"""The person's longer side at which sharpness is judged."""
SEEN_SCORE = 0.3
FIELDS = ("brightness", "contrast", "sharpness", "n_people")


@dataclass(frozen=True, slots=True)
class FrameQuality:
    """What the pixels of a clip say about its usefulness."""

    brightness: Float[Tensor, " frames"]
    """Mean luma of the frame, in [0, 1]."""
    contrast: Float[Tensor, " frames"]
    """Standard deviation of luma over the frame, in [0, 1]."""
    sharpness: Float[Tensor, " frames"]
    """Variance of the Laplacian over variance of luma, on the person; NaN where nobody is."""
    n_people: Int[Tensor, " frames"]
    """How many people stand in the frame; -1 where it was not looked."""

    def save(self, path: str | Path) -> Path:
        """Write an npz of the fields."""
        with atomic_path(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(file, **{name: getattr(self, name).numpy() for name in FIELDS})
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> FrameQuality:
        """Read what `save` wrote. Raises InputError when the file is missing or is no such npz."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                return FrameQuality(**{name: torch.from_numpy(archive[name]) for name in FIELDS})
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} does not hold the quality of frames ({error}).") from None


def exposure(frame: UInt8[np.ndarray, "height width 3"]) -> tuple[float, float]:
    """Mean and standard deviation of luma, in [0, 1], of every fourth pixel."""
    luma = frame[::4, ::4] @ np.array([0.299, 0.587, 0.114], np.float32)
    return float(luma.mean()) / 255.0, float(luma.std()) / 255.0


def sharpness(
    frame: UInt8[np.ndarray, "height width 3"],
    xy: Float[np.ndarray, "133 2"],
    score: Float[np.ndarray, " 133"],
    mask: UInt8[np.ndarray, "height width"] | None = None,
) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000) over the variance of luma, on the person; NaN for nobody."""
    import cv2

    seen = score > SEEN_SCORE
    if not seen.any():
        return float("nan")
    limit = np.array(frame.shape[1::-1])
    low = np.clip(np.floor(xy[seen].min(0)).astype(int), 0, limit)
    high = np.clip(np.ceil(xy[seen].max(0)).astype(int), 0, limit)
    if (high - low).min() < 8:
        return float("nan")
    window = slice(low[1], high[1]), slice(low[0], high[0])
    scale = min(1.0, PERSON_PX / float((high - low).max()))
    size = (max(4, round((high - low)[0] * scale)), max(4, round((high - low)[1] * scale)))
    luma = cv2.cvtColor(cv2.resize(frame[window], size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    inside = np.ones(luma.shape, bool)
    if mask is not None:
        inside = cv2.resize(mask[window], size, interpolation=cv2.INTER_AREA) > 127
    if inside.sum() < 64:
        return float("nan")
    laplacian = cv2.Laplacian(luma.astype(np.float32), cv2.CV_32F)
    return float(laplacian[inside].var() / max(float(luma[inside].var()), 4.0))
