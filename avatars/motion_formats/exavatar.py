"""ExAvatar's folders (Moon et al. 2024, github.com/mks0601/ExAvatar_RELEASE) into Motion, and back.

Read, as in its `avatar/data/Custom/Custom.py` and `avatar/main/animate.py`:
- `smplx_optimized/smplx_params_smoothed/<frame>.json` (else `smplx_optimized/smplx_params/`, or the jsons of the folder
  itself): root_pose 3, body_pose 63, jaw_pose, leye_pose, reye_pose 3, lhand_pose, rhand_pose 45 (axis-angle, relative
  to the hand mean: its `smplx` layer is made with the default `flat_hand_mean=False`), expr 50, trans 3;
- `smplx_optimized/shape_param.json`: 100 betas of the licensed SMPL-X;
- `cam_params/<frame>.json`: R, t (world to camera, OpenCV), focal, princpt.
Its world is the first camera's, y down. COLMAP's `sparse/` and the offset files of an avatar's identity are not read.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.body.motion import BODY, GLOBAL, JAW, LEFT_EYE, LEFT_HAND, N_JOINTS, RIGHT_EYE, RIGHT_HAND, Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.files import read_json, require_fresh_folder, write_json
from avatars.motion_formats.arrays import numbers
from avatars.motion_formats.gravity import Up, rotation_to_y_up
from avatars.motion_formats.ground import placed, turned
from avatars.motion_formats.resting_hands import resting_hands

log = logging.getLogger(__name__)

_PARTS: dict[str, tuple[int | slice, int]] = {
    "root_pose": (GLOBAL, 3),
    "body_pose": (BODY, 63),
    "jaw_pose": (JAW, 3),
    "leye_pose": (LEFT_EYE, 3),
    "reye_pose": (RIGHT_EYE, 3),
    "lhand_pose": (LEFT_HAND, 45),
    "rhand_pose": (RIGHT_HAND, 45),
}
_FOLDERS = ("smplx_optimized/smplx_params_smoothed", "smplx_optimized/smplx_params", "smplx_params_smoothed", ".")
_N_BETAS, _N_EXPRESSION = 100, 50
_SIDECAR = "splat_avatars.json"
_SMPLX_VERTICES = 10475
_R_YUP_YDOWN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


@dataclass(frozen=True, slots=True)
class ExAvatarClip:
    """What one of ExAvatar's folders holds."""

    motion: Motion
    K: Float[Tensor, "frames 3 3"] | None
    """Intrinsics in pixels; None when the folder has no `cam_params`, or not for every frame."""
    T_cam_world: Float[Tensor, "frames 4 4"] | None
    """World (the motion's, +Y up) to camera."""


def params_folder(path: str | Path) -> Path | None:
    """The folder of per-frame jsons inside one of ExAvatar's; None when there is none."""
    for name in _FOLDERS:
        folder = Path(path) / name
        if _frames_in(folder):
            return folder
    return None


def load_exavatar(path: str | Path, body: Body, *, fps: float = 30.0, up: Up = "auto", place: bool = True) -> Motion:
    """The motion of one of ExAvatar's folders; see `load_exavatar_clip`."""
    return load_exavatar_clip(path, body, fps=fps, up=up, place=place).motion


