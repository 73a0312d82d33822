"""Our C++ light on Gaussians against plain PyTorch, and closed forms."""

from __future__ import annotations

import pytest
import torch

from avatars.avatar.shading import shaded, shaded_reference
from avatars.errors import InputError

N = 2101


def inputs(frames: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(frames, 3, N, generator=generator), dim=1)
    light = 0.3 * torch.randn(8, 3, generator=generator)
    return [torch.rand(N, 3, generator=generator), normals, light, 0.2 * torch.randn(frames, 3, generator=generator)]


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("in_shadow", [False, True])
def test_shading_agrees_with_plain_pytorch_in_values_and_gradients(
    frames: int, in_shadow: bool, instruction_set: str
) -> None:
    results = []
    shadow = -torch.rand(frames, N, generator=torch.Generator().manual_seed(1)) if in_shadow else None
    for function in (shaded, shaded_reference):
        albedo, normals, light, exposure = inputs(frames)
        leaves = [t.requires_grad_() for t in (albedo, light, exposure)]
        colors = function(albedo, normals, light, exposure, shadow)
        (colors * colors.detach().sin()).sum().backward()
        results.append([colors, *(leaf.grad for leaf in leaves)])
    for ours, expected in zip(*results, strict=True):
        assert ours.shape == expected.shape
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_without_light_and_exposure_colors_are_the_albedo() -> None:
    albedo, normals, light, exposure = inputs(2)
    assert torch.equal(shaded(albedo, normals, 0 * light, 0 * exposure), albedo.expand(2, N, 3))


def test_light_from_above_brightens_what_faces_up() -> None:
    light = torch.zeros(8, 3)
    light[1] = 0.5  # the second harmonic is the normal's height
    normals = torch.tensor([[0.0, 0, 0], [1, -1, 0], [0, 0, 1]])[None]
    colors = shaded(torch.full((3, 3), 0.4), normals, light, torch.zeros(1, 3))
    expected = 0.4 * torch.tensor([0.5, -0.5, 0.0]).exp()
    assert torch.allclose(colors[0], expected[:, None].expand(3, 3), atol=1e-6)


def test_another_dtype_is_refused_on_the_cpu() -> None:
    albedo, normals, light, exposure = inputs(1)
    with pytest.raises(InputError, match=r"light is torch\.float64"):
        shaded(albedo, normals, light.double(), exposure)
