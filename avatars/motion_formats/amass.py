"""AMASS npz files (Mahmood et al. 2019, amass.is.tue.mpg.de) into Motion, and back.

Layout: `poses` (T, 165) for SMPL-X (root, 21 body, jaw, eyes, hands: the order of `Motion.poses`), (T, 156) for SMPL-H
(root, 21 body, hands), (T, 72) for SMPL or (T, 66) for the body alone; `trans` (T, 3) meters; `betas`; `gender`;
`mocap_frame_rate` (SMPL-X files) or `mocap_framerate` (SMPL-H files). AMASS's world is Z-up and its hands are full
poses, the hand mean included. The files of `Motion.save` add `up_axis` and what AMASS has no place for.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.body.motion import BODY, LEFT_HAND, N_JOINTS, Motion
from avatars.errors import InputError
from avatars.io.files import atomic_path
from avatars.motion_formats.arrays import numbers, read_npz
from avatars.motion_formats.gravity import Up, likely_up, rotation_to_y_up
from avatars.motion_formats.ground import figure_of, grounded, placed, turned
from avatars.motion_formats.resting_hands import resting_hands

log = logging.getLogger(__name__)

_R_YUP_ZUP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_SMPLX_VERTICES = 10475


def full_poses(data: dict[str, np.ndarray], key: str, body: Body, path: Path) -> Float[Tensor, "frames 55 3"]:
    """SMPL-X (165), SMPL-H (156), SMPL (72) or body-only (66) axis-angle vectors as 55 joints; absent hands rest,
    absent jaw and eyes are zero.

    SMPL's two last joints, the hands as single bones, have no counterpart and are left out.
    Raises InputError for another width, or numbers that are not finite.
    """
    poses = numbers(data, key, path)
    poses = poses.reshape(len(poses), -1) if poses.ndim and len(poses) else poses
    if poses.ndim != 2 or poses.shape[1] not in (165, 156, 72, 66) or len(poses) == 0:
        raise InputError(
            f"{path}: {key!r} has shape {data[key].shape}; expected (frames, 165) SMPL-X, (frames, 156) SMPL-H, "
            "(frames, 72) SMPL or (frames, 66) body alone, with at least one frame."
        )
    full = torch.zeros(len(poses), N_JOINTS, 3)
    given = torch.from_numpy(poses).float().reshape(len(poses), -1, 3)
    full[:, : BODY.stop] = given[:, : BODY.stop]
    if poses.shape[1] == 165:
        full = given
    else:
        full[:, LEFT_HAND.start :] = given[:, BODY.stop :] if poses.shape[1] == 156 else resting_hands(body)
    return full


def load_amass(path: str | Path, body: Body, *, up: Up = "auto", place: bool = True) -> Motion:
    """Read an AMASS-style npz, ours included, as a motion of `body` in a +Y-up world.

    Up is what `up` says, else (`auto`) what the file's `up_axis` says, else AMASS's +Z, unless the body stands along +Y
    and gravity tells that it does: see `gravity`. `betas` and `expression` are kept when they belong to `body` (same
    hash; or a SMPL-X file and the licensed body) and are dropped when they do not. `place` puts foreign motions on the
    ground y = 0, over the origin, facing +Z; of files that name their `up_axis`, as ours do, it moves only those of
    another body, and only up or down.

    Raises InputError when the file is broken or holds no poses.
    """
    path = Path(path)
    data = read_npz(path)
    missing = [key for key in ("poses", "trans") if key not in data]
    if missing:
        raise InputError(
            f"{path} has no {' and '.join(missing)}; it holds {sorted(data)}. Expected an AMASS-style npz."
        )
    poses = full_poses(data, "poses", body, path)
    trans = numbers(data, "trans", path, (len(poses), 3))
    own = str(data.get("body_sha256", "")) == body.sha256
    betas = _betas(data, body, own, path)
    motion = Motion(
        poses=poses,
        transl=torch.from_numpy(trans).float(),
        betas=betas,
        expression=_expression(data, len(poses), own, body, path),
        times_s=_times(data, len(poses), path),
        valid=torch.from_numpy(numbers(data, "valid", path, (len(poses),)) > 0.5)
        if "valid" in data
        else torch.ones(len(poses), dtype=torch.bool),
        body_sha256=body.sha256,
        name=str(data.get("name", path.stem)),
    )
    said = str(data.get("up_axis", ""))
    if said not in ("", "Y", "Z"):
        raise InputError(f"{path}: up_axis is {said!r}, expected Y or Z.")
    axis = up if up != "auto" else {"Y": "+y", "Z": "+z"}.get(said) or _likely_up(motion, body, path)
    if axis != "+y":
        motion = turned(motion, body, torch.from_numpy(rotation_to_y_up(axis)), about=torch.zeros(3))
    if not place or (said and own):
        return motion
    return grounded(motion, body) if said else placed(motion, body)


def _betas(data: dict[str, np.ndarray], body: Body, own: bool, path: Path) -> Tensor:
    found = numbers(data, "betas", path) if "betas" in data else np.zeros(1)
    found = found[0] if found.ndim == 2 and len(found) else found.reshape(-1)
    smplx_file = str(data.get("surface_model_type", "")).startswith("smplx") or data["poses"].shape[1] == 165
    if found.size == 0:
        return torch.zeros(body.n_betas)
    if own or (body.n_vertices == _SMPLX_VERTICES and smplx_file and not data.get("body_sha256", "")):
        return torch.from_numpy(found[: body.n_betas]).float()
    if np.abs(found).max(initial=0.0) > 0:
        log.warning("%s: its betas belong to another body file and are dropped; the body keeps its mean shape.", path)
    return torch.zeros(body.n_betas)


def _likely_up(motion: Motion, body: Body, path: Path) -> str:
    found = likely_up(figure_of(motion, body), "+z", ("+y",))
    if found != "+z":
        log.info("%s: taken as +y up, along which the body stands, and not as AMASS's +z.", path.name)
    return found


def _times(data: dict[str, np.ndarray], frames: int, path: Path) -> Tensor:
    if "times_s" in data:
        times = numbers(data, "times_s", path, (frames,))
        if (np.diff(times) <= 0).any():
            raise InputError(f"{path}: 'times_s' does not increase.")
        return torch.from_numpy(times)
    key = next((key for key in ("mocap_frame_rate", "mocap_framerate", "fps") if key in data), None)
    if key is None:
        log.warning("%s gives no frame rate; taken as 30 fps.", path)
        return torch.arange(frames, dtype=torch.float64) / 30.0
    rate = float(numbers(data, key, path).reshape(-1)[0]) if data[key].size == 1 else 0.0
    if rate <= 0:
        raise InputError(f"{path}: {key} is {data[key]}, expected frames per second above 0.")
    return torch.arange(frames, dtype=torch.float64) / rate


def _expression(data: dict[str, np.ndarray], frames: int, own: bool, body: Body, path: Path) -> Tensor:
    if "expression" not in data or not (own or body.n_vertices == _SMPLX_VERTICES):
        return torch.zeros(frames, body.n_expression)
    return torch.from_numpy(numbers(data, "expression", path, (frames, None))).float()


def save_amass(motion: Motion, path: str | Path, body: Body, *, up_axis: Literal["Y", "Z"] = "Z") -> Path:
    """Write the npz that AMASS's SMPL-X files are (all their keys; the world Z-up as theirs unless told otherwise),
    with our own keys beside them. Uneven frame times stay exact in `times_s`."""
    path = Path(path)
    if up_axis == "Z":
        motion = turned(motion, body, _R_YUP_ZUP.T, about=torch.zeros(3))
    flat = motion.poses.reshape(len(motion), -1).numpy().astype(np.float32)
    duration_s = float(motion.times_s[-1] - motion.times_s[0]) + 1.0 / (motion.fps or 30.0)
    with atomic_path(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(
            file,
            gender=np.array("neutral"),
            surface_model_type=np.array("smplx"),
            mocap_frame_rate=np.array(motion.fps or 30.0),
            mocap_time_length=np.array(duration_s),
            trans=motion.transl.numpy().astype(np.float64),
            poses=flat,
            betas=motion.betas.numpy().astype(np.float32),
            num_betas=np.array(len(motion.betas)),
            root_orient=flat[:, :3],
            pose_body=flat[:, 3:66],
            pose_jaw=flat[:, 66:69],
            pose_eye=flat[:, 69:75],
            pose_hand=flat[:, 75:],
            expression=motion.expression.numpy().astype(np.float32),
            times_s=motion.times_s.numpy().astype(np.float64),
            valid=motion.valid.numpy(),
            body_sha256=np.array(motion.body_sha256),
            name=np.array(motion.name),
            up_axis=np.array(up_axis),
        )
    return path
