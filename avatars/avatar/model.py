"""Avatar: a fixed number of Gaussians bound to a body; a Motion in, posed Gaussians out; a folder on disk."""

from __future__ import annotations

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
from avatars.avatar.ambient_occlusion import AmbientOcclusion
from avatars.avatar.avatar_file import SCHEMA, check_body, read_card, read_tensors
from avatars.avatar.binding import Binding
from avatars.avatar.loose_clothes import LooseClothes
from avatars.avatar.pose_correctives import PoseCorrectives
from avatars.avatar.rig import PosedPoints, Rig
from avatars.avatar.shading import shading
from avatars.avatar.skirt import Skirt
from avatars.body import Body, PosedBody, load_body
from avatars.body.model import map_tensors
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.io.files import write_json
from avatars.io.outputs import fresh_folder
from avatars.io.part_files import is_part
from avatars.io.work_folder import NAME, is_unfinished
from avatars.rasterizer.gaussians import Gaussians


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
    correctives: PoseCorrectives | None = None
    """Offsets by pose, where the video varied it."""
    loose: LooseClothes | None = None
    """What hangs off the body and does not move as the skin under it does."""
    skirt: Skirt | None = None
    """What hangs between the legs."""
    self_shadow: bool = False
    """Whether the albedo is free of the body's ambient occlusion (`AmbientOcclusion`); lit renders put it on."""
    card: dict[str, Any] = field(default_factory=dict)
    """What made the avatar: source, settings, scores, licence, consent. Saved in avatar.json."""

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def rig(self) -> Rig:
        """What posing needs of the body, computed once."""
        return Rig.build(self.body, self.binding, self.betas, self.loose, self.skirt)

    @cached_property
    def shadows(self) -> AmbientOcclusion:
        """What the body's shadow on itself needs, computed once."""
        return AmbientOcclusion.of(self.rig, self.betas)

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
        with avatar_folder(folder, force=force) as aside:
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
        """Read what `save` wrote. `body` defaults to the body that `load_body()` finds.

        Raises InputError when the folder is no avatar, its tensors are not as they must be (`avatar_file`), or
        the body is not the file that the avatar was made on.
        """
        folder = Path(folder)
        card = read_card(folder)
        body = body or load_body()
        check_body(folder, card, body)
        tensors, parts = read_tensors(folder, body)
        return Avatar(
            body=body,
            binding=Binding(*(tensors[f"binding.{name}"] for name in _BINDING)),
            self_shadow=bool(card.get("self_shadow", False)),
            card={k: card[k] for k in card if k not in _HEAD},
            **{name: tensors[name] for name in _TENSORS},
            **parts,
        )

    def with_card(self, **entries: Any) -> Avatar:
        """The avatar with further entries in its card."""
        return replace(self, card=self.card | entries)


_TENSORS = ("betas", "offsets", "quats", "log_scales", "opacity_logits", "albedo", "light")
_BINDING = ("corners", "barycentric", "region")
_HEAD = {"schema", "made_by", "n_gaussians", "body", "betas", "self_shadow"}


AVATAR_FILES = frozenset(
    {
        *("avatar.json", "gaussians.safetensors", "canonical.ply", "preview.png", "turntable.mp4", "fit.json"),
        *("motion.npz", "occluders.npz", "report.html"),
        *(f"track/{name}" for name in ("motion.npz", "keypoints.npz", "masks.npz", "quality.npz", "track.json")),
    }
)
"""All that an avatar's folder may hold, as `avatars fit` writes it."""


@contextmanager
def avatar_folder(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A folder aside to fill with an avatar, which then becomes `path` (see `fresh_folder`).

    With `force` an earlier avatar is replaced, once the new one is whole, if nothing else lies in its folder. Work in
    hand may lie there and stays. Raises InputError.
    """
    replaces = replaceable(path) if force or is_unfinished(path) else frozenset()
    if "avatar.json" in replaces and not force:
        replaces = frozenset()
    with fresh_folder(path, what="an avatar", last="avatar.json", replaces=replaces, beside={NAME}) as aside:
        yield aside
        if replaces:
            replaceable(path)


def replaceable(path: str | Path) -> frozenset[str]:
    """Names in the folder of an avatar, or of one that a killed fit had begun to put there; none where there is none.

    Raises InputError when anything else lies there.
    """
    path = Path(path)
    if not ((path / "avatar.json").is_file() or is_unfinished(path)):
        return frozenset()
    found = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir() or p.is_symlink()}
    foreign = sorted(n for n in found - AVATAR_FILES if n.split("/")[0] != NAME and not is_part(n.split("/")[0]))
    if foreign:
        raise InputError(
            f"{path} holds {foreign[0]}, which is no part of an avatar; nothing was replaced. Move it, or choose "
            "another -o."
        )
    return frozenset(name.split("/")[0] for name in found & AVATAR_FILES)
