"""The whole path on built-in input: studio videos -> tracks -> avatar -> reenacted clips -> a page that shows them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from actionrec.manifest import read_manifest
from avatars.body import Body, load_body
from avatars.commands.fit import FitCommand
from avatars.fitting.config import Quality
from avatars.geometry.camera import Camera
from avatars.io.files import atomic_path, read_json, require_fresh_folder, require_space, write_json
from avatars.io.progress import StageClock
from avatars.io.video import probe, read_frames
from avatars.studio import Capture, Filming, Room, sample_capture
from avatars.studio.plates import plate_of
from avatars.studio.raycast import developed
from avatars.tracking.config import TrackConfig
from avatars.tracking.metrics import pose_errors
from avatars.tracking.pipeline import track_video
from avatars.tracking.track import Track
from avatars.viewing.contact_sheet import contact_sheet
from avatars.viewing.overlay import write_overlay
from compose.places.ground import horizon_from_pitch
from reenact.demo.config import DemoConfig
from reenact.demo.page import Reenactment, write_page
from reenact.running.run import RunSummary, run_batch

SPACE_MIB = 600.0
N_PLACES = 2


@dataclass(frozen=True, slots=True)
class Extent:
    """How much the demo does."""

    turn_frames: int
    size_px: int
    """Side of the studio's videos."""
    actions: tuple[str, ...]
    quality: Quality


FULL = Extent(turn_frames=216, size_px=512, actions=("wave", "kick", "throw"), quality="draft")
QUICK = Extent(turn_frames=48, size_px=256, actions=("wave",), quality="draft")


@dataclass(frozen=True, slots=True)
class Films:
    """What the studio filmed: all that the pipeline gets to see, with the truth beside it for the scores."""

    turn: Capture
    actions: dict[str, Capture]
    clips: dict[str, Path]
    """The action clips, named by their action."""
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A photograph of an empty room, and how it was taken."""

    path: Path
    camera_height_m: float
    horizon: float
    focal_px: float


def run_demo(config: DemoConfig) -> int:
    """Make everything and write `index.html`; 0 when every clip was made.

    The pipeline sees the videos alone; the studio's truth is used for the scores. Raises InputError when the folder is
    not empty or the disk too full.
    """
    out = require_fresh_folder(config.out, what="the demo")
    require_space(out, SPACE_MIB)
    body = load_body()  # built here when it is the first time, and not counted
    extent = QUICK if config.quick else FULL
    clock = StageClock()
    with clock.stage("film the studio's videos"):
        films = film(out, config.seed, extent, body)
    fit = FitCommand(films.turn.video, out / "avatar", quality=extent.quality, size=extent.size_px, seed=config.seed)
    fit.fit(clock)
    with clock.stage("track the actions"):
        tracks = {action: track_action(out, clip, body) for action, clip in films.clips.items()}
    with clock.stage("reenact"):
        summary = run_batch(write_batch(out, films.places, config))
    scores = score(out, films, tracks, body, summary)
    show(out, films, scores, clock, config)
    print(clock.table())
    print(f"{summary.made} clips of {len(films.clips)} actions; look at {out / 'index.html'}")
    return 1 if summary.failures else 0


def film(out: Path, seed: int, extent: Extent, body: Body) -> Films:
    """One person's turn, another one's actions in another room, and photographs of two more rooms, empty."""
    size_hw, shown = (extent.size_px, extent.size_px), Filming(show_progress=True)
    turn = sample_capture(
        out / "capture", seed=2 * seed, frames=extent.turn_frames, size_hw=size_hw, body=body, filming=shown
    )
    actions, clips = {}, {}
    (out / "actions").mkdir()
    for action in extent.actions:
        actions[action] = sample_capture(
            out / "actions" / f"{action}_truth", seed=2 * seed + 1, action=action, size_hw=size_hw, body=body,
            filming=shown,
        )  # fmt: skip
        clips[action] = Path(shutil.copyfile(actions[action].video, out / "actions" / f"{action}.mp4"))
    places = tuple(photograph(out, 100 * seed + 50 + i, size_hw) for i in range(N_PLACES))
    return Films(turn, actions, clips, places)


def photograph(out: Path, seed: int, size_hw: tuple[int, int]) -> Place:
    """A picture of a sampled empty room, by a camera whose height and tilt are known."""
    from PIL import Image

    rng = np.random.default_rng([seed, 61])
    height_m, pitch, focal_px = rng.uniform(1.3, 1.6), np.radians(rng.uniform(4.0, 9.0)), 0.95 * size_hw[0]
    eye = torch.tensor([0.0, height_m, 4.6], dtype=torch.float32)
    ahead = torch.tensor([0.0, -np.sin(pitch), -np.cos(pitch)], dtype=torch.float32)
    camera = Camera.looking_at(eye, eye + ahead, focal_px=focal_px, size_hw=size_hw)
    path = out / "places" / f"room_{seed}.png"
    with atomic_path(path) as aside:
        Image.fromarray(developed(plate_of(Room.sample(seed, outdoors=False), camera))).save(aside)
    return Place(path, height_m, horizon_from_pitch(pitch, focal_px=focal_px, height_px=size_hw[0]), focal_px)


def track_action(out: Path, clip: Path, body: Body) -> Track:
    """What `reenact features` does with a clip: its motion, and the tracked body drawn over it."""
    track = track_video(clip, config=TrackConfig(masks=False), body=body)
    write_overlay(out / "motions" / f"{clip.stem}_overlay.mp4", track, body)
    track.motion.save(out / "motions" / f"{clip.stem}.npz")
    return track


def write_batch(out: Path, places: tuple[Place, ...], config: DemoConfig) -> Path:
    """The BATCH.yaml that a user would write: the avatar does every action in one place after the other."""
    batch = {
        "avatars": ["avatar"],
        "motions": [{"path": "motions/*.npz"}],
        "backgrounds": [
            {
                "path": place.path.relative_to(out).as_posix(),
                "camera_height_m": round(place.camera_height_m, 3),
                "horizon": round(place.horizon, 4),
                "focal_px": round(place.focal_px, 1),
                "roll_deg": 0.0,
            }
            for place in places
        ],
        "backgrounds_per_pair": len(places),
        "size": config.size,
        "fps": 30,
        "seed": config.seed,
        "out": "dataset",
    }
    path = out / "batch.yaml"
    with atomic_path(path) as aside:
        aside.write_text(yaml.safe_dump(batch, sort_keys=False), encoding="utf-8")
    return path


def score(out: Path, films: Films, tracks: dict[str, Track], body: Body, summary: RunSummary) -> dict[str, Any]:
    """Compare with the studio's truth: the poses of every track, and the avatar on frames it was not fitted to."""
    truth = films.turn.truth()
    turn = Track.load(out / "avatar" / "track")
    poses = {"turn": pose_errors(turn.motion, turn.camera, truth.motion, truth.camera, body)}
    for action, track in tracks.items():
        truth = films.actions[action].truth()
        poses[action] = pose_errors(track.motion, track.camera, truth.motion, truth.camera, body)
    scores = {
        "poses": {name: errors.as_dict() for name, errors in poses.items()},
        "avatar": read_json(out / "avatar" / "fit.json")["scores"],
        "reenact_fps": round(summary.fps, 1),
    }
    write_json(out / "scores.json", scores)
    return scores


