"""The definition of our rasterizer: Gaussians and a camera to an image, in plain differentiable PyTorch.

Every pixel looks at every Gaussian, so this is for tiny images, for tests, and to be read. Splatting follows Zwicker
et al. 2002 ("EWA splatting"), blending follows Kerbl et al. 2023 ("3D Gaussian Splatting"), and the constants are
those of gsplat. Two things are defined more simply than there:
- A Gaussian touches exactly the pixels where its alpha reaches the threshold. gsplat also cuts at 3.33 standard
  deviations, which is the same thing for an opacity of 1 and threshold of 1/255.
- The exponent is never taken to be positive, so there is no test for it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatars.geometry.rotations import matrix_from_quaternion
from avatars.rasterizer.gaussians import Gaussians
from avatars.rasterizer.render import Render
from avatars.rasterizer.scene import CULL_COSINE, MAX_ALPHA, MIN_TRANSMITTANCE, Scene

_PAIRS_AT_ONCE = 1 << 22
"""Pixel-Gaussian pairs evaluated together; bounds the memory."""


def rasterize_reference(scene: Scene) -> Render:
    """Draw all frames. Any floating dtype, any device; gradients of every input come from autograd."""
    scene.check_finite()
    renders = [_rasterize_frame(scene, frame) for frame in range(scene.frames)]
    rgb, alpha, depth_m = (torch.stack(parts) for parts in zip(*renders, strict=True))
    return Render(rgb, alpha, depth_m)


def project(
    gaussians: Gaussians,
    K: Float[Tensor, "3 3"],
    T_cam_world: Float[Tensor, "4 4"],
    size_hw: tuple[int, int],
    eps2d: float,
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Centers (px), conics (inverse covariances: xx, xy, yy in 1/px^2) and camera z (m) of what is before the camera.

    Zwicker et al. 2002, eq. 31: the projection is replaced by its Jacobian at the center. As in gsplat, the Jacobian
    is taken no further out than 15% of the image beyond its border, where the approximation breaks down.
    """
    rotation = T_cam_world[:3, :3]
    points = gaussians.means @ rotation.T + T_cam_world[:3, 3]
    x, y, z = points.unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    height, width = size_hw
    x_over_z = torch.clamp(x / z, -(cx + 0.15 * width) / fx, (1.15 * width - cx) / fx)
    y_over_z = torch.clamp(y / z, -(cy + 0.15 * height) / fy, (1.15 * height - cy) / fy)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * x_over_z / z, zero, fy / z, -fy * y_over_z / z], -1).reshape(-1, 2, 3)
    # Half of the covariance: cov = half @ half^T.
    half = jacobian @ rotation @ (matrix_from_quaternion(gaussians.quats) * gaussians.scales[:, None, :])
    covariance = half @ half.transpose(-1, -2)
    xx, xy, yy = covariance[:, 0, 0] + eps2d, covariance[:, 0, 1], covariance[:, 1, 1] + eps2d
    conics = torch.stack([yy, -xy, xx], -1) / (xx * yy - xy * xy)[:, None]
    centers = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    return centers, conics, z


def _rasterize_frame(scene: Scene, frame: int) -> tuple[Tensor, Tensor, Tensor]:
    gaussians = scene.gaussians.frame(frame)
    K, T = scene.K[frame % len(scene.K)], scene.T_cam_world[frame % len(scene.T_cam_world)]
    gaussians = gaussians[_front_to_back(scene, gaussians, T)]
    centers, conics, z = project(gaussians, K, T, scene.size_hw, scene.eps2d)
    height, width = scene.size_hw
    pixels = _pixel_centers(scene.size_hw, like=centers)
    values = torch.cat([gaussians.colors, z[:, None]], -1)
    sums, alphas = [], []
    for some in pixels.split(max(1, _PAIRS_AT_ONCE // max(1, len(gaussians)))):
        weights = _weights(some, centers, conics, gaussians.opacities, scene.alpha_threshold)
        sums.append(weights @ values)
        alphas.append(weights.sum(-1))
    image = torch.cat(sums).T.reshape(-1, height, width)
    alpha = torch.cat(alphas).reshape(1, height, width)
    rgb, z_sum = image[:-1], image[-1:]
    if scene.background is not None:
        rgb = rgb + (1.0 - alpha) * scene.background[:, None, None]
    hit = alpha > 0
    depth_m = torch.where(hit, z_sum / torch.where(hit, alpha, 1.0), torch.inf)
    return rgb, alpha, depth_m


def _weights(
    pixels: Float[Tensor, "pixels 2"],
    centers: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    alpha_threshold: float,
) -> Float[Tensor, "pixels n"]:
    """How much of each pixel each Gaussian (front to back) makes up: alpha times what those before it let through."""
    dx, dy = (pixels[:, None] - centers).unbind(-1)
    xx, xy, yy = conics.unbind(-1)
    sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    alpha = torch.clamp_max(opacities * torch.exp(-sigma), MAX_ALPHA)
    alpha = torch.where(alpha >= alpha_threshold, alpha, 0.0)
    behind = torch.cumprod(1.0 - alpha, -1)
    before = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], -1)[:, : alpha.shape[-1]]
    return torch.where(behind > MIN_TRANSMITTANCE, alpha * before, 0.0)


def _front_to_back(scene: Scene, gaussians: Gaussians, T_cam_world: Float[Tensor, "4 4"]) -> Int[Tensor, " drawn"]:
    z = (gaussians.means @ T_cam_world[2, :3] + T_cam_world[2, 3]).detach()
    drawn = (z >= scene.near_plane) & (z <= scene.far_plane)
    if scene.cull_backfaces:
        drawn = drawn & faces_camera(gaussians.means, gaussians.quats, T_cam_world)
    within = drawn.nonzero().squeeze(-1)
    return within[torch.argsort(z[within], stable=True)]


@torch.no_grad()
def faces_camera(
    means: Float[Tensor, "*n 3"], quats: Float[Tensor, "*n 4"], T_cam_world: Float[Tensor, "*#n 4 4"]
) -> Bool[Tensor, " *n"]:
    """Which Gaussians' third axes do not point away from the camera, by more than a rim's worth."""
    eye = -(T_cam_world[..., :3, :3].mT @ T_cam_world[..., :3, 3:])[..., 0]
    sight = means - eye
    away = (matrix_from_quaternion(quats)[..., 2] * sight).sum(-1)
    return away <= CULL_COSINE * sight.norm(dim=-1)


def _pixel_centers(size_hw: tuple[int, int], like: Tensor) -> Float[Tensor, "pixels 2"]:
    height, width = size_hw
    y = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
    x = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], -1).reshape(-1, 2)