def load_exavatar_clip(
    path: str | Path, body: Body, *, fps: float = 30.0, up: Up = "auto", place: bool = False
) -> ExAvatarClip:
    """Read one of ExAvatar's folders.

    Frame numbers are times at `fps` (ExAvatar keeps no times); numbers that are missing between the first and the
    last are frames without a person. The world is turned to +Y up as the first camera sees it, or as `up` says. Betas
    and expression are kept for the licensed body alone. `place` then puts the feet on y = 0 and the person over the
    origin facing +Z, and gives no cameras. A folder that `save_exavatar` wrote comes back as it was.

    Raises InputError when a json is broken, a part is missing or has the wrong length.
    """
    path = Path(path)
    folder = params_folder(path)
    if folder is None:
        raise InputError(f"{path} is not one of ExAvatar's folders: no <frame>.json in {', '.join(_FOLDERS[:2])}.")
    files = _frames_in(folder)
    indices = sorted(files)
    first, frames = indices[0], indices[-1] - indices[0] + 1
    if frames > 100 * len(indices):
        raise InputError(f"{folder}: {len(indices)} frames numbered {first} to {indices[-1]}; that is no clip.")
    sidecar = _read_sidecar(path / _SIDECAR, frames)
    poses, transl, expression, valid = _read_poses(files, first, frames, resting_hands(body))
    if not bool(valid.all()):
        log.warning("%s: %d of %d frames are missing and marked invalid.", path, int((~valid).sum()), frames)
    if not sidecar and body.n_vertices != _SMPLX_VERTICES:
        expression = torch.zeros_like(expression)  # coefficients of another body's face
    motion = Motion(
        poses=poses,
        transl=transl,
        betas=_betas(path, body, sidecar),
        expression=expression[:, : sidecar.get("n_expression", body.n_expression)],
        times_s=torch.tensor(sidecar.get("times_s", [i / fps for i in range(frames)]), dtype=torch.float64),
        valid=torch.tensor(sidecar["valid"], dtype=torch.bool) if sidecar else valid,
        body_sha256=body.sha256,
        name=sidecar.get("name", path.name),
    )
    cameras = _read_cameras(path / "cam_params", indices)
    R_world_file = _R_YUP_YDOWN if cameras is None or sidecar else _R_YUP_YDOWN @ cameras[1][0, :3, :3]
    if up != "auto":
        R_world_file = torch.from_numpy(rotation_to_y_up(up)).float()
    motion = turned(motion, body, R_world_file, about=torch.zeros(3))
    if place and not sidecar:
        return ExAvatarClip(placed(motion, body), None, None)
    if cameras is None or len(indices) != frames:
        return ExAvatarClip(motion, None, None)
    T_file_world = torch.eye(4)
    T_file_world[:3, :3] = R_world_file.T
    return ExAvatarClip(motion, cameras[0], cameras[1] @ T_file_world)


