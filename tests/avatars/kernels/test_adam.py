"""Our Adam against PyTorch's."""

from __future__ import annotations

import pytest
import torch

from avatars.kernels.adam import Adam, one_cycle


def leaves() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((40_000,), (7, 3), ())]


def energy(values: list[torch.Tensor]) -> torch.Tensor:
    parts = [(value.square().square() - (3.0 + i) * value.square()).sum() for i, value in enumerate(values)]
    return torch.stack(parts).sum()


def test_steps_are_those_of_pytorch() -> None:
    ours, theirs, rates = leaves(), leaves(), [0.1, 0.02, 0.05]
    mine = Adam(ours, rates, betas=(0.8, 0.95), eps=1e-6)
    groups = [{"params": [value], "lr": rate} for value, rate in zip(theirs, rates, strict=True)]
    reference = torch.optim.Adam(groups, betas=(0.8, 0.95), eps=1e-6)
    for _ in range(20):
        energy(ours).backward()
        mine.step()
        reference.zero_grad()
        energy(theirs).backward()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=2e-5)
        assert a.grad is not None and not a.grad.any()


def test_one_cycle_is_that_of_pytorch() -> None:
    value = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([value], 0.3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=50, pct_start=0.2, final_div_factor=20)
    for step in range(49):
        group = optimizer.param_groups[0]
        scale, beta1 = one_cycle(step, 50)
        assert 0.3 * scale == pytest.approx(group["lr"], rel=1e-9)
        assert beta1 == pytest.approx(group["betas"][0], rel=1e-9)
        optimizer.step()
        schedule.step()


def test_work_goes_on_where_its_state_was_taken() -> None:
    a, b = leaves(), leaves()
    first = Adam(a, [0.1] * 3)
    for _ in range(5):
        energy(a).backward()
        first.step()
    for value, other in zip(a, b, strict=True):
        other.data.copy_(value.detach())
    second = Adam(b, [0.1] * 3)
    second.put_state({name: [t.clone() for t in v] if isinstance(v, list) else v for name, v in first.state().items()})
    for values, optimizer in ((a, first), (b, second)):
        for _ in range(5):
            energy(values).backward()
            optimizer.step(0.5)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
