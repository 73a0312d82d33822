"""Labels of a clip: what hides a keypoint, masks against pixels, and the check that draws a clip anew."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.progress import StageClock
from avatars.rasterizer.gaussians import Gaussians
from avatars.rasterizer.render import Render
from compose.places.light import normals_in_gaussians, outward_normals, preset_light, relit
from compose.places.place_view import Background
from compose.rendering.camera_motion import CameraMotion
from compose.rendering.compositor import (
    CameraEffects,
    add_grain,
    blurred_over_time,
    defocused,
    distorted_pixels,
    lens_grid,
    softened_people,
)
from compose.rendering.shadow import ShadowLight
from reenact.data_set.label_check import check_data_set
from reenact.rendering.exposure import exposed
from reenact.rendering.labels import BEHIND_PLACE, OUT_OF_FRAME, VISIBLE, decode_rle
from reenact.rendering.scene import StagedClip
from reenact.running.run import run_batch

pytestmark = pytest.mark.slow

SIZE = 96


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def avatar(body) -> Avatar:
    n = 6000
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1.0
    return Avatar(
        body=body,
        betas=torch.zeros(body.n_betas),
        binding=spread_over(body, body.shaped(torch.zeros(body.n_betas))[0], n),
        offsets=torch.zeros(n, 3),
        quats=quats,
        log_scales=torch.full((n, 3), math.log(0.012)),
        opacity_logits=torch.full((n,), 4.0),
        albedo=torch.full((n, 3), 0.9),
        light=torch.zeros(8, 3),
    )


@pytest.fixture(scope="module")
def person(avatar) -> Gaussians:
    g = avatar.canonical()
    return replace(g, means=g.means - torch.tensor([0.0, float(g.means[:, 1].min()), 0.0]))


def scene_of(depth: torch.Tensor | None = None, gray: float = 0.0, **options) -> StagedClip:
    camera = Camera.level(focal_px=130.0, size_hw=(SIZE, SIZE), height_m=0.9, distance_m=3.0)
    depth = torch.full((1, SIZE, SIZE), torch.inf) if depth is None else depth
    return StagedClip.of(Background(torch.full((3, SIZE, SIZE), gray), depth, camera), torch.eye(4), **options)


def full(values: torch.Tensor, drawn) -> torch.Tensor:
    whole = torch.zeros(SIZE, SIZE)
    whole[drawn.top : drawn.top + values.shape[0], drawn.left : drawn.left + values.shape[1]] = values
    return whole


def test_a_table_hides_the_legs_in_picture_and_mask(person):
    depth = torch.full((1, SIZE, SIZE), torch.inf)
    depth[:, 60:] = 1.5
    shot = scene_of(depth).draw(person, StageClock())
    drawn = shot.people[0]
    seen, whole = full(drawn.alpha, drawn), full(drawn.whole, drawn)
    assert float(seen[62:].max()) == 0.0 < float(whole[62:80].max())
    assert torch.equal(seen[:58], whole[:58])
    assert shot.frame[62:].max() == 0


def test_two_people_hide_each_other_and_keep_their_own_masks(person):
    behind = replace(person, means=person.means + torch.tensor([0.15, 0.0, -0.8]), colors=person.colors * 0.3)
    scene = scene_of()
    front, back = scene.draw([person, behind], StageClock()).people
    swapped = scene.draw([behind, person], StageClock())
    alone = full(scene.draw(person, StageClock()).people[0].alpha, scene.draw(person, StageClock()).people[0])
    assert float((full(front.alpha, front) - alone).abs().max()) < 0.02, "the one in front is whole"
    both = full(front.alpha, front) + full(back.alpha, back)
    assert float(both.max()) < 1.01
    assert float(full(back.alpha, back)[20:60].sum()) < 0.7 * float(full(back.whole, back)[20:60].sum())
    assert torch.allclose(full(swapped.people[1].alpha, swapped.people[1]), full(front.alpha, front), atol=0.02)


@pytest.mark.parametrize(("person_gray", "place_gray"), [(1.0, 0.0), (0.0, 1.0)])
def test_finished_edges_have_no_halo(person, person_gray, place_gray):
    shot = scene_of(gray=place_gray).draw(
        replace(person, colors=torch.full((len(person), 3), person_gray)), StageClock()
    )
    alpha = full(shot.people[0].alpha, shot.people[0]).numpy()
    exact = alpha * person_gray + (1 - alpha) * place_gray
    assert np.abs(shot.frame / 255 - exact[..., None]).max() <= 1 / 255


def test_the_shadow_falls_away_from_the_light_and_not_onto_furniture(person):
    lights = {side: ShadowLight((side * 0.7, 0.7, 0.1), 0.03, 0.6) for side in (-1.0, 1.0)}
    bare = scene_of(gray=0.8).frame.astype(int)
    dark = {}
    for side, light in lights.items():
        frame = scene_of(gray=0.8, shadow=light).draw(person, StageClock()).frame.astype(int)
        dark[side] = (bare - frame)[:, :30].sum() - (bare - frame)[:, -30:].sum()
    assert dark[1.0] > 0 > dark[-1.0]
    depth = torch.full((1, SIZE, SIZE), torch.inf)
    assert np.abs(bare - scene_of(gray=0.8, shadow=lights[1.0]).draw(person, StageClock()).frame)[60:, :28].max() > 10
    depth[:, :, :30] = 50.0  # something that stands there, far behind
    with_wall = scene_of(depth, gray=0.8, shadow=lights[1.0]).draw(person, StageClock()).frame.astype(int)
    assert np.abs(bare - with_wall)[60:, :28].max() == 0


def test_light_brightens_the_side_that_it_comes_from(avatar, person):
    local = normals_in_gaussians(avatar.quats, avatar.rig.normals)
    assert torch.allclose(outward_normals(person.quats, local), avatar.rig.normals, atol=1e-5)
    lit = relit(person, preset_light("day"), local_normals=local).colors.mean(-1)
    left, right = avatar.rig.normals[:, 0] < -0.7, avatar.rig.normals[:, 0] > 0.7
    assert float(lit[left].mean()) > float(lit[right].mean()) + 0.05


def test_an_open_shutter_blurs_what_moves_and_leaves_the_rest():
    still = torch.zeros(3, 1, 4, 4)
    still[:, :, 1, 1] = 1.0
    still[0, :, 2, 2] = 1.0
    from avatars.rasterizer.render import Render

    render = Render(still.expand(3, 3, 4, 4), still, torch.where(still > 0, 2.0, torch.inf))
    mixed = blurred_over_time(render)
    assert float(mixed.alpha[0, 0, 1, 1]) == 1.0
    assert float(mixed.alpha[0, 0, 2, 2]) == pytest.approx(1 / 3)
    assert torch.allclose(mixed.rgb, mixed.alpha.expand(1, 3, 4, 4), atol=1e-3)
    assert float(mixed.depth_m[0, 0, 2, 2]) == pytest.approx(2.0)


def test_subframes_surround_their_frame(body):
    frames = 6
    poses = torch.zeros(frames, 55, 3)
    poses[:, 16, 2] = torch.linspace(0, 1, frames)
    motion = Motion(
        poses, torch.zeros(frames, 3), torch.zeros(body.n_betas), torch.zeros(frames, body.n_expression),
        torch.arange(frames, dtype=torch.float64) / 10, torch.ones(frames, dtype=torch.bool), body.sha256,
    )  # fmt: skip
    assert exposed(motion, CameraEffects()) is motion
    open_ = exposed(motion, CameraEffects(shutter=0.5, subframes=5))
    assert len(open_) == 5 * frames
    middle = open_.poses.reshape(frames, 5, 55, 3)[:, 2]
    assert torch.allclose(middle, poses, atol=1e-5)
    inner = open_.poses.reshape(frames, 5, 55, 3)[2, :, 16, 2]
    assert torch.allclose(inner.diff(), torch.full((4,), 0.2 * 0.125), atol=1e-5)


def test_grain_has_the_noise_that_it_is_asked_for():
    noisy, same, other = (np.full((300, 300, 3), 128, np.uint8) for _ in range(3))
    add_grain(noisy, grain=1.0, seed=4)
    add_grain(same, grain=1.0, seed=4)
    add_grain(other, grain=1.0, seed=5)
    assert np.array_equal(noisy, same)
    assert not np.array_equal(noisy, other)
    light = ((128 / 255 + 0.055) / 1.055) ** 2.4
    slope = 1.055 / 2.4 * light ** (1 / 2.4 - 1)
    expected = 255 * slope * math.sqrt(0.024**2 * light + 0.0015**2)
    assert float(noisy.astype(float).std()) == pytest.approx(expected, rel=0.06)
    assert abs(float(noisy.mean()) - 128) < 0.1


def test_defocus_leaves_the_plane_of_focus_sharp():
    image = torch.rand(3, 64, 64)
    depth = torch.full((1, 64, 64), 3.0)
    assert torch.equal(defocused(image, depth, focus_m=3.0, strength=0.05), image)
    far = defocused(image, torch.full((1, 64, 64), torch.inf), focus_m=3.0, strength=0.05)
    assert float(far.std()) < 0.6 * float(image.std())


def test_the_lens_moves_picture_and_labels_alike():
    dot = Gaussians(
        torch.tensor([[0.7, 1.5, 0.0]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.03), torch.ones(1),
        torch.ones(1, 3),
    )  # fmt: skip
    film = CameraEffects(distortion=(-0.3, 0.05))
    scene = scene_of(film=film)
    drawn = scene.draw(dot, StageClock()).people[0]
    rows, columns = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    center = torch.stack([(columns * drawn.alpha).sum(), (rows * drawn.alpha).sum()]) / drawn.alpha.sum()
    pinhole = scene.camera.project(dot.means)
    label = distorted_pixels(pinhole, scene.camera, film.distortion)[0]
    assert float((pinhole[0] - label).norm()) > 0.5
    assert float((center - label).norm()) < 0.3
    corners = torch.tensor([[0.0, 0.0], [SIZE, 0.0], [0.0, SIZE / 2]])
    outward = distorted_pixels(corners, scene.camera, film.distortion)
    assert float(outward.min()) <= 0.01, "the picture is filled to its borders"
    assert float(lens_grid(scene.camera, film.distortion).abs().max()) < 1.0


def test_softened_people_keep_their_light_and_have_wider_edges():
    alpha = torch.zeros(1, 1, 40, 40)
    alpha[..., 10:30, 10:30] = 1.0
    render = Render(alpha.expand(1, 3, 40, 40) * 0.5, alpha, torch.full((1, 1, 40, 40), 2.0))
    soft = softened_people(render, 1.0)
    assert float(soft.alpha.sum()) == pytest.approx(400, rel=1e-4)
    assert torch.allclose(soft.rgb, 0.5 * soft.alpha.expand(1, 3, 40, 40), atol=1e-6)
    edge = soft.alpha[0, 0, 20, 5:16]
    theory = torch.special.ndtr(torch.arange(5, 16) - 9.5)  # a step blurred by a Gaussian, at the pixels' centers
    assert float((edge - theory).abs().max()) < 0.02


@pytest.mark.parametrize("bad", [{"shutter": 2.0}, {"grain": -1.0}, {"jpeg": 0}, {"distortion": (3.0, 0.0)}])
def test_film_that_cannot_be_is_refused(bad):
    with pytest.raises(InputError, match="film: "):
        CameraEffects(**bad)


def test_a_camera_may_shake():
    with pytest.raises(InputError, match="none of static, pan, handheld, orbit, sampled"):
        CameraMotion("dolly")
    camera = Camera.level(focal_px=130.0, size_hw=(SIZE, SIZE))
    turns = CameraMotion("handheld").turns(30, 30.0, camera, 3)
    assert torch.allclose(turns @ turns.transpose(-1, -2), torch.eye(3).expand(30, 3, 3), atol=1e-5)
    assert torch.equal(turns, CameraMotion("handheld").turns(30, 30.0, camera, 3))
    assert CameraMotion().turns(30, 30.0, camera, 3) is None


@pytest.fixture(scope="module")
def material(tmp_path_factory, body, avatar) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    avatar.save(folder / "white")
    frames = 6
    poses = torch.zeros(frames, 55, 3)
    poses[:, 16, 2], poses[:, 17, 2] = torch.linspace(-1.2, -0.6, frames), 1.2
    transl = torch.tensor([[0.0, -float(body.v_template[:, 1].min()), 0.0]]).repeat(frames, 1)
    Motion(
        poses, transl, torch.zeros(body.n_betas), torch.zeros(frames, body.n_expression),
        torch.arange(frames, dtype=torch.float64) / 15, torch.ones(frames, dtype=torch.bool), body.sha256, "raise",
    ).save(folder / "raise_01.npz")  # fmt: skip
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(60, 90, (160, 200, 3), dtype=np.uint8)).save(folder / "gray.png")
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"film": {"shutter": 0.5, "subframes": 3, "distortion": [-0.1, 0.0]}, "light": "day"},
        {"camera": "pan", "depth_labels": True},
    ],
    ids=["plain", "film", "pan"],
)
def test_a_run_is_drawn_anew_from_its_labels(material, tmp_path, settings):
    document = {
        "out": str(tmp_path / "out"), "size": SIZE, "fps": 15, "avatars": [str(material / "white")],
        "motions": [{"path": str(material / "raise_01.npz"), "label": "raise"}], "person_height": [0.4, 0.6],
        "backgrounds": [{"path": str(material / "gray.png"), "horizon": 0.4, "camera_height_m": 1.5, "focal_px": 200}],
    }  # fmt: skip
    (tmp_path / "batch.yaml").write_text(json.dumps(document | settings))
    summary = run_batch(tmp_path / "batch.yaml")
    assert summary.made == 1, summary.failures
    ((clip, check),) = check_data_set(tmp_path / "out").items()
    assert check.wrong() == []
    assert check.joint_px < 0.05
    assert check.mask_iou > 0.99
    with np.load(tmp_path / "out" / "labels" / f"{clip}.npz") as labels:
        found = {key: labels[key] for key in labels.files}
    assert set(np.unique(found["keypoints_state"])) <= {0, 1, 2, 3, 4}
    assert (found["keypoints_state"] == VISIBLE).mean() > 0.3
    assert not (found["keypoints_state"] == BEHIND_PLACE).any()
    assert (found["keypoints_state"] == OUT_OF_FRAME).sum() == 0
    assert found["T_cam_world"].shape == ((6, 4, 4) if "camera" in settings else (4, 4))
    if "depth_labels" in settings:
        mask = decode_rle(bytes(found["mask_rle"][0]), (SIZE, SIZE))
        assert ((found["depth_mm"][0] > 0) == mask).all()
    tampered = dict(found, transl=None)
    tampered.pop("transl")
    tampered["trans"] = found["trans"] + np.float32([0.2, 0, 0])
    np.savez(tmp_path / "out" / "labels" / f"{clip}.npz", **tampered)
    worse = check_data_set(tmp_path / "out")[clip]
    assert worse.wrong(), "labels that were moved are noticed"


def test_a_plan_takes_fitting_places_only_and_says_why_not(material, tmp_path, caplog):
    from reenact.planning.batch import parse_batch
    from reenact.planning.plan import make_plan

    (tmp_path / "street.png").write_bytes((material / "gray.png").read_bytes() + b"\0")
    entries = {"street": {"path": str(tmp_path / "street.png"), "tags": ["street"]}}
    entries["kitchen"] = {"path": str(material / "gray.png"), "tags": ["kitchen"]}
    document = {
        "out": str(tmp_path / "out"), "avatars": [str(material / "white")],
        "motions": [{"path": str(material / "raise_01.npz"), "label": "cook"}], "backgrounds": list(entries.values()),
    }  # fmt: skip
    plan = make_plan(parse_batch(document, tmp_path))
    assert [plan.batch.backgrounds[clip.background].name for clip in plan.clips] == ["gray"]
    assert "not in street: cook is done in kitchen, not in street (any_place: true allows it)" in caplog.text
    alone = document | {"backgrounds": [entries["street"]]}
    with pytest.raises(InputError, match="cook is done in kitchen, not in street"):
        make_plan(parse_batch(alone, tmp_path))
    assert len(make_plan(parse_batch(alone | {"any_place": True}, tmp_path)).clips) == 1
