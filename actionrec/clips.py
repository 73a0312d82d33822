"""Manifest clips -> tensors: decoded once to a cache of uint8 frames, then cut, cropped, flipped and normalized.

A clip's view is a function of the clip and of the place it has in the stream of training samples, so that workers,
resuming and the number of processes change nothing.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from actionrec.decoding import BrokenVideo, decode, thinned_by
from actionrec.errors import DataError
from actionrec.manifest import ManifestClip, read_manifest
from actionrec.outputs import part_file

VIDEOS_PER_WORKER = 64
"""decord keeps memory of files that it has closed, so a worker is replaced after so many."""


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """How a video becomes the input of a recognizer. The defaults are PyTorchVideo's for Kinetics."""

    frames: int = 16
    stride: int | None = None
    """Video frames from one to the next; None, and no `step_s`: spread evenly over the whole video."""
    step_s: float | None = None
    """Seconds from one frame to the next, whatever the video's frame rate. Spreading evenly makes a run of one second
    and a walk of three look equally fast; a step does not. Of a video shorter than the view the last frame is held."""
    size: int = 224
    """Height and width in pixels."""
    train_short_side: tuple[int, int] = (256, 320)
    """The shorter side before a random crop of `size`."""
    flip: float = 0.5
    """Chance of a left-right flip."""
    brightness: float = 0.0
    """Strength of a random gain and offset of the whole clip."""
    color: float = 0.0
    """Strength of a random gain of each color channel of the whole clip."""
    speed: float = 1.0
    """A training view is played up to so many times as fast, or as slow."""
    temporal_jitter: bool = True
    test_views: int = 1
    """Uniform views in time, averaged at test."""
    test_crops: int = 1
    """1: the center; 3: both ends and the center of the longer side."""
    mean: float | tuple[float, ...] = 0.45
    std: float | tuple[float, ...] = 0.225
    """Of the colors, one number or one a channel: what a network's weights were trained with."""
    cache_short_side: int = 256
    max_frames: int = 300

    def __post_init__(self) -> None:
        if self.stride is not None and self.step_s is not None:
            raise DataError(f"A clip has a stride ({self.stride}) or a step in seconds ({self.step_s}), not both.")
        if (self.stride is not None and self.stride < 1) or (self.step_s is not None and not self.step_s > 0):
            raise DataError(f"Stride {self.stride} and step {self.step_s} s must be positive.")
        if self.speed < 1.0 or (self.speed > 1.0 and self.step_s is None):
            raise DataError(f"Speed {self.speed} must be at least 1, and more needs a step in seconds.")


@dataclass(frozen=True, slots=True)
class SkippedClip:
    """A clip whose video cannot be used."""

    id: str
    reason: str


def load_clips(manifest: str | Path) -> list[ManifestClip]:
    """Clips of a manifest with absolute paths. Raises ManifestError, or DataError when the manifest is empty."""
    folder = Path(manifest).absolute().parent
    clips = [replace(clip, path=os.path.normpath(folder / clip.path)) for clip in read_manifest(manifest)]
    if not clips:
        raise DataError(f"{manifest} lists no clip.")
    return clips


