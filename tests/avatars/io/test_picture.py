"""A picture is judged by its header: bombs and other sizes are refused before any pixel is unpacked."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.errors import InputError
from avatars.io.clean_plate import CleanPlate
from avatars.io.picture import read_picture
from avatars.viewing.rendering import read_background
from compose.places.photo import open_photo
from compose.preparation.depth import read_depth
from compose.preparation.occluders import read_mask


def bomb(path: Path, width: int = 60_000, height: int = 60_000) -> Path:
    """A PNG of some kilobytes that says it is this large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100_000)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    return path


READERS = {
    "a background": lambda path: read_background(str(path), (64, 64)),
    "a clean plate": lambda path: CleanPlate.read(path, (64, 64)),
    "a mask": lambda path: read_mask(path, (64, 64)),
    "a depth": lambda path: read_depth(path, (64, 64)),
    "a picture": read_picture,
}


@pytest.mark.parametrize("reader", sorted(READERS))
@pytest.mark.parametrize("width", [12_000, 60_000])
def test_a_picture_bomb_is_refused_by_every_reader(tmp_path, reader, width):
    with pytest.raises(InputError, match=r"pixels; at most|decompression bomb"):
        READERS[reader](bomb(tmp_path / "b.png", width, width))


@pytest.mark.parametrize("reader", sorted(READERS))
@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_what_is_no_picture_is_refused(tmp_path, reader, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError):
        READERS[reader](tmp_path / "a.png")


@pytest.mark.parametrize("reader", [*sorted(READERS), "a photo"])
def test_a_brush_whose_comment_is_said_to_fill_the_memory_is_no_picture(tmp_path, reader):
    brush = struct.pack(">5I4sI", 28 + 2**31 - 64, 2, 64, 64, 1, b"GIMP", 10)
    (tmp_path / "a.jpg").write_bytes(brush + b"\0" * 5000)
    read = open_photo if reader == "a photo" else READERS[reader]
    with pytest.raises(InputError, match=r"cannot identify|not a picture"):
        read(tmp_path / "a.jpg")


def test_a_picture_is_read_and_converted(tmp_path):
    Image.new("L", (8, 6), 7).save(tmp_path / "a.png")
    assert np.array(read_picture(tmp_path / "a.png", "RGB", size_hw=(6, 8))).tolist() == [[[7, 7, 7]] * 8] * 6
    with pytest.raises(InputError, match="expected \\(8, 6\\)"):
        read_picture(tmp_path / "a.png", size_hw=(8, 6))
