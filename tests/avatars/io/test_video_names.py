"""Names with a colon are files, not protocols."""

from __future__ import annotations

import av
import numpy as np
import pytest

from avatars.io.video import write_video


@pytest.mark.parametrize("name", ["10:30.mp4", "run:1/clips/a.mp4", "http:x.mp4", "file:x.mp4"])
def test_a_video_is_written_under_a_relative_name_with_a_colon(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(name, np.zeros((3, 32, 32, 3), np.uint8))
    assert (tmp_path / name).is_file()
    with av.open(str(tmp_path / name)) as container:
        assert len(list(container.decode(video=0))) == 3
