"""Masks of a clip, kept compressed and opened a few frames at a time, so that a long clip fits in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from avatars.errors import InputError
from avatars.io.files import atomic_path

BLOCK_FRAMES = 64
"""Frames that are opened together."""

Pixels = UInt8[np.ndarray, " pixels"]


class MaskStack:
    """Probability of the person times 255 in every frame, read as one reads a tensor (frames, height, width).

    `masks[i]`, `masks[2:8]`, `masks[indices]` are uint8 tensors; only the frames asked for are opened.
    """

    def __init__(
        self,
        size_hw: tuple[int, int],
        boxes: Int[np.ndarray, "frames 4"],
        starts: Sequence[int],
        read_block: Callable[[int], Pixels],
    ) -> None:
        """`boxes`: top, bottom, left, right of what is not 0. Block b holds, one after the other, the boxes' pixels of
        the frames from `starts[b]` to the next start."""
        self.size_hw = size_hw
        self.boxes = np.asarray(boxes, np.int32).reshape(-1, 4)
        self._starts = np.asarray(starts, np.int64)
        self._block = lru_cache(maxsize=2)(read_block)
        sizes = (self.boxes[:, 1] - self.boxes[:, 0]).astype(np.int64) * (self.boxes[:, 3] - self.boxes[:, 2])
        self._offsets = np.concatenate([[0], np.cumsum(sizes)])

    @staticmethod
    def of(masks: UInt8[Tensor, "frames height width"]) -> MaskStack:
        """Compress masks that are in memory."""
        return MaskStack.packed(masks.numpy(), (int(masks.shape[1]), int(masks.shape[2])))

    @staticmethod
    def packed(masks: Iterable[UInt8[np.ndarray, "height width"]], size_hw: tuple[int, int]) -> MaskStack:
        """Compress masks one after the other."""
        boxes, blocks, starts, waiting = [], [], [], []
        for i, mask in enumerate(masks):
            if i % BLOCK_FRAMES == 0:
                starts.append(i)
                blocks += [_compressed(waiting)] if waiting else []
                waiting = []
            left, top, right, bottom = mask_box(mask)
            boxes.append((top, bottom, left, right))
            waiting.append(mask[top:bottom, left:right].ravel())
        blocks += [_compressed(waiting)] if waiting else []
        return MaskStack(
            size_hw, np.array(boxes), starts, lambda b: np.frombuffer(zlib.decompress(blocks[b]), np.uint8)
        )

    @staticmethod
    def joined(stacks: Sequence[MaskStack]) -> MaskStack:
        """One clip's parts, one after the other."""
        owners = [(stack, b) for stack in stacks for b in range(len(stack._starts))]
        firsts = np.cumsum([0, *(len(stack) for stack in stacks[:-1])])
        starts = [int(first + s) for first, stack in zip(firsts, stacks, strict=True) for s in stack._starts]
        boxes = np.concatenate([stack.boxes for stack in stacks])
        return MaskStack(stacks[0].size_hw, boxes, starts, lambda b: owners[b][0]._block(owners[b][1]))

    def without(self, frames: Bool[Tensor, " frames"]) -> MaskStack:
        """The same masks, empty in the chosen frames."""
        gone = frames.numpy()
        boxes = np.where(gone[:, None], 0, self.boxes)

        def kept(b: int) -> Pixels:
            members = range(int(self._starts[b]), self._end(b))
            pixels = [self._pixels(i) for i in members if not gone[i]]
            return np.concatenate(pixels) if pixels else np.zeros(0, np.uint8)

        return MaskStack(self.size_hw, boxes, self._starts.tolist(), kept)

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height, width."""
        return len(self), *self.size_hw

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Tensor:
        """One mask (height, width), or the chosen ones (chosen, height, width), uint8."""
        if isinstance(index, int | np.integer) or (isinstance(index, Tensor) and index.ndim == 0):
            return torch.from_numpy(self._mask(range(len(self))[int(index)]))
        if isinstance(index, slice):
            chosen = list(range(*index.indices(len(self))))
        else:
            numbers = torch.as_tensor(index)
            chosen = (torch.nonzero(numbers)[:, 0] if numbers.dtype == torch.bool else numbers).tolist()
        out = torch.zeros(len(chosen), *self.size_hw, dtype=torch.uint8)
        for row, i in zip(out, chosen, strict=True):
            row[:] = torch.from_numpy(self._mask(range(len(self))[i]))
        return out

    def save(self, path: str | Path) -> Path:
        """Write an npz (`size_hw`, `boxes`, `starts`, and `pixels_<block>`), one block in memory at a time."""
        arrays = {"size_hw": np.array(self.size_hw), "boxes": self.boxes, "starts": self._starts}
        with atomic_path(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                _write_array(archive, name, array)
            for b in range(len(self._starts)):
                _write_array(archive, f"pixels_{b}", self._block(b))
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> MaskStack:
        """Open what `save` wrote; the pixels stay in the file until they are asked for.

        Raises InputError when the file is no such npz.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as archive:
                size_hw, boxes, starts = archive["size_hw"].tolist(), archive["boxes"], archive["starts"].tolist()
        except FileNotFoundError:
            raise InputError(f"No masks at {path}.") from None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} holds no masks ({error}). Track the video again.") from None

        def read_block(b: int) -> Pixels:
            with np.load(path, allow_pickle=False) as archive:
                return archive[f"pixels_{b}"]

        return MaskStack((size_hw[0], size_hw[1]), boxes, starts, read_block)

    def _end(self, b: int) -> int:
        return int(self._starts[b + 1]) if b + 1 < len(self._starts) else len(self)

    def _pixels(self, i: int) -> Pixels:
        b = int(np.searchsorted(self._starts, i, side="right")) - 1
        start = self._offsets[i] - self._offsets[self._starts[b]]
        return self._block(b)[start : start + self._offsets[i + 1] - self._offsets[i]]

    def _mask(self, i: int) -> UInt8[np.ndarray, "height width"]:
        top, bottom, left, right = self.boxes[i]
        mask = np.zeros(self.size_hw, np.uint8)
        mask[top:bottom, left:right] = self._pixels(i).reshape(bottom - top, right - left)
        return mask


def mask_box(mask: UInt8[np.ndarray, "height width"]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is not 0; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _compressed(pixels: list[Pixels]) -> bytes:
    return zlib.compress(np.concatenate(pixels).tobytes(), 1)


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
