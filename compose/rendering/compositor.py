"""What a lens, a shutter and a sensor do to a frame: motion blur, defocus, lens distortion, grain, compression.

Everything is off by default. Only distortion moves pixels: `distorted_pixels` moves the labels with them. Blur keeps
the labels at the middle of the exposure. Blur and grain work in linear light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.color import linear_from_srgb, srgb_from_linear
from avatars.kernels.extension import extension
from avatars.rasterizer.render import Render


@dataclass(frozen=True, slots=True)
class CameraEffects:
    """How a clip is filmed."""

    shutter: float = 0.0
    """Share of the time between frames in which the shutter is open; 0 freezes, 0.5 is a film camera's 180 degrees."""
    subframes: int = 5
    """Poses that are drawn while the shutter is open."""
    defocus: float = 0.0
    """Blur of what is infinitely far behind the person, as a fraction of the frame's height."""
    grain: float = 0.0
    """Sensor noise; 1 is a phone indoors: shot noise of 2.4% at full light, read noise of 0.15%, in linear light."""
    distortion: tuple[float, float] = (0.0, 0.0)
    """Brown's radial k1, k2 on coordinates over the focal length; negative is a barrel."""
    softness: float = 0.0
    """Blur of the people, sigma in pixels: as soft as the lens and scaling that the place's picture came through."""
    jpeg: int | None = None
    """Quality 1 to 95 of a compression that the clip has been through."""

    def __post_init__(self) -> None:
        bounds = {
            "shutter": (self.shutter, 0, 1),
            "subframes": (self.subframes, 2, 33),
            "defocus": (self.defocus, 0, 0.1),
            "grain": (self.grain, 0, 10),
            "softness": (self.softness, 0, 5),
            "distortion k1": (self.distortion[0], -0.4, 0.4),
            "distortion k2": (self.distortion[1], -0.4, 0.4),
            "jpeg": (50 if self.jpeg is None else self.jpeg, 1, 95),
        }
        for name, (value, low, high) in bounds.items():
            if not low <= value <= high:
                raise InputError(f"film: {name} is {value}, expected {low} to {high}.")

    @property
    def distorts(self) -> bool:
        """Whether pixels are moved."""
        return self.distortion != (0.0, 0.0)


def blurred_over_time(render: Render) -> Render:
    """The mean of subframes (its frames) as one frame: what an open shutter sees. Mixed in linear light."""
    alpha = render.alpha.mean(0, keepdim=True)
    straight = render.rgb / render.alpha.clamp_min(1e-4)
    light = (linear_from_srgb(straight.clamp(0, 1)) * render.alpha).mean(0, keepdim=True)
    rgb = srgb_from_linear((light / alpha.clamp_min(1e-4)).clamp(0, 1)) * alpha
    near = torch.where(torch.isfinite(render.depth_m), render.depth_m * render.alpha, 0.0).sum(0, keepdim=True)
    weight = torch.where(torch.isfinite(render.depth_m), render.alpha, 0.0).sum(0, keepdim=True)
    depth_m = torch.where(weight > 0, near / weight.clamp_min(1e-6), torch.inf)
    return Render(rgb, alpha, depth_m, None if render.extra is None else render.extra.mean(0, keepdim=True))


def softened_people(render: Render, sigma_px: float) -> Render:
    """People blurred by a Gaussian, edges and all; depth stays."""
    import cv2

    def blurred(images: Tensor) -> Tensor:
        planes = [cv2.GaussianBlur(plane.numpy(), (0, 0), sigma_px) for plane in images.flatten(0, 1)]
        return torch.from_numpy(np.stack(planes)).reshape(images.shape)

    extra = None if render.extra is None else blurred(render.extra)
    return Render(blurred(render.rgb), blurred(render.alpha), render.depth_m, extra)


def defocused(
    rgb: Float[Tensor, "3 height width"],
    depth_m: Float[Tensor, "1 height width"],
    *,
    focus_m: float,
    strength: float,
    levels: int = 4,
) -> Float[Tensor, "3 height width"]:
    """A place blurred by its distance from the plane of focus, in linear light.

    The circle of confusion goes as |1/focus - 1/z| (thin lens); blurs of few sizes are mixed between. Pixels of unknown
    depth count as infinitely far.
    """
    inverse = torch.where(torch.isfinite(depth_m), 1.0 / depth_m.clamp_min(0.1), 0.0)
    radius_px = strength * rgb.shape[1] * (1.0 - focus_m * inverse).abs()
    top = float(radius_px.max())
    if top < 0.3:
        return rgb
    light = linear_from_srgb(rgb)
    stack = [light] + [_blurred(light, top * (i / levels) ** 1.5) for i in range(1, levels + 1)]
    place = levels * (radius_px / top).clamp(0, 1) ** (1 / 1.5)
    mixed = sum(layer * (1.0 - (place - i).abs()).clamp_min(0.0) for i, layer in enumerate(stack))
    assert isinstance(mixed, Tensor)
    return srgb_from_linear(mixed.clamp(0, 1))


