"""The SMPL-X body: shape parameters and poses in, joints, vertices and keypoints out.

`Body` is a file's arrays, `PosedBody` is a body with its joints placed over time, and `BodyPoints` is a chosen set of
vertices that can be posed without the rest of the mesh. Everything is torch, float32, differentiable in betas,
expression, poses and transl, and equal to the `smplx` package's linear blend skinning (Pavlakos et al. 2019).

`poses` are always *full* poses, hand mean included: `smplx` with `use_pca=False, flat_hand_mean=True`.
"""

from __future__ import annotations

import functools
import hashlib
import zipfile
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatars.body.forward_kinematics import place_joints
from avatars.body.layout import FACE_NAMES_68, JOINT_NAMES, KEYPOINT_NAMES_133, KEYPOINT_VERTICES
from avatars.body.skinning import skin_points
from avatars.body.stock_model import stock_arrays
from avatars.errors import BodyFileMissing, InputError
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.io.array_schema import ArrayFile, ArraySpec, Schema, read_npz
from avatars.io.files import sha256_of

if TYPE_CHECKING:
    from avatars.body.motion import Motion

_SCHEMA: Schema = {
    "v_template": ArraySpec(("vertices", 3), -100.0, 100.0),
    "f": ArraySpec(("faces", 3), below="vertices", kind="integer"),
    "weights": ArraySpec(("vertices", 55), -1.0, 2.0),
    "J_regressor": ArraySpec((55, "vertices"), -100.0, 100.0),
    "kintree_table": ArraySpec((2, 55), kind="integer"),
    "shapedirs": ArraySpec(("vertices", 3, None), -100.0, 100.0),
    "posedirs": ArraySpec(("vertices", 3, 486), -100.0, 100.0),
    "lmk_faces_idx": ArraySpec((51,), below="faces", kind="integer"),
    "lmk_bary_coords": ArraySpec((51, 3), -10.0, 10.0),
    "dynamic_lmk_faces_idx": ArraySpec(("angles", 17), below="faces", kind="integer"),
    "dynamic_lmk_bary_coords": ArraySpec(("angles", 17, 3), -10.0, 10.0),
}
_SHAPE_COLUMNS = 300
"""Expression starts at this column of `shapedirs` (as `smplx` reads it), when there are more."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BodyPoints:
    """Chosen vertices of a body: all that is needed to shape and pose them."""

    template: Float[Tensor, "points 3"]
    shapedirs: Float[Tensor, "points 3 shape"]
    exprdirs: Float[Tensor, "points 3 expression"]
    posedirs: Float[Tensor, "points 3 486"] | None
    """Pose correctives; None when the body has none."""
    weights: Float[Tensor, "points joints"]

    def __len__(self) -> int:
        return self.template.shape[0]

    def __getitem__(self, index: slice | Tensor) -> BodyPoints:
        """Some of the points."""
        return map_tensors(self, lambda t: t[index])

    def to(self, device: torch.device | str) -> BodyPoints:
        """The points with their tensors on `device`."""
        return map_tensors(self, lambda t: t.to(device))

    def rest(
        self, betas: Float[Tensor, "*#frames shape"], expression: Float[Tensor, "*#frames expression"] | None = None
    ) -> Float[Tensor, "*#frames points 3"]:
        """Positions in the T-pose, meters; without a frame dimension when neither argument has one."""
        return _blend(self.template, self.shapedirs, self.exprdirs, betas, expression)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PosedBody:
    """A body with its joints placed, one pose per frame."""

    body: Body
    poses: Float[Tensor, "frames joints 3"]
    betas: Float[Tensor, "*#frames shape"]
    expression: Float[Tensor, "*#frames expression"] | None
    joints: Float[Tensor, "frames joints 3"]
    """Posed joints, meters, world."""
    A_world_rest: Float[Tensor, "frames joints 3 4"]
    """Skinning transforms without their last row: x_posed = sum_k w_k (A_k[:, :3] x_rest + A_k[:, 3])."""

    def __len__(self) -> int:
        return self.joints.shape[0]

    def __getitem__(self, index: slice | Tensor) -> PosedBody:
        """Chosen frames."""

        def pick(coefficients: Tensor | None) -> Tensor | None:
            return coefficients if coefficients is None or coefficients.ndim == 1 else coefficients[index]

        return replace(
            self,
            poses=self.poses[index],
            betas=pick(self.betas),
            expression=pick(self.expression),
            joints=self.joints[index],
            A_world_rest=self.A_world_rest[index],
        )

    def rest(self, points: BodyPoints) -> Float[Tensor, "*frames points 3"]:
        """Chosen vertices in the T-pose, with the pose's correctives when the body has them."""
        rest = points.rest(self.betas, self.expression)
        if points.posedirs is None:
            return rest
        feature = (matrix_from_axis_angle(self.poses[:, 1:]) - torch.eye(3, device=rest.device)).reshape(len(self), -1)
        return rest + (feature @ points.posedirs.reshape(-1, feature.shape[1]).T).reshape(len(self), -1, 3)

    def points(self, points: BodyPoints) -> Float[Tensor, "frames points 3"]:
        """Pose chosen vertices (made once with `body.subset`), meters, world."""
        return skin_points(points.weights, self.A_world_rest, self.rest(points)).contiguous()

    def vertices(self, indices: Int[Tensor, " points"] | None = None) -> Float[Tensor, "frames points 3"]:
        """Posed vertices, all or chosen ones, meters, world."""
        return self.points(self.body.points if indices is None else self.body.subset(indices))

    def landmarks(self) -> Float[Tensor, "frames 68 3"]:
        """Face landmarks in iBUG order, contour first, meters, world. The contour is the one of a frontal face."""
        return self.keypoints_133()[:, 23:91]

    def keypoints_133(self) -> Float[Tensor, "frames keypoints 3"]:
        """COCO-WholeBody keypoints (`KEYPOINT_NAMES_133`), meters, world."""
        layout = self.body.keypoints
        posed = skin_points(layout.points.weights, self.A_world_rest, self.rest(layout.points)).permute(1, 2, 0)
        surface = (layout.mix @ posed.reshape(len(posed), -1)).reshape(-1, *posed.shape[1:])
        sources = torch.cat([self.joints.permute(1, 2, 0), surface])
        return sources.index_select(0, layout.order).permute(2, 0, 1).contiguous()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class KeypointLayout:
    """Where the 133 keypoints come from: `order` picks from [55 joints, 21 single vertices, 68 landmarks]."""

    points: BodyPoints
    """The vertices needed, each once."""
    mix: Float[Tensor, "mixed points"]
    """Single vertices and landmarks (barycentric) as combinations of them."""
    order: Int[Tensor, " keypoints"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Body:
    """The arrays of one SMPL-X file (the licensed one or the default body), ready to be shaped and posed."""

    path: Path
    sha256: str
    """Names the body whose `betas` these are (`Motion.body_sha256`): the hash of a licensed file; of the default body
    the hash of its recipe, the same on every machine."""
    faces: Int[Tensor, "faces 3"]
    parents: tuple[int, ...]
    """Parent of each of the 55 joints, -1 for the root."""
    points: BodyPoints
    """All vertices."""
    J_regressor: Float[Tensor, "joints vertices"]
    joint_points: BodyPoints
    """The rest joints as a linear map of betas and expression."""
    keypoints: KeypointLayout

    def __repr__(self) -> str:
        return f"Body({str(self.path)!r}, {self.n_vertices} vertices, {self.n_betas} betas)"

    @staticmethod
    def load(
        path: str | Path, *, n_betas: int = 20, n_expression: int = 10, device: torch.device | str = "cpu"
    ) -> Body:
        """Read an SMPL-X npz; of a folder, its SMPLX_NEUTRAL.npz. `load_body` also finds the default body.

        Raises BodyFileMissing when the file is not there, InputError when it is no SMPL-X npz.
        """
        path = Path(path).expanduser().absolute()
        path = path / "SMPLX_NEUTRAL.npz" if path.is_dir() else path
        if not path.is_file():
            raise BodyFileMissing(
                f"No body file at {path}. Give the path of an SMPLX_*.npz (from https://smpl-x.is.tue.mpg.de), or "
                "leave --body and SMPLX_BODY unset to use the free default body."
            )
        stamp = path.stat().st_mtime_ns
        return _load(path, stamp, n_betas, n_expression).to(device)

    @property
    def joint_names(self) -> tuple[str, ...]:
        return JOINT_NAMES

    @property
    def v_template(self) -> Float[Tensor, "vertices 3"]:
        """T-pose of zero betas, meters, +Y up, facing +Z, the person's left at +X."""
        return self.points.template

    @property
    def shapedirs(self) -> Float[Tensor, "vertices 3 shape"]:
        return self.points.shapedirs

    @property
    def exprdirs(self) -> Float[Tensor, "vertices 3 expression"]:
        return self.points.exprdirs

    @property
    def lbs_weights(self) -> Float[Tensor, "vertices joints"]:
        return self.points.weights

    @property
    def n_vertices(self) -> int:
        return len(self.points)

    @property
    def n_betas(self) -> int:
        return self.shapedirs.shape[-1]

    @property
    def n_expression(self) -> int:
        return self.exprdirs.shape[-1]

    def shaped(
        self, betas: Float[Tensor, "*#frames shape"], expression: Float[Tensor, "*#frames expression"] | None = None
    ) -> tuple[Float[Tensor, "*#frames vertices 3"], Float[Tensor, "*#frames joints 3"]]:
        """Rest (T-pose) vertices and joints, meters."""
        return self.points.rest(betas, expression), self.joint_points.rest(betas, expression)

    def pose(
        self,
        poses: Float[Tensor, "frames joints 3"],
        betas: Float[Tensor, "*#frames shape"],
        transl: Float[Tensor, "frames 3"] | None = None,
        expression: Float[Tensor, "*#frames expression"] | None = None,
    ) -> PosedBody:
        """Place the joints.

        `poses` are full axis-angle poses (radians, hand mean included). `betas` and `expression` are one for all frames
        (shape,) or one per frame (frames, shape); coefficients that are not given are zero. `transl` in meters.
        """
        A, joints = place_joints(poses, self.joint_points.rest(betas, expression), transl, self.parents)
        return PosedBody(self, poses, betas, expression, joints, A)

    def pose_motion(self, motion: Motion) -> PosedBody:
        """Place the joints for every frame of a motion. Raises InputError when its betas belong to another body."""
        if motion.body_sha256 not in ("", self.sha256):
            raise InputError(
                f"The betas of motion {motion.name!r} belong to another body ({motion.body_sha256[:12]}...) than "
                f"{self.path} ({self.sha256[:12]}...). Load that body, or replace its betas."
            )
        return self.pose(motion.poses, motion.betas, motion.transl, motion.expression)

    def subset(self, indices: Int[Tensor, " points"]) -> BodyPoints:
        """Chosen vertices, to be posed many times with `PosedBody.points`."""
        return self.points[indices]

    def vertices(
        self,
        poses: Float[Tensor, "frames joints 3"],
        betas: Float[Tensor, "*#frames shape"],
        transl: Float[Tensor, "frames 3"] | None = None,
        expression: Float[Tensor, "*#frames expression"] | None = None,
        indices: Int[Tensor, " points"] | None = None,
    ) -> Float[Tensor, "frames points 3"]:
        """`pose(...).vertices(indices)`."""
        return self.pose(poses, betas, transl, expression).vertices(indices)

    def keypoints_133(
        self,
        poses: Float[Tensor, "frames joints 3"],
        betas: Float[Tensor, "*#frames shape"],
        transl: Float[Tensor, "frames 3"] | None = None,
        expression: Float[Tensor, "*#frames expression"] | None = None,
    ) -> Float[Tensor, "frames keypoints 3"]:
        """`pose(...).keypoints_133()`."""
        return self.pose(poses, betas, transl, expression).keypoints_133()

    def to(self, device: torch.device | str) -> Body:
        """The body with its tensors on `device`."""
        if self.faces.device == torch.device(device):
            return self
        return map_tensors(self, lambda t: t.to(device))


def _blend(
    template: Tensor, shapedirs: Tensor, exprdirs: Tensor, betas: Tensor, expression: Tensor | None
) -> Float[Tensor, "*frames points 3"]:
    result = template + _combine(shapedirs, betas, "betas")
    return result if expression is None else result + _combine(exprdirs, expression, "expression")


def _combine(dirs: Float[Tensor, "points 3 n"], coefficients: Float[Tensor, "*frames m"], name: str) -> Tensor:
    count = coefficients.shape[-1]
    if count > dirs.shape[-1]:
        raise InputError(
            f"{count} {name} given, the body was loaded with {dirs.shape[-1]}. Load it with n_{name}={count} or more."
        )
    dirs = dirs[..., :count].reshape(-1, count)
    if coefficients.ndim == 1:
        return (dirs @ coefficients).reshape(-1, 3)
    return (
        (dirs @ coefficients.mT).reshape(-1, 3, len(coefficients)).permute(2, 0, 1)
    )  # frames last, as `skin` likes it


def map_tensors(container, change):
    """A copy of a frozen dataclass with `change` applied to its tensors, also inside its dataclasses."""
    new = {}
    for f in fields(container):
        value = getattr(container, f.name)
        if isinstance(value, Tensor):
            new[f.name] = change(value)
        elif is_dataclass(value):
            new[f.name] = map_tensors(value, change)
    return replace(container, **new)


# -------------------------------------------------------------------------------------------------------- reading files


@functools.lru_cache(maxsize=4)
def _load(path: Path, _stamp: int, n_betas: int, n_expression: int) -> Body:
    """A file that is not our default body goes through the stock `smplx` package where that is installed."""
    data = _read_npz(path)
    shape, expression = _split_shapedirs(data["shapedirs"], n_betas, n_expression)
    stock = None if "recipe" in data else stock_arrays(path, n_betas, n_expression)
    if stock is not None:
        shape, expression = stock.shapedirs, stock.exprdirs
        data |= {key: getattr(stock, key) for key in ("v_template", "posedirs", "weights", "J_regressor")}
    posedirs = data["posedirs"]
    points = BodyPoints(
        template=_float(data["v_template"]),
        shapedirs=_float(shape),
        exprdirs=_float(expression),
        posedirs=_float(posedirs) if posedirs.any() else None,
        weights=_float(data["weights"]),
    )
    faces = torch.from_numpy(data["f"].astype(np.int64))
    J = _float(data["J_regressor"])
    recipe = data.get("recipe")
    return Body(
        path=path,
        sha256=sha256_of(path) if recipe is None else hashlib.sha256(str(recipe).encode()).hexdigest(),
        faces=faces,
        parents=(-1, *(int(p) for p in data["kintree_table"][0, 1:])),
        points=points,
        J_regressor=J,
        joint_points=_joint_points(points, J),
        keypoints=_keypoint_layout(points, faces, data),
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an SMPL-X npz. Raises InputError when they are not all there and as they must be."""
    file = ArrayFile(path, "Give an SMPLX_*.npz (SMPL and SMPL-H differ).")
    schema = {**_SCHEMA, **({"recipe": ArraySpec((), kind="text")} if _has(path, "recipe") else {})}
    data = read_npz(file, schema)
    vertices, parents = len(data["v_template"]), data["kintree_table"][0, 1:]
    if vertices <= max(KEYPOINT_VERTICES.values()):
        raise InputError(f"{path} has {vertices} vertices; SMPL-X has 10,475, and its keypoints need {9929 + 1}.")
    if bool((parents < 0).any()) or bool((parents >= np.arange(1, 55)).any()):
        raise file.refuse("`kintree_table` names parents that do not stand before their joints.")
    return data


def _has(path: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{name}.npy" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False  # whoever reads it says what is wrong


def _split_shapedirs(shapedirs: np.ndarray, n_betas: int, n_expression: int) -> tuple[np.ndarray, np.ndarray]:
    """Shape and expression columns: 300 + 100, or 10 + 10 in the older files (as `smplx` reads them)."""
    full = shapedirs.shape[-1] >= 400
    n_shape = _SHAPE_COLUMNS if full else 10
    if not full and n_betas > 10:
        n_betas = 10
    return shapedirs[..., :n_betas][..., :n_shape], shapedirs[..., n_shape : n_shape + n_expression]


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _joint_points(points: BodyPoints, J_regressor: Float[Tensor, "joints vertices"]) -> BodyPoints:
    """Rest joints are linear in the vertices, and so in betas and expression."""
    J = J_regressor.double()

    def regress(t: Tensor) -> Tensor:
        return torch.einsum("jv,vck->jck", J, t.double()).float().contiguous()

    return BodyPoints(
        template=(J @ points.template.double()).float(),
        shapedirs=regress(points.shapedirs),
        exprdirs=regress(points.exprdirs),
        posedirs=None,
        weights=torch.eye(55),
    )


def _keypoint_layout(points: BodyPoints, faces: Tensor, data: dict[str, np.ndarray]) -> KeypointLayout:
    """Where each of `KEYPOINT_NAMES_133` is found. The contour is the frontal row of the file's table."""
    triangles = np.concatenate([data["dynamic_lmk_faces_idx"][0], data["lmk_faces_idx"]]).astype(np.int64)
    barycentric = np.concatenate([data["dynamic_lmk_bary_coords"][0], data["lmk_bary_coords"]])
    corners = faces.numpy()[triangles]
    singles = np.array(list(KEYPOINT_VERTICES.values()))
    needed = np.unique(np.concatenate([singles, corners[barycentric != 0.0]]))
    mix = np.zeros((len(singles) + len(corners), len(needed)))
    mix[np.arange(len(singles)), np.searchsorted(needed, singles)] = 1.0
    for i, (triangle, shares) in enumerate(zip(corners, barycentric, strict=True), start=len(singles)):
        for vertex, share in zip(triangle, shares, strict=True):
            if share != 0.0:
                mix[i, np.searchsorted(needed, vertex)] += share
    sources = [*JOINT_NAMES, *KEYPOINT_VERTICES, *FACE_NAMES_68]
    return KeypointLayout(
        points=points[torch.from_numpy(needed)],
        mix=_float(mix),
        order=torch.tensor([sources.index(name) for name in KEYPOINT_NAMES_133]),
    )
