"""Retargeted motion + placement + camera + masks -> the exact labels of a clip, one npz.

The npz is an AMASS-style motion file in the place's world (`Motion.load` opens it) with these keys beside it:
`K` (3, 3) and `T_cam_world` (4, 4), or (frames, 4, 4) for a camera that turns; `size_hw`; `distortion` (k1, k2) of the
lens and `distortion_zoom`, by which its picture is magnified to fill the frame; `global_orient_cam` (frames, 3) and
`transl_cam` (frames, 3), the pose in the camera's axes; `joints_m` (frames, 55, 3), `joints_cam_m` and `joints_px`
(frames, 55, 2) in SMPL-X order; `keypoints_m` (frames, 133, 3), `keypoints_px` (frames, 133, 2), `keypoints_in_frame`
(frames, 133) and `keypoints_state` (frames, 133) in COCO-WholeBody order, the last of `VISIBLE, BEHIND_OWN_BODY,
BEHIND_PLACE, BEHIND_OTHER, OUT_OF_FRAME`; `box_px` (frames, 4), left, top, right, bottom of the mask; `mask_rle`
(frames,), what is seen of the person, and `whole_rle`, the person as if nothing stood before it, in COCO's compressed
run lengths (`{"size": size_hw, "counts": mask_rle[i]}` for pycocotools); `hidden_share` (frames,), how much of the
person is hidden; `foot_height_m` and `foot_contact` (frames, 2), left and right; what retargeting left: `foot_slip_m`
(frames, 2) to the next frame, `hand_touch` (frames, 2), 1 where a hand touched the body in the source, `hand_gap_m`
(frames, 2), how much further from there it is than it was, and `arm_depth_m` (frames,), how much deeper arms are in the
body than in the source.

Where depth was asked for: `depth_mm` (frames, height, width) uint16 of the person, 0 elsewhere, and `place_depth_mm`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.body import Body, PosedBody
from avatars.body.motion import GLOBAL, Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.io.files import atomic_path
from avatars.io.mask_stack import mask_box
from compose.rendering.compositor import distorted_pixels, lens_zoom
from reenact.rendering.scene import Drawn
from reenact.retargeting.retarget import Retargeted

VISIBLE, BEHIND_OWN_BODY, BEHIND_PLACE, BEHIND_OTHER, OUT_OF_FRAME = range(5)
INSIDE_M = 0.13
"""Keypoints lie in the body: one counts as seen when the surface before it is no nearer than this."""
BEFORE_M = 0.05
"""The place hides a keypoint when it is nearer by more than this."""


@dataclass(frozen=True, slots=True)
class ClipLabels:
    """The truth about one clip; all in the place's world (y = 0 is the ground) and the clip's pixels."""

    motion: Motion
    camera: Camera
    """One, or one per frame."""
    joints_m: Float[Tensor, "frames 55 3"]
    keypoints_m: Float[Tensor, "frames 133 3"]
    foot_height_m: Float[Tensor, "frames 2"]
    foot_contact: Bool[Tensor, "frames 2"]
    residuals: dict[str, Tensor]
    """What retargeting left, by the names of the labels' keys."""
    root_m: Float[Tensor, " 3"]
    """The root joint of the body at rest, about which `global_orient` turns."""
    distortion: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def of(
        retargeted: Retargeted,
        body: Body,
        T_world_motion: Float[Tensor, "4 4"],
        camera: Camera,
        distortion: tuple[float, float] = (0.0, 0.0),
    ) -> ClipLabels:
        """Labels of a retargeted motion that was placed by `T_world_motion` (a turn about +Y and a step)."""
        motion = moved(retargeted.motion, body, T_world_motion)
        posed = posed_body(motion, body)
        root_m = body.shaped(motion.betas)[1][0]
        return ClipLabels(
            motion,
            camera,
            posed.joints,
            posed.keypoints_133(),
            retargeted.sole_m,
            retargeted.contact,
            _residuals(retargeted),
            root_m,
            distortion,
        )

    def pixels(self, points_m: Float[Tensor, "frames points 3"]) -> Float[Tensor, "frames points 2"]:
        """Where points appear in the clip, through its lens."""
        pixels = self.camera.project(points_m)
        if self.distortion == (0.0, 0.0):
            return pixels
        return distorted_pixels(pixels, self.camera, self.distortion)

    def save(self, path: str | Path, masks: MaskTrack) -> Path:
        """Write the npz that the module describes, whole or not at all."""
        path = Path(path)
        in_camera = self._in_camera()
        arrays = {
            "K": self.camera.K, "T_cam_world": self.camera.T_cam_world, "size_hw": np.array(self.camera.size_hw),
            "distortion": np.array(self.distortion, np.float32),
            "distortion_zoom": np.array(lens_zoom(self.camera, self.distortion), np.float32), **in_camera,
            "joints_m": self.joints_m, "joints_cam_m": self.camera.to_camera(self.joints_m),
            "joints_px": self.pixels(self.joints_m), "keypoints_m": self.keypoints_m,
            "keypoints_px": self.pixels(self.keypoints_m), "keypoints_in_frame": self.in_frame(),
            "foot_height_m": self.foot_height_m, "foot_contact": self.foot_contact,
            **self.residuals, **masks.arrays(),
        }  # fmt: skip
        with atomic_path(path) as aside:
            self.motion.save(aside)
            with np.load(aside) as archive:
                motion = dict(archive)
            with open(aside, "wb") as file:
                np.savez_compressed(file, **motion, **{k: np.asarray(v) for k, v in arrays.items()})
        return path

    def in_frame(self) -> Bool[Tensor, "frames 133"]:
        """Whether each keypoint is inside the picture and before the camera."""
        pixels = self.pixels(self.keypoints_m)
        inside = (pixels >= 0).all(-1) & (pixels < torch.tensor(self.camera.size_hw[::-1])).all(-1)
        return inside & (self.camera.to_camera(self.keypoints_m)[..., 2] > 0)

    def _in_camera(self) -> dict[str, Tensor]:
        """SMPL-X's `global_orient` and `transl` in the camera's axes."""
        T = self.camera.T_cam_world.expand(len(self.motion), 4, 4)
        R = T[:, :3, :3]
        orient = axis_angle_from_matrix(R @ matrix_from_axis_angle(self.motion.poses[:, GLOBAL]))
        root = (R @ (self.motion.transl + self.root_m)[..., None])[..., 0] + T[:, :3, 3] - self.root_m
        return {"global_orient_cam": orient, "transl_cam": root}


