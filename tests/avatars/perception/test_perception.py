"""Perception: order of the 133 keypoints, the container, and MediaPipe on real frames."""

from __future__ import annotations

import importlib.metadata
import itertools

import numpy as np
import pytest
import torch

from avatars.body.layout import KEYPOINT_NAMES_133
from avatars.errors import BackendMissing, InputError
from avatars.io.video import probe, read_frames
from avatars.perception.backends import whole_body_detector
from avatars.perception.containers import FACE, LEFT_HAND, MIRRORED, RIGHT_HAND, SKELETON, Keypoints
from avatars.perception.mask_edges import refine_mask
from avatars.perception.mediapipe_holistic import FACE_MESH_TO_68, POSE_TO_23, check_available


def _keypoints(frames: int = 3) -> Keypoints:
    generator = torch.Generator().manual_seed(0)
    return Keypoints(
        xy=torch.rand(frames, 133, 2, generator=generator) * 100,
        score=torch.rand(frames, 133, generator=generator),
        valid=torch.tensor([True, False, True][:frames]),
        size_hw=(120, 200),
        world_m=torch.randn(frames, 133, 3, generator=generator),
    )


def test_mirroring_exchanges_the_names_of_left_and_right() -> None:
    for index, other in enumerate(MIRRORED):
        name = KEYPOINT_NAMES_133[index]
        if name.startswith("left_"):
            assert KEYPOINT_NAMES_133[other] == "right_" + name.removeprefix("left_")
        assert MIRRORED[other] == index


def test_mirrored_face_is_iBUGs() -> None:
    face = {k: MIRRORED[23 + k] - 23 for k in range(68)}
    assert (face[0], face[8], face[17], face[30], face[36], face[39]) == (16, 8, 26, 30, 45, 42)
    assert (face[48], face[51], face[60], face[62], face[67]) == (54, 51, 64, 62, 65)


def test_vendor_tables_name_each_point_once() -> None:
    assert len(FACE_MESH_TO_68) == len(set(FACE_MESH_TO_68)) == 68
    assert max(FACE_MESH_TO_68) < 468
    assert len(POSE_TO_23) == 23
    assert len(set(POSE_TO_23)) == 21  # no small toes


def test_skeleton_stays_on_one_side() -> None:
    for a, b in SKELETON:
        sides = {KEYPOINT_NAMES_133[k].split("_")[0] for k in (a, b)} & {"left", "right"}
        assert sides != {"left", "right"} or (a, b) in {(5, 6), (11, 12)}


def test_mirroring_twice_is_nothing() -> None:
    keypoints, every = _keypoints(), torch.ones(3, dtype=torch.bool)
    again = keypoints.mirrored(every).mirrored(every)
    assert torch.equal(again.xy, keypoints.xy)
    assert torch.equal(again.world_m, keypoints.world_m)


def test_mirroring_leaves_other_frames_alone() -> None:
    keypoints = _keypoints()
    mirrored = keypoints.mirrored(torch.tensor([False, True, False]))
    assert torch.equal(mirrored.xy[[0, 2]], keypoints.xy[[0, 2]])
    assert torch.equal(mirrored.xy[1, LEFT_HAND], keypoints.xy[1, RIGHT_HAND])


def test_keypoints_come_back_from_disk(tmp_path) -> None:
    keypoints = _keypoints()
    loaded = Keypoints.load(keypoints.save(tmp_path / "keypoints.npz"))
    for name in ("xy", "score", "valid", "world_m"):
        assert torch.equal(getattr(loaded, name), getattr(keypoints, name))
    assert loaded.size_hw == (120, 200)


def test_a_file_that_is_no_keypoints_is_an_input_error(tmp_path) -> None:
    path = tmp_path / "odd.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(InputError, match="not a keypoints npz"):
        Keypoints.load(path)
    with pytest.raises(InputError, match="No keypoints file"):
        Keypoints.load(tmp_path / "absent.npz")


def test_boxes_hold_the_seen_points_only() -> None:
    keypoints = _keypoints()
    boxes = keypoints.boxes(score=0.5)
    seen = keypoints.xy[0][keypoints.score[0] >= 0.5]
    assert torch.allclose(boxes[0], torch.cat([seen.amin(0), seen.amax(0)]))
    assert torch.isnan(boxes[1]).all()  # not valid


def test_refined_mask_follows_the_pictures_edge() -> None:
    import cv2

    image = np.full((400, 300, 3), 30, np.uint8)
    image[40:360, 100:200] = (200, 150, 90)
    truth = (image[..., 0] == 200).astype(np.float32)
    coarse = cv2.GaussianBlur(np.roll(truth, 2, 1), (0, 0), 3)  # two pixels beside the person, and blurred

    def overlap(mask: np.ndarray) -> float:
        return float((mask & (truth > 0)).sum() / (mask | (truth > 0)).sum())

    refined = refine_mask(image, coarse) > 127
    assert overlap(refined) > 0.97
    assert overlap(refined) > overlap(coarse > 0.5) + 0.01


def test_unknown_detector_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="mediapipe"):
        whole_body_detector("nonsense")


def test_wrong_mediapipe_is_an_error_with_the_command(monkeypatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.30")
    with pytest.raises(BackendMissing, match=r'pip install "mediapipe==0\.10\.21"'):
        check_available()


def test_an_empty_picture_shows_nobody() -> None:
    frames = [np.full((256, 256, 3), 120, np.uint8)] * 2
    for detection in whole_body_detector("mediapipe").detect(iter(frames)):
        assert not detection.found
        assert detection.mask is not None
        assert detection.mask.max() == 0


@pytest.fixture(scope="module")
def juggler(shared_data):
    info = probe(shared_data / "juggler" / "juggler.mp4")
    frames = list(itertools.islice(read_frames(info), 8))
    return frames, list(whole_body_detector("mediapipe").detect(iter(frames), count_people_every=4))


def test_a_person_facing_the_camera_has_the_left_on_the_right_of_the_image(juggler) -> None:
    frames, detections = juggler
    for detection in detections:
        assert detection.found
        xy, score = detection.xy, detection.score
        assert xy[5, 0] > xy[6, 0]  # shoulders
        assert xy[11, 0] > xy[12, 0]
        assert xy[0, 1] < xy[5, 1] < xy[11, 1] < xy[13, 1] < xy[15, 1]  # nose above shoulder above hip above knee
        assert score[:17].min() > 0.4
        assert score[[18, 21]].max() == 0  # MediaPipe has no small toes
        assert (xy[FACE][36:42].mean(0) - xy[2]).__abs__().max() < 8  # right eye of the face lies on the body's
        assert frames[0].shape[:2] == detection.mask.shape


def test_the_mask_covers_the_torso_and_not_the_sky(juggler) -> None:
    _, detections = juggler
    mask, xy = detections[-1].mask, detections[-1].xy
    middle = xy[[5, 6, 11, 12]].mean(0).astype(int)
    assert mask[middle[1], middle[0]] > 240
    assert mask[:40].max() < 40
    assert 0.02 < (mask > 127).mean() < 0.25


def test_one_person_is_counted_as_one(juggler) -> None:
    _, detections = juggler
    assert [d.n_people for d in detections] == [1, None, None, None, 1, None, None, None]


@pytest.mark.slow
def test_two_people_are_counted_as_two(juggler) -> None:
    frames, _ = juggler
    pairs = [np.concatenate([frame[:, 380:900], frame[:, 380:900]], 1) for frame in frames[:3]]
    detections = list(whole_body_detector("mediapipe").detect(iter(pairs), count_people_every=1))
    assert [d.n_people for d in detections] == [2, 2, 2]
