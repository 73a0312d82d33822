"""Our compiled module: found, or an error that says how to build it; tensors of its memory."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from avatars.errors import BackendMissing


def extension() -> ModuleType:
    """The compiled module, or BackendMissing with the command that builds it."""
    try:
        from avatars.kernels import _cpp  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise BackendMissing(
            f"The C++ kernels are not built ({error}). Install the toolkit with `pip install .` in its repository, "
            "or, to build it in place, run the commands at the top of CMakeLists.txt."
        ) from error
    return _cpp


def in_cpp(tensor: Tensor) -> bool:
    """Whether our C++ can work on it; what lies on other devices is left to PyTorch."""
    return tensor.device.type == "cpu"


def empty(shape: tuple[int, ...]) -> Tensor:
    """Like `torch.empty`, from memory that earlier calls' tensors gave back: new pages would cost a millisecond."""
    return extension().floats(math.prod(shape)).view(shape)


def empty_bytes(shape: tuple[int, ...]) -> UInt8[np.ndarray, ...]:
    """Like `numpy.empty`, from the memory that `empty` takes."""
    count = math.prod(shape)
    return extension().floats(-(-count // 4)).numpy().view(np.uint8)[:count].reshape(shape)


def of_frame(tensor: Tensor | None, frame: int) -> Tensor | None:
    """A frame's values; a tensor of one frame serves all."""
    return None if tensor is None else tensor[frame if len(tensor) > 1 else 0]
