"""A still camera's clip of a place -> the place without the people who pass through it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from avatars.errors import InputError

FRAMES = 41
_STILL = 0.004
"""A clip's camera counts as still when its background drifts by less than this share of its longer side."""
_MOST_UNSEEN = 0.3
_LEAST_VIEWS = 2


@dataclass(frozen=True, slots=True, eq=False)
class ClipPlate:
    """The empty place."""

    rgb: UInt8[np.ndarray, "height width 3"]
    people: bool
    """Whether anybody was seen in the clip."""
    unseen: float
    """Share of the picture that people hid all the time, and that was painted in from around it."""
    still: bool
    """Whether the picture tells that the camera stood still; on bare walls it does not."""


def clip_plate(path: str | Path, *, frames: int = FRAMES) -> ClipPlate:
    """The median of frames spread over a still clip, in each pixel of those without a person there.

    Raises InputError when the clip cannot be read, its camera moves, or people hide too much of the place.
    """
    from avatars.io.clean_plate import estimate_clean_plate
    from avatars.io.video import probe, read_frames
    from avatars.tracking.still_camera import camera_motion

    info = probe(path)
    chosen = np.unique(np.linspace(0, info.n_frames - 1, frames).round().astype(int))
    stack = np.stack(list(read_frames(info, chosen)))
    motion = camera_motion(list(stack[:: max(len(stack) // 5, 1)]))
    drift = float(np.nan_to_num(motion.drift).max())
    if drift > _STILL:
        raise InputError(
            f"{path}: the camera moves (by {100 * drift:.1f}% of the picture); a place needs a still one. Stabilize "
            "the clip, or give one frame of it as a photograph."
        )
    people = people_masks(stack)
    views = min(_LEAST_VIEWS, len(stack))
    plate = estimate_clean_plate(stack, people, min_views=views, max_spread=256)
    unseen = float((~plate.known).mean())
    if unseen > _MOST_UNSEEN:
        raise InputError(
            f"{path}: people hide {100 * unseen:.0f}% of the picture all the time. Give a clip in which they move, "
            "or a photograph of the empty place."
        )
    return ClipPlate(painted_in(plate.rgb, ~plate.known), bool(people.any()), unseen, bool(motion.told.any()))


def people_masks(frames: UInt8[np.ndarray, "frames height width 3"]) -> Bool[np.ndarray, "frames height width"]:
    """Generous masks of everybody: the outline of one person, and an ellipse about each other body that is found."""
    from scipy.ndimage import binary_dilation

    from avatars.perception.mediapipe_holistic import MediaPipeHolistic
    from avatars.perception.mediapipe_people import MediaPipePeople

    finder, masks = MediaPipePeople(), np.zeros(frames.shape[:3], bool)
    reach = max(round(0.012 * max(frames.shape[1:3])), 2)
    try:
        for mask, frame, found in zip(masks, frames, MediaPipeHolistic().detect(_each(frames)), strict=True):
            if found.found and found.mask is not None:
                mask |= np.asarray(binary_dilation(found.mask > 0.3, iterations=reach), bool)
            mask |= _bodies(finder.find(np.ascontiguousarray(frame)), mask)
    finally:
        finder.close()
    return masks


def _each(frames: np.ndarray) -> Iterable[np.ndarray]:
    return (np.ascontiguousarray(frame) for frame in frames)


def _bodies(
    people: Float[np.ndarray, "people 5"], known: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Ellipses about bodies (hips, shoulders and the radius about the hips, as `MediaPipePeople` finds them) whose
    middle is not `known` as a person's already."""
    y, x = np.mgrid[: known.shape[0], : known.shape[1]]
    inside = np.zeros(known.shape, bool)
    for hip_x, hip_y, shoulder_x, shoulder_y, radius in people:
        middle = round((hip_y + shoulder_y) / 2), round((hip_x + shoulder_x) / 2)
        if known[min(max(middle[0], 0), known.shape[0] - 1), min(max(middle[1], 0), known.shape[1] - 1)]:
            continue
        up = np.array([shoulder_x - hip_x, shoulder_y - hip_y])
        up = up / max(float(np.linalg.norm(up)), 1e-6)
        along, across = (x - hip_x) * up[0] + (y - hip_y) * up[1], (x - hip_x) * up[1] - (y - hip_y) * up[0]
        inside |= np.square(along / (1.1 * radius)) + np.square(across / (0.5 * radius)) < 1.0
    return inside


def painted_in(
    rgb: UInt8[np.ndarray, "height width 3"], holes: Bool[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture whose holes hold what is beside them, mirrored: floors, walls and hedges go on in level bands. Each
    half of a hole mirrors its own side; where no side reaches, the smoothest surface through the border goes on (the
    membrane of Perez et al. 2003)."""
    if not holes.any() or holes.all():
        return rgb
    smooth = _membrane(rgb.astype(np.float32), ~holes)
    columns = np.arange(holes.shape[1])[None]
    before = np.maximum.accumulate(np.where(holes, -1, columns), axis=1)
    after = np.minimum.accumulate(np.where(holes, holes.shape[1], columns)[:, ::-1], axis=1)[:, ::-1]
    total, weight = np.zeros_like(smooth), np.zeros((*holes.shape, 1), np.float32)
    for border, other in ((before, after), (after, before)):
        mirrored = 2 * border - columns
        inside = (border >= 0) & (border < holes.shape[1]) & (mirrored >= 0) & (mirrored < holes.shape[1])
        source = np.clip(mirrored, 0, holes.shape[1] - 1)
        inside &= ~np.take_along_axis(holes, source, 1)
        near, far = np.abs(columns - border), np.abs(other - columns)
        share = np.clip(0.5 + (far - near) / 16.0, 0.0, 1.0) * inside  # the halves meet in a band of 16 pixels
        total += share[..., None] * np.take_along_axis(rgb, source[..., None], 1)
        weight += share[..., None]
    filled = (total + 1e-3 * smooth) / (weight + 1e-3)
    return np.where(holes[..., None], filled.round().clip(0, 255).astype(np.uint8), rgb)


def _membrane(values: Float[np.ndarray, "height width 3"], known: Bool[np.ndarray, "height width"]) -> np.ndarray:
    """Laplace's equation in the unknown pixels, by relaxation from coarse to fine."""
    height, width = known.shape
    if known.all():
        return values
    if min(height, width) <= 2:
        return np.where(known[..., None], values, values[known].mean(0) if known.any() else 0.0)
    padded = ((0, height % 2), (0, width % 2))
    weight = np.pad(known, padded).astype(np.float32)
    total = np.pad(values * known[..., None], (*padded, (0, 0)))
    weight, total = (a.reshape(a.shape[0] // 2, 2, a.shape[1] // 2, 2, -1).sum((1, 3)) for a in (weight, total))
    small = _membrane(total / np.maximum(weight, 1e-6), weight[..., 0] > 0)
    guess = small.repeat(2, 0).repeat(2, 1)[:height, :width]
    result = np.where(known[..., None], values, guess)
    for _ in range(12):
        edge = np.pad(result, ((1, 1), (1, 1), (0, 0)), mode="edge")
        mean = 0.25 * (edge[:-2, 1:-1] + edge[2:, 1:-1] + edge[1:-1, :-2] + edge[1:-1, 2:])
        result = np.where(known[..., None], values, mean)
    return result
