"""Our C++ takes arrays as they must be, and refuses all others without a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.border_calls import CALLS, OPTIONAL, Arguments
from fakes.same_code import same_code

from avatars.kernels.extension import extension

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
NOT_OF_ARRAYS = {"floats", "instruction_set", "use_instruction_set"}


@pytest.fixture(scope="module")
def outcomes() -> list[list[str]]:
    """Function, argument, what is wrong with it, of which kind that is, and what came of the call."""
    program = ROOT / "tests" / "fakes" / "border_calls.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300,
                          env=same_code())  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)


def test_every_function_of_the_module_is_called() -> None:
    module = extension()
    there = {name for name in dir(module) if not name.startswith("_")} - NOT_OF_ARRAYS - {"Drawing"}
    there |= {f"Drawing.{name}" for name in dir(module.Drawing) if not name.startswith("_")}
    assert there == set(CALLS)


@pytest.mark.parametrize("function", CALLS)
def test_good_arrays_are_taken(function: str) -> None:
    call, make = CALLS[function]
    torch.manual_seed(0)
    call(**make())
    call(**make() | dict.fromkeys(OPTIONAL.get(function, ())))
    call(**{name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in make().items()})
    call(**{name: value.requires_grad_() if _is_float(value) else value for name, value in make().items()})


def _is_float(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


@pytest.mark.parametrize("function", CALLS)
def test_a_bad_array_is_an_error_and_no_crash(function: str, outcomes: list[list[str]]) -> None:
    tried = [row for row in outcomes if row[0] == function]
    arrays = {name for name, value in CALLS[function][1]().items() if isinstance(value, torch.Tensor)}
    assert {row[1] for row in tried} == arrays and len(tried) >= 8 * len(arrays)
    taken = [row for row in tried if not row[4].startswith(("TypeError: ", "ValueError: "))]
    assert not taken
    assert not [row for row in tried if row[3] == "type" and not row[4].startswith("TypeError: ")]


def test_sizes_that_disagree_are_named(outcomes: list[list[str]]) -> None:
    said = {(function, name, what): outcome for function, name, what, _, outcome in outcomes}
    expected = {
        ("Frame", "quats", "longer 0"): "quats must have 37 points like means; found 38",
        ("skin", "rest", "shorter 0"): "rest must have 3 frames like joints, or 1; found 2",
        ("skin", "weights", "shorter 0"): "weights must have 74 values like moved_by; found 73",
        ("skin", "begins", "longer 0"): "begins must have 38 places",
        ("place_joints", "parents", "shorter 0"): "axis_angles must have 4 joints like parents; found 5",
        ("lay_over", "out", "shorter 1"): "out must have 23 columns like rgb; found 22",
        ("step_adam", "gradient", "longer 0"): "gradient must have the shape of values",
        ("add_ties", "tied_by", "shorter 0"): "tied_by must have 111 numbers like neighbors; found 110",
        ("Drawing.draw", "depth", "longer 2"): "depth must have 23 columns like the frame; found 24",
    }
    for key, words in expected.items():
        assert said[key].startswith("ValueError: ") and words in said[key], (key, said[key])


def int32(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


BAD_VALUES = {
    "a parent that stands behind": ("place_joints", {"parents": int32([-1, 0, 3, 1, 2])}),
    "a parent that is not there": ("joint_quaternions", {"parents": int32([-1, 0, -2, 1, 2])}),
    "a first joint that is no root": ("place_joints", {"parents": int32([0, 0, 1, 1, 2])}),
    "places that fall": ("skin", {"begins": torch.cat([int32([0, 70, 2]), torch.arange(6, 76, 2).int()])}),
    "places that end early": ("skin", {"begins": torch.arange(38).int()}),
    "a joint that is not there": ("skin_backward", {"moved_by": torch.full((74,), 5, dtype=torch.uint8)}),
    "more joints than the table holds": ("skin", {"joints": torch.zeros(3, 65, 16)}),
    "an anchor that is not there": ("spread", {"near": torch.full((37, 3), 11, dtype=torch.int32)}),
    "an anchor below zero": ("spread", {"near": torch.full((37, 3), -1, dtype=torch.int32)}),
    "a neighbor that is not there": ("add_ties", {"neighbors": torch.full((37, 3), 37, dtype=torch.int32)}),
    "a tie to nobody": ("add_ties", {"tied_by": torch.full((111,), -7, dtype=torch.int32)}),
    "a place beyond the bank": ("grain", {"start": 7}),
    "a place before the bank": ("grain", {"start": -1}),
    "a grid shifted by more than a cell": ("image_loss", {"shift_y": 4}),
    "a grid shifted back": ("image_loss", {"shift_x": -1}),
    "a camera that is NaN": ("Frame", {"K": torch.full((3, 3), float("nan"))}),
    "a camera infinitely far": ("Frame", {"T_cam_world": torch.full((4, 4), float("inf"))}),
    "no row": ("Frame", {"height": 0}),
    "more columns than are counted": ("Frame", {"width": 32768}),
    "fingers before the coupled joints": ("even_steps", {"first_finger": 1}),
    "fingers beyond the joints": ("even_steps", {"first_finger": 6}),
}


@pytest.mark.parametrize("what", BAD_VALUES)
def test_numbers_out_of_range_are_refused(what: str) -> None:
    function, arguments = BAD_VALUES[what]
    call, make = CALLS[function]
    with pytest.raises(ValueError, match=r"must"):
        call(**make() | arguments)


def test_what_is_refused_adds_nothing() -> None:
    call, make = CALLS["add_ties"]
    arguments: Arguments = make() | {"tied_by": torch.full((111,), 37, dtype=torch.int32)}
    with pytest.raises(ValueError, match=r"tied_by"):
        call(**arguments)
    assert not any(arguments[name].any() for name in ("v_offsets", "v_log_scales", "v_colors", "v_quats"))


def test_gradients_are_of_the_frame_that_was_drawn() -> None:
    arguments = CALLS["Drawing.backward"][1]()
    with pytest.raises(ValueError, match="frame must be the one that was drawn"):
        extension().Drawing().backward(**arguments)
    drawing, smaller = extension().Drawing(), CALLS["Frame"][1]()
    few = {name: smaller[name][:5] for name in ("means", "quats", "scales", "opacities", "colors")}
    frame = extension().Frame(**smaller | few)
    assert drawing.draw(**CALLS["Drawing.draw"][1]() | {"frame": frame})
    with pytest.raises(ValueError, match="frame must be the one that was drawn"):
        drawing.backward(**arguments)


def test_results_are_not_written_into_what_is_read_only() -> None:
    call, make = CALLS["skin"]
    frozen = np.zeros((3, 37, 3), np.float32)
    frozen.setflags(write=False)
    call(**make() | {"rest": frozen})
    with pytest.raises(TypeError):
        call(**make() | {"means": frozen})


def test_a_frame_keeps_its_arrays() -> None:
    draw, make = CALLS["Drawing.draw"][1](), CALLS["Frame"][1]
    torch.manual_seed(1)
    draw["frame"] = extension().Frame(**make())
    torch.manual_seed(1)
    kept = make()
    again = draw | {"frame": extension().Frame(**kept), "rgb": torch.zeros_like(draw["rgb"])}
    for arguments in (draw, again):
        assert extension().Drawing().draw(**arguments)
    assert torch.equal(draw["rgb"], again["rgb"])


@pytest.mark.parametrize("threads", [-1, 0])
def test_no_threads_are_one(threads: int) -> None:
    call, make = CALLS["spread"]
    arguments = make() | {"threads": threads}
    call(**arguments)
    assert arguments["out"].any()


def test_memory_that_nobody_has_is_an_error() -> None:
    for count in (2**45, 2**62, 2**64 - 1):
        with pytest.raises(MemoryError):
            extension().floats(count)
    with pytest.raises(TypeError):
        extension().floats(-1)
