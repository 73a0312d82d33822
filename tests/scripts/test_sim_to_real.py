"""Costs are paired by clip and told against the variant that differs by one thing; a person is cut out as filmed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clip_variants import ClipVariants, over, person_alpha, variants_of
from fakes.fake_clips import film, sweeps
from real_folder import RealFolderConfig
from sim_to_real import SimToRealOptions, as_dict, predicted_on_variants, rows_of, run, table

from actionrec.clips import ClipConfig
from actionrec.recognizers import Small
from actionrec.sources import folders
from actionrec.training import TrainingConfig
from avatars.errors import InputError

TRAINING = TrainingConfig(
    Small(frames=6, size=32, width=6, dropout=0.0),
    ClipConfig(frames=6, size=32, train_short_side=(32, 36), flip=0.0, cache_short_side=36),
    steps=60, batch=6, lr=5e-3, optimizer="adamw", schedule="cosine", warmup=0.1,
)  # fmt: skip


def test_variants_differ_by_one_thing_each():
    variants = {v.name: v for v in variants_of(RealFolderConfig(turn_deg=9.0, size=1.25, speed=1.5, softness_px=0.7))}
    assert variants["turned"].batch["placement"] == {"kind": "source", "turn_deg": [-9.0, 9.0]}
    assert variants["sized"].batch["placement"] == {"kind": "source", "size": [0.8, 1.25]}
    assert variants["paced"].batch["speed"] == [0.6667, 1.5] and "film" not in variants["avatar"].batch
    for variant in variants.values():
        assert not variant.less or variant.less in variants
        if variant.batch and variants[variant.less].batch and variant.name not in ("as-drawn", "placed"):
            before, after = variants[variant.less].batch, variant.batch
            assert len({k for k in {*before, *after} if before.get(k) != after.get(k)}) == 1, variant.name


def test_a_person_is_cut_out_where_the_detector_and_the_place_say_so(monkeypatch):
    class Seen:
        def detect(self, frames):
            for _ in frames:
                mask = np.zeros((60, 60), np.uint8)
                mask[20:40, 20:30] = 255
                mask[:, 32:34] = 30  # hardly anything
                yield type("Found", (), {"mask": mask})

    monkeypatch.setattr("avatars.perception.mediapipe_holistic.MediaPipeHolistic", Seen)
    place = np.full((60, 60, 3), 90, np.uint8)
    frame = place.copy()
    frame[20:40, 20:30] = 95  # clothes of the wall's color: the mask knows
    frame[20:24, 30:32] = 220  # a hand that the mask missed
    frame[5:9, 50:55] = 220  # something else that moved, far away
    alpha = person_alpha(frame[None], place)[0]
    assert (alpha[22:38, 22:28] == 1.0).all() and alpha[22, 30] > 0.9
    assert alpha[7, 52] == 0.0 and alpha[50, 10] == 0.0
    elsewhere = np.full_like(place, 10)
    pasted = over(frame[None], alpha[None], elsewhere)[0]
    assert (pasted[22:38, 22:28] == 95).all() and (pasted[50:] == 10).all()


@pytest.mark.slow
def test_what_a_recognizer_does_not_know_costs_and_what_it_knows_does_not(tmp_path):
    rng = np.random.default_rng(0)
    for label, name in enumerate(("right", "left", "down")):
        for person in ("ann", "ben", "cy", "di"):
            film(tmp_path / "real" / name / f"{person}__1.mp4", sweeps(label, rng))
            film(tmp_path / "other" / name / f"{person}__1.mp4", sweeps((label + 1) % 3, rng))  # as another action
            for k in range(2):
                film(tmp_path / f"like{k}" / name / f"{person}__1.mp4", sweeps(label, rng))
    sets = {
        name: {f"{c.label}_{c.subject}": replace(c, id=f"{name} {c.id}") for c in folders.build(tmp_path / name).clips}
        for name in ("real", "other", "like0", "like1")
    }
    motions = sorted(sets["real"])
    variants = ClipVariants(tmp_path, {
        "real": {m: (sets["real"][m],) for m in motions},
        "cut-out": {m: (sets["like0"][m],) for m in motions},
        "avatar": {m: (sets["other"][m], sets["like1"][m]) for m in motions},
        "silhouette of real": {m: (replace(sets["real"][m], id=f"mask {m}"),) for m in motions},
        "silhouette of avatar": {
            m: tuple(replace(sets["other"][m], id=f"mask {k} of {m}") for k in range(2)) for m in motions
        },
    })  # fmt: skip
    options = SimToRealOptions(tmp_path, out=tmp_path / "out", seeds=1, jobs=1)
    tested = predicted_on_variants(variants, TRAINING, options)
    rows = {row.variant: row for row in rows_of(tested, RealFolderConfig())}
    assert rows["real"].cost is None and rows["real"].accuracy.mean > 0.8
    assert abs(rows["cut-out"].cost.mean) < 0.2 and rows["cut-out"].less == "real"
    assert rows["avatar"].cost.high < 0 and rows["avatar"].accuracy.mean == pytest.approx(0.5, abs=0.15)
    assert rows["silhouette of avatar"].less == "silhouette of real"
    assert rows["silhouette of avatar"].cost.mean < -0.6
    assert as_dict(list(rows.values()))["avatar"]["less"] == "cut-out"
    assert "against" in table(list(rows.values()), "tested on")


def test_a_variant_that_is_none_is_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match="no variant 'soft'; there are as-drawn, avatar"):
        run(SimToRealOptions(tmp_path / "none", out=tmp_path / "out", also_train=("soft",)))
    assert not (tmp_path / "out").exists()
