"""Which optional backends can be used, and what is said of those that cannot."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from avatars.errors import BackendMissing, InputError
from avatars.perception.backend_table import BACKENDS, BackendOptions, availability, open_backend, resolved
from avatars.perception.backends import whole_body_detector

PYTHON = Path(sys.executable)


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
    python = tmp_path / "python"
    _says(python, "[]")
    bare_environment.setenv("RTMLIB_PYTHON", str(python))
    bare_environment.setenv("RTMLIB_WEIGHTS", str(weights))
    state = next(s for s in availability() if s.name == "rtmlib")
    assert state.missing == (f"a whole-body ONNX file: nothing at {weights}",)
    weights.touch()
    assert next(s for s in availability() if s.name == "rtmlib").usable


def test_another_python_is_asked_before_anything_is_started(bare_environment, tmp_path):
    weights, python = tmp_path / "dw.onnx", tmp_path / "python"
    weights.touch()
    options = BackendOptions(python=python, weights=weights)
    with pytest.raises(BackendMissing, match=r"No Python at .*python.*pip install rtmlib"):
        open_backend("rtmlib", options)
    _says(python, "['numpy', 'rtmlib']")
    with pytest.raises(BackendMissing, match=r"the packages numpy, rtmlib in .*python.*pip install rtmlib"):
        open_backend("rtmlib", options)
    _says(python, "hello")
    with pytest.raises(BackendMissing, match="is no working Python"):
        open_backend("rtmlib", options)


def _says(program: Path, text: str) -> None:
    """A program in a Python's place that answers this."""
    program.write_text(f'#!/bin/sh\necho "{text}"\n')
    program.chmod(0o755)


def test_given_options_win_over_the_environment(bare_environment):
    bare_environment.setenv("MMPOSE_WEIGHTS", "a.pth")
    bare_environment.setenv("MMPOSE_MODEL", "rtmw-l")
    options = resolved("mmpose", BackendOptions(weights=Path("b.pth")))
    assert (options.weights, options.model, options.device) == (Path("b.pth"), "rtmw-l", "cpu")
    bare_environment.setenv("SAM_DEVICE", "cuda")
    assert (resolved("segment-anything").device, resolved("deca").device) == ("cuda", "cpu")


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
    with pytest.raises(BackendMissing, match=r"the packages? mm\w+.* in .*install_mmpose.sh"):
        open_backend("mmpose", options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package"),
    [("segment-anything", "segment_anything"), ("depth-anything", "transformers"), ("deca", "torch")],
)
def test_a_gpu_that_is_not_there_is_no_silent_step_to_the_cpu(bare_environment, tmp_path, name, package):
    pytest.importorskip(package, reason=f"{package} is not installed")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    weights = tmp_path / "weights"
    if name == "depth-anything":
        weights.mkdir()
        (weights / "config.json").write_text('{"model_type": "depth_anything"}')
        (weights / "preprocessor_config.json").write_text("{}")
        (weights / "model.safetensors").touch()
    else:
        weights.touch()
    with pytest.raises(BackendMissing, match=r"the device cuda was asked for, .* sees no CUDA device"):
        open_backend(name, BackendOptions(weights=weights, device="cuda"))
