"""The rasterizer: closed forms, agreement of the implementations in values and gradients, and what bad inputs get."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from avatars.errors import BackendMissing, InputError
from avatars.geometry.camera import Camera
from avatars.rasterizer import PIXEL_VARIANCE, Render, cpu, rasterize
from avatars.rasterizer.gaussians import Gaussians
from avatars.rasterizer.reference import project
from avatars.rasterizer.scene import Scene

FIELDS = ("means", "quats", "scales", "opacities", "colors")


@pytest.fixture(autouse=True, scope="module")
def built() -> None:
    """Every test here needs the extension; without it they fail with the command that builds it."""
    cpu.extension()


@dataclass(frozen=True)
class Case:
    """A random scene."""

    n: int = 60
    size_hw: tuple[int, int] = (37, 45)
    channels: int = 3
    frames: int | None = None
    moving_camera: bool = False
    background: bool = False
    thinness: float = 1.0
    """Largest ratio of a Gaussian's axes, as a power of ten."""
    size_m: float = 0.06
    spread_m: float = 0.4
    eye: tuple[float, float, float] = (0.3, 0.2, 1.5)
    cull: bool = False
    seed: int = 0


CASES = {
    "plain": Case(),
    "needles and discs": Case(thinness=2.0, size_m=0.2, seed=1),
    "large": Case(n=30, size_m=0.6, seed=2),
    "tiny": Case(n=300, size_m=0.004, seed=3),
    "across the border": Case(n=80, spread_m=1.5, size_m=0.2, seed=4),
    "around and behind the camera": Case(n=80, eye=(0.0, 0.0, 0.1), size_m=0.03, seed=5),
    "posed frames": Case(frames=3, background=True, seed=6),
    "posed frames, moving camera": Case(frames=2, moving_camera=True, size_hw=(64, 33), seed=7),
    "moving camera alone": Case(moving_camera=True, background=True, seed=8),
    "one channel": Case(channels=1, background=True, seed=9),
    "five channels": Case(channels=5, background=True, seed=10),
    "nine channels": Case(channels=9, seed=15),
    "backfaces culled": Case(cull=True, n=150, seed=16),
    "many tiles": Case(n=200, size_hw=(70, 131), size_m=0.15, seed=11),
    "many layers": Case(n=600, size_hw=(24, 24), spread_m=0.2, seed=12),
    "one row": Case(size_hw=(1, 50), size_m=0.2, seed=13),
    "one column": Case(size_hw=(50, 1), size_m=0.2, seed=14),
}


def scene(case: Case) -> tuple[Gaussians, Camera, Tensor | None]:
    generator = torch.Generator().manual_seed(case.seed)
    frames = (case.frames,) if case.frames else ()
    means = torch.randn(*frames, case.n, 3, generator=generator) * case.spread_m
    shape = 10 ** (-case.thinness * torch.rand(case.n, 3, generator=generator))
    size = case.size_m * (0.2 + torch.rand(case.n, 1, generator=generator))
    gaussians = Gaussians(
        means,
        torch.randn(case.n, 4, generator=generator),
        shape * size,
        torch.rand(case.n, generator=generator),
        torch.rand(case.n, case.channels, generator=generator),
    )
    height, width = case.size_hw
    camera = Camera.looking_at(
        torch.tensor(case.eye),
        torch.tensor([0.02, 0.01, -0.2]),
        focal_px=0.9 * max(height, width),
        size_hw=case.size_hw,
    )
    if case.moving_camera:
        shifts = torch.eye(4).repeat(case.frames or 3, 1, 1)
        shifts[:, :3, 3] = 0.1 * torch.randn(len(shifts), 3, generator=generator)
        camera = Camera(camera.K.repeat(len(shifts), 1, 1), shifts @ camera.T_cam_world, case.size_hw)
    background = torch.rand(case.channels, generator=generator) if case.background else None
    return gaussians, camera, background


