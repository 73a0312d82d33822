"""What video-to-SMPL programs write (4D-Humans, GVHMR, WHAM and others) into Motion.

Known layouts, all of them arrays over frames:
- GVHMR (Shen et al. 2024, github.com/zju3dv/GVHMR, tools/demo/demo.py): `hmr4d_results.pt` with `smpl_params_global`
  holding global_orient (T, 3), body_pose (T, 63), betas, transl in a gravity-aligned +Y-up world;
- WHAM (Shin et al. 2024, github.com/yohanshin/WHAM, demo.py): of one person, pose_world (T, 72), trans_world (T, 3),
  betas, frame_ids; +Y up. Without them pose and trans, in the camera;
- 4D-Humans (Goel et al. 2023, github.com/shubham-goel/4D-Humans; PHALP's tracks): global_orient (T, 1, 3, 3), body_pose
  (T, 23, 3, 3), betas, camera (T, 3); in the camera;
- anything with smplx's own names (global_orient, body_pose, betas, transl, left_hand_pose, right_hand_pose, jaw_pose,
  leye_pose, reye_pose, expression), axis-angle or matrices. Hand poses are relative to the hand mean, smplx's default,
  unless the file says `flat_hand_mean`.
Read from npz without pickle, and from .pt with `weights_only=True`: a pickle runs whatever code it holds, so pickles
are refused with the line that turns one into an npz.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.body.motion import BODY, GLOBAL, JAW, LEFT_EYE, LEFT_HAND, N_JOINTS, RIGHT_EYE, RIGHT_HAND, Motion
from avatars.errors import InputError
from avatars.geometry.rotations import axis_angle_from_matrix
from avatars.motion_formats.amass import full_poses
from avatars.motion_formats.arrays import numbers, read_npz
from avatars.motion_formats.gravity import Up, guessed_up, rotation_to_y_up
from avatars.motion_formats.ground import figure_of, placed, turned
from avatars.motion_formats.resting_hands import resting_hands

log = logging.getLogger(__name__)

_ROOT = ("global_orient", "root_orient", "root_pose", "R_root")
_BODY = ("body_pose", "pose_body", "R_body")
_TRANSL = ("transl", "trans", "pred_cam_t", "camera")
_WHOLE = (("pose_world", "trans_world"), ("pose", "trans"))
_GRAVITY_ALIGNED = "GVHMR's world"
_EXTRA = (
    ("jaw_pose", JAW, 1),
    ("leye_pose", LEFT_EYE, 1),
    ("reye_pose", RIGHT_EYE, 1),
    ("left_hand_pose", LEFT_HAND, 15),
    ("right_hand_pose", RIGHT_HAND, 15),
)
_PICKLE_ADVICE = (
    "is a pickle, and opening one runs whatever code it holds, so it is not opened. If you trust it, turn one person "
    "of it into an npz where it was made: numpy.savez('out.npz', global_orient=..., body_pose=..., betas=..., "
    "transl=..., frame_ids=...), or for WHAM numpy.savez('out.npz', pose_world=..., trans_world=..., betas=..., "
    "frame_ids=...)."
)


def looks_like_results(keys: Mapping[str, Any]) -> bool:
    """Whether arrays of these names are what this module reads."""
    whole = any(pose in keys and trans in keys for pose, trans in _WHOLE)
    return whole or "smpl_params_global" in keys or (_first(keys, _ROOT) and _first(keys, _BODY)) is not None


def load_smpl_results(
    path: str | Path, body: Body, *, fps: float = 30.0, up: Up = "auto", place: bool = True
) -> Motion:
    """Read an npz or .pt of SMPL or SMPL-X parameters (layouts above) as a motion of `body` in a +Y-up world.

    The files hold no frame rate: `fps` is the video's. `frame_ids` that skip numbers leave invalid frames. Up is what
    `up` says, else (`auto`) what the program states: +Y for GVHMR's and WHAM's worlds, -Y for results in a camera's,
    which takes the camera as level, and says so; where nothing is stated, see `gravity`. Betas belong to the licensed
    files and are dropped. `place` puts the feet on y = 0 and the person over the origin facing +Z.

    Raises InputError for pickles, broken files and unknown layouts.
    """
    path = Path(path)
    data = _arrays(path)
    poses, transl = _poses(data, body, path)
    frames = len(poses)
    if "betas" in data and np.abs(numbers(data, "betas", path)).max(initial=0.0) > 0:
        log.info("%s: betas are those of a licensed body and are dropped; the body keeps its mean shape.", path.name)
    ids = (numbers(data, "frame_ids", path) if "frame_ids" in data else np.arange(frames)).reshape(-1).astype(np.int64)
    if len(ids) != frames or (np.diff(ids) <= 0).any() or ids[-1] - ids[0] >= 100 * frames:
        raise InputError(f"{path}: frame_ids must be {frames} increasing numbers, one for each frame.")
    slots = torch.from_numpy(ids - ids[0])
    total = int(slots[-1]) + 1
    all_poses, all_transl = torch.zeros(total, N_JOINTS, 3), torch.zeros(total, 3)
    valid = torch.zeros(total, dtype=torch.bool)
    all_poses[slots], all_transl[slots], valid[slots] = poses, transl, True
    if total > frames:
        log.warning("%s: %d of %d frames have no person and are marked invalid.", path.name, total - frames, total)
    motion = Motion(
        poses=all_poses,
        transl=all_transl,
        betas=torch.zeros(body.n_betas),
        expression=_expression(data, slots, total, body, path),
        times_s=torch.arange(total, dtype=torch.float64) / fps,
        valid=valid,
        body_sha256=body.sha256,
        name=path.stem,
    )
    motion = turned(motion, body, _to_y_up(motion, body, data, up, path), about=torch.zeros(3))
    return placed(motion, body) if place else motion


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        raise InputError(f"{path} {_PICKLE_ADVICE}")
    if path.suffix.lower() not in (".pt", ".pth"):
        return read_npz(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"No motion file at {path}.") from None
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise InputError(f"{path} holds more than tensors: it {_PICKLE_ADVICE}") from None
        raise InputError(f"{path} cannot be read as a torch file ({type(error).__name__}).") from None
    aligned = isinstance(loaded, dict) and isinstance(loaded.get("smpl_params_global"), dict)
    loaded = loaded["smpl_params_global"] if aligned else loaded if isinstance(loaded, dict) else {}
    arrays = {str(key): value.numpy() for key, value in loaded.items() if isinstance(value, Tensor)}
    return arrays | ({_GRAVITY_ALIGNED: np.array(True)} if aligned else {})


def _first(data: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in data), None)


def _poses(data: dict[str, np.ndarray], body: Body, path: Path) -> tuple[Float[Tensor, "frames 55 3"], Tensor]:
    for pose, trans in _WHOLE:
        if pose in data and trans in data:
            poses = full_poses(data, pose, body, path)
            return poses, _translation(data, trans, len(poses), path)
    root, rest, trans = _first(data, _ROOT), _first(data, _BODY), _first(data, _TRANSL)
    if root is None or rest is None or trans is None:
        raise InputError(
            f"{path} holds {sorted(data)}; expected global_orient, body_pose and transl, or WHAM's pose_world and "
            "trans_world, or AMASS's poses and trans."
        )
    frames = data[root].shape[0] if data[root].ndim > 1 else 0
    if frames == 0:
        raise InputError(f"{path}: {root!r} has shape {data[root].shape}; expected a rotation for each frame.")
    poses = torch.zeros(frames, N_JOINTS, 3)
    poses[:, LEFT_HAND.start :] = resting_hands(body)
    poses[:, GLOBAL] = _axis_angles(data, root, frames, 1, path)[:, 0]
    poses[:, BODY] = _axis_angles(data, rest, frames, 21, path)
    means = resting_hands(body).split(15)
    relative = not ("flat_hand_mean" in data and numbers(data, "flat_hand_mean", path).any())
    for key, joints, count in _EXTRA:
        if key in data:
            value = _axis_angles(data, key, frames, count, path)
            if count == 15 and relative:
                value = value + means[0 if key.startswith("left") else 1]
            poses[:, joints] = value if count > 1 else value[:, 0]
    return poses, _translation(data, trans, frames, path)


def _translation(data: dict[str, np.ndarray], key: str, frames: int, path: Path) -> Float[Tensor, "frames 3"]:
    values = numbers(data, key, path)
    if values.size != frames * 3:
        raise InputError(f"{path}: {key!r} has shape {values.shape}; the pose has {frames} frames.")
    return torch.from_numpy(values).float().reshape(frames, 3)


def _axis_angles(
    data: dict[str, np.ndarray], key: str, frames: int, joints: int, path: Path
) -> Float[Tensor, "frames joints 3"]:
    """Axis-angle of the first `joints` joints; SMPL's two hand bones after the 21 are left out."""
    given = torch.from_numpy(numbers(data, key, path)).float()
    if given.ndim == 0:
        given = given[None]
    kept = {joints, joints + 2} if joints == 21 else {joints}
    if len(given) == frames and given.shape[-2:] == (3, 3) and given.numel() in {frames * n * 9 for n in kept}:
        matrices = given.reshape(frames, -1, 3, 3)[:, :joints]
        return axis_angle_from_matrix(matrices.double()).float()
    if len(given) == frames and given.numel() in {frames * n * 3 for n in kept}:
        return given.reshape(frames, -1, 3)[:, :joints]
    raise InputError(
        f"{path}: {key!r} has shape {tuple(given.shape)}; expected {frames} frames of {joints} joints as axis-angle "
        "(3 numbers) or rotation matrices (3 x 3)."
    )


