"""Seeds defects into good clips of a data set and counts which the gate catches, and which good clips it lets through.

python scripts/benchmarks/benchmark_quality_filter.py runs/street --json gate.json

Good are clips whose labels say that the person is mostly visible (`MOST_HIDDEN`), whatever the gate thinks of them;
defects are made in those of them, drawn at random, that the gate lets through.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from benchmark_results import main, write_results

DEFECTS = ("wrong pose", "missing limb", "frozen", "black", "blurred", "cut off", "duplicate")
MOST_HIDDEN = 0.3
"""Share of the body that other things may hide in a good clip, on average over its frames."""
LIMBS = ((7, 9), (8, 10), (13, 15), (14, 16))
BONES = (*LIMBS, (5, 7), (6, 8), (11, 13), (12, 14), (5, 6), (5, 11), (6, 12), (11, 12), (0, 5), (0, 6))
"""Of COCO's 17 points."""


NAME = "gate"


@dataclass(frozen=True)
class GateBenchmark:
    """The data set is left as it is; the spoiled copies are thrown away."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of a data set with clips of two classes at least."""
    json: Path | None = None
    good: int = 40
    """How many good clips are judged."""
    clips: int = 12
    """Of how many of them every defect is made."""

    def run(self) -> int:
        """Measure and print; always 0."""
        from actionrec.manifest import read_manifest
        from avatars.io.progress import progress
        from reenact.data_set.quality import QualityRules, judge, measure, mediapipe_estimator

        every, estimate = read_manifest(self.out / "manifest.jsonl"), mediapipe_estimator()
        rng = np.random.default_rng(0)
        good = [clip for clip in every if mostly_visible(self.out, clip)]
        good = [good[i] for i in np.sort(rng.permutation(len(good))[: max(self.good, self.clips)])]
        measured = [measure(self.out, clip, estimate) for clip in progress(good, "Good clips")]
        passed = [not verdict.stage for verdict in judge(good, measured, QualityRules())]
        chosen = rng.permutation(np.flatnonzero(passed))[: self.clips].tolist()
        caught: dict[str, list[str]] = {defect: [] for defect in DEFECTS}
        with tempfile.TemporaryDirectory() as folder:
            for k in progress(chosen, "Defects"):
                clip, found = good[k], measured[k]
                other = next(c for c in every if c.label != clip.label and c.subject == clip.subject)
                for defect in DEFECTS:
                    bad = spoiled(self.out, Path(folder), clip, other, defect)
                    both = judge([clip, bad], [found, measure(Path(folder), bad, estimate)], QualityRules())
                    caught[defect].append(both[1].stage)
        result: dict[str, Any] = {
            "good_passed": f"{sum(passed)} of {len(passed)}",
            "caught_share": float(np.mean([bool(stage) for stages in caught.values() for stage in stages])),
            "caught": {d: f"{sum(map(bool, stages))} of {len(stages)}" for d, stages in caught.items()},
            "by_stage": caught,
        }
        print(json.dumps(result, indent=2))
        write_results(self.json, NAME, result)
        return 0


def spoiled(out: Path, folder: Path, clip: Any, other: Any, defect: str) -> Any:
    """A copy of a clip and its labels in `folder` with one defect."""
    from avatars.io.video import load_frames, write_video

    frames, _ = load_frames(out / clip.path)
    with np.load(out / "labels" / f"{clip.id}.npz") as archive:
        labels = dict(archive)
    if defect == "wrong pose":
        frames = load_frames(out / other.path)[0]
        frames = frames[np.arange(clip.n_frames) % len(frames)]
    elif defect == "missing limb":
        frames, labels = without_limb(frames, labels, LIMBS[int(clip.id, 16) % len(LIMBS)])
    elif defect == "frozen":
        frames = np.repeat(frames[:1], len(frames), 0)
    elif defect == "black":
        frames = frames // 32
    elif defect == "blurred":
        from scipy.ndimage import gaussian_filter

        frames = np.stack([gaussian_filter(frame, (5, 5, 0)) for frame in frames])
    elif defect == "cut off":  # the camera looks past the person: pixels and labels move together
        frames, labels = shifted(frames, labels)
    bad = replace(clip, id="bad", path="bad.mp4")
    (folder / "labels").mkdir(exist_ok=True)
    np.savez(folder / "labels" / "bad.npz", **labels)
    write_video(folder / bad.path, frames, fps=clip.fps)
    return bad


def mostly_visible(out: Path, clip: Any) -> bool:
    """Whether the labels say so."""
    with np.load(out / "labels" / f"{clip.id}.npz") as labels:
        return bool(labels["hidden_share"].mean() <= MOST_HIDDEN)


def without_limb(
    frames: np.ndarray, labels: dict[str, np.ndarray], limb: tuple[int, int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """An avatar that lacks a forearm with its hand, or a lower leg with its foot: gone from pixels and masks."""
    import cv2

    from reenact.rendering.labels import decode_rle, encode_rle

    size = frames.shape[1], frames.shape[2]
    row, column = np.mgrid[: size[0], : size[1]]
    pictures, counts = [], []
    for frame, rle, xy in zip(frames, labels["whole_rle"], labels["keypoints_px"], strict=True):
        mask = decode_rle(bytes(rle), size)
        pixels = np.stack([column[mask], row[mask]], -1)
        nearest = np.argmin([_distance(pixels, xy[a], xy[b], 1.5 if (a, b) in LIMBS else 1.0) for a, b in BONES], 0)
        gone = np.zeros(size, np.uint8)
        gone[mask] = nearest == BONES.index(limb)
        wide = cv2.dilate(gone, np.ones((5, 5), np.uint8))
        pictures.append(cv2.inpaint(frame, wide, 3, cv2.INPAINT_TELEA))
        counts.append(encode_rle(mask & (gone == 0)))
    rle = np.array(counts)
    return np.stack(pictures), labels | {"mask_rle": rle, "whole_rle": rle}


def _distance(pixels: np.ndarray, a: np.ndarray, b: np.ndarray, longer: float) -> np.ndarray:
    """From pixels to the segment from a to b, the latter moved on."""
    along = (b - a) * longer
    share = np.clip((pixels - a) @ along / max(float(along @ along), 1e-9), 0, 1)
    return np.linalg.norm(pixels - a - share[:, None] * along, axis=-1)


def shifted(frames: np.ndarray, labels: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The picture moved down until the person's lower half is out of it."""
    from reenact.rendering.labels import decode_rle, encode_rle

    height, width = frames.shape[1:3]
    box = np.median(labels["box_px"], 0)
    down = int(height - (box[1] + box[3]) / 2)
    moved = np.concatenate([np.repeat(frames[:, :1], down, 1), frames[:, : height - down]], 1)
    points = labels["keypoints_px"] + np.array([0.0, down])
    masks = [decode_rle(bytes(counts), (height, width)) for counts in labels["mask_rle"]]
    lowered = [np.concatenate([np.zeros((down, width), bool), mask[: height - down]]) for mask in masks]
    rle = np.array([encode_rle(mask) for mask in lowered])
    inside = labels["keypoints_in_frame"] & (points[..., 1] < height)
    boxes = np.minimum(labels["box_px"] + np.array([0, down, 0, down]), height)
    new = {"keypoints_px": points, "keypoints_in_frame": inside, "mask_rle": rle, "box_px": boxes, "whole_rle": rle}
    return moved, labels | new


if __name__ == "__main__":
    sys.exit(main(GateBenchmark, NAME, __doc__ or ""))
