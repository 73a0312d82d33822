"""Avatars and bodies, altered at random, read and drawn: what comes of each.

As a program: `hostile_files.py FOLDER avatar|body FIRST COUNT` alters and draws, one seed after the other, and ends
with 0 unless something else than a picture or an InputError came of one; the last seed is on stderr, should the process
die.
"""

from __future__ import annotations

import functools
import io
import json
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.avatar.loose_clothes import LooseClothes
from avatars.avatar.pose_correctives import PoseCorrectives
from avatars.avatar.rig import Rig
from avatars.avatar.skirt import Skirt
from avatars.body import Body, load_body
from avatars.errors import InputError
from avatars.fitting.parameters import on_the_surface
from avatars.rasterizer import rasterize
from avatars.viewing.rendering import framing_camera, rest_motion

N = 240
ODD = (float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e9, -1.0, 0.0, 65.0, 2.0**31, 2.0**62, 1e-45)
CHANGED = (
    "kintree_table", "kintree_table", "f", "lmk_faces_idx", "dynamic_lmk_faces_idx", "weights", "v_template",
    "lmk_bary_coords", "J_regressor",
)  # fmt: skip
DTYPES = (torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)


def make_avatar(folder: Path) -> None:
    """One with every part that an avatar may have, in `folder`."""
    body = load_body()
    betas = torch.zeros(20)
    binding = spread_over(body, body.shaped(betas)[0], N)
    rig = Rig.build(body, binding, betas)
    start = on_the_surface(rig, rig.neighbors())
    generator = torch.Generator().manual_seed(0)
    correctives = PoseCorrectives(
        torch.zeros(63), torch.eye(63)[:2].contiguous(), torch.full((2,), 0.3), torch.ones(1),
        0.01 * torch.randn(2, N, 3, generator=generator),
    )  # fmt: skip
    some = torch.arange(0, N, 7)
    loose = LooseClothes(some, rig.weights.dense_t.t()[some].contiguous())
    skirt = Skirt.of(body, betas, binding, 0.8)
    assert len(skirt.index) > 0
    avatar = Avatar(body, betas, binding, **start.leaves(), correctives=correctives, loose=loose, skirt=skirt,
                    self_shadow=True)  # fmt: skip
    avatar.save(folder)


def draw(avatar: Avatar) -> None:
    """Pose it, lit and shadowed, and draw it small."""
    motion = rest_motion(avatar)
    motion.poses[:, 16] += 0.3
    camera = framing_camera(avatar, motion, (48, 32))
    for how in ({"lit": True}, {"shadowed": True}):
        picture = rasterize(avatar.posed(motion, **how), camera)
        assert bool(torch.isfinite(picture.rgb).all())


def altered_tensors(tensors: dict[str, torch.Tensor], chance: random.Random) -> dict[str, torch.Tensor]:
    """With one to three of them changed in dtype, shape or value, left out, or exchanged."""
    found = {name: tensor.clone() for name, tensor in tensors.items()}
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(sorted(found))
        tensor, kind = found[name], chance.randrange(14)
        axis = chance.randrange(max(tensor.ndim, 1))
        if kind == 0:
            del found[name]
            found = found or dict(tensors)
        elif kind == 1 and tensor.ndim:
            found[name] = torch.cat([tensor] * chance.randint(2, 5), axis)
        elif kind == 2 and tensor.ndim:
            found[name] = tensor.narrow(axis, 0, chance.randint(0, tensor.shape[axis])).contiguous()
        elif kind == 3:
            found[name] = tensor.to(chance.choice(DTYPES))
        elif kind == 4:
            other = chance.choice(sorted(found))
            found[name], found[other] = found[other], tensor
        elif kind == 5:
            found[name] = tensor.unsqueeze(0) if chance.random() < 0.5 else tensor.reshape(-1)
        elif tensor.numel():
            values = tensor.reshape(-1)
            places = torch.tensor([chance.randrange(len(values)) for _ in range(chance.choice((1, 1, 5, 200)))])
            odd = chance.choice((*ODD, chance.gauss(0, 1), chance.gauss(0, 100)))
            number = torch.tensor(odd, dtype=torch.float64)
            number = number if tensor.is_floating_point() else number.nan_to_num(-7, 2**40, -(2**40))
            values[places] = number.to(tensor.dtype)
    return found


def altered_bytes(content: bytes, chance: random.Random) -> bytes:
    """With a few bytes changed, put in or left out, most of them near the beginning, where headers are."""
    found = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(found)) if chance.random() < 0.4 else chance.randrange(min(len(found), 1500))
        kind = chance.randrange(5)
        if kind == 0:
            del found[at : at + chance.choice((1, 4, 100, len(found)))]
        elif kind == 1:
            found[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 8))))
        elif kind == 2:
            found[at : at + 8] = chance.randrange(2**64).to_bytes(8, "little")
        else:
            found[at] ^= 1 << chance.randrange(8)
        found = found or bytearray(b"\0")
    return bytes(found)


