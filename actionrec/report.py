"""Results -> a table on the terminal, curves, one self-contained HTML page, and JSON."""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actionrec.evaluation import by_group, calibration_error, holm, score
from actionrec.html_parts import html_table
from actionrec.mistakes import worst_mistakes
from actionrec.protocols import CellOutcome, Results
from actionrec.published import CLASSES, PAPER, TEST_PER_CLASS, TRAIN_PER_CLASS, published
from actionrec.training import TrainingConfig

HEADER = (
    "arm", "real / class", "synthetic / class", "top-1 %", "95 %", "gain %", "95 %", "p (Holm)", "top-5 %", "macro %",
    "loss", "steps",
)  # fmt: skip
MOTIONS = {
    "drawn": "Synthetic clips have the motions of the real clips that a run draws, and of no others.",
    "training": "Synthetic clips have the motions of any real training clip, also of those that a run does not draw.",
}


def table(results: Results) -> str:
    """Rows of numbers as text."""
    rows = [HEADER, *rows_of(results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def rows_of(results: Results) -> list[tuple[str, ...]]:
    """One a cell; probabilities are corrected for the number of arms that are held against `real`."""
    compared = [o.gain.p for o in results.outcomes if o.gain is not None]
    corrected = iter(holm(compared))
    return [_row(o, None if o.gain is None else next(corrected)) for o in results.outcomes]


def _row(outcome: CellOutcome, p: float | None) -> tuple[str, ...]:
    real, synthetic = outcome.train_clips
    n_classes = max(len(outcome.runs[0].classes), 1)
    scores = [score(run) for run in outcome.runs]
    gain = outcome.gain
    return (
        outcome.cell.arm + (f" ({outcome.collapsed} collapsed)" if outcome.collapsed else ""),
        f"{real / n_classes:g}" if real else "-",
        f"{synthetic / n_classes:.3g}" if synthetic else "-",
        f"{100 * outcome.accuracy.mean:.1f}",
        f"{100 * outcome.accuracy.low:.1f} to {100 * outcome.accuracy.high:.1f}",
        "-" if gain is None else f"{100 * gain.mean:+.1f}",
        "-" if gain is None else f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}",
        "-" if p is None else f"{p:.3f}",
        f"{100 * np.mean([s.top5 for s in scores]):.1f}" if n_classes > 5 else "-",
        f"{100 * np.mean([s.macro for s in scores]):.1f}",
        f"{outcome.final_loss:.2f}",
        f"{outcome.steps:.0f}",
    )


def summary(results: Results) -> dict[str, Any]:
    """Headline numbers: `real` against `real+synthetic` with the fewest real and the most synthetic clips."""
    n_real = min((o.cell.n_real for o in results.outcomes if o.cell.n_real is not None), default=None)
    without, with_ = results.outcome("real", n_real), results.outcome("real+synthetic", n_real)
    gain = with_.gain
    assert gain is not None
    return {
        "dataset": results.experiment.dataset,
        "accuracy_real": round(without.accuracy.mean, 4),
        "accuracy_real_synthetic": round(with_.accuracy.mean, 4),
        "gain": round(gain.mean, 4),
        "gain_low": round(gain.low, 4),
        "gain_high": round(gain.high, 4),
        "classes": len(results.classes),
        "seeds": len(results.experiment.seeds),
        "seconds": results.seconds,
        "n_real": n_real,
        "real_clips": with_.train_clips[0],
        "synthetic_clips": with_.train_clips[1],
        "test_clips": results.test_clips,
        "test_subjects": results.test_subjects,
        "arms": [
            {
                "arm": o.cell.arm, "n_real": o.cell.n_real, "n_synthetic": o.cell.n_synthetic,
                "train_clips": list(o.train_clips), "top1": round(o.accuracy.mean, 4),
                "top1_low": round(o.accuracy.low, 4), "top1_high": round(o.accuracy.high, 4),
                "macro": round(float(np.mean([score(r).macro for r in o.runs])), 4), "collapsed": o.collapsed,
                "gain": None if o.gain is None else [round(v, 4) for v in (o.gain.mean, o.gain.low, o.gain.high)],
                "p": None if o.gain is None else round(o.gain.p, 5), "final_loss": round(o.final_loss, 4),
                "steps": o.steps,
            }
            for o in results.outcomes
        ],
    }  # fmt: skip


def write_report(results: Results, folder: str | Path, *, command: str, json_path: Path | None = None,
                 more: dict[str, Any] | None = None) -> Path:  # fmt: skip
    """Write `results.json`, `curves.png` and `index.html`; the path of the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = summary(results) | (more or {}) | {"command": command, "training": results.experiment.training.as_dict()}
    for path in (folder / "results.json", *([json_path] if json_path else [])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    picture = curves(results)
    (folder / "curves.png").write_bytes(picture)
    page = folder / "index.html"
    page.write_text(_page(results, picture, command), encoding="utf-8")
    return page


def curves(results: Results) -> bytes:
    """Accuracy against the number of synthetic clips per class, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 4.2), dpi=110)
    lines = dict.fromkeys((o.cell.arm, o.cell.n_real) for o in results.outcomes)
    for arm, n_real in lines:
        if arm == "real" and any(other != arm and n == n_real for other, n in lines):
            continue  # where the others of this n_real begin
        points = _curve(results, arm, n_real)
        name = arm if n_real is None else f"{arm}, {n_real} real per class"
        mean = [100 * o.accuracy.mean for o in points]
        spread = [
            [m - 100 * o.accuracy.low for m, o in zip(mean, points, strict=True)],
            [100 * o.accuracy.high - m for m, o in zip(mean, points, strict=True)],
        ]
        axes.errorbar([_per_class(o) for o in points], mean, yerr=spread, marker="o", capsize=3, label=name)
    axes.axhline(100 / len(results.classes), color="0.6", linestyle=":", label="chance")
    axes.set_xlabel("synthetic clips per class")
    axes.set_ylabel("top-1 accuracy, %")
    axes.set_ylim(0, 100)
    axes.set_title(f"{results.experiment.dataset}: {len(results.classes)} classes, "
                   f"{len(results.experiment.seeds)} seeds, 95 % intervals", fontsize=10)  # fmt: skip
    axes.legend(fontsize=8)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def _curve(results: Results, arm: str, n_real: int | None) -> list[CellOutcome]:
    """An arm's outcomes by number of synthetic clips; curves that use real clips begin with none."""
    points = [o for o in results.outcomes if (o.cell.arm, o.cell.n_real) == (arm, n_real)]
    if arm not in ("real", "synthetic"):
        points += [o for o in results.outcomes if (o.cell.arm, o.cell.n_real) == ("real", n_real)]
    return sorted(points, key=_per_class)


