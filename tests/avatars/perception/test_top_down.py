"""Keypoints from a second model, inside boxes that a first one finds."""

from __future__ import annotations

import numpy as np
import pytest

from avatars.perception.containers import N_KEYPOINTS, Detection
from avatars.perception.top_down import CHUNK, TopDownWholeBody, person_box


class _Finder:
    """Finds in frame i a person whose points stand around (10 + i, 20), and nobody in every fifth frame."""

    def detect(self, frames, *, masks=True, count_people_every=0):
        for i, frame in enumerate(frames):
            empty = np.zeros(frame.shape[:2], np.uint8)
            if i % 5 == 4:
                yield Detection.nobody(empty)
                continue
            xy = np.full((N_KEYPOINTS, 2), (10.0 + i, 20.0), np.float32)
            xy[:17, 1] += np.linspace(-10, 10, 17)
            yield Detection(xy, np.full(N_KEYPOINTS, 0.9, np.float32), None, empty, 1)


class _CenterModel:
    """Puts every keypoint at its box's center, and the first outside; its score is the frame's first pixel."""

    def __call__(self, frames, boxes):
        center = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        xy = np.repeat(center, N_KEYPOINTS, 1)
        xy[:, 0] = -3.0
        score = np.repeat(frames[:, 0, 0, :1] / 255.0, N_KEYPOINTS, 1)
        return {"xy": xy, "score": score}

    def close(self):
        pass


def test_each_frames_keypoints_come_from_its_own_frame_and_box():
    count = 2 * CHUNK + 3
    frames = [np.full((64, 120, 3), 100 + i, np.uint8) for i in range(count)]
    found = list(TopDownWholeBody(_CenterModel(), _Finder()).detect(iter(frames)))
    assert len(found) == count
    for i, detection in enumerate(found):
        assert detection.found == (i % 5 != 4)
        if detection.found:
            assert detection.xy[1, 0] == pytest.approx(10 + i, abs=0.1)
            assert detection.score[1] == pytest.approx((100 + i) / 255)
            assert detection.score[0] == 0  # it fell outside the frame


def test_the_persons_box_holds_keypoints_and_mask_and_stays_in_the_frame():
    xy = np.zeros((N_KEYPOINTS, 2), np.float32)
    score = np.zeros(N_KEYPOINTS, np.float32)
    xy[:2], score[:2] = [(30, 40), (50, 140)], 0.9
    xy[2], score[2] = (900, 900), 0.1  # not seen
    mask = np.zeros((150, 100), np.uint8)
    mask[20:100, 10:20] = 255
    left, top, right, bottom = person_box(Detection(xy, score, None, mask), mask.shape)
    assert (left, top, bottom) == (10, 20, 145)
    assert 50 < right < 60
    assert person_box(Detection.nobody(mask), mask.shape) is None
