"""A video -> a Track: SMPL-X motion of its person, the camera, the keypoints and the masks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avatars import __version__
from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.progress import StageClock, progress
from avatars.io.video import VideoInfo, probe, read_frames, require_decodable, video_sha256
from avatars.io.work_folder import WorkFolder
from avatars.perception.backend_table import options_by_name
from avatars.perception.backends import whole_body_detector
from avatars.perception.chosen_person import ChosenPerson, choose_person, sample_step
from avatars.perception.containers import Keypoints
from avatars.perception.detector import WholeBodyDetector
from avatars.perception.imported_keypoints import NoDetector, content_hash, laid_over, read_keypoints
from avatars.perception.mediapipe_people import MediaPipePeople
from avatars.perception.stage import Perceived, perceive
from avatars.tracking.capture_check import require_one_person, require_person
from avatars.tracking.clip_camera import FOCAL_PER_LONG_SIDE, ClipCamera
from avatars.tracking.config import TrackConfig
from avatars.tracking.face_and_hands import FaceAndHands
from avatars.tracking.initialization import root_rotations, side_exchanges
from avatars.tracking.joint_confidence import joint_confidence
from avatars.tracking.keypoint_fit import ClipFacts, KeypointWeights
from avatars.tracking.model_files import ModelFiles, models_of
from avatars.tracking.smoothing import steadied
from avatars.tracking.track import SourceVideo, Track, as_json
from avatars.tracking.windows import fit_clip
from avatars.tracking.world_frame import place_in_world, turns_around

__all__ = ["SourceVideo", "Track", "TrackConfig", "track_keypoints", "track_video"]

log = logging.getLogger(__name__)

MIN_ITERATIONS = 20
HEIGHTS_M = 0.5, 2.6


def track_video(
    path: str | Path,
    *,
    config: TrackConfig | None = None,
    body: Body | None = None,
    clock: StageClock | None = None,
    work: str | Path | None = None,
    keypoints_file: str | Path | None = None,
    check: Callable[[Perceived], None] | None = None,
) -> Track:
    """Follow the one person in a video.

    With `work`, finished pieces are kept in that folder, and pieces that the same job left there are taken up; the
    track's masks are read from there. `check` judges what was seen before the pose is fitted; without it, two people
    are refused unless `config.person` says whom to follow. With `keypoints_file`, its keypoints take the place of the
    detector's (`load_keypoints_json`).

    Raises InputError when the file is no video, when nobody is in it, or when what was seen is refused.
    """
    config, clock = config or TrackConfig(), clock or StageClock()
    _require_possible(config)
    info = probe(path, fps=config.fps)
    require_decodable(info)
    imported = None if keypoints_file is None else read_keypoints(keypoints_file, info.size_hw, info.n_frames)
    detector = open_detector(config, imported=imported is not None)
    options = options_by_name(config.backend)
    networks = FaceAndHands.open(config.face, config.hands, options.get(config.face), options.get(config.hands))
    with clock.stage("body model"):
        body = body or load_body(config.body)
    source = SourceVideo(str(info.path), video_sha256(info.path), info.size_hw)
    if keypoints_file is not None:
        source = replace(source, keypoints=str(keypoints_file), keypoints_sha256=content_hash(keypoints_file))
    models = models_of(config)
    folder = None if work is None else WorkFolder.open(work, _job(source, config, body, models))
    try:
        with clock.stage("perception"):
            seen = perceive_video(info, config, detector=detector, imported=imported, work=folder)
        if check is not None:
            check(seen)
        elif config.person == "only" and imported is None:
            require_one_person(seen.quality, info.path)
        track = _fitted(info, source, seen, networks, body, config, clock, folder)
        return replace(track, models=models)
    except InputError:
        if folder is not None:
            folder.discard()
        raise


def _require_possible(config: TrackConfig) -> None:
    if config.iterations < MIN_ITERATIONS:
        raise InputError(f"--iterations {config.iterations} is too few for a fit; take {MIN_ITERATIONS} or more.")
    low, high = HEIGHTS_M
    if config.height_m is not None and not low <= config.height_m <= high:
        raise InputError(f"--height-m {config.height_m:g}: a person's height in meters, {low:g} to {high:g}.")
    if config.focal_px is not None and not 0 < config.focal_px < float("inf"):
        raise InputError(f"--focal-px {config.focal_px:g}: a focal length in pixels, above 0.")
    if isinstance(config.person, int) and config.person < 0:
        raise InputError(f"--person {config.person}: people are counted from the left, from 0.")


def open_detector(config: TrackConfig, *, imported: bool = False) -> WholeBodyDetector:
    """The detector that a config names, with its pieces there. Raises InputError, BackendMissing."""
    options = options_by_name(config.backend)
    if config.detector == "none":
        if not imported:
            raise InputError("--detector none sees nobody; give --keypoints FILE, or take another detector.")
        return NoDetector()
    keypoints, _, masks = config.detector.partition("+")
    return whole_body_detector(config.detector, options.get(keypoints), options.get(masks))


def perceive_video(
    info: VideoInfo,
    config: TrackConfig,
    *,
    detector: WholeBodyDetector | None = None,
    imported: Keypoints | None = None,
    work: WorkFolder | None = None,
) -> Perceived:
    """What is seen of the person to be followed. Raises InputError when nobody is."""
    detector = detector or open_detector(config)
    masks = config.masks and config.detector != "none"
    person = None if config.person == "only" else _chosen_person(info, config.person, work)
    seen = perceive(info, detector, masks=masks, person=person, work=work)
    if imported is not None:
        keypoints, same = laid_over(imported, seen.keypoints)
        seen = replace(seen, keypoints=keypoints, masks=None if seen.masks is None else seen.masks.without(~same))
    require_person(seen.keypoints.valid, info.path)
    return seen


def _job(source: SourceVideo, config: TrackConfig, body: Body, models: tuple[ModelFiles, ...]) -> dict[str, object]:
    """What determines a track's pieces."""
    inputs = {"video": source.sha256, "keypoints": source.keypoints_sha256, "body": body.sha256}
    inputs |= {f"model {model.name}": f"{model.sha256} {model.versions}".strip() for model in models}
    return {"version": __version__, **inputs, **as_json(config)}


