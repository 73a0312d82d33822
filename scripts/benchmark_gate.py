"""Seeds defects into good clips of a data set and counts which the gate catches, and which good clips it lets through.

python scripts/benchmark_gate.py runs/street --json gate.json
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

DEFECTS = ("wrong pose", "frozen", "black", "blurred", "cut off", "duplicate")


@dataclass(frozen=True)
class GateBenchmark:
    """The data set is left as it is; the spoiled copies are thrown away."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of a data set with clips of two classes at least."""
    json: Path | None = None
    clips: int = 4
    """How many good clips, of each of which every defect is made."""

    def run(self) -> int:
        """Measure and print; always 0."""
        from actionrec.manifest import read_manifest
        from reenact.quality import QualityRules, judge, measure, mediapipe_estimator

        every, estimate = read_manifest(self.out / "manifest.jsonl"), mediapipe_estimator()
        good = [every[i] for i in np.linspace(0, len(every) - 1, min(self.clips, len(every))).round().astype(int)]
        measured = [measure(self.out, clip, estimate) for clip in good]
        passed = [not verdict.stage for verdict in judge(good, measured, QualityRules())]
        caught: dict[str, list[str]] = {defect: [] for defect in DEFECTS}
        with tempfile.TemporaryDirectory() as folder:
            for clip, found in zip(good, measured, strict=True):
                other = next(c for c in every if c.label != clip.label and c.subject == clip.subject)
                for defect in DEFECTS:
                    bad = spoiled(self.out, Path(folder), clip, other, defect)
                    both = judge([clip, bad], [found, measure(Path(folder), bad, estimate)], QualityRules())
                    caught[defect].append(both[1].stage)
        result: dict[str, Any] = {
            "good_passed": f"{sum(passed)} of {len(passed)}",
            "good_oks": [round(m.oks, 3) for m in measured],
            "caught": {d: f"{sum(map(bool, stages))} of {len(stages)}" for d, stages in caught.items()},
            "by_stage": caught,
        }
        print(json.dumps(result, indent=2))
        if self.json:
            self.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        return 0


def spoiled(out: Path, folder: Path, clip: Any, other: Any, defect: str) -> Any:
    """A copy of a clip and its labels in `folder` with one defect."""
    from avatars.video import load_frames, write_video

    frames, _ = load_frames(out / clip.path)
    with np.load(out / "labels" / f"{clip.id}.npz") as archive:
        labels = dict(archive)
    if defect == "wrong pose":
        frames = load_frames(out / other.path)[0]
        frames = frames[np.arange(clip.n_frames) % len(frames)]
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


def shifted(frames: np.ndarray, labels: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The picture moved down until the person's lower half is out of it."""
    from reenact.labels import decode_rle, encode_rle

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
    sys.exit(tyro.cli(GateBenchmark).run())
