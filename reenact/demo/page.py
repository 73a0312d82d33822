"""The page that `reenact demo` ends with: source action, avatar and result side by side, with scores and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from avatars.io.files import atomic_path
from avatars.viewing.report_style import PAGE_STYLE


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
        f'<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{PAGE_STYLE}</style>',
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
