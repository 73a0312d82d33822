"""Optional perception backends. Where a vendor's model runs here, it has random weights or a known answer: these tests
say that arrays, boxes and pixels go through right, and nothing about the quality of any model."""

from __future__ import annotations

import ast
import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avatars.errors import BackendMissing, InputError
from avatars.perception import backend_table, body_estimates
from avatars.perception.backend_table import BACKENDS, BackendOptions, availability, open_backend, resolved
from avatars.perception.backends import whole_body_detector
from avatars.perception.child_process import ChildFailed, ChildModel, MissingPiece, interpreter
from avatars.perception.containers import FACE, N_KEYPOINTS, Detection, Keypoints
from avatars.perception.deca_face import CROP_SIDE, face_crop
from avatars.perception.depth_anything import checked_kind
from avatars.perception.depth_maps import DepthMaps, depth_maps
from avatars.perception.prompted_masks import MaskedWholeBody, masks_of
from avatars.perception.segment_anything_masks import SegmentAnythingModel, choose_mask, moved
from avatars.perception.top_down import CHUNK, TopDownWholeBody, person_box

FOLDER = Path(backend_table.__file__).parent
VENDOR_FILES = sorted({FOLDER / (b.target.split(":")[0].rsplit(".", 1)[1] + ".py") for b in BACKENDS.values()})
PYTHON = Path(sys.executable)

# ------------------------------------------------------------------------------------------------------ child process

STUB_PROGRAM = f"""
import os, signal, sys, time
sys.path.insert(0, {str(FOLDER)!r})
from child_process import MissingPiece, child_main

class Stub:
    "a stub"
    def __init__(self, mode="good"):
        print("vendors print to standard output")
        if mode == "missing":
            raise MissingPiece("no weights at nowhere. Get them from a friend.")
        if mode == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "stubborn":
            import threading
            threading.Thread(target=time.sleep, args=(60,)).start()
        self.mode = mode
    def __call__(self, frames, shift):
        print("and again")
        if self.mode == "raises":
            raise ValueError("the ninth joint is odd")
        return {{"sum": frames.reshape(len(frames), -1).sum(1) + shift, "pid": __import__("numpy").array(os.getpid())}}

if __name__ == "__main__":
    child_main(Stub, {{"mode": "what it does"}}, inputs=("shift",))
"""


@pytest.fixture(scope="module")
def stub_program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stub") / "stub_vendor.py"
    path.write_text(STUB_PROGRAM)
    return path


def test_a_child_answers_although_the_vendor_prints(stub_program):
    frames = np.arange(24, dtype=np.int64).reshape(2, 12)
    child = ChildModel(PYTHON, stub_program, {}, what="stub")
    for shift in (0, 7):
        assert child(frames=frames, shift=np.full(2, shift))["sum"].tolist() == [66 + shift, 210 + shift]
    child.close()
    assert child.returncode == 0


def test_a_closed_or_forgotten_child_leaves_no_process(stub_program):
    children = [ChildModel(PYTHON, stub_program, {}, what="stub") for _ in range(2)]
    pids = [child._process.pid for child in children]
    children[0].close()
    with pytest.raises(ChildFailed, match="has ended"):
        children[0](frames=np.zeros((1, 1)), shift=np.zeros(1))
    del children
    gc.collect()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # neither running nor a zombie


