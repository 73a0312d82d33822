"""The body: the default body's file, and posing it as `smplx` does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.body import Body, default_body, load_body, t_pose
from avatars.body import anny as anny_people
from avatars.body.layout import JOINT_NAMES, KEYPOINT_NAMES_133, KEYPOINT_VERTICES
from avatars.body.motion import Motion
from avatars.errors import BodyFileMissing, InputError

ZERO = torch.zeros(20)


@pytest.fixture(scope="module")
def path() -> Path:
    return default_body.default_body_path()


@pytest.fixture(scope="module")
def body(path: Path) -> Body:
    return load_body(path)


@pytest.fixture(scope="module")
def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files if key != "posedirs"}


@pytest.fixture(scope="module")
def keypoints(body: Body) -> dict[str, np.ndarray]:
    """Keypoints of the T-pose by name; the hands' by their own names."""
    points = body.keypoints_133(torch.zeros(1, 55, 3), ZERO)[0].numpy()
    return dict(zip(KEYPOINT_NAMES_133, points, strict=True))


def random_motion(body: Body, frames: int = 4, seed: int = 0, size: float = 0.4) -> Motion:
    g = torch.Generator().manual_seed(seed)
    return Motion(
        poses=torch.randn(frames, 55, 3, generator=g) * size,
        transl=torch.randn(frames, 3, generator=g),
        betas=torch.randn(20, generator=g),
        expression=torch.randn(frames, 10, generator=g) * 0.5,
        times_s=torch.arange(frames).double() / 30,
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
    )


def stock_smplx(path: Path, batch_size: int = 4, **options):
    smplx = pytest.importorskip("smplx", reason="pip install 'splat-avatars[smplx]' (non-commercial license)")

    return smplx.create(
        str(path),
        "smplx",
        num_betas=20,
        num_expression_coeffs=10,
        batch_size=batch_size,
        **{"use_pca": False, "flat_hand_mean": True, "use_face_contour": True, **options},
    )


def joint(body: Body, name: str, betas: torch.Tensor = ZERO) -> np.ndarray:
    return body.shaped(betas)[1][JOINT_NAMES.index(name)].numpy()


def posed(body: Body, **rotations: list[float]):
    """One frame with some joints turned (axis-angle)."""
    poses = torch.zeros(1, 55, 3)
    for name, rotation in rotations.items():
        poses[0, JOINT_NAMES.index(name)] = torch.tensor(rotation)
    return body.pose(poses, ZERO)


# ---------------------------------------------------------------------------------------------- agreement with smplx


@pytest.mark.slow
def test_vertices_joints_and_landmarks_are_those_of_stock_smplx(body, path):
    motion = random_motion(body)
    theirs = stock_smplx(path)(**motion.smplx_arguments())
    ours = body.pose_motion(motion)
    assert (ours.vertices() - theirs.vertices).abs().max() < 1e-5
    assert (ours.joints - theirs.joints[:, :55]).abs().max() < 1e-5
    # smplx appends 21 vertices, 51 inner landmarks, then the contour
    assert (ours.landmarks()[:, 17:] - theirs.joints[:, 76:127]).abs().max() < 1e-5
    assert (ours.landmarks()[:, :17] - theirs.joints[:, 127:144]).abs().max() < 1e-5


def bodies_with_and_without_smplx(path: Path, arrays: dict, tmp_path: Path, monkeypatch) -> tuple[Body, Body]:
    """One file as a licensed one looks (no recipe of ours; objects beside the arrays), read both ways."""
    pytest.importorskip("smplx", reason="pip install 'splat-avatars[smplx]' (non-commercial license)")
    import smplx

    with np.load(path) as archive:
        posedirs = np.random.default_rng(0).normal(0, 0.01, archive["posedirs"].shape)
    licensed = {key: value for key, value in arrays.items() if key != "recipe"} | {"posedirs": posedirs}
    objects = np.array([{"Pelvis": 0}, None], dtype=object)
    np.savez(tmp_path / "SMPLX_MALE.npz", **licensed, joint2num=objects)
    np.savez(tmp_path / "copy.npz", **licensed, joint2num=objects)
    made = []
    stock = smplx.SMPLX
    monkeypatch.setattr(smplx, "SMPLX", lambda *a, **k: made.append(1) or stock(*a, **k))
    theirs = load_body(tmp_path / "SMPLX_MALE.npz")
    assert made == [1]
    monkeypatch.setattr("avatars.body.stock_model.importlib.util.find_spec", lambda name: None)
    return theirs, load_body(tmp_path / "copy.npz")


