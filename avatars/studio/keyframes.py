"""A tiny keyframe language: poses said in words about hands, feet and spine, turned into an SMPL-X Motion.

A `Script` is a list of `Key`s; each names how long it takes to get there, the `Pose`, and how long it is held. Arms are
solved at the keys and turned along minimum-jerk slerps between them (Flash & Hogan 1985); legs are solved on every
frame, so that feet stay where they stand. Directions are (out, up, forward): out is away from the body's middle on the
side of the limb, so that one pose serves both hands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.transform import Rotation

from avatars.studio.kinematics import (
    ELBOW_HINGE,
    KNEE_HINGE,
    MIRROR,
    PALM_NORMAL,
    J,
    Rig,
    euler,
    mirrored,
    turned,
    twist_about,
    two_bone,
    unit,
)  # fmt: skip

Vector = tuple[float, float, float]
OUT, IN, UP, DOWN, FORWARD, BACK = (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)
SIDES = ("left", "right")
PRONATION_IN_FOREARM = 0.55  # the share of the hand's twist taken by the elbow joint: skin twists less at the wrist


@dataclass(frozen=True, slots=True)
class Arm:
    """Where one hand goes and how it is held."""

    to: Vector = (0.16, -0.975, 0.06)
    """Where `point` of the hand goes: offset from the shoulder in arm lengths, or from the mark in meters."""
    mark: str | None = None
    """A mark of the head, "chest", or "ground" (offset from the spot between the feet, world directions)."""
    point: str = "wrist"
    """The point of the hand that goes there: wrist, palm, tips, grip or pinch."""
    palm: Vector = IN
    """Direction of the palm."""
    fingers: Vector | None = None
    """Direction of the fingers; None lets them follow the forearm."""
    elbow: Vector = (0.25, -0.2, -1.0)
    """Direction toward which the elbow points."""
    curl: str = "relaxed"
    """A hand shape of `HAND_SHAPES`."""


@dataclass(frozen=True, slots=True)
class Foot:
    """Where one foot stands, relative to its place in the stance, in leg lengths."""

    to: Vector = (0.0, 0.0, 0.0)
    heel_deg: float = 0.0
    """Heel raised, turning over the ball of the foot."""
    toes_up_deg: float = 0.0
    """Whole foot pitched about the ankle, toes up."""
    knee_out: float = 0.05
    """How far the knee points out rather than forward."""


@dataclass(frozen=True, slots=True)
class Pose:
    """A whole-body key pose; angles in degrees."""

    left: Arm = Arm()
    right: Arm = Arm()
    left_foot: Foot = Foot()
    right_foot: Foot = Foot()
    bend: Vector = (0.0, 0.0, 0.0)
    """Spine: forward, toward the left, twist to the left."""
    head: Vector = (0.0, 0.0, 0.0)
    """Neck and head: nod down, toward the left, turn to the left."""
    hips: Vector = (0.0, -0.011, 0.0)
    """Pelvis offset: to the left, up, forward, in leg lengths; people stand with slightly bent knees."""
    hips_deg: Vector = (0.0, 0.0, 0.0)
    """Pelvis: forward, toward the left, turn to the left."""
    jaw: float = 0.0
    """Mouth opening."""

    def but(self, **changes: object) -> Pose:
        """This pose with some parts changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def side(self, side: str, arm: Arm) -> Pose:
        """This pose with the arm of one side changed."""
        return replace(self, **{side: arm})  # type: ignore[arg-type]


STANCE = Pose()


