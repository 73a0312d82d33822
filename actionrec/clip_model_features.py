"""What CLIP sees in a clip (Radford et al. 2021): the mean of its image embeddings of a few frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from actionrec.clips import ClipStore, cropped
from actionrec.errors import DataError, PackageMissing
from actionrec.manifest import ManifestClip

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's own pictures, by channel."""
FRAMES = 4


def load_clip(folder: str | Path) -> nn.Module:
    """CLIP's image tower with projection from a local folder of transformers' form, in evaluation mode.

    Raises PackageMissing without transformers, DataError when the folder holds no CLIP model.
    """
    try:
        from transformers import CLIPVisionModelWithProjection
    except ImportError:
        raise PackageMissing("CLIP needs transformers: pip install '.[videomae]'.") from None
    config = Path(folder) / "config.json"
    if not config.is_file() or '"clip' not in config.read_text(encoding="utf-8"):
        raise DataError(f"No CLIP model at {folder}: give a folder with CLIP's config.json and weights.")
    try:
        network, report = cast(  # a pair, for output_loading_info
            Any, CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        )
    except OSError as error:
        raise DataError(f"No CLIP model at {folder}: {str(error).splitlines()[0]}") from None
    if report["missing_keys"]:
        raise DataError(f"{folder} lacks weights of CLIP's image tower, {sorted(report['missing_keys'])[0]} for one.")
    return network.eval()


@torch.no_grad()
def clip_features(
    network: nn.Module, store: ClipStore, clips: Sequence[ManifestClip]
) -> Float[np.ndarray, "clips channels"]:
    """Mean embedding of `FRAMES` frames of each filled clip, of length 1."""
    device = next(network.parameters()).device
    size = cast(Any, network.config).image_size
    return np.stack([_embedding(network, _pictures(store, clip, size).to(device)) for clip in clips])


def _pictures(store: ClipStore, clip: ManifestClip, size: int) -> Float[Tensor, "frames 3 size size"]:
    """Center crops of evenly spread frames, normalized as CLIP wants them."""
    frames = store.frames(clip)
    height, width = frames.shape[1:3]
    side = min(height, width)
    chosen = frames[((np.arange(FRAMES) + 0.5) * len(frames) / FRAMES).astype(int)]
    pictures = cropped(chosen, (height - side) / 2, (width - side) / 2, side, size).transpose(0, 1)
    return (pictures - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def _embedding(network: nn.Module, pictures: Tensor) -> Float[np.ndarray, " channels"]:
    embeddings = F.normalize(network(pixel_values=pictures).image_embeds.float(), dim=1)
    return F.normalize(embeddings.mean(0), dim=0).cpu().numpy()
