"""A fit under way in; what passes before the person (a ball, another's arm, a tool) out, so that it counts nowhere.

The coarse avatar looks as the person does in most frames. Where a frame is far from it over a whole patch of the body,
in a color that the avatar does not have nearby, something else is seen there. What differs along a line (a pose a little
off, a fold) holds no disk and is left in, so is a limb in the wrong place, so is what stands out from the body (hair, a
bag), and so is a frame that differs nearly everywhere.

Robust fits of scenes leave transient things out by their residual in the same way, with patches in place of single
pixels: Sabour et al. 2023 (RobustNeRF).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatars.crops import LEVELS, Crops
from avatars.rasterizer import Render
from avatars.threads import torch_on_one_thread

if TYPE_CHECKING:
    from avatars.fitting import Fit
    from avatars.motion import Motion

LOOK_PX = 160
"""Crops are looked at where their longer side is at most this, about: small misses of the pose vanish there."""
UNLIKE = 0.2
"""Largest channel difference that means another color."""
NEAR_PX = 5
"""How far away the avatar's own color may be found, pixels: 17 cm on a grown person, by which a limb may be misplaced."""
DISK_PX = 2
"""Radius of the disk that must differ all over, pixels: 7 cm across on a grown person."""
OVER_BODY = 0.3
"""Share of a patch that must lie over the avatar's body."""
MOST = 0.4
"""Share of the person from which on the pose is wrong rather than the person hidden."""
GROW_PX = 3
"""How far a patch may reach beyond those disks, into what differs half as much: a blurred edge."""


@torch_on_one_thread()
@torch.no_grad()
def leave_out_occluders(fit: Fit, motion: Motion) -> None:
    """Look for what hides the person in every crop, fitted or held out, and let it count nowhere from now on.

    `motion` has the frames of `fit.crops`.
    """
    from avatars.scoring import drawn_as_tracked

    longest = max(max(image.shape[1:]) for image in fit.crops.images[1])
    level = next((level for level in LEVELS if longest <= level * LOOK_PX), LEVELS[-1])
    hidden = []
    for chosen in torch.arange(len(fit.crops)).split(16):
        crops = [fit.crops.take([i], level) for i in chosen.tolist()]
        renders = drawn_as_tracked(fit, motion, chosen.tolist(), crops)
        hidden += [occluded(render, crop) for render, crop in zip(renders, crops, strict=True)]
    fit.hide(hidden)


def occluded(render: Render, crop: Crops) -> Bool[Tensor, "height width"]:
    """Where something else than the person is seen in front of them: one frame, one render of the avatar."""
    import cv2

    alpha, person = render.alpha[0, 0], torch.maximum(crop.mask[0], render.alpha[0, 0]) > 0.5
    frame, plate, known = crop.rgb[0].numpy(), crop.plate[0].numpy(), crop.known[0].numpy() > 0
    drawn = (render.rgb[0] + (1 - render.alpha[0]) * torch.where(crop.known > 0, crop.plate[0], crop.rgb[0])).numpy()
    body, off = (alpha > 0.9).numpy(), np.abs(drawn - frame).max(0)
    disk, wide = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1)) for r in (DISK_PX, GROW_PX))
    nothing = torch.zeros_like(person)
    differs = (off > UNLIKE) & person.numpy()
    if not cv2.morphologyEx(_bytes(differs), cv2.MORPH_OPEN, disk).any():
        return nothing
    differs &= ~(known & (np.abs(plate - frame).max(0) < UNLIKE))
    rows, columns = np.nonzero(differs)
    differs[rows, columns] = ~_nearby(drawn, body, frame[:, rows, columns], rows, columns)
    labels = cv2.connectedComponents(cv2.morphologyEx(_bytes(differs), cv2.MORPH_OPEN, disk), connectivity=4)[1]
    patches = [labels == k for k in range(1, int(labels.max()) + 1)]
    core = _bytes(sum((p for p in patches if body[p].mean() >= OVER_BODY), np.zeros_like(body)))
    if not core.any() or core.sum() > MOST * int(person.sum()):
        return nothing
    core = cv2.morphologyEx(core, cv2.MORPH_CLOSE, wide)  # what was fitted to it earlier is like it
    grown = core | (cv2.dilate(core, wide) & _bytes(off > UNLIKE / 2))
    return torch.from_numpy(cv2.dilate(grown, np.ones((3, 3), np.uint8)) > 0)


def _nearby(
    drawn: Float[np.ndarray, "3 height width"],
    body: Bool[np.ndarray, "height width"],
    colors: Float[np.ndarray, "3 n"],
    rows: Int[np.ndarray, " n"],
    columns: Int[np.ndarray, " n"],
) -> Bool[np.ndarray, " n"]:
    """Whether the avatar has those pixels' colors within `NEAR_PX`."""
    height, width = body.shape
    found = np.zeros(len(rows), bool)
    reach = range(-NEAR_PX, NEAR_PX + 1)
    for down, right in ((y, x) for y in reach for x in reach if y * y + x * x <= NEAR_PX**2):
        there = (rows + down).clip(0, height - 1), (columns + right).clip(0, width - 1)
        found |= body[there] & (np.abs(drawn[:, there[0], there[1]] - colors).max(0) < UNLIKE)
    return found


def _bytes(where: Tensor | np.ndarray) -> np.ndarray:
    return np.asarray(where).astype(np.uint8)
