"""Tracking that deserves trust: long clips, killed work, several people, and spans in which nothing may be invented."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from test_tracking import CAMERA, EXACT, mpjpe_mm, seen, turning_motion

from avatars.body import Body, load_body
from avatars.body.layout import JOINT_NAMES
from avatars.commands import console
from avatars.commands.track import TrackCommand
from avatars.errors import InputError
from avatars.io.files import read_json, sha256_of, write_json
from avatars.io.mask_stack import MaskStack
from avatars.io.video import load_frames, probe, read_frames, write_video
from avatars.io.work_folder import WorkFolder
from avatars.perception import stage as perception_stage
from avatars.perception.backend_table import options_by_name, resolved
from avatars.perception.chosen_person import ChosenPerson, choose_person
from avatars.perception.containers import MIRRORED, Detection
from avatars.perception.mediapipe_holistic import MediaPipeHolistic
from avatars.perception.mediapipe_people import distinct
from avatars.perception.stage import perceive
from avatars.studio.capture import Variety, sample_capture
from avatars.tracking import pipeline as tracking
from avatars.tracking import windows as fit_windows
from avatars.tracking.config import TrackConfig
from avatars.tracking.joint_confidence import PARTS, part_confidence
from avatars.tracking.pipeline import open_detector, track_keypoints, track_video
from avatars.tracking.spans import DOUBTFUL, Span, unsure_spans
from avatars.tracking.track import Track
from avatars.tracking.windows import overlapping_windows
from avatars.viewing.confidence_plot import write_confidence_plot

pytestmark = pytest.mark.slow

SIZE_HW = (48, 64)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


# ------------------------------------------------------------------------------------------------------------- masks


def soft_masks(frames: int, seed: int = 0) -> torch.Tensor:
    masks = torch.zeros(frames, *SIZE_HW, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    for i, mask in enumerate(masks):
        if i % 7 != 3:
            mask[5 + i % 9 : 30, 10 : 20 + i % 30] = torch.randint(1, 256, (1,), generator=generator).byte()
    return masks


def test_masks_read_like_the_tensor_they_were_made_of(tmp_path: Path) -> None:
    masks = soft_masks(150)
    stacks = [MaskStack.of(masks), MaskStack.load(MaskStack.of(masks).save(tmp_path / "masks.npz"))]
    stacks.append(MaskStack.joined([MaskStack.of(masks[:70]), MaskStack.of(masks[70:])]))
    for stack in stacks:
        assert stack.shape == tuple(masks.shape)
        assert torch.equal(stack[:], masks)
        assert torch.equal(stack[-1], masks[-1])
        assert torch.equal(stack[60:80:3], masks[60:80:3])
        order = torch.tensor([149, 3, 64, 64])
        assert torch.equal(stack[order], masks[order])


def test_masks_can_be_emptied_where_nobody_is() -> None:
    masks = soft_masks(100)
    gone = torch.arange(100) % 3 == 0
    assert torch.equal(MaskStack.of(masks).without(gone)[:], torch.where(gone[:, None, None], 0, masks).byte())


# ------------------------------------------------------------------------------------------------------- killed work


class CountingDetector:
    """Finds a person whose place is the frame's brightness; remembers how many frames it was given, and may die."""

    concurrent = False

    def __init__(self, dies_after: int | None = None) -> None:
        self.seen, self.dies_after = 0, dies_after

    def detect(self, frames, *, masks=True, count_people_every=0):
        for frame in frames:
            if self.seen == self.dies_after:
                raise KeyboardInterrupt
            self.seen += 1
            value = float(frame.mean())
            xy = np.full((133, 2), value, np.float32)
            xy[::2] += 9.0
            mask = np.full(frame.shape[:2], round(value), np.uint8) if masks else None
            yield Detection(xy, np.full(133, 0.9, np.float32), None, mask)


