"""Several people in one clip: where they stand, who hides whom, and labels of each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_batch import make_motion, write_batch, write_material

from avatars.body import Body, load_body
from avatars.errors import InputError
from avatars.io.video import probe, read_frames
from compose.rendering.placement import NoPlacement, Placement
from reenact.data_set.label_check import check_data_set
from reenact.planning.batch import load_batch
from reenact.planning.plan import make_plan, read_plan
from reenact.planning.receipts import verify
from reenact.rendering.companions import place_beside, there_and_back
from reenact.rendering.labels import decode_rle
from reenact.retargeting.retarget import retarget
from reenact.running.run import run_batch

SIZE = 160


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def data_set(tmp_path_factory, body) -> Path:
    """White and blue together, each doing a motion of its own, the one who is first in the clip twice."""
    folder = tmp_path_factory.mktemp("together")
    material = write_material(folder, body)
    batch = write_batch(
        material, folder / "batch.json", others=1, person_height=[0.4, 0.6], size=SIZE, crf=4, shadow=False,
        match_light=False,
        avatars=[{"path": str(material / "white"), "consent": "yes"}, {"path": str(material / "blue")}],
    )  # fmt: skip
    summary = run_batch(batch)
    assert summary.made == 2, summary.failures
    return folder / "out"


@pytest.mark.slow
def test_everybody_in_a_clip_has_labels_that_fit_the_pixels(data_set):
    assert verify(data_set) == []
    checks = check_data_set(data_set)
    assert [check.wrong() for check in checks.values()] == [[], []]
    for clip in read_plan(data_set).clips:
        receipt = json.loads((data_set / "receipts" / f"{clip.id}.json").read_text())
        frame = next(read_frames(probe(data_set / receipt["clip"]["path"]), np.array([0]))).astype(int)
        masks = {}
        for kind, path in (("avatar", receipt["labels"]["path"]), ("avatar_2", receipt["others"][0]["labels"]["path"])):
            with np.load(data_set / path) as labels:
                masks[receipt["made_from"][kind]["name"]] = decode_rle(bytes(labels["mask_rle"][0]), (SIZE, SIZE))
                assert labels["joints_px"].shape == (8, 55, 2)
        assert not (masks["white"] & masks["blue"]).any()
        assert frame[masks["white"]][:, 0].mean() > 150 > 80 > frame[masks["blue"]][:, 0].mean()


def test_a_second_persons_labels_are_checked_too(data_set):
    receipt = json.loads(next((data_set / "receipts").glob("*.json")).read_text())
    path = data_set / receipt["others"][0]["labels"]["path"]
    kept = path.read_bytes()
    with np.load(path) as labels:
        found = dict(labels)
    np.savez(path, **found | {"trans": found["trans"] + np.float32([0.2, 0, 0])})
    try:
        assert check_data_set(data_set)[receipt["clip"]["id"]].wrong()
        assert verify(data_set) == [f"labels/{path.name}: other bytes than its receipt names"]
    finally:
        path.write_bytes(kept)


def test_an_export_asks_for_everybodys_consent(data_set):
    from reenact.data_set.export import DataSet, require_permission

    with pytest.raises(InputError, match="No consent is recorded for blue"):
        require_permission(DataSet.load(data_set), "research")


def test_more_people_than_avatars_are_refused(tmp_path, body):
    material = write_material(tmp_path, body)
    with pytest.raises(InputError, match="others is 1, with 1 avatars given"):
        load_batch(write_batch(material, tmp_path / "batch.json", others=1))


def test_the_plan_says_who_is_in_each_clip(data_set):
    plan = read_plan(data_set)
    assert {(clip.avatar, clip.others[0][0]) for clip in plan.clips} == {(0, 1), (1, 0)}
    assert make_plan(plan.batch).clips == plan.clips


def test_a_short_motion_goes_there_and_back(body):
    source = retarget(make_motion(body), body, torch.zeros(body.n_betas), fps=15.0)
    longer = there_and_back(source, 20)
    assert len(longer.motion) == len(longer.contact) == 20
    assert torch.equal(longer.motion.poses[:8], source.motion.poses)
    assert torch.equal(longer.motion.poses[8:15], source.motion.poses.flip(0)[1:])
    step = source.motion.poses.diff(dim=0).abs().max()
    assert longer.motion.poses.diff(dim=0).abs().max() <= step, "it does not jump"
    assert len(there_and_back(source, 5).motion) == 5


def test_nobody_stands_in_anothers_way(body):
    source = retarget(make_motion(body), body, torch.zeros(body.n_betas), fps=15.0)
    touched = torch.rand(500, 3) * torch.tensor([0.6, 1.7, 0.4])
    spots = iter([0.0, 0.3, 2.0])

    def find(retargeted, touched, seed, floor):
        return Placement(next(spots), -3.0, 0.0, (0.5, 0.5), 0.5, {})

    (placement,) = place_beside([(source, touched)], touched + torch.tensor([0.0, 0.0, -3.0]), find, None, 0)
    assert placement.x_m == 2.0
    with pytest.raises(NoPlacement, match="No room beside"):
        place_beside([(source, touched)], touched, lambda *_: Placement(0.0, 0.0, 0.0, (0.5, 0.5), 0.5, {}), None, 0)
