# pyright: reportArgumentType=false, reportAssignmentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false, reportOperatorIssue=false
# Warp reads the annotations of kernels itself and builds their types when they are launched: no checker knows them.
"""A ray caster on the CPU: a posed mesh in front of a still room, with soft shadows and anti-aliased edges, to pixels.

Built on warp's bounding volume hierarchies, independent of `avatars.rasterizer`: nothing is judged by itself.
Colors are linear light until `develop` encodes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from avatars.geometry.camera import Camera
from avatars.geometry.color import srgb_array_from_linear
from avatars.studio.surface import Surface

wp.config.log_level = getattr(wp, "LOG_ERROR", wp.config.log_level)  # not that CUDA is absent
wp.init()

EPSILON_M = 0.004  # rays start this far off a surface
REACH_M = 30.0
SKY_REACH_M = 0.6  # how far away things still darken a surface's ambient light


@dataclass(frozen=True, slots=True)
class Light:
    """One soft key light and a sky above a floor that reflects it; colors are linear, albedo 1 under 1 gives 1."""

    toward_key: np.ndarray
    """(3,) unit direction from the scene to the light."""
    key_rgb: np.ndarray
    key_spread: float
    """Radius of the light over its distance: softness of shadows."""
    sky_rgb: np.ndarray
    ground_rgb: np.ndarray

    def key_directions(self, count: int) -> np.ndarray:
        """(count, 3) unit directions spread evenly over the light (Vogel's spiral)."""
        axis = self.toward_key / np.linalg.norm(self.toward_key)
        side = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
        side /= np.linalg.norm(side)
        k = np.arange(count)
        radius, angle = np.sqrt((k + 0.5) / count) * self.key_spread, k * 2.39996323
        offsets = np.outer(radius * np.cos(angle), side) + np.outer(radius * np.sin(angle), np.cross(axis, side))
        directions = axis + offsets
        return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def sky_directions(count: int) -> np.ndarray:
    """(count, 3) cosine-weighted directions about +Z (Vogel's spiral lifted onto the sphere, Malley's method)."""
    k = np.arange(count)
    radius, angle = np.sqrt((k + 0.5) / count), k * 2.39996323 + 0.4
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)], 1).astype(np.float32)


@wp.struct
class Eye:
    """A pinhole camera in the kernels."""

    fx: float
    fy: float
    cx: float
    cy: float
    R_world_cam: wp.mat33
    place: wp.vec3


@wp.struct
class Lamp:
    """`Light` in the kernels."""

    toward_key: wp.vec3
    key_rgb: wp.vec3
    sky_rgb: wp.vec3
    ground_rgb: wp.vec3


@wp.struct
class FloorPatch:
    """Square of the floor that the person may shade: corner, cell size and cells per side."""

    x: float
    z: float
    cell: float
    n: int


@wp.struct
class Figure:
    """A posed surface in the kernels: its triangles, and by vertex, triangle or texel what is seen of them."""

    mesh: wp.uint64
    points: wp.array(dtype=wp.vec3)
    normals: wp.array(dtype=wp.vec3)
    openness: wp.array(dtype=wp.vec2)
    """Of each vertex to the key light and to the sky."""
    faces: wp.array2d(dtype=int)
    texels: wp.array(dtype=wp.vec3)
    first_texel: wp.array(dtype=int)
    resolution: wp.array(dtype=int)
    finish: wp.array(dtype=wp.vec2)
    """Gloss and wrap of each triangle."""


@wp.struct
class Rays:
    """Directions to lights in the kernels."""

    key: wp.array(dtype=wp.vec3)
    """To the key light."""
    sky: wp.array(dtype=wp.vec3)
    """About +Z, weighted by the cosine."""
    sky_reach: float


@wp.struct
class Backdrop:
    """`Plate` in the kernels, and the light that the person leaves on its floor."""

    key: wp.array2d(dtype=wp.vec3)
    ambient: wp.array2d(dtype=wp.vec3)
    depth: wp.array2d(dtype=float)
    is_floor: wp.array2d(dtype=wp.uint8)
    patch: FloorPatch
    floor: wp.array2d(dtype=wp.vec2)


