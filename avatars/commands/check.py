"""`avatars check VIDEO`: can this video make an avatar? A table of reasons, and a picture of the worst frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from avatars.io.option_rules import Suffix
from avatars.tracking.config import TrackConfig

if TYPE_CHECKING:
    from avatars.io.video import VideoInfo
    from avatars.tracking.capture_check import Finding

FRAMES_SHOWN = 6


@dataclass(frozen=True)
class CheckCommand:
    """Say whether a video of a person turning can make an avatar, why not, and what to do. Exit code 2 if it cannot."""

    video: Annotated[Path, tyro.conf.Positional]
    """Video of one person, whole body in view, camera still; or a folder of its frames, with --fps."""
    picture: Annotated[Path | None, tyro.conf.arg(aliases=["-o"]), Suffix(".jpg", ".jpeg", ".png", ".webp")] = None
    """Also write a PNG with the frames concerned, one row per reason."""
    tracking: Annotated[TrackConfig, tyro.conf.arg(name="track-options")] = field(
        default_factory=lambda: TrackConfig(masks=False)
    )

    def run(self) -> int:
        """Look, print the table, write the picture. Raises InputError when nobody is in the video."""
        from avatars.commands.console import DONE, USER_MISTAKE
        from avatars.io.outputs import fresh_file, require_fresh_file
        from avatars.io.video import probe, require_decodable
        from avatars.tracking.capture_check import REASONS

        if self.picture is not None:
            require_fresh_file(self.picture)
        info = probe(self.video, fps=self.tracking.fps)
        require_decodable(info)
        findings = self.findings(info)
        for reason in REASONS:
            found = [finding for finding in findings if finding.reason == reason]
            print(f"{reason:<15} {'ok' if not found else ''}".rstrip())
            for finding in found:
                print(f"  {finding.weight}: {finding.message}\n  -> {finding.advice}")
        if self.picture is not None:
            with fresh_file(self.picture) as aside:
                write_picture(aside, info, findings)
            print(f"frames concerned -> {self.picture}")
        refused = sum(finding.refused for finding in findings)
        print(
            f"{self.video.name}: " + (f"cannot make an avatar ({refused} reasons)" if refused else "can make an avatar")
        )
        return USER_MISTAKE if refused else DONE

    def findings(self, info: VideoInfo) -> list[Finding]:
        """Everything that is wrong, the quick checks first."""
        import torch

        from avatars.tracking.capture_check import check_capture, check_video
        from avatars.tracking.pipeline import perceive_video

        findings = check_video(info)
        seen = perceive_video(info, self.tracking)
        return [*findings, *check_capture(seen.keypoints, info.path, torch.from_numpy(info.times_s), seen.quality)]


def write_picture(path: Path, info: VideoInfo, findings: list[Finding]) -> Path:
    """A PNG with one captioned row of frames per finding; frames spread over the clip where none is named."""
    import numpy as np

    from avatars.io.video import read_frames
    from avatars.viewing.contact_sheet import contact_sheet

    rows = []
    for finding in findings:
        concerned = np.array(finding.frames) if finding.frames else np.arange(info.n_frames)
        chosen = np.unique(concerned[np.linspace(0, len(concerned) - 1, FRAMES_SHOWN).round().astype(int)])
        caption = f"{finding.reason}: {finding.message} Shown: {', '.join(map(str, chosen))}."
        rows.append((caption, list(read_frames(info, chosen))))
    if not rows:
        chosen = np.unique(np.linspace(0, info.n_frames - 1, FRAMES_SHOWN).round().astype(int))
        rows = [(f"{info.path.name}: nothing to object to", list(read_frames(info, chosen)))]
    return contact_sheet(path, rows)
