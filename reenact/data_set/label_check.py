"""A clip's labels against its pixels: the body is posed anew from them, drawn anew in its place, and compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from actionrec.manifest import ManifestClip
from avatars.avatar import Avatar
from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.mask_stack import mask_box
from avatars.io.progress import StageClock
from avatars.io.video import probe, read_frames
from avatars.rasterizer.gaussians import Gaussians
from compose.rendering.compositor import distorted_pixels
from reenact.data_set.label_file import masks_of, read_labels
from reenact.planning.data_set_paths import file_inside
from reenact.planning.plan import Plan, PlannedClip, read_plan
from reenact.planning.receipts import label_files, manifest_clip, read_receipt, whole_ids
from reenact.rendering.exposure import exposed
from reenact.rendering.labels import moved, posed_body
from reenact.rendering.render import performer, staged_clip
from reenact.rendering.scene import Drawn
from reenact.rendering.staging import Staged

_KEYS = (
    "poses", "trans", "betas", "expression", "times_s", "valid", "body_sha256", "K", "T_cam_world", "size_hw",
    "distortion", "joints_px", "box_px", "mask_rle", "whole_rle",
)  # fmt: skip
BODY_JOINTS = 22
"""Of SMPL-X's 55, from the pelvis to the wrists."""
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
    nobody: int = 0
    """Frames in which the pose puts a person before the camera, and neither labels nor pixels show one."""
    broken: str = ""
    """Why labels or video cannot be read; the numbers say nothing then."""

    def wrong(self) -> list[str]:
        """What is wrong, in words."""
        if self.broken:
            return [self.broken]
        found = []
        if self.nobody:
            found.append(f"nobody is drawn in {self.nobody} frames, though the pose puts a person in the picture")
        if not self.joint_px <= MOST_JOINT_PX:
            found.append(f"joints are up to {self.joint_px:.2f} px from where their poses put them")
        if not self.mask_iou >= LEAST_MASK_IOU:
            found.append(f"a mask overlaps the person by {self.mask_iou:.3f} only (IoU)")
        if not self.picture_steps <= MOST_PICTURE_STEPS:
            found.append(f"the person differs from the video by {self.picture_steps:.1f} steps of 255")
        if not self.box_px <= 0:
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
    body = load_body(plan.batch.body)
    with torch.no_grad():
        return {clip.id: _check_or_say(plan, clip, out, body, frames) for clip in there}


def _check_or_say(plan: Plan, clip: PlannedClip, out: Path, body: Body, frames: int) -> LabelCheck:
    """`check_clip`; what stops it is told of this clip, and the others are checked all the same."""
    try:
        return check_clip(plan, clip, out, body, frames=frames)
    except InputError as error:
        return LabelCheck(np.nan, np.nan, np.nan, np.nan, 0, 0, broken=str(error))


def check_clip(plan: Plan, clip: PlannedClip, out: Path, body: Body, *, frames: int = 3) -> LabelCheck:
    """Compare one clip. The place and the avatar are read again; the pose comes from the labels alone.

    Raises InputError when a file cannot be read or the labels belong to another body.
    """
    receipt = read_receipt(out, clip.id)
    of_clip = manifest_clip(receipt["clip"], f"receipts/{clip.id}.json")
    files = label_files(receipt)
    if len(files) != 1 + len(clip.others):
        raise InputError(f"its receipt names labels of {len(files)} people, the plan has {1 + len(clip.others)}")
    labels = [file_inside(out, found["path"], f"clip {clip.id}") for found in files]
    info = probe(file_inside(out, of_clip.path, f"clip {clip.id}"))
    if (info.n_frames, *info.size_hw) != (of_clip.n_frames, *of_clip.size_hw):
        raise InputError(
            f"the video has {info.n_frames} frames of {info.size_hw}, its receipt says {of_clip.n_frames} of "
            f"{of_clip.size_hw}"
        )
    staged, avatars = staged_people(plan, clip, body)
    T_first_world = torch.linalg.inv(staged.placement.T_world_motion)
    people = [
        LabelledPerson.read(path, avatar, T_first_world, of_clip) for path, avatar in zip(labels, avatars, strict=True)
    ]
    length = len(people[0].motion)
    chosen = np.unique(np.linspace(0, length - 1, frames).round().astype(int))
    worst_iou, worst_steps = 1.0, 0.0
    for index, picture in zip(chosen, read_frames(info, chosen), strict=True):
        posed = [posed_at(person.avatar, person.local, plan, int(index)) for person in people]
        shot = staged.scene.draw(posed, StageClock(), int(index))
        for person, drawn in zip(people, shot.people, strict=True):
            mask, written = _full(drawn, staged.masks.size_hw), person.masks[index]
            together = mask | written
            if together.any():
                worst_iou = min(worst_iou, float((mask & written).sum() / together.sum()))
            if mask.any():
                seen, made = (_subsampled(x) for x in (picture[: mask.shape[0], : mask.shape[1]], shot.frame))
                apart = np.abs(seen - made)
                worst_steps = float(np.maximum(worst_steps, apart[mask].mean()))  # NaN stays NaN
    joint_px, box_px = (
        float(np.max([of(p) for p in people])) for of in (LabelledPerson.joint_px, LabelledPerson.box_px)
    )
    nobody = max(person.nobody() for person in people)
    return LabelCheck(joint_px, worst_iou, worst_steps, box_px, length, info.n_frames, nobody)


