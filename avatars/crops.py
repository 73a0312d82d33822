"""A video and its track in; frames cropped to the person at several resolutions out, each with its camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from avatars.camera import Camera
from avatars.clean_plate import CleanPlate, ShadedRooms, estimate_clean_plate
from avatars.mask_stack import MaskStack
from avatars.threads import torch_on_one_thread
from avatars.video import VideoInfo, probe, read_frames

LEVELS = (1, 2, 4, 8)
"""Reductions of the crop's resolution, each half of the one before; crops are multiples of the last in size."""

EDGE_BAND = 0.012
"""Half width of the band around a mask's edge where it is not trusted, as a share of the crop's longer side."""
UNDECIDED = (20.0, 235.0)
"""A mask between these, of 255, leaves the decision to the clean plate."""
DIFFERS = (12.0, 34.0)
"""Largest channel difference from the clean plate, in 8-bit steps, that means the room, and that means the person."""
TOLD = (60.0, 110.0)
"""The same between the room and what lies inside the mask nearby: from the first on the mask's edge is told from the
room, from the second on it is trusted."""
DARKEST_SHADOW = 0.4
"""How dark a shadow may be, relative to the room in light, and still count as room."""


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
    masks: MaskStack | UInt8[Tensor, "frames height width"],
    usable: Int[Tensor, " usable"],
    boxes: Float[np.ndarray, "usable 4"],
    camera: Camera,
    *,
    size_px: int,
    plate: CleanPlate | None = None,
    truth: CleanPlate | ShadedRooms | None = None,
) -> CropStack:
    """Read the usable frames once, crop them to their boxes, and lay the clean plate beside them.

    `plate` is estimated when it is not given; `truth` is kept for scoring and touches nothing else.
    """
    info = probe(video)
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


def generous(masks: UInt8[Tensor, "frames height width"], reach: float = 0.01) -> Tensor:
    """Where the person may be: the mask's fainter part, widened by a share of the image's longer side."""
    radius = max(int(reach * max(masks.shape[1:])), 2)
    return dilated((masks > 64).float(), radius) > 0


def dilated(masks: Float[Tensor, "frames height width"], radius: int) -> Float[Tensor, "frames height width"]:
    """Maximum over squares of the given radius."""
    import cv2  # a pooling layer takes 40 times as long

    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return torch.stack([torch.from_numpy(cv2.dilate(mask.numpy(), square)) for mask in masks])


def sharpened(image: Float[Tensor, "8 height width"]) -> Float[Tensor, "height width"]:
    """The mask (0 to 255) made crisp by the empty room: where it is undecided, what is unlike the room is the person.

    Where the room is not known, or the mask is decided, the mask stays.
    """
    mask, known = image[3], image[7] > 254
    undecided = (mask > UNDECIDED[0]) & (mask < UNDECIDED[1]) & known
    return torch.where(undecided, 255 * unlike_room(image, darkest_shadow=1.0), mask)


def matted(image: Float[Tensor, "8 height width"], edge: EdgeContrast) -> Float[Tensor, "height width"]:
    """The mask (0 to 255) cut back where its edge shows the room.

    A rim of wall around the person costs nothing over that wall, and is a halo over anything else. Coverage at the edge
    is how far a pixel is from the room, relative to what lies inside the mask nearby; where that is hardly unlike the
    room itself, the mask stays.
    """
    mask = image[3]
    coverage = (255 * (edge.apart - DIFFERS[0]) / (0.7 * edge.contrast - DIFFERS[0]).clamp_min(1.0)).clamp(0, 255)
    return torch.where((edge.contrast > TOLD[0]) & ~edge.inside, torch.minimum(mask, coverage), mask)


