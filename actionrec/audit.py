"""What must not be on both sides of a split, checked before anything is trained: a leak is an error, not a warning."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from actionrec.errors import DataError
from actionrec.manifest import ManifestClip
from actionrec.splits import Split, references

Kind = Literal[
    "clip", "file", "bytes", "subject", "source video", "performance", "identity", "reference motion",
    "synthetic test clip", "stated split", "label",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)


class LeakError(DataError):
    """Training has seen something of the test set; the message names each kind with counts and an example."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing that is on both sides, or on the wrong one."""

    kind: Kind
    what: str
    """The thing itself: a subject, a source video ..."""
    train_id: str
    test_id: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found, and what could not be checked."""

    leaks: tuple[Leak, ...]
    unchecked: dict[str, int]
    """Clips that state nothing to check by, by what is missing."""

    def require_clean(self) -> Audit:
        """Itself, when nothing leaks. Raises LeakError."""
        if not self.leaks:
            return self
        counts = Counter(leak.kind for leak in self.leaks)
        parts = []
        for kind, count in counts.items():
            first = next(leak for leak in self.leaks if leak.kind == kind)
            parts.append(f"{kind} {count} ({first.what}: train {first.train_id or '-'}, test {first.test_id or '-'})")
        raise LeakError(f"{len(self.leaks)} leaks between training and test: {'; '.join(parts)}.")


def audit(split: Split, *, allow: Iterable[Kind] = ()) -> Audit:
    """Compare the two sides by everything that clips state.

    `allow` names kinds that a protocol shares on purpose: cross-view has the same subjects and performances on both
    sides. Raises DataError when it names an unknown kind.
    """
    allowed = set(allow)
    if allowed - set(KINDS):
        raise DataError(f"Unknown kind of leak: {', '.join(sorted(allowed - set(KINDS)))}; known: {', '.join(KINDS)}.")
    found = [
        *_shared(split, "clip", lambda c: {c.id}),
        *_shared(split, "file", lambda c: {c.path}),
        *_shared(split, "bytes", lambda c: {c.sha256}),
        *_shared(split, "subject", lambda c: {c.subject} if c.kind == "real" else set()),
        *_shared(split, "source video", lambda c: {c.source_video}),
        *_shared(split, "performance", lambda c: {c.source} if c.kind == "real" else set()),
        *_identities(split),
        *_references(split),
        *(Leak("synthetic test clip", c.source, "", c.id) for c in split.test if c.kind == "synthetic"),
        *_stated(split),
        *_labels(split),
    ]
    unchecked = {
        "subject": sum(not c.subject for c in (*split.train, *split.test)),
        "source video": sum(not c.source_video for c in (*split.train, *split.test) if c.kind == "real"),
        "identity": sum(not c.identity for c in split.train if c.kind == "synthetic"),
    }
    leaks = tuple(leak for leak in found if leak.kind not in allowed)
    return Audit(leaks, {what: count for what, count in unchecked.items() if count})


def _shared(split: Split, kind: Kind, names: Callable[[ManifestClip], set[str]]) -> list[Leak]:
    """A leak per name that both sides have; "" is no name."""
    train = _first_by(split.train, names)
    return [
        Leak(kind, name, train[name], test_id)
        for name, test_id in _first_by(split.test, names).items()
        if name and name in train
    ]


def _first_by(clips: Sequence[ManifestClip], names: Callable[[ManifestClip], set[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for clip in clips:
        for name in sorted(names(clip)):
            found.setdefault(name, clip.id)
    return found


def _identities(split: Split) -> list[Leak]:
    """Synthetic training clips whose avatar is, or was made from, a person of the test set."""
    tested = {c.subject: c.id for c in split.test if c.subject}
    leaks: dict[str, Leak] = {}
    for clip in split.train:
        if clip.kind == "synthetic":
            for person in {clip.identity, clip.subject} & set(tested):
                leaks.setdefault(person, Leak("identity", person, clip.id, tested[person]))
    return list(leaks.values())


def _references(split: Split) -> list[Leak]:
    """Synthetic training clips that copy the motion of a test clip."""
    tested = {name: c.id for c in split.test for name in references(c)}
    leaks: dict[str, Leak] = {}
    for clip in split.train:
        if clip.kind == "synthetic" and clip.source in tested:
            leaks.setdefault(clip.source, Leak("reference motion", clip.source, clip.id, tested[clip.source]))
    return list(leaks.values())


def _stated(split: Split) -> list[Leak]:
    """Clips that their manifest puts on the other side."""
    wrong = [Leak("stated split", c.split, c.id, "") for c in split.train if c.split == "test"]
    return wrong + [Leak("stated split", c.split, "", c.id) for c in split.test if c.split == "train"]


def _labels(split: Split) -> list[Leak]:
    """Equal bytes, or a copied motion, under another label: one of the two labels is wrong."""
    labels: dict[str, set[str]] = defaultdict(set)
    owner: dict[str, str] = {}
    for clip in (*split.train, *split.test):
        labels[clip.sha256].add(clip.label)
        owner.setdefault(clip.sha256, clip.id)
    return [Leak("label", " / ".join(sorted(l)), owner[sha], owner[sha]) for sha, l in labels.items() if len(l) > 1]