def _blurred(image: Float[Tensor, "3 height width"], radius_px: float) -> Float[Tensor, "3 height width"]:
    """Gaussian blur whose standard deviation is half the radius."""
    sigma = max(0.5 * radius_px, 0.05)
    reach = max(int(3 * sigma + 0.5), 1)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = torch.nn.functional.pad(image[None], (reach, reach, reach, reach), mode="replicate")
    across = torch.nn.functional.conv2d(padded, kernel, groups=3)
    return torch.nn.functional.conv2d(across, kernel.transpose(-1, -2), groups=3)[0]


SHOT, READ = 0.024**2, 0.0015**2
"""Variance of linear light at full light and of the read-out at `grain` 1: the noise slope and floor of a sensor."""
_BANK = 1 << 21


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """Standard normal numbers in steps of 1/32, drawn once; frames read it from random places."""
    normal = np.random.default_rng(20_001).standard_normal(_BANK)
    return np.clip(np.round(normal * 32), -124, 124).astype(np.int16)


@lru_cache(maxsize=8)
def _noise_scale(grain: float) -> Int32[np.ndarray, " 256"]:
    """Standard deviation of 8-bit sRGB values by value, in 1/32 of a step, by the slope of the sRGB curve."""
    light = linear_from_srgb(torch.arange(256, dtype=torch.float64) / 255)
    low, high = (light - 1e-3).clamp_min(0), light + 1e-3
    slope = (srgb_from_linear(high) - srgb_from_linear(low)) / (high - low)
    steps = 255 * grain * torch.sqrt(SHOT * light + READ) * slope
    return (steps * 32).round().clamp(0, 255).int().numpy()


def add_grain(frame: UInt8[np.ndarray, "height width 3"], *, grain: float, seed: int) -> None:
    """Add sensor noise to a frame, in place, whose variance in linear light rises with the light (Foi et al. 2008);
    rounded to 8 bits, at most 8 steps of standard deviation."""
    bank, scale = _noise_bank(), _noise_scale(grain)
    start = int(np.random.default_rng(seed).integers(0, len(bank)))
    if not frame.flags.c_contiguous:
        raise ValueError("Grain is added in place: the frame's memory must be contiguous.")
    extension().grain(frame, bank, start, scale, torch.get_num_threads())


def compressed(frame: UInt8[np.ndarray, "height width 3"], quality: int) -> UInt8[np.ndarray, "height width 3"]:
    """A frame that has been a JPEG."""
    from io import BytesIO

    from PIL import Image

    memory = BytesIO()
    Image.fromarray(frame).save(memory, "JPEG", quality=quality)
    return np.asarray(Image.open(memory))


def distorted_pixels(
    pixels: Float[Tensor, "*points 2"], camera: Camera, distortion: tuple[float, float]
) -> Float[Tensor, "*points 2"]:
    """Where the lens puts what a pinhole would put at `pixels` (Brown 1966, radial terms), magnified by `lens_zoom`."""
    K = camera.K if camera.K.ndim == 2 else camera.K[0]
    center, focal = K[:2, 2], torch.stack([K[0, 0], K[1, 1]])
    normal = (pixels - center) / focal
    return normal * (_radial(normal, distortion) * lens_zoom(camera, distortion)) * focal + center


def _radial(normal: Tensor, distortion: tuple[float, float]) -> Tensor:
    r2 = normal.square().sum(-1, keepdim=True)
    return 1 + distortion[0] * r2 + distortion[1] * r2 * r2


def lens_zoom(camera: Camera, distortion: tuple[float, float]) -> float:
    """Magnification with which a barrel, which draws the borders inward, still fills the frame."""
    K = camera.K if camera.K.ndim == 2 else camera.K[0]
    height, width = camera.size_hw
    border = torch.cartesian_prod(torch.linspace(0, width, 9), torch.linspace(0, height, 9))
    normal = (border - K[:2, 2]) / torch.stack([K[0, 0], K[1, 1]])
    return 1.0 / min(float(_radial(normal, distortion).min()), 1.0)


def lens_grid(camera: Camera, distortion: tuple[float, float]) -> Float[Tensor, "height width 2"]:
    """For every pixel of the lens's picture, where to read the pinhole's, in grid_sample's [-1, 1].

    The inverse of `distorted_pixels` by fixed-point iteration.
    """
    height, width = camera.size_hw
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    wanted = torch.stack([x, y], -1)
    source = wanted.clone()
    for _ in range(20):
        source = source + wanted - distorted_pixels(source, camera, distortion)
    return source / torch.tensor([width, height]) * 2 - 1


def warped(image: Float[Tensor, "channels height width"], grid: Float[Tensor, "height width 2"]) -> Tensor:
    """An image read through a grid; what lies outside is the nearest border."""
    sampled = torch.nn.functional.grid_sample(
        image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0]
