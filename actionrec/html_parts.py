"""Tables and pictures of a page, as text."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, escaped."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def html_picture(image: UInt8[np.ndarray, "height width 3"], says: str) -> str:
    """A picture inside the page."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(says, quote=True)}" src="data:image/jpeg;base64,{data}">'
