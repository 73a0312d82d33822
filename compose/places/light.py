"""Picture of a place -> its light; light + normals -> a bounded factor on the person's color.

A photograph tells little about its light, so little is claimed: the mean color tells exposure and tint (gray world,
Buchsbaum 1980), which a red wall disproves, and the brighter side of the picture from which side light comes. Both go
only part of the way and never far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.color import linear_from_srgb
from avatars.kernels.extension import empty, extension
from avatars.rasterizer.gaussians import Gaussians
from compose.places.ground import pixel_rays

_LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])  # Rec. 709
_WELL_EXPOSED = 0.20
"""Mean linear luminance of a well exposed photograph: 18% gray and a little sky."""

LightName = Literal["estimated", "day", "overcast", "night", "indoor"]


@dataclass(frozen=True, slots=True)
class PlaceLight:
    """One key light and smooth light from all around; linear, scaled so that an upright body gets 1 on average."""

    to_light: tuple[float, float, float]
    """Unit direction towards the key light, world; y > 0."""
    key_rgb: tuple[float, float, float]
    """Irradiance of the key light on what faces it."""
    ambient: tuple[tuple[float, float, float], ...]
    """Irradiance from all around: coefficients (4 x RGB) of the harmonics 1, x, y, z of the surface's normal."""
    penumbra: float = 0.22
    """Shadow blur (standard deviation, meters) per meter of height of what casts it; 0.02 is a hard sun."""
    shadow_strength: float = 0.55
    """Share of the ground's light that a full shadow takes away, in linear light."""
    name: str = "estimated"

    def irradiance(self, normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Linear light on surfaces with these unit normals (world), in units of the average on an upright body."""
        ambient = torch.tensor(self.ambient)
        facing = (normals @ torch.tensor(self.to_light)).clamp_min(0.0)
        light = torch.addmm(ambient[0].expand(len(normals), 3), normals, ambient[1:])
        return torch.addcmul(light, facing[:, None], torch.tensor(self.key_rgb)[None]).clamp_min(0.05)

    def as_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "name": self.name,
            "to_light": [round(v, 4) for v in self.to_light],
            "key_rgb": [round(v, 4) for v in self.key_rgb],
            "ambient": [[round(v, 4) for v in row] for row in self.ambient],
            "penumbra": round(self.penumbra, 4),
            "shadow_strength": round(self.shadow_strength, 4),
        }

    @staticmethod
    def from_json(values: dict[str, Any]) -> PlaceLight:
        """What `as_json` wrote. Raises InputError when something is missing or no number."""
        try:
            x, y, z = (float(v) for v in values["to_light"])
            r, g, b = (float(v) for v in values["key_rgb"])
            ambient = tuple((float(row[0]), float(row[1]), float(row[2])) for row in values["ambient"])
            light = PlaceLight((x, y, z), (r, g, b), ambient, float(values["penumbra"]),
                               float(values["shadow_strength"]), str(values.get("name", "estimated")))  # fmt: skip
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"A light needs to_light, key_rgb, ambient (4 x 3), penumbra, shadow_strength ({error})."
            ) from None
        if len(ambient) != 4 or y <= 0.05:
            raise InputError(
                f"A light has 4 rows of ambient and shines from above; found {len(ambient)} and y = {y:g}."
            )
        return light


def preset_light(name: str) -> PlaceLight:
    """Light of a kind of place, from the upper left. Raises InputError for an unknown name."""
    if name not in _PRESETS:
        raise InputError(f"There is no light {name!r}; take one of estimated, {', '.join(_PRESETS)}.")
    toward, key, sky, ground, penumbra, strength = _PRESETS[name]
    return _normalized(_hemisphere(toward, key, sky, ground, penumbra, strength, name))


def sunlight(from_deg: float, elevation_deg: float) -> PlaceLight:
    """Daylight whose sun stands `elevation_deg` high and shines from behind the camera at 0, from its right at 90 and
    against it at 180 degrees. As bright as `day`, so that who has the sun behind is dark."""
    around, up = math.radians(from_deg), math.radians(elevation_deg)
    toward = (math.cos(up) * math.sin(around), math.sin(up), math.cos(up) * math.cos(around))
    return replace(preset_light("day"), to_light=toward, name="sun")


def brightened(light: PlaceLight, factor: float) -> PlaceLight:
    """The light, `factor` times as bright in linear light."""
    key, ambient = torch.tensor(light.key_rgb) * factor, torch.tensor(light.ambient) * factor
    return replace(light, key_rgb=_triple(key), ambient=tuple(_triple(row) for row in ambient))


_Triple = tuple[float, float, float]
_PRESETS: dict[str, tuple[_Triple, _Triple, _Triple, _Triple, float, float]] = {
    # toward the key light, its color, the light from above, from below, penumbra, strength of the shadow
    "day": ((-0.55, 0.75, 0.40), (1.55, 1.45, 1.25), (0.50, 0.60, 0.78), (0.30, 0.28, 0.24), 0.03, 0.62),
    "overcast": ((0.0, 1.0, 0.05), (0.15, 0.15, 0.15), (1.00, 1.02, 1.06), (0.40, 0.40, 0.40), 0.30, 0.45),
    "night": ((-0.45, 0.85, 0.25), (0.95, 0.78, 0.52), (0.22, 0.26, 0.38), (0.10, 0.10, 0.13), 0.10, 0.60),
    "indoor": ((-0.35, 0.90, 0.30), (0.70, 0.66, 0.58), (0.80, 0.79, 0.76), (0.50, 0.47, 0.43), 0.20, 0.50),
}


def _hemisphere(
    toward: _Triple, key: _Triple, sky: _Triple, ground: _Triple, penumbra: float, strength: float, name: str
) -> PlaceLight:
    """Ambient light that goes from `ground` (normals down) to `sky` (normals up)."""
    middle = tuple((s + g) / 2 for s, g in zip(sky, ground, strict=True))
    rise = tuple((s - g) / 2 for s, g in zip(sky, ground, strict=True))
    none = (0.0, 0.0, 0.0)
    length = sum(v * v for v in toward) ** 0.5
    x, y, z = (v / length for v in toward)
    return PlaceLight((x, y, z), key, (_triple(middle), none, _triple(rise), none), penumbra, strength, name)


def _triple(values: Any) -> _Triple:
    r, g, b = (float(v) for v in values)
    return r, g, b


def _normalized(light: PlaceLight, *, keep_tint: float = 0.5) -> PlaceLight:
    """Scaled so that an upright body seen from the camera gets 1 on average, with part of the tint kept."""
    angle = torch.linspace(-1.2, 1.2, 25)
    ring = torch.stack([angle.sin(), torch.zeros(25), angle.cos()], -1)
    up = torch.tensor([[0.0, 0.8, 0.6], [0.0, -0.8, 0.6]])
    mean = light.irradiance(torch.cat([ring, up])).mean(0)
    gray = (mean * _LUMINANCE).sum()
    factor = 1.0 / (gray * (mean / gray) ** (1.0 - keep_tint))
    return replace(
        light,
        key_rgb=_triple(torch.tensor(light.key_rgb) * factor),
        ambient=tuple(_triple(torch.tensor(row) * factor) for row in light.ambient),
    )


_USUAL_LIGHT = (0.75, 0.6)
"""Towards the light of most pictures: upwards, and back to the camera, whose side is lit in what it shows."""
_SIDEWAYS = 3.0
"""How far a picture that is brighter on one side moves the light there."""


def estimated_light(rgb: Float[Tensor, "3 height width"], camera: Camera) -> PlaceLight:
    """Light of a place from its picture: an indoor lamp above and on the camera's side, moved sideways to where the
    picture is brighter, with part of the picture's mean color (gray world, Buchsbaum 1980).

    A single picture hardly tells more: brightness over the normals of walls and floor says first of all how they are
    painted. Contrast tells how hard the light is.
    """
    small = torch.nn.functional.interpolate(rgb[None], (48, 64), mode="area")[0]
    linear = linear_from_srgb(small)
    mean = linear.mean((1, 2)).clamp_min(1e-4)
    contrast = float((linear.mean(0).flatten().quantile(0.98) / linear.mean(0).mean().clamp_min(1e-3)).clamp(1, 6))
    color = mean / (mean * _LUMINANCE).sum()
    usual = preset_light("indoor")
    key, ambient = torch.tensor(usual.key_rgb), torch.tensor(usual.ambient)
    light = PlaceLight(
        _triple(_toward_brighter(linear, camera.resized((48, 64)))),
        _triple(key.mean() * color),
        tuple(_triple(row.mean() * color) for row in ambient),
        penumbra=0.26 - 0.03 * contrast,
        shadow_strength=0.45 + 0.02 * contrast,
    )
    return _normalized(light)


def _toward_brighter(linear: Float[Tensor, "3 height width"], view: Camera) -> Float[Tensor, " 3"]:
    """Unit direction of the usual light, moved along the camera's right by where the picture is brighter."""
    luminance = (linear * _LUMINANCE[:, None, None]).sum(0)
    right, back = view.T_cam_world[0, :3], -view.T_cam_world[2, :3]
    level = torch.tensor([1.0, 0.0, 1.0])
    right, back = (torch.nn.functional.normalize(axis * level, dim=0) for axis in (right, back))
    rays = torch.nn.functional.normalize(pixel_rays(view.K, view.size_hw), dim=-1)
    even = luminance / luminance.mean().clamp_min(1e-4) - 1.0
    aside = (_SIDEWAYS * (even * rays[..., 0]).mean()).clamp(-0.8, 0.8)
    up, toward_camera = _USUAL_LIGHT
    return torch.nn.functional.normalize(torch.tensor([0.0, up, 0.0]) + toward_camera * back + aside * right, dim=0)


def normals_in_gaussians(quats: Float[Tensor, "n 4"], normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Directions (such as the body's smooth normals) in the axes of each Gaussian, with which they turn."""
    return _rotated(quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0]), normals)


def outward_normals(quats: Float[Tensor, "n 4"], local: Float[Tensor, "n 3"] | None = None) -> Float[Tensor, "n 3"]:
    """Normals of Gaussians (wxyz, not necessarily unit): `local`, in their own axes, turned with them. Without, their
    third axes, which an avatar keeps pointing outward, but not as evenly as a skin."""
    if local is not None:
        return _rotated(quats, local)
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    return torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)


