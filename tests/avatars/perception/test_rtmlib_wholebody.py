"""rtmlib around a stand-in network: arrays, boxes and pixels; nothing about the quality of any weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.dot_scene import check_dots

from avatars.errors import BackendMissing
from avatars.perception.backend_table import BackendOptions, open_backend
from avatars.perception.child_process import interpreter

ONNX_OF_DOTS = """
import sys
import numpy as np
import onnx
from onnx import helper, numpy_helper

def ints(name, values):
    return numpy_helper.from_array(np.array(values, np.int64), name)

def build(path, points=133, red=100, width=192, height=256):
    nodes, constants = [], [ints("one", [1]), ints("three", [3]), ints("twice", [1, 1, 1, 2])]
    constants += [ints(f"at{n}", [n]) for n in (0, 1, 2, 3)]
    for axis, other, size in (("x", 2, width), ("y", 3, height)):
        constants += [ints("other" + axis, [other]), ints("flat" + axis, [0, 1, 2 * size])]
        for color, (start, end), count in (("r", ("at0", "at1"), red), ("b", ("at2", "at3"), points - red)):
            t = axis + color
            constants.append(ints("many" + t, [1, count, 2 * size]))
            nodes += [
                helper.make_node("Slice", ["input", start, end, "one"], ["channel" + t]),
                helper.make_node("ReduceMax", ["channel" + t, "other" + axis], ["peak" + t], keepdims=0),
                helper.make_node("Unsqueeze", ["peak" + t, "three"], ["column" + t]),
                helper.make_node("Expand", ["column" + t, "twice"], ["double" + t]),
                helper.make_node("Reshape", ["double" + t, "flat" + axis], ["bins" + t]),
                helper.make_node("Expand", ["bins" + t, "many" + t], ["all" + t]),
            ]
        nodes.append(helper.make_node("Concat", [f"all{axis}r", f"all{axis}b"], ["simcc_" + axis], axis=1))
    value = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        nodes, "dots", [value("input", [1, 3, height, width])],
        [value("simcc_x", [1, points, 2 * width]), value("simcc_y", [1, points, 2 * height])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, path)

build(sys.argv[1], int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def rtmlib_python() -> Path:
    return _side_python("RTMLIB_PYTHON", "rtmlib, onnxruntime, onnx")


def _side_python(variable: str, packages: str) -> Path:
    python = interpreter(os.environ.get(variable) or sys.executable)
    if subprocess.run([python, "-c", f"import {packages}"], capture_output=True).returncode:
        pytest.skip(f"{python} cannot import {packages}")
    return python


def test_rtmlib_finds_known_peaks_at_their_pixels(rtmlib_python, tmp_path, bare_environment):
    """The network is a stand-in whose SimCC peaks are where the picture is red and blue."""
    weights = tmp_path / "dots.onnx"
    subprocess.run([rtmlib_python, "-c", ONNX_OF_DOTS, weights, "133"], check=True)
    model = open_backend("rtmlib", BackendOptions(python=rtmlib_python, weights=weights))
    check_dots(model)
    model.close()


def test_rtmlib_refuses_other_files(rtmlib_python, tmp_path, bare_environment):
    weights = tmp_path / "body.onnx"
    subprocess.run([rtmlib_python, "-c", ONNX_OF_DOTS, weights, "117"], check=True)
    with pytest.raises(BackendMissing, match="SimCC of 133 keypoints"):
        open_backend("rtmlib", BackendOptions(python=rtmlib_python, weights=weights))
    with pytest.raises(BackendMissing, match="onnxruntime-gpu"):
        open_backend("rtmlib", BackendOptions(python=rtmlib_python, weights=weights, device="cuda"))
    weights.write_bytes(b"no network")
    with pytest.raises(BackendMissing, match="cannot be read as ONNX"):
        open_backend("rtmlib", BackendOptions(python=rtmlib_python, weights=weights))
