"""MMPose's top-down whole-body models (RTMW, RTMPose, DWPose) -> 133 keypoints; the only file that names them.

Jiang et al. 2023, "RTMPose"; Jiang et al. 2024, "RTMW"; Yang et al. 2023, "DWPose". Also a program of its own
(`child_process`): it runs under the Python of the environment that `scripts/install_mmpose.sh` makes.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from glob import glob

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main, require_device
else:  # started by path under another Python
    from child_process import MissingPiece, child_main, require_device

N_KEYPOINTS = 133
BATCH = 16
INSTALL = "bash scripts/install_mmpose.sh ENV makes an environment with it; then give its Python (MMPOSE_PYTHON=ENV)"


class MMPoseModel:
    """Whole-body keypoints of one person per frame."""

    def __init__(self, weights, model, device="cpu", flip_test=""):
        """`weights`: checkpoint file; `model`: config file, or the name of one that MMPose packages; `flip_test`: any
        text averages with the mirrored image, at twice the time. Raises MissingPiece."""
        for package in ("torch", "mmengine", "mmcv", "mmpose"):
            if importlib.util.find_spec(package) is None:
                raise MissingPiece(f"the package {package} is not installed in {sys.executable}. {INSTALL}.")
        require_device(device)
        _stand_in_for_unused_imports()
        from mmengine.config import Config
        from mmengine.dataset import Compose
        from mmengine.registry import init_default_scope
        from mmpose.apis import init_model

        config = Config.fromfile(_config_path(model))
        if config.model.get("head", {}).get("out_channels") != N_KEYPOINTS:
            raise MissingPiece(f"{model} has no head of {N_KEYPOINTS} keypoints. Give a whole-body config.")
        config.model.setdefault("test_cfg", {})["flip_test"] = bool(flip_test)
        config.model.backbone.pop("init_cfg", None)  # it would be downloaded, and the checkpoint overwrites it
        init_default_scope(config.get("default_scope", "mmpose"))
        self._model = init_model(config, None, device=device)
        _load_weights(self._model, weights)
        self._pipeline = Compose(config.test_dataloader.dataset.pipeline)

    def __call__(self, frames, boxes):
        """Keypoints `xy` (n, 133, 2) in pixels and `score` (n, 133) in [0, 1], of frames (n, height, width, 3) uint8
        RGB and boxes (n, 4): left, top, right, bottom in pixels. Pixels count from the first pixel's corner."""
        answers = [
            self._predict(frames[i : i + BATCH], boxes[i : i + BATCH].astype(np.float32))
            for i in range(0, len(frames), BATCH)
        ]
        return {k: np.concatenate([a[k] for a in answers]) for k in ("xy", "score")}

    def _predict(self, frames, boxes):
        import torch
        from mmengine.dataset import pseudo_collate

        samples = [
            self._pipeline(
                dict(
                    self._model.dataset_meta,
                    img=np.ascontiguousarray(frame[:, :, ::-1]),  # MMPose reads as OpenCV does, BGR
                    bbox=box[None] - 0.5,  # and counts pixels from the first one's center
                    bbox_score=np.ones(1, np.float32),
                )
            )
            for frame, box in zip(frames, boxes)  # noqa: B905  (Python 3.7)
        ]
        with torch.no_grad():
            found = [r.pred_instances for r in self._model.test_step(pseudo_collate(samples))]
        xy = np.concatenate([p.keypoints for p in found]).astype(np.float32) + 0.5
        score = np.concatenate([p.keypoint_scores for p in found]).astype(np.float32)
        return {"xy": xy, "score": np.clip(score, 0.0, 1.0)}

    def close(self):
        """Nothing to end in this process."""


