"""People lie, stand and stand on their hands as they did, whatever axis of the file's world points up."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.stick_figure import stick_figure

from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.geometry.rotations import axis_angle_from_matrix
from avatars.motion_formats import load_motion
from avatars.motion_formats.bvh import Bvh, axis_rotation, euler_zxy, write_bvh
from avatars.motion_formats.gravity import rotation_to_y_up

FRAMES = 40
AXES = ("+y", "-y", "+z", "-z", "+x", "-x")
LYING = axis_rotation(0, np.array(90.0))
HANDSTAND = axis_rotation(2, np.array(180.0))


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def trunk_up(path: Path, body: Body, **options) -> float:
    """The mean vertical part of the direction from hips to neck; 1 for who stands."""
    motion = load_motion(path, body, **options)
    joints = body.pose(motion.poses, motion.betas, motion.transl).joints
    trunk = torch.nn.functional.normalize(joints[:, JOINT_NAMES.index("neck")] - joints[:, 0], dim=-1)
    return float(trunk[:, 1].mean())


def bvh_in(world: str, turn: np.ndarray, hips_m: float, *, way_m: float = 0.0) -> Bvh:
    """The stick figure, offsets +Y up, whose root is turned in a world with another axis up; its left arm swings."""
    figure = stick_figure()
    R = rotation_to_y_up(world).T
    values = np.repeat(figure.values[:1], FRAMES, 0)
    along = np.linspace(0, way_m, FRAMES)
    bob = 0.03 * np.sin(np.linspace(0, 12, FRAMES))
    values[:, :3] = 100 * np.stack([0 * along, hips_m + bob, along], 1) @ R.T
    values[:, 3:6] = euler_zxy(np.broadcast_to(R @ turn, (FRAMES, 3, 3)))
    values[:, 3 + 3 * 14] += 20 * np.sin(np.linspace(0, 6, FRAMES))
    turns = ("Zrotation", "Xrotation", "Yrotation")
    channels = tuple((*c[:3], *turns) if len(c) == 6 else turns for c in figure.channels)
    return replace(figure, values=values, channels=channels, fps=Fraction(30))


@pytest.mark.parametrize("world", AXES)
@pytest.mark.parametrize("way_m", [0.0, 3.0])
def test_a_skeleton_with_y_up_offsets_stands_in_any_world(body: Body, tmp_path: Path, world: str, way_m: float) -> None:
    path = write_bvh(bvh_in(world, np.eye(3), 0.95, way_m=way_m), tmp_path / "a.bvh")
    assert trunk_up(path, body) > 0.9


@pytest.mark.parametrize(
    "turn",
    [LYING, LYING.T, axis_rotation(2, np.array(90.0)), axis_rotation(1, np.array(90.0)) @ LYING],
    ids=["prone", "supine", "on the side", "prone, across"],
)
def test_who_lies_in_a_bvh_stays_lying(body: Body, tmp_path: Path, turn: np.ndarray) -> None:
    path = write_bvh(bvh_in("+y", turn, 0.2), tmp_path / "a.bvh")
    assert abs(trunk_up(path, body)) < 0.3


def test_a_handstand_in_a_bvh_stays_one_and_the_hands_are_on_the_ground(body: Body, tmp_path: Path) -> None:
    path = write_bvh(bvh_in("+y", HANDSTAND, 0.75), tmp_path / "a.bvh")
    assert trunk_up(path, body) < -0.9
    motion = load_motion(path, body)
    lowest = body.pose(motion.poses, motion.betas, motion.transl).vertices()[..., 1].amin(1)
    assert abs(float(lowest.median())) < 0.1


@pytest.mark.parametrize("world", AXES)
def test_the_user_can_say_which_axis_is_up(body: Body, tmp_path: Path, world: str) -> None:
    path = write_bvh(bvh_in(world, LYING, 0.2), tmp_path / "a.bvh")
    assert abs(trunk_up(path, body, up=world)) < 0.1


def smpl(turn: np.ndarray, world: str, hips_m: float, body: Body) -> tuple[np.ndarray, np.ndarray]:
    """Poses (frames, 66) and translations of a body that is turned so, in a world with this axis up."""
    R = torch.from_numpy(rotation_to_y_up(world).T)
    poses = torch.zeros(FRAMES, 22, 3)
    poses[:, JOINT_NAMES.index("left_elbow"), 1] = -torch.linspace(0, 1, FRAMES)
    poses[:, 0] = axis_angle_from_matrix(R @ torch.from_numpy(np.ascontiguousarray(turn))[None]).float()
    pelvis = body.shaped(torch.zeros(body.n_betas))[1][0].double()
    height = hips_m + 0.03 * torch.sin(torch.linspace(0, 12, FRAMES).double())
    transl = torch.stack([0 * height, height, 0 * height], 1) @ R.T - pelvis
    return poses.reshape(FRAMES, 66).numpy(), transl.numpy()


def written(kind: str, poses: np.ndarray, transl: np.ndarray, folder: Path) -> Path:
    path = folder / f"{kind}.{'pt' if kind == 'gvhmr' else 'npz'}"
    if kind == "gvhmr":
        world = {"global_orient": poses[:, :3], "body_pose": poses[:, 3:], "transl": transl}
        torch.save({"smpl_params_global": {k: torch.from_numpy(v).float() for k, v in world.items()}}, path)
    elif kind == "wham":
        np.savez(path, pose_world=np.pad(poses, ((0, 0), (0, 6))), trans_world=transl)
    elif kind == "camera":
        np.savez(path, global_orient=poses[:, :3], body_pose=poses[:, 3:], camera=transl)
    elif kind == "smplx":
        np.savez(path, global_orient=poses[:, :3], body_pose=poses[:, 3:], transl=transl)
    else:
        np.savez(path, poses=poses, trans=transl, mocap_frame_rate=30.0)
    return path


def heading(degrees: float) -> np.ndarray:
    return axis_rotation(1, np.array(degrees))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gvhmr", "wham", "amass", "camera"])
@pytest.mark.parametrize(
    ("turn", "hips_m", "wanted"), [(np.eye(3), 0.95, 1.0), (LYING, 0.25, 0.0), (HANDSTAND, 0.9, -1.0)],
    ids=["standing", "push-up", "handstand"],
)  # fmt: skip
@pytest.mark.parametrize("degrees", [0.0, 90.0, 180.0, 270.0])
def test_a_format_that_states_its_up_is_believed(
    body: Body, tmp_path: Path, kind: str, turn: np.ndarray, hips_m: float, wanted: float, degrees: float
) -> None:
    world = {"amass": "+z", "camera": "-y"}.get(kind, "+y")
    path = written(kind, *smpl(heading(degrees) @ turn, world, hips_m, body), tmp_path)
    assert trunk_up(path, body) == pytest.approx(wanted, abs=0.2)


def test_amass_files_of_a_y_up_world_stand_where_gravity_tells(body: Body, tmp_path: Path) -> None:
    path = written("amass", *smpl(np.eye(3), "+y", 0.95, body), tmp_path)
    assert trunk_up(path, body) > 0.9
    assert abs(trunk_up(path, body, up="+z")) < 0.2


@pytest.mark.parametrize("world", ["+y", "-y", "+z"])
def test_results_that_state_nothing_stand_up_as_before(body: Body, tmp_path: Path, world: str) -> None:
    assert trunk_up(written("smplx", *smpl(np.eye(3), world, 0.95, body), tmp_path), body) > 0.9


def test_a_push_up_in_results_that_state_nothing_lies(body: Body, tmp_path: Path) -> None:
    assert abs(trunk_up(written("smplx", *smpl(LYING, "+y", 0.25, body), tmp_path), body)) < 0.2