def test_a_child_ends_when_its_parent_is_killed(stub_program):
    parent = subprocess.Popen(
        [PYTHON, "-c", textwrap.dedent(f"""
            import time
            from avatars.perception.child_process import ChildModel
            child = ChildModel({str(PYTHON)!r}, {str(stub_program)!r}, {{}}, what="stub")
            print(child._process.pid, flush=True)
            time.sleep(60)
            """)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def test_a_child_that_does_not_end_is_killed(stub_program, monkeypatch):
    monkeypatch.setattr("avatars.perception.child_process.STOP_SECONDS", 0.2)
    child = ChildModel(PYTHON, stub_program, {"mode": "stubborn"}, what="stub")
    child.close()
    assert child.returncode == -signal.SIGKILL


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_missing_piece_in_the_child_is_the_users_error_before_any_work(stub_program):
    with pytest.raises(BackendMissing, match=r"stub: no weights at nowhere\. Get them from a friend\."):
        ChildModel(PYTHON, stub_program, {"mode": "missing"}, what="stub")


def test_a_failing_child_shows_its_last_lines(stub_program):
    child = ChildModel(PYTHON, stub_program, {"mode": "raises"}, what="stub")
    with pytest.raises(ChildFailed, match=r"(?s)exit code 1.*ValueError: the ninth joint is odd"):
        child(frames=np.zeros((1, 1)), shift=np.zeros(1))
    assert child.returncode == 1


def test_a_killed_child_is_said_to_be_killed(stub_program):
    with pytest.raises(ChildFailed, match="killed by SIGKILL"):
        ChildModel(PYTHON, stub_program, {"mode": "dies"}, what="stub")
    child = ChildModel(PYTHON, stub_program, {}, what="stub")
    os.kill(child._process.pid, signal.SIGKILL)
    with pytest.raises(ChildFailed, match="killed by SIGKILL"):
        child(frames=np.zeros((50, 100_000)), shift=np.zeros(50))


def test_a_vendor_file_works_alone_frames_in_one_npz_out(stub_program, tmp_path):
    frames = np.arange(40 * 6, dtype=np.uint8).reshape(40, 1, 2, 3)
    np.save(tmp_path / "frames.npy", frames)
    np.savez(tmp_path / "inputs.npz", shift=np.arange(40))
    command = [PYTHON, stub_program, "--frames", "frames.npy", "--inputs", "inputs.npz", "--output", "out.npz"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with np.load(tmp_path / "out.npz") as out:
        assert out["sum"].tolist() == (frames.reshape(40, -1).sum(1) + np.arange(40)).tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames.npy", "inputs.npz", "out.npz"]


def test_no_python_at_a_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"No Python at .*nowhere"):
        interpreter(tmp_path / "nowhere")
    assert interpreter(PYTHON.parent.parent if (PYTHON.parent.name == "bin") else PYTHON).is_file()


@pytest.mark.parametrize("path", [*VENDOR_FILES, FOLDER / "child_process.py"], ids=lambda p: p.stem)
def test_a_vendor_file_is_readable_by_old_pythons(path):
    ast.parse(path.read_text(), feature_version=(3, 7))


def test_vendor_files_import_neither_this_package_nor_a_vendor():
    names = ", ".join(path.stem for path in VENDOR_FILES)
    code = f"""
        import sys
        sys.path.insert(0, {str(FOLDER)!r})
        import {names}
        loaded = {{name.split(".")[0] for name in sys.modules}}
        assert not loaded & {{"avatars", "torch", "mmpose", "cv2", "transformers", "segment_anything"}}, loaded
        """
    subprocess.run([PYTHON, "-c", textwrap.dedent(code)], check=True, cwd="/")


# --------------------------------------------------------------------------------------------------- what is available


@pytest.fixture
def bare_environment(monkeypatch):
    for backend in BACKENDS.values():
        for option in ("PYTHON", "WEIGHTS", "MODEL", "REPOSITORY", "DEVICE"):
            monkeypatch.delenv(f"{backend.prefix}_{option}", raising=False)
    return monkeypatch


def test_availability_names_every_missing_piece_its_source_and_its_variable(bare_environment):
    states = {state.name: state for state in availability()}
    assert list(states) == list(BACKENDS)
    for name, backend in BACKENDS.items():
        state = states[name]
        assert not state.usable
        for need in backend.needs:
            assert any(need.what in piece for piece in state.missing)
            assert need.source in state.fix
            assert f"{backend.prefix}_{need.option.upper()}" in state.fix


def test_availability_imports_no_vendor():
    code = """
        import sys
        from avatars.perception.backend_table import availability
        availability()
        assert not {"torch", "mmpose", "rtmlib", "segment_anything", "transformers", "mediapipe"} & set(sys.modules)
        """
    subprocess.run([PYTHON, "-c", textwrap.dedent(code)], check=True)


def test_a_backend_is_usable_when_all_is_named(bare_environment, tmp_path):
    weights = tmp_path / "dw.onnx"
    bare_environment.setenv("RTMLIB_PYTHON", str(PYTHON))
    bare_environment.setenv("RTMLIB_WEIGHTS", str(weights))
    state = next(s for s in availability() if s.name == "rtmlib")
    assert state.missing == (f"a whole-body ONNX file: nothing at {weights}",)
    weights.touch()
    assert next(s for s in availability() if s.name == "rtmlib").usable


def test_given_options_win_over_the_environment(bare_environment):
    bare_environment.setenv("MMPOSE_WEIGHTS", "a.pth")
    bare_environment.setenv("MMPOSE_MODEL", "rtmw-l")
    options = resolved("mmpose", BackendOptions(weights=Path("b.pth")))
    assert (options.weights, options.model, options.device) == (Path("b.pth"), "rtmw-l", "cpu")
    assert resolved("hand4whole").device == "cuda"  # it runs nowhere else


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openpose", "No keypoint detector 'openpose'; known: mediapipe, mmpose, rtmlib"),
        ("mediapipe+mask2former", "No mask model 'mask2former'; known: segment-anything"),
    ],
)
def test_an_unknown_detector_is_told_the_known_ones(name, message):
    with pytest.raises(InputError, match=message.replace("+", r"\+")):
        whole_body_detector(name)


