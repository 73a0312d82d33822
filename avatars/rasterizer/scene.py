"""Turns the arguments of `rasterize` into one checked container that every implementation reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.rasterizer.gaussians import Gaussians

MAX_ALPHA = 0.999
"""No single Gaussian covers more than this (gsplat's limit), so that 1 - alpha can be divided by."""
MIN_TRANSMITTANCE = 1e-4
"""The Gaussian that would bring a pixel's transmittance to this or below is not drawn, nor any behind it."""
CULL_COSINE = 0.3
"""Backfaces are culled where the third axis is this far from at right angles to the line of sight: at the rim of a body
Gaussians still meet those of the other side."""
MAX_SIDE_PX = 32767

_LAST_DIM = {"means": 3, "quats": 4, "scales": 3, "opacities": None, "colors": None}


@dataclass(frozen=True, slots=True)
class Scene:
    """What to draw, from where, and how; shapes, dtypes and devices agree."""

    gaussians: Gaussians
    """Every field has a leading dimension of `frames`, or of 1 where all frames share it."""
    K: Float[Tensor, "#frames 3 3"]
    T_cam_world: Float[Tensor, "#frames 4 4"]
    size_hw: tuple[int, int]
    background: Float[Tensor, " channels"] | None
    frames: int
    near_plane: float
    """Camera z in meters; nearer Gaussians are not drawn."""
    far_plane: float
    eps2d: float
    """Added to the diagonal of the projected covariance, px^2 (Zwicker's low-pass filter)."""
    alpha_threshold: float
    """A Gaussian does not touch the pixels where its alpha is less."""
    cull_backfaces: bool = False
    """Leave out Gaussians whose third axis points away from the camera."""

    @staticmethod
    def checked(
        gaussians: Gaussians,
        camera: Camera,
        background: Tensor | None,
        *,
        near_plane: float,
        far_plane: float,
        eps2d: float,
        alpha_threshold: float,
        cull_backfaces: bool = False,
    ) -> Scene:
        """Raises InputError for shapes, dtypes, devices or options that do not fit; values are not looked at."""
        fields = _fields(gaussians)
        n = gaussians.means.shape[-2] if gaussians.means.ndim >= 2 else -1
        for name, tensor in fields.items():
            _check_field(name, tensor, n)
        _check_camera(camera)
        tensors = {**fields, "K": camera.K, "T_cam_world": camera.T_cam_world}
        if background is not None:
            tensors["background"] = background
            if background.shape != fields["colors"].shape[-1:]:
                raise InputError(
                    f"background must have one value per color channel, ({fields['colors'].shape[-1]},); "
                    f"found shape {tuple(background.shape)}."
                )
        _check_alike(tensors)
        _check_options(near_plane, far_plane, eps2d, alpha_threshold)
        batched = {name: t if t.ndim == _ndim(name) + 1 else t[None] for name, t in fields.items()}
        K = camera.K if camera.K.ndim == 3 else camera.K[None]
        T = camera.T_cam_world if camera.T_cam_world.ndim == 3 else camera.T_cam_world[None]
        frames = _frames({**batched, "K": K, "T_cam_world": T})
        return Scene(
            Gaussians(**batched), K, T, (int(camera.size_hw[0]), int(camera.size_hw[1])), background, frames,
            near_plane, far_plane, eps2d, alpha_threshold, cull_backfaces,
        )  # fmt: skip

    @property
    def channels(self) -> int:
        return self.gaussians.colors.shape[-1]

    def check_finite(self) -> None:
        """Raises InputError that names the first field holding NaN or infinity, and how many."""
        _check_finite(_fields(self.gaussians))
        self.check_camera()

    def check_camera(self) -> None:
        """The same for the camera and the background alone, which are small; and for skew, which nothing here draws."""
        named = {"K": self.K, "T_cam_world": self.T_cam_world}
        if self.background is not None:
            named["background"] = self.background
        _check_finite(named)
        if self.K.detach()[:, 0, 1].any():
            raise InputError(
                "The camera's K must have no skew, K[0, 1] = 0: the rasterizers know none. Undistort first."
            )


def _check_finite(named: dict[str, Tensor]) -> None:
    bad = torch.stack([(~torch.isfinite(t.detach())).sum() for t in named.values()]).tolist()
    for (name, tensor), count in zip(named.items(), bad, strict=True):
        if count:
            raise InputError(
                f"{name} must be finite; found NaN or infinity in {count} of {tensor.numel()} values. "
                "Look for a diverged optimization or a division by zero before this call."
            )


def _fields(gaussians: Gaussians) -> dict[str, Tensor]:
    return {name: getattr(gaussians, name) for name in _LAST_DIM}


def _ndim(name: str) -> int:
    return 1 if name == "opacities" else 2


def _check_field(name: str, tensor: Tensor, n: int) -> None:
    tail = ("n",) if name == "opacities" else ("n", _LAST_DIM[name] or "channels")
    expected = f"({', '.join(map(str, tail))}{',' if len(tail) == 1 else ''})"
    ndim = _ndim(name)
    good = tensor.ndim in (ndim, ndim + 1)
    good = good and (_LAST_DIM[name] is None or tensor.shape[-1] == _LAST_DIM[name])
    if not good:
        raise InputError(f"{name} must have shape {expected} or (frames, {expected[1:]}; found {tuple(tensor.shape)}.")
    count = tensor.shape[-1] if name == "opacities" else tensor.shape[-2]
    if count != n:
        raise InputError(f"{name} holds {count} Gaussians but means holds {n}; all fields must hold the same number.")
    if name == "colors" and tensor.shape[-1] == 0:
        raise InputError(f"colors must have at least one channel; found shape {tuple(tensor.shape)}.")


def _check_camera(camera: Camera) -> None:
    for name, tensor, side in (("K", camera.K, 3), ("T_cam_world", camera.T_cam_world, 4)):
        if tensor.ndim not in (2, 3) or tensor.shape[-2:] != (side, side):
            raise InputError(
                f"The camera's {name} must have shape ({side}, {side}) or (frames, {side}, {side}); "
                f"found {tuple(tensor.shape)}."
            )
    height, width = camera.size_hw
    if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
        raise InputError(f"The camera's size_hw must be within 1 and {MAX_SIDE_PX} px; found {camera.size_hw}.")


def _check_alike(tensors: dict[str, Tensor]) -> None:
    dtype, device = tensors["means"].dtype, tensors["means"].device
    if not dtype.is_floating_point:
        raise InputError(f"means must be floating point; found {dtype}.")
    for name, tensor in tensors.items():
        if tensor.dtype != dtype:
            raise InputError(f"{name} is {tensor.dtype} but means is {dtype}; bring all inputs to one dtype.")
        if tensor.device != device:
            raise InputError(f"{name} is on {tensor.device} but means is on {device}; move them together with `.to()`.")


def _check_options(near_plane: float, far_plane: float, eps2d: float, alpha_threshold: float) -> None:
    if not 0.0 < near_plane < far_plane:
        raise InputError(f"near_plane must be positive and less than far_plane; found {near_plane} and {far_plane}.")
    if not 0.0 <= eps2d < float("inf"):
        raise InputError(f"eps2d must not be negative; found {eps2d}.")
    if not 0.0 <= alpha_threshold < MAX_ALPHA:
        raise InputError(f"alpha_threshold must be in [0, {MAX_ALPHA}); found {alpha_threshold}.")


def _frames(batched: dict[str, Tensor]) -> int:
    frames = 1
    for name, tensor in batched.items():
        found = tensor.shape[0]
        if found == 0:
            raise InputError(f"{name} has 0 frames; at least one is needed.")
        if found != 1 and frames not in (1, found):
            raise InputError(f"{name} has {found} frames where other inputs have {frames}; they must agree (or be 1).")
        frames = max(frames, found)
    return frames
