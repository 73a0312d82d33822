"""Quotas, coverage, and plans that are written once and never change."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from avatars.commands import console
from avatars.errors import InputError
from reenact.commands.plan import PlanCommand
from reenact.planning.batch import load_batch, parse_batch
from reenact.planning.plan import make_plan, open_output, plan_of
from reenact.planning.quotas import Candidate, Quotas, chosen_by, coverage, coverage_table


def stand_ins(folder: Path, avatars: int, motions: int, backgrounds: int) -> dict:
    """A batch whose files hold nothing but different bytes: a plan does not look further."""
    for a in range(avatars):
        (folder / f"p{a:02d}").mkdir()
        (folder / f"p{a:02d}" / "avatar.json").write_text(json.dumps({"consent": "yes", "number": a}))
        (folder / f"p{a:02d}" / "gaussians.safetensors").write_bytes(b"g%d" % a)
    for m in range(motions):
        (folder / f"act{chr(97 + m // 26)}{chr(97 + m % 26)}_1.bvh").write_bytes(b"m%d" % m)
    for b in range(backgrounds):
        (folder / f"b{b}.png").write_bytes(b"b%d" % b)
    people = [
        {"path": f"p{a:02d}", "strata": {"sex": ["female", "male"][a % 2], "age": ["child", "adult"][a % 3 > 0]}}
        for a in range(avatars)
    ]
    return {
        "out": "out",
        "avatars": people,
        "motions": ["act*.bvh"],
        "backgrounds": ["b*.png"],
        "backgrounds_per_pair": min(3, backgrounds),
    }


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Path:
    """80 actions, 15 people, and more backgrounds than the three that each pair gets."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "BATCH.yaml").write_text(json.dumps(stand_ins(folder, 15, 80, 10)))
    return folder / "BATCH.yaml"


@pytest.mark.slow
def test_eighty_actions_of_fifteen_people_over_three_backgrounds_are_3600_clips(paper):
    plan = make_plan(load_batch(paper))
    assert len(plan.clips) == len({clip.id for clip in plan.clips}) == 3600
    assert Counter(len(group) for group in plan.groups()) == {3: 1200}
    assert all(len({clip.background for clip in group}) == 3 for group in plan.groups())
    rows = plan.coverage()
    assert {row.clips for row in rows if row.kind == "class"} == {45}
    assert {row.clips for row in rows if row.kind == "identity"} == {240}
    assert {(row.name, row.clips) for row in rows if row.kind == "sex"} == {("female", 1920), ("male", 1680)}


def test_a_written_plan_is_read_back_equal_and_refused_once_an_input_changed(paper, tmp_path):
    (tmp_path / "BATCH.yaml").write_text(json.dumps(stand_ins(tmp_path, 2, 2, 2)))
    plan = make_plan(load_batch(tmp_path / "BATCH.yaml"))
    out = open_output(plan)
    found = plan_of(out)
    assert found.clips == plan.clips
    assert found.settings() == plan.settings()
    assert found.batch.avatars == plan.batch.avatars
    assert plan_of(out / "plan.jsonl").clips == plan_of(tmp_path / "BATCH.yaml").clips
    (tmp_path / "b1.png").write_bytes(b"another")
    with pytest.raises(InputError, match=r"b1.png is no longer what the plan"):
        plan_of(out)
    (tmp_path / "b1.png").unlink()
    with pytest.raises(InputError, match=r"Nothing at .*b1.png"):
        plan_of(out)
    with pytest.raises(InputError, match=r"holds no plan.jsonl"):
        plan_of(tmp_path)


def test_ids_follow_the_code_version_and_what_is_said_of_a_place(tmp_path, monkeypatch):
    document = stand_ins(tmp_path, 1, 1, 1)
    ids = {make_plan(parse_batch(document, tmp_path)).clips[0].id}
    place = {"path": "b0.png", "horizon": 0.3}
    ids.add(make_plan(parse_batch({**document, "backgrounds": [place]}, tmp_path)).clips[0].id)
    monkeypatch.setattr("reenact.planning.plan.RECIPE", 10**6)
    ids.add(make_plan(parse_batch(document, tmp_path)).clips[0].id)
    assert len(ids) == 3