class ClipStore:
    """Decoded frames of clips, uint8 on disk."""

    def __init__(self, folder: str | Path, config: ClipConfig) -> None:
        self.folder, self.config = Path(folder), config
        self.skipped: dict[str, SkippedClip] = {}

    def fill(self, clips: Sequence[ManifestClip], *, workers: int = 2) -> tuple[ManifestClip, ...]:
        """Decode what is not there yet; the clips that can be used, in the given order.

        Broken videos and videos whose bytes are not those of the manifest are skipped, counted and told on stderr.
        Raises DataError when a class is left without a clip.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        todo = list({self.path(c): c for c in clips if not self.path(c).is_file()}.values())
        tasks = [(c.path, c.sha256, self.path(c), self.config.cache_short_side, self.config.max_frames) for c in todo]
        if workers > 1 and len(tasks) > 8:
            with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=VIDEOS_PER_WORKER) as pool:
                reasons = list(pool.imap(_decode_to, tasks))
        else:
            reasons = [_decode_to(task) for task in tasks]
        for clip, reason in zip(todo, reasons, strict=True):
            if reason:
                self.skipped[clip.id] = SkippedClip(clip.id, reason)
        usable = tuple(c for c in clips if self.path(c).is_file())
        self._report(clips, usable)
        return usable

    def path(self, clip: ManifestClip) -> Path:
        """Where the frames of a clip lie: named by its bytes and the size, so no changed video is taken from it."""
        return self.folder / f"{clip.sha256[:24]}_{self.config.cache_short_side}_{self.config.max_frames}.npy"

    def frames(self, clip: ManifestClip) -> UInt8[np.ndarray, "frames height width 3"]:
        """Frames of a filled clip, mapped from disk."""
        return np.load(self.path(clip), mmap_mode="r")

    def fps(self, clip: ManifestClip) -> float:
        """Frames per second of what `frames` gives: the video's own or, of a long one, those of every k-th frame."""
        return clip.fps / thinned_by(clip.n_frames, self.config.max_frames)

    def _report(self, clips: Sequence[ManifestClip], usable: Sequence[ManifestClip]) -> None:
        if len(usable) == len(clips):
            return
        first = next(iter(self.skipped.values()))
        lost = len(clips) - len(usable)
        print(f"{lost} of {len(clips)} clips skipped; the first, {first.id}: {first.reason}", file=sys.stderr)
        gone = sorted({c.label for c in clips} - {c.label for c in usable})
        if gone:
            raise DataError(
                f"After skipping {lost} of {len(clips)} clips, {len(gone)} classes have none: {', '.join(gone[:5])}. "
                f"The first reason: {first.reason}."
            )


def _decode_to(task: tuple[str, str, Path, int, int]) -> str:
    """Decode one video into the cache; "" or the reason why not."""
    source, sha256, target, short_side, max_frames = task
    try:
        with open(source, "rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
        if found != sha256:
            return f"{source}: its bytes are not those that the manifest names"
        frames = decode(source, short_side=short_side, max_frames=max_frames)
    except FileNotFoundError:
        return f"{source}: no such file"
    except BrokenVideo as error:
        return str(error)
    with part_file(target) as aside:
        np.save(aside, frames)
        os.replace(aside, target)
    return ""


class TrainClips(Dataset):
    """Training views, asked for by (position in the stream of samples, index of the clip)."""

    def __init__(self, store: ClipStore, clips: Sequence[ManifestClip], classes: Sequence[str], *, seed: int) -> None:
        self.store, self.clips, self.seed = store, list(clips), seed
        self.labels = labels_of(clips, classes)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Float[Tensor, "3 frames size size"], int]:
        position, index = key
        rng = np.random.default_rng([self.seed, position])
        clip = self.clips[index]
        view = train_view(self.store.frames(clip), self.store.config, rng, fps=self.store.fps(clip))
        return view, self.labels[index]

    def __len__(self) -> int:
        return len(self.clips)


class TestClips(Dataset):
    """All test views of each clip."""

    __test__ = False  # not for pytest

    def __init__(self, store: ClipStore, clips: Sequence[ManifestClip]) -> None:
        self.store, self.clips = store, list(clips)

    def __getitem__(self, index: int) -> Float[Tensor, "views 3 frames size size"]:
        clip = self.clips[index]
        return test_views(self.store.frames(clip), self.store.config, fps=self.store.fps(clip))

    def __len__(self) -> int:
        return len(self.clips)


def labels_of(clips: Sequence[ManifestClip], classes: Sequence[str]) -> list[int]:
    """Class numbers. Raises DataError naming labels that are no class."""
    number = {name: i for i, name in enumerate(classes)}
    unknown = sorted({c.label for c in clips} - set(number))
    if unknown:
        count = sum(c.label in unknown for c in clips)
        raise DataError(f"{count} of {len(clips)} clips have an unknown class: {', '.join(unknown[:5])}; known: "
                        f"{', '.join(classes)}.")  # fmt: skip
    return [number[c.label] for c in clips]


def _window(n_frames: int, config: ClipConfig, fps: float) -> Int[np.ndarray, " frames"] | None:
    """Offsets of a view's frames from its first; None where they are to be spread evenly.

    Of a video shorter than the window, frames at a stride are spread evenly; frames so many seconds apart stay so, and
    the last is held (as SlowFast's loader clamps its indices: Feichtenhofer et al. 2019).
    """
    step = config.stride if config.step_s is None else config.step_s * fps
    if step is None:
        return None
    offsets = np.round(np.arange(config.frames) * step).astype(int)
    if config.step_s is not None:
        return offsets.clip(max=n_frames - 1)
    return offsets if offsets[-1] <= n_frames - 1 else None


