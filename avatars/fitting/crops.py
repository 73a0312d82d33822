"""A video and its track in; frames cropped to the person at several resolutions out, each with its camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from avatars.body import Body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.fitting.config import FitConfig
from avatars.fitting.matting import EdgeContrast, generous, matted, sharpened, trusted
from avatars.geometry.camera import Camera
from avatars.io.clean_plate import CleanPlate, ShadedRooms, estimate_clean_plate
from avatars.io.mask_stack import MaskStack
from avatars.io.video import VideoInfo, probe, read_frames
from avatars.kernels.threads import torch_on_one_thread

if TYPE_CHECKING:
    from avatars.tracking.track import Track

LEVELS = (1, 2, 4, 8)
"""Reductions of the crop's resolution, each half of the one before; crops are multiples of the last in size."""


@dataclass(frozen=True, slots=True, eq=False)
class CropBytes:
    """What a few frames show around the person, padded to one size, as bytes."""

    planes: UInt8[Tensor, "b 11 height width"]
    """rgb (3), mask, plate (3), known, sure, near, shown: the fields of `Crops` times 255."""
    camera: Camera
    """One per frame."""

    def __len__(self) -> int:
        return self.planes.shape[0]

    def to(self, device: torch.device | str) -> CropBytes:
        """The planes on `device`; the cameras stay."""
        return CropBytes(self.planes.to(device), self.camera)


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """What a few frames show around the person, padded to one size."""

    rgb: Float[Tensor, "b 3 height width"]
    mask: Float[Tensor, "b height width"]
    """Probability of the person."""
    plate: Float[Tensor, "b 3 height width"]
    """The room without the person; 0 where unknown."""
    known: Float[Tensor, "b height width"]
    """1 where the plate is known."""
    sure: Float[Tensor, "b height width"]
    """How far the mask is trusted, in [0.1, 1]: little in a band around its edge; 0 in the padding."""
    near: Float[Tensor, "b height width"]
    """1 at the person, and around it where something else than the room, or its shadow, is seen; 0 elsewhere."""
    shown: Float[Tensor, "b height width"]
    """1 where the frame shows the person or the room; 0 in the padding, and where something passes before the person:
    such pixels count nowhere."""
    camera: Camera
    """One per frame."""

    def __len__(self) -> int:
        return self.rgb.shape[0]

    @staticmethod
    def of(crops: CropBytes) -> Crops:
        """As floats in [0, 1]."""
        x = crops.planes.float().div_(255.0)
        known = (x[:, 7] > 0.999).float()
        return Crops(x[:, :3], x[:, 3], x[:, 4:7] * known[:, None], known, x[:, 8], x[:, 9], x[:, 10], crops.camera)