def test_an_absent_backend_is_an_error_before_any_frame(bare_environment, tmp_path):
    with pytest.raises(BackendMissing, match=r"a whole-body checkpoint.*MMPOSE_WEIGHTS"):
        whole_body_detector("mmpose")
    options = BackendOptions(python=PYTHON, weights=tmp_path, model="rtmw-l")  # this Python has no MMPose
    with pytest.raises(BackendMissing, match=r"the package mm\w+ is not installed.*install_mmpose.sh"):
        open_backend("mmpose", options)


# ----------------------------------------------------------------------------------------- keypoints inside known boxes


class _Finder:
    """Finds in frame i a person whose points stand around (10 + i, 20), and nobody in every fifth frame."""

    def detect(self, frames, *, masks=True, count_people_every=0):
        for i, frame in enumerate(frames):
            empty = np.zeros(frame.shape[:2], np.uint8)
            if i % 5 == 4:
                yield Detection.nobody(empty)
                continue
            xy = np.full((N_KEYPOINTS, 2), (10.0 + i, 20.0), np.float32)
            xy[:17, 1] += np.linspace(-10, 10, 17)
            yield Detection(xy, np.full(N_KEYPOINTS, 0.9, np.float32), None, empty, 1)


class _CenterModel:
    """Puts every keypoint at its box's center, and the first outside; its score is the frame's first pixel."""

    def __call__(self, frames, boxes):
        center = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        xy = np.repeat(center, N_KEYPOINTS, 1)
        xy[:, 0] = -3.0
        score = np.repeat(frames[:, 0, 0, :1] / 255.0, N_KEYPOINTS, 1)
        return {"xy": xy, "score": score}

    def close(self):
        pass


def test_each_frames_keypoints_come_from_its_own_frame_and_box():
    count = 2 * CHUNK + 3
    frames = [np.full((64, 120, 3), 100 + i, np.uint8) for i in range(count)]
    found = list(TopDownWholeBody(_CenterModel(), _Finder()).detect(iter(frames)))
    assert len(found) == count
    for i, detection in enumerate(found):
        assert detection.found == (i % 5 != 4)
        if detection.found:
            assert detection.xy[1, 0] == pytest.approx(10 + i, abs=0.1)
            assert detection.score[1] == pytest.approx((100 + i) / 255)
            assert detection.score[0] == 0  # it fell outside the frame


def test_the_persons_box_holds_keypoints_and_mask_and_stays_in_the_frame():
    xy = np.zeros((N_KEYPOINTS, 2), np.float32)
    score = np.zeros(N_KEYPOINTS, np.float32)
    xy[:2], score[:2] = [(30, 40), (50, 140)], 0.9
    xy[2], score[2] = (900, 900), 0.1  # not seen
    mask = np.zeros((150, 100), np.uint8)
    mask[20:100, 10:20] = 255
    left, top, right, bottom = person_box(Detection(xy, score, None, mask), mask.shape)
    assert (left, top, bottom) == (10, 20, 145)
    assert 50 < right < 60
    assert person_box(Detection.nobody(mask), mask.shape) is None


SIZE_WH = (192, 256)  # of the network's input in the two stand-ins below
RED_POINTS = 100


def dot_scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames with a red and a blue bump, boxes of three sizes and shapes, and where the bumps are (pixels).

    The stand-ins' bins are whole input pixels: the bumps stand where such a pixel lies in the frame.
    """
    width, height = SIZE_WH
    boxes, red, blue, frames = [], [], [], []
    cases = [
        (1.0, (320.0, 240.0), (1.0, 0.6)),  # zoom, box center, share of the input's height and width that the box has
        (2.0, (250.0, 200.0), (0.4, 1.0)),
        (1.5, (400.0, 300.0), (1.0, 1.0)),
    ]
    for zoom, center, (tall, wide) in cases:
        half = np.array([width * wide, height * tall]) * zoom / 1.25 / 2  # detectors pad boxes by 1.25
        boxes.append([*(np.array(center) - half), *(np.array(center) + half)])
        where = [
            np.array(center) + (np.array(pixel) - np.array(SIZE_WH) / 2) * zoom for pixel in ((60, 90), (131, 170))
        ]
        red.append(where[0])
        blue.append(where[1])
        frames.append(_bumps((480, 640), where, zoom))
    return np.stack(frames), np.float32(boxes), np.array(red), np.array(blue)


def _bumps(size_hw, where, zoom):
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    frame = np.zeros((*size_hw, 3))
    for channel, (cx, cy) in zip((0, 2), where, strict=True):
        frame[..., channel] = 255 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (3 * zoom) ** 2))
    return np.rint(frame).astype(np.uint8)


def check_dots(model) -> None:
    frames, boxes, red, blue = dot_scene()
    found = model(frames=frames, boxes=boxes)
    assert found["xy"].shape == (3, N_KEYPOINTS, 2)
    wanted = np.concatenate([np.repeat(red[:, None], RED_POINTS, 1), np.repeat(blue[:, None], 33, 1)], 1)
    np.testing.assert_allclose(found["xy"], wanted, atol=0.01)  # pixels; swapped colors would exchange the two
    assert found["score"].min() > 0.9


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
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no environment with {packages}")
    python = interpreter(python)
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
    weights.write_bytes(b"no network")
    with pytest.raises(BackendMissing, match="cannot be read as ONNX"):
        open_backend("rtmlib", BackendOptions(python=rtmlib_python, weights=weights))


DOT_HEAD = """
import torch
from mmpose.models.heads.base_head import BaseHead
from mmpose.registry import KEYPOINT_CODECS, MODELS

