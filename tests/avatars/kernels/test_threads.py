"""Torch on one thread leaves our C++ its own."""

from __future__ import annotations

import pytest
import torch

from avatars.kernels.threads import kernel_threads, torch_on_one_thread


def test_torch_on_one_thread_leaves_our_kernels_theirs() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch_on_one_thread(), torch_on_one_thread():
            assert (torch.get_num_threads(), kernel_threads()) == (1, 2)
        with pytest.raises(RuntimeError), torch_on_one_thread():
            raise RuntimeError
        assert (torch.get_num_threads(), kernel_threads()) == (2, 2)
    finally:
        torch.set_num_threads(before)
