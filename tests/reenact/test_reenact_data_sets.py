"""The gate catches seeded defects and names them; exports are what trainers read, and stop where consent is missing."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_batch import make_avatar, make_motion, write_batch, write_material
from scipy.ndimage import gaussian_filter

from actionrec.manifest import ManifestClip, read_manifest, write_manifest
from avatars.avatar import Avatar
from avatars.body import load_body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.commands import console
from avatars.errors import InputError
from avatars.io.files import read_json
from avatars.io.video import load_frames, write_video
from reenact.commands.export import ExportCommand
from reenact.commands.filter import FilterCommand
from reenact.commands.normalize import NormalizeCommand
from reenact.data_set.export import DataSet, require_permission
from reenact.data_set.quality import QualityRules, Verdict, calibrated_oks, funnel, judge, measure, oks
from reenact.data_set.report import write_data_report
from reenact.running.run import run_batch


def without_left_arm(avatar: Avatar) -> Avatar:
    parts = ("shoulder", "elbow", "wrist", "index", "middle", "ring", "pinky", "thumb")
    arm = [i for i, name in enumerate(JOINT_NAMES) if name.startswith(tuple(f"left_{part}" for part in parts))]
    of_arm = avatar.body.lbs_weights[avatar.binding.corners].mean(1)[:, arm].sum(-1) > 0.5
    return replace(avatar, opacity_logits=torch.where(of_arm, -20.0, avatar.opacity_logits))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A data set of a whole and a one-armed person, one motion, one place with some texture."""
    from PIL import Image

    folder, body = tmp_path_factory.mktemp("gate"), load_body()
    write_material(folder, body)
    without_left_arm(make_avatar(body)).save(folder / "one_armed")
    texture = np.random.default_rng(0).integers(60, 120, (20, 20, 3), np.uint8)
    Image.fromarray(texture).resize((160, 160)).save(folder / "wall.png")
    batch = write_batch(
        folder,
        folder / "b.yaml",
        avatars=[
            {"path": str(folder / "white"), "consent": "research, 2026", "strata": {"sex": "female"}},
            {"path": str(folder / "one_armed"), "consent": "research, 2026"},
        ],
        backgrounds=[{"path": str(folder / "wall.png"), "licence": "CC BY-NC 4.0"}],
        person_height=[0.7, 0.8],
    )
    assert run_batch(batch).made == 2
    return folder / "out"


def blurred(frames: np.ndarray) -> np.ndarray:
    return np.stack([gaussian_filter(frame, (6, 6, 0)) for frame in frames])


DEFECTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "lit": lambda frames: frames // 30,
    "sharp": blurred,
    "moves": lambda frames: np.repeat(frames[:1], len(frames), 0),
    "decodes": lambda frames: frames[:-2],
}


def seeded(made: Path, folder: Path) -> Path:
    """A copy of the data set in which further clips have one defect each, named after the stage that must catch it."""
    out = Path(shutil.copytree(made, folder / "out"))
    clips = read_manifest(out / "manifest.jsonl")
    good = next(clip for clip in clips if clip.subject == "white")
    frames, _ = load_frames(out / good.path)

    def add(name: str, video: np.ndarray, **labels: np.ndarray) -> None:
        clip = replace(good, id=name, path=f"clips/{name}.mp4")
        write_video(out / clip.path, video, fps=good.fps, crf=18)
        with np.load(out / "labels" / f"{good.id}.npz") as archive:
            np.savez(out / "labels" / f"{name}.npz", **{**archive, **labels})
        clips.append(clip)

    for stage, spoil in DEFECTS.items():
        add(stage, spoil(frames))
    add("new", frames)
    add("inside", frames, keypoints_in_frame=np.zeros((len(frames), 133), bool))
    with np.load(out / "labels" / f"{good.id}.npz") as archive:
        add("agrees", frames[::-1], keypoints_px=archive["keypoints_px"] + np.array([0.0, 25.0]))
    write_manifest(out / "manifest.jsonl", clips)
    return out


