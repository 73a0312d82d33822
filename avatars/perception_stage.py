"""A video -> keypoints, masks and frame quality of every frame, chunk by chunk, so that long clips fit in memory and
killed work is taken up again."""

from __future__ import annotations

import logging
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import count as _count
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from avatars.errors import InputError
from avatars.files import atomic_path
from avatars.frame_quality import FrameQuality, exposure, sharpness
from avatars.mask_stack import MaskStack
from avatars.perception.chosen_person import ChosenPerson
from avatars.perception.containers import Detection, Keypoints
from avatars.progress import progress
from avatars.video import VideoInfo, read_frames
from avatars.work_folder import WorkFolder

log = logging.getLogger(__name__)

CHUNK_FRAMES = 512
WARM_UP_FRAMES = 8
"""Frames before a chunk that the detector sees again: each chunk starts a detector afresh, so that a clip gives the
same result whether its work was interrupted or not."""
PEOPLE_SAMPLES, MAX_SAMPLE_STEP = 16, 64
"""Frames in which further people are looked for, and the largest step between two of them."""
MIN_CONTRAST = 0.01
"""A frame flatter than this (black, or a covered lens) shows nobody."""
MIN_TORSO_SCORE = 0.35
MIN_ARM_SCORE = 0.8


@dataclass(frozen=True, slots=True)
class Perceived:
    """What was seen in a clip."""

    keypoints: Keypoints
    masks: MaskStack | None
    quality: FrameQuality


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What was seen in consecutive frames, masks apart."""

    xy: Float[np.ndarray, "frames 133 2"]
    score: Float[np.ndarray, "frames 133"]
    world_m: Float[np.ndarray, "frames 133 3"]
    brightness: Float[np.ndarray, " frames"]
    contrast: Float[np.ndarray, " frames"]
    sharpness: Float[np.ndarray, " frames"]
    n_people: Int[np.ndarray, " frames"]

    def save(self, path: Path) -> None:
        with atomic_path(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @staticmethod
    def load(path: Path, frames: int) -> _Chunk | None:
        """None where the file is missing, broken or of another length."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                chunk = _Chunk(**{field.name: archive[field.name] for field in fields(_Chunk)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return chunk if len(chunk.xy) == frames else None


_Part = tuple[_Chunk, MaskStack | None]


