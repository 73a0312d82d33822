"""Keypoints -> SMPL-X pose of every frame, shape and distance, by one optimization over the whole clip.

The fit lives in *view axes*: the camera at the origin, x right, y up, z toward the viewer, so that a body in rest
faces the camera. After SMPLify (Bogo et al. 2016) and SMPLify-X (Pavlakos et al. 2019): robust reprojection
(Geman & McClure 1987), pose and shape priors, stages from the root outward; and, as in MMPose-style lifting, the
detector's single-view 3D hint, used for bone directions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.perception.containers import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, SKELETON, Keypoints
from avatars.perception.detector_marks import detector_marks
from avatars.pose_prior import PosePrior
from avatars.rotations import matrix_from_axis_angle
from avatars.tracking_init import TORSO, distances_m, limb_poses, root_rotations, torso_px, view_hints

# Pairs of keypoints whose direction the 3D hint gives: the skeleton's lines, and enough lines across torso and face
# to fix their orientation. Not the feet: there the hint is 45 degrees off.
_ACROSS = ((5, 6), (11, 12), (5, 12), (6, 11), (3, 4), (0, 3), (0, 4))
_FACE_LINES = tuple((23 + a, 23 + b) for a, b in ((0, 16), (27, 8), (27, 30), (0, 30), (16, 30), (36, 45), (8, 30)))
_PALMS = tuple((w + a, w + b) for w in (91, 112) for a, b in ((0, 5), (0, 9), (0, 17), (5, 17)))
BONES: tuple[tuple[int, int], ...] = (
    *(line for line in SKELETON if line not in {(0, 1), (0, 2), (1, 3), (2, 4)} and not set(line) & set(range(17, 23))),
    *_ACROSS,
    *_FACE_LINES,
    *_PALMS,
)
BODY_JOINTS, HEAD_JOINTS = slice(1, 22), slice(22, 25)
HAND_JOINTS = slice(25, 55)


@dataclass(frozen=True, slots=True)
class FitWeights:
    """How strongly each kind of evidence speaks; deviations are one standard deviation."""

    body_px: float = 0.012
    """Reprojection of body and feet, as a fraction of the torso's pixels times three (about the body's height)."""
    face_px: float = 0.008
    hand_px: float = 0.008
    outlier: float = 5.0
    """Deviations at which a keypoint counts as an outlier (Geman-McClure) at the end; each stage starts with three
    times as many, so that limbs far from their keypoints are drawn in."""
    direction: float = 0.5
    """Bone directions of the 3D hint (radians)."""
    limit: float = 0.05
    """Leaving a joint's range (radians)."""
    prior: float = 1.0
    acceleration_m_s2: float = 12.0
    turn_rad_s2: float = 40.0
    betas: float = 1.0


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


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the fit is held to, in tensors made once."""

    xy: Tensor
    """(frames, 133, 2) pixels from the principal point, y up."""
    weight: Tensor
    """(frames, 133)"""
    deviation_px: Tensor
    """(frames, 133)"""
    directions: Tensor
    """(frames, bones, 3) unit vectors in view axes."""
    direction_weight: Tensor
    step_s: Tensor
    """(frames - 1,)"""


def fit_keypoints(
    keypoints: Keypoints,
    times_s: Float[Tensor, " frames"],
    body: Body,
    *,
    focal_px: float,
    height_m: float | None = None,
    iterations: int = 160,
    weights: FitWeights | None = None,
    detector: str = "",
    betas: Float[Tensor, " shape"] | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> BodyFit:
    """Fit a body to keypoints whose frames are all valid and whose sides are right (`side_exchanges`).

    `betas`, where given, are kept as they are: windows of one clip share one shape.
    Stages: pose from the 3D hint alone; distance, root and shape from the torso; the body; then face and hands too.
    """
    with _one_thread():
        fit = _Fit(keypoints, times_s, body, focal_px, height_m, weights or FitWeights(), detector, on_step)
        if betas is not None:
            fit.keep("betas", betas)
        return _fit_in_stages(fit, iterations)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: the tensors are small, and threads that wait for each other on a busy machine
    made the fit 20 times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit_in_stages(fit: _Fit, iterations: int) -> BodyFit:
    fit.run(["body_pose"], 60, reprojected=())
    fit.start_distance()
    fit.run(["shift", "log_distance", "turn", "betas"], 40, reprojected=TORSO)
    fit.run(["shift", "log_distance", "turn", "betas", "body_pose"], iterations, reprojected=range(23))
    everything = ["shift", "log_distance", "turn", "betas", "body_pose", "head_pose", "hand_pose", "expression"]
    fit.run(everything, iterations, reprojected=range(133))
    return fit.result()


class _Fit:
    """The variables of one optimization and the energy over them."""

    def __init__(
        self,
        keypoints: Keypoints,
        times_s: Tensor,
        body: Body,
        focal_px: float,
        height_m: float | None,
        weights: FitWeights,
        detector: str,
        on_step: Callable[[], None],
    ) -> None:
        self.body, self.focal_px, self.height_m, self.weights, self.on_step = body, focal_px, height_m, weights, on_step
        self.prior = PosePrior.human()
        self.keypoints = keypoints
        self.rotation = root_rotations(keypoints)
        self.evidence = _evidence(keypoints, times_s, self.rotation, weights)
        frames = len(keypoints)
        rest = limb_poses(keypoints, self.rotation, self.prior.rest)
        self.variables = {
            "shift": torch.zeros(frames, 2),
            "log_distance": torch.zeros(frames),
            "turn": torch.zeros(frames, 3),
            "betas": torch.zeros(body.n_betas),
            "body_pose": rest[:, BODY_JOINTS].clone(),
            "head_pose": rest[:, HEAD_JOINTS].clone(),
            "hand_pose": rest[:, HAND_JOINTS].clone(),
            "expression": torch.zeros(frames, body.n_expression),
        }
        self.rates = {"shift": 0.01, "log_distance": 0.01, "turn": 0.03, "betas": 0.05, "expression": 0.05}
        self.kept: tuple[str, ...] = ()
        self.bones = torch.tensor(BONES)
        marked, self.mark_joints, offsets = detector_marks(detector)
        self.marks = torch.zeros(133, len(marked)).index_put((marked, torch.arange(len(marked))), torch.ones(()))
        self.mark_offsets = offsets[:, :, None]

    def keep(self, name: str, value: Tensor) -> None:
        """Hold a variable at a known value."""
        self.variables[name] = value.clone()
        self.kept = (*self.kept, name)

    def poses(self) -> Float[Tensor, "frames 55 3"]:
        v = self.variables
        root = torch.zeros(len(v["shift"]), 1, 3)
        return torch.cat([root, v["body_pose"], v["head_pose"], v["hand_pose"]], 1)

    def pelvis(self) -> Float[Tensor, "frames 3"]:
        """Pelvis in view axes from its place in the image and its distance."""
        distance = self.variables["log_distance"].exp()
        return torch.cat([self.variables["shift"] * distance[:, None], -distance[:, None]], -1)

    def posed(self, poses: Tensor) -> Float[Tensor, "frames 133 3"]:
        """Keypoints about the pelvis, as the detector marks them, in view axes."""
        posed = self.body.pose(poses, self.variables["betas"], None, self.variables["expression"])
        beside = (posed.A_world_rest[:, self.mark_joints, :, :3] @ self.mark_offsets)[..., 0]
        points = posed.keypoints_133() - posed.joints[:, :1] + self.marks @ beside
        turn = matrix_from_axis_angle(self.variables["turn"]) @ self.rotation
        return points @ turn.transpose(-1, -2)

    def start_distance(self) -> None:
        """Lay the posed body over the keypoints: distance from the spread, place from the torso's middle."""
        with torch.no_grad():
            points = self.posed(self.poses())
            distance = distances_m(self.keypoints, points, self.focal_px)
            torso = self.evidence.xy[:, TORSO].mean(1) / self.focal_px
            offset = points[:, TORSO, :2].mean(1) / distance[:, None]
            self.variables["log_distance"] = distance.log()
            self.variables["shift"] = torso - offset

    def run(self, names: list[str], iterations: int, *, reprojected: range | tuple[int, ...]) -> None:
        """Adam over the named variables with a cosine schedule."""
        names = [name for name in names if name not in self.kept]
        for name, value in self.variables.items():
            self.variables[name] = value.detach().requires_grad_(name in names)
        groups = [{"params": [self.variables[n]], "lr": self.rates.get(n, 0.04)} for n in names]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [group["lr"] for group in groups], total_steps=iterations, pct_start=0.2, final_div_factor=20
        )
        order = list(reprojected)
        for i in range(iterations):
            optimizer.zero_grad()
            self.energy(order, early=max(0.0, 1.0 - 2.0 * i / iterations)).backward()
            optimizer.step()
            schedule.step()
            self.on_step()
        self.variables = {name: value.detach() for name, value in self.variables.items()}

    def energy(self, reprojected: list[int], early: float = 0.0) -> Tensor:
        """The whole objective, per frame. `early` goes from 1 to 0 over a stage's first half: outliers are drawn in,
        and the hint decides which way limbs point before the image decides where they end."""
        poses = self.poses()
        points = self.posed(poses)
        placed = points + self.pelvis()[:, None]
        e = (
            self._directions(points, early if reprojected else 1.0)
            + self._priors(poses)
            + self._smoothness(points, poses)
        )
        if reprojected:
            e = e + self._reprojection(placed, reprojected, self.weights.outlier * (1.0 + 2.0 * early))
        return e + self._shape() / len(points)

    def _reprojection(self, placed: Tensor, order: list[int], outlier: float) -> Tensor:
        ev = self.evidence
        image = self.focal_px * placed[:, order, :2] / (-placed[:, order, 2:]).clamp_min(0.05)
        r2 = (image - ev.xy[:, order]).square().sum(-1) / ev.deviation_px[:, order].square()
        return (ev.weight[:, order] * _geman_mcclure(r2, outlier)).sum(1).mean()

    def _directions(self, points: Tensor, early: float) -> Tensor:
        ev = self.evidence
        bones = points[:, self.bones[:, 1]] - points[:, self.bones[:, 0]]
        unit = torch.nn.functional.normalize(bones, dim=-1)
        r2 = (unit - ev.directions).square().sum(-1) / self.weights.direction**2
        return (ev.direction_weight * _geman_mcclure(r2, 3.0 + 17.0 * early)).sum(1).mean() * (1.0 + 3.0 * early)

    def _priors(self, poses: Tensor) -> Tensor:
        joints = poses[:, 1:]
        prior = replace(self.prior, **{k: getattr(self.prior, k)[1:] for k in ("low", "high", "rest", "spread")})
        excess = (prior.excess(joints) / self.weights.limit).square().sum((1, 2)).mean()
        strain = prior.strain(joints).square().sum((1, 2)).mean()
        face = self.variables["expression"].square().sum(1).mean()
        return excess + 0.5 * self.weights.prior * strain + face

    def _smoothness(self, points: Tensor, poses: Tensor) -> Tensor:
        if len(points) < 3:
            return points.new_zeros(())
        step, w = self.evidence.step_s, self.weights
        body = torch.cat([points[:, :23], self.pelvis()[:, None] * points.new_tensor([1.0, 1.0, 0.3])], 1)
        bend = _acceleration(body, step) / w.acceleration_m_s2
        turn = _acceleration(poses, step) / w.turn_rad_s2
        return _pseudo_huber(bend.square().sum(-1)).sum(1).mean() + _pseudo_huber(turn.square().sum(-1)).sum(1).mean()

    def _shape(self) -> Tensor:
        betas = self.variables["betas"]
        e = self.weights.betas * betas.square().sum()
        if self.height_m is not None:
            vertices, _ = self.body.shaped(betas)
            e = e + ((vertices[:, 1].amax() - vertices[:, 1].amin() - self.height_m) / 0.003).square()
        return e * 20.0

    def result(self) -> BodyFit:
        v = self.variables
        rotation = matrix_from_axis_angle(v["turn"]) @ self.rotation
        legs = (self.keypoints.score[:, 13:17] > 0.5).sum(1) >= 2
        seen = float(legs.float().mean())
        return BodyFit(rotation, self.pelvis(), self.poses(), v["betas"], v["expression"], self.focal_px, seen)


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


