"""Small real video files and clips for tests of action recognition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from actionrec.manifest import ManifestClip

CLIP = ManifestClip(
    id="a", path="a.mp4", label="wave", subject="anna", source="a", kind="real", n_frames=12, fps=12.0,
    size_hw=(32, 40), sha256="0" * 64,
)  # fmt: skip


def film(path: Path, frames: np.ndarray | int = 6, *, fps: int = 12, seed: int = 0) -> Path:
    """Write frames (n, height, width, 3) uint8, or so many frames of noise, as MPEG-4."""
    if isinstance(frames, int):
        frames = np.random.default_rng(seed).integers(0, 255, (frames, 32, 40, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.bit_rate = 2_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def clip(**changes: object) -> ManifestClip:
    """A clip that differs from `CLIP` as stated; path and source follow the id."""
    given = {"path": f"{changes['id']}.mp4", "source": str(changes["id"])} if "id" in changes else {}
    return replace(CLIP, **{**given, **changes})  # type: ignore[arg-type]


def sweeps(label: int, rng: np.random.Generator, frames: int = 12, size: int = 36) -> np.ndarray:
    """A bright bar over noise that moves left, right, up or down (label 0 to 3)."""
    noise = rng.integers(0, 80, (size, size, 3))
    video = np.repeat(noise[None], frames, 0).astype(np.uint8)
    offset = int(rng.integers(0, 6))
    for t in range(frames):
        place = min(offset + round(t * (size - 10) / frames), size - 5)
        place = size - 5 - place if label % 2 else place
        if label < 2:
            video[t, :, place : place + 5] = 230
        else:
            video[t, place : place + 5] = 230
    return video
