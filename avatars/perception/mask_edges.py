"""Person masks: a detector's coarse soft mask -> one whose edges follow the picture's."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

FILTER_RADIUS = 1 / 110  # of the person's height; twice as much eats thin limbs
EDGE_CONTRAST = 0.1  # color differences (of 1) far below this are no edge
STEEPNESS = 3.0


def refine_mask(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Snap a soft mask (height, width) in [0, 1] to the edges of `image` (height, width, 3) uint8 RGB.

    A guided filter (He et al. 2013) with the color image as guide, run only in the person's box, then a steeper ramp:
    the detector's own edge is several pixels wide. Returns (height, width) uint8, person probability times 255.
    """
    refined = np.zeros(coarse.shape, np.uint8)
    box = _box(coarse > 0.1)
    if box is None:
        return refined
    radius = max(2, round((box[1] - box[0]) * FILTER_RADIUS))
    window = _grown(box, 3 * radius, coarse.shape)
    soft = guided_filter(image[window], coarse[window], radius, (255.0 * EDGE_CONTRAST) ** 2)
    refined[window] = (np.clip((soft - 0.5) * STEEPNESS + 0.5, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return refined


def guided_filter(
    guide: UInt8[np.ndarray, "height width 3"], values: Float[np.ndarray, "height width"], radius: int, eps: float
) -> Float[np.ndarray, "height width"]:
    """Values smoothed within the edges of a color image: in every window of `radius` they are linear in its colors
    (He, Sun, Tang 2013, equations 16 to 19), slopes damped by `eps` (squared units of the guide).

    Written out since OpenCV has it in its contrib modules alone, which any package that brings the plain
    `opencv-python` silently replaces.
    """
    import cv2

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.blur(image, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    colors, values = guide.astype(np.float32), values.astype(np.float32)
    mean_colors, mean_values = mean(colors), mean(values)
    with_values = mean(colors * values[..., None]) - mean_colors * mean_values[..., None]
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    products = np.stack([colors[..., i] * colors[..., j] for i, j in pairs], -1)
    means = np.stack([mean_colors[..., i] * mean_colors[..., j] for i, j in pairs], -1)
    rr, rg, rb, gg, gb, bb = np.moveaxis(np.dstack([mean(products[..., :3]), mean(products[..., 3:])]) - means, -1, 0)
    rr, gg, bb = rr + eps, gg + eps, bb + eps
    inverse = [gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb,
               rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg]  # fmt: skip
    determinant = rr * inverse[0] + rg * inverse[1] + rb * inverse[2]
    r, g, b = np.moveaxis(with_values, -1, 0)
    slopes = np.stack(
        [
            inverse[0] * r + inverse[1] * g + inverse[2] * b,
            inverse[1] * r + inverse[3] * g + inverse[4] * b,
            inverse[2] * r + inverse[4] * g + inverse[5] * b,
        ],
        -1,
    ) / determinant[..., None]  # fmt: skip
    offsets = mean_values - (slopes * mean_colors).sum(-1)
    return (mean(slopes) * colors).sum(-1) + mean(offsets)


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
