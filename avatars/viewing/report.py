"""A finished fit in; report.html out: one file with pictures, curves, times, settings and where all of it came from."""

from __future__ import annotations

import base64
import io
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatars import __version__
from avatars.avatar import Avatar
from avatars.body.motion import Motion
from avatars.fitting.config import FitConfig
from avatars.fitting.crops import held_out_frames, usable_frames
from avatars.fitting.matting import generous
from avatars.fitting.metrics import psnr, ssim
from avatars.io.clean_plate import CleanPlate, estimate_clean_plate
from avatars.io.files import atomic_path, sha256_of
from avatars.io.mask_stack import MaskStack
from avatars.io.progress import progress
from avatars.io.video import probe, read_frames
from avatars.rasterizer import Render, rasterize
from avatars.viewing.coverage import Coverage, coverage_of, draw_coverage
from avatars.viewing.report_style import STYLE, curve, page, table

if TYPE_CHECKING:
    from avatars.tracking.track import Track

PICTURED, SCORED, COVERAGE_FRAMES, PLATE_FRAMES = 6, 24, 24, 24
PICTURE_PX = 300
PACKAGES = ("torch", "numpy", "mediapipe", "smplx", "anny", "gsplat", "scipy", "av")


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutFrame:
    """A frame that gave nothing to the avatar, the avatar drawn in its place, and how they compare."""

    index: int
    """In the video."""
    time_s: float
    psnr_masked_db: float
    ssim_box: float
    pictures: tuple[UInt8[np.ndarray, "height width 3"], ...]
    """Frame, render over the room, over white, over black, four times the difference."""


@dataclass(frozen=True, slots=True, eq=False)
class FitRecord:
    """What a fit left besides the avatar."""

    motion: Motion
    """The usable frames with refined poses."""
    fit: Mapping[str, Any]
    """What fit.json holds."""
    inputs: Mapping[str, Path | None] = field(default_factory=dict)
    """Further files that went in, by what they are."""
    losses: Sequence[float] = ()
    occluders: MaskStack | None = None
    """A mask of what counts nowhere for each usable frame."""


def write_report(path: str | Path, avatar: Avatar, track: Track, video: Path, record: FitRecord) -> Path:
    """Write the report of a fit. Everything that the page shows lies inside it."""
    motion, fit = record.motion, record.fit
    usable = usable_frames(track.motion).numpy()
    held_out = held_out_rows(len(motion), avatar)
    frames = draw_held_out(avatar, motion, track, video, usable, held_out, record.occluders)
    train = np.setdiff1d(np.arange(len(motion)), held_out)
    looked = train[np.linspace(0, len(train) - 1, min(COVERAGE_FRAMES, len(train))).round().astype(int)]
    assert track.masks is not None
    coverage = coverage_of(avatar, motion[torch.from_numpy(looked)], track.camera, track.masks, usable[looked])
    sections = {
        "Held-out frames": _scores(fit) + _curves(frames) + _rows(frames),
        "Coverage": _coverage(coverage, avatar),
        "Fitting": _losses(record.losses) + _times(fit.get("seconds", {})),
        "Settings": table(_flat({"quality": fit.get("quality"), **avatar.card.get("fit", {}).get("settings", {})})),
        "Provenance": table(provenance(avatar, track, video, record.inputs)),
    }
    with atomic_path(path) as aside:
        aside.write_text(page(f"Avatar from {video.name}", sections, STYLE), encoding="utf-8")
    return Path(path)


def held_out_rows(count: int, avatar: Avatar) -> np.ndarray:
    """The frames kept from fitting; where none were, some that were fitted."""
    every = avatar.card.get("fit", {}).get("settings", {}).get("held_out_every", FitConfig().held_out_every)
    chosen = np.array(held_out_frames(count, FitConfig(held_out_every=every)) or range(0, count, 8))
    return chosen[np.linspace(0, len(chosen) - 1, min(SCORED, len(chosen))).round().astype(int)]


@torch.no_grad()
def draw_held_out(
    avatar: Avatar,
    motion: Motion,
    track: Track,
    video: Path,
    usable: np.ndarray,
    chosen: np.ndarray,
    occluders: MaskStack | None = None,
) -> list[HeldOutFrame]:
    """Frames beside the avatar in the pose that its neighbors' refinement gave, in the capture's light.

    The room behind the person is estimated from these and from frames all through the video.
    """
    assert track.masks is not None
    spread = np.linspace(0, len(usable) - 1, min(PLATE_FRAMES, len(usable))).round().astype(int)
    read = np.union1d(chosen, spread)
    masks = track.masks[torch.from_numpy(usable[read])]
    shown = generous(masks)
    _, rows, columns = _box(shown.any(0).float())
    masks, camera = masks[:, rows, columns], track.camera.cropped(rows.start, columns.start, _size(rows, columns))
    frames = np.stack([frame[rows, columns] for frame in read_frames(probe(video, fps=track.config.fps), usable[read])])
    plate = estimate_clean_plate(frames, shown[:, rows, columns].numpy())
    room = _image(_without_holes(plate))
    found = []
    for i in progress(chosen.tolist(), "report", len(chosen)):
        row = int(np.searchsorted(read, i))
        render = rasterize(avatar.posed(motion[i : i + 1], lit=True), camera)
        moment, mask = (int(usable[i]), float(motion.times_s[i])), masks[row].float() / 255
        counts = torch.ones_like(mask) if occluders is None else (occluders[i][rows, columns] == 0).float()
        found.append(_compare(moment, _image(frames[row]), mask, counts, render, plate, room))
    return found