def test_seeded_defects_are_caught_by_their_stage_and_the_good_clip_passes(made, tmp_path):
    out = seeded(made, tmp_path)
    clips = read_manifest(out / "manifest.jsonl")
    good = next(clip for clip in clips if clip.subject == "white" and len(clip.id) == 16)
    with np.load(out / "labels" / f"{good.id}.npz") as archive:
        truth = archive["keypoints_px"]

    def sees_the_truth(frames):
        chosen = np.unique(np.linspace(0, len(truth) - 1, 6).round().astype(int))
        return truth[chosen], np.ones((len(chosen), 133))

    ours = [clip for clip in clips if clip.subject == "white"]
    rules = QualityRules(min_sharpness=60.0)  # 96 pixels: an edge is all there is
    verdicts = {v.id: v for v in judge(ours, [measure(out, clip, sees_the_truth) for clip in ours], rules)}
    assert verdicts[good.id].stage == "", verdicts[good.id]
    for clip_id, verdict in verdicts.items():
        if clip_id != good.id:
            assert verdict.stage in (clip_id, *(["whole"] if clip_id == "agrees" else [])), verdict
    assert verdicts["new"].reason == f"nearly the same as {good.id}"


def test_a_missing_limb_is_named(made):
    clips = {clip.subject: clip for clip in read_manifest(made / "manifest.jsonl")}
    lacking, whole = (measure(made, clips[name], None) for name in ("one_armed", "white"))
    assert (lacking.worst_limb, lacking.limb < 0.5) == ("left arm", True)
    assert whole.limb > 0.9
    verdict = judge([clips["one_armed"]], [lacking], QualityRules())[0]
    assert verdict.stage == "whole"
    assert verdict.reason.startswith("left arm is there in")


def test_similarity_is_one_for_the_truth_and_falls_with_distance():
    truth = np.random.default_rng(0).uniform(0, 100, (3, 12, 2))
    seen, area = np.ones((3, 12), bool), np.full(3, 900.0)
    assert np.allclose(oks(truth, truth, seen, area), 1.0)
    off = oks(truth + np.array([3.0, 4.0]), truth, seen, area)  # 5 px where the square root of the area is 30
    sigmas = np.array([0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089])
    assert np.allclose(off, np.exp(-25 / (2 * 900 * (2 * sigmas) ** 2)).mean())
    assert np.allclose(oks(truth + 1000, truth, seen, area), 0.0)


@pytest.mark.slow
def test_the_threshold_is_calibrated_by_the_share_that_passes(made):
    clip = read_manifest(made / "manifest.jsonl")[0]
    found = [replace(measure(made, clip, None), oks=value) for value in np.linspace(0, 1, 101)]
    assert calibrated_oks(found, 0.95) == pytest.approx(0.05)
    with pytest.raises(InputError, match="No pose was estimated"):
        calibrated_oks([replace(found[0], oks=float("nan"))], 0.95)


def test_the_funnel_counts_what_comes_to_each_stage():
    verdicts = [Verdict(str(i), stage, "", {}) for i, stage in enumerate(["", "lit", "lit", "decodes", "new"])]
    rows = {stage: (came, lost) for stage, came, lost in funnel(verdicts)}
    assert rows["decodes"] == (5, 1)
    assert rows["lit"] == (4, 2)
    assert rows["new"] == (2, 1)


