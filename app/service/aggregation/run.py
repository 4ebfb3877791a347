"""Does the tasks of a plan: reads updates and stored sums, and stores sums and the new model.

Memory is bounded by a span of the model, whatever the size of the model and the number of updates.
A process may end after any task; what it stored is there for the next one. The spans of the new
model are its parts, and sums lie beside the updates.

Groups of a cohort are summed as soon as they are full, long before the round closes. The call that
fills a group sums it. If that call dies or has too little time, the next call that checks the whole
round does, and in the end the close. The name of stored sums is a digest of the updates in them,
and a refused client may come back with a better update. So the close never takes the sums of a
group whose updates have changed since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from app.service.aggregation.accumulator import Accumulator
from app.service.aggregation.leases import Held, is_free, new_lease, work_under_lease
from app.service.aggregation.plan import Plan, Sums, Task
from app.service.aggregation.readers import base_reader, update_reader
from app.service.call_budget import CallBudget
from app.service.context import Context
from app.service.files.own_files import Damaged, NewFile
from app.service.files.stored import Gone, verified_part
from app.service.records import keys
from app.telemetry import metrics, trace
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import DigestMismatch
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import Blob, Cell, ModelVersion, Update
from serverless_fl.domain.round import FullGroup, Round
from serverless_fl.weights import spans
from serverless_fl.weights.header import Layout


class LostUpdate(Exception):
    """The file of an accepted update is gone from the store, or altered.

    The coordinator never does that. A client can, where a bucket does not enforce signatures.
    """

    def __init__(self, update: Update) -> None:
        super().__init__(update.blob.prefix)
        self.update = update


async def sum_groups(
    context: Context,
    experiment: Experiment,
    round_: Round,
    groups: Mapping[int, FullGroup | None],
    budget: CallBudget,
) -> None:
    """Sum full groups of a round that still collects, as far as the budget goes.

    `groups` maps their numbers to their records, or to None where no call has begun.
    """
    for number, begun in groups.items():
        if not await _sum_group(context, experiment, round_, number, begun, budget):
            return


async def _sum_group(
    context: Context,
    experiment: Experiment,
    round_: Round,
    number: int,
    begun: FullGroup | None,
    budget: CallBudget,
) -> bool:
    """Sum a group unless another call does; return whether the call may do more."""
    if budget.spent:
        return False
    if begun is None:
        mine = FullGroup(
            experiment_id=experiment.id,
            round=round_.number,
            attempt=round_.attempt,
            group=number,
            lease=new_lease(context),
        )
    elif not await is_free(context, begun):
        return True
    else:
        mine = replace(begun, lease=new_lease(context, begun.lease))

    async def work(held: Held[FullGroup]) -> bool:
        started, slots, done = context.monotonic(), round_.members(number), True
        if updates := await context.repo.updates_of(experiment.id, round_.number, slots):
            aggregation = await Aggregation.of(context, experiment, round_, updates)
            with log_work(aggregation):
                done = await run_tasks(held, aggregation, aggregation.group_tasks(), budget)
        seconds = held.record.seconds + context.monotonic() - started
        await held.release(done=done, seconds=seconds)
        return done

    return await work_under_lease(context, round_, mine, work, budget)


async def run_tasks(
    held: Held[Any], aggregation: Aggregation, tasks: AsyncIterator[Task], budget: CallBudget
) -> bool:
    """Do tasks as far as the budget goes; say whether all are done.

    Raises LostLease, and as `Aggregation.do` does.
    """
    async for task in tasks:
        if not budget.take(task.reads):
            return False
        await aggregation.do(task)
        await held.renew_if_old()
    return True


@contextmanager
def log_work(aggregation: Aggregation) -> Iterator[None]:
    """Count and log what one call does of an aggregation, however it ends."""
    experiment, number = aggregation.experiment.id, aggregation.round.number
    started = time.perf_counter()
    try:
        with trace.span("aggregate", experiment=experiment, round=number):
            yield
    finally:
        seconds = time.perf_counter() - started
        metrics.AGGREGATION_SECONDS.observe(seconds)
        metrics.AGGREGATION_BYTES.add(aggregation.bytes_added)
        metrics.AGGREGATION_CELLS.add(aggregation.tasks_done)
        log_event(
            "aggregation step",
            experiment=experiment,
            round=number,
            cells=aggregation.tasks_done,
            bytes=aggregation.bytes_added,
            seconds=round(seconds, 4),
        )


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
        assert round_.cut is not None  # noqa: S101  (set before anything is aggregated)
        self.context, self.experiment, self.round = context, experiment, round_
        self.layout, self.base = layout, base
        self.plan = Plan.of(round_, updates, context.limits.step_updates)
        self.spans = spans.cut(layout, round_.cut.span_bytes)
        self.file = NewFile(context.blobs, keys.model_parts(round_))
        self.tasks_done = self.bytes_added = 0  # by this process
        self._part_bytes = round_.cut.span_bytes
        self._sums: dict[Cell, Blob] = {}  # stored, as far as this process knows
        self._damaged: set[Cell] = set()  # must be made again
        blobs, config = context.blobs, experiment.config
        start = base_reader(blobs, base, layout, config.download_encoding)
        self._readers = {
            update.slot: update_reader(blobs, update, layout, config.update_encoding, start)
            for update in updates
        }

    async def model_tasks(self) -> AsyncIterator[Task]:
        """The tasks left until the new model is stored. Do each before you ask for the next one."""
        for number in range(len(self.spans)):
            if not self.file.has(number):
                stored = set[str]() if self.plan.one_task else await self._stored_sums(number)
                for task in self.plan.model_tasks(number, stored):
                    yield task

    async def group_tasks(self) -> AsyncIterator[Task]:
        """The tasks left until the sums of all groups are stored; as `model_tasks`."""
        for number in range(len(self.spans)):
            for task in self.plan.group_tasks(number, await self._stored_sums(number)):
                yield task

    async def _stored_sums(self, span: int) -> set[str]:
        """The digests of a span's stored sums."""
        found = await self.context.repo.sums.of_span(self.experiment.id, self.round.number, span)
        cells = {Cell(span, digest): blob for digest, blob in found.items()}
        self._sums |= {cell: blob for cell, blob in cells.items() if cell not in self._damaged}
        return {cell.digest for cell in self._sums if cell.span == span}

    async def do(self, task: Task) -> None:
        """Do a task, and store its result.

        Raises LostUpdate, Gone or DigestMismatch for the base model, and Damaged for stored sums:
        delete those, then ask for the tasks again.
        """
        accumulator = Accumulator(self.spans[task.span], self._part_bytes)
        for sums in task.sums:
            await self._merge(accumulator, task.span, sums)
        if task.updates:
            await self._add(accumulator, task)
        if task.result is None:
            header = b"" if task.span else self.layout.header
            await self.file.put(task.span, await accumulator.result(header))
        else:
            await self._store(Cell(task.span, task.result), accumulator)
        self.tasks_done += 1

    async def _merge(self, accumulator: Accumulator, span: int, sums: Sums) -> None:
        cell = Cell(span, sums.digest)
        try:
            await accumulator.merge(self.context.blobs, self._sums[cell], sums.examples)
        except Damaged as error:
            self._damaged.add(cell)
            del self._sums[cell]
            prefix = keys.sums_blob(self.experiment.id, self.round.number, cell)
            raise Damaged(f"{prefix}/") from error

    async def _add(self, accumulator: Accumulator, task: Task) -> None:
        """Add the task's updates in their order, and fetch the next one meanwhile."""
        span, following = self.spans[task.span], [*task.updates[1:], None]
        ahead = asyncio.create_task(self._readers[task.updates[0].slot].read(span))
        try:
            for update, after in zip(task.updates, following, strict=True):
                try:
                    values = await ahead
                except (Gone, DigestMismatch):
                    await self._require_intact(update)
                    raise  # it is the base model
                if after is not None:
                    ahead = asyncio.create_task(self._readers[after.slot].read(span))
                self.bytes_added += await accumulator.add(values, update.num_examples)
                del values  # so that memory holds no more than two updates
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _require_intact(self, update: Update) -> None:
        """Raises LostUpdate."""
        try:
            for number in range(len(update.blob.parts)):
                await verified_part(self.context.blobs, update.blob, number)
        except (Gone, DigestMismatch) as error:
            raise LostUpdate(update) from error

    async def _store(self, cell: Cell, accumulator: Accumulator) -> None:
        """Store sums beside the updates."""
        experiment, number = self.experiment.id, self.round.number
        blob = await accumulator.store(self.context.blobs, keys.sums_blob(experiment, number, cell))
        await self.context.repo.sums.add(experiment, number, cell, blob)
        self._sums[cell] = blob
        self._damaged.discard(cell)
