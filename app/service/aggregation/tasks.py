"""Does the tasks of a plan: reads updates and stored results, and stores results and the new model.

Memory is bounded by a few spans of the model, whatever the size of the model and the number of
updates. A process may end after any task; what it stored is there for the next one. The spans of
the new model are its parts, and results of tasks lie beside the updates.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from app.service.aggregation.columns import (
    ColumnPlan,
    GramTask,
    JoinTask,
    ReduceTask,
    Rows,
    Slicing,
    StackTask,
)
from app.service.aggregation.next_model import NextModel
from app.service.aggregation.plan import Plan, SumTask, UnmaskTask
from app.service.context import Context
from app.service.files.own_files import Damaged, own_arrays, put_array, put_part
from app.service.files.readers import Values, base_reader, update_reader
from app.service.files.stored import Gone, digest_of, fetch_ahead, in_thread_if_large, verified_part
from app.service.records import keys
from serverless_fl.aggregation import strategy_of
from serverless_fl.aggregation.columns import reduce_columns
from serverless_fl.aggregation.facts import facts_of, round_facts
from serverless_fl.aggregation.gram import add_products, rounded
from serverless_fl.aggregation.mean import WeightedMean
from serverless_fl.aggregation.strategy import Reduction
from serverless_fl.domain.agreement import published
from serverless_fl.domain.errors import DigestMismatch
from serverless_fl.domain.experiment import FEDERATED, Experiment
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.domain.records import Blob, Cell, ModelVersion, Update
from serverless_fl.domain.round import Round, RoundState
from serverless_fl.privacy import Taken, mechanism_of
from serverless_fl.privacy.noise import Noise, round_key
from serverless_fl.weights import spans
from serverless_fl.weights.header import FLOATS, Layout

if TYPE_CHECKING:
    from app.service.secure.unmasking import Unmasking

Task = SumTask | UnmaskTask | StackTask | ReduceTask | JoinTask | GramTask


class LostUpdate(Exception):
    """The file of an accepted update is gone from the store, or altered.

    The coordinator never does that. A client can, where a bucket does not enforce signatures.
    """

    def __init__(self, update: Update) -> None:
        super().__init__(update.blob.prefix)
        self.update = update


async def _new_layout(context: Context, experiment: Experiment, layout: Layout) -> Layout:
    """The layout of a new model: its metadata have the scales that the parties' sums fixed."""
    if experiment.config.normalisation != FEDERATED:
        return layout
    fixed = await context.repo.normalisation(experiment.id)
    return layout.with_metadata(published(layout.metadata, fixed.scales)) if fixed else layout