@wp.struct
class Exposure:
    """What a frame becomes."""

    rgb: wp.array2d(dtype=wp.vec3)
    """Linear light."""
    coverage: wp.array2d(dtype=float)
    depth: wp.array2d(dtype=float)


def eye_of(camera: Camera) -> Eye:
    """The camera for the kernels."""
    K, T = camera.K.numpy(), camera.T_cam_world.numpy()
    eye = Eye()
    eye.fx, eye.fy, eye.cx, eye.cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
    R = T[:3, :3].T
    eye.R_world_cam = wp.mat33(*[float(v) for v in R.reshape(-1)])
    eye.place = wp.vec3(*[float(v) for v in -R @ T[:3, 3]])
    return eye


def lamp_of(light: Light) -> Lamp:
    """The light for the kernels."""
    lamp = Lamp()
    for name in ("toward_key", "key_rgb", "sky_rgb", "ground_rgb"):
        setattr(lamp, name, wp.vec3(*[float(v) for v in getattr(light, name)]))
    return lamp


@wp.func
def ray_through(eye: Eye, x: float, y: float) -> wp.vec3:
    """World direction through image point (x, y) px, scaled so that its camera z is one."""
    return eye.R_world_cam * wp.vec3((x - eye.cx) / eye.fx, (y - eye.cy) / eye.fy, 1.0)


@wp.func
def open_share(
    mesh: wp.uint64, start: wp.vec3, normal: wp.vec3, directions: wp.array(dtype=wp.vec3), count: int, reach: float
) -> float:
    """Share of the directions above the surface along which nothing is hit."""
    free = float(0.0)  # noqa: UP018 (warp needs a variable)
    total = float(1e-6)  # noqa: UP018 (warp needs a variable)
    for k in range(count):
        d = directions[k]
        if wp.dot(d, normal) > 0.0:
            total += 1.0
            q = wp.mesh_query_ray(mesh, start, d, reach)
            if not q.result:
                free += 1.0
    return free / total


@wp.func
def open_sky(
    mesh: wp.uint64, start: wp.vec3, normal: wp.vec3, directions: wp.array(dtype=wp.vec3), count: int, reach: float
) -> float:
    """Share of a cosine-weighted hemisphere about the normal that is open within `reach`."""
    helper = wp.vec3(0.0, 1.0, 0.0)
    if wp.abs(normal[1]) > 0.9:
        helper = wp.vec3(1.0, 0.0, 0.0)
    s = wp.normalize(wp.cross(helper, normal))
    t = wp.cross(normal, s)
    free = float(0.0)  # noqa: UP018 (warp needs a variable)
    for k in range(count):
        d = directions[k]
        q = wp.mesh_query_ray(mesh, start, d[0] * s + d[1] * t + d[2] * normal, reach)
        if not q.result:
            free += 1.0
        else:
            free += 0.5 * wp.min(q.t / reach, 1.0)
    return free / float(count)


@wp.kernel
def light_points(figure: Figure, viewer: wp.vec3, rays: Rays):
    """How open (in [0, 1]) each point is to the key light and to the sky; those out of sight are skipped."""
    i = wp.tid()
    p = figure.points[i]
    n = figure.normals[i]
    if wp.dot(n, wp.normalize(viewer - p)) < -0.2:
        figure.openness[i] = wp.vec2(1.0, 1.0)
        return
    start = p + n * EPSILON_M
    figure.openness[i] = wp.vec2(
        open_share(figure.mesh, start, n, rays.key, rays.key.shape[0], REACH_M),
        open_sky(figure.mesh, start, n, rays.sky, rays.sky.shape[0], rays.sky_reach),
    )


@wp.kernel
def shade_floor(
    mesh: wp.uint64,
    patch: FloorPatch,
    key: wp.array(dtype=wp.vec3),
    sky: wp.array(dtype=wp.vec3),
    out: wp.array2d(dtype=wp.vec2),
):
    """How open the floor is to the key light and to the sky, on a grid."""
    i, j = wp.tid()
    start = wp.vec3(patch.x + float(j) * patch.cell, 0.002, patch.z + float(i) * patch.cell)
    up = wp.vec3(0.0, 1.0, 0.0)
    out[i, j] = wp.vec2(
        open_share(mesh, start, up, key, key.shape[0], REACH_M), open_sky(mesh, start, up, sky, sky.shape[0], 0.8)
    )


