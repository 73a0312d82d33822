"""`python -m avatars.studio --out DIR --seed N --action turn`: film one sampled person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StudioCommand:
    """Film a procedural person whose truth is known."""

    out: Path
    """Folder to make; must not exist or be empty."""
    seed: int = 0
    """Names the person, their clothes and manner, the room and the camera."""
    action: str = "turn"
    """"turn", or one of the studio's actions (drink_water, clap, ...)."""
    size: int = 512
    """Height and width in pixels."""
    frames: int = 324
    """Length of a turn at 18 frames per second; actions last as long as they take."""
    depth: bool = False
    """Keep the person's depth per frame."""

    def run(self) -> None:
        from avatars.studio.capture import Filming, sample_capture

        done = sample_capture(
            self.out, seed=self.seed, action=self.action, size_hw=(self.size, self.size), frames=self.frames,
            filming=Filming(keep_depth=self.depth, show_progress=True),
        )  # fmt: skip
        print(done.video)


def main() -> int:
    """Parse the command line and film; 2 for a user's mistake."""
    import sys

    import tyro

    from avatars.errors import InputError

    try:
        tyro.cli(StudioCommand).run()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
