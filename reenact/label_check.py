"""A clip's labels against its pixels: the body is posed anew from them, drawn anew in its place, and compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from avatars.avatar import Avatar
from avatars.body import Body
from avatars.camera import Camera
from avatars.errors import InputError
from avatars.files import read_json
from avatars.gaussians import Gaussians
from avatars.motion import Motion
from avatars.progress import StageClock
from avatars.video import probe, read_frames
from compose.background import Background, PlaceView
from compose.film import distorted_pixels
from reenact.companions import Performer
from reenact.exposure import exposed
from reenact.labels import decode_rle, mask_box, moved, posed_body
from reenact.plan import Plan, PlannedClip, read_plan
from reenact.receipts import label_files, receipt_path, whole_ids
from reenact.retarget import retarget
from reenact.scene import Drawn
from reenact.staging import Staged, stage

MOST_JOINT_PX = 0.5
LEAST_MASK_IOU = 0.99
MOST_PICTURE_STEPS = 16.0
"""Mean difference of drawn and decoded pixels of the person, in 8-bit steps; compression takes some."""


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """How far a clip's labels are from its pixels."""

    joint_px: float
    """Largest distance between written joints and those that the written pose has."""
    mask_iou: float
    """Least overlap of written masks with the person drawn anew from the written pose."""
    picture_steps: float
    """Mean difference of the person drawn anew from the video's pixels, in 8-bit steps; the worst frame."""
    box_px: float
    """Largest difference between a written box and its mask's."""
    frames: int
    video_frames: int

    def wrong(self) -> list[str]:
        """What is wrong, in words."""
        found = []
        if not self.joint_px <= MOST_JOINT_PX:
            found.append(f"joints are up to {self.joint_px:.2f} px from where their poses put them")
        if not self.mask_iou >= LEAST_MASK_IOU:
            found.append(f"a mask overlaps the person by {self.mask_iou:.3f} only (IoU)")
        if not self.picture_steps <= MOST_PICTURE_STEPS:
            found.append(f"the person differs from the video by {self.picture_steps:.1f} steps of 255")
        if self.box_px > 0:
            found.append(f"boxes differ from their masks by up to {self.box_px:.0f} px")
        if self.frames != self.video_frames:
            found.append(f"{self.frames} frames are labelled, the video has {self.video_frames}")
        return found


def check_data_set(out: str | Path, *, clips: int | None = None, frames: int = 3) -> dict[str, LabelCheck]:
    """Check every clip that is there, or `clips` of them spread over the plan; `frames` of each are drawn anew.

    Raises InputError when there is no plan or an input of it has changed.
    """
    out = Path(out)
    plan, whole = read_plan(out), whole_ids(out)
    there = [clip for clip in plan.clips if clip.id in whole]
    if clips is not None and clips < len(there):
        there = [there[i] for i in np.linspace(0, len(there) - 1, clips).round().astype(int)]
    body = Body.load(plan.batch.body)
    with torch.no_grad():
        return {clip.id: check_clip(plan, clip, out, body, frames=frames) for clip in there}


def check_clip(plan: Plan, clip: PlannedClip, out: Path, body: Body, *, frames: int = 3) -> LabelCheck:
    """Compare one clip. The place and the avatar are read again; the pose comes from the labels alone.

    Raises InputError when a file cannot be read or the labels belong to another body.
    """
    receipt = read_json(receipt_path(out, clip.id))
    staged, avatars = _staged(plan, clip, body)
    T_first_world = torch.linalg.inv(staged.placement.T_world_motion)
    people = [
        _Person.read(out / found["path"], avatar, T_first_world)
        for found, avatar in zip(label_files(receipt), avatars, strict=True)
    ]
    length = len(people[0].motion)
    info = probe(out / receipt["clip"]["path"])
    chosen = np.unique(np.linspace(0, length - 1, frames).round().astype(int))
    chosen = chosen[chosen < info.n_frames]
    worst_iou, worst_steps = 1.0, 0.0
    for index, picture in zip(chosen, read_frames(info, chosen), strict=True):
        posed = [_posed(person.avatar, person.local, plan, int(index)) for person in people]
        shot = staged.scene.draw(posed, StageClock(), int(index))
        for person, drawn in zip(people, shot.people, strict=True):
            mask, written = _full(drawn, staged.masks.size_hw), person.masks[index]
            together = mask | written
            if together.any():
                worst_iou = min(worst_iou, float((mask & written).sum() / together.sum()))
            if mask.any():
                seen, made = (_subsampled(x) for x in (picture[: mask.shape[0], : mask.shape[1]], shot.frame))
                apart = np.abs(seen - made)
                worst_steps = max(worst_steps, float(apart[mask].mean()))
    joint_px, box_px = max(person.joint_px() for person in people), max(person.box_px() for person in people)
    return LabelCheck(joint_px, worst_iou, worst_steps, box_px, length, info.n_frames)


