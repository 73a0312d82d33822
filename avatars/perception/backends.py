"""Which detectors can be named, where each lives, and what they all offer."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from avatars.errors import InputError
from avatars.perception.containers import Detection

WHOLE_BODY_BACKENDS: dict[str, tuple[str, str]] = {
    "mediapipe": ("avatars.perception.mediapipe_holistic:MediaPipeHolistic", "splat-avatars"),
}
"""name: (module:Class, what pip installs)."""


class WholeBodyDetector(Protocol):
    """Frames of one person in, keypoints and masks out; made before long work starts, so that what is missing shows."""

    def detect(
        self, frames: Iterable[np.ndarray], *, masks: bool = True, count_people_every: int = 0
    ) -> Iterator[Detection]:
        """One detection per frame (height, width, 3) uint8 RGB, in order. `count_people_every` n > 0 looks for further
        people in every n-th frame."""
        ...


def whole_body_detector(name: str) -> WholeBodyDetector:
    """The named detector. Raises InputError for an unknown name, BackendMissing where its packages are not there."""
    if name not in WHOLE_BODY_BACKENDS:
        raise InputError(f"No keypoint detector {name!r}; known: {', '.join(sorted(WHOLE_BODY_BACKENDS))}.")
    module, attribute = WHOLE_BODY_BACKENDS[name][0].split(":")
    return getattr(importlib.import_module(module), attribute)()
