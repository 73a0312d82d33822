"""A layer over the clip's own place is the clip; over white it is a person on white; alpha survives its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_batch import write_batch, write_material
from PIL import Image

from avatars.body import load_body
from avatars.commands import console
from avatars.io.progress import StageClock
from avatars.io.video import load_frames
from reenact.commands.layers import LayersCommand
from reenact.data_set.label_check import posed_at
from reenact.data_set.layers import layers_of, over, scene_of, straight, write_alpha_video
from reenact.planning.plan import read_plan
from reenact.running.run import run_batch


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    write_material(folder, load_body())
    assert run_batch(write_batch(folder, folder / "b.yaml")).made >= 1
    return folder / "out"


def test_straight_bytes_over_a_place_are_the_premultiplied_ones():
    rng = np.random.default_rng(0)
    alpha = rng.random((16, 16, 1)).astype(np.float32)
    layer = np.concatenate([alpha * rng.random((16, 16, 3)), alpha], -1).astype(np.float32)
    place = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    bytes_ = straight(layer).astype(np.float32) / 255
    again = over(np.concatenate([bytes_[..., :3] * bytes_[..., 3:], bytes_[..., 3:]], -1), place)
    assert np.abs(again.astype(int) - over(layer, place)).max() <= 1
    nothing = np.zeros((4, 4, 4), np.float32)
    assert (over(nothing, place[:4, :4]) == place[:4, :4]).all() and not straight(nothing).any()


@pytest.mark.slow
def test_a_layer_over_the_clips_place_is_the_composed_clip(made):
    plan, body = read_plan(made), load_body()
    clip = plan.clips[0]
    scene, people = scene_of(plan, clip, made, body)
    with torch.no_grad():
        for index, layer in enumerate(layers_of(plan, clip, made, body)):
            posed = [posed_at(p.avatar, p.local, plan, index) for p in people]
            composed = scene.draw(posed, StageClock(), index).frame
            apart = np.abs(over(layer, scene.frame).astype(int) - composed.astype(int))
            assert apart.max() <= 1
    assert index == len(people[0].motion) - 1
    shadow = (layer[..., 3] > 0.02) & (layer[..., :3].max(-1) < 1e-3)
    assert shadow.sum() > 20, "the shadow is in the layer, too"


@pytest.mark.slow
def test_layers_are_written_in_every_form(made, tmp_path, capsys):
    clip = read_plan(made).clips[0].id
    for form in ("png", "webm", "white"):
        assert console.run(LayersCommand(made, tmp_path / form, form=form, clips=(clip,))) == console.DONE
    first = np.asarray(Image.open(tmp_path / "png" / clip / "00000.png"))
    assert first.shape[2] == 4 and 0.01 < (first[..., 3] > 128).mean() < 0.9
    frames, info = load_frames(tmp_path / "white" / f"{clip}.mp4")
    assert len(frames) == len(list((tmp_path / "png" / clip).iterdir())) == info.n_frames
    assert np.median(frames[0]) > 250 and (frames[0, :3].astype(int) > 240).all()
    assert (tmp_path / "webm" / f"{clip}.webm").stat().st_size > 500
    assert console.run(LayersCommand(made, tmp_path / "png")) == console.USER_MISTAKE
    assert console.run(LayersCommand(made, tmp_path / "x", clips=("nobody",))) == console.USER_MISTAKE
    assert "no finished clip nobody" in capsys.readouterr().err


def test_alpha_survives_vp9(tmp_path):
    import av

    frame = np.zeros((64, 64, 4), np.uint8)
    frame[16:48, 16:48] = (200, 60, 40, 255)
    write_alpha_video(tmp_path / "a.webm", iter([frame] * 5), 25.0)
    with av.open(str(tmp_path / "a.webm")) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        pictures = [p for packet in container.demux(video=0) for p in decoder.decode(packet)]
    alpha = pictures[2].to_ndarray(format="rgba")[..., 3]
    assert alpha[20:44, 20:44].min() > 230 and alpha[:10].max() < 20
