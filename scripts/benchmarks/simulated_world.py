"""A simulated benchmark set: "real" clips are ray-cast people, and the pipeline sees them, as anybody would, as video.

People are of three disjoint groups: some perform the training clips, some the test clips, and some only turn on the
spot, for their avatars. The training clips are tracked from their pixels, the avatars do the tracked motions in places
that no real clip shows. Nothing of the studio's truth reaches the synthetic clips.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from actionrec.manifest import ManifestClip, read_manifest, write_manifest
from avatars.errors import InputError
from avatars.fitting.config import Quality
from avatars.io.files import atomic_path, read_json, require_space, sha256_of, write_json
from avatars.io.progress import StageClock
from avatars.studio.plates import plate_of

SPACE_MIB = 500.0
SEED_STEP = 10_000
PERSON_HEIGHT = (0.62, 0.85)
"""Share of the frame, as anybody sees that it is in the training clips."""
PLACE_SEEDS = 5_000
"""Rooms of places are sampled from here on, rooms of real clips below."""


@dataclass(frozen=True, slots=True)
class SimulatedConfig:
    """How large the set is. Presets: smoke to see that it runs, tiny for two CPU cores in minutes, small for the
    README's numbers, recorded for recorded movement, viewpoint for test clips from the side, full (all 16 actions of
    the studio) for a GPU."""

    actions: tuple[str, ...] = ("pick_up", "throw", "sit_down", "clap", "wave", "kick")
    train_people: int = 3
    test_people: int = 8
    avatar_people: int = 4
    train_takes: int = 1
    """Clips of each action by each person of the training group."""
    test_takes: int = 1
    places: int = 12
    places_per_motion: int = 3
    """Places in which each avatar does each motion."""
    size_px: int = 160
    fps: float = 10.0
    turn_frames: int = 60
    turn_px: int = 256
    """Identity videos are filmed closer: a person, not a scene, is what they are for."""
    grain: float = 1.0
    """Sensor noise of the synthetic clips, as any phone has it (`compose.rendering.compositor.Film`)."""
    quality: Quality = "draft"
    azimuth_deg: float = 20.0
    """Cameras stand up to this far to either side."""
    test_azimuth_deg: tuple[float, float] | None = None
    """Cameras of the test clips, from and to, to either side; None: as those of the training clips."""
    heading_deg: float | None = None
    """Synthetic people are turned up to this far to either side; None: as far as cameras stand."""
    track_iterations: int = 100
    seed: int = 0
    jobs: int = 2
    motions: str = ""
    """Folder of recorded motions named action_take (kick_1.bvh ...) that people perform instead of the studio's own."""
    train_recordings: int = 3
    """So many takes of an action, drawn by the seed, are for training, the others for testing."""
    seconds: float = 4.0
    """Of a longer recording, its middle is used."""

    @staticmethod
    def preset(name: str, *, seed: int = 0, jobs: int = 2, motions: str = "") -> SimulatedConfig:
        """A preset by name. Raises InputError naming what is known."""
        from avatars.studio import ACTIONS

        presets = {
            "smoke": SimulatedConfig(
                ("kick", "clap"), 1, 2, 1, places=2, places_per_motion=2, size_px=128, turn_px=128, turn_frames=36
            ),
            "tiny": SimulatedConfig(),
            "recorded": SimulatedConfig(
                ("basketball", "basketball_signal", "jumping", "running", "soccer", "walking"),
                test_people=16, train_recordings=2,
            ),
            "viewpoint": SimulatedConfig(test_azimuth_deg=(60.0, 90.0), heading_deg=90.0),
            "small": SimulatedConfig(
                ("pick_up", "throw", "sit_down", "clap", "wave", "kick", "jump_up", "point"),
                train_people=4, test_people=12, avatar_people=6,
            ),
            "full": SimulatedConfig(
                tuple(ACTIONS), train_people=6, test_people=16, avatar_people=10, size_px=256, places=24,
            ),
        }  # fmt: skip
        if name not in presets:
            raise InputError(f"No simulated set {name!r}; known: {', '.join(presets)}.")
        if (name == "recorded") != bool(motions):
            raise InputError("The recorded set, and no other, needs a folder of motions named action_take.bvh.")
        return replace(presets[name], seed=seed, jobs=jobs, motions=motions)

    @property
    def outdoors(self) -> bool | None:
        """Recorded people walk and run for meters, through walls and sofas in a room: they are filmed in yards, and
        their avatars, too. None: as the room's seed has it."""
        return True if self.motions else None

    @property
    def subjects(self) -> int:
        """Different people in the set."""
        return self.train_people + self.test_people + self.avatar_people


