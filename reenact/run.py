"""Plan -> finished clips: poses each avatar once per motion, draws it in every place, writes video, labels, receipt.

A clip exists when its receipt does; receipts are written last, so a run that was stopped anywhere goes on where it was.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actionrec.manifest import ManifestClip, write_manifest
from avatars import __version__
from avatars.avatar import Avatar
from avatars.body import Body
from avatars.errors import InputError
from avatars.files import atomic_path, read_json, require_space, sha256_of, write_json
from avatars.gaussians import Gaussians
from avatars.motion import Motion
from avatars.motion_formats import load_motion
from avatars.progress import StageClock, progress
from avatars.video import VideoWriter
from compose.background import Background, PlaceView
from compose.light import light_gain
from compose.placement import Placement, PlacementRules, place
from compose.shadow import ShadowLight
from reenact.batch import BackgroundEntry, load_batch
from reenact.labels import ClipLabels, MaskTrack
from reenact.plan import Plan, PlannedClip, make_plan, open_output
from reenact.retarget import Retargeted, retarget
from reenact.scene import Scene

log = logging.getLogger(__name__)

CHUNK_FRAMES = 8
_QUEUE_FRAMES = 16


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that could not be made."""

    id: str
    label: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run did."""

    out: Path
    planned: int
    made: int
    already_there: int
    frames: int
    seconds: float
    failures: tuple[Failure, ...]

    @property
    def fps(self) -> float:
        """Finished frames per second of the whole run."""
        return self.frames / max(self.seconds, 1e-9)


@dataclass
class _Progress:
    made: int = 0
    frames: int = 0
    failures: list[Failure] = field(default_factory=list)


def run_batch(path: str | Path, *, clock: StageClock | None = None) -> RunSummary:
    """Make every clip of a BATCH.yaml that is not there yet.

    Raises InputError when the batch, an input or the output folder cannot be used, before anything is rendered; and
    when the disk is full, with what is finished left whole. A clip that fails is counted and the others are made.
    """
    start = time.perf_counter()
    clock = clock or StageClock()
    with clock.stage("plan"):
        plan = make_plan(load_batch(path))
        body = Body.load(plan.batch.body)
        _check_inputs(plan, body)
    out = open_output(plan)
    missing = [group for group in (_unfinished(out, group) for group in plan.groups()) if group]
    count = sum(map(len, missing))
    require_space(out, needed_mib=count * _expected_mib(plan) + 16)
    state = _Progress()
    try:
        with torch.no_grad():
            for group in progress(missing, f"{count} clips"):
                _make_group(plan, group, body, out, clock, state)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(
            f"No space left for {out}: {len(plan.clips) - count + state.made} of {len(plan.clips)} clips are whole. "
            "Free some and run the same command again; it goes on where it stopped."
        ) from None
    finally:
        _conclude(plan, out, state)
    seconds = time.perf_counter() - start
    already = len(plan.clips) - count
    return RunSummary(out, len(plan.clips), state.made, already, state.frames, seconds, tuple(state.failures))


def _check_inputs(plan: Plan, body: Body) -> None:
    """Open every input once, so that what cannot be used stops the run before its work starts."""
    for entry in plan.batch.avatars:
        Avatar.load(entry.path, body)
    for entry in plan.batch.motions:
        _motion(entry.path, body)
    for index in sorted({clip.background for clip in plan.clips}):
        _background(plan.batch.backgrounds[index])


def _expected_mib(plan: Plan) -> float:
    """Generous size of one clip of 10 s."""
    height, width = plan.batch.size_hw
    return 10 * plan.batch.fps * (0.03 * height * width + 8_000) / 2**20


def _unfinished(out: Path, group: tuple[PlannedClip, ...]) -> tuple[PlannedClip, ...]:
    return tuple(clip for clip in group if not _receipt_path(out, clip).is_file())


def _receipt_path(out: Path, clip: PlannedClip) -> Path:
    return out / "receipts" / f"{clip.id}.json"


def _video_path(clip: PlannedClip) -> str:
    """Where a clip lies in its data set."""
    folder = re.sub(r"[^\w.-]+", "_", clip.label).strip(".") or "_"
    return f"clips/{folder}/{clip.id}.mp4"


@lru_cache(maxsize=8)
def _background(entry: BackgroundEntry) -> Background:
    view = PlaceView(entry.camera_height_m, entry.horizon, entry.focal_px)
    return Background.load(entry.path, view, tags=entry.tags, licence=entry.licence)


@contextmanager
def _recorded(state: _Progress, clips: tuple[PlannedClip, ...], stage: str) -> Iterator[None]:
    """Turn a failure of the block into a Failure of each clip; a full disk and Ctrl-C pass."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        state.failures += [Failure(c.id, c.label, stage, f"{type(error).__name__}: {error}") for c in clips]
    except Exception as error:
        name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        state.failures += [Failure(c.id, c.label, stage, f"{name}{error}") for c in clips]
        log.debug("%s failed", stage, exc_info=True)


