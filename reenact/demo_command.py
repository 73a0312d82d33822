"""`reenact demo`: the whole path on built-in input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoCommand:
    """Film a person and another one's action in the studio, track both videos, fit the avatar, reenact, show it all."""

    out: Path = Path("demo")
    """Folder to make."""
    seed: int = 0
    size: int = 512
    """Height and width of the result in pixels."""
    quick: bool = False
    """Shorter captures and fewer steps: shows that everything works, not how good it is."""

    def run(self) -> int | None:
        """Run the demo."""
        from reenact.demo import run_demo

        return run_demo(self)
