"""Which real training clips are suitable references: one person, whole, before a still camera, and tracked well.

Clips of a class are tried in an order that follows from the seed, people in turn, until there are enough; every verdict
is kept, so that a stopped search goes on and a reader sees what was left out and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from actionrec.manifest import ManifestClip
from avatars.errors import InputError
from avatars.io.files import read_json, write_json
from avatars.io.progress import progress

LEAST_FRAMES = 8
LEAST_TRACKED = 0.9
"""Share of frames in which the person was tracked."""
LEAST_PX = 48
"""Height of the person's box."""
MOST_CROWDED = 0.2
"""Share of the frames looked at that show somebody else as well."""
MOST_DRIFT = 0.02
"""Of the background, as a share of the picture's longer side."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one clip."""

    id: str
    label: str
    subject: str
    accepted: bool
    reason: str = ""
    """Why it was left out."""


def candidates(clips: Sequence[ManifestClip], label: str, seed: int) -> list[ManifestClip]:
    """The training clips of a class in the order in which they are tried: people in turn, both shuffled."""
    from actionrec.splits import spread

    own = sorted((c for c in clips if c.label == label and c.split == "train"), key=lambda c: c.id)
    number = sorted({c.label for c in clips}).index(label)
    return spread(own, [c.subject or c.id for c in own], np.random.default_rng([seed, 47, number]))


def choose_references(
    clips: Sequence[ManifestClip], n: int, judge: Callable[[ManifestClip], str], record: Path, *, seed: int
) -> list[Verdict]:
    """`n` suitable clips of every class; `judge` tracks a clip and says why it is unsuitable, "" when it is not.

    Verdicts in `record` are taken from there. Raises InputError naming the classes that have too few suitable clips,
    after all have been tried.
    """
    known = {v["id"]: Verdict(**v) for v in read_json(record)["verdicts"]} if record.is_file() else {}
    labels = sorted({c.label for c in clips})
    found: list[Verdict] = []
    short: dict[str, int] = {}
    for label in progress(labels, "references"):
        accepted = 0
        for clip in candidates(clips, label, seed):
            if accepted == n:
                break
            verdict = known.get(clip.id)
            if verdict is None:
                reason = judge(clip)
                verdict = Verdict(clip.id, label, clip.subject, not reason, reason)
            found.append(verdict)
            accepted += verdict.accepted
            if clip.id not in known:
                write_json(record, {"per_class": n, "seed": seed, "verdicts": [asdict(v) for v in found]})
        if accepted < n:
            short[label] = accepted
    write_json(record, {"per_class": n, "seed": seed, "verdicts": [asdict(v) for v in found]})
    if short:
        first = (
            next(v for v in found if not v.accepted and v.label in short)
            if any(not v.accepted and v.label in short for v in found)
            else None
        )
        because = f" The first that was left out, {first.id}: {first.reason}" if first else ""
        raise InputError(
            f"{len(short)} of {len(labels)} classes have fewer than {n} suitable references: "
            f"{', '.join(f'{label} {count}' for label, count in list(short.items())[:5])}.{because} See {record}."
        )
    return found


def unsuitable(video: Path) -> str:
    """Why a clip cannot be a reference, before it is tracked; "" when nothing speaks against it."""
    from avatars.io.video import probe, read_frames
    from avatars.perception.mediapipe_holistic import MediaPipeHolistic
    from avatars.tracking.still_camera import camera_drift

    info = probe(video)
    if info.n_frames < LEAST_FRAMES:
        return f"{info.n_frames} frames; at least {LEAST_FRAMES} are needed"
    chosen = np.unique(np.linspace(0, info.n_frames - 1, 9).round().astype(int))
    frames = list(read_frames(info, chosen))
    drift = float(np.nan_to_num(camera_drift(frames)).max())
    if drift > MOST_DRIFT:
        return f"the camera moves, by {100 * drift:.1f}% of the picture"
    seen = list(MediaPipeHolistic().detect(iter(frames), masks=False, count_people_every=2))
    found = [d for d in seen if d.found]
    if 2 * len(found) < len(seen):
        return f"a person in {len(found)} of {len(seen)} frames looked at"
    crowded = [d.n_people for d in seen if d.n_people is not None]
    if crowded and np.mean([n > 1 for n in crowded]) > MOST_CROWDED:
        return "somebody else is there as well"
    heights = [float(np.ptp(d.xy[:17][d.score[:17] > 0.3][:, 1])) for d in found if (d.score[:17] > 0.3).any()]
    if not heights or np.median(heights) < LEAST_PX:
        return f"the person is {np.median(heights) if heights else 0:.0f} px tall; at least {LEAST_PX} are needed"
    return ""
