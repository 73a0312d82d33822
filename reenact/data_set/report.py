"""A data set's folder -> one HTML page that stands alone: samples, coverage, gate, failures, throughput."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from actionrec.manifest import ManifestClip
from avatars.io.files import atomic_path, read_json
from avatars.io.typed_json import read_json_lines, typed
from avatars.io.video import probe, read_frames
from avatars.viewing.report_style import PAGE_STYLE
from reenact.planning.data_set_paths import file_inside
from reenact.planning.plan import Plan, read_plan
from reenact.planning.receipts import Status, manifest_clips, status

SAMPLES, SAMPLE_PX = 4, 160
_STYLE = (
    PAGE_STYLE + ".strip { display: flex; gap: 4px; } .strip img { width: 160px; } td.bar div { background: #7a9; }"
)


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """A stage of the gate."""

    stage: str
    came: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """A clip that the gate rejected, and why."""

    id: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class GateRecord:
    """What gate.json must hold."""

    detector: str
    funnel: tuple[FunnelRow, ...]
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A line of runs.jsonl."""

    ended: str
    made: int
    frames: int
    seconds: float
    cpu_s: dict[str, float]


def write_data_report(out: Path, path: Path) -> Path:
    """Write the page. Raises InputError when the folder holds no plan."""
    plan, found = read_plan(out, check_inputs=False), status(out)
    clips = manifest_clips(out / "manifest.jsonl") if (out / "manifest.jsonl").is_file() else []
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{escape(out.name)}</title><style>{_STYLE}</style>',
        f"<h1>{escape(out.name)}</h1>",
        f'<p class="lead">{found.whole} of {found.planned} clips, {_minutes(clips):.1f} minutes; settings '
        f"<code>{escape(json.dumps(plan.settings()))}</code></p>",
        *_samples(out, clips),
        *_coverage(plan, clips),
        *_guessed_floors(plan),
        *_gate(out),
        *_failures(found),
        *_runs(out, found),
        "</html>",
    ]
    with atomic_path(path) as aside:
        aside.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return path


def _minutes(clips: Sequence[ManifestClip]) -> float:
    return sum(clip.n_frames / clip.fps for clip in clips) / 60


def _samples(out: Path, clips: Sequence[ManifestClip]) -> list[str]:
    """A strip of frames of one clip per class, as different people as there are."""
    parts = ["<h2>Samples</h2>"]
    shown: Counter[str] = Counter()
    for label in sorted({clip.label for clip in clips}):
        of_label = [clip for clip in clips if clip.label == label]
        clip = min(of_label, key=lambda c: shown[c.subject])
        shown[clip.subject] += 1
        video = file_inside(out, clip.path, f"clip {clip.id}")
        pictures = "".join(f'<img src="{_embedded(frame)}" alt="">' for frame in _frames(video))
        told = f"{label}: {len(of_label)} clips; here {clip.subject} in {clip.background}"
        parts.append(f'<div class="strip">{pictures}</div><p>{escape(told)}</p>')
    return parts


def _frames(video: Path) -> list[np.ndarray]:
    info = probe(video)
    middle_of = (np.arange(SAMPLES) + 0.5) / SAMPLES
    return list(read_frames(info, np.unique((middle_of * info.n_frames).astype(int))))


def _embedded(frame: np.ndarray) -> str:
    """A JPEG inside the page."""
    from PIL import Image

    picture = Image.fromarray(frame)
    picture.thumbnail((2 * SAMPLE_PX, 2 * SAMPLE_PX))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _coverage(plan: Plan, clips: Sequence[ManifestClip]) -> list[str]:
    """Planned and made clips per class, identity and stratum."""
    made = {clip.id for clip in clips}
    there: Counter[tuple[str, str]] = Counter()
    for clip in plan.clips:
        if clip.id in made:
            candidate = plan.candidate(clip)
            there.update([("class", candidate.label), ("identity", candidate.identity), *candidate.strata])
    rows = [
        (
            row.kind,
            row.name,
            str(there[row.kind, row.name]),
            str(row.clips),
            "" if row.wanted is None else str(row.wanted),
        )
        for row in plan.coverage()
    ]
    return ["<h2>Coverage</h2>", *_table(("", "", "made", "planned", "quota"), rows)]


def _guessed_floors(plan: Plan) -> list[str]:
    """The places in which people stand on a guess."""
    names = ", ".join(plan.guessed_floors())
    return (
        [f"<h2>Guessed floors</h2><p>{escape(names)}: people stand there on a guess; look at them.</p>"]
        if names
        else []
    )


def _gate(out: Path) -> list[str]:
    """The funnel, and the first rejections with their reasons."""
    path = out / "gate.json"
    if not path.is_file():
        return ["<h2>Gate</h2><p>Not run: <code>reenact gate</code>.</p>"]
    gate = typed(GateRecord, read_json(path), str(path), more=True)
    rows = [(row.stage, str(row.came), str(row.rejected)) for row in gate.funnel]
    reasons = [(verdict.id, verdict.stage, verdict.reason) for verdict in gate.rejected[:20]]
    seen = "" if gate.detector != "none" else "<p>The pose was not looked for.</p>"
    told = ["<h2>Gate</h2>", seen, *_table(("stage", "came", "rejected"), rows)]
    return told + (_table(("rejected", "stage", "reason"), reasons) if reasons else [])


def _failures(found: Status) -> list[str]:
    if not found.failures:
        return ["<h2>Failures</h2><p>None.</p>"]
    counts = Counter((f.stage, f.reason) for f in found.failures)
    rows = [(stage, reason, str(count)) for (stage, reason), count in counts.most_common(20)]
    return ["<h2>Failures</h2>", *_table(("stage", "reason", "clips"), rows)]


def _runs(out: Path, found: Status) -> list[str]:
    """Throughput of every run, what its stages cost, and how long the rest would take at the last run's rate."""
    path = out / "runs.jsonl"
    if not path.is_file():
        return []
    runs = [typed(RunRecord, row, where, more=True) for where, row in read_json_lines(path)]
    if not runs:
        return []
    rows = [
        (r.ended, str(r.made), str(r.frames), f"{r.seconds:.0f} s", f"{r.frames / max(r.seconds, 1e-3):.1f}")
        for r in runs
    ]
    cost: Counter[str] = Counter()
    for run in runs:
        cost.update(run.cpu_s)
    total = sum(cost.values())
    stages = [
        (stage, f"{seconds:.1f} s", f"{100 * seconds / max(total, 1e-3):.0f}%") for stage, seconds in cost.most_common()
    ]
    parts = ["<h2>Throughput</h2>", *_table(("ended", "clips", "frames", "time", "frames/s"), rows)]
    parts += ["<h2>CPU time by stage</h2>", *_table(("stage", "CPU time", "share"), stages)]
    if found.planned > found.whole and runs[-1].made > 0:
        left_s = (found.planned - found.whole) * runs[-1].seconds / runs[-1].made
        parts.append(f"<p>The {found.planned - found.whole} missing clips take about {left_s / 60:.0f} minutes.</p>")
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    cells += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return ["<table>", *cells, "</table>"]
