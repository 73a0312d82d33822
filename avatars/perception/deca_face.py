"""DECA's encoder -> FLAME jaw, expression and head rotation per frame; the only file that names it.

Feng et al. 2021, "Learning an animatable detailed 3D face model from in-the-wild images". Only the coarse encoder is
needed: a ResNet-50 (He et al. 2016) and two linear layers, built here under the tensor names that DECA's checkpoint
has. So neither DECA's code, nor FLAME's files, nor a renderer has to be installed: `deca_model.tar` is all. Also a
program of its own (`child_process`).
"""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np

if __package__:
    from avatars.perception.child_process import MissingPiece, child_main, require_device
else:  # started by path under another Python
    from child_process import MissingPiece, child_main, require_device

CROP_SIDE = 224
CROP_SCALE = 1.1 * 1.25  # DECA's margin around 68 landmarks, times its test scale
BATCH = 16
PARAMETERS = (("shape", 100), ("texture", 50), ("expression", 50), ("pose", 6), ("camera", 3), ("light", 27))
"""What the encoder answers, in order: FLAME's first components, the head's and the jaw's rotation, camera, light."""
ANSWERS = ("pose", "expression", "shape")
INSTALL = "pip install torch"
SOURCE = "deca_model.tar of github.com/yfeng95/DECA (its fetch_data.sh names the address; non-commercial research)"


class DecaModel:
    """FLAME parameters of one face per frame."""

    def __init__(self, weights, device="cpu"):
        """`weights`: `deca_model.tar`, or a clone of DECA whose `data` folder holds it. Raises MissingPiece."""
        if importlib.util.find_spec("torch") is None:
            raise MissingPiece(f"the package torch is not installed in {sys.executable}. {INSTALL}.")
        if os.path.isdir(weights):
            weights = os.path.join(weights, "data", "deca_model.tar")
        if not os.path.isfile(weights):
            raise MissingPiece(f"no checkpoint at {weights}. {SOURCE}.")
        import torch

        require_device(device)
        self._encoder = _encoder(torch)
        _load_weights(torch, self._encoder, weights)
        self._encoder.to(device).eval()
        self._device = device

    def __call__(self, frames, landmarks, valid):
        """Frames (n, height, width, 3) uint8 RGB, iBUG landmarks (n, 68, 2) in pixels, valid (n,) -> `pose` (n, 6)
        axis-angle of FLAME's root and jaw, `expression` (n, 50), `shape` (n, 100); NaN where not valid."""
        sizes = dict(PARAMETERS)
        answer = {name: np.full((len(frames), sizes[name]), np.nan, np.float32) for name in ANSWERS}
        chosen = np.flatnonzero(valid)
        for start in range(0, len(chosen), BATCH):
            rows = chosen[start : start + BATCH]
            code = split_code(self._encode(np.stack([face_crop(frames[i], landmarks[i]) for i in rows])))
            for name in ANSWERS:
                answer[name][rows] = code[name]
        return answer

    def _encode(self, crops):
        """Crops (n, 224, 224, 3) in [0, 1], RGB, not normalized -> (n, 236)."""
        import torch

        with torch.no_grad():
            images = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).to(self._device)
            return self._encoder(images).float().cpu().numpy()

    def close(self):
        """Nothing to end in this process."""


def split_code(code):
    """The encoder's answer (n, 236) by name; see PARAMETERS."""
    ends = np.cumsum([size for _, size in PARAMETERS])
    return {name: code[:, end - size : end] for (name, size), end in zip(PARAMETERS, ends)}  # noqa: B905  (Python 3.7)


def face_crop(frame, landmarks):
    """The square (224, 224, 3) float32 in [0, 1] that DECA looks at, around 68 landmarks (68, 2) in pixels."""
    low, high = landmarks.min(0) - 0.5, landmarks.max(0) - 0.5  # pixels from the first one's center
    center = (low + high) / 2
    side = max(float(int((high - low).mean() * CROP_SCALE)), 1.0)  # whole pixels, as DECA has them
    steps = np.linspace(-side / 2, side / 2, CROP_SIDE, dtype=np.float32)
    return _sampled(frame, center[0] + steps, center[1] + steps)


