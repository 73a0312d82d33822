"""Numbers out of somebody else's file: finite and of the expected shape, or an error that names file and key."""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from avatars.errors import InputError

MOTION_KEYS = frozenset(
    (
        "poses", "trans", "pose", "pose_world", "trans_world", "global_orient", "root_orient", "root_pose", "R_root",
        "body_pose", "pose_body", "R_body", "transl", "pred_cam_t", "camera",
    )
)  # fmt: skip
"""Names under which motions keep what no motion is without."""


def numbers(
    data: Mapping[str, Any], key: str, path: Path, shape: tuple[int | None, ...] | None = None
) -> Float[np.ndarray, ...]:
    """`data[key]` as float64, of this shape (None: any length; no shape: any).

    Raises InputError when it holds no numbers, other shapes, or NaN or infinity (naming the first such row).
    """
    try:
        values = np.asarray(data[key], np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{path}: {key!r} holds no numbers.") from None
    if shape is not None and (
        values.ndim != len(shape)
        or any(want not in (None, have) for want, have in zip(shape, values.shape, strict=True))
    ):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise InputError(f"{path}: {key!r} has shape {values.shape}, expected ({wanted}).")
    if not np.isfinite(values).all():
        rows = np.isfinite(values).reshape(len(values), -1).all(1) if values.ndim else np.array([False])
        raise InputError(
            f"{path}: {key!r} holds numbers that are not finite, the first in frame {int(np.argmin(rows))}."
        )
    return values


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz, never unpickled: those of Python objects (AMASS's markers) are passed over.

    Raises InputError when the file is missing or broken, or holds its motion as objects; for ROMP's with the line that
    turns them into arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            objects = [key for key in archive.files if _holds_objects(archive.zip, key)]
            arrays = {key: archive[key] for key in archive.files if key not in objects}
    except FileNotFoundError:
        raise InputError(f"No motion file at {path}.") from None
    except Exception as error:  # numpy and zipfile raise many kinds for a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is not an npz that can be read safely ({reason}).") from None
    lost = [key for key in objects if key in MOTION_KEYS]
    if lost or (objects and not set(arrays) & MOTION_KEYS):
        raise InputError(_advice(path, lost or objects))
    return arrays


def _holds_objects(archive: zipfile.ZipFile, key: str) -> bool:
    """Whether an array's header says that it is a pickle; read without the array itself."""
    name = key if key in archive.namelist() else f"{key}.npy"
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return bool(read(file)[2].hasobject)


ROMP_LINE = (
    "import sys, numpy as np; "
    "r = np.load(sys.argv[1], allow_pickle=True)['results'][()]; "
    "p = [(i, f[0] if isinstance(f, list) else f) for i, f in enumerate(r[k] for k in sorted(r, key=lambda k: "
    "(len(str(k)), str(k)))) if f]; "
    "g = lambda f, n, *ks: np.ravel(next((f[k] for k in ks if k in f), np.zeros(n)))[:n]; "
    "np.savez(sys.argv[2], pose=[g(f, 72, 'pose', 'poses', 'smpl_thetas') for i, f in p], "
    "trans=[g(f, 3, 'trans', 'cam_trans') for i, f in p], frame_ids=[i for i, f in p])"
)
"""Python that turns ROMP's results of a video (Sun et al. 2021, github.com/Arthur151/ROMP) into arrays of the first
person in each frame. For the user to run: it opens a pickle."""


def _advice(path: Path, objects: list[str]) -> str:
    start = (
        f"{path} is no npz that can be read safely: {', '.join(objects)} holds Python objects, and opening them runs "
        "whatever code they hold, so they are not opened."
    )
    if objects != ["results"]:
        return f"{start} Save the arrays themselves, as numbers, where the file was made."
    names = f"{shlex.quote(str(path))} {shlex.quote(str(path.with_name(f'{path.stem}_arrays.npz')))}"
    return f'{start} If this is ROMP\'s and you trust it: python -c "{ROMP_LINE}" {names}'
