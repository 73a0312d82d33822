"""The settings of tracking; `avatars track` and `avatars fit` take them from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatars.io.option_rules import Range


@dataclass(frozen=True)
class TrackConfig:
    """How a video is tracked."""

    focal_px: Annotated[float | None, Range(1, 1e6, what="a focal length in pixels")] = None
    """Focal length in pixels of the upright video; when not given, as the file states it, else as the edges of
    the room tell it, else a phone's usual one."""
    height_m: Annotated[float | None, Range(0.5, 2.6, what="a person's height in meters")] = None
    """The person's height in meters, which sets the scale; from the body prior when not given."""
    person: Annotated[Literal["only", "largest"] | int, Range(0, 1000, what="a person counted from the left")] = "only"
    """Whom to follow when several people are in view: nobody (stop), the largest, or a number counted from left to
    right in the first frame that shows several, 0 first. The others are ignored."""
    detector: str = "mediapipe"
    """Keypoint detector: mediapipe, rtmlib or mmpose, and `+segment-anything` behind it for its masks; none, with
    keypoints from a file, for those alone."""
    face: Literal["none", "deca"] = "none"
    """Network that sees the jaw and the expression."""
    hands: Literal["none", "hand4whole"] = "none"
    """Network that sees the fingers."""
    backend: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME.OPTION=VALUE, once for each: where a backend's pieces lie, for example rtmlib.weights=FILE,
    rtmlib.python=ENV, mmpose.model=CONFIG, segment-anything.device=cuda, deca.repository=DIR. What is not given is read
    from the environment (RTMLIB_WEIGHTS, ...)."""
    moves: Literal["freely", "little"] = "freely"
    """little: the person holds still limbs while turning. Only used if all sides are visible."""
    body: Path | None = None
    """SMPL-X npz; default: the environment variable SMPLX_BODY, else the free default body."""
    masks: bool = True
    """Segment the person, too (a motion alone needs no masks)."""
    fps: Annotated[float | None, Range(0.1, 1000)] = None
    """Frames per second of a folder of frames, or of a stream without times; videos state their own."""
    iterations: Annotated[int, Range(20, 100_000)] = 160
    """Optimization steps of the longest stage."""
