"""MediaPipe's person detector alone -> where all people of a frame stand; with `mediapipe_holistic`, the only file that
names it.

The first network of BlazePose (Bazarevsky et al. 2020) finds everybody; the whole of it goes on with one of them.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from avatars.perception.mediapipe_holistic import check_available, native_log_silenced

MIN_RADIUS = 0.04
"""Of the frame's longer side: smaller figures are not counted as people of the clip."""
SAME_RADII = 0.25
"""Hips nearer to each other, in radii, are one person's, found twice."""
_GRAPH = """
input_stream: "image"
output_stream: "detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""


class MediaPipePeople:
    """Finds everybody in a frame, about 10 ms each on one core."""

    def __init__(self) -> None:
        """Raises BackendMissing."""
        check_available()
        self._graph: Any = None

    def find(self, frame: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "people 5"]:
        """Middle of the hips x, y; middle of the shoulders x, y; radius of the circle about the hips that holds the
        whole body: all in pixels, one row per person."""
        with native_log_silenced(self._graph is None):
            self._graph = self._graph or _graph()
            found = self._graph.process({"image": frame}).detections or []
        scale = np.array(frame.shape[1::-1], np.float32)
        rows = []
        for detection in found:
            points = np.array([(p.x, p.y) for p in detection.location_data.relative_keypoints], np.float32) * scale
            hips, rim, shoulders = points[:3]
            rows.append([*hips, *shoulders, np.linalg.norm(rim - hips)])
        people = np.array(rows, np.float32).reshape(-1, 5)
        inside = ((people[:, :2] > -0.1 * scale) & (people[:, :2] < 1.1 * scale)).all(1)
        return distinct(people[inside & (people[:, 4] > MIN_RADIUS * max(frame.shape[:2]))])

    def close(self) -> None:
        """Free the network."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None


def distinct(people: Float[np.ndarray, "found 5"]) -> Float[np.ndarray, "people 5"]:
    """The first, surest, of those who stand in one place."""
    kept: list[int] = []
    for i, person in enumerate(people):
        apart = np.linalg.norm(people[kept, :2] - person[:2], axis=1)
        if not (apart < SAME_RADII * np.maximum(people[kept, 4], person[4])).any():
            kept.append(i)
    return people[kept]


def _graph() -> Any:
    importlib.import_module("mediapipe")
    solution_base = importlib.import_module("mediapipe.python.solution_base")
    config = importlib.import_module("mediapipe.framework.calculator_pb2").CalculatorGraphConfig()
    importlib.import_module("google.protobuf.text_format").Parse(_GRAPH, config)
    return solution_base.SolutionBase(graph_config=config, outputs=["detections"])
