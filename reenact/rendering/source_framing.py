"""A source's camera + a retargeted motion -> the place and the placement that show the avatar where the person was.

The source's world is scaled by the legs, as the motion's path is, so that the picture's geometry stays: a body twice as
tall, twice as far away. Then it is turned so that, as of every place, the camera stands over the origin, looking
along -Z.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.tracking.source_view import SourceView
from compose.places.place_view import Background
from compose.rendering.placement import Placement
from reenact.planning.framing import SourceFraming
from reenact.retargeting.retarget import Retargeted


def framed(
    view: SourceView, picture: Background | None, retargeted: Retargeted, framing: SourceFraming, seed: int
) -> tuple[Background, Placement]:
    """A place with the source's camera, showing `picture` or, for None, the source's own place; and where in it the
    motion stands. Raises InputError when the source's own place is asked for and was not kept."""
    turn_deg, size = framing.drawn(seed)
    scale = retargeted.leg_scale / size
    camera, T_place_source = _over_the_origin(view.camera, scale, float(retargeted.start_m[1]))
    start = retargeted.start_m * torch.tensor([1.0, 0.0, 1.0])
    middle = retargeted.motion.transl.mean(0) * torch.tensor([1.0, 0.0, 1.0])
    turn = _about_y(math.radians(turn_deg))
    T = T_place_source @ _moved(start + middle) @ turn @ _moved(-middle)
    yaw = math.degrees(math.atan2(float(T[0, 2]), float(T[0, 0])))
    height = _height_fraction(camera, (T @ torch.cat([middle, torch.ones(1)]))[:3], retargeted.height_m)
    placement = Placement(float(T[0, 3]), float(T[2, 3]), yaw, (0.5, 0.5), height, {})
    return _with_picture(view, picture, camera), placement


def _over_the_origin(camera: Camera, scale: float, lift_m: float) -> tuple[Camera, Float[Tensor, "4 4"]]:
    """The source's camera in a world scaled about the ground, standing over the origin, looking along -Z; and what
    takes the source's scaled world there. `lift_m`: how far above its ground the source's motion floated."""
    T = camera.T_cam_world.clone()
    T[:3, 3] = scale * T[:3, 3] + T[:3, :3] @ torch.tensor([0.0, lift_m, 0.0])
    eye = -T[:3, :3].T @ T[:3, 3]
    forward = T[2, :3]
    yaw = math.atan2(float(forward[0]), -float(forward[2]))  # turn that takes the view's direction to -Z
    T_place_source = _about_y(yaw) @ _moved(-eye * torch.tensor([1.0, 0.0, 1.0]))
    return replace(camera, T_cam_world=T @ torch.linalg.inv(T_place_source)), T_place_source


def _with_picture(view: SourceView, picture: Background | None, camera: Camera) -> Background:
    if picture is not None:
        shown = picture.fitted(camera.size_hw)
        return replace(
            shown, camera=camera, depth_m=torch.full_like(shown.depth_m, torch.inf), floor=None, video=None, assumed=()
        )
    if view.plate is None:
        raise InputError(
            "The motion's file holds no picture of its clip's place. Track the clip with `reenact features --plates`, "
            "or give pictures as `backgrounds`."
        )
    rgb = torch.from_numpy(view.plate.astype("float32") / 255.0).permute(2, 0, 1).contiguous()
    return Background(rgb, torch.full((1, *camera.size_hw), torch.inf), camera)


def _height_fraction(camera: Camera, spot: Float[Tensor, " 3"], height_m: float) -> float:
    top = spot + torch.tensor([0.0, height_m, 0.0])
    pixels = camera.project(torch.stack([spot, top]))
    return float((pixels[0] - pixels[1]).norm()) / camera.size_hw[0]


def _about_y(angle: float) -> Float[Tensor, "4 4"]:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]], dtype=torch.float32)


def _moved(step: Float[Tensor, " 3"]) -> Float[Tensor, "4 4"]:
    T = torch.eye(4)
    T[:3, 3] = step
    return T
