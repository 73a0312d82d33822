"""What a killed command left, and what users keep in its folders: the first is taken up, the second stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.benchmark_results import require_results_file, write_results
from fakes.tiny_batch import make_avatar, write_batch, write_material
from PIL import Image

from actionrec.manifest import read_manifest
from avatars.avatar.model import avatar_folder
from avatars.body import load_body
from avatars.commands import console
from avatars.commands.fit import FitCommand
from avatars.commands.track import TrackCommand
from avatars.errors import InputError
from avatars.io.part_files import part_path
from avatars.io.work_folder import WorkFolder, is_unfinished
from reenact.commands.backgrounds import BackgroundsCommand
from reenact.commands.features import FeaturesCommand
from reenact.commands.normalize import NormalizeCommand
from reenact.planning.batch import load_batch
from reenact.planning.plan import versions
from reenact.planning.receipts import status, verify
from reenact.running.run import run_batch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"), load_body())


@pytest.fixture
def batch(material, tmp_path) -> Path:
    return write_batch(material, tmp_path / "b.yaml")


def test_a_clip_whose_video_or_labels_are_gone_is_made_again(batch, tmp_path):
    run_batch(batch)
    (clip,) = read_manifest(tmp_path / "out" / "manifest.jsonl")
    video, labels = tmp_path / "out" / clip.path, tmp_path / "out" / "labels" / f"{clip.id}.npz"
    whole = video.read_bytes()
    for spoil in (video.unlink, labels.unlink, lambda: video.write_bytes(b"")):
        spoil()
        assert status(tmp_path / "out").whole == 0
        assert run_batch(batch).made == 1
        assert video.read_bytes() == whole
        assert verify(tmp_path / "out") == []
    assert run_batch(batch).already_there == 1


def test_hidden_files_of_users_stay_in_a_data_set_and_leftovers_go(batch, tmp_path):
    run_batch(batch)
    mine = [tmp_path / "out" / ".notes.2024.txt", tmp_path / "out" / "clips" / ".half.123456.mp4"]
    for path in mine:
        path.write_text("mine")
    left = part_path(tmp_path / "out" / "labels" / "a.npz")
    left.write_text("half")
    run_batch(batch)
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert not left.exists()


def test_a_run_that_was_killed_before_the_plan_was_written_goes_on(batch, tmp_path):
    run_batch(batch)
    out = tmp_path / "out"
    card = (out / "batch.json").read_bytes()
    for leave in (("batch.json",), ()):
        for path in sorted(out.rglob("*"), reverse=True):
            if path.name not in leave:
                path.rmdir() if path.is_dir() else path.unlink()
        part_path(out / "plan.jsonl").write_text("half")
        assert run_batch(batch).made == 1
        assert (out / "batch.json").read_bytes() == card


def test_a_batch_json_that_is_no_card_is_refused_and_kept(batch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "batch.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match="not empty"):
        run_batch(batch)
    assert (tmp_path / "out" / "batch.json").read_text() == '{"mine": 1}'


def test_home_is_expanded_in_a_batch(material, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    batch = load_batch(write_batch(material, tmp_path / "b.yaml", out="~/sets/x"))
    assert batch.out == tmp_path / "sets" / "x"


def test_other_libraries_than_those_of_the_plan_are_told(batch, tmp_path, caplog):
    run_batch(batch)
    card_path = tmp_path / "out" / "batch.json"
    card = json.loads(card_path.read_text())
    assert card["versions"] == versions()
    card_path.write_text(json.dumps(card | {"versions": card["versions"] | {"PyAV": "1.2.3"}}))
    caplog.clear()
    run_batch(batch)
    assert [r.message for r in caplog.records if "PyAV 1.2.3" in r.message and "other bytes" in r.message]


def test_normalize_goes_on_and_refuses_what_is_not_its_own(material, tmp_path, capsys):
    motions = (material / "raise_01.npz", material / "lower_01.npz")
    command = NormalizeCommand(motions, tmp_path / "m", fps=15.0)
    assert console.run(command) == console.DONE
    whole = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    (tmp_path / "m" / "lower_01.npz").unlink()
    assert console.run(command) == console.DONE
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == whole
    assert "1 of them already there" in capsys.readouterr().out
    assert console.run(NormalizeCommand(motions, tmp_path / "m", fps=20.0)) == console.USER_MISTAKE
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == whole


def test_features_take_up_a_card_of_their_own_and_no_other_file(tmp_path, capsys):
    clip, out = tmp_path / "wave.mp4", tmp_path / "out"
    clip.write_bytes(b"video")
    out.mkdir()
    command, body = FeaturesCommand((clip,), out), load_body()
    (clip,) = command._sources()
    card = command._card(clip, body)
    for name in ("wave_overlay.mp4", "wave.npz"):
        (out / name).write_text("mine")
        with pytest.raises(InputError, match="already exists"):
            command._is_there(clip, card)
        (out / name).unlink()
    (out / "wave.json").write_text(json.dumps(card))
    assert command._is_there(clip, card) is False
    (out / "wave.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match="nothing was overwritten"):
        command._is_there(clip, card)


def test_places_that_are_prepared_are_kept_and_the_others_made(material, tmp_path, capsys):
    Image.new("RGB", (160, 200), (90, 100, 120)).save(tmp_path / "evening.png")
    command = BackgroundsCommand(
        "prepare", (tmp_path / "evening.png", material / "gray.png"), tmp_path / "places", depth="none", horizon=0.4
    )
    assert console.run(command) == console.DONE
    whole = (tmp_path / "places" / "evening" / "place.yaml").read_bytes()
    for path in (tmp_path / "places" / "gray").iterdir():
        path.unlink()
    capsys.readouterr()
    assert console.run(command) == console.DONE
    assert f"{tmp_path / 'places' / 'evening'}: already there" in capsys.readouterr().out
    assert (tmp_path / "places" / "evening" / "place.yaml").read_bytes() == whole
    (tmp_path / "places" / "gray" / "prepared.json").unlink()
    assert console.run(command) == console.USER_MISTAKE


def test_force_replaces_an_avatar_alone(tmp_path):
    avatar, folder = make_avatar(load_body()), tmp_path / "anna"
    avatar.with_card(consent="old").save(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which is no part of an avatar"):
        avatar.with_card(consent="new").save(folder, force=True)
    (folder / "notes.txt").unlink()
    (folder / "clip.mp4").write_bytes(b"video")
    with pytest.raises(InputError, match="is read and lies in"):
        FitCommand(folder / "clip.mp4", folder, force=True).check()
    (folder / "clip.mp4").unlink()
    with pytest.raises(InputError, match=r"holds mine"), avatar_folder(folder, force=True) as aside:
        avatar.write_files(aside)
        (folder / "mine").write_text("appeared")
    assert (folder / "mine").read_text() == "appeared"
    assert json.loads((folder / "avatar.json").read_text())["consent"] == "old"


def test_an_avatar_that_was_being_put_in_place_is_taken_up(tmp_path):
    avatar, folder = make_avatar(load_body()), tmp_path / "anna"
    WorkFolder.open(folder / ".work", {"job": 1})
    (folder / "gaussians.safetensors").write_bytes(b"of the killed fit")
    avatar.save(folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        ".work", "avatar.json", "canonical.ply", "gaussians.safetensors"
    ]  # fmt: skip


def test_a_track_killed_before_its_job_was_written_is_unfinished(tmp_path):
    (tmp_path / "t" / ".work").mkdir(parents=True)
    (tmp_path / "t" / ".work" / "lock").touch()
    assert is_unfinished(tmp_path / "t")
    TrackCommand(tmp_path / "clip.mp4", tmp_path / "t").check()
    (tmp_path / "t" / "mine.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        TrackCommand(tmp_path / "clip.mp4", tmp_path / "t").check()
    (tmp_path / "t" / ".work" / "mine.txt").touch()
    assert not is_unfinished(tmp_path / "t")


def test_a_benchmark_writes_anew_its_own_numbers_only(tmp_path):
    path = tmp_path / "numbers.json"
    write_results(path, "fit", {"psnr_db": 30.0})
    write_results(path, "fit", {"psnr_db": 31.0})
    assert json.loads(path.read_text()) == {"benchmark": "fit", "psnr_db": 31.0}
    with pytest.raises(InputError, match="Choose another --json"):
        require_results_file(path, "tracking")
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="Choose another --json"):
        write_results(path, "fit", {})
    write_results(Path("/dev/null"), "fit", {})
