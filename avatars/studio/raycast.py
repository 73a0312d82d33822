"""A ray caster on the CPU: a posed mesh in front of a still room, with soft shadows and anti-aliased edges, to pixels.

Built on warp's bounding volume hierarchies, independent of `avatars.rasterizer`: nothing is judged by itself.
Colors are linear light until `develop` encodes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from avatars.camera import Camera
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
def light_points(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    viewer: wp.vec3,
    key: wp.array(dtype=wp.vec3),
    sky: wp.array(dtype=wp.vec3),
    sky_reach: float,
    both_sides: int,
    out: wp.array(dtype=wp.vec2),
):
    """How open (in [0, 1]) each point is to the key light and to the sky; those out of sight are skipped."""
    i = wp.tid()
    p = points[i]
    n = normals[i]
    if both_sides == 0 and wp.dot(n, wp.normalize(viewer - p)) < -0.2:
        out[i] = wp.vec2(1.0, 1.0)
        return
    start = p + n * EPSILON_M
    out[i] = wp.vec2(
        open_share(mesh, start, n, key, key.shape[0], REACH_M), open_sky(mesh, start, n, sky, sky.shape[0], sky_reach)
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


@wp.kernel
def photograph(
    mesh: wp.uint64,
    faces: wp.array2d(dtype=int),
    normals: wp.array(dtype=wp.vec3),
    openness: wp.array(dtype=wp.vec2),
    texels: wp.array(dtype=wp.vec3),
    first_texel: wp.array(dtype=int),
    resolution: wp.array(dtype=int),
    finish: wp.array(dtype=wp.vec2),
    eye: Eye,
    lamp: Lamp,
    box: wp.vec4i,
    samples: int,
    room_key: wp.array2d(dtype=wp.vec3),
    room_ambient: wp.array2d(dtype=wp.vec3),
    room_depth: wp.array2d(dtype=float),
    is_floor: wp.array2d(dtype=wp.uint8),
    patch: FloorPatch,
    floor: wp.array2d(dtype=wp.vec2),
    rgb: wp.array2d(dtype=wp.vec3),
    coverage: wp.array2d(dtype=float),
    depth: wp.array2d(dtype=float),
):
    """One frame in linear light: the person over the room where nearer, their shadow, coverage and depth."""
    row, column = wp.tid()
    room = room_depth[row, column]
    light = wp.vec2(1.0, 1.0)
    if is_floor[row, column] > wp.uint8(0):
        d = ray_through(eye, float(column) + 0.5, float(row) + 0.5)
        p = eye.place + d * room
        light = floor_light(patch, floor, p[0], p[2])
    behind = room_key[row, column] * light[0] + room_ambient[row, column] * light[1]
    total = wp.vec3(0.0, 0.0, 0.0)
    covered = float(0.0)  # noqa: UP018 (warp needs a variable)
    nearest = float(wp.inf)
    if row >= box[0] and row < box[2] and column >= box[1] and column < box[3]:
        for s in range(samples * samples):
            x = float(column) + (float(s % samples) + 0.5) / float(samples)
            y = float(row) + (float(s / samples) + 0.5) / float(samples)
            d = ray_through(eye, x, y)
            length = wp.length(d)
            q = wp.mesh_query_ray(mesh, eye.place, d / length, REACH_M)
            if q.result and q.t / length < room:
                b0 = q.u
                b1 = q.v
                b2 = 1.0 - b0 - b1
                f = q.face
                i0 = faces[f, 0]
                i1 = faces[f, 1]
                i2 = faces[f, 2]
                n = wp.normalize(normals[i0] * b0 + normals[i1] * b1 + normals[i2] * b2)
                if wp.dot(n, d) > 0.0 and wp.dot(q.normal, d) > 0.0:
                    n = -n  # inside of a sleeve or hem
                o = openness[i0] * b0 + openness[i1] * b1 + openness[i2] * b2
                albedo = mesh_color(texels, first_texel[f], resolution[f], b1, b2)
                total += shade(albedo, n, -d / length, o, finish[f][0], finish[f][1], lamp)
                covered += 1.0
                nearest = wp.min(nearest, q.t / length)
    share = covered / float(samples * samples)
    rgb[row, column] = total / float(samples * samples) + behind * (1.0 - share)
    coverage[row, column] = share
    depth[row, column] = nearest


CURVE_STEPS = 4096
GRAIN_SIDE = 256


def _display_curve() -> np.ndarray:
    """Bytes (CURVE_STEPS,) for linear light at squares of even steps up to 2: a shoulder, then sRGB."""
    linear = 2.0 * np.square(np.linspace(0.0, 1.0, CURVE_STEPS))
    linear = np.where(linear > 0.8, 0.8 + 0.2 * (1.0 - np.exp(-(linear - 0.8) / 0.2)), linear)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)
    return np.clip(255.0 * srgb, 0.0, 255.0).astype(np.float32)


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
        self._key, self._key_floor = vec3s(light.key_directions(3)), vec3s(light.key_directions(8))
        self._sky, self._sky_floor = vec3s(sky_directions(4)), vec3s(sky_directions(8))
        faces = np.ascontiguousarray(surface.faces, np.int32)
        self._faces = wp.array(faces, dtype=int, device="cpu", ndim=2)
        self._points = wp.zeros(len(surface.rest), dtype=wp.vec3, device="cpu")
        self._normals = wp.zeros_like(self._points)
        self._openness = wp.zeros(len(surface.rest), dtype=wp.vec2, device="cpu")
        self._points.numpy()[:] = surface.rest
        self._mesh = wp.Mesh(self._points, wp.array(faces.reshape(-1), dtype=wp.int32, device="cpu"))
        paint = surface.paint
        assert paint is not None, "a surface is painted before it is photographed"
        self._texels = vec3s(paint.texels_linear)
        self._first = wp.array(paint.first_texel.astype(np.int32), dtype=int, device="cpu")
        self._resolution = wp.array(paint.resolution.astype(np.int32), dtype=int, device="cpu")
        self._finish = wp.array(paint.finish.astype(np.float32), dtype=wp.vec2, device="cpu")
        height, width = self.size_hw
        self._room_key = wp.array(plate.key_linear.astype(np.float32), dtype=wp.vec3, device="cpu")
        self._room_ambient = wp.array(plate.ambient_linear.astype(np.float32), dtype=wp.vec3, device="cpu")
        self._room_depth = wp.array(plate.depth_m.astype(np.float32), dtype=float, device="cpu")
        self._is_floor = wp.array(plate.is_floor.astype(np.uint8), dtype=wp.uint8, device="cpu")
        grain = np.random.default_rng(seed).standard_normal((GRAIN_SIDE, GRAIN_SIDE, 3)).astype(np.float32)
        self._grain = wp.array(grain, dtype=wp.vec3, device="cpu")
        self._curve = wp.array(_display_curve(), dtype=float, device="cpu")
        self._rgb = wp.zeros((height, width), dtype=wp.vec3, device="cpu")
        self._coverage = wp.zeros((height, width), dtype=float, device="cpu")
        self._depth = wp.zeros((height, width), dtype=float, device="cpu")
        self._bytes = wp.zeros((height, width, 3), dtype=wp.uint8, device="cpu")

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
        self._normals.numpy()[:] = self.surface.normals(vertices)
        self._mesh.refit()
        launch(
            light_points, len(vertices),
            [self._mesh.id, self._points, self._normals, self._eye.place, self._key, self._sky, SKY_REACH_M, 0,
             self._openness],
        )  # fmt: skip
        patch, floor = self._shaded_floor(vertices)
        launch(
            photograph, self.size_hw,
            [
                self._mesh.id, self._faces, self._normals, self._openness, self._texels, self._first, self._resolution,
                self._finish, self._eye, self._lamp, box, self._samples, self._room_key,
                self._room_ambient, self._room_depth, self._is_floor, patch, floor, self._rgb, self._coverage,
                self._depth,
            ],
        )  # fmt: skip

    def _developed(self, noise: float, noise_seed: int) -> Shot:
        launch(develop, self.size_hw, [self._rgb, self._curve, self._grain, noise, noise_seed, self._bytes])
        mask = np.rint(self._coverage.numpy() * 255).astype(np.uint8)
        return Shot(self._bytes.numpy().copy(), mask, self._depth.numpy().copy())

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
