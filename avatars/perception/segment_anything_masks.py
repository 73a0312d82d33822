"""Segment Anything, prompted with a person's keypoints and box frame by frame -> masks; the only file that names it.

Kirillov et al. 2023; package `segment-anything` 1.0 (Apache-2.0). It knows single images: the last frame's mask, moved
as the keypoints moved, is offered as a prompt and decides between the candidates, which keeps them the same over time.
Where the chosen one still jumps, it is prompted again with a point on what was wrongly added. Also a program of its own
(`child_process`).
"""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main, require_device
else:  # started by path under another Python
    from child_process import MissingPiece, child_main, require_device

VARIANTS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""Width of the image encoder's first layer: model."""
INSTALL = "pip install 'splat-avatars[sam]'"
JUMP = 0.6
"""Overlap (intersection over union) with the last frame's mask, moved, below which a mask is asked for again."""
FAR = 0.08  # of the box's height: a point on the background keeps this far from every keypoint
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
        require_device(device)
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
        uint8, person probability times 255, and `overlap` (n,) of each with the last frame's, moved as the keypoints
        moved; NaN where there is none. Frames follow those of the call before."""
        rows = [self._mask(*row) for row in zip(frames, boxes, points, scores)]  # noqa: B905  (Python 3.7)
        masks, overlaps = zip(*rows)  # noqa: B905  (Python 3.7)
        return {"masks": np.stack(masks), "overlap": np.array(overlaps, np.float32)}

    def forget(self):
        """The next frame begins another clip."""
        self._last = None

    def _mask(self, frame, box, points, score):
        size_hw = frame.shape[:2]
        if not np.isfinite(box).all():
            self._last = None
            return np.zeros(size_hw, np.uint8), np.nan
        self._predictor.set_image(frame)
        previous = self._carried(points, score, size_hw)
        before = None if previous is None else _enlarged(previous, size_hw) > 0
        used = points[score > 0]
        found = self._candidates(box, used, np.ones(len(used), int), previous)
        best = choose_mask(found[0] > 0, found[2], used, box, before)
        if before is not None and _overlap(found[0][best] > 0, before) < JUMP:
            found = self._asked_again(found, best, box, used, previous, before)
            best = choose_mask(found[0] > 0, found[2], used, box, before)
        logits, low = found[0][best], found[1][best]
        self._last = (low, points, score)
        soft = np.rint(255.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))).astype(np.uint8)
        return soft, np.nan if before is None else _overlap(logits > 0, before)

    def _asked_again(self, found, best, box, points, previous, before):
        """The candidates, and those of a prompt with a point on what the best has and the last frame had not."""
        wrong = wrong_point((found[0][best] > 0) & ~before, points, box)
        if wrong is None:
            return found
        labels = np.append(np.ones(len(points), int), 0)
        more = self._candidates(box, np.concatenate([points, wrong[None]]), labels, previous)
        return [np.concatenate(parts) for parts in zip(found, more)]  # noqa: B905  (Python 3.7)

    def _candidates(self, box, points, labels, previous):
        """Logits (c, h, w), low-resolution logits (c, 256, 256) and predicted quality (c,) of three masks without and
        three with the last frame's mask as a prompt: the costly image encoder has run once."""
        prompt = {"point_coords": points, "point_labels": labels} if len(points) else {}
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
            total[i] += _overlap(mask, previous)
    return int(np.argmax(total))


def wrong_point(added, points, box):
    """The middle (x, y) of what of a mask's `added` part (h, w) lies far from all keypoints (k, 2); None where nothing
    does: near a keypoint it may be the person."""
    rows, columns = np.nonzero(added)
    if not len(rows) or not len(points):
        return None
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), 4000)).astype(int)
    pixels = np.stack([columns[chosen], rows[chosen]], 1) + 0.5
    distance = np.sqrt(((pixels[:, None] - points[None]) ** 2).sum(-1)).min(1)
    far = pixels[distance > FAR * (box[3] - box[1])]
    return far[((far - far.mean(0)) ** 2).sum(1).argmin()] if len(far) else None


def _overlap(a, b):
    """Intersection over union of two masks."""
    return (a & b).sum() / max((a | b).sum(), 1)


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
