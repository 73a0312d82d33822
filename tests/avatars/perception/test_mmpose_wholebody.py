"""MMPose around a stand-in network: arrays, boxes and pixels; nothing about the quality of any weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from fakes.dot_scene import check_dots

from avatars.errors import BackendMissing
from avatars.perception.backend_table import BackendOptions, open_backend
from avatars.perception.child_process import interpreter

DOT_HEAD = """
import torch
from mmpose.models.heads.base_head import BaseHead
from mmpose.registry import KEYPOINT_CODECS, MODELS

@MODELS.register_module(force=True)
class Same(torch.nn.Module):
    def forward(self, x):
        return (x,)

@MODELS.register_module(force=True)
class DotHead(BaseHead):
    def __init__(self, out_channels, decoder, red, init_cfg=None):
        super().__init__(init_cfg)
        self.out_channels, self.red = out_channels, red
        self.decoder = KEYPOINT_CODECS.build(decoder)

    def forward(self, feats):
        x = feats[-1]
        blue = self.out_channels - self.red
        maps = torch.cat([x[:, :1].repeat(1, self.red, 1, 1), x[:, 2:].repeat(1, blue, 1, 1)], 1)
        return maps.amax(2).repeat_interleave(2, -1), maps.amax(3).repeat_interleave(2, -1)

    def predict(self, feats, samples, test_cfg=None):
        return self.decode(self.forward(feats))

    def loss(self, *a, **k):
        raise NotImplementedError
"""

MMPOSE_CONFIG_OF_DOTS = (
    f"""
exec({DOT_HEAD!r}, {{}})
"""
    + """
codec = dict(type="SimCCLabel", input_size=(192, 256), sigma=(4.9, 5.66), simcc_split_ratio=2.0, normalize=False,
             use_dark=False)
model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(type="PoseDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True),
    backbone=dict(type="Same"),
    head=dict(type="DotHead", out_channels=133, red=100, decoder=codec),
    test_cfg=dict(flip_test=False))
pipeline = [dict(type="LoadImage"), dict(type="GetBBoxCenterScale"), dict(type="TopdownAffine", input_size=(192, 256)),
            dict(type="PackPoseInputs")]
test_dataloader = dict(dataset=dict(type="CocoWholeBodyDataset", pipeline=pipeline))
train_dataloader = dict(dataset=dict(type="CocoWholeBodyDataset"))
default_scope = "mmpose"
"""
)


def test_mmpose_finds_known_peaks_at_their_pixels(tmp_path, bare_environment):
    """The network is a stand-in whose SimCC peaks are where the picture is red and blue; MMPose does all the rest."""
    python = _side_python_of_mmpose()
    config, weights = tmp_path / "dots.py", tmp_path / "dots.pth"
    config.write_text(MMPOSE_CONFIG_OF_DOTS)
    torch.save({"state_dict": {}}, weights)
    model = open_backend("mmpose", BackendOptions(python=python, weights=weights, model=str(config)))
    check_dots(model)
    model.close()


MMPOSE_PYTHON = os.environ.get("MMPOSE_PYTHON")  # read before a fixture clears it


def _side_python_of_mmpose() -> Path:
    if not MMPOSE_PYTHON:
        pytest.skip("MMPOSE_PYTHON names no environment made by scripts/install_mmpose.sh")
    return interpreter(MMPOSE_PYTHON)


def test_mmpose_refuses_a_checkpoint_of_another_config(tmp_path, bare_environment):
    python = _side_python_of_mmpose()
    weights = tmp_path / "other.pth"
    torch.save({"state_dict": {"backbone.stem.0.conv.weight": torch.zeros(1)}}, weights)
    options = BackendOptions(python=python, weights=weights, model="rtmpose-t_8xb64-270e_coco-ubody-wholebody-256x192")
    with pytest.raises(BackendMissing, match="does not belong to this config"):
        open_backend("mmpose", options)
