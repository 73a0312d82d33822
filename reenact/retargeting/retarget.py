"""Somebody's motion -> the same motion on another body, at the output's frame rate, standing on the ground.

Joint rotations are copied; the root's path is scaled with the length of the legs, so that steps stay steps; then the
body is set onto the ground wherever it touched it, and jumps stay jumps; then the legs alone are bent so that a foot
that stood on the ground stands still on it (`contacts`); then the arms alone, so that hands touch what they touched
and nothing enters the new body's wider parts (`self_contact`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from avatars.body import Body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.rotations import axis_angle_from_quaternion, matrix_from_axis_angle, quaternion_from_matrix, slerp
from avatars.tracking.foot_contacts import stands
from reenact.retargeting.contacts import Soles, foot_track, keep_contacts, steady_contacts
from reenact.retargeting.self_contact import Residuals, keep_touches, posed, residuals, touches_of
from reenact.retargeting.surface import Surface

log = logging.getLogger(__name__)

MIN_FRAMES = 4
BRIDGED_S = 0.3
"""Frames without a person are passed over where those around them are at most so far apart: the motion between is
interpolated, and counted."""
CONTACT_BAND_M = 0.05
"""Lowest points this near to the clip's ground level touch it; beyond, the body is in the air (or tracking failed)."""

SOLE_NEAR_M, SOLE_STILL_M_S = 0.03, 0.3
"""A sole's lowest point within this of the ground and slower than this stands: half of what tracked joints are allowed,
since the points lie on the skin and the ground is already put under them."""

_HIP, _KNEE, _ANKLE = (JOINT_NAMES.index(f"left_{name}") for name in ("hip", "knee", "ankle"))


@dataclass(frozen=True, slots=True)
class Retargeted:
    """A motion on the avatar's body, starting at the origin, on the ground y = 0."""

    motion: Motion
    swept: Float[Tensor, "points 3"]
    """Corners of the convex hull of everywhere that the body passes through, meters: in view means wholly in view."""
    height_m: float
    """Standing height of the body."""
    sole_m: Float[Tensor, "frames 2"]
    """Height of the lowest point of each foot (left, right) above the ground."""
    contact: Bool[Tensor, "frames 2"]
    """Whether each foot stands on the ground: low and at rest in the source, too."""
    slip_m: Float[Tensor, "frames 2"]
    """How far each foot's patch on the ground moves to the next frame: in contact, what is left of skating."""
    residuals: Residuals
    """Touches of the hands, and what is left of their gaps and of arms in the body."""
    start_m: Float[Tensor, " 3"]
    """Where the motion's origin lies in the source's world, scaled by `leg_scale`; its height is by how much the source
    floated above its ground."""
    leg_scale: float
    """Leg length of the avatar over that of the motion's body; 1 when the latter is unknown."""
    first_frame: int
    """First frame of the source that is used."""
    bridged: int
    """Frames of the source within the used span in which nobody was seen; the motion goes straight through them."""


def retarget(motion: Motion, body: Body, betas: Float[Tensor, " shape"], *, fps: float) -> Retargeted:
    """Put `motion` onto `body` shaped by `betas`, at `fps` frames a second.

    Only the longest span without gaps of more than BRIDGED_S is used. Raises InputError when fewer than 4 of its frames
    have a person.
    """
    span = longest_span(motion.valid, motion.times_s)
    seen = motion[span][motion.valid[span]]
    if len(seen) < MIN_FRAMES:
        raise InputError(
            f"Motion {motion.name!r} has a person in {int(motion.valid.sum())} of {len(motion)} frames, and never in "
            f"{MIN_FRAMES} without gaps of more than {BRIDGED_S} s. Track a clip in which the person stays in view."
        )
    length = span.stop - span.start
    if length < len(motion):
        log.warning(
            "%s: frames %d to %d of %d used, the longest span without gaps of more than %s s",
            motion.name, span.start, span.stop - 1, len(motion), BRIDGED_S,
        )  # fmt: skip
    if len(seen) < length:
        log.info("%s: nobody seen in %d of %d frames, interpolated", motion.name, length - len(seen), length)
    timed = resampled(seen, fps)
    scaled, leg_scale = on_body(timed, body, betas)
    source, source_feet = _source(timed, body, betas, fps)
    contact = steady_contacts(foot_contacts(source_feet, fps), fps)
    soles = Soles.of(body, betas)
    grounded, _ = on_ground(scaled, body, soles, fps)
    standing = keep_contacts(grounded, body, soles, contact, fps)
    settled, left = _with_touches(standing, source, body, fps)
    points = soles.followed(settled, body)
    start = points.new_tensor([1.0, 0.0, 1.0]) * (settled.transl[0] + body.shaped(betas)[1][0])
    points = points - start
    floated = (scaled.transl - settled.transl)[:, 1].median()
    rest, _ = body.shaped(betas)
    track = foot_track(soles.feet(points))
    return Retargeted(
        motion=replace(settled, transl=settled.transl - start),
        swept=_convex_hull(points.reshape(-1, 3)),
        height_m=float(rest[:, 1].max() - rest[:, 1].min()),
        sole_m=track.height_m,
        contact=contact,
        slip_m=track.slip_m.norm(dim=-1),
        residuals=left,
        start_m=start + floated * start.new_tensor([0.0, 1.0, 0.0]),
        leg_scale=leg_scale,
        first_frame=span.start,
        bridged=length - len(seen),
    )