@dataclass(frozen=True, slots=True)
class SimulatedScene:
    """One clip of the "real" set that is to be filmed."""

    person: int
    action: str
    take: int
    split: str

    recording: str = ""
    """File name of the recorded motion; "" for the studio's own."""

    @property
    def id(self) -> str:
        return f"{self.action}_p{self.person:03d}_t{self.take}"

    @property
    def performance(self) -> str:
        """What must not be on both sides of a split: the recording, or the clip itself."""
        return self.recording or self.id


@dataclass(frozen=True, slots=True)
class SimulatedSet:
    """What was made."""

    folder: Path
    failures: tuple[str, ...]
    """Training clips that could not be tracked, and reenactments that could not be made, with the reason."""
    seconds: dict[str, float]
    """By stage, over all calls."""

    @property
    def real(self) -> Path:
        """Manifest of the ray-cast clips, with stated splits."""
        return self.folder / "real.jsonl"

    @property
    def synthetic(self) -> Path:
        """Manifest of the reenacted clips."""
        return self.folder / "synthetic.jsonl"


def make_simulated_set(out: str | Path, config: SimulatedConfig) -> SimulatedSet:
    """Film, track, fit and reenact; what is there already (of the same settings) is kept.

    Raises InputError when the folder holds a set of other settings, an action is unknown, or the disk is too full.
    """
    from avatars.body import load_body

    out = Path(out)
    _check_actions(config)
    _claim(out, config)
    require_space(out, SPACE_MIB)
    load_body()  # built here when it is the first time, not by several processes at once
    clock = StageClock()
    with clock.stage("film"):
        scenes = scenes_of(config)
        people = sorted({scene.person for scene in scenes})
        each(film_person, [(out, config, [s for s in scenes if s.person == p]) for p in people], config.jobs)
        write_manifest(out / "real.jsonl", [_real_clip(out, config, scene) for scene in scenes])
    with clock.stage("avatars"):
        each(fit_person, [(out, config, person) for person in avatar_people(config)], config.jobs)
    with clock.stage("track"):
        tasks = [(out, config, scene) for scene in scenes if scene.split == "train"]
        failures = [reason for reason in each(track_scene, tasks, config.jobs) if reason]
    with clock.stage("reenact"):
        failures += reenact_all(out, config)
    return SimulatedSet(out, tuple(failures), _spent(out, clock))


def _spent(out: Path, clock: StageClock) -> dict[str, float]:
    """Seconds by stage over all calls that came to their end, this one included."""
    path = out / "seconds.json"
    before = read_json(path) if path.is_file() else {}
    seconds = {name: round(before.get(name, 0.0) + s, 1) for name, s in clock.seconds.items()}
    write_json(path, seconds)
    return seconds


def scenes_of(config: SimulatedConfig) -> list[SimulatedScene]:
    """All clips of the "real" set: the training people come first, then the test people."""
    first = SEED_STEP * config.seed
    groups = [("train", config.train_people, config.train_takes), ("test", config.test_people, config.test_takes)]
    scenes = []
    for split, count, takes in groups:
        for number in range(count):
            for action in config.actions:
                recorded = _recordings(config, action, split)
                for take in range(takes):
                    name = recorded[(number * takes + take) % len(recorded)].name if recorded else ""
                    scenes.append(SimulatedScene(first + number, action, take, split, name))
        first += count
    return scenes