def altered_json(value: Any, chance: random.Random) -> Any:
    """With one entry, at any depth, of another type, or left out."""
    value = json.loads(json.dumps(value))
    place = value
    while isinstance(place, dict) and place:
        key = chance.choice(sorted(place))
        if not isinstance(place[key], dict) or chance.random() < 0.4:
            if chance.random() < 0.2:
                del place[key]
            else:
                place[key] = chance.choice(([], {}, None, -1, "x", 1e400, True, [[["deep"]]], {"a": [1]}))
            return value
        place = place[key]
    return chance.choice(([], "text", 3, None, [value]))


class Avatars:
    """Of one good avatar, any number of bad ones."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self.folder = folder / "altered"
        if not (folder / "good").exists():
            make_avatar(folder / "good")
        self.tensors = load_file(folder / "good" / "gaussians.safetensors")
        self.content = (folder / "good" / "gaussians.safetensors").read_bytes()
        self.card = json.loads((folder / "good" / "avatar.json").read_text())
        self.card["fit"] = {"settings": {"held_out_every": 8}}
        self.folder.mkdir(exist_ok=True)

    def attempt(self, seed: int) -> None:
        """Write, read and draw the one of that seed."""
        from safetensors.torch import save_file

        chance = random.Random(seed)
        kind, card = chance.randrange(10), json.dumps(self.card)
        weights = self.folder / "gaussians.safetensors"
        if kind < 7:
            save_file(altered_tensors(self.tensors, chance), weights)
        else:
            weights.write_bytes(altered_bytes(self.content, chance) if kind < 9 else self.content)
        if kind == 9 or chance.random() < 0.05:
            card = json.dumps(altered_json(self.card, chance))
            if chance.random() < 0.3:
                card = altered_bytes(card.encode(), chance).decode("latin-1")
        (self.folder / "avatar.json").write_text(card, encoding="utf-8")
        draw(Avatar.load(self.folder))


class Bodies:
    """Of the default body, any number of bad ones."""

    def __init__(self, folder: Path) -> None:
        from avatars.body.default_body import default_body_path

        self.path = folder / "altered.npz"
        with np.load(default_body_path()) as archive:
            self.arrays = {name: archive[name] for name in archive.files}
        self.arrays["shapedirs"] = np.ascontiguousarray(self.arrays["shapedirs"][..., :20])
        self.content = self._without("")

    @functools.lru_cache(maxsize=12)  # noqa: B019 (one object per process)
    def _without(self, left_out: str) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in self.arrays.items():
                if name != left_out:
                    with archive.open(f"{name}.npy", "w") as member:
                        np.lib.format.write_array(member, array)
        return packed.getvalue()

    def attempt(self, seed: int) -> None:
        """Write, read, pose and regress the one of that seed."""
        chance = random.Random(seed)
        if chance.random() < 0.25:
            self.path.write_bytes(altered_bytes(self.content, chance))
        else:
            self._write_one_changed(chance)
        body = Body.load(self.path)
        posed = body.pose(0.1 * torch.ones(1, 55, 3), torch.zeros(body.n_betas))
        posed.vertices()
        body.pose(torch.zeros(20, 55, 3), torch.zeros(body.n_betas)).keypoints_133()

    def _write_one_changed(self, chance: random.Random) -> None:
        """The good archive with one array put in its place that is not as it was."""
        name = chance.choice(CHANGED)
        tensor = torch.from_numpy(self.arrays[name].astype(np.int64 if self.arrays[name].dtype.kind in "iu" else float))
        changed = altered_tensors({name: tensor, "other": tensor[:1]}, chance).get(name, tensor[:0]).numpy()
        self.path.write_bytes(self._without(name))
        with zipfile.ZipFile(self.path, "a") as archive, archive.open(f"{name}.npy", "w") as member:
            np.lib.format.write_array(member, np.asarray(changed))


def main(folder: str, what: str, first: str, count: str) -> None:
    """Alter and draw; print how many were drawn and refused, and end with 1 where something else came of one."""
    torch.set_num_threads(1)
    attempts = (Avatars if what == "avatar" else Bodies)(Path(folder))
    drawn = refused = 0
    for seed in range(int(first), int(first) + int(count)):
        print(seed, file=sys.stderr, flush=True)
        try:
            attempts.attempt(seed)
            drawn += 1
        except InputError as error:
            assert "\n" not in str(error), f"{seed}: {error}"
            refused += 1
    print(json.dumps({"drawn": drawn, "refused": refused}))


if __name__ == "__main__":
    main(*sys.argv[1:])