def played(retargeted: Retargeted, speed: float) -> Retargeted:
    """The same frames shown `speed` times as fast."""
    return replace(retargeted, motion=replace(retargeted.motion, times_s=retargeted.motion.times_s / speed))


def _source(
    timed: Motion, body: Body, betas: Float[Tensor, " shape"], fps: float
) -> tuple[Motion, Float[Tensor, "frames 2 sole 3"]]:
    """The motion on the body that it was made on (or the mean shape), on the ground, and its soles there."""
    betas = _source_betas(timed, body, betas)
    own, _ = on_body(timed, body, betas)
    soles = Soles.of(body, betas)
    grounded, points = on_ground(own, body, soles, fps)
    return grounded, soles.feet(points)


def _with_touches(motion: Motion, source: Motion, body: Body, fps: float) -> tuple[Motion, Residuals]:
    """The motion with the source's touches kept and the arms outside of the body, and what is left."""
    source_body = posed(source, body)
    source_surface = Surface.of(body, source.betas).placed(source_body)
    touches = touches_of(source_surface, source_body.joints, fps)
    surface = Surface.of(body, motion.betas)
    kept = keep_touches(motion, body, surface, source_surface, touches, fps)
    return kept, residuals(surface.placed(posed(kept, body)), source_surface, touches)


def on_ground(motion: Motion, body: Body, soles: Soles, fps: float) -> tuple[Motion, Float[Tensor, "frames points 3"]]:
    """The motion set onto y = 0 (`ground_offset`), and its points there."""
    points = soles.followed(motion, body)
    lift_m = ground_offset(points[..., 1].amin(-1), fps)
    down = torch.stack([torch.zeros_like(lift_m), lift_m, torch.zeros_like(lift_m)], -1)
    return replace(motion, transl=motion.transl - down), points - down[:, None]


def longest_span(valid: Bool[Tensor, " frames"], times_s: Float[Tensor, " frames"]) -> slice:
    """The most frames from a valid one to a valid one without a gap of more than BRIDGED_S; the first of equals."""
    seen = np.flatnonzero(valid.numpy())
    if len(seen) == 0:
        return slice(0, 0)
    missing = np.diff(seen) > 1
    apart_s = np.diff(times_s.numpy()[seen])
    spans = np.split(seen, np.flatnonzero(missing & (apart_s > BRIDGED_S + 1e-6)) + 1)
    best = max(spans, key=lambda span: span[-1] - span[0])
    return slice(int(best[0]), int(best[-1]) + 1)