@dataclass(frozen=True, slots=True)
class _Person:
    """What a clip's labels say of one of its people."""

    avatar: Avatar
    data: dict[str, np.ndarray]
    motion: Motion
    """In the place's world."""
    local: Motion
    """In the world of the first person's motion, as it was filmed."""
    masks: list[np.ndarray]

    @staticmethod
    def read(labels: Path, avatar: Avatar, T_first_world: torch.Tensor) -> _Person:
        data, motion, body = _read(labels), Motion.load(labels), avatar.body
        if motion.body_sha256 and motion.body_sha256 != body.sha256:
            raise InputError(f"{labels} belong to another body ({motion.body_sha256[:12]}); give that one.")
        size_hw = (int(data["size_hw"][0]), int(data["size_hw"][1]))
        masks = [decode_rle(bytes(counts), size_hw) for counts in data["mask_rle"]]
        return _Person(avatar, data, motion, moved(motion, body, T_first_world), masks)

    def joint_px(self) -> float:
        """How far the written joints are from those of the written pose."""
        return _joint_px(self.motion, self.data, self.avatar.body)

    def box_px(self) -> float:
        """How far the written boxes are from those of the written masks."""
        pairs = zip(self.masks, self.data["box_px"], strict=True)
        return max(float(np.abs(np.array(mask_box(mask)) - box).max()) for mask, box in pairs)


def _read(labels: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(labels) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise InputError(f"{labels} cannot be read ({str(error).splitlines()[0]}).") from None


def _staged(plan: Plan, clip: PlannedClip, body: Body) -> tuple[Staged, list[Avatar]]:
    """The clip's scene, set as it was for filming, and its people, the first one first."""
    from avatars.motion_formats import load_motion

    batch, entry = plan.batch, plan.batch.backgrounds[clip.background]
    view = PlaceView(entry.camera_height_m, entry.horizon, entry.focal_px, entry.roll_deg)
    whole = Background.load(entry.path, view, tags=entry.tags, licence=entry.licence)
    people = []
    for avatar, motion in ((clip.avatar, clip.motion), *clip.others):
        found = Avatar.load(batch.avatars[avatar].path, body)
        source = load_motion(batch.motions[motion].path, body)
        people.append(Performer(found, retarget(source, body, found.betas, fps=batch.fps)))
    return stage(batch, entry, whole, people[0], clip.seed, people[1:]), [p.avatar for p in people]


def _posed(avatar: Avatar, motion: Motion, plan: Plan, index: int) -> Gaussians:
    """The avatar at a frame, or at its subframes."""
    film = plan.batch.film
    each = 1 if film.shutter <= 0 else film.subframes
    g = avatar.posed(exposed(motion, film)[index * each : (index + 1) * each], shadowed=True)
    colors = g.colors[each // 2] if g.colors.ndim == 3 else g.colors
    return replace(g, colors=colors) if each > 1 else Gaussians(g.means[0], g.quats[0], g.scales, g.opacities, colors)


def _joint_px(motion: Motion, data: dict[str, np.ndarray], body: Body) -> float:
    size_hw = (int(data["size_hw"][0]), int(data["size_hw"][1]))
    camera = Camera(torch.from_numpy(data["K"]), torch.from_numpy(data["T_cam_world"]), size_hw)
    pixels = camera.project(posed_body(motion, body).joints)
    k1, k2 = (float(v) for v in data["distortion"])
    if (k1, k2) != (0.0, 0.0):
        pixels = distorted_pixels(pixels, camera, (k1, k2))
    return float(np.abs(pixels.numpy() - data["joints_px"]).max())


def _subsampled(frame: np.ndarray) -> np.ndarray:
    """A frame (height, width, 3), in 8-bit steps, with the color resolution that 4:2:0 video keeps: brightness by
    pixel, color by the mean of 2 x 2. Thin, vivid people differ by nothing else from their video."""
    rgb = frame.astype(np.float32)
    luma = rgb @ np.float32([0.299, 0.587, 0.114])
    color = rgb - luma[..., None]
    height, width = luma.shape
    even = np.pad(color, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean((1, 3))
    return luma[..., None] + blocks.repeat(2, 0).repeat(2, 1)[:height, :width]


def _full(drawn: Drawn, size_hw: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size_hw, bool)
    part = (drawn.alpha >= 0.5).numpy()
    mask[drawn.top : drawn.top + part.shape[0], drawn.left : drawn.left + part.shape[1]] = part
    return mask
