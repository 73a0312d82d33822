"""Captures with known truth: procedural people, clothes, motions and rooms, ray-cast to video."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avatars.studio.actions import ACTIONS, Act, act, turn
    from avatars.studio.capture import (
        Capture,
        Filming,
        Truth,
        Variety,
        camera_for,
        capture,
        film,
        perform_action,
        sample_capture,
    )
    from avatars.studio.keyframes import Manner
    from avatars.studio.people import Person
    from avatars.studio.rooms import Room

_HOMES = {
    "ACTIONS": "actions", "Act": "actions", "act": "actions", "turn": "actions", "Manner": "keyframes",
    "Person": "people", "Room": "rooms", "Capture": "capture", "Truth": "capture", "camera_for": "capture",
    "Filming": "capture", "Variety": "capture",
    "film": "capture", "perform_action": "capture", "sample_capture": "capture",
}  # fmt: skip
__all__ = [
    "ACTIONS", "Act", "Capture", "Filming", "Manner", "Person", "Room", "Truth", "Variety", "act", "camera_for",
    "capture", "film", "perform_action", "sample_capture", "turn",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Names are imported when first used, so that `import avatars.studio` loads neither torch nor warp."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
