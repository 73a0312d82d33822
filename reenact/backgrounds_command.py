"""`reenact backgrounds prepare PHOTO...`: find out about places what composing needs, and draw it to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class BackgroundsCommand:
    """Photographs or still clips of places -> one folder each, with depth, camera, floor, light and a check image."""

    action: Annotated[Literal["prepare"], tyro.conf.Positional]
    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Pictures or clips. Beside X.jpg are looked for X_depth.npy (meters) or X_depth.png (16 bits, millimeters),
    X_floor.png (white where the floor is), and X.yaml, which may hold the options below for this picture alone, and
    `floor_px`, `upright` and `occluders` (see README); what is said here goes first."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the prepared places; each gets a folder with its picture's name."""
    depth: Literal["auto", "none", "depth-anything"] = "auto"
    """Where there is no depth file: Depth-Anything (needs DEPTH_ANYTHING_WEIGHTS; auto takes it when they are there),
    else everything stands upright on the floor."""
    camera_height_m: float | None = None
    """Height of the lens over the floor, meters; without depth 1.5 is assumed."""
    horizon: float | None = None
    """Where the horizon crosses the middle column, as a fraction of the picture's height; without depth it is told by
    the edges of a room or street where they agree, else 0.45 is assumed."""
    focal_px: float | None = None
    """Focal length in pixels of the picture; from EXIF, or from the edges, or 1.1 of the longer side is assumed."""
    roll_deg: float | None = None
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
        from avatars.files import require_fresh_folder
        from compose.check_image import draw_check
        from compose.place_folder import CHECK_FILE
        from compose.place_hints import PlaceHints, hints_beside
        from compose.prepare import prepare_place

        names = [photo.stem for photo in self.photos]
        twins = sorted({name for name in names if names.count(name) > 1})
        if twins:
            raise InputError(f"Two pictures are named {twins[0]!r}; rename one, or prepare them into other folders.")
        for name in names:
            require_fresh_folder(self.output / name, what="A place")
        for photo in self.photos:
            hints_beside(photo)  # a mistake in one is told before any work
        hints = PlaceHints(
            view=self._view(), depth_model=self._model(), light=self.light, tags=self.tags,
            classifier=self._classifier(), licence=self.licence,
        )  # fmt: skip
        failed = 0
        for photo in self.photos:
            try:
                place = prepare_place(photo, hints)
            except InputError as error:
                failed += 1
                print(f"refused: {error}")
                continue
            folder = place.save(self.output / photo.stem)
            draw_check(place).save(folder / CHECK_FILE, quality=90)
            assumed = f"; assumed: {', '.join(place.assumed)}" if place.assumed else ""
            kinds = "; CLIP: " + ", ".join(f"{tag} {100 * p:.0f}%" for tag, p in place.shares[:3])
            guessed = "; floor guessed by its color" if place.measured.get("floor") == "its color" else ""
            told = guessed + assumed + (kinds if place.shares else "")
            print(f"{folder}: depth {place.depth_kind}, {place.floor.area_m2:.1f} m2 of free floor{told}")
        print(f"{len(self.photos) - failed} of {len(self.photos)} places prepared; look at their {CHECK_FILE}")
        return 1 if failed else 0

    def _view(self):
        from compose.background import PlaceView

        return PlaceView(self.camera_height_m, self.horizon, self.focal_px, self.roll_deg)

    def _classifier(self):
        if self.clip is None:
            return None
        from compose.clip_places import PlaceClassifier

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
