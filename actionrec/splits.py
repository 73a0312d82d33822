"""Which clips an experiment trains and tests on: held-out subjects, n per class, and the synthetic clips that may help.

Every choice follows from a seed, and few-shot choices are nested: the clips of n = 1 are among those of n = 5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from actionrec.errors import DataError
from actionrec.manifest import ManifestClip

Backgrounds = Literal["random", "shuffled", "one-per-class"]
"""How synthetic clips are drawn: at random; evenly over all places, so that no place tells the class; or with one place
per class, the bias that shuffling takes away."""


@dataclass(frozen=True, slots=True)
class Split:
    """The two sides of an experiment."""

    train: tuple[ManifestClip, ...]
    test: tuple[ManifestClip, ...]


def by_class(clips: Iterable[ManifestClip]) -> dict[str, list[ManifestClip]]:
    """Clips by label, labels and clips in a fixed order."""
    groups: dict[str, list[ManifestClip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda c: c.id):
        groups[clip.label].append(clip)
    return dict(sorted(groups.items()))


def stated_split(clips: Sequence[ManifestClip]) -> Split:
    """The split that the manifest states. Raises DataError when a side is empty."""
    train = tuple(c for c in clips if c.split == "train")
    test = tuple(c for c in clips if c.split == "test")
    if not train or not test:
        raise DataError(
            f"Of {len(clips)} clips, {len(train)} are stated to be for training and {len(test)} for testing; both are "
            "needed. Build the manifest with a protocol, or hold subjects out."
        )
    return Split(train, test)


def hold_out_subjects(clips: Sequence[ManifestClip], *, share: float, seed: int) -> Split:
    """Split by subject: about `share` of the subjects are for testing.

    Raises DataError when clips state no subject or there are fewer than two subjects.
    """
    unknown = sum(not clip.subject for clip in clips)
    subjects = sorted({clip.subject for clip in clips})
    if unknown or len(subjects) < 2:
        raise DataError(
            f"Subjects cannot be held out: {unknown} of {len(clips)} clips state none, and {len(subjects)} are named."
        )
    order = np.random.default_rng([seed, 11]).permutation(len(subjects))
    count = min(max(round(share * len(subjects)), 1), len(subjects) - 1)
    tested = {subjects[i] for i in order[:count]}
    train = tuple(c for c in clips if c.subject not in tested)
    return Split(train, tuple(c for c in clips if c.subject in tested))


def few_per_class(
    clips: Iterable[ManifestClip], n: int, *, seed: int, first: Collection[str] = ()
) -> tuple[ManifestClip, ...]:
    """`n` clips of every class, of different subjects as far as there are enough; those that `first` names (as
    `references`) before all others.

    Raises DataError naming the classes that have fewer.
    """
    groups = by_class(clips)
    short = {label: len(group) for label, group in groups.items() if len(group) < n}
    if short:
        found = ", ".join(f"{label} {count}" for label, count in list(short.items())[:5])
        raise DataError(f"{len(short)} of {len(groups)} classes have fewer than {n} clips: {found}.")
    chosen = []
    for number, group in enumerate(groups.values()):
        order = spread(group, [c.subject for c in group], np.random.default_rng([seed, 23, number]))
        chosen += sorted(order, key=lambda clip: not references(clip) & set(first))[:n]
    return tuple(chosen)


def spread(clips: Sequence[ManifestClip], keys: Sequence[str], rng: np.random.Generator) -> list[ManifestClip]:
    """All clips in an order that takes the keys in turn, keys and clips of a key shuffled."""
    queues: dict[str, list[ManifestClip]] = defaultdict(list)
    for number in rng.permutation(len(clips)):
        index = int(number)
        queues[keys[index]].append(clips[index])
    order: list[ManifestClip] = []
    turn = 0
    while len(order) < len(clips):
        order += [queue[turn] for queue in queues.values() if turn < len(queue)]
        turn += 1
    return order


def references(clip: ManifestClip) -> set[str]:
    """All names by which a synthetic clip may refer to a real one as the source of its motion."""
    return {name for name in (clip.id, clip.source, PurePosixPath(clip.path).stem) if name}


def made_from(synthetic: Iterable[ManifestClip], real: Iterable[ManifestClip]) -> tuple[ManifestClip, ...]:
    """The synthetic clips whose motion was taken from one of the given real clips, which share its label.

    Raises DataError when a reference has another label than the clip made from it.
    """
    labels = {name: clip.label for clip in real for name in references(clip)}
    found = [clip for clip in synthetic if clip.source in labels]
    wrong = [clip for clip in found if labels[clip.source] != clip.label]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(found)} synthetic clips have another label than the clip that they copy; the first: "
            f"{wrong[0].id} is {wrong[0].label!r}, its reference {wrong[0].source} {labels[wrong[0].source]!r}."
        )
    return tuple(found)


def synthetic_per_class(
    clips: Iterable[ManifestClip], n: int, *, labels: Sequence[str], seed: int, backgrounds: Backgrounds = "random"
) -> tuple[ManifestClip, ...]:
    """At most `n` synthetic clips of every class, the references and identities taken in turn.

    Raises DataError when a class has no synthetic clip at all though some were asked for.
    """
    groups = by_class(clips)
    empty = [label for label in labels if not groups.get(label)]
    if n and empty:
        raise DataError(f"{len(empty)} of {len(labels)} classes have no synthetic clip: {', '.join(empty[:5])}.")
    chosen: list[ManifestClip] = []
    places = sorted({clip.background for group in groups.values() for clip in group})
    for number, label in enumerate(labels):
        group, rng = groups.get(label, []), np.random.default_rng([seed, 37, number])
        if backgrounds == "one-per-class" and group:
            own = [c for c in group if c.background == places[number % len(places)]]
            group = own or [c for c in group if c.background == group[0].background]
        keys = [c.background if backgrounds == "shuffled" else f"{c.source} {c.subject}" for c in group]
        chosen += spread(group, keys, rng)[:n]
    return tuple(chosen)


def equal_per_class(
    clips: Sequence[ManifestClip], *, seed: int, first: Collection[str] = ()
) -> tuple[ManifestClip, ...]:
    """As many clips of every class as the smallest class has; those that `first` names before all others, so that no
    synthetic clip loses the real one it was made from."""
    return few_per_class(clips, min(map(len, by_class(clips).values())), seed=seed, first=first)