@wp.func
def floor_light(patch: FloorPatch, grid: wp.array2d(dtype=wp.vec2), x: float, z: float) -> wp.vec2:
    """Bilinear look-up in the floor's grid; fully open outside it."""
    u = (x - patch.x) / patch.cell
    v = (z - patch.z) / patch.cell
    if u < 0.0 or v < 0.0 or u >= float(patch.n - 1) or v >= float(patch.n - 1):
        return wp.vec2(1.0, 1.0)
    j = int(u)
    i = int(v)
    a = u - float(j)
    b = v - float(i)
    top = grid[i, j] * (1.0 - a) + grid[i, j + 1] * a
    bottom = grid[i + 1, j] * (1.0 - a) + grid[i + 1, j + 1] * a
    return top * (1.0 - b) + bottom * b


@wp.func
def texel(texels: wp.array(dtype=wp.vec3), first: int, n: int, i: int, j: int) -> wp.vec3:
    return texels[first + i * (n + 1) - (i * (i - 1)) / 2 + j]


@wp.func
def mesh_color(texels: wp.array(dtype=wp.vec3), first: int, n: int, b1: float, b2: float) -> wp.vec3:
    """Color inside a triangle whose edges carry n + 1 samples (mesh colors, Yuksel et al. 2010)."""
    x = wp.clamp(b1, 0.0, 1.0) * float(n)
    y = wp.clamp(b2, 0.0, 1.0) * float(n)
    i = wp.min(int(x), n - 1)
    j = wp.min(int(y), n - 1 - i)
    if j < 0:
        j = 0
    a = wp.clamp(x - float(i), 0.0, 1.0)
    b = wp.clamp(y - float(j), 0.0, 1.0)
    c10 = texel(texels, first, n, i + 1, j)
    c01 = texel(texels, first, n, i, j + 1)
    if a + b <= 1.0 or i + j + 2 > n:
        c00 = texel(texels, first, n, i, j)
        return c00 + (c10 - c00) * a + (c01 - c00) * b
    c11 = texel(texels, first, n, i + 1, j + 1)
    return c11 + (c01 - c11) * (1.0 - a) + (c10 - c11) * (1.0 - b)


@wp.func
def shade(
    albedo: wp.vec3, n: wp.vec3, to_eye: wp.vec3, openness: wp.vec2, gloss: float, wrap: float, lamp: Lamp
) -> wp.vec3:
    """Wrapped Lambert key light, hemisphere ambient, a little Blinn-Phong sheen."""
    cosine = wp.dot(n, lamp.toward_key)
    key = wp.max(0.0, (cosine + wrap) / (1.0 + wrap)) * openness[0]
    sky = 0.5 + 0.5 * n[1]
    ambient = (lamp.sky_rgb * sky + lamp.ground_rgb * (1.0 - sky)) * openness[1]
    halfway = wp.normalize(lamp.toward_key + to_eye)
    sheen = gloss * wp.pow(wp.max(0.0, wp.dot(n, halfway)), 24.0) * key
    return wp.cw_mul(albedo, lamp.key_rgb * key + ambient) + lamp.key_rgb * sheen


@wp.func
def color_at(figure: Figure, q: wp.MeshQueryRay, ray: wp.vec3, lamp: Lamp) -> wp.vec3:
    """Linear light from where a ray (any length) meets the figure, toward its start."""
    b0 = q.u
    b1 = q.v
    b2 = 1.0 - b0 - b1
    f = q.face
    i0 = figure.faces[f, 0]
    i1 = figure.faces[f, 1]
    i2 = figure.faces[f, 2]
    n = wp.normalize(figure.normals[i0] * b0 + figure.normals[i1] * b1 + figure.normals[i2] * b2)
    if wp.dot(n, ray) > 0.0 and wp.dot(q.normal, ray) > 0.0:
        n = -n  # inside of a sleeve or hem
    o = figure.openness[i0] * b0 + figure.openness[i1] * b1 + figure.openness[i2] * b2
    albedo = mesh_color(figure.texels, figure.first_texel[f], figure.resolution[f], b1, b2)
    return shade(albedo, n, -ray / wp.length(ray), o, figure.finish[f][0], figure.finish[f][1], lamp)


