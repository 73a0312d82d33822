"""Sixteen everyday actions and the capture turn, as keyframe scripts that any sampled person performs in their manner.

Each action is one small function from a `Manner` (and, where lengths matter, the `Rig`) to a script. Names follow the
NTU RGB+D list (Shahroudy et al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from avatars.body import Body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.rotations import axis_angle_from_matrix
from avatars.studio.keyframes import (
    BACK,
    DOWN,
    FORWARD,
    IN,
    STANCE,
    UP,
    Arm,
    Foot,
    Key,
    Manner,
    Performance,
    Pose,
    duration_s,
    minimum_jerk,
    perform,
    solve_legs,
    solve_pose,
    varied,
    with_life,
)  # fmt: skip
from avatars.studio.kinematics import J, Rig, unit

REST = Key(0.0, STANCE, 0.25)
BACK_TO_REST = Key(0.8, STANCE, 0.3)


def drink_water(by: Manner, rig: Rig) -> list[Key]:
    """Raise a cup to the mouth, tip the head back, drink, put it down."""
    hold = Arm(to=(-0.05, -0.32, 0.45), palm=IN, elbow=(0.5, -1.0, -0.3), curl="grip")
    sip = Arm(
        mark="mouth", point="grip", to=(0.0, -0.02, 0.035), palm=(-0.8, 0.1, -0.5), elbow=(0.7, -1, 0.1), curl="grip"
    )
    at_mouth = STANCE.side(by.side, sip)
    drinking = at_mouth.but(head=(-16, 0, 0), bend=(-3, 0, 0))
    return [
        REST, Key(0.7, STANCE.side(by.side, hold).but(head=(12, 0, 0)), 0.15), Key(0.6, at_mouth),
        Key(0.4, drinking, 0.9), Key(0.35, at_mouth), Key(0.6, STANCE.side(by.side, hold)), BACK_TO_REST,
    ]  # fmt: skip


def eat(by: Manner, rig: Rig) -> list[Key]:
    """Hold a bowl in one hand and carry two bites to the mouth with the other."""
    bowl = Arm(to=(-0.15, -0.42, 0.42), palm=UP, elbow=(0.4, -1, -0.4), curl="grip")
    dip = Arm(to=(-0.32, -0.36, 0.44), palm=(-0.5, -0.8, 0), elbow=(0.7, -1, -0.2), curl="pinch")
    bite = Arm(
        mark="mouth", point="pinch", to=(0, -0.01, 0.015), palm=(-0.3, -0.2, -1), elbow=(0.8, -0.9, 0.2), curl="pinch"
    )
    bowl_only = STANCE.side(by.other_side, bowl)
    dipping = bowl_only.side(by.side, dip).but(head=(22, 0, 0))
    biting = bowl_only.side(by.side, bite).but(head=(6, 0, 0), jaw=9)
    chewing = dipping.but(head=(4, 0, 0), jaw=1)
    return [
        REST, Key(0.8, dipping, 0.25), Key(0.55, biting, 0.2), Key(0.5, chewing, 0.2), Key(0.3, dipping, 0.1),
        Key(0.55, biting, 0.2), Key(0.5, chewing, 0.3), BACK_TO_REST,
    ]  # fmt: skip


def brush_teeth(by: Manner, rig: Rig) -> list[Key]:
    """Short quick strokes of a held brush to and fro before the mouth."""

    def brush(out_m: float) -> Pose:
        arm = Arm(
            mark="mouth",
            point="grip",
            to=(out_m, -0.015, 0.05),
            palm=BACK,
            fingers=(-1, 0.25, 0.1),
            elbow=(1, -0.7, 0.2),
            curl="fist",
        )
        return STANCE.side(by.side, arm).but(head=(8, 0, 0), jaw=5)

    strokes = [Key(0.17, brush(0.03 if stroke % 2 else 0.095)) for stroke in range(12)]
    return [REST, Key(0.9, brush(0.06), 0.1), *strokes, Key(0.2, brush(0.06)), BACK_TO_REST]


def pick_up(by: Manner, rig: Rig) -> list[Key]:
    """Crouch, take something from the floor with one hand, stand up holding it."""
    reach = Arm(
        mark="ground",
        point="tips",
        to=(0.1, 0.045, 0.36),
        palm=(0, -0.7, -0.7),
        fingers=(-0.1, -1, 0.25),
        elbow=(0.6, 0, -1),
        curl="relaxed",
    )
    balance = Arm(to=(0.3, -0.75, 0.35), palm=IN)
    hold = Arm(to=(0.0, -0.4, 0.45), palm=(-0.4, 0.8, 0), elbow=(0.4, -1, -0.4), curl="grip")
    heels = Foot(heel_deg=14, knee_out=0.3)
    for drop in np.linspace(0.4, 0.66, 9):  # as low as this body's arm needs
        down = Pose(bend=(40, 0, 0), head=(-8, 0, 0), hips=(0, -float(drop), -0.1), hips_deg=(38, 0, 0))
        down = down.side(by.side, reach).side(by.other_side, balance).but(left_foot=heels, right_foot=heels)
        solved = solve_pose(down, rig, by)
        wrist = rig.local_to_global(solved.local, solved.pelvis)[1][J[f"{by.side}_wrist"]]
        if wrist[1] < 0.045 + np.linalg.norm(rig.hand_marks["tips"]):
            break
    showing = STANCE.side(by.side, hold).but(head=(20, 0, 0))
    return [REST, Key(1.0, down, 0.3), Key(1.0, showing, 0.5), BACK_TO_REST]


def throw(by: Manner, rig: Rig) -> list[Key]:
    """Wind up behind the head, step, and hurl forward with a follow-through."""
    sign = 1.0 if by.side == "left" else -1.0
    back = Arm(to=(0.42, 0.42, -0.28), palm=FORWARD, elbow=(1, -0.4, -0.3), curl="grip")
    aim = Arm(to=(0.1, 0.05, 0.8), palm=DOWN, elbow=(0.6, -1, 0))
    release = Arm(to=(0.05, 0.35, 0.9), palm=(0, -1, 0.3), elbow=(1, -0.5, 0), curl="flat")
    follow = Arm(to=(-0.4, -0.55, 0.55), palm=BACK, elbow=(1, 0, 0.2))
    lead, rear = f"{by.other_side}_foot", f"{by.side}_foot"
    wind = Pose(
        bend=(-8, 0, sign * 32), head=(0, 0, -sign * 26), hips=(sign * 0.04, -0.03, -0.08), hips_deg=(0, 0, sign * 18)
    )
    wind = wind.side(by.side, back).side(by.other_side, aim).but(**{lead: Foot(to=(0, 0.06, 0.1), heel_deg=10)})
    hurl = Pose(bend=(16, 0, -sign * 20), head=(-6, 0, sign * 14), hips=(0, -0.06, 0.16), hips_deg=(4, 0, -sign * 10))
    hurl = hurl.side(by.side, release).but(**{lead: Foot(to=(0, 0, 0.32)), rear: Foot(heel_deg=28)})
    ended = hurl.side(by.side, follow).but(bend=(26, 0, -sign * 34), head=(-14, 0, sign * 18), hips=(0, -0.08, 0.19))
    return [REST, Key(0.8, wind, 0.12), Key(0.38, hurl), Key(0.32, ended, 0.25), BACK_TO_REST]


def _seated(rig: Rig, by: Manner) -> Pose:
    leg = sum(rig.leg_lengths)
    hip_drop = rig.joints[0][1] - rig.joints[1][1]
    thigh = rig.leg_lengths[0] / leg
    drop = (rig.joints[4][1] - rig.sole_y + rig.shoe_sole_m + 0.035 + hip_drop - rig.standing_pelvis[1]) / leg
    foot = Foot(to=(0.03, 0, 0.04), knee_out=0.2)
    return Pose(left_foot=foot, right_foot=foot, hips=(0, drop, -0.9 * thigh), hips_deg=(-6, 0, 0), bend=(8, 0, 0))


def _hands_on_thighs(pose: Pose, rig: Rig, by: Manner, *, share: float) -> Pose:
    """The pose with each palm on its thigh, at this share of the way from hip to knee."""
    legs = perform([Key(0.0, pose)], rig, by, np.zeros(1))
    rotations, joints = rig.local_to_global(solve_legs(legs, rig), legs.pelvis)
    hip, knee = joints[0, J["left_hip"]], joints[0, J["left_knee"]]
    along = unit(knee - hip)
    above = unit(np.array(UP) - along[1] * along)
    spot = hip + share * (knee - hip) + (rig.thigh_m + 0.015) * above
    in_pelvis = rotations[0, 0].T @ np.stack([-above, along], -1)
    to, palm, fingers = ((float(x), float(y), float(z)) for x, y, z in (spot, *in_pelvis.T))
    hand = Arm(
        mark="ground",
        point="palm",
        to=to,
        palm=palm,
        fingers=fingers,
        elbow=(0.7, -0.3, -1),
        curl="flat",
    )
    return pose.but(left=hand, right=hand)


def _rising(rig: Rig, by: Manner) -> Pose:
    seated = _seated(rig, by)
    x, drop, back = seated.hips
    lowered = seated.but(bend=(26, 0, 0), head=(-18, 0, 0), hips=(x, 0.72 * drop, 0.72 * back), hips_deg=(28, 0, 0))
    return _hands_on_thighs(lowered, rig, by, share=0.75)


def sit_down(by: Manner, rig: Rig) -> list[Key]:
    """Lean forward, lower onto a stool, straighten, hands on the thighs."""
    seated = _seated(rig, by)
    leaning = _hands_on_thighs(seated.but(bend=(22, 0, 0), head=(-14, 0, 0), hips_deg=(20, 0, 0)), rig, by, share=0.7)
    settled = _hands_on_thighs(seated, rig, by, share=0.65)
    return [REST, Key(0.75, _rising(rig, by)), Key(0.45, leaning), Key(0.6, settled, 0.9)]


def stand_up(by: Manner, rig: Rig) -> list[Key]:
    """From a stool, hands on the thighs: lean forward, rise, stand."""
    seated = _seated(rig, by)
    settled = _hands_on_thighs(seated, rig, by, share=0.65)
    leaning = _hands_on_thighs(seated.but(bend=(28, 0, 0), head=(-18, 0, 0), hips_deg=(26, 0, 0)), rig, by, share=0.7)
    return [Key(0.0, settled, 0.5), Key(0.6, leaning), Key(0.4, _rising(rig, by)), Key(0.75, STANCE, 0.7)]


def clap(by: Manner, rig: Rig) -> list[Key]:
    """Bring the palms together before the chest, again and again."""

    def palms(gap_m: float) -> Pose:
        arm = Arm(
            mark="chest",
            point="palm",
            to=(gap_m, 0.06, 0.24),
            palm=IN,
            fingers=(-0.15, 0.6, 0.8),
            elbow=(0.8, -1, -0.2),
            curl="flat",
        )
        return STANCE.but(left=arm, right=arm)

    wide = 0.17 * by.amplitude
    beats = [key for _ in range(5) for key in (Key(0.17, palms(0.002), 0.04), Key(0.19, palms(wide)))]
    return [REST, Key(0.7, palms(wide)), *beats, BACK_TO_REST]


def wave(by: Manner, rig: Rig) -> list[Key]:
    """Raise one hand beside the head and wave it from side to side."""

    def hand(out: float, up: float) -> Pose:
        arm = Arm(to=(out, up, 0.22), palm=FORWARD, elbow=(0.8, -1, -0.1), curl="flat")
        return STANCE.side(by.side, arm)

    beats = [key for _ in range(4) for key in (Key(0.24, hand(0.62, 0.36)), Key(0.24, hand(0.16, 0.5)))]
    return [REST, Key(0.7, hand(0.4, 0.48)), *beats, Key(0.25, hand(0.4, 0.48)), BACK_TO_REST]


def kick(by: Manner, rig: Rig) -> list[Key]:
    """Swing one leg back and kick forward, arms out for balance."""
    sign = 1.0 if by.side == "left" else -1.0
    foot, stand = f"{by.side}_foot", f"{by.other_side}_foot"
    ahead, behind = Arm(to=(0.3, -0.5, 0.65), palm=IN), Arm(to=(0.45, -0.75, -0.35), palm=IN)
    shift = -sign * 0.075
    cocked = Pose(hips=(shift, -0.03, 0.02), bend=(12, 0, 0), hips_deg=(10, 0, 0)).side(by.side, ahead)
    cocked = cocked.but(**{foot: Foot(to=(-0.02, 0.16, -0.42), heel_deg=38)}).side(by.other_side, behind)
    high = 0.56 * by.amplitude
    struck = Pose(hips=(shift, -0.03, 0.03), bend=(6, 0, 0), hips_deg=(-12, 0, 0)).side(by.other_side, ahead)
    struck = struck.but(**{foot: Foot(to=(-0.04, high, 0.82), toes_up_deg=28, knee_out=0.05), stand: Foot()}).side(
        by.side, behind
    )
    recoil = struck.but(**{foot: Foot(to=(-0.02, 0.2, 0.3))})
    return [REST, Key(0.55, cocked, 0.05), Key(0.36, struck, 0.06), Key(0.36, recoil), Key(0.5, STANCE, 0.4)]


def jump_up(by: Manner, rig: Rig) -> list[Key]:
    """Crouch with the arms behind, spring up with the arms overhead, land softly."""
    behind = Arm(to=(0.2, -0.8, -0.5), palm=IN)
    overhead = Arm(to=(0.22, 0.92, 0.2), palm=FORWARD, elbow=(0.8, 0, -0.6))
    low = Arm(to=(0.3, -0.75, 0.4), palm=IN)
    pointed = Foot(heel_deg=34)
    crouch = Pose(behind, behind, bend=(26, 0, 0), head=(-16, 0, 0), hips=(0, -0.27, -0.1), hips_deg=(26, 0, 0))
    rise_m = 0.26 * by.amplitude
    apex = Pose(overhead, overhead, pointed, pointed, bend=(-4, 0, 0), head=(-8, 0, 0), hips=(0, rise_m, 0.0))
    landed = Pose(low, low, bend=(22, 0, 0), head=(-12, 0, 0), hips=(0, -0.2, -0.07), hips_deg=(18, 0, 0))
    return [REST, Key(0.6, crouch, 0.08), Key(0.42, apex), Key(0.46, landed), Key(0.6, STANCE, 0.3)]


def point(by: Manner, rig: Rig) -> list[Key]:
    """Stretch one arm out with the index finger straight, and look there."""
    sign = 1.0 if by.side == "left" else -1.0
    rng = np.random.default_rng([by.seed, 5])
    out, up = rng.uniform(0.05, 0.55), rng.uniform(-0.05, 0.2)
    arm = Arm(to=(out, up, float(np.sqrt(1 - out**2 - up**2))), palm=(-0.3, -1, 0), elbow=(0.7, -1, 0), curl="point")
    pointing = STANCE.side(by.side, arm).but(head=(-4, 0, sign * 28 * out), bend=(0, 0, sign * 10 * out))
    return [REST, Key(0.75, pointing, 1.2), BACK_TO_REST]


def nod_bow(by: Manner, rig: Rig) -> list[Key]:
    """Nod twice, then bow from the hips."""
    nod, up = STANCE.but(head=(28, 0, 0)), STANCE.but(head=(-6, 0, 0))
    thighs = Arm(to=(0.02, -0.93, 0.24), palm=(-0.5, 0, -0.8))
    bow = Pose(thighs, thighs, bend=(30, 0, 0), head=(20, 0, 0), hips=(0, -0.03, -0.1), hips_deg=(28, 0, 0))
    return [
        REST,
        Key(0.35, nod),
        Key(0.3, up),
        Key(0.35, nod),
        Key(0.35, STANCE, 0.15),
        Key(0.8, bow, 0.5),
        BACK_TO_REST,
    ]


def salute(by: Manner, rig: Rig) -> list[Key]:
    """Fingertips to the temple, elbow out, standing straight."""
    arm = Arm(
        mark="temple",
        point="tips",
        to=(0.015, 0.012, 0.02),
        palm=(0.0, -0.75, 0.65),
        fingers=(-0.85, 0.48, 0.0),
        elbow=(1, -0.3, 0.25),
        curl="together",
    )
    straight = Pose(bend=(-4, 0, 0), left_foot=Foot(to=(-0.05, 0, 0)), right_foot=Foot(to=(-0.05, 0, 0)))
    return [REST, Key(0.6, straight.side(by.side, arm), 1.2), BACK_TO_REST]


def palms_together(by: Manner, rig: Rig) -> list[Key]:
    """Press the palms together before the chest, fingers up, with a slight bow of the head."""
    arm = Arm(
        mark="chest",
        point="palm",
        to=(0.0, 0.04, 0.13),
        palm=IN,
        fingers=(-0.05, 1, 0.2),
        elbow=(1, -0.6, -0.1),
        curl="together",
    )
    joined = STANCE.but(left=arm, right=arm)
    bowed = joined.but(head=(18, 0, 0), bend=(10, 0, 0))
    return [REST, Key(0.85, joined, 0.4), Key(0.5, bowed, 0.5), Key(0.5, joined, 0.1), BACK_TO_REST]


def _arms_apart_m(pose: Pose, rig: Rig, by: Manner) -> float:
    """Least distance between the bones from elbow to knuckles of both arms."""
    solved = solve_pose(pose, rig, by)
    _, joints = rig.local_to_global(solved.local, solved.pelvis)
    left, right = (
        np.concatenate([np.linspace(joints[J[f"{side}_{a}"]], joints[J[f"{side}_{b}"]], 30) for a, b in bones])
        for side in ("left", "right")
        for bones in [(("elbow", "wrist"), ("wrist", "middle1"))]
    )
    return float(np.linalg.norm(left[:, None] - right, axis=-1).min())


def cross_hands(by: Manner, rig: Rig) -> list[Key]:
    """Cross the forearms before the chest, one in front of the other: stop."""

    def crossed(forward_m: float) -> Arm:
        return Arm(
            mark="chest",
            point="wrist",
            to=(-0.05, 0.1, forward_m),
            palm=(0, 0.1, 1),
            fingers=(-0.6, 0.8, 0.1),
            elbow=(1, -1, 0),
            curl="together",
        )

    middle_m = 0.35 * sum(rig.arm_lengths)
    for gap_m in np.linspace(0.06, 0.2, 15):  # as far apart as this body's forearms are thick
        front, behind = middle_m + float(gap_m) / 2, middle_m - float(gap_m) / 2
        cross = STANCE.side(by.side, crossed(front)).side(by.other_side, crossed(behind))
        if _arms_apart_m(cross, rig, by) > 2 * rig.forearm_m:
            break
    return [REST, Key(0.7, cross, 1.1), BACK_TO_REST]


ACTIONS: dict[str, Callable[[Manner, Rig], list[Key]]] = {
    "drink_water": drink_water, "eat": eat, "brush_teeth": brush_teeth, "pick_up": pick_up, "throw": throw,
    "sit_down": sit_down, "stand_up": stand_up, "clap": clap, "wave": wave, "kick": kick, "jump_up": jump_up,
    "point": point, "nod_bow": nod_bow, "salute": salute, "palms_together": palms_together, "cross_hands": cross_hands,
}  # fmt: skip
SEATED_ACTIONS = ("sit_down", "stand_up")
HANDS_DOWN = Arm(to=(0.27, -0.93, 0.05), palm=IN)
DOUBLE_L = Arm(to=(0.53, 0.475, 0.02), palm=FORWARD, fingers=(0, 1, 0), elbow=(1, -1, -0.12), curl="flat")


@dataclass(frozen=True, slots=True)
class Act:
    """What a person does in one clip, for the default body; `stool_height_m` is set when they sit on one."""

    action: str
    motion: Motion
    stool_height_m: float | None = None
    stool_place_m: tuple[float, float, float] = (0.0, 0.0, 0.0)


def act(
    action: str,
    body: Body,
    betas: np.ndarray,
    manner: Manner,
    *,
    fps: float = 30.0,
    take: int = 0,
    shoe_sole_m: float = 0.008,
) -> Act:
    """One take of an action: each `take` of the same person differs a little in timing, place and heading.

    Raises InputError when the action is not in `ACTIONS`.
    """
    if action not in ACTIONS:
        raise InputError(f"No action {action!r}; the studio knows {', '.join(ACTIONS)}, and turn.")
    rig = Rig.of(body, betas, shoe_sole_m=shoe_sole_m)
    rng = np.random.default_rng([manner.seed, take, sorted(ACTIONS).index(action)])
    script = varied(ACTIONS[action](manner, rig), manner, rng)
    times_s = np.arange(round(duration_s(script) * fps) + 1) / fps
    performance = with_life(perform(script, rig, manner, times_s), rng)
    yaw, place = float(rng.normal(0.0, 0.2)), np.array([rng.normal(0, 0.08), 0.0, rng.normal(0, 0.08)])
    motion = motion_of(performance.turned(yaw, place), rig, body, betas, name=action)
    if action not in SEATED_ACTIONS:
        return Act(action, motion)
    seat = min(range(len(times_s)), key=lambda i: performance.pelvis[i, 1])
    spot = Rotation.from_rotvec([0.0, yaw, 0.0]).apply(performance.pelvis[seat] * [1.0, 0.0, 1.0]) + place
    return Act(action, motion, rig.seat_height_m, (float(spot[0]), 0.0, float(spot[2])))


def turn(
    body: Body,
    betas: np.ndarray,
    manner: Manner,
    *,
    frames: int = 324,
    fps: float = 18.0,
    take: int = 0,
    shoe_sole_m: float = 0.008,
) -> Act:
    """The capture protocol: three slow turns on the spot, hands down, hands up in a double L, hands down.

    The person turns by small steps; the feet stand still between them.
    """
    rig = Rig.of(body, betas, shoe_sole_m=shoe_sole_m)
    rng = np.random.default_rng([manner.seed, take, 99])
    times_s = np.arange(frames) / fps
    third = frames / fps / 3.0
    shift = min(0.45, third / 8)
    down, up = STANCE.but(left=HANDS_DOWN, right=HANDS_DOWN), STANCE.but(left=DOUBLE_L, right=DOUBLE_L)
    still = third - 2 * shift
    script = [Key(0.0, down, third - shift), Key(2 * shift, up, still), Key(2 * shift, down, third)]
    performance = with_life(perform(script, rig, manner, times_s), rng, 0.8)
    direction = 1.0 if rng.random() < 0.5 else -1.0
    phase = times_s / (frames / fps)
    yaw = direction * 2 * np.pi * 3 * (phase + 0.004 * np.sin(2 * np.pi * (5 * phase + rng.random())))
    yaw = yaw - yaw[0]
    steps = int(rng.integers(9, 13)) if third > 2.0 else 6
    performance = turning_on_the_spot(performance, rig, yaw, steps_per_turn=steps)
    return Act("turn", motion_of(performance, rig, body, betas, name="turn"))


def turning_on_the_spot(performance: Performance, rig: Rig, yaw: np.ndarray, *, steps_per_turn: int) -> Performance:
    """Turn the body by `yaw` (frames,) radians while the feet follow in alternating small steps."""
    root = Rotation.from_rotvec(np.outer(yaw, [0.0, 1.0, 0.0])).as_matrix()
    local, feet, feet_R = performance.local.copy(), performance.feet.copy(), performance.feet_rotation.copy()
    local[:, 0] = root @ local[:, 0]
    step = 2 * np.pi / steps_per_turn
    sign = np.sign(yaw[-1]) or 1.0
    for side in range(2):
        progress = sign * yaw / step + 0.5 * side
        whole, part = np.floor(progress), progress % 1.0
        swing = np.clip((part - 0.28) / 0.44, 0.0, 1.0)  # the foot is in the air for 44 % of its step
        foot_yaw = sign * step * (whole + minimum_jerk(swing) - 0.5 * side)
        R = Rotation.from_rotvec(np.outer(foot_yaw, [0.0, 1.0, 0.0])).as_matrix()
        feet[:, side] = np.einsum("tij,tj->ti", R, feet[:, side])
        feet[:, side, 1] += 0.035 * np.sin(np.pi * swing) ** 2
        feet_R[:, side] = R @ feet_R[:, side]
    pelvis = np.einsum("tij,tj->ti", root, performance.pelvis)
    weight = np.stack([np.cos(2 * np.pi * (sign * yaw / step)) * 0.012, 0 * yaw, 0 * yaw], -1)
    return replace(
        performance, local=local, feet=feet, feet_rotation=feet_R, pelvis=pelvis + np.einsum("tij,tj->ti", root, weight)
    )


def motion_of(performance: Performance, rig: Rig, body: Body, betas: np.ndarray, *, name: str) -> Motion:
    """The SMPL-X Motion of a performance: legs solved, `transl` such that the pelvis joint is where it should be."""
    local = solve_legs(performance, rig)
    frames = len(local)
    transl = performance.pelvis - rig.joints[0]
    return Motion(
        poses=axis_angle_from_matrix(torch.from_numpy(local)).float(),
        transl=torch.from_numpy(transl).float(),
        betas=torch.as_tensor(betas, dtype=torch.float32),
        expression=torch.zeros(frames, body.n_expression),
        times_s=torch.from_numpy(performance.times_s),
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
        name=name,
    )
