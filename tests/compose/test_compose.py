"""The place's camera, the ground, blending, shadow and placement, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.geometry.color import linear_from_srgb, srgb_from_linear
from avatars.rasterizer import rasterize
from avatars.rasterizer.gaussians import Gaussians
from avatars.rasterizer.render import Render
from compose.places.ground import camera_over_ground, ground_point, horizon_from_pitch, pitch_from_horizon
from compose.places.light import light_gain
from compose.places.photo import MAX_SIDE_PX
from compose.places.place_view import Background, PlaceView, fitted_camera
from compose.rendering.blend import composite, to_uint8, visibility
from compose.rendering.placement import NoPlacement, PlacementRules, _ahead_m, _crop_about, _sizes_at, place
from compose.rendering.shadow import ShadowLight, cast_shadow, shade


def photo(path, size=(320, 240), mode="RGB", color=(200, 100, 50), **options):
    Image.new("RGB", size, color).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("horizon", [0.1, 0.45, 0.5, 0.8, -0.4])
def test_the_level_direction_projects_onto_the_horizon(horizon):
    pitch = pitch_from_horizon(horizon, focal_px=700.0, height_px=480)
    camera = camera_over_ground(size_hw=(480, 640), focal_px=700.0, camera_height_m=1.6, pitch=pitch)
    far_away = torch.tensor([[0.0, 1.6, -1e5]])
    assert float(camera.project(far_away)[0, 1]) / 480 == pytest.approx(horizon, abs=1e-4)
    assert horizon_from_pitch(pitch, focal_px=700.0, height_px=480) == pytest.approx(horizon)


def test_a_point_on_the_ground_is_found_again_from_its_pixel():
    camera = camera_over_ground(size_hw=(480, 640), focal_px=700.0, camera_height_m=1.6, pitch=0.15)
    feet = torch.tensor([[0.3, 0.0, -4.0], [-1.0, 0.0, -9.0]])
    assert torch.allclose(ground_point(camera, camera.project(feet)), feet, atol=1e-3)
    assert ground_point(camera, torch.tensor([[320.0, 10.0]])).isnan().all()


def test_a_level_camera_shows_the_horizon_at_the_height_of_the_lens():
    camera = camera_over_ground(size_hw=(400, 400), focal_px=500.0, camera_height_m=1.6, pitch=0.0)
    eyes = camera.project(torch.tensor([[0.0, 1.6, -3.0], [1.0, 1.6, -8.0]]))
    assert torch.allclose(eyes[:, 1], torch.tensor([200.0, 200.0]), atol=1e-3)


def test_what_the_user_states_is_used_and_the_rest_is_said_to_be_assumed(tmp_path, caplog):
    path = photo(tmp_path / "a.png")
    place_ = Background.load(path, PlaceView(camera_height_m=1.2, horizon=0.3, focal_px=300.0, roll_deg=0.0))
    assert place_.assumed == ()
    assert not caplog.records
    eye = -place_.camera.T_cam_world[:3, :3].T @ place_.camera.T_cam_world[:3, 3]
    assert float(eye[1]) == pytest.approx(1.2)
    assert float(place_.camera.K[0, 0]) == 300.0
    guessed = Background.load(path)
    assert guessed.assumed == ("camera_height_m", "horizon", "focal_px", "roll_deg")
    assert "assumed, not measured" in caplog.text


def test_exif_focal_length_and_rotation_are_read(tmp_path):
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[:, :100] = 255  # white on the left as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    exif.get_ifd(0x8769)[0xA405] = 28
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    place_ = Background.load(tmp_path / "turned.jpg", PlaceView(horizon=0.4, camera_height_m=1.5, roll_deg=0.0))
    assert place_.size_hw == (300, 200)
    assert float(place_.rgb[:, :80].mean()) > 0.95
    assert float(place_.rgb[:, 120:].mean()) < 0.05
    expected = 28 / math.hypot(36, 24) * math.hypot(200, 300)
    assert float(place_.camera.K[0, 0]) == pytest.approx(expected, rel=1e-5)
    assert place_.assumed == ()


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png")]
)
def test_every_kind_of_photograph_becomes_rgb(tmp_path, mode, suffix):
    path = photo(tmp_path / f"p.{suffix}", mode=mode, color=(255, 255, 255))
    rgb = Background.load(path).rgb
    assert rgb.shape == (3, 240, 320)
    assert float(rgb.min()) > 0.97


def test_sixteen_bit_gray_keeps_its_tones(tmp_path):
    Image.fromarray(np.full((100, 100), 32768, np.uint16)).save(tmp_path / "g.png")
    assert float(Background.load(tmp_path / "g.png").rgb.mean()) == pytest.approx(0.5, abs=0.01)


def test_transparent_parts_are_laid_over_white(tmp_path, caplog):
    Image.new("RGBA", (100, 100), (0, 0, 0, 0)).save(tmp_path / "t.png")
    assert float(Background.load(tmp_path / "t.png").rgb.min()) == 1.0
    assert "transparent" in caplog.text


@pytest.mark.slow
def test_a_large_photograph_is_reduced_with_its_camera(tmp_path):
    path = photo(tmp_path / "big.jpg", size=(6000, 4000))
    place_ = Background.load(path, PlaceView(focal_px=6000.0))
    assert max(place_.size_hw) == MAX_SIDE_PX
    assert float(place_.camera.K[0, 0]) == pytest.approx(6000.0 * MAX_SIDE_PX / 6000, rel=1e-3)


def test_what_is_no_photograph_is_refused_in_one_line(tmp_path):
    whole = photo(tmp_path / "whole.jpg", size=(800, 600)).read_bytes()
    cases = {
        "text.jpg": b"hello",
        "empty.jpg": b"",
        "cut.jpg": whole[: len(whole) // 2],
        "film.mp4": b"\0" * 100,
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    photo(tmp_path / "dot.png", size=(1, 1))
    expected = {"text.jpg": "not a picture", "empty.jpg": "0 bytes", "cut.jpg": "damaged", "film.mp4": "is a video"}
    expected |= {"dot.png": "1 x 1", "none.jpg": "No photograph"}
    for name, message in expected.items():
        with pytest.raises(InputError, match=message) as caught:
            Background.load(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("crop", [(0.0, 0.0), (0.5, 0.5), (1.0, 0.3)])
def test_cropping_moves_the_camera_with_the_pixels(tmp_path, crop):
    pixels = np.zeros((240, 480, 3), np.uint8)
    pixels[118:122, 238:242] = 255
    Image.fromarray(pixels).save(tmp_path / "dot.png")
    whole = Background.load(tmp_path / "dot.png")
    point = torch.tensor([[0.0, 1.5, -5.0]])
    camera = whole.camera
    ray = torch.linalg.inv(camera.K) @ torch.tensor([240.0, 120.0, 1.0])
    R, t = camera.T_cam_world[:3, :3], camera.T_cam_world[:3, 3]
    point = (R.T @ (5 * ray - t))[None]
    view = whole.fitted((120, 160), crop)
    assert view.rgb.shape == (3, 120, 160)
    column, row = view.camera.project(point)[0].tolist()
    if 2 < column < 158 and 2 < row < 118:
        bright = torch.nonzero(view.rgb[0] > 0.5 * view.rgb[0].max()).float().mean(0) + 0.5
        assert bright.tolist() == pytest.approx([row, column], abs=0.6)
    assert torch.allclose(fitted_camera(camera, (120, 160), crop).K, view.camera.K)


def disc(value: float, size: int = 65) -> Render:
    """A premultiplied disc of one gray with a soft edge."""
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    alpha = ((20 - (x - size / 2).hypot(y - size / 2)) / 6 + 0.5).clamp(0, 1)[None, None]
    depth_m = torch.where(alpha > 0, 3.0, torch.inf)
    return Render(value * alpha.expand(1, 3, -1, -1), alpha, depth_m)


@pytest.mark.parametrize(("person", "place_"), [(1.0, 0.0), (0.0, 1.0), (0.25, 0.75)])
def test_edges_have_no_halo(person, place_):
    foreground = disc(person)
    scene = torch.full((3, 65, 65), place_)
    frame = to_uint8(composite(foreground, scene, torch.full((1, 65, 65), torch.inf))[0])
    alpha = foreground.alpha[0, 0].numpy()
    exact = 255 * (alpha * person + (1 - alpha) * place_)
    assert np.abs(frame - exact[..., None]).max() <= 0.5 + 1e-3


def test_rasterized_edges_follow_the_closed_form():
    n = 200
    torch.manual_seed(0)
    gaussians = Gaussians(
        torch.randn(n, 3) * 0.2, torch.randn(n, 4), torch.full((n, 3), 0.03), torch.full((n,), 0.8), torch.ones(n, 3)
    )
    camera = Camera.level(focal_px=120.0, size_hw=(64, 64), distance_m=2.0)
    render = rasterize(gaussians, camera)
    over_black = composite(render, torch.zeros(3, 64, 64))
    over_white = composite(render, torch.ones(3, 64, 64))
    assert torch.allclose(over_black, render.alpha.expand(-1, 3, -1, -1), atol=1 / 255)
    assert torch.allclose(over_white, torch.ones_like(over_white), atol=1 / 255)


def test_no_coverage_returns_the_place():
    scene = torch.rand(3, 8, 8)
    empty = Render(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), torch.inf))
    assert torch.equal(composite(empty, scene, torch.full((1, 8, 8), 2.0))[0], scene)


def test_a_nearer_place_hides_the_person_softly():
    person = torch.tensor([3.0, 3.0, 3.0, torch.inf]).reshape(1, 2, 2)
    scene = torch.tensor([2.0, 4.0, 3.0, torch.inf]).reshape(1, 2, 2)
    assert visibility(person, scene).flatten().tolist() == [0.0, 1.0, 0.5, 0.0]


def test_srgb_round_trip_and_a_middling_place_changes_nothing():
    values = torch.linspace(0, 1, 101)
    assert torch.allclose(srgb_from_linear(linear_from_srgb(values)), values, atol=1e-5)
    gray = float(srgb_from_linear(torch.tensor(0.20)))
    assert torch.allclose(light_gain(torch.full((3, 32, 32), gray)), torch.ones(3), atol=1e-3)
    night, snow = light_gain(torch.full((3, 32, 32), 0.05)), light_gain(torch.full((3, 32, 32), 0.98))
    assert float(night.max()) < 1.0 < float(snow.min())
    assert float(night.min()) >= 0.6 - 1e-6
    assert float(snow.max()) <= 1.2 + 1e-6


def test_the_shadow_lies_on_the_ground_under_the_feet_and_along_the_light():
    height = torch.linspace(0.0, 1.7, 500)
    means = torch.stack([torch.zeros(500), height, torch.zeros(500)], -1)
    person = Gaussians(means, torch.zeros(500, 4), torch.full((500, 3), 0.02), torch.ones(500), torch.zeros(500, 3))
    below = cast_shadow(person, ShadowLight())
    assert float(below.means.abs().max()) == 0.0
    assert float(below.opacities[0]) > float(below.opacities[499])
    contact = below.means[500:]
    assert 20 < len(contact) < 100, "only what is near the ground touches it"
    slanted = cast_shadow(person, ShadowLight(to_light=(1.0, 1.0, 0.0)))
    assert torch.allclose(slanted.means[:500, 0], -height, atol=1e-6)
    assert float(slanted.means[:, 1].abs().max()) == 0.0
    scene = torch.full((3, 4, 4), 0.5)
    assert torch.equal(shade(scene, torch.zeros(1, 4, 4), strength=0.6), scene)
    assert float(shade(scene, torch.ones(1, 4, 4), strength=0.6).max()) < 0.5


def standing(width: float = 0.6, travel_m: float = 0.0) -> torch.Tensor:
    """Corners of the volume of somebody 1.7 m tall who walks `travel_m` towards +Z."""
    x, y, z = torch.tensor([-width / 2, width / 2]), torch.tensor([0.0, 1.7]), torch.tensor([-0.2, 0.2 + travel_m])
    return torch.cartesian_prod(x, y, z)


@pytest.fixture
def view():
    pitch = pitch_from_horizon(0.4, focal_px=1000.0, height_px=800)
    return camera_over_ground(size_hw=(800, 1200), focal_px=1000.0, camera_height_m=1.6, pitch=pitch)


@pytest.mark.slow
@pytest.mark.parametrize("travel_m", [0.0, 2.0])
def test_the_whole_motion_is_in_the_frame_at_the_asked_size(view, travel_m):
    for seed in range(20):
        placement = place(standing(travel_m=travel_m), 1.7, view, (512, 512), PlacementRules(), seed)
        clip = fitted_camera(view, (512, 512), placement.crop)
        T = placement.T_world_motion
        world = standing(travel_m=travel_m) @ T[:3, :3].T + T[:3, 3]
        pixels = clip.project(world)
        assert bool((pixels >= 0).all() and (pixels <= 512).all())
        assert float(world[:, 1].min()) == pytest.approx(0.0, abs=1e-6)
        if not placement.relaxed:
            assert 0.48 <= placement.person_height <= 0.92


def test_the_person_keeps_facing_the_camera_wherever_it_stands(view):
    placement = place(standing(), 1.7, view, (512, 512), PlacementRules(at=(0.8, 4.0)), 0)
    facing = placement.T_world_motion[:3, :3] @ torch.tensor([0.0, 0.0, 1.0])
    to_camera = torch.nn.functional.normalize(torch.tensor([-0.8, 0.0, 4.0]), dim=0)
    assert torch.allclose(facing, to_camera, atol=1e-5)
    assert placement.T_world_motion[:3, 3].tolist() == pytest.approx([0.8, 0.0, -4.0])
    turned = place(standing(), 1.7, view, (512, 512), PlacementRules(at=(0.0, 4.0), heading_deg=(90.0, 90.0)), 0)
    assert torch.allclose(turned.T_world_motion[:3, 2], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)


def test_the_motion_stays_on_the_free_floor(view):
    rules = PlacementRules(floor_m=(2.0, 4.5))
    for seed in range(10):
        placement = place(standing(), 1.7, view, (512, 512), rules, seed)
        assert 2.0 <= -placement.z_m <= 4.5
    with pytest.raises(NoPlacement, match="off the free floor"):
        place(standing(travel_m=6.0), 1.7, view, (512, 512), rules, 0)


def test_the_same_seed_gives_the_same_spot(view):
    one, same, other = (place(standing(), 1.7, view, (512, 512), PlacementRules(), s) for s in (1, 1, 2))
    assert one == same != other


def test_where_the_motion_cannot_fit_the_reasons_are_counted(view):
    with pytest.raises(NoPlacement, match=r"200 tried: too wide \d+x"):
        place(standing(width=40.0), 1.7, view, (512, 512), PlacementRules(), 0)
    sky = camera_over_ground(size_hw=(800, 800), focal_px=1000.0, camera_height_m=1.6, pitch=-0.6)
    with pytest.raises(NoPlacement, match="feet below the frame"):
        place(standing(), 1.7, sky, (512, 512), PlacementRules(), 0)


@pytest.mark.parametrize(("pitch_deg", "height_m"), [(0.0, 1.5), (12.0, 1.5), (38.0, 2.7), (20.0, 0.6)])
def test_a_person_has_the_size_that_was_asked_for_however_the_camera_looks_down(pitch_deg, height_m):
    camera = camera_over_ground(
        size_hw=(480, 640), focal_px=700.0, camera_height_m=height_m, pitch=math.radians(pitch_deg)
    )
    standing = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.7, 0.0]])
    for size in (0.3, 0.6):
        ahead_m = _ahead_m(camera, 1.7, size)
        assert ahead_m is not None
        feet, head = camera.project(standing + torch.tensor([0.0, 0.0, -ahead_m]))
        assert float(feet[1] - head[1]) / 480 == pytest.approx(size, rel=1e-4)
        assert float(_sizes_at(camera, 1.7, np.array(ahead_m))) == pytest.approx(size, rel=1e-4)
    assert (
        _ahead_m(camera_over_ground(size_hw=(480, 640), focal_px=700.0, camera_height_m=5.0, pitch=1.0), 1.7, 0.9)
        is None
    )


def test_the_window_of_a_wide_photograph_is_put_about_the_spot():
    camera = camera_over_ground(size_hw=(480, 1600), focal_px=700.0, camera_height_m=1.5, pitch=0.1)
    points = torch.tensor([[2.2, 0.0, -4.0], [2.5, 1.7, -4.0]])
    for share in (0.0, 0.5, 1.0):
        crop = _crop_about(camera, (480, 480), points, 0.02, (share, share))
        columns = fitted_camera(camera, (480, 480), crop).project(points)[:, 0]
        assert float(columns.min()) >= 0.02 * 480 - 1
        assert float(columns.max()) <= 0.98 * 480 + 1
