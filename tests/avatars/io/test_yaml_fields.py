"""What people write in YAML is read as they mean it, or refused in one line that says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatars.errors import InputError
from avatars.io.yaml_fields import fields_of, number, path_in, read_yaml, shown, text


def read(tmp_path: Path, content: str | bytes):
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(path)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("motions: [a]\nfps: 30\nmotions: [b]\n", "`motions` stands twice, in lines 1 and 3"),
        ("a:\n  - {path: x, path: y}\n", "`path` stands twice, in lines 2 and 2"),
        ("a:\n  b: 1\n  c: 2\n  'b': 3\n", "`b` stands twice, in lines 2 and 4"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path, content: str, lines: str) -> None:
    with pytest.raises(InputError, match=lines):
        read(tmp_path, content)


def test_merged_keys_may_be_overwritten(tmp_path: Path) -> None:
    found = read(tmp_path, "base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  x: 3\n")
    assert found["mine"] == {"x": 3, "y": 2}


def test_names_that_look_like_times_and_dates_are_text(tmp_path: Path) -> None:
    found = read(tmp_path, "\ufeffa: 10:30\nb: 2024-01-02\nc: run:1\nd: 10:30.5\ne: 12\n")
    assert found == {"a": "10:30", "b": "2024-01-02", "c": "run:1", "d": "10:30.5", "e": 12}


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    ["a: [1", "[" * 3000, "? [a]\n: b", "a: !!python/object:os.system x", b"\xff\xfe\x00a", "a: \x01"],
)
def test_what_is_no_yaml_is_one_line(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(InputError, match=r"a\.yaml") as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_a_value_that_grows_without_end_is_shown_short(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    found = read(tmp_path, bomb)
    assert len(shown(found["a11"])) < 5000
    with pytest.raises(InputError, match="expected `name: value` pairs"):
        fields_of(found["a11"], {}, "a.yaml: a11")


@pytest.mark.parametrize(
    ("value", "says"),
    [(7, "put it in quotes"), (True, "put it in quotes"), ([], "is empty"), (" ", "expected text"),
     ("a\u2028b", r"U\+2028"), ("a\nb", r"U\+000A"), ({"a": 1}, "expected text")],
)  # fmt: skip
def test_what_is_no_name_is_judged(value, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        text(value, "x")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [[1], ["a", {"b": 1}], "a", 3])
def test_what_stands_where_pairs_belong_is_one_line(value) -> None:
    with pytest.raises(InputError, match=r"b\.yaml: film is .*, expected `name: value` pairs"):
        fields_of(value, {"grain": number(0, 1)}, "b.yaml: film")


def test_the_home_folder_is_found_and_colons_are_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert path_in(tmp_path, "~/x", "out") == tmp_path / "home" / "x"
    assert path_in(tmp_path, "run:1", "out") == tmp_path / "run:1"
    with pytest.raises(InputError, match="no home folder of ~nobody-of-this-name"):
        path_in(tmp_path, "~nobody-of-this-name/x", "out")
