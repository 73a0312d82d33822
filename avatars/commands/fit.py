"""`avatars fit VIDEO -o DIR`: track, fit, score and preview in one go. Killed work goes on with the same command."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from avatars.fitting.config import Device, FitConfig, Quality
from avatars.io.option_rules import Range, Suffix
from avatars.tracking.config import TrackConfig

if TYPE_CHECKING:
    from avatars.body import Body
    from avatars.fitting.pipeline import FitResult
    from avatars.io.progress import StageClock
    from avatars.tracking.track import Track

SPACE_MIB = 200.0
"""What a finished folder takes at most, about."""


@dataclass(frozen=True)
class FitCommand:
    """Make an avatar from a video of a person turning on the spot."""

    video: Annotated[Path, tyro.conf.Positional]
    """Video of one person, whole body in view, camera still; or a folder of its frames, with --fps."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder to make."""
    quality: Quality = "standard"
    """draft for a first look, high for two to three times the time of standard."""
    size: Annotated[int, Range(64, 4096)] = 512
    """The person's longer side is fitted at about this many pixels."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    device: Device = "cpu"
    """cuda: Gaussians are drawn and fitted on an NVIDIA GPU, by gsplat, poses still on the CPU; two such fits are not
    equal bit for bit."""
    skirt: bool = True
    """Where frames see cloth from leg to leg, hang a skirt there; --no-skirt takes it for trousers."""
    force: bool = False
    """Replace an avatar that stands at the output folder, once the new one is whole; and go on, with warnings, where
    the check of the capture says that the video cannot make one."""
    track: Path | None = None
    """A folder that `avatars track` made from this very video; saves tracking it again."""
    clean_plate: Path | None = None
    """Image of the empty room from the same still camera; default: estimated from the video."""
    truth_background: Path | None = None
    """The same, but used for scoring alone (to measure what the video by itself gives); or a studio capture's
    rooms.npz, the room with the person's shadow."""
    consent: str = ""
    """Who may use this person's likeness and for what; kept in avatar.json."""
    tracking: Annotated[TrackConfig, tyro.conf.arg(name="track-options")] = field(
        default_factory=lambda: TrackConfig(moves="little")
    )

    def run(self) -> None:
        """Track, fit, save; print scores and where the time went. Raises InputError for a video that cannot be used."""
        from avatars.io.progress import StageClock, peak_gib

        clock = StageClock()
        self.check()
        result = self.fit(clock)
        if result.scores is not None:
            print(result.scores.table())
        print(clock.table())
        if result.avatar.skirt is not None:
            print("Detected a skirt. Pass --no-skirt if this person wears trousers.")
        print(f"{len(result.avatar)} Gaussians, {result.coverage:.0%} of them seen -> {self.output}")
        print(f"peak memory {peak_gib():.2f} GiB")

    def check(self) -> None:
        """Everything that can be known to be wrong before work starts. Raises InputError."""
        from avatars.avatar.model import replaceable
        from avatars.errors import InputError
        from avatars.io.files import require_space
        from avatars.io.outputs import require_apart, require_fresh_folder
        from avatars.io.video import probe
        from avatars.io.work_folder import NAME, is_unfinished
        from avatars.tracking.capture_check import check_video, judge
        from avatars.viewing.rendering import chosen_device

        chosen_device(self.device)
        require_apart(self.output, (self.video, self.track, self.clean_plate, self.truth_background))
        there = replaceable(self.output)
        if "avatar.json" in there and not self.force:
            there = frozenset()
        unfinished = {NAME} if is_unfinished(self.output) else set()
        require_fresh_folder(self.output, what="an avatar", may_hold=there | unfinished)
        if unfinished:
            print(f"{self.output} holds an unfinished avatar; continuing it.")
        info = probe(self.video, fps=self.tracking.fps)
        require_space(self.output, SPACE_MIB)
        for image in (self.clean_plate, self.truth_background):
            if image is not None and not image.is_file():
                raise InputError(f"No image at {image}.")
        judge(check_video(info), self.video, force=self.force)

    def fit(self, clock: StageClock) -> FitResult:
        """Track (unless a track is given), fit, and write the folder; what an earlier, killed run did is taken up."""
        from avatars.body import load_body
        from avatars.errors import InputError
        from avatars.io.work_folder import NAME, WorkFolder

        body = load_body(self.tracking.body)
        work = WorkFolder.open(self.output / NAME, self._job(body))
        try:
            track = self._track(body, clock, work.path)
        except InputError:
            work.discard()
            raise
        result = self._fit(track, body, work.path, clock)
        work.discard()
        return result

    def _job(self, body: Body) -> dict[str, Any]:
        """What determines the avatar."""
        from avatars import __version__
        from avatars.io.files import sha256_of
        from avatars.io.video import video_sha256
        from avatars.tracking.track import as_json

        track = None if self.track is None else self.track / "motion.npz"
        files = {"track": track, "clean_plate": self.clean_plate, "truth": self.truth_background}
        inputs = {
            name: sha256_of(file) if file is not None and file.is_file() else None for name, file in files.items()
        }
        inputs = {"video": video_sha256(self.video), **inputs}
        settings = {"quality": self.quality, "size": self.size, "seed": self.seed, "device": self.device}
        settings["skirt"] = self.skirt
        return {"version": __version__, "body": body.sha256, **inputs, **settings, "tracking": as_json(self.tracking)}

    def _fit(self, track: Track, body: Body, work: Path, clock: StageClock) -> FitResult:
        from avatars.avatar.model import avatar_folder
        from avatars.fitting.crops import HeldOut
        from avatars.fitting.pipeline import fit_avatar
        from avatars.io.clean_plate import CleanPlate, read_room

        size_hw = track.camera.size_hw
        plate = None if self.clean_plate is None else CleanPlate.read(self.clean_plate, size_hw)
        truth = None if self.truth_background is None else read_room(self.truth_background, size_hw)
        config = FitConfig.preset(self.quality, size_px=self.size, seed=self.seed, device=self.device)
        config = replace(config, skirt=self.skirt)
        result = fit_avatar(
            self.video,
            track,
            config=config,
            body=body,
            plate=plate,
            held_out=HeldOut(truth=truth),
            clock=clock,
            keep=work / "fit.pt",
        )
        with avatar_folder(self.output, force=self.force) as folder:
            with clock.stage("preview"):
                self._write(folder, result, track, clock)
            with clock.stage("report"):
                self._report(folder, result, track, clock)
        return result

    def _track(self, body: Body, clock: StageClock, work: Path) -> Track:
        """The track given or made. Raises InputError when it is of another video, or the capture is refused."""
        import torch

        from avatars.errors import InputError
        from avatars.io.video import probe, video_sha256
        from avatars.tracking.capture_check import check_capture, judge
        from avatars.tracking.pipeline import Perceived, track_video
        from avatars.tracking.track import Track

        times_s = torch.from_numpy(probe(self.video, fps=self.tracking.fps).times_s)

        def check(seen: Perceived | Track) -> None:
            judge(check_capture(seen.keypoints, self.video, times_s, seen.quality), self.video, force=self.force)

        made = work / "track"
        if self.track is not None:
            track = Track.load(self.track)
            if track.video.sha256 != video_sha256(self.video):
                raise InputError(f"{self.track} was tracked from another video than {self.video} ({track.video.path}).")
            if track.config.fps != self.tracking.fps:
                raise InputError(f"{self.track} was tracked with --fps {track.config.fps}; found {self.tracking.fps}.")
            track = replace(track, video=replace(track.video, path=str(self.video)))  # it may have moved
            check(track)
        elif (made / "track.json").is_file():
            track = Track.load(made)
        else:
            with clock.stage("track"):
                track = track_video(self.video, config=self.tracking, body=body, check=check, work=work / "tracking")
                track = Track.load(track.save(made))  # its masks now lie in the folder
        if track.masks is None:
            raise InputError(f"{self.track} holds no masks; track again without --no-masks.")
        return track

    def _write(self, folder: Path, result: FitResult, track: Track, clock: StageClock) -> None:
        from avatars.fitting.pipeline import describe
        from avatars.io.files import write_json
        from avatars.viewing.preview import write_preview, write_turntable

        (folder / "track").mkdir()
        track.save(folder / "track")
        result.motion.save(folder / "motion.npz")
        if result.occluders is not None:
            result.occluders.save(folder / "occluders.npz")
        write_preview(folder / "preview.png", result, track)
        write_turntable(folder / "turntable.mp4", result.avatar)
        source = {"video": self.video.name, "sha256": track.video.sha256}
        write_json(
            folder / "fit.json",
            {"source": source, "quality": self.quality, "seconds": clock.seconds} | describe(result),
        )
        result.avatar.with_card(source=source, consent=self.consent).write_files(folder)

    def _report(self, folder: Path, result: FitResult, track: Track, clock: StageClock) -> None:
        """`report.html`: what to look at first."""
        from avatars.fitting.pipeline import describe
        from avatars.viewing.report import FitRecord, write_report

        inputs = {"clean plate": self.clean_plate, "true background, for scoring": self.truth_background}
        record = FitRecord(
            result.motion,
            {"quality": self.quality, "seconds": clock.seconds} | describe(result),
            inputs,
            result.losses,
            result.occluders,
        )
        avatar = result.avatar.with_card(consent=self.consent)
        write_report(folder / "report.html", avatar, track, self.video, record)