def _rotated(quats: Float[Tensor, "n 4"], vectors: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Vectors turned by quaternions: v + 2 u x (u x v + w v)."""
    w, u = torch.nn.functional.normalize(quats, dim=-1).split([1, 3], -1)
    inner = torch.addcmul(torch.linalg.cross(u, vectors), w, vectors)
    return torch.add(vectors, torch.linalg.cross(u, inner), alpha=2.0)


def relit(
    gaussians: Gaussians,
    light: PlaceLight | None,
    *,
    R_world_gaussians: Float[Tensor, "3 3"] | None = None,
    local_normals: Float[Tensor, "n 3"] | None = None,
    gain: Float[Tensor, " 3"] | None = None,
) -> Gaussians:
    """The albedo in the place's light (as it is for None), times `gain`; `R_world_gaussians` turns the Gaussians' axes
    into the light's. Subframes share the middle one's light. `local_normals`: see `normals_in_gaussians`.

    One color per Gaussian on the CPU is lit by our C++ (csrc/film_kernels.inl), of which `light_factor` is the
    definition.
    """
    colors = gaussians.colors[..., :3]
    if light is None:
        return gaussians if gain is None else replace(gaussians, colors=(colors * gain).clamp_(0.0, 1.0))
    quats = gaussians.quats if gaussians.quats.ndim == 2 else gaussians.quats[len(gaussians.quats) // 2]
    R = torch.eye(3) if R_world_gaussians is None else R_world_gaussians
    if colors.ndim == 2 and colors.device.type == "cpu":
        return replace(gaussians, colors=_lit_colors(gaussians.colors, quats, local_normals, light, R, gain))
    factor = light_factor(outward_normals(quats, local_normals), light, R)
    factor = factor if gain is None else factor * gain
    return replace(gaussians, colors=(colors * factor).clamp_(0.0, 1.0))


LEAST_LIGHT, MOST_LIGHT = 0.05, 2.5
"""Linear light on a surface is kept between: a black back and a burnt front are rarely right."""


def light_factor(
    normals: Float[Tensor, "n 3"], light: PlaceLight, R_world_normals: Float[Tensor, "3 3"]
) -> Float[Tensor, "n 3"]:
    """Factor on display-referred colors: a factor f of linear light is f^(1/2.2) on what is a power of it."""
    linear = light.irradiance(normals @ R_world_normals.T)
    return linear.clamp(LEAST_LIGHT, MOST_LIGHT) ** (1 / 2.2)


def _lit_colors(
    colors: Float[Tensor, "n channels"],
    quats: Float[Tensor, "n 4"],
    local_normals: Float[Tensor, "n 3"] | None,
    light: PlaceLight,
    R: Float[Tensor, "3 3"],
    gain: Float[Tensor, " 3"] | None,
) -> Float[Tensor, "n 3"]:
    """Colors times `light_factor` and `gain`, in [0, 1]; the light is turned into the Gaussians' axes, not they."""
    ambient, bounds = torch.tensor(light.ambient), torch.tensor([LEAST_LIGHT, MOST_LIGHT])
    toward, key = torch.tensor(light.to_light) @ R, torch.tensor(light.key_rgb)
    slope = ambient[1:].T @ R
    gain = torch.ones(3) if gain is None else gain
    numbers = torch.cat([ambient[0], slope.flatten(), toward, key, bounds, gain]).float()
    given = [None if t is None else t.float().contiguous() for t in (quats, local_normals, colors)]
    out = empty((len(colors), 3))
    extension().relight(*given, numbers, out, torch.get_num_threads())
    return out


def light_gain(
    place_rgb: Float[Tensor, "3 height width"],
    *,
    exposure: float = 0.45,
    tint: float = 0.25,
    limits: tuple[float, float] = (0.6, 1.2),
) -> Float[Tensor, " 3"]:
    """Factor per channel for display-referred foreground color.

    `exposure` and `tint` in [0, 1] say how far to go towards the place; the result stays within `limits`. A gain g of
    linear light is g^(1/2.2) on display-referred values, which are a power of linear light but for the darkest tones.
    """
    mean = linear_from_srgb(place_rgb.reshape(3, -1)[:, ::7]).mean(-1).clamp_min(1e-4)
    luminance = (mean * _LUMINANCE).sum()
    linear_gain = (luminance / _WELL_EXPOSED) ** exposure * (mean / luminance) ** tint
    return (linear_gain ** (1 / 2.2)).clamp(*limits)
