"""A video -> a Track: SMPL-X motion of its person, the camera, the keypoints and the masks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from avatars.body import Body
from avatars.camera import Camera
from avatars.capture_check import require_one_person, require_person
from avatars.errors import InputError
from avatars.files import atomic_path, read_json, sha256_of, write_json
from avatars.keypoint_fit import fit_keypoints
from avatars.motion import Motion
from avatars.perception.backends import whole_body_detector
from avatars.perception.containers import Detection, Keypoints
from avatars.progress import StageClock, progress
from avatars.track_command import TrackConfig
from avatars.tracking_init import side_exchanges
from avatars.video import VideoInfo, probe, read_frames
from avatars.world_frame import place_in_world

log = logging.getLogger(__name__)

MIN_ITERATIONS = 20
FOCAL_PER_LONG_SIDE = 1.1
"""Focal length over the longer side where nothing is known: between a phone's main camera (about 0.8 as video) and a
portrait lens."""
PEOPLE_SAMPLES = 16
"""Frames in which further people are looked for."""
TWO_PEOPLE_SHARE, TWO_PEOPLE_MIN = 0.25, 3
MIN_TORSO_SCORE = 0.35
MIN_ARM_SCORE = 0.8


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """Which video a track was made from."""

    path: str
    sha256: str
    size_hw: tuple[int, int]
    """As displayed, upright."""


@dataclass(frozen=True, slots=True)
class Track:
    """One person followed through one video of a still camera."""

    motion: Motion
    """World: +Y up, ground y = 0, the person near the origin."""
    camera: Camera
    """One camera for all frames, at the video's own size, upright."""
    keypoints: Keypoints
    masks: UInt8[Tensor, "frames height width"] | None
    """Probability of the person times 255; None where the track was made without masks."""
    video: SourceVideo
    config: TrackConfig

    def save(self, folder: str | Path) -> Path:
        """Write `motion.npz`, `keypoints.npz`, `masks.npz` and, last, `track.json`."""
        folder = Path(folder)
        self.motion.save(folder / "motion.npz")
        self.keypoints.save(folder / "keypoints.npz")
        if self.masks is not None:
            _save_masks(folder / "masks.npz", self.masks.numpy())
        camera = {
            "K": self.camera.K.tolist(),
            "T_cam_world": self.camera.T_cam_world.tolist(),
            "size_hw": list(self.camera.size_hw),
        }
        config = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self.config).items()}
        write_json(folder / "track.json", {"video": asdict(self.video), "camera": camera, "config": config})
        return folder

    @staticmethod
    def load(folder: str | Path) -> Track:
        """Read what `save` wrote. Raises InputError when the folder is no track."""
        folder = Path(folder)
        receipt = read_json(folder / "track.json")
        try:
            video, camera, config = receipt["video"], receipt["camera"], receipt["config"]
            config["body"] = Path(config["body"]) if config["body"] else None
            masks = _load_masks(folder / "masks.npz") if (folder / "masks.npz").exists() else None
            return Track(
                motion=Motion.load(folder / "motion.npz"),
                camera=Camera(torch.tensor(camera["K"]), torch.tensor(camera["T_cam_world"]), _pair(camera["size_hw"])),
                keypoints=Keypoints.load(folder / "keypoints.npz"),
                masks=None if masks is None else torch.from_numpy(masks),
                video=SourceVideo(video["path"], video["sha256"], _pair(video["size_hw"])),
                config=TrackConfig(**config),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder / 'track.json'} is not a track's receipt (missing or odd: {error}).") from None


def track_video(
    path: str | Path,
    *,
    config: TrackConfig | None = None,
    body: Body | None = None,
    clock: StageClock | None = None,
) -> Track:
    """Follow the one person in a video.

    Raises InputError when the file is no video, when nobody is in it, or when two people are (unless
    `config.person` is "largest").
    """
    config, clock = config or TrackConfig(), clock or StageClock()
    if config.iterations < MIN_ITERATIONS:
        raise InputError(f"--iterations {config.iterations} is too few for a fit; take {MIN_ITERATIONS} or more.")
    info = probe(path)
    detector = whole_body_detector(config.detector)
    with clock.stage("body model"):
        body = body or Body.load(config.body)
    with clock.stage("perception"):
        keypoints, masks = perceive(info, detector, config)
    with clock.stage("pose fit"):
        motion, camera, keypoints = track_keypoints(
            keypoints, torch.from_numpy(info.times_s), body, config=config, name=info.path.stem
        )
    source = SourceVideo(str(info.path), sha256_of(info.path), info.size_hw)
    return Track(motion, camera, keypoints, masks, source, config)


