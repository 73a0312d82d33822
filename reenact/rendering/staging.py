"""A place + a retargeted motion + a seed -> everything that a clip is filmed and labelled with."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatars.body import Body
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from compose.places.free_floor import FreeFloor
from compose.places.light import PlaceLight, estimated_light, light_gain, normals_in_gaussians, preset_light
from compose.places.place_view import Background, fitted_camera, resized_to_cover
from compose.rendering.camera_motion import MOST_UNSEEN, inner_camera
from compose.rendering.placement import Placement, PlacementRules, place
from compose.rendering.shadow import ShadowLight
from reenact.planning.batch import BackgroundEntry, Batch
from reenact.rendering.companions import Companion, Performer, place_beside, there_and_back
from reenact.rendering.labels import ClipLabels, MaskTrack, moved
from reenact.rendering.scene import StagedClip
from reenact.retargeting.retarget import Retargeted

log = logging.getLogger(__name__)

_TOUCH_POINTS = 700
_TOUCH_FRAMES = 40
_VOXEL_M = 0.04
_MARGINS = {"static": 0.02, "orbit": 0.1, "sampled": 0.1, "pan": 0.14, "handheld": 0.14}
"""Border kept clear, as a fraction of the height: turns move what stands near it by up to 0.12; cameras that go do so
around the person."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A clip that is about to be filmed."""

    background: Background
    placement: Placement
    scene: StagedClip
    labels: ClipLabels
    masks: MaskTrack
    others: tuple[Companion, ...] = ()

    @property
    def light(self) -> PlaceLight | None:
        """The light on the person."""
        return self.scene.light


def stage(
    batch: Batch, entry: BackgroundEntry, whole: Background, first: Performer, seed: int,
    others: Sequence[Performer] = (), *, placement: Placement | None = None,
) -> Staged:  # fmt: skip
    """Place the motions, unless the first's `placement` is given, set the scene and pose the labels. Raises
    NoPlacement, and InputError for a clip of a place that is shorter than the motion."""
    retargeted, body = first.retargeted, first.avatar.body
    moving = batch.camera.kind != "static"
    if moving and whole.video is not None:
        raise InputError(f"{entry.name} is a clip of a still camera; a camera that moves needs a photograph.")
    seen = inner_camera(whole.camera) if moving else whole.camera
    rules = _rules(batch, entry)

    def find(r: Retargeted, touched: Tensor | None, seed: int, floor: FreeFloor | None) -> Placement:
        return place(r.swept, r.height_m, seen, batch.size_hw, rules, seed, floor=floor, touched=touched)

    frames = len(retargeted.motion)
    touched = None if whole.floor is None and not others else touched_points(retargeted, body)
    placement = placement or find(retargeted, touched, seed, whole.floor)
    beside: list[tuple[Performer, Placement]] = []
    if touched is not None and others:
        others = [replace(o, retargeted=there_and_back(o.retargeted, frames)) for o in others]
        rules = replace(rules, at=None, distance_m=None, crop=placement.crop)
        wanted = [(o.retargeted, touched_points(o.retargeted, body)) for o in others]
        spots = place_beside(wanted, placement.moved(touched), find, whole.floor, seed)
        beside = list(zip(others, spots, strict=True))
    view = fitted_camera(seen, batch.size_hw, placement.crop)
    scale = float(view.K[0, 0] / seen.K[0, 0])
    whole_hw = (round(whole.size_hw[0] * scale), round(whole.size_hw[1] * scale))
    background = whole.resized(whole_hw) if moving else whole.fitted(batch.size_hw, placement.crop)
    light = chosen_light(batch.light, whole) if batch.match_light else None
    scene = StagedClip.of(
        background,
        placement.T_world_motion,
        gain=light_gain(background.rgb) if batch.match_light else None,
        shadow=ShadowLight() if batch.shadow else None,
        light=light,
        film=batch.film,
        seed=seed,
        plates=None if whole.video is None else clip_plates(whole, background, placement, frames, batch.fps),
        focus_m=_distance_m(background, placement, retargeted),
        local_normals=None if light is None else _normals([first, *others]),
    )
    if batch.camera.goes:
        scene = _seen_anew(batch, entry.name, scene, view, background.camera, placement, retargeted, seed)
    elif moving:
        turns = batch.camera.turns(frames, batch.fps, scene.camera, seed)
        scene = scene.turning(view, turns if turns is not None else torch.eye(3).repeat(frames, 1, 1))
    camera = _world_camera(scene, placement, frames)

    def labelled(performer: Performer, spot: Placement) -> tuple[ClipLabels, MaskTrack]:
        T = spot.T_world_motion
        labels = ClipLabels.of(performer.retargeted, body, T, camera, batch.film.distortion)
        masks = MaskTrack(batch.size_hw, labels, keep_depth=batch.depth_labels)
        if batch.depth_labels and not moving:
            masks.add_place(background.depth_m[0])
        return labels, masks

    T_first_world = torch.linalg.inv(placement.T_world_motion)
    companions = [
        Companion(p.avatar, moved(p.retargeted.motion, body, T_first_world @ spot.T_world_motion), spot,
                  *labelled(p, spot))
        for p, spot in beside
    ]  # fmt: skip
    return Staged(background, placement, scene, *labelled(first, placement), tuple(companions))


