"""Finished clips -> which may be used: measured from pixels and labels, judged stage by stage, with a reason each.

A clip is rejected by the first stage that it fails. Nothing is deleted: accepted.jsonl and rejected.jsonl stand beside
the manifest, and the files stay where they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from actionrec.manifest import ManifestClip
from avatars.errors import InputError
from avatars.io.video import probe, read_frames
from reenact.data_set.label_file import masks_of, read_labels
from reenact.planning.data_set_paths import file_inside

_KEYS = ("mask_rle", "whole_rle", "box_px", "keypoints_px", "keypoints_in_frame")
STAGES = ("decodes", "visible", "inside", "lit", "sharp", "moves", "whole", "agrees", "new")
_BODY = slice(5, 17)
"""Shoulders to ankles of COCO's 17: what detectors find on any side of a person."""
_LIMBS = {"left arm": (7, 9), "right arm": (8, 10), "left leg": (13, 15), "right leg": (14, 16)}
_OKS_SIGMAS = np.array([0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089])
"""Of the same points (COCO keypoint evaluation, Lin et al. 2014)."""
_FINGERPRINT_PX, _FINGERPRINT_FRAMES = 16, 6


@dataclass(frozen=True, slots=True)
class QualityRules:
    """Where the stages draw their lines."""

    min_area: float = 0.004
    """Share of the frame that the person must cover in nine of ten frames."""
    min_inside: float = 0.8
    """Mean share of the body's keypoints that lie inside the frame."""
    min_light: float = 16.0
    """Mean level (0 to 255) of the person's box in nine of ten frames."""
    min_sharpness: float = 6.0
    """Variance of the Laplacian (8-bit levels) in the person's box, median over frames."""
    max_still: float = 0.25
    """Share of the steps in which the labels move and the pixels do not."""
    min_limb: float = 0.5
    """Share of the frames in which each limb's joints must lie on the person's mask."""
    min_oks: float = 0.5
    """Agreement of the pose seen in the pixels with the labels, median over frames (object keypoint similarity)."""
    min_difference: float = 1.5
    """Mean difference (8-bit levels) of small copies to any other clip of the class; less is a duplicate."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured on one clip; NaN where it could not be."""

    broken: str
    """Why the clip cannot be read; "" when it can."""
    area: float = np.nan
    inside: float = np.nan
    light: float = np.nan
    sharpness: float = np.nan
    still: float = np.nan
    worst_limb: str = ""
    limb: float = np.nan
    oks: float = np.nan
    fingerprint: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a clip may be used."""

    id: str
    stage: str
    """The stage that rejected it; "" when it was accepted."""
    reason: str
    measures: dict[str, float]


PoseEstimator = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray]]
"""Frames (height, width, 3) in; keypoints (frames, 133, 2) in pixels and scores (frames, 133) out."""


def measure(folder: Path, clip: ManifestClip, estimate: PoseEstimator | None, *, pose_frames: int = 6) -> Measures:
    """Measure one clip of the data set in `folder`. Without `estimate` the pose is not looked for."""
    where, shape = f"clip {clip.id}", (clip.n_frames, *clip.size_hw)
    try:
        labels = read_labels(file_inside(folder, f"labels/{clip.id}.npz", where), _KEYS, clip)
        info = probe(file_inside(folder, clip.path, where))
        if (info.n_frames, *info.size_hw) != shape:  # told before any mask or picture is unpacked
            return Measures(
                f"{info.n_frames} frames of {info.size_hw}, the manifest says {clip.n_frames} of {clip.size_hw}"
            )
        frames = np.stack(list(read_frames(info)))
        areas = masks_of(labels["mask_rle"], clip).mean((1, 2))
        masks = masks_of(labels.get("whole_rle", labels["mask_rle"]), clip)
    except (InputError, OSError, ValueError) as error:
        return Measures(str(error))
    gray = frames.astype(np.float32).mean(-1)
    crops = [_crop(picture, box) for picture, box in zip(gray, labels["box_px"], strict=True)]
    limbs = {name: _on_mask(labels, masks, points) for name, points in _LIMBS.items()}
    worst = min(limbs, key=lambda name: limbs[name])
    return Measures(
        broken="",
        area=float(np.quantile(areas, 0.1)),
        inside=float(labels["keypoints_in_frame"][:, :23].mean()),
        light=float(np.quantile([crop.mean() if crop.size else 0.0 for crop in crops], 0.1)),
        sharpness=float(np.median([_laplacian_variance(crop) for crop in crops])),
        still=_still(gray, labels),
        worst_limb=worst,
        limb=limbs[worst],
        oks=np.nan if estimate is None else _agreement(frames, areas, labels, estimate, pose_frames),
        fingerprint=_fingerprint(frames),
    )


def _crop(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    left, top, right, bottom = (int(v) for v in box)
    return picture[top:bottom, left:right]


def _laplacian_variance(picture: np.ndarray) -> float:
    """Sharpness (Pech-Pacheco et al. 2000); 0 where there is nothing to measure."""
    if min(picture.shape) < 3:
        return 0.0
    center = -4 * picture[1:-1, 1:-1]
    return float((center + picture[:-2, 1:-1] + picture[2:, 1:-1] + picture[1:-1, :-2] + picture[1:-1, 2:]).var())


def _still(gray: np.ndarray, labels: dict[str, np.ndarray]) -> float:
    """Share of the steps in which some keypoint moves more than 2% of the box's height while no pixel of the box does.

    Steps are as long as it takes to move; 0 where the labels never do.
    """
    points, boxes = labels["keypoints_px"][:, :17], labels["box_px"]
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    still = steps = last = 0
    for frame in range(1, len(gray)):
        if np.linalg.norm(points[frame] - points[last], axis=-1).max() < max(0.02 * height, 1.5):
            continue
        here = _crop(np.abs(gray[frame] - gray[last]), _joined(boxes[frame], boxes[last]))
        still += not here.size or float(np.quantile(here, 0.995)) < 8.0
        steps, last = steps + 1, frame
    return still / steps if steps else 0.0


def _joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])


def _on_mask(labels: dict[str, np.ndarray], masks: np.ndarray, points: tuple[int, ...]) -> float:
    """Share of the frames in which all the points that are in view have the person's mask near them."""
    good = seen = 0
    for mask, box, xy, inside in zip(
        masks, labels["box_px"], labels["keypoints_px"], labels["keypoints_in_frame"], strict=True
    ):
        reach = max(int(0.02 * (box[3] - box[1])), 1)
        in_view = [p for p in points if inside[p]]
        if not in_view:
            continue
        near = []
        for x, y in xy[in_view].clip(0, max(mask.shape)).astype(int):
            rows, columns = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
            near.append(mask[rows, columns].any())
        good, seen = good + all(near), seen + 1
    return good / seen if seen else 1.0


