"""A person who turns and holds still: what that adds, and that it is taken only from those who do."""

from __future__ import annotations

import math

import pytest
import torch

from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.perception.containers import Keypoints
from avatars.perception.detector_marks import depth_shares, marked_keypoints
from avatars.tracking.config import TrackConfig
from avatars.tracking.evidence import Deviations, gather_evidence
from avatars.tracking.held_turn import as_marked, mean_axis, of_a_held_turn, off_axis
from avatars.tracking.pipeline import track_keypoints

FOCAL_PX, SIZE_HW = 520.0, (512, 512)
LEFT_HIP, RIGHT_HIP = 11, 12


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def turn(body: Body, degrees: float = 360.0, frames: int = 40) -> Motion:
    """Standing with lowered arms and bent elbows, nothing moves but the heading."""
    yaw = torch.linspace(0, math.radians(degrees), frames)
    poses = torch.zeros(frames, 55, 3)
    poses[:, 0, 1] = torch.remainder(yaw + math.pi, 2 * math.pi) - math.pi
    poses[:, 16, 2], poses[:, 17, 2] = -1.1, 1.1
    poses[:, 18, 1], poses[:, 19, 1] = -0.5, 0.5
    low = body.pose(poses[:1], torch.zeros(body.n_betas)).keypoints_133()[0, 17:23, 1].amin()
    return Motion(
        poses, torch.tensor([0.0, -float(low), 0.0]).expand(frames, 3).clone(), torch.zeros(body.n_betas),
        torch.zeros(frames, body.n_expression), torch.arange(frames).double() / 10,
        torch.ones(frames, dtype=torch.bool), body.sha256,
    )  # fmt: skip


def from_above() -> Camera:
    """12 degrees down."""
    return Camera.looking_at(
        torch.tensor([0.0, 1.45, 2.6]), torch.tensor([0.0, 0.9, 0.0]), focal_px=FOCAL_PX, size_hw=SIZE_HW
    )


def leveled(motion: Motion, body: Body, camera: Camera) -> Keypoints:
    """What a detector sees that takes the camera for level, hidden points with noise that lasts, a level 3D hint."""
    generator = torch.Generator().manual_seed(3)
    points = marked_keypoints(body.pose_motion(motion), "mediapipe")
    in_camera = camera.to_camera(points)
    flip = torch.tensor([1.0, -1.0, -1.0])
    up = (camera.T_cam_world[..., :3, :3].reshape(3, 3) @ torch.tensor([0.0, 1.0, 0.0])) * flip
    marked = as_marked(in_camera * flip, up, "mediapipe") * flip
    xy = FOCAL_PX * marked[..., :2] / marked[..., 2:] + 256
    drift = torch.nn.functional.avg_pool1d(
        torch.randn(266, 1, len(motion) + 8, generator=generator), 9, 1
    )  # errors last for a second
    xy = xy + 6.0 * drift.view(133, 2, -1).permute(2, 0, 1)
    hint = (points - points[:, [11, 12]].mean(1, keepdim=True)) * flip
    return Keypoints(
        xy, torch.full(xy.shape[:2], 0.95), torch.ones(len(motion), dtype=torch.bool), SIZE_HW, hint.contiguous()
    )


def lean_deg(motion: Motion, camera: Camera, true: Motion, true_camera: Camera) -> float:
    """How far the body's axis leans towards the camera or away from where it does, mean."""

    def towards(m: Motion, c: Camera) -> torch.Tensor:
        up = c.T_cam_world.reshape(4, 4)[:3, :3] @ matrix_from_axis_angle(m.poses[:, 0])[..., 1:2]
        return torch.atan2(up[:, 2, 0], -up[:, 1, 0]).rad2deg()

    return float((towards(motion, camera) - towards(true, true_camera)).abs().mean())


@pytest.mark.slow
def test_a_held_turn_tells_how_the_camera_looks_down(body) -> None:
    motion, camera = turn(body), from_above()
    seen = leveled(motion, body, camera)
    lean, off_m = {}, {}
    for moves in ("freely", "little"):
        config = TrackConfig(focal_px=FOCAL_PX, moves=moves)
        found, found_camera, _ = track_keypoints(seen, motion.times_s, body, config=config)
        lean[moves] = lean_deg(found, found_camera, motion, camera)
        ours, true = (
            c.to_camera(body.pose_motion(m).joints[:, :22]) for m, c in ((found, found_camera), (motion, camera))
        )
        off_m[moves] = float(((ours - ours[:, :1]) - (true - true[:, :1])).norm(dim=-1).mean())
    assert lean["little"] < 0.5 * lean["freely"]  # measured: 2.3 and 6.1 degrees
    assert off_m["little"] < 0.7 * off_m["freely"]  # 14 and 26 mm


