"""Tables of which each step touches a few rows: a frame's pose, a frame's exposure."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Rows:
    """Rows trained a few at a time, with momentum.

    Decay towards zero and smoothness over the rows are decoupled from the gradient, as in AdamW.
    """

    STEPPED: tuple[str, ...] = ("values", "_first", "_row_steps")

    def __init__(
        self,
        rows: int,
        lr: Float[Tensor, " columns"],
        *,
        decay: float = 0.0,
        smoothness: float = 0.0,
        spread: float = 0.0,
        momentum: float = 0.8,
    ) -> None:
        """`lr` per column is what decay and smoothness are scaled by; `spread` in [0, 1) is the share of a row's step
        that the rows beside it take, too (squared for those two away): errors of rows in sequence are alike, and each
        row is seldom visited. `momentum` is what a running mean of a row's steps keeps per step."""
        self.values = torch.zeros(rows, len(lr))
        self.lr, self.decay, self.smoothness, self.spread = lr, decay, smoothness, spread
        self.momentum = momentum
        self._first = torch.zeros_like(self.values)
        self._row_steps = torch.zeros(rows)

    def state(self) -> dict[str, Tensor | int]:
        """Everything that steps change."""
        return {name: getattr(self, name) for name in self.STEPPED}

    def put_state(self, state: dict[str, Tensor | int]) -> None:
        """Back to where `state` was taken."""
        for name, value in state.items():
            setattr(self, name, value)

    def leaf(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b columns"]:
        """A copy of rows, to take a gradient of."""
        return self.values[rows].clone().requires_grad_()

    def move(self, rows: Int[Tensor, " b"], step: Float[Tensor, "b columns"], rate: float = 1.0) -> None:
        """Move different rows by the running mean of their steps; `rate` scales all that moves them."""
        self._row_steps[rows] += 1
        first = self.momentum * self._first[rows] + (1 - self.momentum) * step
        self._first[rows] = first
        here = self.values[rows]
        pull = -self.decay * here
        if self.smoothness > 0 and len(self.values) > 1:
            last = len(self.values) - 1
            around = self.values[(rows - 1).abs()] + self.values[last - (last - rows - 1).abs()]
            pull = pull + self.smoothness * (0.5 * around - here)
        move = rate * (first / (1 - self.momentum ** self._row_steps[rows, None]) + self.lr * pull)
        self.values[rows] = here + move
        for step_away, share in ((1, self.spread), (2, self.spread**2)) if self.spread > 0 else ():
            for beside in (rows - step_away, rows + step_away):
                inside = (beside >= 0) & (beside < len(self.values))
                self.values.index_add_(0, beside[inside], share * move[inside])


class RowAdam(Rows):
    """Adam (Kingma & Ba 2015) with one second moment per column shared by all rows.

    A column that means nothing in a row gets next to no gradient there, and so stays where it is, where a second moment
    of its own would normalize it into a random walk.
    """

    BETA2 = 0.98
    STEPPED = (*Rows.STEPPED, "_second", "_steps")

    def __init__(self, rows: int, lr: Float[Tensor, " columns"], **how: float) -> None:
        """Learning rates `lr` per column; `how` is as in `Rows`."""
        super().__init__(rows, lr, **how)
        self._second = torch.zeros_like(lr)
        self._steps = 0

    def step(self, rows: Int[Tensor, " b"], gradient: Float[Tensor, "b columns"], rate: float = 1.0) -> None:
        """Move different rows down their gradients; `rate` scales the learning rates."""
        self._steps += 1
        self._second.lerp_(gradient.square().mean(0), 1 - self.BETA2)
        second = self._second / (1 - self.BETA2**self._steps)
        self.move(rows, -self.lr * (gradient / (second.sqrt() + 1e-12)).clamp(-3, 3), rate)
