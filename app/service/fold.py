"""The arithmetic of a round, cut into cells that are folded one at a time and kept when done.

A cell is a span of the model times a group of the cohort's updates. Memory is bounded by a span,
whatever the size of the model and the number of updates, and a process that ends after any cell
leaves all that it did to the next one: spans of the new model are stored as its parts, and sums of
groups, where there are several, beside the updates. Everything is a function of the frozen list of
updates, so it is the same bytes whoever folded what.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from app.aggregation import STRATEGIES, Strategy
from app.domain import provenance
from app.domain.experiment import Experiment
from app.domain.records import Blob, Cell, ModelVersion, Update
from app.domain.round import Round
from app.service import keys, weights
from app.service.context import Context
from app.service.sources import of_base, of_update
from app.wire import codec, spans


class Fold:
    """One round's aggregation as this process sees it."""

    def __init__(
        self,
        context: Context,
        experiment: Experiment,
        round_: Round,
        updates: Sequence[Update],
        layout: codec.Layout,
        base: ModelVersion,
    ) -> None:
        self.context = context
        self.experiment = experiment
        self.round = round_
        self.layout = layout
        assert round_.cut is not None  # noqa: S101  (frozen with the list of updates)
        self.spans = spans.cut(layout, round_.cut.span_bytes)
        by_slot = {update.slot: update for update in updates}
        self.groups = [
            [by_slot[slot] for slot in group]
            for group in provenance.groups(round_.cohort, by_slot, round_.cut.group_size)
        ]
        self.done = self.bytes = 0  # cells that this process finished, bytes that it averaged
        self._prefix = keys.model_blob(experiment.id, round_.number)
        self._parts: dict[int, tuple[str, int]] = {}  # SHA-256 and bytes of the new model's parts
        self._digest = hashlib.sha256()
        self._digested = 0  # parts of which it is, from the first one on
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

    async def cells(self) -> AsyncIterator[None]:
        """Do every cell that is not done, in order. Raises KeyError, DigestMismatch."""
        for number, span in enumerate(self.spans):
            if number in self._parts:
                continue
            if len(self.groups) == 1:
                strategy = await self._folded(span, self.groups[0])
            else:
                for group in range(len(self.groups)):
                    if await self._sum(Cell(number, group)):
                        self.done += 1
                        yield
                strategy = await self._merged(number)
            await self._put(number, await asyncio.to_thread(_result, span, strategy))
            self.done += 1
            yield

    async def model(self) -> Blob:
        """The new model, once every cell is done."""
        parts = [self._parts[number] for number in range(len(self.spans))]
        blob = Blob(
            prefix=self._prefix,
            sha256="",
            parts=tuple(sha256 for sha256, _ in parts),
            sizes=tuple(size for _, size in parts),
        )
        for number in range(self._digested, len(parts)):  # done by others, or before others
            data = await weights.verified_part(self.context.blobs, blob, number)
            await asyncio.to_thread(self._digest.update, data)
            self._digested = number + 1
        return replace(blob, sha256=self._digest.hexdigest())

    async def _put(self, number: int, data: bytes) -> None:
        if number == 0:
            data = self.layout.header + data
        sha256 = await weights.put_part(self.context.blobs, self._prefix, number, data)
        self._parts[number] = (sha256, len(data))
        if number == self._digested:
            await asyncio.to_thread(self._digest.update, data)
            self._digested += 1

    async def _folded(self, span: spans.Span, group: Sequence[Update]) -> Strategy:
        """The strategy after these updates, in their order."""
        strategy = STRATEGIES[self.experiment.config.strategy]()
        ahead = asyncio.create_task(self._sources[group[0].slot].read(span))
        try:
            for update, following in zip(group, [*group[1:], None], strict=True):
                values = await ahead
                if following is not None:  # is fetched while this one is folded
                    ahead = asyncio.create_task(self._sources[following.slot].read(span))
                await asyncio.to_thread(strategy.add, values, update.num_examples)
                self.bytes += sum(array.nbytes for _, array in values)
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        return strategy

    async def _sum(self, cell: Cell) -> bool:
        """Store the sums of a group, unless they are; say whether that was to be done."""
        experiment, number = self.experiment.id, self.round.number
        if await self.context.repo.sums(experiment, number, cell) is not None:
            return False
        strategy = await self._folded(self.spans[cell.span], self.groups[cell.group])
        data = await asyncio.to_thread(lambda: spans.dump(strategy.partial()))
        blob = await weights.store(
            self.context.blobs,
            keys.sums_blob(experiment, number, cell),
            data,
            self.context.limits.part_bytes,
        )
        await self.context.repo.add_sums(experiment, number, cell, blob)
        return True

    async def _merged(self, span: int) -> Strategy:
        """The strategy after all groups, of their sums, in their order."""
        strategy = STRATEGIES[self.experiment.config.strategy]()
        for number, group in enumerate(self.groups):
            cell = Cell(span, number)
            blob = await self.context.repo.sums(self.experiment.id, self.round.number, cell)
            if blob is None:
                raise KeyError(f"the sums of {cell}")
            data = bytes(await weights.Reader(self.context.blobs, blob).read(0, blob.size))
            sums = spans.arrays(codec.layout_of(data), data)
            examples = sum(update.num_examples for update in group)
            await asyncio.to_thread(strategy.merge, sums, examples)
        return strategy


def _result(span: spans.Span, strategy: Strategy) -> bytes:
    return bytes(spans.pack(span, strategy.result()))