def perceive(info: VideoInfo, detector: Any, config: TrackConfig) -> tuple[Keypoints, Tensor | None]:
    """Keypoints and masks of every frame. Raises InputError for nobody and for two people."""
    every = max(1, info.n_frames // PEOPLE_SAMPLES)
    frames = progress(read_frames(info), f"Looking at {info.path.name}", info.n_frames)
    detections = detector.detect(frames, masks=config.masks, count_people_every=every)
    keypoints, masks, people = _collected(detections, info, with_masks=config.masks)
    require_person(keypoints.valid, info.path)
    _check_people(people, info.path, config)
    return keypoints, masks


def _collected(
    detections: Iterator[Detection], info: VideoInfo, *, with_masks: bool
) -> tuple[Keypoints, Tensor | None, dict[int, int]]:
    """Detections as containers, and the number of people where it was looked for."""
    n = info.n_frames
    xy, score = np.zeros((n, 133, 2), np.float32), np.zeros((n, 133), np.float32)
    world_m = np.full((n, 133, 3), np.nan, np.float32)
    masks = np.zeros((n, *info.size_hw), np.uint8) if with_masks else None
    people: dict[int, int] = {}
    for i, detection in enumerate(detections):
        xy[i], score[i] = detection.xy, detection.score
        if detection.world_m is not None:
            world_m[i] = detection.world_m
        if masks is not None and detection.mask is not None:
            masks[i] = detection.mask
        if detection.n_people is not None:
            people[i] = detection.n_people
    valid = _shows_person(score)
    if masks is not None:
        masks[~valid] = 0
    keypoints = Keypoints(
        torch.from_numpy(xy), torch.from_numpy(score), torch.from_numpy(valid), info.size_hw, torch.from_numpy(world_m)
    )
    return keypoints, None if masks is None else torch.from_numpy(masks), people


def _shows_person(score: np.ndarray) -> np.ndarray:
    """Frames whose shoulders, at least, were found with some confidence.

    None at all when no frame shows a face and the arms are doubtful throughout: a hand that was taken for a body.
    """
    shown = score[:, 5:7].mean(1) > MIN_TORSO_SCORE
    faceless = not (score[shown, 23:91] > 0).any()
    if faceless and shown.any() and np.median(score[shown, 7:9].max(1)) < MIN_ARM_SCORE:
        return np.zeros_like(shown)
    return shown


def _check_people(people: dict[int, int], video: Path, config: TrackConfig) -> None:
    crowded = [frame for frame, count in people.items() if count > 1]
    if len(crowded) < max(TWO_PEOPLE_MIN, TWO_PEOPLE_SHARE * len(people)) and len(crowded) < len(people):
        return
    if not crowded:
        return
    if config.person == "only":
        require_one_person(crowded, len(people), video)
    log.warning("%s: two people in %d of %d sampled frames; one is followed.", video.name, len(crowded), len(people))


def track_keypoints(
    keypoints: Keypoints,
    times_s: Tensor,
    body: Body,
    *,
    config: TrackConfig | None = None,
    name: str = "",
) -> tuple[Motion, Camera, Keypoints]:
    """Keypoints (from any detector) -> motion, camera, and the keypoints with their sides put right."""
    config = config or TrackConfig()
    seen = keypoints[keypoints.valid]
    swapped = side_exchanges(seen, times_s[keypoints.valid])
    if bool(swapped.any()):
        log.info("%s: left and right exchanged in %d of %d frames", name, int(swapped.sum()), len(seen))
    seen = seen.mirrored(swapped)
    fit = fit_keypoints(
        seen,
        times_s[keypoints.valid],
        body,
        focal_px=config.focal_px or FOCAL_PER_LONG_SIDE * max(keypoints.size_hw),
        height_m=config.height_m,
        iterations=config.iterations,
        detector=config.detector,
    )
    motion, camera = place_in_world(
        fit, body, size_hw=keypoints.size_hw, times_s=times_s, valid=keypoints.valid, name=name
    )
    everywhere = torch.zeros(len(keypoints), dtype=torch.bool)
    everywhere[keypoints.valid] = swapped
    return motion, camera, keypoints.mirrored(everywhere)


def _save_masks(path: Path, masks: np.ndarray) -> None:
    """Masks as one zip of the boxes that hold them: mostly empty frames cost nothing."""
    boxes = np.zeros((len(masks), 4), np.int32)
    pixels = []
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[i] = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        top, bottom, left, right = boxes[i]
        pixels.append(mask[top:bottom, left:right].ravel())
    with atomic_path(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, shape=np.array(masks.shape), boxes=boxes, pixels=np.concatenate(pixels))


def _load_masks(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        shape, boxes, pixels = archive["shape"], archive["boxes"], archive["pixels"]
    masks = np.zeros(shape, np.uint8)
    start = 0
    for mask, (top, bottom, left, right) in zip(masks, boxes, strict=True):
        size = int((bottom - top) * (right - left))
        mask[top:bottom, left:right] = pixels[start : start + size].reshape(bottom - top, right - left)
        start += size
    return masks


def _pair(values: list[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
