"""Tracking: known motions are recovered from their projected keypoints, real and bad video, Track on disk."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.body.pose_prior import PosePrior
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.io.video import write_video
from avatars.perception.containers import Keypoints
from avatars.tracking.capture_check import check_capture, judge, require_person, whole_body_frames
from avatars.tracking.config import TrackConfig
from avatars.tracking.initialization import side_exchanges, yaw_of
from avatars.tracking.pipeline import track_keypoints, track_video
from avatars.tracking.track import SourceVideo, Track
from avatars.tracking.world_frame import level_rotation

pytestmark = pytest.mark.slow

EXACT = TrackConfig(detector="exact", focal_px=600.0)
J = {name: i for i, name in enumerate(JOINT_NAMES)}


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, 2))
    yield
    torch.set_num_threads(threads)


def turning_motion(body: Body, frames: int = 48, fps: float = 12.0) -> Motion:
    """One whole turn with arms that rise and fall and knees that bend a little."""
    phase = torch.linspace(0, 1, frames)
    yaw = 2 * math.pi * phase
    poses = torch.zeros(frames, 55, 3)
    poses[:, 0, 1] = torch.remainder(yaw + math.pi, 2 * math.pi) - math.pi
    lift = 0.4 * torch.sin(2 * math.pi * phase)
    poses[:, J["left_shoulder"], 2], poses[:, J["right_shoulder"], 2] = -0.9 + lift, 0.9 - lift
    poses[:, J["left_elbow"], 1], poses[:, J["right_elbow"], 1] = -0.5, 0.5 + lift
    poses[:, J["left_knee"], 0] = 0.2 + 0.2 * torch.sin(4 * math.pi * phase)
    poses[:, J["left_hip"], 0] = -0.15
    betas = torch.zeros(body.n_betas)
    betas[:3] = torch.tensor([0.3, -0.4, 0.2])
    motion = Motion(
        poses, torch.zeros(frames, 3), betas, torch.zeros(frames, body.n_expression),
        torch.arange(frames).double() / fps, torch.ones(frames, dtype=torch.bool), body.sha256,
    )  # fmt: skip
    low = body.pose_motion(motion).keypoints_133()[:, 17:23, 1].amin()
    return replace(motion, transl=torch.tensor([0.0, -float(low), 0.0]).expand(frames, 3).clone())


def seen(motion: Motion, body: Body, camera: Camera, *, noise_px: float = 0.0, seed: int = 0) -> Keypoints:
    """The keypoints that a perfect (or noisy) detector finds, with a coarse 3D hint."""
    generator = torch.Generator().manual_seed(seed)
    points = body.pose_motion(motion).keypoints_133()
    in_camera = camera.to_camera(points)
    hint = in_camera - in_camera[:, [11, 12]].mean(1, keepdim=True)
    xy = camera.project(points) + noise_px * torch.randn(points[..., :2].shape, generator=generator)
    hint = hint + 0.004 * noise_px * torch.randn(hint.shape, generator=generator)
    return Keypoints(
        xy, torch.full(xy.shape[:2], 0.95), torch.ones(len(motion), dtype=torch.bool), camera.size_hw, hint
    )


def mpjpe_mm(found: Motion, found_camera: Camera, true: Motion, camera: Camera, body: Body) -> float:
    """Mean distance of the 22 body joints with the pelves laid on each other, in camera axes."""
    a = found_camera.to_camera(body.pose_motion(found).joints[:, :22])
    b = camera.to_camera(body.pose_motion(true).joints[:, :22])
    return float(((a - a[:, :1]) - (b - b[:, :1])).norm(dim=-1)[true.valid].mean()) * 1000


def yaw_error_deg(found: Motion, true: Motion) -> torch.Tensor:
    relative = matrix_from_axis_angle(found.poses[:, 0]) @ matrix_from_axis_angle(true.poses[:, 0]).mT
    return torch.atan2(relative[:, 0, 2], relative[:, 2, 2]).abs().rad2deg()


CAMERA = Camera.level(focal_px=600.0, size_hw=(512, 512), height_m=1.0, distance_m=2.6)


@pytest.fixture(scope="module")
def turn(body):
    return turning_motion(body)


@pytest.fixture(scope="module")
def exact_fit(turn, body):
    return track_keypoints(seen(turn, body, CAMERA), turn.times_s, body, config=EXACT)


def test_a_turn_is_recovered_from_its_keypoints(turn, exact_fit, body) -> None:
    motion, camera, _ = exact_fit
    assert mpjpe_mm(motion, camera, turn, CAMERA, body) < 22
    error_px = (
        camera.project(body.pose_motion(motion).joints[:, :22]) - CAMERA.project(body.pose_motion(turn).joints[:, :22])
    ).norm(dim=-1)
    assert error_px.mean() < 2.0
    assert yaw_error_deg(motion, turn).max() < 8


def test_the_world_is_level_with_the_ground_at_zero(exact_fit, body) -> None:
    motion, camera, _ = exact_fit
    feet = body.pose_motion(motion).keypoints_133()[:, 17:23, 1].amin(1)
    assert feet.median().abs() < 0.04
    pelvis = body.pose_motion(motion).joints[:, 0]
    assert pelvis[:, [0, 2]].median(0).values.abs().max() < 0.01
    tilt = torch.rad2deg(torch.acos((-camera.T_cam_world[1, 1]).clamp(-1, 1)))
    assert tilt < 4


def test_backs_taken_for_fronts_are_put_right(turn, body) -> None:
    keypoints = seen(turn, body, CAMERA, noise_px=1.5)
    swapped = torch.zeros(len(turn), dtype=torch.bool)
    swapped[18:29] = True  # the frames seen from behind
    broken = keypoints.mirrored(swapped)
    broken.score[swapped, 23:91] = 0.1
    assert torch.equal(side_exchanges(broken, turn.times_s), swapped)


def test_single_frames_with_exchanged_sides_are_put_right(turn, body) -> None:
    keypoints = seen(turn, body, CAMERA, noise_px=1.5)
    swapped = torch.zeros(len(turn), dtype=torch.bool)
    swapped[[4, 22, 43]] = True
    assert torch.equal(side_exchanges(keypoints.mirrored(swapped), turn.times_s), swapped)


def test_right_sides_are_left_alone(turn, body) -> None:
    assert not side_exchanges(seen(turn, body, CAMERA, noise_px=3.0), turn.times_s).any()


def test_noise_and_dropouts_cost_little(turn, body) -> None:
    keypoints = seen(turn, body, CAMERA, noise_px=3.0)
    generator = torch.Generator().manual_seed(1)
    lost = torch.rand(keypoints.score.shape, generator=generator) < 0.15
    wild = torch.rand(keypoints.score.shape, generator=generator) < 0.03
    keypoints = replace(
        keypoints,
        score=torch.where(lost, 0.0, keypoints.score),
        xy=torch.where(wild[..., None], keypoints.xy + 80.0, keypoints.xy),
        valid=torch.arange(len(turn)) % 11 != 5,
    )
    keypoints.xy[~keypoints.valid], keypoints.score[~keypoints.valid] = 0.0, 0.0
    motion, camera, _ = track_keypoints(keypoints, turn.times_s, body, config=EXACT)
    assert torch.equal(motion.valid, keypoints.valid)
    assert mpjpe_mm(motion, camera, replace(turn, valid=keypoints.valid), CAMERA, body) < 40
    assert torch.isfinite(motion.poses).all()


def test_unseen_legs_hang_down(turn, body) -> None:
    short = turn[:10]
    keypoints = seen(short, body, CAMERA)
    legs = [11, 12, 13, 14, 15, 16, *range(17, 23)]
    keypoints.score[:, legs] = 0.02
    motion, _, _ = track_keypoints(keypoints, short.times_s, body, config=EXACT)
    joints = body.pose_motion(motion).joints
    shin = torch.nn.functional.normalize(joints[:, J["left_ankle"]] - joints[:, J["left_hip"]], dim=-1)
    assert (shin[:, 1] < -0.9).all()


def test_given_height_is_kept(turn, body) -> None:
    short = turn[:10]
    config = replace(EXACT, height_m=1.55, iterations=60)
    motion, _, _ = track_keypoints(seen(short, body, CAMERA), short.times_s, body, config=config)
    vertices, _ = body.shaped(motion.betas)
    assert float(vertices[:, 1].max() - vertices[:, 1].min()) == pytest.approx(1.55, abs=0.02)


def test_yaw_of_a_front_a_side_and_a_back(body) -> None:
    for yaw_deg in (0.0, 90.0, 179.0, -90.0):
        motion = turning_motion(body, 3)
        motion.poses[:, 0] = torch.tensor([0.0, math.radians(yaw_deg), 0.0])
        found = yaw_of(seen(motion, body, CAMERA)).rad2deg()
        assert torch.allclose(found, torch.tensor(yaw_deg), atol=6.0)


def test_ranges_bend_knees_and_elbows_one_way() -> None:
    prior = PosePrior.human()
    poses = torch.zeros(2, 55, 3)
    poses[0, J["left_knee"], 0] = poses[0, J["right_knee"], 0] = 1.5
    poses[0, J["left_elbow"], 1], poses[0, J["right_elbow"], 1] = -1.5, 1.5
    poses[1] = -poses[0]
    excess = prior.excess(poses).sum((1, 2))
    assert excess[0] == 0
    assert excess[1] > 4


def test_a_bent_forearm_turned_about_itself_stays_on_its_hinge() -> None:
    prior, poses = PosePrior.human(), torch.zeros(3, 55, 3)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        bend, sideways = (matrix_from_axis_angle(torch.tensor(a)) for a in ([0, -1.4 * sign, 0.0], [0, 0, 0.3 * sign]))
        pronation = matrix_from_axis_angle(torch.tensor([0.8, 0.0, 0.0]))
        poses[0, J[f"{side}_elbow"]] = axis_angle_from_matrix(bend @ pronation)
        poses[1, J[f"{side}_elbow"]] = axis_angle_from_matrix(sideways @ bend @ pronation)
        bent, turned = (matrix_from_axis_angle(torch.tensor(a)) for a in ([1.2, 0.0, 0.0], [0.0, 0.1, 0.0]))
        poses[0, J[f"{side}_knee"]] = axis_angle_from_matrix(bent @ turned)
        poses[2, J[f"{side}_knee"]] = torch.tensor([0.0, 0.0, 0.3])
    off = prior.off_hinge(poses)
    assert float(off[0].abs().max()) < 1e-6
    forearm_up = math.sin(0.3) * math.cos(1.4)  # of a bent forearm, what leaves the plane
    assert off[1, 2:].abs().tolist() == pytest.approx([forearm_up] * 2, abs=1e-5)
    assert off[2, :2].abs().tolist() == pytest.approx([math.sin(0.3)] * 2, abs=1e-5)
    assert float(prior.excess(poses[:1]).max()) == 0.0


def test_the_natural_pose_lies_within_the_ranges_and_is_symmetric() -> None:
    prior = PosePrior.human()
    assert prior.excess(prior.rest[None]).sum() == 0
    for name, j in J.items():
        if name.startswith("left_"):
            other = prior.rest[J["right_" + name.removeprefix("left_")]]
            assert torch.allclose(prior.rest[j] * torch.tensor([1.0, -1.0, -1.0]), other)


def test_leveling_takes_up_to_y_and_keeps_x_level() -> None:
    up = torch.nn.functional.normalize(torch.tensor([0.05, 0.95, 0.2]), dim=0)
    R = level_rotation(up)
    assert torch.allclose(R @ up, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    assert torch.allclose(R @ R.T, torch.eye(3), atol=1e-6)
    assert torch.linalg.det(R) == pytest.approx(1.0, abs=1e-5)


def test_a_track_comes_back_from_disk(turn, exact_fit, tmp_path) -> None:
    motion, camera, keypoints = exact_fit
    masks = torch.zeros(len(motion), 512, 512, dtype=torch.uint8)
    masks[:, 100:300, 200:260] = 200
    masks[3] = 0
    track = Track(motion, camera, keypoints, masks, SourceVideo("turn.mp4", "ab" * 32, (512, 512)), EXACT)
    loaded = Track.load(track.save(tmp_path / "track"))
    assert torch.equal(loaded.masks[:], masks)
    assert torch.allclose(loaded.motion.poses, motion.poses)
    assert torch.allclose(loaded.camera.T_cam_world, camera.T_cam_world)
    assert torch.equal(loaded.keypoints.xy, keypoints.xy)
    assert loaded.video == track.video
    assert loaded.config == EXACT


def test_a_folder_that_is_no_track_is_an_input_error(tmp_path) -> None:
    with pytest.raises(InputError, match=r"track\.json"):
        Track.load(tmp_path)


def test_an_empty_scene_is_no_person(tmp_path) -> None:
    frames = np.random.default_rng(0).integers(90, 110, (6, 128, 128, 3), dtype=np.uint8)
    path = write_video(tmp_path / "empty.mp4", frames)
    with pytest.raises(InputError, match=r"No person in any of 6 frames of empty\.mp4"):
        track_video(path)


def _standing(frames: int, valid: torch.Tensor, *, cut: torch.Tensor) -> Keypoints:
    xy = torch.full((frames, 133, 2), 100.0)
    score = torch.full((frames, 133), 0.9)
    score[cut, 15:23] = 0.0
    return Keypoints(xy, score * valid[:, None], valid, (200, 200))


def test_a_capture_says_how_many_frames_lack_the_person() -> None:
    valid = torch.arange(10) >= 6
    with pytest.raises(InputError, match=r"No person in 6 of 10 frames of turn\.mp4 \(first: frame 0\)"):
        judge(check_capture(_standing(10, valid, cut=~valid), Path("turn.mp4")), Path("turn.mp4"))


def test_a_capture_says_how_many_frames_cut_the_person_off() -> None:
    valid, cut = torch.ones(10, dtype=torch.bool), torch.arange(10) >= 3
    with pytest.raises(InputError, match=r"cut off in 7 of 10 frames of turn\.mp4 \(first: frame 3\)"):
        judge(check_capture(_standing(10, valid, cut=cut), Path("turn.mp4")), Path("turn.mp4"))
    assert not any(
        f.refused and f.reason == "whole body" for f in check_capture(_standing(10, valid, cut=~cut), Path("turn.mp4"))
    )
    assert whole_body_frames(_standing(10, valid, cut=cut)).tolist() == (~cut).tolist()


def test_nobody_at_all_is_said_before_anything_else() -> None:
    with pytest.raises(InputError, match="No person in any of 4 frames"):
        require_person(torch.zeros(4, dtype=torch.bool), Path("walk.mp4"))


def _clip(
    shared_data: Path, folder: Path, *, stop: int, step: int, crop: slice | None = None, twice: bool = False
) -> Path:
    from avatars.io.video import probe, read_frames

    info = probe(shared_data / "juggler" / "juggler.mp4")
    frames = np.stack(list(read_frames(info, np.arange(0, stop, step))))[:, :, 300:980]
    if crop is not None:
        frames = frames[:, crop]
    if twice:
        frames = np.concatenate([frames[:, :, 80:600], frames[:, :, 80:600]], 2)
    return write_video(folder / "clip.mp4", frames, fps=24 / step)


def test_a_real_person_is_followed(shared_data, tmp_path, body) -> None:
    path = _clip(shared_data, tmp_path, stop=40, step=4)
    track = track_video(path, config=TrackConfig(iterations=80))
    assert track.motion.valid.all()
    assert track.masks.shape == (10, 720, 680)
    projected = track.camera.project(body.pose_motion(track.motion).keypoints_133())
    error_px = (projected - track.keypoints.xy)[:, :17].norm(dim=-1).mean()
    assert error_px < 16  # the man is 520 px tall
    joints = body.pose_motion(track.motion).joints
    assert (joints[:, J["head"], 1] > joints[:, J["pelvis"], 1] + 0.4).all()
    assert joints[:, J["pelvis"], 1].mean() == pytest.approx(0.95, abs=0.15)
    assert yaw_error_deg(track.motion, replace(track.motion, poses=torch.zeros(10, 55, 3))).max() < 45
    judge(check_capture(track.keypoints, path), path)


def test_two_people_are_refused_or_warned_about(shared_data, tmp_path, body, caplog) -> None:
    path = _clip(shared_data, tmp_path, stop=24, step=4, twice=True)
    with pytest.raises(InputError, match=r"Two people in \d of 6 sampled frames of clip\.mp4"):
        track_video(path, body=body)
    track = track_video(path, body=body, config=TrackConfig(person="largest", iterations=30, masks=False))
    assert track.masks is None
    assert "one is followed" in caplog.text


@pytest.mark.parametrize("name", ["open_hand.mp4", "fingerspelling.mp4"])
def test_a_hand_is_no_person(shared_data, tmp_path, body, name) -> None:
    from avatars.io.video import probe, read_frames

    info = probe(shared_data / "hands" / name)
    frames = np.stack(list(read_frames(info, np.arange(0, info.n_frames, 4))))
    path = write_video(tmp_path / name, frames, fps=10)
    with pytest.raises(InputError, match="No person in any"):
        track_video(path, body=body, config=TrackConfig(iterations=20, masks=False))


def test_a_person_cut_off_at_the_knees_is_no_capture(shared_data, tmp_path, body) -> None:
    path = _clip(shared_data, tmp_path, stop=24, step=6, crop=slice(0, 430))
    track = track_video(path, body=body, config=TrackConfig(iterations=20, masks=False))
    with pytest.raises(InputError, match="cut off in 4 of 4 frames"):
        judge(check_capture(track.keypoints, path), path)
