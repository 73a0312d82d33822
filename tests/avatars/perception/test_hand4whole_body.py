"""Hand4Whole around a stand-in network: arrays, boxes, batches; nothing about the quality of any weights."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
import torch

from avatars.errors import BackendMissing, InputError
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.perception import backend_table, body_estimates
from avatars.perception.backend_table import BACKENDS, BackendOptions
from avatars.perception.containers import N_KEYPOINTS, Keypoints
from avatars.perception.hand4whole_body import OUTPUTS, axis_angle_of_matrix


def hand4whole_output(frames: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    out = {name: rng.normal(size=(frames, size)).astype(np.float32) for name, size in OUTPUTS.items()}
    return {**out, "hand_mean": np.tile(np.arange(90, dtype=np.float32), (frames, 1))}


def test_hand4wholes_parameters_land_on_their_joints_with_the_hand_mean_added():
    out = hand4whole_output(3)
    for name in out:
        out[name][2] = np.nan
    body = body_estimates.body_from_hand4whole(out)
    assert body.valid.tolist() == [True, True, False]
    poses = body.poses.numpy()
    np.testing.assert_array_equal(poses[1, 0], out["smplx_root_pose"][1])
    np.testing.assert_array_equal(poses[1, 1:22].ravel(), out["smplx_body_pose"][1])
    np.testing.assert_array_equal(poses[1, 22], out["smplx_jaw_pose"][1])
    assert not poses[:, 23:25].any()
    np.testing.assert_allclose(poses[1, 25:40].ravel(), out["smplx_lhand_pose"][1] + np.arange(45), rtol=1e-6)
    np.testing.assert_allclose(poses[1, 40:55].ravel(), out["smplx_rhand_pose"][1] + np.arange(45, 90), rtol=1e-6)
    assert not poses[2].any()


def some_keypoints(frames: int) -> Keypoints:
    """A person in the middle of 120 x 200 frames, nobody in the last."""
    xy = torch.zeros(frames, N_KEYPOINTS, 2)
    xy[..., 0] = 100 + torch.linspace(-20, 20, N_KEYPOINTS)
    xy[..., 1] = 60 + torch.linspace(-50, 50, N_KEYPOINTS)
    valid = torch.arange(frames) < frames - 1
    return Keypoints(xy, torch.full((frames, N_KEYPOINTS), 0.9), valid, (120, 200))


def _without_packages(backend):
    from dataclasses import replace

    return replace(backend, packages=())


@pytest.mark.slow
def test_the_hand4whole_program_speaks_hand4wholes_interface(tmp_path, bare_environment):
    """A stand-in for Hand4Whole's modules with their documented interface, in a child process; Hand4Whole itself was
    not run."""
    files = {
        "main/config.py": "class cfg:\n    input_img_shape = (512, 384)",
        "main/model.py": """
            import torch
            class Model(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.gain = torch.nn.Parameter(torch.zeros(1))
                    assert self.cuda() is self and torch.zeros(1).cuda().device.type == "cpu"
                def forward(self, inputs, targets, meta_info, mode):
                    image = inputs["img"]
                    assert len(image) != 3, "torch.cross without an axis takes the first of length 3"
                    assert image.shape[1:] == (3, 512, 384) and mode == "test" and image.max() <= 1
                    sizes = dict(root_pose=3, body_pose=63, lhand_pose=45, rhand_pose=45, jaw_pose=3, shape=10, expr=10)
                    red = image.mean((2, 3))[:, :1] * self.gain
                    return {"smplx_" + k: red.expand(-1, n) for k, n in sizes.items()}
            def get_model(mode):
                return Model()
            """,
        "common/utils/__init__.py": "",
        "common/utils/human_models.py": """
            import torch
            class smpl_x:
                class layer:
                    pose_mean = torch.cat([torch.zeros(75), torch.full((45,), 1.0), torch.full((45,), 2.0)])
            """,
        "common/utils/preprocessing.py": """
            import numpy as np
            def process_bbox(bbox, width, height):
                x, y, w, h = bbox
                assert (width, height) == (200, 120) and 40 < w < 60 and 100 < h < 121, bbox
                return np.array(bbox)
            def generate_patch_image(image, bbox, scale, rotation, flip, shape):
                assert not flip and (scale, rotation) == (1.0, 0.0)
                return np.broadcast_to(image[60, 100], (*shape, 3)).astype(np.float32), None, None
            """,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    weights = tmp_path / "snapshot_6.pth.tar"
    torch.save({"network": {"module.gain": torch.ones(1)}}, weights)
    frames = np.zeros((4, 120, 200, 3), np.uint8)
    frames[..., 0] = np.array([51, 102, 204, 255])[:, None, None]
    options = BackendOptions(repository=tmp_path, weights=weights, device="cpu")
    bare_environment.setattr(
        backend_table, "BACKENDS", {**BACKENDS, "hand4whole": _without_packages(BACKENDS["hand4whole"])}
    )
    with pytest.raises(BackendMissing, match="no smplx in"):
        body_estimates.estimate_body(frames, some_keypoints(4), options)
    for folder in ("smplx", "smpl", "mano", "flame"):
        (tmp_path / "common" / "utils" / "human_model_files" / folder).mkdir(parents=True)
    body = body_estimates.estimate_body(frames, some_keypoints(4), options)
    assert body.valid.tolist() == [True, True, True, False]
    torch.testing.assert_close(body.poses[:2, 0], torch.tensor([[0.2], [0.4]]).expand(2, 3))
    torch.testing.assert_close(body.poses[1, 25:40], torch.full((15, 3), 1.4))
    torch.testing.assert_close(body.poses[1, 40:55], torch.full((15, 3), 2.4))
    torch.testing.assert_close(body.betas[:3], torch.tensor([[0.2], [0.4], [0.8]]).expand(3, 10))
    torch.save({"network": {"module.other": torch.ones(1)}}, weights)
    with pytest.raises(BackendMissing, match=r"1 of 1 tensors .* first gain"):
        body_estimates.estimate_body(frames, some_keypoints(4), options)


def test_rotations_become_axis_angle_up_to_a_half_turn():
    axis = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    angle = torch.linspace(0, 3.14, 500)[:, None]
    matrix = matrix_from_axis_angle(axis * angle)
    rows = torch.cat([matrix, torch.zeros(500, 3, 1)], 2)  # as the repository hands them over
    torch.testing.assert_close(axis_angle_of_matrix(rows), axis * angle, atol=2e-3, rtol=0)
    torch.testing.assert_close(axis_angle_of_matrix(rows)[:490], (axis * angle)[:490], atol=2e-5, rtol=0)


def test_frames_and_keypoints_of_different_clips_are_refused():
    class Model:
        def __call__(self, frames, valid):
            return {"pose": np.zeros((len(frames), 6))}

        def close(self):
            pass

    with pytest.raises(InputError, match="2 frames were given with keypoints of 3"):
        body_estimates._answers(Model(), np.zeros((2, 4, 4, 3)), {"valid": np.ones(3, bool)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import chumpyx", "ModuleNotFoundError: No module named 'chumpyx'"),
        ("open('SMPLX_NEUTRAL.pkl')", "FileNotFoundError: .*SMPLX_NEUTRAL.pkl"),
        ("assert False, 'Path smplx does not exist!'", "AssertionError: Path smplx does not exist!"),
    ],
)
def test_what_the_repository_misses_is_named_before_any_frame(tmp_path, bare_environment, line, message):
    for name, text in {"main/config.py": line, "main/model.py": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for folder in ("smplx", "smpl", "mano", "flame"):
        (tmp_path / "common" / "utils" / "human_model_files" / folder).mkdir(parents=True)
    (tmp_path / "snapshot_6.pth.tar").touch()
    bare_environment.setattr(
        backend_table, "BACKENDS", {**BACKENDS, "hand4whole": _without_packages(BACKENDS["hand4whole"])}
    )
    options = BackendOptions(repository=tmp_path, weights=tmp_path / "snapshot_6.pth.tar")
    with pytest.raises(BackendMissing, match=f"hand4whole: Hand4Whole cannot be started in .*{message}"):
        body_estimates.estimate_body(iter(()), some_keypoints(1), options)
