"""An avatar of no numbers draws nobody, and labels without anybody agree with it; `verify --labels` is not fooled."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_batch import make_avatar, write_batch, write_material

from actionrec.manifest import ManifestClip, read_manifest
from avatars.avatar import Avatar
from avatars.body import load_body
from avatars.commands import console
from avatars.io.files import read_json, sha256_of, write_json
from reenact.commands.data_set import VerifyCommand
from reenact.data_set.label_check import check_data_set
from reenact.planning.plan import read_clips
from reenact.planning.receipts import finish_manifest, receipt_path
from reenact.rendering import render
from reenact.rendering.labels import encode_rle
from reenact.running.run import run_batch


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nobody")
    write_material(folder, load_body())
    assert run_batch(write_batch(folder, folder / "b.yaml")).made == 1
    return folder / "out"


def without_anybody(out: Path) -> None:
    """What a batch of NaN avatars leaves: labels whose masks are empty, and receipts that name them."""
    clip: ManifestClip = read_manifest(out / "manifest.jsonl")[0]
    path, nothing = out / "labels" / f"{clip.id}.npz", encode_rle(np.zeros(clip.size_hw, bool))
    with np.load(path) as archive:
        labels = {**archive}
    empty = np.array([nothing] * clip.n_frames)
    np.savez(path, **{**labels, "mask_rle": empty, "whole_rle": empty, "box_px": np.zeros_like(labels["box_px"])})
    receipt = read_json(receipt_path(out, clip.id))
    receipt["labels"]["sha256"] = sha256_of(path)
    write_json(receipt_path(out, clip.id), receipt)
    finish_manifest(out, read_clips(out), [], judged=set())


@pytest.mark.slow
def test_clips_with_nobody_are_not_accepted(made, tmp_path, monkeypatch, capsys):
    assert all(not check.wrong() for check in check_data_set(made).values())
    without_anybody(made)

    def of_no_numbers(path: Path, body) -> Avatar:
        return replace(Avatar.load(path, body), opacity_logits=torch.full((6000,), -30.0))

    monkeypatch.setattr(render, "_avatar", of_no_numbers)
    (check,) = check_data_set(made).values()
    assert check.mask_iou == 1.0 and check.picture_steps == 0.0  # nothing agrees with nothing
    assert check.wrong() == ["nobody is drawn in 8 frames, though the pose puts a person in the picture"]
    assert console.run(VerifyCommand(made, labels=-1)) == console.WORK_FAILED
    assert "nobody is drawn in 8 frames" in capsys.readouterr().out


def test_labels_of_no_numbers_are_told_of_their_clip_and_the_others_are_checked(made):
    clip = read_manifest(made / "manifest.jsonl")[0]
    path = made / "labels" / f"{clip.id}.npz"
    with np.load(path) as archive:
        labels = {**archive}
    np.savez(path, **{**labels, "poses": np.full_like(labels["poses"], np.nan)})
    (check,) = check_data_set(made).values()
    assert "`poses` holds" in check.wrong()[0] and "no numbers" in check.wrong()[0]


def test_an_avatar_that_was_changed_is_read_anew(made):
    folder, body = made.parent / "avatar_anew", load_body()
    avatar = make_avatar(body)
    avatar.save(folder)
    assert torch.equal(render._avatar(folder, body).opacity_logits, avatar.opacity_logits)
    shutil.rmtree(folder)
    replace(avatar, opacity_logits=avatar.opacity_logits - 1.0).save(folder)
    assert torch.equal(render._avatar(folder, body).opacity_logits, avatar.opacity_logits - 1.0)
