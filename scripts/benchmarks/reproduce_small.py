"""The whole of `reenact reproduce` on a small set with NTU RGB+D's file names, three cameras and cross-subject split.

python scripts/benchmarks/reproduce_small.py --json reproduce_small.json

Ray-cast people do the paper's 16 classes, each performance filmed by three cameras, 45 degrees apart. Every stage is
killed once on the way (SIGKILL), and the same command goes on. It says whether every count is the one asked for; what
recognizers reach in so few steps says nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.benchmark_results import main, write_results
from benchmarks.simulated_world import SimulatedConfig, each, photographed_room, studio_person

from actionrec.sources.ntu import ACTION_NAMES, TRAIN_SUBJECTS_60
from avatars.errors import InputError
from avatars.io.files import read_json, write_json
from reenact.reproduction.stages import STAGES

NAME = "reproduce_small"
CLASSES = Path(__file__).parents[2] / "data" / "manifests" / "ntu_16.json"
CAMERAS_DEG = (-45.0, 0.0, 45.0)
"""Of NTU RGB+D, about: camera 1 in the middle of the other two."""
SIZE_PX, FPS = 160, 10.0
TEST_SUBJECTS = tuple(p for p in range(1, 41) if p not in TRAIN_SUBJECTS_60)


@dataclass(frozen=True)
class ReproduceSmall:
    """Film, then reproduce, with a kill in every stage."""

    out: Path = Path("reproduce_small")
    """Folder for all of it; what is there is taken up."""
    json: Path | None = None
    classes: int = 16
    people: int = 8
    """Half of them in training, half in testing."""
    kills: bool = True
    jobs: int = 2

    def run(self) -> int:
        """0 when every count is the one asked for."""
        start = time.monotonic()
        if not 2 <= self.classes <= 16 or self.people < 4 or self.people % 2:
            raise InputError("--classes is 2 to 16, and --people an even number of at least 4.")
        recipe = self.write_set()
        filmed_s = time.monotonic() - start
        killed = [stage for stage in STAGES if self.kills and kill_in(recipe, stage)]
        done = subprocess.run(command(recipe), capture_output=True, text=True, check=False)
        print(done.stdout)
        out = recipe.parent / "out"
        if done.returncode not in (0, 1):
            raise InputError(f"reenact reproduce ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        numbers = {
            "counts_exact": done.returncode == 0,
            "stages": len(STAGES),
            "resumed_after_kill": killed,
            "seconds": round(time.monotonic() - start, 1),
            "seconds_filming": round(filmed_s, 1),
            "counts": read_json(out / "counts.json"),
        }
        write_results(self.json, NAME, numbers)
        print(f"counts exact: {numbers['counts_exact']}; killed in {', '.join(killed) or 'no stage'}; {out}/index.html")
        return int(not numbers["counts_exact"])

    def write_set(self) -> Path:
        """Film everything that is not there, and write the recipe."""
        import yaml

        settings = {"classes": self.classes, "people": self.people}
        if (self.out / "set.json").is_file():
            if read_json(self.out / "set.json") != settings:
                raise InputError(f"{self.out} holds a set of other --classes or --people; choose another --out.")
        else:
            write_json(self.out / "set.json", settings)
        half = self.people // 2
        people = [*sorted(TRAIN_SUBJECTS_60)[:half], *TEST_SUBJECTS[:half]]
        items = read_json(CLASSES)["classes"][: self.classes]
        tasks: list[tuple[Path, int, int, str]] = []
        for number, item in enumerate(items):
            code = int(item["code"][1:])
            train = [people[(number + k) % half] for k in range(2)]
            test = [people[half + (number + k) % half] for k in range(1)]
            tasks += [(self.out / "nturgb+d_rgb", person, code, item["studio"]) for person in (*train, *test)]
        each(film_performance, tasks, self.jobs)
        each(film_turn, [(self.out / "identities", seed) for seed in (700, 701)], self.jobs)
        config = SimulatedConfig(size_px=SIZE_PX)
        rooms = [photographed_room(self.out, config, 5_000 + i)["path"] for i in range(2)]
        (self.out / "classes.txt").write_text("\n".join(ACTION_NAMES[int(i["code"][1:])] for i in items) + "\n")
        recipe = self.out / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(recipe_of(rooms), sort_keys=False), encoding="utf-8")
        return recipe


def recipe_of(rooms: list[str]) -> dict[str, Any]:
    """One reference a class, two avatars, two places: four synthetic clips of each class."""
    return {
        "out": "out",
        "dataset": {"kind": "ntu", "folder": "nturgb+d_rgb", "classes": "classes.txt"},
        "identities": ["identities/*.mp4"],
        "places": rooms,
        "counts": {
            "references": 1, "identities": 2, "places_per_pair": 2, "real": 4, "synthetic": 2,
            "test": 2, "few_real": [1], "few_synthetic": [0, 1, 2],
        },
        "quality": "draft", "avatar_px": 192, "size_px": 128, "fps": 10, "recognizers": ["small"], "preset": "tiny",
        "steps": 5, "seeds": 1,
    }  # fmt: skip


def command(recipe: Path) -> list[str]:
    """The one command."""
    return [sys.executable, "-m", "reenact", "reproduce", str(recipe)]


def kill_in(recipe: Path, stage: str, after_s: float = 1.5) -> bool:
    """Start the command and kill it, with all its processes, a moment after it has entered a stage; whether it was."""
    process = subprocess.Popen(
        command(recipe), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().endswith(f"] {stage}"):
            time.sleep(after_s)
            break
    reached = process.poll() is None
    if reached:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return reached


def film_performance(task: tuple[Path, int, int, str]) -> None:
    """One person doing one action, before three cameras at once."""
    from avatars.studio.capture import Filming, camera_for, capture, perform_action
    from avatars.studio.rooms import Room

    folder, subject, code, action = task
    person = studio_person(200 + subject)
    performance = perform_action(person, action, fps=FPS)
    room = Room.sample(300 + subject)
    for number, azimuth in zip((2, 1, 3), CAMERAS_DEG, strict=True):
        video = folder / f"S001C{number:03d}P{subject:03d}R001A{code:03d}_rgb.mp4"
        if video.is_file():
            continue
        camera = camera_for(
            performance.motion, person.body, seed=subject, size_hw=(SIZE_PX, SIZE_PX), azimuth_deg=azimuth
        )
        publish(folder, video, lambda aside, c=camera: capture(
            person, performance, room, c, aside, seed=subject, filming=Filming(threads=1)
        ))  # fmt: skip


def film_turn(task: tuple[Path, int]) -> None:
    """An identity video."""
    from avatars.studio.capture import Filming, camera_for, capture, perform_action
    from avatars.studio.rooms import Room

    folder, seed = task
    video = folder / f"person_{seed}.mp4"
    if video.is_file():
        return
    person = studio_person(seed)
    performance = perform_action(person, "turn", frames=48, fps=8.0)
    camera = camera_for(performance.motion, person.body, seed=seed, size_hw=(256, 256))
    publish(folder, video, lambda aside: capture(
        person, performance, Room.sample(seed, outdoors=True), camera, aside, seed=seed, filming=Filming(threads=1)
    ))  # fmt: skip


def publish(folder: Path, video: Path, film: Any) -> None:
    """Keep the video alone of a capture: its truth is nobody's to see."""
    aside = folder.parent / "filming" / video.stem
    shutil.rmtree(aside, ignore_errors=True)
    film(aside)
    video.parent.mkdir(parents=True, exist_ok=True)
    (aside / "capture.mp4").replace(video)
    shutil.rmtree(aside)


if __name__ == "__main__":
    sys.exit(main(ReproduceSmall, NAME, __doc__ or ""))
