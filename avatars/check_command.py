"""`avatars check VIDEO`: can this video make an avatar? A table of reasons, and a picture of the worst frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from avatars.track_command import TrackConfig

if TYPE_CHECKING:
    from avatars.capture_check import Finding
    from avatars.video import VideoInfo

FRAMES_SHOWN = 6


@dataclass(frozen=True)
class CheckCommand:
    """Say whether a video of a person turning can make an avatar, why not, and what to do. Exit code 2 if it cannot."""

    video: Annotated[Path, tyro.conf.Positional]
    """Video of one person, whole body in view, camera still."""
    picture: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Also write a PNG with the frames concerned, one row per reason."""
    tracking: Annotated[TrackConfig, tyro.conf.arg(name="track-options")] = field(
        default_factory=lambda: TrackConfig(masks=False)
    )

    def run(self) -> int:
        """Look, print the table, write the picture. Raises InputError when nobody is in the video."""
        from avatars.capture_check import REASONS
        from avatars.console import DONE, USER_MISTAKE
        from avatars.video import probe

        info = probe(self.video)
        findings = self.findings(info)
        for reason in REASONS:
            found = [finding for finding in findings if finding.reason == reason]
            print(f"{reason:<15} {'ok' if not found else ''}".rstrip())
            for finding in found:
                print(f"  {'REFUSED' if finding.refused else 'warning'}: {finding.message}\n  -> {finding.advice}")
        if self.picture is not None:
            print(f"frames concerned -> {write_picture(self.picture, info, findings)}")
        refused = sum(finding.refused for finding in findings)
        print(
            f"{self.video.name}: " + (f"cannot make an avatar ({refused} reasons)" if refused else "can make an avatar")
        )
        return USER_MISTAKE if refused else DONE

    def findings(self, info: VideoInfo) -> list[Finding]:
        """Everything that is wrong, the quick checks first."""
        import torch

        from avatars.capture_check import check_capture, check_video
        from avatars.tracking import perceive_video

        findings = check_video(info)
        seen = perceive_video(info, self.tracking)
        return [*findings, *check_capture(seen.keypoints, info.path, torch.from_numpy(info.times_s), seen.quality)]


def write_picture(path: Path, info: VideoInfo, findings: list[Finding]) -> Path:
    """A PNG with one captioned row of frames per finding; frames spread over the clip where none is named."""
    import numpy as np

    from avatars.contact_sheet import contact_sheet
    from avatars.video import read_frames

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
