"""Builders read each data set's real naming, put clips on the official side, and say what they left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.fake_clips import film

from actionrec.errors import DataError
from actionrec.manifest import read_manifest
from actionrec.sources import folders, hmdb, kinetics, ntu, smarthome, ucf
from actionrec.sources.listing import read_classes

MANIFESTS = Path(__file__).parents[2] / "data" / "manifests"


def splits(listing) -> dict[str, str]:
    return {Path(clip.path).stem: clip.split for clip in listing.clips}


def test_ntu_60_splits_by_subject_and_by_camera(tmp_path):
    for name in ("S001C001P001R001A001", "S001C002P001R001A001", "S001C001P003R001A024", "S017C003P038R002A060"):
        film(tmp_path / "nturgb+d_rgb" / f"{name}_rgb.avi")
    film(tmp_path / "nturgb+d_rgb" / "S018C001P041R001A001_rgb.avi")  # of the 120 release
    by_subject = ntu.build(tmp_path, protocol="60-cross-subject")
    assert splits(by_subject) == {
        "S001C001P001R001A001_rgb": "train", "S001C002P001R001A001_rgb": "train",
        "S001C001P003R001A024_rgb": "test", "S017C003P038R002A060_rgb": "train",
    }  # fmt: skip
    first, second = by_subject.clips[0], by_subject.clips[2]
    assert {c.label for c in by_subject.clips} == {"drink water", "kicking something", "A060"}
    assert first.subject == "P001" and first.source == second.source == "S001P001R001A001"
    assert first.camera != second.camera
    by_view = splits(ntu.build(tmp_path, protocol="60-cross-view"))
    assert by_view["S001C001P001R001A001_rgb"] == "test" and by_view["S001C002P001R001A001_rgb"] == "train"


def test_ntu_120_splits_by_subject_and_by_setup(tmp_path):
    for name in ("S018C001P041R001A061", "S019C001P103R001A061"):
        film(tmp_path / f"{name}_rgb.avi")
    assert list(splits(ntu.build(tmp_path, protocol="120-cross-subject")).values()) == ["test", "train"]
    assert list(splits(ntu.build(tmp_path, protocol="120-cross-setup")).values()) == ["train", "test"]
    assert len(ntu.TRAIN_SUBJECTS_60) == 20 and len(ntu.TRAIN_SUBJECTS_120) == 53
    with pytest.raises(DataError, match="choose a protocol of 120"):
        ntu.build(tmp_path, protocol="60-cross-subject")


def test_smarthome_splits_by_subject_and_by_camera(tmp_path):
    for name in ("Cook.Cleandishes_p02_r00_v02_c03", "Walk_p25_r12_v15_c02", "Drink.Fromcup_p10_r02_02_c05",
                 "Getup_p03_r01_v13_c01"):  # fmt: skip
        film(tmp_path / "mp4" / f"{name}.mp4")
    assert splits(smarthome.build(tmp_path)) == {
        "Cook.Cleandishes_p02_r00_v02_c03": "test", "Walk_p25_r12_v15_c02": "train",
        "Drink.Fromcup_p10_r02_02_c05": "test", "Getup_p03_r01_v13_c01": "train",
    }  # fmt: skip
    view = {"Walk_p25_r12_v15_c02": "test", "Drink.Fromcup_p10_r02_02_c05": "validation",
            "Getup_p03_r01_v13_c01": "train"}  # fmt: skip
    assert splits(smarthome.build(tmp_path, protocol="cross-view-1")) == view
    assert splits(smarthome.build(tmp_path, protocol="cross-view-2")) == view


def test_ucf101_takes_its_lists(tmp_path):
    for group in ("g08_c01", "g01_c02", "g25_c03"):
        film(tmp_path / "UCF-101" / "HandstandPushups" / f"v_HandStandPushups_{group}.avi")
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("HandstandPushups/v_HandStandPushups_g08_c01.avi 37\n")
    (lists / "testlist01.txt").write_text("HandstandPushups/v_HandStandPushups_g01_c02.avi\n")
    listing = ucf.build(tmp_path / "UCF-101", lists=lists)
    assert [(c.label, c.split, c.source_video) for c in listing.clips] == [
        ("HandstandPushups", "train", "HandstandPushups_g08"), ("HandstandPushups", "test", "HandstandPushups_g01"),
    ]  # fmt: skip
    (lists / "testlist01.txt").write_text("YoYo/v_YoYo_g01_c02.avi\n")
    with pytest.raises(DataError, match="1 of 2 listed videos are not below"):
        ucf.build(tmp_path / "UCF-101", lists=lists)
    (lists / "testlist01.txt").write_text("YoYo/v_HandStandPushups_g01_c02.avi\n")
    with pytest.raises(DataError, match="listed under YoYo, which its name contradicts"):
        ucf.build(tmp_path / "UCF-101", lists=lists)
    with pytest.raises(DataError, match="No split list"):
        ucf.build(tmp_path / "UCF-101", lists=tmp_path)


def test_hmdb51_takes_its_flags(tmp_path):
    names = [f"April_09_brush_hair_u_nm_np1_ba_goo_{i}.avi" for i in range(3)]
    for name in names:
        film(tmp_path / "videos" / "brush_hair" / name)
    (tmp_path / "brush_hair_test_split2.txt").write_text(f"{names[0]} 1 \n{names[1]} 2 \n{names[2]} 0 \n")
    listing = hmdb.build(tmp_path / "videos", lists=tmp_path, fold=2)
    assert [c.split for c in listing.clips] == ["train", "test"]
    assert {c.source_video for c in listing.clips} == {"April_09"}
    with pytest.raises(DataError, match="No split list"):
        hmdb.build(tmp_path / "videos", lists=tmp_path, fold=1)


def test_kinetics_counts_what_vanished(tmp_path):
    film(tmp_path / "train" / "abseiling" / "-3B32lodo2M_000059_000069.mp4")
    table = tmp_path / "train.csv"
    rows = 'abseiling,-3B32lodo2M,59,69,train\n"air drumming",_dbcJuKJQNs,40,50,validate\n'
    table.write_text("label,youtube_id,time_start,time_end,split\n" + rows)
    listing = kinetics.build(tmp_path, table=table)
    assert [(c.label, c.split, c.source_video) for c in listing.clips] == [("abseiling", "train", "-3B32lodo2M")]
    assert len(listing.skipped) == 1 and "_dbcJuKJQNs_000040_000050.mp4: listed, but not" in listing.summary()
    table.write_text("label,youtube_id\nx,y\n")
    with pytest.raises(DataError, match="lacks the columns time_start, time_end, split"):
        kinetics.build(tmp_path, table=table)


def test_plain_folders_with_and_without_splits(tmp_path):
    film(tmp_path / "a" / "wave" / "anna__1.mp4")
    film(tmp_path / "b" / "train" / "wave" / "1.mp4")
    film(tmp_path / "b" / "test" / "wave" / "2.mp4", seed=1)
    flat = folders.build(tmp_path / "a", split="test")
    assert [(c.label, c.subject, c.split) for c in flat.clips] == [("wave", "anna", "test")]
    assert sorted(c.split for c in folders.build(tmp_path / "b").clips) == ["test", "train"]
    (tmp_path / "b" / "train" / "kick").mkdir()
    with pytest.raises(DataError, match=r"1 of 3 class folders .* hold no video: kick"):
        folders.build(tmp_path / "b")


def test_bad_input_is_named_with_counts(tmp_path):
    with pytest.raises(DataError, match="No folder at"):
        ntu.build(tmp_path / "none")
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(DataError, match=r"No video below .* \(1 other files\)"):
        ntu.build(tmp_path)
    film(tmp_path / "wave_p1.mp4")
    for builder in (ntu.build, smarthome.build):
        with pytest.raises(DataError, match=r"None of the 1 videos .* found wave_p1.mp4. Is this the right folder"):
            builder(tmp_path)
    film(tmp_path / "S001C001P001R001A001_rgb.avi")
    with pytest.raises(DataError, match=r"1 of 2 classes have no clip here: drink watr. Did you mean 'drink water'"):
        ntu.build(tmp_path, classes=["drink water", "drink watr"])


def test_broken_and_one_frame_videos_are_skipped_with_a_count(tmp_path):
    good = film(tmp_path / "S001C001P001R001A001_rgb.avi", 12)
    film(tmp_path / "S001C001P001R001A002_rgb.avi", 1)
    (tmp_path / "S001C001P001R001A003_rgb.avi").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "S001C001P001R001A004_rgb.avi").write_bytes(b"no video")
    listing = ntu.build(tmp_path)
    reasons = " ".join(s.reason for s in listing.skipped)
    assert len(listing.clips) + len(listing.skipped) == 4 and len(listing.skipped) >= 2
    assert "a single frame" in reasons and "cannot be read as a video" in reasons
    assert f"{len(listing.skipped)} skipped" in listing.summary()
    good.unlink()
    (tmp_path / "S001C001P001R001A003_rgb.avi").unlink()
    with pytest.raises(DataError, match="None of the 2 videos can be used"):
        ntu.build(tmp_path)


def test_a_saved_listing_points_at_its_files(tmp_path):
    film(tmp_path / "data" / "Walk_p25_r12_v15_c02.mp4")
    path = smarthome.build(tmp_path / "data").save(tmp_path / "lists" / "m.jsonl")
    (clip,) = read_manifest(path)
    assert clip.path == "../data/Walk_p25_r12_v15_c02.mp4" and (path.parent / clip.path).is_file()
    assert (clip.n_frames, clip.fps, clip.size_hw) == (6, 12.0, (32, 40))


PAPERS_NTU = (
    (1, "drink water"), (2, "eat meal"), (3, "brush teeth"), (6, "pick up"), (7, "throw"), (8, "sit down"),
    (9, "stand up"), (10, "clapping"), (23, "hand waving"), (24, "kicking something"), (27, "jump up"),
    (31, "point to something"), (35, "nod head/bow"), (38, "salute"), (39, "put palms together"),
    (40, "cross hands in front"),
)  # fmt: skip
PAPERS_SMARTHOME = (
    "Cook.cut", "Cook.stir", "Cook.Usestove", "Drink.Frombottle", "Drink.Fromcan", "Drink.Fromcup", "Eat.snack",
    "Getup", "Laydown", "Pour.Fromkettle", "Pour.Frombottle", "Sitdown", "Walk", "Usetelephone",
    "Maketea.Insertteabag", "Enter",
)  # fmt: skip


def test_the_papers_class_lists_are_whole():
    document = json.loads((MANIFESTS / "ntu_16.json").read_text())
    assert tuple((int(c["code"][1:]), c["paper"]) for c in document["classes"]) == PAPERS_NTU
    assert read_classes(MANIFESTS / "ntu_16.json") == [ntu.ACTION_NAMES[code] for code, _ in PAPERS_NTU]
    assert tuple(read_classes(MANIFESTS / "smarthome_16.json")) == PAPERS_SMARTHOME
    assert document["complete"]


def test_capital_letters_of_a_class_do_not_matter(tmp_path):
    for name in ("Cook.Cut_p02_r00_v02_c03", "Cook.cut_p03_r00_v02_c03", "Walk_p25_r12_v15_c02"):
        film(tmp_path / f"{name}.mp4")
    found = smarthome.build(tmp_path, classes=["Cook.cut"])
    assert [clip.label for clip in found.clips] == ["Cook.cut", "Cook.cut"]
    with pytest.raises(DataError, match=r"Did you mean 'Cook\.[Cc]ut'"):
        smarthome.build(tmp_path, classes=["Cook.cuts"])