def _per_class(outcome: CellOutcome) -> float:
    return outcome.train_clips[1] / len(outcome.runs[0].classes)


def _page(results: Results, picture: bytes, command: str) -> str:
    experiment = results.experiment
    caption = "A simulated data set: ray-cast people. " if experiment.dataset == "simulated" else ""
    notes = [
        f"{caption}{results.test_clips} test clips of {results.test_subjects or 'unstated'} subjects; "
        f"{len(experiment.seeds)} seeds; intervals: bootstrap over test subjects and seeds, gains paired.",
        MOTIONS[experiment.motion_from] if experiment.synthetic is not None else "",
        f"{results.skipped} clips skipped because their video cannot be used." if results.skipped else "",
        "Not checked, because not stated: " + ", ".join(f"{k} of {v} clips" for k, v in results.unchecked.items()) + "."
        if results.unchecked
        else "",
        *results.warnings,
    ]
    blocks = [f"<p>{html.escape(note)}</p>" for note in notes if note]
    blocks.append(html_table(HEADER, rows_of(results)))
    blocks.append(_published_table(results))
    image = base64.b64encode(picture).decode()
    blocks.append(f'<img alt="accuracy by number of synthetic clips" src="data:image/png;base64,{image}">')
    blocks.append("<h2>Accuracy by class, %</h2>" + _class_table(results))
    blocks.append("<h2>Accuracy by test person or recording, %</h2>" + _group_table(results))
    blocks.append("<h2>Confidence</h2>" + _calibration_table(results))
    blocks.append(worst_mistakes(results))
    blocks += [f"<h2>Confusion: {html.escape(str(o.cell))}</h2>" + _confusion(o) for o in results.outcomes]
    style = (
        "body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}td:first-child,th:first-child{text-align:left}"
        "img{max-width:100%}"
    )
    title = f"What did the synthetic clips gain? {experiment.dataset}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style><h1>{html.escape(title)}</h1><p><code>{html.escape(command)}</code></p>"
        + "".join(blocks)
        + "</html>\n"
    )


