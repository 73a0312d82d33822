"""The report of a fit holds all that it shows, and its numbers and colors mean what it says."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.avatar import Avatar
from avatars.avatar.binding import spread_over
from avatars.avatar.rig import Rig
from avatars.body import load_body
from avatars.body.motion import Motion
from avatars.fitting.crops import usable_frames
from avatars.fitting.parameters import on_the_surface
from avatars.geometry.camera import Camera
from avatars.io.mask_stack import MaskStack
from avatars.io.video import write_video
from avatars.perception.containers import Keypoints
from avatars.rasterizer import rasterize
from avatars.tracking.config import TrackConfig
from avatars.tracking.track import SourceVideo, Track
from avatars.viewing.coverage import UNSEEN_RGB, Coverage, coverage_of, draw_coverage
from avatars.viewing.rendering import framing_camera, rest_motion
from avatars.viewing.report import FitRecord, draw_held_out, write_report
from avatars.viewing.report_style import curve

FRAMES, SIZE = 16, 128


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    body, betas = load_body(), torch.zeros(20)
    binding = spread_over(body, body.shaped(betas)[0], 6000)
    rig = Rig.build(body, binding, betas)
    start = on_the_surface(rig, rig.neighbors())
    start.albedo = (rig.normals * 0.4 + 0.5).clamp(0, 1)
    start.opacity_logits = torch.full_like(start.opacity_logits, 4.0)
    return Avatar(body, betas, binding, **start.leaves())


@pytest.fixture(scope="module")
def camera(avatar: Avatar) -> Camera:
    camera = framing_camera(avatar, rest_motion(avatar), (SIZE, SIZE))
    return replace(camera, T_cam_world=camera.T_cam_world[0])


@pytest.fixture(scope="module")
def track(avatar: Avatar, camera: Camera, tmp_path_factory: pytest.TempPathFactory) -> Track:
    """The avatar itself, filmed before a gray room with its back never seen; nobody in the first two frames."""
    motion = rest_motion(avatar, FRAMES)
    motion.poses[:, 0, 1] = torch.linspace(-0.5, 0.5, FRAMES)
    motion = replace(motion, valid=torch.arange(FRAMES) >= 2)
    render = rasterize(avatar.posed(replace(motion, valid=torch.ones(FRAMES, dtype=torch.bool))), camera)
    frames = ((render.rgb + (1 - render.alpha) * 0.4) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    video = write_video(tmp_path_factory.mktemp("video") / "turn.mp4", frames, fps=30, crf=4)
    masks = MaskStack.of((render.alpha[:, 0] * 255).round().byte())
    keypoints = Keypoints(torch.zeros(FRAMES, 133, 2), torch.zeros(FRAMES, 133), motion.valid, (SIZE, SIZE))
    source = SourceVideo(str(video), "ab" * 32, (SIZE, SIZE))
    return Track(motion, camera, keypoints, masks, source, TrackConfig())


def usable_motion(track: Track) -> Motion:
    return track.motion[track.motion.valid]


def test_the_report_holds_everything_it_shows(avatar: Avatar, track: Track, tmp_path: Path) -> None:
    fit = {"quality": "draft", "seconds": {"track": 3.0, "fit 1/2": 1.0}, "scores": None}
    avatar = avatar.with_card(consent="for <research> only")
    video = Path(track.video.path)
    record = FitRecord(usable_motion(track), fit, inputs={"clean plate": video}, losses=[1.0, 0.5, 0.25])
    out = write_report(tmp_path / "report.html", avatar, track, video, record)
    text = out.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)""", text) and "<script" not in text
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == 2 * 5 + 4  # frames 2 + 4 and 2 + 12, and the coverage from four sides
    for data in pictures:
        assert np.array(Image.open(io.BytesIO(base64.b64decode(data)))).std() > 1
    for needed in ("frame 6:", "frame 14:", "ab" * 32, avatar.body.sha256, "75 %", "for &lt;research&gt; only"):
        assert needed in text
    assert text.count("<svg") == 3
    assert text.count("<table>") == text.count("</table>") == 3


def test_an_avatar_that_is_the_truth_scores_high_and_a_wrong_one_low(avatar: Avatar, track: Track) -> None:
    usable = usable_frames(track.motion).numpy()
    chosen = np.array([1, 4, 7, 10])
    wrong = replace(avatar, albedo=avatar.albedo.flip(0))  # everybody wears somebody else's color
    video, motion = Path(track.video.path), usable_motion(track)
    good, bad = (draw_held_out(a, motion, track, video, usable, chosen) for a in (avatar, wrong))
    assert [frame.index for frame in good] == [3, 6, 9, 12]
    assert min(frame.psnr_masked_db for frame in good) > 25
    assert min(frame.ssim_box for frame in good) > 0.95
    assert max(frame.psnr_masked_db for frame in bad) < 20


def test_coverage_tells_the_filmed_front_from_the_back(avatar: Avatar, track: Track) -> None:
    assert track.masks is not None
    usable = usable_frames(track.motion).numpy()
    coverage = coverage_of(avatar, usable_motion(track), track.camera, track.masks, usable)
    facing = avatar.rig.normals[:, 2]
    torso = avatar.binding.region == 0
    assert coverage.frames == len(usable)
    assert float((coverage.count[torso & (facing > 0.9)] > 0).float().mean()) > 0.9
    assert float((coverage.count[torso & (facing < -0.9)] > 0).float().mean()) < 0.05
    pink = (coverage.colors() - torch.tensor(UNSEEN_RGB)).abs().amax(-1) < 1e-6
    assert torch.equal(pink, coverage.count == 0)


def test_the_coverage_picture_is_pink_where_nothing_was_seen(avatar: Avatar) -> None:
    front, _, back, _ = draw_coverage(avatar, Coverage((avatar.rig.normals[:, 2] > 0).long() * 4, 4), 96)
    pinkness = [float((p[..., 0].astype(int) - p[..., 1])[p.min(-1) < 250].mean()) for p in (front, back)]
    assert pinkness[1] > 100 > pinkness[0] + 40


def test_a_curve_leaves_out_what_is_no_number() -> None:
    assert curve("a", [0, 1, 2], [1.0, float("nan"), 3.0], "s").count("<circle") == 2
    assert curve("a", [], [], "s") == ""