@pytest.mark.slow
def test_who_does_not_turn_is_tracked_as_anybody(body) -> None:
    motion = turn(body, degrees=90.0, frames=16)
    seen = leveled(motion, body, from_above())
    free, little = (
        track_keypoints(seen, motion.times_s, body, config=TrackConfig(focal_px=FOCAL_PX, moves=moves, iterations=20))[
            0
        ]
        for moves in ("freely", "little")
    )
    assert torch.equal(free.poses, little.poses) and torch.equal(free.betas, little.betas)


@pytest.mark.slow
def test_another_backends_masks_do_not_change_where_a_detector_marks(body) -> None:
    motion = turn(body, frames=16)
    seen = leveled(motion, body, from_above())
    alone, behind = (
        track_keypoints(
            seen, motion.times_s, body, config=TrackConfig(focal_px=FOCAL_PX, detector=detector, iterations=20)
        )[0]
        for detector in ("mediapipe", "mediapipe+segment-anything")
    )
    assert torch.equal(alone.poses, behind.poses) and torch.equal(alone.betas, behind.betas)


def test_a_level_camera_marks_both_sides_where_they_are() -> None:
    points = torch.zeros(1, 23, 3)
    points[0, LEFT_HIP], points[0, RIGHT_HIP] = torch.tensor([0.1, 0.0, -3.2]), torch.tensor([-0.1, 0.0, -2.8])
    level = torch.tensor([0.0, 1.0, 0.0])
    assert torch.allclose(as_marked(points, level, "mediapipe"), points, atol=1e-6)


def test_a_camera_that_looks_down_is_shown_a_share_of_what_it_should_see() -> None:
    down = math.radians(15.0)
    up = torch.tensor([0.0, math.cos(down), math.sin(down)])  # view axes: z points to the viewer
    ahead = torch.tensor([0.0, math.sin(down), -math.cos(down)])
    middle = torch.tensor([0.0, 0.0, -3.0])
    points = torch.zeros(1, 23, 3)
    points[0, LEFT_HIP], points[0, RIGHT_HIP] = middle + 0.1 * ahead, middle - 0.1 * ahead
    marked = as_marked(points, up, "mediapipe")

    def height(p: torch.Tensor) -> float:
        image = p[0, :, 1] / -p[0, :, 2]
        return float(image[LEFT_HIP] - image[RIGHT_HIP])

    left, _, share = depth_shares("mediapipe", 23)
    assert height(marked) / height(points) == pytest.approx(float(share[left == LEFT_HIP]), abs=0.02)
    assert torch.equal(as_marked(points, up, "exact"), points)


def test_the_side_turned_away_counts_little(body) -> None:
    motion = turn(body, degrees=90.0, frames=16)
    seen = leveled(motion, body, from_above())
    rotation = matrix_from_axis_angle(motion.poses[:, 0])
    evidence = gather_evidence(seen, motion.times_s, rotation, Deviations(), "mediapipe")
    held = of_a_held_turn(evidence, rotation)
    share = held.weight / evidence.weight
    assert share[0, [LEFT_HIP, RIGHT_HIP]].min() > 0.95  # facing the camera
    assert rotation[-1, 2, 0] < -0.99  # its left points away from the viewer
    assert share[-1, LEFT_HIP] < 0.15 and share[-1, RIGHT_HIP] > 0.95
    assert torch.equal(held.weight[:, 13:], evidence.weight[:, 13:])


def test_the_axis_is_common_to_all_frames() -> None:
    yaw = torch.zeros(12, 3)
    yaw[:, 1] = torch.linspace(0, 6, 12)
    lean = matrix_from_axis_angle(torch.tensor([0.2, 0.0, 0.0]))
    root = lean @ matrix_from_axis_angle(yaw)
    assert torch.allclose(mean_axis(root), lean[:, 1], atol=1e-6)
    assert off_axis(root).max() < 1e-6
    bent = root.clone()
    bent[3] = bent[3] @ matrix_from_axis_angle(torch.tensor([0.3, 0.0, 0.0]))
    assert off_axis(bent).argmax() == 3


def test_turning_says_nothing_where_the_detector_was_not_measured() -> None:
    assert all(len(part) == 0 for part in depth_shares("mmpose", 133))
    assert len(depth_shares("mediapipe", 17)[0]) == 4  # no toes or heels among the first 17
