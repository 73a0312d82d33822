"""`reenact backgrounds prepare` with Depth-Anything: meters where the checkpoint has them, fitted where it has not.

The network has the true architecture at tiny size. Its weights are random, then fitted to one made-up picture for a few
seconds: nothing here says how good any published weights are.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from compose.places.ground import camera_over_ground, ground_depth, world_points
from compose.places.place_folder import load_place
from reenact.commands.backgrounds import BackgroundsCommand

SIZE, HEIGHT_M, PITCH, FOCAL_PX = (70, 98), 1.5, 0.25, 95.0
HORIZON = 0.5 - FOCAL_PX * np.tan(PITCH) / SIZE[0]


@pytest.fixture(scope="module")
def depth_m() -> torch.Tensor:
    """A floor, and a wall 6 m ahead."""
    camera = camera_over_ground(size_hw=SIZE, focal_px=FOCAL_PX, camera_height_m=HEIGHT_M, pitch=PITCH)
    eye = -camera.T_cam_world[:3, :3].T @ camera.T_cam_world[:3, 3]
    rays = world_points(torch.ones(SIZE), camera) - eye
    wall = (-6.0 - eye[2]) / rays[..., 2]
    return torch.minimum(ground_depth(camera), torch.where(wall > 0, wall, torch.inf))


@pytest.fixture
def photo(tmp_path, depth_m):
    gray = (40 + 20 * depth_m).numpy().astype(np.uint8)
    Image.fromarray(np.repeat(gray[..., None], 3, -1)).save(tmp_path / "hall.png")
    floor = depth_m == ground_depth(
        camera_over_ground(size_hw=SIZE, focal_px=FOCAL_PX, camera_height_m=HEIGHT_M, pitch=PITCH)
    )
    Image.fromarray(floor.numpy().astype(np.uint8) * 255).save(tmp_path / "hall_floor.png")
    return tmp_path / "hall.png"


def checkpoint(folder, kind: str, picture, target: torch.Tensor, **extra):
    """A tiny Depth-Anything that answers `target` to one picture."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: depth)")
    backbone = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=SIZE[1], patch_size=14,
        out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8, 16, 32, 32],
        fusion_hidden_size=16, head_hidden_size=16, depth_estimation_type=kind, **extra,
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.DepthAnythingForDepthEstimation(config)
    for weight in (w for part in (network.neck, network.head) for w in part.parameters() if w.ndim == 4):
        torch.nn.init.kaiming_normal_(weight)
    torch.nn.init.zeros_(network.head.conv3.weight)
    torch.nn.init.constant_(network.head.conv3.bias, -1.0 if kind == "metric" else 1.7)
    processor = transformers.DPTImageProcessor(
        size={"height": SIZE[0], "width": SIZE[1]}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    pixels = processor(images=[np.asarray(Image.open(picture))], return_tensors="pt")["pixel_values"]
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(70):
        loss = (network(pixel_values=pixels).predicted_depth[0] / target).clamp_min(1e-3).log().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


def prepared(photo, out, **options):
    """place.yaml and the depth of the place."""
    command = BackgroundsCommand("prepare", (photo,), out, depth="depth-anything", focal_px=FOCAL_PX, **options)
    assert command.run() == 0
    document = yaml.safe_load((out / "hall" / "place.yaml").read_text())
    return document, np.load(out / "hall" / "depth.npz")["depth_m"].astype(np.float32)


@pytest.mark.slow
def test_a_metric_checkpoint_is_used_as_meters(tmp_path, photo, depth_m, bare_environment, monkeypatch):
    checkpoint(tmp_path / "weights", "metric", photo, depth_m, max_depth=20)
    monkeypatch.setenv("DEPTH_ANYTHING_WEIGHTS", str(tmp_path / "weights"))
    document, found_m = prepared(photo, tmp_path / "once")
    assert document["depth"]["kind"] == "metric"
    assert document["measured"]["camera_height_m"] == "depth"
    assert document["camera"]["height_m"] == pytest.approx(HEIGHT_M, rel=0.1)
    assert np.median(found_m / depth_m.numpy()) == pytest.approx(1.0, abs=0.1)

    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    (tmp_path / "weights" / "config.json").write_text(json.dumps({**config, "max_depth": 40}))
    twice, _ = prepared(photo, tmp_path / "twice", camera_height_m=1.0)
    assert twice["camera"]["height_m"] == pytest.approx(2 * document["camera"]["height_m"], rel=0.02), (
        "the checkpoint's meters count, not what was said of the camera"
    )


@pytest.mark.slow
def test_relative_depth_gets_its_meters_from_the_ground_alone(tmp_path, photo, depth_m, bare_environment, monkeypatch):
    checkpoint(tmp_path / "weights", "relative", photo, 3.0 / depth_m + 0.7)
    monkeypatch.setenv("DEPTH_ANYTHING_WEIGHTS", str(tmp_path / "weights"))
    document, found_m = prepared(photo, tmp_path / "low", camera_height_m=HEIGHT_M, horizon=HORIZON)
    assert np.median(found_m / depth_m.numpy()) == pytest.approx(1.0, abs=0.1)
    higher, twice_m = prepared(photo, tmp_path / "high", camera_height_m=2 * HEIGHT_M, horizon=HORIZON)
    np.testing.assert_allclose(twice_m, 2 * found_m, rtol=0.01)
    for found in (document, higher):
        assert found["depth"]["kind"] == "fitted"
        assert "relative, fitted to the ground" in found["measured"]["depth"]
        assert found["measured"]["camera_height_m"] == "given"
    assumed, _ = prepared(photo, tmp_path / "assumed", horizon=HORIZON)
    assert "camera_height_m" in assumed["assumed"]
    assert load_place(tmp_path / "assumed" / "hall").assumed == tuple(assumed["assumed"])


@pytest.mark.slow
def test_relative_depth_that_contradicts_the_ground_is_refused(
    tmp_path, photo, depth_m, bare_environment, monkeypatch, capsys
):
    checkpoint(tmp_path / "weights", "relative", photo, depth_m)  # grows with distance
    monkeypatch.setenv("DEPTH_ANYTHING_WEIGHTS", str(tmp_path / "weights"))
    command = BackgroundsCommand("prepare", (photo,), tmp_path / "out", depth="depth-anything", horizon=HORIZON)
    assert command.run() == 1
    assert "does not rise and fall" in capsys.readouterr().out
    assert not (tmp_path / "out" / "hall" / "place.yaml").exists()
