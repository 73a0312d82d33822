"""`avatars track VIDEO -o DIR`: a video -> a Track folder, and the overlay that shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from avatars.io.option_rules import Suffix
from avatars.tracking.config import TrackConfig

if TYPE_CHECKING:
    from avatars.tracking.track import Track

SPANS_TOLD = 8
OVERLAY = "overlay.mp4"
TRACK_FILES = frozenset({"motion.npz", "keypoints.npz", "masks.npz", "quality.npz", "track.json", "confidence.png"})
"""What a killed run may have put in place."""


@dataclass(frozen=True)
class TrackCommand:
    """Follow the person in a video: SMPL-X pose of every frame, camera, keypoints and masks."""

    video: Annotated[Path, tyro.conf.Positional]
    """Video of one person, or a folder of its frames, with --fps."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder to make."""
    overlay: Annotated[Path | None, Suffix(".mp4")] = None
    """Also write a video (.mp4) with skeleton, mesh outline and mask drawn over the frames."""
    keypoints: Path | None = None
    """Json of 133 (MMPose) or OpenPose's keypoints, or a folder of one per frame, used in place of the detector's; its
    masks and 3D hints are kept, unless --detector none."""
    config: Annotated[TrackConfig, tyro.conf.arg(name="")] = field(default_factory=TrackConfig)

    def run(self) -> None:
        """Track, save, print what came out. Raises InputError for a video that cannot be tracked."""
        import shutil

        from avatars.io.progress import StageClock
        from avatars.io.work_folder import NAME
        from avatars.tracking.pipeline import track_video
        from avatars.tracking.spans import unsure_spans
        from avatars.tracking.track import Track
        from avatars.viewing.confidence_plot import write_confidence_plot

        self.check()
        clock = StageClock()
        work = self.output / NAME
        track = track_video(self.video, config=self.config, clock=clock, work=work, keypoints_file=self.keypoints)
        with clock.stage("save"):
            track = Track.load(track.save(self.output))  # its masks now lie in the folder
            write_confidence_plot(self.output / "confidence.png", track.motion, track.camera, title=self.video.name)
        if self.overlay is not None:
            with clock.stage("overlay"):
                self._write_overlay(self.overlay, track, work)
        shutil.rmtree(work)
        print(clock.table())
        spans = unsure_spans(track.motion)
        for span in spans[:SPANS_TOLD]:
            print(f"unsure: {span}")
        if len(spans) > SPANS_TOLD:
            print(f"unsure: {len(spans) - SPANS_TOLD} more spans, see {self.output / 'track.json'}")
        print(f"{int(track.motion.valid.sum())} of {len(track.motion)} frames tracked -> {self.output}")

    def _write_overlay(self, overlay: Path, track: Track, work: Path) -> None:
        """Draw it, and keep a copy beside the work until all is done: a killed run knows its own by it."""
        import shutil

        from avatars.io.outputs import fresh_file
        from avatars.viewing.overlay import write_overlay

        drawn = work / OVERLAY
        if not drawn.is_file():
            write_overlay(drawn, track)
        if not self._is_drawn(work):
            with fresh_file(overlay, option="--overlay") as aside:
                shutil.copyfile(drawn, aside)

    def _is_drawn(self, work: Path) -> bool:
        """Whether a killed run of this command had written the overlay."""
        from avatars.io.files import sha256_of

        files = (self.overlay, work / OVERLAY)
        return all(f is not None and f.is_file() for f in files) and len({sha256_of(f) for f in files if f}) == 1

    def check(self) -> None:
        """Raise InputError when the output holds anything but an unfinished track, which is then continued, or when the
        overlay is no new .mp4."""
        from avatars.io.outputs import require_fresh_file, require_fresh_folder
        from avatars.io.work_folder import NAME, is_unfinished

        if self.overlay is not None and not self._is_drawn(self.output / NAME):
            require_fresh_file(self.overlay, option="--overlay")
        unfinished = is_unfinished(self.output)
        require_fresh_folder(self.output, what="a track", may_hold=TRACK_FILES | {NAME} if unfinished else frozenset())
        if unfinished:
            print(f"{self.output} holds an unfinished track; continuing it.")