def test_the_gate_keeps_the_rejected_apart_and_the_report_shows_them(made, tmp_path, capsys):
    out = Path(shutil.copytree(made, tmp_path / "out"))
    assert console.run(FilterCommand(out, detector="none", jobs=1)) == console.DONE
    assert "1 of 2 clips accepted (the pose was not looked for)" in capsys.readouterr().out
    accepted, rejected = (read_manifest(out / name) for name in ("accepted.jsonl", "rejected.jsonl"))
    assert [c.subject for c in accepted + rejected] == ["white", "one_armed"]
    assert (out / rejected[0].path).is_file()
    page = write_data_report(out, out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    for shown in ("Guessed floors", "left arm is there", "2 of 2 clips", "raise arm", "CPU time by stage", "female"):
        assert shown in page
    assert "http" not in page.replace("http-equiv", "")


def exported(made: Path, out: Path, form: str, **options) -> Path:
    assert console.run(ExportCommand(made, form, out, **options)) == console.DONE
    return out


def test_every_form_holds_every_clip(made, tmp_path):
    clips = read_manifest(made / "manifest.jsonl")
    folders = exported(made, tmp_path / "folders", "folders")
    assert {p.stem for p in (folders / "raise_arm").glob("*.mp4")} == {clip.id for clip in clips}
    assert all((folders / clip.path).is_file() for clip in read_manifest(folders / "manifest.jsonl"))
    kinetics = exported(made, tmp_path / "kinetics", "kinetics")
    rows = list(csv.DictReader(io.StringIO((kinetics / "train.csv").read_text())))
    assert {row["youtube_id"] for row in rows} == {p.stem for p in (kinetics / "videos").iterdir()}
    assert (rows[0]["label"], float(rows[0]["time_end"])) == ("raise arm", round(8 / 15, 3))
    whole = exported(made, tmp_path / "whole", "manifest")
    for clip in read_manifest(whole / "manifest.jsonl"):
        assert (whole / clip.path).read_bytes() == (made / clip.path).read_bytes()
    card = (whole / "README.md").read_text()
    for told in ("2 synthetic clips", "| raise arm | 2 |", "- white: research, 2026", "CC BY-NC 4.0 (2 clips)"):
        assert told in card


def test_shards_are_plain_tars_that_group_by_key_and_their_index_is_true(made, tmp_path):
    out = exported(made, tmp_path / "shards", "webdataset", shard_mib=0.001)
    index = read_json(out / "index.json")
    assert (index["samples"], index["classes"], len(index["shards"])) == (2, ["raise arm"], 2)
    for entry in index["shards"]:
        with tarfile.open(out / entry["shard"]) as tar:
            names = tar.getnames()
            assert [name.split(".")[1] for name in names] == ["json", "mp4", "npz"]
            assert len({name.split(".")[0] for name in names}) == entry["samples"] == 1
            receipt = json.loads(tar.extractfile(names[0]).read())
            assert tar.extractfile(names[1]).read() == (made / receipt["clip"]["path"]).read_bytes()
        assert (out / entry["shard"]).stat().st_size == entry["bytes"]


def test_an_action_leads_from_one_state_to_the_next(made, tmp_path):
    out = exported(made, tmp_path / "sequences", "sequences")
    with np.load(next((out / "sequences").iterdir())) as archive:
        state, action = archive["state"], archive["action"]
        assert state.shape == action.shape == (8, 168)
        assert np.allclose(state[:-1] + action[:-1], state[1:], atol=1e-6)
        assert {"K", "T_cam_world", "times_s"} <= set(archive.files)


def test_without_consent_or_against_a_licence_nothing_is_exported(made, tmp_path, capsys):
    data = DataSet.load(made)
    silent = json.loads(json.dumps(data.receipts))
    silent[data.clips[0].id]["made_from"]["avatar"]["consent"] = " "
    with pytest.raises(InputError, match="No consent is recorded for white; nothing was exported"):
        require_permission(replace(data, receipts=silent), "research")
    for licence in ("CC BY-ND 4.0", "All rights reserved"):
        silent[data.clips[0].id]["made_from"]["avatar"] |= {"consent": "yes", "licence": licence}
        with pytest.raises(InputError, match=f"avatar white, {licence!r}, forbids this"):
            require_permission(replace(data, receipts=silent), "research")
    command = ExportCommand(made, "folders", tmp_path / "out", purpose="commercial")
    assert console.run(command) == console.USER_MISTAKE
    assert "background wall, 'CC BY-NC 4.0', forbids this (commercial use)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_normalized_motions_stand_on_one_skeleton(tmp_path):
    body = load_body()
    tall = replace(make_motion(body), betas=torch.zeros(body.n_betas).index_fill(0, torch.tensor(0), 2.0))
    tall.save(tmp_path / "tall.npz")
    assert console.run(NormalizeCommand((tmp_path / "tall.npz",), tmp_path / "out", fps=15)) == console.DONE
    found = Motion.load(tmp_path / "out" / "tall.npz")
    assert not found.betas.any()
    residuals = read_json(tmp_path / "out" / "tall.json")
    assert len(residuals["skate_mm"]) == len(found) == 8
    assert residuals["leg_scale"] < 0.98
    assert console.run(NormalizeCommand((tmp_path / "tall.npz",), tmp_path / "out")) == console.USER_MISTAKE


def test_a_clip_that_is_gone_is_rejected_not_skipped(made):
    clip = replace(read_manifest(made / "manifest.jsonl")[0], path="clips/gone.mp4")
    assert isinstance(clip, ManifestClip)
    verdict = judge([clip], [measure(made, clip, None)], QualityRules())[0]
    assert (verdict.stage, "clips/gone.mp4 is missing" in verdict.reason) == ("decodes", True)
