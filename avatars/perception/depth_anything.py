"""Depth-Anything-V2 through transformers, from a local folder -> depth; the only file that names it.

Yang et al. 2024, "Depth Anything V2". Metric checkpoints answer in meters; the others in an unknown scale and offset
of inverse depth, and say so. Also a program of its own (`child_process`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main, require_device
else:  # started by path under another Python
    from child_process import MissingPiece, child_main, require_device

INSTALL = "pip install 'splat-avatars[depth]'"
BATCH = 4


class DepthAnythingModel:
    """Depth of single pictures."""

    def __init__(self, weights, device="cpu"):
        """`weights`: folder with config.json, preprocessor_config.json and model.safetensors. Raises MissingPiece."""
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise MissingPiece(f"the package {package} is not installed in {sys.executable}. {INSTALL}.")
        self.kind = checked_kind(weights)
        require_device(device)
        import torch
        from transformers import AutoImageProcessor, DepthAnythingForDepthEstimation

        try:
            self._processor = AutoImageProcessor.from_pretrained(weights, local_files_only=True)
            loaded: Any = DepthAnythingForDepthEstimation.from_pretrained(
                weights, local_files_only=True, output_loading_info=True
            )
            self._model, report = loaded
        except (OSError, ValueError, RuntimeError) as error:
            raise MissingPiece(f"{weights} cannot be loaded ({str(error).splitlines()[0]}).") from None
        if report["missing_keys"]:
            raise MissingPiece(
                f"the weights in {weights} lack {len(report['missing_keys'])} tensors, first "
                f"{sorted(report['missing_keys'])[0]}: they belong to another model."
            )
        self._device = torch.device(device)
        self._model.to(self._device).eval()

    def __call__(self, frames):
        """Frames (n, height, width, 3) uint8 RGB -> `depth` (n, height, width) float32 and `kind`: "metric" (meters
        along the camera's z) or "relative" (larger is nearer: inverse depth up to scale and offset)."""
        parts = [self._predict(frames[i : i + BATCH]) for i in range(0, len(frames), BATCH)]
        return {"depth": np.concatenate(parts), "kind": np.array(self.kind)}

    def _predict(self, frames):
        import torch

        inputs = self._processor(images=list(frames), return_tensors="pt").to(self._device)
        with torch.inference_mode():
            low = self._model(**inputs).predicted_depth  # (n, height, width) of the network's input
            size = tuple(frames.shape[1:3])
            full = torch.nn.functional.interpolate(low[:, None], size=size, mode="bilinear", align_corners=False)
        return full[:, 0].float().cpu().numpy()

    def close(self):
        """Nothing to end in this process."""


def checked_kind(folder):
    """ "metric" or "relative", from the folder's config.json. Raises MissingPiece where the folder is no such model."""
    for name in ("config.json", "preprocessor_config.json"):
        if not os.path.isfile(os.path.join(folder, name)):
            raise MissingPiece(
                f"no {name} in {folder}. Give the whole folder of a -hf checkpoint of Depth-Anything-V2."
            )
    if not any(os.path.isfile(os.path.join(folder, n)) for n in ("model.safetensors", "pytorch_model.bin")):
        raise MissingPiece(f"no model.safetensors in {folder}. Give the whole folder of a -hf checkpoint.")
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    if config.get("model_type") != "depth_anything":
        raise MissingPiece(f"{folder} holds a model of type {config.get('model_type')!r}, not depth_anything.")
    kind = config.get("depth_estimation_type", "relative")
    if kind not in ("metric", "relative"):
        raise MissingPiece(f"{folder}/config.json: unknown depth_estimation_type {kind!r}.")
    if kind == "metric" and not config.get("max_depth"):
        raise MissingPiece(f"{folder}/config.json is metric but has no max_depth, the meters that its output 1 means.")
    names = (os.path.abspath(folder), config.get("_name_or_path") or "")
    named_metric = any("metric" in os.path.basename(name).lower() for name in names)
    if kind == "relative" and (named_metric or (config.get("max_depth") or 1) > 1):
        raise MissingPiece(
            f"{folder}/config.json says relative, or nothing, and yet has the name or the max_depth of a metric "
            'checkpoint. Correct its depth_estimation_type, "metric" or "relative": one grows with distance, the other '
            "shrinks."
        )
    return kind


if __name__ == "__main__":
    child_main(DepthAnythingModel, {"weights": "checkpoint folder", "device": "cpu or cuda"})