def _published_table(results: Results) -> str:
    """The paper's numbers beside ours, where everything that decides them is the same."""
    rows = []
    for outcome in results.outcomes:
        theirs = comparable(results, outcome)
        if theirs is not None:
            rows.append((outcome.cell.arm, f"{100 * outcome.accuracy.mean:.2f}", f"{theirs:.2f}"))
    if not rows:
        return ""
    return f"<h2>Beside the published numbers</h2><p>{PAPER}</p>" + html_table(("arm", "ours", "published"), rows)


def comparable(results: Results, outcome: CellOutcome) -> float | None:
    """The published accuracy in percent of an outcome's arm, when data set, number of classes, counts of clips,
    recognizer and training are the published ones; else None."""
    experiment = results.experiment
    names = {"ResNet50": "resnet50", "SlowFast": "slowfast"}
    kind = names.get(type(experiment.training.recognizer).__name__, "")
    theirs = published(experiment.dataset, kind, outcome.cell.arm)
    if theirs is None:
        return None
    classes = len(results.classes)
    as_theirs = TrainingConfig.preset("paper", recognizer=kind, device=experiment.training.device)
    trained = all(replace(experiment.training, seed=s) == replace(as_theirs, seed=s) for s in experiment.seeds)
    real, synthetic = outcome.train_clips
    counted = (real, synthetic) == (TRAIN_PER_CLASS * classes, TRAIN_PER_CLASS * classes * ("+" in outcome.cell.arm))
    tested = results.test_clips == TEST_PER_CLASS * classes
    return theirs if classes == CLASSES and trained and counted and tested else None


def _class_table(results: Results) -> str:
    columns = [str(o.cell) for o in results.outcomes]
    scores = [[score(run).per_class for run in o.runs] for o in results.outcomes]
    rows = []
    for name in results.classes:
        values = [[s[name] for s in runs if name in s] for runs in scores]
        rows.append((name, *(f"{100 * np.mean(v):.0f}" if v else "-" for v in values)))
    return html_table(("class", *columns), rows)


def _group_table(results: Results) -> str:
    columns = [by_group(o.runs) for o in results.outcomes]
    header = ("tested", *(str(o.cell) for o in results.outcomes))
    return html_table(header, [(name, *(f"{100 * c[name]:.0f}" for c in columns)) for name in columns[0]])


def _calibration_table(results: Results) -> str:
    """Mean confidence beside accuracy, and the expected calibration error, mean over seeds."""
    rows = []
    for outcome in results.outcomes:
        confident = np.mean([run.scores.max(1).mean() for run in outcome.runs])
        apart = np.mean([calibration_error(run) for run in outcome.runs])
        rows.append((str(outcome.cell), *(f"{100 * v:.1f}" for v in (confident, outcome.accuracy.mean, apart))))
    return html_table(("", "mean confidence %", "accuracy %", "expected calibration error, points"), rows)


def _confusion(outcome: CellOutcome) -> str:
    total = np.sum([score(run).confusion for run in outcome.runs], axis=0)
    classes = outcome.runs[0].classes
    return html_table(
        ("true / predicted", *classes),
        [(name, *(str(v) for v in row)) for name, row in zip(classes, total.tolist(), strict=True)],
    )
