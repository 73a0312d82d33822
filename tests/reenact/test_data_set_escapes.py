"""An altered data set leads nobody out of its folder, and what is exported or merged is what the receipts name."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.written_data_set import write_data_set

from actionrec.manifest import read_manifest, write_manifest
from avatars.commands import console
from avatars.errors import InputError
from avatars.io.files import read_json, sha256_of, write_json
from reenact.commands.data_set import MergeCommand, VerifyCommand
from reenact.commands.export import ExportCommand
from reenact.data_set.export import DataSet, write_card
from reenact.data_set.report import write_data_report
from reenact.planning.plan import read_clips
from reenact.planning.receipts import merge, read_receipt, receipt_path, verify

FORMS = ("manifest", "folders", "webdataset", "kinetics", "sequences")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("written"))


@pytest.fixture
def out(written: Path, tmp_path: Path) -> Path:
    """A copy of the data set, with a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    return Path(shutil.copytree(written, tmp_path / "inner" / "out"))


def altered(out: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Change the first clip's receipt and its line in the manifest alike; its id."""
    clip = read_manifest(out / "manifest.jsonl")[0]
    receipt = read_json(receipt_path(out, clip.id))
    change(receipt)
    write_json(receipt_path(out, clip.id), receipt)
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    rows[0] = receipt["clip"]
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return clip.id


def set_path(path: str) -> Callable[[dict[str, Any]], None]:
    return lambda receipt: receipt["clip"].update(path=path)


def set_labels(path: str) -> Callable[[dict[str, Any]], None]:
    return lambda receipt: receipt["labels"].update(path=path)


ESCAPES = {
    "absolute": set_path("/etc/passwd"),
    "up": set_path("../../secret"),
    "up in the middle": set_path("clips/../../../secret"),
    "hidden": set_path("clips/.bashrc"),
    "backslash": set_path("clips\\..\\secret"),
    "elsewhere": set_path("plan.jsonl"),
    "labels up": set_labels("../../secret"),
    "labels absolute": set_labels("/etc/passwd"),
    "labels of no clip": set_labels("labels/none.npz"),
    "id up": lambda receipt: receipt["clip"].update(id="../../evil"),
    "id with a slash": lambda receipt: receipt["clip"].update(id="a/b"),
    "id of another": lambda receipt: receipt["clip"].update(id="0" * 16),
}


def outside(out: Path) -> dict[str, bytes]:
    """Every file around the data set."""
    root = out.parent.parent
    return {str(p): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and not p.is_relative_to(out)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("escape", sorted(ESCAPES))
def test_no_path_or_id_leads_an_export_out_of_the_data_set(out, tmp_path, form, escape, capsys):
    altered(out, ESCAPES[escape])
    before = outside(out)
    assert console.run(ExportCommand(out, form, tmp_path / "inner" / "export")) == console.USER_MISTAKE
    assert capsys.readouterr().err.count("\n") == 1
    assert outside(out) == before


@pytest.mark.parametrize("escape", sorted(ESCAPES))
def test_no_path_or_id_leads_a_merge_out_of_the_data_set(out, tmp_path, escape, capsys):
    altered(out, ESCAPES[escape])
    before = outside(out)
    assert console.run(MergeCommand((out,), tmp_path / "inner" / "merged")) == console.USER_MISTAKE
    assert capsys.readouterr().err.count("\n") == 1
    assert outside(out) == before


@pytest.mark.parametrize("what", ["video", "labels", "receipt", "folder"])
def test_a_link_out_of_the_data_set_is_refused(out, tmp_path, what):
    clip = read_manifest(out / "manifest.jsonl")[0]
    place = {"video": clip.path, "labels": f"labels/{clip.id}.npz", "receipt": f"receipts/{clip.id}.json"}
    if what == "folder":
        shutil.move(out / "clips", tmp_path / "clips")
        (out / "clips").symlink_to(tmp_path / "clips")
    else:
        there = out / place[what]
        shutil.move(there, tmp_path / "elsewhere")
        there.symlink_to(tmp_path / "elsewhere")
    for run in (lambda: export(out, tmp_path / "e"), lambda: merge([out], tmp_path / "m")):
        with pytest.raises(InputError, match="outside of"):
            run()
    assert not (tmp_path / "e").exists() and not (tmp_path / "m").exists()


def export(out: Path, target: Path, form: str = "manifest") -> Path:
    from reenact.data_set.export import writers

    writers(1.0)[form](DataSet.load(out), target)
    return target


def test_a_data_set_behind_a_link_is_read(out, tmp_path):
    (tmp_path / "link").symlink_to(out)
    assert (export(tmp_path / "link", tmp_path / "e") / "manifest.jsonl").is_file()


@pytest.mark.parametrize("form", FORMS)
def test_a_link_within_the_data_set_is_exported_as_its_file(out, tmp_path, form):
    clip = read_manifest(out / "manifest.jsonl")[0]
    shutil.move(out / clip.path, out / "clips" / "kept.mp4")
    (out / clip.path).symlink_to("../kept.mp4")
    found = export(out, tmp_path / "e", form)
    assert not any(path.is_symlink() for path in found.rglob("*"))


@pytest.mark.parametrize("form", FORMS)
def test_an_export_stands_alone(out, tmp_path, form):
    found = export(out, tmp_path / "e", form)
    shutil.rmtree(out)
    files = [path for path in found.rglob("*") if path.is_file()]
    assert files and all(path.stat().st_size for path in files)
    assert not any(path.is_symlink() for path in found.rglob("*"))


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_video_is_not_handed_on(out, tmp_path, form, capsys):
    (out / read_manifest(out / "manifest.jsonl")[1].path).write_bytes(b"")
    assert console.run(ExportCommand(out, form, tmp_path / "e")) == console.USER_MISTAKE
    assert "has other bytes than receipts/" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("form", FORMS)
def test_swapped_labels_are_not_handed_on(out, tmp_path, form):
    first, second = (out / "labels" / f"{clip.id}.npz" for clip in read_manifest(out / "manifest.jsonl"))
    with np.load(first) as archive:
        changed = {**archive}
    np.savez(first, **{**changed, "betas": changed["betas"] + 1})
    shutil.move(second, out / "x")
    shutil.move(first, second)
    shutil.move(out / "x", first)
    with pytest.raises(InputError, match="has other bytes than receipts/"):
        export(out, tmp_path / "e", form)


@pytest.mark.parametrize("what", ["video", "labels"])
def test_merge_refuses_bytes_that_no_receipt_names(out, tmp_path, what):
    clip = read_manifest(out / "manifest.jsonl")[0]
    (out / (clip.path if what == "video" else f"labels/{clip.id}.npz")).write_bytes(b"")
    with pytest.raises(InputError, match="has other bytes than receipts/"):
        merge([out], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_merge_refuses_a_clip_that_is_not_in_the_plan(out, tmp_path):
    clip = read_clips(out)[0]
    shutil.copy(receipt_path(out, clip.id), receipt_path(out, "f" * 16))
    with pytest.raises(InputError, match="not in its plan"):
        merge([out], tmp_path / "merged")


def test_whole_parts_are_merged_and_verified(out, tmp_path):
    assert merge([out, out], tmp_path / "merged") == 2
    assert verify(tmp_path / "merged") == []


def gate_as_if(out: Path, accepted: int) -> None:
    clips = read_manifest(out / "manifest.jsonl")
    write_manifest(out / "accepted.jsonl", clips[:accepted])
    write_manifest(out / "rejected.jsonl", clips[accepted:])


def test_accepted_clips_are_exported_while_they_are_those_of_the_manifest(out, tmp_path):
    gate_as_if(out, 1)
    assert [clip.id for clip in DataSet.load(out).clips] == [read_manifest(out / "manifest.jsonl")[0].id]


@pytest.mark.parametrize("how", ["a clip more", "other bytes", "no rejected.jsonl", "a made up clip"])
def test_a_stale_gate_is_refused(out, tmp_path, how, capsys):
    clips = read_manifest(out / "manifest.jsonl")
    if how == "a clip more":
        write_manifest(out / "accepted.jsonl", clips[:1])
        write_manifest(out / "rejected.jsonl", [])
    else:
        gate_as_if(out, 1)
    if how == "other bytes":
        write_manifest(out / "accepted.jsonl", [replace(clips[0], sha256="f" * 64)])
    if how == "no rejected.jsonl":
        (out / "rejected.jsonl").unlink()
    if how == "a made up clip":
        write_manifest(out / "accepted.jsonl", [clips[0], replace(clips[1], id="f" * 16)])
    assert console.run(ExportCommand(out, "folders", tmp_path / "e")) == console.USER_MISTAKE
    assert "Run `reenact gate" in capsys.readouterr().err


def test_a_planted_link_at_the_side_name_of_a_manifest_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("kept")
    (tmp_path / f".manifest.jsonl.{os.getpid()}").symlink_to(target)
    write_manifest(tmp_path / "manifest.jsonl", [])
    assert target.read_text() == "kept"


def test_sequences_carry_the_depth_that_labels_hold(out, tmp_path):
    found = export(out, tmp_path / "e", "sequences")
    with np.load(next((found / "sequences").iterdir())) as archive:
        assert archive["depth_mm"].shape == (4, 64, 64) and archive["depth_mm"].max() == 3000
        assert archive["place_depth_mm"].max() == 5000


@pytest.mark.parametrize("label", ["=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)"])
def test_no_cell_of_a_csv_begins_a_formula(out, tmp_path, label):
    altered(out, lambda receipt: receipt["clip"].update(label=label))
    rows = list(csv.DictReader(io.StringIO((export(out, tmp_path / "e", "kinetics") / "train.csv").read_text())))
    assert rows[0]["label"] == "'" + label
    assert rows[1]["label"] == "wave"


def test_a_split_names_no_file_outside(out, tmp_path):
    altered(out, lambda receipt: receipt["clip"].update(split="../../evil"))
    found = export(out, tmp_path / "inner" / "e", "kinetics")
    assert {path.name for path in found.glob("*.csv")} == {"_.._evil.csv", "train.csv"}
    assert not list(tmp_path.glob("evil*"))


def test_a_card_shows_markup_as_text(out, tmp_path):
    def change(receipt: dict[str, Any]) -> None:
        receipt["clip"].update(label="<img src=x onerror=alert(1)>|a")
        receipt["made_from"]["avatar"].update(consent="![x](http://a.example)\n# Yes")

    altered(out, change)
    (tmp_path / "e").mkdir()
    text = write_card(DataSet.load(out), tmp_path / "e", "reenact export", "research").read_text()
    for markup in ("<img", "![x](", "\n# Yes", ">|a"):
        assert markup not in text
    assert "&#60;img src=x onerror=alert(1)&#62;&#124;a" in text


def test_tar_members_are_plain_names(out, tmp_path):
    found = export(out, tmp_path / "e", "webdataset")
    for shard in found.glob("*.tar"):
        with tarfile.open(shard) as tar:
            assert all("/" not in name and not name.startswith(".") for name in tar.getnames())


def test_a_broken_receipt_is_a_line_of_verify_and_no_report_follows_it(out, capsys):
    clip_id = altered(out, ESCAPES["absolute"])
    with pytest.raises(InputError):
        read_receipt(out, clip_id)
    assert any("/etc/passwd" in line for line in verify(out))
    with pytest.raises(InputError, match="does not lie in the data set"):
        write_data_report(out, out / "report.html")
    assert console.run(VerifyCommand(out)) == console.WORK_FAILED
    assert sha256_of(out / "plan.jsonl")
