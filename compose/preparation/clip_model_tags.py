"""CLIP (Radford et al. 2021) over the picture of a place -> what kind of place it is, in the action table's words.

Optional: needs transformers and a local folder with the weights. The scores are a softmax over the table's places, so
they say which of these the picture is likest, not whether it is any of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from avatars.errors import BackendMissing
from compose.preparation.action_tags import PLACES

_PROMPT = "a photo of a {}"


class PlaceClassifier:
    """CLIP with the texts of all places of the action table."""

    def __init__(self, folder: str | Path) -> None:
        """Raises BackendMissing without transformers, or where the folder holds no whole CLIP model."""
        try:
            from transformers import CLIPModel, CLIPProcessor
        except ImportError:
            raise BackendMissing("CLIP needs transformers: pip install 'splat-avatars[depth]'.") from None
        config = Path(folder) / "config.json"
        if not config.is_file() or '"clip"' not in config.read_text(encoding="utf-8"):
            raise BackendMissing(f"No CLIP model at {folder}: give the folder of one, with weights and tokenizer.")
        try:
            loaded: Any = CLIPModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
            self._processor: Any = CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise BackendMissing(f"No CLIP model at {folder}: {str(error).splitlines()[0]}") from None
        self._network, report = loaded
        if report["missing_keys"]:
            raise BackendMissing(f"{folder} lacks weights of CLIP, {sorted(report['missing_keys'])[0]} for one.")
        self._network.eval()

    def __call__(self, rgb: UInt8[np.ndarray, "height width 3"]) -> dict[str, float]:
        """Probability of each place of the table, most likely first."""
        names = sorted({tag for members in PLACES.values() for tag in members})
        texts = [_PROMPT.format(name.replace("_", " ")) for name in names]
        inputs = self._processor(text=texts, images=[rgb], return_tensors="pt", padding=True)
        with torch.inference_mode():
            share = self._network(**inputs).logits_per_image[0].double().softmax(0).tolist()
        return dict(sorted(zip(names, share, strict=True), key=lambda pair: -pair[1]))
