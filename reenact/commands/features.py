"""`reenact features CLIP... -o DIR`: action clips -> Motion files that any avatar can perform."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from avatars.io.option_rules import Suffix
from avatars.tracking.config import TrackConfig

if TYPE_CHECKING:
    from avatars.body import Body


@dataclass(frozen=True)
class Source:
    """A clip that is to be tracked."""

    path: Path
    name: str
    """Of the motion's files."""
    label: str
    told: Mapping[str, str] = field(default_factory=dict)
    """What else the card tells of it."""


@dataclass(frozen=True)
class FeaturesCommand:
    """Track every clip and save its motion as NAME.npz (AMASS-compatible SMPL-X), with what made it in NAME.json."""

    clips: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Videos of one person each, or folders of frames (with --fps); none with --manifest."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder for the motions; made when absent. Motions that are there already are kept."""
    manifest: Path | None = None
    """Manifest of real clips (python -m actionrec.sources ...): its training clips are tracked, each named by its id,
    and label, subject and performance are carried into NAME.json."""
    label: str | None = None
    """Action class of all these clips; default: each file's name without its number."""
    preview: bool = True
    """Also write NAME_overlay.mp4, the tracked body drawn over the clip."""
    plates: bool = False
    """Also keep the clip's place without the person in NAME.npz, for batches with `backgrounds: [source]`. Takes masks
    of the person, and a still camera."""
    config: Annotated[TrackConfig, tyro.conf.arg(name="")] = field(default_factory=lambda: TrackConfig(masks=False))

    def run(self) -> int:
        """Track; 0 when every clip has its motion, 1 when some failed. Raises InputError for clips of one name."""
        from avatars.body import load_body
        from avatars.errors import InputError
        from avatars.io.outputs import require_folder_for

        sources = self._sources()
        names = [source.name for source in sources]
        twins = sorted({source.path.name for source in sources if names.count(source.name) > 1})
        if twins:
            raise InputError(f"Clips with the same name: {', '.join(twins)}. Rename one, or use two output folders.")
        require_folder_for(self.output, what="the set of motions")
        absent = [str(source.path) for source in sources if not source.path.exists()]
        if absent:
            raise InputError(f"No video at {', '.join(absent)}.")
        body = load_body(self.config.body)
        self.output.mkdir(parents=True, exist_ok=True)
        results = [self._one(source, body) for source in sources]
        made, kept, failed = (results.count(kind) for kind in ("made", "kept", "failed"))
        print(f"{made} motions made, {kept} already there, {failed} failed -> {self.output}")
        return 1 if failed else 0

    def _sources(self) -> list[Source]:
        """The clips that are named, or those of the manifest. Raises InputError for both, or neither."""
        from actionrec.manifest import read_manifest
        from avatars.errors import InputError
        from reenact.planning.class_names import label_from_name

        if (self.manifest is None) != bool(self.clips):
            raise InputError("Give clips, or --manifest, not both." if self.clips else "Give clips, or --manifest.")
        if self.manifest is None:
            return [Source(clip, clip.stem, self.label or label_from_name(clip)) for clip in self.clips]
        clips = [clip for clip in read_manifest(self.manifest) if clip.kind == "real" and clip.split in ("train", "")]
        if not clips:
            raise InputError(f"{self.manifest} holds no real clip for training.")
        return [
            Source(
                self.manifest.parent / clip.path, clip.id, self.label or clip.label,
                {"subject": clip.subject, "source": clip.source, "split": clip.split},
            )
            for clip in clips
        ]  # fmt: skip

    @property
    def _config(self) -> TrackConfig:
        """Plates are made with masks."""
        return replace(self.config, masks=True) if self.plates else self.config

    def _one(self, clip: Source, body: Body) -> str:
        """Track one clip: "made", "kept" when its motion is there already, or "failed"."""
        import errno

        from avatars.errors import InputError

        try:
            told = self.make(clip, body)
            print(f"{clip.path.name}: {told or 'already there'}")
            return "made" if told else "kept"
        except InputError as error:
            print(f"{clip.path.name}: failed: {error}")
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            print(f"{clip.path.name}: failed: {type(error).__name__}: {error}")
        return "failed"

    def make(self, clip: Source, body: Body) -> str:
        """Track one clip and write its files; what to say about it, "" when they are there already. Raises InputError
        for a clip that cannot be tracked, and when a name is taken by something else."""
        card = self._card(clip, body)
        return "" if self._is_there(clip, card) else self._track(clip, body, card)

    def _card(self, clip: Source, body: Body) -> dict[str, Any]:
        """What determines a motion: the clip's content, the settings, the body, the version."""
        from avatars import __version__
        from avatars.io.video import video_sha256
        from avatars.tracking.track import as_json

        settings = {key: value for key, value in as_json(self._config).items() if key != "body"}
        if self.config.fps is None:
            del settings["fps"]  # as cards had it before there was such an option
        return (
            {
                "clip": clip.path.name,
                "clip_sha256": video_sha256(clip.path),
                "label": clip.label,
                "body_sha256": body.sha256,
                "settings": settings,
                "made_by": f"splat-avatars {__version__}",
            }
            | dict(clip.told)
            | ({"plate": True} if self.plates else {})
        )

    def _is_there(self, clip: Source, card: dict[str, Any]) -> bool:
        """Whether this motion was made before. Raises InputError when one of its names is taken by something else: a
        card that was written before the work is how a killed run knows its own."""
        from avatars.errors import InputError

        card_path, motion, overlay = self._paths(clip)
        if not card_path.exists():
            taken = [path for path in (motion, overlay) if os.path.lexists(path)]
            if taken:
                raise InputError(
                    f"{taken[0]} already exists; nothing was overwritten. Choose another -o, or remove it."
                )
            return False
        different = differences(card_path, card)
        if different:
            what = f"{motion} was made" if motion.exists() else f"{card_path} is no card of a motion, or was written"
            raise InputError(
                f"{what} with another {' and '.join(different)}; nothing was overwritten. "
                "Choose another -o, or remove it."
            )
        return motion.exists()

    def _paths(self, clip: Source) -> tuple[Path, Path, Path]:
        """Where a clip's card, motion and preview lie."""
        names = (f"{clip.name}.json", f"{clip.name}.npz", f"{clip.name}_overlay.mp4")
        card, motion, overlay = (self.output / name for name in names)
        return card, motion, overlay

    def _track(self, clip: Source, body: Body, card: dict[str, Any]) -> str:
        """Track and write, the card first and the motion last; what to say about it."""
        from avatars.io.files import write_json
        from avatars.tracking.pipeline import track_video
        from avatars.tracking.source_view import SourceView

        card_path, motion, overlay = self._paths(clip)
        claim(card_path, card)
        try:
            track = track_video(clip.path, config=self._config, body=body)
            view = SourceView.of(track, with_plate=self.plates)
        except Exception:
            card_path.unlink()
            raise
        valid = int(track.motion.valid.sum())
        if self.preview:
            from avatars.viewing.overlay import write_overlay

            write_overlay(overlay, track)
        counts = {"frames": len(track.motion), "valid_frames": valid}
        write_json(card_path, card | counts)
        track.motion.save(motion, more=view.entries())
        return f"{valid} of {len(track.motion)} frames tracked, label {card['label']!r}"


def differences(card_path: Path, card: dict[str, Any]) -> list[str]:
    """Which entries of a card the file says otherwise; all of them where it is no card."""
    from avatars.errors import InputError
    from avatars.io.files import read_json

    try:
        found = read_json(card_path)
    except InputError:
        found = None
    found = found if isinstance(found, dict) else {}
    return [key for key, value in card.items() if found.get(key) != value]


def claim(card_path: Path, card: dict[str, Any]) -> None:
    """Write a card where none is: whoever finds it knows whose the files beside it are. Raises InputError when another
    command has written one meanwhile."""
    from avatars.io.files import write_json
    from avatars.io.outputs import fresh_file

    if not card_path.exists():
        with fresh_file(card_path) as aside:
            write_json(aside, card)
