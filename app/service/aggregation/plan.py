"""Which tasks of an aggregation are left: a pure function of the updates and of the stored sums.

Tasks sum the updates of each group over one span, then the groups' sums in their order. So the
bytes of the new model do not depend on which call does which task, or when (docs/decisions/0019). A
task reads a bounded number of updates. Its result is stored, so any call can go on from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from serverless_fl.domain import provenance
from serverless_fl.domain.records import Update
from serverless_fl.domain.round import Round

SUMS_FORM = "flat float64"  # in the sums' digests, so that a version never reads another form


@dataclass(frozen=True)
class Sums:
    """Stored sums: the digest that names them, and the number of examples in them."""

    digest: str
    examples: int


@dataclass(frozen=True)
class Group:
    """Updates that are summed in this order, apart from other groups."""

    updates: tuple[Update, ...]
    sums: Sums

    @classmethod
    def of(cls, updates: Iterable[Update]) -> Group:
        members = tuple(updates)
        digest = provenance.updates_digest(map(provenance.contribution, members))
        examples = sum(update.num_examples for update in members)
        return cls(members, Sums(_digest(f"{SUMS_FORM} {digest}"), examples))

    def first(self, count: int) -> Sums:
        """The sums of the first updates; of all of them, those that are known."""
        if count == len(self.updates):
            return self.sums
        return Group.of(self.updates[:count]).sums


@dataclass(frozen=True)
class Task:
    """Add up stored sums, then updates, of one span.

    `result` is the digest of the sums that the task stores; None where it makes the span of the new
    model.
    """

    span: int
    sums: tuple[Sums, ...]
    updates: tuple[Update, ...]
    result: str | None

    @property
    def reads(self) -> int:
        """The number of updates and sums that the task reads, of each the bytes of one span."""
        return len(self.sums) + len(self.updates)


@dataclass(frozen=True)
class Plan:
    """The updates of a round by groups. A task reads `most` updates or sums, but at least two."""

    groups: tuple[Group, ...]
    most: int

    @classmethod
    def of(cls, round_: Round, updates: Iterable[Update], step_updates: int) -> Plan:
        assert round_.cut is not None  # noqa: S101  (set before anything is aggregated)
        size, by_slot = round_.cut.group_size, {update.slot: update for update in updates}
        slots = provenance.groups(round_.cohort, by_slot, size)
        groups = tuple(Group.of(by_slot[slot] for slot in group) for group in slots)
        return cls(groups, min(size, step_updates))

    @property
    def one_task(self) -> bool:
        """Whether one task makes a whole span of the model, so that no sums are stored."""
        return len(self.groups) == 1 and len(self.groups[0].updates) <= self.most

    def model_tasks(self, span: int, stored: Collection[str]) -> Iterator[Task]:
        """The tasks left until a span of the new model is stored.

        `stored` holds the digests of the span's stored sums.
        """
        if self.one_task:
            yield Task(span, (), self.groups[0].updates, None)
            return
        yield from self.group_tasks(span, stored)
        for start, stop in _runs(len(self.groups), self.most):
            through = self._through(stop)
            last = stop == len(self.groups)
            if last or through.digest not in stored:
                before = (self._through(start),) if start else ()
                added = tuple(group.sums for group in self.groups[start:stop])
                yield Task(span, (*before, *added), (), None if last else through.digest)

    def group_tasks(self, span: int, stored: Collection[str]) -> Iterator[Task]:
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
                    yield Task(span, before, group.updates[start:stop], through.digest)

    def _through(self, count: int) -> Sums:
        """The sum of the first groups' sums."""
        first = self.groups[:count]
        digest = _digest(",".join(group.sums.digest for group in first))
        return Sums(digest, sum(group.sums.examples for group in first))


def full_groups(round_: Round, settled: Collection[int]) -> list[int]:
    """The groups of the cohort in which every slot is settled.

    A settled slot has an update, or none is to be expected of it.
    """
    slots = set(settled)
    return [g for g in range(round_.group_count) if slots.issuperset(round_.members(g))]


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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
