"""How well and how fast avatars are fitted: studio captures, tracked from their pixels, scored on frames never fitted.

python scripts/benchmarks/benchmark_fit.py --json fit.json --quick  # one person
python scripts/benchmarks/benchmark_fit.py --json fit.json --work runs/benchmark  # six people, 324 frames at 512 x 512
python scripts/benchmarks/benchmark_fit.py --json fit.json --work runs/benchmark --ablation
python scripts/benchmarks/benchmark_fit.py --json fit.json --work runs/benchmark --ablation --front-only

Every person is filmed and goes through `avatars fit`, in a process of its own: `total_s` is that command from its
checks to its report, scoring included, and `peak_gib` its peak memory. A second fit starts from the true poses
(`psnr_true_pose_db`, the ceiling of what better tracking could give). Held-out frames are every eighth; "box" is the
person's box over the room as it truly is behind them in that frame, with their shadow on it. `psnr_novel_pose_db` has
actions that were never filmed for the fit, in their true poses, before the same lights; in
`psnr_novel_pose_placed_db` the avatar's body is where the person's was in the picture, whatever its bones' lengths.
Captures carry sensor noise and compression, which no avatar can draw: `ssim_box_cap` and `psnr_box_cap_db` are the
scores of the filmed frames against the same frames without noise, and the keys with `noiseless` are the avatar's
against those.

With `--work`, captures, fits and numbers are kept, and a run that was interrupted goes on; numbers belong to one state
of the package's code, and are measured anew for another.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from benchmark_results import main, write_results

from avatars.fitting.config import FitConfig, FitWeights, Quality, Stage
from avatars.io.progress import peak_gib

if TYPE_CHECKING:
    from avatars.avatar import Avatar
    from avatars.body.motion import Motion
    from avatars.geometry.camera import Camera
    from avatars.studio.capture import Capture
    from avatars.tracking.track import Track

Numbers: TypeAlias = dict[str, Any]
Part = Literal["color_init", "refine_pose", "connectivity", "coarse_to_fine", "shading", "skirt"]
PARTS: tuple[Part, ...] = ("color_init", "refine_pose", "connectivity", "coarse_to_fine", "shading", "skirt")
ROOMS_EVERY = 8
FULL_SIZE = 400
"""Videos smaller than this are for trying the script out; the check of captures refuses them."""
FRONT_DEG = 75.0
"""How far a person may have turned from the camera and still show the front."""
NOVEL_FRAMES = 6
"""Of each action."""
VERTEX_STEP = 24
"""Every so many vertices of the body are enough to place it."""
MINUTES = {"capture": 1.0, "actions": 2.5, "standard": 4.0, "draft": 2.0, "high": 9.0}
"""What a piece takes on two free cores, about; for the estimate that is printed."""


NAME = "fit"


@dataclass(frozen=True)
class FitBenchmark:
    """Fit avatars to studio captures and score them against the truth."""

    json: Path | None = None
    """Where to write the numbers."""
    work: Path | None = None
    """Folder that keeps captures, fits and numbers, so that a run can go on where it stopped; default: none is kept."""
    people: int = 6
    first_seed: int = 0
    frames: int = 324
    size: int = 512
    """Height and width of the videos, pixels."""
    quality: Quality = "standard"
    actions: tuple[str, ...] = ("wave", "kick", "pick_up", "sit_down")
    """Never filmed for the fit; drawn in their true poses."""
    ceiling: bool = True
    """Fit from the true poses, too."""
    ablation: bool = False
    """Leave out each part of the recipe once, and print a table."""
    ablation_people: int = 2
    """How many people that is done for; each takes six more fits."""
    front_only: bool = False
    """The ablation's fits are given the person's front alone, and are scored on the rest of the turn."""
    quick: bool = False
    """One person."""

    def run(self) -> None:
        """Film, track, fit and score every person; print tables and write the numbers."""
        from avatars.io.work_folder import WorkFolder

        print(f"about {self.minutes():.0f} min on two free cores, less what is there already", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            work = WorkFolder.open(self.work or scratch, {})  # its lock is held as long as it lives
            bench = Bench(self, work.path, code_state())
            report = self.measured(bench)
            if self.ablation:
                report["ablation"] = self.ablated(bench)
        write_results(self.json, NAME, report)

    @property
    def seeds(self) -> range:
        """The people."""
        return range(self.first_seed, self.first_seed + (1 if self.quick else self.people))

    def minutes(self) -> float:
        """What the whole run takes, about."""
        work = self.frames / 324 * max(self.size / 512, 0.3) ** 2
        fits = len(self.seeds) * (1 + self.ceiling) + self.ablation * len(self.ablation_seeds) * len(PARTS)
        filming = MINUTES["capture"] + MINUTES["actions"] * bool(self.actions)
        return work * (fits * MINUTES[self.quality] + len(self.seeds) * filming)

    @property
    def ablation_seeds(self) -> range:
        """The people of the ablation."""
        return self.seeds[: self.ablation_people]

    def measured(self, bench: Bench) -> Numbers:
        """Numbers of every person, and their means (of memory the maximum) at the top."""
        people = []
        for seed in self.seeds:
            numbers = bench.fit(seed)
            if self.ceiling:
                ceiling = bench.fit_from_true_poses(seed)
                numbers |= {
                    "psnr_true_pose_db": ceiling["psnr_box_db"],
                    "ssim_true_pose": ceiling["ssim_box_pose_tracked"],
                }
            people.append({"seed": seed} | numbers)
            print_table({str(p["seed"]): p for p in people}, "person")
        means = mean_of(people)
        print_table({str(p["seed"]): p for p in people} | {"mean": means}, "person")
        for key, value in means.items():
            print(f"{key:<36}{value:10.3f}", flush=True)
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return {**means, "settings": settings, "code": bench.code, "people": people}

    def ablated(self, bench: Bench) -> dict[str, Numbers]:
        """Means over the ablation's people with nothing left out, and with each part left out."""
        whole = bench.fit_front if self.front_only else bench.fit
        rows = {"nothing": mean_of([whole(seed) for seed in self.ablation_seeds])}
        for part in PARTS:
            rows[part] = mean_of([bench.fit_without(seed, part) for seed in self.ablation_seeds])
            print_table(rows, "left out")
        return rows


