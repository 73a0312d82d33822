"""Keypoints -> SMPL-X pose of every frame, shape and distance, by one optimization over the whole clip.

The fit lives in *view axes*: the camera at the origin, x right, y up, z toward the viewer, so that a body in rest
faces the camera. After SMPLify (Bogo et al. 2016) and SMPLify-X (Pavlakos et al. 2019): robust reprojection
(Geman & McClure 1987), pose and shape priors, stages from the root outward; and, as in MMPose-style lifting, the
detector's single-view 3D hint, used for bone directions only. What one view cannot tell is borrowed from other times:
limbs that need not move stay still, so that a turning person is seen from all sides in nearly one pose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.body.motion import N_JOINTS
from avatars.body.pose_prior import PosePrior
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.kernels.adam import Adam, one_cycle
from avatars.kernels.threads import torch_on_one_thread
from avatars.perception.containers import Keypoints
from avatars.perception.detector_marks import detector_marks, face_breadth
from avatars.tracking.balance import balance_offset
from avatars.tracking.coarse_body import N_COARSE_JOINTS, N_COARSE_KEYPOINTS, coarse_body
from avatars.tracking.evidence import JAW_ENDS, Deviations, Evidence, gather_evidence
from avatars.tracking.foot_contacts import feet_seen
from avatars.tracking.held_turn import as_marked, mean_axis, of_a_held_turn, off_axis
from avatars.tracking.initialization import TORSO, distances_m, limb_poses, root_rotations

BODY_JOINTS, HEAD_JOINTS = slice(1, 22), slice(22, 25)
HAND_JOINTS = slice(25, 55)
FEET_POINTS = slice(15, 23)
MAX_FACE_TREMBLING = 0.05
"""A face whose breadth varies more (standard deviation, relative) from frame to frame is no measure."""
HEAD, ANKLES = 15, [7, 8]
"""Joints."""
COARSE_RATE_HZ = 9.0
"""The body is fitted to about this many frames a second first: slow changes settle faster on a coarse grid of time."""


@dataclass(frozen=True, slots=True)
class KeypointWeights:
    """How strongly each kind of evidence speaks; deviations are one standard deviation."""

    keypoints: Deviations = field(default_factory=Deviations)
    outlier: float = 5.0
    """Deviations at which a keypoint counts as an outlier (Geman-McClure) at the end; each stage starts with three
    times as many, so that limbs far from their keypoints are drawn in."""
    limit: float = 0.05
    """Leaving a joint's range (radians)."""
    hinge: float = 0.07
    """Leaving the plane in which a knee or an elbow bends (radians)."""
    prior: float = 1.0
    acceleration_m_s2: float = 0.6
    turn_rad_s2: float = 2.0
    """Slower changes of speed are taken for trembling and smoothed strongly; faster ones cost in proportion."""
    smooth: float = 0.05
    heading_rad_s2: float = 6.0
    speed_rad_s: float = 0.5
    """Joints that turn slower than this are taken to be still."""
    stillness: float = 0.2
    step_m_s: float = 0.15
    """Feet slower than this are taken to stand."""
    standing: float = 0.05
    betas: float = 3.0
    """Of a body's squared shape coefficients (one unit is one standard deviation among adults): keypoints tell a
    person's proportions badly and size not at all."""
    balance: float = 3.0
    balance_m: float = 0.05
    """How far from above their feet a standing person's center of mass is, where up is known."""
    face: float = 0.03
    """Breadth of the face, relative: grown heads differ in size by less than bodies do."""
    held_turn: bool = False
    """The person turns about one axis (`held_turn`)."""
    axis: float = 1.0
    """Leaning away from that axis."""

    @staticmethod
    def of_a_held_turn() -> KeypointWeights:
        """For a person who turns on the spot and holds their limbs still: then every side is a view of one pose, which
        tells depth, and the shape may follow the keypoints more.

        At 10 times this weight, moving limbs lag behind the keypoints.
        """
        return KeypointWeights(
            stillness=1.0, speed_rad_s=0.15, heading_rad_s2=2.0, standing=0.5, betas=1.0, held_turn=True
        )


