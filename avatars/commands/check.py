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
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")


@dataclass(frozen=True)
class CheckCommand:
    """Say whether a video of a person turning can make an avatar, why not, and what to do. Exit code 2 if it cannot."""

    video: Annotated[Path, tyro.conf.Positional]
    """Video of one person, whole body in view, camera still; or a folder of its frames, with --fps; or a folder of
    videos, each of which is judged."""
    picture: Annotated[Path | None, tyro.conf.arg(aliases=["-o"]), Suffix(".jpg", ".jpeg", ".png", ".webp")] = None
    """Also write a PNG with the frames concerned, one row per reason; of one video."""
    table: Annotated[Path | None, Suffix(".csv")] = None
    """Of a folder of videos: also write a CSV with a line for each video and a column for each reason."""
    tracking: Annotated[TrackConfig, tyro.conf.arg(name="track-options")] = field(
        default_factory=lambda: TrackConfig(masks=False)
    )

    def run(self) -> int:
        """Look, print the table, write the picture. Raises InputError when nobody is in the video."""
        from avatars.commands.console import DONE, USER_MISTAKE
        from avatars.io.outputs import fresh_file, require_fresh_file
        from avatars.io.video import probe, require_decodable
        from avatars.tracking.capture_check import REASONS

        videos = videos_in(self.video) if self.tracking.fps is None else []
        if videos:
            return self._study(videos)
        if self.table is not None:
            from avatars.errors import InputError

            raise InputError(f"--table is of a folder of videos; {self.video} is none.")
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

    def _study(self, videos: list[Path]) -> int:
        """Judge every video of a folder; a table of which can make an avatar, and why the others cannot."""
        from collections import Counter

        from avatars.commands.console import DONE, USER_MISTAKE
        from avatars.errors import InputError
        from avatars.io.outputs import fresh_file, require_fresh_file

        if self.picture is not None:
            raise InputError("--picture is of one video. Name one, or leave it out.")
        if self.table is not None:
            require_fresh_file(self.table)
        width = max(len(video.name) for video in videos)
        rows, against = [], Counter[str]()
        for video in videos:
            row = self._row(video)
            rows.append(row)
            refused = [reason for reason, weight in row.items() if weight == "REFUSED"]
            against.update(refused)
            warned = [reason for reason, weight in row.items() if weight == "warning"]
            told = ", ".join(refused or warned)
            print(f"{video.name:<{width}}  {row['verdict']:<8}  {told}", flush=True)
        if self.table is not None:
            with fresh_file(self.table) as aside:
                _write_csv(aside, rows)
            print(f"every reason -> {self.table}")
        accepted = sum(row["verdict"] == "accepted" for row in rows)
        reasons = ", ".join(f"{reason} {count}" for reason, count in against.most_common())
        lost = f"{len(rows) - accepted} rejected" + (f" ({reasons})" if reasons else "")
        print(f"{len(rows)} videos: {accepted} accepted, {lost}")
        return DONE if accepted else USER_MISTAKE

    def _row(self, video: Path) -> dict[str, str]:
        """A video's verdict, and for each reason "ok", "warning", "REFUSED" or "" where it was not looked at."""
        from avatars.errors import InputError
        from avatars.io.video import probe, require_decodable
        from avatars.tracking.capture_check import REASONS

        row = {"video": video.name, "verdict": "rejected", **dict.fromkeys(REASONS, "")}
        try:
            info = probe(video)
            require_decodable(info)
            findings = self.findings(info)
        except InputError as error:
            return row | {"unusable": "REFUSED", "message": " ".join(str(error).split())}
        weights = {reason: "ok" for reason in REASONS}
        for finding in sorted(findings, key=lambda f: (f.refused, not f.note)):
            weights[finding.reason] = finding.weight
        refused = [finding for finding in findings if finding.refused]
        message = " ".join(str(finding) for finding in refused or findings)
        return row | weights | {"verdict": "rejected" if refused else "accepted", "message": message}

    def findings(self, info: VideoInfo) -> list[Finding]:
        """Everything that is wrong, the quick checks first."""
        import torch

        from avatars.tracking.capture_check import check_capture, check_video
        from avatars.tracking.pipeline import perceive_video

        findings = check_video(info)
        seen = perceive_video(info, self.tracking)
        return [*findings, *check_capture(seen.keypoints, info.path, torch.from_numpy(info.times_s), seen.quality)]


def videos_in(folder: Path) -> list[Path]:
    """The videos that lie in a folder, sorted; none where it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())


def _write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    import csv

    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


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
