"""A video and its track in; frames cropped to the person at several resolutions out, each with its camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatars.camera import Camera
from avatars.clean_plate import CleanPlate, estimate_clean_plate
from avatars.video import VideoInfo, probe, read_frames

LEVELS = (1, 2, 4, 8)
"""Reductions of the crop's resolution; crops are multiples of the last in size."""


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """What one frame shows around the person, on one grid of pixels."""

    frame: int
    """Index in the video."""
    rgb: Float[Tensor, "3 height width"]
    mask: Float[Tensor, "height width"]
    """Probability of the person."""
    plate: Float[Tensor, "3 height width"]
    """The room without the person; 0 where unknown."""
    known: Float[Tensor, "height width"]
    """1 where the plate is known."""
    camera: Camera


@dataclass(frozen=True, slots=True, eq=False)
class CropStack:
    """Every usable frame's crop at every level, as bytes."""

    frames: tuple[int, ...]
    cameras: tuple[Camera, ...]
    """At level 1."""
    images: dict[int, list[UInt8[Tensor, "channels height width"]]]
    """By level: red, green, blue, mask, plate red, green, blue, plate known."""
    background: str
    """Where the plate comes from: "true", "estimated" or "none"."""

    def __len__(self) -> int:
        return len(self.frames)

    def crop(self, i: int, level: int = 1) -> Crop:
        """The i-th usable frame at 1/`level` of the resolution."""
        image = self.images[level][i].float().div_(255.0)
        camera = self.cameras[i].resized((image.shape[1], image.shape[2]))
        known = (image[7] > 0.999).float()
        return Crop(self.frames[i], image[:3], image[3], image[4:7] * known, known, camera)

    @property
    def mib(self) -> float:
        """Memory of the images, MiB."""
        return sum(x.numel() for level in self.images.values() for x in level) / 2**20


@dataclass(frozen=True, slots=True)
class Window:
    """A window of the source image and the size at which it is sampled."""

    top: int
    left: int
    height: int
    width: int
    size_hw: tuple[int, int]

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def sample(self, image: UInt8[np.ndarray, "height width channels"]) -> Float[Tensor, "channels height width"]:
        """The window of `image` at its size, values in [0, 255]."""
        x = torch.from_numpy(np.ascontiguousarray(image[self.slices])).permute(2, 0, 1).float()
        if self.size_hw == (self.height, self.width):
            return x
        return F.interpolate(x[None], self.size_hw, mode="bilinear", antialias=True, align_corners=False)[0]


def windows_around(boxes: Float[np.ndarray, "frames 4"], size_hw: tuple[int, int], size_px: int) -> list[Window]:
    """Windows around boxes (top, left, bottom, right in pixels), at a common scale at which the person is about
    `size_px`; never enlarged."""
    height, width = size_hw
    block = LEVELS[-1]
    largest = np.percentile(np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]), 90)
    scale = min(1.0, size_px / max(float(largest), 1.0))

    def span(low: float, high: float, limit: int) -> tuple[int, int, int]:
        sampled = max(int(np.ceil((high - low) * scale / block)), 2) * block
        sampled = min(sampled, max(int(limit * scale) // block, 1) * block)
        extent = min(round(sampled / scale), limit)
        start = int(np.clip(round((low + high - extent) / 2), 0, limit - extent))
        return start, extent, sampled

    windows = []
    for top, left, bottom, right in boxes:
        y, h, sampled_h = span(top, bottom, height)
        x, w, sampled_w = span(left, right, width)
        windows.append(Window(y, x, h, w, (sampled_h, sampled_w)))
    return windows


def boxes_of(points_px: Float[Tensor, "frames points 2"], size_hw: tuple[int, int], pad: float = 0.09) -> np.ndarray:
    """Boxes (top, left, bottom, right) around projected points, padded by a share of the longer side."""
    low, high = points_px.amin(1), points_px.amax(1)
    margin = pad * (high - low).amax(-1, keepdim=True)
    low, high = (low - margin).numpy(), (high + margin).numpy()
    limits = np.array([size_hw[1], size_hw[0]], np.float32)
    low, high = np.clip(low, 0, limits - 1), np.clip(high, 1, limits)
    return np.stack([low[:, 1], low[:, 0], high[:, 1], high[:, 0]], -1)


def load_crops(
    video: str | Path,
    masks: UInt8[Tensor, "frames height width"],
    usable: Int[Tensor, " usable"],
    boxes: Float[np.ndarray, "usable 4"],
    camera: Camera,
    *,
    size_px: int,
    plate: CleanPlate | None = None,
) -> CropStack:
    """Read the usable frames once, crop them to their boxes, and lay the clean plate beside them."""
    info = probe(video)
    windows = windows_around(boxes, info.size_hw, size_px)
    thumbnails: list[Tensor] = []
    sample_for_plate = set(np.linspace(0, len(usable) - 1, min(40, len(usable))).round().astype(int).tolist())
    kept: list[np.ndarray] = []
    for i, frame in enumerate(_chosen_frames(info, usable)):
        mask = masks[usable[i]].numpy()[..., None]
        thumbnails.append(torch.cat([windows[i].sample(frame), windows[i].sample(mask)]))
        thumbnails[-1] = thumbnails[-1].round().to(torch.uint8)
        if plate is None and i in sample_for_plate:
            kept.append(frame)
    if plate is None:
        chosen = usable[sorted(sample_for_plate)]
        plate = estimate_clean_plate(np.stack(kept), generous(masks[chosen]).numpy())
    return _stack(usable, windows, thumbnails, plate, camera)


def _chosen_frames(info: VideoInfo, usable: Tensor) -> Iterator[np.ndarray]:
    return read_frames(info, usable.numpy())


def generous(masks: UInt8[Tensor, "frames height width"], reach: float = 0.02) -> Tensor:
    """Where the person may be: the mask's faintest trace, widened by a share of the image's longer side."""
    radius = max(int(reach * max(masks.shape[1:])), 2)
    faint = (masks > 12).float()[:, None]
    return F.max_pool2d(faint, 2 * radius + 1, 1, radius)[:, 0] > 0


def _stack(
    usable: Tensor, windows: list[Window], thumbnails: list[Tensor], plate: CleanPlate, camera: Camera
) -> CropStack:
    plate_image = np.concatenate([plate.rgb, np.where(plate.known, 255, 0).astype(np.uint8)[..., None]], -1)
    images: dict[int, list[Tensor]] = {level: [] for level in LEVELS}
    cameras = []
    for window, thumbnail in zip(windows, thumbnails, strict=True):
        full = torch.cat([thumbnail.float(), window.sample(plate_image)])
        for level in LEVELS:
            reduced = F.avg_pool2d(full[None], level)[0] if level > 1 else full
            images[level].append(reduced.round().to(torch.uint8))
        cropped = camera.cropped(window.top, window.left, (window.height, window.width))
        cameras.append(cropped.resized(window.size_hw))
    return CropStack(tuple(usable.tolist()), tuple(cameras), images, plate.source)