@dataclass(frozen=True, slots=True)
class BodyFit:
    """A fitted clip in view axes; every frame is a valid one."""

    rotation: Float[Tensor, "frames 3 3"]
    """Root orientation."""
    pelvis: Float[Tensor, "frames 3"]
    """Pelvis joint, meters; z is minus the distance."""
    poses: Float[Tensor, "frames 55 3"]
    """Axis-angle; the root's row is zero."""
    betas: Float[Tensor, " shape"]
    expression: Float[Tensor, "frames expression"]
    focal_px: float
    legs_seen: float
    """Share of frames that show a knee and an ankle."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipFacts:
    """What is known of a clip besides its keypoints."""

    focal_px: float
    height_m: float | None = None
    """Of the person; None: from the face."""
    up: Float[Tensor, " 3"] | None = None
    """Unit, view axes; where it is known, people keep their balance."""
    detector: str = ""
    """Whose keypoints they are (`detector_marks`)."""
    betas: Float[Tensor, " shape"] | None = None
    """Kept as they are: windows of one clip share one shape."""


def fit_keypoints(
    keypoints: Keypoints,
    times_s: Float[Tensor, " frames"],
    body: Body,
    facts: ClipFacts,
    *,
    iterations: int = 160,
    weights: KeypointWeights | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> BodyFit:
    """Fit a body to keypoints whose frames are all valid and whose sides are right (`side_exchanges`).

    Stages: pose from the 3D hint alone; distance, root and shape from the torso; the body, at first on a coarse grid of
    time; then face and hands too.
    """
    weights = weights or KeypointWeights()
    with torch_on_one_thread():
        fit = _Fit(keypoints, times_s, body, facts, weights, on_step)
        if facts.betas is not None:
            fit.keep("betas", facts.betas)
        frames = _coarse_frames(times_s)
        coarse = fit.at(frames) if len(frames) < len(keypoints) else fit
        coarse.settle(iterations)
        if coarse is not fit:
            fit.take_over(coarse, frames)
            fit.kept = coarse.kept
            fit.run(BODY_VARIABLES, iterations // 4, count=N_COARSE_KEYPOINTS, early=0.0)
        fit.run([*BODY_VARIABLES, "head_pose", "hand_pose", "expression"], iterations // 2, early=0.5)
        return fit.result()


BODY_VARIABLES = ["shift", "log_distance", "turn", "betas", "tilt", "body_pose"]
_CLIP_VARIABLES = ("betas", "tilt")
"""One for all frames."""


def _coarse_frames(times_s: Tensor) -> Tensor:
    """Frames about `COARSE_RATE_HZ` apart, with the last."""
    if len(times_s) < 12:
        return torch.arange(len(times_s))
    step = max(1, round(float((times_s[1:] - times_s[:-1]).median().reciprocal() / COARSE_RATE_HZ)))
    return torch.cat([torch.arange(0, len(times_s) - 1, step), torch.tensor([len(times_s) - 1])])


class _Fit:
    """The variables of one optimization and the energy over them."""

    def __init__(
        self,
        keypoints: Keypoints,
        times_s: Tensor,
        body: Body,
        facts: ClipFacts,
        weights: KeypointWeights,
        on_step: Callable[[], None],
    ) -> None:
        self.facts, self.grounded = facts, _both_feet_seen(keypoints)
        self.body, self.weights, self.on_step = body, weights, on_step
        self.coarse, self.times_s = coarse_body(body), times_s
        self.prior = PosePrior.human()
        self.keypoints, detector = keypoints, facts.detector
        self.rotation = root_rotations(keypoints, times_s)
        self.evidence = gather_evidence(keypoints, times_s, self.rotation, weights.keypoints, detector)
        if weights.held_turn:
            self.evidence = of_a_held_turn(self.evidence, self.rotation)
        frames = len(keypoints)
        rest = limb_poses(keypoints, self.rotation, self.prior.rest)
        self.variables = {
            "shift": torch.zeros(frames, 2),
            "log_distance": torch.zeros(frames),
            "turn": torch.zeros(frames, 3),
            "betas": torch.zeros(body.n_betas),
            "tilt": torch.zeros(1),
            "body_pose": rest[:, BODY_JOINTS].clone(),
            "head_pose": rest[:, HEAD_JOINTS].clone(),
            "hand_pose": rest[:, HAND_JOINTS].clone(),
            "expression": torch.zeros(frames, body.n_expression),
        }
        self.rates = {"shift": 0.01, "log_distance": 0.01, "turn": 0.03, "betas": 0.05, "expression": 0.05}
        self.rates["tilt"] = 0.01
        self.kept: tuple[str, ...] = ()
        marked, self.mark_joints, offsets = detector_marks(detector)
        self.marks = torch.zeros(133, len(marked)).index_put((marked, torch.arange(len(marked))), torch.ones(()))
        self.mark_offsets = offsets[:, :, None]
        layout = body.keypoints
        jaw = layout.mix[layout.order[JAW_ENDS] - N_JOINTS]
        self.jaw, self.jaw_mix = layout.points[jaw.any(0)], jaw[:, jaw.any(0)]
        self.breadth_marked = face_breadth(detector)

    def keep(self, name: str, value: Tensor) -> None:
        """Hold a variable at a known value."""
        self.variables[name] = value.clone()
        self.kept = (*self.kept, name)

    def at(self, frames: Tensor) -> _Fit:
        """The same fit of some of the frames."""
        seen, times_s = self.keypoints[frames], self.times_s[frames]
        part = _Fit(seen, times_s, self.body, self.facts, self.weights, self.on_step)
        part.rotation = self.rotation[frames]
        part.kept = self.kept
        for name, value in self.variables.items():
            part.variables[name] = value.clone() if name in _CLIP_VARIABLES else value[frames].clone()
        return part

    def take_over(self, coarse: _Fit, frames: Tensor) -> None:
        """The coarse fit's values, linearly between its frames."""
        times = self.times_s.double()
        knots = times[frames]
        after = torch.searchsorted(knots, times).clamp(1, len(knots) - 1)
        share = ((times - knots[after - 1]) / (knots[after] - knots[after - 1])).clamp(0, 1).float()
        for name, value in coarse.variables.items():
            if name in _CLIP_VARIABLES:
                self.variables[name] = value.clone()
            else:
                t = share.reshape(-1, *[1] * (value.ndim - 1))
                self.variables[name] = value[after - 1] * (1 - t) + value[after] * t

    def settle(self, iterations: int) -> None:
        """The body's stages. Its size comes last, by the face, with every limb held."""
        self.run(["body_pose"], 40, count=N_COARSE_KEYPOINTS, reprojected=())
        self.start_distance()
        torso = ["shift", "log_distance", "turn", "betas"]
        self.run(torso, 40, count=N_COARSE_KEYPOINTS, reprojected=TORSO)
        self.run(BODY_VARIABLES, iterations, count=N_COARSE_KEYPOINTS)
        self.take_size_from_face()
        if "betas" not in self.kept:
            self.keep("betas", self.variables["betas"])

    def poses(self, count: int = 133) -> Float[Tensor, "frames joints 3"]:
        v = self.variables
        root = torch.zeros(len(v["shift"]), 1, 3)
        parts = [root, v["body_pose"], v["head_pose"]]
        return torch.cat(parts if count == N_COARSE_KEYPOINTS else [*parts, v["hand_pose"]], 1)

    def pelvis(self) -> Float[Tensor, "frames 3"]:
        """Pelvis in view axes from its place in the image and its distance."""
        distance = self.variables["log_distance"].exp()
        return torch.cat([self.variables["shift"] * distance[:, None], -distance[:, None]], -1)

    def root(self) -> Float[Tensor, "frames 3 3"]:
        return matrix_from_axis_angle(self.variables["turn"]) @ self.rotation

    def posed(self, poses: Tensor, root: Tensor) -> Float[Tensor, "frames points 3"]:
        """Keypoints about the pelvis, as the detector marks them, in view axes: 23 for poses without fingers."""
        body = self.coarse if poses.shape[1] == N_COARSE_JOINTS else self.body
        posed = body.pose(poses, self.variables["betas"], None, self.variables["expression"])
        beside = (posed.A_world_rest[:, self.mark_joints, :, :3] @ self.mark_offsets)[..., 0]
        points = posed.keypoints_133()
        points = points - posed.joints[:, :1] + self.marks[: points.shape[1]] @ beside
        return points @ root.transpose(-1, -2)

    def start_distance(self) -> None:
        """Lay the posed body over the keypoints: distance from the spread, place from the torso's middle."""
        with torch.no_grad():
            points = self.posed(self.poses(N_COARSE_KEYPOINTS), self.root())
            distance = distances_m(self.keypoints, points, self.facts.focal_px)
            torso = self.evidence.xy[:, TORSO].mean(1) / self.facts.focal_px
            offset = points[:, TORSO, :2].mean(1) / distance[:, None]
            self.variables["log_distance"] = distance.log()
            self.variables["shift"] = torso - offset

    def run(
        self,
        names: list[str],
        iterations: int,
        *,
        count: int = 133,
        reprojected: tuple[int, ...] | None = None,
        early: float = 1.0,
    ) -> None:
        """Adam over the named variables with a one-cycle schedule, looking at the first `count` keypoints."""
        names = [name for name in names if name not in self.kept]
        for name, value in self.variables.items():
            self.variables[name] = value.detach().requires_grad_(name in names)
        rates = [self.rates.get(name, 0.04) for name in names]
        optimizer = Adam([self.variables[name] for name in names], rates, betas=(0.95, 0.95))
        evidence = self.evidence.of(count)
        order = list(range(count) if reprojected is None else reprojected)
        for i in range(max(iterations, 6) - 1):
            self.energy(evidence, order, early * max(0.0, 1.0 - 2.0 * i / iterations)).backward()
            optimizer.step(*one_cycle(i, max(iterations, 6)))
            self.on_step()
        self.variables = {name: value.detach() for name, value in self.variables.items()}

    def energy(self, evidence: Evidence, reprojected: list[int], early: float = 0.0) -> Tensor:
        """The whole objective, per frame. `early` goes from 1 to 0 over a stage's first half: outliers are drawn in,
        and the hint decides which way limbs point before the image decides where they end."""
        root = self.root()
        poses = self.poses(evidence.xy.shape[1])
        points = self.posed(poses, root)
        placed = points + self.pelvis()[:, None]
        e = (
            self._directions(evidence, points, early if reprojected else 1.0)
            + self._priors(poses)
            + self._smoothness(evidence.step_s, points, placed, poses, root, moved=bool(reprojected))
            + self._balance(points)
        )
        if self.weights.held_turn:
            e = e + self.weights.axis * _pseudo_huber(off_axis(root)).mean()
            up = mean_axis(root).detach() if self.facts.up is None else self.facts.up
            placed = as_marked(placed, up, self.facts.detector)
        if reprojected:
            e = e + self._reprojection(evidence, placed, reprojected, self.weights.outlier * (1.0 + 2.0 * early))
        return e + self._of_the_clip()

    def _reprojection(self, ev: Evidence, placed: Tensor, order: list[int], outlier: float) -> Tensor:
        image = self.facts.focal_px * placed[:, order, :2] / (-placed[:, order, 2:]).clamp_min(0.05)
        r2 = (image - ev.xy[:, order]).square().sum(-1) / ev.deviation_px[:, order].square()
        return (ev.weight[:, order] * _geman_mcclure(r2, outlier)).sum(1).mean()

    def _directions(self, ev: Evidence, points: Tensor, early: float) -> Tensor:
        bones = points[:, ev.bones[:, 1]] - points[:, ev.bones[:, 0]]
        unit = torch.nn.functional.normalize(bones, dim=-1)
        tilt = matrix_from_axis_angle(torch.nn.functional.pad(self.variables["tilt"], (0, 2)))
        r2 = (unit - ev.directions @ tilt.T).square().sum(-1) / ev.direction_deviation.square()
        return (ev.direction_weight * _geman_mcclure(r2, 3.0 + 17.0 * early)).sum(1).mean() * (1.0 + 3.0 * early)

    def _priors(self, poses: Tensor) -> Tensor:
        joints, stop = poses[:, 1:], poses.shape[1]
        prior = replace(self.prior, **{k: getattr(self.prior, k)[1:stop] for k in ("low", "high", "rest", "spread")})
        excess = (prior.excess(joints) / self.weights.limit).square().sum((1, 2)).mean()
        strain = prior.strain(joints).square().sum((1, 2)).mean()
        hinge = (self.prior.off_hinge(poses) / self.weights.hinge).square().sum(1).mean()
        face = self.variables["expression"].square().sum(1).mean()
        return excess + 0.5 * self.weights.prior * (strain + hinge) + face

    def _smoothness(
        self, step: Tensor, points: Tensor, placed: Tensor, poses: Tensor, root: Tensor, moved: bool
    ) -> Tensor:
        if len(points) < 3:
            return points.new_zeros(())
        w = self.weights
        body = torch.cat([points[:, :23], self.pelvis()[:, None] * points.new_tensor([1.0, 1.0, 0.3])], 1)
        bend = _acceleration(body, step) / w.acceleration_m_s2
        turn = _acceleration(poses, step) / w.turn_rad_s2
        speed = (poses[1:] - poses[:-1]) / step[:, None, None] / w.speed_rad_s
        e = w.smooth * sum(_pseudo_huber(x.square().sum(-1)).sum(1).mean() for x in (bend, turn))
        e = e + w.stillness * _pseudo_huber(speed.square().sum(-1)).sum(1).mean()
        spin = _angular_velocity(root, step)
        heading = (spin[1:] - spin[:-1]) * 2.0 / (step[1:] + step[:-1])[:, None] / w.heading_rad_s2
        e = e + _pseudo_huber(heading.square().sum(-1)).mean()
        if moved:
            feet = (placed[1:, FEET_POINTS] - placed[:-1, FEET_POINTS]) / step[:, None, None] / w.step_m_s
            e = e + w.standing * _pseudo_huber(feet.square().sum(-1)).sum(1).mean()
        return e

    def _balance(self, points: Tensor) -> Tensor:
        """Who stands has their center of mass over the feet that carry it: one view cannot tell how far a person
        leans towards it. Who runs, sits or jumps is far off, and counts as an outlier; where a foot was not seen,
        nobody knows what carries."""
        if self.facts.up is None:
            return points.new_zeros(())
        off = balance_offset(points, self.facts.up)
        r2 = off.square().sum(-1) / self.weights.balance_m**2
        return self.weights.balance * (self.grounded * _geman_mcclure(r2, 3.0)).mean()

    def take_size_from_face(self) -> None:
        """Grow or shrink body and distance together, which the image does not notice, until the face has the breadth
        that a face has: what tells a tall person far away from a short one nearby.

        The step t along `growth`, the likeliest way to be taller, minimizes |betas + t growth|^2 + (excess / sd)^2,
        where the face's excess in breadth is linear in t; the median's own trembling adds to the deviation.
        """
        ev, v = self.evidence, self.variables
        if self.facts.height_m is not None or "betas" in self.kept or not bool(ev.face_weight.any()):
            return
        with torch.no_grad():
            distance = v["log_distance"].exp() - self.posed(self.poses(), self.root())[:, JAW_ENDS, 2].mean(1)
        betas = v["betas"].detach().requires_grad_()
        ends = self.jaw_mix @ self.jaw.rest(betas)
        breadth = ((ends[1] - ends[0]).norm() * self.breadth_marked).log()
        joints = self.body.joint_points.rest(betas)
        size = (joints[HEAD] - joints[ANKLES].mean(0)).norm().log()
        grows, widens = (torch.autograd.grad(x, betas)[0] for x in (size, breadth))
        growth = grows / grows.square().sum()
        seen = (ev.face_px * distance / self.facts.focal_px).log()[ev.face_weight > 0.0]
        middle = seen.median()
        excess = float(middle - breadth.detach())
        trembling = 1.48 * float((seen - middle).abs().median())
        per_step = 1.0 - float(widens @ growth)
        precision = 1.0 / (self.weights.face**2 + 1.57 * trembling**2 / len(seen))  # pi / 2: a median's
        if trembling > MAX_FACE_TREMBLING:
            precision = 0.0  # as large as adults are
        step = -(float(v["betas"] @ growth) + excess * per_step * precision) / (
            float(growth.square().sum()) + per_step**2 * precision
        )
        v["betas"] = v["betas"] + step * growth
        v["log_distance"] = v["log_distance"] + step

    def _of_the_clip(self) -> Tensor:
        betas = self.variables["betas"]
        e = (
            self.weights.betas * betas.square().sum()
            + (self.variables["tilt"] / self.evidence.tilt_deviation).square().sum()
        )
        if self.facts.height_m is not None:
            vertices, _ = self.body.shaped(betas)
            e = e + ((vertices[:, 1].amax() - vertices[:, 1].amin() - self.facts.height_m) / 0.003).square()
        return e

    def result(self) -> BodyFit:
        v = self.variables
        legs = (self.keypoints.score[:, 13:17] > 0.5).sum(1) >= 2
        seen = float(legs.float().mean())
        return BodyFit(self.root(), self.pelvis(), self.poses(), v["betas"], v["expression"], self.facts.focal_px, seen)


