"""A video brought to a length and frame rate, by the times of its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from avatars.io.files import atomic_path
from avatars.io.video import probe, read_frames, write_video
from reenact.reproduction.recipe import Timing

CRF = 12


def standard_video(path: Path, out: Path, timing: Timing, *, whole: bool) -> Path:
    """Write `out`, unless it is there: at most `timing.seconds` of the video at `timing.fps`.

    `whole`: a longer video is gone through in the time, evenly, as one of a person turning may be; otherwise its
    beginning is taken and people move as fast as they did. Raises InputError when it cannot be read.
    """
    if out.is_file():
        return out
    info = probe(path)
    chosen = frames_at(info.times_s, timing, whole=whole)
    pictures = np.stack(list(read_frames(info, np.unique(chosen))))
    shown = pictures[np.searchsorted(np.unique(chosen), chosen)]
    with atomic_path(out) as aside:
        write_video(aside, shown, fps=timing.fps, crf=CRF)
    return out


def frames_at(times_s: Float[np.ndarray, " frames"], timing: Timing, *, whole: bool) -> Int[np.ndarray, " wanted"]:
    """Index of the frame nearest in time to each wanted one; a frame may be shown again where the video has fewer."""
    step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0 / timing.fps
    length = float(times_s[-1] - times_s[0]) + step
    count = max(round(min(length, timing.seconds) * timing.fps), 1)
    pace = length / timing.seconds if whole and length > timing.seconds else 1.0
    wanted = times_s[0] + np.arange(count) * pace / timing.fps
    right = np.clip(np.searchsorted(times_s, wanted), 1, max(len(times_s) - 1, 1))
    if len(times_s) < 2:
        return np.zeros(count, int)
    nearer = wanted - times_s[right - 1] <= times_s[right] - wanted
    return np.where(nearer, right - 1, right)
