"""Gaussians to and from a .splat file: 32 bytes each, no header, the format of antimatter15's web viewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatars.errors import InputError
from avatars.io.files import atomic_path
from avatars.rasterizer.gaussians import Gaussians

SPLAT = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
"""Position and standard deviations as they are; color and opacity times 255; unit quaternion (wxyz) as 128 q + 128."""


def save_splat(gaussians: Gaussians, path: str | Path) -> Path:
    """Write one set of Gaussians, the largest and most opaque first: viewers show what has arrived so far.

    Raises InputError when there is a frames dimension.
    """
    if gaussians.means.ndim != 2:
        raise InputError(
            f"A .splat holds one set of Gaussians; these have shape {tuple(gaussians.means.shape)}. Choose a frame."
        )
    order = torch.argsort(gaussians.scales.prod(-1) * gaussians.opacities, descending=True, stable=True)
    g = gaussians[order]
    records = np.zeros(len(g), SPLAT)
    records["position"], records["scale"] = _numpy(g.means), _numpy(g.scales)
    records["rgba"] = _bytes(torch.cat([g.colors[:, :3], g.opacities[:, None]], -1) * 255)
    records["quat"] = _bytes(torch.nn.functional.normalize(g.quats, dim=-1) * 128 + 128)
    with atomic_path(path) as aside:
        aside.write_bytes(records.tobytes())
    return Path(path)


def load_splat(path: str | Path) -> Gaussians:
    """Read a .splat. Raises InputError when the file is missing or no whole number of 32-byte records."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No .splat at {path}.")
    content = path.read_bytes()
    if len(content) % SPLAT.itemsize:
        raise InputError(f"{path} is no .splat or cut short: {len(content)} bytes are no multiple of {SPLAT.itemsize}.")
    records = np.frombuffer(content, SPLAT)
    rgba = torch.from_numpy(records["rgba"].astype(np.float32)) / 255
    quats = torch.from_numpy((records["quat"].astype(np.float32) - 128) / 128)
    means, scales = (torch.from_numpy(records[name].astype(np.float32)) for name in ("position", "scale"))
    return Gaussians(means, quats, scales, rgba[:, 3].contiguous(), rgba[:, :3].contiguous())


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _bytes(values: Tensor) -> np.ndarray:
    return _numpy(values.round().clamp(0, 255)).astype(np.uint8)
