"""The viewer draws what its sliders say, and its page answers."""

from __future__ import annotations

import importlib.util
import io
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.avatar.rig import Rig
from avatars.body import load_body
from avatars.commands import console
from avatars.commands.view import ViewCommand
from avatars.fitting.parameters import on_the_surface
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import quaternion_from_matrix
from avatars.rasterizer import rasterize
from avatars.viewing.live_view import Light, LiveView, camera_of, lamp
from avatars.viewing.rendering import rest_motion

needs_viser = pytest.mark.skipif(importlib.util.find_spec("viser") is None, reason="pip install 'splat-avatars[view]'")
EYE, TARGET = torch.tensor([0.5, 1.2, 3.6]), torch.tensor([0.0, 0.9, 0.0])


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    body, betas = load_body(), torch.zeros(20)
    binding = spread_over(body, body.shaped(betas)[0], 4000)
    rig = Rig.build(body, binding, betas)
    start = on_the_surface(rig, rig.neighbors())
    start.albedo = torch.full_like(start.albedo, 0.4)
    start.opacity_logits = torch.full_like(start.opacity_logits, 4.0)
    return Avatar(body, betas, binding, **start.leaves())


@pytest.fixture
def view(avatar: Avatar) -> LiveView:
    return LiveView(avatar, rest_motion(avatar, 3))


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera.looking_at(EYE, TARGET, focal_px=150.0, size_hw=(120, 90))


def client_camera(fov_rad: float = 0.8, aspect: float = 0.75) -> SimpleNamespace:
    """What viser tells of a browser's camera: orientation camera to world, OpenCV axes."""
    R = Camera.looking_at(EYE, TARGET, focal_px=1.0, size_hw=(2, 2)).T_cam_world[:3, :3].t()
    return SimpleNamespace(wxyz=quaternion_from_matrix(R).numpy(), position=EYE.numpy(), fov=fov_rad, aspect=aspect)


def shown(picture: np.ndarray) -> float:
    """Share of the picture that is not background."""
    return float((picture.min(-1) < 200).mean())