def perceive(
    info: VideoInfo,
    detector: Any,
    *,
    masks: bool = True,
    person: ChosenPerson | None = None,
    work: WorkFolder | None = None,
) -> Perceived:
    """What a `WholeBodyDetector` sees in every frame of a video; of `person` alone, when one was chosen.

    With `work`, finished chunks are kept there and taken up; masks are then read from there as long as it lasts.
    """
    n = info.n_frames
    done = [] if work is None else list(_finished(work, n, masks=masks))
    if done and work is not None:
        log.info("%s: %d of %d frames were looked at before.", info.path.name, sum(len(c.xy) for c, _ in done), n)
    look = _Look(
        detector, info, masks, min(max(1, n // PEOPLE_SAMPLES), MAX_SAMPLE_STEP) if person is None else 0, person
    )
    chunks = [*done, *_new_chunks(info, look, len(done), work)]
    return _assembled([chunk for chunk, _ in chunks], [stack for _, stack in chunks], info)


def _finished(work: WorkFolder, n: int, *, masks: bool) -> Iterator[_Part]:
    """Chunks from the first on, as far as they are whole."""
    for number, start in enumerate(range(0, n, CHUNK_FRAMES)):
        chunk = _Chunk.load(work.piece("chunk", number), min(CHUNK_FRAMES, n - start))
        if chunk is None:
            return
        try:
            stack = MaskStack.load(work.piece("masks", number)) if masks else None
        except InputError:
            return
        yield chunk, stack


@dataclass(frozen=True, slots=True)
class _Look:
    """How frames are looked at."""

    detector: Any
    info: VideoInfo
    masks: bool
    count_people_every: int
    person: ChosenPerson | None

    def at(self, stream: Iterator[np.ndarray], before: deque[np.ndarray], start: int, count: int) -> _Part:
        """The next `count` frames of `stream`, numbered from `start`, seen after those `before`, which are brought up
        to date."""
        first, waiting = start - len(before), deque(before)

        def frames() -> Iterator[np.ndarray]:
            yield from list(before)
            for frame in islice(stream, count):
                before.append(frame)
                waiting.append(frame)
                yield frame

        rows: list[tuple[Any, ...]] = []

        def seen() -> Iterator[np.ndarray]:
            alone = frames() if self.person is None else map(self.person.alone, frames(), _count(first))
            detections = self.detector.detect(alone, masks=self.masks, count_people_every=self.count_people_every)
            for i, detection in enumerate(detections, first):
                frame = waiting.popleft()
                if i >= start:
                    row, mask = _row(frame, detection, i, self.person)
                    rows.append(row)
                    yield np.zeros(self.info.size_hw, np.uint8) if mask is None else mask

        stack = MaskStack.packed(seen(), self.info.size_hw) if self.masks else None
        if stack is None:
            deque(seen(), maxlen=0)
        return _Chunk(*(np.array(column) for column in zip(*rows, strict=True))), stack


def _new_chunks(info: VideoInfo, look: _Look, first: int, work: WorkFolder | None) -> Iterator[_Part]:
    n = info.n_frames
    starts = range(first * CHUNK_FRAMES, n, CHUNK_FRAMES)
    if not len(starts):
        return
    warm = max(starts[0] - WARM_UP_FRAMES, 0)
    stream = progress(read_frames(info, np.arange(warm, n)), f"Looking at {info.path.name}", n - warm)
    before: deque[np.ndarray] = deque(islice(stream, starts[0] - warm), maxlen=WARM_UP_FRAMES)
    for number, start in enumerate(starts, first):
        count = min(CHUNK_FRAMES, n - start)
        # the last chunk asks for one more, so that the progress line ends
        chunk, stack = look.at(stream, before, start, count + (start + count == n))
        if work is not None:
            if stack is not None:
                stack = MaskStack.load(stack.save(work.piece("masks", number)))
            chunk.save(work.piece("chunk", number))
        yield chunk, stack


def _row(
    frame: np.ndarray, detection: Detection, index: int, person: ChosenPerson | None
) -> tuple[tuple[Any, ...], np.ndarray | None]:
    """One frame's entries in the order of `_Chunk`'s fields, and its mask."""
    if person is not None:
        detection = replace(person.confirmed(detection, index), n_people=int(person.n_people[index]))
    brightness, contrast = exposure(frame)
    if contrast < MIN_CONTRAST:
        detection = Detection.nobody()
    world_m = np.full((133, 3), np.nan, np.float32) if detection.world_m is None else detection.world_m
    sharp = sharpness(frame, detection.xy, detection.score, detection.mask)
    n_people = -1 if detection.n_people is None else detection.n_people
    row = (detection.xy, detection.score, world_m.astype(np.float32), brightness, contrast, sharp, n_people)
    return row, detection.mask


def _assembled(chunks: list[_Chunk], stacks: list[MaskStack | None], info: VideoInfo) -> Perceived:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(chunk, name) for chunk in chunks])

    score = joined("score").astype(np.float32)
    valid = torch.from_numpy(shows_person(score))
    keypoints = Keypoints(
        torch.from_numpy(joined("xy").astype(np.float32)),
        torch.from_numpy(score),
        valid,
        info.size_hw,
        torch.from_numpy(joined("world_m")),
    )
    quality = FrameQuality(
        brightness=torch.from_numpy(joined("brightness")).float(),
        contrast=torch.from_numpy(joined("contrast")).float(),
        sharpness=torch.from_numpy(joined("sharpness")).float(),
        n_people=torch.from_numpy(joined("n_people")).long(),
    )
    masks = [stack for stack in stacks if stack is not None]
    return Perceived(keypoints, MaskStack.joined(masks).without(~valid) if masks else None, quality)


def shows_person(score: Float[np.ndarray, "frames 133"]) -> np.ndarray:
    """Frames whose shoulders, at least, were found with some confidence.

    None at all when no frame shows a face and the arms are doubtful throughout: a hand that was taken for a body.
    """
    shown = score[:, 5:7].mean(1) > MIN_TORSO_SCORE
    faceless = not (score[shown, 23:91] > 0).any()
    if faceless and shown.any() and np.median(score[shown, 7:9].max(1)) < MIN_ARM_SCORE:
        return np.zeros_like(shown)
    return shown
