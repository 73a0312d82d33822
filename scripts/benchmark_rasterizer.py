"""Times the CPU rasterizer on a body-like scene, beside plain PyTorch on the same machine in the same run.

Measured with `OMP_WAIT_POLICY=PASSIVE python scripts/benchmark_rasterizer.py --gaussians 100000 --sizes-px 512` on a
Xeon with AVX-512, two cores, other work beside it (load 2.2 before the run): 100,000 Gaussians, a body 440 px tall in
512x512, median wall time (processor time).
- One thread: 13.2 (12.3) ms forward, 26.6 (26.5) ms forward and backward.
- Two threads: 7.3 (11.7) ms forward, 16.3 (25.3) ms forward and backward.
- The PyTorch reference takes 871 times our processor time forward for 2,000 Gaussians in 64x64, 673 with backward.
OpenMP's waiting threads must sleep (PASSIVE, as the commands set it) where other work runs: PyTorch's own operations
between the calls spin otherwise.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from avatars.camera import Camera
from avatars.gaussians import Gaussians
from avatars.rasterizer import rasterize
from avatars.rasterizer.cpu import extension

BODY_HEIGHT_M = 1.75
BODY_HEIGHT_OF_IMAGE = 440 / 512

# Limbs as (start, end, radius) in meters, +Y up, standing on y = 0 with the arms a little out.
_CAPSULES = [
    ((0.00, 1.62, 0.0), (0.00, 1.65, 0.0), 0.100),
    ((0.00, 0.98, 0.0), (0.00, 1.38, 0.0), 0.145),
    ((-0.19, 1.42, 0.0), (-0.45, 1.02, 0.0), 0.048),
    ((0.19, 1.42, 0.0), (0.45, 1.02, 0.0), 0.048),
    ((-0.45, 1.02, 0.0), (-0.55, 0.75, 0.06), 0.040),
    ((0.45, 1.02, 0.0), (0.55, 0.75, 0.06), 0.040),
    ((-0.10, 0.92, 0.0), (-0.12, 0.50, 0.0), 0.080),
    ((0.10, 0.92, 0.0), (0.12, 0.50, 0.0), 0.080),
    ((-0.12, 0.50, 0.0), (-0.13, 0.06, 0.0), 0.055),
    ((0.12, 0.50, 0.0), (0.13, 0.06, 0.0), 0.055),
]


@dataclass(frozen=True)
class Options:
    """What to time."""

    json: Path | None = None
    """Write the numbers here."""
    gaussians: tuple[int, ...] = (40_000, 100_000, 170_000)
    sizes_px: tuple[int, ...] = (256, 512, 1024)
    """Side of the square image."""
    repeats: int = 40
    """Medians are over this many runs."""
    peers: bool = True
    """Time plain PyTorch too (takes a minute)."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds; "both" is forward and backward to all fields and the camera pose."""

    implementation: str
    gaussians: int
    size_px: int
    threads: int
    forward_ms: float
    """Median wall time, which on a busy machine says more about its other work."""
    both_ms: float
    forward_best_ms: float
    """Least wall time."""
    both_best_ms: float
    forward_cpu_ms: float
    """Median processor time, all threads together."""
    both_cpu_ms: float


def body(n: int, seed: int = 0) -> Gaussians:
    """`n` flat Gaussians evenly over the surface of a body of capsules, like a fitted avatar's."""
    generator = torch.Generator().manual_seed(seed)
    areas = torch.tensor([2 * math.pi * r * (math.dist(a, b) + 2 * r) for a, b, r in _CAPSULES])
    limb = torch.multinomial(areas, n, replacement=True, generator=generator)
    start, end = (torch.tensor([c[i] for c in _CAPSULES])[limb] for i in (0, 1))
    radius = torch.tensor([c[2] for c in _CAPSULES])[limb, None]
    means, normals = _on_capsules(start, end, radius, torch.rand(n, 3, generator=generator))
    spacing_m = math.sqrt(areas.sum().item() / n)
    scales = torch.tensor([0.75, 0.75, 0.15]) * spacing_m * (0.7 + 0.6 * torch.rand(n, 3, generator=generator))
    opacities = 0.5 + 0.5 * torch.rand(n, generator=generator)
    return Gaussians(means, _facing(normals), scales, opacities, torch.rand(n, 3, generator=generator))


def body_camera(size_px: int) -> Camera:
    """The whole body in the middle of a square image, 440 of 512 px tall, from 3 m."""
    focal_px = size_px * BODY_HEIGHT_OF_IMAGE * 3.0 / BODY_HEIGHT_M
    return Camera.level(focal_px=focal_px, size_hw=(size_px, size_px), height_m=BODY_HEIGHT_M / 2, distance_m=3.0)