def _residuals(retargeted: Retargeted) -> dict[str, Tensor]:
    left = retargeted.residuals
    return {
        "foot_slip_m": retargeted.slip_m, "hand_touch": left.touches, "hand_gap_m": left.gap_m,
        "arm_depth_m": left.depth_m,
    }  # fmt: skip


def posed_body(motion: Motion, body: Body) -> PosedBody:
    """The body of every frame, with its expression where it has one."""
    expression = motion.expression if bool(motion.expression.any()) else None
    return body.pose(motion.poses, motion.betas, motion.transl, expression)


class MaskTrack:
    """Collects what a clip's pixels tell, frame by frame: masks as run lengths, boxes, what hides each keypoint."""

    def __init__(self, size_hw: tuple[int, int], labels: ClipLabels | None = None, *, keep_depth: bool = False) -> None:
        self.size_hw = size_hw
        self.counts: list[bytes] = []
        self.whole: list[bytes] = []
        self.boxes_px: list[tuple[int, int, int, int]] = []
        self.hidden: list[float] = []
        self._depth_mm: list[np.ndarray] | None = [] if keep_depth else None
        self._states: list[np.ndarray] = []
        self._place_mm: np.ndarray | None = None
        self._keypoints: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        if labels is not None:
            z = labels.camera.to_camera(labels.keypoints_m)[..., 2]
            inside = labels.in_frame()
            self._keypoints = labels.pixels(labels.keypoints_m).numpy(), z.numpy(), inside.numpy()

    def add(self, drawn: Drawn) -> None:
        """Append the next frame."""
        mask = self._full(drawn, (drawn.alpha >= 0.5).numpy(), False)
        whole = self._full(drawn, (drawn.whole >= 0.5).numpy(), False)
        self.counts.append(encode_rle(mask))
        self.whole.append(encode_rle(whole))
        self.boxes_px.append(mask_box(mask))
        self.hidden.append(1.0 - float(mask.sum()) / max(int(whole.sum()), 1))
        if self._keypoints is not None:
            self._states.append(self._state(drawn, len(self._states)))
        if self._depth_mm is not None:
            self._depth_mm.append(np.where(mask, _millimeters(self._full(drawn, drawn.depth_m.numpy(), np.inf)), 0))

    def add_place(self, depth_m: Float[Tensor, "height width"] | None) -> None:
        """Keep the place's depth, too."""
        self._place_mm = None if depth_m is None else _millimeters(depth_m.numpy())

    def arrays(self) -> dict[str, np.ndarray]:
        """What was collected, by the names of the labels' keys."""
        found = {
            "box_px": np.array(self.boxes_px, np.int32), "mask_rle": np.array(self.counts),
            "whole_rle": np.array(self.whole), "hidden_share": np.array(self.hidden, np.float32),
        }  # fmt: skip
        if self._states:
            found["keypoints_state"] = np.stack(self._states)
        if self._depth_mm is not None:
            found["depth_mm"] = np.stack(self._depth_mm)
        if self._depth_mm is not None and self._place_mm is not None:
            found["place_depth_mm"] = self._place_mm
        return found

    def _full(self, drawn: Drawn, values: np.ndarray, empty: float) -> np.ndarray:
        whole = np.full(self.size_hw, empty, values.dtype)
        height, width = values.shape
        whole[drawn.top : drawn.top + height, drawn.left : drawn.left + width] = values
        return whole

    def _state(self, drawn: Drawn, index: int) -> np.ndarray:
        """What hides each keypoint in a frame, if anything."""
        assert self._keypoints is not None
        pixels, z, inside = (values[index] for values in self._keypoints)
        height, width = drawn.alpha.shape
        row, column = (np.floor(pixels[:, i]).astype(int) - start for i, start in ((1, drawn.top), (0, drawn.left)))
        here = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        at = np.where(here, row, 0), np.where(here, column, 0)
        if min(height, width) < 1:
            return np.where(inside, VISIBLE, OUT_OF_FRAME).astype(np.uint8)
        state = np.full(len(z), VISIBLE, np.uint8)
        state[here & (drawn.depth_m.numpy()[at] < z - INSIDE_M)] = BEHIND_OWN_BODY
        whole, alpha = drawn.whole.numpy()[at], drawn.alpha.numpy()[at]
        state[here & (whole >= 0.5) & (alpha < 0.5 * whole)] = BEHIND_OTHER
        if drawn.place_m is not None:
            state[here & (drawn.place_m.numpy()[at] < z - BEFORE_M)] = BEHIND_PLACE
        state[~inside] = OUT_OF_FRAME
        return state


def _millimeters(depth_m: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(depth_m), np.clip(depth_m * 1000 + 0.5, 0, 65535), 0).astype(np.uint16)


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
        if not 0 <= group < 64 or shift > 40:
            raise InputError("Run lengths of a mask hold what no run length is.")
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
