"""A motion -> a picture of how well each part was seen over time, where nobody was, and where the person faced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from avatars.body.motion import GLOBAL, Motion, runs
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.io.files import atomic_path
from avatars.tracking.joint_confidence import PARTS, part_confidence
from avatars.tracking.spans import DOUBTFUL, gaps

NOBODY_RGB, GAP_RGB = "#c9c9c9", "#f2b8b5"
SMOOTH_S = 0.1


def write_confidence_plot(path: str | Path, motion: Motion, camera: Camera, *, title: str = "") -> Path:
    """Write a PNG: confidence of eight parts over time as colors and as curves, and the heading.

    Gray where nobody was in view, red where frames are missing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    times_s = motion.times_s.numpy()
    parts = part_confidence(motion).numpy()
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    table, curves, heading = figure.subplots(3, 1, sharex=True, height_ratios=(2.4, 2, 1.6))
    _draw_table(table, times_s, parts)
    limbs = [(name, i) for i, name in enumerate(PARTS) if name not in ("left hand", "right hand", "head")]
    for name, i in limbs:
        curves.plot(times_s, np.where(motion.valid, parts[:, i], np.nan), label=name, linewidth=1.1)
    curves.axhline(DOUBTFUL, color="black", linewidth=0.7, linestyle=":")
    curves.set(ylim=(-0.02, 1.02), ylabel="confidence")
    curves.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    yaw = np.where(motion.valid, headings_deg(motion, camera), np.nan)
    yaw[1:][np.abs(np.diff(yaw)) > 180] = np.nan  # no line across the wrap
    heading.plot(times_s, yaw, color="black", linewidth=1.1)
    heading.set(ylim=(-185, 185), yticks=(-180, -90, 0, 90, 180), ylabel="heading (°)\n0 faces the camera")
    heading.set_xlabel("time (s)")
    for axes in (table, curves, heading):
        _shade(axes, motion, times_s)
        axes.set_xlim(times_s[0], times_s[-1])
    seen = f"{int(motion.valid.sum())} of {len(motion)} frames show the person"
    figure.suptitle(f"{title}: {seen}" if title else seen, fontsize=11)
    with atomic_path(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
    return Path(path)


def headings_deg(motion: Motion, camera: Camera) -> Float[np.ndarray, " frames"]:
    """Where the person faces, degrees in [-180, 180]: 0 to the camera, positive turned to their left."""
    facing = matrix_from_axis_angle(motion.poses[:, GLOBAL])[..., 2]  # +Z of the root, world
    seen = facing @ camera.T_cam_world[:3, :3].T
    return torch.rad2deg(torch.atan2(seen[:, 0], -seen[:, 2])).numpy()


def _draw_table(axes, times_s: np.ndarray, parts: np.ndarray) -> None:
    edges = np.concatenate([times_s[:1], (times_s[1:] + times_s[:-1]) / 2, times_s[-1:]])
    mesh = axes.pcolormesh(edges, np.arange(len(PARTS) + 1), parts.T, cmap="RdYlGn", vmin=0, vmax=1, rasterized=True)
    axes.set_yticks(np.arange(len(PARTS)) + 0.5, list(PARTS), fontsize=8)
    axes.invert_yaxis()
    axes.figure.colorbar(mesh, ax=axes, label="confidence", pad=0.01)


def _shade(axes, motion: Motion, times_s: np.ndarray) -> None:
    half = np.median(np.diff(times_s)) / 2 if len(times_s) > 1 else 0.0
    for start, stop in runs(~motion.valid):
        axes.axvspan(times_s[start] - half, times_s[stop - 1] + half, color=NOBODY_RGB, linewidth=0)
    for i in gaps(motion.times_s):
        axes.axvspan(times_s[i] + half, times_s[i + 1] - half, color=GAP_RGB, linewidth=0)