def train_indices(n_frames: int, config: ClipConfig, rng: np.random.Generator, *, fps: float) -> np.ndarray:
    """Frames of a training view: a random window at the stated step, else one at random from each equal segment.

    Segments: Wang et al. 2016 (TSN).
    """
    window = _window(n_frames, config, fps)
    if window is not None:
        return rng.integers(0, n_frames - window[-1]) + window
    within = rng.random(config.frames) if config.temporal_jitter else 0.5
    return np.minimum(((np.arange(config.frames) + within) * n_frames / config.frames).astype(int), n_frames - 1)


def test_indices(n_frames: int, config: ClipConfig, *, fps: float) -> list[np.ndarray]:
    """Frames of each uniform view in time."""
    window = _window(n_frames, config, fps)
    middle_of = (np.arange(config.test_views) + 0.5) / config.test_views
    if window is not None:
        return [start + window for start in np.round(middle_of * (n_frames - 1 - window[-1])).astype(int)]
    steps = np.arange(config.frames)
    return [np.minimum(((steps + part) * n_frames / config.frames).astype(int), n_frames - 1) for part in middle_of]


test_indices.__test__ = False  # type: ignore[attr-defined]  # not for pytest


def train_view(
    frames: UInt8[np.ndarray, "n height width 3"], config: ClipConfig, rng: np.random.Generator, *, fps: float
) -> Float[Tensor, "3 frames size size"]:
    """A random cut, scale, crop, flip and gain, normalized."""
    pace = config.speed ** rng.uniform(-1, 1) if config.speed != 1.0 else 1.0
    chosen = frames[train_indices(len(frames), config, rng, fps=pace * fps)]
    height, width = chosen.shape[1:3]
    short_side = rng.uniform(*config.train_short_side)
    side = min(config.size / short_side, 1.0) * min(height, width)  # of the crop, in pixels of the cached frames
    top, left = rng.uniform(0, height - side), rng.uniform(0, width - side)
    view = cropped(chosen, top, left, side, config.size)
    if rng.random() < config.flip:
        view = view.flip(-1)
    if config.color:
        gains = 1 + config.color * rng.uniform(-1, 1, 3)
        view = (view * torch.from_numpy(gains).float()[:, None, None, None]).clamp(0, 1)
    if config.brightness:
        gain, offset = 1 + config.brightness * rng.uniform(-1, 1), 0.5 * config.brightness * rng.uniform(-1, 1)
        view = (view * gain + offset).clamp(0, 1)
    return normalized(view, config)


def test_views(
    frames: UInt8[np.ndarray, "n height width 3"], config: ClipConfig, *, fps: float
) -> Float[Tensor, "views 3 frames size size"]:
    """Uniform views in time and, for each, the center crop or three along the longer side, normalized."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    ends = (0.5,) if config.test_crops == 1 else (0.0, 0.5, 1.0)
    views = [
        cropped(frames[indices], end * (height - side), end * (width - side), side, config.size)
        for indices in test_indices(len(frames), config, fps=fps)
        for end in ends
    ]
    return normalized(torch.stack(views), config)


test_views.__test__ = False  # type: ignore[attr-defined]  # not for pytest


def normalized(views: Float[Tensor, "*views 3 frames size size"], config: ClipConfig) -> Tensor:
    """Colors less their mean, over their deviation."""
    mean, std = (torch.tensor(v, dtype=torch.float32).reshape(-1, 1, 1, 1) for v in (config.mean, config.std))
    return (views - mean) / std


def cropped(
    frames: UInt8[np.ndarray, "n height width 3"], top: float, left: float, side: float, size: int
) -> Float[Tensor, "3 n size size"]:
    """A square of the frames, resized, in [0, 1]."""
    y, x, s = round(top), round(left), max(round(side), 1)
    square = torch.from_numpy(np.ascontiguousarray(frames[:, y : y + s, x : x + s])).permute(0, 3, 1, 2)
    small = F.interpolate(square.float(), (size, size), mode="bilinear", align_corners=False, antialias=s > size)
    return (small / 255).permute(1, 0, 2, 3)
