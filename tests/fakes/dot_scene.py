"""Pictures whose answer is known, for stand-in networks that find a red and a blue bump."""

from __future__ import annotations

import numpy as np

from avatars.perception.containers import N_KEYPOINTS

SIZE_WH = (192, 256)  # of the network's input in the two stand-ins below
RED_POINTS = 100


def dot_scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames with a red and a blue bump, boxes of three sizes and shapes, and where the bumps are (pixels).

    The stand-ins' bins are whole input pixels: the bumps stand where such a pixel lies in the frame.
    """
    width, height = SIZE_WH
    boxes, red, blue, frames = [], [], [], []
    cases = [
        (1.0, (320.0, 240.0), (1.0, 0.6)),  # zoom, box center, share of the input's height and width that the box has
        (2.0, (250.0, 200.0), (0.4, 1.0)),
        (1.5, (400.0, 300.0), (1.0, 1.0)),
    ]
    for zoom, center, (tall, wide) in cases:
        half = np.array([width * wide, height * tall]) * zoom / 1.25 / 2  # detectors pad boxes by 1.25
        boxes.append([*(np.array(center) - half), *(np.array(center) + half)])
        where = [
            np.array(center) + (np.array(pixel) - np.array(SIZE_WH) / 2) * zoom for pixel in ((60, 90), (131, 170))
        ]
        red.append(where[0])
        blue.append(where[1])
        frames.append(_bumps((480, 640), where, zoom))
    return np.stack(frames), np.float32(boxes), np.array(red), np.array(blue)


def _bumps(size_hw, where, zoom):
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    frame = np.zeros((*size_hw, 3))
    for channel, (cx, cy) in zip((0, 2), where, strict=True):
        frame[..., channel] = 255 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (3 * zoom) ** 2))
    return np.rint(frame).astype(np.uint8)


def check_dots(model) -> None:
    frames, boxes, red, blue = dot_scene()
    found = model(frames=frames, boxes=boxes)
    assert found["xy"].shape == (3, N_KEYPOINTS, 2)
    wanted = np.concatenate([np.repeat(red[:, None], RED_POINTS, 1), np.repeat(blue[:, None], 33, 1)], 1)
    np.testing.assert_allclose(found["xy"], wanted, atol=0.01)  # pixels; swapped colors would exchange the two
    assert found["score"].min() > 0.9
