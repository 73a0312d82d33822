"""Adam for tables of which each step touches a few rows: a frame's pose, a frame's exposure."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_STEPPED = ("_first", "_second", "_row_steps", "_steps")


class RowAdam:
    """Rows trained a few at a time, Adam (Kingma & Ba 2015) with one second moment per column shared by all rows.

    A column that means nothing in a row (a limb hidden in that frame) gets next to no gradient there, and so stays
    where it is, where a second moment of its own would normalize it into a random walk. Decay towards zero and
    smoothness over the rows are decoupled from the gradient, as in AdamW.
    """

    BETA1, BETA2 = 0.8, 0.98

    def __init__(
        self,
        rows: int,
        lr: Float[Tensor, " columns"],
        *,
        decay: float = 0.0,
        smoothness: float = 0.0,
        spread: float = 0.0,
    ) -> None:
        """Learning rates `lr` per column; `spread` in [0, 1) is the share of a row's step that the rows beside it take,
        too (squared for those two away): errors of rows in sequence are alike, and each row is seldom visited."""
        self.values = torch.zeros(rows, len(lr))
        self.lr, self.decay, self.smoothness, self.spread = lr, decay, smoothness, spread
        self._first = torch.zeros_like(self.values)
        self._second = torch.zeros_like(lr)
        self._row_steps = torch.zeros(rows)
        self._steps = 0

    def inherit_scale(self, trained: RowAdam) -> None:
        """Take over what another table learnt of the size of gradients: near its optimum a row then takes small steps
        at once, where fresh Adam would take full ones."""
        self._second, self._steps = trained._second.clone(), trained._steps

    def state(self) -> dict[str, Tensor | int]:
        """Everything that steps change."""
        return {"values": self.values, **{name: getattr(self, name) for name in _STEPPED}}

    def put_state(self, state: dict[str, Tensor | int]) -> None:
        """Back to where `state` was taken."""
        for name, value in state.items():
            setattr(self, name, value)

    def leaf(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b columns"]:
        """A copy of rows, to take a gradient of."""
        return self.values[rows].clone().requires_grad_()

    def step(self, rows: Int[Tensor, " b"], gradient: Float[Tensor, "b columns"], rate: float = 1.0) -> None:
        """Move different rows down their gradients; `rate` scales the learning rates."""
        self._steps += 1
        self._row_steps[rows] += 1
        first = self.BETA1 * self._first[rows] + (1 - self.BETA1) * gradient
        self._first[rows] = first
        self._second.lerp_(gradient.square().mean(0), 1 - self.BETA2)
        first = first / (1 - self.BETA1 ** self._row_steps[rows, None])
        second = self._second / (1 - self.BETA2**self._steps)
        here = self.values[rows]
        move = (-first / (second.sqrt() + 1e-12)).clamp(-3, 3) - self.decay * here
        if self.smoothness > 0 and len(self.values) > 1:
            last = len(self.values) - 1
            around = self.values[(rows - 1).abs()] + self.values[last - (last - rows - 1).abs()]
            move = move + self.smoothness * (0.5 * around - here)
        move = rate * self.lr * move
        self.values[rows] = here + move
        for step, share in ((1, self.spread), (2, self.spread**2)) if self.spread > 0 else ():
            for beside in (rows - step, rows + step):
                inside = (beside >= 0) & (beside < len(self.values))
                self.values.index_add_(0, beside[inside], share * move[inside])
