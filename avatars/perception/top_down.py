"""A person's box and mask from one detector, 133 keypoints inside that box from a better one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from avatars.perception.containers import N_KEYPOINTS, Detection
from avatars.perception.detector import WholeBodyDetector

CHUNK = 32
"""Frames held at a time."""
BOX_SCORE = 0.3
KEYPOINT_MARGIN, HEAD_MARGIN = 0.05, 0.12  # of the box's height: flesh around the joints, and above the eyes


class TopDownWholeBody:
    """A `WholeBodyDetector` that looks twice: where the person is, then where the joints are."""

    def __init__(self, model: Any, finder: WholeBodyDetector) -> None:
        """`model`: frames and boxes in, `xy` and `score` out (`MMPoseModel`); `finder` says where and whether."""
        self._model, self._finder = model, finder

    def detect(
        self, frames: Iterable[np.ndarray], *, masks: bool = True, count_people_every: int = 0
    ) -> Iterator[Detection]:
        """See `WholeBodyDetector`. Nobody is where the finder found nobody; its 3D hints and masks are kept."""
        kept: list[np.ndarray] = []
        found = self._finder.detect(_keeping(frames, kept), masks=masks, count_people_every=count_people_every)
        while chunk := list(islice(found, CHUNK)):
            yield from self._refined(kept[: len(chunk)], chunk)
            del kept[: len(chunk)]

    def _refined(self, frames: list[np.ndarray], detections: list[Detection]) -> list[Detection]:
        boxes = [person_box(d, f.shape[:2]) for d, f in zip(detections, frames, strict=True)]
        chosen = {i: box for i, box in enumerate(boxes) if box is not None}
        if not chosen:
            return detections
        answer = self._model(frames=np.stack([frames[i] for i in chosen]), boxes=np.stack(list(chosen.values())))
        refined = list(detections)
        for row, i in enumerate(chosen):
            refined[i] = _replaced(detections[i], answer["xy"][row], answer["score"][row], frames[i].shape[:2])
        return refined

    def close(self) -> None:
        """End the model's process, if it has one."""
        self._model.close()


def person_box(detection: Detection, size_hw: tuple[int, ...]) -> np.ndarray | None:
    """Left, top, right, bottom (pixels, within the frame) of keypoints and mask together; None where nobody is."""
    seen = detection.score >= BOX_SCORE
    if not seen.any():
        return None
    low, high = detection.xy[seen].min(0), detection.xy[seen].max(0)
    height = float(high[1] - low[1])
    margin = np.array([KEYPOINT_MARGIN, HEAD_MARGIN, KEYPOINT_MARGIN, KEYPOINT_MARGIN]) * height
    box = np.array([*low, *high]) + margin * np.array([-1, -1, 1, 1])
    if detection.mask is not None:
        rows = np.flatnonzero((detection.mask > 127).any(1))
        columns = np.flatnonzero((detection.mask > 127).any(0))
        if len(rows):
            box[:2] = np.minimum(box[:2], (columns[0], rows[0]))
            box[2:] = np.maximum(box[2:], (columns[-1] + 1, rows[-1] + 1))
    limit = np.array([size_hw[1], size_hw[0]] * 2)
    box = np.clip(box, 0, limit).astype(np.float32)
    return box if (box[2:] - box[:2] >= 2).all() else None


def _replaced(detection: Detection, xy: np.ndarray, score: np.ndarray, size_hw: tuple[int, ...]) -> Detection:
    inside = ((xy >= 0) & (xy <= np.array(size_hw[::-1]))).all(-1)
    assert xy.shape == (N_KEYPOINTS, 2)
    return replace(detection, xy=xy.astype(np.float32), score=np.where(inside, score, 0.0).astype(np.float32))


def _keeping(frames: Iterable[np.ndarray], kept: list[np.ndarray]) -> Iterator[np.ndarray]:
    for frame in frames:
        kept.append(frame)
        yield frame