@pytest.fixture()
def ramp(tmp_path: Path) -> Path:
    """Twenty frames, each brighter than the one before, with some contrast."""
    frames = np.zeros((20, *SIZE_HW, 3), np.uint8) + (10 + 10 * np.arange(20, dtype=np.uint8))[:, None, None, None]
    frames[:, ::2] += 20
    return write_video(tmp_path / "ramp.mp4", frames, crf=0)


def test_killed_perception_is_taken_up_where_it_stopped(ramp: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(perception_stage, "CHUNK_FRAMES", 6)
    monkeypatch.setattr(perception_stage, "WARM_UP_FRAMES", 2)
    info = probe(ramp)
    whole = perceive(info, CountingDetector())
    folder = tmp_path / "out" / ".work"
    with pytest.raises(KeyboardInterrupt):
        perceive(info, CountingDetector(dies_after=17), work=WorkFolder.open(folder, {"job": 1}))
    work = WorkFolder.open(folder, {"job": 1})
    assert len(work.pieces("chunk")) == 2
    second = CountingDetector()
    found = perceive(info, second, work=work)
    assert second.seen == (20 - 10) + 2 * 2  # what was missing, and the frames that warm up each of two chunks
    for name in ("xy", "score", "valid"):
        assert torch.equal(getattr(found.keypoints, name), getattr(whole.keypoints, name))
    assert torch.equal(found.masks[:], whole.masks[:])
    assert torch.equal(found.quality.brightness, whole.quality.brightness)
    third = CountingDetector()
    perceive(info, third, work=work)
    assert third.seen == 0


def test_a_broken_piece_is_made_again(ramp: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(perception_stage, "CHUNK_FRAMES", 6)
    monkeypatch.setattr(perception_stage, "WARM_UP_FRAMES", 0)
    info, work = probe(ramp), WorkFolder.open(tmp_path / "out" / ".work", {"job": 1})
    perceive(info, CountingDetector(), work=work)
    piece = work.piece("chunk", 2)
    piece.write_bytes(piece.read_bytes()[:100])
    again = CountingDetector()
    perceive(info, again, work=work)
    assert again.seen == 5  # of four chunks the third


def test_chunks_looked_at_beside_each_other_are_those_of_one_thread(ramp: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(perception_stage, "CHUNK_FRAMES", 3)
    monkeypatch.setattr(perception_stage, "WARM_UP_FRAMES", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    info, work = probe(ramp), WorkFolder.open(tmp_path / "out" / ".work", {"job": 1})
    alone, beside = CountingDetector(), CountingDetector()
    whole = perceive(info, alone)
    beside.concurrent = True
    found = perceive(info, beside, work=work)
    assert beside.seen == alone.seen == 20 + 6 * 2  # seven chunks, whoever takes them
    assert torch.equal(found.keypoints.xy, whole.keypoints.xy)
    assert torch.equal(found.masks[:], whole.masks[:])
    for number in (2, 5):
        work.piece("chunk", number).unlink()
    again = CountingDetector()
    again.concurrent = True
    assert torch.equal(perceive(info, again, work=work).keypoints.xy, whole.keypoints.xy)
    assert again.seen == 3 + 3 + 2 * 2


def test_what_ends_one_thread_ends_all(ramp: Path, monkeypatch) -> None:
    monkeypatch.setattr(perception_stage, "CHUNK_FRAMES", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    detector = CountingDetector(dies_after=4)
    detector.concurrent = True
    with pytest.raises(KeyboardInterrupt):
        perceive(probe(ramp), detector)


def test_the_work_of_another_job_is_not_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "out" / ".work"
    work = WorkFolder.open(folder, {"video": "ab", "iterations": 160})
    with pytest.raises(InputError, match="Another process"):
        WorkFolder.open(folder, {"video": "ab", "iterations": 160})
    del work
    with pytest.raises(InputError, match=r"different: iterations, video"):
        WorkFolder.open(folder, {"video": "cd", "iterations": 40})
    WorkFolder.open(folder, {"video": "ab", "iterations": 160}).discard()
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("n", [601, 1001, 5000, 9999])
def test_windows_cover_the_clip_and_overlap(n: int) -> None:
    windows = overlapping_windows(n, 600, 48)
    assert windows[0][0] == 0 and windows[-1][1] == n
    assert all(before[1] - after[0] == 48 for before, after in pairwise(windows))
    assert max(stop - start for start, stop in windows) <= 600


def test_a_clip_fitted_in_windows_is_as_good_and_as_smooth_as_in_one(body: Body, tmp_path: Path, monkeypatch) -> None:
    motion = turning_motion(body, frames=72, fps=18.0)
    keypoints, config = seen(motion, body, CAMERA, noise_px=1.0), replace(EXACT, iterations=80)
    whole, whole_camera, _ = track_keypoints(keypoints, motion.times_s, body, config=config)
    for name, value in {"MAX_FRAMES": 40, "WINDOW_FRAMES": 30, "OVERLAP_FRAMES": 9, "SHAPE_RUNS": 3}.items():
        monkeypatch.setattr(fit_windows, name, value)
    monkeypatch.setattr(fit_windows, "SHAPE_RUN_FRAMES", 10)
    work = WorkFolder.open(tmp_path / "out" / ".work", {"job": 1})
    parts, camera, _ = track_keypoints(keypoints, motion.times_s, body, config=config, work=work)
    assert len(work.pieces("window")) == 3
    error_mm = mpjpe_mm(parts, camera, motion, CAMERA, body)
    assert error_mm < mpjpe_mm(whole, whole_camera, motion, CAMERA, body) + 5
    joints = [body.pose_motion(m).joints[:, :22] for m in (parts, whole, motion)]
    steps = [(j[1:] - j[:-1]).norm(dim=-1).amax(1) for j in joints]
    assert steps[0].max() < 1.3 * steps[1].max() + 0.01  # no jump where windows meet
    monkeypatch.setattr(fit_windows, "fit_keypoints", None)  # everything is taken up
    again, _, _ = track_keypoints(keypoints, motion.times_s, body, config=config, work=work)
    assert torch.equal(again.poses, parts.poses)


# ----------------------------------------------------------------------------------------------------- several people


class Actors:
    """Two colored rectangles that cross each other, and a finder that knows where they are, in no particular order."""

    def __init__(self, frames: int = 36, *, away: range = range(0)) -> None:
        self.times_s = np.arange(frames) / 12.0
        self.generator = np.random.default_rng(0)
        self.x = np.stack([np.linspace(60, 260, frames), np.linspace(260, 60, frames)], 1)
        self.radius, self.away = np.array([80.0, 60.0]), away

    def rows(self, i: int) -> list[np.ndarray]:
        standing = [k for k in (0, 1) if not (k == 0 and i in self.away)]
        return [np.float32([self.x[i, k], 120, self.x[i, k], 80, self.radius[k]]) for k in standing]

    def frames(self):
        for i in range(len(self.times_s)):
            frame = np.full((240, 320, 3), 128, np.uint8)
            for row, color in zip(self.rows(i)[::-1], ((20, 40, 200), (220, 30, 30)), strict=False):
                x = int(row[0])
                frame[75:125, max(x - 20, 0) : x + 20] = color if len(self.rows(i)) == 2 else (20, 40, 200)
            self.index = i
            yield i, frame

    def find(self, frame: np.ndarray) -> np.ndarray:
        rows = self.rows(self.index)
        return np.stack(rows)[self.generator.permutation(len(rows))]


@pytest.mark.parametrize(("which", "who"), [("largest", 0), (0, 0), (1, 1)])
def test_the_chosen_person_keeps_their_identity_through_a_crossing(which, who: int, caplog) -> None:
    actors = Actors()
    found = choose_person(actors.frames(), actors, actors.times_s, which, name="cross.mp4")
    np.testing.assert_allclose(found.chosen[:, 0], actors.x[:, who], atol=1e-3)
    np.testing.assert_allclose(found.others[:, 0, 0], actors.x[:, 1 - who], atol=1e-3)
    assert (
        "one is followed: " + ("the largest" if which == "largest" else f"number {which} from the left") in caplog.text
    )


def test_a_person_who_leaves_and_returns_is_nobody_in_between() -> None:
    actors = Actors(away=range(8, 26))
    found = choose_person(actors.frames(), actors, actors.times_s, "largest")
    away = np.isnan(found.chosen[:, 0])
    assert away[9:25].all() and not away[:8].any() and not away[26:].any()
    assert np.isfinite(found.others[:, 0, 0]).all()
    frame = next(f for i, f in actors.frames() if i == 15)
    assert (found.alone(frame, 15)[75:125] == 128).all()  # whom nobody asked for is painted over


def test_whom_the_finder_missed_is_not_left_in_the_picture() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    person = np.float32([[80, 120, 80, 80, 40], [np.nan] * 5])
    found = ChosenPerson(person, np.zeros((2, 0, 5), np.float32))
    alone = found.alone(frame, 0)
    assert (alone[64:176, 24:136] == frame[64:176, 24:136]).all()  # 1.4 radii about the hips
    assert len(np.unique(alone[:, 136:].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(found.alone(frame, 1).reshape(-1, 3), axis=0)) == 1


def test_the_mask_of_the_chosen_person_holds_nobody_else() -> None:
    chosen, other = [80, 120, 80, 80, 60], [140, 120, 140, 80, 60]
    found = ChosenPerson(np.float32([chosen]), np.float32([[other]]))
    xy = np.tile(np.float32([80, 100]), (133, 1))
    detection = Detection(xy, np.full(133, 0.9, np.float32), None, np.full((240, 320), 255, np.uint8))
    mask = found.confirmed(detection, 0).mask
    assert mask[120, 80] == 255 and mask[120, 140] == 0 and mask[120, 300] == 0
    assert mask.dtype == np.uint8


def test_one_person_found_twice_is_one() -> None:
    people = np.float32([[666, 769, 634, 612, 275], [664, 750, 713, 865, 196], [900, 760, 900, 600, 270]])
    assert distinct(people).tolist() == people[[0, 2]].tolist()
    assert distinct(people[:0]).shape == (0, 5)


def test_a_number_that_is_not_there_is_refused() -> None:
    actors = Actors()
    with pytest.raises(InputError, match=r"--person 2: pair\.mp4 shows 2 people in frame 0"):
        choose_person(actors.frames(), actors, actors.times_s, 2, name="pair.mp4")


def test_of_two_real_people_one_is_followed_and_never_mixed(shared_data: Path, tmp_path: Path, body: Body) -> None:
    import cv2

    frames = []
    clips = [probe(shared_data / name / f"{name}.mp4") for name in ("juggler", "squats")]
    men, women = (read_frames(clip, np.arange(0, 16 * step, step)) for clip, step in zip(clips, (5, 1), strict=True))
    for man, woman in zip(men, women, strict=True):
        small = cv2.copyMakeBorder(cv2.resize(woman, (152, 270)), 90, 0, 0, 0, cv2.BORDER_REPLICATE)
        frames.append(np.concatenate([cv2.resize(man[:, 330:930], (300, 360)), small], 1))
    path = write_video(tmp_path / "pair.mp4", np.stack(frames), fps=5)
    x = {}
    for which in ("largest", 1):
        track = track_video(path, body=body, config=TrackConfig(person=which, iterations=20, masks=which == 1))
        assert track.motion.valid.float().mean() > 0.9
        x[which] = track.keypoints.xy[track.motion.valid][:, [5, 6, 11, 12], 0]
        assert bool((track.quality.n_people == 2).all())
    assert x["largest"].max() < 290 and x[1].min() > 310
    assert not track.masks[:][:, :, :290].any()


# ---------------------------------------------------------------------------------------------- nothing is invented

FPS = 8.0
AWAY, BLACK, BLURRED, HIDDEN = slice(8, 16), slice(22, 102), slice(108, 114), slice(120, 128)
BEFORE_GAP, FRAMES = 131, 136
GAP_S = 2.0


@pytest.fixture(scope="module")
def waving(body: Body, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a studio person who waves, and the empty room."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("waving") / "capture"
    capture = sample_capture(folder, seed=3, action="wave", size_hw=(256, 256), body=body, variety=Variety(fps=2.0))
    return load_frames(capture.video)[0], np.array(Image.open(folder / "background.png").convert("RGB"))


@pytest.fixture(scope="module")
def hard_track(waving, body: Body, tmp_path_factory: pytest.TempPathFactory) -> Track:
    """A clip in which the person is away for a second, the lens is covered for ten, the camera shakes, a board hides
    the legs, and two seconds are missing."""
    import cv2

    person, room = waving
    to_and_fro = [*range(len(person)), *range(len(person) - 2, 0, -1)]
    frames = np.stack([person[to_and_fro[i % len(to_and_fro)]] for i in range(FRAMES)])
    frames[AWAY], frames[BLACK] = room, 0
    kernel = np.zeros((27, 27), np.float32)
    kernel[13] = 1 / 27
    frames[BLURRED] = np.stack([cv2.filter2D(frame, -1, kernel) for frame in frames[BLURRED]])
    frames[HIDDEN, 150:] = (120, 80, 50)
    times_s = np.arange(FRAMES) / FPS
    times_s[BEFORE_GAP + 1 :] += GAP_S
    path = write_video(tmp_path_factory.mktemp("hard") / "hard.mp4", frames, fps=FPS, times_s=times_s)
    return track_video(path, body=body, config=TrackConfig(iterations=30, masks=False))


def spans(track: Track, kind: str) -> list[Span]:
    return [span for span in unsure_spans(track.motion) if span.kind == kind]


def marked_invalid(track: Track, where: slice) -> None:
    """Nobody in these frames (one frame more or less), in any of the places that tell."""
    motion = track.motion
    assert not motion.valid[where.start + 1 : where.stop].any()
    assert motion.valid[where.start - 3 : where.start].all() and motion.valid[where.stop + 1 : where.stop + 4].all()
    assert motion.confidence[~motion.valid].max() == 0
    told = [span for span in spans(track, "nobody") if span.last >= where.start and span.first < where.stop]
    assert len(told) == 1 and told[0].last == pytest.approx(where.stop - 1, abs=1)


def test_a_person_who_leaves_and_returns_is_marked_away(hard_track: Track) -> None:
    marked_invalid(hard_track, AWAY)


def test_ten_seconds_of_black_show_nobody(hard_track: Track) -> None:
    marked_invalid(hard_track, BLACK)
    assert BLACK.stop - BLACK.start == 10 * FPS


def test_dropped_frames_leave_a_gap_that_is_not_filled(hard_track: Track) -> None:
    assert len(hard_track.motion) == FRAMES
    (gap,) = spans(hard_track, "gap")
    assert (gap.first, gap.last) == (BEFORE_GAP, BEFORE_GAP + 1)
    assert gap.end_s - gap.start_s == pytest.approx(GAP_S + 1 / FPS, abs=0.01)


def test_motion_blur_is_low_confidence(hard_track: Track) -> None:
    limbs = part_confidence(hard_track.motion)[:, [0, 2, 3, 4, 5]].mean(1)
    sharp = torch.cat([limbs[102:108], limbs[114:120]])
    assert limbs[BLURRED].max() < 0.5 < 0.7 < sharp.median()


def test_hidden_legs_are_low_confidence_and_hang_down(hard_track: Track, body: Body) -> None:
    parts = part_confidence(hard_track.motion)
    left, right = list(PARTS).index("left leg"), list(PARTS).index("right leg")
    assert parts[HIDDEN][:, [left, right]].max() < DOUBTFUL and parts[HIDDEN][:, 0].min() > 0.6
    assert parts[116:119][:, [left, right]].min() > 0.5
    told = [span for span in spans(hard_track, "doubtful") if span.first >= HIDDEN.start - 1]
    assert told and {"left leg", "right leg"} <= {part for span in told for part in span.parts}
    joints = body.pose_motion(hard_track.motion[HIDDEN]).joints
    shin = torch.nn.functional.normalize(joints[:, [7, 8]] - joints[:, [1, 2]], dim=-1)
    assert (shin[..., 1] < -0.85).all()


def test_a_mirrored_video_gives_the_mirrored_track(waving, body: Body, tmp_path: Path) -> None:
    person, _ = waving
    config = TrackConfig(iterations=40, masks=False)
    plain = track_video(write_video(tmp_path / "plain.mp4", person, fps=FPS, crf=2), body=body, config=config)
    flipped = np.ascontiguousarray(person[:, :, ::-1])
    mirrored = track_video(write_video(tmp_path / "mirror.mp4", flipped, fps=FPS, crf=2), body=body, config=config)
    assert mirrored.motion.valid.all()
    xy = torch.tensor([256.0, 0.0]) + torch.tensor([-1.0, 1.0]) * plain.keypoints.xy[:, list(MIRRORED)]
    assert (mirrored.keypoints.xy - xy)[:, 5:17].norm(dim=-1).median() < 4.0
    joints = [t.camera.to_camera(body.pose_motion(t.motion).joints[:, :22]) for t in (plain, mirrored)]
    a, b = (j - j[:, :1] for j in joints)
    other = [JOINT_NAMES.index(swapped_side(name)) for name in JOINT_NAMES[:22]]
    apart_mm = 1000 * (a[:, other] * torch.tensor([-1.0, 1.0, 1.0]) - b).norm(dim=-1)
    assert apart_mm.mean() < 60
    a, b = (float(track.motion.confidence[:, :22].mean()) for track in (plain, mirrored))
    assert a == pytest.approx(b, abs=0.1)


def swapped_side(name: str) -> str:
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


def test_the_plot_of_confidence_shows_where_nobody_was(hard_track: Track, tmp_path: Path) -> None:
    from PIL import Image

    path = write_confidence_plot(tmp_path / "confidence.png", hard_track.motion, hard_track.camera, title="hard.mp4")
    rgb = np.array(Image.open(path).convert("RGB")).astype(int)
    gray = (np.abs(rgb - 0xC9).max(-1) < 4).mean()
    away = float((~hard_track.motion.valid).sum()) / FPS / float(hard_track.motion.times_s[-1])
    assert 0.4 * away < gray < away


def test_spans_come_back_with_the_track(hard_track: Track, tmp_path: Path) -> None:
    loaded = Track.load(hard_track.save(tmp_path / "track"))
    assert torch.allclose(loaded.motion.confidence, hard_track.motion.confidence)
    told = read_json(tmp_path / "track" / "track.json")["unsure"]
    assert [span["kind"] for span in told] == [span.kind for span in unsure_spans(loaded.motion)]
    assert torch.allclose(loaded.quality.sharpness, hard_track.quality.sharpness, equal_nan=True)


# ------------------------------------------------------------------------------------------------ imported keypoints


@pytest.fixture(scope="module")
def mmpose_json(waving, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    """A clip, what MMPose would write of it (two pixels off from what our detector sees), and those pixels."""
    folder = tmp_path_factory.mktemp("imported")
    video = write_video(folder / "wave.mp4", waving[0], fps=FPS, crf=2)
    found = perceive(probe(video), MediaPipeHolistic(), masks=False).keypoints
    xy = found.xy.numpy() + 2.0
    frames = [
        {"frame_id": i, "instances": [{"keypoints": (xy[i] - 0.5).tolist(), "keypoint_scores": score.tolist()}]}
        for i, score in enumerate(found.score.numpy())
    ]
    return video, write_json(folder / "wave.json", frames[:-1]), xy


def test_keypoints_of_a_json_take_the_detectors_place(mmpose_json, body: Body, tmp_path: Path) -> None:
    video, file, xy = mmpose_json
    config = TrackConfig(iterations=20)
    track = track_video(video, body=body, config=config, keypoints_file=file)
    assert track.motion.valid.tolist() == [True] * (len(xy) - 1) + [False]  # the file ends a frame early
    torch.testing.assert_close(track.keypoints.xy[:-1, :17], torch.from_numpy(xy[:-1, :17]), atol=1e-3, rtol=0)
    assert track.masks[:-1].amax((1, 2)).min() > 200 and track.masks[-1].max() == 0
    assert torch.isfinite(track.keypoints.world_m[:, 5:17]).all()
    loaded = Track.load(track.save(tmp_path / "track"))
    assert loaded.video.keypoints_sha256 == sha256_of(file) and loaded.config == config
    alone = track_video(video, body=body, config=replace(config, detector="none"), keypoints_file=file)
    assert alone.masks is None and torch.isfinite(alone.motion.poses).all()


def test_keypoints_of_another_video_are_refused(mmpose_json, waving, tmp_path: Path) -> None:
    _, file, xy = mmpose_json
    short = write_video(tmp_path / "short.mp4", waving[0][:4], fps=FPS)
    with pytest.raises(InputError, match=rf"wave\.json holds {len(xy) - 1} frames, the video 4"):
        track_video(short, keypoints_file=file)
    with pytest.raises(InputError, match="--detector none sees nobody"):
        track_video(short, config=TrackConfig(detector="none"))


def test_the_pieces_of_a_backend_can_be_named_on_the_command_line(monkeypatch) -> None:
    monkeypatch.setenv("RTMLIB_WEIGHTS", "other.onnx")
    found = options_by_name(("rtmlib.weights=rtmw.onnx", "rtmlib.python=/env", "deca.device=cuda"))
    assert resolved("rtmlib", found["rtmlib"]).weights == Path("rtmw.onnx")
    assert found["rtmlib"].python == Path("/env") and found["deca"].device == "cuda"
    with pytest.raises(InputError, match=r"NAME\.OPTION=VALUE"):
        options_by_name(("rtmlib.wights=rtmw.onnx",))
    with pytest.raises(InputError, match="No backend 'rtmlob'"):
        options_by_name(("rtmlob.weights=rtmw.onnx",))
    with pytest.raises(InputError, match=r"nothing at absent\.onnx"):
        open_detector(TrackConfig(detector="rtmlib", backend=("rtmlib.weights=absent.onnx",)))


def test_a_killed_track_goes_on_with_the_same_command(mmpose_json, tmp_path: Path, capsys, monkeypatch) -> None:
    out = tmp_path / "out"
    command = TrackCommand(mmpose_json[0], out, config=TrackConfig(iterations=20))
    with monkeypatch.context() as killed:
        killed.setattr(tracking, "track_keypoints", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        assert console.run(command) == console.INTERRUPTED
    assert sorted(path.name for path in out.iterdir()) == [".work"]
    other = replace(command, config=TrackConfig(iterations=25))
    assert console.run(other) == console.USER_MISTAKE
    assert "different: iterations" in capsys.readouterr().err
    monkeypatch.setattr(MediaPipeHolistic, "detect", None)  # what was seen is not looked at again
    assert console.run(command) == console.DONE
    assert "holds an unfinished track; continuing it" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "confidence.png", "keypoints.npz", "masks.npz", "motion.npz", "quality.npz", "track.json",
    }  # fmt: skip
    assert Track.load(out).masks[0].max() > 200
    assert console.run(command) == console.USER_MISTAKE  # a finished one is never overwritten
    assert "already exists" in capsys.readouterr().err
