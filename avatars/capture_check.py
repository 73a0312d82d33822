"""Can these frames carry a track, or an avatar? One clear sentence, with counts, when they cannot."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from avatars.errors import InputError
from avatars.perception.containers import Keypoints

MIN_SEEN = 0.5
"""Share of a capture's frames that must show a person."""
MIN_WHOLE = 0.5
"""Share of the seen frames that must show head and feet inside the frame."""
SEEN_SCORE = 0.3
FILMING = 'see README, "Filming"'


def require_person(valid: Bool[Tensor, " frames"], video: Path) -> None:
    """Raise InputError when no frame shows a person."""
    if not bool(valid.any()):
        raise InputError(
            f"No person in any of {len(valid)} frames of {video.name}. The body, at least from the waist up, must be "
            f"in view: {FILMING}."
        )


def require_one_person(frames: list[int], looked_at: int, video: Path) -> None:
    """Raise InputError that names the frames in which two people were found."""
    shown = ", ".join(str(frame) for frame in frames[:5]) + (", ..." if len(frames) > 5 else "")
    raise InputError(
        f"Two people in {len(frames)} of {looked_at} sampled frames of {video.name} (frames {shown}). Film one person "
        "alone, crop the video, or follow one of them with `--person largest` or `--person 0` (the leftmost)."
    )


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


def check_capture(keypoints: Keypoints, video: Path) -> None:
    """Raise InputError unless the clip can make an avatar: a person in most frames, the whole body in most of those."""
    n, seen = len(keypoints), keypoints.valid
    require_person(seen, video)
    missing = torch.nonzero(~seen)[:, 0]
    if len(missing) > (1 - MIN_SEEN) * n:
        raise InputError(
            f"No person in {len(missing)} of {n} frames of {video.name} (first: frame {int(missing[0])}). A capture "
            f"needs the whole body in view: {FILMING}."
        )
    cut = torch.nonzero(seen & ~whole_body_frames(keypoints))[:, 0]
    if len(cut) > (1 - MIN_WHOLE) * int(seen.sum()):
        raise InputError(
            f"The person is cut off in {len(cut)} of {n} frames of {video.name} (first: frame {int(cut[0])}). A "
            f"capture needs head and feet in view: {FILMING}."
        )
