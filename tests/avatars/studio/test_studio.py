"""Facts about the studio: what it films and what it says is true agree."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.video import load_frames
from avatars.studio.actions import ACTIONS, act, turn
from avatars.studio.capture import Filming, Truth, camera_for, film, furnished, perform_action, sample_capture
from avatars.studio.keyframes import Manner
from avatars.studio.kinematics import J, K
from avatars.studio.people import Person
from avatars.studio.plates import plate_of
from avatars.studio.raycast import developed
from avatars.studio.rooms import Part, Room
from avatars.studio.surface import Surface

NTU_NAMES = {
    "drink_water", "eat", "brush_teeth", "pick_up", "throw", "sit_down", "stand_up", "clap", "wave", "kick", "jump_up",
    "point", "nod_bow", "salute", "palms_together", "cross_hands",
}  # fmt: skip
SHAPES = {0: [0.0] * 20, 4: [1.2, -0.8, 0.6, -1.0, 0.5] + [0.0] * 15}


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def person(body: Body) -> Person:
    return Person.sample(3, body)


@pytest.fixture(scope="module")
def clips(body: Body) -> dict[tuple[str, int], tuple[Motion, np.ndarray, np.ndarray, np.ndarray]]:
    """Every action by two people: motion, joints, keypoints and lowest point (frames,)."""
    out = {}
    for action in ACTIONS:
        for seed, betas in SHAPES.items():
            motion = act(action, body, np.float32(betas), Manner.sample(seed), fps=15.0).motion
            posed = body.pose_motion(motion)
            lowest = posed.vertices()[..., 1].amin(1).numpy()
            out[action, seed] = motion, posed.joints.numpy(), posed.keypoints_133().numpy(), lowest
    return out


def side(seed: int) -> str:
    return Manner.sample(seed).side


def center_of(keypoints: np.ndarray, *names: str) -> np.ndarray:
    return np.mean([keypoints[:, K[name]] for name in names], axis=0)


MOUTH = [f"face{i}" for i in range(48, 68)]


def palm(keypoints: np.ndarray, which: str) -> np.ndarray:
    return center_of(keypoints, f"{which}_wrist", *(f"{which}_{f}1" for f in ("index", "middle", "ring", "pinky")))


def test_the_sixteen_actions_are_those_of_the_list():
    assert set(ACTIONS) == NTU_NAMES


def test_an_unknown_action_is_refused_by_name(body: Body):
    with pytest.raises(InputError, match="No action 'fly'"):
        act("fly", body, np.zeros(20, np.float32), Manner())


def test_every_action_is_finite_and_within_joint_limits(clips):
    limits = {"left_knee": 2.7, "right_knee": 2.7, "left_elbow": 2.9, "right_elbow": 2.9, "head": 1.0, "neck": 1.0,
              "spine1": 0.7, "spine2": 0.7, "spine3": 0.7, "left_wrist": 1.5, "right_wrist": 1.5}  # fmt: skip
    for key, (motion, *_) in clips.items():
        assert torch.isfinite(motion.poses).all() and torch.isfinite(motion.transl).all(), key
        for joint, limit in limits.items():
            angle = motion.poses[:, J[joint]].norm(dim=-1).max()
            assert angle < limit, (key, joint, float(angle))


def test_no_joint_jumps_between_frames(clips):
    for key, (_, joints, *_) in clips.items():
        assert np.abs(np.diff(joints, axis=0)).max() < 0.9, key  # 13 m/s at 15 frames a second: the fingers of a throw


def test_feet_neither_sink_nor_float(clips):
    for (action, seed), (_, _, _, lowest) in clips.items():
        assert lowest.min() > -0.01, (action, seed)
        if action != "jump_up":
            assert lowest.max() < 0.05, (action, seed)


def test_the_standing_foot_does_not_slide(clips):
    for action in ("drink_water", "clap", "wave", "sit_down", "nod_bow"):
        for seed in SHAPES:
            ankles = clips[action, seed][1][:, [J["left_ankle"], J["right_ankle"]]]
            assert np.abs(ankles - ankles[0])[..., [0, 2]].max() < 0.06, (action, seed)


@pytest.mark.parametrize(("action", "reach_m"), [("drink_water", 0.13), ("eat", 0.09), ("brush_teeth", 0.16)])
def test_the_hand_reaches_the_mouth(clips, action: str, reach_m: float):
    for seed in SHAPES:
        _, _, keypoints, _ = clips[action, seed]
        mouth = center_of(keypoints, *MOUTH)
        hand = np.stack([keypoints[:, K[f"{side(seed)}_{f}"]] for f in ("thumb", "index", "middle")], 1)
        distance = np.linalg.norm(hand - mouth[:, None], axis=-1).min(1)
        assert distance.min() < reach_m, (seed, distance.min())
        assert distance[0] > 0.4


@pytest.mark.parametrize("action", ["clap", "palms_together"])
def test_the_palms_meet(clips, action: str):
    for seed in SHAPES:
        keypoints = clips[action, seed][2]
        gap = np.linalg.norm(palm(keypoints, "left") - palm(keypoints, "right"), axis=-1)
        assert 0.02 < gap.min() < 0.06, (seed, gap.min())


def test_the_jump_leaves_the_ground(clips):
    assert all(clips["jump_up", seed][3].max() > 0.12 for seed in SHAPES)


def test_sitting_lowers_the_pelvis_and_standing_up_raises_it(clips):
    for seed in SHAPES:
        down, up = (clips[a, seed][1][:, 0, 1] for a in ("sit_down", "stand_up"))
        assert down[0] - down[-1] > 0.25 and up[-1] - up[0] > 0.25


def gap_m(joints: np.ndarray, first: tuple[str, str], second: tuple[str, str]) -> np.ndarray:
    """Least distance (frames,) between two bones."""
    share = np.linspace(0, 1, 40)[:, None, None]
    a, b = (joints[:, J[start]] + share * (joints[:, J[end]] - joints[:, J[start]]) for start, end in (first, second))
    return np.linalg.norm(a[:, None] - b[None], axis=-1).min((0, 1))


@pytest.mark.parametrize("action", ["sit_down", "stand_up"])
def test_hands_lie_on_the_thighs_of_who_sits_and_not_in_them(clips, action: str):
    for seed in SHAPES:
        joints = clips[action, seed][1]
        seated = -1 if action == "sit_down" else 0
        for s in ("left", "right"):
            thigh = (f"{s}_hip", f"{s}_knee")
            for finger in ("index", "middle", "pinky"):
                assert gap_m(joints, (f"{s}_{finger}1", f"{s}_{finger}3"), thigh).min() > 0.07, (seed, s, finger)
            assert gap_m(joints, (f"{s}_elbow", f"{s}_wrist"), thigh).min() > 0.07, (seed, s)
            assert gap_m(joints, (f"{s}_wrist", f"{s}_middle1"), thigh)[seated] < 0.17, (seed, s)


def test_crossed_forearms_pass_one_in_front_of_the_other(clips):
    for seed in SHAPES:
        joints = clips["cross_hands", seed][1]
        gap = gap_m(joints, ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"))
        assert 0.045 < gap.min() < 0.1, (seed, gap.min())


def test_picking_up_reaches_the_floor(clips):
    for seed in SHAPES:
        assert clips["pick_up", seed][2][:, K[f"{side(seed)}_middle"], 1].min() < 0.12


def test_the_kick_raises_one_foot_and_the_other_stands(clips):
    for seed in SHAPES:
        ankles = clips["kick", seed][1][:, [J["left_ankle"], J["right_ankle"]], 1]
        rise = (ankles - ankles[0]).max(0)
        assert rise.max() > 0.25 and rise.min() < 0.08


def test_salute_and_cross_hands_put_hands_where_the_names_say(clips):
    for seed in SHAPES:
        _, joints, keypoints, _ = clips["salute", seed]
        ear = keypoints[:, K[f"{side(seed)}_ear"]]
        assert np.linalg.norm(keypoints[:, K[f"{side(seed)}_middle"]] - ear, axis=-1).min() < 0.16
        joints = clips["cross_hands", seed][1]
        across = joints[:, J["right_wrist"]] - joints[:, J["left_wrist"]]
        toward_left = joints[:, J["left_shoulder"]] - joints[:, J["right_shoulder"]]
        assert ((across * toward_left).sum(-1)).max() > 0


def test_takes_differ_and_the_same_take_is_the_same(body: Body):
    betas, manner = np.zeros(20, np.float32), Manner.sample(2)
    one, again, other = (act("wave", body, betas, manner, take=take).motion for take in (0, 0, 1))
    assert torch.equal(one.poses, again.poses)
    assert len(one) != len(other) or not torch.allclose(one.poses, other.poses)


def test_the_turn_goes_round_three_times_with_hands_up_in_between(body: Body):
    motion = turn(body, np.zeros(20, np.float32), Manner.sample(0), frames=324).motion
    assert len(motion) == 324 and motion.fps == pytest.approx(18.0)
    posed = body.pose_motion(motion)
    across = posed.joints[:, J["left_hip"]] - posed.joints[:, J["right_hip"]]
    yaw = np.unwrap(np.arctan2(across[:, 2].numpy(), across[:, 0].numpy()))
    assert abs(yaw[-1] - yaw[0]) == pytest.approx(6 * np.pi, rel=0.02)
    wrists, head = posed.joints[:, [J["left_wrist"], J["right_wrist"]], 1], posed.joints[:, J["head"], 1:2]
    up = (wrists > head - 0.1).all(-1)
    assert not up[:80].any() and up[130:195].all() and not up[245:].any()
    assert posed.vertices()[..., 1].min() > -0.01


def test_the_feet_step_rather_than_slide_in_a_turn(body: Body):
    motion = turn(body, np.zeros(20, np.float32), Manner.sample(0), frames=324).motion
    ankles = body.pose_motion(motion).joints[:, [J["left_ankle"], J["right_ankle"]]].numpy()
    still = np.linalg.norm(np.diff(ankles, axis=0), axis=-1) < 0.002
    assert (still.mean(0) > 0.4).all()
    assert (np.diff(ankles[..., 1], axis=0).max(0) > 0.005).all()


def test_a_surface_is_cut_along_the_zero_line():
    rest = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    cut = Surface(rest, np.array([[0, 1, 2]]), np.ones((3, 1))).cut(0.5 - rest[:, 0])
    assert cut.rest[:, 0].max() == pytest.approx(0.5)
    corners = cut.rest[cut.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    assert area == pytest.approx(0.5 - 0.125)


def test_mesh_colors_are_seen_where_they_were_painted():
    """A triangle painted by place, photographed flat-lit: each pixel has the color of the point that it sees."""
    from avatars.studio.raycast import Light, Plate, Studio

    rest = np.array([[-1.0, 0.2, 0], [1.0, 0.2, 0], [0.0, 1.8, 0]])
    weights = np.zeros((3, 55))
    weights[:, 0] = 1
    blue = np.zeros(3)
    surface = Surface(rest, np.array([[0, 1, 2]]), weights).painted(
        lambda p, n: np.stack([0.5 + 0.4 * p[:, 0], 0.4 * p[:, 1], 0.3 + 0 * p[:, 0]], 1), texel_m=0.05
    )
    camera = Camera.level(focal_px=80.0, size_hw=(96, 96), height_m=1.0, distance_m=2.0)
    empty = Plate(np.zeros((96, 96, 3)), np.zeros((96, 96, 3)), np.full((96, 96), np.inf), np.zeros((96, 96), bool))
    light = Light(np.array([0.0, 0.0, 1.0]), blue, 0.1, np.ones(3), np.ones(3))
    shot = Studio(surface, empty, camera, light, samples=1, noise=0.0).shoot(rest, 0)
    rows, columns = np.nonzero(shot.mask == 255)
    x, y = (columns + 0.5 - 48) / 40, 1.0 - (rows + 0.5 - 48) / 40
    wanted = np.stack([0.5 + 0.4 * x, 0.4 * y, 0.3 + 0 * x], 1) * 255
    assert len(rows) > 1000
    assert np.abs(shot.rgb[rows, columns] - wanted).max() < 4
    assert shot.depth_m[rows, columns] == pytest.approx(2.0, abs=1e-3)


@pytest.mark.slow
def test_people_differ_and_the_same_seed_is_the_same_person(body: Body):
    one, again, other = Person.sample(5, body), Person.sample(5, body), Person.sample(6, body)
    assert one.describe() == again.describe()
    assert not np.allclose(one.betas, other.betas)


def test_a_room_is_exact_where_its_depth_can_be_computed():
    room = Room.sample(2, outdoors=False)
    camera = Camera.looking_at([0.0, 1.4, 2.6], [0.0, 0.9, 0.0], focal_px=64.0, size_hw=(64, 64))
    plate = plate_of(room, camera, samples=1)
    assert np.isfinite(plate.depth_m).all() and plate.is_floor.mean() > 0.1
    row, column = np.argwhere(plate.is_floor)[-1]
    T = torch.linalg.inv(camera.T_cam_world)
    z = float(plate.depth_m[row, column])
    ray = torch.tensor([(column + 0.5 - 32) / 64.0, (row + 0.5 - 32) / 64.0, 1.0], dtype=torch.float32) * z
    assert float((T[:3, :3] @ ray + T[:3, 3])[1]) == pytest.approx(0.0, abs=1e-4)


@pytest.fixture(scope="module")
def short_capture(tmp_path_factory, body: Body) -> Path:
    folder = tmp_path_factory.mktemp("studio") / "capture"
    return sample_capture(
        folder, seed=3, frames=6, size_hw=(128, 128), body=body, filming=Filming(keep_depth=True)
    ).folder


@pytest.mark.slow
def test_a_capture_writes_its_clip_and_truth(short_capture: Path, body: Body):
    frames, info = load_frames(short_capture / "capture.mp4")
    truth = Truth.load(short_capture)
    assert frames.shape == (6, 128, 128, 3) and info.fps == pytest.approx(18.0, rel=1e-3)
    assert truth.masks.shape == (6, 128, 128) and truth.joints_m.shape == (6, 55, 3)
    assert truth.keypoints_px.shape == (6, 133, 2) and truth.background.shape == (128, 128, 3)
    assert truth.motion.times_s.numpy() == pytest.approx(info.times_s, abs=1e-3)
    assert truth.motion.body_sha256 == body.sha256
    assert np.allclose(body.pose_motion(truth.motion).joints.numpy(), truth.joints_m, atol=1e-5)
    assert np.allclose(truth.camera.project(torch.from_numpy(truth.joints_m)).numpy(), truth.joints_px, atol=1e-2)


@pytest.mark.slow
def test_the_body_fills_the_image_and_its_joints_lie_inside_the_mask(short_capture: Path):
    truth = Truth.load(short_capture)
    rows = np.flatnonzero((truth.masks > 127).any((0, 2)))
    assert 0.7 * 128 < rows[-1] - rows[0] < 0.95 * 128
    for index in range(6):
        for joint in ("pelvis", "spine2", "head", "left_knee", "right_knee", "left_shoulder", "right_shoulder"):
            column, row = truth.joints_px[index, J[joint]].astype(int)
            assert truth.masks[index, row, column] > 127, (index, joint)


@pytest.mark.slow
def test_the_mask_is_where_the_person_is_nearer_than_the_room(short_capture: Path):
    truth = Truth.load(short_capture)
    assert truth.depth_m is not None
    inside = truth.masks > 0
    assert np.isfinite(truth.depth_m[inside].astype(np.float32)).all()
    assert (truth.depth_m[inside] < np.broadcast_to(truth.background_depth_m, inside.shape)[inside]).all()
    assert np.isinf(truth.depth_m[~inside].astype(np.float32)).all()


@pytest.mark.slow
def test_outside_the_person_and_their_shadow_the_room_is_unchanged(short_capture: Path):
    truth = Truth.load(short_capture)
    frames, _ = load_frames(short_capture / "capture.mp4")
    above = (truth.masks == 0)[:, :40]
    difference = np.abs(frames[:, :40].astype(int) - truth.background[:40].astype(int))[above]
    assert difference.mean() < 4


@pytest.mark.slow
def test_the_same_seed_gives_the_same_pixels(person: Person):
    motion = turn(person.body, person.betas, person.manner, frames=4).motion
    camera = camera_for(motion, person.body, seed=1, size_hw=(96, 96))
    room = Room.sample(1)
    plate = plate_of(room, camera, samples=1)
    first = [s.rgb for s in film(person, motion, room, plate, camera, filming=Filming(threads=2))]
    second = [s.rgb for s in film(person, motion, room, plate, camera, filming=Filming(threads=1))]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
def test_a_screen_in_front_hides_the_person(person: Person):
    motion = turn(person.body, person.betas, person.manner, frames=2).motion
    camera = camera_for(motion, person.body, size_hw=(96, 96))
    open_room = Room.sample(2, outdoors=False)
    screen = Part((0.0, 0.35, 0.8), (4.0, 0.7, 0.02), lambda p, n: np.full_like(p, 0.5))
    masks = []
    for room in (open_room, open_room.with_parts([screen])):
        masks.append(next(film(person, motion, room, plate_of(room, camera, samples=1), camera)).mask > 127)
    hidden = masks[0] & ~masks[1]
    assert hidden.sum() > 0.1 * masks[0].sum() and not (masks[1] & ~masks[0]).any()
    assert np.argwhere(hidden)[:, 0].mean() > np.argwhere(masks[1])[:, 0].mean()


def test_the_person_darkens_the_floor_but_not_the_far_wall(person: Person):
    motion = turn(person.body, person.betas, person.manner, frames=2).motion
    camera = camera_for(motion, person.body, size_hw=(96, 96))
    room = Room.sample(2, outdoors=False)
    plate = plate_of(room, camera, samples=1)
    shot = next(film(person, motion, room, plate, camera, filming=Filming(noise=0.0)))
    empty, bare = developed(plate).astype(int), shot.mask == 0
    lost = (empty - shot.rgb.astype(int)).sum(-1)
    assert lost[plate.is_floor & bare].max() > 20
    assert np.abs(lost[~plate.is_floor & bare]).max() <= 3


def test_sitting_puts_a_stool_in_the_room(person: Person):
    performance = perform_action(person, "sit_down")
    room = Room.sample(2)
    assert len(furnished(room, performance).parts) > len(room.parts)
    assert performance.stool_height_m == pytest.approx(0.45, abs=0.08)


def test_a_folder_in_use_is_refused(tmp_path: Path, body: Body):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        sample_capture(tmp_path, seed=3, frames=2, size_hw=(64, 64), body=body)
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_a_motion_of_another_body_is_refused(person: Person):
    motion = dataclasses.replace(turn(person.body, person.betas, person.manner, frames=2).motion, body_sha256="0" * 64)
    camera = Camera.level(focal_px=64.0, size_hw=(64, 64), height_m=1.0, distance_m=3.0)
    room = Room.sample(0)
    with pytest.raises(InputError, match="belongs to body"):
        next(film(person, motion, room, plate_of(room, camera, samples=1), camera))


@pytest.mark.slow
def test_mediapipe_finds_the_person_from_all_sides(person: Person):
    import mediapipe as mp

    motion = turn(person.body, person.betas, person.manner, frames=36).motion
    camera = camera_for(motion, person.body, seed=3)
    room = Room.sample(3)
    plate = plate_of(room, camera, samples=1)
    chosen = motion[torch.tensor([0, 3, 6, 9, 16, 18])]
    joints = camera.project(person.body.pose_motion(chosen).joints).numpy()
    with mp.solutions.pose.Pose(static_image_mode=True, model_complexity=1) as pose:
        for index, shot in enumerate(film(person, chosen, room, plate, camera)):
            found = pose.process(shot.rgb).pose_landmarks
            assert found is not None, index
            hips = np.array([[found.landmark[i].x * 512, found.landmark[i].y * 512] for i in (23, 24)]).mean(0)
            assert np.linalg.norm(hips - joints[index, [J["left_hip"], J["right_hip"]]].mean(0)) < 25
