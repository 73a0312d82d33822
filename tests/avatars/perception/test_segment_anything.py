"""Masks prompted by keypoints, with stand-in and random networks: nothing about the quality of any weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.perception.child_process import MissingPiece
from avatars.perception.containers import N_KEYPOINTS, Detection, Keypoints
from avatars.perception.prompted_masks import MaskedWholeBody, masks_of
from avatars.perception.segment_anything_masks import SegmentAnythingModel, choose_mask, moved, wrong_point


def disk(center, radius, size_hw=(64, 64)):
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return (x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2


def test_the_mask_with_all_keypoints_is_preferred_to_a_part():
    whole, part, everything = disk((32, 32), 20), disk((32, 20), 8), np.ones((64, 64), bool)
    points = np.array([[32, 14], [32, 32], [32, 48]], float)
    box = np.array([12, 12, 52, 52], float)
    assert choose_mask(np.stack([part, whole, everything]), np.full(3, 0.9), points, box, None) == 1


def test_the_last_frames_mask_decides_between_equals():
    left, right = disk((22, 32), 15), disk((42, 32), 15)
    none, box = np.zeros((0, 2)), np.array([7, 17, 57, 47], float)
    assert choose_mask(np.stack([left, right]), np.full(2, 0.9), none, box, disk((40, 33), 15)) == 1
    assert choose_mask(np.stack([left, right]), np.full(2, 0.9), none, box, disk((24, 33), 15)) == 0


def test_moved_logits_bring_nothing_from_the_other_side():
    low = np.full((256, 256), -5.0, np.float32)
    low[10, 250] = 3.0
    assert moved(low, np.array([-4, 6]))[16, 246] == 3.0
    assert (moved(low, np.array([20, 0])) == -5.0).all()


class _FakePredictor:
    """Answers with the background, a part of the person, and the person: a disk around the points' mean."""

    def __init__(self):
        self.mask_inputs = []

    def set_image(self, image):
        self.size_hw = image.shape[:2]

    def predict(self, point_coords, point_labels, box, mask_input, multimask_output, return_logits):
        assert multimask_output
        assert return_logits
        assert (point_labels == 1).all()
        self.mask_inputs.append(mask_input)
        masks = [~disk(box[:2], 1, self.size_hw), disk(point_coords[0], 3, self.size_hw)]
        masks.append(disk(point_coords.mean(0), 12, self.size_hw))
        logits = np.where(np.stack(masks), 8.0, -8.0).astype(np.float32)
        scale = 256 // self.size_hw[0]
        low = np.stack([np.kron(m, np.ones((scale, scale))) for m in logits]).astype(np.float32)
        return logits, np.full(3, 0.9, np.float32), low


def test_segment_anything_is_shown_the_last_mask_where_the_person_has_moved_to():
    model = object.__new__(SegmentAnythingModel)
    model._predictor, model._last = _FakePredictor(), None
    points = np.array([[[24, 24], [40, 24], [32, 40]]] * 2, np.float32)
    points[1] += (5, 3)
    boxes = np.array([[20, 20, 44, 44], [25, 23, 49, 47]], np.float32)
    scores = np.ones((2, 3), np.float32)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    masks = model(frames=frames, boxes=boxes, points=points, scores=scores)["masks"]
    assert masks.dtype == np.uint8
    for mask, keypoints in zip(masks, points, strict=True):
        np.testing.assert_array_equal(mask > 127, disk(keypoints.mean(0), 12))
    first, second, carried = model._predictor.mask_inputs
    assert first is None and second is None
    np.testing.assert_array_equal(carried[0, 2::4, 2::4] > 0, disk(points[1].mean(0), 12))
    empty = model(frames=frames[:1], boxes=np.full((1, 4), np.nan), points=points[:1], scores=scores[:1])["masks"]
    assert not empty.any()
    assert model._last is None  # what comes after a gap starts anew


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


class _Greedy(_FakePredictor):
    """Takes a chair for the person, from the second picture on, unless a point says that it is not."""

    def __init__(self):
        super().__init__()
        self.pictures, self.points = 0, []

    def set_image(self, image):
        super().set_image(image)
        self.pictures += 1

    def predict(self, point_coords, point_labels, **options):
        self.points.append(point_coords[point_labels == 0])
        people = point_coords[point_labels == 1]
        logits, quality, low = super().predict(people, np.ones(len(people)), **options)
        if self.pictures > 1 and (point_labels == 1).all():
            chair = disk(people.mean(0) + np.array([30, 0]), 24, self.size_hw)
            logits = np.stack([np.where(chair | (logits[2] > 0), 8.0, -8.0)] * 3).astype(np.float32)
            low = np.stack([np.kron(m, np.ones((2, 2))) for m in logits]).astype(np.float32)
        return logits, quality, low