def test_without_touching_anything_the_view_is_the_render(avatar: Avatar, view: LiveView, camera: Camera) -> None:
    render = rasterize(avatar.posed(rest_motion(avatar)), camera, background=torch.ones(3))
    wanted = (render.rgb[0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()
    assert np.abs(view.draw(camera) - wanted).max() <= 1
    assert 0.05 < shown(view.draw(camera)) < 0.6


def test_a_browsers_camera_becomes_ours() -> None:
    c = client_camera()
    ours = camera_of(c.wxyz, c.position, c.fov, c.aspect, 200)
    wanted = Camera.looking_at(EYE, TARGET, focal_px=float(100 / np.tan(0.4)), size_hw=(200, 150))
    assert ours.size_hw == wanted.size_hw
    assert torch.allclose(ours.K, wanted.K, rtol=1e-4)
    assert torch.allclose(ours.T_cam_world, wanted.T_cam_world, atol=1e-5)


def test_each_slider_changes_the_picture_and_comes_back(view: LiveView, camera: Camera) -> None:
    before, s = view.draw(camera), view.settings
    own = s.betas

    def difference() -> float:
        return float(np.abs(view.draw(camera).astype(int) - before).mean())

    s.turns_deg["left_elbow"] = (0.0, -90.0, 0.0)
    assert difference() > 0.3
    s.turns_deg.clear()
    s.expression[0] = 2.0
    assert view.gaussians().means.shape == (1, len(view.avatar), 3) and difference() > 0
    s.expression.clear()
    s.betas = own + torch.tensor([2.0] + [0.0] * 19)
    assert difference() > 0.5
    s.betas = own
    s.light = Light(strength=0.8, azimuth_deg=90)
    assert difference() > 0.5
    s.light = Light()
    assert difference() == 0


def test_the_frame_slider_moves_along_the_motion(avatar: Avatar, view: LiveView, camera: Camera) -> None:
    motion = rest_motion(avatar, 3)
    motion.transl[2, 0] += 0.5
    view.settings.motion, view.settings.frame = motion, 0
    columns = [np.nonzero((view.draw(camera).min(-1) < 200).any(0))[0].mean()]
    view.settings.frame = 2
    columns.append(np.nonzero((view.draw(camera).min(-1) < 200).any(0))[0].mean())
    assert columns[1] > columns[0] + 5


def test_the_lamp_brightens_what_faces_it() -> None:
    normals = torch.eye(3)[None]  # columns: facing +X, +Y, +Z
    factor = lamp(normals, Light(strength=1.0, azimuth_deg=90, elevation_deg=0))[0, :, 0]
    assert float(factor[0]) == pytest.approx(1.6 ** (1 / 2.2), abs=1e-4)
    assert float(factor[1:].max()) < 0.05
    assert torch.allclose(lamp(normals, Light()), torch.ones(1, 3, 1))


@needs_viser
def test_the_page_answers_and_a_client_sees_the_person(avatar: Avatar) -> None:
    from avatars.viewing.viewer import Viewer

    still = rest_motion(avatar, 2)
    viewer = Viewer(avatar, {"still": still}, port=18080, comparisons=[("frame 4", np.zeros((8, 16, 3), np.uint8))] * 2)
    try:
        with urllib.request.urlopen(viewer.address, timeout=10) as answer:
            assert answer.status == 200 and b"<html" in answer.read().lower()
        picture = viewer.picture(client_camera(), 160)
        assert picture.shape == (160, 120, 3) and picture.dtype == np.uint8
        assert 0.05 < shown(picture) < 0.6
        assert set(viewer.motions) == {"standing", "still"}
    finally:
        viewer.stop()


def messages_of(frame: bytes) -> list[dict]:
    """viser's messages in one websocket frame: two lengths, then msgpack in zstd."""
    import msgspec
    import zstandard

    compressed = int.from_bytes(frame[8:16], "little")
    return list(
        msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(frame[16 : 16 + compressed]))["messages"]
    )


@needs_viser
def test_a_connecting_browser_is_sent_pictures_of_the_person(avatar: Avatar) -> None:
    """What a browser does: open the socket, tell the camera, receive the background (quick first, then sharp), and
    send what somebody does with a slider."""
    import time

    import msgspec
    import viser
    from websockets.sync.client import connect

    from avatars.viewing.viewer import Viewer

    c = client_camera()
    said = {
        "type": "ViewerCameraMessage", "wxyz": c.wxyz.tolist(), "position": c.position.tolist(), "fov": c.fov,
        "near": 0.01, "far": 100.0, "image_height": 400, "image_width": 300, "look_at": TARGET.tolist(),
        "up_direction": [0.0, 1.0, 0.0],
    }  # fmt: skip
    viewer = Viewer(avatar, {}, port=18090)
    pictures: list[np.ndarray] = []
    sliders: dict[str, str] = {}
    address, version = viewer.address.replace("http", "ws", 1).rstrip("/"), [f"viser-v{viser.__version__}"]
    try:
        with connect(address, subprotocols=version, max_size=None, proxy=None) as socket:
            socket.send(msgspec.msgpack.encode(said))
            deadline = time.monotonic() + 30
            while (not pictures or pictures[-1].shape[0] != 640) and time.monotonic() < deadline:
                for message in messages_of(socket.recv(timeout=30)):
                    if message["type"] == "GuiSliderMessage":
                        sliders[message["props"]["label"]] = message["uuid"]
                    if message["type"] == "BackgroundImageMessage" and message["rgb_data"]:
                        pictures.append(np.array(Image.open(io.BytesIO(message["rgb_data"])).convert("RGB")))
            before = viewer.picture(c, 160)
            for label, value in (("beta 0", 2.0), ("lamp", 0.5), ("expression 1", 1.0), ("x", 40)):
                update = {"type": "GuiUpdateMessage", "uuid": sliders[label], "updates": {"value": value}}
                socket.send(msgspec.msgpack.encode(update))
            now = viewer.view.settings
            while time.monotonic() < deadline and not (
                now.turns_deg and now.expression and now.light.strength and float(now.betas[0])
            ):
                time.sleep(0.02)
        settings, after = viewer.view.settings, viewer.picture(c, 160)
    finally:
        viewer.stop()
    assert float(settings.betas[0]) == 2.0 and settings.light.strength == 0.5 and settings.expression == {1: 1.0}
    assert settings.turns_deg == {"left_elbow": (40.0, 0.0, 0.0)}
    assert np.abs(after.astype(int) - before).mean() > 1
    assert pictures[0].shape[0] == 320 and pictures[-1].shape[0] == 640
    assert 0.02 < shown(pictures[-1]) < 0.6


def test_without_viser_the_command_says_what_to_install(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    assert console.run(ViewCommand(tmp_path)) == console.USER_MISTAKE
    assert "pip install 'splat-avatars[view]'" in capsys.readouterr().err


def test_another_video_is_refused(avatar: Avatar, tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="No video at"):
        ViewCommand(tmp_path, video=tmp_path / "none.mp4").comparisons(avatar)
