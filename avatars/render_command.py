"""`avatars render AVATAR --motion MOTION.npz -o OUT.mp4`: an avatar performing a motion, over a color or an image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class RenderCommand:
    """Render an avatar performing a motion."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """Folder that `avatars fit` made."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Video to write (.mp4)."""
    motion: Path | None = None
    """An npz of `reenact features`, AMASS, BVH: whatever `avatars motion` reads; default: standing still."""
    size: int = 512
    """Height and width in pixels."""
    background: str = "white"
    """A color (white, #102030) or an image file."""
    turntable: bool = False
    """Let the camera go once around."""
    fps: float | None = None
    """Frame rate; default: the motion's own times."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to draw: auto takes a GPU where PyTorch and gsplat can use one."""
    body: Path | None = None
    """SMPL-X npz the avatar was fitted on; default: SMPLX_BODY, else the free default body."""

    def run(self) -> None:
        """Render. Raises InputError for a missing avatar or motion, or an output that exists."""
        from avatars.avatar import Avatar
        from avatars.body import Body
        from avatars.errors import InputError
        from avatars.files import require_fresh_file
        from avatars.motion_formats import load_motion
        from avatars.progress import progress
        from avatars.rendering import chosen_device, draw_motion, read_background, rest_motion
        from avatars.video import VideoWriter

        require_fresh_file(self.output, option="-o")
        if self.size < 16:
            raise InputError(f"--size {self.size} is too small; take 16 or more.")
        device = chosen_device(self.device)
        background = read_background(self.background, (self.size, self.size))
        body = Body.load(self.body)
        avatar = Avatar.load(self.avatar, body)
        motion = rest_motion(avatar, 90) if self.motion is None else load_motion(self.motion, body)
        if not bool(motion.valid.any()):
            raise InputError(f"{self.motion} has no frame with a person in it.")
        motion = motion[motion.valid]
        size_hw = (self.size, self.size)
        frames = draw_motion(avatar, motion, size_hw, background, turntable=self.turntable, device=device)
        rate = self.fps or motion.fps or 30.0
        start = time.perf_counter()
        with VideoWriter(self.output, fps=rate) as writer:
            for i, frame in enumerate(progress(frames, "Render", len(motion))):
                writer.write(frame, None if self.fps else float(motion.times_s[i] - motion.times_s[0]))
        seconds = time.perf_counter() - start
        print(f"{len(motion)} frames in {seconds:.1f} s ({len(motion) / seconds:.0f} a second) -> {self.output}")
