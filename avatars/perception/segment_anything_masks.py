"""Segment Anything, prompted with a person's keypoints and box frame by frame -> masks; the only file that names it.

Kirillov et al. 2023; package `segment-anything` 1.0 (Apache-2.0). It knows single images: the last frame's mask, moved
as the keypoints moved, is offered as a prompt and decides between the candidates, which keeps them the same over time.
Also a program of its own (`child_process`).
"""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main
else:  # started by path under another Python
    from child_process import MissingPiece, child_main

VARIANTS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""Width of the image encoder's first layer: model."""
INSTALL = "pip install 'splat-avatars[sam]'"
LOW_SIDE = 256  # the low-resolution masks' side; the image's longer side fills it


class SegmentAnythingModel:
    """Masks of one person, frame after frame of one clip."""

    def __init__(self, weights, device="cpu"):
        """`weights`: `sam_vit_{b,l,h}_*.pth`. Raises MissingPiece."""
        for package in ("torch", "segment_anything"):
            if importlib.util.find_spec(package) is None:
                raise MissingPiece(f"the package {package} is not installed in {sys.executable}. {INSTALL}.")
        if not os.path.isfile(weights):
            raise MissingPiece(f"no checkpoint at {weights}.")
        import torch
        from segment_anything import SamPredictor, sam_model_registry

        state = _state_dict(torch, weights)
        width = state.get("image_encoder.patch_embed.proj.bias", torch.zeros(0)).shape[0]
        if width not in VARIANTS:
            raise MissingPiece(f"{weights} is no Segment Anything checkpoint (sam_vit_b, sam_vit_l or sam_vit_h).")
        sam = sam_model_registry[VARIANTS[width]](checkpoint=None)
        try:
            sam.load_state_dict(state)
        except RuntimeError as error:
            raise MissingPiece(
                f"{weights} does not fit {VARIANTS[width]} ({str(error).splitlines()[1].strip()})."
            ) from None
        self.variant = VARIANTS[width]
        self._predictor = SamPredictor(sam.to(device).eval())
        self._last = None  # low-resolution logits, keypoints and their scores of the last frame with a person

    def __call__(self, frames, boxes, points, scores):
        """Frames (n, height, width, 3) uint8 RGB; boxes (n, 4) left, top, right, bottom, NaN where nobody is; points
        (n, k, 2) in pixels and their scores (n, k), 0 where a point is not to be used -> `masks` (n, height, width)
        uint8, person probability times 255. Frames follow those of the call before."""
        rows = zip(frames, boxes, points, scores)  # noqa: B905  (Python 3.7)
        return {"masks": np.stack([self._mask(*row) for row in rows])}

    def forget(self):
        """The next frame begins another clip."""
        self._last = None

    def _mask(self, frame, box, points, score):
        if not np.isfinite(box).all():
            self._last = None
            return np.zeros(frame.shape[:2], np.uint8)
        self._predictor.set_image(frame)
        previous = self._carried(points, score, frame.shape[:2])
        logits, low, quality = self._candidates(box, points[score > 0], previous)
        before = None if previous is None else _enlarged(previous, frame.shape[:2]) > 0
        best = choose_mask(logits > 0, quality, points[score > 0], box, before)
        self._last = (low[best], points, score)
        return np.rint(255.0 / (1.0 + np.exp(-np.clip(logits[best], -30, 30)))).astype(np.uint8)

    def _candidates(self, box, points, previous):
        """Logits (c, h, w), low-resolution logits (c, 256, 256) and predicted quality (c,) of three masks without and
        three with the last frame's mask as a prompt: the costly image encoder has run once."""
        prompt = {"point_coords": points, "point_labels": np.ones(len(points), int)} if len(points) else {}
        answers = [
            self._predictor.predict(box=box, mask_input=mask, multimask_output=True, return_logits=True, **prompt)
            for mask in ([None] if previous is None else [None, previous[None]])
        ]
        logits, quality, low = (np.concatenate(parts) for parts in zip(*answers))  # noqa: B905  (Python 3.7)
        return logits, low, quality

    def _carried(self, points, score, size_hw):
        if self._last is None:
            return None
        low, last_points, last_score = self._last
        both = (score > 0) & (last_score > 0)
        if not both.any():
            return None
        step_px = np.median(points[both] - last_points[both], axis=0) * (LOW_SIDE / max(size_hw))
        return moved(low, np.rint(step_px).astype(int))

    def close(self):
        """Nothing to end in this process."""


def choose_mask(masks, quality, points, box, previous):
    """Which of the masks (c, h, w) shows the whole person: the index with the largest sum of the predicted quality, the
    share of keypoints inside, the overlap of its box with the person's, and the overlap with the last frame's mask."""
    total = np.asarray(quality, float).copy()
    height, width = masks.shape[1:]
    x = np.clip(points[:, 0].astype(int), 0, width - 1)
    y = np.clip(points[:, 1].astype(int), 0, height - 1)
    for i, mask in enumerate(masks):
        if not mask.any():
            total[i] = -np.inf
            continue
        total[i] += mask[y, x].mean() if len(points) else 0.0
        total[i] += _box_overlap(_box_of(mask), box)
        if previous is not None:
            total[i] += (mask & previous).sum() / max((mask | previous).sum(), 1)
    return int(np.argmax(total))


def moved(low, step_xy):
    """Low-resolution logits moved by whole pixels; what comes in from outside is surely not the person."""
    dx, dy = (int(np.clip(s, -LOW_SIDE, LOW_SIDE)) for s in step_xy)
    out = np.full_like(low, low.min())
    h, w = low.shape
    out[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = low[
        max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
    ]
    return out


def _enlarged(low, size_hw):
    """Low-resolution logits at the frame's size, nearest neighbor."""
    scale = LOW_SIDE / max(size_hw)
    rows = np.minimum(((np.arange(size_hw[0]) + 0.5) * scale).astype(int), LOW_SIDE - 1)
    columns = np.minimum(((np.arange(size_hw[1]) + 0.5) * scale).astype(int), LOW_SIDE - 1)
    return low[rows][:, columns]


def _box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def _box_overlap(a, b):
    """Intersection over union."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inside = np.prod(np.clip(high - low, 0, None))
    return inside / max(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inside, 1e-9)


def _state_dict(torch, path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MissingPiece(f"{path} cannot be read as a checkpoint ({str(error).splitlines()[0]}).") from None


if __name__ == "__main__":
    child_main(
        SegmentAnythingModel,
        {"weights": "sam_vit_b, _l or _h checkpoint", "device": "cpu or cuda"},
        inputs=("boxes", "points", "scores"),
    )
