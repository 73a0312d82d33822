"""A fit that is killed goes on to the very same avatar, and one whose score is flat ends early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.fake_turn import TINY, MadeUpTurn, make_turn
from fakes.stopped_fit import stopped_after

from avatars.body import Body, load_body
from avatars.fitting.config import Stage
from avatars.fitting.pipeline import FitResult, fit_avatar
from avatars.fitting.state import Schedule

CONFIG = replace(TINY, stages=(Stage(4, 0.3, 6, 2), Stage(2, 0.3, 4, 2), Stage(1, 0.5, 10)))
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(":")
from fakes.fake_turn import make_turn
from avatars.body import Body, load_body
from avatars.fitting.checkpoint import CheckpointWriter
from avatars.fitting.pipeline import fit_avatar
from test_checkpoint import CONFIG

keep = CheckpointWriter.keep
def keep_and_die(keeper, progress, run):
    keeper.every_s = 0
    keep(keeper, progress, run)
    if len(progress.losses) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
CheckpointWriter.keep = keep_and_die
folder = Path(sys.argv[2])
body = load_body()
turn = make_turn(body, folder)
fit_avatar(turn.video, turn, config=CONFIG, body=body, keep=folder / "fit.pt")
"""


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def turn(body: Body, tmp_path_factory: pytest.TempPathFactory) -> MadeUpTurn:
    return make_turn(body, tmp_path_factory.mktemp("turn"))


@pytest.fixture(scope="module")
def undisturbed(turn: MadeUpTurn, body: Body) -> FitResult:
    return fit_avatar(turn.video, turn, config=CONFIG, body=body)


def same(a: FitResult, b: FitResult) -> bool:
    names = ("betas", "offsets", "quats", "log_scales", "opacity_logits", "albedo", "light")
    equal = all(torch.equal(getattr(a.avatar, name), getattr(b.avatar, name)) for name in names)
    return equal and torch.equal(a.motion.poses, b.motion.poses) and a.losses == b.losses and a.scores == b.scores


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [3, 6, 8, 13])
def test_a_stopped_fit_goes_on_to_the_same_avatar(
    iterations: int, turn: MadeUpTurn, body: Body, undisturbed: FitResult, tmp_path: Path, monkeypatch
) -> None:
    with stopped_after(iterations, monkeypatch):
        fit_avatar(turn.video, turn, config=CONFIG, body=body, keep=tmp_path / "fit.pt")
    result = fit_avatar(turn.video, turn, config=CONFIG, body=body, keep=tmp_path / "fit.pt")
    assert same(result, undisturbed)


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_same_avatar(
    turn: MadeUpTurn, body: Body, undisturbed: FitResult, tmp_path: Path
) -> None:
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [
        sys.executable,
        "-c",
        KILLED,
        f"{Path(__file__).parents[2]}:{Path(__file__).parent}",
        str(tmp_path),
        "10",
    ]
    died = subprocess.run(command, cwd=tmp_path, env={**os.environ, **threads}, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert (tmp_path / "fit.pt").is_file()
    result = fit_avatar(turn.video, turn, config=CONFIG, body=body, keep=tmp_path / "fit.pt")
    assert len(result.losses) == 20
    assert same(result, undisturbed)


@pytest.mark.slow
def test_a_flat_score_shortens_the_last_stage_alone(turn: MadeUpTurn, body: Body, monkeypatch) -> None:
    monkeypatch.setattr("avatars.fitting.optimization.WATCH_EVERY", 5)
    config = replace(CONFIG, score_frames=1, stages=(Stage(2, 0.3, 40, 2), Stage(1, 0.3, 100)))
    never_enough = fit_avatar(turn.video, turn, config=replace(config, flat_db=50.0), body=body)
    assert len(never_enough.losses) == 40 + 20 + 10  # four looks, then a tenth of the stage
    assert len(fit_avatar(turn.video, turn, config=replace(config, flat_db=0.0), body=body).losses) == 140


@pytest.mark.slow
def test_all_held_out_frames_scored_leave_nothing_to_look_at(turn: MadeUpTurn, body: Body, monkeypatch) -> None:
    monkeypatch.setattr("avatars.fitting.optimization.WATCH_EVERY", 2)
    assert len(fit_avatar(turn.video, turn, config=replace(CONFIG, flat_db=50.0), body=body).losses) == 20


def test_a_shortened_schedule_still_ends_at_the_smallest_step() -> None:
    schedule = Schedule(1000, flat_at=300)
    assert schedule.end == 400
    assert [schedule.share(step) for step in (0, 300, 350, 400)] == pytest.approx([0.0, 0.3, 0.65, 1.0])
    assert Schedule(1000).end == 1000 and Schedule(1000).share(250) == 0.25
