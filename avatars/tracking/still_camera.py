"""Frames of a clip -> how far the camera moved between them, from what lies around the person, where that tells.

Along a single edge a shift cannot be seen (the aperture problem), and on a bare wall none can. So the camera is
measured by places that tell in both directions, and a move counts only when such places agree on it and nothing that
would have changed by it is found unchanged: a television, a fan, a curtain or a shadow that moves before a wall is not
the camera.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

LONG_SIDE = 640
SIDE_MARGIN, TOP_MARGIN = 0.24, 0.12
"""Shares of the frame's width and height that are taken for background: a capture's person stands in the middle."""
WINDOW = 15
"""Side of the places that are compared, pixels."""
LEAST_CHANGE = 2.0
"""Mean square of the gradient, (gray levels per pixel)^2, that a place must have in its weaker direction;
in a dim picture less."""
ROUNDNESS = 0.08
"""Least ratio of the structure tensor's smaller eigenvalue to its larger: less is an edge."""
OVER_NOISE, MOST_NOISE = 8.0, 2.5
"""How many times the gradient's mean square must exceed the noise's; noise is never taken for more, which is what a
standard deviation of 8 gray levels gives: a picture that is full of texture has no quiet part."""
MIN_POINTS = 6
MOST_UNMOVED = 0.15
"""Share of the places that a move would change which may be found unchanged."""
LEAST_EXPLAINED = 0.3
"""Share of them that must be found where the move puts them."""
WIDE = 0.3
"""Share of the frame's width over which places spread that cannot all lie on one thing beside the person."""
ONE_THING = 0.6, 0.5
"""Shares of the places, and of the frames, that must agree on a move where all places may lie on one thing."""
ONE_THING_UNMOVED = 0.05
"""`MOST_UNMOVED` there."""
SHADED = 0.3
"""How dark a shadow may be, relative to the wall in light."""
COLOR_STEP = 14.0
"""Gray levels by which a color differs from the wall's, in light or in shadow."""
ALIKE = 0.7
"""Least normalized correlation of two pictures of one place."""
STILL_PX = 1.0
BAR_LEVEL = 24
"""A black bar beside the picture is not brighter."""
PROBES = np.array([(x, y) for x in (0.1, 0.5, 0.9) for y in (0.1, 0.5, 0.9) if (x, y) != (0.5, 0.5)])
"""Where a move's size is told, as shares of width and height."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraMotion:
    """Where the background went."""

    places: Float[np.ndarray, "frames probes 2"]
    """Of `PROBES`, in shares of the longer side; NaN in frames where the background does not tell."""
    reference: int

    @property
    def drift(self) -> Float[np.ndarray, " frames"]:
        """Median shift against the reference frame, as a share of the longer side; NaN where it cannot be told."""
        return _median_shift(self.places - self.places[self.reference])

    @property
    def told(self) -> Bool[np.ndarray, " frames"]:
        """Frames other than the reference in which the background says how the camera stood."""
        told = np.isfinite(self.places[:, 0, 0])
        told[self.reference] = False
        return told

    @property
    def travel(self) -> float:
        """The largest shift between two frames, without the one frame that is farthest from all others; NaN where
        fewer than two frames beside the reference tell."""
        told = self.told.copy()
        if told.sum() < min(2, len(told) - 1):
            return float("nan")
        told[self.reference] = True
        places = self.places[told]
        apart = _median_shift(places[:, None] - places[None])
        if len(apart) > 2:
            usual = np.delete(np.arange(len(apart)), np.median(apart, 1).argmax())
            apart = apart[np.ix_(usual, usual)]
        return float(apart.max())


def camera_motion(frames: Sequence[UInt8[np.ndarray, "height width 3"]]) -> CameraMotion:
    """How the background lies in each frame relative to the middle one.

    Places with structure in both directions (Shi & Tomasi 1994) are followed there and back (Lucas & Kanade 1981; Kalal
    et al. 2010); where too few agree, binary features are matched (Rublee et al. 2011, "ORB"): these find larger moves.
    """
    rgb = [_reduced(frame) for frame in _without_bars(frames)]
    gray = [_cv2().cvtColor(frame, _cv2().COLOR_RGB2GRAY) for frame in rgb]
    middle = len(gray) // 2
    reference = _Reference.of(gray[middle], rgb[middle])
    others = [None if i == middle else reference.move_to(other) for i, other in enumerate(gray)]
    told = sum(move is not None for move in others)
    if told < ONE_THING[1] * (len(gray) - 1):
        others = [move if move is not None and move.sure else None for move in others]
    height, width = gray[middle].shape
    probes = PROBES * (width, height)
    places = np.full((len(gray), *probes.shape), np.nan)
    places[middle] = probes
    for i, move in enumerate(others):
        if move is not None:
            places[i] = move.of(probes)
    return CameraMotion(places / max(height, width), middle)


def camera_drift(frames: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Float[np.ndarray, " frames"]:
    """Median shift of the background against the middle frame, as a share of the longer side; NaN where the background
    does not tell, in the middle frame too when no other tells."""
    motion = camera_motion(frames)
    return motion.drift if motion.told.any() else np.full(len(frames), np.nan)


def _median_shift(difference: Float[np.ndarray, "*frames probes 2"]) -> Float[np.ndarray, "*frames"]:
    return np.median(np.linalg.norm(difference, axis=-1), axis=-1)


def _cv2() -> Any:  # its type stubs lack ORB and the optional arguments of the flow
    import cv2

    return cv2


def _without_bars(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Frames without black bars along their borders, which stand still however the camera moves."""
    brightest = np.max([frame.max(-1) for frame in frames], axis=0)
    rows = np.flatnonzero(np.quantile(brightest, 0.98, axis=1) > BAR_LEVEL)
    columns = np.flatnonzero(np.quantile(brightest, 0.98, axis=0) > BAR_LEVEL)
    if min(len(rows), len(columns)) < 2 * WINDOW:
        return list(frames)
    return [frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] for frame in frames]


