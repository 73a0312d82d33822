"""RTMW, RTMPose or DWPose as an ONNX file, through rtmlib -> 133 keypoints; the only file that names rtmlib.

Apache-2.0, ONNX Runtime, no torch. From the same weights it agrees with MMPose. Also a program of its own
(`child_process`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main
else:  # started by path under another Python
    from child_process import MissingPiece, child_main

N_KEYPOINTS = 133
SPLIT_RATIO = 2  # SimCC bins per input pixel, fixed in rtmlib
INSTALL = "python -m venv ENV && ENV/bin/pip install rtmlib onnxruntime; then give its Python (RTMLIB_PYTHON=ENV)"


class RtmlibModel:
    """Whole-body keypoints of one person per frame."""

    def __init__(self, weights, device="cpu"):
        """`weights`: the ONNX file. Raises MissingPiece."""
        for package in ("rtmlib", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise MissingPiece(f"the package {package} is not installed in {sys.executable}. {INSTALL}.")
        if not os.path.isfile(weights):  # rtmlib would take the path for an address and try to download it
            raise MissingPiece(f"no ONNX file at {weights}.")
        import onnxruntime

        if device.startswith("cuda") and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise MissingPiece(  # it would run on the CPU, and print so
                f"the device {device} was asked for, and onnxruntime in {sys.executable} runs on the CPU alone; "
                "pip install onnxruntime-gpu in its place."
            )
        try:
            session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
        except Exception as error:
            unpack = " Unpack it and give its end2end.onnx." if weights.endswith(".zip") else ""
            raise MissingPiece(f"{weights} cannot be read as ONNX ({str(error).splitlines()[0]}).{unpack}") from None
        self._size_wh = _checked_size(session, weights)
        del session
        from rtmlib import RTMPose

        self._pose: Any = RTMPose(weights, model_input_size=self._size_wh, backend="onnxruntime", device=device)

    def __call__(self, frames, boxes):
        """See `MMPoseModel`: same arrays, same meaning."""
        rows = [self._predict(frame, box) for frame, box in zip(frames, boxes)]  # noqa: B905  (Python 3.7)
        return {"xy": np.stack([xy for xy, _ in rows]), "score": np.stack([score for _, score in rows])}

    def _predict(self, frame, box):
        # RGB: rtmlib normalizes with RGB means and never converts. Pixels from the first one's center, as in OpenCV.
        crop, center, scale = self._pose.preprocess(frame, box.astype(np.float64) - 0.5)
        simcc_x, simcc_y = self._pose.inference(crop)
        xy, _ = self._pose.postprocess([simcc_x, simcc_y], center, scale)
        # MMPose takes the smaller of the two peaks, rtmlib their mean: thresholds hold for MMPose's
        score = np.minimum(simcc_x.max(-1), simcc_y.max(-1))[0]
        return xy[0].astype(np.float32) + 0.5, np.clip(score, 0.0, 1.0).astype(np.float32)

    def close(self):
        """Nothing to end in this process."""


def _checked_size(session, weights):
    """Width and height of the network's input; raises MissingPiece unless its outputs are SimCC of 133 keypoints."""
    shape = session.get_inputs()[0].shape
    outputs = [output.shape for output in session.get_outputs()]
    if len(shape) != 4 or not all(isinstance(n, int) for n in shape[2:]):
        raise MissingPiece(f"{weights} has an input of shape {shape}; a fixed height and width are needed.")
    height, width = shape[2:]
    wanted = [SPLIT_RATIO * width, SPLIT_RATIO * height]
    if len(outputs) != 2 or any(
        len(o) != 3 or not _may_be(o[1], N_KEYPOINTS) or not _may_be(o[2], bins)
        for o, bins in zip(outputs, wanted)  # noqa: B905  (Python 3.7)
    ):
        raise MissingPiece(
            f"{weights} has outputs of shape {outputs}; SimCC of {N_KEYPOINTS} keypoints with {wanted[0]} and "
            f"{wanted[1]} bins is needed: RTMW, RTMPose or DWPose whole-body."
        )
    return width, height


def _may_be(found, wanted):
    return found == wanted or not isinstance(found, int)  # a named dimension is known only when it runs


if __name__ == "__main__":
    child_main(RtmlibModel, {"weights": "ONNX file", "device": "cpu or cuda"}, inputs=("boxes",))
