"""A person, what they do, a room and a camera, to `capture.mp4` and everything that is true about it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avatars.body import Body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.clean_plate import ShadedRooms
from avatars.io.files import atomic_path, read_json, require_fresh_folder, write_json
from avatars.io.progress import progress as with_progress
from avatars.io.video import VideoWriter
from avatars.studio.actions import Act, act, turn
from avatars.studio.people import Person
from avatars.studio.plates import plate_of
from avatars.studio.raycast import Plate, Shot, Studio, developed
from avatars.studio.rooms import Room, stool


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a capture: everything in the world with +Y up and the ground at y = 0, in meters and pixels."""

    motion: Motion
    camera: Camera
    masks: np.ndarray
    """(frames, H, W) uint8: the person's visible coverage times 255."""
    joints_m: np.ndarray
    """(frames, 55, 3) world."""
    joints_px: np.ndarray
    """(frames, 55, 2)."""
    keypoints_m: np.ndarray
    """(frames, 133, 3) world, COCO-WholeBody."""
    keypoints_px: np.ndarray
    """(frames, 133, 2)."""
    background: np.ndarray
    """(H, W, 3) uint8 sRGB: the empty room, without noise."""
    background_depth_m: np.ndarray
    """(H, W) float32 camera z, +inf outside."""
    depth_m: np.ndarray | None
    """(frames, H, W) float16: the person's camera z where visible, +inf elsewhere; None when it was not kept."""

    @staticmethod
    def load(folder: str | Path) -> Truth:
        """Read what `capture` wrote beside the video. Raises InputError when it is not such a folder."""
        from PIL import Image

        folder = Path(folder)
        camera = read_json(folder / "camera.json")
        height, width = camera["size_hw"]
        with np.load(folder / "truth.npz") as data:
            arrays = {key: data[key] for key in data.files}
        depth = None
        if (folder / "depth.npz").exists():
            with np.load(folder / "depth.npz") as data:
                depth = data["depth_m"]
        return Truth(
            motion=Motion.load(folder / "motion.npz"),
            camera=Camera(torch.tensor(camera["K"]), torch.tensor(camera["T_cam_world"]), (height, width)),
            background=np.asarray(Image.open(folder / "background.png").convert("RGB")),
            background_depth_m=np.load(folder / "background_depth.npy"),
            depth_m=depth,
            **arrays,
        )


@dataclass(frozen=True, slots=True)
class Capture:
    """A folder with `capture.mp4` and its truth."""

    folder: Path

    @property
    def video(self) -> Path:
        """The clip."""
        return self.folder / "capture.mp4"

    def truth(self) -> Truth:
        """The truth beside the clip."""
        return Truth.load(self.folder)

    def rooms(self) -> ShadedRooms:
        """The room behind the person. Raises InputError where it was not kept."""
        return ShadedRooms.load(self.folder / "rooms.npz")


