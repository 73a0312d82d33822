"""An avatar follows its body, and comes back from disk as it was."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar import Avatar
from avatars.avatar.binding import FACE, HAND, TORSO_AND_LIMBS, Binding, face_areas, spread_over
from avatars.avatar.model import fresh_folder
from avatars.avatar.rig import Rig
from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.body.pose_prior import PosePrior
from avatars.errors import InputError
from avatars.fitting.parameters import on_the_surface
from avatars.geometry.rotations import matrix_from_quaternion
from avatars.motion_formats import load_motion
from avatars.rasterizer import rasterize
from avatars.viewing.rendering import framing_camera, read_background, rest_motion, stream_frames

BETAS = torch.tensor([0.7, -0.5, 0.3] + [0.0] * 17)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def avatar(body: Body) -> Avatar:
    binding = spread_over(body, body.shaped(BETAS)[0], 3000)
    rig = Rig.build(body, binding, BETAS)
    start = on_the_surface(rig, rig.neighbors())
    start.albedo = (rig.normals * 0.5 + 0.5).clamp(0, 1)
    return Avatar(body, BETAS, binding, **start.leaves())


def motion(body: Body, frames: int = 3, size: float = 0.3) -> Motion:
    g = torch.Generator().manual_seed(1)
    return Motion(
        poses=torch.randn(frames, 55, 3, generator=g) * size,
        transl=torch.randn(frames, 3, generator=g),
        betas=torch.zeros(20),
        expression=torch.randn(frames, 10, generator=g) * 0.5,
        times_s=torch.arange(frames).double() / 30,
        valid=torch.ones(frames, dtype=torch.bool),
        body_sha256=body.sha256,
    )


def at_vertices(body: Body) -> Binding:
    """A point on every twentieth vertex."""
    index = torch.arange(0, body.n_vertices, 20)
    corners = torch.stack([index, index, index], -1)
    barycentric = torch.tensor([[1.0, 0.0, 0.0]]).expand(len(index), 3).contiguous()
    return Binding(corners, barycentric, torch.zeros(len(index), dtype=torch.long))


def test_the_identity_pose_gives_the_canonical_gaussians(avatar: Avatar, body: Body) -> None:
    still = rest_motion(avatar)
    still = replace(still, poses=torch.zeros(1, 55, 3), transl=torch.zeros(1, 3))
    posed, canonical = avatar.posed(still), avatar.canonical()
    assert float((posed.means[0] - canonical.means).abs().max()) < 1e-5
    turned = matrix_from_quaternion(posed.quats[0]) - matrix_from_quaternion(canonical.quats)
    assert float(turned.abs().max()) < 1e-4


def test_points_on_vertices_follow_the_bodys_own_skinning(body: Body) -> None:
    binding, moved = at_vertices(body), motion(body)
    rig = Rig.build(body, binding, BETAS)
    n = len(binding)
    posed = body.pose(moved.poses, BETAS, moved.transl, moved.expression)
    points = rig.pose(posed, torch.zeros(n, 3), torch.zeros(n, 4))
    assert float((points.means - posed.vertices(binding.corners[:, 0])).abs().max()) < 1e-5


def test_gaussians_turn_with_the_limb_that_they_sit_on(avatar: Avatar, body: Body) -> None:
    shin = avatar.rig.weights.dense_t[JOINT_NAMES.index("left_knee")] > 0.999
    assert int(shin.sum()) > 10
    poses = torch.zeros(1, 55, 3)
    poses[0, 0, 1], poses[0, JOINT_NAMES.index("left_knee"), 0] = 2.5, 1.2
    posed = body.pose(poses, BETAS)
    A = posed.A_world_rest[0, JOINT_NAMES.index("left_knee"), :, :3]
    found = matrix_from_quaternion(avatar.posed_with(posed).quats[0, shin])
    assert float((found - A @ matrix_from_quaternion(avatar.quats[shin])).abs().max()) < 1e-4


def test_no_blended_orientation_vanishes_in_extreme_poses(avatar: Avatar, body: Body) -> None:
    extreme = motion(body, 24, size=0.9)
    assert float(avatar.posed(extreme).quats.norm(dim=-1).min()) > 0.2


def test_the_points_are_spread_evenly_and_densely_on_face_and_hands(body: Body) -> None:
    vertices = body.shaped(BETAS)[0]
    binding = spread_over(body, vertices, 20_000)
    assert len(binding) == 20_000
    assert torch.allclose(binding.barycentric.sum(-1), torch.ones(20_000), atol=1e-5)
    assert float(binding.barycentric.min()) >= 0
    rig = Rig.build(body, binding, BETAS)
    spacing = rig.neighbors().spacing_m
    torso, face, hand = (spacing[binding.region == r] for r in (TORSO_AND_LIMBS, FACE, HAND))
    assert float(face.median()) < 0.6 * float(torso.median())
    assert float(hand.median()) < 0.7 * float(torso.median())
    assert float(torso.quantile(0.98)) < 2.5 * float(torso.median())


def test_neighbors_stay_on_their_own_finger(avatar: Avatar) -> None:
    weights, index = avatar.rig.weights.dense_t, avatar.rig.neighbors().index
    tips = {name: weights[JOINT_NAMES.index(f"left_{name}2")] > 0.9 for name in ("index", "middle", "ring")}
    for name, own in tips.items():
        for other, theirs in tips.items():
            assert name == other or not bool(theirs[index[own]].any())


def test_face_areas_of_a_right_triangle() -> None:
    vertices = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    assert float(face_areas(vertices, torch.tensor([[0, 1, 2]]))) == pytest.approx(6.0)


def test_an_avatar_comes_back_from_disk_as_it_was(avatar: Avatar, body: Body, tmp_path: Path) -> None:
    folder = avatar.with_card(source={"video": "turn.mp4"}, consent="the person's").save(tmp_path / "someone")
    assert {p.name for p in folder.iterdir()} == {"avatar.json", "gaussians.safetensors", "canonical.ply"}
    found = Avatar.load(folder, body)
    assert found.card == {"source": {"video": "turn.mp4"}, "consent": "the person's"}
    moved = motion(body)
    a, b = avatar.posed(moved), found.posed(moved)
    assert torch.equal(a.means, b.means) and torch.equal(a.quats, b.quats) and torch.equal(a.colors, b.colors)


def test_an_avatar_shadows_itself_in_its_own_light_alone_and_from_disk_too(
    avatar: Avatar, body: Body, tmp_path: Path
) -> None:
    shadowed, moved = replace(avatar, self_shadow=True), motion(body)
    assert torch.equal(shadowed.posed(moved).colors, avatar.posed(moved).colors)
    plain, dark = avatar.posed(moved, lit=True).colors, shadowed.posed(moved, lit=True).colors
    assert bool((dark <= plain + 1e-6).all()) and float((plain - dark).max()) > 0.02
    even = shadowed.posed(moved, shadowed=True).colors / avatar.albedo.clamp_min(1e-3)
    assert even.shape == plain.shape and bool((even <= 1 + 1e-5).all()) and float(even.min()) < 0.95
    assert torch.equal(avatar.posed(moved, shadowed=True).colors, avatar.albedo)
    found = Avatar.load(shadowed.save(tmp_path / "shadowed"), body)
    assert found.self_shadow and found.card == avatar.card
    assert torch.equal(found.posed(moved, lit=True).colors, dark)


def test_nothing_that_exists_is_overwritten(avatar: Avatar, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(InputError, match="not empty"):
            avatar.save(tmp_path / "full", force=force)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_force_replaces_an_earlier_avatar(avatar: Avatar, body: Body, tmp_path: Path) -> None:
    avatar.with_card(consent="old").save(tmp_path / "a")
    avatar.with_card(consent="new").save(tmp_path / "a", force=True)
    assert Avatar.load(tmp_path / "a", body).card["consent"] == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), fresh_folder(tmp_path / "a", what="an avatar") as aside:
        (aside / "half.bin").write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_another_body_file_is_named(avatar: Avatar, body: Body, tmp_path: Path) -> None:
    folder = avatar.save(tmp_path / "a")
    card = json.loads((folder / "avatar.json").read_text())
    card["body"] = {"name": "SMPLX_MALE.npz", "sha256": "0123456789abcdef"}
    (folder / "avatar.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="made on another body: SMPLX_MALE"):
        Avatar.load(folder, body)


def test_broken_folders_are_refused(avatar: Avatar, body: Body, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not an avatar"):
        Avatar.load(tmp_path, body)
    folder = avatar.save(tmp_path / "a")
    (folder / "gaussians.safetensors").write_bytes(b"\x00" * 10)
    with pytest.raises(InputError, match="cannot be read"):
        Avatar.load(folder, body)


def test_frames_without_a_person_are_not_posed(avatar: Avatar, body: Body) -> None:
    some = motion(body)
    some.valid[1] = False
    with pytest.raises(InputError, match="1 of 3 frames have no person"):
        avatar.posed(some)
    assert avatar.posed(some[some.valid]).means.shape[0] == 2


def test_light_changes_the_colors_only_when_asked(avatar: Avatar, body: Body) -> None:
    light = torch.zeros(8, 3)
    light[1] = 0.4  # from above
    gray = replace(avatar, light=light, albedo=torch.full_like(avatar.albedo, 0.5))
    still = motion(body, 1, size=0.0)
    assert torch.equal(gray.posed(still).colors, gray.albedo)
    lit, up = gray.posed(still, lit=True).colors[0], avatar.rig.normals[:, 1]
    assert float(lit[up < -0.5].max()) < 0.45 and float(lit[up > 0.5].min()) > 0.55


def test_the_framing_camera_sees_all_of_a_motion(avatar: Avatar, body: Body) -> None:
    walk = motion(body, 6, size=0.2)
    cameras = framing_camera(avatar, walk, (96, 128), turns_rad=(0.0, 1.5))
    for turn in (0, 1):
        camera = replace(cameras, T_cam_world=cameras.T_cam_world[turn])
        alpha = rasterize(avatar.posed(walk), camera).alpha
        border = torch.cat([alpha[..., 0, :], alpha[..., -1, :], alpha[..., 0], alpha[..., -1]], -1)
        assert float(border.max()) < 0.05 and float(alpha.max()) > 0.9


def test_streamed_frames_are_those_drawn_one_by_one(avatar: Avatar, body: Body) -> None:
    walk = motion(body, 5, size=0.2)
    camera = framing_camera(avatar, walk, (64, 48), turns_rad=(0.0, 0.1, 0.2, 0.3, 0.4))
    background = torch.rand(3, 64, 48, generator=torch.Generator().manual_seed(1))
    streamed = list(stream_frames(avatar, walk, camera, background, batch=2))
    for i, frame in enumerate(streamed):
        one = replace(camera, T_cam_world=camera.T_cam_world[i])
        render = rasterize(avatar.posed(walk[i : i + 1]), one)
        image = (render.rgb + (1 - render.alpha) * background)[0].clamp(0, 1) * 255
        assert abs(frame - image.permute(1, 2, 0).numpy()).max() <= 0.51
    assert len(streamed) == 5


def test_nothing_of_posing_stays_on_the_cpu_when_the_avatar_is_elsewhere(avatar: Avatar, body: Body) -> None:
    walk = motion(body, 2, size=0.2)
    walk = replace(walk, expression=torch.ones_like(walk.expression))
    posed = avatar.to("meta").posed(walk, lit=True)
    assert {getattr(posed, f.name).device.type for f in fields(posed)} == {"meta"}
    assert posed.means.shape == (2, len(avatar), 3)


def test_the_resting_avatar_stands_on_the_ground(avatar: Avatar) -> None:
    standing = rest_motion(avatar)
    assert abs(float(avatar.posed(standing).means[0, :, 1].min())) < 0.02


def test_backgrounds_are_colors_or_images(tmp_path: Path) -> None:
    from PIL import Image

    assert read_background("#ff0000", (4, 6))[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    Image.fromarray(np.full((5, 5, 3), 51, np.uint8)).save(tmp_path / "a.png")
    assert torch.allclose(read_background(str(tmp_path / "a.png"), (4, 6)), torch.full((3, 4, 6), 0.2))
    with pytest.raises(InputError, match="neither an image file nor a color"):
        read_background("mauvish", (4, 6))


def test_pose_correctives_move_the_points_as_they_move_the_vertices(body: Body) -> None:
    """Licensed SMPL-X files have them; the default body has not."""
    g = torch.Generator().manual_seed(2)
    posedirs = torch.randn(body.n_vertices, 3, 486, generator=g) * 1e-3
    with_correctives = replace(body, points=replace(body.points, posedirs=posedirs))
    binding, moved = at_vertices(body), motion(body, 2)
    rig, n = Rig.build(with_correctives, binding, BETAS), len(binding)
    posed = with_correctives.pose(moved.poses, BETAS, moved.transl, moved.expression)
    points = rig.pose(posed, torch.zeros(n, 3), torch.zeros(n, 4))
    assert float((points.means - posed.vertices(binding.corners[:, 0])).abs().max()) < 2e-5


# Poses it never saw


def sampled_poses(count: int) -> torch.Tensor:
    """Joint angles drawn around rest as far as people bend, within the joints' ranges."""
    prior, g = PosePrior.human(), torch.Generator().manual_seed(0)
    widest = prior.spread.amax(-1, keepdim=True).clamp_max(1.0)  # about every axis, as far as ranges allow
    poses = prior.rest + widest * torch.randn(count, 55, 3, generator=g)
    poses = torch.minimum(torch.maximum(poses, prior.low), prior.high)
    poses[:, 0] = 0.0
    return poses