def test_a_mask_that_jumps_is_asked_for_again_with_a_point_on_what_was_added():
    model = object.__new__(SegmentAnythingModel)
    predictor = _Greedy()
    model._predictor, model._last = predictor, None
    points = np.array([[[40, 50], [56, 50], [48, 66]]] * 2, np.float32)
    boxes = np.array([[36, 44, 60, 68]] * 2, np.float32)
    frames = np.zeros((2, 128, 128, 3), np.uint8)
    out = model(frames=frames, boxes=boxes, points=points, scores=np.ones((2, 3), np.float32))
    for mask, keypoints in zip(out["masks"], points, strict=True):
        np.testing.assert_array_equal(mask > 127, disk(keypoints.mean(0), 12, (128, 128)))
    assert np.isnan(out["overlap"][0])
    assert out["overlap"][1] > 0.95
    wrong = predictor.points[-1]
    assert wrong.shape == (1, 2)
    assert disk((78, 55), 24, (128, 128))[int(wrong[0, 1]), int(wrong[0, 0])]  # on the chair


def test_a_point_near_a_keypoint_is_never_called_wrong():
    added = disk((32, 32), 4)
    box = np.array([0, 0, 64, 90], float)
    assert wrong_point(added, np.array([[32.0, 34.0], [30.0, 30.0]]), box) is None
    assert wrong_point(added, np.array([[5.0, 5.0]]), box) is not None
    assert wrong_point(np.zeros((64, 64), bool), np.array([[5.0, 5.0]]), box) is None


def test_masks_that_jump_are_told(caplog):
    class Jumping:
        def __init__(self):
            self.n = 0

        def __call__(self, frames, boxes, points, scores):
            self.n += 1
            return {"masks": np.zeros(frames.shape[:3], np.uint8), "overlap": np.float32([0.2 if self.n == 3 else 0.9])}

    frames = [np.full((64, 120, 3), 1 + i, np.uint8) for i in range(4)]
    with caplog.at_level("WARNING"):
        list(MaskedWholeBody(Jumping(), _Finder()).detect(iter(frames)))
    assert "1 masks jump away from the frame before (first: frame 2)" in caplog.text


def test_masks_replace_the_detectors_own_and_follow_the_frames():
    class Whole:
        def __call__(self, frames, boxes, points, scores):
            if np.isnan(boxes).any():
                return {"masks": np.zeros(frames.shape[:3], np.uint8)}
            assert points.shape == (1, 17, 2)
            return {"masks": np.broadcast_to(frames[:, :1, :1, 0], frames.shape[:3])}

        def close(self):
            pass

    frames = [np.full((64, 120, 3), 1 + i, np.uint8) for i in range(6)]
    found = list(MaskedWholeBody(Whole(), _Finder()).detect(iter(frames)))
    assert [int(d.mask.max()) for d in found] == [1, 2, 3, 4, 0, 6]  # nobody in the fifth
    keypoints = Keypoints(
        xy=torch.from_numpy(np.stack([d.xy for d in found])),
        score=torch.from_numpy(np.stack([d.score for d in found])),
        valid=torch.tensor([True, True, False, True, False, True]),
        size_hw=(64, 120),
    )
    assert [int(m.max()) for m in masks_of(Whole(), frames, keypoints)] == [1, 2, 0, 4, 0, 6]


@pytest.mark.slow
def test_segment_anything_runs_through_with_a_tiny_network_of_random_weights(monkeypatch, tmp_path):
    """The real architecture, 64 wide and 2 deep: shapes and types, nothing about quality."""
    sam = pytest.importorskip("segment_anything", reason="segment-anything is not installed (extra: sam)")
    build = pytest.importorskip("segment_anything.build_sam")
    from avatars.perception import segment_anything_masks

    torch.manual_seed(0)
    tiny = lambda checkpoint=None: build._build_sam(64, 2, 2, [1], checkpoint)  # noqa: E731
    torch.save(tiny().state_dict(), tmp_path / "sam_tiny.pth")
    monkeypatch.setitem(sam.sam_model_registry, "tiny", tiny)
    monkeypatch.setitem(segment_anything_masks.VARIANTS, 64, "tiny")
    model = SegmentAnythingModel(str(tmp_path / "sam_tiny.pth"))
    frames = np.random.default_rng(0).integers(0, 255, (2, 90, 160, 3), np.uint8)
    points = np.full((2, 17, 2), 60.0, np.float32)
    boxes = np.tile(np.array([40, 20, 80, 85], np.float32), (2, 1))
    masks = model(frames=frames, boxes=boxes, points=points, scores=np.ones((2, 17), np.float32))["masks"]
    assert masks.shape == (2, 90, 160)
    assert masks.dtype == np.uint8
    torch.save({"some": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(MissingPiece, match="no Segment Anything checkpoint"):
        SegmentAnythingModel(str(tmp_path / "other.pth"))
