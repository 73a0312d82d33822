"""How far a tracked motion is from the truth: joints in millimeters and pixels, facing in degrees."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body
from avatars.body.motion import Motion
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import nearest_rotation

N_BODY_JOINTS = 22


@dataclass(frozen=True, slots=True)
class PoseErrors:
    """Means over the frames that the track calls valid, over the 22 body joints."""

    mpjpe_mm: float
    """Mean per-joint position error in the camera's frame, pelvis aligned (Ionescu et al. 2014)."""
    pa_mpjpe_mm: float
    """The same after the best rotation, translation and scale per frame (Procrustes)."""
    joints_px: float
    """Mean distance of the projected joints."""
    yaw_error_max_deg: float
    """Largest error of the direction that the hips face."""
    valid_frames: int
    frames: int

    def as_dict(self) -> dict[str, float | int]:
        """For JSON."""
        return asdict(self)


def pose_errors(found: Motion, found_camera: Camera, true: Motion, true_camera: Camera, body: Body) -> PoseErrors:
    """Compare two motions of one video, frame by frame, each in its own camera's frame."""
    valid = found.valid & true.valid
    with torch.no_grad():
        joints = [body.pose_motion(m[valid]).joints[:, :N_BODY_JOINTS] for m in (found, true)]
    seen = [camera.to_camera(j) for camera, j in zip((found_camera, true_camera), joints, strict=True)]
    pixels = [camera.project(j) for camera, j in zip((found_camera, true_camera), joints, strict=True)]
    rooted = [j - j[:, :1] for j in seen]
    return PoseErrors(
        mpjpe_mm=1e3 * float((rooted[0] - rooted[1]).norm(dim=-1).mean()),
        pa_mpjpe_mm=1e3 * float((procrustes(seen[0], seen[1]) - seen[1]).norm(dim=-1).mean()),
        joints_px=float((pixels[0] - pixels[1]).norm(dim=-1).mean()),
        yaw_error_max_deg=float(_facing_error_deg(seen[0], seen[1]).max()),
        valid_frames=int(valid.sum()),
        frames=len(found),
    )


def procrustes(
    points: Float[Tensor, "frames points 3"], target: Float[Tensor, "frames points 3"]
) -> Float[Tensor, "frames points 3"]:
    """`points` after the similarity transform per frame that brings them nearest to `target` (Umeyama 1991)."""
    a, b = points - points.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    together = b.transpose(1, 2) @ a
    R = nearest_rotation(together)
    scale = (R * together).sum((1, 2)) / a.square().sum((1, 2))
    return scale[:, None, None] * a @ R.transpose(1, 2) + target.mean(1, keepdim=True)


def _facing_error_deg(a: Tensor, b: Tensor) -> Tensor:
    across = [j[:, 1, [0, 2]] - j[:, 2, [0, 2]] for j in (a, b)]  # right hip to left hip, seen from above
    cosine = torch.nn.functional.cosine_similarity(across[0], across[1], dim=-1)
    return torch.rad2deg(torch.acos(cosine.clamp(-1.0, 1.0)))