@MODELS.register_module(force=True)
class Same(torch.nn.Module):
    def forward(self, x):
        return (x,)

@MODELS.register_module(force=True)
class DotHead(BaseHead):
    def __init__(self, out_channels, decoder, red, init_cfg=None):
        super().__init__(init_cfg)
        self.out_channels, self.red = out_channels, red
        self.decoder = KEYPOINT_CODECS.build(decoder)

    def forward(self, feats):
        x = feats[-1]
        blue = self.out_channels - self.red
        maps = torch.cat([x[:, :1].repeat(1, self.red, 1, 1), x[:, 2:].repeat(1, blue, 1, 1)], 1)
        return maps.amax(2).repeat_interleave(2, -1), maps.amax(3).repeat_interleave(2, -1)

    def predict(self, feats, samples, test_cfg=None):
        return self.decode(self.forward(feats))

    def loss(self, *a, **k):
        raise NotImplementedError
"""

MMPOSE_CONFIG_OF_DOTS = (
    f"""
exec({DOT_HEAD!r}, {{}})
"""
    + """
codec = dict(type="SimCCLabel", input_size=(192, 256), sigma=(4.9, 5.66), simcc_split_ratio=2.0, normalize=False,
             use_dark=False)
model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(type="PoseDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True),
    backbone=dict(type="Same"),
    head=dict(type="DotHead", out_channels=133, red=100, decoder=codec),
    test_cfg=dict(flip_test=False))
pipeline = [dict(type="LoadImage"), dict(type="GetBBoxCenterScale"), dict(type="TopdownAffine", input_size=(192, 256)),
            dict(type="PackPoseInputs")]
