"""Straight edges of a room or a street in one picture -> focal length and where up is.

Most edges that people build run along three directions at right angles ("Manhattan world": Coughlan & Yuille 1999), and
where two of them vanish in the picture tells the focal length (Caprile & Torre 1990). Edges come from OpenCV's line
segment detector (von Gioi et al. 2010).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

LONG_SIDE = 960
SHORTEST = 0.03
"""Shortest edge that counts, as a share of the picture's diagonal: shorter ones point anywhere."""
MOST_SEGMENTS = 250
FEWEST_SEGMENTS = 24
TOLERANCE_DEG = 1.5
FOCALS = 0.5, 2.5
"""Focal lengths (over the longer side) that are looked through."""
LEAST_AGREEMENT = 0.55
"""Share of the edges' length that must run along the three directions."""
WIDEST = 1.2
"""Ratio of the longest to the shortest focal length that explains the edges nearly as well; beyond, nothing is told."""
NEARLY = 0.97
_STEPS, _HYPOTHESES, _CLIMBS = 33, 4000, 6


@dataclass(frozen=True, slots=True)
class RoomAxes:
    """What the edges of a picture tell of its camera."""

    focal_px: float
    up_cam: tuple[float, float, float]
    """Unit vector in the camera's axes (x right, y down, z ahead): the direction nearest to the picture's up."""
    agreement: float
    """Share of the edges' length that runs along one of the three directions, within 1.5 degrees."""
    focal_range_px: tuple[float, float]
    """Focal lengths that explain the edges nearly as well."""


def room_axes(
    rgb: UInt8[np.ndarray, "height width 3"], *, ignore: Bool[np.ndarray, "height width"] | None = None
) -> RoomAxes | None:
    """Focal length and up of the camera that took a picture, its center in the middle; None where edges do not tell:
    too few, along too many directions, or with too little perspective. Edges in `ignore` (people) do not count."""
    edges = _Edges.of(rgb, ignore)
    if edges is None:
        return None
    focals = np.geomspace(*FOCALS, _STEPS)
    scores, directions = _searched(edges, focals)
    best = int(scores.argmax())
    near = np.flatnonzero(scores > NEARLY * scores[best])
    step = focals[1] / focals[0]
    low, high = focals[near[0]] / math.sqrt(step), focals[near[-1]] * math.sqrt(step)
    if scores[best] < LEAST_AGREEMENT or high / low > WIDEST * step:
        return None
    around = np.arange(max(near[0] - 1, 0), min(near[-1] + 2, _STEPS))
    weights = np.clip(scores[around] - (1 - 2 * (1 - NEARLY)) * scores[best], 0, None)
    focal = float(np.exp((weights * np.log(focals[around])).sum() / weights.sum()))
    up = _upward(directions[best])
    range_px = float(low * edges.unit_px), float(high * edges.unit_px)
    return RoomAxes(focal * edges.unit_px, up, float(scores[best]), range_px)