@dataclass(frozen=True, slots=True, eq=False)
class EdgeContrast:
    """How well a mask's edge can be told from the room, in 8-bit steps of the largest channel difference."""

    inside: Bool[Tensor, "height width"]
    """Well inside the mask."""
    apart: Float[Tensor, "height width"]
    """Between the pixel and the room there, or what is known of the room around it."""
    contrast: Float[Tensor, "height width"]
    """Between the person inside the mask nearby and the room; 0 where one of them is not there."""

    @property
    def told(self) -> Float[Tensor, "height width"]:
        """How far the edge can be trusted, in [0, 1]."""
        return ((self.contrast - TOLD[0]) / (TOLD[1] - TOLD[0])).clamp(0, 1)

    @staticmethod
    def of(image: Float[Tensor, "8 height width"]) -> EdgeContrast:
        """Compare what lies inside a mask (0 to 255) with what lies behind its edge; means are taken at a quarter of
        the resolution. What is too thin to have an inside, such as a hand, is where the mask shows no room."""
        small = F.avg_pool2d(image[None], 4)[0]
        radius = max(round(EDGE_BAND * max(small.shape[1:])), 1)
        inside = (-dilated(-small[3:4], radius)[0] > 200).float()
        around, some_room = _mean_around(small[4:7], (small[7] > 254).float(), 2 * radius + 1)
        person, some_person = _mean_around(small[:3], inside, 2 * radius + 1)
        unlike = (small[:3] - torch.where(small[7] > 254, small[4:7], around)).abs().amax(0) > TOLD[0]
        thin, some_thin = _mean_around(small[:3], ((small[3] > 200) & unlike).float(), 2 * radius + 1)
        person, some_person = torch.where(some_person, person, thin), some_person | some_thin
        both = (some_person & some_room).float()
        coarse = torch.cat([person, around, both[None], inside[None]])[None]
        fine = F.interpolate(coarse, image.shape[1:], mode="bilinear", align_corners=False)[0]
        room = torch.where(image[7] > 254, image[4:7], fine[3:6])
        apart, contrast = ((x - room).abs().amax(0) for x in (image[:3], fine[:3]))
        return EdgeContrast(fine[7] > 0.99, apart, torch.where(fine[6] > 0.99, contrast, 0.0))


def _mean_around(
    image: Float[Tensor, "3 height width"], weight: Float[Tensor, "height width"], radius: int
) -> tuple[Float[Tensor, "3 height width"], Bool[Tensor, "height width"]]:
    """Weighted mean over squares, and where there is anything to average."""
    total = boxed(torch.cat([image * weight, weight[None]]), radius)
    return total[:3] / total[3].clamp_min(1e-6), total[3] > 0.02


def boxed(images: Float[Tensor, "frames height width"], radius: int) -> Float[Tensor, "frames height width"]:
    """Mean over squares of the given radius, by running sums along columns and then rows; 0 outside."""
    span = 2 * radius + 1
    for padding, axis in (((0, 0, radius + 1, radius), -2), ((radius + 1, radius), -1)):
        sums = F.pad(images, padding).cumsum(axis)
        end = sums.shape[axis]
        images = (sums.narrow(axis, span, end - span) - sums.narrow(axis, 0, end - span)) / span
    return images


def unlike_room(image: Float[Tensor, "8 height width"], *, darkest_shadow: float) -> Float[Tensor, "height width"]:
    """0 where a pixel shows the empty room, in light or in shadow, 1 where it shows something else."""
    rgb, plate = image[:3], image[4:7]
    brightness = ((rgb * plate).sum(0) / plate.square().sum(0).clamp_min(1.0)).clamp(darkest_shadow, 1.0)
    lowest, highest = DIFFERS
    return (((rgb - brightness * plate).abs().amax(0) - lowest) / (highest - lowest)).clamp(0, 1)


def _trust(
    image: Float[Tensor, "8 height width"], told: Float[Tensor, "height width"]
) -> Float[Tensor, "2 height width"]:
    """How far the mask is trusted, and where the person is near (`Crops.sure`, `Crops.near`), times 255."""
    mask = image[3:4]
    radius = max(round(EDGE_BAND * max(mask.shape)), 1)
    wide, narrow = dilated(mask, radius), -dilated(-mask, radius)
    near = torch.maximum(mask, dilated(wide, radius) * unlike_room(image, darkest_shadow=DARKEST_SHADOW))
    return torch.cat([255.0 - (0.9 - 0.4 * told) * (wide - narrow), near])


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
        planes = torch.cat([reduced[:8], _trust(reduced[:8], reduced[8]), shown])
        levels.append(planes.round().to(torch.uint8))
    return levels
