# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false
# Warp reads the annotations of kernels itself and builds their types when they are launched: no checker knows them.
"""The empty room as a photograph: rays from the camera, procedural colors, light from the lamp and from all around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import warp as wp

from avatars.geometry.camera import Camera
from avatars.geometry.color import linear_array_from_srgb
from avatars.studio.patterns import cloudy
from avatars.studio.raycast import EPSILON_M, Plate, launch, open_sky, sky_directions, vec3s

if TYPE_CHECKING:
    from avatars.studio.rooms import Room


def plate_of(room: Room, camera: Camera, *, samples: int = 2) -> Plate:
    """The empty room seen by a still camera, with exact depth; `samples` squared rays per pixel for its textures."""
    scene = _Scene.of(room)
    height, width = camera.size_hw
    total_key, total_ambient = np.zeros((height, width, 3)), np.zeros((height, width, 3))
    center = scene.cast(camera, 0.5, 0.5)
    key_share, sky_share = scene.openness(room, center)
    for s in range(samples * samples):
        hit = scene.cast(camera, (s % samples + 0.5) / samples, (s // samples + 0.5) / samples)
        albedo, glow = scene.albedo(room, hit)
        irradiance, ambient = scene.irradiance(room, hit, key_share, sky_share)
        total_key += albedo * irradiance
        total_ambient += albedo * ambient + glow
    count = samples * samples
    depth = center.depth.reshape(height, width)
    floor = (np.abs(center.points[:, 1]) < 1e-3) & (center.normals[:, 1] > 0.9) & (center.part >= 0)
    return Plate(total_key / count, total_ambient / count, depth, floor.reshape(height, width))


@dataclass(frozen=True, slots=True)
class _Hit:
    points: np.ndarray
    normals: np.ndarray
    part: np.ndarray
    """Index of the part hit, -1 for the sky."""
    depth: np.ndarray
    directions: np.ndarray
    size_hw: tuple[int, int]


@wp.kernel
def _cast_room(
    mesh: wp.uint64,
    eye: wp.vec3,
    rays: wp.array(dtype=wp.vec3),
    face: wp.array(dtype=int),
    depth: wp.array(dtype=float),
):
    i = wp.tid()
    d = rays[i]
    length = wp.length(d)
    q = wp.mesh_query_ray(mesh, eye, d / length, 200.0)
    face[i] = -1
    depth[i] = wp.inf
    if q.result:
        face[i] = q.face
        depth[i] = q.t / length


@wp.kernel
def _open_room(
    mesh: wp.uint64, points: wp.array(dtype=wp.vec3), normals: wp.array(dtype=wp.vec3), lamp: wp.vec4,
    sky: wp.array(dtype=wp.vec3), count: int, seed: int, out: wp.array(dtype=wp.vec2),
):  # fmt: skip
    """How open each point is to the lamp (place, radius) and to the sky."""
    i = wp.tid()
    n = normals[i]
    start = points[i] + n * EPSILON_M
    state = wp.rand_init(seed, i)
    free = float(0.0)  # noqa: UP018 (warp needs a variable)
    for _ in range(count):
        target = wp.vec3(lamp[0], lamp[1], lamp[2]) + wp.sample_unit_sphere(state) * lamp[3]
        offset = target - start
        distance = wp.length(offset)
        q = wp.mesh_query_ray(mesh, start, offset / distance, distance)
        if not q.result:
            free += 1.0
    out[i] = wp.vec2(free / float(count), open_sky(mesh, start, n, sky, sky.shape[0], 1.2))


@dataclass(frozen=True, slots=True)
class _Scene:
    """A room's triangles in a bounding volume hierarchy."""

    mesh: wp.Mesh
    face_part: np.ndarray
    face_normal: np.ndarray

    @staticmethod
    def of(room: Room) -> _Scene:
        vertices, faces, part, start = [], [], [], 0
        for index, piece in enumerate(room.parts):
            v, f = piece.mesh()
            vertices.append(v)
            faces.append(f + start)
            part.append(np.full(len(f), index))
            start += len(v)
        v, f = np.concatenate(vertices), np.concatenate(faces)
        normal = np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        mesh = wp.Mesh(vec3s(v), wp.array(f.reshape(-1).astype(np.int32), dtype=wp.int32, device="cpu"))
        return _Scene(mesh, np.concatenate(part), normal)

    def cast(self, camera: Camera, dx: float, dy: float) -> _Hit:
        """First hits of the rays at offset (dx, dy) in each pixel."""
        height, width = camera.size_hw
        K, T = camera.K.double().numpy(), camera.T_cam_world.double().numpy()
        eye = -T[:3, :3].T @ T[:3, 3]
        row, column = np.mgrid[:height, :width]
        rays = np.stack(
            [(column + dx - K[0, 2]) / K[0, 0], (row + dy - K[1, 2]) / K[1, 1], np.ones((height, width))], -1
        )
        directions = rays.reshape(-1, 3) @ T[:3, :3]
        face = wp.zeros(height * width, dtype=int, device="cpu")
        depth = wp.zeros(height * width, dtype=float, device="cpu")
        launch(
            _cast_room,
            height * width,
            [self.mesh.id, wp.vec3(*eye), vec3s(directions), face, depth],
        )
        f, z = face.numpy(), depth.numpy().astype(np.float64)
        hit = f >= 0
        points = eye + directions * np.where(hit, z, 0.0)[:, None]
        normals = np.where(hit[:, None], self.face_normal[f], 0.0)
        normals = np.where((normals * directions).sum(1, keepdims=True) > 0, -normals, normals)
        return _Hit(points, normals, np.where(hit, self.face_part[f], -1), z, directions, camera.size_hw)

    def openness(self, room: Room, hit: _Hit) -> tuple[np.ndarray, np.ndarray]:
        """How open each pixel is to the lamp and to the ambient light (pixels,), with their noise smoothed away."""
        out = wp.zeros(len(hit.points), dtype=wp.vec2, device="cpu")
        launch(
            _open_room, len(hit.points),
            [self.mesh.id, vec3s(hit.points), vec3s(hit.normals), wp.vec4(*room.lamp_m, room.lamp_radius_m),
             vec3s(sky_directions(12)), 10, room.seed, out],
        )  # fmt: skip
        values = out.numpy().reshape(*hit.size_hw, 2).astype(np.float64)
        guide = np.concatenate([hit.normals, np.minimum(hit.depth, 100.0)[:, None] * 4], 1).reshape(*hit.size_hw, 4)
        for step in (1, 2, 4):
            values = _smooth_within(values, guide, step)
        return values[..., 0].reshape(-1), values[..., 1].reshape(-1)

    def albedo(self, room: Room, hit: _Hit) -> tuple[np.ndarray, np.ndarray]:
        """Linear albedo and own light (H, W, 3)."""
        color, glow = np.zeros_like(hit.points), np.zeros_like(hit.points)
        for index, piece in enumerate(room.parts):
            here = np.flatnonzero(hit.part == index)
            if len(here):
                c, s = np.cos(np.radians(piece.yaw_deg)), np.sin(np.radians(piece.yaw_deg))
                R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])  # patterns follow the part's own axes
                color[here] = linear_array_from_srgb(piece.paint(hit.points[here] @ R, hit.normals[here] @ R))
                glow[here] = piece.glow * color[here]
        sky = np.flatnonzero(hit.part < 0)
        glow[sky] = _sky(hit.directions[sky], room.seed)
        return color.reshape(*hit.size_hw, 3), glow.reshape(*hit.size_hw, 3)

    def irradiance(
        self, room: Room, hit: _Hit, key_share: np.ndarray, sky_share: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Light on each pixel from the lamp and from all around (H, W, 3)."""
        offset = np.array(room.lamp_m) - hit.points
        distance = np.linalg.norm(offset, axis=1)
        at_person = np.linalg.norm(np.array(room.lamp_m) - [0, 1.0, 0])
        cosine = np.maximum((offset * hit.normals).sum(1) / np.maximum(distance, 1e-6), 0)
        key = cosine * np.minimum((at_person / np.maximum(distance, 0.3)) ** 2, 2.5) * key_share
        up = 0.5 + 0.5 * hit.normals[:, 1]
        ambient = (np.outer(up, room.light.sky_rgb) + np.outer(1 - up, room.light.ground_rgb)) * sky_share[:, None]
        return (key[:, None] * room.light.key_rgb).reshape(*hit.size_hw, 3), ambient.reshape(*hit.size_hw, 3)


def _sky(directions: np.ndarray, seed: int) -> np.ndarray:
    if not len(directions):
        return directions
    up = np.clip(directions[:, 1:2] / np.linalg.norm(directions, axis=1, keepdims=True), 0, 1)
    clouds = cloudy(directions * [1, 3, 1], 0.6, seed, 4)[:, None]
    blue = np.array([0.42, 0.6, 0.88]) * (1 - 0.4 * up) + 0.2 * (1 - up)
    return blue + (0.92 - blue) * np.clip(3 * clouds - 1.3, 0, 1)


def _smooth_within(values: np.ndarray, guide: np.ndarray, step: int) -> np.ndarray:
    """One pass of an edge-avoiding 3 x 3 blur with holes (Dammertz et al. 2010)."""
    total, weight = values.copy(), np.ones(values.shape[:2])[..., None]
    for dy in (-step, 0, step):
        for dx in (-step, 0, step):
            if dx or dy:
                other = np.roll(values, (dy, dx), (0, 1))
                w = np.exp(-np.square(np.roll(guide, (dy, dx), (0, 1)) - guide).sum(-1) * 8.0)[..., None]
                total, weight = total + w * other, weight + w
    return total / weight
