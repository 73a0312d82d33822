"""A track drawn over its video: skeleton, outline of the fitted mesh, and mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from avatars.body import Body, load_body
from avatars.body.motion import Motion
from avatars.geometry.camera import Camera
from avatars.perception.containers import FACE, SKELETON
from avatars.tracking.track import Track

LEFT_RGB, RIGHT_RGB, MIDDLE_RGB = (90, 230, 90), (255, 140, 40), (240, 240, 240)
FITTED_RGB, OUTLINE_RGB, FACE_RGB = (70, 190, 255), (255, 60, 220), (255, 230, 90)
MIN_SCORE = 0.3
_LEFT = {1, 3, 5, 7, 9, 11, 13, 15, 17, 18, 19, *range(91, 112)}
_RIGHT = {2, 4, 6, 8, 10, 12, 14, 16, 20, 21, 22, *range(112, 133)}


def draw_overlay(frame: np.ndarray, track: Track, index: int, body: Body, *, keypoints: bool = True) -> np.ndarray:
    """Frame (height, width, 3) uint8 RGB with the track's frame `index` over it: the detector's skeleton (left green,
    right orange), the fitted mesh's outline (pink), the fitted skeleton (blue), all but the mask dimmed."""
    image = frame.copy()
    if track.masks is not None:
        share = 0.55 + 0.45 * (track.masks[index].numpy()[..., None] / 255.0)
        image = (image * share).astype(np.uint8)
    if not bool(track.motion.valid[index]):
        return image
    width = max(1, round(max(frame.shape[:2]) / 500))
    _draw_outline(image, mesh_outline(track.motion, track.camera, index, body), width)
    fitted = track.camera.project(body.pose_motion(track.motion[index : index + 1]).keypoints_133())[0]
    _draw_lines(image, fitted.numpy(), np.ones(133), width, one_color=FITTED_RGB)
    if keypoints:
        _draw_lines(image, track.keypoints.xy[index].numpy(), track.keypoints.score[index].numpy(), width)
    return image


def mesh_outline(motion: Motion, camera: Camera, index: int, body: Body) -> np.ndarray:
    """Silhouette of the fitted mesh in frame `index`: (height, width) uint8, 1 inside."""
    import cv2

    vertices = body.pose_motion(motion[index : index + 1]).vertices()
    silhouette = np.zeros(camera.size_hw, np.uint8)
    if bool((camera.to_camera(vertices)[..., 2] < 0.05).any()):
        return silhouette
    triangles = camera.project(vertices)[0][body.faces].numpy()
    corners = np.round(triangles * 8).clip(-1e6, 1e6).astype(np.int32)
    for triangle in corners:  # one call per triangle: fillPoly of all would cancel overlapping ones
        cv2.fillConvexPoly(silhouette, triangle, (1,), cv2.LINE_8, 3)
    return silhouette


def write_overlay(path: str | Path, track: Track, body: Body | None = None) -> Path:
    """Write the overlay of the whole video. Raises InputError when the video has gone."""
    from avatars.io.progress import progress
    from avatars.io.video import VideoWriter, probe, read_frames

    body = body or load_body(track.config.body)
    info = probe(track.video.path, fps=track.config.fps)
    with VideoWriter(path, fps=info.fps) as writer:
        for i, frame in enumerate(progress(read_frames(info), "Overlay", info.n_frames)):
            writer.write(draw_overlay(frame, track, i, body), float(info.times_s[i]))
    return Path(path)


def _draw_outline(image: np.ndarray, silhouette: np.ndarray, width: int) -> None:
    import cv2

    contours, _ = cv2.findContours(silhouette, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, OUTLINE_RGB, width, cv2.LINE_AA)


def _draw_lines(
    image: np.ndarray,
    xy: Float[np.ndarray, "133 2"],
    score: Float[np.ndarray, " 133"],
    width: int,
    one_color: tuple[int, int, int] | None = None,
) -> None:
    import cv2

    points = np.round(np.nan_to_num(xy) * 8).clip(-1e6, 1e6).astype(int)
    for a, b in SKELETON:
        if min(score[a], score[b]) > MIN_SCORE:
            color = one_color or _side_color(a, b)
            thick = width if a < 23 else max(1, width // 2)
            cv2.line(image, points[a].tolist(), points[b].tolist(), color, thick, cv2.LINE_AA, 3)
    for k in range(FACE.start, FACE.stop):
        if score[k] > MIN_SCORE:
            cv2.circle(image, points[k].tolist(), 4, one_color or FACE_RGB, -1, cv2.LINE_AA, 3)


def _side_color(a: int, b: int) -> tuple[int, int, int]:
    if a in _LEFT and b in _LEFT:
        return LEFT_RGB
    return RIGHT_RGB if a in _RIGHT and b in _RIGHT else MIDDLE_RGB
