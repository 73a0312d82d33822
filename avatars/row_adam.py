"""Adam for tables of which each step touches one row: a frame's pose, a frame's exposure."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class RowAdam:
    """Rows trained one at a time, Adam (Kingma & Ba 2015) with one second moment per column shared by all rows.

    A column that means nothing in a row (a limb hidden in that frame) gets next to no gradient there, and so stays
    where it is, where a second moment of its own would normalize it into a random walk. Decay towards zero and
    smoothness over the rows are decoupled from the gradient, as in AdamW.
    """

    BETA1, BETA2 = 0.8, 0.98

    def __init__(
        self, rows: int, lr: Float[Tensor, " columns"], *, decay: float = 0.0, smoothness: float = 0.0
    ) -> None:
        self.values = torch.zeros(rows, len(lr))
        self.lr, self.decay, self.smoothness = lr, decay, smoothness
        self._first = torch.zeros_like(self.values)
        self._second = torch.zeros_like(lr)
        self._row_steps = [0] * rows
        self._steps = 0

    def leaf(self, row: int) -> Float[Tensor, " columns"]:
        """A copy of a row, to take a gradient of."""
        return self.values[row].clone().requires_grad_()

    def step(self, row: int, gradient: Float[Tensor, " columns"], rate: float = 1.0) -> None:
        """Move a row down its gradient; `rate` scales the learning rates."""
        self._steps += 1
        self._row_steps[row] += 1
        self._first[row].lerp_(gradient, 1 - self.BETA1)
        self._second.lerp_(gradient.square(), 1 - self.BETA2)
        first = self._first[row] / (1 - self.BETA1 ** self._row_steps[row])
        second = self._second / (1 - self.BETA2**self._steps)
        move = (-first / (second.sqrt() + 1e-12)).clamp(-3, 3) - self.decay * self.values[row]
        if self.smoothness > 0 and len(self.values) > 1:
            around = self.values[max(row - 1, 0) : row + 2]
            mean = (around.sum(0) - self.values[row]) / (len(around) - 1)
            move = move + self.smoothness * (mean - self.values[row])
        self.values[row] += rate * self.lr * move
