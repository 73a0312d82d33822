"""`avatars body build`: makes the default body ahead of its first use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class BodyBuild:
    """Build the free default body (from Anny, in SMPL-X layout) into the cache and print where it is."""

    rebuild: bool = False
    """Build it again although it is there."""

    def run(self) -> int:
        """Build and report."""
        from avatars.body.default_body import default_body_path

        print(default_body_path(rebuild=self.rebuild))
        return 0


@dataclass(frozen=True)
class BodyShow:
    """Say which body file is used, its hash, its size and its height at zero betas."""

    body: Path | None = None
    """An SMPL-X npz; default: SMPLX_BODY, else the default body."""

    def run(self) -> int:
        """Load and describe."""
        from avatars.body import load_body

        body = load_body(self.body)
        height_m = float(body.v_template[:, 1].max() - body.v_template[:, 1].min())
        print(f"sha256     {body.sha256}\nvertices   {body.n_vertices}\ntriangles  {len(body.faces)}")
        print(f"height     {height_m:.3f} m at zero betas")
        return 0


@dataclass(frozen=True)
class BodyCommand:
    """The body model: build the default one, or show which is used."""

    do: Annotated[BodyBuild, tyro.conf.subcommand("build")] | Annotated[BodyShow, tyro.conf.subcommand("show")]

    def run(self) -> int:
        """Run the chosen one."""
        return self.do.run()
