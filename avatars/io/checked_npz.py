"""An npz that somebody else may have written: names, types and shapes are judged by its headers, before any memory is
taken, and only the arrays that are asked for are read. Objects are never unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from avatars.errors import InputError

MOST_MIB = 4096.0
_MOST_RATIO = 1100
"""No deflated byte holds more bytes than this."""


@dataclass(frozen=True, slots=True)
class ArrayRule:
    """What an array must be."""

    shape: tuple[int | str | None, ...]
    """A number, a name (the same size wherever the name stands), or None for any size."""
    kinds: str = "f"
    """NumPy's kinds that are taken: f floats, i and u integers, b booleans, U and S texts."""
    optional: bool = False
    infinite: bool = False
    """Whether infinity is a value; NaN never is."""
    most: float = np.inf
    """No finite number may be further from 0."""
    or_shape: tuple[int | str | None, ...] | None = None
    """Another shape that is as good."""


@dataclass(frozen=True, slots=True)
class _Head:
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(
    path: str | Path,
    rules: Mapping[str, ArrayRule],
    *,
    sizes: Mapping[str, int] | None = None,
    most_mib: float = MOST_MIB,
) -> dict[str, np.ndarray]:
    """The arrays that `rules` name. `sizes` says how large named dimensions are, where that is known.

    Raises InputError when the file cannot be read, lacks an array, or holds one that is not as its rule says.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No file at {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            there = {name: f"{name}.npy" for name in rules if f"{name}.npy" in archive.NameToInfo}
            heads = {name: _head(archive, member) for name, member in there.items()}
            _check_heads(path, heads, rules, dict(sizes or {}), most_mib)
            found = {name: _array(archive, member) for name, member in there.items()}
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib, ast and numpy each raise their own
        said = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{path} cannot be read ({said[0][:200]}).") from None
    for name, values in found.items():
        _check_values(f"{path}: `{name}`", values, rules[name])
    return found


def read_array(path: str | Path) -> np.ndarray:
    """The array of an npy. Raises InputError when the file is none, is of objects, or says it is larger than it is."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No file at {path}.")
    try:
        with open(path, "rb") as file:
            if _npy_head(file, path.name).n_bytes > path.stat().st_size:
                raise ValueError(f"{path.name} is said to be larger than it is")
            file.seek(0)
            values = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # ast and numpy each raise their own
        said = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{path} is no npy file that can be read ({said[0][:200]}).") from None
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _head(archive: zipfile.ZipFile, member: str) -> _Head:
    """Shape and type by the member's header; a size that the compressed bytes cannot hold is a lie."""
    info = archive.getinfo(member)
    with archive.open(info) as file:
        head = _npy_head(file, member)
    if head.n_bytes > info.file_size or info.file_size > _MOST_RATIO * info.compress_size + 65536:
        raise ValueError(f"{member} is said to be larger than it is")
    return head


def _npy_head(file: IO[bytes], name: str) -> _Head:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"{name} has npy version {version}")
    shape, _, dtype = read[version](file)
    head = _Head(tuple(int(n) for n in shape), dtype)
    if any(n < 0 for n in head.shape) or dtype.hasobject or dtype.names or dtype.subdtype:
        raise ValueError(f"{name} is {dtype} of shape {head.shape}")
    return head


def _check_heads(
    path: Path, heads: dict[str, _Head], rules: Mapping[str, ArrayRule], sizes: dict[str, int], most_mib: float
) -> None:
    missing = [name for name, rule in rules.items() if name not in heads and not rule.optional]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}.")
    for name, head in heads.items():
        rule = rules[name]
        if head.dtype.kind not in rule.kinds:
            raise InputError(f"{path}: `{name}` is {head.dtype}, expected {_named(rule.kinds)}.")
        wanted = [shape for shape in (rule.shape, rule.or_shape) if shape is not None]
        fitting = next((shape for shape in wanted if _fits(head.shape, shape, sizes)), None)
        if fitting is None:
            expected = " or ".join(str(tuple(sizes.get(n, n) if isinstance(n, str) else n for n in s)) for s in wanted)
            raise InputError(f"{path}: `{name}` has shape {head.shape}, expected {expected}.")
        sizes |= {n: size for n, size in zip(fitting, head.shape, strict=True) if isinstance(n, str)}
    total_mib = sum(head.n_bytes for head in heads.values()) / 2**20
    if total_mib > most_mib:
        raise InputError(f"{path} holds {total_mib:.0f} MiB, more than such a file has ({most_mib:.0f}).")


def _fits(found: tuple[int, ...], wanted: tuple[int | str | None, ...], sizes: dict[str, int]) -> bool:
    if len(found) != len(wanted):
        return False
    known = [sizes.get(n) if isinstance(n, str) else n for n in wanted]
    return all(n is None or n == m for n, m in zip(known, found, strict=True))


def _array(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    with archive.open(member) as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _check_values(where: str, values: np.ndarray, rule: ArrayRule) -> None:
    if values.dtype.kind not in "fiu":
        return
    bad = np.isnan(values) if rule.infinite else ~np.isfinite(values)
    if bad.any():
        raise InputError(f"{where} holds {int(bad.sum())} values that are no numbers.")
    far = np.isfinite(values) & ((values > rule.most) | (values < -rule.most))
    if far.any():
        raise InputError(f"{where} holds {values[far][0]}, expected at most {rule.most:g}.")


def _named(kinds: str) -> str:
    names = {"f": "floats", "i": "integers", "u": "unsigned integers", "b": "booleans", "U": "text", "S": "bytes"}
    return " or ".join(names[kind] for kind in kinds)