def show(out: Path, films: Films, scores: dict[str, Any], clock: StageClock, config: DemoConfig) -> None:
    """Contact sheet and page."""
    results = {action: [] for action in films.clips}
    for clip in read_manifest(out / "dataset" / "manifest.jsonl"):
        results[clip.label].append(out / "dataset" / clip.path)
    _contact_sheet(out, films, results)
    rows = [
        Reenactment(
            f"{action}: from one person to another",
            [
                (films.clips[action], "source action, filmed from somebody else"),
                (out / "motions" / f"{action}_overlay.mp4", "the tracked SMPL-X body over it"),
                *[(clip, f"the avatar doing it, place {i + 1}") for i, clip in enumerate(results[action])],
            ],
        )
        for action in films.clips
    ]
    avatar = Reenactment(
        "The avatar, from one video of a person turning",
        [(films.turn.video, "identity video"), (out / "avatar" / "turntable.mp4", "the fitted avatar")],
    )
    options = f" --seed {config.seed} --size {config.size}" + " --quick" * config.quick
    write_page(
        out / "index.html",
        title="Reenactment demo",
        lead="Procedural people filmed in a studio whose truth is known; the pipeline saw the videos alone.",
        rows=[avatar, *rows],
        tables=_tables(scores, clock),
        command=f"reenact demo --out {config.out}{options}",
    )


def _tables(scores: dict[str, Any], clock: StageClock) -> dict[str, list[tuple[str, str]]]:
    return {
        "Pose against the truth: joint error, pelvis aligned, and in the image": [
            (name, f"{errors['mpjpe_mm']:.0f} mm, {errors['joints_px']:.1f} px")
            for name, errors in scores["poses"].items()
        ],
        "Avatar on held-out frames": [
            (name, f"{value:.4g}" if isinstance(value, float) else str(value))
            for name, value in scores["avatar"].items()
        ],
        "Time on this machine": [
            *[(stage, f"{seconds:.1f} s") for stage, seconds in clock.seconds.items()],
            ("all", f"{sum(clock.seconds.values()):.0f} s"),
            ("finished clips", f"{scores['reenact_fps']} frames/s"),
        ],
    }


def _contact_sheet(out: Path, films: Films, results: dict[str, list[Path]]) -> None:
    rows = [("identity video", _frames(films.turn.video)), ("avatar", _frames(out / "avatar" / "turntable.mp4"))]
    for action, clips in results.items():
        rows.append((f"{action}: source", _frames(films.clips[action])))
        rows += [(f"{action}: reenacted", _frames(clip)) for clip in clips]
    contact_sheet(out / "contact_sheet.png", rows)


def _frames(video: Path, count: int = 6) -> list[np.ndarray]:
    info = probe(video)
    middle_of = (np.arange(count) + 0.5) / count
    return list(read_frames(info, np.unique((middle_of * info.n_frames).astype(int))))
