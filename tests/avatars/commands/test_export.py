"""Exported files say what their formats' descriptions ask for, and hold the same person."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.avatar.rig import Rig
from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.commands.export import ExportCommand, turned
from avatars.errors import InputError
from avatars.fitting.parameters import on_the_surface
from avatars.geometry.rotations import matrix_from_quaternion
from avatars.rasterizer import rasterize
from avatars.rasterizer.gaussians import Gaussians
from avatars.splat_formats.splat import load_splat
from avatars.viewing.rendering import framing_camera, rest_motion

BETAS = torch.tensor([0.7, -0.5, 0.3] + [0.0] * 17)
NUMBERS = {5126: ("<f4", 4), 5123: ("<u2", 2), 5125: ("<u4", 4)}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def avatar(body: Body) -> Avatar:
    binding = spread_over(body, body.shaped(BETAS)[0], 2000)
    rig = Rig.build(body, binding, BETAS)
    start = on_the_surface(rig, rig.neighbors())
    start.albedo = (rig.normals * 0.5 + 0.5).clamp(0, 1)
    return Avatar(body, BETAS, binding, **start.leaves())


@pytest.fixture(scope="module")
def folder(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return avatar.save(tmp_path_factory.mktemp("avatars") / "anna")


@pytest.fixture(scope="module")
def walk(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> tuple[Motion, Path]:
    still = rest_motion(avatar, 4)
    poses = still.poses + 0.3 * torch.randn(4, 55, 3, generator=torch.Generator().manual_seed(1))
    motion = replace(still, poses=poses, valid=torch.tensor([True, True, False, True]))
    return motion, motion.save(tmp_path_factory.mktemp("motion") / "walk.npz")


def image(avatar: Avatar, gaussians: Gaussians) -> torch.Tensor:
    camera = framing_camera(avatar, rest_motion(avatar), (96, 96))
    return rasterize(gaussians, camera).rgb


def glb(path: Path) -> tuple[dict, bytes]:
    """Header and chunks, read by the glTF 2.0 description alone."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and size % 4 == 0
    head = json.loads(data[20 : 20 + size])
    binary_size, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0" and binary_size % 4 == 0 and 28 + size + binary_size == len(data)
    assert head["buffers"] == [{"byteLength": binary_size}]
    return head, data[28 + size :]


def values(head: dict, binary: bytes, index: int) -> np.ndarray:
    accessor = head["accessors"][index]
    view = head["bufferViews"][accessor["bufferView"]]
    dtype, size = NUMBERS[accessor["componentType"]]
    width = WIDTHS[accessor["type"]]
    assert view["byteOffset"] % 4 == 0 and view["byteLength"] == accessor["count"] * width * size
    assert view["byteOffset"] + view["byteLength"] <= len(binary)
    return np.frombuffer(binary, dtype, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)


def test_a_ply_of_a_frame_read_back_gives_the_same_image(avatar: Avatar, folder: Path, walk, tmp_path: Path) -> None:
    motion, path = walk
    out = tmp_path / "a.ply"
    ExportCommand(folder, out, motion=path, frame=3).run()
    found = image(avatar, Gaussians.load_ply(out))
    wanted = image(avatar, avatar.posed(motion[3:4]))
    assert float(wanted.max()) > 0.3
    assert float((found - wanted).abs().max()) < 1 / 255
    assert float((image(avatar, avatar.posed(motion[1:2])) - wanted).abs().max()) > 0.1


