"""Everybody in a clip -> the one person who is followed: their path, and frames with the others painted over."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from avatars.errors import InputError
from avatars.io.files import atomic_path
from avatars.perception.containers import Detection

log = logging.getLogger(__name__)

HIPS, SHOULDERS, RADIUS = slice(0, 2), slice(2, 4), 4
SAMPLE_HZ = 12.0
"""People are looked for this often; in between they are taken to move evenly."""
MAX_GAP_S = 0.6
"""A path that is not seen for longer has ended."""
SPEED_RADII_S, REACH_RADII = 3.0, 0.3
"""How fast people move, in radii (half a body's height) per second, and by how much detections scatter."""
MAX_LOOKS_APART = 0.45
"""Hellinger distance of the color histograms of two torsos beyond which they are two people's."""
MIN_PATH_S = 0.3
"""Whoever is seen for less, or for less than half of a shorter clip, is taken for a mistake of the detector."""
MIN_SHARE = 0.25
"""The largest is chosen among those who are seen at least this share of the time of whom is seen longest."""
WIDTH, HEIGHT = 0.62, 1.15
"""Half axes of the ellipse, in radii, that is painted over."""
ABOUT = 1.4
"""Radii about the hips that are left in the picture."""

Person = Float[np.ndarray, " 5"]
"""Hips x, y; shoulders x, y; radius: see `MediaPipePeople.find`."""


@dataclass
class _Path:
    """One person's way through consecutive frames."""

    frames: list[int] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    looks: list[np.ndarray] = field(default_factory=list)

    def add(self, frame: int, person: Person, look: np.ndarray) -> None:
        self.frames.append(frame)
        self.people.append(person)
        self.looks.append(look)

    @property
    def look(self) -> np.ndarray:
        return np.mean(self.looks, axis=0)


@dataclass(frozen=True, slots=True)
class ChosenPerson:
    """Where the followed person is in each frame, and where the others are."""

    chosen: Float[np.ndarray, "frames 5"]
    """NaN where the person is not in view."""
    others: Float[np.ndarray, "frames most 5"]
    """NaN beyond their number."""

    @property
    def n_people(self) -> Int[np.ndarray, " frames"]:
        """How many people are in each frame."""
        return np.isfinite(self.chosen[:, 0]).astype(int) + np.isfinite(self.others[..., 0]).sum(1)

    def alone(self, frame: UInt8[np.ndarray, "height width 3"], index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The frame with all but `place` painted over, since a detector may follow whom the finder missed."""
        painted = np.empty_like(frame)
        painted[:] = np.median(frame[::8, ::8].reshape(-1, 3), axis=0)
        place = self.place(index, frame.shape[:2])
        painted[place] = frame[place]
        return painted

    def place(self, index: int, size_hw: tuple[int, ...]) -> Bool[np.ndarray, "height width"]:
        """What is about the chosen person, without the others, up to where the chosen one is nearer; nothing where
        they are away."""
        place = np.zeros(size_hw, bool)
        if not np.isfinite(self.chosen[index][0]):
            return place
        place[_about(self.chosen[index], size_hw)] = True
        others = self.others[index][np.isfinite(self.others[index][:, 0])]
        if len(others):
            reach = np.stack([_ellipse(person, size_hw) for person in others]).min(0)
            place &= (reach >= 1.0) | (reach >= _ellipse(self.chosen[index], size_hw))
        return place

    def confirmed(self, detection: Detection, index: int) -> Detection:
        """The detection, its mask within `place`, or nobody where its torso is not the chosen person's."""
        person = self.chosen[index]
        if detection.found and np.isfinite(person[0]):
            torso = detection.xy[[5, 6, 11, 12]].mean(0)
            if np.linalg.norm(torso - (person[HIPS] + person[SHOULDERS]) / 2) < 0.5 * person[RADIUS]:
                if detection.mask is None:
                    return detection
                place = self.place(index, detection.mask.shape)
                return replace(detection, mask=np.where(place, detection.mask, 0).astype(detection.mask.dtype))
        return Detection.nobody(None if detection.mask is None else np.zeros_like(detection.mask))

    def save(self, path: Path) -> None:
        """Write an npz."""
        with atomic_path(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(file, chosen=self.chosen, others=self.others)

    @staticmethod
    def load(path: Path) -> ChosenPerson:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            return ChosenPerson(archive["chosen"], archive["others"])


def choose_person(
    frames: Iterable[tuple[int, UInt8[np.ndarray, "height width 3"]]],
    finder: object,
    times_s: Float[np.ndarray, " frames"],
    which: Literal["largest"] | int,
    *,
    name: str = "",
) -> ChosenPerson:
    """Follow everybody through (index, frame) samples of a clip, and choose one: the largest, or by number from left to
    right, 0 first, in the first frame that shows several.

    A person who leaves and comes back is known by the colors they wear; where that is doubtful, they are not taken up
    again. Raises InputError for a number that is not there.
    """
    paths = _paths(frames, finder, times_s)
    people = _identities([path for path in paths if _lasting(path, times_s)], times_s)
    if not people:
        return ChosenPerson(np.full((len(times_s), 5), np.nan, np.float32), np.zeros((len(times_s), 0, 5), np.float32))
    chosen, why = _largest(people) if which == "largest" else _numbered(people, which, name)
    ours = {id(path) for path in people[chosen]}
    rows = _rows([path for path in paths if id(path) not in ours], times_s)
    most = max((len(row) for row in rows), default=0)
    others = np.full((len(times_s), most, 5), np.nan, np.float32)
    for row, found in zip(others, rows, strict=True):
        row[: len(found)] = np.reshape(found, (-1, 5))
    result = ChosenPerson(_interpolated(people[chosen], times_s), others)
    crowded = np.flatnonzero(result.n_people > 1)
    if len(crowded):
        log.warning(
            "%s: several people in %d of %d frames (first: frame %d); one is followed: %s. The others are ignored.",
            name, len(crowded), len(times_s), crowded[0], why,
        )  # fmt: skip
    return result


def _paths(frames: Iterable[tuple[int, np.ndarray]], finder: object, times_s: np.ndarray) -> list[_Path]:
    """Detections joined over time, the cheapest pairs of place and look first (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    paths: list[_Path] = []
    for index, frame in frames:
        people = finder.find(frame)  # type: ignore[attr-defined]
        looks = [_look(frame, person) for person in people]
        open_paths = [path for path in paths if times_s[index] - times_s[path.frames[-1]] <= MAX_GAP_S]
        cost = np.array([[_cost(path, p, k, index, times_s) for p, k in zip(people, looks, strict=True)]
                         for path in open_paths]).reshape(len(open_paths), len(people))  # fmt: skip
        pairs = {}
        if cost.size:
            pairs = {int(b): int(a) for a, b in zip(*linear_sum_assignment(np.minimum(cost, 1e3)), strict=True)}
        for i, (person, look) in enumerate(zip(people, looks, strict=True)):
            if i in pairs and cost[pairs[i], i] < 1e3:
                open_paths[pairs[i]].add(index, person, look)
            else:
                paths.append(_Path([index], [person], [look]))
    return paths


def _cost(path: _Path, person: Person, look: np.ndarray, index: int, times_s: np.ndarray) -> float:
    """How little a detection goes on with a path; 1000 where it cannot."""
    last, step_s = path.people[-1], times_s[index] - times_s[path.frames[-1]]
    radius = max(float(last[RADIUS]), 1.0)
    moved = (person[HIPS] + person[SHOULDERS] - last[HIPS] - last[SHOULDERS]) / 2
    away = float(np.linalg.norm(moved)) / radius
    larger = abs(float(np.log(max(person[RADIUS], 1.0) / radius)))
    if away > REACH_RADII + SPEED_RADII_S * step_s or larger > 0.5 + step_s:
        return 1e3
    return away + larger + 2.0 * _apart(path.looks[-1], look)


def _look(frame: np.ndarray, person: Person) -> np.ndarray:
    """Histogram of hue and saturation, and of brightness where there is no color, between shoulders and hips."""
    import cv2

    low = np.minimum(person[HIPS], person[SHOULDERS]) - 0.12 * person[RADIUS]
    high = np.maximum(person[HIPS], person[SHOULDERS]) + 0.12 * person[RADIUS]
    limit = np.array(frame.shape[1::-1])
    (left, top), (right, bottom) = (np.clip(v, 0, limit).astype(int) for v in (low, high))
    patch = frame[top:bottom, left:right]
    if patch.size == 0:
        return np.full(80, 1 / 80)
    hsv = cv2.cvtColor(patch, cv2.COLOR_RGB2HSV).reshape(-1, 3).astype(int)
    colored = hsv[:, 1] > 50
    bins = np.where(colored, hsv[:, 0] * 16 // 180 * 4 + hsv[:, 2] // 64, 64 + hsv[:, 2] // 16)
    histogram = np.bincount(bins, minlength=80).astype(float)
    return histogram / histogram.sum()


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Hellinger distance of two histograms, in [0, 1]."""
    return float(np.sqrt(max(0.0, 1.0 - np.sqrt(a * b).sum())))


def _lasting(path: _Path, times_s: np.ndarray) -> bool:
    clip_s = float(times_s[-1] - times_s[0])
    return len(path.frames) > 1 and times_s[path.frames[-1]] - times_s[path.frames[0]] >= min(MIN_PATH_S, clip_s / 2)


def _identities(paths: list[_Path], times_s: np.ndarray) -> list[list[_Path]]:
    """Paths of the same person: one after the other, alike in looks, and more alike than any two at the same time."""
    people: list[list[_Path]] = []
    for path in sorted(paths, key=lambda path: path.frames[0]):
        before = [p for p in people if p[-1].frames[-1] < path.frames[0]]
        ranked = sorted((_apart(np.mean([q.look for q in p], axis=0), path.look), i) for i, p in enumerate(before))
        sure = ranked and ranked[0][0] < MAX_LOOKS_APART and (len(ranked) < 2 or ranked[1][0] > ranked[0][0] + 0.1)
        if sure:
            before[ranked[0][1]].append(path)
        else:
            people.append([path])
    return people


def _largest(people: list[list[_Path]]) -> tuple[int, str]:
    sizes = [float(np.median([person[RADIUS] for path in paths for person in path.people])) for paths in people]
    seen = [sum(len(path.frames) for path in paths) for paths in people]
    often = [i for i, count in enumerate(seen) if count >= MIN_SHARE * max(seen)]
    best = max(often, key=lambda i: sizes[i])
    x = np.median([person[0] for path in people[best] for person in path.people])
    return best, f"the largest, about {2 * sizes[best]:.0f} px tall, mostly at x = {x:.0f} px"


def _numbered(people: list[list[_Path]], number: int, name: str) -> tuple[int, str]:
    """The person of this number, counted in the first frame that shows several (or the first frame with anybody)."""
    seen: dict[int, list[tuple[float, int]]] = {}
    for i, paths in enumerate(people):
        for path in paths:
            for frame, person in zip(path.frames, path.people, strict=True):
                seen.setdefault(frame, []).append((float(person[0]), i))
    frame = min((frame for frame, row in seen.items() if len(row) > 1), default=min(seen))
    row = sorted(seen[frame])
    if not 0 <= number < len(row):
        raise InputError(
            f"--person {number}: {name} shows {len(row)} {'person' if len(row) == 1 else 'people'} in frame {frame}; "
            f"they are counted from left to right, from 0 to {len(row) - 1}."
        )
    x, chosen = row[number]
    return chosen, f"number {number} from the left in frame {frame}, at x = {x:.0f} px"


def _interpolated(paths: list[_Path], times_s: np.ndarray) -> Float[np.ndarray, "frames 5"]:
    """The person in every frame of the clip, evenly moved between detections; NaN away from them."""
    out = np.full((len(times_s), 5), np.nan, np.float32)
    for path in paths:
        known = times_s[path.frames]
        edge = 0.75 / SAMPLE_HZ  # half a step between samples, and some
        within = (times_s >= known[0] - edge) & (times_s <= known[-1] + edge)
        rows = np.stack(path.people)
        out[within] = np.stack([np.interp(times_s[within], known, rows[:, k]) for k in range(5)], -1)
    return out


def _rows(paths: list[_Path], times_s: np.ndarray) -> list[list[Person]]:
    """In each frame, everybody on these paths."""
    out: list[list[Person]] = [[] for _ in times_s]
    for path in paths:
        rows = _interpolated([path], times_s)
        for i in np.flatnonzero(np.isfinite(rows[:, 0])):
            out[i].append(rows[i])
    return out


def _about(person: Person, size_hw: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the square that surely holds a person, of `ABOUT` radii each way from the hips."""
    (x, y), reach = person[HIPS], ABOUT * max(float(person[RADIUS]), 1.0)
    rows, columns = ((max(int(c - reach), 0), max(int(c + reach), 0)) for c in (y, x))
    return slice(*np.minimum(rows, size_hw[0])), slice(*np.minimum(columns, size_hw[1]))


def _ellipse(person: Person, size_hw: tuple[int, ...]) -> Float[np.ndarray, "height width"]:
    """Distance from a person's middle in half axes of the ellipse that holds them."""
    along = person[SHOULDERS] - person[HIPS]
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    dx, dy = x - person[0], y - person[1]
    length, breadth = dx * along[0] + dy * along[1], dx * along[1] - dy * along[0]
    return np.hypot(length / HEIGHT, breadth / WIDTH) / max(float(person[RADIUS]), 1.0)


def sample_step(times_s: Float[np.ndarray, " frames"]) -> int:
    """Every which frame is looked at for people."""
    rate = (len(times_s) - 1) / max(float(times_s[-1]), 1e-6)
    return max(1, round(rate / SAMPLE_HZ))
