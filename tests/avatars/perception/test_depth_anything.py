"""Depth of single pictures: metric and relative told apart; nothing about the quality of any weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from avatars.errors import InputError
from avatars.perception.backend_table import BackendOptions
from avatars.perception.child_process import MissingPiece
from avatars.perception.depth_anything import checked_kind
from avatars.perception.depth_maps import DepthMaps, depth_maps


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "depth_anything"}, "relative"),
        ({"model_type": "depth_anything", "depth_estimation_type": "relative", "max_depth": 1}, "relative"),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric", "max_depth": 20}, "metric"),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, "no max_depth"),
        ({"model_type": "dpt"}, "of type 'dpt', not depth_anything"),
        (
            {"model_type": "depth_anything", "_name_or_path": "d/Depth-Anything-V2-Metric-Indoor-Small-hf"},
            "and yet has",
        ),
        ({"model_type": "depth_anything", "depth_estimation_type": "relative", "max_depth": 80}, "and yet has"),
    ],
)
def test_metric_and_relative_checkpoints_are_told_apart_by_their_config(tmp_path_factory, config, kind):
    tmp_path = tmp_path_factory.mktemp("checkpoint")  # not named after this test: a name that says metric counts
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MissingPiece, match=r"no preprocessor_config\.json"):
        checked_kind(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    if kind in ("metric", "relative"):
        assert checked_kind(str(tmp_path)) == kind
    else:
        with pytest.raises(MissingPiece, match=kind):
            checked_kind(str(tmp_path))


def test_relative_depth_has_no_meters_until_it_is_fitted_to_known_depth():
    depth_m = torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(0)) * 8 + 1
    relative = DepthMaps(3.0 * (1 / depth_m) + 0.7, "relative")
    with pytest.raises(InputError, match="relative"):
        relative.meters()
    known = torch.zeros(2, 12, 16, dtype=torch.bool)
    known[:, 8:] = True  # the floor
    torch.testing.assert_close(relative.fitted(depth_m, known).meters(), depth_m, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match="Only 0 pixels"):
        relative.fitted(depth_m, torch.zeros_like(known))
    with pytest.raises(InputError, match="does not rise and fall"):
        DepthMaps(-relative.values, "relative").fitted(depth_m, known)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "extra"), [("relative", {}), ("metric", {"max_depth": 20})])
def test_depth_anything_runs_through_with_a_tiny_network_of_random_weights(tmp_path, bare_environment, kind, extra):
    """The real architecture, 32 wide: shapes, types and the kind, nothing about quality."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: depth)")
    backbone = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8, 16, 32, 32],
        fusion_hidden_size=16, head_hidden_size=8, depth_estimation_type=kind, **extra,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    transformers.DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(tmp_path)
    frames = np.random.default_rng(0).integers(0, 255, (2, 60, 100, 3), np.uint8)
    maps = depth_maps(frames, BackendOptions(weights=tmp_path))
    assert maps.kind == kind
    assert maps.values.shape == (2, 60, 100)
    if kind == "metric":
        assert 0 < float(maps.meters().min()) <= float(maps.meters().max()) < 20
