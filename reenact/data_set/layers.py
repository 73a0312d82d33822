"""Finished clips -> their people alone, with an alpha channel: places can be put behind them without drawing anew.

The person is posed from the clip's labels and drawn in the clip's scene, as `reenact verify --labels` does; over the
clip's own place a layer is the clip before lens, grain and compression (Porter & Duff 1984, "over").
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

from avatars.body import Body, load_body
from avatars.errors import InputError
from avatars.io.outputs import fresh_folder
from avatars.io.progress import StageClock, progress
from avatars.io.video import write_video
from reenact.data_set.label_check import LabelledPerson, posed_at, staged_people
from reenact.planning.data_set_paths import file_inside
from reenact.planning.plan import Plan, PlannedClip, read_plan
from reenact.planning.receipts import label_files, manifest_clip, read_receipt, whole_ids
from reenact.rendering.scene import StagedClip

Form = Literal["png", "webm", "white"]
SUFFIXES = {"webm": ".webm", "white": ".mp4"}


def write_layers(out: Path, folder: Path, form: Form, *, clips: tuple[str, ...] = ()) -> int:
    """Write every clip's layer (or those named) into `folder`, which must be new: `<id>/00000.png` ... with straight
    alpha, `<id>.webm` (VP9 with alpha), or `<id>.mp4` over white. How many were written.

    Raises InputError when there is no plan, a clip is not there, or an input of the plan has changed.
    """
    plan, whole = read_plan(out), whole_ids(out)
    chosen = [clip for clip in plan.clips if clip.id in whole and (not clips or clip.id in clips)]
    absent = sorted(set(clips) - {clip.id for clip in chosen})
    if absent or not chosen:
        raise InputError(f"{out} holds no finished clip{' ' + absent[0] if absent else ''}. See `reenact status`.")
    if plan.batch.film.distorts:
        raise InputError("The clips were filmed through a lens with distortion; layers have none, and would not fit.")
    body = load_body(plan.batch.body)
    with fresh_folder(folder, what="the layers") as aside, torch.no_grad():
        for clip in progress(chosen, "layers"):
            _write(layers_of(plan, clip, out, body), aside / clip.id, form, plan.batch.fps)
    return len(chosen)


def layers_of(plan: Plan, clip: PlannedClip, out: Path, body: Body) -> Iterator[Float[np.ndarray, "height width 4"]]:
    """Premultiplied RGBA in [0, 1] of a clip's frames. Raises InputError when its files cannot be read."""
    scene, people = scene_of(plan, clip, out, body)
    for index in range(len(people[0].motion)):
        posed = [posed_at(person.avatar, person.local, plan, index) for person in people]
        yield scene.layer(posed, StageClock(), index).permute(1, 2, 0).numpy()


def scene_of(plan: Plan, clip: PlannedClip, out: Path, body: Body) -> tuple[StagedClip, list[LabelledPerson]]:
    """The scene of a finished clip, and its people as their labels pose them."""
    receipt = read_receipt(out, clip.id)
    of_clip = manifest_clip(receipt["clip"], f"receipts/{clip.id}.json")
    labels = [file_inside(out, found["path"], f"clip {clip.id}") for found in label_files(receipt)]
    staged, avatars = staged_people(plan, clip, body)
    T = torch.linalg.inv(staged.placement.T_world_motion)
    people = [LabelledPerson.read(path, avatar, T, of_clip) for path, avatar in zip(labels, avatars, strict=True)]
    return staged.scene, people


def over(
    layer: Float[np.ndarray, "height width 4"], place: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A premultiplied layer over a place."""
    mixed = layer[..., :3] + (1 - layer[..., 3:]) * (place.astype(np.float32) / 255)
    return (np.clip(mixed, 0, 1) * 255 + 0.5).astype(np.uint8)


def straight(layer: Float[np.ndarray, "height width 4"]) -> UInt8[np.ndarray, "height width 4"]:
    """Bytes with color that is not multiplied by alpha, as PNG has it."""
    alpha = layer[..., 3:]
    color = np.where(alpha > 0, layer[..., :3] / np.maximum(alpha, 1e-6), 0.0)
    return (np.clip(np.concatenate([color, alpha], -1), 0, 1) * 255 + 0.5).astype(np.uint8)


def _write(layers: Iterator[np.ndarray], name: Path, form: Form, fps: float) -> None:
    from PIL import Image

    if form == "png":
        name.mkdir(parents=True)
        for index, layer in enumerate(layers):
            Image.fromarray(straight(layer)).save(name / f"{index:05d}.png")
    elif form == "webm":
        write_alpha_video(name.with_suffix(".webm"), (straight(layer) for layer in layers), fps)
    else:
        frames = np.stack([over(layer, np.full((*layer.shape[:2], 3), 255, np.uint8)) for layer in layers])
        write_video(name.with_suffix(".mp4"), frames, fps=fps)


def write_alpha_video(path: Path, frames: Iterator[UInt8[np.ndarray, "height width 4"]], fps: float) -> None:
    """VP9 with an alpha channel, as browsers and ffmpeg read it."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libvpx-vp9", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt, stream.options = "yuva420p", {"crf": "18", "b": "0"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgba")))
        if stream is not None:
            container.mux(stream.encode())
