"""Joints of zero length that turn against each other move nothing: the motion is that of the skeleton without them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fakes.stick_figure import stick_figure
from scipy.spatial.transform import Rotation

from avatars.body import Body, load_body
from avatars.motion_formats import load_motion
from avatars.motion_formats.bvh import Bvh, euler_zxy, write_bvh

TURNS = ("Zrotation", "Xrotation", "Yrotation")


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def moving() -> Bvh:
    """The stick figure with every joint swaying a little, each in its own way."""
    figure = stick_figure()
    frames = 24
    values = np.repeat(figure.values[:1], frames, 0)
    rng = np.random.default_rng(3)
    columns = values.shape[1] - 3
    phase = np.linspace(0, 5, frames)[:, None] + rng.uniform(0, 6, columns)
    values[:, 3:] += rng.uniform(2, 10, columns) * np.sin(phase)
    return replace(figure, values=values, fps=Fraction(30))


def split(bvh: Bvh, name: str, *, per_child: bool, degrees: float) -> Bvh:
    """`name` turns by `degrees` more about changing axes; joints of zero length between it and its children take that
    back: one for all of them, or one for each."""
    local, _ = bvh.local_pose()
    joint = bvh.names.index(name)
    phase = np.linspace(0, 3, len(bvh))
    axes = np.stack([np.cos(phase), np.sin(phase), 0.5 * np.ones_like(phase)], 1)
    extra = Rotation.from_rotvec(np.deg2rad(degrees) * axes / np.linalg.norm(axes, axis=1, keepdims=True)).as_matrix()
    below = [i for i, parent in enumerate(bvh.parents) if parent == joint]
    groups = [[i] for i in below] if per_child else [below]
    rows = [(bvh.names[i], bvh.parents[i], bvh.offsets[i], bvh.channels[i], local[:, i]) for i in range(len(bvh.names))]
    rows[joint] = (*rows[joint][:4], local[:, joint] @ extra)
    for k, group in enumerate(groups):
        number = len(rows)
        rows.append((f"{name}Buffer{k}", joint, np.zeros(3), TURNS, np.swapaxes(extra, 1, 2)))
        for child in group:
            rows[child] = (rows[child][0], number, *rows[child][2:])
    return in_tree_order(bvh, rows)


def in_tree_order(bvh: Bvh, rows: list) -> Bvh:
    """The rows (name, parent, offset, channels, local rotations) as a skeleton whose joints follow their parents."""
    order, stack = [], [0]
    while stack:
        joint = stack.pop()
        order.append(joint)
        stack += reversed([i for i, row in enumerate(rows) if row[1] == joint])
    rank = {joint: i for i, joint in enumerate(order)}
    turned = [euler_zxy(rows[joint][4]) for joint in order]
    return Bvh(
        names=tuple(rows[joint][0] for joint in order),
        parents=tuple(rank.get(rows[joint][1], -1) for joint in order),
        offsets=np.array([rows[joint][2] for joint in order]),
        channels=tuple(rows[joint][3] for joint in order),
        values=np.concatenate([bvh.values[:, :3], *turned], 1),
        fps=bvh.fps,
    )


def joints_of(bvh: Bvh, body: Body, path: Path) -> np.ndarray:
    motion = load_motion(write_bvh(bvh, path), body, place=False)
    return body.pose(motion.poses, motion.betas, motion.transl).joints[:, :22].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [30.0, 90.0, 170.0])
@pytest.mark.parametrize("per_child", [False, True], ids=["one for all", "one each"])
@pytest.mark.parametrize(
    "name",
    ["Hips", "Spine", "Spine1", "Neck", "LeftUpLeg", "RightLeg", "LeftFoot", "LeftShoulder", "RightArm", "LeftForeArm"],
)
def test_a_turn_that_is_taken_back_at_the_same_place_moves_nothing(
    body: Body, tmp_path: Path, name: str, per_child: bool, degrees: float
) -> None:
    plain = moving()
    wanted = joints_of(plain, body, tmp_path / "plain.bvh")
    found = joints_of(split(plain, name, per_child=per_child, degrees=degrees), body, tmp_path / "split.bvh")
    assert np.abs(found - wanted).max() < 2e-3


def test_all_joints_split_at_once_move_nothing(body: Body, tmp_path: Path) -> None:
    plain = moving()
    turned = plain
    for name in ("Hips", "Spine1", "Neck", "LeftUpLeg", "LeftLeg", "RightArm", "RightShoulder"):
        turned = split(turned, name, per_child=False, degrees=75.0)
    off = joints_of(turned, body, tmp_path / "split.bvh") - joints_of(plain, body, tmp_path / "plain.bvh")
    assert np.abs(off).max() < 2e-3


def test_a_collar_without_length_does_not_move_the_shoulder(body: Body, tmp_path: Path) -> None:
    figure = moving()
    arm = figure.names.index("LeftArm")
    offsets = figure.offsets.copy()
    offsets[arm - 1] += offsets[arm]
    offsets[arm] = 0.0
    plain = replace(figure, offsets=offsets)
    still, shrugged = plain.values.copy(), plain.values.copy()
    collar, shoulder = (slice(3 + 3 * joint, 6 + 3 * joint) for joint in (arm - 1, arm))
    local, _ = plain.local_pose()
    still[:, collar] = 0.0
    still[:, shoulder] = euler_zxy(local[:, arm - 1] @ local[:, arm])
    shrugged[:, collar] = [40.0, 0.0, 20.0]
    turn = replace(plain, values=shrugged).local_pose()[0][:, arm - 1]
    shrugged[:, shoulder] = euler_zxy(np.swapaxes(turn, 1, 2) @ local[:, arm - 1] @ local[:, arm])
    wanted = joints_of(replace(plain, values=still), body, tmp_path / "a.bvh")
    found = joints_of(replace(plain, values=shrugged), body, tmp_path / "b.bvh")
    assert np.abs(found - wanted).max() < 2e-3
