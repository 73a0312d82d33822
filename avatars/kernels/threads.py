"""How many threads torch takes and how many our C++ does, where the two should differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_kernels: int | None = None


def kernel_threads() -> int:
    """For our C++: as many as torch takes, or took before `torch_on_one_thread`."""
    return _kernels or torch.get_num_threads()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Torch's own operations on one thread, our C++ on as many as before.

    For many small operations: threads that wait for each other cost more than they save, on a busy machine 20 times.
    """
    global _kernels
    before, threads = _kernels, torch.get_num_threads()
    _kernels = before or threads
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _kernels = before