@wp.func
def behind(room: Backdrop, eye: Eye, row: int, column: int) -> wp.vec3:
    """Linear light from the room, with the person's shadow on its floor."""
    light = wp.vec2(1.0, 1.0)
    if room.is_floor[row, column] > wp.uint8(0):
        d = ray_through(eye, float(column) + 0.5, float(row) + 0.5)
        p = eye.place + d * room.depth[row, column]
        light = floor_light(room.patch, room.floor, p[0], p[2])
    return room.key[row, column] * light[0] + room.ambient[row, column] * light[1]


@wp.kernel
def photograph(figure: Figure, room: Backdrop, eye: Eye, lamp: Lamp, box: wp.vec4i, samples: int, out: Exposure):
    """One frame in linear light: the person over the room where nearer, their shadow, coverage and depth."""
    row, column = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    covered = float(0.0)  # noqa: UP018 (warp needs a variable)
    nearest = float(wp.inf)
    if row >= box[0] and row < box[2] and column >= box[1] and column < box[3]:
        for s in range(samples * samples):
            x = float(column) + (float(s % samples) + 0.5) / float(samples)
            y = float(row) + (float(s / samples) + 0.5) / float(samples)
            d = ray_through(eye, x, y)
            length = wp.length(d)
            q = wp.mesh_query_ray(figure.mesh, eye.place, d / length, REACH_M)
            if q.result and q.t / length < room.depth[row, column]:
                total += color_at(figure, q, d, lamp)
                covered += 1.0
                nearest = wp.min(nearest, q.t / length)
    share = covered / float(samples * samples)
    out.rgb[row, column] = total / float(samples * samples) + behind(room, eye, row, column) * (1.0 - share)
    out.coverage[row, column] = share
    out.depth[row, column] = nearest


CURVE_STEPS = 4096
GRAIN_SIDE = 256


def _display_curve() -> np.ndarray:
    """Bytes (CURVE_STEPS,) for linear light at squares of even steps up to 2: a shoulder, then sRGB."""
    linear = 2.0 * np.square(np.linspace(0.0, 1.0, CURVE_STEPS))
    linear = np.where(linear > 0.8, 0.8 + 0.2 * (1.0 - np.exp(-(linear - 0.8) / 0.2)), linear)
    return np.clip(255.0 * srgb_array_from_linear(linear), 0.0, 255.0).astype(np.float32)


@wp.kernel
def develop(
    rgb: wp.array2d(dtype=wp.vec3),
    curve: wp.array(dtype=float),
    grain: wp.array2d(dtype=wp.vec3),
    noise: float,
    seed: int,
    out: wp.array3d(dtype=wp.uint8),
):
    """Linear light to sRGB bytes with shot and read noise of relative strength `noise`.

    The noise is a tile of normal numbers laid down at a place that changes with the seed and the tile.
    """
    row, column = wp.tid()
    tile = wp.rand_init(seed, (row / GRAIN_SIDE) * 4096 + column / GRAIN_SIDE)
    shift = wp.randi(tile)
    i = (row + (shift & 255)) % GRAIN_SIDE
    j = (column + ((shift >> 8) & 255)) % GRAIN_SIDE
    n = grain[i, j]
    light = rgb[row, column]
    for c in range(3):
        v = wp.max(light[c], 0.0)
        v += noise * wp.sqrt(0.0004 * v + 0.000002) * n[c]
        step = wp.sqrt(wp.clamp(0.5 * v, 0.0, 1.0)) * float(CURVE_STEPS - 1)
        out[row, column, c] = wp.uint8(curve[int(step + 0.5)] + 0.5)