def test_dry_run_writes_nothing_and_a_plan_is_written_once(tmp_path, capsys):
    (tmp_path / "BATCH.yaml").write_text(json.dumps(stand_ins(tmp_path, 2, 3, 2)))
    assert console.run(PlanCommand(tmp_path / "BATCH.yaml", dry_run=True)) == console.DONE
    assert "12 clips from 6 (avatar, motion) pairs; nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    for _ in range(2):
        assert console.run(PlanCommand(tmp_path / "BATCH.yaml")) == console.DONE
    lines = (tmp_path / "out" / "plan.jsonl").read_text().splitlines()
    assert len(lines) == 12
    (tmp_path / "BATCH.yaml").write_text((tmp_path / "BATCH.yaml").read_text().replace("{", '{"seed": 5,', 1))
    assert console.run(PlanCommand(tmp_path / "BATCH.yaml")) == console.USER_MISTAKE
    assert (tmp_path / "out" / "plan.jsonl").read_text().splitlines() == lines


CANDIDATES = [
    Candidate(label, name, (("sex", sex),))
    for label in ("wave", "kick", "throw")
    for name, sex in (("ann", "f"), ("bea", "f"), ("cy", "m"))
    for _ in range(4)
]


def counted(chosen: list[int]) -> Counter:
    found = [CANDIDATES[i] for i in chosen]
    return Counter([c.label for c in found] + [c.identity for c in found] + [c.strata[0][1] for c in found])


def test_quotas_are_kept_and_filled_evenly():
    assert counted(chosen_by(Quotas(per_class=5), CANDIDATES, 0)) == {
        "wave": 5, "kick": 5, "throw": 5, "ann": 5, "bea": 5, "cy": 5, "f": 10, "m": 5,
    }  # fmt: skip
    balanced = counted(chosen_by(Quotas(strata=(("sex", (("f", 6), ("m", 6))),)), CANDIDATES, 0))
    assert (balanced["f"], balanced["m"], balanced["ann"], balanced["bea"]) == (6, 6, 3, 3)
    assert counted(chosen_by(Quotas(clips=9), CANDIDATES, 0))["wave"] == 3
    assert counted(chosen_by(Quotas(per_identity=2), CANDIDATES, 0))["ann"] == 2
    assert chosen_by(Quotas(), CANDIDATES, 0) == list(range(36))
    assert chosen_by(Quotas(clips=9), CANDIDATES, 0) == chosen_by(Quotas(clips=9), CANDIDATES, 0)
    assert chosen_by(Quotas(clips=9), CANDIDATES, 0) != chosen_by(Quotas(clips=9), CANDIDATES, 1)


def test_what_a_quota_lacks_is_told():
    quotas = Quotas(per_class=20, strata=(("sex", (("f", 10), ("x", 7))),))
    chosen = [CANDIDATES[i] for i in chosen_by(quotas, CANDIDATES, 0)]
    rows = {(row.kind, row.name): row for row in coverage(quotas, chosen, CANDIDATES)}
    assert (rows["sex", "f"].clips, rows["sex", "f"].short) == (10, 0)
    assert (rows["sex", "x"].clips, rows["sex", "x"].short) == (0, 7)
    assert rows["class", "wave"].short == 20 - rows["class", "wave"].clips > 0
    table = coverage_table(list(rows.values()))
    assert "short by 7" in table
    assert "identity: 3" in table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quotas": {"per_klass": 1}}, "unknown key 'per_klass'. Did you mean 'per_class'?"),
        ({"quotas": {"per_class": "many"}}, "quotas: per_class is 'many', expected a whole number"),
        ({"quotas": {"strata": {"sex": 5}}}, "quotas: strata: sex is 5, expected `name: value` pairs"),
        ({"avatars": [{"path": "p00", "strata": "female"}]}, "strata is 'female', expected `name: value` pairs"),
    ],
)
def test_a_wrong_quota_is_refused_naming_it(tmp_path, change, message):
    document = stand_ins(tmp_path, 1, 1, 1)
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        parse_batch({**document, **change}, tmp_path)
