"""What every whole-body keypoint detector offers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from avatars.perception.containers import Detection


class WholeBodyDetector(Protocol):
    """Frames of one person in, keypoints and masks out; made before long work starts, so that what is missing shows.

    One whose `detect` may run in several threads at once says `concurrent = True`.
    """

    def detect(
        self, frames: Iterable[np.ndarray], *, masks: bool = True, count_people_every: int = 0
    ) -> Iterator[Detection]:
        """One detection per frame (height, width, 3) uint8 RGB, in order. `count_people_every` n > 0 looks for further
        people in every n-th frame."""
        ...
