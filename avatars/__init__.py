"""Identity video -> Track -> Avatar -> rendered foreground. The names below are the public Python interface."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Avatar": "avatars.avatar.model",
    "Body": "avatars.body.model",
    "Camera": "avatars.geometry.camera",
    "FitConfig": "avatars.fitting.config",
    "FitResult": "avatars.fitting.pipeline",
    "Motion": "avatars.body.motion",
    "Track": "avatars.tracking.track",
    "TrackConfig": "avatars.tracking.config",
    "fit_avatar": "avatars.fitting.pipeline",
    "load_body": "avatars.body.loading",
    "load_motion": "avatars.motion_formats.loading",
    "rasterize": "avatars.rasterizer",
    "render": "avatars.viewing.rendering",
    "save_motion": "avatars.motion_formats.loading",
    "track_video": "avatars.tracking.pipeline",
}
"""Where each public name lives; it is imported when it is first asked for, so that `--help` stays quick."""

__all__ = [
    "Avatar",
    "Body",
    "Camera",
    "FitConfig",
    "FitResult",
    "Motion",
    "Track",
    "TrackConfig",
    "__version__",
    "fit_avatar",
    "load_body",
    "load_motion",
    "rasterize",
    "render",
    "save_motion",
    "track_video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