@dataclass(frozen=True, slots=True, eq=False)
class CropStack:
    """Every usable frame's crop at every level, as bytes."""

    frames: tuple[int, ...]
    windows: tuple[Window, ...]
    cameras: tuple[Camera, ...]
    """At level 1."""
    images: dict[int, list[UInt8[Tensor, "channels height width"]]]
    """By level, in the order of the fields of `Crops`, all 11 planes."""
    frame_hw: tuple[int, int]
    background: str
    """Where the plate comes from: "true", "estimated" or "none"."""
    truth: list[UInt8[Tensor, "3 height width"] | None] | None = None
    """The room behind the person at level 1, when (and in which frames) it is known for scoring only."""
    noiseless: list[UInt8[Tensor, "3 height width"] | None] | None = None
    """The frames without noise and compression, where those are known, for scoring only."""

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, indices: Iterable[int], level: int = 1) -> Crops:
        """`take_bytes` as floats, on the CPU."""
        return Crops.of(self.take_bytes(indices, level).to("cpu"))

    def take_bytes(self, indices: Iterable[int], level: int = 1) -> CropBytes:
        """The chosen usable frames at 1/`level` of the resolution, padded at the right and below."""
        indices = list(indices)
        chosen = [self.images[level][i] for i in indices]
        height, width = max(x.shape[1] for x in chosen), max(x.shape[2] for x in chosen)
        if len(chosen) == 1:
            images = chosen[0][None]
        else:
            images = torch.zeros(len(chosen), 11, height, width, dtype=torch.uint8, device=chosen[0].device)
            for image, one in zip(images, chosen, strict=True):
                image[:, : one.shape[1], : one.shape[2]] = one
        sizes = [(x.shape[1], x.shape[2]) for x in chosen]
        K = torch.stack([self.cameras[i].resized(size).K for i, size in zip(indices, sizes, strict=True)])
        return CropBytes(images, Camera(K, self.cameras[0].T_cam_world.expand(len(K), 4, 4), (height, width)))

    def show_all_but(self, i: int, hidden: Bool[Tensor, "height width"]) -> None:
        """From now on let those pixels of the i-th usable frame (of any resolution) count nowhere, and all others."""
        for images in self.images.values():
            shown = images[i][10]
            reduced = F.adaptive_max_pool2d if hidden.shape[0] > shown.shape[0] else F.interpolate
            shown.copy_(255.0 * (1.0 - reduced(hidden[None, None].float(), tuple(shown.shape))[0, 0]))

    def in_frame(self, i: int, where: Bool[Tensor, "height width"]) -> UInt8[np.ndarray, "rows columns"]:
        """A part of the i-th crop (of any resolution) as a mask, 0 or 255, of the whole frame."""
        import cv2

        window, mask = self.windows[i], np.zeros(self.frame_hw, np.uint8)
        size = window.width, window.height
        mask[window.slices] = cv2.resize(255 * where.numpy().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return mask

    def over_truth(self, i: int) -> Crops:
        """The i-th usable frame at full size, with the true room as its plate where that is known for scoring."""
        crop = self.take([i])
        room = None if self.truth is None else self.truth[i]
        if room is None:
            return crop
        return replace(crop, plate=room[None].float() / 255, known=torch.ones_like(crop.known))

    def silhouette(self, i: int) -> tuple[Bool[Tensor, "height width"], Bool[Tensor, "height width"]]:
        """The i-th crop's mask at level 1, and where it counts; on the CPU."""
        planes = self.images[1][i]
        return planes[3].cpu() > 127, planes[10].cpu() > 127

    def without_noise(self, i: int) -> Crops | None:
        """`over_truth` with the frame as a perfect camera would have taken it; None where that is not known."""
        clean = None if self.noiseless is None else self.noiseless[i]
        return None if clean is None else replace(self.over_truth(i), rgb=clean[None].float() / 255)

    def to(self, device: torch.device | str) -> CropStack:
        """The crops' images on `device`; cameras, and what only scoring knows, stay."""
        return replace(self, images={level: [x.to(device) for x in images] for level, images in self.images.items()})


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


def usable_frames(motion: Motion) -> Int[Tensor, " usable"]:
    """Frames that show a person."""
    return torch.nonzero(motion.valid).squeeze(-1)


def held_out_frames(n: int, config: FitConfig) -> list[int]:
    """Every eighth of `n` usable frames (by default), from the middle of the first eight."""
    every = config.held_out_every
    return list(range(every // 2, n, every)) if every > 1 else []


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What an avatar is scored by: nothing of it is fitted."""

    frames: Sequence[int] | None = None
    """Frames of the track; None: every eighth of the usable ones, or as the config says."""
    truth: CleanPlate | ShadedRooms | None = None
    """The true room without the person, or one per frame with the person's shadow on it, where it is known."""

    def crops(self, motion: Motion, config: FitConfig) -> list[int]:
        """Which of the usable frames of a track's motion these are."""
        usable = usable_frames(motion).tolist()
        if self.frames is None:
            return held_out_frames(len(usable), config)
        chosen = set(self.frames)
        return [i for i, frame in enumerate(usable) if frame in chosen]


def read_crops(
    video: str | Path,
    track: Track,
    body: Body,
    config: FitConfig,
    plate: CleanPlate | None = None,
    truth: CleanPlate | ShadedRooms | None = None,
) -> tuple[CropStack, Motion]:
    """Crops of the frames that show a person, and the motion of those frames.

    Raises InputError when there are fewer than 8.
    """
    if track.masks is None:
        raise InputError(f"The track of {video} has no masks, which fitting needs; track it again with masks.")
    usable = usable_frames(track.motion)
    if len(usable) < 8:
        raise InputError(f"Only {len(usable)} of {len(track.motion)} frames of {video} show a person; 8 are needed.")
    motion = track.motion[usable]
    posed = body.pose(motion.poses, motion.betas, motion.transl)
    some = torch.arange(0, body.n_vertices, max(body.n_vertices // 800, 1))
    boxes = boxes_of(track.camera.project(posed.vertices(some)), track.camera.size_hw)
    crops = load_crops(
        video,
        track.masks,
        usable,
        boxes,
        track.camera,
        size_px=config.size_px,
        plate=plate,
        truth=truth,
        fps=track.config.fps,
    )
    return crops, motion


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
    masks: MaskStack | UInt8[Tensor, "frames height width"],
    usable: Int[Tensor, " usable"],
    boxes: Float[np.ndarray, "usable 4"],
    camera: Camera,
    *,
    size_px: int,
    plate: CleanPlate | None = None,
    truth: CleanPlate | ShadedRooms | None = None,
    fps: float | None = None,
) -> CropStack:
    """Read the usable frames once, crop them to their boxes, and lay the clean plate beside them.

    `fps` is that of a folder of frames.
    `plate` is estimated when it is not given; `truth` is kept for scoring and touches nothing else.
    """
    info = probe(video, fps=fps)
    windows = windows_around(boxes, info.size_hw, size_px)
    thumbnails: list[Tensor] = []
    sample_for_plate = set(np.linspace(0, len(usable) - 1, min(32, len(usable))).round().astype(int).tolist())
    kept: list[np.ndarray] = []
    room = _union(windows)
    for i, frame in enumerate(_chosen_frames(info, usable)):
        mask = masks[int(usable[i])].numpy()[..., None]
        thumbnails.append(torch.cat([windows[i].sample(frame), windows[i].sample(mask)]))
        thumbnails[-1] = thumbnails[-1].round().to(torch.uint8)
        if plate is None and i in sample_for_plate:
            kept.append(frame[room])
    if plate is None:
        chosen = masks[usable[sorted(sample_for_plate)]][:, room[0], room[1]]
        plate = _placed(estimate_clean_plate(np.stack(kept), generous(chosen).numpy()), room, info.size_hw)
    stack = _stack(usable, windows, thumbnails, plate, camera)
    if truth is None:
        return stack
    rooms = [truth.at(int(frame)) for frame in usable]
    clean = [truth.noiseless_at(int(frame)) for frame in usable]
    return replace(stack, truth=_cropped(rooms, windows), noiseless=_cropped(clean, windows))


def _cropped(images: list[np.ndarray | None], windows: list[Window]) -> list[Tensor | None]:
    return [
        None if image is None else window.sample(image).round().to(torch.uint8)
        for image, window in zip(images, windows, strict=True)
    ]


def _union(windows: list[Window]) -> tuple[slice, slice]:
    """Rows and columns that hold every window."""
    rows, columns = zip(*(w.slices for w in windows), strict=True)
    return (
        slice(min(s.start for s in rows), max(s.stop for s in rows)),
        slice(min(s.start for s in columns), max(s.stop for s in columns)),
    )


def _placed(plate: CleanPlate, room: tuple[slice, slice], size_hw: tuple[int, int]) -> CleanPlate:
    """A plate of part of the image as a plate of the image, unknown outside."""
    rgb, known = np.zeros((*size_hw, 3), np.uint8), np.zeros(size_hw, bool)
    rgb[room], known[room] = plate.rgb, plate.known
    return CleanPlate(rgb, known, plate.source)


def _chosen_frames(info: VideoInfo, usable: Tensor) -> Iterator[np.ndarray]:
    return read_frames(info, usable.numpy())


def _stack(
    usable: Tensor, windows: list[Window], thumbnails: list[Tensor], plate: CleanPlate, camera: Camera
) -> CropStack:
    plate_image = np.concatenate([plate.rgb, np.where(plate.known, 255, 0).astype(np.uint8)[..., None]], -1)
    threads = torch.get_num_threads()
    with torch_on_one_thread(), ThreadPoolExecutor(threads) as pool:
        pyramids = list(pool.map(partial(_pyramid, plate_image), windows, thumbnails))
    images = {level: [pyramid[row] for pyramid in pyramids] for row, level in enumerate(LEVELS)}
    cameras = [
        camera.cropped(window.top, window.left, (window.height, window.width)).resized(window.size_hw)
        for window in windows
    ]
    frames = tuple(usable.tolist())
    return CropStack(frames, tuple(windows), tuple(cameras), images, camera.size_hw, plate.source)


def _pyramid(
    plate_image: UInt8[np.ndarray, "height width 4"], window: Window, thumbnail: UInt8[Tensor, "4 height width"]
) -> list[UInt8[Tensor, "11 _ _"]]:
    """A frame's planes at every level."""
    full = torch.cat([thumbnail.float(), window.sample(plate_image)])
    full[3] = sharpened(full)
    edge = EdgeContrast.of(full)
    full[3] = matted(full, edge)
    levels, reduced = [], torch.cat([full, edge.told[None]])
    for level in LEVELS:
        if level > 1:
            reduced = F.avg_pool2d(reduced[None], 2)[0]
        shown = torch.full_like(reduced[:1], 255.0)
        planes = torch.cat([reduced[:8], trusted(reduced[:8], reduced[8]), shown])
        levels.append(planes.round().to(torch.uint8))
    return levels
