"""Motions in and out: round trips within 1 mm and 0.1 degree, real files the right way up, bad files in one line."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.stick_figure import stick_figure

from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.motion_formats import load_motion, save_motion
from avatars.motion_formats.amass import load_amass, save_amass
from avatars.motion_formats.bvh import Bvh, axis_rotation, euler_zxy, frame_rate, read_bvh, write_bvh
from avatars.motion_formats.exavatar import load_exavatar_clip, save_exavatar
from avatars.motion_formats.ground import grounded, lowest_sole_m, turned
from avatars.motion_formats.smpl_results import load_smpl_results
from avatars.perception.containers import LEFT_HAND
from avatars.perception.keypoints_json import load_keypoints_json

INDEX = {name: i for i, name in enumerate(JOINT_NAMES)}


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def motion(body: Body) -> Motion:
    """Three seconds of every joint turning by some 40 degrees, walking off, on the ground; shape and face too."""
    generator = torch.Generator().manual_seed(4)
    frames = 75
    phase = torch.linspace(0, 6, frames)[:, None, None]
    poses = (
        0.4 * torch.randn(1, 55, 3, generator=generator) * torch.sin(phase + torch.randn(1, 55, 3, generator=generator))
    )
    made = Motion(
        poses=poses,
        transl=torch.cumsum(0.02 * torch.randn(frames, 3, generator=generator), 0) + torch.tensor([0.5, 1.0, -2.0]),
        betas=0.7 * torch.randn(body.n_betas, generator=generator),
        expression=0.5 * torch.randn(frames, body.n_expression, generator=generator),
        times_s=torch.arange(frames, dtype=torch.float64) / 25,
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
        name="made",
    )
    return grounded(made, body)


def assert_same(found: Motion, wanted: Motion, body: Body) -> None:
    """Joints within 1 mm and rotations within 0.1 degree."""
    assert len(found) == len(wanted)
    a, b = body.pose(found.poses, found.betas, found.transl), body.pose(wanted.poses, wanted.betas, wanted.transl)
    assert float((a.joints - b.joints).norm(dim=-1).max()) < 1e-3
    step = matrix_from_axis_angle(found.poses.double()).mT @ matrix_from_axis_angle(wanted.poses.double())
    assert float(axis_angle_from_matrix(step).norm(dim=-1).rad2deg().max()) < 0.1
    assert torch.allclose(found.times_s, wanted.times_s, atol=1e-9)
    assert torch.equal(found.valid, wanted.valid)


# Round trips


def test_bvh_round_trip_is_exact_and_returns_the_shape(motion: Motion, body: Body, tmp_path: Path) -> None:
    found = load_motion(save_motion(motion, tmp_path / "a.bvh", body), body)
    assert_same(found, motion, body)
    assert float((body.shaped(found.betas)[1] - body.shaped(motion.betas)[1]).abs().max()) < 1e-4


@pytest.mark.parametrize("up_axis", ["Y", "Z"])
def test_amass_round_trip_is_exact(motion: Motion, body: Body, tmp_path: Path, up_axis) -> None:
    path = save_amass(motion, tmp_path / "a.npz", body, up_axis=up_axis)
    found = load_amass(path, body)
    assert_same(found, motion, body)
    assert torch.allclose(found.expression, motion.expression) and torch.allclose(found.betas, motion.betas)


def test_amass_export_is_z_up_with_the_standard_keys(motion: Motion, body: Body, tmp_path: Path) -> None:
    with np.load(save_motion(motion, tmp_path / "a.npz", body, amass=True)) as data:
        assert {"poses", "trans", "betas", "gender", "mocap_frame_rate", "surface_model_type"} <= set(data.files)
        assert data["poses"].shape == (75, 165)
        height = data["trans"][:, 2] + float(body.shaped(motion.betas)[1][0, 2])
    pelvis_y = body.pose(motion.poses, motion.betas, motion.transl).joints[:, 0, 1].numpy()
    assert np.ptp(height - pelvis_y) < 1e-5  # the pelvis rises along z as it did along y


def test_exavatar_round_trip_is_exact_with_gaps_and_camera(motion: Motion, body: Body, tmp_path: Path) -> None:
    valid = motion.valid.clone()
    valid[10:13] = False
    gappy = replace(motion, valid=valid)
    folder = save_exavatar(gappy, tmp_path / "clip", body)
    found = load_motion(folder, body)
    assert_same(found[valid], gappy[valid], body)
    assert found.valid.tolist() == valid.tolist()
    assert torch.allclose(found.expression[valid], motion.expression[valid], atol=1e-6)


def test_exavatar_camera_sees_the_same_pixels(motion: Motion, body: Body, tmp_path: Path) -> None:
    from avatars.geometry.camera import Camera

    camera = Camera.looking_at(
        torch.tensor([1.0, 1.5, 4.0]), torch.tensor([0.5, 1.0, -2.0]), focal_px=900.0, size_hw=(720, 1280)
    )
    clip = load_exavatar_clip(save_exavatar(motion, tmp_path / "clip", body, camera=camera), body)
    assert clip.K is not None and clip.T_cam_world is not None
    seen = Camera(clip.K, clip.T_cam_world, camera.size_hw)
    joints = body.pose(motion.poses, motion.betas, motion.transl).joints
    assert float((seen.project(joints) - camera.project(joints)).abs().max()) < 0.05


# BVH


def test_exported_bvh_holds_the_bodys_joints_in_centimeters(motion: Motion, body: Body, tmp_path: Path) -> None:
    written = read_bvh(save_motion(motion, tmp_path / "a.bvh", body))
    _, positions = written.global_pose()
    order = [written.names.index(name) for name in JOINT_NAMES]
    joints = body.pose(motion.poses, motion.betas, motion.transl).joints.numpy()
    assert np.abs(positions[:, order] / 100.0 - joints).max() < 1e-4
    assert written.fps == Fraction(25)


def test_euler_zxy_inverts_even_where_the_axes_lock() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(-180, 180, (200, 3))
    angles[:50, 1] = 90.0
    R = axis_rotation(2, angles[:, 0]) @ axis_rotation(0, angles[:, 1]) @ axis_rotation(1, angles[:, 2])
    z, x, y = euler_zxy(R).T
    assert np.allclose(axis_rotation(2, z) @ axis_rotation(0, x) @ axis_rotation(1, y), R, atol=1e-6)


@pytest.mark.parametrize(
    ("printed", "rate"),
    [
        (".0083333", Fraction(120)),
        ("0.008342", Fraction(120000, 1001)),
        ("0.0333667", Fraction(30000, 1001)),
        (".03333", Fraction(30)),
        ("0.0416667", Fraction(24)),
        ("0.04", Fraction(25)),
        ("0.0666", Fraction(15)),
        ("0.017", Fraction(60)),
        ("0.016", Fraction(60)),
        ("0.0167", Fraction(60)),
        ("0.033", Fraction(30)),
        ("0.03", Fraction(30)),
        ("0.008", Fraction(120)),
        ("0.05", Fraction(20)),
        ("0.1", Fraction(10)),
        ("8.3333e-3", Fraction(120)),
        ("30", Fraction(30)),
        ("60.0", Fraction(60)),
        ("29.97", Fraction(30000, 1001)),
        ("33.3333", Fraction(30)),
        ("33", Fraction(30)),
        ("33.367", Fraction(30000, 1001)),
        ("16.67", Fraction(60)),
        ("8.33", Fraction(120)),
        ("41.667", Fraction(24)),
        ("33333", Fraction(30)),
    ],
)
def test_frame_time_means_the_rate_that_it_can_only_mean(printed: str, rate: Fraction) -> None:
    assert frame_rate(printed, Path("x.bvh")) == rate


@pytest.mark.parametrize(
    "printed", ["20", "10", "50", "100", "1", "0.9", "34", "0.00001", "-0.03", "nan", "0,033", "1e9"]
)
def test_a_frame_time_of_no_or_two_meanings_is_refused(printed: str) -> None:
    with pytest.raises(InputError, match="Frame Time"):
        frame_rate(printed, Path("x.bvh"))


def test_numbers_of_fixed_width_that_touch_are_two(tmp_path: Path) -> None:
    wanted = replace(stick_figure(), values=stick_figure().values - 0.5)
    path = write_bvh(wanted, tmp_path / "a.bvh")
    head, found, rows = path.read_text().partition("Frame Time")
    path.write_text(head + found + rows.replace(" -0.500000", "-0.500000"))
    assert np.allclose(read_bvh(path).values, wanted.values)


@pytest.mark.slow
@pytest.mark.parametrize("up", ["Y", "Z"])
@pytest.mark.parametrize("scale", [1.0, 100.0, 39.37])
@pytest.mark.parametrize("turns", ["ZXY", "XYZ", "YZX"])
def test_stick_figure_bends_alike_in_any_axes_unit_and_channel_order(
    body: Body, tmp_path: Path, up: str, scale: float, turns: str
) -> None:
    found = load_motion(write_bvh(stick_figure(up=up, scale=scale, turns=turns), tmp_path / "a.bvh"), body)
    joints = body.pose(found.poses, found.betas, found.transl).joints[0]
    hip, knee, ankle = (joints[INDEX[f"left_{name}"]] for name in ("hip", "knee", "ankle"))
    thigh, shin = (torch.nn.functional.normalize(bone, dim=0) for bone in (knee - hip, ankle - knee))
    assert float(torch.acos(thigh @ shin).rad2deg()) == pytest.approx(60, abs=1) and float(shin[2]) < -0.8  # backwards
    arm = joints[INDEX["left_elbow"]] - joints[INDEX["left_shoulder"]]
    assert float(torch.atan2(-arm[1], arm[0]).rad2deg()) == pytest.approx(50, abs=1)
    assert float(joints[INDEX["head"], 1]) > float(joints[0, 1]) + 0.3
    assert abs(float(lowest_sole_m(found, body).min())) < 0.005
    assert float((joints[0] * torch.tensor([1.0, 0, 1.0])).norm()) < 1e-3 and found.fps == pytest.approx(30)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"mixamorig:{name}",
        lambda name: {"LeftUpLeg": "thigh_l", "LeftLeg": "calf_l", "LeftFoot": "foot_l", "LeftToeBase": "ball_l"}.get(
            name, name
        ),
        lambda name: {"LeftShoulder": "LeftCollar", "LeftArm": "LeftShoulder", "LeftForeArm": "LeftElbow"}.get(
            name, name
        ),
        lambda name: (
            name.replace("Left", "l").replace("Right", "r").replace("Arm", "Shldr").replace("ForeShldr", "ForeArm")
        ),
    ],
    ids=["mixamo", "unreal", "xsens", "daz"],
)
def test_other_rigs_names_are_understood(body: Body, tmp_path: Path, rename) -> None:
    plain = stick_figure()
    names = {name: rename(name) for name in plain.names}
    found = load_motion(write_bvh(stick_figure(names=names), tmp_path / "b.bvh"), body)
    wanted = load_motion(write_bvh(plain, tmp_path / "a.bvh"), body)
    assert torch.allclose(found.poses, wanted.poses, atol=1e-5)


def rerigged(bvh: Bvh, rng: np.random.Generator) -> Bvh:
    """The same movement by a rig whose joint frames are turned by quarter turns, each at random: its zero pose is no
    pose of a person."""
    turns = ("Zrotation", "Xrotation", "Yrotation")
    quarter = [axis_rotation(int(a), np.array(90.0 * k)) for a, k in rng.integers(0, 4, (len(bvh.names), 2)) % [3, 4]]
    local, _ = bvh.local_pose()
    channels, values = [], [bvh.values[:, :3]]
    offsets = bvh.offsets.copy()
    for joint, parent in enumerate(bvh.parents):
        undo = np.eye(3) if parent < 0 else quarter[parent].T
        offsets[joint] = undo @ offsets[joint]
        if not bvh.channels[joint]:
            channels.append(())
            continue
        channels.append(turns if parent >= 0 else (*bvh.channels[0][:3], *turns))
        values.append(euler_zxy(undo @ local[:, joint] @ quarter[joint]))
    return replace(bvh, offsets=offsets, channels=tuple(channels), values=np.concatenate(values, 1))


@pytest.mark.parametrize("name", ["walking_1", "basketball_1", "washwindow_1"])
def test_a_rig_without_a_t_pose_is_read_off_its_movement(
    shared_data: Path, body: Body, tmp_path: Path, name: str
) -> None:
    path = shared_data / "motions" / "cmu" / f"{name}.bvh"
    plain = read_bvh(path)
    plain = replace(plain, values=plain.values[1:])  # without the T-pose
    wanted = load_motion(write_bvh(plain, tmp_path / "plain.bvh"), body, place=False)
    found = load_motion(write_bvh(rerigged(plain, np.random.default_rng(0)), tmp_path / "b.bvh"), body, place=False)
    a, b = (body.pose(m.poses, m.betas, m.transl).joints[:, :22] for m in (found, wanted))
    assert float((a - b).norm(dim=-1).mean()) < 0.02
    turn = matrix_from_axis_angle(found.poses[:, :22]).mT @ matrix_from_axis_angle(wanted.poses[:, :22])
    assert float(axis_angle_from_matrix(turn).norm(dim=-1).rad2deg().mean()) < 12.0


# name, frames, frames per second
REAL = [
    ("cmu_01_01", 2752, 120.0),
    ("wave_hello", 839, 120000 / 1001),
    ("zombie", 779, 30.0),
    ("jumping_jacks", 125, 30.0),
    ("jesse_dance", 1007, 100.0),
    ("cmu/walking_1", 89, 30.0),
    ("cmu/jumping_2", 103, 30.0),
    ("cmu/washwindow_1", 599, 30.0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames", "fps"), REAL)
def test_real_files_stand_upright_with_natural_knees(
    shared_data: Path, body: Body, name: str, frames: int, fps: float
) -> None:
    path = shared_data / "motions" / f"{name}.bvh"
    found = load_motion(path, body)
    assert len(found) in (frames, frames - 1) and found.fps == pytest.approx(fps, rel=1e-6)
    posed = body.pose(found.poses, found.betas, found.transl)
    joints = posed.joints
    up = torch.nn.functional.normalize(joints[:, INDEX["head"]] - joints[:, 0], dim=-1)[:, 1]
    assert float(up.median()) > 0.9
    for side in ("left", "right"):
        knee = found.poses[:, INDEX[f"{side}_knee"], 0].rad2deg()
        assert float(knee.quantile(0.01)) > -20.0  # bends back, never forward
        toes = joints[:, INDEX[f"{side}_foot"]] - joints[:, INDEX[f"{side}_ankle"]]
        forward = matrix_from_axis_angle(found.poses[:, 0])[:, :, 2]
        assert float((toes * forward).sum(-1).median()) > 0.05  # feet point where the pelvis does
    lowest = lowest_sole_m(found, body)
    assert float(lowest.quantile(0.05)) > -0.06 and float(lowest.quantile(0.3)) < 0.07
    assert float(matrix_from_axis_angle(found.poses[0, 0])[2, 2]) > 0.8  # begins facing +Z


def test_walking_feet_stay_put_while_they_carry(shared_data: Path, body: Body) -> None:
    found = load_motion(shared_data / "motions" / "cmu" / "walking_1.bvh", body)
    ankles = body.pose(found.poses, found.betas, found.transl).joints[:, [INDEX["left_foot"], INDEX["right_foot"]]]
    speed = (ankles[1:] - ankles[:-1])[..., [0, 2]].norm(dim=-1) * 30.0
    hips = (found.transl[-1] - found.transl[0]).norm() / (found.times_s[-1] - found.times_s[0])
    assert float(hips) > 0.8 and float(speed.amin(1).median()) < 0.15 * float(hips)


def test_a_floor_out_of_level_is_leveled(motion: Motion, body: Body) -> None:
    from avatars.motion_formats.ground import leveled

    generator = torch.Generator().manual_seed(0)
    frames = 100
    still = Motion(
        poses=torch.zeros(frames, 55, 3),
        transl=torch.stack([torch.linspace(0, 4, frames), torch.zeros(frames), torch.linspace(0, 2, frames)], 1)
        + torch.randn(frames, 3, generator=generator) * torch.tensor([0.0, 0.002, 0.0]),
        betas=torch.zeros(body.n_betas),
        expression=torch.zeros(frames, body.n_expression),
        times_s=torch.arange(frames, dtype=torch.float64) / 30,
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
    )
    tilt = matrix_from_axis_angle(torch.tensor([1.5, 0.0, -0.9]).deg2rad())
    sloping = turned(still, body, tilt, about=torch.zeros(3))
    assert float(lowest_sole_m(sloping, body).std()) > 0.02
    flat = lowest_sole_m(leveled(sloping, body), body)
    assert float(flat.std()) < 0.006
    steep = turned(still, body, matrix_from_axis_angle(torch.tensor([0.0, 0.0, 0.15])), about=torch.zeros(3))
    assert torch.equal(leveled(steep, body).transl, steep.transl)  # a ramp, not an error of calibration


def test_a_flight_longer_than_any_jump_is_warned_of(standing: Motion, body: Body, caplog) -> None:
    lift = torch.zeros(len(standing), 3)
    lift[2:19, 1] = 0.6
    slow = replace(standing, transl=standing.transl + lift, times_s=standing.times_s * 2)
    grounded(slow, body)
    assert "2-18" in caplog.text


def test_bvh_of_a_real_motion_reads_back(shared_data: Path, body: Body, tmp_path: Path) -> None:
    wanted = load_motion(shared_data / "motions" / "jumping_jacks.bvh", body)
    assert_same(load_motion(save_motion(wanted, tmp_path / "a.bvh", body), body), wanted, body)


# Results of other programs


@pytest.fixture
def standing(body: Body) -> Motion:
    """A person who stands facing +Z with one arm half raised, over the origin, on the ground."""
    frames = 20
    poses = torch.zeros(frames, 55, 3)
    poses[:, INDEX["left_shoulder"], 2] = torch.linspace(-1.0, 0.5, frames)
    still = Motion(
        poses=poses,
        transl=torch.zeros(frames, 3),
        betas=torch.zeros(body.n_betas),
        expression=torch.zeros(frames, body.n_expression),
        times_s=torch.arange(frames, dtype=torch.float64) / 30,
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
    )
    pelvis = body.shaped(still.betas)[1][0]
    return grounded(replace(still, transl=-(pelvis * torch.tensor([1.0, 0, 1.0])).expand(frames, 3)), body)


def assert_same_body_pose(found: Motion, wanted: Motion, body: Body) -> None:
    body_joints = slice(0, 22)
    assert torch.allclose(found.poses[:, body_joints], wanted.poses[:, body_joints], atol=2e-3)
    a = body.pose(found.poses, found.betas, found.transl).joints[:, body_joints]
    b = body.pose(wanted.poses, wanted.betas, wanted.transl).joints[:, body_joints]
    assert float((a - b).norm(dim=-1).max()) < 2e-3


def test_amass_without_up_axis_is_taken_as_z_up(standing: Motion, body: Body, tmp_path: Path) -> None:
    zup = turned(standing, body, torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), about=torch.zeros(3))
    smplh = torch.cat([zup.poses[:, :22], zup.poses[:, 25:]], 1).reshape(len(zup), 156)
    np.savez(
        tmp_path / "h.npz", poses=smplh.numpy(), trans=zup.transl.numpy(), betas=np.ones(16), mocap_framerate=120.0
    )
    found = load_motion(tmp_path / "h.npz", body)
    assert_same_body_pose(found, standing, body)
    assert found.fps == pytest.approx(120) and not bool(found.betas.any())


def test_gvhmr_file_is_read_without_unpickling(standing: Motion, body: Body, tmp_path: Path) -> None:
    flat = standing.poses.reshape(len(standing), -1)
    world = {"global_orient": flat[:, :3], "body_pose": flat[:, 3:66], "transl": standing.transl + 1.0}
    world["betas"] = torch.ones(len(standing), 10)
    torch.save({"smpl_params_global": world, "K_fullimg": torch.eye(3)}, tmp_path / "hmr4d_results.pt")
    assert_same_body_pose(load_motion(tmp_path / "hmr4d_results.pt", body, fps=30), standing, body)


def test_wham_frames_that_are_skipped_are_invalid(standing: Motion, body: Body, tmp_path: Path) -> None:
    pose = torch.cat([standing.poses[:, :22], torch.ones(len(standing), 2, 3)], 1).reshape(len(standing), 72)
    ids = np.array([*range(10), *range(15, 25)])
    np.savez(tmp_path / "w.npz", pose_world=pose.numpy(), trans_world=standing.transl.numpy(), frame_ids=ids)
    found = load_motion(tmp_path / "w.npz", body)
    assert len(found) == 25 and torch.where(~found.valid)[0].tolist() == [10, 11, 12, 13, 14]
    assert_same_body_pose(found[found.valid], standing, body)


def test_4d_humans_matrices_in_the_camera_come_upright(standing: Motion, body: Body, tmp_path: Path) -> None:
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    matrices = matrix_from_axis_angle(standing.poses)
    body_pose = torch.cat([matrices[:, 1:22], torch.eye(3).expand(len(standing), 2, 3, 3)], 1)
    camera = (standing.transl * torch.tensor([1.0, -1, -1])) + torch.tensor([0.0, 0.2, 5.0])
    np.savez(
        tmp_path / "p.npz",
        global_orient=(flip @ matrices[:, :1]).numpy(),
        body_pose=body_pose.numpy(),
        camera=camera.numpy(),
    )
    assert_same_body_pose(load_motion(tmp_path / "p.npz", body), standing, body)


def test_pickles_are_refused_unopened(body: Body, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for name in ("demo.pkl", "hmr.pt"):
        (tmp_path / name).write_bytes(pickle.dumps({"smpl_params_global": Bomb()}))
        with pytest.raises(InputError):
            load_motion(tmp_path / name, body)
    np.savez(tmp_path / "o.npz", poses=np.array([Bomb()], dtype=object), trans=np.zeros((1, 3)))
    with pytest.raises(InputError, match="safely"):
        load_motion(tmp_path / "o.npz", body)
    assert not (tmp_path / "exploded").exists()


def test_amass_objects_beside_the_poses_are_passed_over_in_silence(
    standing: Motion, body: Body, tmp_path: Path, caplog
) -> None:
    zup = turned(standing, body, torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), about=torch.zeros(3))
    arrays = {"poses": zup.poses.reshape(len(zup), 165).numpy(), "trans": zup.transl.numpy(), "mocap_frame_rate": 30.0}
    np.savez(tmp_path / "plain.npz", **arrays)
    markers = np.array({"LFHD": 1}, dtype=object), np.array(["LFHD", "C7", None], dtype=object)
    np.savez(tmp_path / "stageii.npz", **arrays, markers_latent_vids=markers[0], labels=markers[1])
    wanted = load_motion(tmp_path / "plain.npz", body)
    caplog.clear()
    assert_same(load_motion(tmp_path / "stageii.npz", body), wanted, body)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("layout", ["list of people", "dict of arrays"])
def test_romps_results_are_refused_with_the_line_that_converts_them(
    standing: Motion, body: Body, tmp_path: Path, layout: str
) -> None:
    camera = turned(standing, body, torch.diag(torch.tensor([1.0, -1.0, -1.0])), about=torch.zeros(3))
    pose = torch.cat([camera.poses[:, :22], torch.zeros(len(camera), 2, 3)], 1).reshape(len(camera), 72).numpy()
    if layout == "list of people":
        rows = [[{"pose": p, "trans": t}] for p, t in zip(pose, camera.transl.numpy(), strict=True)]
    else:
        rows = [
            {"smpl_thetas": p[None], "cam_trans": t[None]} for p, t in zip(pose, camera.transl.numpy(), strict=True)
        ]
    results = {str(i): row for i, row in enumerate(rows)}
    np.savez(tmp_path / "it's romp.npz", results=np.array(results, dtype=object))
    with pytest.raises(InputError, match="safely") as caught:
        load_motion(tmp_path / "it's romp.npz", body)
    line = str(caught.value).partition("you trust it: ")[2].replace("python -c", f"{sys.executable} -c", 1)
    subprocess.run(line, shell=True, check=True)
    found = load_motion(tmp_path / "it's romp_arrays.npz", body)
    assert_same_body_pose(found, standing, body)


# Keypoints


def people(frames: int) -> np.ndarray:
    """(frames, 2, 133, 3): a large person walking right and a small one walking left."""
    rng = np.random.default_rng(1)
    shape = rng.uniform(0, 1, (133, 2))
    big = shape * [100, 300] + np.arange(frames)[:, None, None] * [4, 0] + [50, 20]
    small = shape * [20, 60] + np.arange(frames)[:, None, None] * [-4, 0] + [400, 200]
    xy = np.stack([big, small], 1)
    return np.concatenate([xy, np.full((*xy.shape[:3], 1), 0.9)], -1)


def test_mmpose_json_follows_the_largest_person(tmp_path: Path) -> None:
    points = people(6)
    rows = []
    for i in (0, 1, 3, 4, 5):
        order = [0, 1] if i % 2 else [1, 0]
        instances = [
            {"keypoints": points[i, k, :, :2].tolist(), "keypoint_scores": points[i, k, :, 2].tolist()} for k in order
        ]
        rows.append({"frame_id": i, "instances": instances})
    (tmp_path / "k.json").write_text(json.dumps({"meta_info": {}, "instance_info": rows}))
    found = load_keypoints_json(tmp_path / "k.json", (480, 640))
    assert found.valid.tolist() == [True, True, False, True, True, True]
    seen = found.valid.numpy()
    assert np.allclose(found.xy.numpy()[seen], points[seen, 0, :, :2] + 0.5, atol=1e-3)
    assert not bool(found.score[2].any())


def test_openpose_folder_lands_on_the_named_points(tmp_path: Path) -> None:
    pose = np.stack([np.arange(25.0), np.arange(25.0), np.full(25, 0.8)], 1)
    pose[4] = 0.0  # the right wrist was not found
    person = {"pose_keypoints_2d": pose.ravel().tolist(), "face_keypoints_2d": []}
    person["hand_left_keypoints_2d"] = np.tile([7.0, 8.0, 0.5], 21).tolist()
    for i in range(2):
        (tmp_path / f"clip_{i:012d}_keypoints.json").write_text(json.dumps({"people": [person]}))
    found = load_keypoints_json(tmp_path, (100, 100))
    # COCO: 5 left shoulder, 9 left wrist, 10 right wrist, 15 left ankle, 17 left big toe, 22 right heel
    assert found.xy[0, [5, 9, 15, 17, 22], 0].tolist() == [5.5, 7.5, 14.5, 19.5, 24.5]
    assert float(found.score[0, 10]) == 0.0 and float(found.score[0, 30]) == 0.0
    assert found.xy[0, LEFT_HAND].tolist() == [[7.5, 8.5]] * 21


# Bad input: one line that says what is wrong


def bad_bvh(tmp_path: Path, change) -> Path:
    path = write_bvh(stick_figure(), tmp_path / "bad.bvh")
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "", "does not begin with HIERARCHY"),
        (lambda text: text[: len(text) // 3], "no MOTION"),
        (lambda text: text[: text.index("MOTION") + 7], "Frames: N"),
        (lambda text: text[:-200], "cut off"),
        (lambda text: text.replace("CHANNELS 3", "CHANNELS 4", 1), "CHANNELS of 'LeftUpLeg'"),
        (lambda text: text.replace("Zrotation", "Wrotation", 1), "CHANNELS of 'Hips'"),
        (lambda text: text.replace("Frames: 5", "Frames: 50"), "50 frames"),
        (lambda text: text.replace("Frames: 5", "Frames: 0"), "no motion"),
        (lambda text: text.replace("60.000000", "nan", 1), "not finite"),
        (lambda text: text.replace("60.000000", "sixty", 1), "no number"),
        (lambda text: text.replace("Frame Time: 0.0333333333", "Frame Time: 0"), "Frame Time"),
        (lambda text: text.replace("OFFSET 0.000000 -40.000000 0.000000", "OFFSET 0 -40", 1), "OFFSET of 'LeftLeg'"),
        (lambda text: text.replace("}", "", 1), "never closed"),
        (lambda text: text.replace("Leg", "Tentacle"), "LeftTentacle"),
    ],
)
def test_broken_bvh_is_one_line(body: Body, tmp_path: Path, change, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        load_motion(bad_bvh(tmp_path, change), body)
    assert "\n" not in str(caught.value) and "bad.bvh" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"poses": np.zeros((3, 100)), "trans": np.zeros((3, 3))}, "shape"),
        ({"poses": np.zeros((0, 165)), "trans": np.zeros((0, 3))}, "at least one frame"),
        ({"poses": np.full((3, 165), np.nan), "trans": np.zeros((3, 3))}, "frame 0"),
        ({"poses": np.zeros((3, 165)), "trans": np.zeros((2, 3))}, "trans"),
        ({"poses": np.zeros((3, 165))}, "trans"),
        ({"poses": np.zeros((3, 165)), "trans": np.zeros((3, 3)), "mocap_frame_rate": -1.0}, "frames per second"),
        ({"global_orient": np.zeros((3, 3)), "body_pose": np.zeros((3, 60)), "transl": np.zeros((3, 3))}, "21 joints"),
        ({"global_orient": np.zeros((3, 3)), "body_pose": np.zeros((3, 63))}, "expected global_orient"),
    ],
)
def test_broken_npz_is_one_line(body: Body, tmp_path: Path, arrays: dict, says: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=says) as caught:
        load_motion(tmp_path / "bad.npz", body)
    assert "\n" not in str(caught.value)


def test_what_is_no_motion_is_one_line(body: Body, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name in ("a.npz", "a.txt", "empty", "absent.bvh"):
        with pytest.raises(InputError):
            load_motion(tmp_path / name, body)


def test_broken_exavatar_json_names_the_file(motion: Motion, body: Body, tmp_path: Path) -> None:
    file = save_exavatar(motion, tmp_path / "clip", body) / "smplx_optimized" / "smplx_params_smoothed" / "7.json"
    row = json.loads(file.read_text())
    file.write_text(json.dumps(row | {"lhand_pose": [0.0] * 6}))
    with pytest.raises(InputError, match=r"7\.json: 'lhand_pose' has 6 numbers, expected 45"):
        load_motion(tmp_path / "clip", body)


def test_broken_keypoints_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(json.dumps([[{"keypoints": [[0, 0]] * 17, "keypoint_scores": [1] * 17}]]))
    with pytest.raises(InputError, match="133 x 2"):
        load_keypoints_json(tmp_path / "k.json", (10, 10))
    (tmp_path / "none.json").write_text("[[]]")
    with pytest.raises(InputError, match="nobody"):
        load_keypoints_json(tmp_path / "none.json", (10, 10))


def test_smpl_results_reject_frame_ids_that_run_backwards(standing: Motion, body: Body, tmp_path: Path) -> None:
    pose = standing.poses[:, :22].reshape(len(standing), 66).numpy()
    ids = np.arange(len(standing))[::-1]
    np.savez(tmp_path / "w.npz", pose_world=pose, trans_world=standing.transl.numpy(), frame_ids=ids)
    with pytest.raises(InputError, match="increasing"):
        load_smpl_results(tmp_path / "w.npz", body)


def test_hierarchy_survives_writing(tmp_path: Path) -> None:
    made = stick_figure()
    found = read_bvh(write_bvh(made, tmp_path / "a.bvh"))
    assert found.names == made.names and found.parents == made.parents and found.channels == made.channels
    assert np.allclose(found.values, made.values, atol=1e-5) and found.fps == made.fps
