"""Files of named arrays in; the arrays, of the dtypes, sizes and values that their schema states, or one sentence, out.

A file from somewhere else is judged by its headers before memory is taken for it, and by its values before anything is
computed from them: what our C++ and index operations are handed later is within what they were written for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avatars.errors import InputError

Kind = Literal["float", "integer", "text"]
MOST_BYTES = 4 << 30
"""Of all arrays of a file together; a licensed body with 300 betas and pose correctives takes a quarter of a GiB."""
MOST_RATIO = 1032
"""Deflate compresses no further: a file that promises more does not hold it."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """What an array must be."""

    shape: tuple[int | str | None, ...]
    """A name stands for a size that several arrays share, None for any; none is 0 unless its name ends with `?`."""
    least: float = -1e30
    most: float = 1e30
    """Values lie between, both included, and none is NaN."""
    below: int | str | None = None
    """Integers from 0 to less than this, or than the size of this name."""
    kind: Kind = "float"


Schema = Mapping[str, ArraySpec]
SchemaOf = Callable[[frozenset[str]], Schema]
"""By the names of the arrays that are there."""
Header = tuple[tuple[int, ...], str]
"""Shape, and dtype as NumPy names it."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """A file of arrays, as messages speak of it."""

    path: Path
    remedy: str
    """A sentence that says what to do where something is wrong."""

    def refuse(self, what: str) -> InputError:
        """The error to raise."""
        return InputError(f"{self.path}: {what} {self.remedy}")

    def check_headers(
        self, headers: Mapping[str, Header], schema: Schema, sizes: Mapping[str, int], *, exactly: tuple[str, ...] = ()
    ) -> dict[str, int]:
        """The sizes by name, those given among them. `exactly` are the dtypes that floats and integers must have.

        Raises InputError, which names the array, where one is missing or has another dtype or shape.
        """
        if missing := [name for name in schema if name not in headers]:
            raise self.refuse(f"it lacks `{'`, `'.join(missing)}`.")
        found = dict(sizes)
        for name, spec in schema.items():
            shape, dtype = headers[name]
            if not _is_of(dtype, spec.kind, exactly):
                raise self.refuse(f"`{name}` is {dtype}, expected {' or '.join(exactly) or spec.kind}.")
            wanted = tuple(found.get(n, n) if isinstance(n, str) else n for n in spec.shape)
            if len(shape) != len(wanted) or not all(map(_fits, shape, wanted)):
                known = ", ".join("any" if n is None else str(n) for n in wanted)
                raise self.refuse(f"`{name}` has shape {shape}, expected ({known}{',' if len(wanted) == 1 else ''}).")
            found |= {n: size for n, size in zip(spec.shape, shape, strict=True) if isinstance(n, str)}
        return found

    def check_values(self, arrays: Mapping[str, np.ndarray], schema: Schema, sizes: Mapping[str, int]) -> None:
        """Raises InputError, which names the array, where a value is NaN or outside what the schema states."""
        for name, spec in schema.items():
            array = arrays[name]
            if spec.kind == "text" or array.size == 0 or (spec.kind == "integer" and spec.below is None):
                continue
            least, most = (float(array.min()), float(array.max()))  # NaN where one value is
            lowest, highest = spec.least, spec.most
            if spec.below is not None:
                lowest, highest = 0.0, float(sizes[spec.below] if isinstance(spec.below, str) else spec.below) - 1
            if not (lowest <= least and most <= highest):
                raise self.refuse(
                    f"`{name}` holds values from {least:g} to {most:g}, expected {lowest:g} to {highest:g} and no NaN."
                )


def read_npz(file: ArrayFile, schema: Schema) -> dict[str, np.ndarray]:
    """The arrays of an npz that the schema names; what else there is stays unread.

    Raises InputError where the file is damaged, or an array is missing, too large or not as it must be.
    """
    try:
        headers = _npz_headers(file, schema)
        sizes = file.check_headers(headers, schema, {})
        with np.load(file.path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in schema}
    except InputError:
        raise
    except Exception as error:  # zlib's, struct's, tokenize's: a damaged archive raises nearly anything
        raise file.refuse(f"it cannot be read as an npz ({type(error).__name__}: {error}).") from None
    file.check_values(arrays, schema, sizes)
    return arrays


def read_safetensors(file: ArrayFile, schema_of: SchemaOf, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, float32 and int64, that the schema for the names in it asks for.

    Raises InputError where the file is damaged, or an array is missing or not as it must be.
    """
    from safetensors import safe_open

    try:
        with safe_open(file.path, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            headers: dict[str, Header] = {
                str(name): (tuple(part.get_shape()), _SAFETENSORS.get(str(part.get_dtype()), str(part.get_dtype())))
                for name, part in slices.items()
            }
            schema = schema_of(frozenset(headers))
            found = file.check_headers(headers, schema, sizes, exactly=("float32", "int64"))
            tensors = {name: opened.get_tensor(name) for name in schema}
    except InputError:
        raise
    except Exception as error:  # its own error, OSError, or what its header makes of Unicode
        raise file.refuse(f"it cannot be read as safetensors ({type(error).__name__}: {error}).") from None
    file.check_values({name: tensor.numpy() for name, tensor in tensors.items()}, schema, found)
    return {name: torch.clone(tensor) for name, tensor in tensors.items()}


_SAFETENSORS = {"F32": "float32", "F64": "float64", "F16": "float16", "I64": "int64", "I32": "int32", "U8": "uint8"}


def _fits(found: int, wanted: int | str | None) -> bool:
    return found == wanted if isinstance(wanted, int) else found > 0 or (wanted or "").endswith("?")


def _is_of(dtype: str, kind: Kind, exactly: tuple[str, ...]) -> bool:
    try:
        letter = np.dtype(dtype).kind
    except TypeError:  # one that NumPy does not have
        return False
    return letter in {"float": "f", "integer": "iu", "text": "U"}[kind] and (not exactly or dtype in exactly)


def _npz_headers(file: ArrayFile, schema: Schema) -> dict[str, Header]:
    """Of the arrays that are there. Raises InputError where they promise more than the file holds or memory should."""
    headers: dict[str, Header] = {}
    total = 0
    with zipfile.ZipFile(file.path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        for name in schema:
            if (info := members.get(f"{name}.npy")) is None:
                continue
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read[version](member)
            size = dtype.itemsize
            for n in shape:
                size *= n
            total += size
            if dtype.hasobject or min(shape, default=0) < 0:
                raise file.refuse(f"`{name}` is of dtype {dtype} and shape {shape}, which are no numbers.")
            if size > info.file_size or info.file_size > MOST_RATIO * (info.compress_size + 64) or total > MOST_BYTES:
                raise file.refuse(f"`{name}` promises {size:,} bytes, more than the file holds or than are read.")
            headers[name] = (tuple(shape), dtype.name if dtype.kind != "U" else "str")
    return headers
