"""How far the picture moves when joints turn, and steps of the pose that move it evenly."""

from __future__ import annotations

import pytest
import torch
from fakes.fake_turn import BETAS

from avatars.avatar.binding import spread_over
from avatars.avatar.rig import Rig
from avatars.body import Body, PosedBody, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import JAW
from avatars.body.pose_prior import PosePrior
from avatars.fitting.image_motion import FINGERS, POINTS, ImageMotion, gauss_newton_step
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import matrix_from_axis_angle, right_jacobian

FOCAL_PX, DISTANCE_M = 600.0, 3.0


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def rig(body: Body) -> Rig:
    return Rig.build(body, spread_over(body, body.shaped(BETAS)[0], 1200), BETAS)


@pytest.fixture(scope="module")
def camera() -> Camera:
    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    T[2, 3] = DISTANCE_M
    return Camera(torch.tensor([[FOCAL_PX, 0, 128], [0, FOCAL_PX, 128], [0, 0, 1.0]]), T, (256, 256))


def poses(frames: int = 2) -> torch.Tensor:
    return 0.4 * torch.randn(frames, 55, 3, generator=torch.Generator().manual_seed(1))


def seen_mm(rig: Rig, camera: Camera, posed: PosedBody) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points on the surface are seen, and the millimeters that a pixel is at their distance."""
    points = rig.pose(posed, torch.zeros_like(rig.surface), torch.tensor([[1.0, 0, 0, 0]]).expand(len(rig.surface), 4))
    chosen = torch.linspace(0, len(rig.surface) - 1, POINTS).round().long()
    means = points.means[:, chosen]
    depth = (means @ camera.T_cam_world[:3, :3].T + camera.T_cam_world[:3, 3])[..., 2]
    return camera.project(means), 1000 * depth / FOCAL_PX


def along(moves: ImageMotion, column: int) -> torch.Tensor:
    """Motion of the points, (frames, points, 2), per unit of one of the coupled numbers."""
    return moves.coupled[..., column].unflatten(1, (POINTS, 2))


@pytest.mark.parametrize(
    "joint", ["pelvis", "spine2", "left_hip", "right_knee", "left_shoulder", "right_elbow", "head"]
)
def test_the_picture_moves_as_it_does_when_a_joint_is_turned(body: Body, rig: Rig, camera: Camera, joint: str) -> None:
    pose, j, e = poses(), JOINT_NAMES.index(joint), 2e-3
    moves = ImageMotion.of(rig, torch.zeros_like(rig.surface), body.pose(pose, BETAS), camera)
    for axis in range(3):
        turn = torch.zeros_like(pose)
        turn[:, j, axis] = e
        (after, mm), (before, _) = (seen_mm(rig, camera, body.pose(pose + s * turn, BETAS)) for s in (1, -1))
        expected = (after - before) / (2 * e) * mm[..., None]
        off = (along(moves, 3 * j + axis) - expected).square().mean().sqrt()
        assert off < 0.05 * expected.square().mean().sqrt()  # what a joint takes along is blended in part


def test_the_picture_moves_with_the_body(body: Body, rig: Rig, camera: Camera) -> None:
    pose, step = poses(), torch.tensor([0.002, -0.001, 0.003])
    moves = ImageMotion.of(rig, torch.zeros_like(rig.surface), body.pose(pose, BETAS), camera)
    transl = torch.zeros(2, 3)
    (after, mm), (before, _) = (seen_mm(rig, camera, body.pose(pose, BETAS, transl + s * step)) for s in (1, -1))
    expected = (after - before) / 2 * mm[..., None]
    assert float((moves.coupled[..., -3:].unflatten(1, (POINTS, 2)) @ step - expected).abs().max()) < 0.02


def test_an_even_step_is_as_long_in_the_picture_as_it_says(body: Body, rig: Rig, camera: Camera) -> None:
    """What is left of it beside stiffness: a gradient that asks the root alone to turn is met nearly in full."""
    moves = ImageMotion.of(rig, torch.zeros_like(rig.surface), body.pose(poses(), BETAS), camera)
    sway = moves.coupled[..., 2]  # the picture turns about the root's third axis
    asked = (sway[:, None] @ moves.coupled)[:, 0] / POINTS
    gradient = torch.cat([asked[:, :-3], torch.zeros(2, 33 * 3), asked[:, -3:]], 1)
    step, length = moves.gauss_newton_step(gradient)
    moved = moves.coupled @ torch.cat([step[:, :66], step[:, -3:]], 1)[..., None]
    assert float((moved[..., 0] - sway).norm() / sway.norm()) < 0.1
    assert torch.allclose(length.sqrt(), sway.square().sum(1).div(POINTS).sqrt(), rtol=0.1)


def test_fingers_move_the_picture_like_any_joint(body: Body, rig: Rig, camera: Camera) -> None:
    pose, j, e = poses(), JOINT_NAMES.index("left_index1"), 2e-3
    moves = ImageMotion.of(rig, torch.zeros_like(rig.surface), body.pose(pose, BETAS), camera)
    turn = torch.zeros_like(pose)
    turn[:, j, 2] = e
    (after, mm), (before, _) = (seen_mm(rig, camera, body.pose(pose + s * turn, BETAS)) for s in (1, -1))
    expected = ((after - before) / (2 * e) * mm[..., None]).flatten(1)
    off = moves.fingers[..., 3 * (j - FINGERS.start) + 2] - expected
    assert float(off.norm()) < 0.1 * float(expected.norm())


def test_steps_are_linear_in_the_gradient_and_leave_the_face(body: Body, rig: Rig, camera: Camera) -> None:
    """Doubling all gradients doubles the step, whose length doubles squared; jaw and eyes never move."""
    moves = ImageMotion.of(rig, torch.zeros_like(rig.surface), body.pose(poses(), BETAS), camera)
    gradient = torch.randn(2, 168, generator=torch.Generator().manual_seed(0))
    (step, length), (double, longer) = moves.gauss_newton_step(gradient), moves.gauss_newton_step(2 * gradient)
    assert torch.allclose(double, 2 * step, rtol=1e-4) and torch.allclose(longer, 4 * length, rtol=1e-4)
    assert not step.view(2, 56, 3)[:, JAW : JAW + 3].any()
    assert bool((length > 0).all())


@pytest.mark.parametrize(("joint", "row"), [("left_elbow", 2), ("right_knee", 1)])
def test_steps_bend_a_hinge_and_do_not_break_it(body: Body, rig: Rig, camera: Camera, joint: str, row: int) -> None:
    """A forearm or shank that is asked to leave the plane of its joint moves an eighth as far as one asked to bend."""
    j, pose = JOINT_NAMES.index(joint), poses()
    pose[:, j] = torch.tensor([0.3, -1.2, 0.2]) if joint == "left_elbow" else torch.tensor([1.2, 0.1, 0.05])
    pose.requires_grad_()
    off = PosePrior.human().off_hinge(pose)[:, row]
    bend = pose[:, j, 1] if joint == "left_elbow" else pose[:, j, 0]
    moves = ImageMotion.of(rig, torch.zeros_like(rig.surface), body.pose(pose.detach(), BETAS), camera)
    moved = []
    for value in (off, bend):
        (asked,) = torch.autograd.grad(value.sum(), pose, retain_graph=True)
        step, _ = moves.gauss_newton_step(torch.nn.functional.pad(asked.flatten(1), (0, 3)))
        moved.append((step[:, :-3] * asked.flatten(1)).sum(1) / asked.flatten(1).square().sum(1))
    assert bool((moved[0] < moved[1] / 8).all())


def test_the_right_jacobian_is_that_of_the_exponential_map() -> None:
    g = torch.Generator().manual_seed(0)
    turn = torch.randn(200, 3, generator=g, dtype=torch.double)
    turn[:20] *= 1e-5
    step = 1e-5 * torch.randn(200, 3, generator=g, dtype=torch.double)
    own = (right_jacobian(turn) @ step[..., None])[..., 0]
    expected = matrix_from_axis_angle(turn) @ matrix_from_axis_angle(own)
    assert float((matrix_from_axis_angle(turn + step) - expected).abs().max()) < 1e-9


@pytest.mark.parametrize("cameras", [1, 2])
def test_even_steps_in_cpp_are_those_of_the_definition(body: Body, rig: Rig, camera: Camera, cameras: int) -> None:
    g = torch.Generator().manual_seed(2)
    offsets, gradient = 0.01 * torch.randn(rig.surface.shape, generator=g), torch.randn(2, 168, generator=g)
    T = camera.T_cam_world.expand(cameras, 4, 4).clone()
    T[0, 0, 3] = 0.2
    posed, moved = body.pose(poses(), BETAS), Camera(camera.K.expand(cameras, 3, 3), T, camera.size_hw)
    step, length = gauss_newton_step(rig, offsets, posed, moved, gradient)
    expected, expected_length = ImageMotion.of(rig, offsets, posed, moved).gauss_newton_step(gradient)
    assert torch.allclose(step, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert torch.allclose(length, expected_length, rtol=1e-4)
