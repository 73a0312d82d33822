"""Avatar: a fixed number of Gaussians bound to a body; a Motion in, posed Gaussians out; a folder on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avatars import __version__
from avatars.binding import Binding
from avatars.body import Body, PosedBody, map_tensors
from avatars.correctives import Correctives
from avatars.errors import InputError
from avatars.files import read_json, require_fresh_folder, write_json
from avatars.gaussians import Gaussians
from avatars.loose_clothes import LooseClothes
from avatars.motion import Motion
from avatars.rig import PosedPoints, Rig
from avatars.self_shadow import SelfShadow
from avatars.shading import shading
from avatars.skirt import Skirt
from avatars.work_folder import holds_only_work

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Avatar:
    """A person as Gaussians on a body's surface. Positions and orientations are in the axes of the T-pose."""

    body: Body
    betas: Float[Tensor, " shape"]
    binding: Binding
    offsets: Float[Tensor, "n 3"]
    """From the body's surface, or the skirt, to the Gaussian's center, meters."""
    quats: Float[Tensor, "n 4"]
    """wxyz, not necessarily unit."""
    log_scales: Float[Tensor, "n 3"]
    """Natural logarithm of standard deviations in meters."""
    opacity_logits: Float[Tensor, " n"]
    albedo: Float[Tensor, "n 3"]
    """Display-referred sRGB in [0, 1], shading and exposure of the capture taken off."""
    light: Float[Tensor, "8 3"]
    """The capture's light in its own world (`shading.shading`); zero where none was fitted."""
    correctives: Correctives | None = None
    """Offsets by pose, where the video varied it."""
    loose: LooseClothes | None = None
    """What hangs off the body and does not move as the skin under it does."""
    skirt: Skirt | None = None
    """What hangs between the legs."""
    self_shadow: bool = False
    """Whether the albedo is free of the shadow that the body casts on itself (`SelfShadow`): lit, it is put on."""
    card: dict[str, Any] = field(default_factory=dict)
    """What made the avatar: source, settings, scores, licence, consent. Saved in avatar.json."""

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def rig(self) -> Rig:
        """What posing needs of the body, computed once."""
        return Rig.build(self.body, self.binding, self.betas, self.loose, self.skirt)

    @cached_property
    def shadows(self) -> SelfShadow:
        """What the body's shadow on itself needs, computed once."""
        return SelfShadow.of(self.rig, self.betas)

    def canonical(self) -> Gaussians:
        """The Gaussians in the T-pose."""
        return Gaussians(
            self.rig.surface + self.offsets,
            self.quats,
            self.log_scales.exp(),
            self.opacity_logits.sigmoid(),
            self.albedo,
        )

    def posed(self, motion: Motion, *, lit: bool = False, shadowed: bool = False) -> Gaussians:
        """The Gaussians for every frame of `motion`, in its world, on the avatar's own betas.

        Means and quaternions gain a leading frames dimension; scales, opacities and colors are shared by all frames,
        unless `lit`, which shades the albedo with the capture's light (right in the capture's own world only), or
        `shadowed`, which puts the shadow that the body casts on itself in an even light on it, as other lights need.
        Raises InputError when a frame is marked invalid: take `motion[motion.valid]`.
        """
        if not bool(motion.valid.all()):
            first = int(torch.nonzero(~motion.valid)[0])
            raise InputError(
                f"Motion {motion.name!r}: {int((~motion.valid).sum())} of {len(motion)} frames have no person (first: "
                f"frame {first}). Pose only the valid ones, motion[motion.valid]."
            )
        here = self.offsets.device
        expression = motion.expression.to(here) if bool(motion.expression.any()) else None
        posed = self.body.pose(motion.poses.to(here), self.betas, motion.transl.to(here), expression)
        return self.posed_with(posed, lit=lit, shadowed=shadowed)

    def to(self, device: torch.device | str) -> Avatar:
        """The avatar with its tensors, and its body's, on `device`."""
        if self.offsets.device == torch.device(device):
            return self
        moved = map_tensors(self, lambda tensor: tensor.to(device))
        moved.__dict__["rig"] = map_tensors(
            self.rig, lambda tensor: tensor.to(device)
        )  # where cached_property keeps it
        return moved

    def posed_with(self, posed: PosedBody, *, lit: bool = False, shadowed: bool = False) -> Gaussians:
        """`posed` for a body whose joints are already placed (with the avatar's betas)."""
        points = self.points(posed)
        colors = self.albedo
        if lit:
            colors = (colors * self.lit(points, posed)).clamp(0.0, 1.0)
        elif shadowed and self.self_shadow:
            colors = colors * self.shadow(posed)[..., None]
        return Gaussians(points.means, points.quats, self.log_scales.exp(), self.opacity_logits.sigmoid(), colors)

    def lit(self, points: PosedPoints, posed: PosedBody) -> Float[Tensor, "frames n 3"]:
        """Factor of the capture's light on display-referred colors."""
        gain = shading(points.normals, self.light)
        if self.self_shadow:
            gain = gain * self.shadow(posed, self.light)[..., None]
        return gain

    def shadow(self, posed: PosedBody, light: Float[Tensor, "8 3"] | None = None) -> Float[Tensor, "frames n"]:
        """Factor on display-referred colors of what the body hides from itself, in an even light for None."""
        light = torch.zeros_like(self.light) if light is None else light
        return self.shadows.spread(self.shadows.at_anchors(posed.A_world_rest, light)).exp().to(self.albedo.device)

    def points(self, posed: PosedBody) -> PosedPoints:
        """Centers, orientations and normals on a body whose joints are already placed."""
        offsets = self.offsets
        if self.correctives is not None:
            offsets = self.correctives.offsets(offsets, posed.poses)
        return self.rig.pose(posed, offsets, self.quats)

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write `avatar.json`, `gaussians.safetensors` and `canonical.ply`; the folder appears whole or not at all.

        Raises InputError when the folder exists and is not empty, unless `force`.
        """
        with fresh_folder(folder, what="an avatar", force=force) as aside:
            self.write_files(aside)
        return Path(folder)

    def write_files(self, folder: Path) -> None:
        """The avatar's files, into a folder that is being made; `avatar.json` last."""
        from safetensors.torch import save_file

        tensors = {name: getattr(self, name).detach().cpu().contiguous() for name in _TENSORS}
        tensors |= {f"binding.{name}": getattr(self.binding, name).contiguous() for name in _BINDING}
        for part, found in (("correctives", self.correctives), ("loose", self.loose), ("skirt", self.skirt)):
            if found is not None:
                tensors |= {f"{part}.{f.name}": getattr(found, f.name).cpu().contiguous() for f in fields(found)}
        save_file(tensors, folder / "gaussians.safetensors", metadata={"schema": str(SCHEMA)})
        self.canonical().save_ply(folder / "canonical.ply")
        head = {
            "schema": SCHEMA,
            "made_by": f"splat-avatars {__version__}",
            "n_gaussians": len(self),
            "body": {"name": self.body.path.name, "sha256": self.body.sha256},
            "betas": [round(float(b), 5) for b in self.betas],
            "self_shadow": self.self_shadow,
        }
        write_json(folder / "avatar.json", head | self.card)

    @staticmethod
    def load(folder: str | Path, body: Body | None = None) -> Avatar:
        """Read what `save` wrote. `body` defaults to the body that `Body.load()` finds.

        Raises InputError when the folder is no avatar, or when the body is not the file that the avatar was made on.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / "avatar.json").is_file():
            raise InputError(
                f"{folder} is not an avatar: it has no avatar.json. Make one with `avatars fit VIDEO -o {folder}`."
            )
        card = read_json(folder / "avatar.json")
        if card.get("schema") != SCHEMA:
            raise InputError(f"{folder} has schema {card.get('schema')!r}; this version reads {SCHEMA}. Fit it again.")
        body = body or Body.load()
        if card["body"]["sha256"] != body.sha256:
            raise InputError(
                f"{folder} was made on another body: {card['body']['name']} (sha256 {card['body']['sha256'][:12]}), "
                f"found {body.path.name} ({body.sha256[:12]}). Name the right file with SMPLX_BODY, or fit again."
            )
        try:
            tensors = load_file(folder / "gaussians.safetensors")
            binding = Binding(*(tensors[f"binding.{name}"] for name in _BINDING))
            parameters = {name: tensors[name] for name in _TENSORS}
            parts = {"correctives": Correctives, "loose": LooseClothes, "skirt": Skirt}
            extra: dict[str, Any] = {
                part: kind(**{f.name: tensors[f"{part}.{f.name}"] for f in fields(kind)})
                for part, kind in parts.items()
                if any(name.startswith(f"{part}.") for name in tensors)
            }
        except Exception as error:  # safetensors raises its own error, or KeyError for a name that is missing
            raise InputError(f"{folder / 'gaussians.safetensors'} cannot be read ({error}).") from None
        extra["self_shadow"] = bool(card.get("self_shadow", False))
        card = {k: card[k] for k in card if k not in _HEAD}
        return Avatar(body=body, binding=binding, card=card, **extra, **parameters)

    def with_card(self, **entries: Any) -> Avatar:
        """The avatar with further entries in its card."""
        return replace(self, card=self.card | entries)


_TENSORS = ("betas", "offsets", "quats", "log_scales", "opacity_logits", "albedo", "light")
_BINDING = ("corners", "barycentric", "region")
_HEAD = {"schema", "made_by", "n_gaussians", "body", "betas", "self_shadow"}


@contextmanager
def fresh_folder(path: str | Path, *, what: str, force: bool = False) -> Iterator[Path]:
    """A folder aside to fill; it becomes `path` when the block ends well and is removed when it does not.

    With `force` what stood at `path` is replaced, and only once the new folder is whole.
    Raises InputError when `path` exists and is not empty, unless `force`, which replaces earlier avatars only.
    """
    path = Path(path).absolute()
    if not (force and (path / "avatar.json").is_file()) and not holds_only_work(path):
        require_fresh_folder(path, what=what)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    aside.mkdir()
    try:
        yield aside
        if path.exists():
            path.rename(old)
        aside.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
