"""An avatar's folder in; its card and its tensors, held against each other and the body, out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from avatars.avatar.loose_clothes import LooseClothes
from avatars.avatar.pose_correctives import PoseCorrectives
from avatars.avatar.skirt import Skirt
from avatars.body import Body
from avatars.errors import InputError
from avatars.io.array_schema import ArrayFile, ArraySpec, Schema, read_safetensors
from avatars.io.files import read_json

SCHEMA = 1
PARTS = {"correctives": PoseCorrectives, "loose": LooseClothes, "skirt": Skirt}
"""What an avatar may have, by the first word of its tensors' names."""
_FAR_M = 100.0
_EVERY: Schema = {
    "betas": ArraySpec(("betas",), -100.0, 100.0),
    "offsets": ArraySpec(("gaussians", 3), -_FAR_M, _FAR_M),
    "quats": ArraySpec(("gaussians", 4), -1e6, 1e6),
    "log_scales": ArraySpec(("gaussians", 3), -60.0, 5.0),
    "opacity_logits": ArraySpec(("gaussians",), -1e6, 1e6),
    "albedo": ArraySpec(("gaussians", 3), -100.0, 100.0),
    "light": ArraySpec((8, 3), -100.0, 100.0),
    "binding.corners": ArraySpec(("gaussians", 3), below="vertices", kind="integer"),
    "binding.barycentric": ArraySpec(("gaussians", 3), -0.01, 1.01),
    "binding.region": ArraySpec(("gaussians",), below=5, kind="integer"),
}
_OF_PARTS: Schema = {
    "correctives.mean": ArraySpec((63,), -1000.0, 1000.0),
    "correctives.axes": ArraySpec(("codes", 63), -10.0, 10.0),
    "correctives.spread": ArraySpec(("codes",), 1e-6, 1000.0),
    "correctives.reach": ArraySpec((1,), 1e-6, 1e6),
    "correctives.directions": ArraySpec(("codes", "gaussians", 3), -_FAR_M, _FAR_M),
    "loose.index": ArraySpec(("loose",), below="gaussians", kind="integer"),
    "loose.weights": ArraySpec(("loose", 55), -0.01, 1.01),
    "skirt.index": ArraySpec(("hanging?",), below="gaussians", kind="integer"),
    "skirt.side": ArraySpec(("hanging?",), -1.0, 1.0),
    "skirt.share": ArraySpec(("hanging?",), -2.0, 2.0),
}


def read_card(folder: Path) -> dict[str, Any]:
    """What avatar.json holds. Raises InputError where the folder is no avatar, or one of another version."""
    path = folder / "avatar.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is not an avatar: it has no avatar.json. Make one with `avatars fit VIDEO -o {folder}`."
        )
    card = read_json(path)
    if not isinstance(card, dict):
        raise InputError(f"{path} holds no mapping but a {type(card).__name__}; `avatars fit` writes one.")
    if card.get("schema") != SCHEMA:
        raise InputError(f"{folder} has schema {card.get('schema')!r}; this version reads {SCHEMA}. Fit it again.")
    body, fit = card.get("body"), card.get("fit", {})
    if not (isinstance(body, dict) and isinstance(body.get("name"), str) and isinstance(body.get("sha256"), str)):
        raise InputError(
            f"{path}: `body` must hold the name and the sha256 of a body; found {body!r:.80}. Fit it again."
        )
    if not (isinstance(fit, dict) and isinstance(fit.get("settings", {}), dict)):
        raise InputError(f"{path}: `fit` and its `settings` must be mappings; found {fit!r:.80}. Fit it again.")
    return card


def check_body(folder: Path, card: dict[str, Any], body: Body) -> None:
    """Raises InputError when the body is not the file that the avatar was made on."""
    if card["body"]["sha256"] != body.sha256:
        raise InputError(
            f"{folder} was made on another body: {card['body']['name']} (sha256 {card['body']['sha256'][:12]}), "
            f"found {body.path.name} ({body.sha256[:12]}). Name the right file with SMPLX_BODY, or fit again."
        )


def read_tensors(folder: Path, body: Body) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors that every avatar has, by name, and the parts that this one has.

    Raises InputError, which names file and tensor, where one is missing or is not as the others and the body want it.
    """
    file = ArrayFile(folder / "gaussians.safetensors", "The file is damaged: copy it again, or fit the avatar again.")
    tensors = read_safetensors(file, _schema_of, {"vertices": body.n_vertices})
    if len(tensors["betas"]) > body.n_betas:
        raise file.refuse(f"`betas` has {len(tensors['betas'])} numbers, the body takes {body.n_betas}.")
    parts = {
        part: kind(**{f.name: tensors[f"{part}.{f.name}"] for f in fields(kind)})
        for part, kind in PARTS.items()
        if any(name.startswith(f"{part}.") for name in tensors)
    }
    return {name: tensors[name] for name in _EVERY}, parts


def _schema_of(names: frozenset[str]) -> Schema:
    """That of every avatar, with those of the parts of which a tensor is there."""
    parts = {name.split(".")[0] for name in names}
    return _EVERY | {name: spec for name, spec in _OF_PARTS.items() if name.split(".")[0] in parts}  # type: ignore
