"""Hand4Whole -> SMPL-X pose, hands, jaw, expression and shape per frame; the only file that names it.

Moon et al. 2022, "Accurate 3D hand pose estimation for whole-body 3D human mesh estimation". It needs the licensed
SMPL, SMPL-X, MANO and FLAME files, so a user brings a clone of the repository with `common/utils/human_model_files`
filled, and `snapshot_6.pth.tar`. Also a program of its own (`child_process`), always run as such: its modules are
called `utils`, `config` and `model`, and its calls of `.cuda()` are led to the device that was asked for.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main, require_device
else:  # started by path under another Python
    from child_process import MissingPiece, child_main, require_device

SOURCE = (
    "git clone https://github.com/mks0601/Hand4Whole_RELEASE; its README names the weights and the body models "
    "(smpl-x.is.tue.mpg.de, smpl.is.tue.mpg.de, mano.is.tue.mpg.de, flame.is.tue.mpg.de: registration)"
)
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

    def __init__(self, repository, weights, device="cpu"):
        """`repository`: a clone; `weights`: `snapshot_6.pth.tar`. Raises MissingPiece."""
        check_repository(repository)
        if not os.path.isfile(weights):
            raise MissingPiece(f"no snapshot at {weights}. {SOURCE}.")
        for folder in ("data", "common", "main"):
            sys.path.insert(0, os.path.join(repository, folder))
        try:
            import torch

            require_device(device)
            _stand_in_for_small_packages()
            _lead_cuda_calls_to(device)
            from config import cfg
            from model import get_model
            from utils.human_models import smpl_x
            from utils.preprocessing import generate_patch_image, process_bbox
        except (ImportError, OSError, AssertionError) as error:  # smplx asserts that its files are there
            raise MissingPiece(
                f"Hand4Whole cannot be started in {sys.executable} ({type(error).__name__}: {error}). What it imports "
                "has to be installed there (chumpy, too, for SMPL's pickles), and its body models have to be in place."
            ) from None

        self._cfg, self._process_bbox, self._patch = cfg, process_bbox, generate_patch_image
        self._device = device
        self._model = get_model("test")
        _load_weights(self._model, weights)
        self._model.to(device).eval()
        for module in self._model.modules():  # its `view` calls expect channels first in memory, which CPUs do not keep
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda _module, _inputs, output: output.contiguous())
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

        n = len(crops)
        if n == 3:  # its `torch.cross` names no axis and takes the first of length 3: the batch's
            crops = np.concatenate([crops, crops[:1]])
        with torch.no_grad():
            out = self._model({"img": torch.from_numpy(crops).to(self._device)}, {}, {}, "test")
        return {name: out[name].detach().cpu().numpy()[:n] for name in OUTPUTS}

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


def _lead_cuda_calls_to(device):
    """Its code calls `.cuda()` throughout; in this process that means the chosen device."""
    import torch

    torch.Tensor.cuda = lambda self, *_, **__: self.to(device)
    torch.nn.Module.cuda = lambda self, *_, **__: self.to(device)


def _stand_in_for_small_packages():
    """torchgeometry, whose one conversion that is used fails on newer torch, and plyfile, imported and not used."""
    geometry = types.ModuleType("torchgeometry")
    vars(geometry)["rotation_matrix_to_angle_axis"] = axis_angle_of_matrix
    sys.modules["torchgeometry"] = geometry
    if importlib.util.find_spec("plyfile") is None:
        plyfile = types.ModuleType("plyfile")
        vars(plyfile).update(PlyData=None, PlyElement=None)
        sys.modules["plyfile"] = plyfile


def axis_angle_of_matrix(matrix):
    """Rotation matrices (n, 3, 3 or 4) -> axis-angle (n, 3), radians, at most pi.

    By the largest component of the quaternion (Shepperd 1978).
    """
    import torch

    m = matrix[:, :, :3]
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    squares = torch.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], 1)  # 4 q q
    w = torch.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], 1)
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    rows = torch.stack(  # the quaternion times four times its component w, x, y or z
        [
            torch.stack([squares[:, 0], w[:, 0], w[:, 1], w[:, 2]], 1),
            torch.stack([w[:, 0], squares[:, 1], xy, xz], 1),
            torch.stack([w[:, 1], xy, squares[:, 2], yz], 1),
            torch.stack([w[:, 2], xz, yz, squares[:, 3]], 1),
        ],
        1,
    )
    largest = squares.argmax(1)
    q = torch.nn.functional.normalize(rows[torch.arange(len(m), device=m.device), largest], dim=1)
    q = torch.where(q[:, :1] < 0, -q, q)
    sine = q[:, 1:].norm(dim=1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[:, :1])
    return q[:, 1:] * torch.where(sine > 1e-6, angle / sine.clamp(min=1e-6), torch.full_like(sine, 2.0))


def _load_weights(model, path):
    """Load a snapshot's network; nothing in the file is run. Raises MissingPiece for another file."""
    import torch

    try:
        network = torch.load(path, map_location="cpu", weights_only=True)["network"]
    except Exception as error:
        raise MissingPiece(f"{path} is no snapshot ({type(error).__name__}: {str(error).split('.')[0]}).") from None
    network = {(k[7:] if k.startswith("module.") else k): v for k, v in network.items()}
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("smplx_layer.")}  # of the body's own file
    unfit = [k for k, v in own.items() if k not in network or tuple(network[k].shape) != tuple(v.shape)]
    if unfit:
        raise MissingPiece(
            f"{path} does not belong to this network: {len(unfit)} of {len(own)} tensors are absent or of another "
            f"shape, first {unfit[0]}. The whole-body `snapshot_6.pth.tar` is needed."
        )
    model.load_state_dict({k: network[k] for k in own}, strict=False)


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
            "device": "cpu or cuda",
        },
        inputs=("boxes",),
    )