@dataclass(frozen=True, slots=True)
class LabelledPerson:
    """What a clip's labels say of one of its people."""

    avatar: Avatar
    data: dict[str, np.ndarray]
    motion: Motion
    """In the place's world."""
    local: Motion
    """In the world of the first person's motion, as it was filmed."""
    masks: np.ndarray
    """(frames, height, width) bool, what is seen of the person."""
    whole: np.ndarray
    """The same, as if nothing stood before the person."""

    @staticmethod
    def read(labels: Path, avatar: Avatar, T_first_world: torch.Tensor, clip: ManifestClip) -> LabelledPerson:
        data, body = read_labels(labels, _KEYS, clip), avatar.body
        motion = _motion(data, labels)
        if motion.body_sha256 and motion.body_sha256 != body.sha256:
            raise InputError(f"{labels} belong to another body ({motion.body_sha256[:12]}); give that one.")
        masks = masks_of(data["mask_rle"], clip)
        whole = masks_of(data["whole_rle"], clip) if "whole_rle" in data else masks
        return LabelledPerson(avatar, data, motion, moved(motion, body, T_first_world), masks, whole)

    def joint_px(self) -> float:
        """How far the written joints are from those of the written pose."""
        return float(np.abs(self._joints()[0] - self.data["joints_px"]).max())

    def nobody(self) -> int:
        """In how many frames the pose's body joints are in the picture, most of them, and no mask is."""
        pixels, depth_m = self._joints()
        size_wh = np.array(self.masks.shape[:0:-1])
        inside = ((pixels >= 0) & (pixels < size_wh)).all(-1) & (depth_m > 0)
        return int(((inside[:, :BODY_JOINTS].mean(1) > 0.5) & ~self.whole.any((1, 2))).sum())

    def _joints(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (frames, 55, 2) and depths (frames, 55; meters) of the joints that the written pose has."""
        size_hw = (self.masks.shape[1], self.masks.shape[2])
        data = self.data
        K, T_cam_world = (torch.from_numpy(data[key]).float() for key in ("K", "T_cam_world"))
        camera = Camera(K, T_cam_world, size_hw)
        joints = posed_body(self.motion, self.avatar.body).joints
        pixels = camera.project(joints)
        k1, k2 = (float(v) for v in data["distortion"])
        if (k1, k2) != (0.0, 0.0):
            pixels = distorted_pixels(pixels, camera, (k1, k2))
        return pixels.numpy(), camera.to_camera(joints)[..., 2].numpy()

    def box_px(self) -> float:
        """How far the written boxes are from those of the written masks."""
        pairs = zip(self.masks, self.data["box_px"], strict=True)
        return max(float(np.abs(np.array(mask_box(mask)) - box).max()) for mask, box in pairs)


def _motion(data: dict[str, np.ndarray], labels: Path) -> Motion:
    """The motion in a clip's labels. Raises InputError where no body has such coefficients."""
    if not 1 <= len(data["betas"]) <= 300 or not 1 <= data["expression"].shape[1] <= 100:
        raise InputError(f"{labels}: {len(data['betas'])} betas and {data['expression'].shape[1]} of expression.")
    tensors = {key: torch.from_numpy(data[key]).float() for key in ("poses", "trans", "betas", "expression")}
    return Motion(
        poses=tensors["poses"].reshape(-1, 55, 3),
        transl=tensors["trans"],
        betas=tensors["betas"],
        expression=tensors["expression"],
        times_s=torch.from_numpy(data["times_s"]).double(),
        valid=torch.from_numpy(data["valid"]),
        body_sha256=str(data["body_sha256"]),
        name=labels.stem,
    )


def staged_people(plan: Plan, clip: PlannedClip, body: Body) -> tuple[Staged, list[Avatar]]:
    """The clip's scene, set as it was for filming, and its people, the first one first."""
    pairs = ((clip.avatar, clip.motion), *clip.others)
    people = [performer(plan, avatar, motion, body) for avatar, motion in pairs]
    return staged_clip(plan, clip, people[0], people[1:]), [p.avatar for p in people]


def posed_at(avatar: Avatar, motion: Motion, plan: Plan, index: int) -> Gaussians:
    """The avatar at a frame, or at its subframes."""
    film = plan.batch.film
    each = 1 if film.shutter <= 0 else film.subframes
    g = avatar.posed(exposed(motion, film)[index * each : (index + 1) * each], shadowed=True)
    return replace(g, colors=g.frame(each // 2).colors) if each > 1 else g.frame(0)


def _subsampled(frame: np.ndarray) -> np.ndarray:
    """A frame (height, width, 3), in 8-bit steps, with the color resolution that 4:2:0 video keeps: brightness by
    pixel, color by the mean of 2 x 2. Thin, vivid people differ by nothing else from their video."""
    rgb = frame.astype(np.float32)
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
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