def _both_feet_seen(keypoints: Keypoints) -> Float[Tensor, " frames"]:
    """1 where a detector saw both feet, or their ankles, else 0."""
    seen = feet_seen(keypoints.score)
    return (seen[:, :2].any(1) & seen[:, 2:].any(1)).float()


def _geman_mcclure(squared: Tensor, outlier: float) -> Tensor:
    """Geman & McClure 1987: squared / (1 + squared / outlier^2), quadratic near zero, bounded by outlier^2."""
    return squared / (1.0 + squared / outlier**2)


def _pseudo_huber(squared: Tensor) -> Tensor:
    """Quadratic near zero, linear beyond one (Charbonnier et al. 1994): trembling is damped, a kick is not."""
    return 2.0 * ((1.0 + squared).sqrt() - 1.0)


def _acceleration(values: Float[Tensor, "frames points d"], step_s: Float[Tensor, " steps"]) -> Tensor:
    """Second difference over uneven times, per second squared; slack where frames lie far apart."""
    velocity = (values[1:] - values[:-1]) / step_s[:, None, None]
    return (velocity[1:] - velocity[:-1]) * 2.0 / (step_s[1:] + step_s[:-1])[:, None, None]


def _angular_velocity(R: Float[Tensor, "frames 3 3"], step_s: Float[Tensor, " steps"]) -> Float[Tensor, "steps 3"]:
    """Radians per second in the body's axes; exact for small steps (the sine of the angle stands for the angle)."""
    S = R[:-1].mT @ R[1:]
    return torch.stack([S[:, 2, 1] - S[:, 1, 2], S[:, 0, 2] - S[:, 2, 0], S[:, 1, 0] - S[:, 0, 1]], -1) / (
        2.0 * step_s[:, None]
    )
