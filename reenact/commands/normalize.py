"""`reenact normalize MOTION... -o DIR`: the same motions on one standard skeleton."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from avatars.io.option_rules import Range, Suffix

if TYPE_CHECKING:
    from avatars.body import Body


@dataclass(frozen=True)
class NormalizeCommand:
    """Retarget motions of any bodies onto the body's mean shape, at one rate, from the origin, feet on the ground.

    Writes NAME.npz (Motion) and NAME.json with what is left of skating and floating, frame by frame.
    """

    motions: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """npz of `reenact features`, BVH, AMASS and what else `avatars motion` reads."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder for the motions; made when absent."""
    fps: Annotated[float, Range(1, 1000)] = 30.0
    up: Literal["auto", "+y", "-y", "+z", "-z", "+x", "-x"] = "auto"
    """Axis of the inputs' worlds that points up; auto: what their format states, unless gravity tells of another."""
    body: Path | None = None
    """Body file; default: the free body."""

    def run(self) -> int:
        """Retarget. Raises InputError for a file that is no motion, and for names that stand twice or are taken."""
        from avatars.body import load_body
        from avatars.errors import InputError
        from avatars.io.outputs import require_folder_for

        names = [path.stem for path in self.motions]
        twins = [name for name in names if names.count(name) > 1]
        if twins:
            raise InputError(f"{self.output / twins[0]}.npz would be written twice; nothing was overwritten.")
        require_folder_for(self.output, what="the set of motions")
        body = load_body(self.body)
        cards = [self._card(path, body) for path in self.motions]
        there = [self._is_there(path, card) for path, card in zip(self.motions, cards, strict=True)]
        for path, card, made in zip(self.motions, cards, there, strict=True):
            if not made:
                self._retarget(path, card, body)
        kept = f", {sum(there)} of them already there" if any(there) else ""
        print(f"{len(names)} motions -> {self.output}{kept}")
        return 0

    def _card(self, path: Path, body: Body) -> dict[str, Any]:
        """What determines the result."""
        from avatars import __version__
        from avatars.errors import InputError
        from reenact.planning.plan import content_sha256

        if not path.exists():
            raise InputError(f"No motion at {path}.")
        made_by = {"body_sha256": body.sha256, "made_by": f"splat-avatars {__version__}"}
        return {"source": path.name, "source_sha256": content_sha256(path), "fps": self.fps, "up": self.up, **made_by}

    def _is_there(self, path: Path, card: dict[str, Any]) -> bool:
        """Whether this motion was made before. Raises InputError when one of its names is taken by something else."""
        from avatars.errors import InputError
        from reenact.commands.features import differences

        card_path, made = self.output / f"{path.stem}.json", self.output / f"{path.stem}.npz"
        if card_path.exists() and not differences(card_path, card):
            return made.exists()
        taken = [p for p in (made, card_path) if os.path.lexists(p)]
        if taken:
            raise InputError(
                f"{taken[0]} already exists, and is of another motion or other settings; nothing was overwritten. "
                "Choose another -o."
            )
        return False

    def _retarget(self, path: Path, card: dict[str, Any], body: Body) -> None:
        """One motion; its npz is written last."""
        import torch

        from avatars.io.files import write_json
        from avatars.motion_formats import load_motion
        from reenact.commands.features import claim
        from reenact.retargeting.retarget import retarget

        found = retarget(load_motion(path, body, up=self.up), body, torch.zeros(body.n_betas), fps=self.fps)
        residuals = {
            "leg_scale": round(found.leg_scale, 5),
            "contact": found.contact.int().tolist(),
            "skate_mm": (1000 * found.slip_m * found.contact).round(decimals=2).tolist(),
            "sole_mm": (1000 * found.sole_m).round(decimals=2).tolist(),
        }
        claim(self.output / f"{path.stem}.json", card)
        write_json(self.output / f"{path.stem}.json", card | residuals)
        found.motion.save(self.output / f"{path.stem}.npz")
