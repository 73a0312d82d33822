"""One place with its camera, light, shadow and film -> finished frames of whoever is posed in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatars.geometry.camera import Camera
from avatars.io.progress import StageClock
from avatars.kernels.extension import empty_bytes
from avatars.rasterizer import rasterize
from avatars.rasterizer.cpu import frame_bytes
from avatars.rasterizer.gaussians import Gaussians
from avatars.rasterizer.render import Render
from compose.places.light import PlaceLight, relit
from compose.places.place_view import Background
from compose.rendering.blend import SOFTNESS_M, softened, to_uint8, visibility
from compose.rendering.camera_motion import reprojection_grid, turned
from compose.rendering.compositor import (
    CameraEffects,
    add_grain,
    blurred_over_time,
    compressed,
    defocused,
    lens_grid,
    softened_people,
    warped,
)
from compose.rendering.reprojection import NewView, reprojected, solid_depth
from compose.rendering.shadow import ShadowLight, cast_shadow, shade

_REACH_M = 0.08
"""How far Gaussians may reach beyond the centers that the box was measured on."""
_SHADOW_STEP = 4


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one frame shows of one person; the arrays cover a window of the frame."""

    alpha: Float[Tensor, "height width"]
    """Coverage by what is seen of the person: the place and others may hide some."""
    whole: Float[Tensor, "height width"]
    """Coverage by the whole person, whatever stands before it."""
    depth_m: Float[Tensor, "height width"]
    """Camera z of the person, +inf where it is not."""
    place_m: Float[Tensor, "height width"] | None
    """Camera z of what in the place may hide the person, +inf on the floor; None where nothing may."""
    top: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class Shot:
    """One finished frame."""

    frame: UInt8[np.ndarray, "height width 3"]
    people: tuple[Drawn, ...]


