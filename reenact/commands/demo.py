"""`reenact demo`: the whole path on built-in input."""

from __future__ import annotations

from dataclasses import dataclass

from reenact.demo.config import DemoConfig


@dataclass(frozen=True)
class DemoCommand(DemoConfig):
    """Film a person and another one's action in the studio, track both videos, fit the avatar, reenact, show it all."""

    def run(self) -> int | None:
        """Run the demo."""
        from reenact.demo.demo import run_demo

        return run_demo(self)
