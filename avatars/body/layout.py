"""SMPL-X's tables: joint names, and the vertices and points that stand for keypoints."""

from __future__ import annotations

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
FACE_NAMES_68 = tuple(f"face{i}" for i in range(68))
KEYPOINT_NAMES_133: tuple[str, ...] = (
    *_BODY_17, *_FEET_6, *FACE_NAMES_68, *(f"left_{k}" for k in _HAND_21), *(f"right_{k}" for k in _HAND_21),
)  # fmt: skip
"""COCO-WholeBody order (Jin et al. 2020): 17 body, 6 feet, 68 face (iBUG: contour first), 21 left hand, 21 right hand.
The wrist stands three times: body 9 and 10, and the first point of each hand."""