@dataclass(frozen=True, slots=True)
class StagedClip:
    """A place at the clip's size, its camera in the motion's world, so that one posed body serves many places."""

    rgb: Float[Tensor, "3 height width"]
    """The place alone; wider than the clip when the camera turns."""
    depth_m: Float[Tensor, "1 height width"] | None
    """None where nothing in the place can hide the person."""
    camera: Camera
    """The still camera in the motion's world; of the clip's size."""
    gain: Float[Tensor, " 3"] | None = None
    shadow: ShadowLight | None = None
    light: PlaceLight | None = None
    """In the place's world; None leaves the albedo as it is."""
    R_world_motion: Float[Tensor, "3 3"] | None = None
    film: CameraEffects = field(default_factory=CameraEffects)
    seed: int = 0
    plates: UInt8[np.ndarray, "frames height width 3"] | None = None
    """The place frame by frame, when it is a clip."""
    wide: Camera | None = None
    """The camera of `rgb` and `depth_m` when the clip's turns inside it."""
    turns: Float[Tensor, "frames 3 3"] | None = None
    path: Float[Tensor, "frames 4 4"] | None = None
    """What takes the still camera's axes to each frame's, for a camera that goes."""
    solid_m: Float[Tensor, "1 height width"] | None = None
    """Depth of every pixel of `rgb`, the floor's too, when the camera goes."""
    local_normals: Float[Tensor, "n 3"] | None = None
    """The people's smooth normals in the axes of their Gaussians, one person after the other."""
    still: UInt8[np.ndarray, "height width 3"] = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    """`rgb` as 8-bit RGB."""

    @staticmethod
    def of(
        background: Background,
        T_world_motion: Float[Tensor, "4 4"],
        *,
        gain: Float[Tensor, " 3"] | None = None,
        shadow: ShadowLight | None = None,
        light: PlaceLight | None = None,
        film: CameraEffects | None = None,
        seed: int = 0,
        plates: UInt8[np.ndarray, "frames height width 3"] | None = None,
        focus_m: float | None = None,
        local_normals: Float[Tensor, "n 3"] | None = None,
    ) -> StagedClip:
        """Set the scene for a motion that is placed by `T_world_motion`; a light replaces the shadow's direction."""
        camera = replace(background.camera, T_cam_world=background.camera.T_cam_world @ T_world_motion)
        R = T_world_motion[:3, :3]
        if shadow is not None:
            if light is not None:
                shadow = ShadowLight(light.to_light, light.penumbra, light.shadow_strength)
            x, y, z = (R.T @ torch.tensor(shadow.to_light)).tolist()
            shadow = replace(shadow, to_light=(x, y, z))
        depth_m = background.depth_m if bool(torch.isfinite(background.depth_m).any()) else None
        film = film or CameraEffects()
        rgb = background.rgb
        if film.defocus > 0 and focus_m is not None and depth_m is not None:
            rgb = defocused(rgb, depth_m, focus_m=focus_m, strength=film.defocus)
        still = to_uint8(rgb)
        return StagedClip(
            rgb, depth_m, camera, gain, shadow, light, R, film, seed, plates, local_normals=local_normals, still=still
        )

    def turning(self, view: Camera, turns: Float[Tensor, "frames 3 3"]) -> StagedClip:
        """The same scene filmed by `view`, which stands where the scene's camera does and turns inside its picture."""
        camera = replace(view, T_cam_world=self.camera.T_cam_world)
        return replace(self, wide=self.camera, camera=camera, turns=turns)

    def going(self, view: Camera, path: Float[Tensor, "frames 4 4"], world: Camera) -> StagedClip:
        """The same scene filmed by `view`, which goes along `path` from where the scene's camera stands; `world` is the
        camera of the scene's picture over the ground y = 0."""
        none = torch.full((1, *self.camera.size_hw), torch.inf)
        hiding = none if self.depth_m is None else self.depth_m
        camera = replace(view, T_cam_world=self.camera.T_cam_world)
        return replace(
            self, wide=self.camera, camera=camera, path=path, depth_m=hiding, solid_m=solid_depth(hiding, world)
        )

    def unseen_share(self) -> float:
        """Share of the view that the picture has not seen, where the camera's path is farthest out."""
        return 0.0 if self.path is None else max(self._gone(i).hole_share for i in (0, len(self.path) - 1))

    def _gone(self, index: int) -> NewView:
        assert self.path is not None and self.wide is not None
        assert self.depth_m is not None and self.solid_m is not None
        return reprojected(self.rgb, self.depth_m, self.solid_m, self.wide, self.camera, self.path[index])

    @property
    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        """The place alone, at the first frame."""
        return to_uint8(self._place(0)[0])

    def camera_at(self, index: int) -> Camera:
        """The camera of a frame, in the motion's world."""
        if self.path is not None:
            return replace(self.camera, T_cam_world=self.path[index] @ self.camera.T_cam_world)
        return self.camera if self.turns is None else turned(self.camera, self.turns[index])

    def draw(self, people: Gaussians | Sequence[Gaussians], clock: StageClock, index: int = 0) -> Shot:
        """Frame `index` with one or several people in it. A leading dimension of a person's means holds the subframes
        of an open shutter."""
        people = [people] if isinstance(people, Gaussians) else list(people)
        with clock.stage("place"):
            rgb, depth_m = self._place(index)
            camera = self.camera_at(index)
            everyone = people[0] if len(people) == 1 else _together(people)
            window = _window(everyone.means.reshape(-1, 3)[::8], camera, _REACH_M)
        if window.empty:
            nobody = torch.zeros(0, 0)
            drawn = tuple(Drawn(nobody, nobody, nobody, None) for _ in people)
            return self._filmed(self._bytes(rgb, index), drawn, clock, index)
        canvas, touched = self._shadowed(rgb, depth_m, everyone, camera, window, clock)
        view = camera.cropped(touched.top, touched.left, touched.size_hw)
        render = self._rendered(people, everyone, view, clock)
        with clock.stage("compose"):
            place_m = None if depth_m is None else depth_m[:, touched.rows, touched.columns]
            seen = self._seen(render, place_m, window, touched)
            frame = self._bytes(rgb, index)
            frame[touched.rows, touched.columns] = frame_bytes(seen, canvas)
        with clock.stage("masks"):
            drawn = _each(people, render, seen, view, None if place_m is None else place_m[0], touched)
        return self._filmed(frame, drawn, clock, index)

    def layer(self, people: Sequence[Gaussians], clock: StageClock, index: int = 0) -> Float[Tensor, "4 height width"]:
        """The people of frame `index` and their shadow, without the place: premultiplied color and coverage, so that
        color + (1 - coverage) x place is the frame before lens, grain and compression. What the place hides of them
        is left out."""
        blank = torch.zeros(4, *self.camera.size_hw)
        rgb, depth_m = self._place(index)
        camera = self.camera_at(index)
        everyone = people[0] if len(people) == 1 else _together(people)
        window = _window(everyone.means.reshape(-1, 3)[::8], camera, _REACH_M)
        if window.empty:
            return blank
        lit_floor, touched = self._shadowed(torch.ones_like(rgb), depth_m, everyone, camera, window, clock)
        view = camera.cropped(touched.top, touched.left, touched.size_hw)
        render = self._rendered(people, everyone, view, clock)
        place_m = None if depth_m is None else depth_m[:, touched.rows, touched.columns]
        seen = self._seen(render, place_m, window, touched)
        blank[:3, touched.rows, touched.columns] = seen.rgb[0]
        blank[3, touched.rows, touched.columns] = 1 - lit_floor[0] * (1 - seen.alpha[0, 0])
        return blank

    def _rendered(self, people: Sequence[Gaussians], everyone: Gaussians, view: Camera, clock: StageClock) -> Render:
        """The people in the place's light, over nothing."""
        with clock.stage("relight"):
            R, local = self.R_world_motion, self.local_normals
            lit = relit(everyone, self.light, R_world_gaussians=R, local_normals=local, gain=self.gain)
        with clock.stage("rasterize"):
            owners = None if len(people) == 1 else _one_hot(people)
            render = rasterize(lit, view, extra=owners)
            render = render if len(render.rgb) == 1 else blurred_over_time(render)
            return softened_people(render, self.film.softness) if self.film.softness > 0 else render

    def _place(self, index: int) -> tuple[Tensor, Tensor | None]:
        """The place and its depth as the camera of a frame sees them."""
        if self.path is not None:
            view = self._gone(index)
            return view.rgb, view.depth_m
        rgb = self.rgb
        if self.plates is not None:
            rgb = torch.from_numpy(self.plates[index]).permute(2, 0, 1).float().div_(255.0)
        if self.wide is None or self.turns is None:
            return rgb, self.depth_m
        grid, stretch = reprojection_grid(self.wide, self.camera, self.turns[index])
        rgb = warped(rgb, grid)
        if self.depth_m is None:
            return rgb, None
        nearest = torch.nn.functional.grid_sample(
            self.depth_m[None], grid[None], mode="nearest", padding_mode="border", align_corners=False
        )
        return rgb, nearest[0] * stretch

    def _shadowed(
        self, rgb: Tensor, depth_m: Tensor | None, everyone: Gaussians, camera: Camera, person: _Window,
        clock: StageClock,
    ) -> tuple[Tensor, _Window]:  # fmt: skip
        """The part of the place that the person and the shadow touch, with the shadow on its floor."""
        if self.shadow is None:
            return rgb[:, person.rows, person.columns].contiguous(), person
        with clock.stage("shadow"):
            still = everyone.frame(len(everyone.means) // 2)
            cast = cast_shadow(still, self.shadow)
            shaded = _window(cast.means, camera, 3.0 * float(cast.scales[:, 0].median()))
            touched = person.joined(shaded)
            canvas = rgb[:, touched.rows, touched.columns].clone()
            if not shaded.empty:
                floor = None if depth_m is None else ~torch.isfinite(depth_m[:, shaded.rows, shaded.columns])
                self._shade(shaded.of(canvas, touched), cast, shaded, camera, floor)
        return canvas, touched

    def _shade(
        self, picture: Float[Tensor, "3 height width"], cast: Gaussians, window: _Window, camera: Camera,
        floor: Tensor | None,
    ) -> None:  # fmt: skip
        """Darken the place by the shadow, in place. The shadow is soft, so it is rasterized at a quarter size."""
        assert self.shadow is not None
        small_hw = tuple(max(-(-side // _SHADOW_STEP), 1) for side in window.size_hw)
        view = camera.cropped(window.top, window.left, window.size_hw).resized((small_hw[0], small_hw[1]))
        coverage = rasterize(cast, view).alpha
        coverage = torch.nn.functional.interpolate(coverage, window.size_hw, mode="bilinear", align_corners=False)[0]
        if floor is not None:  # what stands on the floor is not shaded by a shadow that lies on it
            coverage = coverage * floor
        picture.copy_(shade(picture, coverage, strength=self.shadow.strength))

    @staticmethod
    def _seen(render: Render, place_m: Tensor | None, person: _Window, touched: _Window) -> Render:
        """What the place does not hide; only looked at where it is nearer than the person. `render` is used up."""
        if place_m is None:
            return render
        depth_m, place_m = person.of(render.depth_m[0], touched), person.of(place_m, touched)
        nearer = (place_m[0] < depth_m[0] + SOFTNESS_M) & torch.isfinite(depth_m[0])
        rows, columns = torch.nonzero(nearer.any(1))[:, 0], torch.nonzero(nearer.any(0))[:, 0]
        if len(rows) == 0:
            return render
        top, bottom = max(int(rows[0]) - 2, 0), int(rows[-1]) + 3
        left, right = max(int(columns[0]) - 2, 0), int(columns[-1]) + 3
        part = (..., slice(top, bottom), slice(left, right))
        visible = softened(visibility(depth_m[part][None], place_m[part][None]), torch.isfinite(depth_m[part][None]))[0]
        alpha = render.alpha.clone()
        for image in (render.rgb, alpha, render.extra):
            if image is not None:
                person.of(image[0], touched)[part].mul_(visible)
        return Render(render.rgb, alpha, render.depth_m, render.extra)

    def _bytes(self, rgb: Tensor, index: int) -> np.ndarray:
        """A fresh copy of the place alone, as 8-bit RGB."""
        if self.turns is not None or self.path is not None:
            return to_uint8(rgb)
        place = self.still if self.plates is None else self.plates[index]
        frame = empty_bytes(place.shape)
        frame[:] = place
        return frame

    def _filmed(self, frame: np.ndarray, people: tuple[Drawn, ...], clock: StageClock, index: int) -> Shot:
        """What lens, sensor and compression do to the frame; the lens moves the masks, too."""
        film = self.film
        with clock.stage("film"):
            if film.distorts:
                grid = lens_grid(self.camera, film.distortion)
                image = torch.from_numpy(frame).permute(2, 0, 1).float().div_(255.0)
                frame = to_uint8(warped(image, grid))
                people = tuple(_through_lens(person, self.camera.size_hw, grid) for person in people)
            if film.grain > 0:
                add_grain(frame, grain=film.grain, seed=(self.seed * 1_000_003 + index) % 2**63)
            if film.jpeg is not None:
                frame = compressed(frame, film.jpeg)
        return Shot(frame, people)


def _together(people: Sequence[Gaussians]) -> Gaussians:
    """All people as one set, so that they hide each other rightly."""
    frames = max((len(p.means) for p in people if p.means.ndim == 3), default=0)

    def joined(name: str, ndim: int) -> Tensor:
        parts = [getattr(p, name) for p in people]
        if any(part.ndim > ndim for part in parts):
            parts = [part if part.ndim > ndim else part.expand(frames, *part.shape) for part in parts]
        return torch.cat(parts, dim=-1 if name == "opacities" else -2)

    return Gaussians(*(joined(n, 1 if n == "opacities" else 2) for n in
                       ("means", "quats", "scales", "opacities", "colors")))  # fmt: skip


def _one_hot(people: Sequence[Gaussians]) -> Float[Tensor, "n people"]:
    """A column of ones for each person's Gaussians."""
    return torch.block_diag(*(torch.ones(len(p), 1) for p in people))


def _each(
    people: Sequence[Gaussians], render: Render, seen: Render, view: Camera, place_m: Tensor | None, window: _Window
) -> tuple[Drawn, ...]:
    """Every person's own part of a frame."""
    at = (window.top, window.left)
    if len(people) == 1 or seen.extra is None:
        return (Drawn(seen.alpha[0, 0], render.alpha[0, 0], render.depth_m[0, 0], place_m, *at),)
    drawn = []
    for number, person in enumerate(people):
        alone = rasterize(person.frame(len(person.means) // 2), view)
        drawn.append(Drawn(seen.extra[0, number], alone.alpha[0, 0], alone.depth_m[0, 0], place_m, *at))
    return tuple(drawn)


def _through_lens(person: Drawn, size_hw: tuple[int, int], grid: Tensor) -> Drawn:
    """A person's arrays as the lens shows them, over the whole frame."""

    def full(values: Tensor, empty: float) -> Tensor:
        whole = torch.full(size_hw, empty)
        height, width = values.shape
        whole[person.top : person.top + height, person.left : person.left + width] = values
        return whole

    def nearest(values: Tensor) -> Tensor:
        sampled = torch.nn.functional.grid_sample(
            values[None, None], grid[None], mode="nearest", padding_mode="border", align_corners=False
        )
        return sampled[0, 0]

    alpha = warped(torch.stack([full(person.alpha, 0.0), full(person.whole, 0.0)]), grid)
    place_m = None if person.place_m is None else nearest(full(person.place_m, torch.inf))
    return Drawn(alpha[0], alpha[1], nearest(full(person.depth_m, torch.inf)), place_m)


@dataclass(frozen=True, slots=True)
class _Window:
    """A rectangle of pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def empty(self) -> bool:
        return min(self.size_hw) < 1

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)

    def joined(self, other: _Window) -> _Window:
        """The smallest window that holds both."""
        if other.empty:
            return self
        low, high = (min(self.top, other.top), min(self.left, other.left)), (self.bottom, self.right)
        return _Window(*low, max(high[0], other.bottom), max(high[1], other.right))

    def of(self, canvas: Tensor, outer: _Window) -> Tensor:
        """The window's part (a view) of a canvas that covers `outer`."""
        top, left = self.top - outer.top, self.left - outer.left
        return canvas[:, top : top + self.size_hw[0], left : left + self.size_hw[1]]


def _window(points: Float[Tensor, "points 3"], camera: Camera, reach_m: float) -> _Window:
    """The part of the image that points and `reach_m` around them cover."""
    seen = camera.to_camera(points)
    front = seen[seen[:, 2] > 0.05]
    if len(front) == 0:
        return _Window(0, 0, 0, 0)
    scale = camera.K[0, 0] / front[:, 2]
    center = front[:, :2] * scale[:, None] + camera.K[:2, 2]
    reach = (reach_m * scale)[:, None] + 2.0
    low, high = (center - reach).amin(0).floor().tolist(), (center + reach).amax(0).ceil().tolist()
    height, width = camera.size_hw
    left, right = (int(min(max(v, 0), width)) for v in (low[0], high[0]))
    top, bottom = (int(min(max(v, 0), height)) for v in (low[1], high[1]))
    return _Window(top, left, bottom, right)
