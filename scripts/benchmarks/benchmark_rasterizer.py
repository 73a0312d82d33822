"""Times the rasterizer on a body-like scene, beside a peer and a bound that are measured in the same run.

python scripts/benchmarks/benchmark_rasterizer.py --json rasterizer.json [--gaussians 100000 --sizes-px 512]

The peer on the CPU is what a PyTorch user would write: gsplat's own PyTorch projection (ours where gsplat is not
installed), Gaussians sorted into tiles of 16x16, each tile blended with array operations, gradients by autograd. On a
GPU it is gsplat's `rasterization` called directly, and the whole frame, skinning included, is timed too.

The bound is the time that the machine would need for the arithmetic of the pairs of pixel and Gaussian that contribute
(`FORWARD_FLOPS`, `BACKWARD_FLOPS` each) at the rate that PyTorch's matrix product reaches here, or for the bytes that
must be moved at the rate of a plain copy, whichever is longer. What is in the way of more: a block of 4x4 pixels is the
least that is drawn, and a third of its pixels lie in the ellipse; every block ends in a branch; projection, binning and
sorting, which the bound knows nothing of, are two fifths of a forward pass.

Measured with
`OMP_WAIT_POLICY=PASSIVE python scripts/benchmarks/benchmark_rasterizer.py --gaussians 100000 --sizes-px 512` on a
Xeon with AVX-512, two cores, 100,000 Gaussians, a body 440 px tall in 512x512, medians:
- One thread: 10.4 ms forward, 22.1 ms forward and backward. Two: 5.7 and 11.9 ms.
- Plain PyTorch in tiles: 1,963 and 5,507 ms, 341 and 450 times as long.
- The bound is 0.44 and 1.27 ms; ours reaches 8 and 10 percent of it.
All sizes, on the same machine while busy, at real-time priority (`chrt -f 50`): 170,000 Gaussians in 1024x1024 15.2 and
27.9 ms, 10,000 in 256x256 1.2 and 2.4 ms.
OpenMP's waiting threads must sleep (PASSIVE, as the commands set it) where other work runs: PyTorch's own operations
between the calls spin otherwise. The CUDA path has not been timed yet.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from benchmark_results import main, write_results
from jaxtyping import Float, Int
from torch import Tensor

from avatars.body.skinning import SkinningWeights, skin_reference
from avatars.geometry.camera import Camera
from avatars.kernels.extension import extension
from avatars.rasterizer import PIXEL_VARIANCE, rasterize
from avatars.rasterizer.gaussians import Gaussians
from avatars.rasterizer.reference import project

FIELDS = ("means", "quats", "scales", "opacities", "colors")
PEER_TILE = 16
FORWARD_FLOPS = 37
"""Offset 2, exponent 8, exp2 14, limit 1, transmittance 2, weight 1, sums of coverage, depth and color 9."""
BACKWARD_FLOPS = 65
"""As far as the weight again 28; value 6, sums of color 6, remainder 2, dL/dalpha 8, q 2, its six moments 13."""
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


NAME = "rasterizer"


@dataclass(frozen=True)
class Options:
    """What to time."""

    json: Path | None = None
    """Write the numbers here."""
    gaussians: tuple[int, ...] = (10_000, 40_000, 100_000, 170_000)
    sizes_px: tuple[int, ...] = (256, 512, 1024)
    """Side of the square image."""
    repeats: int = 40
    """Medians are over this many runs."""
    peers: bool = True
    """Time the peers too (takes half a minute)."""
    frames: int = 64
    """Posed frames per call on a GPU."""

    def run(self) -> None:
        """See `measure`."""
        measure(self)


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
    leaves = {name: getattr(gaussians, name).clone().requires_grad_() for name in FIELDS}
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


# --- the peer: plain PyTorch in tiles


def peer_projection(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Centers (px), conics and z, by gsplat's own PyTorch where it is installed."""
    try:
        from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci
    except ImportError:
        return project(gaussians, camera.K, camera.T_cam_world, camera.size_hw, PIXEL_VARIANCE)
    height, width = camera.size_hw
    covariances, _ = _quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, compute_preci=False)
    assert covariances is not None
    _, centers, z, conics, _ = _fully_fused_projection(
        gaussians.means, covariances, camera.T_cam_world[None], camera.K[None], width, height,
        eps2d=PIXEL_VARIANCE,
    )  # fmt: skip
    return centers[0], conics[0], z[0]


