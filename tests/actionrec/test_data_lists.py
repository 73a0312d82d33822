"""Lists and tables are read as spreadsheets write them, or refused in one line with the row's number."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.fake_clips import film

from actionrec.errors import DataError
from actionrec.sources import folders, hmdb, kinetics, ucf
from actionrec.sources.listing import read_classes, videos_below

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
GOOD = "café dancing,abcdefghijk,0,10,train,0\n"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    film(tmp_path / "videos" / "abcdefghijk_000000_000010.mp4")
    return tmp_path / "videos"


def build(videos: Path, content: bytes):
    table = videos.parent / "table.csv"
    table.write_bytes(content)
    return kinetics.build(videos, table=table)


@pytest.mark.parametrize(
    "content",
    [
        ("\ufeff" + HEADER + GOOD).encode(),
        (HEADER + GOOD).encode("latin-1"),
        (HEADER + GOOD).encode("utf-16"),
        (HEADER + "\n,,,,,\n" + GOOD + " , ,,,,\n").encode(),
        (HEADER + GOOD).replace("\n", "\r\n").encode(),
        (HEADER.upper() + GOOD.replace("train", "Train").replace(",0\n", ",0,,\n")).encode(),
    ],
    ids=["byte-order mark", "latin-1", "utf-16", "empty rows", "crlf", "capitals and trailing commas"],
)
def test_a_table_is_read_however_it_was_saved(videos: Path, content: bytes) -> None:
    assert [(clip.label, clip.split) for clip in build(videos, content).clips] == [("café dancing", "train")]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("dancing,abc", "line 3 has 2 fields of 6; time_start, time_end, split missing"),
        ("dancing,abc,NaN,10,train,0", "line 3: time_start is 'NaN', expected seconds"),
        ("dancing,abc,0,inf,train,0", "line 3: time_end is 'inf'"),
        ("dancing,abc,-5,10,train,0", "line 3: time_start is '-5'"),
        ("dancing,abc,,10,train,0", "line 3: time_start is ''"),
        ("tying, fancy,abc,0,10,train,0", "line 3 has 7 fields, expected 6|line 3: time_start is 'abc'"),
        (",abc,0,10,train,0", "line 3: label empty"),
        ("dancing,nan,0,10,train,0", "line 3: youtube_id empty"),
        ("dancing,abc,0,10,holdout,0", "line 3: split is 'holdout'"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_line_with_its_number(videos: Path, row: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        build(videos, (HEADER + GOOD + row + "\n").encode())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x00\x01\x02\x03", HEADER.encode(), b"a;b;c\n1;2;3\n"])
def test_what_is_no_table_is_one_line(videos: Path, content: bytes) -> None:
    with pytest.raises(DataError) as caught:
        build(videos, content)
    assert "\n" not in str(caught.value)


def test_split_lists_with_byte_order_marks_and_crlf_are_read(tmp_path: Path) -> None:
    for name in ("v_Biking_g01_c01", "v_Biking_g02_c01"):
        film(tmp_path / "data" / "Biking" / f"{name}.avi")
    (tmp_path / "trainlist01.txt").write_bytes("\ufeffBiking/v_Biking_g01_c01.avi 1\r\n\r\n".encode())
    (tmp_path / "testlist01.txt").write_bytes("\ufeffBiking/v_Biking_g02_c01.avi\r\n".encode("utf-16-le"))
    assert {clip.split for clip in ucf.build(tmp_path / "data", lists=tmp_path).clips} == {"train", "test"}
    (tmp_path / "testlist01.txt").write_text("Biking/v_Biking_g02_c01.avi\nSurfing/v_Biking_g01_c01.avi\n")
    with pytest.raises(DataError, match=r"testlist01\.txt, line 2"):
        ucf.build(tmp_path / "data", lists=tmp_path)


def test_flags_that_are_none_are_told_with_their_line(tmp_path: Path) -> None:
    film(tmp_path / "wave" / "a.avi")
    (tmp_path / "wave_test_split1.txt").write_bytes("\ufeffa.avi\t1 \n".encode())
    assert hmdb.build(tmp_path, lists=tmp_path).clips[0].split == "train"
    for bad in ("a.avi 1\na.avi nan\n", "a.avi 1\n2\n"):
        (tmp_path / "wave_test_split1.txt").write_text(bad)
        with pytest.raises(DataError, match="line 2"):
            hmdb.build(tmp_path, lists=tmp_path)


def test_class_lists_lose_their_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("\ufeffwave\r\ncafé\r\n".encode())
    assert read_classes(tmp_path / "classes.txt") == ["wave", "café"]


def test_linked_folders_are_entered_once_and_loops_end(tmp_path: Path) -> None:
    film(tmp_path / "disk" / "wave" / "a.mp4")
    film(tmp_path / "root" / "jump" / "b.mp4")
    film(tmp_path / "outside.mp4")
    root = tmp_path / "root"
    (root / "wave").symlink_to(tmp_path / "disk" / "wave")
    (root / "wave" / "again").symlink_to(tmp_path / "disk")
    (root / "up").symlink_to(tmp_path)
    (root / "self").symlink_to(root)
    (root / "jump" / "twin").symlink_to(root / "jump")
    (root / "jump" / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    assert videos_below(root, what="x") == [root / "jump" / "b.mp4", root / "wave" / "a.mp4"]
    (root / "up").unlink()
    (root / "self").unlink()
    assert {clip.label for clip in folders.build(root).clips} == {"jump", "wave"}