def _agreement(
    frames: np.ndarray, areas: np.ndarray, labels: dict[str, np.ndarray], estimate: PoseEstimator, count: int
) -> float:
    """Median over frames of the object keypoint similarity of what is seen with the labels; a frame in which nobody is
    found counts 0."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    xy, score = estimate([frames[i] for i in chosen])
    area_px = areas[chosen] * frames.shape[1] * frames.shape[2]
    truth, inside = labels["keypoints_px"][chosen][:, _BODY], labels["keypoints_in_frame"][chosen][:, _BODY]
    return float(np.median(oks(xy[:, _BODY], truth, inside, area_px) * (score[:, _BODY] > 0).any(1)))


def oks(found: np.ndarray, truth: np.ndarray, counted: np.ndarray, area_px: np.ndarray) -> np.ndarray:
    """Object keypoint similarity (frames,) of 12 body points (frames, 12, 2), over those that are `counted`."""
    distance2 = ((found - truth) ** 2).sum(-1)
    likeness = np.exp(-distance2 / (2 * np.maximum(area_px, 1)[:, None] * (2 * _OKS_SIGMAS) ** 2))
    return (likeness * counted).sum(1) / np.maximum(counted.sum(1), 1)


def _fingerprint(frames: np.ndarray) -> np.ndarray:
    """Small copies of a few frames, levels."""
    from PIL import Image

    chosen = np.linspace(0, len(frames) - 1, _FINGERPRINT_FRAMES).round().astype(int)
    side = (_FINGERPRINT_PX, _FINGERPRINT_PX)
    small = [np.asarray(Image.fromarray(frames[i]).resize(side, Image.Resampling.BOX)) for i in chosen]
    return np.stack(small).astype(np.float32)


def judge(clips: Sequence[ManifestClip], measured: Sequence[Measures], rules: QualityRules) -> list[Verdict]:
    """A verdict per clip, in order; of duplicates the first is kept."""
    kept: dict[str, list[tuple[str, np.ndarray]]] = {}
    verdicts = []
    for clip, found in zip(clips, measured, strict=True):
        stage, reason = _first_failure(found, rules)
        same = kept.setdefault(clip.label, [])
        if not stage and found.fingerprint is not None:
            twin = _twin(found.fingerprint, same, rules.min_difference)
            stage, reason = ("new", f"nearly the same as {twin}") if twin else ("", "")
            if not twin:
                same.append((clip.id, found.fingerprint))
        verdicts.append(Verdict(clip.id, stage, reason, numbers(found)))
    return verdicts


def numbers(found: Measures) -> dict[str, float]:
    """The measures that are numbers, rounded; those that could not be taken are left out."""
    values = {f.name: getattr(found, f.name) for f in fields(found)}
    return {k: round(v, 4) for k, v in values.items() if isinstance(v, float) and np.isfinite(v)}


def _first_failure(found: Measures, rules: QualityRules) -> tuple[str, str]:
    """Stage and reason of the first stage that a clip fails, or two empty texts."""
    if found.broken:
        return "decodes", found.broken
    checks = (
        ("visible", found.area < rules.min_area, f"the person covers {100 * found.area:.2f}% of the frame"),
        ("inside", found.inside < rules.min_inside, f"{100 * found.inside:.0f}% of the keypoints are in the frame"),
        ("lit", found.light < rules.min_light, f"mean level {found.light:.0f} of 255 where the person is"),
        ("sharp", found.sharpness < rules.min_sharpness, f"variance of the Laplacian {found.sharpness:.1f}"),
        ("moves", found.still > rules.max_still, f"{100 * found.still:.0f}% of the movement is not in the pixels"),
        ("whole", found.limb < rules.min_limb, f"{found.worst_limb} is there in {100 * found.limb:.0f}% of the frames"),
        ("agrees", found.oks < rules.min_oks, f"similarity {found.oks:.2f} of the pose seen with the labels"),
    )
    return next(((stage, reason) for stage, failed, reason in checks if failed), ("", ""))


def _twin(fingerprint: np.ndarray, others: list[tuple[str, np.ndarray]], least: float) -> str:
    for clip_id, other in others:
        if float(np.abs(fingerprint - other).mean()) < least:
            return clip_id
    return ""


def calibrated_oks(measured: Sequence[Measures], pass_rate: float) -> float:
    """The threshold that this share of the readable clips passes. Raises InputError when no pose was looked for."""
    found = [m.oks for m in measured if np.isfinite(m.oks)]
    if not found:
        raise InputError("No pose was estimated in any clip; a threshold cannot be calibrated.")
    return float(np.quantile(found, 1.0 - pass_rate))


def funnel(verdicts: Sequence[Verdict]) -> list[tuple[str, int, int]]:
    """Per stage: its name, how many clips came to it, how many it rejected."""
    rejected = Counter(verdict.stage for verdict in verdicts)
    rows, left = [], len(verdicts)
    for stage in STAGES:
        rows.append((stage, left, rejected[stage]))
        left -= rejected[stage]
    return rows


def mediapipe_estimator() -> PoseEstimator:
    """Keypoints by the default detector."""
    from avatars.perception.backends import whole_body_detector

    detector = whole_body_detector("mediapipe")

    def estimate(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        found = list(detector.detect(frames, masks=False))
        return np.stack([d.xy for d in found]), np.stack([d.score for d in found])

    return estimate
