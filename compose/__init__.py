"""Places for avatars to stand in: photographs and prepared places, placement, light, shadow. The names below
are public."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Background": "compose.places.place_view",
    "PlaceHints": "compose.preparation.hints",
    "PlaceLight": "compose.places.light",
    "PlaceView": "compose.places.place_view",
    "Placement": "compose.rendering.placement",
    "PlacementRules": "compose.rendering.placement",
    "open_place": "compose.places.place_folder",
    "place": "compose.rendering.placement",
    "prepare_place": "compose.preparation.prepare",
}
"""Where each public name lives; it is imported when it is first asked for, so that `--help` stays quick."""

__all__ = [
    "Background",
    "PlaceHints",
    "PlaceLight",
    "PlaceView",
    "Placement",
    "PlacementRules",
    "open_place",
    "place",
    "prepare_place",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
