"""The manifest survives a round trip and names the line and key of what is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from actionrec.manifest import ManifestClip, ManifestError, read_manifest, write_manifest

CLIP = ManifestClip(
    id="ab12",
    path="clips/wave/ab12.mp4",
    label="wave",
    subject="anna",
    source="wave_07",
    kind="synthetic",
    n_frames=90,
    fps=30.0,
    size_hw=(512, 512),
    sha256="0" * 64,
    background="street",
    licence="Apache-2.0; CC BY 4.0",
)


def test_a_manifest_survives_the_round_trip(tmp_path):
    clips = [CLIP, replace(CLIP, id="cd34", label="grüßen", split="train")]
    path = write_manifest(tmp_path / "manifest.jsonl", clips)
    assert read_manifest(path) == clips
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_frames": "many"}, "n_frames is 'many'"),
        ({"n_frames": True}, "n_frames is True"),
        ({"size_hw": [512]}, "size_hw is"),
        ({"kind": "painted"}, "kind is 'painted'"),
        ({"labels": "wave"}, "unknown labels"),
        ({"fps": 0}, "must be positive"),
        ({"label": ""}, "without label"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, change, message):
    good = json.dumps(asdict(CLIP))
    bad = json.dumps({**asdict(CLIP), "id": "ef56", **change})
    (tmp_path / "m.jsonl").write_text(f"{good}\n{bad}\n")
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "m.jsonl")


def test_missing_keys_broken_json_and_twins_are_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "x"}\n')
    with pytest.raises(ManifestError, match="line 1: missing path, label"):
        read_manifest(path)
    path.write_text("{]\n")
    with pytest.raises(ManifestError, match="line 1 is not JSON"):
        read_manifest(path)
    path.write_text(f"{CLIP.to_line()}\n{CLIP.to_line()}\n")
    with pytest.raises(ManifestError, match="line 2: the id ab12 stands twice"):
        read_manifest(path)
    with pytest.raises(ManifestError, match="No manifest"):
        read_manifest(tmp_path / "none.jsonl")


def test_twins_are_not_written_and_nothing_is_lost(tmp_path):
    path = write_manifest(tmp_path / "m.jsonl", [CLIP])
    with pytest.raises(ManifestError):
        write_manifest(path, [CLIP, CLIP])
    assert read_manifest(path) == [CLIP]
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]
