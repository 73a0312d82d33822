"""A small skeleton whose pose is known, under any names, axes and units."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from avatars.motion_formats.bvh import Bvh


def stick_figure(
    *, up: str = "Y", scale: float = 100.0, turns: str = "ZXY", names: dict[str, str] | None = None
) -> Bvh:
    """A T-posed figure whose left knee bends by 60 degrees and whose left upper arm hangs by 50, in every frame."""
    names = names or {}
    joints = [  # name, parent, offset (x left, y up, z forward; meters)
        ("Hips", -1, (0, 0, 0)), ("LeftUpLeg", 0, (0.1, -0.05, 0)), ("LeftLeg", 1, (0, -0.4, 0)),
        ("LeftFoot", 2, (0, -0.4, 0)), ("LeftToeBase", 3, (0, -0.06, 0.13)), ("RightUpLeg", 0, (-0.1, -0.05, 0)),
        ("RightLeg", 5, (0, -0.4, 0)), ("RightFoot", 6, (0, -0.4, 0)), ("RightToeBase", 7, (0, -0.06, 0.13)),
        ("Spine", 0, (0, 0.1, 0)), ("Spine1", 9, (0, 0.15, 0)), ("Neck", 10, (0, 0.25, 0)), ("Head", 11, (0, 0.1, 0)),
        ("LeftShoulder", 10, (0.05, 0.2, 0)), ("LeftArm", 13, (0.13, 0, 0)), ("LeftForeArm", 14, (0.28, 0, 0)),
        ("LeftHand", 15, (0.25, 0, 0)), ("RightShoulder", 10, (-0.05, 0.2, 0)), ("RightArm", 17, (-0.13, 0, 0)),
        ("RightForeArm", 18, (-0.28, 0, 0)), ("RightHand", 19, (-0.25, 0, 0)),
    ]  # fmt: skip
    to_file = np.eye(3) if up == "Y" else np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    channels = tuple(f"{axis}rotation" for axis in turns)
    values = np.zeros((5, 3 + 3 * len(joints)))
    values[:, :3] = scale * to_file @ np.array([0.3, 0.92, 0.7])
    hanging = ("Z", -50.0) if up == "Y" else ("Y", 50.0)
    values[:, 3 + 3 * 2 + turns.index("X")] = 60.0
    values[:, 3 + 3 * 14 + turns.index(hanging[0])] = hanging[1]
    return Bvh(
        names=tuple(names.get(name, name) for name, _, _ in joints),
        parents=tuple(parent for _, parent, _ in joints),
        offsets=scale * np.array([offset for *_, offset in joints], float) @ to_file.T,
        channels=(("Xposition", "Yposition", "Zposition", *channels), *((channels,) * (len(joints) - 1))),
        values=values,
        fps=Fraction(30),
    )
