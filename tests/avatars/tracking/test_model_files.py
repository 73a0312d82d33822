"""A track names the models that made it by hash, and unfinished work of other weights is not taken up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatars.body import load_body
from avatars.body.motion import Motion
from avatars.errors import InputError
from avatars.geometry.camera import Camera
from avatars.io.files import read_json, sha256_of
from avatars.io.work_folder import WorkFolder
from avatars.perception.containers import Keypoints
from avatars.tracking import pipeline as tracking
from avatars.tracking.config import TrackConfig
from avatars.tracking.model_files import models_of, tree_hash
from avatars.tracking.track import SourceVideo, Track


@pytest.mark.slow
def test_models_are_named_by_the_hash_of_their_weights(tmp_path: Path, bare_environment) -> None:
    weights = tmp_path / "rtmw.onnx"
    weights.write_bytes(b"some weights")
    bare_environment.setenv("SAM_WEIGHTS", str(weights))
    config = TrackConfig(
        detector="rtmlib+segment-anything", backend=(f"rtmlib.weights={weights}", f"rtmlib.python={tmp_path}")
    )
    first, keypoints, masks = models_of(config)
    assert (first.name, keypoints.name, masks.name) == ("mediapipe", "rtmlib", "segment-anything")
    assert keypoints.sha256 == masks.sha256 == sha256_of(weights) and len(first.sha256) == 64
    assert keypoints.python == str(tmp_path) and keypoints.versions == ""
    assert masks.versions.startswith("torch ") and first.versions.startswith("mediapipe ")
    assert models_of(TrackConfig(detector="none")) == ()


def test_a_folder_of_weights_has_a_hash_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"2")
    before = tree_hash(tmp_path)
    assert tree_hash(tmp_path) == before
    (tmp_path / "sub" / "b").rename(tmp_path / "sub" / "c")
    renamed = tree_hash(tmp_path)
    (tmp_path / "sub" / "c").write_bytes(b"3")
    assert len({before, renamed, tree_hash(tmp_path)}) == 3


@pytest.mark.slow
def test_work_of_other_weights_is_not_taken_up(tmp_path: Path, bare_environment) -> None:
    body, source = load_body(), SourceVideo("a.mp4", "ab" * 32, (64, 64))
    weights = tmp_path / "rtmw.onnx"
    config = TrackConfig(detector="rtmlib", backend=(f"rtmlib.weights={weights}",))
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        job = tracking._job(source, config, body, models_of(config))
        if content == b"one":
            WorkFolder.open(tmp_path / "out" / ".work", job)
    with pytest.raises(InputError, match=r"different: model rtmlib"):
        WorkFolder.open(tmp_path / "out" / ".work", job)


@pytest.mark.slow
def test_the_models_lie_in_the_receipt_and_come_back(tmp_path: Path, bare_environment) -> None:
    body, config = load_body(), TrackConfig()
    motion = Motion(
        torch.zeros(2, 55, 3), torch.zeros(2, 3), torch.zeros(body.n_betas), torch.zeros(2, body.n_expression),
        torch.arange(2).double(), torch.ones(2, dtype=torch.bool), body.sha256,
    )  # fmt: skip
    keypoints = Keypoints(torch.zeros(2, 133, 2), torch.zeros(2, 133), motion.valid, (64, 64))
    camera = Camera.level(focal_px=60.0, size_hw=(64, 64), height_m=1.0, distance_m=2.6)
    source = SourceVideo("a.mp4", "ab" * 32, (64, 64))
    track = Track(motion, camera, keypoints, None, source, config, models=models_of(config))
    loaded = Track.load(track.save(tmp_path / "track"))
    assert loaded.models == track.models and len(loaded.models) == 1
    (model,) = read_json(tmp_path / "track" / "track.json")["models"]
    assert (model["name"], model["sha256"]) == ("mediapipe", track.models[0].sha256)
