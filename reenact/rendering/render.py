"""One avatar doing one motion -> its finished clips: posed once, drawn in every place; video, labels, receipt.

What one process does; `reenact.running.executors` runs it in many. A clip exists when its receipt does, which is
written last.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actionrec.manifest import ManifestClip
from avatars import __version__
from avatars.avatar import Avatar
from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.io.files import sha256_of, state_of, write_json
from avatars.io.progress import StageClock, peak_gib
from avatars.io.video import VideoWriter
from avatars.motion_formats import load_motion
from avatars.motion_formats.gravity import Up
from avatars.rasterizer.gaussians import Gaussians
from avatars.tracking.source_view import SourceView
from compose.places.place_folder import open_place
from compose.places.place_view import Background, PlaceView
from compose.rendering.compositor import CameraEffects
from reenact.planning.batch import BackgroundEntry, Batch
from reenact.planning.framing import OWN_PLATE
from reenact.planning.plan import Plan, PlannedClip
from reenact.planning.receipts import Failure, label_paths, receipt_path, video_path
from reenact.rendering.companions import Performer
from reenact.rendering.exposure import exposed
from reenact.rendering.source_framing import framed
from reenact.rendering.staging import Staged, stage
from reenact.retargeting.retarget import Retargeted, played, retarget

log = logging.getLogger(__name__)

CHUNK_FRAMES = 8
_QUEUE_FRAMES = 16


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """What became of a group of clips."""

    made: tuple[str, ...] = ()
    """Ids of the clips that exist now."""
    frames: int = 0
    failures: tuple[Failure, ...] = ()
    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds by stage."""
    peak_mib: float = 0.0
    """Most memory that the process has had."""
    disk_full: bool = False


class CpuClock(StageClock):
    """CPU seconds of the calling thread by stage: what the work costs, whatever else the machine does."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block; a stage entered twice adds up."""
        start = time.thread_time()
        try:
            yield
        finally:
            self.add(name, time.thread_time() - start)

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that another thread spent."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@dataclass
class _Progress:
    made: list[str] = field(default_factory=list)
    frames: int = 0
    failures: list[Failure] = field(default_factory=list)
    clock: CpuClock = field(default_factory=CpuClock)


def make_group(plan: Plan, out: Path, group: tuple[PlannedClip, ...]) -> GroupOutcome:
    """Make the clips of one avatar and motion (`plan` needs to hold none). What fails is in the outcome, not raised."""
    state = _Progress()
    disk_full = False
    try:
        with torch.no_grad():
            _make_group(plan, group, load_body(plan.batch.body), out, state)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        disk_full = True
    peak_mib = 1024 * peak_gib()
    return GroupOutcome(
        tuple(state.made), state.frames, tuple(state.failures), dict(state.clock.seconds), peak_mib, disk_full
    )


def check_inputs(plan: Plan, body: Body) -> tuple[float, ...]:
    """Open every input once, so that what cannot be used stops the run before its work starts; how many seconds each
    motion lasts. Raises InputError."""
    for entry in plan.batch.avatars:
        Avatar.load(entry.path, body)
    motions = (_motion(entry.path, entry.up, body) for entry in plan.batch.motions)
    lengths_s = tuple(float(motion.times_s[-1] - motion.times_s[0]) for motion in motions)
    for index in sorted({clip.background for clip in plan.clips}):
        _picture(plan.batch.backgrounds[index])
    if plan.batch.placement is not None:
        _check_views(plan)
    return lengths_s


def _check_views(plan: Plan) -> None:
    """Raise InputError unless every motion tells how its clip was filmed, and where asked for its place."""
    plates = any(entry.path == OWN_PLATE for entry in plan.batch.backgrounds)
    for entry in plan.batch.motions:
        if SourceView.load(entry.path).plate is None and plates:
            raise InputError(
                f"{entry.path} holds no picture of its clip's place, which `backgrounds: [source]` asks for. Track the "
                "clip with `reenact features --plates`, or give pictures."
            )


def _picture(entry: BackgroundEntry) -> Background | None:
    """A place; None for the one of each motion's own clip."""
    return None if entry.path == OWN_PLATE else _background(entry)


def _background(entry: BackgroundEntry) -> Background:
    return _background_as_of(entry, state_of(entry.path))


@lru_cache(maxsize=8)
def _background_as_of(entry: BackgroundEntry, _state: object) -> Background:
    view = PlaceView(entry.camera_height_m, entry.horizon, entry.focal_px, entry.roll_deg)
    return open_place(entry.path, view, tags=entry.tags, licence=entry.licence)


def _avatar(path: Path, body: Body) -> Avatar:
    return _avatar_as_of(path, body, state_of(path))