def _read_poses(
    files: dict[int, Path], first: int, frames: int, hands: Float[Tensor, "30 3"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Poses, translation, expression, and which frames are there."""
    poses, transl = torch.zeros(frames, N_JOINTS, 3), torch.zeros(frames, 3)
    expression, valid = torch.zeros(frames, _N_EXPRESSION), torch.zeros(frames, dtype=torch.bool)
    for index, file in files.items():
        row, i = _read_frame(file), index - first
        for key, (joints, _) in _PARTS.items():
            poses[i, joints] = torch.from_numpy(row[key]).reshape(-1, 3).squeeze(0).float()
        poses[i, LEFT_HAND.start :] += hands
        transl[i] = torch.from_numpy(row["trans"]).float()
        expression[i, : len(row["expr"])] = torch.from_numpy(row["expr"]).float()
        valid[i] = True
    return poses, transl, expression, valid


def _frames_in(folder: Path) -> dict[int, Path]:
    return {int(file.stem): file for file in folder.glob("*.json") if file.stem.isdigit()} if folder.is_dir() else {}


def _read_sidecar(file: Path, frames: int) -> dict[str, Any]:
    """What `save_exavatar` wrote beside ExAvatar's own files; empty where it did not."""
    if not file.is_file():
        return {}
    data = read_json(file)
    kinds = {"body_sha256": str, "name": str, "n_betas": int, "n_expression": int, "times_s": list, "valid": list}
    if not isinstance(data, dict) or any(not isinstance(data.get(key), kind) for key, kind in kinds.items()):
        raise InputError(f"{file} is not as it was written; remove it to read the folder as ExAvatar's own.")
    times = numbers(data, "times_s", file, (frames,))
    numbers(data, "valid", file, (frames,))
    if (np.diff(times) <= 0).any() or data["n_betas"] < 1 or not 1 <= data["n_expression"] <= _N_EXPRESSION:
        raise InputError(f"{file} is not as it was written; remove it to read the folder as ExAvatar's own.")
    return data


def _read_frame(file: Path) -> dict[str, np.ndarray]:
    data = read_json(file)
    wanted = {key: size for key, (_, size) in _PARTS.items()} | {"trans": 3, "expr": None}
    if not isinstance(data, dict) or not set(wanted) <= set(data):
        found = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise InputError(f"{file} holds {found}; expected ExAvatar's {', '.join(wanted)}.")
    row = {}
    for key, size in wanted.items():
        row[key] = numbers(data, key, file).reshape(-1)
        if size is not None and len(row[key]) != size:
            raise InputError(f"{file}: {key!r} has {len(row[key])} numbers, expected {size}.")
    row["expr"] = row["expr"][:_N_EXPRESSION]
    return row


def _betas(path: Path, body: Body, sidecar: dict[str, Any]) -> Tensor:
    file = next(
        (f for f in (path / "smplx_optimized" / "shape_param.json", path / "shape_param.json") if f.is_file()), None
    )
    if file is None:
        return torch.zeros(body.n_betas)
    betas = numbers({"shape_param": read_json(file)}, "shape_param", file).reshape(-1).astype(np.float32)
    if sidecar.get("body_sha256") == body.sha256:
        return torch.from_numpy(betas[: sidecar.get("n_betas", body.n_betas)])
    if body.n_vertices == _SMPLX_VERTICES and not sidecar:
        return torch.from_numpy(betas[: body.n_betas])
    log.warning("%s: shape_param belongs to another body file and is dropped; the body keeps its mean shape.", path)
    return torch.zeros(body.n_betas)


def _read_cameras(folder: Path, ids: list[int]) -> tuple[Tensor, Tensor] | None:
    files = _frames_in(folder)
    if not set(ids) <= set(files):
        return None
    K, T = torch.eye(3).repeat(len(ids), 1, 1), torch.eye(4).repeat(len(ids), 1, 1)
    for i, id_ in enumerate(ids):
        data = read_json(files[id_])
        try:
            T[i, :3, :3] = torch.tensor(data["R"]).reshape(3, 3)
            T[i, :3, 3] = torch.tensor(data["t"]).reshape(3)
            K[i, 0, 0], K[i, 1, 1] = torch.tensor(data["focal"]).reshape(2)
            K[i, :2, 2] = torch.tensor(data["princpt"]).reshape(2)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{files[id_]} is not one of ExAvatar's cameras ({error}).") from None
    return K, T


def save_exavatar(motion: Motion, folder: str | Path, body: Body, *, camera: Camera | None = None) -> Path:
    """Write per-frame jsons that ExAvatar reads (`--motion_path`): its parameters, `shape_param.json`, `cam_params`.

    The world is y down; `camera` (one, or one per frame) is by default 4 m in front of the person, as ExAvatar's
    virtual one. Frames without a person are left out. `splat_avatars.json` beside them holds what ExAvatar has no place
    for, so that the folder reads back exactly. `shape_param` and hand mean are those of `body`.

    Raises InputError when the folder is not fresh or the motion has no valid frame.
    """
    folder = require_fresh_folder(folder, what="the motion")
    if not bool(motion.valid.any()):
        raise InputError(f"Motion {motion.name!r} has no frame with a person; nothing to write.")
    camera = camera or Camera.level(focal_px=2000.0, size_hw=(1080, 1080), height_m=1.0, distance_m=4.0)
    flipped = turned(motion, body, _R_YUP_YDOWN.T, about=torch.zeros(3))
    flat = flipped.poses.clone()
    flat[:, LEFT_HAND.start :] -= resting_hands(body)
    expression = torch.nn.functional.pad(motion.expression, (0, _N_EXPRESSION - motion.expression.shape[1]))
    back = torch.eye(4)
    back[:3, :3] = _R_YUP_YDOWN
    params = folder / "smplx_optimized" / "smplx_params_smoothed"
    for name in (params, folder / "cam_params"):
        name.mkdir(parents=True)
    for i in torch.where(motion.valid)[0].tolist():
        row = {key: flat[i, joints].reshape(-1, 3).tolist() for key, (joints, _) in _PARTS.items()}
        row = {key: value[0] if len(value) == 1 else value for key, value in row.items()}
        row |= {"expr": expression[i].tolist(), "trans": flipped.transl[i].tolist()}
        (params / f"{i}.json").write_text(json.dumps(row), encoding="utf-8")
        view = camera[i]
        T_cam_ydown = view.T_cam_world @ back
        cam = {"R": T_cam_ydown[:3, :3].tolist(), "t": T_cam_ydown[:3, 3].tolist()}
        cam |= {"focal": view.K.diagonal()[:2].tolist(), "princpt": view.K[:2, 2].tolist()}
        (folder / "cam_params" / f"{i}.json").write_text(json.dumps(cam), encoding="utf-8")
    betas = torch.nn.functional.pad(motion.betas, (0, _N_BETAS - len(motion.betas)))
    write_json(folder / "smplx_optimized" / "shape_param.json", betas.tolist())
    first, last = (int(torch.where(motion.valid)[0][k]) for k in (0, -1))
    sidecar = {
        "body_sha256": motion.body_sha256,
        "name": motion.name,
        "n_betas": len(motion.betas),
        "n_expression": motion.expression.shape[1],
        "times_s": motion.times_s[first : last + 1].tolist(),
        "valid": motion.valid[first : last + 1].tolist(),
    }
    write_json(folder / _SIDECAR, sidecar)
    return folder
