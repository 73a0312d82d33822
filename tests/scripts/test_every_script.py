"""Every program in scripts/ runs from end to end at its smallest size and writes the numbers that it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.tiny_batch import four_groups, write_material

from avatars.body import load_body
from avatars.commands import console
from reenact.commands.run import RunCommand

SCRIPTS = Path(__file__).parents[2] / "scripts"
RECOGNITION = ["--simulated", "smoke", "--steps", "2", "--seeds", "1", "--out", "recognition"]
CALLS = {
    "benchmarks/benchmark_clips.py": (
        "--recognizer small --clips 2 --frames 8 --height 48 --width 64 --steps 1 --batch 2 --threads 1",
        {"decode_clips_per_s", "step_clips_per_s"},
    ),
    "benchmarks/benchmark_compose.py": ("--placements 1", {"occlusion_iou_true_depth", "ms_per_frame"}),
    "benchmarks/benchmark_fit.py": (
        "--people 1 --frames 24 --size 160 --quality draft --no-ceiling --actions",
        {"psnr_box_fitpose_db", "total_s"},
    ),
    "benchmarks/benchmark_light.py": ("--rooms 1", None),
    "benchmarks/benchmark_rasterizer.py": (
        "--gaussians 500 --sizes-px 64 --repeats 1 --frames 1",
        {"speedup_vs_pytorch", "timings"},
    ),
    "benchmarks/benchmark_reenact.py": ("--size 96 --fps 5 --jobs 1", {"frames_per_s", "plan_1000_s"}),
    "benchmarks/benchmark_retarget.py": ("--only wave --every 12 --seconds 1 --fps 5", {"pairs"}),
    "benchmarks/benchmark_tracking.py": (
        "--people 1 --frames 16 --size 128 --actions",
        {"mpjpe_mm"},
    ),
    "benchmarks/reproduce_small.py": (
        "--classes 2 --people 4 --no-kills --out small",
        {"counts_exact", "stages", "resumed_after_kill", "seconds"},
    ),
    "kill_test.py": ("--kills 1", {"identical", "kills"}),
}
"""Options of the smallest run, and keys of its --json; None where it has no --json."""
MODULES = {
    "recognition_benchmark.py",
    "benchmarks/benchmark_results.py",
    "benchmarks/tracking_scores.py",
    "benchmarks/simulated_world.py",
    "benchmarks/real_folder.py",
    "benchmarks/real_folder_gain.py",
    "benchmarks/clip_variants.py",
}
"""Shared by the programs; none of their own."""
COVERED_BELOW = {
    "benchmarks/sim_to_real.py",
    "one_shot_benchmark.py",
    "few_shot_benchmark.py",
    "viewpoint_benchmark.py",
    "baseline_benchmark.py",
    "benchmarks/benchmark_quality_filter.py",
}


def run_script(name: str, words: list[str], folder: Path, keys: set[str] | None) -> None:
    out = [] if keys is None else ["--json", "numbers.json"]
    command = [sys.executable, str(SCRIPTS / name), *out, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    if keys is not None:
        numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
        assert keys <= set(numbers), sorted(numbers)


def test_no_script_is_forgotten():
    there = {str(path.relative_to(SCRIPTS)) for path in SCRIPTS.rglob("*.py")}
    assert there == {*CALLS, *MODULES, *COVERED_BELOW}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_the_smallest_run_ends_well(name, tmp_path):
    words, keys = CALLS[name]
    run_script(name, words.split(), tmp_path, keys)


@pytest.mark.slow
def test_the_recognition_benchmarks_share_one_simulated_set(tmp_path):
    for name in ("one_shot", "few_shot", "baseline"):
        counts = (
            ["--n-real", "1", "--synthetic-per-class", "0", "2"]
            if name == "few_shot"
            else ["--synthetic-per-class", "2"]
        )
        (tmp_path / "numbers.json").unlink(missing_ok=True)
        run_script(f"{name}_benchmark.py", [*RECOGNITION, *counts], tmp_path, {"seconds"})


@pytest.mark.slow
def test_the_quality_filters_benchmark_reads_a_finished_batch(tmp_path):
    material = write_material(tmp_path, load_body())
    assert console.run(RunCommand(four_groups(material, tmp_path / "b.yaml"), jobs=1)) == console.DONE
    words = [str(tmp_path / "out"), "--good", "1", "--clips", "1"]
    run_script("benchmarks/benchmark_quality_filter.py", words, tmp_path, {"good_passed", "caught"})
