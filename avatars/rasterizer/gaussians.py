"""A set of 3D Gaussians, and the standard 3DGS PLY that other viewers open."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatars.errors import InputError
from avatars.io.files import atomic_path

SH_DC = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)): rgb = 0.5 + SH_DC * f_dc (Kerbl et al. 2023)."""

PLY_COLUMNS = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Gaussians in world space, named as in gsplat; a leading dimension holds posed frames."""

    means: Float[Tensor, "*#frames n 3"]
    """Centers, meters."""
    quats: Float[Tensor, "*#frames n 4"]
    """Orientation, wxyz, not necessarily unit."""
    scales: Float[Tensor, "*#frames n 3"]
    """Standard deviations along the axes, meters, positive."""
    opacities: Float[Tensor, "*#frames n"]
    """In [0, 1]."""
    colors: Float[Tensor, "*#frames n channels"]
    """Display-referred sRGB in [0, 1] in the first three channels."""

    def __len__(self) -> int:
        return self.means.shape[-2]

    def __getitem__(self, index: int | slice | Tensor) -> Gaussians:
        """Chosen Gaussians (not frames)."""
        return Gaussians(
            self.means[..., index, :],
            self.quats[..., index, :],
            self.scales[..., index, :],
            self.opacities[..., index],
            self.colors[..., index, :],
        )

    def frame(self, index: int) -> Gaussians:
        """One frame, without the dimension of frames; what has none, or only one, is shared by all.

        Raises IndexError for a frame that is not there.
        """

        def of(values: Tensor, ndim: int) -> Tensor:
            return values if values.ndim == ndim else values[index if len(values) > 1 else 0]

        return Gaussians(
            of(self.means, 2), of(self.quats, 2), of(self.scales, 2), of(self.opacities, 1), of(self.colors, 2)
        )

    def to(self, device: torch.device | str) -> Gaussians:
        """The Gaussians with their tensors on `device`."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def save_ply(self, path: str | Path) -> Path:
        """Write the standard 3DGS PLY: DC color, logit opacity, log scales, wxyz rotation; no view-dependent color.

        Raises InputError when there is a frames dimension: a PLY holds one set.
        """
        if self.means.ndim != 2:
            raise InputError(
                f"A PLY holds one set of Gaussians; these have shape {tuple(self.means.shape)}. Choose a frame."
            )
        opacities = self.opacities.clamp(1e-6, 1 - 1e-6)
        columns = torch.cat(
            [
                self.means,
                torch.zeros_like(self.means),
                (self.colors[..., :3] - 0.5) / SH_DC,
                torch.logit(opacities)[:, None],
                self.scales.clamp_min(1e-9).log(),
                torch.nn.functional.normalize(self.quats, dim=-1),
            ],
            -1,
        )
        header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(self)}"]
        header += [f"property float {name}" for name in PLY_COLUMNS] + ["end_header", ""]
        with atomic_path(path) as aside, open(aside, "wb") as file:
            file.write("\n".join(header).encode("ascii"))
            file.write(columns.detach().cpu().numpy().astype("<f4").tobytes())
        return Path(path)

    @staticmethod
    def load_ply(path: str | Path) -> Gaussians:
        """Read a 3DGS PLY (binary little endian); higher spherical harmonics are left out.

        Raises InputError when the file is missing, cut short, or not such a PLY.
        """
        names, data = _read_ply_vertices(Path(path))
        missing = sorted(set(PLY_COLUMNS) - {"nx", "ny", "nz"} - set(names))
        if missing:
            raise InputError(f"{path} is a PLY without the 3DGS properties {missing}; it has {list(names)[:12]}.")

        def columns(*wanted: str) -> Tensor:
            stacked = np.stack([data[name] for name in wanted], -1)
            return torch.from_numpy(np.ascontiguousarray(stacked, dtype=np.float32))

        return Gaussians(
            means=columns("x", "y", "z"),
            quats=columns("rot_0", "rot_1", "rot_2", "rot_3"),
            scales=columns("scale_0", "scale_1", "scale_2").exp(),
            opacities=torch.sigmoid(columns("opacity")[:, 0]),
            colors=columns("f_dc_0", "f_dc_1", "f_dc_2") * SH_DC + 0.5,
        )


_PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4", "uint": "<u4", "float": "<f4",
    "double": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4",
    "float32": "<f4",
    "float64": "<f8",
}  # fmt: skip


def _read_ply_vertices(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and structured array of a binary PLY's vertex element, which must come first."""
    if not path.is_file():
        raise InputError(f"No PLY at {path}.")
    content = path.read_bytes()
    end = content.find(b"end_header\n")
    if not content.startswith(b"ply") or end < 0:
        raise InputError(f"{path} is not a PLY file.")
    lines = [line.split() for line in content[:end].decode("ascii", "replace").splitlines()]
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise InputError(f"{path} is not a binary little-endian PLY.")
    elements = [i for i, line in enumerate(lines) if line[:1] == ["element"]]
    if not elements or lines[elements[0]][1] != "vertex":
        raise InputError(f"{path} has no vertices as its first element.")
    count = int(lines[elements[0]][2])
    stop = elements[1] if len(elements) > 1 else len(lines)
    properties = [(line[2], _PLY_TYPES.get(line[1])) for line in lines[elements[0] : stop] if line[0] == "property"]
    if any(kind is None for _, kind in properties):
        raise InputError(f"{path} has vertex properties that are lists; a 3DGS PLY has numbers only.")
    dtype = np.dtype([(name, kind) for name, kind in properties])
    body = content[end + len(b"end_header\n") :]
    if len(body) < count * dtype.itemsize:
        raise InputError(f"{path} is cut short: {count} vertices promised, {len(body) // dtype.itemsize} found.")
    return tuple(name for name, _ in properties), np.frombuffer(body, dtype, count)
