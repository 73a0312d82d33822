"""A licensed SMPL-X file by way of the stock `smplx` package, where somebody has installed it (`splat-avatars[smplx]`).

The package is under a non-commercial license, so nothing needs it: our own reading gives the same arrays, and a test
holds the one to the other. The default body never comes here.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StockArrays:
    """What `smplx` makes of a file, in the file's own layout."""

    v_template: np.ndarray
    """(V, 3), meters."""
    shapedirs: np.ndarray
    """(V, 3, betas)."""
    exprdirs: np.ndarray
    """(V, 3, coefficients)."""
    posedirs: np.ndarray
    """(V, 3, 486)."""
    weights: np.ndarray
    """(V, 55)."""
    J_regressor: np.ndarray
    """(55, V)."""


def stock_arrays(path: Path, n_betas: int, n_expression: int) -> StockArrays | None:
    """The file as `smplx` loads it; None where the package is not installed, or, with a warning, cannot load the file.

    `smplx` unpickles whatever objects a file holds, so it is handed a copy of the plain arrays alone.
    """
    if importlib.util.find_spec("smplx") is None:
        return None
    import smplx

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "SMPLX_NEUTRAL.npz"
        np.savez(plain, **_plain_arrays(path))
        try:
            model = smplx.SMPLX(
                str(plain), num_betas=n_betas, num_expression_coeffs=n_expression, use_pca=False, flat_hand_mean=True
            )
        except Exception as error:  # the package raises what its assertions and look-ups happen to raise
            log.warning("smplx cannot load %s (%s: %s); read without it", path, type(error).__name__, error)
            return None
    model = cast(Any, model)  # its arrays are registered by name: to a checker, modules
    return StockArrays(
        v_template=model.v_template.numpy(),
        shapedirs=model.shapedirs.numpy(),
        exprdirs=model.expr_dirs.numpy(),
        posedirs=model.posedirs.numpy().T.reshape(*model.v_template.shape, -1),
        weights=model.lbs_weights.numpy(),
        J_regressor=model.J_regressor.numpy(),
    )


def _plain_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that hold no objects."""
    found = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            try:
                found[key] = archive[key]
            except ValueError:  # an object array; nothing of it is needed
                log.debug("%s: %s holds objects and is left out", path, key)
    return found