def test_a_splat_is_32_bytes_each_and_gives_about_the_same_image(avatar: Avatar, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.splat"
    ExportCommand(folder, out).run()
    content = out.read_bytes()
    assert len(content) == 32 * len(avatar)
    canonical = avatar.canonical()
    first = int(torch.argmax(canonical.scales.prod(-1) * canonical.opacities))
    x, y, z, sx, sy, sz, r, g, b, a, *q = struct.unpack_from("<6f8B", content)
    assert [x, y, z] == pytest.approx(canonical.means[first].tolist(), abs=1e-6)
    assert [sx, sy, sz] == pytest.approx(canonical.scales[first].tolist(), rel=1e-6)
    assert np.array([r, g, b]) / 255 == pytest.approx(canonical.colors[first].numpy(), abs=0.5 / 255 + 1e-6)
    assert a / 255 == pytest.approx(float(canonical.opacities[first]), abs=0.5 / 255 + 1e-6)
    decoded = torch.nn.functional.normalize(torch.tensor(q).float() - 128, dim=0)
    truth = torch.nn.functional.normalize(canonical.quats[first], dim=0)
    assert float((decoded * truth).sum()) > 0.999
    difference = (image(avatar, load_splat(out)) - image(avatar, canonical)).abs()
    assert float(difference.mean()) < 1 / 255


def test_a_glb_follows_khr_gaussian_splatting(avatar: Avatar, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.glb"
    ExportCommand(folder, out).run()
    head, binary = glb(out)
    assert head["asset"]["version"] == "2.0"
    assert head["extensionsUsed"] == ["KHR_gaussian_splatting"]
    node = next(n for n in head["nodes"] if n["name"] == "gaussians")
    (primitive,) = head["meshes"][node["mesh"]]["primitives"]
    assert primitive["mode"] == 0
    kernel = primitive["extensions"]["KHR_gaussian_splatting"]
    assert kernel["kernel"] == "ellipse" and kernel["colorSpace"] == "srgb_rec709_display"
    read = {name.split(":")[-1]: values(head, binary, i) for name, i in primitive["attributes"].items()}
    assert {len(v) for v in read.values()} == {len(avatar)}
    canonical = avatar.canonical()
    np.testing.assert_allclose(read["POSITION"], canonical.means, atol=1e-6)
    accessor = head["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_allclose(accessor["max"], canonical.means.amax(0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(read["ROTATION"], axis=1), 1, atol=1e-5)
    turned_back = matrix_from_quaternion(torch.from_numpy(read["ROTATION"][:, [3, 0, 1, 2]].copy()))
    assert float((turned_back - matrix_from_quaternion(canonical.quats)).abs().max()) < 1e-4
    np.testing.assert_allclose(read["SCALE"], canonical.scales, rtol=1e-5)  # linear, not logarithms
    assert read["OPACITY"].min() >= 0 and read["OPACITY"].max() <= 1
    np.testing.assert_allclose(read["SH_DEGREE_0_COEF_0"] * 0.28209479 + 0.5, canonical.colors, atol=1e-5)
    linear = np.where(
        canonical.colors <= 0.04045, canonical.colors / 12.92, ((canonical.colors + 0.055) / 1.055) ** 2.4
    )
    np.testing.assert_allclose(read["COLOR_0"][:, :3], linear, atol=1e-5)
    np.testing.assert_allclose(read["COLOR_0"][:, 3:], read["OPACITY"], atol=1e-6)


def test_the_glbs_body_is_skinned_so_that_it_stands_as_ours_does(
    avatar: Avatar, body: Body, folder: Path, tmp_path: Path
) -> None:
    """Turn one joint's node as a glTF reader would, and compare with our own skinning."""
    out = tmp_path / "a.glb"
    ExportCommand(folder, out).run()
    head, binary = glb(out)
    node = next(n for n in head["nodes"] if n["name"] == "body")
    skin, (primitive,) = head["skins"][node["skin"]], head["meshes"][node["mesh"]]["primitives"]
    read = {name: values(head, binary, i) for name, i in primitive["attributes"].items()}
    faces = values(head, binary, primitive["indices"])
    assert len(faces) == body.faces.numel() and faces.max() < len(read["POSITION"])
    np.testing.assert_allclose(read["WEIGHTS_0"].sum(1), 1, atol=1e-5)
    poses = torch.zeros(1, 55, 3)
    poses[0, 18, 2] = 0.8  # left elbow
    turn = torch.eye(4)
    turn[:3, :3] = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.8, 0.0], [0.8, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    placed = {}

    def place(index: int, parent: np.ndarray) -> None:
        local = np.eye(4)
        local[:3, 3] = head["nodes"][index]["translation"]
        placed[index] = parent @ local @ (turn.numpy() if head["nodes"][index]["name"] == "left_elbow" else np.eye(4))
        for child in head["nodes"][index].get("children", []):
            place(child, placed[index])

    place(skin["joints"][0], np.eye(4))
    inverse = values(head, binary, skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = np.stack([placed[j] for j in skin["joints"]]) @ inverse
    rest = np.concatenate([read["POSITION"], np.ones((len(read["POSITION"]), 1))], 1)
    blended = np.einsum("vk,vkij->vij", read["WEIGHTS_0"], matrices[read["JOINTS_0"].astype(int)])
    found = np.einsum("vij,vj->vi", blended, rest)[:, :3]
    wanted = body.vertices(poses, BETAS)[0].numpy()
    assert np.abs(found - wanted).max() < 0.01  # four joints per vertex, of all that SMPL-X allows
    assert np.abs(found - wanted).mean() < 1e-4


def test_a_motion_is_one_ply_per_frame_with_a_person(avatar: Avatar, folder: Path, walk, tmp_path: Path) -> None:
    motion, path = walk
    out = tmp_path / "walk"
    ExportCommand(folder, out, format="motion-ply", motion=path).run()
    receipt = json.loads((out / "motion.json").read_text())
    assert [entry["frame"] for entry in receipt["frames"]] == [0, 1, 3]
    assert sorted(p.name for p in out.glob("*.ply")) == [entry["file"] for entry in receipt["frames"]]
    assert receipt["frames"][2]["time_s"] == pytest.approx(0.1)
    read = Gaussians.load_ply(out / "frame_00003.ply")
    assert float((read.means - avatar.posed(motion[3:4]).means[0]).abs().max()) < 1e-5


def test_half_a_turn_about_x_turns_every_gaussian(avatar: Avatar) -> None:
    before = avatar.canonical()
    after = turned(before, "-y")
    half = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert float((after.means - before.means @ half).abs().max()) < 1e-6
    wanted = half @ matrix_from_quaternion(before.quats)
    assert float((matrix_from_quaternion(after.quats) - wanted).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"output": "a.obj"}, "does not tell the format"),
        ({"output": "b", "format": "motion-ply"}, "needs --motion"),
        ({"output": "b.ply", "motion": True, "frame": 9}, "frames 0 to 3"),
        ({"output": "b.ply", "motion": True, "frame": 2}, "shows nobody"),
        ({"output": "b.glb", "up": "-y"}, r"\+y up"),
        ({"output": "there.ply"}, "already exists"),
    ],
)
def test_unfit_exports_are_refused(options: dict, says: str, folder: Path, walk, tmp_path: Path) -> None:
    (tmp_path / "there.ply").write_text("mine")
    given = {**options, "output": tmp_path / options["output"]}
    if given.pop("motion", False):
        given["motion"] = walk[1]
    with pytest.raises(InputError, match=says):
        ExportCommand(folder, **given).run()
    assert [p.name for p in tmp_path.iterdir()] == ["there.ply"]