def check_stretch(avatar: Avatar, poses: torch.Tensor) -> None:
    """No Gaussian grows at all, and hardly any moves away from the surface's Gaussians around it."""
    neighbors, rest = avatar.rig.neighbors(), avatar.canonical()

    def spread_m(means: torch.Tensor) -> torch.Tensor:
        return (means[neighbors.index] - means[:, None]).square().sum(-1).mean(-1).sqrt()

    before, torn = spread_m(rest.means).clamp_min(1e-4), 0
    for pose in poses:
        posed = avatar.posed_with(avatar.body.pose(pose[None], avatar.betas, torch.zeros(1, 3)))
        assert torch.equal(posed.scales.expand_as(rest.scales), rest.scales)
        torn += int((spread_m(posed.means[0]) > 3 * before).sum())
    assert torn / (len(poses) * len(avatar)) < 1e-3


def test_no_gaussian_stretches_in_two_hundred_random_poses(avatar: Avatar) -> None:
    check_stretch(avatar, sampled_poses(200))


@pytest.mark.slow
def test_no_gaussian_stretches_in_motions_of_real_people(avatar: Avatar, shared_data: Path) -> None:
    files = sorted((shared_data / "motions" / "cmu").glob("*.bvh"))
    if not files:
        pytest.skip("no CMU motions")
    motions = [load_motion(path, avatar.body) for path in files[::4]]
    check_stretch(avatar, torch.cat([m.poses[1 :: max(len(m) // 20, 1)][:20] for m in motions]))
