"""DECA -> FLAME jaw, expression and head rotation per frame; the only file that names it.

Feng et al. 2021, "Learning an animatable detailed 3D face model from in-the-wild images". Code and weights are for
non-commercial research, behind a registration, so a user brings a clone of the repository with its `data` folder
filled. Runs DECA's encoder alone (`decalib.deca.DECA.encode`): no renderer is compiled. Also a program of its own
(`child_process`), for the old environment that DECA wants.

Checked against a stand-in with DECA's documented interface, not against DECA itself: it cannot be had without the
registration.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main
else:  # started by path under another Python
    from child_process import MissingPiece, child_main

CROP_SIDE = 224
CROP_SCALE = 1.1 * 1.25  # DECA's margin around 68 landmarks, times its test scale
DATA_FILES = ("deca_model.tar", "generic_model.pkl")
SOURCE = "git clone https://github.com/yfeng95/DECA, then its fetch_data.sh (registration at flame.is.tue.mpg.de)"


class DecaModel:
    """FLAME parameters of one face per frame."""

    def __init__(self, repository, device="cpu"):
        """`repository`: a clone of DECA. Raises MissingPiece."""
        check_repository(repository)
        sys.path.insert(0, repository)
        try:
            import torch
            from decalib.deca import DECA
            from decalib.utils.config import cfg
        except ImportError as error:
            raise MissingPiece(
                f"DECA cannot be imported in {sys.executable} ({error}); install its requirements."
            ) from None

        class Encoder(DECA):
            def _setup_renderer(self, model_cfg):
                """Nothing: it would compile CUDA code that encoding never calls."""

        cfg.pretrained_modelpath = os.path.join(repository, "data", DATA_FILES[0])
        cfg.model.use_tex = False
        load = torch.load
        torch.load = functools.partial(load, map_location=device)  # DECA loads onto the device that the file names
        try:
            self._deca = Encoder(config=cfg, device=device)
        finally:
            torch.load = load
        self._device = device
        takes_detail = "use_detail" in inspect.signature(self._deca.encode).parameters
        self._encode = functools.partial(self._deca.encode, use_detail=False) if takes_detail else self._deca.encode

    def __call__(self, frames, landmarks, valid):
        """Frames (n, height, width, 3) uint8 RGB, iBUG landmarks (n, 68, 2) in pixels, valid (n,) -> `pose` (n, 6)
        axis-angle of FLAME's root and jaw, `expression` (n, 50), `shape` (n, 100); NaN where not valid."""
        import torch

        answer = {
            name: np.full((len(frames), size), np.nan, np.float32)
            for name, size in (("pose", 6), ("expression", 50), ("shape", 100))
        }
        chosen = np.flatnonzero(valid)
        if not len(chosen):
            return answer
        crops = np.stack([face_crop(frames[i], landmarks[i]) for i in chosen])
        with torch.no_grad():
            code = self._encode(torch.from_numpy(crops.transpose(0, 3, 1, 2)).to(self._device))
        for name, key in (("pose", "pose"), ("expression", "exp"), ("shape", "shape")):
            answer[name][chosen] = code[key].detach().cpu().numpy()[:, : answer[name].shape[1]]
        return answer

    def close(self):
        """Nothing to end in this process."""


def check_repository(repository):
    """Raise MissingPiece unless the folder is a clone of DECA with its weights."""
    if not os.path.isfile(os.path.join(repository, "decalib", "deca.py")):
        raise MissingPiece(f"no clone of DECA at {repository} (decalib/deca.py is not there). {SOURCE}.")
    for name in DATA_FILES:
        if not os.path.isfile(os.path.join(repository, "data", name)):
            raise MissingPiece(f"no data/{name} in {repository}. Run DECA's fetch_data.sh there ({SOURCE}).")


def face_crop(frame, landmarks):
    """The square (224, 224, 3) float32 in [0, 1] that DECA looks at, around 68 landmarks (68, 2) in pixels."""
    low, high = landmarks.min(0) - 0.5, landmarks.max(0) - 0.5  # pixels from the first one's center
    center = (low + high) / 2
    side = float(int((high - low).mean() * CROP_SCALE))
    steps = np.linspace(-side / 2, side / 2, CROP_SIDE, dtype=np.float32)
    return _sampled(frame, center[0] + steps, center[1] + steps)


def _sampled(frame, x, y):
    """Bilinear samples of a frame on a grid of columns x and rows y; black outside."""
    import cv2

    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(frame, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(np.float32) / 255.0


if __name__ == "__main__":
    child_main(
        DecaModel,
        {"repository": "clone of DECA with its data", "device": "cpu or cuda"},
        inputs=("landmarks", "valid"),
    )
