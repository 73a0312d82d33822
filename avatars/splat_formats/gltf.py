"""Gaussians and a skinned body in; one binary glTF (.glb) out, which splat viewers and mesh programs both open.

The Gaussians are a point primitive with KHR_gaussian_splatting (Khronos, ratified 2026): linear scales, xyzw unit
quaternions, opacity in [0, 1], the constant spherical harmonic, and COLOR_0 (linear, as glTF wants) for programs that
know points only. glTF has +Y up like our world.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatars import __version__
from avatars.body import Body
from avatars.body.layout import JOINT_NAMES
from avatars.errors import InputError
from avatars.geometry.color import linear_from_srgb
from avatars.io.files import atomic_path
from avatars.rasterizer.gaussians import SH_DC, Gaussians

EXTENSION = "KHR_gaussian_splatting"
FLOAT, USHORT, UINT = 5126, 5123, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
POINTS, TRIANGLES = 0, 4
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_DTYPES = {FLOAT: "<f4", USHORT: "<u2", UINT: "<u4"}


@dataclass(eq=False)
class GlbFile:
    """A glTF being put together: its JSON lists and its one binary buffer."""

    accessors: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    meshes: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    skins: list[dict[str, Any]] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    materials: list[dict[str, Any]] = field(default_factory=list)
    binary: bytearray = field(default_factory=bytearray)

    def array(
        self, values: np.ndarray, component: int = FLOAT, *, target: int | None = ARRAY_BUFFER, bounds: bool = False
    ) -> int:
        """Index of a new accessor that holds `values` (count, components)."""
        data = np.ascontiguousarray(values.reshape(len(values), -1), dtype=_DTYPES[component])
        self.binary.extend(b"\0" * (-len(self.binary) % 4))
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": data.nbytes}
        self.views.append(view if target is None else view | {"target": target})
        self.binary.extend(data.tobytes())
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": component,
            "count": len(data),
            "type": _KINDS[data.shape[1]],
        }
        if bounds:
            accessor |= {"min": data.min(0).tolist(), "max": data.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def root(self, node: dict[str, Any]) -> int:
        """Index of a new node at the top of the scene."""
        self.nodes.append(node)
        self.roots.append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def save(self, path: str | Path) -> Path:
        """Write header, JSON chunk and binary chunk."""
        lists = {
            "accessors": self.accessors, "bufferViews": self.views, "meshes": self.meshes, "nodes": self.nodes,
            "skins": self.skins, "materials": self.materials,
        }  # fmt: skip
        self.binary.extend(b"\0" * (-len(self.binary) % 4))
        head = {
            "asset": {"version": "2.0", "generator": f"splat-avatars {__version__}"},
            "extensionsUsed": [EXTENSION],
            "scene": 0,
            "scenes": [{"nodes": self.roots}],
            "buffers": [{"byteLength": len(self.binary)}],
        } | {name: entries for name, entries in lists.items() if entries}
        text = json.dumps(head, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = [struct.pack("<I4s", len(text), b"JSON"), text]
        chunks += [struct.pack("<I4s", len(self.binary), b"BIN\0"), bytes(self.binary)]
        body = b"".join(chunks)
        with atomic_path(path) as aside:
            aside.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
        return Path(path)


def save_glb(path: str | Path, gaussians: Gaussians, body: tuple[Body, Tensor] | None = None) -> Path:
    """Write one set of Gaussians and, when `body` (with betas) is given, the T-posed body mesh with its skeleton.

    Raises InputError when the Gaussians have a frames dimension.
    """
    if gaussians.means.ndim != 2:
        raise InputError(
            f"A .glb holds one set of Gaussians; these have shape {tuple(gaussians.means.shape)}. Choose a frame."
        )
    file = GlbFile()
    add_gaussians(file, gaussians)
    if body is not None:
        add_body(file, *body, gaussians)
    return file.save(path)


def add_gaussians(file: GlbFile, gaussians: Gaussians) -> None:
    """A point primitive with KHR_gaussian_splatting, in a node of its own."""
    quats = torch.nn.functional.normalize(gaussians.quats, dim=-1)[:, [1, 2, 3, 0]]
    opacities, colors = gaussians.opacities.clamp(0, 1), gaussians.colors[:, :3]
    fallback = torch.cat([linear_from_srgb(colors.clamp(0, 1)), opacities[:, None]], -1)
    attributes = {
        "POSITION": file.array(_numpy(gaussians.means), bounds=True),
        "COLOR_0": file.array(_numpy(fallback)),
        f"{EXTENSION}:ROTATION": file.array(_numpy(quats)),
        f"{EXTENSION}:SCALE": file.array(_numpy(gaussians.scales)),
        f"{EXTENSION}:OPACITY": file.array(_numpy(opacities)),
        f"{EXTENSION}:SH_DEGREE_0_COEF_0": file.array(_numpy((colors - 0.5) / SH_DC)),
    }
    kernel = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    primitive = {"attributes": attributes, "mode": POINTS, "extensions": {EXTENSION: kernel}}
    file.meshes.append({"name": "gaussians", "primitives": [primitive]})
    file.root({"name": "gaussians", "mesh": len(file.meshes) - 1})


def add_body(file: GlbFile, body: Body, betas: Tensor, canonical: Gaussians) -> None:
    """The T-posed mesh, colored by the nearest Gaussians, with the 55 joints as its skin."""
    vertices, joints = body.shaped(betas)
    first = len(file.nodes)
    for i, parent in enumerate(body.parents):
        place = joints[i] if parent < 0 else joints[i] - joints[parent]
        children = [first + j for j, above in enumerate(body.parents) if above == i]
        node = {"name": JOINT_NAMES[i], "translation": [round(float(x), 6) for x in place]}
        file.nodes.append(node | ({"children": children} if children else {}))
    file.roots.append(first)
    inverse = torch.eye(4).repeat(len(joints), 1, 1)
    inverse[:, 3, :3] = -joints  # column-major, as glTF stores matrices
    matrices = file.array(_numpy(inverse.reshape(-1, 16)), target=None)
    file.skins.append(
        {"inverseBindMatrices": matrices, "joints": list(range(first, first + len(joints))), "skeleton": first}
    )
    weight, joint = body.lbs_weights.topk(4, dim=-1)
    weight = weight / weight.sum(-1, keepdim=True)
    joint = torch.where(weight > 0, joint, 0)
    attributes = {
        "POSITION": file.array(_numpy(vertices), bounds=True),
        "COLOR_0": file.array(_numpy(linear_from_srgb(_vertex_colors(vertices, canonical)))),
        "JOINTS_0": file.array(_numpy(joint), USHORT),
        "WEIGHTS_0": file.array(_numpy(weight)),
    }
    indices = file.array(_numpy(body.faces).reshape(-1, 1), UINT, target=ELEMENT_ARRAY_BUFFER)
    file.materials.append(
        {"name": "skin and clothes", "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}
    )
    primitive = {"attributes": attributes, "indices": indices, "mode": TRIANGLES, "material": 0}
    file.meshes.append({"name": "body", "primitives": [primitive]})
    file.root({"name": "body", "mesh": len(file.meshes) - 1, "skin": 0})


def _vertex_colors(vertices: Tensor, gaussians: Gaussians, k: int = 4) -> Tensor:
    """Mean color of the nearest Gaussians, weighted by opacity."""
    from scipy.spatial import KDTree

    k = min(k, len(gaussians))
    _, index = KDTree(_numpy(gaussians.means)).query(_numpy(vertices), k=k)
    index = torch.from_numpy(np.asarray(index)).reshape(len(vertices), k)
    weight = gaussians.opacities[index].clamp_min(1e-3)[..., None]
    return ((gaussians.colors[:, :3][index] * weight).sum(1) / weight.sum(1)).clamp(0, 1)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
