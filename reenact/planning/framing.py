"""Where in the picture a person stands: at a spot that is found in the place, or where the source's person was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

OWN_PLATE = Path("source")
"""Stands in a batch's backgrounds for the place of each motion's own clip, the person taken out."""


@dataclass(frozen=True, slots=True)
class SourceFraming:
    """The person is drawn where the source's person was, along their path, through the source's own camera (as Knapp &
    Bohacek 2025 do), scaled to the body; over whatever picture."""

    turn_deg: tuple[float, float] = (0.0, 0.0)
    """By how much the camera walks around the middle of the motion (to the person's left seen from it), from and to."""
    size: tuple[float, float] = (1.0, 1.0)
    """Size of the person in the picture against the source's, from and to."""

    def drawn(self, seed: int) -> tuple[float, float]:
        """Turn (degrees) and size of one clip."""
        import numpy as np

        rng = np.random.default_rng([seed, 7])
        return float(rng.uniform(*self.turn_deg)), float(np.exp(rng.uniform(*np.log(self.size))))
