"""The loss of fitting: our C++ against its definition in PyTorch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avatars.fitting.crops import CropBytes, Crops
from avatars.fitting.target import Comparison, FitTarget, crop_difference, difference
from avatars.geometry.camera import Camera
from avatars.rasterizer import Render


def crops(size_hw: tuple[int, int], frames: int = 2) -> CropBytes:
    """Noise, with the extremes that mean something: plates known or not, padding, certain masks."""
    generator = torch.Generator().manual_seed(4)
    planes = torch.randint(0, 256, (frames, 11, *size_hw), generator=generator, dtype=torch.uint8)
    planes[:, 7] = torch.where(planes[:, 7] > 100, 255, planes[:, 7])
    planes[:, 10] = torch.where(planes[:, 10] > 40, 255, 0)
    planes[:, :, :, size_hw[1] - 3 :] = 0
    camera = Camera.level(focal_px=50.0, size_hw=size_hw, height_m=1.0, distance_m=3.0)
    return CropBytes(planes, camera)


def drawn(size_hw: tuple[int, int], frames: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    alpha = torch.rand(frames, 1, *size_hw, generator=generator)
    return torch.rand(frames, 3, *size_hw, generator=generator) * alpha, alpha


@pytest.mark.parametrize("over_plate", [True, False])
@pytest.mark.parametrize("size_hw", [(40, 56), (61, 37), (8, 8)])
@pytest.mark.parametrize("shift", [(0, 0), (3, 1)])
def test_the_loss_and_its_gradients_are_those_of_the_definition(size_hw, over_plate, shift, instruction_set):
    if size_hw == (8, 8) and shift != (0, 0):
        pytest.skip("no window of SSIM fits")
    seen, colors = crops(size_hw), torch.tensor([[0.2, 0.9, 0.4], [0.0, 1.0, 0.5]])
    results = []
    for native in (True, False):
        rgb, alpha = (t.requires_grad_() for t in drawn(size_hw))
        render = Render(rgb, alpha, torch.full_like(alpha, torch.inf))
        if native:
            loss = crop_difference(render, seen, colors, Comparison(over_plate, 0.2, 0.1, shift))
        else:
            target = FitTarget.of(Crops.of(seen), colors, over_plate=over_plate)
            loss = difference(render, target, ssim_weight=0.2, mask_weight=0.1, shift=shift)
        (3 * loss).backward()
        results.append((loss.detach(), rgb.grad, alpha.grad))
    (ours, v_rgb, v_alpha), (expected, true_v_rgb, true_v_alpha) = results
    assert abs(float(ours - expected)) <= 1e-5
    assert (v_rgb - true_v_rgb).abs().max() <= 1e-4 * true_v_rgb.abs().max()
    assert (v_alpha - true_v_alpha).abs().max() <= 1e-4 * true_v_alpha.abs().max()


def test_any_number_of_threads_gives_the_same_loss():
    size_hw = (130, 70)
    results = []
    for threads in (1, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        rgb, alpha = (t.requires_grad_() for t in drawn(size_hw))
        render = Render(rgb, alpha, torch.full_like(alpha, torch.inf))
        loss = crop_difference(render, crops(size_hw), torch.rand(2, 3) * 0, Comparison(True, 0.2, 0.1))
        loss.backward()
        torch.set_num_threads(before)
        results.append((loss.detach(), rgb.grad, alpha.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_the_rooms_share_of_an_edge_is_not_laid_over_another_color() -> None:
    planes = torch.zeros(1, 11, 4, 4, dtype=torch.uint8)
    planes[:, 4:7], planes[:, [7, 8, 10]] = 200, 255  # the room, known
    planes[:, :3], planes[:, 3] = (200 + 40) // 2, 128  # half of it, half a person of 40
    known = Crops.of(CropBytes(planes, Camera.level(focal_px=5.0, size_hw=(4, 4), height_m=1.0, distance_m=3.0)))
    target = FitTarget.of(known, torch.zeros(1, 3), over_plate=False)
    assert float((255 * target.image - 20).abs().max()) < 1.0  # half a person over black: 60 with the room's share
    unknown = replace(known, known=torch.zeros_like(known.known), plate=torch.zeros_like(known.plate))
    assert float((255 * FitTarget.of(unknown, torch.zeros(1, 3), over_plate=False).image - 60).abs().max()) < 1.0
