"""Is the loader a bottleneck? Clips per second of decoding, of training views, and of X3D-S's training step.

python scripts/benchmarks/benchmark_clips.py --json clips.json
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmark_results import main, write_results

NAME = "clips"


@dataclass(frozen=True)
class ClipsBenchmark:
    """Time each stage between a video file and the recognizer on made-up clips."""

    recognizer: str = "x3d-s"
    clips: int = 16
    frames: int = 90
    height: int = 240
    width: int = 320
    steps: int = 3
    """Training steps that are timed."""
    batch: int = 4
    threads: int = 2
    json: Path | None = None

    def run(self) -> None:
        """Measure, print and write."""
        tell(self)


def run(options: ClipsBenchmark) -> dict[str, float]:
    """Clips per second of each stage, with two processes or threads."""
    import numpy as np
    import torch

    from actionrec.clips import ClipStore, TrainClips
    from actionrec.sources import folders
    from actionrec.training import TrainingConfig
    from avatars.io.video import write_video

    torch.set_num_threads(options.threads)
    config = TrainingConfig.preset("paper", recognizer=options.recognizer)
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for i in range(options.clips):
            low = rng.integers(0, 255, (options.frames, options.height // 8, options.width // 8, 3), dtype=np.uint8)
            write_video(Path(folder) / "videos" / "a" / f"{i}.mp4", low.repeat(8, 1).repeat(8, 2))
        clips = folders.build(Path(folder) / "videos").clips
        store = ClipStore(Path(folder) / "cache", config.clips)
        start = time.perf_counter()
        clips = store.fill(clips, workers=options.threads)
        decoded = len(clips) / (time.perf_counter() - start)
        views = TrainClips(store, clips, ["a"], seed=0)
        torch.set_num_threads(1)
        start = time.perf_counter()
        batch = torch.stack([views[(i, i % len(clips))][0] for i in range(2 * len(clips))])[: options.batch]
        viewed = 2 * len(clips) / (time.perf_counter() - start)
        torch.set_num_threads(options.threads)
        step = _steps(config.recognizer.build(16), batch, options.steps)
    return {"decode_clips_per_s": decoded, "views_clips_per_s_1_thread": viewed, "step_clips_per_s": step}


def _steps(network, batch, steps: int) -> float:
    """Clips per second of forward, backward and the optimizer, after one step to warm up."""
    import torch

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(network(batch), torch.zeros(len(batch), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return steps * len(batch) / (time.perf_counter() - start)


def tell(options: ClipsBenchmark) -> None:
    """Print the rates, and how many times faster than the training step the loader is."""
    rates = {name: round(value, 2) for name, value in run(options).items()}
    ratio = rates["views_clips_per_s_1_thread"] / rates["step_clips_per_s"]
    print("\n".join(f"{name:28} {value:10.2f}" for name, value in rates.items()))
    print(f"training views on one thread: {ratio:.1f} times the {options.recognizer} step on {options.threads}")
    write_results(options.json, NAME, rates | {"ratio": round(ratio, 2)})


if __name__ == "__main__":
    sys.exit(main(ClipsBenchmark, NAME, __doc__ or ""))