def _on_capsules(
    start: Float[Tensor, "n 3"], end: Float[Tensor, "n 3"], radius: Float[Tensor, "n 1"], uniform: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Points on the capsules and outward normals: a place along the axis drawn out by the caps, and an angle."""
    axis = end - start
    length = axis.norm(dim=-1, keepdim=True)
    along = axis / length
    side = torch.nn.functional.normalize(
        torch.linalg.cross(along, torch.tensor([0.3, 0.2, 0.93]).expand_as(along)), dim=-1
    )
    other = torch.linalg.cross(along, side)
    # Archimedes: a sphere's area is even along its axis, so caps and shaft are drawn alike.
    place = uniform[:, :1] * (length + 2 * radius) - radius
    overhang = place - place.clamp_min(0).minimum(length)
    sine = overhang / radius
    angle = 2 * math.pi * uniform[:, 1:2]
    around = side * angle.cos() + other * angle.sin()
    normals = around * (1 - sine.square()).clamp_min(0).sqrt() + along * sine
    foot = start + along * place.clamp_min(0).minimum(length)
    return foot + normals * radius, normals


def _facing(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Quaternions (wxyz) that turn +z to the normals, the shortest way."""
    x, y, z = normals.unbind(-1)
    return torch.nn.functional.normalize(torch.stack([1 + z + 1e-4, -y, x, torch.zeros_like(x)], -1), dim=-1)


def times_ms(run: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median wall time, least wall time and median processor time, after two runs to warm up."""
    wall, cpu = [], []
    for i in range(repeats + 2):
        start, start_cpu = time.perf_counter(), time.process_time()
        run()
        if i >= 2:
            wall.append(1000 * (time.perf_counter() - start))
            cpu.append(1000 * (time.process_time() - start_cpu))
    return statistics.median(wall), min(wall), statistics.median(cpu)


def time_one(implementation: str, gaussians: Gaussians, camera: Camera, threads: int, repeats: int) -> Timing:
    """Forward alone without gradients, and forward + backward to every field and the pose."""
    torch.set_num_threads(threads)
    fields = {name: getattr(gaussians, name) for name in ("means", "quats", "scales", "opacities", "colors")}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in fields.items()}
    pose = camera.T_cam_world.clone().requires_grad_()
    moving = Camera(camera.K, pose, camera.size_hw)
    target = torch.rand(1, 3, *camera.size_hw)

    def forward() -> None:
        with torch.no_grad():
            rasterize(gaussians, camera, implementation=implementation)  # type: ignore[arg-type]

    def both() -> None:
        for leaf in (*leaves.values(), pose):
            leaf.grad = None
        render = rasterize(Gaussians(**leaves), moving, implementation=implementation)  # type: ignore[arg-type]
        torch.autograd.backward([render.rgb, render.alpha], [target, target[:, :1]])

    f, b = times_ms(forward, repeats), times_ms(both, repeats)
    return Timing(
        implementation, len(gaussians), camera.size_hw[0], threads, f[0], b[0], f[1], b[1], f[2], b[2]
    )  # fmt: skip


def run(options: Options) -> list[Timing]:
    """All timings, printed as they come."""
    every = torch.get_num_threads()
    timings = []

    def report(timing: Timing) -> Timing:
        timings.append(timing)
        print(
            f"{timing.implementation:>9} {timing.gaussians:>7} Gaussians {timing.size_px:>4} px {timing.threads} thr."
            f"  forward {timing.forward_ms:.1f} ms (best {timing.forward_best_ms:.1f}, cpu {timing.forward_cpu_ms:.1f})"
            f"  both {timing.both_ms:.1f} ms (best {timing.both_best_ms:.1f}, cpu {timing.both_cpu_ms:.1f})"
        )
        return timing

    print(f"cpu kernels: {extension().instruction_set()}; load of the machine before: {os.getloadavg()[0]:.1f}")
    for size_px in options.sizes_px:
        for n in options.gaussians:
            for threads in sorted({1, every}):
                report(time_one("cpu", body(n), body_camera(size_px), threads, options.repeats))
    if options.peers:
        scene, camera = body(2_000), body_camera(64)
        ours = report(time_one("cpu", scene, camera, every, options.repeats))
        peer = report(time_one("reference", scene, camera, every, 3))
        print(
            "the reference (plain PyTorch, every pixel by every Gaussian) takes "
            f"{peer.forward_cpu_ms / ours.forward_cpu_ms:.0f} times the processor time, "
            f"{peer.both_cpu_ms / ours.both_cpu_ms:.0f} times with backward"
        )
    torch.set_num_threads(every)
    return timings


def main() -> None:
    import tyro

    options = tyro.cli(Options, description=__doc__)
    timings = run(options)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(t) for t in timings], indent=2) + "\n")


if __name__ == "__main__":
    main()