def camera_for(
    motion: Motion,
    body: Body,
    *,
    seed: int = 0,
    size_hw: tuple[int, int] = (512, 512),
    fill: float = 0.85,
    azimuth_deg: float = 0.0,
) -> Camera:
    """A phone on a tripod, 1.3 to 1.5 m high, so far away that the whole motion fills `fill` of the image's height.

    The vertical field of view is 50 to 60 degrees; `azimuth_deg` moves the camera around the person.
    """
    rng = np.random.default_rng([seed, 41])
    height, width = size_hw
    focal_px = float(height / 2 / np.tan(np.radians(rng.uniform(50.0, 60.0)) / 2))
    height_m = rng.uniform(1.3, 1.5)
    points = body.pose_motion(motion[:: max(len(motion) // 40, 1)]).keypoints_133().reshape(-1, 3)
    top = points[points[:, 1].argmax()] + torch.tensor([0.0, 0.14 if points[:, 1].max() < 1.75 else 0.06, 0.0])
    points = torch.cat([points, top[None], points[points[:, 1].argmin()][None] * torch.tensor([1.0, 0.0, 1.0])])
    azimuth = np.radians(azimuth_deg)
    middle = (points.amin(0) + points.amax(0)) / 2
    aim = float(middle[1])
    near, far = 1.2, 12.0
    for _ in range(24):
        distance = (near + far) / 2
        eye = torch.tensor([np.sin(azimuth) * distance, height_m, np.cos(azimuth) * distance], dtype=torch.float32)
        for _ in range(4):  # raise or lower the aim until the extent is centered
            camera = Camera.looking_at(eye, torch.tensor([0.0, aim, 0.0]), focal_px=focal_px, size_hw=size_hw)
            xy = camera.project(points)
            aim -= float((xy[:, 1].amin() + xy[:, 1].amax()) / 2 - height / 2) / focal_px * distance
        tall = float(xy[:, 1].amax() - xy[:, 1].amin()) / (fill * height)
        wide = float((xy[:, 0] - width / 2).abs().amax()) / (0.47 * width)
        near, far = (distance, far) if max(tall, wide) > 1 else (near, distance)
    return camera


@dataclass(frozen=True, slots=True)
class Filming:
    """How a camera films, and what is kept of a capture."""

    samples: int = 2
    """This many squared rays per pixel hit the person."""
    noise: float = 1.0
    """Of the sensor, times a phone's; 0 for none."""
    threads: int = 2
    """Frames photographed at a time; the pixels are the same for any number."""
    crf: int = 18
    """Of the video's compression."""
    keep_depth: bool = False
    rooms_every: int = 0
    """Keep the room with the person's shadow, and the frame without noise, of every so many frames; 0 for none."""
    show_progress: bool = False


def capture(
    person: Person,
    performance: Act,
    room: Room,
    camera: Camera,
    folder: str | Path,
    *,
    seed: int = 0,
    filming: Filming | None = None,
) -> Capture:
    """Film a performance: write `capture.mp4` and its truth to `folder`, which must not exist or be empty.

    `seed` is the noise's. The truth is `motion.npz`, `camera.json`, `truth.npz`, `background.png`,
    `background_depth.npy`, `person.json` and, with `keep_depth`, `depth.npz`, and with `rooms_every`, `rooms.npz`:
    every so many frames, from the middle of the first so many, the room with the person's shadow but without the
    person, and that frame without noise.
    Raises InputError when the folder is not empty.
    """
    filming = filming or Filming()
    folder = require_fresh_folder(folder, what="A capture")
    folder.mkdir(parents=True, exist_ok=True)
    motion = performance.motion
    room = furnished(room, performance)
    plate = plate_of(room, camera)
    masks = np.zeros((len(motion), *camera.size_hw), np.uint8)
    depth = np.full((len(motion), *camera.size_hw), np.inf, np.float16) if filming.keep_depth else None
    shots = film(person, motion, room, plate, camera, seed=seed, filming=filming)
    if filming.show_progress:
        shots = with_progress(shots, f"Filming {performance.action}", len(motion))
    with VideoWriter(folder / "capture.mp4", fps=motion.fps, crf=filming.crf, threads=1) as writer:
        for index, shot in enumerate(shots):
            writer.write(shot.rgb, float(motion.times_s[index]))
            masks[index] = shot.mask
            if depth is not None:
                depth[index] = np.where(shot.mask > 0, shot.depth_m, np.inf)
    if (every := filming.rooms_every) > 0:
        frames = list(range(every // 2, len(motion), every))
        film_rooms(person, motion, room, plate, camera, frames).save(folder / "rooms.npz")
    _write_truth(folder, person, performance, camera, plate, masks, depth)
    return Capture(folder)


def film_rooms(
    person: Person, motion: Motion, room: Room, plate: Plate, camera: Camera, frames: list[int]
) -> ShadedRooms:
    """The room behind the person in chosen frames, their shadow on it; and those frames without noise."""
    studio = Studio(person.surface, plate, camera, room.light, noise=0.0)
    with torch.no_grad():
        A = person.body.pose_motion(motion).A_world_rest.double().numpy()
    posed = [person.surface.posed(A[i]) for i in frames]
    rooms = np.stack([studio.shoot_room(vertices) for vertices in posed])
    return ShadedRooms(tuple(frames), rooms, np.stack([studio.shoot(vertices, 0).rgb for vertices in posed]))


def furnished(room: Room, performance: Act) -> Room:
    """The room with what the performance needs in it: a stool to sit on."""
    if performance.stool_height_m is None:
        return room
    x, _, z = performance.stool_place_m
    return room.with_parts(stool(performance.stool_height_m, x, z))


def film(
    person: Person,
    motion: Motion,
    room: Room,
    plate: Plate,
    camera: Camera,
    *,
    seed: int = 0,
    filming: Filming | None = None,
) -> Iterator[Shot]:
    """Photograph every frame of a motion in order, several frames at a time on the filming's threads."""
    if motion.body_sha256 != person.body.sha256:
        theirs, ours = motion.body_sha256[:12], person.body.sha256[:12]
        raise InputError(f"Motion {motion.name!r} belongs to body {theirs}, the person to {ours}.")
    filming = filming or Filming()
    surface, threads = person.surface, filming.threads
    with torch.no_grad():
        A = person.body.pose_motion(motion).A_world_rest.double().numpy()
    how = {"samples": filming.samples, "noise": filming.noise, "seed": seed}
    studios = [Studio(surface, plate, camera, room.light, **how) for _ in range(threads)]

    def shoot(studio: Studio, index: int) -> Shot:
        return studio.shoot(surface.posed(A[index]), index)

    with ThreadPoolExecutor(threads) as pool:
        pending = [pool.submit(shoot, studios[i], i) for i in range(min(threads, len(motion)))]
        for index in range(len(motion)):
            shot = pending[index % threads].result()
            following = index + threads
            if following < len(motion):
                pending[index % threads] = pool.submit(shoot, studios[index % threads], following)
            yield shot


def _write_truth(
    folder: Path,
    person: Person,
    performance: Act,
    camera: Camera,
    plate: Plate,
    masks: np.ndarray,
    depth: np.ndarray | None,
) -> None:
    from PIL import Image

    motion = performance.motion
    with torch.no_grad():
        posed = person.body.pose_motion(motion)
        joints, keypoints = posed.joints, posed.keypoints_133()
        joints_px, keypoints_px = camera.project(joints), camera.project(keypoints)
    motion.save(folder / "motion.npz")
    with atomic_path(folder / "truth.npz") as aside, open(aside, "wb") as file:
        np.savez_compressed(
            file, masks=masks, joints_m=joints.numpy(), joints_px=joints_px.numpy(),
            keypoints_m=keypoints.numpy(), keypoints_px=keypoints_px.numpy(),
        )  # fmt: skip
    if depth is not None:
        with atomic_path(folder / "depth.npz") as aside, open(aside, "wb") as file:
            np.savez_compressed(file, depth_m=depth)
    with atomic_path(folder / "background.png") as aside:
        Image.fromarray(developed(plate)).save(aside)
    with atomic_path(folder / "background_depth.npy") as aside:
        np.save(aside, plate.depth_m.astype(np.float32))
    write_json(folder / "person.json", {**person.describe(), "action": performance.action})
    write_json(
        folder / "camera.json",
        {"K": camera.K.tolist(), "T_cam_world": camera.T_cam_world.tolist(), "size_hw": list(camera.size_hw)},
    )


@dataclass(frozen=True, slots=True)
class Variety:
    """What of a sampled capture differs from what its seed alone gives."""

    room_seed: int | None = None
    camera_seed: int | None = None
    take: int = 0
    """Which of a person's performances of an action."""
    azimuth_deg: float = 0.0
    """How far the camera stands around the person."""
    fps: float | None = None
    """None: 18 for a turn, 30 for actions."""


def sample_capture(
    folder: str | Path,
    *,
    seed: int = 0,
    action: str = "turn",
    size_hw: tuple[int, int] = (512, 512),
    frames: int = 324,
    body: Body | None = None,
    variety: Variety | None = None,
    filming: Filming | None = None,
) -> Capture:
    """A whole capture from a seed: person `seed` does `action` in a sampled room before a sampled camera.

    `frames` counts for "turn" alone; an action lasts as long as it takes.
    """
    variety, person = variety or Variety(), Person.sample(seed, body)
    performance = perform_action(person, action, frames=frames, fps=variety.fps, take=variety.take)
    camera = camera_for(
        performance.motion,
        person.body,
        seed=seed if variety.camera_seed is None else variety.camera_seed,
        size_hw=size_hw,
        azimuth_deg=variety.azimuth_deg,
    )
    room = Room.sample(seed if variety.room_seed is None else variety.room_seed)
    return capture(person, performance, room, camera, folder, seed=seed, filming=filming)


def perform_action(person: Person, action: str, *, frames: int = 324, fps: float | None = None, take: int = 0) -> Act:
    """The act of a person: "turn" (with `frames` at 18 per second) or one of `ACTIONS` (at 30)."""
    sole = person.wardrobe.sole_m
    if action == "turn":
        return turn(
            person.body, person.betas, person.manner, frames=frames, fps=fps or 18.0, take=take, shoe_sole_m=sole
        )
    return act(action, person.body, person.betas, person.manner, fps=fps or 30.0, take=take, shoe_sole_m=sole)
