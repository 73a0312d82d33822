"""Fitting with the Gaussians on another device than the CPU: what a GPU does, on a device that is only pretended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.fake_device import pretended_device
from fakes.fake_turn import TINY, MadeUpTurn, make_turn

from avatars import rasterizer
from avatars.body import Body, load_body
from avatars.commands.fit import FitCommand
from avatars.errors import InputError
from avatars.fitting.config import FitConfig, Stage
from avatars.fitting.pipeline import FitResult, fit_avatar
from avatars.rasterizer.cpu import rasterize_cpu
from avatars.rasterizer.scene import Scene

CONFIG = replace(TINY, stages=(Stage(4, 0.3, 6, 2), Stage(2, 0.3, 4, 2), Stage(1, 0.5, 6)))


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def turn(body: Body, tmp_path_factory: pytest.TempPathFactory) -> MadeUpTurn:
    return make_turn(body, tmp_path_factory.mktemp("turn"))


def drawn_elsewhere(scene: Scene, *_) -> rasterizer.Render:
    """In the place of a GPU's rasterizer: takes tensors there and gives tensors there."""
    assert all(getattr(scene.gaussians, name).device == scene.K.device for name in ("means", "quats", "colors"))
    here = replace(scene, gaussians=scene.gaussians.to("cpu"), T_cam_world=scene.T_cam_world.cpu(), K=scene.K.cpu())
    return rasterize_cpu(here).to(scene.K.device)


def fitted(turn: MadeUpTurn, body: Body, config: FitConfig, keep: Path | None = None) -> FitResult:
    return fit_avatar(turn.video, turn, config=config, body=body, plate=turn.room, keep=keep)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def skirted(body: Body, tmp_path_factory: pytest.TempPathFactory) -> MadeUpTurn:
    """With enough frames to tell a skirt."""
    return make_turn(body, tmp_path_factory.mktemp("skirted"), count=36, hem=0.8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["turn", "skirted"])
def test_fitting_elsewhere_makes_the_same_avatar(
    kind: str, body: Body, monkeypatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    turn = request.getfixturevalue(kind)
    here = fitted(turn, body, CONFIG)
    assert (here.avatar.skirt is not None) == (kind == "skirted")
    monkeypatch.setattr(rasterizer, "_rasterized", drawn_elsewhere)
    with pretended_device() as device:
        there = fitted(turn, body, replace(CONFIG, device=device), tmp_path / "fit.pt")
    assert there.avatar.offsets.device.type == "cpu"
    for name in ("betas", "offsets", "log_scales", "opacity_logits", "albedo", "light"):
        a, b = getattr(here.avatar, name), getattr(there.avatar, name)
        assert float((a - b).abs().quantile(0.99)) < 0.02 * max(float(a.abs().max()), 1e-3), name
    assert there.scores is not None and here.scores is not None
    assert there.scores.psnr_box_fitpose_db == pytest.approx(here.scores.psnr_box_fitpose_db, abs=0.05)


def test_a_pretended_device_refuses_to_mix_with_the_cpu() -> None:
    """So that the test above means something."""
    with pretended_device() as device:
        there = torch.ones(3, device=device)
        assert (there + there).cpu().tolist() == [2.0, 2.0, 2.0]
        with pytest.raises(RuntimeError, match="on the CPU, others elsewhere"):
            _ = there + torch.ones(3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_before_any_work(turn: MadeUpTurn, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--device cpu"):
        FitCommand(turn.video, tmp_path / "avatar", device="cuda", force=True).check()
    assert not (tmp_path / "avatar").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
def test_fitting_on_a_gpu_makes_nearly_the_same_avatar(turn: MadeUpTurn, body: Body) -> None:
    here, there = fitted(turn, body, CONFIG), fitted(turn, body, replace(CONFIG, device="cuda"))
    assert there.scores is not None and here.scores is not None
    assert there.scores.psnr_box_fitpose_db == pytest.approx(here.scores.psnr_box_fitpose_db, abs=0.5)
