"""What perception says about a clip: 133 COCO-WholeBody keypoints per frame, and a soft mask of the person."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.errors import InputError
from avatars.io.files import atomic_path

BODY, FEET, FACE = slice(0, 17), slice(17, 23), slice(23, 91)
LEFT_HAND, RIGHT_HAND = slice(91, 112), slice(112, 133)
N_KEYPOINTS = 133

# iBUG point k mirrors to MIRRORED_FACE[k]: contour, brows, nose, eyes, outer lips, inner lips.
_MIRRORED_FACE = (
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
MIRRORED: tuple[int, ...] = (
    0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15,
    20, 21, 22, 17, 18, 19,
    *(23 + k for k in _MIRRORED_FACE), *range(112, 133), *range(91, 112),
)  # fmt: skip
"""For each of the 133 keypoints, the keypoint of the other side of the body."""

# The lines that a drawing of the skeleton joins, by COCO-WholeBody index.
_BODY_LINES = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12), (11, 13),
    (13, 15), (12, 14), (14, 16), (15, 17), (15, 19), (16, 20), (16, 22), (17, 19), (20, 22),
)  # fmt: skip
_HAND_LINES = tuple((0 if k % 4 == 1 else k - 1, k) for k in range(1, 21))
SKELETON: tuple[tuple[int, int], ...] = (
    *_BODY_LINES,
    *((91 + a, 91 + b) for a, b in _HAND_LINES),
    *((112 + a, 112 + b) for a, b in _HAND_LINES),
)


@dataclass(frozen=True, slots=True)
class Keypoints:
    """COCO-WholeBody keypoints (`avatars.body.KEYPOINT_NAMES_133`) of one person over a clip."""

    xy: Float[Tensor, "frames 133 2"]
    """Pixels of the `size_hw` frame; the first pixel's center is (0.5, 0.5)."""
    score: Float[Tensor, "frames 133"]
    """Confidence in [0, 1]; 0 where the point was not found or lies outside the frame."""
    valid: Bool[Tensor, " frames"]
    """False where nobody was found: nothing in such a frame may be used."""
    size_hw: tuple[int, int]
    world_m: Float[Tensor, "frames 133 3"] | None = None
    """A single-view 3D hint: camera axes (x right, y down, z away), about meters, origin between the hips; NaN where
    the detector gives none. Directions between near points mean something, distances little."""

    def __len__(self) -> int:
        return self.xy.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Keypoints:
        """Chosen frames."""
        world_m = None if self.world_m is None else self.world_m[index]
        return replace(self, xy=self.xy[index], score=self.score[index], valid=self.valid[index], world_m=world_m)

    def resized(self, size_hw: tuple[int, int]) -> Keypoints:
        """The same points on another pixel grid."""
        scale = torch.tensor([size_hw[1] / self.size_hw[1], size_hw[0] / self.size_hw[0]])
        return replace(self, xy=self.xy * scale, size_hw=size_hw)

    def mirrored(self, frames: Bool[Tensor, " frames"]) -> Keypoints:
        """Left and right exchanged in the chosen frames, and the 3D hint's depth with them: what a detector sees that
        takes a back for a front."""
        order = list(MIRRORED)
        pick = frames[:, None]
        world_m = self.world_m
        if world_m is not None:
            turned = world_m[:, order] * torch.tensor([1.0, 1.0, -1.0])
            world_m = torch.where(pick[..., None], turned, world_m)
        return replace(
            self,
            xy=torch.where(pick[..., None], self.xy[:, order], self.xy),
            score=torch.where(pick, self.score[:, order], self.score),
            world_m=world_m,
        )

    def boxes(self, *, score: float = 0.3) -> Float[Tensor, "frames 4"]:
        """Left, top, right, bottom (pixels) of the points with at least this score; NaN where there is none."""
        seen = (self.score >= score) & self.valid[:, None]
        low = torch.where(seen[..., None], self.xy, torch.inf).amin(1)
        high = torch.where(seen[..., None], self.xy, -torch.inf).amax(1)
        return torch.where(seen.any(1, keepdim=True), torch.cat([low, high], -1), torch.nan)

    def save(self, path: str | Path) -> Path:
        """Write an npz (`xy`, `score`, `valid`, `size_hw`, `world_m`)."""
        path = Path(path)
        arrays = {"xy": self.xy, "score": self.score, "valid": self.valid}
        if self.world_m is not None:
            arrays["world_m"] = self.world_m
        with atomic_path(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(
                file, size_hw=np.array(self.size_hw), **{name: tensor.numpy() for name, tensor in arrays.items()}
            )
        return path

    @staticmethod
    def load(path: str | Path) -> Keypoints:
        """Read what `save` wrote. Raises InputError when the file is missing or is no such npz."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                data = {name: archive[name] for name in archive.files}
            height, width = data["size_hw"].tolist()
            return Keypoints(
                xy=torch.from_numpy(data["xy"]),
                score=torch.from_numpy(data["score"]),
                valid=torch.from_numpy(data["valid"]),
                size_hw=(height, width),
                world_m=torch.from_numpy(data["world_m"]) if "world_m" in data else None,
            )
        except FileNotFoundError:
            raise InputError(f"No keypoints file at {path}.") from None
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is not a keypoints npz ({error}).") from None


@dataclass(frozen=True, slots=True)
class Detection:
    """What a detector found in one frame."""

    xy: Float[np.ndarray, "133 2"]
    score: Float[np.ndarray, " 133"]
    world_m: Float[np.ndarray, "133 3"] | None
    mask: np.ndarray | None
    """Soft mask (height, width) uint8, person probability times 255; None where it was not asked for."""
    n_people: int | None = None
    """How many people stand in the frame, where the detector looked; 0 where nobody was found."""

    @property
    def found(self) -> bool:
        """Whether the frame shows a person."""
        return bool((self.score > 0).any())

    @staticmethod
    def nobody(mask: np.ndarray | None = None) -> Detection:
        """A frame without a person."""
        empty = np.zeros((N_KEYPOINTS, 2), np.float32)
        return Detection(empty, np.zeros(N_KEYPOINTS, np.float32), None, mask, 0)
