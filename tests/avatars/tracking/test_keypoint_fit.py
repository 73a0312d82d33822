"""The fit's parts: the body without fingers, headings, contacts on disk, size by the face, no flip in noisy turns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_tracking import CAMERA, EXACT, seen, turning_motion, yaw_error_deg

from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.perception.detector_marks import detector_marks, marked_keypoints
from avatars.tracking.balance import balance_offset
from avatars.tracking.coarse_body import N_COARSE_JOINTS, coarse_body
from avatars.tracking.initialization import steady_headings
from avatars.tracking.keypoint_fit import ClipFacts, fit_keypoints
from avatars.tracking.pipeline import track_keypoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_poses(frames: int, seed: int = 0) -> torch.Tensor:
    return 0.4 * torch.randn(frames, 55, 3, generator=torch.Generator().manual_seed(seed))


def test_the_body_without_fingers_has_the_same_23_points(body) -> None:
    poses, betas = random_poses(4), torch.linspace(-1, 1, body.n_betas)
    whole = body.pose(poses, betas).keypoints_133()[:, :23]
    coarse = coarse_body(body).pose(poses[:, :N_COARSE_JOINTS], betas).keypoints_133()
    assert torch.allclose(coarse, whole, atol=1e-5)


def test_marks_lie_beside_the_joints_by_what_was_measured(body) -> None:
    posed = body.pose(torch.zeros(1, 55, 3), torch.zeros(body.n_betas))
    marked, _, offsets = detector_marks("mediapipe")
    moved = marked_keypoints(posed, "mediapipe") - posed.keypoints_133()
    assert torch.allclose(moved[0, marked], offsets, atol=1e-5)
    assert moved[0, 23:].abs().max() == 0
    assert torch.equal(marked_keypoints(posed, "exact"), posed.keypoints_133())


def wrapped_deg(angle: torch.Tensor) -> torch.Tensor:
    return torch.atan2(angle.sin(), angle.cos()).rad2deg()


def test_headings_of_a_turn_lose_their_trembling_and_nothing_else() -> None:
    times = torch.arange(180).double() / 18
    true = (times * math.radians(60)).float()
    noise = torch.randn(180, generator=torch.Generator().manual_seed(0))
    wobble = math.radians(18) * torch.sin(2 * math.pi * times / 0.6).float()
    observed = true + math.radians(6) * noise + wobble
    steady = steady_headings(torch.atan2(observed.sin(), observed.cos()), times)
    assert wrapped_deg(observed - true).abs().max() > 20
    assert wrapped_deg(steady - true).abs().max() < 8


def test_single_headings_that_are_turned_round_are_outvoted() -> None:
    times = torch.arange(90).double() / 18
    true = (times * math.radians(60)).float()
    observed = true.clone()
    observed[[20, 47, 48]] += math.pi
    steady = steady_headings(torch.atan2(observed.sin(), observed.cos()), times)
    assert wrapped_deg(steady - true).abs().max() < 12


def test_a_quick_turn_is_kept() -> None:
    times = torch.arange(60).double() / 30
    true = math.radians(90) * ((times - 0.7) / 0.6).clamp(0, 1).float()
    assert wrapped_deg(steady_headings(true, times) - true).abs().max() < 20


def test_a_noisy_turn_never_flips(body) -> None:
    turn = turning_motion(body, frames=40, fps=9.0)
    keypoints = seen(turn, body, CAMERA, noise_px=4.0, seed=3)
    swapped = torch.zeros(len(turn), dtype=torch.bool)
    swapped[[11, 25, 33]] = True
    motion, _, _ = track_keypoints(
        keypoints.mirrored(swapped), turn.times_s, body, config=replace(EXACT, iterations=30)
    )
    assert yaw_error_deg(motion, turn).max() < 20


QUICK = replace(EXACT, iterations=30)


def standing(body: Body, betas: torch.Tensor, frames: int = 6) -> Motion:
    motion = turning_motion(body, frames)
    poses = motion.poses.clone()
    poses[:, 0] = 0.0
    return replace(motion, poses=poses, betas=betas)


def test_a_face_tells_a_tall_person_far_away_from_a_short_one_nearby(body) -> None:
    found = []
    for size in (1.5, -1.5):
        betas = torch.zeros(body.n_betas)
        betas[0] = size
        motion = standing(body, betas, frames=3)
        camera = Camera.level(focal_px=600.0, size_hw=(512, 512), height_m=1.0, distance_m=2.6 * (1 + 0.07 * size))
        fit = track_keypoints(seen(motion, body, camera), motion.times_s, body, config=replace(QUICK, iterations=20))
        y = [body.shaped(b)[0][:, 1] for b in (fit[0].betas, betas)]
        found.append([float(v.max() - v.min()) for v in y])
    (tall, truly_tall), (short, truly_short) = found
    assert (tall - short) / (truly_tall - truly_short) > 0.3


def test_a_standing_person_keeps_both_feet_on_the_ground(body, tmp_path) -> None:
    motion = standing(body, torch.zeros(body.n_betas))
    poses = motion.poses.clone()
    poses[:, 1:9] = 0.0
    motion = replace(motion, poses=poses)
    found, _, _ = track_keypoints(seen(motion, body, CAMERA), motion.times_s, body, config=QUICK)
    assert found.contacts is not None
    assert found.contacts[1:-1].float().mean() > 0.9
    loaded = Motion.load(found.save(tmp_path / "motion.npz"))
    assert torch.equal(loaded.contacts, found.contacts)
    assert loaded[2:5].contacts.shape == (3, 4)


def test_the_camera_is_found_upright(body) -> None:
    motion = standing(body, torch.zeros(body.n_betas))
    camera = Camera.level(focal_px=600.0, size_hw=(512, 512), height_m=1.0, distance_m=2.6)
    found, found_camera, _ = track_keypoints(seen(motion, body, camera), motion.times_s, body, config=QUICK)
    R = matrix_from_axis_angle(found.poses[:, 0])
    assert (R[:, 1, 1] > math.cos(math.radians(8))).all()
    assert found_camera.T_cam_world[1, 1] < -0.99


def test_a_center_of_mass_stands_over_the_foot_that_carries_it(body) -> None:
    up = torch.tensor([0.0, 1.0, 0.0])
    points = body.pose_motion(standing(body, torch.zeros(body.n_betas), frames=2)).keypoints_133()
    assert balance_offset(points, up).norm(dim=-1).max() < 0.05
    raised = points.clone()
    raised[:, [15, 17, 18, 19]] += torch.tensor([0.0, 0.3, 0.0])
    off = balance_offset(raised, up)
    right_foot = points[:, [20, 21, 22]].mean(1)
    assert (off[:, 0] * right_foot[:, 0] < 0).all(), "the middle of the body is to the left of the right foot"
    assert off[:, 0].abs().min() > 0.7 * right_foot[:, 0].abs().max()


def test_where_up_is_known_people_do_not_lean_as_a_lifter_thinks(body) -> None:
    motion = standing(body, torch.zeros(body.n_betas))
    keypoints = seen(motion, body, CAMERA)
    lean = matrix_from_axis_angle(torch.tensor([-math.radians(12), 0.0, 0.0]))
    keypoints = replace(keypoints, world_m=keypoints.world_m @ lean.T)
    true = CAMERA.to_camera(body.pose_motion(motion).joints)
    errors_m = []
    for up in (None, tuple(CAMERA.T_cam_world[:3, 1].tolist())):
        found, camera, _ = track_keypoints(keypoints, motion.times_s, body, config=QUICK, up_cam=up)
        joints = camera.to_camera(body.pose_motion(found).joints)
        errors_m.append(float(((joints - joints[:, :1]) - (true - true[:, :1]))[:, :22].norm(dim=-1).mean()))
    assert errors_m[1] < 0.8 * errors_m[0]


def test_unseen_feet_carry_nobody(body) -> None:
    motion = standing(body, torch.zeros(body.n_betas), frames=4)
    keypoints = seen(motion, body, CAMERA)
    keypoints.score[:, [13, 14, 15, 16, *range(17, 23)]] = 0.02
    up = torch.nn.functional.normalize(torch.tensor([0.2, 1.0, 0.3]), dim=0)
    known, unknown = (
        fit_keypoints(keypoints, motion.times_s, body, ClipFacts(600.0, up=told), iterations=20) for told in (up, None)
    )
    assert torch.equal(known.rotation, unknown.rotation) and torch.equal(known.poses, unknown.poses)
