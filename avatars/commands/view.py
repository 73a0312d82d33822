"""`avatars view AVATAR`: the avatar in the browser, with sliders for pose, expression, shape and light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from avatars.io.option_rules import Range

if TYPE_CHECKING:
    from avatars.avatar import Avatar
    from avatars.body.motion import Motion


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
    """0.0.0.0 lets other machines look, too, with the address that is printed."""
    port: Annotated[int, Range(0, 65535)] = 8080
    """Where to listen; the next free one when it is taken."""
    body: Path | None = None
    """SMPL-X npz the avatar was fitted on; default: SMPLX_BODY, else the free default body."""

    def run(self) -> None:
        """Serve until interrupted. Raises InputError for a missing avatar or motion, BackendMissing without viser."""
        from avatars.avatar import Avatar
        from avatars.body import load_body
        from avatars.body.motion import Motion
        from avatars.errors import InputError
        from avatars.motion_formats import load_motion
        from avatars.viewing.viewer import Viewer, require_viser

        if not 0 < self.port < 65536:
            raise InputError(f"--port {self.port}: take 1 to 65535.")
        require_viser()
        body = load_body(self.body)
        avatar = Avatar.load(self.avatar, body)
        own = self.avatar / "motion.npz"
        motions: dict[str, Motion] = {"capture": Motion.load(own)} if own.is_file() else {}
        motions |= {path.stem: load_motion(path, body) for path in self.motion}
        comparisons = self.comparisons(avatar) if self.video is not None else []
        viewer = Viewer(avatar, motions, host=self.host, port=self.port, comparisons=comparisons)
        print(f"{self.avatar} at {viewer.address} (for who has this address; Ctrl+C ends it)", flush=True)
        try:
            viewer.server.sleep_forever()
        except KeyboardInterrupt:
            viewer.stop()

    def comparisons(self, avatar: Avatar) -> list[tuple[str, Any]]:
        """Held-out frames, each beside its render. Raises InputError for another video than the avatar's."""
        import numpy as np

        from avatars.body.motion import Motion
        from avatars.errors import InputError
        from avatars.fitting.crops import usable_frames
        from avatars.io.video import video_sha256
        from avatars.tracking.track import Track
        from avatars.viewing.report import draw_held_out, held_out_rows

        assert self.video is not None
        if not self.video.exists():
            raise InputError(f"No video at {self.video}.")
        track = Track.load(self.avatar / "track")
        if track.video.sha256 != video_sha256(self.video):
            raise InputError(f"{self.avatar} was made from another video than {self.video} ({track.video.path}).")
        motion = Motion.load(self.avatar / "motion.npz")
        usable = usable_frames(track.motion).numpy()
        frames = draw_held_out(avatar, motion, track, self.video, usable, held_out_rows(len(motion), avatar))
        return [
            (f"frame {f.index}: {f.psnr_masked_db:.2f} dB", np.concatenate([f.pictures[0], f.pictures[1]], 1))
            for f in frames
        ]
