"""`avatars track VIDEO -o DIR`: a video -> a Track folder, and the overlay that shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

SPANS_TOLD = 8


@dataclass(frozen=True)
class TrackConfig:
    """How a video is tracked."""

    focal_px: float | None = None
    """Focal length in pixels of the upright video; when not given, as the file states it, else as the edges of
    the room tell it, else a phone's usual one."""
    height_m: float | None = None
    """The person's height in meters, which sets the scale; from the body prior when not given."""
    person: Literal["only", "largest"] | int = "only"
    """Whom to follow when several people are in view: nobody (stop), the largest, or a number counted from left to
    right in the first frame that shows several, 0 first. The others are ignored."""
    detector: str = "mediapipe"
    """Keypoint detector: mediapipe, rtmlib or mmpose, and `+segment-anything` behind it for its masks; none, with
    keypoints from a file, for those alone."""
    face: Literal["none", "deca"] = "none"
    """Network that sees the jaw and the expression."""
    hands: Literal["none", "hand4whole"] = "none"
    """Network that sees the fingers."""
    backend: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME.OPTION=VALUE, once for each: where a backend's pieces lie, for example rtmlib.weights=FILE,
    rtmlib.python=ENV, mmpose.model=CONFIG, segment-anything.device=cuda, deca.repository=DIR. What is not given is read
    from the environment (RTMLIB_WEIGHTS, ...)."""
    moves: Literal["freely", "little"] = "freely"
    """little: the person holds their limbs still while turning, as captures for avatars ask; taken at its word where
    they are seen from all sides."""
    body: Path | None = None
    """SMPL-X npz; default: the environment variable SMPLX_BODY, else the free default body."""
    masks: bool = True
    """Segment the person, too (a motion alone needs no masks)."""
    iterations: int = 160
    """Optimization steps of the longest stage."""


@dataclass(frozen=True)
class TrackCommand:
    """Follow the person in a video: SMPL-X pose of every frame, camera, keypoints and masks."""

    video: Annotated[Path, tyro.conf.Positional]
    """Video of one person."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to make."""
    overlay: Path | None = None
    """Also write a video (.mp4) with skeleton, mesh outline and mask drawn over the frames."""
    keypoints: Path | None = None
    """Json of 133 (MMPose) or OpenPose's keypoints, or a folder of one per frame, used in place of the detector's; its
    masks and 3D hints are kept, unless --detector none."""
    config: Annotated[TrackConfig, tyro.conf.arg(name="")] = field(default_factory=TrackConfig)

    def run(self) -> None:
        """Track, save, print what came out. Raises InputError for a video that cannot be tracked."""
        import shutil

        from avatars.confidence_plot import write_confidence_plot
        from avatars.progress import StageClock
        from avatars.spans import unsure_spans
        from avatars.tracking import Track, track_video
        from avatars.work_folder import NAME

        self.check()
        clock = StageClock()
        work = self.output / NAME
        track = track_video(self.video, config=self.config, clock=clock, work=work, keypoints_file=self.keypoints)
        with clock.stage("save"):
            track = Track.load(track.save(self.output))  # its masks now lie in the folder
            write_confidence_plot(self.output / "confidence.png", track.motion, track.camera, title=self.video.name)
            shutil.rmtree(work)
        if self.overlay is not None:
            from avatars.overlay import write_overlay

            with clock.stage("overlay"):
                write_overlay(self.overlay, track)
        print(clock.table())
        spans = unsure_spans(track.motion)
        for span in spans[:SPANS_TOLD]:
            print(f"unsure: {span}")
        if len(spans) > SPANS_TOLD:
            print(f"unsure: {len(spans) - SPANS_TOLD} more spans, see {self.output / 'track.json'}")
        print(f"{int(track.motion.valid.sum())} of {len(track.motion)} frames tracked -> {self.output}")

    def check(self) -> None:
        """Raise InputError when the output holds anything but an unfinished track, which is then continued, or when the
        overlay is no new .mp4."""
        from avatars.errors import InputError
        from avatars.files import require_fresh_file, require_fresh_folder
        from avatars.work_folder import is_unfinished

        if self.overlay is not None:
            require_fresh_file(self.overlay, option="--overlay")
            if self.overlay.suffix.lower() != ".mp4":
                raise InputError(f"--overlay {self.overlay}: expected the name of an .mp4.")

        if is_unfinished(self.output) and not (self.output / "track.json").exists():
            print(f"{self.output} holds an unfinished track; continuing it.")
        else:
            require_fresh_folder(self.output, what="a track")
