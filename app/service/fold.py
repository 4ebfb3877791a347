"""The arithmetic of a round, cut into cells that are folded one at a time and kept when done.

A cell is a span of the model times some of the cohort's updates: a group of them, or as many of it
as one call may read. Memory is bounded by a span, whatever the size of the model and the number of
updates, and a process that ends after any cell leaves all that it did to the next one: spans of the
new model are stored as its parts, and sums, where there are several groups, beside the updates.
Everything is a function of the updates, so it is the same bytes whoever folded what, and when: a
group that is full is folded before the round closes (`app.service.filling`, docs/decisions/0019).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from app.domain import provenance
from app.domain.errors import DigestMismatch
from app.domain.experiment import Experiment
from app.domain.records import Blob, Cell, ModelVersion, Update
from app.domain.round import Round
from app.service import keys, weights
from app.service.context import Context
from app.service.running import SUMS_FORM, Accumulator
from app.service.sources import of_base, of_update
from app.wire import spans
from app.wire.header import Layout


@dataclass(frozen=True)
class Work:
    """A cell that is to be done before the next one is asked for, and what it reads.

    `reads`: updates, or sums of several of them, each as much as lies in one span.
    """

    reads: int
    do: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Group:
    """Updates that are summed by themselves, in this order, and their digest."""

    updates: Sequence[Update]
    digest: str

    @property
    def examples(self) -> int:
        return sum(update.num_examples for update in self.updates)

    def first(self, count: int) -> Group:
        return self if count >= len(self.updates) else _group(self.updates[:count])


def _group(updates: Sequence[Update]) -> Group:
    digest = provenance.updates_digest(map(provenance.contribution, updates))
    return Group(updates, hashlib.sha256(f"{SUMS_FORM} {digest}".encode()).hexdigest())


class Spoilt(Exception):
    """An update is no longer what was accepted: its file is gone from the store, or altered.

    Nothing that runs here can bring that about. Where a store does not enforce what was signed, the
    client itself can.
    """

    def __init__(self, update: Update) -> None:
        super().__init__(update.blob.prefix)
        self.update = update


class Fold:
    """The aggregation of these updates of a round as this process sees it."""

    def __init__(
        self,
        context: Context,
        experiment: Experiment,
        round_: Round,
        updates: Sequence[Update],
        layout: Layout,
        base: ModelVersion,
    ) -> None:
        self.context = context
        self.experiment = experiment
        self.round = round_
        self.layout = layout
        assert round_.cut is not None  # noqa: S101  (settled before anything is folded)
        self.spans = spans.cut(layout, round_.cut.span_bytes)
        by_slot = {update.slot: update for update in updates}
        self.groups = [
            _group([by_slot[slot] for slot in group])
            for group in provenance.groups(round_.cohort, by_slot, round_.cut.group_size)
        ]
        self.done = self.bytes = 0  # cells that this process finished, bytes that it averaged
        self._most = min(round_.cut.group_size, context.limits.step_updates)  # reads of a cell
        self._prefix = keys.model_parts(round_)
        self._parts: dict[int, tuple[str, int]] = {}  # SHA-256 and bytes of the new model's parts
        self._digest = hashlib.sha256()
        self._digested = 0  # parts of which it is, from the first one on
        self._sums: dict[Cell, Blob] = {}  # that are known to be stored
        self._damaged: set[Cell] = set()  # sums to be formed again
        blobs, config = context.blobs, experiment.config
        start = of_base(blobs, base, layout, config.download_encoding)
        self._sources = {
            update.slot: of_update(blobs, update, layout, config.update_encoding, start)
            for update in updates
        }

    async def resume(self) -> None:
        """Find what other processes did before."""
        for key, size in (await self.context.blobs.sizes(f"{self._prefix}/")).items():
            number, _, sha256 = key.rpartition("/")[2].partition("-")
            self._parts.setdefault(int(number), (sha256, size))

    async def cells(self) -> AsyncIterator[Work]:
        """What is left to do until the model is there.

        Doing it raises Spoilt for an update, Gone or DigestMismatch for the base model, and Damaged
        for what was kept of the aggregation: once that is deleted, it is among what is left to do.
        """
        for number in range(len(self.spans)):
            if number in self._parts:
                continue
            if len(self.groups) == 1 and len(self.groups[0].updates) <= self._most:
                updates = self.groups[0].updates
                yield Work(len(updates), partial(self._average, number, updates))
                continue
            for group in self.groups:
                async for work in self._sums_of(number, group):
                    yield work
            async for work in self._mean_of(number):
                yield work

    async def sums(self) -> AsyncIterator[Work]:
        """What is left to do of the groups' sums. Raises as `cells`."""
        for number in range(len(self.spans)):
            for group in self.groups:
                async for work in self._sums_of(number, group):
                    yield work

    async def _sums_of(self, span: int, group: Group) -> AsyncIterator[Work]:
        """In runs of as many updates as a cell may read, each going on from the one before."""
        if await self._stored(Cell(span, group.digest)):
            return
        for start, stop, reads in _runs(len(group.updates), self._most):
            through = group.first(stop)
            if not await self._stored(Cell(span, through.digest)):
                yield Work(reads, partial(self._sum, span, group.first(start), through))

    async def _mean_of(self, span: int) -> AsyncIterator[Work]:
        """The same with sums in place of updates; what the last run gives is the new model's."""
        for start, stop, reads in _runs(len(self.groups), self._most):
            if stop == len(self.groups) or not await self._stored(self._through(span, stop)):
                yield Work(reads, partial(self._merge, span, start, stop))

    def _through(self, span: int, count: int) -> Cell:
        """The sums of so many groups' sums."""
        digests = ",".join(group.digest for group in self.groups[:count])
        return Cell(span, hashlib.sha256(digests.encode()).hexdigest())

    @property
    def unchecked(self) -> int:
        """So many parts of the new model `model` has to read: others stored them, or before others
        did.
        """
        return len(self.spans) - self._digested

    async def model(self) -> Blob:
        """The new model, once every cell is done. Raises Damaged, as `cells`."""
        parts = [self._parts[number] for number in range(len(self.spans))]
        blob = Blob(
            prefix=self._prefix,
            sha256="",
            parts=tuple(sha256 for sha256, _ in parts),
            sizes=tuple(size for _, size in parts),
        )
        keys_left = [blob.key(number) for number in range(self._digested, len(parts))]
        async with aclosing(weights.ahead(self.context.blobs, keys_left)) as fetched:
            async for data in fetched:
                number = self._digested
                if data is None or await weights.digest_of(data) != blob.parts[number]:
                    del self._parts[number]
                    raise weights.Damaged(blob.key(number))
                await asyncio.to_thread(self._digest.update, data)
                self._digested = number + 1
        return replace(blob, sha256=self._digest.hexdigest())

    async def _average(self, span: int, updates: Sequence[Update]) -> None:
        await self._put(span, await self._folded(span, updates, self._accumulator(span)))

    async def _sum(self, span: int, before: Group, through: Group) -> None:
        """Store the sums of a group's updates, going on from those of the first few of them."""
        accumulator = self._accumulator(span)
        if before.updates:
            await self._merged(accumulator, Cell(span, before.digest), before.examples)
        await self._folded(span, through.updates[len(before.updates) :], accumulator)
        await self._keep(Cell(span, through.digest), accumulator)

    async def _merge(self, span: int, start: int, stop: int) -> None:
        """Fold in the sums of these groups, after those of all groups before them."""
        accumulator = self._accumulator(span)
        if start:
            examples = sum(group.examples for group in self.groups[:start])
            await self._merged(accumulator, self._through(span, start), examples)
        for group in self.groups[start:stop]:
            await self._merged(accumulator, Cell(span, group.digest), group.examples)
        if stop == len(self.groups):
            await self._put(span, accumulator)
        else:
            await self._keep(self._through(span, stop), accumulator)

    def _accumulator(self, span: int) -> Accumulator:
        assert self.round.cut is not None  # noqa: S101  (settled before anything is folded)
        strategy = self.experiment.config.strategy
        return Accumulator(strategy, self.spans[span], self.round.cut.span_bytes)

    async def _folded(
        self, span: int, updates: Sequence[Update], accumulator: Accumulator
    ) -> Accumulator:
        """The sums after these updates, in their order."""
        piece = self.spans[span]
        ahead = asyncio.create_task(self._sources[updates[0].slot].read(piece))
        try:
            for update, following in zip(updates, [*updates[1:], None], strict=True):
                try:
                    values = await ahead
                except (weights.Gone, DigestMismatch):
                    await self._require_intact(update)
                    raise  # it is the base model
                if following is not None:  # is fetched while this one is folded
                    ahead = asyncio.create_task(self._sources[following.slot].read(piece))
                self.bytes += await accumulator.add(values, update.num_examples)
                del values  # while one is awaited no other one is held
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        return accumulator

    async def _require_intact(self, update: Update) -> None:
        """Raises Spoilt."""
        try:
            for number in range(len(update.blob.parts)):
                await weights.verified_part(self.context.blobs, update.blob, number)
        except (weights.Gone, DigestMismatch) as error:
            raise Spoilt(update) from error

    async def _merged(self, accumulator: Accumulator, cell: Cell, examples: int) -> None:
        prefix = keys.sums_blob(self.experiment.id, self.round.number, cell)
        try:
            if not await self._stored(cell):
                raise weights.Damaged(prefix)
            await accumulator.merge(self.context.blobs, self._sums[cell], examples)
        except weights.Damaged as error:
            self._damaged.add(cell)
            raise weights.Damaged(f"{prefix}/") from error

    async def _stored(self, cell: Cell) -> bool:
        if cell in self._damaged:
            return False
        if cell not in self._sums:
            blob = await self.context.repo.sums(self.experiment.id, self.round.number, cell)
            if blob is None:
                return False
            self._sums[cell] = blob
        return True

    async def _keep(self, cell: Cell, accumulator: Accumulator) -> None:
        experiment, number = self.experiment.id, self.round.number
        blob = await accumulator.keep(self.context.blobs, keys.sums_blob(experiment, number, cell))
        await self.context.repo.add_sums(experiment, number, cell, blob)
        self._sums[cell] = blob
        self._damaged.discard(cell)
        self.done += 1

    async def _put(self, span: int, accumulator: Accumulator) -> None:
        """Store a span of the new model."""
        data = await accumulator.result(b"" if span else self.layout.header)
        sha256 = await weights.put_part(self.context.blobs, self._prefix, span, data)
        self._parts[span] = (sha256, len(data))
        if span == self._digested:
            await asyncio.to_thread(self._digest.update, data)
            self._digested += 1
        self.done += 1


def _runs(count: int, most: int) -> Iterator[tuple[int, int, int]]:
    """So many things in runs: from where, to where, and what is read for it, two or `most` at most.

    Each run but the first reads also what came of the one before.
    """
    start = 0
    while start < count:
        stop = min(count, start + max(1, most - bool(start)))
        yield start, stop, stop - start + bool(start)
        start = stop
