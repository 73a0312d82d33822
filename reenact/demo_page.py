"""The page that `reenact demo` ends with: source action, avatar and result side by side, with scores and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from avatars.files import atomic_path

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1120px; padding: 0 1rem; color: #222; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; } p.lead { color: #555; margin-top: .2rem; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 14px; }
figure { margin: 0; } video, img { width: 100%; border-radius: 6px; background: #eee; display: block; }
figcaption { font-size: .88rem; color: #555; padding-top: .3rem; }
table { border-collapse: collapse; } td, th { padding: .25rem 1.2rem .25rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } tr + tr td { border-top: 1px solid #e4e4e4; }
code { background: #f3f3f3; padding: .1rem .3rem; border-radius: 4px; }
"""


@dataclass(frozen=True, slots=True)
class Reenactment:
    """One row of the page."""

    title: str
    figures: Sequence[tuple[Path, str]]
    """Video or picture inside the page's folder, and its caption."""


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    rows: Sequence[Reenactment],
    tables: Mapping[str, Sequence[tuple[str, str]]],
    command: str,
) -> Path:
    """Write the HTML page. Files that it shows are named relative to it, so the folder can be moved as a whole."""
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>',
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>',
    ]
    for row in rows:
        parts.append(f'<h2>{escape(row.title)}</h2><div class="row">')
        parts += [_figure(path.parent, file, caption) for file, caption in row.figures]
        parts.append("</div>")
    for heading, lines in tables.items():
        parts.append(f"<h2>{escape(heading)}</h2><table>")
        parts += [f'<tr><td>{escape(k)}</td><td class="number">{escape(v)}</td></tr>' for k, v in lines]
        parts.append("</table>")
    parts.append(f"<p>Made by <code>{escape(command)}</code></p></html>")
    with atomic_path(path) as aside:
        aside.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return path


def _figure(folder: Path, file: Path, caption: str) -> str:
    source = escape(file.relative_to(folder).as_posix(), quote=True)
    if file.suffix == ".mp4":
        shown = f'<video src="{source}" autoplay loop muted playsinline controls></video>'
    else:
        shown = f'<img src="{source}" alt="{escape(caption, quote=True)}">'
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"
