"""Places: depth files, ground by RANSAC, free floor, prepared folders, placement in a room, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.studio.plates import plate_of
from compose.places.free_floor import FreeFloor
from compose.places.ground import camera_over_ground, ground_depth, ground_plane, popup_depth, world_points
from compose.places.light import PlaceLight, estimated_light, preset_light
from compose.places.photo import MAX_SIDE_PX
from compose.places.place_folder import camera_angles, open_place
from compose.places.place_view import PlaceView
from compose.preparation.check_image import draw_check
from compose.preparation.depth import cleaned, depth_file_beside, noise_level, read_depth
from compose.preparation.prepare import LONG_SIDE_PX, PlaceHints, prepare_place
from compose.preparation.video_background import clip_plate, painted_in
from compose.rendering.placement import NoPlacement, PlacementRules, place

pytestmark = pytest.mark.slow

SIZE = (180, 240)
FOCAL = 220.0


def room_depth(camera: Camera, *, wall_m: float = 6.0, box: bool = True) -> torch.Tensor:
    """Exact depth of a floor, a wall across at z = -wall_m, and a box 0.8 m high at x 0..1, z -3.5..-2.5."""
    depth = ground_depth(camera)
    eye = -camera.T_cam_world[:3, :3].T @ camera.T_cam_world[:3, 3]
    rays = world_points(torch.ones(camera.size_hw), camera) - eye
    wall = (-wall_m - eye[2]) / rays[..., 2]
    depth = torch.minimum(depth, torch.where(wall > 0, wall, torch.inf))
    if box:
        low, high = torch.tensor([0.0, 0.0, -3.5]), torch.tensor([1.0, 0.8, -2.5])
        a, b = (low - eye) / rays, (high - eye) / rays
        near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
        depth = torch.minimum(depth, torch.where((near < far) & (near > 0), near, torch.inf))
    return depth


@pytest.fixture(scope="module")
def camera() -> Camera:
    return camera_over_ground(size_hw=SIZE, focal_px=FOCAL, camera_height_m=1.5, pitch=0.2)


@pytest.fixture(scope="module")
def depth(camera) -> np.ndarray:
    return room_depth(camera).numpy()


@pytest.fixture
def photo(tmp_path, camera, depth):
    """A picture of the room with its depth beside it."""
    rng = np.random.default_rng(0)
    gray = np.clip(60 + 20 * np.minimum(depth, 8)[..., None] + rng.normal(0, 3, (*SIZE, 3)), 0, 255)
    Image.fromarray(gray.astype(np.uint8)).save(tmp_path / "room.png")
    np.save(tmp_path / "room_depth.npy", depth.astype(np.float32))
    return tmp_path / "room.png"


def standing(width: float = 0.5) -> torch.Tensor:
    x, y, z = torch.linspace(-width / 2, width / 2, 6), torch.linspace(0, 1.7, 18), torch.linspace(-0.15, 0.15, 4)
    return torch.cartesian_prod(x, y, z)


@pytest.mark.parametrize("pitch", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("height_m", [0.8, 1.5, 2.2])
def test_the_ground_is_found_in_exact_depth(pitch, height_m):
    view = camera_over_ground(size_hw=SIZE, focal_px=FOCAL, camera_height_m=height_m, pitch=pitch)
    plane = ground_plane(room_depth(view).numpy(), view.K.double().numpy())
    found = plane.camera(view.K, SIZE)
    assert torch.allclose(found.T_cam_world[:3, :3], view.T_cam_world[:3, :3], atol=2e-3)
    assert plane.height_m == pytest.approx(height_m, abs=0.005)


def test_a_rolled_camera_keeps_its_roll(camera, depth):
    roll = 0.1
    c, s = np.cos(roll), np.sin(roll)
    up = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ camera.T_cam_world[:3, 1].numpy()
    turned = ground_plane.__globals__["GroundPlane"](up, 1.5, 1.0).camera(camera.K, SIZE)
    assert camera_angles(turned)[2] == pytest.approx(np.degrees(np.arctan2(up[0], -up[1])), abs=1e-3)
    assert float(turned.to_camera(torch.zeros(1, 3))[0] @ torch.tensor(up, dtype=torch.float32)) == pytest.approx(-1.5)


def test_a_table_is_not_taken_for_the_floor(camera):
    plane = ground_plane(room_depth(camera).numpy(), camera.K.double().numpy())
    assert plane.height_m == pytest.approx(1.5, abs=0.01), "the box's top is 0.7 m below the camera"


def test_a_wall_alone_has_no_ground(camera):
    assert ground_plane(np.full(SIZE, 3.0, np.float32), camera.K.double().numpy()) is None


def test_the_floor_is_free_but_under_and_behind_the_box(camera, depth):
    floor = FreeFloor.of(depth, camera)
    spots = torch.tensor([[-0.8, 0, -3.0], [0.5, 0, -3.0], [0.5, 0, -3.7], [-0.8, 0, -7.0]])
    assert floor.is_free(spots).tolist() == [True, False, False, False]
    assert floor.area_m2 > 3.0


def test_a_body_may_not_touch_the_box_but_may_stand_before_it(camera, depth):
    floor = FreeFloor.of(depth, camera)
    assert floor.blocked(standing() + torch.tensor([-0.9, 0.0, -3.0])) is None
    assert floor.blocked(standing() + torch.tensor([0.5, 0.0, -3.0])) == "off the free floor"
    arm = torch.tensor([[0.1, 0.5, -3.0]])
    assert floor.blocked(torch.cat([standing() + torch.tensor([-0.4, 0, -3.0]), arm])) == "in furniture or unseen space"
    over = torch.tensor([[0.1, 1.2, -3.0]])
    assert floor.blocked(torch.cat([standing() + torch.tensor([-0.4, 0, -3.0]), over])) is None


def test_somebody_else_takes_room(camera, depth):
    floor = FreeFloor.of(depth, camera)
    here = standing() + torch.tensor([-0.9, 0.0, -3.0])
    assert floor.without(here).blocked(here) == "off the free floor"


@pytest.mark.parametrize("seed", range(8))
def test_whoever_is_placed_stands_clear_of_the_box(camera, depth, seed):
    floor = FreeFloor.of(depth, camera)
    rules = PlacementRules(person_height=(0.3, 0.8))
    placement = place(standing(), 1.7, camera, SIZE, rules, seed, floor=floor)
    T = placement.T_world_motion
    world = standing() @ T[:3, :3].T + T[:3, 3]
    low, high = torch.tensor([0.0, 0.0, -3.5]), torch.tensor([1.0, 0.8, -2.5])
    assert float(torch.minimum(world - low, high - world).amin(-1).max()) < 0.0
    assert float(world[:, 2].min()) > -6.0
    again = place(standing(), 1.7, camera, SIZE, rules, seed, floor=floor)
    assert again == placement


def test_refused_spots_are_counted_by_reason(camera, depth):
    blocked = FreeFloor(np.zeros((300, 600), bool), -15.0, depth, camera)
    with pytest.raises(NoPlacement, match=r"off the free floor 1000x"):
        place(standing(), 1.7, camera, SIZE, PlacementRules(), 0, floor=blocked)


def test_noise_is_measured_and_smoothed_within_surfaces(depth):
    rng = np.random.default_rng(1)
    noisy = (depth * (1 + 0.05 * rng.standard_normal(SIZE))).astype(np.float32)
    assert noise_level(noisy) == pytest.approx(0.05, rel=0.15)
    assert noise_level(depth) < 0.002
    smooth = cleaned(noisy, np.full((*SIZE, 3), 0.5, np.float32))
    error = np.abs(smooth / depth - 1)
    assert np.median(error) < 0.015
    assert cleaned(depth, np.zeros((*SIZE, 3), np.float32)) is depth


def test_what_is_not_floor_stands_up_where_it_meets_it(camera):
    floor = np.ones(SIZE, bool)
    floor[:100] = False
    depth_m = popup_depth(camera, floor)
    ground = ground_depth(camera).numpy()
    assert np.array_equal(depth_m[100:], ground[100:])
    assert np.allclose(depth_m[20], ground[100])


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_photograph_with_depth_becomes_a_place_and_comes_back(tmp_path, photo, depth, noise):
    if noise:
        rng = np.random.default_rng(2)
        np.save(tmp_path / "room_depth.npy", (depth * (1 + noise * rng.standard_normal(SIZE)))[::2, ::2])
    prepared = prepare_place(photo, PlaceHints(PlaceView(focal_px=FOCAL), tags=("kitchen",), licence="CC0"))
    assert prepared.assumed == ()
    height_m, pitch, roll = camera_angles(prepared.camera)
    assert height_m == pytest.approx(1.5, rel=0.01)
    assert pitch == pytest.approx(np.degrees(0.2), abs=0.4)
    assert abs(roll) < 0.4
    draw_check(prepared)
    background = open_place(prepared.save(tmp_path / "place"))
    assert background.tags == ("kitchen",)
    assert background.licence == "CC0"
    assert torch.allclose(background.camera.T_cam_world, prepared.camera.T_cam_world, atol=1e-6)
    assert background.floor.area_m2 == pytest.approx(prepared.floor.area_m2, rel=0.02)
    assert background.light == PlaceLight.from_json(prepared.light.as_json())
    on_floor = ~torch.isfinite(background.depth_m[0]).numpy()
    assert on_floor[-5:].mean() > 0.97, "the floor hides nobody's feet"


def test_millimeters_and_meters_agree(tmp_path, depth):
    Image.fromarray((depth * 1000).astype(np.uint16)).save(tmp_path / "d.png")
    np.save(tmp_path / "d.npy", depth)
    assert np.allclose(read_depth(tmp_path / "d.png", SIZE), read_depth(tmp_path / "d.npy", SIZE), atol=0.0011)
    assert depth_file_beside(tmp_path / "nothing.jpg") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((100, 100)), "another shape"),
        (np.ones((4, *SIZE)), "one number per pixel"),
        (-np.ones(SIZE), "negative depth"),
        (np.zeros(SIZE), "knows the depth of 0"),
        (np.full(SIZE, np.nan), "knows the depth of 0"),
        (np.full(SIZE, 4000.0), "not meters"),
        (np.array(["a"]), "no numbers"),
    ],
)
def test_depth_that_is_none_is_refused(tmp_path, content, message):
    np.save(tmp_path / "d.npy", content)
    with pytest.raises(InputError, match=message):
        read_depth(tmp_path / "d.npy", SIZE)


def test_a_damaged_depth_file_is_refused(tmp_path, depth):
    np.save(tmp_path / "d.npy", depth)
    whole = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="no npy file that can be read"):
        read_depth(tmp_path / "d.npy", SIZE)
    Image.new("RGB", (240, 180)).save(tmp_path / "d.png")
    with pytest.raises(InputError, match="16-bit gray PNG"):
        read_depth(tmp_path / "d.png", SIZE)


def test_depth_without_a_floor_is_refused(tmp_path, photo):
    np.save(tmp_path / "room_depth.npy", np.full(SIZE, 2.0))
    with pytest.raises(InputError, match="no floor in its depth"):
        prepare_place(photo)


def test_a_sky_and_a_picture_of_one_pixel_are_refused(tmp_path):
    Image.new("RGB", (320, 240), (120, 160, 230)).save(tmp_path / "sky.png")
    with pytest.raises(InputError, match="no floor found"):
        prepare_place(tmp_path / "sky.png", PlaceHints(PlaceView(horizon=1.2)))
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(InputError, match="1 x 1"):
        prepare_place(tmp_path / "dot.png")


def test_a_photograph_without_floor_is_refused(shared_data):
    with pytest.raises(InputError, match="no floor"):
        prepare_place(shared_data / "photos" / "groceries.jpg")


@pytest.mark.parametrize("mode", ["CMYK", "RGBA", "L"])
def test_every_kind_of_photograph_can_be_prepared(tmp_path, photo, mode):
    path = tmp_path / ("other.jpg" if mode == "CMYK" else "other.png")
    Image.open(photo).convert(mode).save(path)
    (tmp_path / "room_depth.npy").rename(tmp_path / "other_depth.npy")
    assert prepare_place(path).rgb.shape == (*SIZE, 3)


def test_a_turned_photograph_has_the_depth_of_the_upright_one(tmp_path, photo, depth):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photo).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    np.save(tmp_path / "turned_depth.npy", depth)
    prepared = prepare_place(tmp_path / "turned.png", PlaceHints(PlaceView(focal_px=FOCAL)))
    assert prepared.rgb.shape[:2] == SIZE
    assert np.abs(prepared.rgb.astype(int) - np.asarray(Image.open(photo)).astype(int)).max() == 0


def test_a_hundred_megapixels_are_reduced(tmp_path):
    path = tmp_path / "huge.jpg"
    Image.new("RGB", (11600, 8700), (90, 80, 70)).save(path)
    prepared = prepare_place(path, PlaceHints(PlaceView(horizon=0.4)))
    assert max(prepared.rgb.shape[:2]) == LONG_SIDE_PX <= MAX_SIDE_PX
    assert float(prepared.camera.K[0, 0]) == pytest.approx(1.1 * LONG_SIDE_PX, rel=1e-3)


def test_a_folder_that_is_no_place_or_damaged_is_refused(tmp_path, photo):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"it has no place\.yaml"):
        open_place(tmp_path / "empty")
    folder = prepare_place(photo).save(tmp_path / "place")
    with pytest.raises(InputError, match="knows its camera"):
        open_place(folder, PlaceView(horizon=0.3))
    (folder / "depth.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        open_place(folder)
    (folder / "place.yaml").write_text("schema: 99")
    with pytest.raises(InputError, match="no schema 1"):
        open_place(folder)


def test_a_clip_of_a_place_is_its_median_and_must_be_still(tmp_path):
    from avatars.io.video import write_video

    rng = np.random.default_rng(3)
    wide = (rng.random((24, 48, 3)) * 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    still = np.repeat(wide[None, :, :320], 12, 0)
    still[3, 40:80, 40:80] = 255  # somebody passes
    write_video(tmp_path / "still.mp4", still, fps=10, crf=10)
    assert np.abs(clip_plate(tmp_path / "still.mp4").rgb.astype(int) - still[0].astype(int)).mean() < 6
    moving = np.stack([wide[:, i * 5 : i * 5 + 320] for i in range(12)])
    write_video(tmp_path / "moving.mp4", moving, fps=10, crf=10)
    with pytest.raises(InputError, match="the camera moves"):
        clip_plate(tmp_path / "moving.mp4")


def test_holes_are_painted_in_from_their_borders():
    rng = np.random.default_rng(0)
    bands = rng.integers(0, 256, (60, 1, 3), dtype=np.uint8).repeat(80, 1)  # a floor, a wall: alike across
    slope = np.stack(np.mgrid[:60, :80], -1)[..., [0, 0, 1]].astype(np.uint8)
    middle, whole_rows = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    middle[20:50, 30:55] = True
    whole_rows[20:30] = True
    for picture, holes, off in ((bands, middle, 0), (slope, whole_rows, 4)):
        filled = painted_in(np.where(holes[..., None], np.uint8(255), picture), holes)
        assert np.abs(filled.astype(int) - picture).max() <= off


def test_whoever_is_in_a_clip_is_not_in_the_place(shared_data):
    plate = clip_plate(shared_data / "room" / "room.mp4", frames=25)
    assert plate.people
    from avatars.io.video import probe, read_frames

    empty = next(read_frames(probe(shared_data / "room" / "room.mp4"), np.array([0])))
    assert np.quantile(np.abs(plate.rgb.astype(int) - empty).max(-1), 0.99) < 24, "frame 0 is the empty room"


def test_light_from_the_left_is_found_on_the_left(camera):
    rgb = torch.full((3, *SIZE), 0.2)
    rgb[:, :90, :60] = 1.0
    left = estimated_light(rgb, camera)
    right = estimated_light(rgb.flip(-1), camera)
    assert left.to_light[0] < -0.05 < 0.05 < right.to_light[0]
    assert left.to_light[1] > 0.3
    for light in (left, preset_light("day"), preset_light("night")):
        facing = light.irradiance(torch.tensor([[0.0, 0.0, 1.0]])).mean()
        assert 0.4 < float(facing) < 1.8
    with pytest.raises(InputError, match="no light 'disco'"):
        preset_light("disco")


def angle_deg(light: PlaceLight, toward: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.dot(light.to_light, toward) / np.linalg.norm(toward))))


def test_the_light_of_a_room_is_estimated_better_than_any_preset():
    """Four rooms with known lamps. They hang on the camera's side, which is what the estimate takes for usual."""
    from avatars.studio.raycast import developed
    from avatars.studio.rooms import Room

    found = {name: [] for name in ("estimated", "day", "overcast", "night", "indoor")}
    for seed in (300, 301, 302, 304):
        view = Camera.looking_at(torch.tensor([0.4, 1.4, 3.6]), torch.tensor([0.0, 0.9, 0.0]), focal_px=36.0,
                                 size_hw=(36, 48))  # fmt: skip
        room = Room.sample(seed)
        picture = developed(plate_of(room, view, samples=1)).astype(np.float32) / 255
        estimate = estimated_light(torch.from_numpy(picture).permute(2, 0, 1), view)
        for name in found:
            light = estimate if name == "estimated" else preset_light(name)
            found[name].append(angle_deg(light, room.light.toward_key))
    mean = {name: np.mean(angles) for name, angles in found.items()}
    assert mean["estimated"] < min(mean[name] for name in found if name != "estimated"), mean
    assert mean["estimated"] < 35.0


def test_an_even_picture_is_lit_from_above_and_from_the_cameras_side():
    """Whichever way the camera looks."""
    for eye in ([0.0, 1.5, 4.0], [4.0, 1.5, 0.0], [-3.0, 1.5, -3.0]):
        view = Camera.looking_at(torch.tensor(eye), torch.tensor([0.0, 1.0, 0.0]), focal_px=60.0, size_hw=(48, 64))
        light = estimated_light(torch.full((3, 48, 64), 0.5), view)
        level = torch.tensor([light.to_light[0], light.to_light[2]])
        back = torch.nn.functional.normalize(torch.tensor([eye[0], eye[2]]), dim=0)
        assert float(level @ back) == pytest.approx(0.6 / 0.9605, abs=1e-3)
        assert light.to_light[1] == pytest.approx(0.75 / 0.9605, abs=1e-3)