@dataclass(frozen=True, slots=True)
class _Edges:
    """Line segments in units of the longer side, from the picture's center, y down."""

    start: Float[np.ndarray, "segments 2"]
    end: Float[np.ndarray, "segments 2"]
    unit_px: float
    """One unit in pixels of the picture as it was given."""

    @staticmethod
    def of(rgb: np.ndarray, ignore: np.ndarray | None) -> _Edges | None:
        import cv2

        height, width = rgb.shape[:2]
        scale = min(1.0, LONG_SIDE / max(height, width))
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        if scale < 1.0:
            gray = cv2.resize(gray, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(gray)[0]
        if found is None:
            return None
        lines = found[:, 0].astype(float) / scale
        middle = (lines[:, :2] + lines[:, 2:]) / 2
        if ignore is not None:
            column, row = middle.astype(int).T
            lines = lines[~ignore[row.clip(0, height - 1), column.clip(0, width - 1)]]
        length = np.hypot(*(lines[:, 2:] - lines[:, :2]).T)
        longest = np.argsort(-length, kind="stable")[:MOST_SEGMENTS]
        lines = lines[longest[length[longest] > SHORTEST * math.hypot(height, width)]]
        if len(lines) < FEWEST_SEGMENTS:
            return None
        center, unit = np.array([width / 2, height / 2]), float(max(height, width))
        return _Edges((lines[:, :2] - center) / unit, (lines[:, 2:] - center) / unit, unit)

    @property
    def length(self) -> Float[np.ndarray, " segments"]:
        return np.hypot(*(self.end - self.start).T)

    def agreement(self, vanishing: Float[np.ndarray, "hypotheses 3 3"]) -> Float[np.ndarray, " hypotheses"]:
        """Share of the edges' length that points at one of three vanishing points (homogeneous)."""
        middle = (self.start + self.end) / 2
        along = (self.end - self.start) / self.length[:, None]
        x = vanishing[..., :1] - vanishing[..., 2:] * middle[:, 0]
        y = vanishing[..., 1:2] - vanishing[..., 2:] * middle[:, 1]
        sine = np.abs(x * along[:, 1] - y * along[:, 0]) / np.sqrt(x * x + y * y + 1e-18)
        off = (sine / math.sin(math.radians(TOLERANCE_DEG))).min(1)
        return (self.length * np.clip(1 - off**2, 0, None)).sum(1) / self.length.sum()


def _searched(edges: _Edges, focals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each focal length the best agreement found and its three directions (rows), which are orthonormal."""
    rng = np.random.default_rng(0)
    scores, directions = np.zeros(len(focals)), np.tile(np.eye(3), (len(focals), 1, 1))
    found, focal = _drawn(edges, rng)
    cell = np.abs(np.log(focal)[:, None] - np.log(focals)).argmin(1)
    agreement = np.concatenate([edges.agreement(part) for part in np.array_split(_seen(found, focals[cell]), 16)])
    for i in np.argsort(agreement, kind="stable"):
        scores[cell[i]], directions[cell[i]] = agreement[i], found[i]
    best = int(scores.argmax())
    order = [*range(best, -1, -1), *range(best + 1, len(focals))]
    for i in order:  # from the best outwards, each also starting from what its neighbor found
        neighbor = i if i == best else i + 1 if i < best else i - 1
        starts = np.stack([directions[i], directions[neighbor]])
        scores[i], directions[i] = _climbed(edges, starts, float(focals[i]), rng)
    return scores, directions


def _drawn(edges: _Edges, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Triples of directions from two pairs of edges each, and the focal length at which they are at right angles."""
    ones = np.ones((len(edges.start), 1))
    lines = np.cross(np.hstack([edges.start, ones]), np.hstack([edges.end, ones]))
    share = edges.length / edges.length.sum()
    i, j, k, m = rng.choice(len(lines), (4, 8 * _HYPOTHESES), p=share)
    one, two = np.cross(lines[i], lines[j]), np.cross(lines[k], lines[m])
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = -(one[:, :2] * two[:, :2]).sum(1) / (one[:, 2] * two[:, 2])
        keep = np.flatnonzero((squared > FOCALS[0] ** 2) & (squared < FOCALS[1] ** 2))[:_HYPOTHESES]
    focal = np.sqrt(squared[keep])
    away = np.stack([focal, focal, np.ones_like(focal)], 1)
    first, second = _unit(one[keep] / away), _unit(two[keep] / away)
    return np.stack([first, second, np.cross(first, second)], 1), focal


def _climbed(
    edges: _Edges, starts: Float[np.ndarray, "starts 3 3"], focal: float, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """The better of some orthonormal triples, turned by small random angles as long as that helps."""
    directions = np.stack([_orthonormal(start) for start in starts])
    scores = edges.agreement(_seen(directions, np.full(len(directions), focal)))
    best, score = directions[scores.argmax()], float(scores.max())
    for size in np.geomspace(0.03, 0.001, _CLIMBS):
        turned = best @ _rotations(rng.normal(0, size, (20, 3)))
        tried = edges.agreement(_seen(turned, np.full(len(turned), focal)))
        if tried.max() > score:
            best, score = turned[tried.argmax()], float(tried.max())
    return score, best


def _seen(directions: np.ndarray, focal: np.ndarray) -> np.ndarray:
    """Where directions vanish in the picture (homogeneous)."""
    return directions * np.stack([focal, focal, np.ones_like(focal)], 1)[:, None, :]


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(rows)
    return u @ vt


def _rotations(axis_angles: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3 3"]:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(axis_angles).as_matrix()


def _upward(directions: np.ndarray) -> tuple[float, float, float]:
    """Of three directions the one nearest to the picture's up."""
    nearest = directions[np.abs(directions[:, 1]).argmax()]
    x, y, z = nearest if nearest[1] < 0 else -nearest
    return float(x), float(y), float(z)
