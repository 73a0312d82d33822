"""Retargeted motion + placement + camera + masks -> the exact labels of a clip, one npz.

The npz is an AMASS-style motion file in the place's world (`Motion.load` opens it) with these keys beside it:
`K` (3, 3) and `T_cam_world` (4, 4); `size_hw`; `joints_m` (frames, 55, 3) and `joints_px` (frames, 55, 2) in SMPL-X
order; `keypoints_m` (frames, 133, 3), `keypoints_px` (frames, 133, 2) and `keypoints_in_frame` (frames, 133) in
COCO-WholeBody order; `box_px` (frames, 4), left, top, right, bottom of the mask; `mask_rle` (frames,), the mask in
COCO's compressed run lengths (`{"size": size_hw, "counts": mask_rle[i]}` for pycocotools); `foot_height_m` and
`foot_contact` (frames, 2), left and right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.body import Body
from avatars.camera import Camera
from avatars.errors import InputError
from avatars.files import atomic_path
from avatars.motion import GLOBAL, Motion
from avatars.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from reenact.retarget import Retargeted


@dataclass(frozen=True, slots=True)
class ClipLabels:
    """The truth about one clip; all in the place's world (y = 0 is the ground) and the clip's pixels."""

    motion: Motion
    camera: Camera
    joints_m: Float[Tensor, "frames 55 3"]
    keypoints_m: Float[Tensor, "frames 133 3"]
    foot_height_m: Float[Tensor, "frames 2"]
    foot_contact: Bool[Tensor, "frames 2"]

    @staticmethod
    def of(retargeted: Retargeted, body: Body, T_world_motion: Float[Tensor, "4 4"], camera: Camera) -> ClipLabels:
        """Labels of a retargeted motion that was placed by `T_world_motion` (a turn about +Y and a step)."""
        motion = moved(retargeted.motion, body, T_world_motion)
        expression = motion.expression if bool(motion.expression.any()) else None
        posed = body.pose(motion.poses, motion.betas, motion.transl, expression)
        return ClipLabels(motion, camera, posed.joints, posed.keypoints_133(), retargeted.sole_m, retargeted.contact)

    def save(self, path: str | Path, masks: MaskTrack) -> Path:
        """Write the npz that the module describes, whole or not at all."""
        path = Path(path)
        keypoints_px = self.camera.project(self.keypoints_m)
        inside = (keypoints_px >= 0).all(-1) & (keypoints_px < torch.tensor(self.camera.size_hw[::-1])).all(-1)
        with atomic_path(path) as aside:
            self.motion.save(aside)
            with np.load(aside) as archive:
                motion = dict(archive)
            with open(aside, "wb") as file:
                np.savez_compressed(
                    file,
                    **motion,
                    K=self.camera.K.numpy(),
                    T_cam_world=self.camera.T_cam_world.numpy(),
                    size_hw=np.array(self.camera.size_hw),
                    joints_m=self.joints_m.numpy(),
                    joints_px=self.camera.project(self.joints_m).numpy(),
                    keypoints_m=self.keypoints_m.numpy(),
                    keypoints_px=keypoints_px.numpy(),
                    keypoints_in_frame=inside.numpy(),
                    box_px=np.array(masks.boxes_px, np.int32),
                    mask_rle=np.array(masks.counts),
                    foot_height_m=self.foot_height_m.numpy(),
                    foot_contact=self.foot_contact.numpy(),
                )
        return path


class MaskTrack:
    """Collects the masks of a clip frame by frame, as run lengths."""

    def __init__(self, size_hw: tuple[int, int]) -> None:
        self.size_hw = size_hw
        self.counts: list[bytes] = []
        self.boxes_px: list[tuple[int, int, int, int]] = []

    def add(self, alpha: Float[Tensor, "height width"], top: int, left: int) -> None:
        """Append a frame whose coverage is `alpha` in the window that starts at (top, left), and 0 elsewhere."""
        mask = np.zeros(self.size_hw, bool)
        inside = (alpha >= 0.5).numpy()
        mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        self.counts.append(encode_rle(mask))
        if len(rows) == 0:
            self.boxes_px.append((0, 0, 0, 0))
            return
        left, top = left + int(columns[0]), top + int(rows[0])
        self.boxes_px.append((left, top, left + int(np.ptp(columns)) + 1, top + int(np.ptp(rows)) + 1))


def moved(motion: Motion, body: Body, T_new_old: Float[Tensor, "4 4"]) -> Motion:
    """The same motion seen from another world: rotates `global_orient` and moves the root joint rigidly."""
    R, t = T_new_old[:3, :3], T_new_old[:3, 3]
    root = body.shaped(motion.betas)[1][0]
    poses = motion.poses.clone()
    poses[:, GLOBAL] = axis_angle_from_matrix(R @ matrix_from_axis_angle(motion.poses[:, GLOBAL]))
    transl = (motion.transl + root) @ R.T + t - root
    return replace(motion, poses=poses, transl=transl)


def encode_rle(mask: np.ndarray) -> bytes:
    """COCO's compressed run lengths of a mask (height, width) bool: column-major runs from a run of zeros on, each from
    the fourth on as the difference to the run two before it, in 5-bit groups with sign, offset by 48 (Lin et al. 2014,
    the data set's mask API)."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], [0] if flat[0] else [], ends, [flat.size]])).astype(np.int64)
    values = runs.copy()
    values[3:] -= runs[1:-2]
    groups = []
    alive = np.ones(len(values), bool)
    while alive.any():
        group = values & 0x1F
        values = values >> 5
        more = np.where(group & 0x10, values != -1, values != 0)
        groups.append(np.where(alive, (group | (more << 5)) + 48, 0))
        alive = alive & more
    letters = np.stack(groups, -1).astype(np.uint8).ravel()
    return letters[letters > 0].tobytes()


def decode_rle(counts: bytes, size_hw: tuple[int, int]) -> np.ndarray:
    """The mask (height, width) bool of COCO's compressed run lengths. Raises InputError when they do not fill it."""
    runs: list[int] = []
    value = shift = 0
    for letter in counts:
        group = letter - 48
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if sum(runs) != size_hw[0] * size_hw[1] or min(runs, default=0) < 0:
        raise InputError(f"Run lengths add up to {sum(runs)} pixels, expected {size_hw[0]} x {size_hw[1]}.")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size_hw, order="F")
