"""`reenact backgrounds prepare PHOTO...`: find out about places what composing needs, and draw it to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from avatars.io.option_rules import Range, Suffix

CARD_FILE = "prepared.json"
"""What a place was prepared from and with, by which the next run knows it."""


@dataclass(frozen=True)
class BackgroundsCommand:
    """Photographs or still clips of places -> one folder each, with depth, camera, floor, light and a check image."""

    action: Annotated[Literal["prepare"], tyro.conf.Positional]
    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Pictures or clips. Beside X.jpg are looked for X_depth.npy (meters) or X_depth.png (16 bits, millimeters),
    X_floor.png (white where the floor is), and X.yaml, which may hold the options below for this picture alone, and
    `floor_px`, `upright` and `occluders` (see docs/places.md); what is said here goes first."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder for the prepared places; each gets a folder with its picture's name."""
    depth: Literal["auto", "none", "depth-anything"] = "auto"
    """Where there is no depth file: Depth-Anything (needs DEPTH_ANYTHING_WEIGHTS; auto takes it when they are there),
    else everything stands upright on the floor."""
    camera_height_m: Annotated[float | None, Range(0.05, 50)] = None
    """Height of the lens over the floor, meters; without depth 1.5 is assumed."""
    horizon: Annotated[float | None, Range(-1, 0.95)] = None
    """Where the horizon crosses the middle column, as a fraction of the picture's height; without depth it is told by
    the edges of a room or street where they agree, else 0.45 is assumed."""
    focal_px: Annotated[float | None, Range(10, 1e6)] = None
    """Focal length in pixels of the picture; from EXIF, or from the edges, or 1.1 of the longer side is assumed."""
    roll_deg: Annotated[float | None, Range(-60, 60)] = None
    """By how many degrees what stands upright leans to the right in the middle of the picture; from the edges, or
    from upright lines under a stated horizon, where they agree, else 0 is assumed."""
    light: Literal["estimated", "day", "overcast", "night", "indoor"] = "estimated"
    """The place's light: from the picture, or a preset."""
    tags: tuple[str, ...] = ()
    """What kind of place: kitchen, living_room, office, street, ..."""
    clip: Path | None = None
    """Folder of a CLIP model in transformers' form: it says what kinds of place these are where no tags are given, and
    plans then prefer the likelier places of an action."""
    licence: str = ""
    """Licence of the pictures; it is written into every clip's receipt."""

    def run(self) -> int:
        """Prepare; 0 when every place could be, 1 when some could not. Raises InputError before any work for two
        pictures of one name or an output that is in use."""
        from avatars.errors import InputError
        from avatars.io.files import write_json
        from avatars.io.outputs import fresh_folder, require_folder_for
        from compose.places.place_folder import CHECK_FILE
        from compose.preparation.check_image import draw_check
        from compose.preparation.hints import PlaceHints, hints_beside
        from compose.preparation.prepare import prepare_place

        names = [photo.stem for photo in self.photos]
        twins = sorted({name for name in names if names.count(name) > 1})
        if twins:
            raise InputError(f"Two pictures are named {twins[0]!r}; rename one, or prepare them into other folders.")
        require_folder_for(self.output, what="the set of places")
        for photo in self.photos:
            hints_beside(photo)  # a mistake in one is told before any work
        cards = {photo: self._card(photo) for photo in self.photos}
        there = {photo for photo in self.photos if self._is_there(photo, cards[photo])}
        hints = PlaceHints(
            view=self._view(), depth_model=self._model(), light=self.light, tags=self.tags,
            classifier=self._classifier(), licence=self.licence,
        )  # fmt: skip
        failed = 0
        for photo in self.photos:
            if photo in there:
                print(f"{self.output / photo.stem}: already there")
                continue
            try:
                place = prepare_place(photo, hints)
            except InputError as error:
                failed += 1
                print(f"refused: {error}")
                continue
            folder = self.output / photo.stem
            with fresh_folder(folder, what="A place", last=CARD_FILE) as aside:
                place.save(aside)
                draw_check(place).save(aside / CHECK_FILE, quality=90)
                write_json(aside / CARD_FILE, cards[photo])
            assumed = f"; assumed: {', '.join(place.assumed)}" if place.assumed else ""
            kinds = "; CLIP: " + ", ".join(f"{tag} {100 * p:.0f}%" for tag, p in place.shares[:3])
            guessed = "; floor guessed by its color" if place.floor_guessed else ""
            told = guessed + assumed + (kinds if place.shares else "")
            print(f"{folder}: depth {place.depth_kind}, {place.floor.area_m2:.1f} m2 of free floor{told}")
        print(f"{len(self.photos) - failed} of {len(self.photos)} places prepared; look at their {CHECK_FILE}")
        return 1 if failed else 0

    def _card(self, photo: Path) -> dict[str, Any]:
        """What determines a prepared place: the picture, what lies beside it, the options, the version."""
        from avatars import __version__
        from avatars.errors import InputError
        from avatars.io.files import sha256_of

        if not photo.is_file():
            raise InputError(f"No picture at {photo}.")
        beside = (photo.with_name(photo.stem + end) for end in ("_depth.npy", "_depth.png", "_floor.png", ".yaml"))
        files = {path.name: sha256_of(path) for path in (photo, *beside) if path.is_file()}
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("action", "photos", "output")}
        options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        return {"files": files, "made_by": f"splat-avatars {__version__}", **options, "tags": list(self.tags)}

    def _is_there(self, photo: Path, card: dict[str, Any]) -> bool:
        """Whether an earlier run of this command made the place. Raises InputError when another thing has its name."""
        from avatars.io.outputs import require_fresh_folder
        from reenact.commands.features import differences

        folder = self.output / photo.stem
        if (folder / CARD_FILE).is_file() and not differences(folder / CARD_FILE, card):
            return True
        require_fresh_folder(folder, what="A place")
        return False

    def _view(self):
        from compose.places.place_view import PlaceView

        return PlaceView(self.camera_height_m, self.horizon, self.focal_px, self.roll_deg)

    def _classifier(self):
        if self.clip is None:
            return None
        from compose.preparation.clip_model_tags import PlaceClassifier

        return PlaceClassifier(self.clip)

    def _model(self) -> str | None:
        """The depth model to ask where there is no file. An absent one is an error only when it was named."""
        if self.depth == "none":
            return None
        if self.depth == "auto":
            from avatars.errors import BackendMissing
            from avatars.perception.backend_table import open_backend

            try:
                open_backend("depth-anything").close()
            except BackendMissing:
                return None
        return "depth-anything"