def render_with_gradients(case: Case, implementation: str, dtype: torch.dtype) -> tuple[Render, dict[str, Tensor]]:
    """The image, and the gradients of a random linear function of it (depth too, where it is well defined)."""
    gaussians, camera, background = scene(case)
    leaves = {name: getattr(gaussians, name).to(dtype).requires_grad_() for name in FIELDS}
    leaves["T_cam_world"] = camera.T_cam_world.to(dtype).requires_grad_()
    if background is not None:
        leaves["background"] = background.to(dtype).requires_grad_()
    render = rasterize(
        Gaussians(*(leaves[name] for name in FIELDS)),
        Camera(camera.K.to(dtype), leaves["T_cam_world"], camera.size_hw),
        background=leaves.get("background"),
        cull_backfaces=case.cull,
        implementation=implementation,  # type: ignore[arg-type]
    )
    generator = torch.Generator().manual_seed(99)
    v_rgb, v_alpha, v_depth = (
        torch.randn(image.shape, generator=generator).to(dtype) for image in (render.rgb, render.alpha, render.depth_m)
    )
    depth = torch.where(render.alpha > 0.05, render.depth_m, 0.0)
    ((render.rgb * v_rgb).sum() + (render.alpha * v_alpha).sum() + (depth * v_depth).sum()).backward()
    return render, {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def one_gaussian(*, depth_m: float = 2.0, opacity: float = 0.8, sigma_m: float = 0.3, x_m: float = 0.0) -> Gaussians:
    return Gaussians(
        torch.tensor([[x_m, 0.0, depth_m]]),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.full((1, 3), sigma_m),
        torch.tensor([opacity]),
        torch.tensor([[0.2, 0.5, 0.9]]),
    )


def joined(*several: Gaussians) -> Gaussians:
    return Gaussians(*(torch.cat([getattr(g, name) for g in several]) for name in FIELDS))


def camera_at_origin(size_hw: tuple[int, int] = (21, 21), focal_px: float = 20.0) -> Camera:
    height, width = size_hw
    K = torch.tensor([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])
    return Camera(K, torch.eye(4), size_hw)


both = pytest.mark.parametrize("implementation", ["reference", "cpu"])


# --- closed forms


@both
def test_center_of_one_gaussian_has_its_opacity_color_and_depth(implementation):
    render = rasterize(one_gaussian(opacity=0.8, depth_m=2.0), camera_at_origin(), implementation=implementation)
    assert render.alpha[0, 0, 10, 10].item() == pytest.approx(0.8, abs=1e-6)
    assert render.rgb[0, :, 10, 10].tolist() == pytest.approx([0.16, 0.4, 0.72], abs=1e-6)
    assert render.depth_m[0, 0, 10, 10].item() == pytest.approx(2.0, abs=1e-5)


@both
def test_alpha_falls_off_as_the_projected_gaussian(implementation):
    focal_px, sigma_m, depth_m = 20.0, 0.1, 2.0
    render = rasterize(
        one_gaussian(sigma_m=sigma_m, depth_m=depth_m), camera_at_origin(), implementation=implementation
    )
    variance = (focal_px * sigma_m / depth_m) ** 2 + PIXEL_VARIANCE
    expected = 0.8 * math.exp(-0.5 * 2.0**2 / variance)
    assert render.alpha[0, 0, 10, 12].item() == pytest.approx(expected, rel=1e-5)
    assert render.alpha[0, 0, 8, 10].item() == pytest.approx(expected, rel=1e-5)


@both
def test_pixels_under_the_threshold_are_untouched(implementation):
    render = rasterize(one_gaussian(sigma_m=0.05), camera_at_origin(), implementation=implementation)
    assert render.alpha[render.alpha > 0].min() >= 1 / 255 - 1e-6
    assert (render.alpha == 0).any()


@both
def test_opaque_gaussian_is_limited_to_999_thousandths(implementation):
    render = rasterize(one_gaussian(opacity=1.0), camera_at_origin(), implementation=implementation)
    assert render.alpha.max().item() == pytest.approx(0.999, abs=1e-6)


@both
def test_nothing_opaque_leaves_the_background(implementation):
    background = torch.tensor([0.1, 0.6, 0.3])
    render = rasterize(
        one_gaussian(opacity=0.0), camera_at_origin(), background=background, implementation=implementation
    )
    assert torch.equal(render.rgb[0], background[:, None, None].expand(3, 21, 21))
    assert not render.alpha.any()
    assert torch.isinf(render.depth_m).all()


@both
def test_background_shows_through_by_what_alpha_leaves(implementation):
    background = torch.tensor([1.0, 0.0, 0.5])
    bare = rasterize(one_gaussian(), camera_at_origin(), implementation=implementation)
    over = rasterize(one_gaussian(), camera_at_origin(), background=background, implementation=implementation)
    expected = bare.rgb + (1 - bare.alpha) * background[:, None, None]
    assert torch.allclose(over.rgb, expected, atol=1e-6)


@both
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nearer_gaussian_hides_the_farther_whatever_their_order(implementation, order):
    near, far = one_gaussian(depth_m=1.0, opacity=0.95), one_gaussian(depth_m=3.0, opacity=0.95)
    far = replace(far, colors=torch.tensor([[1.0, 0.0, 0.0]]))
    pair = [near, far]
    render = rasterize(joined(*(pair[i] for i in order)), camera_at_origin(), implementation=implementation)
    expected = 0.95 * torch.tensor([0.2, 0.5, 0.9]) + 0.05 * 0.95 * torch.tensor([1.0, 0.0, 0.0])
    assert torch.allclose(render.rgb[0, :, 10, 10], expected, atol=1e-5)
    assert render.depth_m[0, 0, 10, 10].item() == pytest.approx((1.0 + 0.05 * 3.0) / 1.05, abs=1e-4)


@both
def test_gaussian_that_would_end_the_light_is_not_drawn(implementation):
    # 0.001 * 0.05 of the light would be left, under 1e-4: the second is left out, as in gsplat.
    pair = joined(one_gaussian(depth_m=1.0, opacity=0.999), one_gaussian(depth_m=3.0, opacity=0.95))
    render = rasterize(pair, camera_at_origin(), implementation=implementation)
    assert render.alpha[0, 0, 10, 10].item() == pytest.approx(0.999, abs=1e-6)


@both
@pytest.mark.parametrize("depth_m", [-2.0, 0.0, 0.005, 60.0])
def test_outside_of_the_planes_nothing_is_drawn(implementation, depth_m):
    render = rasterize(one_gaussian(depth_m=depth_m), camera_at_origin(), far_plane=50.0, implementation=implementation)
    assert not render.alpha.any()


@both
def test_no_gaussians_give_the_background(implementation):
    background = torch.tensor([0.1, 0.6, 0.3])
    render = rasterize(one_gaussian()[:0], camera_at_origin(), background=background, implementation=implementation)
    assert torch.equal(render.rgb[0], background[:, None, None].expand(3, 21, 21))
    assert torch.isinf(render.depth_m).all()


@both
def test_one_pixel(implementation):
    render = rasterize(one_gaussian(), camera_at_origin((1, 1)), implementation=implementation)
    assert render.rgb.shape == (1, 3, 1, 1)
    assert render.alpha.item() == pytest.approx(0.8, abs=1e-6)


@both
def test_length_of_a_quaternion_changes_nothing(implementation):
    gaussians, camera, _ = scene(CASES["needles and discs"])
    longer = replace(gaussians, quats=gaussians.quats * 7.0)
    first = rasterize(gaussians, camera, implementation=implementation)
    second = rasterize(longer, camera, implementation=implementation)
    assert torch.allclose(first.rgb, second.rgb, atol=1e-5)


@both
def test_moving_world_and_camera_together_changes_nothing(implementation):
    gaussians, camera, _ = scene(CASES["plain"])
    shift = torch.eye(4)
    shift[:3, 3] = torch.tensor([0.5, -1.0, 2.0])
    moved = replace(gaussians, means=gaussians.means + shift[:3, 3])
    followed = replace(camera, T_cam_world=camera.T_cam_world @ torch.linalg.inv(shift))
    first = rasterize(gaussians, camera, implementation=implementation)
    second = rasterize(moved, followed, implementation=implementation)
    assert torch.allclose(first.rgb, second.rgb, atol=1e-4)


@both
def test_a_gaussian_seen_from_behind_is_culled_only_if_asked(implementation):
    front, back = torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])  # third axis: -z, +z
    for quats, culled in ((front, False), (back, True)):
        gaussian = replace(one_gaussian(), quats=quats)
        drawn = rasterize(gaussian, camera_at_origin(), cull_backfaces=True, implementation=implementation)
        assert bool(drawn.alpha.any()) is not culled
        kept = rasterize(gaussian, camera_at_origin(), implementation=implementation)
        assert bool(kept.alpha.any())


