"""MediaPipe Holistic and Pose -> 133 COCO-WholeBody keypoints, 3D hints and a soft mask.

With `mediapipe_people` the only file that names them.

The models lie inside the `mediapipe==0.10.21` wheel (Lugaresi et al. 2019; Bazarevsky et al. 2020, "BlazePose";
Kartynnik et al. 2019, face mesh; Zhang et al. 2020, hands): nothing is downloaded.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from avatars.errors import BackendMissing
from avatars.perception.containers import FACE, LEFT_HAND, N_KEYPOINTS, RIGHT_HAND, Detection
from avatars.perception.mask_edges import refine_mask

VERSION = "0.10.21"
LONG_SIDE = 1280
"""Larger frames are reduced to this before inference; the crops that the networks see are 256 px at most."""

# BlazePose's 33 points in COCO order: 17 body, then big toe, small toe, heel of each side. It has no small toe: that
# point takes the big toe's place with score 0.
POSE_TO_23 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28, 31, 31, 29, 32, 32, 30)
SMALL_TOES = (18, 21)

# The vertices of the 468-point face mesh that lie on iBUG's 68 points, in iBUG's order.
FACE_MESH_TO_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw, from the right ear
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips
)  # fmt: skip

HAND_SCORE, FACE_SCORE = 0.8, 0.9
MIN_ELBOW_SCORE = 0.6
PALM_M, FACE_WIDTH_M = 0.085, 0.135
"""Wrist to middle knuckle; jaw to jaw at the ears: what turns these nets' relative coordinates into meters."""


def check_available() -> None:
    """Raise BackendMissing, with the command that mends it, unless MediaPipe's expected version can be imported."""
    command = f'pip install "mediapipe=={VERSION}" "numpy<2" "protobuf>=4.25,<5"'
    if importlib.util.find_spec("mediapipe") is None:
        raise BackendMissing(f"MediaPipe is not installed. Install it with: {command}")
    found = importlib.metadata.version("mediapipe")
    if found != VERSION:
        raise BackendMissing(
            f"MediaPipe {found} is installed; {VERSION} is needed, the last whose models come with it. Run: {command}"
        )
    try:
        with native_log_silenced():
            importlib.import_module("mediapipe")
    except Exception as error:  # its native parts fail in many ways, a wrong numpy or protobuf first of all
        raise BackendMissing(f"MediaPipe {found} cannot be imported ({error}). Run: {command}") from None


class MediaPipeHolistic:
    """A `WholeBodyDetector`: follows one person through a clip."""

    concurrent = True

    def __init__(self) -> None:
        check_available()

    def detect(
        self, frames: Iterable[np.ndarray], *, masks: bool = True, count_people_every: int = 0
    ) -> Iterator[Detection]:
        """See `WholeBodyDetector`."""
        solutions = importlib.import_module("mediapipe").solutions
        others = _OtherPeople(solutions) if count_people_every else None
        holistic, loud = None, 30  # native warnings come with the first frames, and from threads at the start
        try:
            for index, frame in enumerate(frames):
                small = _reduced(frame)
                with native_log_silenced(loud > 0):
                    holistic = holistic or solutions.holistic.Holistic(
                        model_complexity=1, enable_segmentation=True, smooth_segmentation=False, smooth_landmarks=False
                    )
                    results = holistic.process(small)
                loud -= results.pose_landmarks is not None
                detection = _detection(results, frame, small, with_mask=masks)
                if others is not None and index % count_people_every == 0 and detection.found:
                    detection = replace(detection, n_people=1 + others.seen(small, results))
                yield detection
        finally:
            for network in (holistic, others):
                if network is not None:
                    network.close()


class _OtherPeople:
    """Looks for a second person in what the first one leaves of a frame."""

    def __init__(self, solutions: Any) -> None:
        self._solutions, self._pose = solutions, None

    def seen(self, image: np.ndarray, first: Any) -> bool:
        """Whether a confident, whole and comparably large second person stands beside the first."""
        import cv2

        mask = (first.segmentation_mask > 0.15).astype(np.uint8)
        points, _ = _pose_23(first.pose_landmarks, image.shape[:2])
        hull = cv2.convexHull(points.astype(np.int32))
        cv2.fillConvexPoly(mask, hull, (1,))
        size = _torso_px(points)
        reach = max(3, int(0.3 * size))
        mask = cv2.dilate(mask, np.ones((reach, reach), np.uint8))
        rest = image.copy()
        rest[mask > 0] = np.median(image[mask == 0], axis=0) if (mask == 0).any() else 127
        with native_log_silenced():
            self._pose = self._pose or self._solutions.pose.Pose(
                static_image_mode=True, model_complexity=1, enable_segmentation=True, min_detection_confidence=0.7
            )
            found = self._pose.process(rest)
        if found.pose_landmarks is None:
            return False
        other, score = _pose_23(found.pose_landmarks, image.shape[:2])
        core = score[[0, 5, 6, 11, 12]]
        inside = mask[
            np.clip(other[:, 1].astype(int), 0, mask.shape[0] - 1),
            np.clip(other[:, 0].astype(int), 0, mask.shape[1] - 1),
        ]
        drawn = found.segmentation_mask[mask == 0].sum() / max(float((first.segmentation_mask > 0.5).sum()), 1.0)
        return bool(core.min() > 0.7 and _torso_px(other) > 0.35 * size and inside[5:17].mean() < 0.3 and drawn > 0.12)

    def close(self) -> None:
        """Free the network."""
        if self._pose is not None:
            self._pose.close()