test_dataloader = dict(dataset=dict(type="CocoWholeBodyDataset", pipeline=pipeline))
train_dataloader = dict(dataset=dict(type="CocoWholeBodyDataset"))
default_scope = "mmpose"
"""
)


def test_mmpose_finds_known_peaks_at_their_pixels(tmp_path, bare_environment):
    """The network is a stand-in whose SimCC peaks are where the picture is red and blue; MMPose does all the rest."""
    python = _side_python_of_mmpose()
    config, weights = tmp_path / "dots.py", tmp_path / "dots.pth"
    config.write_text(MMPOSE_CONFIG_OF_DOTS)
    torch.save({"state_dict": {}}, weights)
    model = open_backend("mmpose", BackendOptions(python=python, weights=weights, model=str(config)))
    check_dots(model)
    model.close()


MMPOSE_PYTHON = os.environ.get("MMPOSE_PYTHON")  # read before a fixture clears it


def _side_python_of_mmpose() -> Path:
    if not MMPOSE_PYTHON:
        pytest.skip("MMPOSE_PYTHON names no environment made by scripts/install_mmpose.sh")
    return interpreter(MMPOSE_PYTHON)


def test_mmpose_refuses_a_checkpoint_of_another_config(tmp_path, bare_environment):
    python = _side_python_of_mmpose()
    weights = tmp_path / "other.pth"
    torch.save({"state_dict": {"backbone.stem.0.conv.weight": torch.zeros(1)}}, weights)
    options = BackendOptions(python=python, weights=weights, model="rtmpose-t_8xb64-270e_coco-ubody-wholebody-256x192")
    with pytest.raises(BackendMissing, match="does not belong to this config"):
        open_backend("mmpose", options)


# --------------------------------------------------------------------------------------------------------------- masks


def disk(center, radius, size_hw=(64, 64)):
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return (x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2


def test_the_mask_with_all_keypoints_is_preferred_to_a_part():
    whole, part, everything = disk((32, 32), 20), disk((32, 20), 8), np.ones((64, 64), bool)
    points = np.array([[32, 14], [32, 32], [32, 48]], float)
    box = np.array([12, 12, 52, 52], float)
    assert choose_mask(np.stack([part, whole, everything]), np.full(3, 0.9), points, box, None) == 1


def test_the_last_frames_mask_decides_between_equals():
    left, right = disk((22, 32), 15), disk((42, 32), 15)
    none, box = np.zeros((0, 2)), np.array([7, 17, 57, 47], float)
    assert choose_mask(np.stack([left, right]), np.full(2, 0.9), none, box, disk((40, 33), 15)) == 1
    assert choose_mask(np.stack([left, right]), np.full(2, 0.9), none, box, disk((24, 33), 15)) == 0


def test_moved_logits_bring_nothing_from_the_other_side():
    low = np.full((256, 256), -5.0, np.float32)
    low[10, 250] = 3.0
    assert moved(low, np.array([-4, 6]))[16, 246] == 3.0
    assert (moved(low, np.array([20, 0])) == -5.0).all()


class _FakePredictor:
    """Answers with the background, a part of the person, and the person: a disk around the points' mean."""

    def __init__(self):
        self.mask_inputs = []

    def set_image(self, image):
        self.size_hw = image.shape[:2]

    def predict(self, point_coords, point_labels, box, mask_input, multimask_output, return_logits):
        assert multimask_output
        assert return_logits
        assert (point_labels == 1).all()
        self.mask_inputs.append(mask_input)
        masks = [~disk(box[:2], 1, self.size_hw), disk(point_coords[0], 3, self.size_hw)]
        masks.append(disk(point_coords.mean(0), 12, self.size_hw))
        logits = np.where(np.stack(masks), 8.0, -8.0).astype(np.float32)
        low = np.stack([np.kron(m, np.ones((4, 4))) for m in logits]).astype(np.float32)
        return logits, np.full(3, 0.9, np.float32), low


def test_segment_anything_is_shown_the_last_mask_where_the_person_has_moved_to():
    model = object.__new__(SegmentAnythingModel)
    model._predictor, model._last = _FakePredictor(), None
    points = np.array([[[24, 24], [40, 24], [32, 40]]] * 2, np.float32)
    points[1] += (5, 3)
    boxes = np.array([[20, 20, 44, 44], [25, 23, 49, 47]], np.float32)
    scores = np.ones((2, 3), np.float32)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    masks = model(frames=frames, boxes=boxes, points=points, scores=scores)["masks"]
    assert masks.dtype == np.uint8
    for mask, keypoints in zip(masks, points, strict=True):
        np.testing.assert_array_equal(mask > 127, disk(keypoints.mean(0), 12))
    first, second, carried = model._predictor.mask_inputs
    assert first is None and second is None
    np.testing.assert_array_equal(carried[0, 2::4, 2::4] > 0, disk(points[1].mean(0), 12))
    empty = model(frames=frames[:1], boxes=np.full((1, 4), np.nan), points=points[:1], scores=scores[:1])["masks"]
    assert not empty.any()
    assert model._last is None  # what comes after a gap starts anew


def test_masks_replace_the_detectors_own_and_follow_the_frames():
    class Whole:
        def __call__(self, frames, boxes, points, scores):
            if np.isnan(boxes).any():
                return {"masks": np.zeros(frames.shape[:3], np.uint8)}
            assert points.shape == (1, 17, 2)
            return {"masks": np.broadcast_to(frames[:, :1, :1, 0], frames.shape[:3])}

        def close(self):
            pass

    frames = [np.full((64, 120, 3), 1 + i, np.uint8) for i in range(6)]
    found = list(MaskedWholeBody(Whole(), _Finder()).detect(iter(frames)))
    assert [int(d.mask.max()) for d in found] == [1, 2, 3, 4, 0, 6]  # nobody in the fifth
    keypoints = Keypoints(
        xy=torch.from_numpy(np.stack([d.xy for d in found])),
        score=torch.from_numpy(np.stack([d.score for d in found])),
        valid=torch.tensor([True, True, False, True, False, True]),
        size_hw=(64, 120),
    )
    assert [int(m.max()) for m in masks_of(Whole(), frames, keypoints)] == [1, 2, 0, 4, 0, 6]


