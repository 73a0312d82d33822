"""The hand pose that stands in where a file says nothing about fingers."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.body import Body


def resting_hands(body: Body) -> Float[Tensor, "30 3"]:
    """Mean hand poses of the body's file (`hands_meanl`, then `hands_meanr`), axis-angle: what `smplx` adds to hand
    poses unless it is made with `flat_hand_mean=True`; zeros when the file has none."""
    with np.load(body.path, allow_pickle=False) as archive:
        means = [archive[key] if key in archive.files else np.zeros(45) for key in ("hands_meanl", "hands_meanr")]
    return torch.from_numpy(np.concatenate([np.asarray(mean, np.float32).reshape(-1) for mean in means])).reshape(30, 3)