def _sampled(frame, x, y):
    """Bilinear samples of a frame on a grid of columns x and rows y; black outside.

    Not OpenCV's `remap`, whose weights are multiples of 1/32 pixel: faces are small here and are enlarged.
    """
    return _between(_between(frame.astype(np.float32) / 255.0, y, 0), x, 1)


def _between(image, at, axis):
    """Rows (axis 0) or columns (axis 1) at fractional positions."""
    low = np.floor(at).astype(int)
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    part = (at - low).astype(np.float32).reshape(shape)

    def taken(index):
        inside = (index >= 0) & (index < image.shape[axis])
        return np.take(image, np.clip(index, 0, image.shape[axis] - 1), axis) * inside.reshape(shape)

    return taken(low) * (1 - part) + taken(low + 1) * part


# ------------------------------------------------------------------------------------------------------- the encoder


def _encoder(torch):
    """ResNet-50 without its classifier, then 2048 -> 1024 -> 236; children named as in the checkpoint."""
    nn = torch.nn
    head = nn.Sequential(nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, sum(size for _, size in PARAMETERS)))
    return _named(nn, encoder=_resnet50(nn), layers=head)


def _resnet50(nn):
    """Stem, four stages, mean over the 7 x 7 cells. Children bear torchvision's names."""
    stem = {
        "conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        "bn1": nn.BatchNorm2d(64),
        "relu": nn.ReLU(),
        "maxpool": nn.MaxPool2d(3, 2, 1),
    }
    stages, wide = {}, 64
    for number, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        first = _bottleneck(nn, wide, width, stride=1 if number == 1 else 2)
        rest = [_bottleneck(nn, 4 * width, width, stride=1) for _ in range(depth - 1)]
        stages[f"layer{number}"], wide = nn.Sequential(first, *rest), 4 * width
    return _named(nn, **stem, **stages, avgpool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())


def _bottleneck(nn, wide, width, stride):
    """Convolutions of 1, 3 and 1 pixels beside a shortcut; the stride is in the second ("version 1.5")."""

    class Bottleneck(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            self.downsample = None
            if stride != 1 or wide != 4 * width:
                across = nn.Conv2d(wide, 4 * width, 1, stride, bias=False)
                self.downsample = nn.Sequential(across, nn.BatchNorm2d(4 * width))

        def forward(self, x):
            y = self.bn1(self.conv1(x)).relu()
            y = self.bn2(self.conv2(y)).relu()
            y = self.bn3(self.conv3(y))
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    return Bottleneck()


def _named(nn, **children):
    """One after the other, by these names."""
    chain = nn.Sequential()
    for name, child in children.items():
        chain.add_module(name, child)
    return chain


def _load_weights(torch, encoder, path):
    """Load the tensors under `E_flame`; nothing in the file is run. Raises MissingPiece for another file."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MissingPiece(f"{path} cannot be read as a checkpoint ({str(error).splitlines()[0]}). {SOURCE}.") from None
    state = checkpoint.get("E_flame") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise MissingPiece(f"{path} is no checkpoint of DECA: it has no `E_flame`. {SOURCE}.")
    own = encoder.state_dict().items()
    wanted = {k: v for k, v in own if not k.endswith("num_batches_tracked")}  # not kept by older torch, nor needed
    unfit = [k for k, v in wanted.items() if k not in state or tuple(state[k].shape) != tuple(v.shape)]
    if unfit:
        raise MissingPiece(
            f"{path}: {len(unfit)} of {len(wanted)} tensors of `E_flame` are absent or of another shape, first "
            f"{unfit[0]}. {SOURCE}."
        )
    encoder.load_state_dict({name: state[name] for name in wanted}, strict=False)


if __name__ == "__main__":
    child_main(DecaModel, {"weights": "deca_model.tar", "device": "cpu or cuda"}, inputs=("landmarks", "valid"))