def _make_group(
    plan: Plan, group: tuple[PlannedClip, ...], body: Body, out: Path, clock: StageClock, state: _Progress
) -> None:
    """All clips of one avatar and motion."""
    batch = plan.batch
    with _recorded(state, group, "retarget"), clock.stage("retarget"):
        avatar = _avatar(batch.avatars[group[0].avatar].path, body)
        motion = _motion(batch.motions[group[0].motion].path, body)
        retargeted = retarget(motion, body, avatar.betas, fps=batch.fps)
        shots = []
    if state.failures and state.failures[-1].id == group[-1].id:
        return
    for clip in group:
        with _recorded(state, (clip,), "place"), clock.stage("place"):
            shots.append(_shot(plan, clip, avatar, retargeted))
    if not shots:
        return
    with _recorded(state, tuple(shot.clip for shot in shots), "render"):
        _film(shots, avatar, retargeted, out, batch.fps, batch.crf, clock)
        with clock.stage("labels"):
            for shot in shots:
                _finish(plan, shot, body, retargeted, out)
                state.made += 1
                state.frames += len(retargeted.motion)


@lru_cache(maxsize=1)
def _avatar(path: Path, body: Body) -> Avatar:
    return Avatar.load(path, body)


@lru_cache(maxsize=256)
def _motion(path: Path, body: Body) -> Motion:
    return load_motion(path, body)


@dataclass(frozen=True, slots=True)
class _Shot:
    """One clip that is about to be filmed."""

    clip: PlannedClip
    background: Background
    placement: Placement
    scene: Scene
    masks: MaskTrack


def _shot(plan: Plan, clip: PlannedClip, avatar: Avatar, retargeted: Retargeted) -> _Shot:
    """Place the motion and set the scene. Raises NoPlacement."""
    batch = plan.batch
    entry = batch.backgrounds[clip.background]
    whole = _background(entry)
    rules = PlacementRules(
        batch.person_height, entry.at, entry.distance_m, entry.heading_deg, entry.crop, entry.floor_m or (0.0, math.inf)
    )
    placement = place(retargeted.swept, retargeted.height_m, whole.camera, batch.size_hw, rules, clip.seed)
    if placement.relaxed:
        log.warning("%s: person %.0f%% of the frame, smaller than asked", clip.id, 100 * placement.person_height)
    background = whole.fitted(batch.size_hw, placement.crop)
    scene = Scene.of(
        background,
        placement.T_world_motion,
        gain=light_gain(background.rgb) if batch.match_light else None,
        shadow=ShadowLight() if batch.shadow else None,
    )
    return _Shot(clip, background, placement, scene, MaskTrack(batch.size_hw))


def _film(
    shots: list[_Shot], avatar: Avatar, retargeted: Retargeted, out: Path, fps: float, crf: int, clock: StageClock
) -> None:
    """Pose the avatar frame by frame and draw it in the scene of every shot."""
    with ExitStack() as stack:
        writers = [stack.enter_context(_Encoder(out / _video_path(s.clip), fps=fps, crf=crf)) for s in shots]
        for gaussians in _posed_frames(avatar, retargeted, clock):
            for shot, writer in zip(shots, writers, strict=True):
                frame, alpha, (top, left) = shot.scene.draw(gaussians, clock)
                with clock.stage("masks"):
                    shot.masks.add(alpha, top, left)
                with clock.stage("encode (waiting)"):
                    writer.write(frame)
        with clock.stage("encode (waiting)"):
            stack.close()


def _posed_frames(avatar: Avatar, retargeted: Retargeted, clock: StageClock) -> Iterator[Gaussians]:
    """The posed Gaussians of one frame after the other, in the motion's world."""
    motion = retargeted.motion
    for first in range(0, len(motion), CHUNK_FRAMES):
        with clock.stage("pose"):
            chunk = avatar.posed(motion[first : first + CHUNK_FRAMES])
        for i in range(chunk.means.shape[0]):
            yield Gaussians(
                chunk.means[i],
                chunk.quats[i],
                _of_frame(chunk.scales, i, 2),
                _of_frame(chunk.opacities, i, 1),
                _of_frame(chunk.colors, i, 2),
            )


