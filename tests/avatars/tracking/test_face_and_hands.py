"""Blending what face and hand networks saw into a tracked motion: stand-in networks with known answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from avatars.body import Body
from avatars.body.motion import GLOBAL, JAW, LEFT_HAND, RIGHT_HAND, Motion
from avatars.errors import BackendMissing, InputError
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.io.work_folder import WorkFolder
from avatars.perception.body_estimates import BodyEstimate, FaceEstimate
from avatars.perception.containers import N_KEYPOINTS, Keypoints
from avatars.tracking.face_and_hands import (
    MOUTH_OPEN,
    FaceAndHands,
    arm_agreement,
    blended,
    face_confidence,
    hand_confidence,
    steadied,
    with_face,
    with_hands,
)

N = 24
DEFAULT = cast(Body, SimpleNamespace(n_vertices=13_718, n_expression=10))
LICENSED = cast(Body, SimpleNamespace(n_vertices=10_475, n_expression=10))
CAMERA = Camera.looking_at(torch.tensor([1.0, 1.5, 3.0]), torch.zeros(3), focal_px=500.0, size_hw=(480, 640))


def a_motion() -> Motion:
    generator = torch.Generator().manual_seed(0)
    return Motion(
        poses=torch.randn(N, 55, 3, generator=generator) * 0.2,
        transl=torch.zeros(N, 3),
        betas=torch.zeros(10),
        expression=torch.randn(N, 10, generator=generator),
        times_s=torch.arange(N, dtype=torch.float64) / 30,
        valid=torch.ones(N, dtype=torch.bool),
        body_sha256="",
    )


def a_face(angle: float = 0.3) -> FaceEstimate:
    jaw = torch.tensor([angle, 0.0, 0.0]).repeat(N, 1)
    return FaceEstimate(jaw, torch.zeros(N, 3), torch.arange(50.0).repeat(N, 1), torch.ones(N, dtype=torch.bool))


def a_body(poses: torch.Tensor) -> BodyEstimate:
    return BodyEstimate(poses, torch.zeros(N, 10), torch.zeros(N, 10), torch.ones(N, dtype=torch.bool))


def some_keypoints(score: float = 0.9, hand_px: float = 60.0) -> Keypoints:
    xy = torch.rand(N, N_KEYPOINTS, 2, generator=torch.Generator().manual_seed(0)) * 100 + 100
    for points in (slice(91, 112), slice(112, 133)):
        xy[:, points, 0] = torch.linspace(0, hand_px, 21)
        xy[:, points, 1] = 100.0
    return Keypoints(xy, torch.full((N, N_KEYPOINTS), score), torch.ones(N, dtype=torch.bool), (480, 640))


def test_what_was_not_seen_stays_as_the_fit_left_it():
    motion = a_motion()
    other = a_body(torch.ones(N, 55, 3) * 0.4)
    torch.testing.assert_close(with_hands(motion, other, torch.zeros(N, 2)).poses, motion.poses, rtol=0, atol=0)
    same = with_face(motion, a_face(), torch.zeros(N), DEFAULT)
    torch.testing.assert_close(same.poses, motion.poses, rtol=0, atol=0)
    torch.testing.assert_close(same.expression, motion.expression, rtol=0, atol=0)


def test_what_was_seen_well_is_taken_over_and_nothing_else_is_touched():
    motion = a_motion()
    fingers = torch.randn(55, 3, generator=torch.Generator().manual_seed(1)) * 0.4
    found = with_hands(motion, a_body(fingers.repeat(N, 1, 1)), torch.ones(N, 2))
    torch.testing.assert_close(found.poses[:, LEFT_HAND], fingers[LEFT_HAND].repeat(N, 1, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.poses[:, RIGHT_HAND], fingers[RIGHT_HAND].repeat(N, 1, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.poses[:, :25], motion.poses[:, :25], rtol=0, atol=0)
    one = with_hands(motion, a_body(fingers.repeat(N, 1, 1)), torch.tensor([0.0, 1.0]).repeat(N, 1))
    torch.testing.assert_close(one.poses[:, LEFT_HAND], motion.poses[:, LEFT_HAND], rtol=0, atol=0)


def test_a_half_sure_estimate_is_met_half_way():
    motion = a_motion()
    motion.poses[:, JAW] = torch.tensor([0.1, 0.0, 0.0])
    found = with_face(motion, a_face(0.5), torch.full((N,), 0.5), DEFAULT)
    torch.testing.assert_close(found.poses[:, JAW], torch.tensor([0.3, 0.0, 0.0]).repeat(N, 1), atol=1e-4, rtol=0)


def test_blending_goes_the_short_way_round():
    half = blended(torch.tensor([[0.0, 3.0, 0.0]]), torch.tensor([[0.0, -3.0, 0.0]]), torch.tensor([0.5]))
    assert abs(float(half.norm()) - np.pi) < 1e-3


def test_noise_between_frames_is_averaged_out():
    generator = torch.Generator().manual_seed(0)
    truth = torch.linspace(0, 0.6, N)[:, None, None] * torch.tensor([0.0, 0.0, 1.0]).repeat(15, 1)
    noisy = axis_angle_from_matrix(
        matrix_from_axis_angle(truth) @ matrix_from_axis_angle(0.15 * torch.randn(N, 15, 3, generator=generator))
    )
    smooth, weight = steadied(noisy, torch.ones(N), torch.arange(N) / 30, deviation_s=0.06)
    inside = slice(3, -3)
    assert (smooth - truth)[inside].norm(dim=-1).mean() < 0.5 * (noisy - truth)[inside].norm(dim=-1).mean()
    torch.testing.assert_close(weight, torch.ones(N))


def test_a_wild_frame_without_confidence_moves_nothing():
    poses, sure = torch.zeros(N, 1, 3), torch.ones(N)
    poses[10], sure[10] = torch.tensor([2.0, 0.0, 0.0]), 0.0
    smooth, weight = steadied(poses, sure, torch.arange(N) / 30)
    assert smooth.abs().max() < 1e-5
    assert weight[10] < 0.8


def test_a_long_gap_keeps_the_fits_pose_and_frames_with_nobody_keep_theirs():
    motion = a_motion()
    valid = torch.ones(N, dtype=torch.bool)
    valid[-3:] = False
    motion = replace(motion, valid=valid)
    sure = torch.ones(N)
    sure[6:18] = 0.0
    found = with_face(motion, a_face(), sure, DEFAULT)
    torch.testing.assert_close(found.poses[10:14], motion.poses[10:14], rtol=0, atol=0)
    assert (found.poses[0, JAW] - torch.tensor([0.3, 0.0, 0.0])).abs().max() < 1e-4


def test_flames_expression_goes_to_the_licensed_body_alone():
    motion = a_motion()
    licensed = with_face(motion, a_face(), torch.ones(N), LICENSED)
    torch.testing.assert_close(licensed.expression, torch.arange(10.0).repeat(N, 1), atol=1e-4, rtol=0)
    default = with_face(motion, a_face(), torch.ones(N), DEFAULT)
    assert not default.expression[:, MOUTH_OPEN].any()  # the jaw opens the mouth in its place
    others = [i for i in range(10) if i != MOUTH_OPEN]
    torch.testing.assert_close(default.expression[:, others], motion.expression[:, others])


def test_hands_that_are_small_or_doubtful_count_little():
    assert hand_confidence(some_keypoints()).min() == 1
    assert hand_confidence(some_keypoints(hand_px=10)).max() == 0
    assert 0 < hand_confidence(some_keypoints(hand_px=20)).max() < 1
    assert hand_confidence(some_keypoints(score=0.2)).max() == 0
    assert 0 < face_confidence(some_keypoints(score=0.45)).max() < 1
    nobody = replace(some_keypoints(), valid=torch.zeros(N, dtype=torch.bool))
    assert face_confidence(nobody).max() == 0


def test_a_network_that_took_the_other_arm_is_not_believed():
    motion = a_motion()
    motion.poses[:] = 0.0
    motion.poses[:, GLOBAL] = torch.tensor([0.0, 0.7, 0.0])
    motion.poses[:, 16] = torch.tensor([0.0, 0.0, -1.2])  # the left arm hangs, the right is stretched out
    root = CAMERA.T_cam_world[:3, :3] @ matrix_from_axis_angle(motion.poses[:, GLOBAL])
    seen = motion.poses.clone()
    seen[:, GLOBAL] = axis_angle_from_matrix(root)
    torch.testing.assert_close(arm_agreement(motion, a_body(seen), CAMERA), torch.ones(N, 2))
    turned = seen.clone()
    turned[:, GLOBAL] = axis_angle_from_matrix(root @ torch.diag(torch.tensor([-1.0, 1.0, -1.0])))  # back for front
    agreement = arm_agreement(motion, a_body(turned), CAMERA)
    assert agreement[:, 1].max() == 0  # the stretched one points to the other side
    assert agreement[:, 0].min() > 0.9  # one that hangs hangs either way


class _Answers:
    """A network that answers with the same arrays for every frame, and is to be closed."""

    def __init__(self, **rows):
        self.rows, self.seen, self.closed = rows, [], False

    def __call__(self, frames, **given):
        self.seen += [int(frame[0, 0, 0]) for frame in frames]
        return {name: np.repeat(row[None], len(frames), 0) for name, row in self.rows.items()}

    def close(self):
        self.closed = True


def test_a_clip_goes_through_both_networks_into_the_motion():
    motion = a_motion()
    pose = np.float32([0, 0, 0, 0.25, 0, 0])
    deca = _Answers(pose=pose, expression=np.zeros(50, np.float32), shape=np.zeros(100, np.float32))
    sizes = {"root": 3, "body": 63, "lhand": 45, "rhand": 45, "jaw": 3}
    out: dict[str, Any] = {f"smplx_{k}_pose": np.full(n, 0.1, np.float32) for k, n in sizes.items()}
    out["smplx_root_pose"] = axis_angle_from_matrix(CAMERA.T_cam_world[:3, :3]).numpy()
    motion.poses[:, :22] = 0.0
    out["smplx_body_pose"] = np.zeros(63, np.float32)
    hands = _Answers(
        **out, smplx_shape=np.zeros(10, np.float32), smplx_expr=np.zeros(10, np.float32),
        hand_mean=np.full(90, 0.2, np.float32),
    )  # fmt: skip
    frames = [np.full((480, 640, 3), i, np.uint8) for i in range(N)]
    found = FaceAndHands(deca, hands).refined(lambda: iter(frames), motion, some_keypoints(), CAMERA, DEFAULT)
    torch.testing.assert_close(found.poses[:, JAW], torch.tensor([0.25, 0.0, 0.0]).repeat(N, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.poses[:, 25:], torch.full((N, 30, 3), 0.3), atol=1e-4, rtol=0)
    for network in (deca, hands):
        assert network.closed
        assert network.seen == list(range(N))


def test_answers_are_taken_up_after_a_kill(tmp_path):
    work = WorkFolder.open(tmp_path / "work", {})
    pose = np.float32([0, 0, 0, 0.25, 0, 0])
    rows = {"pose": pose, "expression": np.zeros(50, np.float32), "shape": np.zeros(100, np.float32)}
    motion, keypoints = a_motion(), some_keypoints()
    frames = [np.full((8, 8, 3), i, np.uint8) for i in range(N)]

    class Dies(_Answers):
        def __call__(self, frames, **given):
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(frames, **given)

    def refined(network: _Answers) -> Motion:
        return FaceAndHands(network, None).refined(lambda: iter(frames), motion, keypoints, CAMERA, DEFAULT, work)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avatars.perception.body_estimates.CHUNK", 10)
        with pytest.raises(KeyboardInterrupt):
            refined(Dies(**rows))
        again, whole = _Answers(**rows), _Answers(**rows)
        found = refined(again)
    assert again.seen == list(range(10, N))
    at_once = FaceAndHands(whole, None).refined(lambda: iter(frames), motion, keypoints, CAMERA, DEFAULT)
    torch.testing.assert_close(found.poses, at_once.poses, rtol=0, atol=0)


def test_a_network_that_is_not_there_is_an_error_before_any_frame(bare_environment):
    with pytest.raises(InputError, match="No face model 'emoca'; known: deca"):
        FaceAndHands.open(face="emoca")
    with pytest.raises(InputError, match="No hand model 'deca'; known: hand4whole"):
        FaceAndHands.open(hands="deca")
    with pytest.raises(BackendMissing, match=r"deca_model\.tar.*DECA_WEIGHTS"):
        FaceAndHands.open(face="deca")
    with pytest.raises(BackendMissing, match=r"a clone of Hand4Whole.*HAND4WHOLE_REPOSITORY"):
        FaceAndHands.open(hands="hand4whole")
    nothing = FaceAndHands.open()
    motion = a_motion()
    assert nothing.refined(lambda: iter(()), motion, some_keypoints(), CAMERA, DEFAULT) is motion


def test_tracking_asks_for_the_networks_before_it_looks_at_a_frame(bare_environment, tmp_path):
    import av

    from avatars.tracking.config import TrackConfig
    from avatars.tracking.pipeline import track_video

    video = tmp_path / "black.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    bare_environment.setattr("avatars.tracking.pipeline.perceive_video", None)  # not reached
    with pytest.raises(BackendMissing, match=r"deca_model\.tar"):
        track_video(video, config=TrackConfig(face="deca"))
    with pytest.raises(BackendMissing, match="Hand4Whole"):
        track_video(video, config=TrackConfig(hands="hand4whole"))
