"""`avatars motion`: turns a motion of any known kind into another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatars.io.option_rules import Range


@dataclass(frozen=True)
class MotionCommand:
    """Convert a motion: BVH, AMASS npz, 4D-Humans/GVHMR/WHAM results or ExAvatar's folder to npz, BVH or ExAvatar's."""

    motion: Annotated[Path, tyro.conf.Positional]
    """What to read: .bvh, .npz, .pt, or one of ExAvatar's folders."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """What to write: .npz, .bvh, or a folder (no suffix) for ExAvatar."""
    body: Path | None = None
    """An SMPL-X npz; default: SMPLX_BODY, else the default body."""
    fps: Annotated[float, Range(1, 1000)] = 30.0
    """Frame rate of inputs that hold none (SMPL results, ExAvatar)."""
    up: Literal["auto", "+y", "-y", "+z", "-z", "+x", "-x"] = "auto"
    """Axis of the input's world that points up; auto: what its format states, unless gravity tells of another."""
    place: bool = True
    """Put foreign motions on the ground y = 0, over the origin, facing +Z."""
    amass: bool = False
    """Write an npz as AMASS does: its keys, Z up."""

    def run(self) -> int:
        """Read, write, and say what it was."""
        from avatars.body import load_body
        from avatars.errors import InputError
        from avatars.io.outputs import fresh_file, fresh_folder, require_fresh_file, require_fresh_folder
        from avatars.motion_formats import load_motion, save_motion
        from avatars.motion_formats.exavatar import save_exavatar

        if self.out.suffix.lower() not in (".npz", ".bvh", ""):
            raise InputError(f"-o {self.out}: expected a .npz, a .bvh, or a folder without a suffix for ExAvatar.")
        if self.amass and self.out.suffix.lower() != ".npz":
            raise InputError(f"-o {self.out}: AMASS keeps motions as .npz; leave --amass out, or name one.")
        folder = self.out.suffix == ""
        if folder:
            require_fresh_folder(self.out, what="ExAvatar's form")
        else:
            require_fresh_file(self.out)
        body = load_body(self.body)
        motion = load_motion(self.motion, body, fps=self.fps, up=self.up, place=self.place)
        with fresh_folder(self.out, what="ExAvatar's form") if folder else fresh_file(self.out) as aside:
            if folder:
                save_exavatar(motion, aside, body)
            else:
                save_motion(motion, aside, body, amass=self.amass)
        missing = int((~motion.valid).sum())
        seconds = float(motion.times_s[-1] - motion.times_s[0])
        print(f"{self.out}: {len(motion)} frames, {seconds:.2f} s at {motion.fps:.4g} fps, {missing} without a person")
        return 0