@dataclass(frozen=True, slots=True)
class Key:
    """A pose on the time line: seconds to get there from the last one, and seconds to stay."""

    reach_s: float
    pose: Pose
    hold_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How one person does things: sampled per person, the same in all their actions."""

    seed: int = 0
    speed: float = 1.0
    amplitude: float = 1.0
    sloppiness: float = 1.0
    """Scale of the random changes of timing and place."""
    side: str = "right"
    stance_m: float = 0.02
    """How far each foot stands further out than in the T-pose."""
    toes_out_deg: float = 8.0

    @staticmethod
    def sample(seed: int) -> Manner:
        """A manner drawn from `seed`; one person in six is left-handed."""
        rng = np.random.default_rng([seed, 11])
        return Manner(
            seed=seed,
            speed=float(np.exp(rng.normal(0.0, 0.13))),
            amplitude=float(np.clip(rng.normal(1.0, 0.1), 0.8, 1.2)),
            sloppiness=float(rng.uniform(0.6, 1.3)),
            side="left" if rng.random() < 1 / 6 else "right",
            stance_m=float(rng.uniform(-0.01, 0.045)),
            toes_out_deg=float(rng.uniform(3, 14)),
        )

    @property
    def other_side(self) -> str:
        """The side that is not the preferred one."""
        return "left" if self.side == "right" else "right"


def varied(script: list[Key], manner: Manner, rng: np.random.Generator) -> list[Key]:
    """The script as this person does it this time: timing, amplitude and the places of free hands change a little."""
    keys = []
    for key in script:
        pace = np.exp(rng.normal(0.0, 0.08 * manner.sloppiness, 2)) / manner.speed
        keys.append(Key(key.reach_s * float(pace[0]), _varied_pose(key.pose, manner, rng), key.hold_s * float(pace[1])))
    return keys


def _varied_pose(pose: Pose, manner: Manner, rng: np.random.Generator) -> Pose:
    def angles(values: Vector) -> Vector:
        noise = rng.normal(0.0, 1.2 * manner.sloppiness, 3)
        return tuple(float(v * manner.amplitude + n) for v, n in zip(values, noise, strict=True))  # type: ignore[return-value]

    def arm(given: Arm) -> Arm:
        noise = rng.normal(0.0, 0.02 * manner.sloppiness, 3)
        if given.mark is not None:  # contact: stays where it is meant to be
            return given
        return replace(given, to=tuple(float(v + n) for v, n in zip(given.to, noise, strict=True)))

    return replace(pose, left=arm(pose.left), right=arm(pose.right), bend=angles(pose.bend), head=angles(pose.head))


# Degrees of flexion at the three joints of index, middle, ring and pinky, spread between them, and the thumb's
# (across the palm, curl, tip).
HAND_SHAPES: dict[str, tuple[tuple[Vector, ...], float, Vector]] = {
    "relaxed": (((14, 20, 12), (18, 24, 14), (22, 26, 15), (24, 28, 16)), 0.0, (10, 8, 8)),
    "flat": (((2, 3, 2),) * 4, 1.0, (0, 0, 0)),
    "together": (((2, 3, 2),) * 4, -1.0, (14, 4, 4)),
    "fist": (((78, 88, 55), (82, 92, 58), (84, 92, 58), (84, 90, 58)), -0.5, (38, 32, 38)),
    "point": (((2, 4, 2), (80, 90, 55), (82, 92, 56), (82, 90, 56)), 0.0, (36, 28, 34)),
    "grip": (((46, 42, 24), (50, 46, 26), (54, 48, 28), (58, 50, 28)), -0.3, (34, 12, 14)),
    "pinch": (((44, 40, 22), (52, 46, 26), (60, 56, 30), (64, 60, 32)), -0.3, (32, 18, 20)),
}


def hand_rotations(shape: str) -> np.ndarray:
    """Local rotations (15, 3, 3) of the left hand's finger joints: index, middle, pinky, ring, thumb."""
    flexion, spread, thumb = HAND_SHAPES[shape]
    index, middle, ring, pinky = flexion
    out = []
    for degrees, fan in ((index, 4.0), (middle, 1.0), (pinky, -9.0), (ring, -4.0)):
        for joint, angle in enumerate(degrees):
            fan_deg = -fan * spread if joint == 0 else 0.0
            out.append(Rotation.from_euler("yz", [fan_deg, -angle], degrees=True).as_matrix())
    across, curl, tip = thumb
    out.append(Rotation.from_rotvec(np.radians(across) * unit(np.array([0.75, 0.25, -0.6]))).as_matrix())
    out.append(Rotation.from_rotvec(np.radians(curl) * unit(np.array([0.35, 0.8, -0.45]))).as_matrix())
    out.append(Rotation.from_rotvec(np.radians(tip) * unit(np.array([0.35, 0.8, -0.45]))).as_matrix())
    return np.stack(out)


@dataclass(frozen=True)
class SolvedPose:
    """A key pose as rotations: everything but the legs, whose feet are carried as places."""

    local: np.ndarray
    """(55, 3, 3); the legs' are identity."""
    pelvis: np.ndarray
    feet: np.ndarray
    """(2, 3) ankle places, world."""
    feet_rotation: np.ndarray
    """(2, 3, 3)."""
    toes: np.ndarray
    """(2,) radians that the toes bend up."""
    knees_out: np.ndarray


