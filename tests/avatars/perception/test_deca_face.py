"""DECA's encoder with random weights: crop, order, frames of reference; nothing about quality."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avatars.errors import BackendMissing, InputError
from avatars.perception import body_estimates
from avatars.perception.backend_table import BackendOptions
from avatars.perception.containers import N_KEYPOINTS, Keypoints
from avatars.perception.deca_face import BATCH, CROP_SIDE, DecaModel, _encoder, _resnet50, face_crop


def test_the_face_crop_is_the_landmarks_square_enlarged_in_rgb():
    ramp = np.zeros((400, 600, 3), np.uint8)
    ramp[..., 0] = np.arange(600) * 255 // 600
    ramp[..., 1] = (np.arange(400) * 255 // 400)[:, None]
    landmarks = np.array([[250.5, 100.5], [330.5, 180.5]])  # 80 px wide and high, around (290.5, 140.5)
    crop = face_crop(ramp, landmarks)
    assert crop.shape == (CROP_SIDE, CROP_SIDE, 3)
    side = int(80 * 1.1 * 1.25)
    columns = np.linspace(290 - side / 2, 290 + side / 2, CROP_SIDE)
    rows = np.linspace(140 - side / 2, 140 + side / 2, CROP_SIDE)
    np.testing.assert_allclose(crop[112, :, 0], columns / 600, atol=2 / 255)
    np.testing.assert_allclose(crop[:, 112, 1], rows / 400, atol=2 / 255)


def test_flames_jaw_is_taken_over_and_its_head_turned_into_the_cameras_axes():
    pose, expression = np.zeros((3, 6), np.float32), np.ones((3, 50), np.float32)
    pose[1] = (0, 0.5, 0, 0.2, 0.01, -0.02)
    pose[2] = np.nan
    face = body_estimates.face_from_flame(pose, expression)
    assert face.valid.tolist() == [True, True, False]
    torch.testing.assert_close(face.jaw_pose[1], torch.tensor([0.2, 0.01, -0.02]))
    R = body_estimates.matrix_from_axis_angle(face.head_orient_cam)
    # a head that looks into the camera: its face (+Z) points back at it (-z), its top (+Y) up (-y)
    torch.testing.assert_close(R[0], torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    # turned by +0.5 about its own up axis, the face points to the picture's right
    torch.testing.assert_close(
        R[1] @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([np.sin(0.5), 0, -np.cos(0.5)]).float()
    )
    assert not face.jaw_pose[2].any()


def test_flames_expression_is_refused_for_a_body_whose_expressions_are_others():
    face = body_estimates.face_from_flame(np.zeros((2, 6), np.float32), np.arange(100, dtype=np.float32).reshape(2, 50))
    licensed = SimpleNamespace(n_vertices=10_475, n_expression=10)
    assert face.expression_for(licensed)[1].tolist() == list(range(50, 60))
    with pytest.raises(InputError, match="means nothing to the default body"):
        face.expression_for(SimpleNamespace(n_vertices=13_718, n_expression=10))


@pytest.fixture(scope="module")
def counting_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint in DECA's layout whose encoder answers 0, 1, ... 235 plus its eleventh feature."""
    torch.manual_seed(0)
    encoder = _encoder(torch)
    last = encoder.get_submodule("layers.2")
    last.weight.data.zero_()
    last.bias.data.copy_(torch.arange(236.0))
    last.weight.data[:, 11] = 1.0
    encoder.get_submodule("layers.0").bias.data[11] = 5.0
    encoder.get_submodule("layers.0").weight.data[11] *= 100  # random features are small
    state = {name: t for name, t in encoder.state_dict().items() if not name.endswith("num_batches_tracked")}
    path = tmp_path_factory.mktemp("deca") / "deca_model.tar"
    torch.save({"E_flame": state, "E_detail": {}, "D_detail": {}, "global_step": 3}, path)
    return path


