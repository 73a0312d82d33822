"""Puts a motion where the toolkit expects one: feet on the ground y = 0, beginning over the origin, facing +Z."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.body import Body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import GLOBAL, Motion
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.motion_formats.gravity import Figure

log = logging.getLogger(__name__)

_FEET = {"left": (7, 10), "right": (8, 11)}
_CHUNK = 512
_MIN_WAY_M, _MAX_SLOPE_DEG = 1.5, 3.0
_DEEPEST_M = 0.05
_SUNK_M = 0.3
_HOVER_M, _LONGEST_FLIGHT_S = 0.25, 0.5


def sole_vertices(body: Body, *, per_foot: int = 60) -> Int[Tensor, " points"]:
    """Vertices of both soles: those of a foot within 2 cm of its lowest in the T-pose, thinned."""
    chosen = []
    for foot in _FEET.values():
        own = torch.where(body.lbs_weights[:, foot].sum(1) > 0.5)[0]
        height = body.v_template[own, 1]
        sole = own[height < height.min() + 0.02]
        chosen.append(sole[:: max(1, len(sole) // per_foot)])
    return torch.cat(chosen)


def lowest_sole_m(motion: Motion, body: Body) -> Float[Tensor, " frames"]:
    """Height (m) of the lower sole in each frame."""
    return _lowest_m(motion, body, sole_vertices(body))


def _all_over(body: Body) -> Int[Tensor, " points"]:
    """Some hundred vertices, spread over the body."""
    return torch.arange(0, body.n_vertices, max(1, body.n_vertices // 400))


def _lowest_m(motion: Motion, body: Body, vertices: Int[Tensor, " points"]) -> Float[Tensor, " frames"]:
    points = body.subset(vertices)
    lowest = []
    for start in range(0, len(motion), _CHUNK):
        part = motion[slice(start, start + _CHUNK)]
        posed = body.pose(part.poses, part.betas, part.transl)
        lowest.append(posed.points(points)[..., 1].amin(1))
    return torch.cat(lowest)


def figure_of(motion: Motion, body: Body) -> Figure:
    """Where the joints of the frames with a person are, at most some hundreds of frames, spread over the motion."""
    frames = torch.where(motion.valid)[0]
    frames = frames[:: max(1, len(frames) // _CHUNK)] if len(frames) else torch.arange(1)
    part = motion[frames]
    joints = body.pose(part.poses, part.betas, part.transl).joints.double().numpy()
    return Figure({name: joints[:, i] for i, name in enumerate(JOINT_NAMES[:22])})


def grounded(motion: Motion, body: Body) -> Motion:
    """The motion moved up or down as a whole so that the ground that its feet tread is y = 0.

    The ground is the height at which the lower sole is most often: the lower end of the shortest interval that holds
    30% of the valid frames (after the "shorth" of Andrews et al. 1972), so neither jumps nor a few dips move it; but
    never so high that more than 5% of the frames sink by 5 cm. Of a motion whose feet are far above what else of the
    body is lowest (on the hands, lying with the legs up), it is the height at which that is most often. Warns of
    flights that no jump explains. A motion that never treads the ground (hanging) cannot be told.
    """
    if not bool(motion.valid.any()):
        return motion
    sole_m = lowest_sole_m(motion, body)
    ground_m = _tread(sole_m[motion.valid])
    other_m = _lowest_m(motion, body, _all_over(body))
    if float(ground_m - other_m[motion.valid].quantile(0.25)) > _SUNK_M:
        sole_m = torch.minimum(sole_m, other_m)
        ground_m = _tread(sole_m[motion.valid])
    _warn_of_hovering(motion, sole_m - ground_m)
    return replace(motion, transl=motion.transl - torch.stack([ground_m * 0, ground_m, ground_m * 0]))


def leveled(motion: Motion, body: Body) -> Motion:
    """The motion tilted so that a floor that slopes along the person's path is level.

    Capture volumes are often a degree or two out of level, which over a few meters lifts the feet by centimeters. The
    slope is a line through the lower sole's height over the way traveled (least absolute deviations); it is taken out
    when the way is at least 1.5 m, the slope at most 3 degrees, and the line explains a third of the spread.
    """
    frames = torch.where(motion.valid)[0]
    pelvis = motion.transl.double() + body.shaped(motion.betas)[1][0].double()
    ground_path = pelvis[frames][:, [0, 2]]
    if len(frames) < 3:
        return motion
    direction = torch.linalg.svd(ground_path - ground_path.mean(0), full_matrices=False).Vh[0]
    way = (ground_path - ground_path.mean(0)) @ direction
    height = lowest_sole_m(motion[frames], body).double()
    if float(way.max() - way.min()) < _MIN_WAY_M:
        return motion
    slope, rest = _line(way, height)
    angle = torch.atan(slope)
    if abs(float(angle.rad2deg())) > _MAX_SLOPE_DEG or _spread(rest) > 0.67 * _spread(height):
        return motion
    log.info("%s: its floor slopes by %.1f degrees; leveled.", motion.name, abs(float(angle.rad2deg())))
    # The axis about which `direction` turns down by the slope's angle lies in the ground, square to it.
    axis = torch.stack([-direction[1], direction[1] * 0, direction[0]])
    about = torch.stack([ground_path[0, 0], height.median(), ground_path[0, 1]])
    moved = turned(motion, body, matrix_from_axis_angle(-angle * axis), about=about)
    return replace(moved, transl=moved.transl + about.float())


def _line(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
    """Slope and residuals of the line of least absolute deviations (iteratively reweighted least squares)."""
    A = torch.stack([x, torch.ones_like(x)], 1)
    weight = torch.ones_like(x)
    solution = weight.new_zeros(2)
    for _ in range(30):
        root = weight.sqrt()[:, None]
        solution = torch.linalg.lstsq(A * root, y[:, None] * root).solution[:, 0]
        weight = 1.0 / (y - A @ solution).abs().clamp_min(1e-3)
    return solution[0], y - A @ solution


def _spread(values: Float[Tensor, " n"]) -> float:
    return float(values.quantile(0.95) - values.quantile(0.05))


def _tread(values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    ordered = values.sort().values
    held = max(1, round(0.3 * len(ordered)))
    mode = ordered[int((ordered[held - 1 :] - ordered[: len(ordered) - held + 1]).argmin())]
    return torch.minimum(mode, values.quantile(0.05) + _DEEPEST_M)


def _warn_of_hovering(motion: Motion, height_m: Float[Tensor, " frames"]) -> None:
    """A jump that lasts t seconds rises by g t^2 / 8: nobody stays long at 0.25 m, so such frames are doubtful."""
    high = ((height_m > _HOVER_M) & motion.valid).tolist()
    spans, start = [], None
    for i, up in enumerate([*high, False]):
        if up and start is None:
            start = i
        elif not up and start is not None:
            if motion.times_s[min(i, len(motion) - 1)] - motion.times_s[start] > _LONGEST_FLIGHT_S:
                spans.append((start, i - 1))
            start = None
    if spans:
        log.warning(
            "%s: both feet are more than %g m above the ground for longer than a jump lasts, in frames %s; the file's "
            "root is doubtful there.",
            motion.name,
            _HOVER_M,
            ", ".join(f"{a}-{b}" for a, b in spans[:5]),
        )


def turned(motion: Motion, body: Body, R_new_old: Float[Tensor, "3 3"], *, about: Float[Tensor, " 3"]) -> Motion:
    """The motion in another world: world points x become R_new_old (x - about)."""
    pelvis = body.shaped(motion.betas)[1][0].double()
    R = R_new_old.double()
    root = R @ matrix_from_axis_angle(motion.poses[:, GLOBAL].double())
    poses = motion.poses.clone()
    poses[:, GLOBAL] = axis_angle_from_matrix(root).float()
    transl = (motion.transl.double() + pelvis - about.double()) @ R.T - pelvis
    return replace(motion, poses=poses, transl=transl.float())


def placed(motion: Motion, body: Body) -> Motion:
    """A foreign motion where the toolkit expects one: level floor at y = 0, beginning over the origin, facing +Z."""
    return facing_front(grounded(leveled(motion, body), body), body)


def facing_front(motion: Motion, body: Body) -> Motion:
    """The motion turned about the vertical and moved along the ground so that its first valid frame stands over the
    origin and faces +Z."""
    if not bool(motion.valid.any()):
        return motion
    first = int(motion.valid.int().argmax())
    forward = matrix_from_axis_angle(motion.poses[first, GLOBAL].double())[:, 2]
    yaw = torch.atan2(forward[0], forward[2])
    back = matrix_from_axis_angle(torch.stack([yaw * 0, -yaw, yaw * 0]))
    pelvis = motion.transl[first] + body.shaped(motion.betas)[1][0]
    return turned(motion, body, back, about=pelvis * torch.tensor([1.0, 0.0, 1.0]))