def test_segment_anything_runs_through_with_a_tiny_network_of_random_weights(monkeypatch, tmp_path):
    """The real architecture, 64 wide and 2 deep: shapes and types, nothing about quality."""
    sam = pytest.importorskip("segment_anything", reason="segment-anything is not installed (extra: sam)")
    build = pytest.importorskip("segment_anything.build_sam")
    from avatars.perception import segment_anything_masks

    torch.manual_seed(0)
    tiny = lambda checkpoint=None: build._build_sam(64, 2, 2, [1], checkpoint)  # noqa: E731
    torch.save(tiny().state_dict(), tmp_path / "sam_tiny.pth")
    monkeypatch.setitem(sam.sam_model_registry, "tiny", tiny)
    monkeypatch.setitem(segment_anything_masks.VARIANTS, 64, "tiny")
    model = SegmentAnythingModel(str(tmp_path / "sam_tiny.pth"))
    frames = np.random.default_rng(0).integers(0, 255, (2, 90, 160, 3), np.uint8)
    points = np.full((2, 17, 2), 60.0, np.float32)
    boxes = np.tile(np.array([40, 20, 80, 85], np.float32), (2, 1))
    masks = model(frames=frames, boxes=boxes, points=points, scores=np.ones((2, 17), np.float32))["masks"]
    assert masks.shape == (2, 90, 160)
    assert masks.dtype == np.uint8
    torch.save({"some": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(MissingPiece, match="no Segment Anything checkpoint"):
        SegmentAnythingModel(str(tmp_path / "other.pth"))


# --------------------------------------------------------------------------------------------------------------- depth


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "depth_anything"}, "relative"),
        ({"model_type": "depth_anything", "depth_estimation_type": "relative", "max_depth": 1}, "relative"),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric", "max_depth": 20}, "metric"),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, "no max_depth"),
        ({"model_type": "dpt"}, "of type 'dpt', not depth_anything"),
    ],
)
def test_metric_and_relative_checkpoints_are_told_apart_by_their_config(tmp_path, config, kind):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MissingPiece, match=r"no preprocessor_config\.json"):
        checked_kind(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    if kind in ("metric", "relative"):
        assert checked_kind(str(tmp_path)) == kind
    else:
        with pytest.raises(MissingPiece, match=kind):
            checked_kind(str(tmp_path))


def test_relative_depth_has_no_meters_until_it_is_fitted_to_known_depth():
    depth_m = torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(0)) * 8 + 1
    relative = DepthMaps(3.0 * (1 / depth_m) + 0.7, "relative")
    with pytest.raises(InputError, match="relative"):
        relative.meters()
    known = torch.zeros(2, 12, 16, dtype=torch.bool)
    known[:, 8:] = True  # the floor
    torch.testing.assert_close(relative.fitted(depth_m, known).meters(), depth_m, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match="Only 0 pixels"):
        relative.fitted(depth_m, torch.zeros_like(known))
    with pytest.raises(InputError, match="does not rise and fall"):
        DepthMaps(-relative.values, "relative").fitted(depth_m, known)