@both
def test_culling_leaves_the_front_of_an_opaque_ball_as_it_is(implementation):
    normals = torch.nn.functional.normalize(torch.randn(1500, 3, generator=torch.Generator().manual_seed(5)), dim=-1)
    quats = torch.nn.functional.normalize(
        torch.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], 0 * normals[:, 0]], -1), dim=-1
    )
    ball = Gaussians(
        normals + torch.tensor([0.0, 0.0, 4.0]), quats, torch.tensor([0.08, 0.08, 0.01]).expand(1500, 3),
        torch.full((1500,), 0.999), torch.where(normals[:, 2:] < 0, 0.2, 0.9).expand(-1, 3),
    )  # fmt: skip
    whole = rasterize(ball, camera_at_origin(), implementation=implementation)
    culled = rasterize(ball, camera_at_origin(), cull_backfaces=True, implementation=implementation)
    middle = whole.alpha > 0.999
    assert middle.float().mean() > 0.1
    assert ((whole.rgb - culled.rgb) * middle).abs().max() < 0.01


@both
def test_extra_values_are_drawn_as_colors_are(implementation):
    gaussians, camera, background = scene(CASES["one channel"])
    extra = torch.rand(len(gaussians), 2, generator=torch.Generator().manual_seed(3))
    render = rasterize(gaussians, camera, background=background, extra=extra, implementation=implementation)
    plain = rasterize(gaussians, camera, background=background, implementation=implementation)
    alone = rasterize(replace(gaussians, colors=extra), camera, implementation=implementation)
    assert plain.extra is None
    assert torch.allclose(render.rgb, plain.rgb, atol=1e-6)
    assert torch.allclose(render.extra, alone.rgb, atol=1e-6)


