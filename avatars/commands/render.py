"""`avatars render AVATAR --motion MOTION.npz -o OUT.mp4`: an avatar performing a motion, over a color or an image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatars.io.option_rules import Range, Suffix


@dataclass(frozen=True)
class RenderCommand:
    """Render an avatar performing a motion."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """Folder that `avatars fit` made."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix(".mp4")]
    """Video to write (.mp4)."""
    motion: Path | None = None
    """An npz of `reenact features`, AMASS, BVH: whatever `avatars motion` reads; default: standing still."""
    size: Annotated[int, Range(16, 8192)] = 512
    """Height and width in pixels."""
    background: str = "white"
    """A color (white, #102030) or an image file."""
    turntable: bool = False
    """Let the camera go once around."""
    fps: Annotated[float | None, Range(0.1, 1000)] = None
    """Frame rate; default: the motion's own times."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to draw: auto takes a GPU where PyTorch and gsplat can use one."""
    body: Path | None = None
    """SMPL-X npz the avatar was fitted on; default: SMPLX_BODY, else the free default body."""

    def run(self) -> None:
        """Render. Raises InputError for a missing avatar or motion, or an output that exists."""
        from avatars.avatar import Avatar
        from avatars.body import load_body
        from avatars.io.outputs import require_fresh_file
        from avatars.motion_formats import load_motion
        from avatars.viewing.rendering import chosen_device, read_background, render, rest_motion

        require_fresh_file(self.output)
        chosen_device(self.device)
        read_background(self.background, (self.size, self.size))
        body = load_body(self.body)
        avatar = Avatar.load(self.avatar, body)
        motion = rest_motion(avatar, 90) if self.motion is None else load_motion(self.motion, body)
        start = time.perf_counter()
        options = {"background": self.background, "turntable": self.turntable, "fps": self.fps, "device": self.device}
        count = render(avatar, motion, self.output, size_px=self.size, **options)
        seconds = time.perf_counter() - start
        print(f"{count} frames in {seconds:.1f} s ({count / seconds:.0f} a second) -> {self.output}")