def vec3s(values: np.ndarray) -> wp.array:
    """A warp array of vectors on the CPU."""
    return wp.array(np.ascontiguousarray(values, np.float32).reshape(-1, 3), dtype=wp.vec3, device="cpu")


@dataclass(frozen=True, slots=True)
class Plate:
    """The empty room as one camera sees it: light split by source, so that a person's shadow can be laid on it."""

    key_linear: np.ndarray
    """(H, W, 3) light from the key lamp, as reflected."""
    ambient_linear: np.ndarray
    depth_m: np.ndarray
    """(H, W) camera z, +inf outside."""
    is_floor: np.ndarray
    """(H, W) bool."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame: sRGB bytes (H, W, 3), the person's coverage (H, W) uint8 and depth (H, W) m, +inf where absent."""

    rgb: np.ndarray
    mask: np.ndarray
    depth_m: np.ndarray


def figure_of(surface: Surface, points: wp.array, mesh: wp.Mesh) -> Figure:
    """A surface for the kernels, on a mesh of its points. It must be painted."""
    paint = surface.paint
    assert paint is not None, "a surface is painted before it is photographed"
    figure = Figure()
    figure.mesh, figure.points = mesh.id, points
    figure.normals = wp.zeros_like(points)
    figure.openness = wp.zeros(len(surface.rest), dtype=wp.vec2, device="cpu")
    figure.faces = wp.array(np.ascontiguousarray(surface.faces, np.int32), dtype=int, device="cpu", ndim=2)
    figure.texels = vec3s(paint.texels_linear)
    figure.first_texel = wp.array(paint.first_texel.astype(np.int32), dtype=int, device="cpu")
    figure.resolution = wp.array(paint.resolution.astype(np.int32), dtype=int, device="cpu")
    figure.finish = wp.array(paint.finish.astype(np.float32), dtype=wp.vec2, device="cpu")
    return figure


def backdrop_of(plate: Plate) -> Backdrop:
    """A plate for the kernels; nobody's shadow is on it yet."""
    room = Backdrop()
    room.key = wp.array(plate.key_linear.astype(np.float32), dtype=wp.vec3, device="cpu")
    room.ambient = wp.array(plate.ambient_linear.astype(np.float32), dtype=wp.vec3, device="cpu")
    room.depth = wp.array(plate.depth_m.astype(np.float32), dtype=float, device="cpu")
    room.is_floor = wp.array(plate.is_floor.astype(np.uint8), dtype=wp.uint8, device="cpu")
    return room


