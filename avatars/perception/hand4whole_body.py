"""Hand4Whole -> SMPL-X pose, hands, jaw, expression and shape per frame; the only file that names it.

Moon et al. 2022, "Accurate 3D hand pose estimation for whole-body 3D human mesh estimation". The code is for
non-commercial use and needs the licensed SMPL, SMPL-X, MANO and FLAME files, so a user brings a clone of the repository
with `common/utils/human_model_files` filled, and `snapshot_6.pth.tar`. Also a program of its own (`child_process`), for
the old environment that it wants.

Checked against a stand-in with its documented interface, not against Hand4Whole itself: the licensed files cannot be
had without a registration.
"""

from __future__ import annotations

import os
import sys

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main
else:  # started by path under another Python
    from child_process import MissingPiece, child_main

SOURCE = "git clone https://github.com/mks0601/Hand4Whole_RELEASE; its README names the weights and the body models"
BATCH = 8
OUTPUTS = {
    "smplx_root_pose": 3,
    "smplx_body_pose": 63,
    "smplx_lhand_pose": 45,
    "smplx_rhand_pose": 45,
    "smplx_jaw_pose": 3,
    "smplx_shape": 10,
    "smplx_expr": 10,
}


class Hand4WholeModel:
    """SMPL-X parameters of one person per frame."""

    def __init__(self, repository, weights, device="cuda"):
        """`repository`: a clone; `weights`: `snapshot_6.pth.tar`. The repository's own code calls `.cuda()`: a device
        of "cpu" works with a clone that was changed for it. Raises MissingPiece."""
        check_repository(repository)
        if not os.path.isfile(weights):
            raise MissingPiece(f"no snapshot at {weights}. {SOURCE}.")
        for folder in ("data", "common", "main"):
            sys.path.insert(0, os.path.join(repository, folder))
        try:
            import torch

            if device.startswith("cuda") and not torch.cuda.is_available():
                raise MissingPiece("Hand4Whole calls .cuda() throughout, and no CUDA device is here.")
            from config import cfg
            from model import get_model
            from utils.human_models import smpl_x
            from utils.preprocessing import generate_patch_image, process_bbox
        except ImportError as error:
            raise MissingPiece(
                f"Hand4Whole cannot be imported in {sys.executable} ({error}); install its requirements."
            ) from None

        self._cfg, self._process_bbox, self._patch = cfg, process_bbox, generate_patch_image
        self._device = device
        self._model = get_model("test")
        network = torch.load(weights, map_location="cpu")["network"]
        network = {(k[7:] if k.startswith("module.") else k): v for k, v in network.items()}
        self._model.load_state_dict(network, strict=False)  # it holds no body model, which the model's state does
        self._model.to(device).eval()
        self._hand_mean = _hand_mean(smpl_x.layer)

    def __call__(self, frames, boxes):
        """Frames (n, height, width, 3) uint8 RGB and boxes (n, 4) left, top, right, bottom in pixels, NaN where nobody
        is -> Hand4Whole's own outputs by their own names (see OUTPUTS), NaN where nobody is, and `hand_mean` (n, 90):
        the left and right mean pose that its SMPL-X layer adds to its hands."""
        n = len(frames)
        answer = {name: np.full((n, size), np.nan, np.float32) for name, size in OUTPUTS.items()}
        answer["hand_mean"] = np.repeat(self._hand_mean[None], n, 0)
        crops, rows = [], []
        for i, (frame, box) in enumerate(zip(frames, boxes)):  # noqa: B905  (Python 3.7)
            crop = self._crop(frame, box)
            if crop is not None:
                crops.append(crop)
                rows.append(i)
        for start in range(0, len(rows), BATCH):
            out = self._predict(np.stack(crops[start : start + BATCH]))
            for name, size in OUTPUTS.items():
                answer[name][rows[start : start + BATCH]] = out[name].reshape(-1, size)
        return answer

    def _crop(self, frame, box):
        if not np.isfinite(box).all():
            return None
        height, width = frame.shape[:2]
        left, top, right, bottom = box - 0.5  # it counts pixels from the first one's center
        xywh = self._process_bbox([left, top, right - left, bottom - top], width, height)
        if xywh is None:
            return None
        patch, _, _ = self._patch(frame, xywh, 1.0, 0.0, False, self._cfg.input_img_shape)
        return patch.astype(np.float32).transpose(2, 0, 1) / 255.0

    def _predict(self, crops):
        import torch

        with torch.no_grad():
            out = self._model({"img": torch.from_numpy(crops).to(self._device)}, {}, {}, "test")
        return {name: out[name].detach().cpu().numpy() for name in OUTPUTS}

    def close(self):
        """Nothing to end in this process."""


def check_repository(repository):
    """Raise MissingPiece unless the folder is a clone with the body models in place."""
    if not os.path.isfile(os.path.join(repository, "main", "model.py")):
        raise MissingPiece(f"no clone of Hand4Whole at {repository} (main/model.py is not there). {SOURCE}.")
    models = os.path.join(repository, "common", "utils", "human_model_files")
    for folder in ("smplx", "smpl", "mano", "flame"):
        if not os.path.isdir(os.path.join(models, folder)):
            raise MissingPiece(f"no {folder} in {models}. {SOURCE}.")


def _hand_mean(layer):
    """The 90 numbers that smplx adds to the hands of this layer: zeros where it was made with a flat hand mean."""
    layer = layer["neutral"] if isinstance(layer, dict) else layer
    mean = np.asarray(layer.pose_mean.detach().cpu(), np.float32).reshape(-1)
    return mean[-90:]


if __name__ == "__main__":
    child_main(
        Hand4WholeModel,
        {
            "repository": "clone of Hand4Whole with its body models",
            "weights": "snapshot_6.pth.tar",
            "device": "cuda, or cpu for a clone changed for it",
        },
        inputs=("boxes",),
    )
