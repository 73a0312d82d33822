"""A fit under way in; what passes before the person (a ball, another's arm, a tool) out, so that it counts nowhere.

The coarse avatar looks as the person does in most frames. Where a frame is far from it over a whole patch of the body,
in a color that the avatar does not have nearby, something else is seen there; and where a patch of that color is seen
beside the body in another frame, it is the same thing. What differs along a line (a pose a little off, a fold) holds no
disk and is left in; so is a limb in the wrong place, what only stands out from the body (hair, a bag), and a frame that
differs nearly everywhere.

Robust fits of scenes leave transient things out by their residual in the same way, with patches in place of single
pixels: Sabour et al. 2023 (RobustNeRF).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatars.fitting.crops import LEVELS, Crops
from avatars.fitting.scoring import drawn_as_tracked
from avatars.fitting.state import FitInputs, FitProgress, FittedGaussians
from avatars.kernels.threads import torch_on_one_thread
from avatars.rasterizer import Render

LOOK_PX = 160
"""Crops are looked at where their longer side is at most this, about: small misses of the pose vanish there."""
UNLIKE = 0.2
"""Largest channel difference that means another color."""
NEAR_PX = 5
"""How far away the avatar's own color may be found, pixels: 17 cm on a grown person, a misplaced limb's error."""
DISK_PX = 2
"""Radius of the disk that must differ all over, pixels: 7 cm across on a grown person."""
OVER_BODY = 0.3
"""Share of a patch that must lie over the avatar's body, in one frame at least."""
MOST = 0.4
"""If more of the person than this differs, the pose is wrong; nothing is masked."""
GROW_PX = 8
"""How far a patch may reach beyond those disks, into what differs half as much and has the patch's color."""
MARGIN_PX = 2
"""Beyond that, for a blurred edge."""


@torch_on_one_thread()
@torch.no_grad()
def leave_out_occluders(inputs: FitInputs, progress: FitProgress, gaussians: FittedGaussians) -> None:
    """Look for what hides the person in every crop, fitted or held out, and let it count nowhere from now on."""
    crops = inputs.crops
    longest = max(max(image.shape[1:]) for image in crops.images[1])
    level = next((level for level in LEVELS if longest <= level * LOOK_PX), LEVELS[-1])
    drawn = drawn_as_tracked(inputs, progress, gaussians, range(len(crops)), level)
    progress.hide(crops, occluded([Patches.of(*pair) for pair in drawn]))


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """What is unlike the avatar in one frame."""

    labels: Int[np.ndarray, "height width"]
    """From 1 for the first patch; 0 elsewhere."""
    colors: Float[np.ndarray, "patches 3"]
    over_body: Float[np.ndarray, " patches"]
    """Share of the patch."""
    frame: Float[np.ndarray, "3 height width"]
    off: Float[np.ndarray, "height width"]
    """Largest channel difference from the avatar."""
    person: int
    """Pixels of the person, or of the avatar."""

    @staticmethod
    def of(render: Render, crop: Crops) -> Patches:
        """One frame and the avatar as drawn in it."""
        alpha = render.alpha[0, 0]
        person, body = (torch.maximum(crop.mask[0], alpha) > 0.5).numpy(), (alpha > 0.9).numpy()
        frame, plate, known = crop.rgb[0].numpy(), crop.plate[0].numpy(), crop.known[0].numpy() > 0
        drawn = render.rgb[0].numpy() + (1 - alpha.numpy()) * np.where(known, plate, frame)
        off = np.abs(drawn - frame).max(0)
        differs = (off > UNLIKE) & person
        if _opened(differs).any():
            differs &= ~(known & (np.abs(plate - frame).max(0) < UNLIKE))
            rows, columns = np.nonzero(differs)
            differs[rows, columns] = ~_nearby(drawn, body, frame[:, rows, columns], rows, columns)
        count, labels = cv2.connectedComponents(_opened(differs), connectivity=4)
        patches = [labels == k for k in range(1, count)]
        colors = [np.median(frame[:, patch], axis=1) for patch in patches]
        over_body = [body[patch].mean() for patch in patches]
        kept = frame.copy() if patches else frame[:, :0, :0]  # not the whole crop behind it
        return Patches(labels, np.array(colors).reshape(-1, 3), np.array(over_body), kept, off, int(person.sum()))

    def occluded(self, known: Float[np.ndarray, "colors 3"]) -> Bool[Tensor, "height width"]:
        """Where those patches are that lie over the body or have a known color."""
        apart = np.abs(self.colors[:, None] - known[None]).max(-1, initial=0.0)
        taken = (self.over_body >= OVER_BODY) | (apart < UNLIKE).any(1)
        core = np.isin(self.labels, 1 + np.flatnonzero(taken))
        if not core.any() or core.sum() > MOST * self.person:
            return torch.zeros(core.shape, dtype=torch.bool)
        whole = np.zeros(core.shape, np.uint8)
        for k in np.flatnonzero(taken):
            alike = np.abs(self.frame - self.colors[k][:, None, None]).max(0) < UNLIKE
            patch = (self.labels == 1 + k).astype(np.uint8)
            reach = (alike & (self.off > UNLIKE / 2)).astype(np.uint8) | patch
            for _ in range(GROW_PX):
                patch = cv2.dilate(patch, _disk(1)) & reach
            whole |= patch
        closed = cv2.morphologyEx(whole, cv2.MORPH_CLOSE, _disk(3))  # what the avatar was fitted to earlier is like it
        return torch.from_numpy(cv2.dilate(closed, _disk(MARGIN_PX)) > 0)


def occluded(found: Sequence[Patches]) -> list[Bool[Tensor, "height width"]]:
    """Where something else than the person is seen before them, or beside them and known from another frame."""
    known = np.concatenate([patches.colors[patches.over_body >= OVER_BODY] for patches in found])
    return [patches.occluded(known) for patches in found]


def _nearby(
    drawn: Float[np.ndarray, "3 height width"],
    body: Bool[np.ndarray, "height width"],
    colors: Float[np.ndarray, "3 n"],
    rows: Int[np.ndarray, " n"],
    columns: Int[np.ndarray, " n"],
) -> Bool[np.ndarray, " n"]:
    """Whether the avatar has those pixels' colors within `NEAR_PX`, in more than a line (a hem, a watch)."""
    height, width = body.shape
    drawn = np.stack([cv2.medianBlur(channel, 2 * DISK_PX + 1) for channel in drawn.astype(np.float32)])
    found = np.zeros(len(rows), bool)
    reach = range(-NEAR_PX, NEAR_PX + 1)
    for down, right in ((y, x) for y in reach for x in reach if y * y + x * x <= NEAR_PX**2):
        there = (rows + down).clip(0, height - 1), (columns + right).clip(0, width - 1)
        found |= body[there] & (np.abs(drawn[:, there[0], there[1]] - colors).max(0) < UNLIKE)
    return found


def _opened(where: Bool[np.ndarray, "height width"]) -> np.ndarray:
    """What a disk can reach without leaving it."""
    return cv2.morphologyEx(where.astype(np.uint8), cv2.MORPH_OPEN, _disk(DISK_PX))


def _disk(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
