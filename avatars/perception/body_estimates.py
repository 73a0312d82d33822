"""Faces (FLAME) and bodies (SMPL-X) that single-frame networks estimate -> parameters in our conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatars.body import Body
from avatars.body.motion import BODY, GLOBAL, JAW, LEFT_HAND, N_JOINTS, RIGHT_HAND
from avatars.errors import InputError
from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from avatars.io.files import atomic_path
from avatars.perception.backend_table import BackendOptions, open_backend
from avatars.perception.containers import FACE, Detection, Keypoints
from avatars.perception.top_down import person_box

CHUNK = 32
SMPLX_VERTICES = 10_475
FACE_SCORE = 0.3
MIN_FACE_POINTS = 30


@dataclass(frozen=True, slots=True)
class FaceEstimate:
    """FLAME's parameters of one face over a clip."""

    jaw_pose: Float[Tensor, "frames 3"]
    """Axis-angle (radians); SMPL-X's jaw is FLAME's, so it can be taken over as it is."""
    head_orient_cam: Float[Tensor, "frames 3"]
    """Axis-angle from FLAME's head (+Y up, facing +Z) to the camera's axes (x right, y down, z away)."""
    expression: Float[Tensor, "frames 50"]
    """Coefficients of FLAME 2020's expressions."""
    valid: Bool[Tensor, " frames"]

    def expression_for(self, body: Body) -> Float[Tensor, "frames expression"]:
        """The expression as coefficients of this body, zeros in frames without a face.

        The licensed SMPL-X has FLAME's expressions, in FLAME's order (Pavlakos et al. 2019), so they are taken over;
        its authors say so of the 2020 files of both, and DECA was trained with FLAME's.
        Raises InputError for the default body: its expressions are others, and equal numbers would make another face.
        """
        if body.n_vertices != SMPLX_VERTICES:
            raise InputError(
                "FLAME's expression means nothing to the default body, whose expressions are others; its jaw does. "
                "Load the licensed SMPL-X file (--body) to use the expression, or leave it out."
            )
        if body.n_expression > self.expression.shape[1]:
            raise InputError(
                f"The body has {body.n_expression} expressions, FLAME's estimate {self.expression.shape[1]}."
            )
        expression = self.expression[:, : body.n_expression]
        return torch.where(self.valid[:, None], expression, torch.zeros_like(expression))


@dataclass(frozen=True, slots=True)
class BodyEstimate:
    """SMPL-X parameters of one person over a clip, each frame for itself."""

    poses: Float[Tensor, "frames 55 3"]
    """Axis-angle in `Motion`'s order, the hand mean included; the root turns the body into the camera's axes (x right,
    y down, z away). Zero in frames that are not valid; the eyes are not estimated and zero."""
    betas: Float[Tensor, "frames 10"]
    """Of the licensed neutral SMPL-X; no other body's."""
    expression: Float[Tensor, "frames 10"]
    valid: Bool[Tensor, " frames"]


def estimate_face(
    frames: Iterable[np.ndarray], keypoints: Keypoints, options: BackendOptions | None = None, *, backend: str = "deca"
) -> FaceEstimate:
    """FLAME's jaw and expression of the person whose keypoints are known. Raises BackendMissing before any work."""
    return face_seen_by(open_backend(backend, options), frames, keypoints)


def face_seen_by(
    model: Any, frames: Iterable[np.ndarray], keypoints: Keypoints, piece: Callable[[int], Path] | None = None
) -> FaceEstimate:
    """The same with a model that is open (`DecaModel`); it is closed. `piece` says where the answers to the first,
    second, ... chunk of frames are kept, and taken from where an earlier run left them."""
    landmarks = keypoints.xy[:, FACE].numpy()
    seen = (keypoints.score[:, FACE] >= FACE_SCORE).sum(1) >= MIN_FACE_POINTS
    valid = (seen & keypoints.valid).numpy()
    answers = _answers(model, frames, {"landmarks": landmarks, "valid": valid}, piece)
    return face_from_flame(answers["pose"], answers["expression"])


def estimate_body(
    frames: Iterable[np.ndarray],
    keypoints: Keypoints,
    options: BackendOptions | None = None,
    *,
    backend: str = "hand4whole",
) -> BodyEstimate:
    """SMPL-X of the person whose keypoints are known. Raises BackendMissing before any work."""
    return body_seen_by(open_backend(backend, options), frames, keypoints)


