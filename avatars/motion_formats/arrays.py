"""Numbers out of somebody else's file: finite and of the expected shape, or an error that names file and key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from avatars.errors import InputError


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
    """Every array of an npz, never unpickled. Raises InputError when it is missing, broken or holds Python objects."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise InputError(f"No motion file at {path}.") from None
    except Exception as error:  # numpy and zipfile raise many kinds for a broken file
        raise InputError(f"{path} is not an npz that can be read safely ({error}).") from None
