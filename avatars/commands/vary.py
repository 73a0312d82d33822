"""`avatars vary AVATAR -o DIR`: more identities for data sets, made from one avatar and marked as made so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from avatars.io.option_rules import Range, Suffix

if TYPE_CHECKING:
    from avatars.avatar import Avatar

SEED_STEP = 1_000_003
"""Between the seeds of `vary --seed`: variation i of a seed is the same whatever their number."""
MIB_PER_AVATAR = 20.0


@dataclass(frozen=True)
class VaryCommand:
    """Make new identities from one avatar."""

    avatar: Annotated[Path, tyro.conf.Positional]
    """Folder that `avatars fit` made. It is only read."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"]), Suffix()]
    """Folder to make, with one avatar folder per identity, variations.json and variations.png."""
    count: Annotated[int, Range(1, 1000)] = 6
    """How many identities."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    keep: tuple[Literal["shape", "skin", "hair", "clothes"], ...] = ()
    """What stays the person's own."""
    body: Path | None = None
    """SMPL-X npz the avatar was fitted on; default: SMPLX_BODY, else the free default body."""

    def run(self) -> None:
        """Make them all. Raises InputError for a missing avatar, a derived one, or an output that exists."""
        from avatars.avatar import Avatar
        from avatars.avatar.variation import vary
        from avatars.body import load_body
        from avatars.errors import InputError
        from avatars.io.files import require_space, sha256_of, write_json
        from avatars.io.outputs import fresh_folder, require_fresh_folder
        from avatars.io.progress import progress

        require_fresh_folder(self.output, what="variations")
        original = Avatar.load(self.avatar, load_body(self.body))
        if "derived_from" in original.card:
            raise InputError(f"{self.avatar} is itself a variation; vary the avatar that it was made from.")
        require_space(self.output, MIB_PER_AVATAR * self.count * max(len(original) / 100_000, 0.1))
        origin = {
            "name": self.avatar.absolute().name,
            "sha256": sha256_of(self.avatar / "gaussians.safetensors"),
            **{key: original.card[key] for key in ("fit", "scores") if key in original.card},
        }
        entries, pictures = [], [_front_and_back(original)]
        with fresh_folder(self.output, what="variations", last="variations.json") as folder:
            for i in progress(range(self.count), "Vary"):
                varied, changes = vary(original, self.seed * SEED_STEP + i, keep=self.keep)
                varied = marked(varied, origin, changes)
                name = f"{origin['name']}_{i:03d}"
                (folder / name).mkdir()
                varied.write_files(folder / name)
                entries.append({"path": name, **changes})
                if i < 11:
                    pictures.append(_front_and_back(varied))
            _write_sheet(folder / "variations.png", pictures)
            head = {"derived_from": origin, "consent": original.card.get("consent", ""), "kept": list(self.keep)}
            write_json(folder / "variations.json", head | {"variations": entries})
        print(f"{self.count} identities from {self.avatar} -> {self.output}")


def marked(varied: Avatar, origin: dict[str, Any], changes: dict[str, Any]) -> Avatar:
    """The avatar with a card that says what it was made from: video and consent stay, scores are the original's."""
    from dataclasses import replace

    card = {key: value for key, value in varied.card.items() if key not in ("fit", "scores")}
    return replace(varied, card=card | {"derived_from": origin, "changes": changes})


def _front_and_back(avatar: Avatar) -> list[Any]:
    """Pictures of the standing avatar, all at one scale."""
    import torch

    from avatars.geometry.camera import Camera
    from avatars.viewing.rendering import draw_frame, rest_motion

    standing, size_hw = rest_motion(avatar), (360, 200)
    return [
        draw_frame(
            avatar,
            standing,
            Camera.looking_at(
                torch.tensor([0.0, 1.0, z]), torch.tensor([0.0, 1.0, 0.0]), focal_px=640.0, size_hw=size_hw
            ),
            torch.ones(3, 1, 1),
        )
        for z in (4.0, -4.0)
    ]


def _write_sheet(path: Path, pictures: list[list[Any]]) -> None:
    """The original first; three identities in a row."""
    from avatars.viewing.contact_sheet import contact_sheet

    rows = []
    for start in range(0, len(pictures), 3):
        some = pictures[start : start + 3]
        names = ["original" if start + k == 0 else f"{start + k - 1:03d}" for k in range(len(some))]
        rows.append((", ".join(names), [picture for pair in some for picture in pair]))
    contact_sheet(path, rows, cell_height_px=360)
