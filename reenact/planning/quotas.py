"""How many clips are wanted of what -> which of the possible clips are made, and a table of what that covers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Quotas:
    """At most so many clips; None is no limit. What cannot be reached is told, never filled with something else."""

    clips: int | None = None
    """Of all."""
    per_class: int | None = None
    per_identity: int | None = None
    strata: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    """Of each value of a stratum: (("sex", (("female", 300), ("male", 300))), ...)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the quotas ask of a possible clip."""

    label: str
    identity: str
    strata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """Clips of one class, identity, or value of a stratum."""

    kind: str
    name: str
    clips: int
    wanted: int | None
    """Its quota; None where there is none."""

    @property
    def short(self) -> int:
        """How many are missing to the quota."""
        return 0 if self.wanted is None else max(self.wanted - self.clips, 0)


def chosen_by(quotas: Quotas, candidates: Sequence[Candidate], seed: int) -> list[int]:
    """Which candidates to make, in their order: those least covered first, until the quotas are full.

    Candidates of one class and identity are interchangeable to the quotas, so cells of these are filled one clip at a
    time; the cell whose fullest limit has most room goes first, ties by the seed.
    """
    if quotas == Quotas():
        return list(range(len(candidates)))
    order = np.random.default_rng(seed).permutation(len(candidates))
    cells: dict[Candidate, list[int]] = {}
    for index in order.tolist():
        cells.setdefault(candidates[index], []).append(index)
    names = list(cells)
    limits, member = _limits(quotas, names)
    sizes = np.array([len(cells[name]) for name in names]) @ member
    scale = np.maximum(np.where(np.isfinite(limits), limits, sizes), 1)
    filled = np.zeros(len(limits))
    left = np.array([len(cells[name]) for name in names])
    chosen: list[int] = []
    room = quotas.clips if quotas.clips is not None else len(candidates)
    while len(chosen) < room:
        share = np.where(member, (filled / scale)[None], 0.0)
        full = (member & (filled >= limits)[None]).any(1) | (left == 0)
        if full.all():
            break
        # fullest limit, then the sum over limits, so that identities and strata stay even within a class
        rank = share.max(1, initial=0.0) + 1e-3 * share.sum(1) + 1e-6 * (1.0 - left / left.max())
        cell = int(np.where(full, np.inf, rank).argmin())
        left[cell] -= 1
        filled[member[cell]] += 1
        chosen.append(cells[names[cell]][left[cell]])
    return sorted(chosen)


def _limits(quotas: Quotas, names: Sequence[Candidate]) -> tuple[np.ndarray, np.ndarray]:
    """The limits, and which of the cells each one counts (cells, limits). Classes and identities without a quota get
    an infinite one, so that they are filled evenly all the same."""
    limits: dict[tuple[str, str], float] = {}
    for cell in names:
        limits[("class", cell.label)] = np.inf if quotas.per_class is None else quotas.per_class
        limits[("identity", cell.identity)] = np.inf if quotas.per_identity is None else quotas.per_identity
    for stratum, values in quotas.strata:
        limits |= {(stratum, value): count for value, count in values}
    place = {key: i for i, key in enumerate(limits)}
    member = np.zeros((len(names), len(limits)), bool)
    for row, cell in enumerate(names):
        for key in (("class", cell.label), ("identity", cell.identity), *cell.strata):
            if key in place:
                member[row, place[key]] = True
    return np.array(list(limits.values()), float), member


def coverage(quotas: Quotas, candidates: Sequence[Candidate], possible: Sequence[Candidate]) -> list[CoverageRow]:
    """What `candidates` cover: a row for every class, identity and value of a stratum that is `possible` or wanted."""
    found = Counter(key for candidate in candidates for key in _keys(candidate))
    wanted = {(stratum, value): count for stratum, values in quotas.strata for value, count in values}
    rows = []
    for kind, name in sorted({key for candidate in possible for key in _keys(candidate)} | set(wanted), key=_order):
        limit = {"class": quotas.per_class, "identity": quotas.per_identity}.get(kind, wanted.get((kind, name)))
        rows.append(CoverageRow(kind, name, found[kind, name], limit))
    return rows


def _order(key: tuple[str, str]) -> tuple[int, str, str]:
    return ({"class": 0, "identity": 1}.get(key[0], 2), *key)


def _keys(candidate: Candidate) -> list[tuple[str, str]]:
    return [("class", candidate.label), ("identity", candidate.identity), *candidate.strata]


def coverage_table(rows: Sequence[CoverageRow], *, limit: int = 40) -> str:
    """The rows as text, by kind; of a long kind only the smallest and those that are short."""
    lines = []
    for kind in dict.fromkeys(row.kind for row in rows):
        some = [row for row in rows if row.kind == kind]
        counts = [row.clips for row in some]
        lines.append(f"{kind}: {len(some)}, {min(counts)} to {max(counts)} clips each")
        if len(some) > limit:
            some = sorted(some, key=lambda row: (-row.short, row.clips))[: limit // 4]
        width = max(len(row.name) for row in some)
        for row in some:
            asked = "" if row.wanted is None else f" of {row.wanted}"
            lines.append(f"  {row.name:<{width}}  {row.clips:6d}{asked}" + f"  short by {row.short}" * bool(row.short))
    return "\n".join(lines)