def _config_path(name):
    """A file as it is; otherwise the one config of that name among those packaged with MMPose."""
    if os.path.isfile(name):
        return name
    import mmpose

    root = os.path.join(os.path.dirname(str(mmpose.__file__)), ".mim", "configs")
    stem = os.path.splitext(os.path.basename(name))[0]
    found = sorted(glob(os.path.join(root, "**", stem + ".py"), recursive=True))
    if not found:
        like = sorted(glob(os.path.join(root, "wholebody_2d_keypoint", "rtmpose", "**", "rtm*.py"), recursive=True))
        known = ", ".join(os.path.basename(path)[:-3] for path in like)
        raise MissingPiece(f"no config {name!r}, neither a file nor packaged with MMPose; whole-body ones: {known}.")
    return found[0]


def _load_weights(model, path):
    """Load a checkpoint's tensors without running what it may hold of code.

    OpenMMLab's checkpoints carry their training log as pickled objects; only its known harmless types are let in.
    """
    import torch

    if not os.path.isfile(path):
        raise MissingPiece(f"no checkpoint at {path}.")
    try:
        checkpoint = _torch_load(torch, path)
    except Exception as error:
        raise MissingPiece(
            f"{path} cannot be read as plain tensors ({str(error).split('.')[0]}). If you trust its source, convert "
            f"it: {sys.executable} {os.path.abspath(__file__)} --convert {path} PLAIN.pth"
        ) from None
    state = checkpoint.get("state_dict", checkpoint)
    state = {(k[7:] if k.startswith("module.") else k): v for k, v in state.items()}
    own = model.state_dict()
    unfit = [k for k, v in own.items() if k not in state or tuple(state[k].shape) != tuple(v.shape)]
    if unfit:
        raise MissingPiece(
            f"{path} does not belong to this config: {len(unfit)} of {len(own)} tensors are absent or of another "
            f"shape, first {unfit[0]}."
        )
    model.load_state_dict(state, strict=False)


def _torch_load(torch, path):
    if not hasattr(torch.serialization, "safe_globals"):  # before torch 2.5
        return torch.load(path, map_location="cpu", weights_only=True)
    from mmengine.logging import HistoryBuffer

    def attribute(owner, name):  # a HistoryBuffer's pickle looks up its own four methods
        if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
            raise ValueError(f"{owner}.{name}")
        return getattr(owner, name)

    arrays = importlib.import_module("numpy.core.multiarray")  # the name that the pickles hold
    plain = [HistoryBuffer, np.ndarray, np.dtype, np.float64, arrays._reconstruct, arrays.scalar]
    plain += [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")]
    plain.append((attribute, "builtins.getattr"))
    with torch.serialization.safe_globals(plain):
        return torch.load(path, map_location="cpu", weights_only=True)


def convert(source, target):
    """Write a checkpoint's tensors alone. Runs whatever code the source holds: only for files that are trusted."""
    import torch

    checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    state = checkpoint.get("state_dict", checkpoint)
    torch.save({"state_dict": {k: v.detach().clone() for k, v in state.items()}}, target)


def _stand_in_for_unused_imports():
    """Three names that MMPose 1.3.2 imports for other models; without compiled operators they do not exist."""

    def module(name, **names):
        parent, _, child = name.rpartition(".")
        try:
            there = importlib.import_module(name)
        except Exception:  # absent; or, RuntimeError, a torchvision that was built for another torch
            there = sys.modules[name] = types.ModuleType(name)
            if parent:
                setattr(module(parent), child, there)
        for key, value in names.items():
            if not hasattr(there, key):
                setattr(there, key, value)
        return there

    absent = type("NotInstalled", (), {})
    module("mmcv.ops", MultiScaleDeformableAttention=absent)
    module("mmdet.utils", ConfigType=dict, reduce_mean=absent)
    module("torchvision.transforms", ToPILImage=absent)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--convert"] and len(sys.argv) == 4:
        convert(sys.argv[2], sys.argv[3])
    else:
        child_main(
            MMPoseModel,
            {
                "weights": "checkpoint (.pth)",
                "model": "config file, or the name of a packaged one",
                "device": "cpu or cuda",
                "flip_test": "any text: average with the mirrored image",
            },
            inputs=("boxes",),
        )
