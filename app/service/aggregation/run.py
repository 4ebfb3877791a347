"""Does the tasks of an aggregation: reads updates and sums, and stores sums and the new model.

Memory is bounded by a span of the model, whatever the size of the model and the number of updates.
A process that ends after any task leaves what it stored to the next one: the spans of the new
model are its parts, and sums stand beside the updates.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from app.service.aggregation.accumulator import Accumulator
from app.service.aggregation.plan import Plan, Sums, Task
from app.service.aggregation.readers import base_reader, update_reader
from app.service.context import Context
from app.service.files import stored
from app.service.records import keys
from serverless_fl.domain.errors import DigestMismatch
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import Blob, Cell, ModelVersion, Update
from serverless_fl.domain.round import Round
from serverless_fl.weights import spans
from serverless_fl.weights.header import Layout


class Spoilt(Exception):
    """The file of an accepted update is gone from the store, or altered.

    The coordinator never does that. A client can, where a store does not enforce what was signed.
    """

    def __init__(self, update: Update) -> None:
        super().__init__(update.blob.prefix)
        self.update = update


class Aggregation:
    """The aggregation of some updates of a round, as this process sees it."""

    @classmethod
    async def of(
        cls, context: Context, experiment: Experiment, round_: Round, updates: list[Update]
    ) -> Aggregation:
        layout = await context.repo.layout(experiment.id)
        base = await context.repo.model(experiment.id, round_.base_version)
        assert base is not None  # noqa: S101  (the round before was closed with it)
        return cls(context, experiment, round_, updates, layout, base)

    def __init__(
        self,
        context: Context,
        experiment: Experiment,
        round_: Round,
        updates: list[Update],
        layout: Layout,
        base: ModelVersion,
    ) -> None:
        assert round_.cut is not None  # noqa: S101  (settled before anything is aggregated)
        self.context, self.experiment, self.round = context, experiment, round_
        self.layout, self.base = layout, base
        self.plan = Plan.of(round_, updates, context.limits.step_updates)
        self.spans = spans.cut(layout, round_.cut.span_bytes)
        self.tasks_done = self.bytes_added = 0  # by this process
        self._part_bytes = round_.cut.span_bytes
        self._prefix = keys.model_parts(round_)
        self._parts: dict[int, tuple[str, int]] = {}  # SHA-256 and bytes of the new model's parts
        self._digest = hashlib.sha256()
        self._digested = 0  # the parts, from the first one on, that the digest covers
        self._sums: dict[Cell, Blob] = {}  # that are known to be kept
        self._damaged: set[Cell] = set()  # are to be formed again
        blobs, config = context.blobs, experiment.config
        start = base_reader(blobs, base, layout, config.download_encoding)
        self._readers = {
            update.slot: update_reader(blobs, update, layout, config.update_encoding, start)
            for update in updates
        }

    async def find_parts(self) -> None:
        """Find the parts of the new model that other processes kept."""
        for key, size in (await self.context.blobs.sizes(f"{self._prefix}/")).items():
            number, _, sha256 = key.rpartition("/")[2].partition("-")
            self._parts.setdefault(int(number), (sha256, size))

    async def model_tasks(self) -> AsyncIterator[Task]:
        """The tasks left until the new model is there; do each before the next one is asked for."""
        for number in range(len(self.spans)):
            if number not in self._parts:
                kept = set[str]() if self.plan.one_task else await self._stored(number)
                for task in self.plan.model_tasks(number, kept):
                    yield task

    async def group_tasks(self) -> AsyncIterator[Task]:
        """The tasks left until all groups have their sums; do each as of `model_tasks`."""
        for number in range(len(self.spans)):
            for task in self.plan.group_tasks(number, await self._stored(number)):
                yield task

    async def _stored(self, span: int) -> set[str]:
        """The digests of a span's stored sums."""
        found = await self.context.repo.sums(self.experiment.id, self.round.number, span)
        cells = {Cell(span, digest): blob for digest, blob in found.items()}
        self._sums |= {cell: blob for cell, blob in cells.items() if cell not in self._damaged}
        return {cell.digest for cell in self._sums if cell.span == span}

    async def do(self, task: Task) -> None:
        """Do a task, and store what comes of it.

        Raises Spoilt for an update, Gone or DigestMismatch for the base model, and Damaged for
        stored sums: delete those, then ask for the tasks again.
        """
        strategy, span = self.experiment.config.strategy, self.spans[task.span]
        accumulator = Accumulator(strategy, span, self._part_bytes)
        for sums in task.sums:
            await self._merge(accumulator, task.span, sums)
        if task.updates:
            await self._add(accumulator, task)
        if task.result is None:
            await self._put(task.span, accumulator)
        else:
            await self._keep(Cell(task.span, task.result), accumulator)
        self.tasks_done += 1

    async def _merge(self, accumulator: Accumulator, span: int, sums: Sums) -> None:
        cell = Cell(span, sums.digest)
        try:
            await accumulator.merge(self.context.blobs, self._sums[cell], sums.examples)
        except stored.Damaged as error:
            self._damaged.add(cell)
            del self._sums[cell]
            prefix = keys.sums_blob(self.experiment.id, self.round.number, cell)
            raise stored.Damaged(f"{prefix}/") from error

    async def _add(self, accumulator: Accumulator, task: Task) -> None:
        """Add the task's updates in their order; the next one is fetched meanwhile."""
        span, following = self.spans[task.span], [*task.updates[1:], None]
        ahead = asyncio.create_task(self._readers[task.updates[0].slot].read(span))
        try:
            for update, after in zip(task.updates, following, strict=True):
                try:
                    values = await ahead
                except (stored.Gone, DigestMismatch):
                    await self._require_intact(update)
                    raise  # it is the base model
                if after is not None:
                    ahead = asyncio.create_task(self._readers[after.slot].read(span))
                self.bytes_added += await accumulator.add(values, update.num_examples)
                del values  # so that no more than two updates are in memory
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _require_intact(self, update: Update) -> None:
        """Raises Spoilt."""
        try:
            for number in range(len(update.blob.parts)):
                await stored.verified_part(self.context.blobs, update.blob, number)
        except (stored.Gone, DigestMismatch) as error:
            raise Spoilt(update) from error

    async def _keep(self, cell: Cell, accumulator: Accumulator) -> None:
        """Store sums beside the updates."""
        experiment, number = self.experiment.id, self.round.number
        blob = await accumulator.keep(self.context.blobs, keys.sums_blob(experiment, number, cell))
        await self.context.repo.add_sums(experiment, number, cell, blob)
        self._sums[cell] = blob
        self._damaged.discard(cell)

    async def _put(self, span: int, accumulator: Accumulator) -> None:
        """Store a span of the new model."""
        data = await accumulator.result(b"" if span else self.layout.header)
        sha256 = await stored.put_part(self.context.blobs, self._prefix, span, data)
        self._parts[span] = (sha256, len(data))
        if span == self._digested:
            await asyncio.to_thread(self._digest.update, data)
            self._digested += 1

    @property
    def unchecked(self) -> int:
        """How many parts of the new model `model` reads: this process did not digest them."""
        return len(self.spans) - self._digested

    async def model(self) -> Blob:
        """The new model, once every task is done. Raises Damaged, as `do`."""
        parts = [self._parts[number] for number in range(len(self.spans))]
        blob = Blob(
            prefix=self._prefix,
            sha256="",
            parts=tuple(sha256 for sha256, _ in parts),
            sizes=tuple(size for _, size in parts),
        )
        keys_left = [blob.key(number) for number in range(self._digested, len(parts))]
        async with aclosing(stored.ahead(self.context.blobs, keys_left)) as fetched:
            async for data in fetched:
                number = self._digested
                if data is None or await stored.digest_of(data) != blob.parts[number]:
                    del self._parts[number]
                    raise stored.Damaged(blob.key(number))
                await asyncio.to_thread(self._digest.update, data)
                self._digested = number + 1
        return replace(blob, sha256=self._digest.hexdigest())
