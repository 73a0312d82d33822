"""Which body a run uses: the file asked for, the one that SMPLX_BODY names, or the free default body."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from avatars.body.default_body import default_body_path
from avatars.body.model import Body


def load_body(
    path: str | Path | None = None, *, n_betas: int = 20, n_expression: int = 10, device: torch.device | str = "cpu"
) -> Body:
    """Read the body at `path`, else the one named by the environment variable SMPLX_BODY, else the default body (built
    and cached on first use).

    Raises BodyFileMissing when the file is not there, InputError when it is no SMPL-X npz.
    """
    path = path or os.environ.get("SMPLX_BODY") or default_body_path()
    return Body.load(path, n_betas=n_betas, n_expression=n_expression, device=device)
