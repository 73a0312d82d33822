"""How far the light that is read from a picture of a room is from the room's own, beside the presets.

    python scripts/benchmarks/benchmark_light.py [--rooms 14] [--seed 200]

Rooms and yards of the studio, of which every third is a yard, seen by cameras of random places. All their lamps hang on
the camera's side of the person, as the estimate supposes: a picture against the light does worse.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from avatars.geometry.camera import Camera
from avatars.studio.plates import plate_of
from avatars.studio.raycast import Light, developed
from avatars.studio.rooms import Room
from compose.places.light import PlaceLight, estimated_light, preset_light

PRESETS = ("day", "overcast", "night", "indoor")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms", type=int, default=14)
    parser.add_argument("--seed", type=int, default=200, help="of the first room")
    options = parser.parse_args()
    angle_deg, irradiance = defaultdict(list), defaultdict(list)
    for seed in range(options.seed, options.seed + options.rooms):
        room, camera = Room.sample(seed, outdoors=seed % 3 == 0), view_of(seed)
        picture = developed(plate_of(room, camera, samples=1)).astype(np.float32) / 255
        normals = seen_normals(camera)
        for name in ("estimated", *PRESETS):
            rgb = torch.from_numpy(picture).permute(2, 0, 1)
            light = estimated_light(rgb, camera) if name == "estimated" else preset_light(name)
            angle_deg[name].append(angle_between_deg(light, room.light))
            irradiance[name].append(irradiance_error(light, room.light, normals))
    rows = {n: {"angle_deg": np.mean(angle_deg[n]), "irradiance_rms": np.mean(irradiance[n])} for n in angle_deg}
    print(json.dumps({n: {k: round(float(v), 3) for k, v in row.items()} for n, row in rows.items()}, indent=1))


def view_of(seed: int) -> Camera:
    """A camera that looks at where a person would stand."""
    rng = np.random.default_rng([seed, 77])
    eye = torch.tensor([rng.uniform(-0.6, 0.6), rng.uniform(1.2, 1.65), rng.uniform(3.0, 4.2)], dtype=torch.float32)
    target = torch.tensor([rng.uniform(-0.8, 0.8), rng.uniform(0.7, 1.1), 0.0], dtype=torch.float32)
    return Camera.looking_at(eye, target, focal_px=60.0, size_hw=(60, 80))


def seen_normals(camera: Camera) -> Tensor:
    """Directions (n, 3) of surfaces that face the camera, evenly spread."""
    normals = torch.nn.functional.normalize(torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    return normals[normals @ camera.T_cam_world[2, :3] < 0]


def angle_between_deg(light: PlaceLight, true: Light) -> float:
    """Between the directions to the key lights."""
    toward = np.asarray(true.toward_key) / np.linalg.norm(true.toward_key)
    return float(np.degrees(np.arccos(np.clip(np.dot(light.to_light, toward), -1, 1))))


def irradiance_error(light: PlaceLight, true: Light, normals: Tensor) -> float:
    """Relative root-mean-square error on `normals`, once both are equally bright on average."""
    toward = torch.as_tensor(np.asarray(true.toward_key), dtype=torch.float32)
    key, sky, ground = (torch.as_tensor(np.asarray(v), dtype=torch.float32) for v in
                        (true.key_rgb, true.sky_rgb, true.ground_rgb))  # fmt: skip
    facing = (normals @ torch.nn.functional.normalize(toward, dim=0)).clamp_min(0.0)[:, None]
    up = 0.5 + 0.5 * normals[:, 1:2]
    wanted, found = facing * key + up * sky + (1 - up) * ground, light.irradiance(normals)
    return float((found / found.mean() / (wanted / wanted.mean()) - 1).square().mean().sqrt())


if __name__ == "__main__":
    main()
