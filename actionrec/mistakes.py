"""The clips that a recognizer is most wrong about, as strips: a look tells what no number does."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from actionrec.clips import ClipStore, load_clips
from actionrec.evaluation import Predictions
from actionrec.html_parts import html_picture
from actionrec.protocols import Results

SHOWN = 12
FRAMES = 6


@dataclass(frozen=True, slots=True)
class Mistake:
    """A test clip that most seeds get wrong."""

    id: str
    true: str
    said: str
    confidence: float
    """Of what was said, mean over seeds."""
    wrong: int
    """Seeds that said something else than the truth."""


def mistakes(runs: Sequence[Predictions], most: int = SHOWN) -> list[Mistake]:
    """The clips that most seeds get wrong, of those the ones said with most confidence, at most so many."""
    scores = np.mean([run.scores for run in runs], axis=0)
    labels, classes = runs[0].labels, runs[0].classes
    wrong = np.sum([~run.correct for run in runs], axis=0)
    other = scores.copy()
    other[np.arange(len(labels)), labels] = -1.0
    said = other.argmax(1)
    order = sorted(range(len(labels)), key=lambda i: (-wrong[i], -scores[i, said[i]], runs[0].ids[i]))
    return [
        Mistake(runs[0].ids[i], classes[labels[i]], classes[said[i]], float(scores[i, said[i]]), int(wrong[i]))
        for i in order[:most]
        if wrong[i]
    ]


def worst_mistakes(results: Results) -> str:
    """Strips of the worst mistakes of the last arm that uses synthetic clips, else of the first; "" without any."""
    experiment = results.experiment
    using = [o for o in results.outcomes if o.cell.n_synthetic] or list(results.outcomes)
    outcome = next((o for o in using if o.cell.arm == "real+synthetic"), using[0])
    found = mistakes(outcome.runs)
    if not found:
        return ""
    clips = {clip.id: clip for clip in load_clips(experiment.real)}
    store = ClipStore(experiment.out / "cache", experiment.training.clips)
    blocks = [f"<h2>Worst mistakes: {html.escape(str(outcome.cell))}</h2>"]
    for mistake in found:
        says = (
            f"{mistake.true}, called {mistake.said} ({100 * mistake.confidence:.0f} %; wrong with {mistake.wrong} of "
            f"{len(outcome.runs)} seeds)"
        )
        picture = html_picture(strip(store.frames(clips[mistake.id])), says)
        blocks.append(f"<figure>{picture}<figcaption>{html.escape(says)}</figcaption></figure>")
    return "".join(blocks)


def strip(
    frames: UInt8[np.ndarray, "frames height width 3"], shown: int = FRAMES
) -> UInt8[np.ndarray, "height total_width 3"]:
    """Frames spread evenly over a clip, side by side."""
    chosen = np.linspace(0, len(frames) - 1, min(shown, len(frames))).round().astype(int)
    return np.concatenate([frames[i] for i in chosen], axis=1)