def _reduced(frame: np.ndarray) -> np.ndarray:
    cv2 = _cv2()
    scale = LONG_SIDE / max(frame.shape)
    if scale >= 1.0:
        return np.ascontiguousarray(frame)
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    return cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)


def _background(size_hw: tuple[int, ...]) -> Bool[np.ndarray, "height width"]:
    """What lies around the person, less a border in which a place is cut."""
    height, width = size_hw
    mask = np.zeros(size_hw, bool)
    mask[WINDOW // 2 : -(WINDOW // 2), WINDOW // 2 : -(WINDOW // 2)] = True
    mask[round(TOP_MARGIN * height) :, round(SIDE_MARGIN * width) : round((1 - SIDE_MARGIN) * width)] = False
    return mask


@dataclass(frozen=True, slots=True, eq=False)
class _Move:
    """A similarity of the picture."""

    matrix: Float[np.ndarray, "2 3"]
    inside: Float[np.ndarray, "points 2"]
    """The places that agree on it, where they were."""
    sure: bool = False
    """Whether the frame alone tells: the places lie on more than one thing, or did not move."""

    @staticmethod
    def agreed(source: np.ndarray, target: np.ndarray, *, least_share: float) -> _Move | None:
        """What at least that share of the pairs follows (RANSAC): a shift where that explains them as well as a
        similarity does; None where they do not agree."""
        if len(source) < MIN_POINTS:
            return None
        cv2 = _cv2()
        cv2.setRNGSeed(0)
        matrix, agree = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=2.5)
        if matrix is None or agree.sum() < max(MIN_POINTS, least_share * len(source)):
            return None
        inside = agree[:, 0] == 1
        shift = np.median((target - source)[inside], axis=0)
        shifted = np.linalg.norm(target - source - shift, axis=-1) < 1.5
        if shifted.sum() < 0.9 * inside.sum():
            return _Move(matrix, source[inside])
        return _Move(np.concatenate([np.eye(2), shift[:, None]], 1), source[shifted])

    def of(self, points: np.ndarray) -> np.ndarray:
        """Where points go."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def size_px(self, size_hw: tuple[int, ...]) -> float:
        """Median shift of the probes."""
        probes = PROBES * (size_hw[1], size_hw[0])
        return float(_median_shift(self.of(probes) - probes))

    def undone(self, image: np.ndarray) -> np.ndarray:
        """`image` as it would look had the background not moved; 0 where it does not show."""
        cv2 = _cv2()
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, self.matrix, image.shape[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT)


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    """The frame with which the others are compared."""

    gray: UInt8[np.ndarray, "height width"]
    points: Float[np.ndarray, "points 2"]
    """x, y of places that tell in both directions."""
    cells: Bool[np.ndarray, "height width"]
    """Places with any structure, edges too, on a grid."""
    corners: Bool[np.ndarray, "height width"]
    """Around `points`."""
    shadow: Bool[np.ndarray, "height width"]
    """What may be the wall, in light or in shadow, by its color."""

    @staticmethod
    def of(gray: UInt8[np.ndarray, "height width"], rgb: UInt8[np.ndarray, "height width 3"]) -> _Reference:
        cv2 = _cv2()
        weaker, stronger = _structure(gray)
        background = _background(gray.shape)
        dimmed = min(float(np.median(gray[background])) / 128.0, 1.0)
        least = max(LEAST_CHANGE * dimmed**2, OVER_NOISE * _gradient_noise(gray))
        telling = background & (weaker > least) & (weaker > ROUNDNESS * stronger)
        peak = telling & (weaker >= cv2.dilate(np.where(telling, weaker, 0), np.ones((9, 9), np.uint8)))
        y, x = np.nonzero(peak)
        on_grid = np.zeros_like(background)
        on_grid[:: WINDOW // 2, :: WINDOW // 2] = True
        near = cv2.dilate(peak.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8)) > 0
        cells = background & on_grid & (stronger > least)
        points = np.stack([x, y], -1).astype(np.float32)
        return _Reference(gray, points, cells, near, _like_the_wall(rgb, background))

    def move_to(self, other: UInt8[np.ndarray, "height width"]) -> _Move | None:
        """How the background lies in `other`; None where that cannot be told."""
        if len(self.points) < MIN_POINTS:
            return None
        followed = _Move.agreed(*self._followed(other), least_share=0.5)
        if followed is not None and self._slight(followed):
            return replace(followed, sure=True)
        if followed is None and self._unchanged(other):
            return _Move(np.eye(2, 3), self.points, sure=True)
        for move in (followed, *self._farther(other)):
            judged = self._judged(move) if move is not None and self._witnessed(other, move) else None
            if judged is not None:
                return judged
        return _Move(np.eye(2, 3), self.points, sure=True) if self._unchanged(other) else None

    def _slight(self, move: _Move) -> bool:
        """Whether a move is too small to be witnessed, and need not be."""
        size_px, share = move.size_px(self.gray.shape), len(move.inside) / len(self.points)
        return size_px < (4 * STILL_PX if share > 0.8 else 2 * STILL_PX)

    def _farther(self, other: np.ndarray) -> Iterator[_Move | None]:
        """Larger moves: by larger windows, by what features agree on, and by following from there."""
        yield _Move.agreed(*self._followed(other, window=4 * WINDOW + 1), least_share=0.5)
        matched = _Move.agreed(*self._matches(other), least_share=0.2)
        if matched is None:
            return
        yield _Move.agreed(*self._followed(other, start=matched), least_share=0.5)
        if len(matched.inside) >= 2 * MIN_POINTS:
            yield matched

    def _judged(self, move: _Move) -> _Move | None:
        """A move is sure where the places that agree spread widely; what may be one thing must agree as a whole."""
        if self._wide(move):
            return replace(move, sure=True)
        height, width = self.gray.shape
        there, margin = move.of(self.points), WINDOW
        in_view = ((there > margin) & (there < (width - margin, height - margin))).all(-1)
        agree = (np.linalg.norm(self.points[:, None] - move.inside[None], axis=-1).min(1) < 3.0) & in_view
        return move if agree.sum() >= ONE_THING[0] * in_view.sum() and not self._shadow(move) else None

    def _shadow(self, move: _Move) -> bool:
        """Whether the places that agree on a move show nothing but the wall in light and in shadow."""
        x, y = move.inside.round().astype(int).T
        around = np.zeros(self.gray.shape, np.uint8)
        around[y, x] = 1
        around = _cv2().dilate(around, np.ones((WINDOW, WINDOW), np.uint8)) > 0
        return bool(self.shadow[around].mean() > 0.9)

    def _wide(self, move: _Move) -> bool:
        """Whether the places that agree lie on more than one thing beside the person."""
        low, high = np.quantile(move.inside[:, 0], (0.1, 0.9))
        return bool(high - low > WIDE * self.gray.shape[1])

    def _followed(
        self, other: np.ndarray, *, window: int = WINDOW, start: _Move | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points that are found again in `other`, and from there in this frame where they were."""
        cv2 = _cv2()
        points, other = self.points[:, None], self._exposed(other)
        options: dict[str, Any] = {"winSize": (window, window), "maxLevel": 4, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
        guess = points if start is None else start.of(self.points)[:, None].astype(np.float32)
        there, found, _ = cv2.calcOpticalFlowPyrLK(self.gray, other, points, guess.copy(), **options)
        back, kept, _ = cv2.calcOpticalFlowPyrLK(other, self.gray, there, there - (guess - points), **options)
        same = (found[:, 0] == 1) & (kept[:, 0] == 1) & (np.linalg.norm((back - points)[:, 0], axis=-1) < 0.5)
        return self.points[same], there[same, 0]

    def _exposed(self, other: np.ndarray) -> np.ndarray:
        """`other` with the background as bright as in this frame, whatever automatic exposure did."""
        around = _background(other.shape)
        gain = np.median(self.gray[around]) / max(float(np.median(other[around])), 1.0)
        return np.clip(other * gain, 0, 255).astype(np.uint8)

    def _matches(self, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of the same binary features in both frames."""
        cv2 = _cv2()
        orb = cv2.ORB_create(800, fastThreshold=10)
        at_a, words_a = orb.detectAndCompute(self.gray, 255 * self.corners.astype(np.uint8))
        at_b, words_b = orb.detectAndCompute(other, None)
        if words_a is None or words_b is None:
            return np.zeros((0, 2)), np.zeros((0, 2))
        pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words_a, words_b)
        source = np.array([at_a[pair.queryIdx].pt for pair in pairs], np.float32).reshape(-1, 2)
        target = np.array([at_b[pair.trainIdx].pt for pair in pairs], np.float32).reshape(-1, 2)
        return source, target

    def _witnessed(self, other: np.ndarray, move: _Move) -> bool:
        """Whether what `move` would change is found where it puts it, and hardly any of it unchanged."""
        in_view = move.undone(np.full_like(other, 255)) == 255
        changes = self.cells & in_view & (_alike(self.gray, move.undone(self.gray)) < ALIKE)
        if not changes.any():
            return False
        unmoved, moved = _alike(self.gray, other), _alike(self.gray, move.undone(other))
        explained = changes & (moved > ALIKE) & (moved > unmoved + 0.15)
        unchanged = changes & (unmoved > ALIKE) & (unmoved > moved + 0.15)
        n_explained, n_unchanged = int(explained.sum()), int(unchanged.sum())
        return (
            n_explained >= max(MIN_POINTS, LEAST_EXPLAINED * changes.sum())
            and n_unchanged <= (MOST_UNMOVED if self._wide(move) else ONE_THING_UNMOVED) * (n_explained + n_unchanged)
            and (explained & self.corners).sum() >= MIN_POINTS
        )

    def _unchanged(self, other: np.ndarray) -> bool:
        """Whether places that tell in both directions look as they did, more so than if they were beside themselves."""
        there = self.cells & self.corners
        same = _alike(self.gray, other)
        beside = [_alike(self.gray, np.roll(other, step, axis)) for axis in (0, 1) for step in (-2, 2)]
        still = there & (same > 0.8) & (same > np.max(beside, axis=0) + 0.02)
        return bool(still.sum() >= max(MIN_POINTS, 0.15 * there.sum()))


def _like_the_wall(
    rgb: UInt8[np.ndarray, "height width 3"], background: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Pixels with the color of most of the background but for brightness, no brighter, and no darker than a shadow."""
    smooth = _cv2().GaussianBlur(rgb, (0, 0), 1.0).astype(np.float32)
    wall = np.median(smooth[background], 0)
    brightness = (smooth @ wall) / max(float(wall @ wall), 1.0)
    apart = np.abs(smooth - brightness[..., None] * wall).max(-1)
    return (apart < COLOR_STEP) & (brightness > SHADED) & (brightness < 1.1)


def _structure(gray: np.ndarray) -> tuple[Float[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
    """Smaller and larger eigenvalue of the structure tensor: mean squares of the gradient, (levels per pixel)^2."""
    cv2 = _cv2()
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.0)
    gx, gy = (cv2.Sobel(smooth, cv2.CV_32F, dx, dy, ksize=3, scale=0.125) for dx, dy in ((1, 0), (0, 1)))
    xx, yy, xy = (cv2.blur(a * b, (WINDOW, WINDOW)) for a, b in ((gx, gx), (gy, gy), (gx, gy)))
    mean, spread = (xx + yy) / 2, np.sqrt(np.square((xx - yy) / 2) + np.square(xy))
    return mean - spread, mean + spread


def _gradient_noise(gray: np.ndarray) -> float:
    """The gradient's mean square that noise alone gives: what the quieter fifth of the frame shows."""
    weaker, _ = _structure(gray)
    return min(float(np.quantile(weaker, 0.2)), MOST_NOISE)


def _alike(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "height width"]:
    """Normalized correlation of two pictures in a window about each pixel: 1 for the same but for brightness."""
    cv2 = _cv2()
    a, b = a.astype(np.float32), b.astype(np.float32)

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (WINDOW, WINDOW))

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    return (mean(a * b) - mean_a * mean_b) / np.sqrt(np.maximum(var_a, 1.0) * np.maximum(var_b, 1.0))
