"""Where Anny's bones go when its people stand in the SMPL-X T-pose, person by person, and the skin with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import anny

# Bone directions of the left side in the T-pose; the right side mirrors x. The thumb's follow the flat MANO hand
# (Romero et al. 2017), the other fingers are straight with a little spread.
_LEG_TARGETS = {"thigh": (0.03, -1.0, 0.03), "shank": (0.0, -1.0, -0.06)}
_SPREAD_DEG = {"finger2": 4.0, "finger3": -2.0, "finger4": -8.0, "finger5": -14.0}
_THUMB_TARGETS = ((0.62, -0.22, 0.75), (0.80, -0.25, 0.55), (0.85, -0.28, 0.45))


def t_pose_transforms(heads: np.ndarray, model: anny.Anny) -> tuple[np.ndarray, np.ndarray]:
    """Transforms (B, bones, 4, 4) from Anny's reference pose to the T-pose, and the bones' heads (B, bones, 3)."""
    labels, parents = model.bone_labels, model.bone_parents
    rotations = _t_pose_rotations(heads, labels)
    transforms = np.zeros((*heads.shape[:2], 4, 4))
    posed = heads.copy()
    for bone, parent in enumerate(parents):
        if parent >= 0:
            posed[:, bone] = np.einsum("bij,bj->bi", transforms[:, parent, :3, :3], heads[:, bone])
            posed[:, bone] += transforms[:, parent, :3, 3]
        transforms[:, bone, :3, :3] = rotations[:, bone]
        transforms[:, bone, :3, 3] = posed[:, bone] - np.einsum("bij,bj->bi", rotations[:, bone], heads[:, bone])
        transforms[:, bone, 3, 3] = 1.0
    return transforms, posed


def _t_pose_rotations(heads: np.ndarray, labels: list[str]) -> np.ndarray:
    """World rotations (B, bones, 3, 3) that take each bone from Anny's reference pose to the T-pose.

    Arms and legs are aligned person by person, so that the T-pose is the same pose for every shape.
    """
    rotations = np.tile(np.eye(3), (*heads.shape[:2], 1, 1))
    for side, sign in (("L", 1.0), ("R", -1.0)):
        head = {name[:-2]: heads[:, i] for i, name in enumerate(labels) if name.endswith("." + side)}
        bone = {name[:-2]: i for i, name in enumerate(labels) if name.endswith("." + side)}
        for name, rotation in _limb_rotations(head, np.array([sign, 1.0, 1.0])).items():
            rotations[:, bone[name]] = rotation
    return rotations


def _limb_rotations(head: dict[str, np.ndarray], mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Rotations (B, 3, 3) of the bones of one arm and one leg."""
    out, side = mirror * [1, 0, 0], mirror[0]
    down, forward = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    upper, fore = head["lowerarm01"] - head["upperarm01"], head["wrist"] - head["lowerarm01"]
    hinge = np.cross(upper, fore) * side  # the elbow's axis: bending brings the forearm forward in the T-pose
    R: dict[str, np.ndarray] = {}
    R["upperarm01"] = R["upperarm02"] = _align(upper, hinge, out, down)
    R["lowerarm01"] = R["lowerarm02"] = _align(fore, hinge, out, down)
    hand = _align(head["finger3-1"] - head["wrist"], head["finger2-1"] - head["finger5-1"], out, forward)
    R.update({name: hand for name in ("wrist", *(f"metacarpal{i}" for i in range(1, 5)))})
    for i in range(1, 6):
        R.update(_finger_rotations(f"finger{i}", head, hand, mirror))
    R["upperleg01"] = R["upperleg02"] = _swing(head["lowerleg01"] - head["upperleg01"], mirror * _LEG_TARGETS["thigh"])
    R["lowerleg01"] = R["lowerleg02"] = _swing(head["foot"] - head["lowerleg01"], mirror * _LEG_TARGETS["shank"])
    return R


def _finger_rotations(
    finger: str, head: dict[str, np.ndarray], hand: np.ndarray, mirror: np.ndarray
) -> dict[str, np.ndarray]:
    """Rotations (B, 3, 3) that straighten one finger. The last bone's own direction continues the bend before it."""
    joints = np.stack([head[f"{finger}-{j}"] for j in (1, 2, 3)], 1)
    bones = np.einsum("bij,bkj->bki", hand, joints[:, 1:] - joints[:, :-1])
    bones /= np.linalg.norm(bones, axis=-1, keepdims=True)
    last = _swing(bones[:, 0], bones[:, 1]) if finger != "finger1" else np.eye(3)[None]
    bones = np.concatenate([bones, np.einsum("bij,bj->bi", _half(last), bones[:, 1])[:, None]], 1)
    if finger == "finger1":
        targets = [mirror * t for t in _THUMB_TARGETS]
    else:
        spread = np.radians(_SPREAD_DEG[finger])
        targets = [mirror * [np.cos(spread), 0.0, np.sin(spread)]] * 3
    return {f"{finger}-{j}": _swing(bones[:, j - 1], targets[j - 1]) @ hand for j in (1, 2, 3)}


def _half(R: np.ndarray) -> np.ndarray:
    """Half of a rotation (..., 3, 3) of less than a half turn."""
    M = R + np.eye(3)
    U, _, Vt = np.linalg.svd(M)
    return U @ Vt


def _align(a: np.ndarray, b: np.ndarray, to_a: np.ndarray, to_b: np.ndarray) -> np.ndarray:
    """Rotations (B, 3, 3) that take the direction `a` to `to_a` and, as far as that allows, `b` to `to_b`."""
    return _basis(np.broadcast_to(to_a, a.shape), np.broadcast_to(to_b, a.shape)) @ np.swapaxes(_basis(a, b), -1, -2)


def _basis(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b - a * (a * b).sum(-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.stack([a, b, np.cross(a, b)], -1)


def _swing(a: np.ndarray, to: np.ndarray) -> np.ndarray:
    """The smallest rotations (B, 3, 3) that take the directions `a` (B, 3) to `to`."""
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    to = np.broadcast_to(to / np.linalg.norm(to, axis=-1, keepdims=True), a.shape)
    v, c = np.cross(a, to), (a * to).sum(-1)
    K = np.zeros((*a.shape[:-1], 3, 3))
    K[..., 2, 1], K[..., 0, 2], K[..., 1, 0] = v[..., 0], v[..., 1], v[..., 2]
    K -= np.swapaxes(K, -1, -2)
    return np.eye(3) + K + K @ K / (1.0 + c)[..., None, None]


def inverse_skin(rest: np.ndarray, transforms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """T-pose vertices (B, V, 3) whose linear blend skinning back to the rest pose gives `rest` again.

    Skinning from the T-pose then leaves the artists' mesh as it is where they made it, arms half down, and its
    artifacts stand at the far end instead.
    """
    back = np.linalg.inv(transforms)[:, :, :3].reshape(*transforms.shape[:2], 12)
    blended = (weights @ back).reshape(*rest.shape[:2], 3, 4)
    return np.linalg.solve(blended[..., :3], (rest - blended[..., 3])[..., None])[..., 0]