def solve_pose(pose: Pose, rig: Rig, manner: Manner) -> SolvedPose:
    """Turn a pose in words into rotations for this person."""
    local = np.tile(np.eye(3), (55, 1, 1))
    forward, left, turn = pose.hips_deg
    local[0] = euler(forward, -left, turn)
    for name, share in (("spine1", 0.32), ("spine2", 0.36), ("spine3", 0.32)):
        local[J[name]] = euler(share * pose.bend[0], -share * pose.bend[1], share * pose.bend[2])
    for name, share in (("neck", 0.45), ("head", 0.55)):
        local[J[name]] = euler(share * pose.head[0], -share * pose.head[1], share * pose.head[2])
    local[J["jaw"]] = euler(pose.jaw, 0, 0)
    leg = sum(rig.leg_lengths)
    pelvis = rig.standing_pelvis + leg * np.array(pose.hips)
    for side in SIDES:
        _solve_arm(getattr(pose, side), side, local, pelvis, rig)
    feet = [_place_foot(getattr(pose, f"{side}_foot"), side, rig, manner) for side in SIDES]
    knees = np.array([pose.left_foot.knee_out, pose.right_foot.knee_out])
    places, rotations, toes = zip(*feet, strict=True)
    return SolvedPose(local, pelvis, np.stack(places), np.stack(rotations), np.array(toes), knees)


def _place_foot(foot: Foot, side: str, rig: Rig, manner: Manner) -> tuple[np.ndarray, np.ndarray, float]:
    ankle, ball = rig.joints[J["left_ankle"]], rig.joints[J["left_foot"]]
    lift = np.array([0.0, rig.shoe_sole_m - rig.sole_y, 0.0])
    yaw = euler(0, 0, manner.toes_out_deg)
    stance = np.array([manner.stance_m, 0.0, 0.0]) + sum(rig.leg_lengths) * np.array(foot.to)
    raised = yaw @ euler(foot.heel_deg, 0, 0)
    # The ball stays down while the heel rises: turn the ankle about it.
    ball_place = ankle + yaw @ (ball - ankle)
    place = ball_place - raised @ (ball - ankle) + lift + stance
    rotation = raised @ euler(-foot.toes_up_deg, 0, 0)
    toes = np.radians(foot.heel_deg)
    return (place, rotation, toes) if side == "left" else (MIRROR @ place, mirrored(rotation), toes)


def _solve_arm(arm: Arm, side: str, local: np.ndarray, pelvis: np.ndarray, rig: Rig) -> None:
    """Write collar, shoulder, elbow, wrist and fingers of one arm into `local`; the right arm is solved in a mirror."""
    flip = (lambda R: R) if side == "left" else mirrored
    see = (lambda p: p) if side == "left" else (lambda p: MIRROR @ p)
    rotations, joints = rig.local_to_global(local, pelvis, (J["head"],))
    chest_R, chest_p = flip(rotations[J["spine3"]]), see(joints[J["spine3"]])
    rest = rig.joints  # assumed symmetric: the left limb stands for both
    shoulder_rest, elbow_rest, wrist_rest = (rest[J[f"left_{n}"]] for n in ("shoulder", "elbow", "wrist"))
    collar_place = chest_p + chest_R @ (rest[J["left_collar"]] - rest[J["spine3"]])
    to_shoulder = shoulder_rest - rest[J["left_collar"]]

    directions = chest_R if arm.mark != "ground" else flip(local[0])
    palm, elbow = (unit(directions @ np.array(v, float)) for v in (arm.palm, arm.elbow))
    fingers = None if arm.fingers is None else unit(directions @ np.array(arm.fingers, float))
    goal = _goal(arm, side, directions, collar_place + chest_R @ to_shoulder, rotations, joints, rig)

    wrist = goal
    collar_R = chest_R
    for _ in range(4):  # the hand's direction depends on the forearm's where fingers follow it
        collar_R = chest_R @ _collar(chest_R.T @ (wrist - collar_place))
        shoulder = collar_place + collar_R @ to_shoulder
        upper, lower, hinge = two_bone(shoulder, wrist, elbow, rig.arm_lengths)
        hand_R = _hand(lower if fingers is None else fingers, palm, rig)
        wrist = goal - hand_R @ rig.hand_marks[arm.point]
    upper_R = turned(elbow_rest - shoulder_rest, ELBOW_HINGE, upper, hinge)
    lower_R = turned(wrist_rest - elbow_rest, ELBOW_HINGE, lower, hinge)
    along = unit(wrist_rest - elbow_rest)
    twist = twist_about(lower_R.T @ hand_R, along)
    lower_R = lower_R @ Rotation.from_rotvec(PRONATION_IN_FOREARM * twist * along).as_matrix()
    chain = (chest_R, collar_R, upper_R, lower_R, hand_R)
    for name, parent, child in zip(("collar", "shoulder", "elbow", "wrist"), chain[:-1], chain[1:], strict=True):
        local[J[f"{side}_{name}"]] = flip(parent.T @ child)
    first = J[f"{side}_index1"]
    local[first : first + 15] = [flip(R) for R in hand_rotations(arm.curl)]


