"""Recognizers: PyTorchVideo's ResNet-50, SlowFast and X3D, VideoMAE, and a small one that trains on a CPU.

Every recognizer takes (batch, 3, frames, size, size) and gives (batch, classes) logits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from actionrec.errors import DataError, PackageMissing


@dataclass(frozen=True, slots=True)
class ResNet50:
    """PyTorchVideo's `create_resnet`, depth 50 (Slow pathway, Feichtenhofer et al. 2019)."""

    frames: int = 16
    size: int = 224
    dropout: float = 0.5

    def build(self, n_classes: int) -> nn.Module:
        """The network with fresh weights."""
        module = _pytorchvideo("resnet")
        pool = (self.frames, _reduced(self.size), _reduced(self.size))
        return module.create_resnet(
            model_depth=50, model_num_class=n_classes, head_pool_kernel_size=pool, dropout_rate=self.dropout
        )


@dataclass(frozen=True, slots=True)
class SlowFast:
    """PyTorchVideo's `create_slowfast`, depth 50, the slow pathway at every fourth frame."""

    frames: int = 32
    size: int = 224
    alpha: int = 4
    dropout: float = 0.5

    def build(self, n_classes: int) -> nn.Module:
        """The network with fresh weights. Raises DataError when `frames` is no multiple of `alpha`."""
        if self.frames % self.alpha:
            raise DataError(f"SlowFast needs a multiple of {self.alpha} frames, not {self.frames}.")
        module, side = _pytorchvideo("slowfast"), _reduced(self.size)
        pools = ((self.frames // self.alpha, side, side), (self.frames, side, side))
        network = module.create_slowfast(
            model_num_class=n_classes, head_pool_kernel_sizes=pools, dropout_rate=self.dropout,
            slowfast_fusion_conv_stride=(self.alpha, 1, 1),
        )  # fmt: skip
        return _Pathways(network, self.alpha)


@dataclass(frozen=True, slots=True)
class X3D:
    """PyTorchVideo's `create_x3d` (Feichtenhofer 2020). The defaults are X3D-S; XS has 4 frames, a thin one less."""

    frames: int = 13
    size: int = 160
    width_factor: float = 2.0
    depth_factor: float = 2.2
    dropout: float = 0.5

    def build(self, n_classes: int) -> nn.Module:
        """The network with fresh weights."""
        network = _pytorchvideo("x3d").create_x3d(
            input_clip_length=self.frames, input_crop_size=self.size, model_num_class=n_classes,
            width_factor=self.width_factor, depth_factor=self.depth_factor, dropout_rate=self.dropout,
            head_activation=None,
        )  # fmt: skip
        return network.to(memory_format=torch.channels_last_3d)  # several times faster on CPUs


@dataclass(frozen=True, slots=True)
class VideoMAE:
    """VideoMAE base (Tong et al. 2022) through transformers, from a local folder or with fresh weights."""

    frames: int = 16
    size: int = 224
    folder: Path | None = None
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12

    def build(self, n_classes: int) -> nn.Module:
        """The network. Raises PackageMissing without transformers, DataError when the folder holds no model."""
        try:
            from transformers import VideoMAEConfig, VideoMAEForVideoClassification
        except ImportError:
            raise PackageMissing("VideoMAE needs transformers: pip install '.[videomae]'.") from None
        if self.folder is not None:
            if not (self.folder / "config.json").is_file():
                raise DataError(f"No VideoMAE model at {self.folder}: it has no config.json.")
            network = VideoMAEForVideoClassification.from_pretrained(
                self.folder, num_labels=n_classes, ignore_mismatched_sizes=True, local_files_only=True
            )
            return _FramesFirst(network)
        labels: Any = {"num_labels": n_classes}
        config = VideoMAEConfig(
            **labels, image_size=self.size, num_frames=self.frames, hidden_size=self.hidden_size,
            num_hidden_layers=self.layers, num_attention_heads=self.heads, intermediate_size=4 * self.hidden_size,
        )  # fmt: skip
        return _FramesFirst(VideoMAEForVideoClassification(config))


@dataclass(frozen=True, slots=True)
class Small:
    """A residual network of separate convolutions in space and time (Tran et al. 2018, R(2+1)D), made for CPUs.

    What does not move in the clip is taken off its input (its mean over time), because a few dozen clips of few rooms
    teach a network from scratch the rooms before the actions.
    """

    frames: int = 8
    size: int = 112
    width: int = 16
    dropout: float = 0.3
    motion_only: bool = True

    def build(self, n_classes: int) -> nn.Module:
        """The network with fresh weights."""
        network = _SmallNetwork(self.width, n_classes, self.dropout, self.motion_only)
        return network.to(memory_format=torch.channels_last_3d)


@dataclass(frozen=True, slots=True)
class Torchvision:
    """A video classifier of torchvision: r3d_18 (Tran et al. 2018), s3d (Xie et al. 2018), mvit_v2_s (Li et al. 2022),
    swin3d_t (Liu et al. 2022)."""

    name: str = "r3d_18"
    frames: int = 16
    size: int = 112

    def build(self, n_classes: int) -> nn.Module:
        """The network with fresh weights. Raises PackageMissing without torchvision, DataError for a name or size that
        it does not have."""
        models = _torchvision()
        if self.name not in models.list_models(module=models.video):
            raise DataError(f"torchvision has no video classifier {self.name!r}.")
        try:
            return models.get_model(self.name, num_classes=n_classes)
        except TypeError as error:
            raise DataError(f"torchvision's {self.name} cannot be built: {error}") from None

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each color that its published weights were trained with."""
        shown = _torchvision().get_model_weights(self.name).DEFAULT.transforms()
        return tuple(shown.mean), tuple(shown.std)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A video classifier or encoder in transformers' form (VideoMAE, V-JEPA 2, TimeSformer, ViViT) from a folder on
    this machine; nothing is fetched. Frames, size and colors are those that the folder states."""

    folder: Path
    frames: int = 16
    size: int = 224

    @staticmethod
    def read(folder: str | Path) -> LocalModel:
        """What the folder's config.json says. Raises DataError when it holds no model of video."""
        config = _folder_json(Path(folder), "config.json")
        frames = config.get("num_frames", config.get("frames_per_clip"))
        size = config.get("image_size", config.get("crop_size"))
        if not isinstance(frames, int) or not isinstance(size, int):
            kind = config.get("model_type", "nothing that is named")
            raise DataError(f"{folder} holds {kind}, which states no number of frames and size: it is no video model.")
        return LocalModel(Path(folder), frames, size)

    def build(self, n_classes: int) -> nn.Module:
        """The network, its head fresh unless it has as many classes. Raises PackageMissing, DataError."""
        try:
            from transformers import AutoModelForVideoClassification
        except ImportError:
            raise PackageMissing("Models in folders need transformers: pip install '.[videomae]'.") from None
        try:
            network = AutoModelForVideoClassification.from_pretrained(
                self.folder, num_labels=n_classes, ignore_mismatched_sizes=True, local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder} holds no video classifier: {' '.join(str(error).split())[:300]}") from None
        vjepa = network.config.model_type == "vjepa2"
        return _FramesFirst(network, "pixel_values_videos" if vjepa else "pixel_values")

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each color, as preprocessor_config.json states them, else ImageNet's."""
        names = ("preprocessor_config.json", "video_preprocessor_config.json")
        stated = next((n for n in names if (self.folder / n).is_file()), None)
        found = {} if stated is None else _folder_json(self.folder, stated)
        mean, std = found.get("image_mean", (0.485, 0.456, 0.406)), found.get("image_std", (0.229, 0.224, 0.225))
        if len(mean) != 3 or len(std) != 3:
            raise DataError(f"{self.folder}: image_mean and image_std are {mean} and {std}, expected three each.")
        return tuple(map(float, mean)), tuple(map(float, std))


def _folder_json(folder: Path, name: str) -> dict[str, Any]:
    import json

    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"No model at {folder}: {name} cannot be read ({error}).") from None
    if not isinstance(found, dict):
        raise DataError(f"No model at {folder}: {name} is no table of settings.")
    return found


Recognizer = ResNet50 | SlowFast | X3D | VideoMAE | Torchvision | LocalModel | Small
RECOGNIZERS: dict[str, Recognizer] = {
    "resnet50": ResNet50(),
    "slowfast": SlowFast(),
    "x3d-s": X3D(),
    "x3d-xs": X3D(frames=4),
    "x3d-thin": X3D(frames=8, size=112, width_factor=1.0, depth_factor=1.0),
    "videomae": VideoMAE(),
    "r3d_18": Torchvision("r3d_18", 16, 112),
    "s3d": Torchvision("s3d", 16, 224),
    "mvit_v2_s": Torchvision("mvit_v2_s", 16, 224),
    "swin3d_t": Torchvision("swin3d_t", 16, 224),
    "small": Small(),
}


def recognizer(name: str, **changes: Any) -> Recognizer:
    """A recognizer by name with some settings changed. Raises DataError naming what is known."""
    if name not in RECOGNIZERS:
        raise DataError(f"No recognizer {name!r}; known: {', '.join(RECOGNIZERS)}.")
    config = RECOGNIZERS[name]
    unknown = sorted(set(changes) - {f.name for f in fields(config)})
    if unknown:
        raise DataError(f"{name} has no setting {', '.join(unknown)}.")
    return replace(config, **changes)


def load_weights(network: nn.Module, path: str | Path) -> int:
    """Take over weights of equal name and shape from a checkpoint; the number of tensors that were.

    Reads a state dict, or one under `model_state`, `state_dict` or `model`. A head of another number of classes stays
    fresh. Raises DataError when the file is missing or less than half of the tensors fit.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"No checkpoint at {path}.")
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("model_state", "state_dict", "model"):
        loaded = loaded.get(key, loaded) if isinstance(loaded, dict) else loaded
    own = network.state_dict()
    prefix = "network." if any(name.startswith("network.") for name in own) else ""
    renamed = {name if name in own else prefix + name: value for name, value in loaded.items()}
    fitting = {n: v for n, v in renamed.items() if n in own and isinstance(v, Tensor) and v.shape == own[n].shape}
    if 2 * len(fitting) < len(own):
        raise DataError(f"{path} fits {len(fitting)} of {len(own)} tensors of the network; is it of another model?")
    network.load_state_dict(fitting, strict=False)
    return len(fitting)


def _reduced(size: int) -> int:
    """Side of the last feature map of a network that halves five times."""
    return max(-(-size // 32), 1)


def _torchvision() -> Any:
    import importlib

    try:
        return importlib.import_module("torchvision.models")
    except ImportError as error:
        raise PackageMissing(f"This recognizer needs torchvision ({error}): pip install '.[actionrec]'.") from None


def _pytorchvideo(name: str) -> Any:
    import importlib
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"pytorchvideo.models.{name}")
    except ImportError as error:
        raise PackageMissing(
            f"This recognizer needs PyTorchVideo and torchvision ({error}): pip install '.[actionrec]'."
        ) from None


class _Pathways(nn.Module):
    """SlowFast on one clip: every alpha-th frame for the slow pathway."""

    def __init__(self, network: nn.Module, alpha: int) -> None:
        super().__init__()
        self.network, self.alpha = network, alpha

    def forward(self, x: Float[Tensor, "batch 3 frames height width"]) -> Float[Tensor, "batch classes"]:
        slow = torch.linspace(0, x.shape[2] - 1, x.shape[2] // self.alpha).long()  # as PackPathway does
        return self.network([x.index_select(2, slow.to(x.device)), x])


class _FramesFirst(nn.Module):
    """A transformers model, which takes (batch, frames, 3, height, width)."""

    def __init__(self, network: nn.Module, takes: str = "pixel_values") -> None:
        super().__init__()
        self.network, self.takes = network, takes

    def forward(self, x: Float[Tensor, "batch 3 frames height width"]) -> Float[Tensor, "batch classes"]:
        return self.network(**{self.takes: x.transpose(1, 2)}).logits


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, temporal_stride: int) -> None:
        super().__init__()
        stride = (temporal_stride, 2, 2)
        self.space = nn.Conv3d(n_in, n_out, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.space_norm = nn.BatchNorm3d(n_out)
        self.time = nn.Conv3d(n_out, n_out, (3, 1, 1), (temporal_stride, 1, 1), (1, 0, 0), bias=False)
        self.time_norm = nn.BatchNorm3d(n_out)
        self.skip = nn.Sequential(nn.Conv3d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm3d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.space_norm(self.space(x)))
        return torch.relu(self.skip(x) + self.time_norm(self.time(y)))


class _SmallNetwork(nn.Module):
    def __init__(self, width: int, n_classes: int, dropout: float, motion_only: bool) -> None:
        super().__init__()
        self.motion_only = motion_only
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (3, 5, 5), (1, 2, 2), (1, 2, 2), bias=False), nn.BatchNorm3d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            _Block(width, 2 * width, 1), _Block(2 * width, 4 * width, 1), _Block(4 * width, 8 * width, 1)
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * 8 * width, n_classes))

    def forward(self, x: Float[Tensor, "batch 3 frames height width"]) -> Float[Tensor, "batch classes"]:
        if self.motion_only:
            x = x - x.mean(2, keepdim=True)
        features = self.blocks(self.stem(x))
        early, late = features.mean((3, 4)).tensor_split(2, dim=2)  # so that sitting down is not standing up
        return self.head(torch.cat([early.mean(2), late.mean(2)], 1))