class Studio:
    """One surface before one plate, seen by one still camera: `shoot` makes a frame of each pose."""

    def __init__(
        self,
        surface: Surface,
        plate: Plate,
        camera: Camera,
        light: Light,
        *,
        samples: int = 2,
        noise: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.surface, self.camera, self.size_hw = surface, camera, camera.size_hw
        self._samples, self._noise, self._seed = samples, noise, seed
        self._eye, self._lamp = eye_of(camera), lamp_of(light)
        self._key_floor, self._sky_floor = vec3s(light.key_directions(8)), vec3s(sky_directions(8))
        self._rays = Rays()
        self._rays.key, self._rays.sky = vec3s(light.key_directions(3)), vec3s(sky_directions(4))
        self._rays.sky_reach = SKY_REACH_M
        self._points = wp.zeros(len(surface.rest), dtype=wp.vec3, device="cpu")
        self._points.numpy()[:] = surface.rest
        corners = np.ascontiguousarray(surface.faces, np.int32).reshape(-1)
        self._mesh = wp.Mesh(self._points, wp.array(corners, dtype=wp.int32, device="cpu"))
        self._figure, self._room = figure_of(surface, self._points, self._mesh), backdrop_of(plate)
        grain = np.random.default_rng(seed).standard_normal((GRAIN_SIDE, GRAIN_SIDE, 3)).astype(np.float32)
        self._grain = wp.array(grain, dtype=wp.vec3, device="cpu")
        self._curve = wp.array(_display_curve(), dtype=float, device="cpu")
        self._exposure = Exposure()
        self._exposure.rgb = wp.zeros(self.size_hw, dtype=wp.vec3, device="cpu")
        self._exposure.coverage = wp.zeros(self.size_hw, dtype=float, device="cpu")
        self._exposure.depth = wp.zeros(self.size_hw, dtype=float, device="cpu")
        self._bytes = wp.zeros((*self.size_hw, 3), dtype=wp.uint8, device="cpu")

    def shoot(self, vertices: np.ndarray, index: int) -> Shot:
        """Photograph posed `vertices` (vertices, 3) m; `index` is the frame's number, which seeds its noise."""
        self._photograph(vertices, self._box(vertices))
        return self._developed(self._noise, self._seed * 1_000_003 % 2**30 + index)

    def shoot_room(self, vertices: np.ndarray) -> np.ndarray:
        """The room as sRGB bytes (H, W, 3) with the shadow that posed `vertices` cast, but without them and noise."""
        self._photograph(vertices, wp.vec4i(0, 0, 0, 0))
        return self._developed(0.0, 0).rgb

    def _photograph(self, vertices: np.ndarray, box: wp.vec4i) -> None:
        self._points.numpy()[:] = vertices
        self._figure.normals.numpy()[:] = self.surface.normals(vertices)
        self._mesh.refit()
        launch(light_points, len(vertices), [self._figure, self._eye.place, self._rays])
        self._room.patch, self._room.floor = self._shaded_floor(vertices)
        seen = [self._figure, self._room, self._eye, self._lamp, box, self._samples, self._exposure]
        launch(photograph, self.size_hw, seen)

    def _developed(self, noise: float, noise_seed: int) -> Shot:
        film = self._exposure
        launch(develop, self.size_hw, [film.rgb, self._curve, self._grain, noise, noise_seed, self._bytes])
        mask = np.rint(film.coverage.numpy() * 255).astype(np.uint8)
        return Shot(self._bytes.numpy().copy(), mask, film.depth.numpy().copy())

    def _shaded_floor(self, vertices: np.ndarray) -> tuple[FloorPatch, wp.array]:
        patch = FloorPatch()
        patch.n, patch.cell = 72, 0.045
        center = vertices.mean(0) - 0.4 * np.array(self._lamp.toward_key) * [1, 0, 1]
        # Snapped to whole cells, so that shadows do not crawl.
        patch.x, patch.z = (float(np.floor(center[k] / patch.cell) - patch.n / 2) * patch.cell for k in (0, 2))
        grid = wp.zeros((patch.n, patch.n), dtype=wp.vec2, device="cpu")
        launch(shade_floor, (patch.n, patch.n), [self._mesh.id, patch, self._key_floor, self._sky_floor, grid])
        return patch, grid

    def _box(self, vertices: np.ndarray) -> wp.vec4i:
        import torch

        xy = self.camera.project(torch.from_numpy(np.ascontiguousarray(vertices, np.float32))).numpy()
        height, width = self.size_hw
        low, high = np.floor(xy.min(0)) - 1, np.ceil(xy.max(0)) + 2
        left, right = (int(np.clip(v, 0, width)) for v in (low[0], high[0]))
        top, bottom = (int(np.clip(v, 0, height)) for v in (low[1], high[1]))
        return wp.vec4i(top, left, bottom, right)


def launch(kernel: wp.Kernel, dim: int | tuple[int, ...], inputs: list) -> None:
    """Run a kernel on the CPU; warp releases Python's lock meanwhile, so threads run side by side."""
    wp.launch(kernel, dim=dim, inputs=inputs, device="cpu")


def developed(plate: Plate) -> np.ndarray:
    """The empty room as sRGB bytes (H, W, 3), without noise."""
    linear = wp.array((plate.key_linear + plate.ambient_linear).astype(np.float32), dtype=wp.vec3, device="cpu")
    out = wp.zeros((*plate.depth_m.shape, 3), dtype=wp.uint8, device="cpu")
    curve = wp.array(_display_curve(), dtype=float, device="cpu")
    grain = wp.zeros((GRAIN_SIDE, GRAIN_SIDE), dtype=wp.vec3, device="cpu")
    launch(develop, plate.depth_m.shape, [linear, curve, grain, 0.0, 0, out])
    return out.numpy().copy()