def resampled(motion: Motion, fps: float) -> Motion:
    """The motion at a constant rate from its first time to its last: slerp of rotations, linear in the rest."""
    times_s = motion.times_s - motion.times_s[0]
    count = int(float(times_s[-1]) * fps + 1e-6) + 1
    wanted_s = torch.arange(count, dtype=times_s.dtype) / fps
    after = torch.searchsorted(times_s, wanted_s).clamp(1, len(motion) - 1)
    before = after - 1
    share = ((wanted_s - times_s[before]) / (times_s[after] - times_s[before])).clamp(0.0, 1.0).float()
    nearest = torch.where(share < 0.5, before, after)
    quaternions = quaternion_from_matrix(matrix_from_axis_angle(motion.poses))
    poses = axis_angle_from_quaternion(slerp(quaternions[before], quaternions[after], share[:, None]))
    return replace(
        motion,
        poses=poses,
        transl=torch.lerp(motion.transl[before], motion.transl[after], share[:, None]),
        expression=torch.lerp(motion.expression[before], motion.expression[after], share[:, None]),
        times_s=wanted_s,
        valid=torch.ones(count, dtype=torch.bool),
        confidence=None if motion.confidence is None else motion.confidence[nearest],
        contacts=None if motion.contacts is None else motion.contacts[nearest],
    )


def leg_length_m(body: Body, betas: Float[Tensor, " shape"]) -> float:
    """Hip to knee to ankle, meters."""
    _, joints = body.shaped(betas)
    return float((joints[_HIP] - joints[_KNEE]).norm() + (joints[_KNEE] - joints[_ANKLE]).norm())


def on_body(motion: Motion, body: Body, betas: Float[Tensor, " shape"]) -> tuple[Motion, float]:
    """Copy rotations, scale the root's path by the legs, and name the new body; also the scale.

    The betas of another body file mean nothing here: then the motion's body is taken to be of `body`'s mean shape.
    """
    source_betas = _source_betas(motion, body, betas)
    if motion.body_sha256 != body.sha256:
        log.info("%s: made on another body file; its legs are taken to be of average length", motion.name)
    scale = leg_length_m(body, betas) / leg_length_m(body, source_betas)
    root_source, root = body.shaped(source_betas)[1][0], body.shaped(betas)[1][0]
    transl = scale * (motion.transl + root_source) - root
    return replace(motion, transl=transl, betas=betas, body_sha256=body.sha256), scale


def _source_betas(motion: Motion, body: Body, betas: Float[Tensor, " shape"]) -> Float[Tensor, " shape"]:
    return motion.betas if motion.body_sha256 == body.sha256 else torch.zeros_like(betas)


def ground_offset(lowest_m: Float[Tensor, " frames"], fps: float) -> Float[Tensor, " frames"]:
    """Height (m) to take away in every frame so that the body's lowest point rests on y = 0 where it touched ground.

    The clip's ground level is the median height of the lowest point over frames in which that point is at rest
    vertically. Frames within CONTACT_BAND_M of it are contacts: there the lowest point itself is followed (smoothed
    over 0.1 s, so that noise of the tracking neither sinks nor floats the person); between contacts it is
    interpolated.
    """
    lowest = lowest_m.double().numpy()
    speed = np.abs(np.gradient(lowest)) * fps
    resting = speed <= max(0.15, float(np.median(speed)))
    level = float(np.median(lowest[resting]))
    contact = np.abs(lowest - level) < CONTACT_BAND_M
    if not contact.any():
        return torch.full_like(lowest_m, level)
    frames = np.arange(len(lowest))
    followed = np.interp(frames, frames[contact], lowest[contact])
    smooth = gaussian_filter1d(followed, 0.1 * fps / 2, mode="nearest", truncate=3.0)
    return torch.from_numpy(smooth).to(lowest_m.dtype)


def foot_contacts(feet: Float[Tensor, "frames 2 points 3"], fps: float) -> Bool[Tensor, "frames 2"]:
    """A foot touches the ground where its lowest point is within `SOLE_NEAR_M` of it and slower than `SOLE_STILL_M_S`,
    above it or below."""
    lowest = feet[..., 1].argmin(-1)
    height_m = feet[..., 1].amin(-1)
    velocity = torch.gradient(feet, dim=0)[0] * fps
    slowest = velocity.norm(dim=-1).gather(-1, lowest[..., None])[..., 0]
    return stands(height_m.abs(), slowest, near_m=SOLE_NEAR_M, still_m_s=SOLE_STILL_M_S)


def _convex_hull(points: Float[Tensor, "points 3"]) -> Float[Tensor, "corners 3"]:
    from scipy.spatial import ConvexHull

    return points[torch.from_numpy(ConvexHull(points.double().numpy()).vertices).long()]
