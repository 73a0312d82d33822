"""What an experiment takes: clips, disk and hours, from rates that were measured."""

from __future__ import annotations

from dataclasses import dataclass

from reenact.reproduction.recipe import Recipe

TRACK_S_PER_FRAME = 0.2
"""A reference of 512 px, two cores."""
FIT_S = {"draft": 99.0, "standard": 233.0, "high": 600.0}
"""324 frames of 512 px."""
RENDER_FPS = 89.0
"""Finished frames of 512 px a second, two processes."""
CLIP_MIB, AVATAR_MIB, REFERENCE_MIB = 1.2, 30.0, 6.0
"""A synthetic clip of 512 px with labels; an avatar; a reference's standard video, motion and preview."""
CLIP_S = 5.0
"""Length of a reference, where it is not known."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one experiment."""

    rows: tuple[tuple[str, str, float, float], ...]
    """Stage, what it makes, hours on two CPU cores, and MiB."""

    @property
    def hours(self) -> float:
        return sum(row[2] for row in self.rows)

    @property
    def mib(self) -> float:
        return sum(row[3] for row in self.rows)

    def table(self) -> str:
        """A row a stage."""
        lines = [("stage", "makes", "hours", "GiB")]
        lines += [(stage, what, f"{h:.1f}", f"{mib / 1024:.2f}") for stage, what, h, mib in self.rows]
        lines.append(("all", "", f"{self.hours:.1f}", f"{self.mib / 1024:.2f}"))
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def costs_of(recipe: Recipe, n_classes: int) -> Costs:
    """Of everything but the training of recognizers, whose time a first run tells."""
    counts, people = recipe.counts, len(recipe.identities)
    references = counts.references * n_classes
    clips = recipe.planned_per_class * n_classes
    frames = min(recipe.reference_video.seconds, CLIP_S) * recipe.reference_video.fps
    larger = (recipe.size_px / 512) ** 2
    tracking_s = references * frames * TRACK_S_PER_FRAME
    return Costs((
        ("references", f"{references} motions", tracking_s / 3600, references * REFERENCE_MIB),
        ("avatars", f"{people} avatars", people * FIT_S[recipe.quality] / 3600, people * AVATAR_MIB),
        ("clips", f"{clips} synthetic clips", clips * CLIP_S * recipe.fps * larger / RENDER_FPS / 3600,
         clips * CLIP_MIB * larger),
    ))  # fmt: skip
