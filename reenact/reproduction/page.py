"""One page of an experiment: counts, the baseline's table, curves, and which references were taken."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from actionrec.html_parts import html_table
from actionrec.report import HEADER, MOTIONS, comparable, curves, rows_of
from avatars.io.files import atomic_path
from avatars.viewing.report_style import PAGE_STYLE
from reenact.reproduction.recipe import Recipe
from reenact.reproduction.references import Verdict

if TYPE_CHECKING:
    from actionrec.protocols import Results


def write_page(
    recipe: Recipe, counts: Mapping[str, tuple[int, int]], results: Mapping[str, Results], chosen: Sequence[Verdict]
) -> Path:
    """Write `index.html`, which needs no other file; its path."""
    page = recipe.out / "index.html"
    title = f"{recipe.dataset.kind}: {len(recipe.identities)} avatars, {sum(v.accepted for v in chosen)} references"
    blocks = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(MOTIONS[recipe.motion_from])}</p>',
        "<h2>Baseline</h2>" + _baseline(results),
        *(f"<h2>{escape(name)}</h2>{_curves(result)}" for name, result in results.items() if "few-shot" in name),
        *(f"<h2>{escape(name)}, all numbers</h2>{html_table(HEADER, rows_of(r))}" for name, r in results.items()),
        "<h2>Counts</h2>" + _counts(counts),
        "<h2>References</h2>" + _references(chosen),
    ]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    with atomic_path(page) as aside:
        aside.write_text(f"{head}<style>{PAGE_STYLE}</style>{''.join(blocks)}</html>\n", encoding="utf-8")
    return page


def _baseline(results: Mapping[str, Results]) -> str:
    """Recognizers as rows, training sets as columns, top-1 in percent; published numbers where all is the same."""
    rows = []
    for name, result in results.items():
        if not name.startswith("baseline"):
            continue
        cells = [name.split(", ", 1)[1]]
        for arm in ("real", "real+synthetic"):
            outcome = result.outcome(arm)
            theirs = comparable(result, outcome)
            shown = f"{100 * outcome.accuracy.mean:.2f}"
            cells.append(shown if theirs is None else f"{shown} (published: {theirs:.2f})")
        gain = result.outcome("real+synthetic").gain
        rows.append([*cells, "" if gain is None else f"{gain} points"])
    return html_table(("recognizer", "real, top-1 %", "real + synthetic, top-1 %", "gain, 95 %"), rows)


def _curves(result: Results) -> str:
    data = base64.b64encode(curves(result)).decode()
    return (
        f'<img style="max-width: 760px" alt="accuracy by number of synthetic clips" src="data:image/png;base64,{data}">'
    )


def _counts(counts: Mapping[str, tuple[int, int]]) -> str:
    rows = [(name, str(asked), str(got), "" if asked == got else "differs") for name, (asked, got) in counts.items()]
    return html_table(("what", "asked for", "got", ""), rows)


def _references(chosen: Sequence[Verdict]) -> str:
    rows = [(v.label, v.id, v.subject, "taken" if v.accepted else v.reason) for v in chosen]
    return html_table(("class", "clip", "person", "verdict"), rows)