def _recordings(config: SimulatedConfig, action: str, split: str) -> list[Path]:
    """Recorded takes of an action on one side of the split; empty when the studio's own movement is asked for."""
    from reenact.planning.class_names import label_from_name

    if not config.motions:
        return []
    found = sorted(p for p in Path(config.motions).iterdir() if p.is_file() and label_from_name(p) == action)
    drawn = np.random.default_rng([config.seed, config.actions.index(action), 59]).permutation(len(found))
    found = [found[i] for i in drawn]  # which are tested follows from the seed: nothing is tuned on always the same
    return found[: config.train_recordings] if split == "train" else found[config.train_recordings :]


def _check_actions(config: SimulatedConfig) -> None:
    """Raise InputError naming an action that the studio, or the folder of motions, lacks."""
    from avatars.studio import ACTIONS

    if config.motions:
        if not Path(config.motions).is_dir():
            raise InputError(f"No folder of motions at {config.motions}.")
        for action in config.actions:
            if not _recordings(config, action, "test"):
                raise InputError(
                    f"{config.motions} has too few takes of {action!r}: {config.train_recordings} are for training and "
                    "at least one more is needed for testing."
                )
        return
    unknown = sorted(set(config.actions) - set(ACTIONS))
    if unknown:
        raise InputError(f"No action {unknown[0]!r}; the studio knows {', '.join(ACTIONS)}.")


def avatar_people(config: SimulatedConfig) -> list[int]:
    """People who are only filmed turning."""
    first = SEED_STEP * config.seed + config.train_people + config.test_people
    return list(range(first, first + config.avatar_people))


def film_person(task: tuple[Path, SimulatedConfig, list[SimulatedScene]]) -> None:
    """Film every clip of one person, each in its own room before its own camera."""
    from avatars.studio.capture import Filming, camera_for, capture
    from avatars.studio.rooms import Room

    out, config, scenes = task
    if all(_video(out, scene).is_file() for scene in scenes):
        return
    person = studio_person(scenes[0].person)
    for scene in scenes:
        if _video(out, scene).is_file():
            continue
        rng = np.random.default_rng([scene.person, scene.take, config.actions.index(scene.action), 71])
        performance = _performance(person, scene, config)
        camera = camera_for(
            performance.motion,
            person.body,
            seed=int(rng.integers(1 << 30)),
            size_hw=(config.size_px, config.size_px),
            fill=float(rng.uniform(0.65, 0.88)),
            azimuth_deg=_azimuth_deg(scene, config, rng),
        )
        room = Room.sample(int(rng.integers(PLACE_SEEDS)) + SEED_STEP * config.seed, outdoors=config.outdoors)
        folder = out / "truth" / scene.id
        shutil.rmtree(folder, ignore_errors=True)
        capture(person, performance, room, camera, folder, seed=scene.person, filming=Filming(threads=1))
        _publish(folder, _video(out, scene))


def _azimuth_deg(scene: SimulatedScene, config: SimulatedConfig, rng: np.random.Generator) -> float:
    """Where the camera of a clip stands, seen from the person."""
    if scene.split == "train" or config.test_azimuth_deg is None:
        return float(rng.uniform(-config.azimuth_deg, config.azimuth_deg))
    return float(rng.uniform(*config.test_azimuth_deg) * rng.choice([-1.0, 1.0]))


def _performance(person: Any, scene: SimulatedScene, config: SimulatedConfig) -> Any:
    """What a person does: an action of the studio, or a recorded motion on their body, about the origin."""
    import torch

    from avatars.motion_formats import load_motion
    from avatars.studio.actions import Act
    from avatars.studio.capture import perform_action
    from reenact.retargeting.retarget import retarget

    if not scene.recording:
        return perform_action(person, scene.action, fps=config.fps, take=scene.take)
    motion = load_motion(Path(config.motions) / scene.recording, person.body)
    length = min(round(config.seconds * motion.fps), len(motion) - 1)  # the first frame may be a T-pose
    start = 1 + (len(motion) - 1 - length) // 2
    motion = motion[start : start + length]
    moved = retarget(motion, person.body, torch.as_tensor(person.betas, dtype=torch.float32), fps=config.fps).motion
    middle = (moved.transl.amin(0) + moved.transl.amax(0)) / 2 * torch.tensor([1.0, 0.0, 1.0])
    lifted = moved.transl - middle + torch.tensor([0.0, float(person.wardrobe.sole_m), 0.0])
    return Act(scene.action, replace(moved, transl=lifted, name=scene.action))


