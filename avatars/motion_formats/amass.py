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
from avatars.errors import InputError
from avatars.files import atomic_path
from avatars.motion import BODY, GLOBAL, LEFT_HAND, N_JOINTS, Motion
from avatars.motion_formats.ground import grounded, placed, turned
from avatars.motion_formats.resting_hands import resting_hands
from avatars.rotations import matrix_from_axis_angle

log = logging.getLogger(__name__)

UpAxis = Literal["auto", "Y", "Z"]
_R_YUP_ZUP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_SMPLX_VERTICES = 10475


def full_poses(poses: Float[np.ndarray, "frames values"], body: Body, what: str) -> Float[Tensor, "frames 55 3"]:
    """SMPL-X (165), SMPL-H (156), SMPL (72) or body-only (66) axis-angle vectors as 55 joints; absent hands rest,
    absent jaw and eyes are zero.

    SMPL's two last joints, the hands as single bones, have no counterpart and are left out.
    Raises InputError for another width, or numbers that are not finite.
    """
    if poses.ndim != 2 or poses.shape[1] not in (165, 156, 72, 66) or len(poses) == 0:
        raise InputError(
            f"{what} has shape {poses.shape}; expected (frames, 165) SMPL-X, (frames, 156) SMPL-H, (frames, 72) SMPL "
            "or (frames, 66) body alone, with at least one frame."
        )
    require_finite(poses, what)
    full = torch.zeros(len(poses), N_JOINTS, 3)
    given = torch.from_numpy(poses.astype(np.float32)).reshape(len(poses), -1, 3)
    full[:, : BODY.stop] = given[:, : BODY.stop]
    if poses.shape[1] == 165:
        full = given
    else:
        full[:, LEFT_HAND.start :] = given[:, BODY.stop :] if poses.shape[1] == 156 else resting_hands(body)
    return full


def require_finite(values: np.ndarray, what: str) -> None:
    """Raise InputError naming the first frame that holds NaN or infinity."""
    finite = np.isfinite(values.reshape(len(values), -1)).all(1)
    if not finite.all():
        raise InputError(f"{what}: frame {int(np.argmin(finite))} holds numbers that are not finite.")


def load_amass(path: str | Path, body: Body, *, up_axis: UpAxis = "auto", place: bool = True) -> Motion:
    """Read an AMASS-style npz, ours included, as a motion of `body` in a +Y-up world.

    Up is what the file's `up_axis` says, else what `up_axis` says, else (`auto`) +Y where the body stands along it and
    AMASS's +Z otherwise. `betas` are kept when they belong to `body` (same hash; or a SMPL-X file and the licensed
    body) and are dropped, and said so, when they do not. `place` puts foreign motions on the ground y = 0, over the
    origin, facing +Z; of files that name their `up_axis`, as ours do, it moves only those of another body, and only
    up or down.

    Raises InputError when the file is broken or holds no poses.
    """
    path = Path(path)
    data = read_npz(path)
    missing = [key for key in ("poses", "trans") if key not in data]
    if missing:
        raise InputError(
            f"{path} has no {' and '.join(missing)}; it holds {sorted(data)}. Expected an AMASS-style npz."
        )
    poses = full_poses(data["poses"], body, f"{path}: `poses`")
    trans = np.asarray(data["trans"], np.float64)
    if trans.shape != (len(poses), 3):
        raise InputError(f"{path}: `trans` has shape {trans.shape}, expected {(len(poses), 3)}.")
    require_finite(trans, f"{path}: `trans`")
    own = str(data.get("body_sha256", "")) == body.sha256
    betas = _betas(data, body, own, path)
    motion = Motion(
        poses=poses,
        transl=torch.from_numpy(trans).float(),
        betas=betas,
        expression=_per_frame(data, "expression", torch.zeros(len(poses), body.n_expression), path),
        times_s=_times(data, len(poses), path),
        valid=_per_frame(data, "valid", torch.ones(len(poses)), path).bool(),
        body_sha256=body.sha256,
        name=str(data.get("name", path.stem)),
    )
    said = str(data.get("up_axis", ""))
    if (said or _up_axis(motion, up_axis, path)) == "Z":
        motion = turned(motion, body, _R_YUP_ZUP, about=torch.zeros(3))
    if not place or (said and own):
        return motion
    return grounded(motion, body) if said else placed(motion, body)


def _betas(data: dict[str, np.ndarray], body: Body, own: bool, path: Path) -> Tensor:
    found = np.asarray(data.get("betas", np.zeros(0)), np.float64)
    found = found[0] if found.ndim == 2 and len(found) else found.reshape(-1)
    smplx_file = str(data.get("surface_model_type", "")).startswith("smplx") or data["poses"].shape[1] == 165
    if own or (body.n_vertices == _SMPLX_VERTICES and smplx_file and not data.get("body_sha256", "")):
        return torch.from_numpy(found[: body.n_betas]).float()
    if np.abs(found).max(initial=0.0) > 0:
        log.warning("%s: its betas belong to another body file and are dropped; the body keeps its mean shape.", path)
    return torch.zeros(body.n_betas)


def _up_axis(motion: Motion, up_axis: UpAxis, path: Path) -> Literal["Y", "Z"]:
    if up_axis != "auto":
        return up_axis
    up = matrix_from_axis_angle(motion.poses[:, GLOBAL])[:, :, 1].mean(0)
    found: Literal["Y", "Z"] = "Y" if float(up[1]) > 0.7 else "Z"
    log.info("%s: taken as +%s up (the body stands along %s).", path.name, found, [round(float(x), 2) for x in up])
    return found


def _times(data: dict[str, np.ndarray], frames: int, path: Path) -> Tensor:
    if "times_s" in data and data["times_s"].shape == (frames,):
        return torch.from_numpy(np.asarray(data["times_s"], np.float64))
    key = next((key for key in ("mocap_frame_rate", "mocap_framerate", "fps") if key in data), None)
    rate = float(data[key]) if key else 0.0
    if not np.isfinite(rate) or rate <= 0:
        if key:
            raise InputError(f"{path}: {key} is {rate}, expected frames per second above 0.")
        log.warning("%s gives no frame rate; taken as 30 fps.", path)
        rate = 30.0
    return torch.arange(frames, dtype=torch.float64) / rate


def _per_frame(data: dict[str, np.ndarray], key: str, default: Tensor, path: Path) -> Tensor:
    if key not in data:
        return default
    if len(data[key]) != len(default):
        raise InputError(f"{path}: {key!r} has {len(data[key])} frames, `poses` has {len(default)}.")
    return torch.from_numpy(np.asarray(data[key], np.float32))


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz, never unpickled. Raises InputError when it is missing, broken or holds Python objects."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise InputError(f"No motion file at {path}.") from None
    except Exception as error:  # numpy and zipfile raise many kinds for a broken file
        raise InputError(f"{path} is not an npz that can be read safely ({error}).") from None


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