@lru_cache(maxsize=4)
def _avatar_as_of(path: Path, body: Body, _state: object) -> Avatar:
    return Avatar.load(path, body)


def _motion(path: Path, up: Up, body: Body) -> Motion:
    return _motion_as_of(path, up, body, state_of(path))


@lru_cache(maxsize=256)
def _motion_as_of(path: Path, up: Up, body: Body, _state: object) -> Motion:
    return load_motion(path, body, up=up)


@contextmanager
def _recorded(state: _Progress, clips: tuple[PlannedClip, ...], stage: str) -> Iterator[None]:
    """Turn a failure of the block into a Failure of each clip; a full disk and Ctrl-C pass."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        transient = isinstance(error, (OSError, MemoryError)) and not isinstance(error, InputError)
        name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        state.failures += [Failure(c.id, c.label, stage, f"{name}{error}", transient) for c in clips]
        log.debug("%s failed", stage, exc_info=True)


def _make_group(plan: Plan, group: tuple[PlannedClip, ...], body: Body, out: Path, state: _Progress) -> None:
    """All clips of one avatar and motion."""
    batch, clock = plan.batch, state.clock
    with _recorded(state, group, "retarget"), clock.stage("retarget"):
        first = performer(plan, group[0].avatar, group[0].motion, body)
    if state.failures:
        return
    shots = []
    for clip in group:
        with _recorded(state, (clip,), "place"), clock.stage("place"):
            others = [performer(plan, a, m, body) for a, m in clip.others]
            shots.append(_shot(plan, clip, first, others))
    if not shots:
        return
    with _recorded(state, tuple(shot.clip for shot in shots), "render"):
        _film(shots, first, out, batch, clock)
        for shot in shots:
            with _recorded(state, (shot.clip,), "labels"), clock.stage("labels"):
                _finish(plan, shot, first.retargeted, out)
                state.made.append(shot.clip.id)
                state.frames += len(first.retargeted.motion)


@dataclass(frozen=True, slots=True)
class _Shot:
    """One clip that is about to be filmed."""

    clip: PlannedClip
    staged: Staged


def performer(plan: Plan, avatar: int, motion: int, body: Body) -> Performer:
    """An avatar and a motion of the batch, put onto it. Raises InputError."""
    found = _avatar(plan.batch.avatars[avatar].path, body)
    entry = plan.batch.motions[motion]
    source, speed = _motion(entry.path, entry.up, body), plan.speed(avatar, motion)
    retargeted = retarget(source, body, found.betas, fps=plan.batch.fps / speed)
    return Performer(found, retargeted if speed == 1.0 else played(retargeted, speed))


def staged_clip(plan: Plan, clip: PlannedClip, first: Performer, others: list[Performer]) -> Staged:
    """Place the motion and set the scene. Raises NoPlacement and InputError."""
    entry, framing = plan.batch.backgrounds[clip.background], plan.batch.placement
    if framing is None:
        return stage(plan.batch, entry, _background(entry), first, clip.seed, others)
    view = SourceView.load(plan.batch.motions[clip.motion].path)
    place, spot = framed(view, _picture(entry), first.retargeted, framing, clip.seed)
    return stage(plan.batch, entry, place, first, clip.seed, placement=spot)


def _shot(plan: Plan, clip: PlannedClip, first: Performer, others: list[Performer]) -> _Shot:
    staged = staged_clip(plan, clip, first, others)
    if staged.placement.relaxed:
        height = 100 * staged.placement.person_height
        log.warning("%s: person %.0f%% of the frame, smaller than asked", clip.id, height)
    return _Shot(clip, staged)


def _film(shots: list[_Shot], first: Performer, out: Path, batch: Batch, clock: CpuClock) -> None:
    """Pose the avatar frame by frame and draw it in the scene of every shot, with whoever else is in it."""
    with ExitStack() as stack:
        encoders = [
            stack.enter_context(_Encoder(out / video_path(s.clip), fps=batch.fps, crf=batch.crf)) for s in shots
        ]
        beside = [[_posed_frames(c.avatar, c.motion, batch.film, clock) for c in shot.staged.others] for shot in shots]
        frames = _posed_frames(first.avatar, first.retargeted.motion, batch.film, clock)
        for index, gaussians in enumerate(frames):
            for shot, others, encoder in zip(shots, beside, encoders, strict=True):
                people = [gaussians, *(next(other) for other in others)]
                drawn = shot.staged.scene.draw(people, clock, index)
                with clock.stage("masks"):
                    tracks = [shot.staged.masks, *(c.masks for c in shot.staged.others)]
                    for masks, person in zip(tracks, drawn.people, strict=True):
                        masks.add(person)
                encoder.write(drawn.frame)
        stack.close()
        for encoder in encoders:
            clock.add("encode", encoder.cpu_s)


def _posed_frames(avatar: Avatar, motion: Motion, film: CameraEffects, clock: StageClock) -> Iterator[Gaussians]:
    """The posed Gaussians of one frame after the other, in the motion's world; with an open shutter the means and
    quaternions of a frame's subframes."""
    motion, each = exposed(motion, film), 1 if film.shutter <= 0 else film.subframes
    chunk_frames = CHUNK_FRAMES if each == 1 else each
    for first in range(0, len(motion), chunk_frames):
        with clock.stage("pose"):
            chunk = avatar.posed(motion[first : first + chunk_frames], shadowed=True)
        if each > 1:
            yield replace(chunk, colors=chunk.frame(each // 2).colors)
            continue
        yield from (chunk.frame(i) for i in range(len(chunk.means)))


class _Encoder:
    """A VideoWriter in its own thread, so that encoding runs beside rendering; `write` waits when 16 frames are due."""

    def __init__(self, path: Path, *, fps: float, crf: int) -> None:
        self._writer = VideoWriter(path, fps=fps, crf=crf, threads=1)  # one thread: the same bytes on any machine
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue(_QUEUE_FRAMES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._encode, daemon=True)
        self.cpu_s = 0.0
        """CPU seconds of encoding; known when the block has ended."""

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
        self.cpu_s = time.thread_time()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._frames.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            self._writer.__exit__(type(self._error), self._error, None)
            raise self._error
        self._writer.__exit__(kind, error, trace)


def _finish(plan: Plan, shot: _Shot, retargeted: Retargeted, out: Path) -> None:
    """Labels, then the receipt: from then on the clip exists."""
    clip = shot.clip
    video, label_path, *more = video_path(clip), *label_paths(clip)
    staged = shot.staged
    staged.labels.save(out / label_path, staged.masks)
    for path, other in zip(more, staged.others, strict=True):
        other.labels.save(out / path, other.masks)
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
        identity=plan.batch.avatars[clip.avatar].person,
        licence="; ".join(dict.fromkeys(part["licence"] for part in made_from.values() if part["licence"])),
    )
    receipt = {
        "clip": asdict(manifest),
        "labels": {"path": label_path, "sha256": sha256_of(out / label_path)},
        "others": [
            {
                "label": plan.batch.motions[motion].label,
                "labels": {"path": path, "sha256": sha256_of(out / path)},
                "placement": asdict(other.placement),
            }
            for (_, motion), path, other in zip(clip.others, more, staged.others, strict=True)
        ],
        "made_from": made_from,
        "made_by": f"splat-avatars {__version__}",
        "seed": clip.seed,
        "speed": round(plan.speed(clip.avatar, clip.motion), 5),
        "placement": asdict(staged.placement),
        "light": None if staged.light is None else staged.light.as_json(),
        "camera_assumed": list(staged.background.assumed),
        "leg_scale": round(retargeted.leg_scale, 5),
        "first_source_frame": retargeted.first_frame,
        "bridged_source_frames": retargeted.bridged,
        "settings": plan.settings(),
    }
    write_json(receipt_path(out, clip.id), receipt)


def _made_from(plan: Plan, clip: PlannedClip) -> dict[str, dict[str, Any]]:
    """Name, hash and licence of the avatar, the motion and the place, and of everybody else ("avatar_2", "motion_2",
    ...); of avatars also consent and strata."""
    background = plan.batch.backgrounds[clip.background]
    found = {
        "avatar": _avatar_card(plan, clip.avatar),
        "motion": _motion_card(plan, clip.motion),
        "background": {
            "name": background.name,
            "sha256": plan.background_sha256[clip.background],
            "licence": background.licence,
        },
    }
    for number, (avatar, motion) in enumerate(clip.others, 2):
        found |= {f"avatar_{number}": _avatar_card(plan, avatar), f"motion_{number}": _motion_card(plan, motion)}
    return found


def _avatar_card(plan: Plan, index: int) -> dict[str, Any]:
    avatar = plan.batch.avatars[index]
    return {
        "name": avatar.name,
        "sha256": plan.avatar_sha256[index],
        "licence": avatar.licence,
        "consent": avatar.consent,
        "strata": dict(avatar.strata),
    }


def _motion_card(plan: Plan, index: int) -> dict[str, Any]:
    motion = plan.batch.motions[index]
    return {"name": motion.path.stem, "sha256": plan.motion_sha256[index], "licence": motion.licence}
