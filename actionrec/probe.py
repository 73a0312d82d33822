"""A linear classifier on the features of a network that is left as it is: what its weights know already.

The first baseline that a reader asks for (Alain & Bengio 2016): minutes on a CPU, no schedule to argue about.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from actionrec.clips import ClipStore, TestClips, labels_of
from actionrec.errors import DataError
from actionrec.manifest import ManifestClip
from actionrec.recognizers import LocalModel, load_weights
from actionrec.training import Trained, TrainingConfig, collapsed_class

DECAY = 1e-2
"""Of the classifier's weights, on features of unit deviation, against the mean loss."""
ITERATIONS = 200


def probe(store: ClipStore, clips: Sequence[ManifestClip], classes: Sequence[str], config: TrainingConfig) -> Trained:
    """The network with a head that was fitted to the clips' test views. Features are kept beside the decoded clips.

    Raises DataError for a network of random weights, whose features know nothing, and one without a linear head.
    """
    pretrained = isinstance(config.recognizer, LocalModel) or getattr(config.recognizer, "folder", None) is not None
    if config.initial_weights is None and not pretrained:
        raise DataError(
            "A probe of random weights tells nothing. Give the network's weights (--weights FILE), or a model's folder "
            "(--model FOLDER)."
        )
    start_s = time.perf_counter()
    torch.manual_seed(config.seed)
    network = config.recognizer.build(len(classes))
    if config.initial_weights is not None:
        load_weights(network, config.initial_weights)
    network = network.to(config.device).eval()
    head = linear_head(network)
    cache = store.folder / f"features_{_digest(network, head, config)}"
    views = [features(network, head, store, clip, cache, config.device) for clip in clips]
    labels = np.repeat(labels_of(clips, classes), [len(v) for v in views])
    x = np.concatenate(views)
    losses = fit_head(head, torch.from_numpy(x), torch.from_numpy(labels))
    with torch.no_grad():
        guesses = (torch.from_numpy(x).to(head.weight) @ head.weight.T + head.bias).argmax(1).tolist()
    return Trained(network, losses, time.perf_counter() - start_s, collapsed_class(guesses, labels.tolist(), classes))


def linear_head(network: nn.Module) -> nn.Linear:
    """The last linear layer. Raises DataError when there is none with a bias."""
    found = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not found or found[-1].bias is None:
        raise DataError(f"{type(network).__name__} has no linear head to fit.")
    return found[-1]


def features(
    network: nn.Module, head: nn.Linear, store: ClipStore, clip: ManifestClip, cache: Path, device: str
) -> Float[np.ndarray, "views channels"]:
    """What the head is given, averaged over time and place, for each test view of a clip; taken from `cache` or put
    there."""
    path = cache / f"{clip.sha256}.npy"
    if path.is_file():
        return np.load(path)
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad():
            network(TestClips(store, [clip])[0].to(device))
    finally:
        hook.remove()
    given = seen[-1].float().cpu()
    found = given.reshape(len(given), -1, given.shape[-1]).mean(1).numpy()
    cache.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part.npy")
    np.save(aside, found)
    aside.replace(path)
    return found


def fit_head(head: nn.Linear, x: Float[Tensor, "views channels"], labels: Int[Tensor, " views"]) -> tuple[float, ...]:
    """Multinomial logistic regression with decay by L-BFGS (Liu & Nocedal 1989), on features brought to zero mean and
    unit deviation, which is folded into the head; the loss of each evaluation."""
    mean, scale = x.mean(0), x.std(0, unbiased=False).clamp_min(1e-6)
    z = (x - mean) / scale
    weight = torch.zeros(head.out_features, x.shape[1], requires_grad=True)
    bias = torch.zeros(head.out_features, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(z @ weight.T + bias, labels)
        losses.append(float(loss.detach()))
        total = loss + 0.5 * DECAY * weight.square().sum()
        total.backward()
        return total

    optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias - (weight / scale) @ mean)
    return tuple(losses)


def _digest(network: nn.Module, head: nn.Linear, config: TrainingConfig) -> str:
    """What decides features: weights but those of the head, and how clips become views."""
    digest = hashlib.sha256(repr(config.clips).encode())
    own = {id(head.weight), id(head.bias)}
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if id(value) not in own:
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
