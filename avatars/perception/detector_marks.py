"""Where a detector's points lie beside the SMPL-X joints of the same name.

Detectors are trained on points that people clicked or that another body model has; a hip so marked is not the center
of rotation. The offsets were measured on rendered people whose joints are known, by least squares over clips seen from
all sides, and are the same for all people within a centimeter.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.body import PosedBody
from avatars.body.layout import JOINT_NAMES, KEYPOINT_NAMES_133

# point (left for pairs): the joint in whose rest axes the offset stands, and the offset in millimeters.
_MARKS_MM: dict[str, dict[str, tuple[str, tuple[float, float, float]]]] = {
    "mediapipe": {
        "nose": ("head", (0, 5, -10)),
        "eye": ("head", (-2, -5, -10)),
        "ear": ("head", (-22, 0, 35)),
        "shoulder": ("spine3", (-1, 25, 0)),
        "elbow": ("shoulder", (-13, 0, 13)),
        "wrist": ("elbow", (11, -3, 2)),
        "hip": ("pelvis", (-13, -9, 32)),
        "knee": ("hip", (-5, -16, -7)),
        "ankle": ("knee", (-2, 22, 6)),
        "big_toe": ("ankle", (22, 5, -28)),
        "heel": ("ankle", (-10, 10, 19)),
    },
}


def detector_marks(detector: str) -> tuple[Int[Tensor, " points"], Int[Tensor, " points"], Float[Tensor, "points 3"]]:
    """Keypoints (COCO-WholeBody index) that are marked off their joint, the joint whose axes count, and the offset
    (meters, T-pose axes); empty for a detector that was not measured."""
    keypoints, joints, offsets = [], [], []
    for index, name in enumerate(KEYPOINT_NAMES_133[:23]):
        plain = name.removeprefix("left_").removeprefix("right_")
        if plain not in _MARKS_MM.get(detector, {}):
            continue
        joint, (x, y, z) = _MARKS_MM[detector][plain]
        side = name[: len(name) - len(plain)]
        keypoints.append(index)
        joints.append(JOINT_NAMES.index(joint if joint in JOINT_NAMES else side + joint))
        offsets.append((-x if side == "right_" else x, y, z))
    return torch.tensor(keypoints).long(), torch.tensor(joints).long(), torch.tensor(offsets).reshape(-1, 3) / 1000.0


_DEPTH_SHARES = {
    "mediapipe": {"shoulder": 0.8, "hip": 0.25, "knee": 0.6, "ankle": 0.94, "big_toe": 0.88, "heel": 1.1},
}
"""What share of the height is marked by which a camera that looks down sees the far side's point above the near one's:
the detector thinks of a level camera. Measured on four rendered people who turn before cameras 7 to 14 degrees from
level, as the slope of the difference in height over the difference in depth; the people differ by a tenth."""


def depth_shares(
    detector: str, count: int
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """Left and right points (COCO-WholeBody index, below `count`) and the share of each pair; empty for a detector that
    was not measured."""
    shares = _DEPTH_SHARES.get(detector, {})
    names = [name for name in shares if KEYPOINT_NAMES_133.index(f"right_{name}") < count]
    left, right = ([KEYPOINT_NAMES_133.index(f"{side}_{name}") for name in names] for side in ("left", "right"))
    return torch.tensor(left).long(), torch.tensor(right).long(), torch.tensor([shares[name] for name in names])


def marked_keypoints(posed: PosedBody, detector: str) -> Float[Tensor, "frames 133 3"]:
    """The posed body's keypoints (meters, world) where the detector would mark them."""
    marked, joints, offsets = detector_marks(detector)
    points = posed.keypoints_133()
    points[:, marked] += (posed.A_world_rest[:, joints, :, :3] @ offsets[:, :, None])[..., 0]
    return points


_FACE_BREADTH = {"mediapipe": 1.06}


def face_breadth(detector: str) -> float:
    """How much farther apart a detector marks the ends of the jaw (COCO-WholeBody 23 and 39) than they lie on the body:
    within one percent the same for all people, which makes a face the best measure of a person's size."""
    return _FACE_BREADTH.get(detector, 1.0)