def code_state() -> str:
    """Names the state of the package's code that numbers belong to."""
    import avatars

    assert avatars.__file__ is not None
    digest = hashlib.sha256()
    for path in sorted(Path(avatars.__file__).parent.rglob("*")):  # __path__ is elsewhere in an editable installation
        if path.suffix in (".py", ".cpp", ".h", ".inl"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Bench:
    """The pieces of a benchmark, each made once and then read."""

    settings: FitBenchmark
    root: Path
    code: str
    """As `code_state`."""

    def name(self, seed: int, kind: str) -> str:
        """Of one person's piece: what determines it, but for the code."""
        return f"person_{seed}_{kind}_{self.settings.frames}_{self.settings.size}"

    def filmed(self, seed: int, action: str) -> Path:
        """Folder of a capture."""
        folder = self.root / "captures" / self.name(seed, action)
        if not folder.is_dir():
            in_own_process(film, folder, seed, action, self.settings.frames, self.settings.size)
        return folder

    def fit(self, seed: int) -> Numbers:
        """`avatars fit` on a person's turn, and its scores."""
        capture, actions = self.filmed(seed, "turn"), [self.filmed(seed, a) for a in self.settings.actions]
        settings = self.settings
        return self._numbers(
            seed, settings.quality, lambda folder: in_own_process(fit, folder, capture, actions, settings)
        )

    def fit_from_true_poses(self, seed: int) -> Numbers:
        """The same fit where tracking makes no mistake; masks are the tracked ones."""
        return self._refit(seed, "true_poses", Refit(true_poses=True))

    def fit_front(self, seed: int) -> Numbers:
        """The same fit, from the same track, of the frames that show the front, scored on the others."""
        return self._refit(seed, "front", Refit(front_only=True))

    def fit_without(self, seed: int, part: Part) -> Numbers:
        """The same fit, from the same track, with a part of the recipe left out."""
        kind = "front_without" if self.settings.front_only else "without"
        return self._refit(seed, f"{kind}_{part}", Refit(left_out=part, front_only=self.settings.front_only))

    def _refit(self, seed: int, kind: str, how: Refit) -> Numbers:
        self.fit(seed)  # for its track
        capture, actions = self.filmed(seed, "turn"), [self.filmed(seed, a) for a in self.settings.actions]
        track = self._folder(seed, self.settings.quality) / "avatar" / "track"
        return self._numbers(
            seed,
            f"{self.settings.quality}_{kind}",
            lambda folder: in_own_process(refit, folder, capture, track, actions, self.settings, how),
        )

    def _folder(self, seed: int, kind: str) -> Path:
        return self.root / f"fits_{self.code}" / self.name(seed, kind)

    def _numbers(self, seed: int, kind: str, make: Callable[[Path], None]) -> Numbers:
        """What a piece measured; made where it is missing."""
        from avatars.io.files import read_json

        folder = self._folder(seed, kind)
        if not folder.is_dir():
            if code_state() != self.code:
                raise RuntimeError("The package's code changed under the benchmark; start it again.")
            make(folder)
        return read_json(folder / "numbers.json")


# The pieces: each fills a folder aside, which then takes its name


def in_own_process(make: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Fill a folder in a fresh process, so that its peak memory is its own; the folder appears whole or not at all."""
    aside = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(make, aside, *arguments).result()
    aside.rename(folder)


def film(folder: Path, seed: int, action: str, frames: int, size: int) -> None:
    """A studio capture with what scoring needs."""
    from avatars.studio.capture import Filming, sample_capture

    sample_capture(
        folder, seed=seed, action=action, frames=frames, size_hw=(size, size),
        filming=Filming(rooms_every=ROOMS_EVERY, show_progress=True),
    )  # fmt: skip


def fit(folder: Path, capture: Path, actions: list[Path], settings: FitBenchmark) -> None:
    """`avatars fit`, timed from its first check to its report; then the scores in poses it never saw."""
    import time

    from avatars.commands.fit import FitCommand
    from avatars.io.files import write_json
    from avatars.io.progress import StageClock
    from avatars.tracking.track import Track

    command = FitCommand(
        capture / "capture.mp4", folder / "avatar", quality=settings.quality, size=settings.size,
        truth_background=capture / "rooms.npz", force=settings.size < FULL_SIZE,
    )  # fmt: skip
    clock, start = StageClock(), time.perf_counter()
    command.check()
    result = command.fit(clock)
    total_s, peak = time.perf_counter() - start, peak_gib()
    assert result.scores is not None
    print(f"{result.scores.table()}\n{clock.table()}", flush=True)
    track = Track.load(folder / "avatar" / "track")
    fit_s = sum(seconds for stage, seconds in clock.seconds.items() if stage.startswith(("frames", "fit", "poses")))
    times = {"track_s": clock.seconds["track"], "fit_s": fit_s, "score_s": clock.seconds["score"], "total_s": total_s}
    numbers = numbers_of(result.scores.as_dict()) | times | {"peak_gib": peak, "coverage": result.coverage}
    numbers |= novel_numbers(result.avatar, track, capture, actions)
    write_json(folder / "numbers.json", numbers | {"n_gaussians": len(result.avatar)})


@dataclass(frozen=True)
class Refit:
    """A fit from the track of another."""

    true_poses: bool = False
    """With the true poses and camera in the place of the tracked ones."""
    left_out: Part | None = None
    """Without a part of the recipe."""
    front_only: bool = False
    """Without the frames in which the person faces away; these are scored."""


def refit(
    folder: Path, capture: Path, track_folder: Path, actions: list[Path], settings: FitBenchmark, how: Refit
) -> None:
    """Fit as `how` says, and score."""
    from avatars.fitting.crops import HeldOut
    from avatars.fitting.pipeline import fit_avatar
    from avatars.io.clean_plate import ShadedRooms
    from avatars.io.files import write_json
    from avatars.io.progress import StageClock
    from avatars.studio.capture import Capture
    from avatars.tracking.track import Track

    track, config = Track.load(track_folder), FitConfig.preset(settings.quality, size_px=settings.size)
    truth = Capture(capture).truth()
    if how.true_poses:
        track = replace(track, motion=truth.motion, camera=truth.camera)
        config = replace(config, refine_pose=False, refine_shape=False)
    if how.left_out is not None:
        config = without(config, how.left_out)
    clock, rooms, away = StageClock(), ShadedRooms.load(capture / "rooms.npz"), None
    if how.front_only:  # of frames that face away only those whose room is known are of use, and only to score
        turned = set(facing_away(truth.motion, truth.camera.T_cam_world))
        away = sorted(turned & set(rooms.frames))
        track.motion.valid[sorted(turned - set(rooms.frames))] = False
    result = fit_avatar(capture / "capture.mp4", track, config=config, clock=clock, held_out=HeldOut(away, rooms))
    assert result.scores is not None
    print(f"{result.scores.table()}\n{clock.table()}", flush=True)
    result.avatar.save(folder / "avatar")
    fit_s = sum(seconds for stage, seconds in clock.seconds.items() if stage != "score")
    numbers = numbers_of(result.scores.as_dict()) | {"fit_s": fit_s, "coverage": result.coverage}
    write_json(folder / "numbers.json", numbers | novel_numbers(result.avatar, track, capture, actions))


def facing_away(motion: Motion, T_cam_world: Any) -> list[int]:
    """Frames in which the chest points more than `FRONT_DEG` away from the camera."""
    import torch

    from avatars.geometry.rotations import matrix_from_axis_angle

    ahead = matrix_from_axis_angle(motion.poses[:, 0])[..., 2]  # +Z is ahead
    to_camera = torch.linalg.inv(T_cam_world)[:3, 3] - motion.transl
    off = torch.nn.functional.cosine_similarity(ahead[:, [0, 2]], to_camera[:, [0, 2]]).acos().rad2deg()
    return torch.nonzero(off > FRONT_DEG).squeeze(-1).tolist()


def without(config: FitConfig, part: Part) -> FitConfig:
    """The recipe less one part; what is left takes about as long."""
    if part == "connectivity":
        free = replace(config.weights, smooth_offset=0.0, smooth_scale=0.0, smooth_color=0.0, pull=0.0)
        assert isinstance(free, FitWeights)
        return replace(config, weights=free)
    if part == "coarse_to_fine":
        last = config.stages[-1]
        iterations = sum(stage.iterations for stage in config.stages)
        return replace(config, stages=(Stage(last.level, last.density, iterations, last.batch),))
    return replace(config, **{part: False})


# Numbers

SHOWN = (
    "psnr_box_fitpose_db", "psnr_box_db", "psnr_masked_fitpose_db", "psnr_masked_db", "ssim_box", "ssim_box_noiseless",
    "psnr_novel_pose_db", "psnr_novel_pose_placed_db", "psnr_true_pose_db", "track_s", "fit_s", "total_s", "peak_gib",
)  # fmt: skip


def numbers_of(scores: Numbers) -> Numbers:
    """The benchmark's keys from a fit's scores; SSIM is that with the pose fitted, unless its name says otherwise."""
    numbers = {key: value for key, value in scores.items() if key.startswith("psnr")}
    numbers |= {"ssim_box": scores["ssim_box_fitpose"], "ssim_box_pose_tracked": scores["ssim_box"]}
    clean = scores["noiseless"]
    return numbers | {
        "psnr_box_noiseless_fitpose_db": clean["psnr_box_fitpose_db"],
        "psnr_box_noiseless_db": clean["psnr_box_db"],
        "ssim_box_noiseless": clean["ssim_box_fitpose"],
        "ssim_box_noiseless_pose_tracked": clean["ssim_box"],
        "psnr_box_cap_db": clean["video_psnr_box_db"],
        "ssim_box_cap": clean["video_ssim_box"],
    }


def mean_of(people: list[Numbers]) -> Numbers:
    """Means of what every person has; of memory the maximum."""
    keys = [key for key, value in people[0].items() if isinstance(value, float) and all(key in p for p in people)]
    return {key: (max if key == "peak_gib" else fmean)(p[key] for p in people) for key in keys}


def print_table(rows: dict[str, Numbers], what: str) -> None:
    """Rows of numbers under short heads."""
    shown = [key for key in SHOWN if any(key in row for row in rows.values())]
    heads = [key.removesuffix("_db").replace("psnr_", "").replace("_pose", "") for key in shown]
    print("".join([f"{what:<16}", *(f"{head:>{max(len(head), 7) + 2}}" for head in heads)]))
    for name, row in rows.items():
        cells = [
            f"{f'{row[key]:.4f}' if key.startswith('ssim') else f'{row[key]:.2f}':>{max(len(head), 7) + 2}}"
            if key in row
            else " " * (max(len(head), 7) + 2)
            for key, head in zip(shown, heads, strict=True)
        ]
        print("".join([f"{name:<16}", *cells]), flush=True)


def novel_numbers(avatar: Avatar, track: Track, turn: Path, actions: list[Path]) -> Numbers:
    """PSNR of poses that were never filmed for the fit: the mean, and each action's."""
    from avatars.studio.capture import Capture

    if not actions:
        return {}
    found = {
        Capture(a).folder.name.split("_", 2)[2]: novel_pose_db(avatar, track, Capture(turn), Capture(a))
        for a in actions
    }
    placed = [novel_pose_db(avatar, track, Capture(turn), Capture(a), place=True) for a in actions]
    box, masked = (fmean(pair[i] for pair in found.values()) for i in (0, 1))
    return {
        "psnr_novel_pose_db": box,
        "psnr_novel_pose_masked_db": masked,
        "psnr_novel_pose_placed_db": fmean(pair[0] for pair in placed),
        "novel_by_action": {name: round(pair[0], 3) for name, pair in found.items()},
    }


def novel_pose_db(
    avatar: Avatar, track: Track, turn: Capture, action: Capture, *, place: bool = False
) -> tuple[float, float]:
    """Mean PSNR in the person's box over the true room, and masked, of an action's true poses.

    The light was fitted in the track's world, so the true motion is brought there by way of the camera of the turn.
    One camera cannot tell a person's size from their distance: the avatar is put where it looks as tall as the person,
    and, where asked to `place` it, its body, whose bones are of other lengths than the person's, is brought to where
    theirs is in the picture (`onto_picture`). Neither looks at the frame.
    """
    import torch

    from avatars.fitting.metrics import psnr
    from avatars.io.video import load_frames
    from avatars.rasterizer import rasterize

    truth, rooms, (frames, _) = action.truth(), action.rooms(), load_frames(action.video)
    T_track_true = torch.linalg.inv(track.camera.T_cam_world) @ turn.truth().camera.T_cam_world
    T_cam_track = truth.camera.T_cam_world @ torch.linalg.inv(T_track_true)
    chosen = list(rooms.frames[:: max(len(rooms.frames) // NOVEL_FRAMES, 1)])
    true, camera = truth.motion[torch.tensor(chosen)], replace(truth.camera, T_cam_world=T_cam_track)
    motion, found = in_track_world(true, avatar, truth.camera.T_cam_world, T_cam_track), []
    if place:
        body = avatar.body.pose(true.poses, true.betas, true.transl)
        vertices = torch.arange(0, avatar.body.n_vertices, VERTEX_STEP)
        motion = onto_picture(motion, avatar, camera, truth.camera.project(body.vertices(vertices)))
    for row, i in enumerate(chosen):
        with torch.no_grad():
            render = rasterize(avatar.posed(motion[row : row + 1], lit=True), camera)
        pictures = rooms.rgb[rooms.frames.index(i)], frames[i]
        room, frame = (torch.from_numpy(x.copy()).permute(2, 0, 1).float() / 255 for x in pictures)
        image = (render.rgb + (1 - render.alpha) * room)[0].clamp(0, 1)
        mask = torch.from_numpy(truth.masks[i]) / 255.0
        rows, columns = torch.nonzero(mask > 0.5).unbind(-1)
        box = (..., slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1))
        found.append((psnr(image[box], frame[box]), psnr(image, frame, mask)))
    return fmean(pair[0] for pair in found), fmean(pair[1] for pair in found)


def in_track_world(motion: Motion, avatar: Avatar, T_cam_true: Any, T_cam_track: Any) -> Motion:
    """A true motion on the avatar's own shape and in the track's world, as large in the image as the person."""
    import torch

    from avatars.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle

    def rest(betas: torch.Tensor) -> torch.Tensor:
        return avatar.body.pose(torch.zeros(1, 55, 3), betas).joints[0, :22]

    true, ours = rest(motion.betas), rest(avatar.betas)
    size = float((ours - ours.mean(0)).norm() / (true - true.mean(0)).norm())
    T_track_cam = torch.linalg.inv(T_cam_track)
    poses = motion.poses.clone()
    poses[:, 0] = axis_angle_from_matrix(T_track_cam[:3, :3] @ T_cam_true[:3, :3] @ matrix_from_axis_angle(poses[:, 0]))
    pelvis = size * ((true[0] + motion.transl) @ T_cam_true[:3, :3].T + T_cam_true[:3, 3])
    transl = pelvis @ T_track_cam[:3, :3].T + T_track_cam[:3, 3] - ours[0]
    return replace(motion, poses=poses, transl=transl)


def onto_picture(motion: Motion, avatar: Avatar, camera: Camera, targets_px: Any, steps: int = 100) -> Motion:
    """The motion with the avatar's body (every 24th vertex) brought to where the person's is in the picture, in pixels
    (frames, vertices, 2), turned as little as that takes."""
    import torch

    vertices = torch.arange(0, avatar.body.n_vertices, VERTEX_STEP)
    fingers = avatar.body.lbs_weights[vertices][:, 25:].sum(1) > 0.5
    weight = torch.where(fingers, 0.3, 1.0)  # a hand's many vertices count little more than an arm's
    delta = torch.zeros(len(motion), 22, 3, requires_grad=True)
    shift = torch.zeros(len(motion), 3, requires_grad=True)
    optimizer = torch.optim.Adam([delta, shift], lr=0.01)

    def moved(delta: torch.Tensor, shift: torch.Tensor) -> Motion:
        poses = torch.cat([motion.poses[:, :22] + delta, motion.poses[:, 22:]], 1)
        return replace(motion, poses=poses, transl=motion.transl + shift)

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - 0.95 * step / steps)
        m = moved(delta, shift)
        off_px = camera.project(avatar.body.pose(m.poses, avatar.betas, m.transl).vertices(vertices)) - targets_px
        loss = (off_px.square().sum(-1) * weight).mean(1).sum() + 20.0 * delta.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return moved(delta.detach(), shift.detach())


if __name__ == "__main__":
    sys.exit(main(FitBenchmark, NAME, __doc__ or ""))
