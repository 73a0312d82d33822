"""Track studio captures from their pixels alone and compare with the truth, with MediaPipe's own 3D points beside.

python scripts/benchmarks/benchmark_tracking.py --json tracking.json --work FOLDER  # 12 people x (turn + 4 actions)
python scripts/benchmarks/benchmark_tracking.py --json tracking.json --quick  # 2 people x (turn + 1 action)
python scripts/benchmarks/benchmark_tracking.py --json tracking.json --work FOLDER --multiview RIG

FOLDER keeps captures and scores: the same command goes on after an interruption. RIG holds videos of one scene by
synchronous cameras and their Qualisys calibration (`NAME.mp4`, `*.qca.txt`); each is tracked alone, and the reference
is MediaPipe's 2D points of all cameras, triangulated. A clip that fails is named, and the exit code is then 1.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmark_results import write_results

if TYPE_CHECKING:
    from tracking_scores import ClipScore, ViewScore

    from avatars.body import Body

TURN = "turn"
ACTIONS = ("drink_water", "wave", "kick", "pick_up")
MEANS = (
    "mpjpe_mm", "pa_mpjpe_mm", "error_2d_px", "jitter_ratio", "limbs_mpjpe_mm", "limbs_pa_mpjpe_mm",
    "mediapipe_mpjpe_mm", "mediapipe_pa_mpjpe_mm", "mask_iou",
)  # fmt: skip
VIEW_MEANS = (
    "mpjpe_mm", "mpjpe_as_calibrated_mm", "pa_mpjpe_mm",
    "mediapipe_mpjpe_mm", "mediapipe_mpjpe_as_calibrated_mm", "mediapipe_pa_mpjpe_mm",
)  # fmt: skip


NAME = "tracking"


@dataclass(frozen=True)
class Clip:
    """One capture of the benchmark."""

    seed: int
    action: str
    frames: int
    """Of a turn; an action lasts as long as it takes (0)."""
    size: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.action}_{self.seed}_{self.frames}_{self.size}"


@dataclass(frozen=True)
class TrackingBenchmark:
    """Tracking benchmark on studio captures, and on a rig of real cameras where one is given."""

    json: Path
    """File to write."""
    quick: bool = False
    """Two people, a turn of 108 frames and one action each."""
    people: int = 12
    actions: tuple[str, ...] = ACTIONS
    size: int = 512
    """Height and width of the captures, pixels."""
    frames: int = 324
    """Frames of a turn, at 18 per second."""
    threads: int = 2
    multiview: Path | None = None
    """Folder with synchronous videos and their Qualisys calibration; without it those numbers are null."""
    work: Path | None = None
    """Folder that keeps captures and scores, so that a stopped run goes on; default: a temporary one."""

    def run(self) -> int:
        """Film what is missing, track, print tables, write the JSON. 1 when anything failed."""
        import torch
        from tracking_scores import Rig, ViewScore, score_rig

        from avatars.body import load_body

        torch.set_num_threads(self.threads)
        rig = None if self.multiview is None else Rig.open(self.multiview)  # before long work
        body, failures = load_body(), {}
        with _work_folder(self.work) as work:
            failures |= film(self.clips(), work / "captures", self.threads)
            ledger = Ledger(work / "scores", f"{source_hash()} {body.sha256} {self.threads} threads")
            scores = self._scores(work / "captures", ledger, body, failures)
            views = []
            if self.multiview is not None and rig is not None:
                name = f"rig_{sha256(str(self.multiview.resolve()).encode()).hexdigest()[:12]}"
                rows = ledger.kept(name, lambda: [asdict(view) for view in score_rig(rig, body)], failures)
                views = [ViewScore(**row) for row in rows or []]
        self._tell(scores, views, failures)
        return 1 if failures else 0

    def clips(self) -> list[Clip]:
        """All captures, person by person."""
        people, actions = (2, self.actions[:1]) if self.quick else (self.people, self.actions)
        turn = 108 if self.quick else self.frames
        lengths = {TURN: turn, **dict.fromkeys(actions, 0)}
        return [Clip(seed, action, n, self.size) for seed in range(1, people + 1) for action, n in lengths.items()]

    def _scores(self, captures: Path, ledger: Ledger, body: Body, failures: dict[str, str]) -> list[ClipScore]:
        from tracking_scores import ClipScore, score_clip

        from avatars.studio.capture import Capture

        clips, scores = [clip for clip in self.clips() if clip.name not in failures], []
        for number, clip in enumerate(clips, 1):

            def made(clip: Clip = clip) -> dict[str, Any]:
                return asdict(score_clip(Capture(captures / clip.name), clip.seed, clip.action, body))

            score = ledger.kept(clip.name, made, failures)
            if score is not None:
                scores.append(ClipScore(**score))
                print(f"[{number}/{len(clips)}] {row(scores[-1])}", flush=True)
        return scores

    def _tell(self, scores: list[ClipScore], views: list[ViewScore], failures: dict[str, str]) -> None:

        print(f"\n{group_table(scores, 'action')}\n\n{group_table(scores, 'seed')}\n")
        for view in views:
            print(view_row(view))
        if self.multiview is None:
            print("No --multiview FOLDER: the multiview numbers are null.")
        for name, reason in failures.items():
            print(f"FAILED {name}: {reason}")
        result = {**summary(scores), **multiview_summary(views), "clips_scored": len(scores), "failures": failures}
        print("\n".join(f"{name:32} {_shown(value)}" for name, value in result.items() if name != "failures"))
        rows = {"clips": [asdict(score) for score in scores], "views": [asdict(view) for view in views]}
        write_results(self.json, NAME, {**result, **rows})


# ------------------------------------------------------------------------------------------------------------ work


@contextmanager
def _work_folder(path: Path | None) -> Iterator[Path]:
    if path is not None:
        yield path
        return
    with TemporaryDirectory() as temporary:
        yield Path(temporary)


def film(clips: list[Clip], folder: Path, jobs: int) -> dict[str, str]:
    """Make the captures that are missing, several at a time; reasons of those that failed."""
    missing = [clip for clip in clips if not (folder / clip.name).is_dir()]
    if not missing:
        return {}
    print(f"{len(clips) - len(missing)} captures are there; filming {len(missing)} ...", flush=True)
    failures = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {clip.name: pool.submit(film_clip, clip, folder) for clip in missing}
        for number, (name, future) in enumerate(futures.items(), 1):
            try:
                print(f"[{number}/{len(missing)}] filmed {name} in {future.result():.0f} s", flush=True)
            except Exception as error:
                failures[name] = f"filming: {type(error).__name__}: {error}"
                print(f"[{number}/{len(missing)}] {name} FAILED: {failures[name]}", flush=True)
    return failures


def film_clip(clip: Clip, folder: Path) -> float:
    """Make one capture, whole or not at all; the seconds it took."""
    import torch

    from avatars.studio.capture import sample_capture

    torch.set_num_threads(1)
    start = time.perf_counter()
    aside = folder / f".{clip.name}"
    shutil.rmtree(aside, ignore_errors=True)
    sample_capture(aside, seed=clip.seed, action=clip.action, frames=clip.frames or 324, size_hw=(clip.size, clip.size))
    aside.rename(folder / clip.name)
    return time.perf_counter() - start


@dataclass(frozen=True)
class Ledger:
    """Scores on disk; those that other code, another body or another number of threads made are not taken up."""

    folder: Path
    made_by: str

    def kept(self, name: str, make: Callable[[], Any], failures: dict[str, str]) -> Any:
        """The score that lies there, else a new one; None, and its reason among the failures, when making it fails."""
        from avatars.io.files import read_json, write_json

        path = self.folder / f"{name}.json"
        if path.exists() and (entry := read_json(path))["made_by"] == self.made_by:
            return entry["score"]
        try:
            score = make()
        except Exception as error:  # one clip's failure costs that clip; it is told at the end
            failures[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            return None
        write_json(path, {"made_by": self.made_by, "score": score})
        return score


def source_hash() -> str:
    """Of the code that tracks, films and scores."""
    import avatars

    digest = sha256()
    for folder in (Path(avatars.__file__).parent, Path(__file__).parent):
        for path in sorted(folder.rglob("*.py") if folder.name == "avatars" else folder.glob("*tracking*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------------- telling


def row(score: ClipScore) -> str:
    """One line of the table."""
    hand = "  -  " if score.hand_pa_mpjpe_mm is None else f"{score.hand_pa_mpjpe_mm:5.1f}"
    return (
        f"person {score.seed:2d} {score.action:12s} {score.frames:4d} frames  MPJPE {score.mpjpe_mm:5.1f} mm  "
        f"PA {score.pa_mpjpe_mm:5.1f}  hands {hand}  2D {score.error_2d_px:4.1f} px  yaw <= "
        f"{score.yaw_error_max_deg:4.1f} deg  jitter {score.jitter_ratio:4.2f}  limbs {score.limbs_mpjpe_mm:5.1f}, "
        f"MediaPipe {score.mediapipe_mpjpe_mm:5.1f}  mask {score.mask_iou:.3f}  "
        f"{score.perception_s:.0f}+{score.fit_s:.0f} s"
    )


def group_table(scores: list[ClipScore], by: str) -> str:
    """Means over the clips of each action, or of each person."""
    lines = [
        f"{by:12} clips   MPJPE      PA   hands    yaw  jitter | limbs: ours      PA  MediaPipe      PA  (mm, deg; "
        "yaw: largest)"
    ]
    for key in dict.fromkeys(getattr(score, by) for score in scores):
        group = [score for score in scores if getattr(score, by) == key]
        m = summary(group)
        lines.append(
            f"{key!s:12} {len(group):5d} {m['mpjpe_mm']:7.1f} {m['pa_mpjpe_mm']:7.1f} "
            f"{_shown(m['hand_pa_mpjpe_mm'], 1):>7} {max(s.yaw_error_max_deg for s in group):6.1f} "
            f"{m['jitter_ratio']:7.2f} | {m['limbs_mpjpe_mm']:11.1f} {m['limbs_pa_mpjpe_mm']:7.1f} "
            f"{m['mediapipe_mpjpe_mm']:10.1f} {m['mediapipe_pa_mpjpe_mm']:7.1f}"
        )
    return "\n".join(lines)


def view_row(view: ViewScore) -> str:
    """One line of the table."""
    return (
        f"{view.camera} {view.frames:4d} frames  MPJPE {view.mpjpe_mm:5.1f} mm (as calibrated "
        f"{view.mpjpe_as_calibrated_mm:5.1f})  PA {view.pa_mpjpe_mm:5.1f}  MediaPipe {view.mediapipe_mpjpe_mm:5.1f} "
        f"({view.mediapipe_mpjpe_as_calibrated_mm:5.1f}), PA {view.mediapipe_pa_mpjpe_mm:5.1f}  "
        f"reference {view.reference_error_px:.1f} px"
    )


def summary(scores: list[ClipScore]) -> dict[str, float | None]:
    """Means over the clips; the worst yaw of the turns, and of all clips; speed and memory. Null where none scored."""
    turns = [score.yaw_error_max_deg for score in scores if score.action == TURN]
    hands = [score.hand_pa_mpjpe_mm for score in scores if score.hand_pa_mpjpe_mm is not None]
    seconds = sum(score.perception_s + score.fit_s for score in scores)
    return {
        **{name: fmean(getattr(score, name) for score in scores) if scores else None for name in MEANS},
        "yaw_error_max_deg": max(turns, default=None),
        "yaw_error_max_any_clip_deg": max((score.yaw_error_max_deg for score in scores), default=None),
        "hand_pa_mpjpe_mm": fmean(hands) if hands else None,
        "frames_per_s": sum(score.frames for score in scores) / seconds if scores else None,
        "peak_gib": max((score.peak_gib for score in scores), default=None),
    }


def multiview_summary(views: list[ViewScore]) -> dict[str, float | None]:
    """Means over the cameras, null without any."""
    return {f"multiview_{name}": fmean(getattr(view, name) for view in views) if views else None for name in VIEW_MEANS}


def _shown(value: float | int | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def main() -> int:
    """Errors in one line, and exit codes as the commands have them."""
    from benchmark_results import main as ended

    started = time.perf_counter()
    code = ended(TrackingBenchmark, NAME, __doc__ or "")
    print(f"{time.perf_counter() - started:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
