"""Can these frames carry a track, or an avatar? Each reason why not, with the frames concerned and what to do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.errors import InputError
from avatars.io.video import VideoInfo, read_frames
from avatars.perception.containers import Keypoints
from avatars.perception.frame_quality import FrameQuality, exposure
from avatars.tracking.initialization import side_exchanges, yaw_of
from avatars.tracking.still_camera import camera_motion

log = logging.getLogger(__name__)

Reason = Literal[
    "resolution", "light", "camera still", "person in view", "whole body", "one person", "all sides", "sharpness"
]
REASONS: tuple[Reason, ...] = (
    "resolution", "light", "camera still", "person in view", "whole body", "one person", "all sides", "sharpness",
)  # fmt: skip
SIDES = ("front", "front right", "right", "back right", "back", "back left", "left", "front left")
"""Which side of the person the camera sees, by the heading's eighth of the circle."""

MIN_SEEN, USUAL_SEEN = 0.5, 0.9
"""Shares of a capture's frames that must, and should, show a person."""
MIN_WHOLE, USUAL_WHOLE = 0.5, 0.9
"""Shares of the seen frames that must, and should, show head and feet inside the frame."""
SEEN_SCORE = 0.3
MIN_SIDE_PX, USUAL_SIDE_PX = 120, 240
MIN_PERSON_PX, USUAL_PERSON_PX = 90, 200
MIN_BRIGHTNESS, USUAL_BRIGHTNESS, MAX_BRIGHTNESS = 0.06, 0.13, 0.95
MAX_TRAVEL, USUAL_DRIFT = 0.015, 0.006
"""Shares of the longer side: how far the background may lie apart in any two frames, and from the middle one."""
MIN_SIDES = 5
BLURRED = 0.2
"""Share of the clip's sharper frames' sharpness below which a frame is blurred."""
MAX_BLURRED, USUAL_BLURRED = 0.5, 0.1
CROWDED_SHARE, CROWDED_MIN = 0.25, 3
SAMPLES = 12
FILMING = 'see docs/check.md, "How to film"'


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a capture."""

    reason: Reason
    message: str
    """What was wrong and what was found."""
    advice: str
    frames: tuple[int, ...] = ()
    """Frames concerned, or some of them; empty where it concerns the whole clip."""
    refused: bool = True
    """Whether it stands in the way of an avatar; otherwise it makes it worse."""
    note: bool = False
    """Whether nothing is known to be wrong: something could not be checked."""

    @property
    def weight(self) -> str:
        """In a word."""
        return "REFUSED" if self.refused else "note" if self.note else "warning"

    def __str__(self) -> str:
        return f"{self.message} {self.advice}"


def require_person(valid: Bool[Tensor, " frames"], video: Path) -> None:
    """Raise InputError when no frame shows a person."""
    if not bool(valid.any()):
        raise InputError(
            f"No person in any of {len(valid)} frames of {video.name}. The body, at least from the waist up, must be "
            f"in view: {FILMING}."
        )


def require_one_person(quality: FrameQuality, video: Path) -> None:
    """Raise InputError that names the frames when two people are in view."""
    for finding in check_alone(quality, video):
        raise InputError(str(finding))


def judge(findings: Sequence[Finding], video: Path, *, force: bool = False) -> None:
    """Warn of the findings; raise InputError with those that stand in the way, unless `force`."""
    refused = [finding for finding in findings if finding.refused]
    if refused and not force:
        raise InputError(
            f"{video.name} cannot make an avatar. " + " ".join(str(finding) for finding in refused)
            + " (`avatars fit --force` goes on nevertheless.)"
        )  # fmt: skip
    for finding in findings:
        log.log(logging.INFO if finding.note else logging.WARNING, "%s: %s: %s", video.name, finding.reason, finding)


def check_video(info: VideoInfo) -> list[Finding]:
    """What can be known from a few frames, before any network looks: resolution, light, a still camera."""
    indices = np.unique(np.linspace(0, info.n_frames - 1, SAMPLES).round().astype(int))
    frames = list(read_frames(info, indices))
    brightness = np.array([exposure(frame)[0] for frame in frames])
    findings = [*_resolution(info), *_light(brightness, indices, info.path)]
    refused = any(finding.refused for finding in findings)
    camera = [finding for finding in _camera(frames, indices, info.path) if not (refused and finding.note)]
    return [*findings, *camera]


def check_capture(
    keypoints: Keypoints,
    video: Path,
    times_s: Float[Tensor, " frames"] | None = None,
    quality: FrameQuality | None = None,
) -> list[Finding]:
    """What the keypoints show: a person in most frames, alone, whole, large, sharp, and (with times) from all sides.

    Raises InputError when nobody is there at all.
    """
    require_person(keypoints.valid, video)
    findings = [*_in_view(keypoints, video), *_whole(keypoints, video), *_large(keypoints, video)]
    if quality is not None:
        findings += [*check_alone(quality, video), *_sharp(quality, video)]
    if times_s is not None:
        findings += _all_sides(keypoints, times_s, video)
    return findings


def whole_body_frames(keypoints: Keypoints) -> Bool[Tensor, " frames"]:
    """Frames in which head, both hips and both feet were found inside the frame, not touching its border."""
    height, width = keypoints.size_hw
    margin = 0.004 * max(height, width)
    inside = ((keypoints.xy > margin) & (keypoints.xy < torch.tensor([width, height]) - margin)).all(-1)
    seen = inside & (keypoints.score > SEEN_SCORE)
    head = seen[:, :5].any(1)
    feet = seen[:, [15, 17, 19]].any(1) & seen[:, [16, 20, 22]].any(1)
    hips = seen[:, 11] & seen[:, 12]
    return head & hips & feet & keypoints.valid


def check_alone(quality: FrameQuality, video: Path) -> list[Finding]:
    """Two people in many of the frames in which people were counted."""
    crowded = torch.nonzero(quality.n_people > 1)[:, 0].tolist()
    counted = int((quality.n_people > 0).sum())
    if not crowded or len(crowded) < min(max(CROWDED_MIN, CROWDED_SHARE * counted), counted):
        return []
    message = f"Two people in {len(crowded)} of {counted} sampled frames of {video.name} (frames {_some(crowded)})."
    advice = (
        "Film one person alone, crop the video, or follow one of them with `--person largest` or `--person 0` (the "
        "leftmost)."
    )
    return [Finding("one person", message, advice, tuple(crowded))]


def sides_seen(heading_rad: Float[Tensor, " frames"]) -> list[int]:
    """In how many frames each of `SIDES` is turned to the camera."""
    eighth = torch.round(heading_rad / (torch.pi / 4)).long() % 8
    return torch.bincount(eighth, minlength=8).tolist()


def _resolution(info: VideoInfo) -> list[Finding]:
    height, width = info.size_hw
    if min(height, width) >= USUAL_SIDE_PX:
        return []
    message = f"{info.path.name} has only {width} x {height} pixels."
    advice = f"Film with at least {USUAL_SIDE_PX} on the shorter side; 720 is good."
    return [Finding("resolution", message, advice, refused=min(height, width) < MIN_SIDE_PX)]


def _light(brightness: np.ndarray, indices: np.ndarray, video: Path) -> list[Finding]:
    middle = float(np.median(brightness))
    dark, bright = indices[brightness < USUAL_BRIGHTNESS], indices[brightness > MAX_BRIGHTNESS]
    if middle < USUAL_BRIGHTNESS:
        message = f"{video.name} is too dark: brightness {100 * middle:.0f} of 100 (frames {_some(dark)})."
        advice = "Turn on more lights, or film by day; the light should be even."
        return [Finding("light", message, advice, tuple(dark.tolist()), refused=middle < MIN_BRIGHTNESS)]
    if middle > MAX_BRIGHTNESS:
        message = f"{video.name} is overexposed: brightness {100 * middle:.0f} of 100 (frames {_some(bright)})."
        return [Finding("light", message, "Lower the exposure, or film away from the window.", tuple(bright.tolist()))]
    return []


def _camera(frames: list[np.ndarray], indices: np.ndarray, video: Path) -> list[Finding]:
    motion = camera_motion(frames)
    refused = motion.travel > MAX_TRAVEL
    if motion.told.sum() < 0.5 * (len(frames) - 1) and not refused:
        message = (
            f"Whether the camera stood still cannot be told from {video.name}: the wall around the person is too bare, "
            f"or too much of it moves ({motion.told.sum() + 1} of {len(frames)} sampled frames tell)."
        )
        advice = "Nothing to do if it stood on a shelf or a tripod."
        return [Finding("camera still", message, advice, refused=False, note=True)]
    drift = np.nan_to_num(motion.drift)
    moved = indices[drift > USUAL_DRIFT]
    if not len(moved):
        return []
    message = (
        f"The camera moves in {video.name}: the background shifts by {100 * motion.travel:.1f} % of the frame "
        f"(frames {_some(moved)} of {len(indices)} sampled)."
    )
    advice = "Put the camera on a shelf or a tripod."
    return [Finding("camera still", message, advice, tuple(moved.tolist()), refused)]


def _in_view(keypoints: Keypoints, video: Path) -> list[Finding]:
    n, missing = len(keypoints), torch.nonzero(~keypoints.valid)[:, 0].tolist()
    if len(missing) <= (1 - USUAL_SEEN) * n:
        return []
    message = f"No person in {len(missing)} of {n} frames of {video.name} (first: frame {missing[0]})."
    advice = f"A capture needs the whole body in view: {FILMING}."
    return [Finding("person in view", message, advice, tuple(missing), len(missing) > (1 - MIN_SEEN) * n)]


def _whole(keypoints: Keypoints, video: Path) -> list[Finding]:
    n, seen = len(keypoints), int(keypoints.valid.sum())
    cut = torch.nonzero(keypoints.valid & ~whole_body_frames(keypoints))[:, 0].tolist()
    if len(cut) <= (1 - USUAL_WHOLE) * seen:
        return []
    message = f"The person is cut off in {len(cut)} of {n} frames of {video.name} (first: frame {cut[0]})."
    advice = f"A capture needs head and feet in view: {FILMING}."
    return [Finding("whole body", message, advice, tuple(cut), len(cut) > (1 - MIN_WHOLE) * seen)]


def _large(keypoints: Keypoints, video: Path) -> list[Finding]:
    boxes = keypoints.boxes()
    height_px = float((boxes[:, 2:] - boxes[:, :2]).amax(1).nanmedian())
    if not height_px < USUAL_PERSON_PX:
        return []
    message = f"The person is only {height_px:.0f} px tall in {video.name}."
    advice = f"Move the camera nearer, or film at a higher resolution: {USUAL_PERSON_PX} px at least, 500 is good."
    return [Finding("resolution", message, advice, refused=height_px < MIN_PERSON_PX)]


def _sharp(quality: FrameQuality, video: Path) -> list[Finding]:
    seen = torch.isfinite(quality.sharpness)
    if not bool(seen.any()):
        return []
    usual = quality.sharpness[seen].quantile(0.9)
    blurred = torch.nonzero(seen & (quality.sharpness < BLURRED * usual))[:, 0].tolist()
    total = int(seen.sum())
    share = len(blurred) / total
    if share <= USUAL_BLURRED:
        return []
    message = f"The person is blurred in {len(blurred)} of {total} frames of {video.name} (frames {_some(blurred)})."
    advice = "Turn more slowly, use more light, and lock the focus."
    return [Finding("sharpness", message, advice, tuple(blurred), share > MAX_BLURRED)]


def _all_sides(keypoints: Keypoints, times_s: Float[Tensor, " frames"], video: Path) -> list[Finding]:
    """From the detector's 3D hint; nothing where it gives none."""
    seen = keypoints[keypoints.valid]
    if seen.world_m is None or not bool(torch.isfinite(seen.world_m[:, [5, 6, 11, 12]]).all()):
        return []
    counts = sides_seen(yaw_of(seen.mirrored(side_exchanges(seen, times_s[keypoints.valid]))))
    missing = [side for side, count in zip(SIDES, counts, strict=True) if not count]
    if not missing:
        return []
    message = f"{video.name} shows {8 - len(missing)} of 8 sides of the person; not seen: {', '.join(missing)}."
    advice = "Turn slowly on the spot, once all the way round; what is not seen is guessed."
    return [Finding("all sides", message, advice, refused=8 - len(missing) < MIN_SIDES)]


def _some(frames: Sequence[int] | np.ndarray) -> str:
    return ", ".join(str(frame) for frame in frames[:5]) + (", ..." if len(frames) > 5 else "")