@pytest.mark.parametrize(("kind", "extra"), [("relative", {}), ("metric", {"max_depth": 20})])
def test_depth_anything_runs_through_with_a_tiny_network_of_random_weights(tmp_path, bare_environment, kind, extra):
    """The real architecture, 32 wide: shapes, types and the kind, nothing about quality."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: depth)")
    backbone = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8, 16, 32, 32],
        fusion_hidden_size=16, head_hidden_size=8, depth_estimation_type=kind, **extra,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    transformers.DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(tmp_path)
    frames = np.random.default_rng(0).integers(0, 255, (2, 60, 100, 3), np.uint8)
    maps = depth_maps(frames, BackendOptions(weights=tmp_path))
    assert maps.kind == kind
    assert maps.values.shape == (2, 60, 100)
    if kind == "metric":
        assert 0 < float(maps.meters().min()) <= float(maps.meters().max()) < 20


# -------------------------------------------------------------------------------------------------------- face and body


def test_the_face_crop_is_the_landmarks_square_enlarged_in_rgb():
    ramp = np.zeros((400, 600, 3), np.uint8)
    ramp[..., 0] = np.arange(600) * 255 // 600
    ramp[..., 1] = (np.arange(400) * 255 // 400)[:, None]
    landmarks = np.array([[250.5, 100.5], [330.5, 180.5]])  # 80 px wide and high, around (290.5, 140.5)
    crop = face_crop(ramp, landmarks)
    assert crop.shape == (CROP_SIDE, CROP_SIDE, 3)
    side = int(80 * 1.1 * 1.25)
    columns = np.linspace(290 - side / 2, 290 + side / 2, CROP_SIDE)
    rows = np.linspace(140 - side / 2, 140 + side / 2, CROP_SIDE)
    np.testing.assert_allclose(crop[112, :, 0], columns / 600, atol=2 / 255)
    np.testing.assert_allclose(crop[:, 112, 1], rows / 400, atol=2 / 255)


def test_flames_jaw_is_taken_over_and_its_head_turned_into_the_cameras_axes():
    pose, expression = np.zeros((3, 6), np.float32), np.ones((3, 50), np.float32)
    pose[1] = (0, 0.5, 0, 0.2, 0.01, -0.02)
    pose[2] = np.nan
    face = body_estimates.face_from_flame(pose, expression)
    assert face.valid.tolist() == [True, True, False]
    torch.testing.assert_close(face.jaw_pose[1], torch.tensor([0.2, 0.01, -0.02]))
    R = body_estimates.matrix_from_axis_angle(face.head_orient_cam)
    # a head that looks into the camera: its face (+Z) points back at it (-z), its top (+Y) up (-y)
    torch.testing.assert_close(R[0], torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    # turned by +0.5 about its own up axis, the face points to the picture's right
    torch.testing.assert_close(
        R[1] @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([np.sin(0.5), 0, -np.cos(0.5)]).float()
    )
    assert not face.jaw_pose[2].any()


def test_flames_expression_is_refused_for_a_body_whose_expressions_are_others():
    face = body_estimates.face_from_flame(np.zeros((2, 6), np.float32), np.arange(100, dtype=np.float32).reshape(2, 50))
    licensed = SimpleNamespace(n_vertices=10_475, n_expression=10)
    assert face.expression_for(licensed)[1].tolist() == list(range(50, 60))
    with pytest.raises(InputError, match="means nothing to the default body"):
        face.expression_for(SimpleNamespace(n_vertices=13_718, n_expression=10))


def hand4whole_output(frames: int) -> dict[str, np.ndarray]:
    from avatars.perception.hand4whole_body import OUTPUTS

    rng = np.random.default_rng(0)
    out = {name: rng.normal(size=(frames, size)).astype(np.float32) for name, size in OUTPUTS.items()}
    return {**out, "hand_mean": np.tile(np.arange(90, dtype=np.float32), (frames, 1))}


def test_hand4wholes_parameters_land_on_their_joints_with_the_hand_mean_added():
    out = hand4whole_output(3)
    for name in out:
        out[name][2] = np.nan
    body = body_estimates.body_from_hand4whole(out)
    assert body.valid.tolist() == [True, True, False]
    poses = body.poses.numpy()
    np.testing.assert_array_equal(poses[1, 0], out["smplx_root_pose"][1])
    np.testing.assert_array_equal(poses[1, 1:22].ravel(), out["smplx_body_pose"][1])
    np.testing.assert_array_equal(poses[1, 22], out["smplx_jaw_pose"][1])
    assert not poses[:, 23:25].any()
    np.testing.assert_allclose(poses[1, 25:40].ravel(), out["smplx_lhand_pose"][1] + np.arange(45), rtol=1e-6)
    np.testing.assert_allclose(poses[1, 40:55].ravel(), out["smplx_rhand_pose"][1] + np.arange(45, 90), rtol=1e-6)
    assert not poses[2].any()


def some_keypoints(frames: int) -> Keypoints:
    """A person in the middle of 120 x 200 frames, nobody in the last."""
    xy = torch.zeros(frames, N_KEYPOINTS, 2)
    xy[..., 0] = 100 + torch.linspace(-20, 20, N_KEYPOINTS)
    xy[..., 1] = 60 + torch.linspace(-50, 50, N_KEYPOINTS)
    valid = torch.arange(frames) < frames - 1
    return Keypoints(xy, torch.full((frames, N_KEYPOINTS), 0.9), valid, (120, 200))


def test_the_deca_program_speaks_decas_interface(tmp_path, bare_environment):
    """A stand-in for DECA's package with its documented interface, in a child process; DECA itself was not run."""
    files = {
        "decalib/__init__.py": "",
        "decalib/utils/__init__.py": "",
        "decalib/utils/config.py": """
            from types import SimpleNamespace
            cfg = SimpleNamespace(pretrained_modelpath="", model=SimpleNamespace())
            """,
        "decalib/deca.py": """
            import torch
            class DECA(torch.nn.Module):
                def __init__(self, config=None, device="cuda"):
                    super().__init__()
                    torch.load(config.pretrained_modelpath)
                    self._setup_renderer(config.model)
                def _setup_renderer(self, model_cfg):
                    raise RuntimeError("compiles CUDA code")
                def encode(self, images, use_detail=True):
                    assert not use_detail and images.shape[1:] == (3, 224, 224)
                    assert images.dtype == torch.float32 and 0 <= images.min() and images.max() <= 1
                    n = len(images)
                    red = images.mean((2, 3))[:, :1]
                    return {"pose": red * torch.arange(6), "exp": red * torch.ones(n, 50), "shape": torch.zeros(n, 100)}
            """,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    frames = np.zeros((3, 120, 200, 3), np.uint8)
    frames[..., 0] = np.array([51, 102, 255])[:, None, None]
    options = BackendOptions(repository=tmp_path)
    bare_environment.setattr(backend_table, "BACKENDS", {**BACKENDS, "deca": _without_packages(BACKENDS["deca"])})
    with pytest.raises(BackendMissing, match=r"no data/deca_model\.tar"):
        body_estimates.estimate_face(frames, some_keypoints(3), options)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "generic_model.pkl").touch()
    torch.save({}, tmp_path / "data" / "deca_model.tar")
    face = body_estimates.estimate_face(frames, some_keypoints(3), options)
    assert face.valid.tolist() == [True, True, False]
    torch.testing.assert_close(face.jaw_pose[:2], torch.tensor([[0.2], [0.4]]) * torch.tensor([3.0, 4.0, 5.0]))
    torch.testing.assert_close(face.expression[:2], torch.tensor([[0.2], [0.4]]).expand(2, 50))
    assert slice(23, 91) == FACE