def _goal(
    arm: Arm,
    side: str,
    directions: np.ndarray,
    shoulder: np.ndarray,
    rotations: np.ndarray,
    joints: np.ndarray,
    rig: Rig,
) -> np.ndarray:
    """The place (3,) of the hand's point, in the mirrored world where the arm is a left arm."""
    see = (lambda p: p) if side == "left" else (lambda p: MIRROR @ p)
    offset = directions @ np.array(arm.to, float)
    if arm.mark is None:
        return shoulder + sum(rig.arm_lengths) * offset
    if arm.mark == "ground":
        return np.array(arm.to, float)
    if arm.mark == "chest":
        chest = J["spine3"]
        return see(joints[chest] + rotations[chest] @ (rig.chest_mark - rig.joints[chest])) + offset
    mark, head = rig.head_marks[arm.mark], J["head"]
    if side == "right" and arm.mark == "temple":
        mark = MIRROR @ mark
    return see(joints[head] + rotations[head] @ (mark - rig.joints[head])) + offset


def _collar(reach: np.ndarray) -> np.ndarray:
    """Collar bone rotation: up with a raised arm, forward with one that reaches across."""
    out, up, forward = unit(reach)
    lift = np.degrees(0.42 * max(up, 0.0) ** 1.2 - 0.05)
    swing = np.degrees(0.22 * max(forward, 0.0) + 0.15 * max(-out, 0.0))
    return Rotation.from_euler("zy", [lift, -swing], degrees=True).as_matrix()


def _hand(fingers: np.ndarray, palm: np.ndarray, rig: Rig) -> np.ndarray:
    middle = rig.joints[J["left_middle1"]] - rig.joints[J["left_wrist"]]
    return turned(middle, PALM_NORMAL, fingers, palm)


@dataclass(frozen=True)
class Performance:
    """Key poses sampled at frame times: everything but the legs solved, feet given as places."""

    local: np.ndarray
    """(frames, 55, 3, 3)."""
    pelvis: np.ndarray
    feet: np.ndarray
    """(frames, 2, 3)."""
    feet_rotation: np.ndarray
    toes: np.ndarray
    knees_out: np.ndarray
    times_s: np.ndarray
    seat_height_m: float | None = field(default=None)

    def turned(self, yaw: float, place: np.ndarray) -> Performance:
        """The whole performance turned about +Y by `yaw` (radians) and moved by `place` (3,)."""
        R = Rotation.from_rotvec([0.0, yaw, 0.0]).as_matrix()
        local = self.local.copy()
        local[:, 0] = R @ local[:, 0]
        return replace(
            self,
            local=local,
            pelvis=self.pelvis @ R.T + place,
            feet=self.feet @ R.T + place,
            feet_rotation=R @ self.feet_rotation,
        )