@pytest.mark.slow
def test_the_parameters_are_taken_in_decas_order(counting_checkpoint):
    """Shape 100, texture 50, expression 50, pose 6 (root, jaw), camera 3, light 27."""
    n = BATCH + 3  # more than one batch
    frames = np.random.default_rng(0).integers(0, 255, (n, 90, 120, 3), np.uint8)
    landmarks = np.tile(np.random.default_rng(1).uniform(30, 80, (68, 2)), (n, 1, 1))
    valid = np.arange(n) != 4
    out = DecaModel(str(counting_checkpoint))(frames=frames, landmarks=landmarks, valid=valid)
    for name, first, size in (("shape", 0, 100), ("expression", 150, 50), ("pose", 200, 6)):
        assert out[name].shape == (n, size)
        assert np.isnan(out[name][4]).all()
        steps = out[name][valid] - out[name][valid][:, :1]
        np.testing.assert_allclose(steps, np.tile(np.arange(size), (n - 1, 1)), atol=1e-3)
        np.testing.assert_allclose(out[name][valid][:, 0], first + out["shape"][valid][:, 0], atol=1e-3)


@pytest.mark.slow
def test_a_frame_is_answered_alike_alone_and_in_a_batch(counting_checkpoint):
    frames = np.random.default_rng(0).integers(0, 255, (3, 90, 120, 3), np.uint8)
    landmarks = np.random.default_rng(1).uniform(30, 80, (3, 68, 2))
    model = DecaModel(str(counting_checkpoint))
    together = model(frames=frames, landmarks=landmarks, valid=np.ones(3, bool))["pose"]
    alone = model(frames=frames[1:2], landmarks=landmarks[1:2], valid=np.ones(1, bool))["pose"]
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-5)
    assert abs(together[0] - together[1]).max() > 1e-3


@pytest.mark.slow
def test_the_encoder_is_a_resnet_50():
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed (extra: sam)")
    torch.manual_seed(0)
    theirs = models.resnet50().eval()
    theirs.fc = torch.nn.Identity()
    ours = _resnet50(torch.nn).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("python", [None, Path(sys.executable)], ids=["in process", "under another Python"])
def test_the_face_estimate_follows_the_frames(counting_checkpoint, bare_environment, python):
    xy = torch.rand(3, N_KEYPOINTS, 2, generator=torch.Generator().manual_seed(0)) * 40 + 40
    score = torch.full((3, N_KEYPOINTS), 0.9)
    score[1, 23:91] = 0.1  # the face is not seen
    keypoints = Keypoints(xy, score, torch.tensor([True, True, True]), (120, 160))
    frames = np.full((3, 120, 160, 3), 90, np.uint8)
    face = body_estimates.estimate_face(frames, keypoints, BackendOptions(python=python, weights=counting_checkpoint))
    assert face.valid.tolist() == [True, False, True]
    assert face.expression.shape == (3, 50)
    torch.testing.assert_close(face.jaw_pose[0] - face.jaw_pose[0, 0], torch.arange(3.0), atol=1e-3, rtol=0)
    assert not face.jaw_pose[1].any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no tensors", "cannot be read as a checkpoint"),
        ({"network": {}}, "no checkpoint of DECA: it has no `E_flame`"),
        ({"E_flame": {"encoder.conv1.weight": torch.zeros(1)}}, r"269 of 269 tensors .* first encoder\.conv1\.weight"),
    ],
)
def test_another_file_is_refused_before_any_frame(tmp_path, bare_environment, content, message):
    path = tmp_path / "deca_model.tar"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    keypoints = Keypoints(torch.zeros(1, 133, 2), torch.ones(1, 133), torch.tensor([True]), (9, 9))
    with pytest.raises(BackendMissing, match=message):
        body_estimates.estimate_face(iter(()), keypoints, BackendOptions(weights=path))
    with pytest.raises(BackendMissing, match=r"nothing at .*fetch_data\.sh.*DECA_WEIGHTS"):
        body_estimates.estimate_face(iter(()), keypoints, BackendOptions(weights=tmp_path / "absent"))
