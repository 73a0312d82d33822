"""Nothing of the test set may reach training: each kind of leak, seeded alone, stops the experiment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.fake_clips import clip

from actionrec.audit import KINDS, LeakError, audit
from actionrec.errors import DataError
from actionrec.splits import (
    Split,
    equal_per_class,
    few_per_class,
    hold_out_subjects,
    made_from,
    stated_split,
    synthetic_per_class,
)

TRAIN = [clip(id=f"r{i}", subject=f"s{i % 3}", sha256=f"r{i}", source_video=f"v{i}", split="train") for i in range(6)]
TEST = [clip(id=f"t{i}", subject=f"u{i % 3}", sha256=f"t{i}", source_video=f"w{i}", split="test") for i in range(6)]
MADE = [
    clip(id=f"m{i}", kind="synthetic", subject=f"avatar{i % 2}", identity=f"p{i % 2}", source=f"r{i}", sha256=f"m{i}")
    for i in range(4)
]
CLEAN = Split((*TRAIN, *MADE), tuple(TEST))

LEAKS = {
    "clip": Split((*CLEAN.train, replace(TEST[0], path="x.mp4", subject="s9", sha256="x", source="x",
                                         source_video="x", split="")), CLEAN.test),
    "file": Split((*CLEAN.train, clip(id="x", path="t0.mp4", subject="s0", sha256="x")), CLEAN.test),
    "bytes": Split((*CLEAN.train, clip(id="x", subject="s0", sha256="t0")), CLEAN.test),
    "subject": Split((*CLEAN.train, clip(id="x", subject="u1", sha256="x")), CLEAN.test),
    "source video": Split((*CLEAN.train, clip(id="x", subject="s0", sha256="x", source_video="w2")), CLEAN.test),
    "performance": Split((*CLEAN.train, clip(id="x", subject="s0", sha256="x", source="t3")), CLEAN.test),
    "identity": Split((*CLEAN.train, replace(MADE[0], id="x", path="x", sha256="x", identity="u2")), CLEAN.test),
    "reference motion": Split((*CLEAN.train, replace(MADE[0], id="x", path="x", sha256="x", source="t4")), CLEAN.test),
    "synthetic test clip": Split(CLEAN.train, (*CLEAN.test, clip(id="x", subject="avatar9", kind="synthetic",
                                                                 sha256="x"))),
    "stated split": Split((*CLEAN.train, clip(id="x", subject="s0", sha256="x", split="test")), CLEAN.test),
    "label": Split((*CLEAN.train, clip(id="x", subject="s0", sha256="r1", label="kick")), CLEAN.test),
}  # fmt: skip


def test_a_clean_split_passes():
    assert audit(CLEAN).require_clean().leaks == ()


def test_every_kind_is_seeded():
    assert set(LEAKS) == set(KINDS) and len(KINDS) >= 10


@pytest.mark.parametrize("kind", LEAKS)
def test_a_seeded_leak_is_caught_as_what_it_is(kind):
    found = audit(LEAKS[kind])
    assert {leak.kind for leak in found.leaks} == {kind}
    with pytest.raises(LeakError, match=rf"1 leaks between training and test: {kind} 1 \("):
        found.require_clean()
    assert audit(LEAKS[kind], allow=[kind]).leaks == ()


def test_an_avatar_named_like_a_test_subject_is_an_identity_leak():
    named = replace(MADE[0], id="x", path="x", sha256="x", subject="u0", identity="")
    assert [leak.kind for leak in audit(Split((*TRAIN, named), CLEAN.test)).leaks] == ["identity"]


def test_what_cannot_be_checked_is_counted():
    silent = [replace(c, subject="", source_video="") for c in TRAIN]
    assert audit(Split(tuple(silent), CLEAN.test)).unchecked == {"subject": 6, "source video": 6}


def test_an_unknown_allowance_is_refused():
    with pytest.raises(DataError, match="Unknown kind of leak: subjects"):
        audit(CLEAN, allow=["subjects"])  # type: ignore[list-item]


def test_held_out_subjects_are_on_one_side():
    clips = [clip(id=f"c{i}", subject=f"s{i % 7}", sha256=str(i)) for i in range(40)]
    split = hold_out_subjects(clips, share=0.4, seed=3)
    assert len({c.subject for c in split.test}) == 3 and len(split.train) + len(split.test) == 40
    assert audit(split).leaks == ()
    assert split == hold_out_subjects(clips, share=0.4, seed=3) != hold_out_subjects(clips, share=0.4, seed=4)
    with pytest.raises(DataError, match="1 of 2 clips state none"):
        hold_out_subjects([clip(id="a", subject=""), clip(id="b")], share=0.5, seed=0)


def test_few_shots_are_nested_equal_and_of_different_people():
    clips = [clip(id=f"{l}{i}", label=l, subject=f"s{i % 5}", sha256=f"{l}{i}") for l in "abc" for i in range(10)]
    one, five = few_per_class(clips, 1, seed=1), few_per_class(clips, 5, seed=1)
    assert len(one) == 3 and len(five) == 15 and set(one) < set(five)
    assert all(len({c.subject for c in five if c.label == l}) == 5 for l in "abc")
    assert few_per_class(clips, 1, seed=2) != one
    with pytest.raises(DataError, match="1 of 3 classes have fewer than 6 clips: c 5"):
        few_per_class(clips[:25], 6, seed=0)
    assert len(equal_per_class(clips[:25], seed=0)) == 15


def test_synthetic_clips_count_only_when_made_from_the_clips_at_hand():
    assert [c.id for c in made_from(MADE, TRAIN[:2])] == ["m0", "m1"]
    with pytest.raises(DataError, match="1 of 4 synthetic clips have another label"):
        made_from([*MADE[:3], replace(MADE[3], label="kick")], TRAIN)


def test_shuffled_backgrounds_are_even_and_one_per_class_is_not():
    made = [
        replace(MADE[0], id=f"{l}{b}{i}", label=l, background=f"room{b}", sha256=f"{l}{b}{i}")
        for l in "ab" for b in range(4) for i in range(4)
    ]  # fmt: skip
    even = synthetic_per_class(made, 8, labels=["a", "b"], seed=0, backgrounds="shuffled")
    for label in "ab":
        rooms = [c.background for c in even if c.label == label]
        assert sorted(rooms.count(f"room{b}") for b in range(4)) == [2, 2, 2, 2]
    one = synthetic_per_class(made, 4, labels=["a", "b"], seed=0, backgrounds="one-per-class")
    assert {(c.label, c.background) for c in one} == {("a", "room0"), ("b", "room1")}
    with pytest.raises(DataError, match="1 of 2 classes have no synthetic clip: c"):
        synthetic_per_class(made, 1, labels=["a", "c"], seed=0)


def test_a_manifest_without_a_side_is_refused():
    assert stated_split([*TRAIN, *TEST]) == Split(tuple(TRAIN), tuple(TEST))
    with pytest.raises(DataError, match="Of 6 clips, 6 are stated to be for training and 0 for testing"):
        stated_split(TRAIN)
