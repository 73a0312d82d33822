"""A video -> keypoints, masks and frame quality of every frame, chunk by chunk, so that long clips fit in memory and
killed work is taken up again."""

from __future__ import annotations

import logging
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import count as _count
from itertools import islice, pairwise
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from avatars.errors import InputError
from avatars.io.files import atomic_path
from avatars.io.mask_stack import MaskStack
from avatars.io.progress import progress
from avatars.io.video import VideoInfo, read_frames
from avatars.io.work_folder import WorkFolder
from avatars.perception.chosen_person import ChosenPerson
from avatars.perception.containers import Detection, Keypoints
from avatars.perception.frame_quality import FrameQuality, exposure, sharpness

log = logging.getLogger(__name__)

CHUNK_FRAMES = 176
"""At most so many: the fewer, the more processors can share a clip."""
WARM_UP_FRAMES = 8
"""Frames before a chunk that the detector sees again: each chunk starts a detector afresh, so that a clip gives the
same result whether its work was interrupted or not, and however many chunks were looked at beside each other."""
MOST_AT_ONCE = 8
"""Chunks that are looked at beside each other, each with networks of its own in memory."""
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
    n, spans = info.n_frames, _spans(info.n_frames)
    done = {} if work is None else _finished(work, spans, masks=masks)
    if done:
        known = sum(len(chunk.xy) for chunk, _ in done.values())
        log.info("%s: %d of %d frames were looked at before.", info.path.name, known, n)
    every = min(max(1, n // PEOPLE_SAMPLES), MAX_SAMPLE_STEP) if person is None else 0
    look = _Look(detector, info, masks, every, person, spans, work)
    parts = done | look.beside_each_other([number for number in range(len(spans)) if number not in done])
    chunks, stacks = zip(*(parts[number] for number in range(len(spans))), strict=True)
    return _assembled(chunks, stacks, info)


def _spans(n: int) -> list[tuple[int, int]]:
    """(start, stop) of chunks of nearly equal length."""
    edges = np.linspace(0, n, max(1, -(-n // CHUNK_FRAMES)) + 1).round().astype(int).tolist()
    return list(pairwise(edges))


def _finished(work: WorkFolder, spans: list[tuple[int, int]], *, masks: bool) -> dict[int, _Part]:
    """Chunks that are whole, by number."""
    found = {}
    for number, (start, stop) in enumerate(spans):
        chunk = _Chunk.load(work.piece("chunk", number), stop - start)
        if chunk is None:
            continue
        try:
            found[number] = chunk, MaskStack.load(work.piece("masks", number)) if masks else None
        except InputError:
            continue
    return found


class _Stopped(Exception):
    """The work was given up elsewhere."""


@dataclass(frozen=True, slots=True)
class _Look:
    """How frames are looked at."""

    detector: Any
    info: VideoInfo
    masks: bool
    count_people_every: int
    person: ChosenPerson | None
    spans: list[tuple[int, int]]
    work: WorkFolder | None

    def beside_each_other(self, numbers: list[int]) -> dict[int, _Part]:
        """Those chunks, each processor taking some that follow each other, where the detector can be used so."""
        if not numbers:
            return {}
        concurrent = getattr(self.detector, "concurrent", False)
        at_once = min(len(numbers), torch.get_num_threads(), MOST_AT_ONCE) if concurrent else 1
        frames, stop = SimpleQueue(), Event()

        def tick() -> None:
            if stop.is_set():
                raise _Stopped
            frames.put(True)

        def taken(share: list[int]) -> dict[int, _Part]:
            return {number: part for run in _runs(share) for number, part in self.run(run, tick)}

        total = sum(self.spans[number][1] - self.spans[number][0] for number in numbers)
        with ThreadPoolExecutor(at_once) as pool:
            futures = [pool.submit(taken, share.tolist()) for share in np.array_split(np.array(numbers), at_once)]
            deque((future.add_done_callback(lambda _: frames.put(False)) for future in futures), maxlen=0)
            try:
                deque(progress(_ticks(frames, futures), f"Looking at {self.info.path.name}", total), maxlen=0)
                return {number: part for future in futures for number, part in future.result().items()}
            finally:
                stop.set()
                futures.clear()  # an error holds on to what it passed, and that to the work folder's lock

    def run(self, numbers: Sequence[int], tick: Callable[[], None]) -> Iterator[tuple[int, _Part]]:
        """Chunks that follow each other, from one stream of frames."""
        first = self.spans[numbers[0]][0]
        warm = max(first - WARM_UP_FRAMES, 0)
        stream = read_frames(self.info, np.arange(warm, self.spans[numbers[-1]][1]))
        before: deque[np.ndarray] = deque(islice(stream, first - warm), maxlen=WARM_UP_FRAMES)
        for number in numbers:
            start, stop = self.spans[number]
            chunk, stack = self.at(stream, before, start, stop - start, tick)
            if self.work is not None:
                if stack is not None:
                    stack = MaskStack.load(stack.save(self.work.piece("masks", number)))
                chunk.save(self.work.piece("chunk", number))
            yield number, (chunk, stack)

    def at(
        self,
        stream: Iterator[np.ndarray],
        before: deque[np.ndarray],
        start: int,
        count: int,
        tick: Callable[[], None],
    ) -> _Part:
        """The next `count` frames of `stream`, numbered from `start`, seen after those `before`, which are brought up
        to date."""
        first, waiting = start - len(before), deque(before)

        def frames() -> Iterator[np.ndarray]:
            yield from list(before)
            for frame in islice(stream, count):
                tick()
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


def _runs(numbers: list[int]) -> list[list[int]]:
    """Consecutive numbers together."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    return [part.tolist() for part in np.split(np.array(numbers, int), breaks)]


def _require_none_failed(futures: list[Future]) -> None:
    error = next((e for e in (future.exception() for future in futures if future.done()) if e is not None), None)
    try:
        if error is not None:
            raise error
    finally:
        del error  # else it would hold on to itself


def _ticks(frames: SimpleQueue[bool], futures: list[Future]) -> Iterator[None]:
    """One per frame, until all threads have ended; raises what ended one of them early."""
    working = len(futures)
    while working:
        if frames.get():
            yield
            continue
        working -= 1
        _require_none_failed(futures)


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


def _assembled(chunks: Sequence[_Chunk], stacks: Sequence[MaskStack | None], info: VideoInfo) -> Perceived:
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
