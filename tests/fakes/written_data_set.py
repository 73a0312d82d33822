"""A data set as `reenact run` leaves it, written in a moment: its people are squares, its avatars no files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from actionrec.manifest import ManifestClip
from avatars.io.files import sha256_of, write_json
from avatars.io.video import write_video
from reenact.planning.batch import load_batch
from reenact.planning.plan import Plan, PlannedClip, make_plan, open_output
from reenact.planning.receipts import finish_manifest, label_paths, receipt_path, video_path
from reenact.rendering.labels import encode_rle

FRAMES, SIZE = 4, 64


def write_inputs(folder: Path) -> Path:
    """A batch of two avatars, one motion and one place; its path."""
    from PIL import Image

    for name in ("anna", "ben"):
        (folder / name).mkdir(parents=True)
        write_json(folder / name / "avatar.json", {"consent": "research"})
        (folder / name / "gaussians.safetensors").write_bytes(name.encode())
    (folder / "wave.npz").write_bytes(b"wave")
    Image.new("RGB", (80, 80), (90, 90, 90)).save(folder / "wall.png")
    document = {
        "out": str(folder / "out"), "size": SIZE, "fps": 15, "avatars": [str(folder / "anna"), str(folder / "ben")],
        "motions": [{"path": str(folder / "wave.npz"), "label": "wave"}], "backgrounds": [str(folder / "wall.png")],
        "any_place": True,
    }  # fmt: skip
    (folder / "batch.yaml").write_text(json.dumps(document))
    return folder / "batch.yaml"


def write_data_set(folder: Path) -> Path:
    """A whole data set of two clips below `folder`; its path."""
    plan = make_plan(load_batch(write_inputs(folder)))
    out = open_output(plan)
    for number, clip in enumerate(plan.clips):
        write_clip(plan, clip, out, number)
    finish_manifest(out, plan.clips, [], judged=set())
    return out


def write_clip(plan: Plan, clip: PlannedClip, out: Path, number: int = 0) -> None:
    """Video, labels and receipt."""
    frames = np.full((FRAMES, SIZE, SIZE, 3), 60 + 40 * number, np.uint8)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:50, 24:40] = True
    frames[:, 20:50, 24:40] = 200
    write_video(out / video_path(clip), frames, fps=15)
    labels = out / label_paths(clip)[0]
    labels.parent.mkdir(exist_ok=True)
    np.savez_compressed(labels, **label_arrays(mask))
    avatar = plan.batch.avatars[clip.avatar]
    made_from = {
        "avatar": {"name": avatar.name, "sha256": plan.avatar_sha256[clip.avatar], "licence": "CC0",
                   "consent": avatar.consent, "strata": {"sex": "female"}},
        "motion": {"name": "wave", "sha256": plan.motion_sha256[0], "licence": ""},
        "background": {"name": "wall", "sha256": plan.background_sha256[0], "licence": "CC BY 4.0"},
    }  # fmt: skip
    manifest = ManifestClip(
        id=clip.id, path=video_path(clip), label=clip.label, subject=avatar.name, source="wave", kind="synthetic",
        n_frames=FRAMES, fps=15.0, size_hw=(SIZE, SIZE), sha256=sha256_of(out / video_path(clip)), background="wall",
    )  # fmt: skip
    receipt = {
        "clip": asdict(manifest), "labels": {"path": label_paths(clip)[0], "sha256": sha256_of(labels)}, "others": [],
        "made_from": made_from, "made_by": "splat-avatars 0", "settings": plan.settings(),
    }  # fmt: skip
    write_json(receipt_path(out, clip.id), receipt)


def label_arrays(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of a square that stands still."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    points = (rng.uniform((24, 20), (40, 50), (FRAMES, 133, 2))).astype(np.float32)
    return {
        "poses": floats(FRAMES, 165), "trans": floats(FRAMES, 3), "betas": floats(20), "expression": floats(FRAMES, 10),
        "times_s": np.arange(FRAMES) / 15, "valid": np.ones(FRAMES, bool), "body_sha256": np.array("0" * 64),
        "K": np.array([[60, 0, 32], [0, 60, 32], [0, 0, 1]], np.float32), "T_cam_world": np.eye(4, dtype=np.float32),
        "size_hw": np.array([SIZE, SIZE]), "distortion": np.zeros(2, np.float32), "joints_px": points[:, :55],
        "keypoints_px": points, "keypoints_in_frame": np.ones((FRAMES, 133), bool),
        "box_px": np.tile(np.array([24, 20, 40, 50], np.int32), (FRAMES, 1)),
        "mask_rle": np.array([encode_rle(mask)] * FRAMES), "whole_rle": np.array([encode_rle(mask)] * FRAMES),
        "depth_mm": np.where(mask, 3000, 0).astype(np.uint16)[None].repeat(FRAMES, 0),
        "place_depth_mm": np.full((SIZE, SIZE), 5000, np.uint16),
    }  # fmt: skip
