"""Masks of a person whose keypoints are known, from a model that is prompted with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from avatars.perception.containers import BODY, Detection, Keypoints
from avatars.perception.detector import WholeBodyDetector
from avatars.perception.top_down import person_box

log = logging.getLogger(__name__)

JUMP = 0.6
"""Overlap with the last frame's mask, moved with the person, below which a mask is reported."""
PROMPT_SCORE = 0.5
"""Keypoints below this score are no prompt: a point beside the person would ask for the background."""


class MaskedWholeBody:
    """A `WholeBodyDetector` whose masks come from a second model, prompted with the first one's keypoints."""

    def __init__(self, model: Any, detector: WholeBodyDetector) -> None:
        """`model`: frames, boxes, points and scores in, `masks` out (`SegmentAnythingModel`)."""
        self._model, self._detector = model, detector

    def detect(
        self, frames: Iterable[np.ndarray], *, masks: bool = True, count_people_every: int = 0
    ) -> Iterator[Detection]:
        """See `WholeBodyDetector`. Masks that jump from one frame to the next are logged."""
        kept: list[np.ndarray] = []
        jumps: list[int] = []

        def keeping() -> Iterator[np.ndarray]:
            for frame in frames:
                kept.append(frame)
                yield frame

        found = self._detector.detect(keeping(), masks=masks, count_people_every=count_people_every)
        for i, detection in enumerate(found):
            frame = kept.pop(0)
            if not masks:
                yield detection
                continue
            box = person_box(detection, frame.shape[:2])
            mask, overlap = prompted_mask(self._model, frame, detection.xy, detection.score, box)
            if overlap < JUMP:
                jumps.append(i)
            yield replace(detection, mask=mask)
        if jumps:
            log.warning("%d masks jump away from the frame before (first: frame %d).", len(jumps), jumps[0])

    def close(self) -> None:
        """End the model's process, if it has one."""
        self._model.close()


def masks_of(model: Any, frames: Iterable[np.ndarray], keypoints: Keypoints) -> Iterator[np.ndarray]:
    """One mask (height, width) uint8, person probability times 255, per frame of a clip whose keypoints are known.

    A frame without a person has an empty mask.
    """
    for i, frame in enumerate(frames):
        xy, score = keypoints.xy[i].numpy(), keypoints.score[i].numpy() * float(keypoints.valid[i])
        box = person_box(Detection(xy, score, None, None), frame.shape[:2])
        yield prompted_mask(model, frame, xy, score, box)[0]


def prompted_mask(
    model: Any, frame: np.ndarray, xy: np.ndarray, score: np.ndarray, box: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """The mask (height, width) of the person at these 133 keypoints and in this box, empty where the box is None; and
    its overlap with the last frame's mask, moved with the person, NaN where there is none or the model says nothing."""
    points = xy[BODY].astype(np.float32)
    scores = np.where(score[BODY] >= PROMPT_SCORE, score[BODY], 0.0).astype(np.float32)
    box = np.full(4, np.nan, np.float32) if box is None else box
    answer = model(frames=frame[None], boxes=box[None], points=points[None], scores=scores[None])
    return answer["masks"][0], float(answer["overlap"][0]) if "overlap" in answer else float("nan")
