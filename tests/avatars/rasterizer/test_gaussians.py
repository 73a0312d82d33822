"""The Gaussians' PLY, which other programs open."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.rasterizer import rasterize
from avatars.rasterizer.gaussians import PLY_COLUMNS, SH_DC, Gaussians


def some(n: int = 40, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(n, 3, generator=g) * 0.3,
        torch.randn(n, 4, generator=g),
        torch.rand(n, 3, generator=g) * 0.1 + 0.02,
        torch.rand(n, generator=g) * 0.9 + 0.05,
        torch.rand(n, 3, generator=g),
    )


def test_a_ply_read_back_gives_the_same_image(tmp_path: Path) -> None:
    before = some()
    after = Gaussians.load_ply(before.save_ply(tmp_path / "a.ply"))
    camera = Camera.looking_at(torch.tensor([0.0, 0.0, 2.0]), torch.zeros(3), focal_px=60.0, size_hw=(48, 48))
    images = [rasterize(g, camera, implementation="reference").rgb for g in (before, after)]
    assert float((images[0] - images[1]).abs().max()) < 1e-4
    assert float(images[0].max()) > 0.2


def test_the_ply_says_what_3dgs_viewers_expect(tmp_path: Path) -> None:
    gaussians = some(1)
    content = gaussians.save_ply(tmp_path / "a.ply").read_bytes()
    header, body = content.split(b"end_header\n")
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n")
    assert [line.split()[-1].decode() for line in header.splitlines() if b"property" in line] == list(PLY_COLUMNS)
    row = dict(zip(PLY_COLUMNS, torch.frombuffer(bytearray(body), dtype=torch.float32).tolist(), strict=True))
    assert row["f_dc_1"] == pytest.approx((float(gaussians.colors[0, 1]) - 0.5) / SH_DC, abs=1e-5)
    assert torch.sigmoid(torch.tensor(row["opacity"])) == pytest.approx(float(gaussians.opacities[0]), abs=1e-5)
    assert row["scale_2"] == pytest.approx(float(gaussians.scales[0, 2].log()), abs=1e-5)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not a ply", "not a PLY"),
        (b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", "little-endian"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\nend_header\n\0\0\0\0", "3DGS"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        Gaussians.load_ply(path)


def test_a_ply_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = some().save_ply(tmp_path / "a.ply")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cut short"):
        Gaussians.load_ply(path)


def test_a_ply_holds_one_set(tmp_path: Path) -> None:
    one = some()
    frames = Gaussians(one.means[None], one.quats[None], one.scales, one.opacities, one.colors)
    with pytest.raises(InputError, match="one set"):
        frames.save_ply(tmp_path / "a.ply")


def test_one_frame_of_posed_gaussians_shares_what_all_frames_share() -> None:
    one = some()
    posed = Gaussians(torch.stack([one.means, one.means + 1]), one.quats[None], one.scales, one.opacities, one.colors)
    second = posed.frame(1)
    assert torch.equal(second.means, one.means + 1) and torch.equal(second.quats, one.quats)
    assert second.scales is one.scales and second.opacities is one.opacities
    assert all(torch.equal(getattr(one.frame(5), name), getattr(one, name)) for name in Gaussians.__slots__)
    with pytest.raises(IndexError):
        posed.frame(2)
