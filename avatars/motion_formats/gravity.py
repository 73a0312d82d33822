"""Which way is up in a motion's file: what the user says, what the format states, else where gravity must pull.

A person is carried by what touches the floor: at the true up the lowest joints stay at one height, the middle of the
body is above them, and files count heights from the floor. A person who stands along another axis than the file's own
up is either lying there, or the file states the wrong up; only such evidence tells the two apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Up = Literal["auto", "+y", "-y", "+z", "-z", "+x", "-x"]
Axis = Float[np.ndarray, " 3"]

_NEAR, _MARGIN, _CLIMB = 0.15, 0.15, 1.2
"""In lengths of a leg: how far above the lowest joint others carry, how far from the hull of the feet one still stands,
and how far hips rise and fall on the ground."""
_HIPS_UPRIGHT, _HIPS_LYING = (0.6, 1.6), (0.05, 0.6)
"""How high hips are above a file's zero when heights count from the floor, in lengths of a leg."""
_MOST_FRAMES = 400
_CLEAR = 0.5
_LIMBS = ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist")

# World axis that points up -> rotation to +Y up. A camera's y-down world is turned about x: the viewer stays in front.
_R_YUP = {
    "+y": np.eye(3),
    "-y": np.diag([1.0, -1.0, -1.0]),
    "+z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "+x": np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]),
    "-x": np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]]),
}


def rotation_to_y_up(up: str) -> Float[np.ndarray, "3 3"]:
    """Takes a world whose axis `up` ("+z", ...) points up to one with +Y up."""
    return _R_YUP[up]


def axis_name(vector: Axis) -> str:
    """The signed axis nearest to a vector."""
    axis = int(np.abs(vector).argmax())
    return f"{'+' if vector[axis] >= 0 else '-'}{'xyz'[axis]}"


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """Where a person's joints are in the file's world, in whatever unit."""

    limbs: Mapping[str, Float[np.ndarray, "frames 3"]]
    """By SMPL-X name; hips, knees, ankles, shoulders and elbows are always there."""

    def trunk(self) -> Axis:
        """From hips to shoulders: mean over the frames of the unit vectors, so short where they disagree."""
        trunk = self._middle("shoulder") - self._middle("hip")
        return (trunk / np.maximum(np.linalg.norm(trunk, axis=1, keepdims=True), 1e-12)).mean(0)

    def plausibility(self, up: str) -> float:
        """How well gravity along an axis explains the movement, 0 to 3: the share of frames in which the middle of the
        body is above what touches the floor; whether the hips are as high above the file's zero as those of a person
        who stands (or lies, as the trunk tells); whether they keep to about that height."""
        axis = _R_YUP[up][1]
        step = max(1, len(self._middle("hip")) // _MOST_FRAMES)
        points = np.stack([self.limbs[name] for name in self._names()], 1)[::step]
        leg = self._leg()
        height = points @ axis
        middle = (0.5 * self._middle("hip") + 0.35 * self._middle("shoulder") + 0.15 * self._middle("knee"))[::step]
        away = _distance_to_hull(points, height - height.min(1, keepdims=True) < _NEAR * leg, middle, axis)
        low, hips, high = np.quantile(self._middle("hip")[::step] @ axis, [0.05, 0.5, 0.95]) / leg
        usual = _HIPS_UPRIGHT if abs(self.trunk() @ axis) > 0.7 else _HIPS_LYING
        return float((away < _MARGIN * leg).mean()) + (usual[0] < hips < usual[1]) + (high - low < _CLIMB)

    def _names(self) -> list[str]:
        return [f"{side}_{part}" for part in _LIMBS for side in ("left", "right") if f"{side}_{part}" in self.limbs]

    def _middle(self, part: str) -> Float[np.ndarray, "frames 3"]:
        return (self.limbs[f"left_{part}"] + self.limbs[f"right_{part}"]) / 2

    def _leg(self) -> float:
        bones = [("hip", "knee"), ("knee", "ankle")]
        return float(
            sum(
                np.linalg.norm(self.limbs[f"{side}_{a}"] - self.limbs[f"{side}_{b}"], axis=1).mean()
                for side in ("left", "right")
                for a, b in bones
            )
            / 2
        )


def likely_up(figure: Figure, stated: str, others: Collection[str] = tuple(_R_YUP)) -> str:
    """The axis that points up in a world whose file states `stated`: that, unless the body keeps to one of the `others`
    and gravity along that one clearly explains the movement better."""
    trunk = figure.trunk()
    along = axis_name(trunk)
    if trunk @ _R_YUP[stated][1] > 0.5 or abs(trunk).max() < 0.7 or along not in others:
        return stated
    return along if figure.plausibility(along) > figure.plausibility(stated) + _CLEAR else stated


def guessed_up(figure: Figure, usual: str = "+y") -> str:
    """The axis that points up in a world of which nothing is stated: that along which the body keeps, unless gravity
    along the `usual` one clearly explains the movement better (somebody lies or stands on their hands)."""
    trunk = figure.trunk()
    along = axis_name(trunk)
    if along == usual or trunk @ _R_YUP[usual][1] > 0.5:
        return usual
    return usual if figure.plausibility(usual) > figure.plausibility(along) + _CLEAR else along


def _distance_to_hull(
    points: Float[np.ndarray, "frames joints 3"],
    touching: np.ndarray,
    middle: Float[np.ndarray, "frames 3"],
    axis: Axis,
) -> Float[np.ndarray, " frames"]:
    """How far, seen along `axis`, the middle is outside the convex hull of the touching points; infinite where nothing
    touches. The largest gap over directions is the distance to a convex set."""
    first = np.eye(3)[int(np.abs(axis).argmin())]
    second = np.cross(axis, first)
    angle = np.linspace(0.0, 2 * np.pi, 32, endpoint=False)
    directions = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
    reach = np.where(touching[:, :, None], points @ directions.T, -np.inf).max(1)
    return np.maximum((middle @ directions.T - reach).max(1), 0.0)
