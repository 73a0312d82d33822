"""`avatars view AVATAR`: the avatar in the browser, with sliders for pose, expression, shape and light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from avatars.avatar import Avatar
    from avatars.motion import Motion


@dataclass(frozen=True)
class ViewCommand:
    """Look at an avatar in the browser."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """Folder that `avatars fit` made."""
    motion: tuple[Path, ...] = ()
    """Motions to play, beside the avatar's own capture: whatever `avatars motion` reads."""
    video: Path | None = None
    """The video that the avatar was made from: shows held-out frames beside renders."""
    host: str = "127.0.0.1"
    """0.0.0.0 lets other machines look, too."""
    port: int = 8080
    """Where to listen; the next free one when it is taken."""
    body: Path | None = None
    """SMPL-X npz the avatar was fitted on; default: SMPLX_BODY, else the free default body."""

    def run(self) -> None:
        """Serve until interrupted. Raises InputError for a missing avatar or motion, BackendMissing without viser."""
        from avatars.avatar import Avatar
        from avatars.body import Body
        from avatars.motion import Motion
        from avatars.motion_formats import load_motion
        from avatars.viewer import Viewer, require_viser

        require_viser()
        body = Body.load(self.body)
        avatar = Avatar.load(self.avatar, body)
        own = self.avatar / "motion.npz"
        motions: dict[str, Motion] = {"capture": Motion.load(own)} if own.is_file() else {}
        motions |= {path.stem: load_motion(path, body) for path in self.motion}
        comparisons = self.comparisons(avatar) if self.video is not None else []
        viewer = Viewer(avatar, motions, host=self.host, port=self.port, comparisons=comparisons)
        print(f"{self.avatar} at http://{self.host}:{viewer.port} (Ctrl+C ends it)", flush=True)
        try:
            viewer.server.sleep_forever()
        except KeyboardInterrupt:
            viewer.stop()

    def comparisons(self, avatar: Avatar) -> list[tuple[str, Any]]:
        """Held-out frames, each beside its render. Raises InputError for another video than the avatar's."""
        import numpy as np
        import torch

        from avatars.errors import InputError
        from avatars.files import sha256_of
        from avatars.motion import Motion
        from avatars.report import draw_held_out, held_out_rows
        from avatars.tracking import Track

        assert self.video is not None
        if not self.video.is_file():
            raise InputError(f"No video at {self.video}.")
        track = Track.load(self.avatar / "track")
        if track.video.sha256 != sha256_of(self.video):
            raise InputError(f"{self.avatar} was made from another video than {self.video} ({track.video.path}).")
        motion = Motion.load(self.avatar / "motion.npz")
        usable = torch.nonzero(track.motion.valid).squeeze(-1).numpy()
        frames = draw_held_out(avatar, motion, track, self.video, usable, held_out_rows(len(motion), avatar))
        return [
            (f"frame {f.index}: {f.psnr_masked_db:.2f} dB", np.concatenate([f.pictures[0], f.pictures[1]], 1))
            for f in frames
        ]