def fit_person(task: tuple[Path, SimulatedConfig, int]) -> None:
    """Film one person's turn and fit their avatar to the video."""
    from avatars.commands.fit import FitCommand
    from avatars.studio.capture import Filming, camera_for, capture, perform_action
    from avatars.studio.rooms import Room

    out, config, seed = task
    avatar, video = out / "avatars" / f"avatar_{seed:03d}", out / "turns" / f"{seed:03d}.mp4"
    if (avatar / "avatar.json").is_file():
        return
    if not video.is_file():
        person = studio_person(seed)
        performance = perform_action(person, "turn", frames=config.turn_frames, fps=8.0)
        camera = camera_for(performance.motion, person.body, seed=seed, size_hw=(config.turn_px, config.turn_px))
        folder = out / "truth" / f"turn_{seed:03d}"
        shutil.rmtree(folder, ignore_errors=True)
        capture(person, performance, Room.sample(seed + 77), camera, folder, seed=seed, filming=Filming(threads=1))
        _publish(folder, video)
    fit = FitCommand(video, avatar, quality=config.quality, size=config.turn_px, seed=seed, force=True)
    fit.fit(StageClock())


def track_scene(task: tuple[Path, SimulatedConfig, SimulatedScene]) -> str:
    """Read the motion out of one training clip; "" or the reason why it could not be."""
    from avatars.tracking.config import TrackConfig
    from avatars.tracking.pipeline import track_video

    out, config, scene = task
    path = out / "motions" / f"{scene.id}.npz"
    if path.is_file():
        return ""
    try:
        track = track_video(
            _video(out, scene),
            config=TrackConfig(masks=False, iterations=config.track_iterations),
            body=_body(),
        )
    except InputError as error:
        return f"{scene.id}: {error}"
    track.motion.save(path)
    write_json(path.with_suffix(".json"), {"label": scene.action})
    return ""


def reenact_all(out: Path, config: SimulatedConfig) -> list[str]:
    """Every avatar does every tracked motion in some of the places; writes `synthetic.jsonl`, and where people are
    turned also `synthetic_front.jsonl`, in which they are not; reasons of failures."""
    places = [photographed_room(out, config, PLACE_SEEDS + SEED_STEP * config.seed + i) for i in range(config.places)]
    batch = {
        "out": "dataset",
        "seed": config.seed,
        "size": config.size_px,
        "fps": config.fps,
        "backgrounds_per_pair": config.places_per_motion,
        "person_height": list(PERSON_HEIGHT),
        "film": {"grain": config.grain},
        "avatars": [f"avatars/avatar_{seed:03d}" for seed in avatar_people(config)],
        "motions": ["motions/*.npz"],
        "backgrounds": places,
    }
    failures = _reenacted(out, batch, "")
    if config.heading_deg is not None:
        front = [place | {"heading_deg": [-config.azimuth_deg, config.azimuth_deg]} for place in places]
        failures += _reenacted(out, batch | {"out": "dataset_front", "backgrounds": front}, "_front")
    return failures


def _reenacted(out: Path, batch: dict[str, Any], name: str) -> list[str]:
    """Run a batch and write `synthetic{name}.jsonl`; reasons of failures."""
    import yaml

    from reenact.running.run import run_batch

    path = out / f"batch{name}.yaml"
    with atomic_path(path) as aside:
        aside.write_text(yaml.safe_dump(batch, sort_keys=False), encoding="utf-8")
    summary = run_batch(path)
    clips = [
        replace(clip, path=f"{batch['out']}/{clip.path}", identity=f"person_{int(clip.subject.split('_')[1]):03d}")
        for clip in read_manifest(out / batch["out"] / "manifest.jsonl")
    ]
    write_manifest(out / f"synthetic{name}.jsonl", clips)
    return [f"{failure.id} ({failure.label}), {failure.stage}: {failure.reason}" for failure in summary.failures]