def tile_lists(
    centers: Float[Tensor, "n 2"], conics: Float[Tensor, "n 3"], opacities: Float[Tensor, " n"], z: Float[Tensor, " n"],
    size_px: int,
) -> dict[tuple[int, int], Int[Tensor, " some"]]:  # fmt: skip
    """The Gaussians that touch each tile, front to back."""
    reach = 2 * torch.log((opacities * 255).clamp_min(1.0))
    xx, xy, yy = conics.unbind(-1)
    radii = torch.sqrt(reach[:, None] * torch.stack([yy, xx], -1) / (xx * yy - xy * xy)[:, None])
    first = ((centers - radii) / PEER_TILE).floor().clamp(0, size_px // PEER_TILE - 1).int()
    last = ((centers + radii) / PEER_TILE).floor().clamp(0, size_px // PEER_TILE - 1).int()
    order = torch.argsort(z)
    first, last = first[order], last[order]
    lists = {}
    for row in range(size_px // PEER_TILE):
        in_row = ((first[:, 1] <= row) & (last[:, 1] >= row)).nonzero()[:, 0]
        for column in range(size_px // PEER_TILE):
            inside = in_row[(first[in_row, 0] <= column) & (last[in_row, 0] >= column)]
            if len(inside):
                lists[row, column] = order[inside]
    return lists


def peer_render(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor, int]:
    """Image (4, size, size) of color and alpha, and how many pairs of pixel and Gaussian contributed."""
    size_px = camera.size_hw[0]
    centers, conics, z = peer_projection(gaussians, camera)
    with torch.no_grad():
        lists = tile_lists(centers, conics, gaussians.opacities, z, size_px)
    image = torch.zeros(4, size_px, size_px)
    values = torch.cat([gaussians.colors, torch.ones_like(gaussians.opacities)[:, None]], -1)
    steps = torch.arange(PEER_TILE) + 0.5
    pairs = 0
    for (row, column), some in lists.items():
        y, x = torch.meshgrid(row * PEER_TILE + steps, column * PEER_TILE + steps, indexing="ij")
        dx, dy = (torch.stack([x, y], -1).reshape(-1, 1, 2) - centers[some]).unbind(-1)
        xx, xy, yy = conics[some].unbind(-1)
        sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
        alpha = (gaussians.opacities[some] * torch.exp(-sigma)).clamp_max(0.999)
        alpha = torch.where(alpha >= 1 / 255, alpha, 0.0)
        behind = torch.cumprod(1 - alpha, -1)
        before = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], -1)
        weights = torch.where(behind > 1e-4, alpha * before, 0.0)
        pairs += int((weights.detach() > 0).sum())
        tile = (weights @ values[some]).T.reshape(4, PEER_TILE, PEER_TILE)
        image[:, row * PEER_TILE : (row + 1) * PEER_TILE, column * PEER_TILE : (column + 1) * PEER_TILE] = tile
    return image[:3], image[3:], pairs


@dataclass(frozen=True)
class PeerTiming:
    """The plain PyTorch tile compositor, milliseconds, and what it saw."""

    forward_ms: float
    both_ms: float
    pairs: int
    """Pairs of pixel and Gaussian that contribute."""
    pixels_apart: float
    """Share of pixels that differ from ours by more than 2/255, where rounding changes the order of two Gaussians."""


def time_peer(gaussians: Gaussians, camera: Camera, repeats: int = 3) -> PeerTiming:
    """Medians of a few runs."""
    leaves = {name: getattr(gaussians, name).clone().requires_grad_() for name in FIELDS}
    target = torch.rand(3, *camera.size_hw)
    forward, both = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.no_grad():
            rgb, _, pairs = peer_render(gaussians, camera)
        forward.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        drawn, alpha, _ = peer_render(Gaussians(**leaves), camera)
        torch.autograd.backward([drawn, alpha], [target, target[:1]])
        both.append(1000 * (time.perf_counter() - start))
    apart = (rasterize(gaussians, camera).rgb[0] - rgb).abs().amax(0) > 2 / 255
    return PeerTiming(statistics.median(forward), statistics.median(both), pairs, float(apart.float().mean()))


# --- the bound


@dataclass(frozen=True)
class Machine:
    """What this machine reaches, measured."""

    gflops: float
    """float32 matrix product of PyTorch, all threads."""
    gb_per_s: float
    """Plain copy, bytes read plus bytes written."""

    @staticmethod
    def measured() -> Machine:
        """Best of a few runs."""
        a, big = torch.rand(1536, 1536), torch.rand(1 << 26)
        copy = torch.empty_like(big)
        product = min(_seconds(lambda: a @ a) for _ in range(12))
        copied = min(_seconds(lambda: copy.copy_(big)) for _ in range(6))
        return Machine(2 * 1536**3 / product / 1e9, 2 * 4 * len(big) / copied / 1e9)

    def bound_ms(self, flops: float, moved_bytes: float) -> float:
        """The longer of arithmetic and memory."""
        return 1000 * max(flops / (self.gflops * 1e9), moved_bytes / (self.gb_per_s * 1e9))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def bounds_ms(machine: Machine, n: int, size_px: int, pairs: int) -> tuple[float, float]:
    """Forward; forward and backward. Bytes: Gaussians in, image out; then image and gradient in, gradients out."""
    forward_bytes = 4 * (14 * n + 5 * size_px**2)
    both_bytes = forward_bytes + 4 * (2 * 14 * n + 9 * size_px**2)
    return (
        machine.bound_ms(pairs * FORWARD_FLOPS, forward_bytes),
        machine.bound_ms(pairs * (FORWARD_FLOPS + BACKWARD_FLOPS), both_bytes),
    )


# --- agreement


@dataclass(frozen=True)
class Parity:
    """Against the definition (reference.py), or of the GPU against the CPU."""

    max_abs: float
    """Of color and alpha."""
    gradient_max_rel: float
    """Largest error of a gradient over the largest gradient of that field, the worst field."""


def parity(ours: str, theirs: str, n: int = 400, size_px: int = 64) -> Parity:
    """Two implementations on a small body; "reference" computes in double precision."""
    results = []
    for name in (ours, theirs):
        dtype = torch.float64 if name == "reference" else torch.float32
        device = "cuda" if name == "cuda" else "cpu"
        scene, camera = body(n), body_camera(size_px).to(device)
        leaves = {f: getattr(scene, f).to(device, dtype).requires_grad_() for f in FIELDS}
        camera = replace(camera, K=camera.K.to(dtype), T_cam_world=camera.T_cam_world.to(dtype))
        render = rasterize(Gaussians(**leaves), camera, implementation=name)  # type: ignore[arg-type]
        (render.rgb.square().sum() + render.alpha.sum()).backward()
        gradients = [leaf.grad.double().cpu() for leaf in leaves.values() if leaf.grad is not None]
        results.append((torch.cat([render.rgb, render.alpha], 1).detach().double().cpu(), gradients))
    (image, gradients), (true_image, true_gradients) = results
    errors = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(gradients, true_gradients, strict=True)]
    return Parity(float((image - true_image).abs().max()), max(errors))


# --- a GPU


@dataclass(frozen=True)
class CudaTiming:
    """Frames a second at 512x512 with 100,000 Gaussians."""

    device: str
    batch: int
    ours_per_s: float
    """Through `rasterize`, posed frames in."""
    gsplat_per_s: float
    """gsplat's `rasterization` called directly with the same tensors."""
    with_skinning_per_s: float
    """From joint transforms to bytes in pinned memory."""
    parity_with_cpu: Parity


def time_cuda(options: Options) -> CudaTiming:
    """Batched, after a warm-up (which builds gsplat's kernels the first time)."""
    from gsplat import rasterization

    from avatars.rasterizer.cuda import gsplat_arguments
    from avatars.rasterizer.scene import Scene

    n, frames = 100_000, options.frames
    scene, camera = body(n).to("cuda"), body_camera(512).to("cuda")
    posed = replace(scene, means=scene.means.expand(frames, -1, -1).contiguous())
    checked = Scene.checked(
        posed, camera, None, near_plane=0.01, far_plane=1e10, eps2d=PIXEL_VARIANCE, alpha_threshold=1 / 255
    )
    joints, weights, normals = cuda_joints(n, frames)
    host = torch.empty(frames, 512, 512, 3, dtype=torch.uint8, pin_memory=True)

    def whole_frames() -> None:
        means, quats, _ = skin_reference(joints, weights, scene.means[None], scene.quats, normals)
        render = rasterize(replace(scene, means=means, quats=quats), camera)
        pixels = ((render.rgb + (1 - render.alpha)).clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1)
        host.copy_(pixels.contiguous(), non_blocking=True)

    with torch.no_grad():
        ours, gsplats, with_skinning = (
            frames / cuda_seconds(call, 10)
            for call in (
                lambda: rasterize(posed, camera),
                lambda: rasterization(**gsplat_arguments(checked)),
                whole_frames,
            )
        )
    return CudaTiming(torch.cuda.get_device_name(), frames, ours, gsplats, with_skinning, parity("cpu", "cuda"))


def cuda_joints(n: int, frames: int) -> tuple[Tensor, SkinningWeights, Tensor]:
    """55 joints at rest, four of them to a point, and normals: the cost of posing without a body."""
    rest = torch.cat([torch.eye(3, 4).flatten(), torch.tensor([1.0, 0, 0, 0])])
    dense = torch.zeros(n, 55)
    dense[torch.arange(n)[:, None], (torch.arange(n)[:, None] * 7 + torch.arange(4)) % 55] = 0.25
    weights = SkinningWeights.of(dense)
    weights = replace(weights, dense_t=weights.dense_t.cuda())
    return rest.expand(frames, 55, 16).cuda(), weights, torch.ones(n, 3, device="cuda")


def cuda_seconds(call: Callable[[], object], repeats: int) -> float:
    """Mean seconds of a call, the device waited for at the end alone."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


# --- all of it


def time_sizes(options: Options) -> list[Timing]:
    """The table over sizes, numbers and threads, printed as it comes."""
    every = torch.get_num_threads()
    timings = []
    for size_px in options.sizes_px:
        for n in options.gaussians:
            for threads in sorted({1, every}):
                t = time_one("cpu", body(n), body_camera(size_px), threads, options.repeats)
                timings.append(t)
                print(
                    f"{t.gaussians:>7} Gaussians {t.size_px:>4} px {t.threads} thr.  forward {t.forward_ms:.1f} ms "
                    f"(best {t.forward_best_ms:.1f}, cpu {t.forward_cpu_ms:.1f})  both {t.both_ms:.1f} ms "
                    f"(best {t.both_best_ms:.1f}, cpu {t.both_cpu_ms:.1f})",
                    flush=True,
                )
    torch.set_num_threads(every)
    return timings


def headline(options: Options) -> dict[str, float | None]:
    """100,000 Gaussians at 512 px on all threads: ours, the peer, the bound, the agreement."""
    scene, camera = body(100_000), body_camera(512)
    ours = time_one("cpu", scene, camera, torch.get_num_threads(), options.repeats)
    agreement = parity("cpu", "reference")
    result: dict[str, float | None] = {
        "forward_ms_100k_512": ours.forward_ms,
        "forward_backward_ms_100k_512": ours.both_ms,
        "parity_max_abs": agreement.max_abs,
        "gradient_max_rel": agreement.gradient_max_rel,
        "speedup_vs_pytorch": None,
        "share_of_bound": None,
    }
    print(f"parity with the reference: {agreement.max_abs:.1e}, gradients {agreement.gradient_max_rel:.1e} relative")
    if not options.peers:
        return result
    peer, machine = time_peer(scene, camera), Machine.measured()
    forward_bound, both_bound = bounds_ms(machine, 100_000, 512, peer.pairs)
    result |= {
        "speedup_vs_pytorch": peer.both_ms / ours.both_ms,
        "forward_speedup_vs_pytorch": peer.forward_ms / ours.forward_ms,
        "share_of_bound": both_bound / ours.both_ms,
        "forward_share_of_bound": forward_bound / ours.forward_ms,
        "pairs": peer.pairs,
    }
    print(
        f"100,000 Gaussians, 512 px: ours {ours.forward_ms:.1f} ms forward, {ours.both_ms:.1f} ms with backward; plain "
        f"PyTorch in tiles {peer.forward_ms:.0f} and {peer.both_ms:.0f} ms, {peer.forward_ms / ours.forward_ms:.0f} "
        f"and {peer.both_ms / ours.both_ms:.0f} times as long ({100 * peer.pixels_apart:.2f} percent of pixels apart)\n"
        f"bound: {peer.pairs} pairs at {machine.gflops:.0f} GFlop/s, bytes at {machine.gb_per_s:.0f} GB/s: "
        f"{forward_bound:.2f} and {both_bound:.2f} ms; ours reaches {100 * forward_bound / ours.forward_ms:.0f} and "
        f"{100 * both_bound / ours.both_ms:.0f} percent"
    )
    return result


def measure(options: Options) -> None:
    """Time everything, print it, write the numbers."""
    print(f"cpu kernels: {extension().instruction_set()}; load of the machine before: {os.getloadavg()[0]:.1f}")
    timings = time_sizes(options)
    result: dict[str, object] = {**headline(options), "timings": [asdict(t) for t in timings], "cuda": None}
    if torch.cuda.is_available():
        cuda = time_cuda(options)
        print(cuda)
        result["cuda"] = asdict(cuda)
    else:
        print("No GPU that PyTorch can use: the gsplat path was not timed.")
    write_results(options.json, NAME, result)


if __name__ == "__main__":
    sys.exit(main(Options, NAME, __doc__ or ""))