def _evidence(keypoints: Keypoints, times_s: Tensor, rotation: Tensor, weights: FitWeights) -> _Evidence:
    height, width = keypoints.size_hw
    xy = (keypoints.xy - torch.tensor([width / 2, height / 2])) * torch.tensor([1.0, -1.0])
    deviation = torch.empty(keypoints.xy.shape[1])
    for part, fraction in (
        (BODY, weights.body_px), (FEET, weights.body_px), (FACE, weights.face_px),
        (LEFT_HAND, weights.hand_px), (RIGHT_HAND, weights.hand_px),
    ):  # fmt: skip
        deviation[part] = fraction
    deviation_px = 3.0 * torso_px(keypoints)[:, None] * deviation
    weight = _weights(keypoints, rotation)
    a, b = torch.tensor(BONES).unbind(1)
    hints = view_hints(keypoints)
    bones = hints[:, b] - hints[:, a]
    known = torch.isfinite(bones).all(-1)
    directions = torch.nn.functional.normalize(torch.nan_to_num(bones), dim=-1)
    flat = 0.0 if keypoints.world_m is None else 1.0
    direction_weight = torch.minimum(weight[:, a], weight[:, b]) * known * flat
    step_s = (times_s[1:] - times_s[:-1]).float().clamp(1e-3, 1.0)
    return _Evidence(xy, weight, deviation_px, directions, direction_weight, step_s)


def _weights(keypoints: Keypoints, rotation: Tensor) -> Float[Tensor, "frames 133"]:
    """Scores made weights: squared, many points of one part sharing one say, faces seen from behind nearly mute."""
    weight = keypoints.score.square()
    facing = torch.sigmoid((rotation[:, 2, 2] + 0.2) / 0.1)[:, None]
    weight[:, FACE] *= 0.15 * facing
    weight[:, :5] *= 0.1 + 0.9 * facing
    weight[:, LEFT_HAND] *= 0.3
    weight[:, RIGHT_HAND] *= 0.3
    return weight