def test_extra_values_may_differ_from_frame_to_frame_and_take_gradients():
    gaussians, camera, _ = scene(CASES["plain"])
    extra = torch.rand(2, len(gaussians), 1, requires_grad=True)
    render = rasterize(gaussians, camera, extra=extra)
    assert render.rgb.shape[:2] == (2, 3)
    render.extra.sum().backward()
    assert (extra.grad > 0).any()
    with pytest.raises(InputError, match="extra must have shape"):
        rasterize(gaussians, camera, extra=extra[:, 1:])


def test_degenerate_gaussians_leave_finite_images_and_gradients():
    gaussians, camera, _ = scene(Case(n=80, seed=21))
    scales, opacities, quats = (getattr(gaussians, name).clone() for name in ("scales", "opacities", "quats"))
    scales[::4, 0], scales[1::4], scales[2::8, 1] = 0.0, 1e-25, 1e12
    opacities[::3], opacities[1::3], quats[5:10] = 0.0, 1.0, 0.0
    leaves = [t.requires_grad_() for t in (gaussians.means.clone(), quats, scales, opacities, gaussians.colors.clone())]
    render = rasterize(Gaussians(*leaves), camera)
    (render.rgb.sum() + render.alpha.sum()).backward()
    assert render.alpha.any()
    assert torch.isfinite(render.rgb).all()
    for leaf in leaves:
        assert torch.isfinite(leaf.grad).all()


# --- agreement


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_cpu_agrees_with_the_reference_in_values_and_gradients(name, instruction_set):
    ours, our_gradients = render_with_gradients(CASES[name], "cpu", torch.float32)
    reference, gradients = render_with_gradients(CASES[name], "reference", torch.float64)
    assert reference.alpha.any(), "an empty image would prove nothing"
    assert (ours.rgb - reference.rgb).abs().max() <= 1e-4
    assert (ours.alpha - reference.alpha).abs().max() <= 1e-4
    hit = reference.alpha > 0
    assert torch.equal(torch.isfinite(ours.depth_m), hit)
    assert ((ours.depth_m - reference.depth_m) / reference.depth_m)[hit].abs().max() <= 1e-4
    assert our_gradients.keys() == gradients.keys()
    for field, expected in gradients.items():
        error = (our_gradients[field] - expected).abs().max() / expected.abs().max()
        assert error <= 1e-3, f"gradient of {field} is off by {error:.1e} of its largest"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "needles and discs"])
