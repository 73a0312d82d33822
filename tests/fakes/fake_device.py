"""A device that is not there: its tensors say they are elsewhere, work on the CPU, and do not mix with CPU tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"
"""PyTorch knows it without a GPU, and no code of ours does."""


class _There(torch.Tensor):
    @staticmethod
    def __new__(cls, held: torch.Tensor) -> _There:
        like = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, **like, device=torch.device(NAME))

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self, **_: Any) -> str:
        return f"elsewhere: {self.held}"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Takes part in what makes tensors out of none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = any(isinstance(x, _There) for x in tensors)
    if there and func not in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
        here = [tuple(x.shape) for x in tensors if not isinstance(x, _There) and x.ndim]
        if here:
            raise RuntimeError(f"{func}: tensors of shapes {here} are on the CPU, others elsewhere")
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == NAME
        kwargs = kwargs | {"device": torch.device("cpu")}
    held = tree_map(lambda x: x.held if isinstance(x, _There) else x, (args, kwargs))
    found = func(*held[0], **held[1])
    if func._schema.is_mutable and tensors and isinstance(args[0], torch.Tensor):
        return args[0]
    return tree_map(lambda x: _There(x) if there and isinstance(x, torch.Tensor) else x, found)


@contextmanager
def pretended_device() -> Iterator[str]:
    """Its name, while tensors can be there."""
    with _Mode():
        yield NAME
