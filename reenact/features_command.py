"""`reenact features CLIP... -o DIR`: action clips -> Motion files that any avatar can perform."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from avatars.track_command import TrackConfig

if TYPE_CHECKING:
    from avatars.body import Body


@dataclass(frozen=True)
class FeaturesCommand:
    """Track every clip and save its motion as NAME.npz (AMASS-compatible SMPL-X), with what made it in NAME.json."""

    clips: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Videos of one person each."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the motions; made when absent. Motions that are there already are kept."""
    label: str | None = None
    """Action class of all these clips; default: each file's name without its number."""
    preview: bool = True
    """Also write NAME_overlay.mp4, the tracked body drawn over the clip."""
    config: Annotated[TrackConfig, tyro.conf.arg(name="")] = field(default_factory=lambda: TrackConfig(masks=False))

    def run(self) -> int:
        """Track; 0 when every clip has its motion, 1 when some failed. Raises InputError for clips of one name."""
        from avatars.body import Body
        from avatars.errors import InputError

        twins = sorted({c.name for c in self.clips if sum(c.stem == other.stem for other in self.clips) > 1})
        if twins:
            raise InputError(f"Clips with the same name: {', '.join(twins)}. Rename one, or use two output folders.")
        if self.output.is_file():
            raise InputError(f"{self.output} is a file; motions need a folder. Choose another -o.")
        absent = [str(c) for c in self.clips if not c.is_file()]
        if absent:
            raise InputError(f"No video at {', '.join(absent)}.")
        body = Body.load(self.config.body)
        self.output.mkdir(parents=True, exist_ok=True)
        results = [self._one(clip, body) for clip in self.clips]
        made, kept, failed = (results.count(kind) for kind in ("made", "kept", "failed"))
        print(f"{made} motions made, {kept} already there, {failed} failed -> {self.output}")
        return 1 if failed else 0

    def _one(self, clip: Path, body: Body) -> str:
        """Track one clip: "made", "kept" when its motion is there already, or "failed"."""
        import errno

        from avatars.errors import InputError

        try:
            card = self._card(clip, body)
            if self._is_there(clip, card):
                print(f"{clip.name}: already there")
                return "kept"
            print(f"{clip.name}: {self._track(clip, body, card)}")
            return "made"
        except InputError as error:
            print(f"{clip.name}: failed: {error}")
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            print(f"{clip.name}: failed: {type(error).__name__}: {error}")
        return "failed"

    def _card(self, clip: Path, body: Body) -> dict[str, Any]:
        """What determines a motion: the clip's content, the settings, the body, the version."""
        from avatars import __version__
        from avatars.files import sha256_of
        from avatars.track import plain
        from reenact.batch import label_from_name

        settings = {key: value for key, value in plain(self.config).items() if key != "body"}
        return {
            "clip": clip.name,
            "clip_sha256": sha256_of(clip),
            "label": self.label or label_from_name(clip),
            "body_sha256": body.sha256,
            "settings": settings,
            "made_by": f"splat-avatars {__version__}",
        }

    def _is_there(self, clip: Path, card: dict[str, Any]) -> bool:
        """Whether this motion was made before. Raises InputError when the name is taken by another one."""
        from avatars.errors import InputError
        from avatars.files import read_json

        motion, card_path = self.output / f"{clip.stem}.npz", self.output / f"{clip.stem}.json"
        if not motion.exists():
            return False
        found = read_json(card_path) if card_path.exists() else {}
        different = [key for key, value in card.items() if found.get(key) != value]
        if different:
            raise InputError(
                f"{motion} was made with another {' and '.join(different)}; nothing was overwritten. "
                "Choose another -o, or remove it."
            )
        return True

    def _track(self, clip: Path, body: Body, card: dict[str, Any]) -> str:
        """Track and write; what to say about it."""
        from avatars.files import write_json
        from avatars.tracking import track_video

        track = track_video(clip, config=self.config, body=body)
        valid = int(track.motion.valid.sum())
        if self.preview:
            from avatars.overlay import write_overlay

            write_overlay(self.output / f"{clip.stem}_overlay.mp4", track)
        counts = {"frames": len(track.motion), "valid_frames": valid}
        write_json(self.output / f"{clip.stem}.json", card | counts)
        track.motion.save(self.output / f"{clip.stem}.npz")
        return f"{valid} of {len(track.motion)} frames tracked, label {card['label']!r}"