def photographed_room(out: Path, config: SimulatedConfig, seed: int) -> dict[str, Any]:
    """Photograph an empty room (once); its entry in BATCH.yaml, which knows no more of it than any photograph tells."""
    import torch
    from PIL import Image

    from avatars.geometry.camera import Camera
    from avatars.studio import Room
    from avatars.studio.raycast import developed

    rng = np.random.default_rng([seed, 61])
    size = config.size_px
    height_m, pitch, focal_px = rng.uniform(1.2, 1.6), np.radians(rng.uniform(8.0, 14.0)), rng.uniform(0.9, 1.05) * size
    path = out / "places" / f"room_{seed}.png"
    if not path.is_file():
        eye = torch.tensor([0.0, height_m, 4.4], dtype=torch.float32)
        ahead = torch.tensor([0.0, -np.sin(pitch), -np.cos(pitch)], dtype=torch.float32)
        camera = Camera.looking_at(eye, eye + ahead, focal_px=float(focal_px), size_hw=(size, size))
        with atomic_path(path) as aside:
            Image.fromarray(developed(plate_of(Room.sample(seed, outdoors=config.outdoors), camera))).save(aside)
    turned = config.azimuth_deg if config.heading_deg is None else config.heading_deg
    return {"path": f"places/{path.name}", "heading_deg": [-turned, turned]}


def _real_clip(out: Path, config: SimulatedConfig, scene: SimulatedScene) -> ManifestClip:
    from avatars.io.video import probe

    video = _video(out, scene)
    info = probe(video)
    return ManifestClip(
        id=scene.id,
        path=video.relative_to(out).as_posix(),
        label=scene.action,
        subject=f"person_{scene.person:03d}",
        source=scene.id,
        kind="real",
        n_frames=info.n_frames,
        fps=info.fps,
        size_hw=info.size_hw,
        sha256=sha256_of(video),
        background=f"room_of_{scene.id}",
        split=scene.split,
        licence="simulated",
        source_video=scene.performance,
    )


def _claim(out: Path, config: SimulatedConfig) -> None:
    """Write the settings into an empty folder, or check that they are those found. Raises InputError."""
    settings = json.loads(json.dumps({k: v for k, v in asdict(config).items() if k != "jobs"}))
    path = out / "simulated.json"
    if path.is_file():
        found = read_json(path)
        if found != settings:
            changed = sorted(k for k in settings if found.get(k) != settings[k])
            raise InputError(f"{out} holds a simulated set with other {', '.join(changed)}; choose another folder.")
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty and holds no simulated set; choose another folder.")
    else:
        write_json(path, settings)


def each(work: Callable[[Any], Any], tasks: Sequence[Any], jobs: int) -> list[Any]:
    """The results of `work` for all tasks, in several processes; progress on stderr."""
    from avatars.io.progress import progress

    what = work.__name__.replace("_", " ")
    if jobs < 2 or len(tasks) < 2:
        return [work(task) for task in progress(tasks, what)]
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_begin_worker) as pool:
        return list(progress(pool.imap(work, tasks), what, total=len(tasks)))


def _begin_worker() -> None:
    """One thread per process: there are as many processes as cores. What stages print is left to the parent."""
    import io
    import logging

    import torch

    torch.set_num_threads(1)
    logging.getLogger().setLevel(logging.WARNING)
    sys.stderr = io.StringIO()


@lru_cache(maxsize=1)
def _body() -> Any:
    from avatars.body import load_body

    return load_body()


def studio_person(seed: int) -> Any:
    """A studio person, painted more coarsely than for a full-size capture."""
    from avatars.studio import Person

    return replace(Person.sample(seed, _body()), texel_m=0.005)


def _video(out: Path, scene: SimulatedScene) -> Path:
    return out / "real" / scene.action / f"{scene.id}.mp4"


def _publish(capture_folder: Path, video: Path) -> None:
    """Take the video alone from a capture; its truth is thrown away, so that nothing can lean on it."""
    video.parent.mkdir(parents=True, exist_ok=True)
    (capture_folder / "capture.mp4").replace(video)
    shutil.rmtree(capture_folder)