def _without_packages(backend):
    from dataclasses import replace

    return replace(backend, packages=())


def test_the_hand4whole_program_speaks_hand4wholes_interface(tmp_path, bare_environment):
    """A stand-in for Hand4Whole's modules with their documented interface, in a child process; Hand4Whole itself was
    not run."""
    files = {
        "main/config.py": "class cfg:\n    input_img_shape = (512, 384)",
        "main/model.py": """
            import torch
            class Model(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.gain = torch.nn.Parameter(torch.zeros(1))
                def forward(self, inputs, targets, meta_info, mode):
                    image = inputs["img"]
                    assert image.shape[1:] == (3, 512, 384) and mode == "test" and image.max() <= 1
                    sizes = dict(root_pose=3, body_pose=63, lhand_pose=45, rhand_pose=45, jaw_pose=3, shape=10, expr=10)
                    red = image.mean((2, 3))[:, :1] * self.gain
                    return {"smplx_" + k: red.expand(-1, n) for k, n in sizes.items()}
            def get_model(mode):
                return Model()
            """,
        "common/utils/__init__.py": "",
        "common/utils/human_models.py": """
            import torch
            class smpl_x:
                class layer:
                    pose_mean = torch.cat([torch.zeros(75), torch.full((45,), 1.0), torch.full((45,), 2.0)])
            """,
        "common/utils/preprocessing.py": """
            import numpy as np
            def process_bbox(bbox, width, height):
                x, y, w, h = bbox
                assert (width, height) == (200, 120) and 40 < w < 60 and 100 < h < 121, bbox
                return np.array(bbox)
            def generate_patch_image(image, bbox, scale, rotation, flip, shape):
                assert not flip and (scale, rotation) == (1.0, 0.0)
                return np.broadcast_to(image[60, 100], (*shape, 3)).astype(np.float32), None, None
            """,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    weights = tmp_path / "snapshot_6.pth.tar"
    torch.save({"network": {"module.gain": torch.ones(1)}}, weights)
    frames = np.zeros((3, 120, 200, 3), np.uint8)
    frames[..., 0] = np.array([51, 102, 255])[:, None, None]
    options = BackendOptions(repository=tmp_path, weights=weights, device="cpu")
    bare_environment.setattr(
        backend_table, "BACKENDS", {**BACKENDS, "hand4whole": _without_packages(BACKENDS["hand4whole"])}
    )
    with pytest.raises(BackendMissing, match="no smplx in"):
        body_estimates.estimate_body(frames, some_keypoints(3), options)
    for folder in ("smplx", "smpl", "mano", "flame"):
        (tmp_path / "common" / "utils" / "human_model_files" / folder).mkdir(parents=True)
    body = body_estimates.estimate_body(frames, some_keypoints(3), options)
    assert body.valid.tolist() == [True, True, False]
    torch.testing.assert_close(body.poses[:2, 0], torch.tensor([[0.2], [0.4]]).expand(2, 3))
    torch.testing.assert_close(body.poses[1, 25:40], torch.full((15, 3), 1.4))
    torch.testing.assert_close(body.poses[1, 40:55], torch.full((15, 3), 2.4))
    torch.testing.assert_close(body.betas[1], torch.full((10,), 0.4))


def test_frames_and_keypoints_of_different_clips_are_refused():
    class Model:
        def __call__(self, frames, valid):
            return {"pose": np.zeros((len(frames), 6))}

        def close(self):
            pass

    with pytest.raises(InputError, match="2 frames were given with keypoints of 3"):
        body_estimates._answers(Model(), np.zeros((2, 4, 4, 3)), {"valid": np.ones(3, bool)})
