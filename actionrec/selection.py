"""Which synthetic clips to train on: like the real ones, unlike each other, or hard; random choice is the control.

Features are those of a recognizer before its last layer, so that nothing has to be downloaded, or CLIP's
(`clip_features`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from actionrec.clips import ClipStore, TestClips, labels_of
from actionrec.errors import DataError
from actionrec.manifest import ManifestClip
from actionrec.splits import by_class

Choice = Literal["random", "similar", "diverse", "hard"]


@dataclass(frozen=True, slots=True)
class Described:
    """Clips as a trained recognizer sees them."""

    clips: tuple[ManifestClip, ...]
    features: Float[np.ndarray, "clips channels"]
    """Of length 1."""
    losses: Float[np.ndarray, " clips"]
    """Cross entropy of the right class."""


def describe(network: nn.Module, store: ClipStore, clips: Sequence[ManifestClip], classes: Sequence[str]) -> Described:
    """Features and losses of clips, averaged over their test views. Raises DataError when there is no linear layer."""
    features: list[np.ndarray] = []
    losses: list[float] = []
    dataset, labels = TestClips(store, clips), labels_of(clips, classes)
    device = next(network.parameters()).device
    network.eval()
    seen: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0])

    hook = _last_linear(network).register_forward_pre_hook(keep)
    for index, label in enumerate(labels):
        with torch.no_grad():
            logits = network(dataset[index].to(device)).float()
        feature = seen.pop().float().flatten(1).mean(0)
        features.append((feature / feature.norm().clamp_min(1e-9)).cpu().numpy())
        losses.append(float(-logits.softmax(1).mean(0)[label].clamp_min(1e-9).log()))
    hook.remove()
    return Described(tuple(clips), np.stack(features), np.array(losses))


def choose(synthetic: Described, real: Described, n: int, *, how: Choice, seed: int = 0) -> tuple[ManifestClip, ...]:
    """At most `n` synthetic clips of every class. Raises DataError when a class has no real clip to be like."""
    chosen: list[ManifestClip] = []
    order = {clip.id: i for i, clip in enumerate(synthetic.clips)}
    for number, (label, clips) in enumerate(by_class(synthetic.clips).items()):
        rows = np.array([order[clip.id] for clip in clips])
        own = np.array([i for i, clip in enumerate(real.clips) if clip.label == label], int)
        if how == "similar" and not len(own):
            raise DataError(f"Class {label!r} has no real clip that synthetic ones could be like.")
        ranked = _RANKINGS[how](synthetic, rows, real.features[own], np.random.default_rng([seed, number]))
        chosen += [synthetic.clips[i] for i in ranked[:n]]
    return tuple(chosen)


def _random(_: Described, rows: np.ndarray, __: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(rows)


def _similar(synthetic: Described, rows: np.ndarray, real: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """By the cosine to the nearest real clip of the class."""
    return rows[np.argsort(-(synthetic.features[rows] @ real.T).max(1), kind="stable")]


def _diverse(synthetic: Described, rows: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Farthest point after farthest point (Gonzalez 1985), from a random one."""
    features = synthetic.features[rows]
    picked = [int(rng.integers(len(rows)))]
    distance = 1 - features @ features[picked[0]]
    while len(picked) < len(rows):
        distance[picked] = -np.inf
        picked.append(int(distance.argmax()))
        distance = np.minimum(distance, 1 - features @ features[picked[-1]])
    return rows[picked]


def _hard(synthetic: Described, rows: np.ndarray, _: np.ndarray, __: np.random.Generator) -> np.ndarray:
    """By falling loss."""
    return rows[np.argsort(-synthetic.losses[rows], kind="stable")]


Ranking = Callable[[Described, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
_RANKINGS: dict[str, Ranking] = {"random": _random, "similar": _similar, "diverse": _diverse, "hard": _hard}


def _last_linear(network: nn.Module) -> nn.Linear:
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise DataError(f"{type(network).__name__} has no linear layer before which features could be taken.")
    return layers[-1]
