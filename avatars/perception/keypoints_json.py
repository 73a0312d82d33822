"""Whole-body keypoints that another program wrote as json (MMPose, OpenPose) into `Keypoints`.

- MMPose (`MMPoseInferencer`'s predictions, or `--save-predictions`): one json, a list of frames or
  {"meta_info", "instance_info": [frames]}; a frame is {"frame_id", "instances": [{"keypoints": 133 x 2,
  "keypoint_scores": 133, "bbox"}]} (or the instances alone), or ExAvatar's folder of `<frame>.json`, 133 x 3;
- OpenPose (`--write_json`): a folder of `*_keypoints.json`, {"people": [{"pose_keypoints_2d": 25 or 18 x 3,
  "face_keypoints_2d": 70 x 3, "hand_left_keypoints_2d" and "hand_right_keypoints_2d": 21 x 3}]}; points that were
  not found are 0 0 0.
Both count pixels from the center of the first one; `Keypoints` counts from its corner, half a pixel more.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from avatars.errors import InputError
from avatars.io.files import read_json
from avatars.motion_formats.arrays import numbers
from avatars.perception.containers import FACE, LEFT_HAND, N_KEYPOINTS, RIGHT_HAND, Keypoints

log = logging.getLogger(__name__)

# COCO-WholeBody body and feet <- OpenPose, whose BODY_25 adds neck (1), mid-hip (8) and feet; COCO-18 has no mid-hip.
_BODY_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 19, 20, 21, 22, 23, 24)
_COCO_18 = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
_POSE_LAYOUTS = {25: _BODY_25, 18: _COCO_18}

Person = Float[np.ndarray, "133 3"]


def load_keypoints_json(path: str | Path, size_hw: tuple[int, int], n_frames: int | None = None) -> Keypoints:
    """Read MMPose's or OpenPose's json of a clip whose frames are `size_hw` pixels.

    One person is followed: the largest of the clip, through the frames by the overlap of boxes; others are ignored, and
    said so. Frames without that person are invalid.

    Of a clip of `n_frames` a frame's number tells its place, counted from 0, or from 1 where the last number is that of
    the frames; without `n_frames` the clip is taken to begin and end with the numbers that are there.

    Raises InputError when nothing is there, a json is broken, its points are not 133 (or OpenPose's parts), or the
    numbers do not fit into `n_frames`.
    """
    path = Path(path)
    first, frames = _folder_frames(path) if path.is_dir() else _file_frames(path)
    if n_frames is not None:
        frames = _in_place(frames, first, n_frames, path)
    if not any(frames):
        raise InputError(f"{path} shows nobody in {len(frames)} frames.")
    crowd = sum(len(people) > 1 for people in frames)
    if crowd:
        log.warning("%s: several people in %d of %d frames; the largest is followed.", path, crowd, len(frames))
    followed = _follow(frames)
    points = np.stack([np.zeros((N_KEYPOINTS, 3)) if person is None else person for person in followed])
    score = np.clip(points[..., 2], 0.0, 1.0)
    return Keypoints(
        xy=torch.from_numpy(np.where(score[..., None] > 0, points[..., :2] + 0.5, 0.0)).float(),
        score=torch.from_numpy(score).float(),
        valid=torch.tensor([person is not None for person in followed]),
        size_hw=size_hw,
    )


def _in_place(frames: list[list[Person]], first: int, n_frames: int, path: Path) -> list[list[Person]]:
    """The frames at their places in a clip."""
    last = first + len(frames) - 1
    start = first
    if first >= 1 and (last == n_frames or len(frames) == n_frames):
        start = first - 1 if last == n_frames else 0  # counted from 1, or cut out of a longer clip as a whole
    if start + len(frames) > n_frames:
        raise InputError(
            f"{path} holds {len(frames)} frames, the video {n_frames}; they are numbered {first} to {last}, so they "
            "are not of the same video."
        )
    return [[] for _ in range(start)] + frames + [[] for _ in range(n_frames - start - len(frames))]


def _folder_frames(folder: Path) -> tuple[int, list[list[Person]]]:
    """The first number, and one json per frame from there on, numbered by the last number in its name; missing numbers
    are frames without people."""
    files: dict[int, Path] = {}
    for file in sorted(folder.glob("*.json")):
        digits = re.findall(r"\d+", file.stem)
        if digits and int(digits[-1]) in files:
            raise InputError(
                f"{folder}: {files[int(digits[-1])].name} and {file.name} have the same number; keep each clip's jsons "
                "in a folder of their own."
            )
        if digits:
            files[int(digits[-1])] = file
    if not files:
        raise InputError(f"{folder} holds no <frame>.json or <name>_<frame>_keypoints.json.")
    first, last = min(files), max(files)
    if last - first >= 100 * len(files):
        raise InputError(f"{folder}: {len(files)} jsons numbered {first} to {last}; that is no clip.")
    return first, [_people(read_json(files[i]), files[i]) if i in files else [] for i in range(first, last + 1)]


def _file_frames(file: Path) -> tuple[int, list[list[Person]]]:
    """The first frame's number, and everybody in each frame from there on."""
    data = read_json(file)
    if isinstance(data, dict) and "instance_info" in data:
        data = data["instance_info"]
    if isinstance(data, dict) and "people" in data:
        return 0, [_people(data, file)]
    if not isinstance(data, list) or not data:
        raise InputError(f"{file} is no list of frames as MMPose writes it; found {type(data).__name__}.")
    numbered = all(isinstance(frame, dict) and isinstance(frame.get("frame_id"), int) for frame in data)
    if not numbered:
        return 0, [_people(frame, file) for frame in data]
    rows = {frame["frame_id"]: frame for frame in data}
    if len(rows) < len(data):
        raise InputError(f"{file}: {len(data)} frames have {len(rows)} numbers; each frame_id must stand once.")
    first, last = min(rows), max(rows)
    if last - first >= 100 * len(rows) or first < 0:
        raise InputError(f"{file}: {len(rows)} frames numbered {first} to {last}; that is no clip.")
    return first, [_people(rows[i], file) if i in rows else [] for i in range(first, last + 1)]


def _people(frame: Any, file: Path) -> list[Person]:
    """Everybody in one frame, in any of the layouts."""
    if isinstance(frame, dict) and isinstance(frame.get("people"), list):
        return [_openpose_person(person, file) for person in frame["people"]]
    if isinstance(frame, dict) and "instances" in frame:
        frame = frame["instances"]
    if isinstance(frame, list) and len(frame) == 1 and isinstance(frame[0], list):
        frame = frame[0]
    if isinstance(frame, list) and all(isinstance(person, dict) for person in frame):
        return [_mmpose_person(person, file) for person in frame]
    return [_array(frame, (N_KEYPOINTS, 3), "the frame", file)]


def _mmpose_person(person: dict[str, Any], file: Path) -> Person:
    if "keypoints" not in person or "keypoint_scores" not in person:
        raise InputError(f"{file}: a person holds {sorted(person)}; expected keypoints and keypoint_scores.")
    xy = _array(person["keypoints"], (N_KEYPOINTS, 2), "keypoints", file)
    score = _array(person["keypoint_scores"], (N_KEYPOINTS,), "keypoint_scores", file)
    return np.concatenate([xy, score[:, None]], 1)


def _openpose_person(person: Any, file: Path) -> Person:
    if not isinstance(person, dict) or "pose_keypoints_2d" not in person:
        raise InputError(f"{file}: a person without pose_keypoints_2d.")
    body = numbers(person, "pose_keypoints_2d", file).reshape(-1)
    layout = _POSE_LAYOUTS.get(body.size // 3)
    if layout is None or body.size % 3:
        raise InputError(f"{file}: pose_keypoints_2d has {body.size} numbers; expected 25 or 18 points of 3.")
    points = np.zeros((N_KEYPOINTS, 3))
    points[: len(layout)] = _array(body, (body.size // 3, 3), "pose_keypoints_2d", file)[list(layout)]
    for key, count, part in (
        ("face_keypoints_2d", 70, FACE),
        ("hand_left_keypoints_2d", 21, LEFT_HAND),
        ("hand_right_keypoints_2d", 21, RIGHT_HAND),
    ):
        if person.get(key):  # two pupils follow the 68 points of the face
            points[part] = _array(person[key], (count, 3), key, file)[: part.stop - part.start]
    return points


def _array(values: Any, shape: tuple[int, ...], what: str, file: Path) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64).reshape(shape)
    except (TypeError, ValueError):
        size = np.size(np.asarray(values, dtype=object))
        raise InputError(
            f"{file}: {what} holds {size} entries; expected {' x '.join(map(str, shape))} numbers."
        ) from None
    if not np.isfinite(array).all():
        raise InputError(f"{file}: {what} holds numbers that are not finite.")
    return array


def _box(person: Person) -> np.ndarray:
    seen = person[person[:, 2] > 0.3, :2]
    seen = seen if len(seen) else person[:, :2]
    return np.concatenate([seen.min(0), seen.max(0)])


def _area(box: np.ndarray) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2], 0.0)))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    common = _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
    return common / max(_area(a) + _area(b) - common, 1e-9)


def _follow(frames: list[list[Person]]) -> list[Person | None]:
    """The largest person of the clip, followed both ways from where they are largest by the overlap of boxes; after a
    frame where nobody overlaps, the search goes on from the last box."""
    _, seed, start = max(
        (_area(_box(person)), i, k) for i, people in enumerate(frames) for k, person in enumerate(people)
    )
    out: list[Person | None] = [None] * len(frames)
    out[seed] = frames[seed][start]
    for order in (range(seed + 1, len(frames)), range(seed - 1, -1, -1)):
        box = _box(frames[seed][start])
        for i in order:
            best = max(frames[i], key=lambda person: _overlap(_box(person), box), default=None)
            # A lone person is taken as the same one: at low frame rates a runner's boxes need not overlap.
            if best is not None and (len(frames[i]) == 1 or _overlap(_box(best), box) > 0.1):
                out[i], box = best, _box(best)
    return out