def test_reference_gradients_are_those_of_finite_differences(name):
    case = replace(CASES[name], n=4, size_hw=(5, 6), background=True, size_m=0.3)
    gaussians, camera, background = scene(case)
    inputs = [getattr(gaussians, field).double().requires_grad_() for field in FIELDS]
    lens = torch.stack([camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2]])
    inputs += [t.double().requires_grad_() for t in (camera.T_cam_world, lens, background)]

    def images(*tensors: Tensor) -> tuple[Tensor, ...]:
        # Threshold 0: the function has no steps, and every pixel is hit.
        fx, fy, cx, cy = tensors[6]
        o, i = torch.zeros_like(fx), torch.ones_like(fx)
        K = torch.stack([fx, o, cx, o, fy, cy, o, o, i]).reshape(3, 3)
        render = rasterize(
            Gaussians(*tensors[:5]),
            Camera(K, tensors[5], camera.size_hw),
            background=tensors[7],
            alpha_threshold=0.0,
            implementation="reference",
        )
        return render.rgb, render.alpha, torch.where(render.alpha > 1e-3, render.depth_m, 0.0)

    assert torch.autograd.gradcheck(images, inputs, eps=1e-6, atol=1e-5)


def test_cpu_agrees_with_the_reference_without_a_threshold():
    gaussians, camera, background = scene(replace(CASES["plain"], background=True))
    ours = rasterize(gaussians, camera, background=background, alpha_threshold=0.0)
    reference = rasterize(gaussians, camera, background=background, alpha_threshold=0.0, implementation="reference")
    assert torch.allclose(ours.rgb, reference.rgb, atol=1e-4)


def test_only_the_gradients_that_are_asked_for_are_made():
    gaussians, camera, _ = scene(CASES["plain"])
    colors = gaussians.colors.clone().requires_grad_()
    rasterize(replace(gaussians, colors=colors), camera).rgb.sum().backward()
    _, every = render_with_gradients(CASES["plain"], "cpu", torch.float32)
    assert colors.grad is not None and colors.grad.abs().max() > 0
    assert every["means"].shape == gaussians.means.shape


def test_gradients_add_up_over_two_backward_passes():
    gaussians, camera, _ = scene(CASES["plain"])
    means = gaussians.means.clone().requires_grad_()
    render = rasterize(replace(gaussians, means=means), camera)
    render.rgb.sum().backward(retain_graph=True)
    once = means.grad.clone()
    render.rgb.sum().backward()
    assert torch.allclose(means.grad, 2 * once)


def test_frames_are_drawn_as_if_alone():
    gaussians, camera, _ = scene(CASES["posed frames, moving camera"])
    together = rasterize(gaussians, camera)
    for frame in range(2):
        alone = rasterize(replace(gaussians, means=gaussians.means[frame]), camera[frame])
        assert torch.equal(alone.rgb[0], together.rgb[frame])


def test_strided_inputs_are_drawn_as_their_contiguous_copies():
    gaussians, camera, _ = scene(CASES["plain"])
    strided = replace(gaussians, means=gaussians.means.T.contiguous().T, colors=gaussians.colors.repeat(1, 2)[:, :3])
    assert torch.equal(rasterize(gaussians, camera).rgb, rasterize(strided, camera).rgb)


def test_projection_agrees_with_gsplats_own_pytorch():
    torch_impl = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")
    gaussians, camera, _ = scene(CASES["across the border"])
    covariances, _ = torch_impl._quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, compute_preci=False)
    height, width = camera.size_hw
    radii, centers, depths, conics, _ = torch_impl._fully_fused_projection(
        gaussians.means, covariances, camera.T_cam_world[None], camera.K[None], width, height,
        eps2d=PIXEL_VARIANCE,
    )  # fmt: skip
    seen = (radii[0] > 0).all(-1)
    assert seen.sum() > 10
    our_centers, our_conics, our_depths = project(
        gaussians, camera.K, camera.T_cam_world, camera.size_hw, PIXEL_VARIANCE
    )
    assert torch.allclose(our_centers[seen], centers[0, seen], rtol=1e-4, atol=1e-3)
    assert torch.allclose(our_conics[seen], conics[0, seen], rtol=1e-3, atol=1e-6)
    assert torch.allclose(our_depths[seen], depths[0, seen], rtol=1e-5)


