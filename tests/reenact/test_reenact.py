"""Batch files, plans, retargeting, labels, and a whole small run over a photograph."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_batch import SIZE, make_motion, write_batch, write_material

from actionrec.manifest import read_manifest
from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.body.motion import Motion
from avatars.commands import console
from avatars.errors import InputError
from avatars.geometry.rotations import matrix_from_axis_angle, slerp
from avatars.io.files import read_json, sha256_of
from avatars.io.video import load_frames, probe
from reenact.commands.run import RunCommand
from reenact.planning.batch import label_from_name, load_batch, parse_batch
from reenact.planning.plan import make_plan, open_output
from reenact.rendering import render as filming
from reenact.rendering.labels import decode_rle, encode_rle, moved
from reenact.retargeting.contacts import Soles
from reenact.retargeting.retarget import ground_offset, longest_span, resampled, retarget
from reenact.running.run import run_batch


@pytest.fixture(scope="session")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="session")
def material(tmp_path_factory, body) -> Path:
    """A folder with two avatars, two motions and two photographs."""
    return write_material(tmp_path_factory.mktemp("material"), body)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"motion": []}, "unknown key 'motion'. Did you mean 'motions'?"),
        ({"avatars": None}, "avatars missing"),
        ({"avatars": []}, "at least one entry"),
        ({"motions": ["nothing.npz"]}, r"motions\[1\]: nothing at .*nothing.npz"),
        ({"motions": ["ra*_99.npz"]}, "no file matches ra"),
        ({"motions": ["night.png"]}, "is no motion"),
        ({"avatars": ["night.png"]}, "is a file; an avatar is the folder"),
        ({"avatars": ["white", "white"]}, "'white' stands twice"),
        (
            {"backgrounds": [{"path": "night.png", "horizont": 1}]},
            r"backgrounds\[1\]: unknown key 'horizont'.*'horizon'",
        ),
        ({"backgrounds": [{"path": "night.png", "horizon": "high"}]}, "horizon is 'high', expected a number"),
        ({"backgrounds": [{"path": "night.png", "camera_height_m": -1}]}, "expected 0.05 to 50"),
        ({"backgrounds": [{"path": "night.png", "at": [0, 3], "distance_m": 3}]}, "not both"),
        ({"backgrounds": [{"name": "x"}]}, "has no `path`; found name"),
        ({"backgrounds_per_pair": 3}, "backgrounds_per_pair is 3, with 1 backgrounds"),
        ({"size": [512, 511]}, "needs even numbers"),
        ({"size": "512x512"}, "expected .height, width."),
        ({"fps": True}, "fps is True"),
        ({"fps": 0}, "expected 1 to 240"),
        ({"person_height": [0.9, 0.5]}, "from at most to"),
        ({"shadow": "yes"}, "expected true or false"),
        ({"seed": -1}, "expected a whole number"),
        ({"film": [1]}, "film is .1., expected `name: value` pairs"),
        ({"camera": ["pan"]}, "camera is .*, expected `name: value` pairs"),
        ({"camera": {"kind": ["pan"]}}, "camera: kind is .*, expected text"),
        ({"quotas": [1]}, "quotas is .*, expected `name: value` pairs"),
        ({"avatars": [{"path": "white", "strata": ["x"]}]}, "strata is .*, expected `name: value` pairs"),
        ({"avatars": [{"path": "white", "strata": {"sex": ["f"]}}]}, "strata: sex is .*, expected text"),
        ({"motions": [{"path": "raise_01.npz", "label": "a\u2028b"}]}, r"label is .*U\+2028"),
        ({"motions": [{"path": "raise_01.npz", "label": False}]}, "put it in quotes"),
        ({"motions": [{"path": "raise_01.npz", "up": "z"}]}, "up is 'z', expected one of auto, .y"),
    ],
)
def test_a_wrong_batch_is_refused_naming_the_entry(material, change, message):
    good = {"out": "o", "avatars": ["white"], "motions": ["raise_01.npz"], "backgrounds": ["night.png"]}
    with pytest.raises(InputError, match=message):
        parse_batch({**good, **change}, material)


def test_home_is_expanded_in_out_and_up_is_kept(material, monkeypatch):
    monkeypatch.setenv("HOME", str(material / "home"))
    motions = [{"path": "raise_01.npz", "up": "+z"}, "lower_01.npz"]
    document = {"out": "~/o", "avatars": ["white"], "backgrounds": ["night.png"]}
    found = parse_batch({**document, "motions": motions}, material)
    assert found.out == material / "home" / "o"
    assert [motion.up for motion in found.motions] == ["+z", "auto"]
    plain = parse_batch({**document, "motions": ["raise_01.npz"]}, material)
    assert make_plan(plain).clips[0].id not in {clip.id for clip in make_plan(found).clips}


def test_a_misspelled_file_is_suggested(material):
    with pytest.raises(InputError, match=r"Did you mean raise_01.npz\?"):
        parse_batch(
            {"out": "o", "avatars": ["white"], "motions": ["raise_1.npz"], "backgrounds": ["night.png"]}, material
        )


def test_a_batch_that_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "b.yaml"
    for content, message in [("a: [1", "not valid YAML"), ("", "holds no keys"), ("- 1", "holds no keys")]:
        path.write_text(content)
        with pytest.raises(InputError, match=message) as caught:
            load_batch(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="No batch file"):
        load_batch(tmp_path / "none.yaml")


def test_globs_labels_and_defaults(material):
    found = parse_batch(
        {"out": "o", "avatars": ["white", "blue"], "motions": ["*_01.npz"], "backgrounds": ["*.png"], "size": 64},
        material,
    )
    assert [m.label for m in found.motions] == ["lower", "raise"]
    assert [b.name for b in found.backgrounds] == ["gray", "night"]
    assert (found.size_hw, found.out, found.avatars[1].name) == ((64, 64), material / "o", "blue")
    assert label_from_name(Path("sit_down-12.npz")) == "sit_down"
    assert label_from_name(Path("007.npz")) == "007"


def test_a_plan_is_repeatable_complete_and_sensitive_to_its_inputs(material, tmp_path):
    document = {
        "out": "o", "avatars": ["white", "blue"], "motions": ["*_01.npz"], "backgrounds": ["*.png"],
        "backgrounds_per_pair": 1,
    }  # fmt: skip
    plan = make_plan(parse_batch(document, material))
    again = make_plan(parse_batch(document, material))
    assert plan.clips == again.clips
    assert {(c.avatar, c.motion) for c in plan.clips} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert [len(group) for group in plan.groups()] == [1, 1, 1, 1]
    every = make_plan(parse_batch({**document, "backgrounds_per_pair": 2}, material))
    assert [len(group) for group in every.groups()] == [2, 2, 2, 2]
    assert {c.id for c in plan.clips} < {c.id for c in every.clips}
    ids = {c.id for c in plan.clips}
    for change in ({"seed": 1}, {"fps": 25}, {"size": 64}, {"shadow": False}):
        assert not ids & {c.id for c in make_plan(parse_batch({**document, **change}, material)).clips}


def test_the_same_clip_twice_is_refused(material, tmp_path):
    (tmp_path / "copy.png").write_bytes((material / "night.png").read_bytes())
    backgrounds = [str(material / "night.png"), str(tmp_path / "copy.png")]
    document = {"out": "o", "avatars": ["white"], "motions": ["raise_01.npz"], "backgrounds": backgrounds}
    with pytest.raises(InputError, match="asked for twice"):
        make_plan(parse_batch({**document, "backgrounds_per_pair": 2}, material))


def test_a_folder_of_something_else_is_left_alone(material, tmp_path):
    batch = load_batch(write_batch(material, tmp_path / "b.yaml"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing was overwritten"):
        open_output(make_plan(batch))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    with pytest.raises(InputError, match="is a file"):
        open_output(make_plan(replace(batch, out=tmp_path / "b.yaml")))


def test_the_longest_span_without_long_gaps_is_found():
    valid = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0], dtype=torch.bool)
    times_s = torch.arange(14) / 10
    assert longest_span(valid, times_s) == slice(1, 7), "0.2 s are bridged, 0.4 s are not"
    assert longest_span(valid, times_s / 2) == slice(1, 13)
    assert longest_span(valid, times_s * 2) == slice(4, 7), "of equals the first"
    assert longest_span(torch.ones(5, dtype=torch.bool), torch.arange(5.0)) == slice(0, 5), "a slow camera has no gaps"
    assert longest_span(torch.zeros(3, dtype=torch.bool), times_s[:3]) == slice(0, 0)


def test_a_motion_that_is_mostly_gaps_is_refused(body):
    motion = make_motion(body, fps=5.0)
    motion = replace(motion, valid=torch.tensor([1, 1, 0, 1, 0, 1, 1, 0], dtype=torch.bool))
    with pytest.raises(InputError, match=r"5 of 8 frames, and never in 4 without gaps of more than 0\.3 s"):
        retarget(motion, body, motion.betas, fps=15)


@pytest.mark.slow
def test_the_motion_goes_straight_through_a_short_gap(body):
    motion = make_motion(body, frames=16)
    whole = retarget(motion, body, motion.betas, fps=15.0)
    valid = torch.ones(16, dtype=torch.bool)
    valid[[5, 8, 9]] = False
    wild = motion.poses.clone()
    wild[~valid] = 1.0
    bridged = retarget(replace(motion, poses=wild, valid=valid), body, motion.betas, fps=15.0)
    assert (whole.bridged, bridged.bridged, bridged.first_frame, len(bridged.motion)) == (0, 3, 0, 16)
    torch.testing.assert_close(bridged.motion.poses, whole.motion.poses, atol=1e-3, rtol=0)


def test_slerp_halves_the_angle_the_short_way():
    a = torch.tensor([1.0, 0, 0, 0])
    b = torch.tensor([math.cos(0.4), math.sin(0.4), 0, 0])
    expected = torch.tensor([math.cos(0.2), math.sin(0.2), 0, 0])
    for end in (b, -b):
        assert torch.allclose(slerp(a, end, torch.tensor(0.5)), expected, atol=1e-6)


def test_resampling_follows_the_frames_own_times(body):
    motion = make_motion(body, frames=6)
    times = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.41, 1.0], dtype=torch.float64)
    angle = times.float() * 2.0
    poses = torch.zeros(6, 55, 3)
    poses[:, 16, 1] = angle
    motion = replace(motion, poses=poses, transl=angle[:, None].expand(6, 3), times_s=times + 7.0)
    dense = resampled(motion, 25.0)
    assert len(dense) == 26
    assert torch.allclose(dense.poses[:, 16, 1], dense.times_s.float() * 2.0, atol=1e-5)
    assert torch.allclose(dense.transl[:, 0], dense.times_s.float() * 2.0, atol=1e-5)


def test_what_is_known_of_joints_and_feet_goes_along_to_another_frame_rate(body):
    motion = make_motion(body, frames=6, fps=10.0)
    confidence = torch.linspace(0.0, 1.0, 6)[:, None].expand(6, 55)
    contacts = (torch.arange(6)[:, None] >= 3).expand(6, 4)
    dense = resampled(replace(motion, confidence=confidence, contacts=contacts), 20.0)
    assert len(dense) == 11
    torch.testing.assert_close(dense.confidence[::2], confidence)
    assert torch.equal(dense.contacts[::2], contacts)


@pytest.mark.parametrize("tall", [-2.0, 0.0, 2.0])
def test_retargeting_keeps_rotations_above_the_hips_and_puts_the_feet_on_the_ground(body, tall):
    motion = make_motion(body, frames=16)
    betas = torch.zeros(body.n_betas)
    betas[0] = tall
    found = retarget(replace(motion, transl=motion.transl + torch.tensor([3.0, 0.4, -2.0])), body, betas, fps=15.0)
    kept = [i for i, name in enumerate(JOINT_NAMES) if not any(part in name for part in ("hip", "knee", "ankle"))]
    assert torch.allclose(found.motion.poses[:, kept], motion.poses[:, kept], atol=1e-4)
    assert float(found.sole_m.abs().max()) < 0.01
    root = body.pose(found.motion.poses, betas, found.motion.transl).joints[:, 0]
    assert root[0, [0, 2]].tolist() == pytest.approx([0, 0], abs=1e-5)


def test_any_shape_has_as_many_sole_points_on_either_foot(body):
    for seed in range(20):
        betas = torch.randn(body.n_betas, generator=torch.Generator().manual_seed(seed))
        soles = Soles.of(body, betas)
        assert len(soles.left) == len(soles.right) == len(set(soles.left.tolist()) | set(soles.right.tolist())) // 2


def test_a_jump_stays_a_jump_and_noise_on_the_ground_goes():
    fps = 30.0
    t = torch.arange(90) / fps
    jump = torch.where((t > 1.0) & (t < 1.5), 4.9 * (t - 1.0) * (1.5 - t), 0.0)  # 0.31 m high
    noise = 0.01 * torch.sin(2 * math.pi * 0.5 * t)
    lowest = 0.37 + jump + noise
    rest = lowest - ground_offset(lowest, fps)
    assert float(rest.max()) == pytest.approx(float(jump.max()), abs=0.03)
    assert float(rest[(t < 0.8) | (t > 1.7)].abs().max()) < 0.006


def test_moving_a_motion_moves_its_joints_rigidly(body):
    motion = make_motion(body)
    T = torch.eye(4)
    T[:3, :3] = matrix_from_axis_angle(torch.tensor([0.0, 1.1, 0.0]))
    T[:3, 3] = torch.tensor([0.5, 0.0, -3.0])
    before = body.pose(motion.poses, motion.betas, motion.transl).joints
    after = moved(motion, body, T)
    joints = body.pose(after.poses, after.betas, after.transl).joints
    assert torch.allclose(joints, before @ T[:3, :3].T + T[:3, 3], atol=1e-5)


def test_run_lengths_are_cocos(body):
    # worked out by hand with COCO's rleToString: runs 6 1 2 1 6 -> 6 1 2 (1-1) (6-2)
    mask = np.zeros((4, 4), bool)
    mask[2, 1] = mask[1, 2] = True
    assert encode_rle(mask) == b"61204"
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 13), (64, 50)):
        for threshold in (-1.0, 0.0, 0.5, 0.99, 2.0):
            mask = rng.uniform(size=shape) < threshold
            assert np.array_equal(decode_rle(encode_rle(mask), shape), mask)
    large = np.zeros((512, 512), bool)
    large[100:400, 200:300] = True
    assert np.array_equal(decode_rle(encode_rle(large), (512, 512)), large)


@pytest.fixture(scope="session")
def finished(material, tmp_path_factory) -> Path:
    """The data set of two avatars, one motion, two places."""
    folder = tmp_path_factory.mktemp("finished")
    avatars = [{"path": str(material / "white"), "licence": "consent 7"}, str(material / "blue")]
    backgrounds = [
        {
            "path": str(material / "night.png"),
            "horizon": 0.4,
            "camera_height_m": 1.5,
            "focal_px": 200,
            "roll_deg": 0,
            "licence": "CC0",
        },
        {"path": str(material / "gray.png")},
    ]
    batch = write_batch(
        material, folder / "b.yaml", avatars=avatars, backgrounds=backgrounds, backgrounds_per_pair=2, match_light=False
    )
    summary = run_batch(batch)
    assert (summary.made, summary.failures, summary.frames) == (4, (), 32)
    return folder


def test_every_clip_is_whole_and_in_the_manifest(finished):
    out = finished / "out"
    clips = read_manifest(out / "manifest.jsonl")
    assert [c.id for c in clips] == [json.loads(line)["id"] for line in (out / "plan.jsonl").read_text().splitlines()]
    assert {(c.subject, c.background) for c in clips} == {(a, b) for a in ("white", "blue") for b in ("night", "gray")}
    for clip in clips:
        info = probe(out / clip.path)
        assert (info.size_hw, info.n_frames) == ((SIZE, SIZE), clip.n_frames)
        assert sha256_of(out / clip.path) == clip.sha256
        assert (clip.label, clip.kind, clip.fps) == ("raise arm", "synthetic", 15.0)
    white_night = next(c for c in clips if (c.subject, c.background) == ("white", "night"))
    assert white_night.licence == "consent 7; CC0"
    assert not list(out.rglob(".*"))


def test_the_receipt_says_what_was_assumed(finished):
    receipts = [read_json(p) for p in sorted((finished / "out" / "receipts").iterdir())]
    assumed = {r["made_from"]["background"]["name"]: r["camera_assumed"] for r in receipts}
    assert assumed == {"night": [], "gray": ["camera_height_m", "horizon", "focal_px", "roll_deg"]}


def test_labels_agree_with_the_pixels(finished, body):
    out = finished / "out"
    clip = next(c for c in read_manifest(out / "manifest.jsonl") if (c.subject, c.background) == ("white", "night"))
    frames, _ = load_frames(out / clip.path)
    with np.load(out / "labels" / f"{clip.id}.npz") as archive:
        labels = dict(archive)
    for i, frame in enumerate(frames):
        mask = decode_rle(bytes(labels["mask_rle"][i]), (SIZE, SIZE))
        bright = frame.mean(-1) > 127  # a white person over a black place
        assert (mask & bright).sum() / (mask | bright).sum() > 0.93
        left, top, right, bottom = labels["box_px"][i]
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
        x, y = labels["joints_px"][i, JOINT_NAMES.index("pelvis")]
        assert mask[int(y), int(x)]
    points = labels["joints_m"] @ labels["T_cam_world"][:3, :3].T + labels["T_cam_world"][:3, 3]
    uv = points @ labels["K"].T
    assert np.abs(uv[..., :2] / uv[..., 2:] - labels["joints_px"]).max() < 1e-2
    motion = Motion.load(out / "labels" / f"{clip.id}.npz")
    again = body.pose(motion.poses, motion.betas, motion.transl)
    assert np.abs(again.joints.numpy() - labels["joints_m"]).max() < 1e-4
    assert np.abs(labels["foot_height_m"]).max() < 0.02
    assert labels["foot_contact"].any()
    left = [labels[key] for key in ("foot_slip_m", "hand_touch", "hand_gap_m")]
    assert all(part.shape == labels["foot_contact"].shape for part in left)
    assert labels["arm_depth_m"].shape == (len(labels["foot_contact"]),)


def test_running_again_makes_nothing_and_resuming_gives_the_same_bytes(finished, material, tmp_path):
    out = finished / "out"
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob("*.mp4")}
    summary = run_batch(finished / "b.yaml")
    assert (summary.made, summary.already_there) == (0, 4)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob("*.mp4")} == before
    clip = read_manifest(out / "manifest.jsonl")[1]
    manifest = (out / "manifest.jsonl").read_bytes()
    (out / "receipts" / f"{clip.id}.json").unlink()
    (out / clip.path).unlink()
    assert run_batch(finished / "b.yaml").made == 1
    assert {p: p.read_bytes() for p in out.rglob("*.mp4")} == {p: content for p, (content, _) in before.items()}
    assert (out / "manifest.jsonl").read_bytes() == manifest


def test_another_plan_does_not_touch_a_finished_folder(finished, material):
    document = json.loads((finished / "b.yaml").read_text())
    other = finished / "other.yaml"
    other.write_text(json.dumps({**document, "seed": 99}))
    with pytest.raises(InputError, match=r"clips of another plan.*nothing was overwritten"):
        run_batch(other)


def test_a_failed_clip_is_told_and_the_others_are_made(material, tmp_path, capsys):
    places = [str(material / "gray.png"), {"path": str(material / "night.png"), "horizon": 0.95, "focal_px": 2000}]
    batch = write_batch(material, tmp_path / "b.yaml", backgrounds=places, backgrounds_per_pair=2)
    assert console.run(RunCommand(batch)) == console.WORK_FAILED
    assert "No spot keeps the whole motion in the frame" in capsys.readouterr().out
    failures = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert [f["stage"] for f in failures] == ["place"]
    assert len(read_manifest(tmp_path / "out" / "manifest.jsonl")) == 1


def test_a_full_disk_stops_in_one_line_and_leaves_nothing_half_written(material, tmp_path, monkeypatch, capsys):
    batch = write_batch(material, tmp_path / "b.yaml")

    class FullWriter(filming.VideoWriter):
        def write(self, frame, time_s=None):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filming, "VideoWriter", FullWriter)
    assert console.run(RunCommand(batch)) == console.USER_MISTAKE
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left" in error
    assert "0 of 1 clips are whole" in error
    assert not list((tmp_path / "out").rglob("*.mp4"))
    monkeypatch.undo()
    assert run_batch(batch).made == 1


def test_inputs_that_cannot_be_used_stop_the_run_before_it_starts(material, tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK nonsense")
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "broken.png").write_bytes((material / "gray.png").read_bytes()[:60])
    for change, message in [
        ({"motions": [str(tmp_path / "broken.npz")]}, "broken.npz"),
        ({"avatars": [str(tmp_path / "empty_folder")]}, "is not an avatar"),
        ({"backgrounds": [str(tmp_path / "broken.png")]}, "broken.png"),
    ]:
        with pytest.raises(InputError, match=message):
            run_batch(write_batch(material, tmp_path / "b.yaml", **change))
        assert not (tmp_path / "out").exists()