class Aggregation:
    """The aggregation of some updates of a round, as this process sees it."""

    @classmethod
    async def of(
        cls, context: Context, experiment: Experiment, round_: Round, updates: list[Update]
    ) -> Aggregation:
        layout = await context.repo.layout(experiment.id)
        base = await context.repo.model(experiment.id, round_.base_version)
        assert base is not None  # noqa: S101  (the round before was closed with it)
        older = {}
        for version in {update.trained_from for update in updates} - {round_.base_version}:
            found = await context.repo.model(experiment.id, version)
            assert found is not None  # noqa: S101  (its client trained from it)
            older[version] = found
        new = await _new_layout(context, experiment, layout)
        keeps = mechanism_of(experiment.config).keeps_ledger
        secret = await context.repo.secret(experiment.id) if keeps else b""
        aggregation = cls(context, experiment, round_, updates, layout, new, base, older, secret)
        if round_.masked and round_.state is RoundState.AGGREGATING:
            # Imported here: few experiments need the package of ciphers.
            from app.service.secure.unmasking import Unmasking

            aggregation.unmasking = await Unmasking.of(context, experiment, round_, updates, layout)
        return aggregation

    def __init__(
        self,
        context: Context,
        experiment: Experiment,
        round_: Round,
        updates: list[Update],
        layout: Layout,
        new_layout: Layout,
        base: ModelVersion,
        older: Mapping[int, ModelVersion],
        secret: bytes,
    ) -> None:
        assert round_.cut is not None  # noqa: S101  (set before anything is aggregated)
        self.context, self.experiment, self.round = context, experiment, round_
        self.unmasking: Unmasking | None = None  # of masked updates, once they can be unmasked
        # The new model's header may have more metadata than the initial one's. Spans are cut by the
        # latter, so that they are the same in every process and release.
        self.layout, self.new_layout, self.base = layout, new_layout, base
        self.strategy = strategy_of(experiment.config)
        self.mechanism = mechanism_of(experiment.config)
        self.spans = spans.cut(layout, round_.cut.span_bytes)
        self.tasks_done = self.bytes_added = 0  # by this process
        self._part_bytes = round_.cut.span_bytes
        self._results: dict[Cell, Blob] = {}  # stored, as far as this process knows

        self._everything = Plan.of(round_, updates, context.limits.step_updates)
        self.updates = [u for group in self._everything.groups for u in group.updates]
        self.facts = round_facts(
            *(experiment.config_of(round_.number), round_.number, round_.clients),
            list(map(facts_of, self.updates)),
        )
        self.weights = self._weights()
        blobs, config = context.blobs, experiment.config
        self._start = base_reader(blobs, base, layout, config.download_encoding)
        bases = {
            version: base_reader(blobs, model, layout, config.download_encoding)
            for version, model in older.items()
        }
        self._readers = {
            update.slot: update_reader(
                *(blobs, update, layout, config.sent_encoding),
                bases.get(update.trained_from, self._start),
                self.strategy.companions,
                self._start if update.trained_from in bases else None,
            )
            for update in updates
        }
        prefix = keys.model_parts(round_)
        self._secret, mechanism = secret, self.mechanism
        self.next = NextModel(
            *(blobs, prefix, new_layout, self.spans, self.strategy, mechanism, base, self._start),
            self._noise(),
        )

    # Privacy

    def _noise(self) -> Noise | None:
        """The noise of the round; None if the mechanism adds none."""
        if not self.mechanism.keeps_ledger or not self.weights:
            return None
        weights = list(self.weights.values())
        own, *less = (
            round_key(self._secret, number)
            for number in (self.round.number, *self.mechanism.replaced(self.round.number))
        )
        return Noise(own, self.mechanism.deviation(self.base.ledger, weights), tuple(less))

    async def entry(self) -> LedgerEntry | None:
        """The entry of the new version in the ledger; None if the mechanism keeps none."""
        if not self.mechanism.keeps_ledger:
            return None
        rounds = await self.context.repo.rounds(self.experiment.id)
        number, weights = self.round.number, self.weights or {}
        accepted = [each.accepted for each in rounds if each.number < number]
        return self.mechanism.entry(
            self.base.ledger,
            Taken(
                weights=[weights[update.slot] for update in self.updates],
                whole=[update.scale == 1.0 for update in self.updates],
            ),
            round_key(self._secret, number),
            [*accepted, self.round.accepted],
            hashlib.sha256(self._secret).hexdigest(),
        )

    # The weights of the updates in the mean

    def _weights(self) -> Mapping[int, float] | None:
        """By slot; None if they take the Gram matrix of all updates, which is not known yet."""
        if not self.strategy.reduction.weighs_all:
            return {
                facts.client: self.mechanism.weight(self.strategy.weight(facts))
                for facts in self.facts.updates
            }
        accepted, weights = self.round.accepted, self.round.weights
        return dict(zip(accepted, weights, strict=True)) if weights else None

    @cached_property
    def _columns(self) -> ColumnPlan:
        config, plan = self.experiment.config, self._everything
        slicings = tuple(Slicing.of(config, self.round, span, plan.most) for span in self.spans)
        reduction = f"{config.strategy.plain} {self.round.weights}"
        return ColumnPlan(plan.groups, slicings, plan.most, reduction)

    @cached_property
    def recorded_weights(self) -> Mapping[int, float]:
        """Those that are in the record of the model beside the numbers of examples."""
        weights = self.weights or {}
        if self.strategy.reduction.weighs_all:
            return weights
        return {u.slot: weights[u.slot] for u in self.updates if weights[u.slot] != u.num_examples}

    @cached_property
    def _mean(self) -> Plan:
        assert self.weights is not None  # noqa: S101  (recorded before the mean is taken)
        if not self.recorded_weights:
            return self._everything
        most = self.context.limits.step_updates
        return Plan.of(self.round, self.updates, most, self.weights)

    # The tasks that are left

    async def group_tasks(self) -> AsyncIterator[Task]:
        """The tasks left until the updates of full groups are summed, or stacked.

        Do each task before you ask for the next one.
        """
        for number in range(len(self.spans)):
            stored = await self._stored(number)
            if self.strategy.reduction is Reduction.MEAN:
                for task in self._mean.group_tasks(number, stored):
                    yield task
            else:
                for stacking in self._columns.stack_tasks(number, stored):
                    yield stacking

    async def gram_tasks(self) -> AsyncIterator[Task]:
        """The tasks left until `gram` is stored, if weights depend on it; as `group_tasks`."""
        if self.strategy.reduction.weighs_all and self.weights is None:
            for number in range(len(self.spans)):
                for task in self._columns.gram_tasks(number, await self._stored(number)):
                    yield task

    async def model_tasks(self) -> AsyncIterator[Task]:
        """The tasks left until the new model is stored, once `weights` are known."""
        for number in range(len(self.spans)):
            if self.next.has(number):
                continue
            if self.strategy.reduction.takes_columns:
                for task in self._columns.model_tasks(number, await self._stored(number)):
                    yield task
            else:
                mean = self._mean
                masks, most = self._masks_of(number)
                few = mean.one_task and masks <= most
                stored = set[str]() if few else await self._stored(number)
                for summing in mean.unmasked_tasks(number, stored, masks, most):
                    yield summing

    def _masks_of(self, span: int) -> tuple[int, int]:
        """The streams in the sum of masked updates, and how many a task takes off this span."""
        if self.unmasking is None:
            return 0, 0
        width = max(1, 4 * spans.elements(self.spans[span]))
        return self.unmasking.streams, max(1, self.context.limits.step_masks // width)

    async def _stored(self, span: int) -> set[str]:
        """The digests of a span's stored results."""
        found = await self.context.repo.sums.of_span(self.experiment.id, self.round.number, span)
        self._results |= {Cell(span, digest): blob for digest, blob in found.items()}
        return {cell.digest for cell in self._results if cell.span == span}

    async def gram(self) -> np.ndarray:
        """The Gram matrix of all updates [updates, updates], after `gram_tasks`. Raises Damaged."""
        return rounded(await self._gram_at(self._columns.gram_through(len(self.spans) - 1)))

    # Doing them

    async def do(self, task: Task) -> None:
        """Do a task, and store its result.

        Raises LostUpdate, StrategyFault, Gone or DigestMismatch for the base model, and Damaged for
        stored results: delete those, then ask for the tasks again.
        """
        match task:
            case SumTask():
                await self._sum(task)
            case UnmaskTask():
                await self._unmask(task)
            case StackTask():
                await self._stack(task)
            case ReduceTask():
                await self._reduce(task)
            case JoinTask():
                pieces = [await self._load(Cell(task.span, digest)) for digest in task.slices]
                await self._make(task.span, np.concatenate([np.empty(0), *pieces]))
            case GramTask():
                await self._add_products(task)
        self.tasks_done += 1

    async def _sum(self, task: SumTask) -> None:
        sets = 1 + len(self.strategy.companions)
        mean = WeightedMean(sets * spans.elements(self.spans[task.span]))
        for sums in task.sums:
            stored = await self._parts(Cell(task.span, sums.digest))
            size = sum(array.nbytes for array in stored)
            await in_thread_if_large(size, partial(mean.merge, stored, sums.weight))
        weights = iter(task.weights)
        async with aclosing(self._read(task.updates, task.span)) as found:
            async for values in found:
                size = sum(array.nbytes for array in values)
                await in_thread_if_large(size, partial(mean.add, values, next(weights)))
                self.bytes_added += size
                del values  # so that memory holds no more than two updates
        if task.result is not None:
            await self._store(Cell(task.span, task.result), mean.partial())
        elif self.unmasking is not None:
            await self._make_unmasked(task.span, mean.partial())
        else:
            await self._make(task.span, mean.result())

    async def _unmask(self, task: UnmaskTask) -> None:
        assert self.unmasking is not None  # noqa: S101  (or the plan has no such task)
        sums = await self._load(Cell(task.span, task.sums))
        if task.result is None:
            await self._make_unmasked(task.span, sums, task.streams)
        else:
            left = await self.unmasking.without(self.spans[task.span], sums, task.streams)
            await self._store(Cell(task.span, task.result), left)

    async def _make_unmasked(
        self, number: int, sums: np.ndarray, streams: slice = slice(None)
    ) -> None:
        """Make a span of sums of masked updates, whole numbers, that have these streams left."""
        assert self.unmasking is not None  # noqa: S101
        span = self.spans[number]
        base = await self._start.read(span)
        await self._make(number, await self.unmasking.mean(span, sums, base, streams))

    async def _stack(self, task: StackTask) -> None:
        slicing, cell = task.slicing, Cell(task.span, task.stack.digest)
        rows = await self._rows_of(task.stack.updates, task.span, slicing)
        prefix, parts, sizes = self._prefix(cell), list[str](), list[int]()
        for number, elements in enumerate(slicing.cuts):
            data = await asyncio.to_thread(rows[:, elements].tobytes)
            parts.append(await put_part(self.context.blobs, prefix, number, data))
            sizes.append(len(data))
        blob = Blob(prefix=prefix, sha256="", parts=tuple(parts), sizes=tuple(sizes))
        await self._record(cell, blob)

    async def _reduce(self, task: ReduceTask) -> None:
        columns, updates = await self._columns_of(task.rows), list(self.facts.updates)
        weights = self.weights or {}
        if self.strategy.reduction is Reduction.CHOSEN_COLUMNS:
            chosen = [n for n, facts in enumerate(updates) if weights[facts.client] > 0]
            columns, updates = columns[chosen], [updates[n] for n in chosen]
        reduced = await asyncio.to_thread(
            reduce_columns,
            self.strategy,
            columns,
            _floats(self.spans[task.span])[task.rows.elements],
            updates,
            [weights[facts.client] for facts in updates],
        )
        if task.result is None:
            await self._make(task.span, reduced)
        else:
            await self._store(Cell(task.span, task.result), reduced)

    async def _add_products(self, task: GramTask) -> None:
        columns = await self._columns_of(task.rows)
        gram = await self._gram_at(task.before)
        floats = _floats(self.spans[task.span])[task.rows.elements]
        base = np.concatenate([np.empty(0), *await self._start.read(self.spans[task.span])])
        base = base[task.rows.elements]
        if not floats.all():
            columns, base = columns[:, floats], base[floats]
        await asyncio.to_thread(add_products, gram, columns, base)
        await self._store(Cell(task.span, task.result), gram.reshape(-1))

    async def _gram_at(self, place: tuple[int, str] | None) -> np.ndarray:
        """The upper triangle of the products so far [updates, updates]. Raises Damaged."""
        count = len(self.updates)
        if place is None:
            return np.zeros((count, count))
        return (await self._load(Cell(*place))).reshape(count, count)

    async def _make(self, span: int, reduced: np.ndarray) -> None:
        """Take the step, and store the span of the new model."""
        elements = spans.elements(self.spans[span])
        names = ["weights", *self.strategy.companions]
        by_name = {
            name: reduced[place * elements : (place + 1) * elements]
            for place, name in enumerate(names)
        }
        await self.next.put(span, by_name, self.facts)

    # Reading updates

    async def _read(self, updates: tuple[Update, ...], span: int) -> AsyncGenerator[Values, None]:
        """Yield the updates' values in their order, and fetch the next ones meanwhile."""
        if not updates:
            return
        place, following = self.spans[span], [*updates[1:], None]
        ahead = asyncio.create_task(self._readers[updates[0].slot].read(place))
        try:
            for update, after in zip(updates, following, strict=True):
                try:
                    values = await ahead
                except (Gone, DigestMismatch):
                    await self._require_intact(update)
                    raise  # it is the base model
                if after is not None:
                    ahead = asyncio.create_task(self._readers[after.slot].read(place))
                yield values
                del values
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

    async def _rows_of(
        self, updates: tuple[Update, ...], span: int, slicing: Slicing
    ) -> np.ndarray:
        """All values of a span [updates, elements]."""
        rows, number = np.empty((len(updates), spans.elements(self.spans[span])), slicing.dtype), 0
        async with aclosing(self._read(updates, span)) as found:
            async for values in found:
                place = 0
                for array in values:
                    rows[number, place : place + array.size] = array
                    place += array.size
                    self.bytes_added += array.nbytes
                number += 1
                del values
        return rows

    async def _columns_of(self, rows: Rows) -> np.ndarray:
        """The values of some elements [updates, elements]. Raises Damaged."""
        if not rows.stacks:
            return await self._rows_of(rows.updates, rows.span, rows.slicing)
        width = rows.elements.stop - rows.elements.start
        found, row = np.empty((len(rows.updates), width), rows.slicing.dtype), 0
        cells = [Cell(rows.span, stack.digest) for stack in rows.stacks]
        wanted = [self._results[cell] for cell in cells]
        parts = [blob.key(rows.part) for blob in wanted]
        async with aclosing(fetch_ahead(self.context.blobs, parts)) as fetched:
            for cell, stack, blob in zip(cells, rows.stacks, wanted, strict=True):
                data = await anext(fetched)
                if data is None or await digest_of(data) != blob.parts[rows.part]:
                    raise await self._forget(cell)
                stop = row + len(stack.updates)
                found[row:stop] = np.frombuffer(data, found.dtype).reshape(-1, width)
                row = stop
        return found

    # Results that calls store for one another

    async def _store(self, cell: Cell, values: np.ndarray) -> None:
        """Store a flat array beside the updates."""
        prefix = self._prefix(cell)
        await self._record(
            cell, await put_array(self.context.blobs, prefix, values, self._part_bytes)
        )

    async def _record(self, cell: Cell, blob: Blob) -> None:
        await self.context.repo.sums.add(self.experiment.id, self.round.number, cell, blob)
        self._results[cell] = blob

    async def _load(self, cell: Cell) -> np.ndarray:
        """A copy of a stored array. Raises Damaged."""
        return np.concatenate([np.empty(0), *await self._parts(cell)])

    async def _parts(self, cell: Cell) -> list[np.ndarray]:
        """The parts of a stored array. Raises Damaged."""
        try:
            return await own_arrays(self.context.blobs, self._results[cell])
        except Damaged as error:
            raise await self._forget(cell) from error

    async def _forget(self, cell: Cell) -> Damaged:
        """Delete a damaged result and its record, so that whichever call comes makes it again."""
        damaged = Damaged(f"{self._prefix(cell)}/")
        await self.context.repo.sums.remove(self.experiment.id, self.round.number, cell)
        await self.context.blobs.delete(damaged.prefix)
        del self._results[cell]
        return damaged

    def _prefix(self, cell: Cell) -> str:
        return keys.sums_blob(self.experiment.id, self.round.number, cell)


def _floats(span: spans.Span) -> np.ndarray:
    """Which elements of a span are floating-point numbers [elements]."""
    counts = [piece.last - piece.first for piece in span]
    return np.repeat([piece.tensor.dtype in FLOATS for piece in span], counts).astype(bool)
