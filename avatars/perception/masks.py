"""Person masks: a detector's coarse soft mask -> one whose edges follow the picture's."""

from __future__ import annotations

import numpy as np

FILTER_RADIUS = 1 / 110  # of the person's height; twice as much eats thin limbs
EDGE_CONTRAST = 0.1  # color differences (of 1) far below this are no edge
STEEPNESS = 3.0


def refine_mask(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Snap a soft mask (height, width) in [0, 1] to the edges of `image` (height, width, 3) uint8 RGB.

    A guided filter (He et al. 2013) with the color image as guide, run only in the person's box, then a steeper ramp:
    the detector's own edge is several pixels wide. Returns (height, width) uint8, person probability times 255.
    """
    from cv2 import ximgproc

    refined = np.zeros(coarse.shape, np.uint8)
    box = _box(coarse > 0.1)
    if box is None:
        return refined
    radius = max(2, round((box[1] - box[0]) * FILTER_RADIUS))
    window = _grown(box, 3 * radius, coarse.shape)
    soft = ximgproc.guidedFilter(image[window], coarse[window], radius, (255.0 * EDGE_CONTRAST) ** 2)
    refined[window] = (np.clip((soft - 0.5) * STEEPNESS + 0.5, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return refined


def _box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Top, bottom, left, right of what is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _grown(box: tuple[int, int, int, int], margin: int, size_hw: tuple[int, ...]) -> tuple[slice, slice]:
    top, bottom, left, right = box
    height, width = size_hw
    return (
        slice(max(top - margin, 0), min(bottom + margin, height)),
        slice(max(left - margin, 0), min(right + margin, width)),
    )
