"""A depth file beside a photograph -> camera z in meters, checked, fitted to the photograph and freed of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from avatars.errors import InputError
from avatars.io.checked_npz import read_array
from avatars.io.picture import read_picture

NEAREST_M, FARTHEST_M = 0.05, 1000.0
_ASPECT_TOLERANCE = 0.02


def depth_file_beside(photo: str | Path) -> Path | None:
    """`X_depth.npy`, `X_depth.png`, `X.depth.npy`, `X.depth.png` or `X.npy` beside photograph X; None when absent."""
    photo = Path(photo)
    names = [f"{photo.stem}{end}" for end in ("_depth.npy", "_depth.png", ".depth.npy", ".depth.png", ".npy")]
    return next((photo.with_name(name) for name in names if photo.with_name(name).is_file()), None)


def read_depth(path: str | Path, size_hw: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """Depth of a picture of `size_hw`: npy holds meters, 16-bit PNG millimeters; 0 and what is not finite is unknown.

    A depth map of another size is scaled where its shape agrees. Returns float32 meters, +inf where unknown.
    Raises InputError when the file is damaged, holds no depth, or belongs to a picture of another shape.
    """
    path = Path(path)
    values = _read_npy(path) if path.suffix.lower() == ".npy" else _read_png(path)
    _check_values(values, path)
    found, wanted = values.shape[1] / values.shape[0], size_hw[1] / size_hw[0]
    if abs(found / wanted - 1.0) > _ASPECT_TOLERANCE:
        raise InputError(
            f"{path} is {values.shape[0]} x {values.shape[1]} (height x width), the upright photograph "
            f"{size_hw[0]} x {size_hw[1]}: another shape. Give the depth of the whole picture, turned as it is."
        )
    depth_m = np.where(np.isfinite(values) & (values > 0), values, np.inf).astype(np.float32)
    return nearest_resized(depth_m, size_hw)


def nearest_resized(values: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The value of the nearest pixel: depths of two things must not be mixed."""
    if values.shape[:2] == tuple(size_hw):
        return values
    rows = ((np.arange(size_hw[0]) + 0.5) * values.shape[0] / size_hw[0]).astype(int)
    columns = ((np.arange(size_hw[1]) + 0.5) * values.shape[1] / size_hw[1]).astype(int)
    return values[rows[:, None], columns]


def _read_npy(path: Path) -> np.ndarray:
    values = read_array(path)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path} holds no numbers. Save depth in meters with numpy.save.")
    if np.squeeze(values).ndim != 2:
        raise InputError(f"{path} has shape {values.shape}; depth is one number per pixel (height, width).")
    return np.squeeze(values).astype(np.float64)


def _read_png(path: Path) -> np.ndarray:
    picture = read_picture(path)
    mode, values = picture.mode, np.asarray(picture)
    if not mode.startswith("I"):
        raise InputError(f"{path} has mode {mode}; depth is a 16-bit gray PNG in millimeters, or an npy in meters.")
    return values.astype(np.float64) / 1000.0


def _check_values(values: np.ndarray, path: Path) -> None:
    known = values[np.isfinite(values) & (values != 0)]
    if len(known) < 0.02 * values.size:
        raise InputError(f"{path} knows the depth of {len(known)} of {values.size} pixels; at least 2% are needed.")
    if known.min() < 0:
        raise InputError(f"{path} has negative depth (least {known.min():.3g}). Save camera z in meters.")
    middle = float(np.median(known))
    if not NEAREST_M < middle < FARTHEST_M:
        raise InputError(
            f"{path} has a median depth of {middle:.3g} m: not meters. An npy holds meters, a PNG millimeters."
        )


def noise_level(depth_m: Float[np.ndarray, "height width"]) -> float:
    """Relative noise of depth (standard deviation over depth), from second differences along rows.

    Immerkaer 1996 uses the same cancellation of planes; the median leaves out edges.
    """
    d = np.where(np.isfinite(depth_m), depth_m, np.nan).astype(np.float64)
    bend = np.abs(1 / d[:, :-2] - 2 / d[:, 1:-1] + 1 / d[:, 2:]) * d[:, 1:-1]  # inverse depth of a plane is linear
    bend = bend[np.isfinite(bend)]
    return float(np.median(bend)) * 1.4826 / np.sqrt(6.0) if len(bend) else 0.0


def cleaned(
    depth_m: Float[np.ndarray, "height width"], guide_rgb: Float[np.ndarray, "height width 3"], *, least: float = 0.004
) -> Float[np.ndarray, "height width"]:
    """Depth with its noise smoothed away within surfaces; depth that has none is returned as it is.

    A joint bilateral filter (Petschnigg et al. 2004) over inverse depth, in which planes are linear: neighbors count
    by likeness of picture (display-referred) and of median depth.
    """
    level = noise_level(depth_m)
    if level < least:
        return depth_m
    from scipy.ndimage import median_filter

    known = np.isfinite(depth_m)
    inverse = np.where(known, 1.0 / np.maximum(depth_m, NEAREST_M), 0.0).astype(np.float32)
    result = median_filter(inverse, 5)
    reach = max(1.2 * level, 0.01)
    for step in (1, 2):
        result = _bilateral(result, known, guide_rgb, reach, step)
        reach = max(0.6 * reach, 0.01)
    return np.where(known, 1.0 / np.maximum(result, 1e-6), np.inf).astype(np.float32)


def _bilateral(
    inverse: np.ndarray, known: np.ndarray, guide: np.ndarray, reach: float, step: int, radius: int = 2
) -> np.ndarray:
    """One pass over a (2 radius + 1) squared window of every `step`-th pixel."""
    total, weight = inverse * known, known.astype(np.float32)
    for dy in range(-radius * step, radius * step + 1, step):
        for dx in range(-radius * step, radius * step + 1, step):
            if dx == dy == 0:
                continue
            other, there, color = (_shifted(a, dy, dx) for a in (inverse, known, guide))
            unlike = np.square((other - inverse) / (reach * np.maximum(inverse, 1e-3)))
            unlike += np.square(color - guide).sum(-1) / (2 * 0.08**2)
            w = np.exp(-0.5 * unlike) * there
            total, weight = total + w * other, weight + w
    return np.where(weight > 0, total / np.maximum(weight, 1e-6), inverse).astype(np.float32)


def _shifted(values: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Values moved by whole pixels, the border repeated."""
    rows = np.clip(np.arange(values.shape[0]) + dy, 0, values.shape[0] - 1)
    columns = np.clip(np.arange(values.shape[1]) + dx, 0, values.shape[1] - 1)
    return values[rows[:, None], columns]
