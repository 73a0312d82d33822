"""Pictures side by side with captions, for looking at results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avatars.io.files import atomic_path

MARGIN_PX, CAPTION_PX = 6, 22
PAPER, INK = (255, 255, 255), (32, 32, 32)


def contact_sheet(
    path: str | Path, rows: Sequence[tuple[str, Sequence[np.ndarray]]], *, cell_height_px: int = 240
) -> Path:
    """Write a PNG with one captioned row of pictures (height, width, 3) uint8 RGB per entry, all of one height."""
    from PIL import Image, ImageDraw

    cells = [(caption, [_scaled(picture, cell_height_px) for picture in pictures]) for caption, pictures in rows]
    width = max(sum(c.width + MARGIN_PX for c in pictures) for _, pictures in cells) + MARGIN_PX
    row_height = CAPTION_PX + cell_height_px + MARGIN_PX
    sheet = Image.new("RGB", (width, row_height * len(cells) + MARGIN_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (caption, pictures) in enumerate(cells):
        top = row * row_height + MARGIN_PX
        draw.text((MARGIN_PX, top), caption, fill=INK, font_size=15)
        left = MARGIN_PX
        for picture in pictures:
            sheet.paste(picture, (left, top + CAPTION_PX))
            left += picture.width + MARGIN_PX
    with atomic_path(path) as aside:
        sheet.save(aside, format="PNG")
    return Path(path)


def _scaled(picture: np.ndarray, height_px: int):
    from PIL import Image

    image = Image.fromarray(picture)
    width_px = max(1, round(image.width * height_px / image.height))
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS)
