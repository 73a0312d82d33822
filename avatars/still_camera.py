"""Frames of a clip -> how far the camera moved between them, from what lies around the person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

LONG_SIDE = 640
SIDE_MARGIN, TOP_MARGIN = 0.24, 0.12
"""Shares of the frame's width and height that are taken for background: a capture's person stands in the middle."""
MIN_POINTS = 12


def camera_drift(frames: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Float[np.ndarray, " frames"]:
    """Median shift of the background against the middle frame, as a share of the longer side; NaN where the background
    has too little structure to say.

    Corners (Shi & Tomasi 1994) are followed there and back (Lucas & Kanade 1981; Kalal et al. 2010); where too few come
    back, binary features are matched instead (Rublee et al. 2011, "ORB"), which finds larger moves.
    """
    gray = [_reduced(frame) for frame in frames]
    reference = gray[len(gray) // 2]
    drift = np.array([_followed(reference, other) for other in gray])
    lost = np.flatnonzero(np.isnan(drift))
    drift[lost] = [_matched(reference, gray[i]) for i in lost]
    return drift / max(reference.shape)


def _cv2() -> Any:  # its type stubs lack ORB and the optional arguments of the flow
    import cv2

    return cv2


def _reduced(frame: np.ndarray) -> np.ndarray:
    cv2 = _cv2()
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = LONG_SIDE / max(gray.shape)
    if scale >= 1.0:
        return gray
    size = (round(gray.shape[1] * scale), round(gray.shape[0] * scale))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def _background(size_hw: tuple[int, ...]) -> np.ndarray:
    height, width = size_hw
    mask = np.full(size_hw, 255, np.uint8)
    mask[round(TOP_MARGIN * height) :, round(SIDE_MARGIN * width) : round((1 - SIDE_MARGIN) * width)] = 0
    return mask


def _followed(a: np.ndarray, b: np.ndarray) -> float:
    """Median shift (pixels) of the background's corners; NaN where fewer than half come back to where they were."""
    cv2 = _cv2()
    points = cv2.goodFeaturesToTrack(a, 200, 0.02, 5, mask=_background(a.shape))
    if points is None or len(points) < MIN_POINTS:
        return float("nan")
    there, found, _ = cv2.calcOpticalFlowPyrLK(a, b, points, None)
    back, kept, _ = cv2.calcOpticalFlowPyrLK(b, a, there, None)
    same = (found[:, 0] == 1) & (kept[:, 0] == 1) & (np.linalg.norm((back - points)[:, 0], axis=-1) < 0.5)
    if same.sum() < max(MIN_POINTS, 0.5 * len(points)):
        return float("nan")
    return float(np.median(np.linalg.norm((there - points)[same, 0], axis=-1)))


def _matched(a: np.ndarray, b: np.ndarray) -> float:
    """Shift (pixels) of the background's middle under the similarity that most matches agree on; NaN for too few."""
    cv2 = _cv2()
    orb = cv2.ORB_create(600)
    at_a, words_a = orb.detectAndCompute(a, _background(a.shape))
    at_b, words_b = orb.detectAndCompute(b, None)
    if words_a is None or words_b is None:
        return float("nan")
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words_a, words_b)
    if len(pairs) < MIN_POINTS:
        return float("nan")
    source = np.array([at_a[pair.queryIdx].pt for pair in pairs], np.float32)
    target = np.array([at_b[pair.trainIdx].pt for pair in pairs], np.float32)
    cv2.setRNGSeed(0)
    A, agree = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=3.0)
    if A is None or agree.sum() < max(MIN_POINTS, 0.15 * len(pairs)):
        return float("nan")
    inside = agree[:, 0] == 1
    return float(np.median(np.linalg.norm(source[inside] @ A[:, :2].T + A[:, 2] - source[inside], axis=-1)))