def test_gsplat_takes_the_arguments_that_the_cuda_rasterizer_gives():
    pytest.importorskip("gsplat", reason="gsplat is not installed")
    import inspect

    from gsplat import rasterization

    from avatars.rasterizer.cuda import gsplat_arguments

    gaussians, camera, _ = scene(CASES["posed frames"])
    checked = Scene.checked(
        gaussians, camera, None, near_plane=0.01, far_plane=1e10, eps2d=PIXEL_VARIANCE, alpha_threshold=1 / 255
    )
    arguments = gsplat_arguments(checked)
    inspect.signature(rasterization).bind(**arguments)
    shapes = {name: tuple(value.shape) for name, value in arguments.items() if isinstance(value, Tensor)}
    assert shapes == {
        "means": (3, 60, 3),
        "quats": (3, 60, 4),
        "scales": (3, 60, 3),
        "opacities": (3, 60),
        "colors": (3, 60, 3),
        "viewmats": (3, 1, 4, 4),
        "Ks": (3, 1, 3, 3),
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
def test_cuda_agrees_with_the_cpu_in_values_and_gradients():
    pytest.importorskip("gsplat", reason="gsplat is not installed")
    gaussians, camera, _ = scene(CASES["posed frames"])
    results = {}
    for device in ("cpu", "cuda"):
        means = gaussians.means.to(device).requires_grad_()
        render = rasterize(replace(gaussians.to(device), means=means), camera.to(device))
        render.rgb.square().sum().backward()
        results[device] = render.rgb.detach().cpu(), means.grad.cpu()
    assert (results["cpu"][0] - results["cuda"][0]).abs().max() <= 5e-3
    assert (results["cpu"][1] - results["cuda"][1]).abs().max() <= 1e-2 * results["cpu"][1].abs().max()


# --- threads and processes


def exit_code(child: int, timeout_s: float) -> int:
    """Of a forked child, which is killed if it takes longer."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail(f"the child did not end within {timeout_s} s")


def crowd() -> tuple[Gaussians, Camera]:
    """Enough Gaussians for several chunks and tiles."""
    gaussians, camera, _ = scene(Case(n=5000, size_hw=(150, 170), size_m=0.02))
    return gaussians, camera


def crowd_render(threads: int) -> tuple[Tensor, ...]:
    gaussians, camera = crowd()
    leaves = [getattr(gaussians, name).clone().requires_grad_() for name in FIELDS]
    pose = camera.T_cam_world.clone().requires_grad_()
    render = rasterize(Gaussians(*leaves), replace(camera, T_cam_world=pose), threads=threads)
    (render.rgb.square().sum() + render.alpha.sum()).backward()
    gradients = [leaf.grad for leaf in (*leaves, pose) if leaf.grad is not None]
    return (render.rgb.detach(), render.alpha.detach(), render.depth_m.detach(), *gradients)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_any_number_of_threads_gives_the_same_bits(threads):
    for one, several in zip(crowd_render(1), crowd_render(threads), strict=True):
        assert torch.equal(one, several)


def test_python_threads_may_draw_at_once():
    expected = crowd_render(1)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(crowd_render, [2] * 12):
            assert all(torch.equal(a, b) for a, b in zip(expected, result, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_draw_after_its_parent_has():
    gaussians, camera = crowd()
    expected = rasterize(gaussians, camera, threads=2).rgb.numpy().tobytes()
    child = os.fork()
    if child == 0:
        same = False
        try:
            # No arithmetic of PyTorch's on the image here: its OpenMP is what hangs in a forked child.
            same = rasterize(gaussians, camera, threads=2).rgb.numpy().tobytes() == expected
        finally:
            os._exit(0 if same else 1)
    assert exit_code(child, timeout_s=20.0) == 0


def test_denormal_numbers_survive_the_extension():
    rasterize(one_gaussian(), camera_at_origin())
    assert sys.float_info.min / 2 > 0
    assert (torch.tensor(1e-310, dtype=torch.float64) * 1).item() > 0


# --- errors


@both
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_named_and_counted(implementation, field, value):
    gaussians, camera, _ = scene(CASES["plain"])
    broken = getattr(gaussians, field).clone()
    broken.view(-1)[[3, 5]] = value
    with pytest.raises(InputError, match=rf"{field} must be finite; found NaN or infinity in 2 of"):
        rasterize(replace(gaussians, **{field: broken}), camera, implementation=implementation)


@both
@pytest.mark.parametrize("field", ["K", "T_cam_world"])
def test_a_camera_that_is_not_finite_is_named(implementation, field):
    gaussians, camera, _ = scene(CASES["plain"])
    broken = getattr(camera, field).clone()
    broken[0, 0] = float("nan")
    with pytest.raises(InputError, match=rf"{field} must be finite"):
        rasterize(gaussians, replace(camera, **{field: broken}), implementation=implementation)


@both
def test_skew_is_refused_not_ignored(implementation):
    gaussians, camera, _ = scene(CASES["plain"])
    K = camera.K.clone()
    K[0, 1] = 0.5
    with pytest.raises(InputError, match="must have no skew"):
        rasterize(gaussians, replace(camera, K=K), implementation=implementation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": torch.zeros(60, 2)}, r"means must have shape \(n, 3\) or \(frames, n, 3\); found \(60, 2\)"),
        ({"quats": torch.zeros(59, 4)}, "quats holds 59 Gaussians but means holds 60"),
        ({"opacities": torch.zeros(60, 1, 1)}, r"opacities must have shape \(n,\) or \(frames, n,\); found"),
        ({"opacities": torch.zeros(60, 1)}, "opacities holds 1 Gaussians but means holds 60"),
        ({"colors": torch.zeros(60)}, r"colors must have shape \(n, channels\)"),
        ({"scales": torch.ones(60, 3).double()}, "scales is torch.float64 but means is torch.float32"),
        (
            {"means": torch.zeros(2, 60, 3), "quats": torch.ones(3, 60, 4)},
            "quats has 3 frames where other inputs have 2",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(unchecked, change, message):
    gaussians, camera, _ = scene(CASES["plain"])
    with pytest.raises(InputError, match=message):
        rasterize(replace(gaussians, **change), camera)


def test_background_of_the_wrong_length_is_refused():
    gaussians, camera, _ = scene(CASES["plain"])
    with pytest.raises(InputError, match=r"one value per color channel, \(3,\); found shape \(4,\)"):
        rasterize(gaussians, camera, background=torch.zeros(4))


def test_double_precision_is_not_silently_rounded_on_the_cpu():
    gaussians, camera, _ = scene(CASES["plain"])
    gaussians = Gaussians(*(getattr(gaussians, name).double() for name in FIELDS))
    camera = Camera(camera.K.double(), camera.T_cam_world.double(), camera.size_hw)
    with pytest.raises(InputError, match=r"takes float32; found torch\.float64"):
        rasterize(gaussians, camera)


def test_gradient_of_the_intrinsics_is_refused_where_there_is_none():
    gaussians, camera, _ = scene(CASES["plain"])
    with pytest.raises(InputError, match="K requires a gradient"):
        rasterize(gaussians, replace(camera, K=camera.K.clone().requires_grad_()))


def test_cuda_is_refused_for_tensors_on_the_cpu():
    gaussians, camera, _ = scene(CASES["plain"])
    with pytest.raises(InputError, match="tensors are on cpu"):
        rasterize(gaussians, camera, implementation="cuda")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"near_plane": 0.0}, "near_plane must be positive"),
        ({"eps2d": -0.1}, "eps2d must not be negative"),
        ({"alpha_threshold": 1.0}, "alpha_threshold must be in"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"implementation": "vulkan"}, "There is no rasterizer 'vulkan'"),
    ],
)
def test_options_out_of_range_are_refused(unchecked, option, message):
    gaussians, camera, _ = scene(CASES["plain"])
    with pytest.raises(InputError, match=message):
        rasterize(gaussians, camera, **option)


def test_an_extension_that_is_not_built_says_how_to_build_it(monkeypatch):
    import avatars.kernels

    monkeypatch.setitem(sys.modules, "avatars.kernels._cpp", None)
    monkeypatch.delattr(avatars.kernels, "_cpp")
    gaussians, camera, _ = scene(CASES["plain"])
    with pytest.raises(BackendMissing, match=r"not built.*pip install \."):
        rasterize(gaussians, camera)