def _fitted(
    info: VideoInfo,
    source: SourceVideo,
    seen: Perceived,
    networks: FaceAndHands,
    body: Body,
    config: TrackConfig,
    clock: StageClock,
    work: WorkFolder | None,
) -> Track:
    with clock.stage("camera"):
        known = ClipCamera.of(info, config.focal_px, seen.masks)
    fitted = replace(config, focal_px=known.focal_px)
    with clock.stage("pose fit"):
        motion, camera, keypoints = track_keypoints(
            seen.keypoints,
            torch.from_numpy(info.times_s),
            body,
            config=replace(fitted, detector="imported") if source.keypoints else fitted,  # its points lie elsewhere
            name=info.path.stem,
            work=work,
            up_cam=known.up_cam,
        )
    if networks.any:
        with clock.stage("face and hands"):
            motion = networks.refined(lambda: read_frames(info), motion, keypoints, camera, body, work)
    with clock.stage("confidence"):
        motion = replace(motion, confidence=joint_confidence(motion, camera, keypoints, body, seen.quality))
    return Track(motion, camera, keypoints, seen.masks, source, config, seen.quality, focal_source=known.focal_source)


def _chosen_person(info: VideoInfo, which: Literal["largest"] | int, work: WorkFolder | None) -> ChosenPerson:
    """Where the person to be followed is, found in a pass of its own over samples of the clip."""
    path = None if work is None else work.piece("people", 0)
    if path is not None and path.exists():
        return ChosenPerson.load(path)
    indices = np.arange(0, info.n_frames, sample_step(info.times_s))
    frames = progress(read_frames(info, indices), f"Looking for people in {info.path.name}", len(indices))
    finder = MediaPipePeople()
    try:
        samples = zip(indices.tolist(), frames, strict=True)
        found = choose_person(samples, finder, info.times_s, which, name=info.path.name)
    finally:
        finder.close()
    if path is not None:
        found.save(path)
    return found


def track_keypoints(
    keypoints: Keypoints,
    times_s: Tensor,
    body: Body,
    *,
    config: TrackConfig | None = None,
    name: str = "",
    work: WorkFolder | None = None,
    up_cam: tuple[float, float, float] | None = None,
) -> tuple[Motion, Camera, Keypoints]:
    """Keypoints (from any detector) -> motion, camera, and the keypoints with their sides put right.

    `up_cam` is up in the camera's axes (x right, y down, z ahead) where it is known; else the person tells it.
    """
    config = config or TrackConfig()
    up = None if up_cam is None else torch.tensor(up_cam) * torch.tensor([1.0, -1.0, -1.0])  # to view axes
    seen = keypoints[keypoints.valid]
    swapped = side_exchanges(seen, times_s[keypoints.valid])
    if bool(swapped.any()):
        log.info("%s: left and right exchanged in %d of %d frames", name, int(swapped.sum()), len(seen))
    seen = seen.mirrored(swapped)
    held = config.moves == "little" and turns_around(root_rotations(seen, times_s[keypoints.valid]))
    facts = ClipFacts(
        focal_px=config.focal_px or FOCAL_PER_LONG_SIDE * max(keypoints.size_hw),
        height_m=config.height_m,
        up=up,
        detector=config.detector.partition("+")[0],  # whose masks they are does not move its points
    )
    weights = KeypointWeights.of_a_held_turn() if held else None
    fit = fit_clip(
        seen, times_s[keypoints.valid], body, facts, work=work, weights=weights, iterations=config.iterations
    )
    fit = steadied(fit, times_s[keypoints.valid])
    motion, camera = place_in_world(
        fit,
        body,
        size_hw=keypoints.size_hw,
        times_s=times_s,
        valid=keypoints.valid,
        score=seen.score,
        name=name,
        up=up,
    )
    everywhere = torch.zeros(len(keypoints), dtype=torch.bool)
    everywhere[keypoints.valid] = swapped
    return motion, camera, keypoints.mirrored(everywhere)
