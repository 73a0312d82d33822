"""The SMPL-X body: shape parameters and poses in, joints, vertices and keypoints out.

`Body` is a file's arrays, `PosedBody` is a body with its joints placed over time, and `BodyPoints` is a chosen set of
vertices that can be posed without the rest of the mesh. Everything is torch, float32, differentiable in betas,
expression, poses and transl, and equal to the `smplx` package's linear blend skinning (Pavlakos et al. 2019).

`poses` are always *full* poses, hand mean included: `smplx` with `use_pca=False, flat_hand_mean=True`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from avatars.motion import Motion

# SMPL-X joint order (Pavlakos et al. 2019).
_FINGERS = [f"{finger}{i}" for finger in ("index", "middle", "pinky", "ring", "thumb") for i in (1, 2, 3)]
JOINT_NAMES: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "jaw", "left_eye_smplhf",
    "right_eye_smplhf", *(f"left_{f}" for f in _FINGERS), *(f"right_{f}" for f in _FINGERS),
)  # fmt: skip

# Vertices of the SMPL-X mesh that `smplx` appends to the joints as keypoints (smplx.vertex_ids).
KEYPOINT_VERTICES: dict[str, int] = {
    "nose": 9120, "right_eye": 9929, "left_eye": 9448, "right_ear": 616, "left_ear": 6,
    "left_big_toe": 5770, "left_small_toe": 5780, "left_heel": 8846,
    "right_big_toe": 8463, "right_small_toe": 8474, "right_heel": 8635,
    "left_thumb": 5361, "left_index": 4933, "left_middle": 5058, "left_ring": 5169, "left_pinky": 5286,
    "right_thumb": 8079, "right_index": 7669, "right_middle": 7794, "right_ring": 7905, "right_pinky": 8022,
}  # fmt: skip

_BODY_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
_FEET_6 = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
_HAND_21 = ("wrist", *(f"{f}{i}" for f in ("thumb", "index", "middle", "ring", "pinky") for i in (1, 2, 3, "")))
_FACE_68 = tuple(f"face{i}" for i in range(68))
KEYPOINT_NAMES_133: tuple[str, ...] = (
    *_BODY_17, *_FEET_6, *_FACE_68, *(f"left_{k}" for k in _HAND_21), *(f"right_{k}" for k in _HAND_21),
)  # fmt: skip
"""COCO-WholeBody order (Jin et al. 2020): 17 body, 6 feet, 68 face (iBUG: contour first), 21 left hand, 21 right hand.
The wrist stands three times: body 9 and 10, and the first point of each hand."""

_REQUIRED = {"v_template", "f", "weights", "J_regressor", "kintree_table", "shapedirs", "posedirs"}


@dataclass(frozen=True, slots=True, eq=False)
class BodyPoints:
    """Chosen vertices of a body: all that is needed to shape and pose them."""

    template: Float[Tensor, "points 3"]
    shapedirs: Float[Tensor, "points 3 shape"]
    exprdirs: Float[Tensor, "points 3 expression"]
    posedirs: Float[Tensor, "points 3 486"] | None
    """Pose correctives; None when the body has none."""
    weights: Float[Tensor, "points 55"]

    def __len__(self) -> int:
        return self.template.shape[0]

    def rest(
        self, betas: Float[Tensor, "*frames shape"], expression: Float[Tensor, "*frames expression"] | None = None
    ) -> Float[Tensor, "*frames points 3"]:
        """Positions in the T-pose, meters; without a frame dimension when neither argument has one."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class PosedBody:
    """A body with its joints placed, one pose per frame."""

    body: Body
    betas: Float[Tensor, "*frames shape"]
    expression: Float[Tensor, "*frames expression"] | None
    rotations: Float[Tensor, "frames 55 3 3"]
    """Local joint rotations."""
    joints: Float[Tensor, "frames 55 3"]
    """Posed joints, meters, world."""
    A_world_rest: Float[Tensor, "frames 55 3 4"]
    """Skinning transforms without their last row: x_posed = sum_k w_k (A_k[:, :3] x_rest + A_k[:, 3])."""

    @property
    def T_world_rest(self) -> Float[Tensor, "frames 55 4 4"]:
        """The skinning transforms as 4x4 matrices."""
        raise NotImplementedError

    def points(self, points: BodyPoints) -> Float[Tensor, "frames points 3"]:
        """Pose chosen vertices (made once with `body.subset`), meters, world."""
        raise NotImplementedError

    def vertices(self, indices: Int[Tensor, " points"] | None = None) -> Float[Tensor, "frames points 3"]:
        """Posed vertices, all or chosen ones, meters, world."""
        raise NotImplementedError

    def keypoints_133(self) -> Float[Tensor, "frames 133 3"]:
        """COCO-WholeBody keypoints (`KEYPOINT_NAMES_133`), meters, world."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The arrays of one SMPL-X file (the licensed one or the default body), ready to be shaped and posed."""

    path: Path
    sha256: str
    """Hash of the file: what `Motion.body_sha256` names."""
    faces: Int[Tensor, "faces 3"]
    parents: tuple[int, ...]
    """Parent of each of the 55 joints, -1 for the root."""
    v_template: Float[Tensor, "vertices 3"]
    """T-pose, meters, +Y up, facing +Z, the person's left at +X."""
    shapedirs: Float[Tensor, "vertices 3 shape"]
    exprdirs: Float[Tensor, "vertices 3 expression"]
    posedirs: Float[Tensor, "vertices 3 486"] | None
    lbs_weights: Float[Tensor, "vertices 55"]
    J_regressor: Float[Tensor, "55 vertices"]

    @staticmethod
    def load(
        path: str | Path | None = None, *, n_betas: int = 20, n_expression: int = 10, device: torch.device | str = "cpu"
    ) -> Body:
        """Read an SMPL-X npz: `path`, else the one named by the environment variable SMPLX_BODY, else the default body
        (built and cached on first use).

        Raises BodyFileMissing when the file is not there, InputError when it is no SMPL-X npz.
        """
        raise NotImplementedError

    joint_names = JOINT_NAMES

    @property
    def n_vertices(self) -> int:
        return self.v_template.shape[0]

    @property
    def n_betas(self) -> int:
        return self.shapedirs.shape[-1]

    @property
    def n_expression(self) -> int:
        return self.exprdirs.shape[-1]

    def shaped(
        self, betas: Float[Tensor, "*frames shape"], expression: Float[Tensor, "*frames expression"] | None = None
    ) -> tuple[Float[Tensor, "*frames vertices 3"], Float[Tensor, "*frames 55 3"]]:
        """Rest (T-pose) vertices and joints, meters."""
        raise NotImplementedError

    def pose(
        self,
        poses: Float[Tensor, "frames 55 3"],
        betas: Float[Tensor, "*frames shape"],
        transl: Float[Tensor, "frames 3"] | None = None,
        expression: Float[Tensor, "*frames expression"] | None = None,
    ) -> PosedBody:
        """Place the joints. `betas` and `expression` are one for all frames (shape,) or one per frame (frames, shape);
        fewer coefficients than the body has are padded with zeros."""
        raise NotImplementedError

    def pose_motion(self, motion: Motion) -> PosedBody:
        """Place the joints for every frame of a motion. Raises InputError when its betas belong to another body."""
        raise NotImplementedError

    def subset(self, indices: Int[Tensor, " points"]) -> BodyPoints:
        """Chosen vertices, to be posed many times with `PosedBody.points`."""
        raise NotImplementedError

    def keypoints_133(
        self,
        poses: Float[Tensor, "frames 55 3"],
        betas: Float[Tensor, "*frames shape"],
        transl: Float[Tensor, "frames 3"] | None = None,
        expression: Float[Tensor, "*frames expression"] | None = None,
    ) -> Float[Tensor, "frames 133 3"]:
        """`pose(...).keypoints_133()`."""
        return self.pose(poses, betas, transl, expression).keypoints_133()

    def to(self, device: torch.device | str) -> Body:
        """The body with its tensors on `device`."""
        raise NotImplementedError
