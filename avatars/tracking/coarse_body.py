"""A body -> the same body without fingers, for stages that look at the 23 body and feet keypoints alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from avatars.body import Body, BodyPoints
from avatars.body.layout import JOINT_NAMES, KEYPOINT_NAMES_133, KEYPOINT_VERTICES
from avatars.body.model import KeypointLayout

N_COARSE_JOINTS = 25
"""Up to the eyes, in SMPL-X order; the hands' joints follow."""
N_COARSE_KEYPOINTS = 23


def coarse_body(body: Body) -> Body:
    """The body with its first 25 joints, whose `keypoints_133` gives the first 23 points: a third of the work.

    Equal to the whole body at these points, since fingers move none of them. It has no mesh worth drawing.
    """
    layout = body.keypoints
    singles = list(KEYPOINT_VERTICES)
    names = KEYPOINT_NAMES_133[:N_COARSE_KEYPOINTS]
    rows = torch.tensor([singles.index(name) for name in names if name in KEYPOINT_VERTICES])
    mix = layout.mix[rows]
    used = mix.any(0)
    sources = [*JOINT_NAMES[:N_COARSE_JOINTS], *(singles[i] for i in rows.tolist())]
    order = torch.tensor([sources.index(name) for name in names])
    return replace(
        body,
        parents=body.parents[:N_COARSE_JOINTS],
        joint_points=_without_fingers(body.joint_points[:N_COARSE_JOINTS]),
        keypoints=KeypointLayout(_without_fingers(layout.points[used]), mix[:, used].contiguous(), order),
    )


def _without_fingers(points: BodyPoints) -> BodyPoints:
    kept = points.posedirs
    if kept is not None:
        kept = kept[..., : 9 * (N_COARSE_JOINTS - 1)].contiguous()
    return replace(points, weights=points.weights[:, :N_COARSE_JOINTS].contiguous(), posedirs=kept)
