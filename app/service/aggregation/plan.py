"""Which tasks of a weighted mean are left: a pure function of the updates and of the stored sums.

Tasks sum the updates of each group over one span, then the groups' sums in their order. So the
bytes of the new model do not depend on which call does which task, or when (docs/decisions/0019). A
task reads a bounded number of updates. Its result is stored, so any call can go on from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

from serverless_fl.domain import provenance
from serverless_fl.domain.records import Update
from serverless_fl.domain.round import Round

SUMS_FORM = "flat float64"  # in the sums' digests, so that a version never reads another form


@dataclass(frozen=True)
class Sums:
    """Stored sums: the digest that names them, and the weight of the updates in them."""

    digest: str
    weight: float


@dataclass(frozen=True)
class Group:
    """Updates that are summed in this order, apart from other groups, and their weights."""

    updates: tuple[Update, ...]
    weights: tuple[float, ...]
    sums: Sums

    @classmethod
    def of(cls, updates: Iterable[Update], weights: Iterable[float]) -> Group:
        members, shares = tuple(updates), tuple(weights)
        digest = provenance.updates_digest(
            provenance.contribution(update, None if weight == update.num_examples else weight)
            for update, weight in zip(members, shares, strict=True)
        )
        return cls(members, shares, Sums(digest_of(f"{SUMS_FORM} {digest}"), total(shares)))

    def first(self, count: int) -> Sums:
        """The sums of the first updates; of all of them, those that are known."""
        if count == len(self.updates):
            return self.sums
        return Group.of(self.updates[:count], self.weights[:count]).sums


@dataclass(frozen=True)
class SumTask:
    """Add up stored sums, then updates by their weights, of one span.

    `result` is the digest of the sums that the task stores; None where it makes the span of the new
    model.
    """

    span: int
    sums: tuple[Sums, ...]
    updates: tuple[Update, ...]
    weights: tuple[float, ...]
    result: str | None

    @property
    def reads(self) -> int:
        """The number of updates and sums that the task reads, of each the bytes of one span."""
        return len(self.sums) + len(self.updates)


@dataclass(frozen=True)
class UnmaskTask:
    """Take some of the streams off the sums of masked updates over a span.

    `sums` and `result` are the digests of stored sums; no result where the task takes the last
    streams off and makes the span of the new model.
    """

    span: int
    sums: str
    streams: slice
    result: str | None
    reads: int = 1


@dataclass(frozen=True)
class Plan:
    """The updates of a round by groups. A task reads `most` updates or sums, but at least two."""

    groups: tuple[Group, ...]
    most: int

    @classmethod
    def of(
        cls,
        round_: Round,
        updates: Iterable[Update],
        step_updates: int,
        weights: Mapping[int, float] | None = None,
    ) -> Plan:
        """`weights` by slot, by default the numbers of examples. Updates of weight 0 are left out.

        None has a weight of 0 unless all updates of the round are known.
        """
        assert round_.cut is not None  # noqa: S101  (set before anything is aggregated)
        by_slot = {update.slot: update for update in updates}
        if weights is None:
            weights = {slot: update.num_examples for slot, update in by_slot.items()}
        slots = provenance.groups(round_.cohort, by_slot, round_.cut.group_size)
        kept = [[slot for slot in group if weights[slot]] for group in slots]
        groups = tuple(
            Group.of((by_slot[slot] for slot in group), (weights[slot] for slot in group))
            for group in kept
            if group
        )
        return cls(groups, min(round_.cut.group_size, step_updates))

    @property
    def one_task(self) -> bool:
        """Whether one task makes a whole span of the model, so that no sums are stored."""
        return len(self.groups) == 1 and len(self.groups[0].updates) <= self.most

    def model_tasks(self, span: int, stored: Collection[str]) -> Iterator[SumTask]:
        """The tasks left until a span of the new model is stored.

        `stored` holds the digests of the span's stored sums.
        """
        if self.one_task:
            group = self.groups[0]
            yield SumTask(span, (), group.updates, group.weights, None)
            return
        yield from self.group_tasks(span, stored)
        for start, stop in _runs(len(self.groups), self.most):
            through = self._through(stop)
            last = stop == len(self.groups)
            if last or through.digest not in stored:
                before = (self._through(start),) if start else ()
                added = tuple(group.sums for group in self.groups[start:stop])
                yield SumTask(span, (*before, *added), (), (), None if last else through.digest)

    def unmasked_tasks(
        self, span: int, stored: Collection[str], streams: int, most: int
    ) -> Iterator[SumTask | UnmaskTask]:
        """As `model_tasks`, of masked updates: a task takes at most `most` streams off the sum."""
        if streams <= most:
            yield from self.model_tasks(span, stored)
            return
        total = self._through(len(self.groups)).digest
        stops = [*range(most, streams, most), streams]
        names = [total, *(digest_of(f"{total} without {n} of {streams} streams") for n in stops)]
        known = [place for place, name in enumerate(names) if name in stored]
        if not known:
            for task in self.model_tasks(span, stored):
                yield task if task.result is not None else replace(task, result=total)
        for place in range(max(known, default=0), len(stops)):
            some = slice(place * most, stops[place])
            result = names[place + 1] if stops[place] < streams else None
            yield UnmaskTask(span, names[place], some, result)

    def group_tasks(self, span: int, stored: Collection[str]) -> Iterator[SumTask]:
        """The tasks left until the sums of all groups over a span are stored.

        A group with more updates than a task may read is summed in several tasks: each goes on
        from the sums of the one before.
        """
        for group in self.groups:
            if group.sums.digest in stored:
                continue
            for start, stop in _runs(len(group.updates), self.most):
                through = group.first(stop)
                if through.digest not in stored:
                    before = (group.first(start),) if start else ()
                    some = slice(start, stop)
                    yield SumTask(
                        span, before, group.updates[some], group.weights[some], through.digest
                    )

    def _through(self, count: int) -> Sums:
        """The sum of the first groups' sums."""
        first = self.groups[:count]
        digest = digest_of(",".join(group.sums.digest for group in first))
        return Sums(digest, total(group.sums.weight for group in first))


def full_groups(round_: Round, settled: Collection[int]) -> list[int]:
    """The groups of the cohort in which every slot is settled.

    A settled slot has an update, or none is to be expected of it.
    """
    slots = set(settled)
    return [g for g in range(round_.group_count) if slots.issuperset(round_.members(g))]


def total(weights: Iterable[float]) -> float:
    """The sum from left to right. Python's `sum` of floats is not, from version 3.12 on."""
    return reduce(add, weights, 0)


def _runs(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut the places from 0 to `count` into runs [start, stop).

    A run has up to `most` places; each but the first has one less, because its task reads the sums
    of the run before, too.
    """
    start = 0
    while start < count:
        stop = min(count, start + max(1, most - bool(start)))
        yield start, stop
        start = stop


def digest_of(text: str) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
