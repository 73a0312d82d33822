"""`avatars motion`: turns a motion of any known kind into another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class MotionCommand:
    """Convert a motion: BVH, AMASS npz, 4D-Humans/GVHMR/WHAM results or ExAvatar's folder to npz, BVH or ExAvatar's."""

    motion: Annotated[Path, tyro.conf.Positional]
    """What to read: .bvh, .npz, .pt, or one of ExAvatar's folders."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """What to write: .npz, .bvh, or a folder (no suffix) for ExAvatar."""
    body: Path | None = None
    """An SMPL-X npz; default: SMPLX_BODY, else the default body."""
    fps: float = 30.0
    """Frame rate of inputs that hold none (SMPL results, ExAvatar)."""
    place: bool = True
    """Put foreign motions on the ground y = 0, over the origin, facing +Z."""
    amass: bool = False
    """Write an npz as AMASS does: its keys, Z up."""

    def run(self) -> int:
        """Read, write, and say what it was."""
        from avatars.body import Body
        from avatars.errors import InputError
        from avatars.files import require_fresh_file
        from avatars.motion_formats import load_motion, save_motion

        if self.out.suffix.lower() not in (".npz", ".bvh", ""):
            raise InputError(f"-o {self.out}: expected a .npz, a .bvh, or a folder without a suffix for ExAvatar.")
        require_fresh_file(self.out, option="-o")
        body = Body.load(self.body)
        motion = load_motion(self.motion, body, fps=self.fps, place=self.place)
        save_motion(motion, self.out, body, amass=self.amass)
        missing = int((~motion.valid).sum())
        seconds = float(motion.times_s[-1] - motion.times_s[0])
        print(f"{self.out}: {len(motion)} frames, {seconds:.2f} s at {motion.fps:.4g} fps, {missing} without a person")
        return 0
