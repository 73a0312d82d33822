"""The looks of a report: a page with sections, tables, and curves as SVG; everything inside one HTML file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { text-align: left; padding: 2px 14px 2px 0; overflow-wrap: anywhere; }
th { font-weight: 600; } figure { margin: 1em 0; } figcaption { color: #666; font-size: 0.9em; }
img { margin-right: 4px; background: #eee; } .curves { display: flex; flex-wrap: wrap; gap: 16px; }
svg text { font: 12px system-ui, sans-serif; fill: #444; }
"""

WIDTH_PX, HEIGHT_PX = 500, 190
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 52, 12, 26, 30


def page(title: str, sections: Mapping[str, str], style: str) -> str:
    """A whole page; sections are HTML by heading."""
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections.items())
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """A table of plain text."""
    cells = [f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows]
    top = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if head else ""
    return f"<table>{top}{''.join(cells)}</table>"


def curve(title: str, x: Sequence[float], y: Sequence[float], unit: str) -> str:
    """A curve as SVG with its mean, ticks at the ends, and a dot per point where there are few."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if not points:
        return ""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    (x0, x1), (y0, y1) = _span(xs), _span(ys)
    mean = sum(ys) / len(ys)

    def at(a: float, b: float) -> tuple[float, float]:
        right = LEFT_PX + (a - x0) / (x1 - x0) * (WIDTH_PX - LEFT_PX - RIGHT_PX)
        down = HEIGHT_PX - BOTTOM_PX - (b - y0) / (y1 - y0) * (HEIGHT_PX - TOP_PX - BOTTOM_PX)
        return round(right, 1), round(down, 1)

    line = " ".join(f"{u},{v}" for u, v in (at(*p) for p in points))
    dots = ""
    if len(points) <= 60:
        dots = "".join(f'<circle cx="{u}" cy="{v}" r="2.5" fill="#2266aa"/>' for u, v in (at(*p) for p in points))
    (left, bottom), (right, top), middle = at(x0, y0), at(x1, y1), at(x0, mean)[1]
    texts = [
        (LEFT_PX, 14, "start", f"{title}, mean {mean:.4g}"),
        (left - 6, bottom, "end", f"{y0:.3g}"),
        (left - 6, top + 8, "end", f"{y1:.3g}"),
        (left, HEIGHT_PX - 10, "start", f"{x0:.3g} {unit}"),
        (right, HEIGHT_PX - 10, "end", f"{x1:.3g} {unit}"),
    ]
    labels = "".join(f'<text x="{u}" y="{v}" text-anchor="{a}">{escape(t)}</text>' for u, v, a, t in texts)
    return (
        f'<svg width="{WIDTH_PX}" height="{HEIGHT_PX}" viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" role="img">'
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#bbb"/>'
        f'<path d="M{left} {middle}H{right}" stroke="#bbb" stroke-dasharray="4 4"/>'
        f'<polyline points="{line}" fill="none" stroke="#2266aa" stroke-width="1.5"/>{dots}{labels}</svg>'
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest, apart from each other."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


PAGE_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1120px; padding: 0 1rem; color: #222; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; } p.lead { color: #555; margin-top: .2rem; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 14px; }
figure { margin: 0; } video, img { width: 100%; border-radius: 6px; background: #eee; display: block; }
figcaption { font-size: .88rem; color: #555; padding-top: .3rem; }
table { border-collapse: collapse; } td, th { padding: .25rem 1.2rem .25rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } tr + tr td { border-top: 1px solid #e4e4e4; }
code { background: #f3f3f3; padding: .1rem .3rem; border-radius: 4px; }
"""
"""Of pages that show videos and pictures in rows."""