def _reduced(frame: np.ndarray) -> np.ndarray:
    longest = max(frame.shape[:2])
    if longest <= LONG_SIDE:
        return frame
    import cv2

    scale = LONG_SIDE / longest
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def _detection(results: Any, frame: np.ndarray, small: np.ndarray, *, with_mask: bool) -> Detection:
    """MediaPipe's results in our container, at the frame's own size."""
    size_hw = frame.shape[:2]
    if not _is_body(results):
        return Detection.nobody(np.zeros(size_hw, np.uint8) if with_mask else None)
    xy = np.zeros((N_KEYPOINTS, 2), np.float32)
    score = np.zeros(N_KEYPOINTS, np.float32)
    world_m = np.full((N_KEYPOINTS, 3), np.nan, np.float32)
    xy[:23], score[:23] = _pose_23(results.pose_landmarks, size_hw)
    world_m[:23] = _xyz(results.pose_world_landmarks)[list(POSE_TO_23)]
    if results.face_landmarks is not None:
        face = _xyz(results.face_landmarks)[list(FACE_MESH_TO_68)] * _pixel_scale(size_hw)
        xy[FACE], score[FACE] = face[:, :2], FACE_SCORE
        world_m[FACE] = _anchored(face, face[0], face[16], FACE_WIDTH_M, face[30], world_m[0])
    for part, wrist, landmarks in (
        (LEFT_HAND, 9, results.left_hand_landmarks),
        (RIGHT_HAND, 10, results.right_hand_landmarks),
    ):
        if landmarks is None:
            continue
        hand = _xyz(landmarks) * _pixel_scale(size_hw)
        xy[part], score[part] = hand[:, :2], HAND_SCORE
        world_m[part] = _anchored(hand, hand[0], hand[9], PALM_M, hand[0], world_m[wrist])
    score[((xy < 0) | (xy > np.array(size_hw[::-1]))).any(-1)] = 0.0
    return Detection(xy, score, world_m, _mask(results, frame, small) if with_mask else None)


def _is_body(results: Any) -> bool:
    """Whether a body was found, and not a hand in its place: BlazePose fits one to a hand with sure shoulders and hips,
    but sees no face, and neither elbow."""
    if results.pose_landmarks is None:
        return False
    left, right = (results.pose_landmarks.landmark[k].visibility for k in (13, 14))
    return results.face_landmarks is not None or max(left, right) > MIN_ELBOW_SCORE


def _mask(results: Any, frame: np.ndarray, small: np.ndarray) -> np.ndarray:
    import cv2

    coarse = results.segmentation_mask
    if coarse.shape != frame.shape[:2]:
        coarse = cv2.resize(coarse, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_LINEAR)
    return refine_mask(frame, coarse)


def _pixel_scale(size_hw: tuple[int, ...]) -> np.ndarray:
    """MediaPipe divides x and z by the image's width and y by its height."""
    return np.array([size_hw[1], size_hw[0], size_hw[1]], np.float32)


def _xyz(landmarks: Any) -> np.ndarray:
    return np.array([(p.x, p.y, p.z) for p in landmarks.landmark], np.float32)


def _pose_23(landmarks: Any, size_hw: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (23, 2) and visibility (23,) of COCO's body and feet points."""
    order = list(POSE_TO_23)
    xy = (_xyz(landmarks) * _pixel_scale(size_hw))[order, :2]
    score = np.array([p.visibility for p in landmarks.landmark], np.float32)[order]
    score[list(SMALL_TOES)] = 0.0
    return xy, score


def _torso_px(points: np.ndarray) -> float:
    """Middle of the shoulders to middle of the hips, at least the shoulders' width."""
    shoulders, hips = points[5:7], points[11:13]
    return float(
        max(np.linalg.norm(shoulders.mean(0) - hips.mean(0)), np.linalg.norm(shoulders[0] - shoulders[1]), 1.0)
    )


def _anchored(
    points: np.ndarray, a: np.ndarray, b: np.ndarray, length_m: float, origin: np.ndarray, at_m: np.ndarray
) -> np.ndarray:
    """Points in pixels, with depth, made meters by the known distance from `a` to `b`, `origin` laid on `at_m`."""
    return (points - origin) * (length_m / max(float(np.linalg.norm(a - b)), 1e-6)) + at_m


_silence = ExitStack()
_silenced, _silencing = 0, Lock()
"""How many ask for it now."""


@contextmanager
def native_log_silenced(wanted: bool = True) -> Iterator[None]:
    """Nothing on file descriptor 2: MediaPipe's C++ parts write there whatever the log level is.

    Several threads may ask for it; the last one ends it.
    """
    global _silenced
    if not wanted:
        yield
        return
    os.environ.setdefault("GLOG_minloglevel", "2")
    with _silencing:
        if _silenced == 0:
            saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            _silence.callback(os.close, saved)
            _silence.callback(os.dup2, saved, 2)
        _silenced += 1
    try:
        yield
    finally:
        with _silencing:
            _silenced -= 1
            if _silenced == 0:
                _silence.close()
