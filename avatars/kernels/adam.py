"""Adam, on the CPU in our C++. PyTorch's own imports its compiler with the first optimizer, which takes as long as
tracking fifty frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from avatars.kernels.extension import extension, in_cpp
from avatars.kernels.threads import kernel_threads


class Adam:
    """Kingma & Ba 2015, with what `torch.optim.Adam` computes, for contiguous float32 leaves on any device."""

    def __init__(
        self, leaves: Sequence[Tensor], rates: Sequence[float], *, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        """A rate per leaf. Leaves get a gradient of zeros."""
        self.leaves, self.rates, self.betas, self.eps = list(leaves), list(rates), betas, eps
        for leaf in self.leaves:
            assert leaf.dtype == torch.float32 and leaf.is_contiguous()
            leaf.grad = torch.zeros_like(leaf)
        self._first = [torch.zeros_like(leaf) for leaf in self.leaves]
        self._second = [torch.zeros_like(leaf) for leaf in self.leaves]
        self._steps = 0

    @torch.no_grad()
    def step(self, scale: float = 1.0, beta1: float | None = None) -> None:
        """Move the leaves down their gradients, all rates times `scale`, and set the gradients to zero.

        `beta1` replaces that of `betas` in this step.
        """
        beta1, beta2 = self.betas[0] if beta1 is None else beta1, self.betas[1]
        self._steps += 1
        correction, spread = 1 - beta1**self._steps, 1 / math.sqrt(1 - beta2**self._steps)
        for leaf, rate, first, second in zip(self.leaves, self.rates, self._first, self._second, strict=True):
            assert leaf.grad is not None and leaf.grad.is_contiguous()
            if not in_cpp(leaf):
                first.lerp_(leaf.grad, 1 - beta1)
                second.lerp_(leaf.grad.square(), 1 - beta2)
                leaf.sub_(scale * rate / correction * first / (second.sqrt() * spread + self.eps))
                leaf.grad.zero_()
                continue
            numbers = (beta1, beta2, scale * rate / correction, spread, self.eps)
            extension().step_adam(leaf, leaf.grad, first, second, *numbers, kernel_threads())

    def state(self) -> dict[str, Any]:
        """Everything that steps change besides the leaves."""
        return {"first": self._first, "second": self._second, "steps": self._steps}

    def put_state(self, state: dict[str, Any]) -> None:
        """Back to where `state` was taken."""
        self._first, self._second = (
            [mean.to(leaf.device) for mean, leaf in zip(state[name], self.leaves, strict=True)]
            for name in ("first", "second")
        )
        self._steps = state["steps"]


def gradient_of(leaf: Tensor) -> Tensor:
    """What was summed up for a leaf. Raises RuntimeError where nothing was, and no optimizer holds the leaf."""
    if leaf.grad is None:
        raise RuntimeError(f"No gradient has come to a leaf of shape {tuple(leaf.shape)}.")
    return leaf.grad


def one_cycle(step: int, steps: int) -> tuple[float, float]:
    """Smith & Topin 2019: the scale of the rates and the first moment's beta in a step of `steps`.

    Rates rise from 1/25 to 1 in the first fifth and fall to 1/500, along cosines; beta goes from 0.95 to 0.85 and back.
    As `torch.optim.lr_scheduler.OneCycleLR` with `pct_start=0.2` and `final_div_factor=20`.
    """
    peak = 0.2 * steps - 1
    if step <= peak:
        share, ends = step / peak, (0.04, 1.0, 0.95, 0.85)
    else:
        share, ends = (step - peak) / (steps - 1 - peak), (1.0, 0.002, 0.85, 0.95)
    down = (1 + math.cos(math.pi * share)) / 2
    return ends[1] + (ends[0] - ends[1]) * down, ends[3] + (ends[2] - ends[3]) * down
