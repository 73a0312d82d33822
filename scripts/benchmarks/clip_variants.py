"""A real clip and its reenactment, one thing changed at a time: what sim_to_real.py compares.

What needs no avatar is cut out of the real clip by a mask; everything else is one `reenact` batch a variant, of the
same avatars, motions and seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.real_folder import FIRST_AVATAR, RealFolderConfig, motion_name
from benchmarks.simulated_world import SimulatedConfig, each, photographed_room
from jaxtyping import Float, UInt8

from actionrec.manifest import ManifestClip, read_manifest
from avatars.errors import InputError
from avatars.io.files import atomic_path
from avatars.io.video import VideoInfo, load_frames, probe, write_video
from avatars.tracking.source_view import SourceView

CRF = 18
CLEAR, SURE = 14.0, 40.0
"""A pixel that differs from the empty place by so many steps of 255 begins to be, and surely is, the person."""
ROOM_SEED = 5000
REACH = 1 / 30
"""What is further from the mask than this share of the picture's height is not the person, however it differs."""
ROOMS = "rooms"
"""Stands for the photographs of empty studio rooms, `N_ROOMS` of them."""
N_ROOMS = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to show what a real clip shows."""

    name: str
    what: str
    less: str = ""
    """The variant that it differs from by one thing; its cost is the difference of the two."""
    batch: Mapping[str, Any] = field(default_factory=dict)
    """Keys of BATCH.yaml, of what avatars do; none of what is made of the real person's pixels."""


def variants_of(config: RealFolderConfig) -> tuple[Variant, ...]:
    """All, from the real clip to a synthetic one of default placement; changes as large as the benchmark draws them."""
    turn = {"turn_deg": [-config.turn_deg, config.turn_deg]}
    size = {"size": [round(1 / config.size, 4), config.size]}
    speed = {"speed": [round(1 / config.speed, 4), config.speed]}
    soft = {"film": {"softness": config.softness_px}}
    here: dict[str, Any] = {"placement": {"kind": "source"}, "backgrounds": ["source"]}

    def at(**placement: Any) -> dict[str, Any]:
        return here | soft | {"placement": {"kind": "source", **placement}}

    return (
        Variant("real", "the real clip"),
        Variant("cut-out", "the real person over the clip's own place, by mask", "real"),
        Variant("other-place", "the real person over other places", "cut-out"),
        Variant("avatar", "avatar: same place, size, direction, speed", "cut-out", here),
        Variant("softened", "avatar as soft as the clip", "avatar", here | soft),
        Variant("avatar-other-place", "avatar over other places", "softened", at() | {"backgrounds": ROOMS}),
        Variant("turned", f"seen from up to {config.turn_deg:g} degrees beside", "softened", at(**turn)),
        Variant("sized", f"up to {config.size:g} times larger or smaller", "softened", at(**size)),
        Variant("paced", f"up to {config.speed:g} times faster or slower", "softened", at() | speed),
        Variant("as-drawn", "turned, sized and paced", "softened", at(**turn, **size) | speed),
        Variant("placed", "placed on the ground of other places", "avatar-other-place", soft | {"backgrounds": ROOMS}),
    )


@dataclass(frozen=True, slots=True)
class ClipVariants:
    """The clips of every variant, those of a real clip in the order of avatars."""

    folder: Path
    clips: Mapping[str, Mapping[str, tuple[ManifestClip, ...]]]
    """By variant and motion (`motion_name`). Motions that lack a variant are in none. `silhouette of real` and
    `silhouette of avatar` hold the masks alone, white on black."""


def make_variants(
    made: Path, real: Sequence[ManifestClip], config: RealFolderConfig, out: Path, *, avatars: int = 2
) -> ClipVariants:
    """Cut out and reenact; what is there already stays. `made`: folder of a `RealFolderSet` of these clips.

    Raises InputError when nothing can be compared.
    """
    sources = {motion_name(clip): clip for clip in real}
    tracked = {name: clip for name, clip in sources.items() if (made / "motions" / f"{name}.npz").is_file()}
    rooms = [photographed_room(out, SimulatedConfig(seed=config.seed), ROOM_SEED + i) for i in range(N_ROOMS)]
    names = [room["path"] for room in rooms]
    tasks = [(out, made, name, c.path, names[i % N_ROOMS]) for i, (name, c) in enumerate(tracked.items())]
    each(_cut_out, tasks, config.jobs)
    found: dict[str, dict[str, tuple[ManifestClip, ...]]] = {"real": {n: (c,) for n, c in tracked.items()}}
    for name in ("cut-out", "other-place", "silhouette of real"):
        found[name] = {n: (_moved(clip, _pasted(out, name, n)),) for n, clip in tracked.items()}
    for variant in variants_of(config):
        if variant.batch:
            own = variant.batch["backgrounds"] != ROOMS
            asked = variant if own else replace(variant, batch={**variant.batch, "backgrounds": rooms})
            found[variant.name] = _reenacted(asked, made, sources, out, config, avatars)
    found["silhouette of avatar"] = _silhouettes(found["softened"], out / "variants" / "softened", out, config.jobs)
    whole = [n for n in tracked if all(n in clips for clips in found.values())]
    if not whole:
        raise InputError(f"Of no clip of {made} could every variant be made.")
    return ClipVariants(out, {name: {n: clips[n] for n in whole} for name, clips in found.items()})


def _moved(clip: ManifestClip, path: Path) -> ManifestClip:
    """The same clip of another file."""
    from avatars.io.files import sha256_of

    info = probe(path)
    return replace(
        clip, id=f"{path.parent.name.replace(' ', '_')}-{path.stem}", path=str(path), sha256=sha256_of(path),
        n_frames=info.n_frames, fps=info.fps, size_hw=info.size_hw,
    )  # fmt: skip