def _of_frame(values: Tensor, frame: int, ndim: int) -> Tensor:
    """Values of one frame; what all frames share has no frames dimension."""
    return values[frame] if values.ndim > ndim else values


class _Encoder:
    """A VideoWriter in its own thread, so that encoding runs beside rendering; `write` waits when 16 frames are due."""

    def __init__(self, path: Path, *, fps: float, crf: int) -> None:
        self._writer = VideoWriter(path, fps=fps, crf=crf, threads=1)  # one thread: the same bytes on any machine
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue(_QUEUE_FRAMES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._encode, daemon=True)

    def __enter__(self) -> _Encoder:
        self._writer.__enter__()
        self._thread.start()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Queue a frame (height, width, 3) uint8. Raises what the encoder raised."""
        if self._error is not None:
            raise self._error
        self._frames.put(frame)

    def _encode(self) -> None:
        while (frame := self._frames.get()) is not None:
            if self._error is None:
                try:
                    self._writer.write(frame)
                except BaseException as error:
                    self._error = error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._frames.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            self._writer.__exit__(type(self._error), self._error, None)
            raise self._error
        self._writer.__exit__(kind, error, trace)


def _finish(plan: Plan, shot: _Shot, body: Body, retargeted: Retargeted, out: Path) -> None:
    """Labels, then the receipt: from then on the clip exists."""
    clip = shot.clip
    video, label_path = _video_path(clip), f"labels/{clip.id}.npz"
    labels = ClipLabels.of(retargeted, body, shot.placement.T_world_motion, shot.background.camera)
    labels.save(out / label_path, shot.masks)
    made_from = _made_from(plan, clip)
    manifest = ManifestClip(
        id=clip.id,
        path=video,
        label=clip.label,
        subject=made_from["avatar"]["name"],
        source=made_from["motion"]["name"],
        kind="synthetic",
        n_frames=len(retargeted.motion),
        fps=plan.batch.fps,
        size_hw=plan.batch.size_hw,
        sha256=sha256_of(out / video),
        background=made_from["background"]["name"],
        licence="; ".join(dict.fromkeys(part["licence"] for part in made_from.values() if part["licence"])),
    )
    receipt = {
        "clip": asdict(manifest),
        "labels": {"path": label_path, "sha256": sha256_of(out / label_path)},
        "made_from": made_from,
        "made_by": f"splat-avatars {__version__}",
        "seed": clip.seed,
        "placement": asdict(shot.placement),
        "camera_assumed": list(shot.background.assumed),
        "leg_scale": round(retargeted.leg_scale, 5),
        "first_source_frame": retargeted.first_frame,
        "settings": plan.settings(),
    }
    write_json(_receipt_path(out, clip), receipt)


def _made_from(plan: Plan, clip: PlannedClip) -> dict[str, dict[str, str]]:
    """Name, hash and licence of the avatar, the motion and the place."""
    avatar, motion = plan.batch.avatars[clip.avatar], plan.batch.motions[clip.motion]
    background = plan.batch.backgrounds[clip.background]
    return {
        "avatar": {"name": avatar.name, "sha256": plan.avatar_sha256[clip.avatar], "licence": avatar.licence},
        "motion": {"name": motion.path.stem, "sha256": plan.motion_sha256[clip.motion], "licence": motion.licence},
        "background": {
            "name": background.name,
            "sha256": plan.background_sha256[clip.background],
            "licence": background.licence,
        },
    }


def _conclude(plan: Plan, out: Path, state: _Progress) -> None:
    """Write the manifest of the clips that exist, in the plan's order, and the failures of this run."""
    receipts = (_receipt_path(out, clip) for clip in plan.clips)
    clips = [ManifestClip.from_dict(read_json(p)["clip"], str(p)) for p in receipts if p.is_file()]
    write_manifest(out / "manifest.jsonl", clips)
    failures = out / "failures.jsonl"
    if state.failures:
        import json

        with atomic_path(failures) as aside:
            aside.write_text("".join(json.dumps(asdict(f), ensure_ascii=False) + "\n" for f in state.failures), "utf-8")
    else:
        failures.unlink(missing_ok=True)
    _sweep(out)


def _sweep(out: Path) -> None:
    """Remove what a killed process left half written (`atomic_path` names such files `.stem.pid.suffix`)."""
    for path in out.rglob(".*.*.*"):
        pid = path.stem.rsplit(".", 1)[-1]
        if pid.isdigit() and int(pid) != os.getpid() and not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)