def _rules(batch: Batch, entry: BackgroundEntry) -> PlacementRules:
    """What the batch and the place ask of a spot."""
    return PlacementRules(
        batch.person_height,
        entry.at,
        entry.distance_m,
        entry.heading_deg,
        entry.crop,
        entry.floor_m or (0.0, math.inf),
        margin=_MARGINS[batch.camera.kind],
        hidden=entry.hidden or (0.0, 0.5),
    )


def _seen_anew(
    batch: Batch, name: str, scene: StagedClip, view: Camera, wide: Camera, placement: Placement,
    retargeted: Retargeted, seed: int,
) -> StagedClip:  # fmt: skip
    """The scene from a camera elsewhere around the motion's middle. Raises InputError where the place has no depth, or
    the camera would see too much that the photograph has not."""
    if scene.depth_m is None:
        raise InputError(
            f"{name} has no depth, which `camera: {batch.camera.kind}` needs. Make it a place: `reenact backgrounds "
            "prepare`."
        )
    pivot = placement.moved(retargeted.swept).mean(0)
    path = batch.camera.path(len(retargeted.motion), wide, pivot, seed)
    if path is None:
        path = torch.eye(4).repeat(len(retargeted.motion), 1, 1)
    scene = scene.going(view, path, wide)
    unseen = scene.unseen_share()
    if unseen > MOST_UNSEEN:
        raise InputError(
            f"The camera would show {100 * unseen:.1f}% of the view that the photograph of {name} has not seen; at "
            f"most {100 * MOST_UNSEEN:.0f}% is painted in. Ask for a smaller `amount`."
        )
    return scene


def _normals(people: Sequence[Performer]) -> Float[Tensor, "n 3"]:
    """Smooth normals of all people, in the axes of their Gaussians."""
    return torch.cat([normals_in_gaussians(p.avatar.quats, p.avatar.rig.normals) for p in people])


def chosen_light(name: str, place_: Background) -> PlaceLight:
    """The light that the batch asks for, or the place's own."""
    if name != "estimated":
        return preset_light(name)
    return place_.light or estimated_light(place_.rgb, place_.camera)


def touched_points(retargeted: Retargeted, body: Body) -> Float[Tensor, "points 3"]:
    """Where the body is over the motion, about every 4 cm (motion's world)."""
    motion = retargeted.motion
    chosen = torch.arange(0, body.n_vertices, max(body.n_vertices // _TOUCH_POINTS, 1))
    frames = torch.linspace(0, len(motion) - 1, min(len(motion), _TOUCH_FRAMES)).round().long()
    some = motion[frames]
    points = body.pose(some.poses, some.betas, some.transl).points(body.subset(chosen)).reshape(-1, 3)
    voxel = torch.unique((points / _VOXEL_M).round().long(), dim=0)
    return voxel.float() * _VOXEL_M


def clip_plates(
    whole: Background, background: Background, placement: Placement, frames: int, fps: float
) -> UInt8[np.ndarray, "frames height width 3"]:
    """The frames of a place's clip at the output's times, cut as the picture was.

    Raises InputError when the clip is shorter than the motion: a place that freezes or jumps would not look real.
    """
    from avatars.io.video import probe, read_frames

    assert whole.video is not None
    info = probe(whole.video)
    step_s = 1.0 / info.fps if info.fps else 0.0
    length_s, needed_s = float(info.times_s[-1]) + step_s, frames / fps
    if length_s + 1e-6 < needed_s:
        raise InputError(
            f"The clip of {whole.video.parent.name} lasts {length_s:.2f} s and the motion {needed_s:.2f} s. Give a "
            "longer clip, or prepare one frame of it as a photograph."
        )
    wanted = np.searchsorted(info.times_s, np.arange(frames) / fps + 1e-6, side="right") - 1
    unique, back = np.unique(np.clip(wanted, 0, info.n_frames - 1), return_inverse=True)
    cut = [resized_to_cover(f, whole.size_hw, background.size_hw, placement.crop) for f in read_frames(info, unique)]
    return np.stack(cut)[back]


def _world_camera(scene: StagedClip, placement: Placement, frames: int) -> Camera:
    """The clip's camera in the place's world: one, or one per frame."""
    T_motion_world = torch.linalg.inv(placement.T_world_motion)
    if scene.turns is None and scene.path is None:
        return replace(scene.camera, T_cam_world=scene.camera.T_cam_world @ T_motion_world)
    cameras = [scene.camera_at(i).T_cam_world @ T_motion_world for i in range(frames)]
    return replace(scene.camera, T_cam_world=torch.stack(cameras))


def _distance_m(background: Background, placement: Placement, retargeted: Retargeted) -> float:
    """How far the middle of the motion is from the camera."""
    T = placement.T_world_motion
    world = retargeted.swept @ T[:3, :3].T + T[:3, 3]
    return float(background.camera.to_camera(world)[:, 2].mean())
