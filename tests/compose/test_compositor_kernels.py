"""Our C++ light and grain against their definitions in PyTorch and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.rasterizer import cpu
from avatars.rasterizer.gaussians import Gaussians
from compose.places.light import light_factor, outward_normals, preset_light, relit
from compose.rendering.compositor import _noise_bank, _noise_scale, add_grain

N = 2101


@pytest.mark.parametrize("channels", [3, 5])
@pytest.mark.parametrize("with_normals", [True, False])
@pytest.mark.parametrize("name", ["day", "night", "overcast"])
def test_lit_colors_are_those_of_the_definition(instruction_set, name, with_normals, channels):
    generator = torch.Generator().manual_seed(3)
    quats = torch.randn(N, 4, generator=generator)
    normals = torch.nn.functional.normalize(torch.randn(N, 3, generator=generator), dim=-1) if with_normals else None
    colors = torch.rand(N, channels, generator=generator)
    people = Gaussians(torch.zeros(N, 3), quats, torch.ones(N, 3), torch.ones(N), colors)
    R, gain, light = (
        matrix_from_axis_angle(torch.tensor([0.2, 1.0, -0.4])),
        torch.tensor([0.8, 1.0, 1.3]),
        preset_light(name),
    )
    ours = relit(people, light, R_world_gaussians=R, local_normals=normals, gain=gain).colors
    factor = light_factor(outward_normals(quats, normals), light, R)
    assert float(factor.max() / factor.min()) > 1.2, "the light has a direction"
    expected = (colors[:, :3] * factor * gain).clamp(0.0, 1.0)
    assert (ours - expected).abs().max() <= 5e-6


def test_grain_is_a_table_times_noise(instruction_set):
    frame = np.random.default_rng(0).integers(0, 256, (211, 307, 3), dtype=np.uint8)
    bank, scale = _noise_bank(), _noise_scale(2.0)
    start = int(np.random.default_rng(9).integers(0, len(bank)))
    noise = np.take(bank, np.arange(start, start + frame.size), mode="wrap").astype(int).reshape(frame.shape)
    expected = np.clip(frame + ((scale[frame] * noise + 512) >> 10), 0, 255)
    add_grain(frame, grain=2.0, seed=9)
    assert np.array_equal(frame, expected)


def test_noise_is_read_over_the_end_of_its_bank():
    bank, scale = np.arange(7, dtype=np.int16), np.full(256, 1024, np.int32)
    frame = np.zeros(200_000, np.uint8)
    cpu.extension().grain(frame, bank, 5, scale, 2)
    assert np.array_equal(frame, (np.arange(200_000) + 5) % 7)
