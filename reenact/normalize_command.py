"""`reenact normalize MOTION... -o DIR`: the same motions on one standard skeleton."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class NormalizeCommand:
    """Retarget motions of any bodies onto the body's mean shape, at one rate, from the origin, feet on the ground.

    Writes NAME.npz (Motion) and NAME.json with what is left of skating and floating, frame by frame.
    """

    motions: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """npz of `reenact features`, BVH, AMASS and what else `avatars motion` reads."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the motions; made when absent."""
    fps: float = 30.0
    body: Path | None = None
    """Body file; default: the free body."""

    def run(self) -> int:
        """Retarget. Raises InputError for a file that is no motion, and for names that stand twice or are taken."""
        import torch

        from avatars.body import Body
        from avatars.errors import InputError
        from avatars.files import write_json
        from avatars.motion_formats import load_motion
        from reenact.retarget import retarget

        names = [path.stem for path in self.motions]
        taken = [name for name in names if names.count(name) > 1 or (self.output / f"{name}.npz").exists()]
        if taken:
            raise InputError(f"{self.output / taken[0]}.npz would be written twice; nothing was overwritten.")
        body = Body.load(self.body)
        for path in self.motions:
            found = retarget(load_motion(path, body), body, torch.zeros(body.n_betas), fps=self.fps)
            residuals = {
                "fps": self.fps,
                "leg_scale": round(found.leg_scale, 5),
                "contact": found.contact.int().tolist(),
                "skate_mm": (1000 * found.slip_m * found.contact).round(decimals=2).tolist(),
                "sole_mm": (1000 * found.sole_m).round(decimals=2).tolist(),
            }
            self.output.mkdir(parents=True, exist_ok=True)
            write_json(self.output / f"{path.stem}.json", residuals)
            found.motion.save(self.output / f"{path.stem}.npz")
        print(f"{len(names)} motions -> {self.output}")
        return 0