def _expression(
    data: dict[str, np.ndarray], slots: Tensor, total: int, body: Body, path: Path
) -> Float[Tensor, "frames expression"]:
    """Expression coefficients belong to the licensed body's face: kept on that body, dropped on another."""
    out = torch.zeros(total, body.n_expression)
    if "expression" in data and body.n_vertices == 10475:
        given = torch.from_numpy(numbers(data, "expression", path, (len(slots), None))).float()
        width = min(given.shape[1], body.n_expression)
        out[slots, :width] = given[:, :width]
    return out


def _stated_up(data: Mapping[str, Any]) -> str | None:
    """The axis that points up in the world of a known program's results; None where nothing tells."""
    if _GRAVITY_ALIGNED in data or all(key in data for key in _WHOLE[0]):
        return "+y"
    in_camera = all(key in data for key in _WHOLE[1]) or _first(data, _TRANSL) in ("pred_cam_t", "camera")
    return "-y" if in_camera else None


def _to_y_up(motion: Motion, body: Body, data: Mapping[str, Any], up: Up, path: Path) -> Float[Tensor, "3 3"]:
    stated = _stated_up(data) if up == "auto" else up
    found = stated or guessed_up(figure_of(motion, body))
    if found == "-y" and up == "auto":
        log.warning("%s is in its camera's world: the camera is taken as level.", path.name)
    elif found != "+y":
        log.info("%s: taken as %s up; turned to +Y up.", path.name, found)
    return torch.from_numpy(rotation_to_y_up(found))