def _pasted(out: Path, variant: str, name: str) -> Path:
    return out / "pasted" / variant / f"{name}.mp4"


def _cut_out(task: tuple[Path, Path, str, str, str]) -> None:
    """Paste the real person over the own place and over another; and the mask alone."""
    from PIL import Image, ImageOps

    out, made, name, path, room = task
    files = {v: _pasted(out, v, name) for v in ("cut-out", "other-place", "silhouette of real")}
    if all(file.is_file() for file in files.values()):
        return
    frames, info = load_frames(path)
    plate = SourceView.load(made / "motions" / f"{name}.npz").plate
    if plate is None:
        raise InputError(f"{name} holds no picture of its place; track it with `reenact features --plates`.")
    alpha = person_alpha(frames, plate)
    size = (plate.shape[1], plate.shape[0])
    elsewhere = np.asarray(ImageOps.fit(Image.open(out / room).convert("RGB"), size))
    _write(files["cut-out"], over(frames, alpha, plate), info)
    _write(files["other-place"], over(frames, alpha, elsewhere), info)
    white = np.full_like(frames, 255)
    _write(files["silhouette of real"], over(white, alpha, np.zeros_like(plate)), info)


def person_alpha(
    frames: UInt8[np.ndarray, "frames height width 3"], plate: UInt8[np.ndarray, "height width 3"]
) -> Float[np.ndarray, "frames height width"]:
    """How much of each pixel is the person, in [0, 1]: the detector's mask, and near it what differs from the place."""
    import cv2

    from avatars.perception.mediapipe_holistic import MediaPipeHolistic

    height = frames.shape[1]
    radius = max(round(REACH * height), 2)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    found = []
    for frame, seen in zip(frames, MediaPipeHolistic().detect(iter(frames)), strict=True):
        mask = np.zeros(frame.shape[:2]) if seen.mask is None else np.asarray(seen.mask, float) / 255
        apart = np.linalg.norm(frame.astype(float) - plate, axis=2)
        other = np.clip((cv2.GaussianBlur(apart, (0, 0), 0.7) - CLEAR) / (SURE - CLEAR), 0.0, 1.0)
        near = cv2.dilate((mask > 0.3).astype(np.uint8), disk) > 0
        found.append(np.where(near, np.maximum(other, np.clip(2 * mask - 1, 0.0, 1.0)), 0.0))
    return np.stack(found)


def over(
    frames: UInt8[np.ndarray, "frames height width 3"],
    alpha: Float[np.ndarray, "frames height width"],
    place: UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "frames height width 3"]:
    """Frames where alpha is 1, the place where it is 0."""
    mixed = alpha[..., None] * frames + (1 - alpha[..., None]) * place
    return (mixed + 0.5).astype(np.uint8)


def _write(path: Path, frames: np.ndarray, info: VideoInfo) -> None:
    with atomic_path(path) as aside:
        write_video(aside, iter(frames), fps=info.fps, crf=CRF)


def _reenacted(
    variant: Variant, made: Path, sources: Mapping[str, ManifestClip], out: Path, config: RealFolderConfig, avatars: int
) -> dict[str, tuple[ManifestClip, ...]]:
    """One batch; its clips by motion, those of which every avatar made one."""
    import yaml

    from reenact.running.run import run_batch

    height, width = next(iter(sources.values())).size_hw
    fps = next(iter(sources.values())).fps
    document: dict[str, Any] = {
        "out": f"variants/{variant.name}", "seed": config.seed, "size": [2 * round(height / 2), 2 * round(width / 2)],
        "fps": round(fps, 3), **variant.batch,
        "avatars": [str((made / "avatars" / f"avatar_{FIRST_AVATAR + i}").resolve()) for i in range(avatars)],
        "motions": [str((made / "motions").resolve() / "*.npz")],
    }  # fmt: skip
    path = out / f"{variant.name}.yaml"
    with atomic_path(path) as aside:
        aside.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    run_batch(path, jobs=config.jobs)
    folder = out / "variants" / variant.name
    found: dict[str, list[ManifestClip]] = {}
    for clip in sorted(read_manifest(folder / "manifest.jsonl"), key=lambda c: c.subject):
        found.setdefault(clip.source, []).append(replace(clip, path=str(folder / clip.path)))
    return {n: tuple(clips) for n, clips in found.items() if n in sources and len(clips) == avatars}


def _silhouettes(
    clips: Mapping[str, tuple[ManifestClip, ...]], folder: Path, out: Path, jobs: int
) -> dict[str, tuple[ManifestClip, ...]]:
    """Masks of avatars as clips, from their labels."""
    paths = {c.id: out / "pasted" / "silhouette of avatar" / f"{c.id}.mp4" for cs in clips.values() for c in cs}
    each(_silhouette, [(folder, clip, paths[clip.id]) for cs in clips.values() for clip in cs], jobs)
    return {name: tuple(_moved(clip, paths[clip.id]) for clip in cs) for name, cs in clips.items()}


def _silhouette(task: tuple[Path, ManifestClip, Path]) -> None:
    from reenact.data_set.label_file import masks_of, read_labels

    folder, clip, path = task
    if path.is_file():
        return
    data = read_labels(folder / "labels" / f"{clip.id}.npz", ("mask_rle", "box_px"), clip)
    masks = masks_of(data["mask_rle"], clip).astype(np.uint8) * 255
    _write(path, np.repeat(masks[..., None], 3, axis=3), probe(clip.path))