@pytest.mark.slow
def test_a_licensed_file_is_loaded_by_smplx_where_it_is_installed_and_equals_our_own_loading(
    path, arrays, tmp_path, monkeypatch
):
    theirs, ours = bodies_with_and_without_smplx(path, arrays, tmp_path, monkeypatch)
    for name in ("template", "shapedirs", "exprdirs", "posedirs", "weights"):
        assert torch.equal(getattr(theirs.points, name), getattr(ours.points, name)), name
    assert torch.equal(theirs.J_regressor, ours.J_regressor)
    motion = random_motion(ours)
    apart = theirs.pose_motion(replace(motion, body_sha256="")).vertices() - ours.pose_motion(motion).vertices()
    assert apart.abs().max() < 1e-6


@pytest.mark.slow
def test_the_default_body_needs_nothing_non_commercial(path):
    program = (
        "import sys\nsys.modules['smplx'] = None\n"
        "from avatars.body import load_body\n"
        f"body = load_body({str(path)!r})\nprint(body.n_vertices)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    assert int(done.stdout) > 10_000


@pytest.mark.slow
def test_gradients_are_those_of_stock_smplx(body, path):
    motion = random_motion(body, seed=1)
    target = torch.randn(4, body.n_vertices, 3, generator=torch.Generator().manual_seed(2))
    gradients = []
    for use_ours in (True, False):
        inputs = [t.clone().requires_grad_() for t in (motion.poses, motion.transl, motion.betas, motion.expression)]
        poses, transl, betas, expression = inputs
        if use_ours:
            vertices = body.pose(poses, betas, transl, expression).vertices()
        else:
            copy = Motion(poses, transl, betas, expression, motion.times_s, motion.valid, "")
            vertices = stock_smplx(path)(**copy.smplx_arguments()).vertices
        (vertices * target).sum().backward()
        gradients.append([t.grad for t in inputs])
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()


def test_gradient_is_finite_and_right_at_the_t_pose(body):
    poses = torch.zeros(1, 55, 3, requires_grad=True)
    elbow, wrist = JOINT_NAMES.index("left_elbow"), JOINT_NAMES.index("left_wrist")
    pose = body.pose(poses, ZERO)
    (gradient,) = torch.autograd.grad(pose.joints[0, wrist, 1], poses)
    forearm = pose.joints[0, wrist] - pose.joints[0, elbow]
    assert torch.allclose(gradient[0, elbow], torch.stack([-forearm[2], 0 * forearm[0], forearm[0]]), atol=1e-6)


@pytest.mark.slow
def test_pose_correctives_of_a_file_are_applied(body, path, tmp_path):
    with np.load(path) as archive:
        data = {key: archive[key] for key in archive.files}
    data["posedirs"] = np.zeros((body.n_vertices, 3, 486), np.float32)
    data["posedirs"][:, :, ::40] = np.random.default_rng(0).normal(0, 0.01, (body.n_vertices, 3, 13))
    np.savez(tmp_path / "smplx_corrective.npz", **data)
    corrective = load_body(tmp_path / "smplx_corrective.npz")
    motion = random_motion(body)
    theirs = stock_smplx(tmp_path / "smplx_corrective.npz")(**motion.smplx_arguments())
    ours = corrective.pose_motion(motion)
    assert (ours.vertices() - theirs.vertices).abs().max() < 1e-5
    assert (ours.vertices() - body.pose_motion(motion).vertices()).abs().max() > 1e-3


def test_hand_pca_of_stock_smplx_loads_and_curls_the_fingers(path):
    model = stock_smplx(path, batch_size=1, use_pca=True, num_pca_comps=6, flat_hand_mean=False)
    relaxed = model().joints[0].detach()
    curled = model(left_hand_pose=torch.tensor([[1.5, 0, 0, 0, 0, 0]])).joints[0].detach()
    tip = 55 + list(KEYPOINT_VERTICES).index("left_middle")
    assert curled[tip, 1] < relaxed[tip, 1] - 0.02


def test_identity_pose_gives_the_template(body):
    pose = body.pose(torch.zeros(2, 55, 3), torch.zeros(10))
    assert (pose.vertices() - body.v_template).abs().max() < 1e-6


def test_subset_equals_the_full_mesh(body):
    pose = body.pose_motion(random_motion(body))
    indices = torch.randperm(body.n_vertices, generator=torch.Generator().manual_seed(0))[:200]
    assert (pose.points(body.subset(indices)) - pose.vertices()[:, indices]).abs().max() < 1e-6


def test_keypoints_are_joints_and_smplx_vertices(body):
    pose = body.pose_motion(random_motion(body))
    vertices, points = pose.vertices(), pose.keypoints_133()
    assert points.shape == (4, 133, 3)
    for index, name in [
        (0, "nose"),
        (17, "left_big_toe"),
        (22, "right_heel"),
        (95, "left_thumb"),
        (132, "right_pinky"),
    ]:
        assert (points[:, index] - vertices[:, KEYPOINT_VERTICES[name]]).abs().max() < 1e-5, name
    for index, name in [
        (5, "left_shoulder"),
        (12, "right_hip"),
        (91, "left_wrist"),
        (112, "right_wrist"),
        (96, "left_index1"),
    ]:
        assert (points[:, index] - pose.joints[:, JOINT_NAMES.index(name)]).abs().max() < 1e-5, name


def test_frames_can_have_their_own_betas_and_be_picked(body):
    motion = random_motion(body)
    betas = torch.randn(4, 20, generator=torch.Generator().manual_seed(3))
    pose = body.pose(motion.poses, betas, motion.transl, motion.expression)
    alone = body.pose(motion.poses[2:3], betas[2], motion.transl[2:3], motion.expression[2:3])
    assert (pose[2:3].vertices() - alone.vertices()).abs().max() < 1e-6
    assert (pose.keypoints_133()[2] - alone.keypoints_133()[0]).abs().max() < 1e-6


# -------------------------------------------------------------------------------------------------- the default body


def test_zero_betas_are_an_ordinary_adult_in_the_t_pose(body):
    v = body.v_template.numpy()
    assert 1.66 < np.ptp(v[:, 1]) < 1.76
    assert np.abs(np.ptp(v[:, 0]) / np.ptp(v[:, 1]) - 1.0) < 0.06  # arm span is about the height
    for side, sign in (("left", 1), ("right", -1)):
        shoulder, wrist = joint(body, f"{side}_shoulder"), joint(body, f"{side}_wrist")
        direction = (wrist - shoulder) / np.linalg.norm(wrist - shoulder)
        assert direction @ [sign, 0, 0] > 0.999
        hand = {f: joint(body, f"{side}_{f}1") for f in ("index", "pinky", "thumb")}
        assert hand["thumb"][2] > hand["index"][2] - 0.01 > hand["pinky"][2]  # palm down, thumb forward
        assert abs(hand["index"][1] - hand["pinky"][1]) < 0.01
    assert joint(body, "left_foot")[2] > joint(body, "left_ankle")[2] + 0.05  # facing +Z
    assert np.abs(joint(body, "pelvis") - anny_people.PELVIS_M).max() < 1e-5


def test_nothing_of_the_body_leans_to_one_side(body):
    v = body.v_template.numpy()
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(v).query(v * [-1, 1, 1])
    assert distance.max() < 1e-3
    joints = {name: joint(body, name) for name in JOINT_NAMES}
    for name in JOINT_NAMES:
        if name.startswith("left_"):
            assert np.abs(joints[name] * [-1, 1, 1] - joints["right_" + name[5:]]).max() < 2e-3, name


def test_vertex_keypoints_are_where_their_names_say(keypoints, body):
    k, v = keypoints, body.v_template.numpy()
    ground = v[:, 1].min()
    head = v[v[:, 1] > joint(body, "head")[1]]
    assert k["nose"][2] > head[:, 2].max() - 0.003 and abs(k["nose"][0]) < 0.003
    for side, sign in (("left", 1), ("right", -1)):
        eye, ear = k[f"{side}_eye"], k[f"{side}_ear"]
        assert 0.02 < sign * eye[0] < 0.045 and eye[1] > k["nose"][1] + 0.02 and eye[2] > 0.12
        assert np.linalg.norm(eye - joint(body, f"{side}_eye_smplhf")) < 0.02
        assert sign * ear[0] > 0.06 and abs(ear[1] - eye[1]) < 0.04 and ear[2] < eye[2] - 0.05
        big, small, heel = k[f"{side}_big_toe"], k[f"{side}_small_toe"], k[f"{side}_heel"]
        assert max(big[1], small[1]) < ground + 0.03 and heel[1] < ground + 0.05
        assert big[2] > small[2] > heel[2] + 0.1
        assert sign * small[0] > sign * big[0] + 0.03
        hand = v[sign * v[:, 0] > sign * joint(body, f"{side}_wrist")[0]]
        assert sign * k[f"{side}_middle"][0] > (sign * hand[:, 0]).max() - 0.003
        tips = [k[f"{side}_{f}"][2] for f in ("thumb", "index", "middle", "ring", "pinky")]
        assert tips == sorted(tips, reverse=True)
        for f in ("index", "middle", "ring", "pinky"):
            past = sign * (k[f"{side}_{f}"][0] - joint(body, f"{side}_{f}3")[0])
            assert 0.015 < past < 0.04, f


def test_face_landmarks_are_in_ibug_order(keypoints):
    face = np.stack([keypoints[f"face{i}"] for i in range(68)])
    x, y = face[:, 0], face[:, 1]
    mirror_pairs = [(0, 16), (4, 12), (17, 26), (21, 22), (31, 35), (36, 45), (39, 42), (48, 54), (60, 64)]
    for right, left in mirror_pairs:  # iBUG counts from the image's left, the person's right
        assert x[right] < 0 < x[left] and abs(x[right] + x[left]) < 0.002 and abs(y[right] - y[left]) < 0.002
    assert y[8] == y[:17].min() and (np.diff(x[1:16]) > 0).all()
    assert (np.diff(y[27:31]) < 0).all() and face[30, 2] == face[:, 2].max()
    assert y[17:27].min() > y[36:48].max() > y[30] > y[51] > y[57] > y[8]
    assert y[37] > y[41] and y[44] > y[46]  # upper lids above lower ones
    assert y[51] > y[62] >= y[66] > y[57]
    assert np.linalg.norm(face[30] - keypoints["nose"]) < 0.02


def test_jaw_opens_the_mouth_and_takes_the_tongue_along(body, arrays):
    shut, opened = posed(body).landmarks()[0], posed(body, jaw=[0.3, 0, 0]).landmarks()[0]
    drop = (shut - opened)[:, 1]
    assert drop[66] > 0.012 and drop[8] > 0.012
    assert drop[[27, 30, 36, 45, 19, 24, 51, 62]].abs().max() < 0.003
    tongue = arrays["f"][arrays["face_parts"] == list(arrays["part_names"]).index("tongue")].astype(np.int64)
    weights = body.lbs_weights[torch.from_numpy(np.unique(tongue)), JOINT_NAMES.index("jaw")]
    assert weights.min() > 0.999


def test_eyes_turn_with_their_joints(body):
    before = posed(body).keypoints_133()[0, 1]
    after = posed(body, left_eye_smplhf=[0.0, 0.3, 0.0]).keypoints_133()[0, 1]
    assert after[0] > before[0] + 0.002  # looking to the person's left


def test_expressions_do_what_their_names_say(body):
    names = list(anny_people.EXPRESSIONS)

    def landmarks(name: str) -> torch.Tensor:
        return body.pose(torch.zeros(1, 55, 3), ZERO, expression=torch.eye(10)[names.index(name)]).landmarks()[0]

    rest = posed(body).landmarks()[0]
    assert landmarks("mouth_open")[66, 1] < rest[66, 1] - 0.015
    assert (landmarks("smile")[54] - rest[54])[:2].min() > 0.003
    assert (landmarks("brows_up") - rest)[17:27, 1].min() > 0.001
    gap = (landmarks("blink")[37] - landmarks("blink")[41])[1]
    assert gap < 0.35 * (rest[37] - rest[41])[1]
    assert landmarks("pucker")[54, 0] < rest[54, 0] - 0.002
    assert body.joint_points.exprdirs.abs().max() < 0.003  # faces do not move joints


def test_fingers_bend_toward_the_palm(body):
    for side, sign in (("left", -1), ("right", 1)):
        tip = 103 if side == "left" else 124
        assert KEYPOINT_NAMES_133[tip] == f"{side}_middle"
        bent = posed(body, **{f"{side}_middle{i}": [0, 0, sign * 0.8] for i in (1, 2, 3)}).keypoints_133()[0, tip]
        flat = posed(body).keypoints_133()[0, tip]
        assert bent[1] < flat[1] - 0.04


def test_skinning_weights_sum_to_one_and_are_not_negative(body):
    assert (body.lbs_weights.sum(1) - 1).abs().max() < 1e-6
    assert body.lbs_weights.min() >= 0


def test_joint_regressor_rows_sum_to_one(body):
    assert (body.J_regressor.sum(1) - 1).abs().max() < 1e-4


def test_betas_change_the_build(body):
    tall, short = (np.ptp(body.shaped(ZERO + s * torch.eye(20)[0])[0][:, 1].numpy()) for s in (2.0, -2.0))
    assert 0.2 < tall - short < 0.6 and 1.4 < short < 1.6


@pytest.mark.slow
def test_betas_of_a_heavy_person_hold_more_volume(body):
    def volume(weight: float) -> float:
        person = default_body.phenotype_vertices({**anny_people.AVERAGE_ADULT, "weight": weight, "muscle": 0.2})
        v = body.shaped(torch.from_numpy(default_body.project_shape(person)).float())[0][body.faces].double()
        return float((v[:, 0] * torch.linalg.cross(v[:, 1], v[:, 2])).sum() / 6)

    light, heavy = volume(0.0), volume(1.0)
    assert 0.04 < light < 0.06 and heavy > 1.5 * light  # cubic meters


def test_twenty_betas_reproduce_anny_people_within_5_mm():
    people = anny_people.AnnyPeople.load()
    phenotypes = {
        "gender": np.array([0.0, 1.0, 0.9, 0.2]),
        "age": np.array([0.65, 0.7, 0.9, 0.62]),
        "weight": np.array([0.6, 0.3, 0.7, 0.4]),
        "muscle": np.array([0.8, 0.4, 0.3, 0.5]),
        "height": np.array([0.45, 0.35, 0.3, 0.5]),
    }
    vertices, joints = people.t_pose(phenotypes)
    body = load_body(default_body.default_body_path())
    for person, skeleton in zip(vertices, joints, strict=True):
        betas = torch.from_numpy(default_body.project_shape(person)).float()
        shaped_vertices, shaped_joints = body.shaped(betas)
        assert np.linalg.norm(shaped_vertices.numpy() - person, axis=1).mean() < 0.005
        assert np.linalg.norm(shaped_joints.numpy() - skeleton, axis=1).mean() < 0.005
        assert betas.abs().max() < 4


def test_joints_move_as_annys_own_skeleton_does(body):
    """Twenty random poses: the world rotations of our joints given to Anny's bones place its joints within 1 cm."""
    people = anny_people.AnnyPeople.load()
    model, C = people.model, anny_people.SMPLX_FROM_ANNY
    poses = random_motion(body, frames=20, seed=5, size=0.3).poses
    pose = body.pose(poses, ZERO)
    bone_joint = {bone: JOINT_NAMES.index(n) for n, (_, skin) in anny_people._BONES.items() for bone in skin}
    given = {k: torch.tensor([v], dtype=torch.float64) for k, v in anny_people.AVERAGE_ADULT.items()}
    reference = model(phenotype_kwargs=given)["bone_poses"].numpy()
    heads = reference[..., :3, 3] @ C.T
    to_t_pose, _ = t_pose.t_pose_transforms(heads, model)
    turn = np.stack([pose.A_world_rest[:, bone_joint[b], :, :3].numpy() for b in model.bone_labels], 1)
    orientation = C.T @ (turn @ to_t_pose[..., :3, :3]) @ C @ reference[..., :3, :3]
    delta = np.tile(np.eye(4), (20, model.bone_count, 1, 1))
    delta[..., :3, :3] = orientation
    delta[..., 0, :3, 3] = reference[:, 0, :3, 3]
    theirs = model(
        torch.from_numpy(delta), {k: v.expand(20) for k, v in given.items()}, pose_parameterization="world-orient"
    )
    joints = anny_people._joints(model, theirs["bone_poses"][..., :3, 3].numpy() @ C.T)
    shift = pose.joints[:, :1].numpy() - joints[:, :1]
    error = np.linalg.norm(joints + shift - pose.joints.numpy(), axis=-1)
    assert np.nanmax(error) < 0.01
    vertices = theirs["vertices"].numpy()[:, people.order] @ C.T + shift
    assert np.linalg.norm(vertices - pose.vertices().numpy(), axis=-1).mean() < 0.01


def test_shared_poses_put_no_vertex_far_away(body, shared_data):
    poses = torch.from_numpy(np.load(shared_data / "motions" / "smplx_poses.npy")).float().reshape(-1, 55, 3)
    pose = body.pose(poses, ZERO)
    edges = body.faces[:, :2]
    length = (pose.vertices()[:, edges[:, 0]] - pose.vertices()[:, edges[:, 1]]).norm(dim=-1)
    assert length.max() < 0.08  # no triangle is torn


# --------------------------------------------------------------------------------------------------- files and users


@pytest.mark.slow
def test_building_twice_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(default_body, "N_PEOPLE", 64)
    a = default_body.build_default_body(tmp_path / "a.npz", progress=False)
    b = default_body.build_default_body(tmp_path / "b.npz", progress=False)
    assert a.read_bytes() == b.read_bytes()


def test_two_builders_at_once_build_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLAT_AVATARS_CACHE", str(tmp_path))
    builds = []

    def slow_build(path: Path, *, progress: bool) -> Path:
        builds.append(path)
        time.sleep(0.3)
        path.write_bytes(b"whole")
        return path

    monkeypatch.setattr(default_body, "build_default_body", slow_build)
    threads = [threading.Thread(target=default_body.default_body_path) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(builds) == 1 and builds[0].parent == tmp_path


def test_a_missing_file_is_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("SMPLX_BODY", str(tmp_path / "SMPLX_NEUTRAL.npz"))
    with pytest.raises(BodyFileMissing, match=r"No body file at .*SMPLX_NEUTRAL.npz"):
        load_body()


def test_a_text_file_is_no_body(tmp_path):
    (tmp_path / "SMPLX_NEUTRAL.npz").write_text("not an archive")
    with pytest.raises(InputError, match="cannot be read as an npz"):
        load_body(tmp_path / "SMPLX_NEUTRAL.npz")


def test_an_smpl_file_is_no_smplx_body(tmp_path):
    np.savez(tmp_path / "SMPL.npz", v_template=np.zeros((6890, 3)), f=np.zeros((13776, 3)))
    with pytest.raises(InputError, match=r"lacks .*J_regressor"):
        load_body(tmp_path / "SMPL.npz")


def test_wrong_shapes_are_named(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **{**arrays, "posedirs": np.zeros((10, 3, 207))})
    with pytest.raises(InputError, match=r"`posedirs` has shape \(10, 3, 207\)"):
        load_body(tmp_path / "x.npz")


def test_betas_of_another_body_are_refused(body):
    motion = random_motion(body)
    foreign = Motion(
        motion.poses, motion.transl, motion.betas, motion.expression, motion.times_s, motion.valid, "0" * 64, "walk"
    )
    with pytest.raises(InputError, match="'walk' belong to another body"):
        body.pose_motion(foreign)


def test_too_many_betas_are_refused(body):
    with pytest.raises(InputError, match="30 betas given, the body was loaded with 20"):
        body.shaped(torch.zeros(30))


@pytest.mark.slow
def test_importing_the_body_loads_neither_anny_nor_smplx():
    import subprocess
    import sys

    code = "import sys, avatars.body; print([m for m in ('anny', 'smplx') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