def body_seen_by(
    model: Any, frames: Iterable[np.ndarray], keypoints: Keypoints, piece: Callable[[int], Path] | None = None
) -> BodyEstimate:
    """The same with a model that is open (`Hand4WholeModel`); it is closed. `piece`: see `face_seen_by`."""
    boxes = np.full((len(keypoints), 4), np.nan, np.float32)
    for i in np.flatnonzero(keypoints.valid.numpy()):
        detection = Detection(keypoints.xy[i].numpy(), keypoints.score[i].numpy(), None, None)
        box = person_box(detection, keypoints.size_hw)
        boxes[i] = np.nan if box is None else box
    return body_from_hand4whole(_answers(model, frames, {"boxes": boxes}, piece))


def face_from_flame(pose: Float[np.ndarray, "frames 6"], expression: Float[np.ndarray, "frames 50"]) -> FaceEstimate:
    """DECA's `pose` (root, then jaw, axis-angle) and `exp`; rows of NaN are frames without a face.

    DECA projects x and the negated y: its camera looks along -z with y up, ours along +z with y down.
    """
    valid = torch.from_numpy(np.isfinite(pose).all(1) & np.isfinite(expression).all(1))
    pose_, expression_ = (torch.nan_to_num(torch.from_numpy(a).float()) for a in (pose, expression))
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    head = axis_angle_from_matrix(flip @ matrix_from_axis_angle(pose_[:, :3]))
    return FaceEstimate(pose_[:, 3:], head, expression_, valid)


def body_from_hand4whole(out: dict[str, np.ndarray]) -> BodyEstimate:
    """Hand4Whole's outputs by their own names; rows of NaN are frames without a person.

    Its SMPL-X layer adds the mean hand pose (`flat_hand_mean=False`), so its hands are relative to it: added here.
    """
    valid = np.isfinite(out["smplx_root_pose"]).all(1)
    poses = np.zeros((len(valid), N_JOINTS, 3), np.float32)
    poses[:, GLOBAL] = out["smplx_root_pose"]
    poses[:, BODY] = out["smplx_body_pose"].reshape(-1, 21, 3)
    poses[:, JAW] = out["smplx_jaw_pose"]
    mean = out["hand_mean"].reshape(-1, 2, 15, 3)
    poses[:, LEFT_HAND] = out["smplx_lhand_pose"].reshape(-1, 15, 3) + mean[:, 0]
    poses[:, RIGHT_HAND] = out["smplx_rhand_pose"].reshape(-1, 15, 3) + mean[:, 1]
    poses_, betas, expression = (
        torch.from_numpy(np.where(valid.reshape(-1, *[1] * (a.ndim - 1)), a, 0.0).astype(np.float32))
        for a in (poses, out["smplx_shape"], out["smplx_expr"])
    )
    return BodyEstimate(poses_, betas, expression, torch.from_numpy(valid))


def _answers(
    model: Any,
    frames: Iterable[np.ndarray],
    rows: dict[str, np.ndarray],
    piece: Callable[[int], Path] | None = None,
) -> dict[str, np.ndarray]:
    """The model's answers to all frames, a chunk of frames in memory at a time."""
    parts, start = [], 0
    try:
        for number, chunk in enumerate(_chunks(frames)):
            batch = {name: array[start : start + len(chunk)] for name, array in rows.items()}
            path = None if piece is None else piece(number)
            if path is None or not path.exists():
                parts.append(model(frames=chunk, **batch))
                if path is not None:
                    _keep(path, parts[-1])
            else:
                with np.load(path, allow_pickle=False) as archive:
                    parts.append({name: archive[name] for name in archive.files})
            start += len(chunk)
    finally:
        model.close()
    wanted = len(next(iter(rows.values())))
    if start != wanted or not parts:
        raise InputError(f"{start} frames were given with keypoints of {wanted}; both must be of the same clip.")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _keep(path: Path, answer: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as aside, open(aside, "wb") as file:
        np.savez(file, **cast(dict[str, Any], answer))


def _chunks(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    remaining = iter(frames)
    while chunk := list(islice(remaining, CHUNK)):
        yield np.stack(chunk)
