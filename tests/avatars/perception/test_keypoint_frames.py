"""Keypoints that another program wrote land on the frames that their numbers name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avatars.errors import InputError
from avatars.perception.imported_keypoints import read_keypoints

PERSON = {
    "pose_keypoints_2d": np.stack([np.arange(25.0) + 9, np.arange(25.0) + 9, np.full(25, 0.8)], 1).ravel().tolist()
}


def openpose(folder: Path, numbers, name: str = "clip_{:012d}_keypoints.json") -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / name.format(number)).write_text(json.dumps({"people": [PERSON]}))
    return folder


def mmpose(path: Path, numbers) -> Path:
    person = {"keypoints": [[9 + i, 20 + i] for i in range(133)], "keypoint_scores": [0.9] * 133}
    path.write_text(json.dumps([{"frame_id": number, "instances": [person]} for number in numbers]))
    return path


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        (range(5, 10), [0] * 5 + [1] * 5),
        ([0, 1, 4, 7], [1, 1, 0, 0, 1, 0, 0, 1, 0, 0]),
        (range(1, 11), [1] * 10),
        ([2, 3, 10], [0, 1, 1, 0, 0, 0, 0, 0, 0, 1]),
        (range(100, 110), [1] * 10),
        ([3], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ],
    ids=["late", "gaps", "from one", "from one with gaps", "cut out whole", "one"],
)
def test_the_number_tells_the_frame(tmp_path: Path, numbers, wanted) -> None:
    found = read_keypoints(openpose(tmp_path / "op", numbers), (480, 640), 10)
    assert found.valid.int().tolist() == wanted
    assert read_keypoints(mmpose(tmp_path / "k.json", numbers), (480, 640), 10).valid.int().tolist() == wanted


@pytest.mark.parametrize("numbers", [range(12), range(50, 55), range(3, 12)])
def test_numbers_beyond_the_video_are_refused(tmp_path: Path, numbers) -> None:
    with pytest.raises(InputError, match="not of the same video"):
        read_keypoints(openpose(tmp_path / "op", numbers), (480, 640), 10)


def test_two_clips_in_one_folder_are_refused(tmp_path: Path) -> None:
    openpose(tmp_path / "op", range(3))
    with pytest.raises(InputError, match="same number"):
        read_keypoints(openpose(tmp_path / "op", range(3), "other_{:012d}_keypoints.json"), (480, 640), 10)