def _compare(
    moment: tuple[int, float],
    frame: Tensor,
    mask: Float[Tensor, "height width"],
    counts: Float[Tensor, "height width"],
    render: Render,
    plate: CleanPlate,
    room: Tensor,
) -> HeldOutFrame:
    """PSNR over the person's pixels and SSIM of the person's box, both over the estimated room.

    Where the room is not known, frame (by its mask) and render lie over black. The exposure of a frame is not saved
    with an avatar: one gain per channel is fitted to the frame. `counts` is 0 where something passes before the person.
    `room` is for the picture alone.
    """
    rgb, alpha, known = render.rgb[0], render.alpha[0], torch.from_numpy(plate.known)
    truth = torch.where(known, frame, frame * mask)
    seen = mask * counts
    gain = (rgb * frame * seen).sum((1, 2)) / (rgb.square() * seen).sum((1, 2)).clamp_min(1e-6)
    drawn = (rgb * gain[:, None, None]).clamp(0, 1)
    image = drawn + (1 - alpha) * torch.where(known, _image(plate.rgb), 0.0)
    staged = drawn + (1 - alpha) * room
    pictures = (frame, staged, drawn + (1 - alpha), drawn, (4 * counts * (truth - image).abs()).clamp(0, 1))
    tight, wide = _box(mask, 0.0), _box(torch.maximum(mask, alpha[0]), 0.05)
    small = min(truth[tight].shape[1:]) < 11
    return HeldOutFrame(
        *moment,
        psnr(image, truth, seen),
        math.nan if small else ssim(image[tight], truth[tight], counts[tight[1:]]),
        tuple((p[wide].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy() for p in pictures),
    )


def _without_holes(plate: CleanPlate) -> UInt8[np.ndarray, "height width 3"]:
    """The room with the nearest known color where nothing is known; gray when none of it is."""
    from scipy.ndimage import distance_transform_edt

    if not plate.known.any():
        return np.full_like(plate.rgb, 128)
    nearest = np.asarray(distance_transform_edt(~plate.known, return_distances=False, return_indices=True))
    return plate.rgb[nearest[0], nearest[1]]


def _image(picture: UInt8[np.ndarray, "height width 3"]) -> Float[Tensor, "3 height width"]:
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def _box(shown: Float[Tensor, "height width"], margin: float = 0.0) -> tuple[Any, slice, slice]:
    """Rows and columns around what is shown, at least two of each; all of them when nothing is."""
    height, width = shown.shape
    rows, columns = torch.nonzero(shown > 0.5).unbind(-1)
    if len(rows) == 0:
        return (..., slice(0, height), slice(0, width))
    pad = round(margin * float(rows.max() - rows.min()))
    y0, y1, x0, x1 = (int(v) for v in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
    return (..., slice(max(y0 - pad, 0), min(y1 + pad, height)), slice(max(x0 - pad, 0), min(x1 + pad, width)))


def _size(rows: slice, columns: slice) -> tuple[int, int]:
    return rows.stop - rows.start, columns.stop - columns.start


def _scores(fit: Mapping[str, Any]) -> str:
    scores = fit.get("scores")
    if not scores:
        return "<p>No frame was held out; the frames below were fitted.</p>"
    rows = [
        ("PSNR, person's box", f"{scores['psnr_box_fitpose_db']:.2f} dB", f"{scores['psnr_box_db']:.2f} dB"),
        ("PSNR, person only", f"{scores['psnr_masked_fitpose_db']:.2f} dB", f"{scores['psnr_masked_db']:.2f} dB"),
        ("PSNR, cut out", f"{scores['psnr_cutout_fitpose_db']:.2f} dB", f"{scores['psnr_cutout_db']:.2f} dB"),
        ("SSIM, person's box", f"{scores['ssim_box_fitpose']:.4f}", f"{scores['ssim_box']:.4f}"),
    ]
    note = f"{scores['n_frames']} held-out frames, not used in fitting; background of the box: {scores['background']}."
    if scores["hidden_share"] > 0:
        note += f" {scores['hidden_share']:.1%} of the person is left out, since something passes before them there."
    return table(rows, head=("", "pose fitted to the frame", "pose as tracked")) + f"<p>{escape(note)}</p>"


def _curves(frames: Sequence[HeldOutFrame]) -> str:
    times = [f.time_s for f in frames]
    left = curve("PSNR, person only (dB)", times, [f.psnr_masked_db for f in frames], "s")
    right = curve("SSIM, person's box", times, [f.ssim_box for f in frames], "s")
    note = (
        "By frame: the saved avatar in the pose as tracked and corrected from the neighboring frames, in the capture's "
        "light; exposure (one gain per channel) fitted to the frame; the room estimated."
    )
    return f'<div class="curves">{left}{right}</div><p>{note}</p>'


def _rows(frames: Sequence[HeldOutFrame]) -> str:
    """Some frames spread over the video, with the best and the worst."""
    order = sorted(range(len(frames)), key=lambda i: frames[i].psnr_masked_db)
    spread = np.linspace(0, len(frames) - 1, min(PICTURED, len(frames))).round().astype(int).tolist()
    words = {order[0]: "worst", order[-1]: "best"}
    shown = sorted({*spread[1:-1], order[0], order[-1]} if len(frames) > 2 else set(spread))
    rows = []
    for i in shown:
        frame = frames[i]
        about = f"frame {frame.index}: {frame.psnr_masked_db:.2f} dB, SSIM {frame.ssim_box:.3f}"
        caption = about + (f" ({words[i]})" if i in words else "")
        images = "".join(inlined(p, PICTURE_PX, caption) for p in frame.pictures)
        rows.append(f"<figure>{images}<figcaption>{escape(caption)}</figcaption></figure>")
    return "<p>Frame; avatar over the estimated room; over white; over black; four times the difference.</p>" + "".join(
        rows
    )


def _coverage(coverage: Coverage, avatar: Avatar) -> str:
    pictures = "".join(inlined(p, PICTURE_PX, "coverage") for p in draw_coverage(avatar, coverage))
    unseen = 1 - coverage.share_seen
    text = (
        f"{100 * coverage.share_seen:.1f} % of the Gaussians were seen in at least one of {coverage.frames} frames. "
        f"Dark blue: in few; yellow: in half of them or more. Pink ({100 * unseen:.1f} %): in none, filled from the "
        "neighbors and the mirror image."
    )
    return f"<figure>{pictures}<figcaption>Front, left, back, right</figcaption></figure><p>{text}</p>"


def _losses(losses: Sequence[float]) -> str:
    if len(losses) < 2:
        return ""
    width = max(len(losses) // 200, 1)
    means = [float(np.mean(losses[i : i + width])) for i in range(0, len(losses) - width + 1, width)]
    return '<div class="curves">' + curve("loss", [i * width for i in range(len(means))], means, "iteration") + "</div>"


def _times(seconds: Mapping[str, float]) -> str:
    total = sum(seconds.values())
    rows = [(name, f"{s:.1f} s", f"{100 * s / max(total, 1e-9):.0f} %") for name, s in seconds.items()]
    return table([*rows, ("total", f"{total:.1f} s", "")], head=("stage", "time", "share")) if rows else ""


def provenance(avatar: Avatar, track: Track, video: Path, inputs: Mapping[str, Path | None]) -> list[tuple[str, str]]:
    """What went in, by hash, and what worked on it, by version."""
    rows = [
        ("video", f"{video.name}, sha256 {track.video.sha256}"),
        ("body", f"{avatar.body.path.name}, sha256 {avatar.body.sha256}"),
    ]
    rows += [(name, f"{p.name}, sha256 {sha256_of(p)}") for name, p in inputs.items() if p is not None]
    rows += [("tracking", ", ".join(f"{k}={v}" for k, v in _flat(_options(track.config))))]
    rows += [("Gaussians", f"{len(avatar):,}"), ("consent", str(avatar.card.get("consent") or "none stated"))]
    rows += [("splat-avatars", __version__), ("Python", platform.python_version())]
    rows += [(name, found) for name in PACKAGES if (found := _installed(name))]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return [*rows, ("machine", f"{platform.machine()}, {os.cpu_count()} processors, GPU: {gpu}")]


def _options(config: Any) -> dict[str, Any]:
    from avatars.tracking.track import as_json

    return {k: v for k, v in as_json(config).items() if v not in (None, "", [])}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as names with dots."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for i, entry in enumerate(value):
                rows.append((f"{prefix}{name}.{i}", ", ".join(f"{k}={v}" for k, v in entry.items())))
        else:
            rows.append((prefix + name, str(value)))
    return rows


def inlined(picture: UInt8[np.ndarray, "height width 3"], height_px: int, alt: str) -> str:
    """An img element that holds the picture as PNG, scaled down to at most `height_px`."""
    from PIL import Image

    image = Image.fromarray(picture)
    if image.height > height_px:
        width = max(1, round(image.width * height_px / image.height))
        image = image.resize((width, height_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img alt="{escape(alt)}" {size} src="data:image/png;base64,{data}">'