def minimum_jerk(s: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1 with zero speed and acceleration at both ends (Flash & Hogan 1985)."""
    s = np.clip(s, 0.0, 1.0)
    return s**3 * (10.0 - 15.0 * s + 6.0 * s**2)


def duration_s(script: list[Key]) -> float:
    """Length of a script, seconds."""
    return sum(key.reach_s + key.hold_s for key in script)


def perform(script: list[Key], rig: Rig, manner: Manner, times_s: np.ndarray) -> Performance:
    """Sample a script at `times_s` (frames,). The first key is where it begins; its `reach_s` does not count."""
    solved = [solve_pose(key.pose, rig, manner) for key in script]
    index, weight = _segments(script, times_s)
    after = np.minimum(index + 1, len(solved) - 1)

    def gather(name: str) -> tuple[np.ndarray, np.ndarray]:
        values = np.stack([getattr(pose, name) for pose in solved])
        return values[index], values[after]

    def blend(name: str) -> np.ndarray:
        a, b = gather(name)
        return a + weight.reshape(-1, *[1] * (a.ndim - 1)) * (b - a)

    def slerp(name: str) -> np.ndarray:
        a, b = gather(name)
        difference = Rotation.from_matrix((np.swapaxes(a, -1, -2) @ b).reshape(-1, 3, 3)).as_rotvec()
        scaled = difference.reshape(*a.shape[:2], 3) * weight[:, None, None]
        return a @ Rotation.from_rotvec(scaled.reshape(-1, 3)).as_matrix().reshape(a.shape)

    return Performance(
        slerp("local"),
        blend("pelvis"),
        blend("feet"),
        slerp("feet_rotation"),
        blend("toes"),
        blend("knees_out"),
        times_s,
    )


def _segments(script: list[Key], times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index (frames,) of the key left behind and eased weight (frames,) of the next."""
    leave, clock = [], -script[0].reach_s
    arrive = []
    for key in script:
        clock += key.reach_s
        arrive.append(clock)
        clock += key.hold_s
        leave.append(clock)
    index = np.clip(np.searchsorted(arrive, times_s, side="right") - 1, 0, len(script) - 1)
    after = np.minimum(index + 1, len(script) - 1)
    span = np.array(arrive)[after] - np.array(leave)[index]
    s = (times_s - np.array(leave)[index]) / np.maximum(span, 1e-6)
    return index, np.where(after > index, minimum_jerk(s), 0.0)


def with_life(performance: Performance, rng: np.random.Generator, amount: float = 1.0) -> Performance:
    """Add breathing and small sways to spine, head and pelvis; feet stay."""
    times = performance.times_s
    local, pelvis = performance.local.copy(), performance.pelvis.copy()
    breath = np.sin(2 * np.pi * (0.27 * times + rng.random()))
    for name, degrees in (("spine1", 0.5), ("spine2", 0.5), ("spine3", 0.4), ("neck", 0.8), ("head", 1.0)):
        noise = _sway(times, rng) * np.radians(degrees) * amount
        if name == "spine3":
            noise[:, 0] -= np.radians(0.5) * breath * amount
        local[:, J[name]] = local[:, J[name]] @ Rotation.from_rotvec(noise).as_matrix()
    pelvis += _sway(times, rng) * np.array([0.006, 0.0, 0.004]) * amount
    return replace(performance, local=local, pelvis=pelvis)


def _sway(times_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Band-limited noise (frames, 3) of about unit size between 0.1 and 0.7 Hz."""
    rates = rng.uniform(0.1, 0.7, (4, 3))
    phases = rng.uniform(0, 2 * np.pi, (4, 3))
    return np.sin(2 * np.pi * rates * times_s[:, None, None] + phases).sum(1) / 2.0


def solve_legs(performance: Performance, rig: Rig) -> np.ndarray:
    """Local rotations (frames, 55, 3, 3) with hips, knees, ankles and toes solved to the feet's places."""
    local = performance.local.copy()
    root = performance.local[:, 0]
    pelvis_rest = rig.joints[0]
    for side_index, side in enumerate(SIDES):
        hip, knee, ankle = (rig.joints[J[f"{side}_{n}"]] for n in ("hip", "knee", "ankle"))
        foot_R = performance.feet_rotation[:, side_index]
        out = np.array([1.0 if side == "left" else -1.0, 0.0, 0.0])
        toward = unit((foot_R @ [0.0, 0.0, 1.0]) * [1.0, 0.0, 1.0] + 0.6 * (root @ np.array([0.0, 0.0, 1.0])))
        toward = toward + performance.knees_out[:, side_index, None] * (root @ out)
        hip_place = performance.pelvis + root @ (hip - pelvis_rest)
        lengths = (float(np.linalg.norm(knee - hip)), float(np.linalg.norm(ankle - knee)))
        upper, lower, hinge = two_bone(hip_place, performance.feet[:, side_index], toward, lengths)
        upper_R = turned(np.broadcast_to(knee - hip, upper.shape), KNEE_HINGE, upper, hinge)
        lower_R = turned(np.broadcast_to(ankle - knee, lower.shape), KNEE_HINGE, lower, hinge)
        for name, parent, child in (("hip", root, upper_R), ("knee", upper_R, lower_R), ("ankle", lower_R, foot_R)):
            local[:, J[f"{side}_{name}"]] = np.swapaxes(parent, -1, -2) @ child
        toes = performance.toes[:, side_index]
        local[:, J[f"{side}_foot"]] = Rotation.from_rotvec(-toes[:, None] * [1.0, 0.0, 0.0]).as_matrix()
    return local
