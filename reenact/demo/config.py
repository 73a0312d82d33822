"""The settings of `reenact demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from avatars.io.option_rules import Range, Suffix


@dataclass(frozen=True)
class DemoConfig:
    """What the demo makes, and where."""

    out: Annotated[Path, Suffix()] = Path("demo")
    """Folder to make."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    size: Annotated[int, Range(64, 4096, step=2)] = 512
    """Height and width of the result in pixels."""
    quick: bool = False
    """Shorter captures and fewer steps: shows that everything works, not how good it is."""
