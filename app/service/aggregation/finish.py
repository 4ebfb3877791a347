"""The end of a round: the frozen list of updates becomes the next model version, under a lease."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.service import journal
from app.service.aggregation.leases import Held
from app.service.aggregation.plan import Task
from app.service.call_budget import CallBudget
from app.service.cost.metering import Metering
from app.service.files import stored
from app.service.records import keys
from app.telemetry import metrics, trace
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import DigestMismatch
from serverless_fl.domain.experiment import WEIGHTS, Experiment
from serverless_fl.domain.provenance import config_digest, contribution, updates_digest
from serverless_fl.domain.records import Blob, ModelVersion, Refusal, Update, client_id
from serverless_fl.domain.round import Round, RoundState

if TYPE_CHECKING:
    from app.service.aggregation.run import Aggregation, Spoilt


class LostUpdate(Exception):
    """The store no longer has what was accepted, and the round cannot do without it."""


async def aggregate(held: Held[Round], experiment: Experiment, budget: CallBudget) -> bool:
    """Do what the call may of the aggregation; at its end store the model and close the round.

    Says whether the round is closed; if not, the lease is released. Raises LostLease, and
    LostUpdate if the round cannot go on.
    """
    # Imported here: it brings NumPy, which a process that only answers polls never needs.
    from app.service.aggregation.run import Aggregation, Spoilt

    context, round_ = held.context, held.record
    started = context.monotonic()
    kept = await context.repo.updates(experiment.id, round_.number)
    updates = [update for update in kept if update.slot in round_.accepted]
    aggregation = await Aggregation.of(context, experiment, round_, updates)
    try:
        with measured(aggregation):
            files = await _files(held, aggregation, budget)
    except Spoilt as error:
        await _drop(held, experiment, error)
        return await aggregate(held, experiment, budget)
    except (stored.Gone, DigestMismatch) as error:
        raise LostUpdate(str(error)) from error
    seconds = (held.record.aggregation_seconds or 0.0) + context.monotonic() - started
    if files is None:
        await held.release(aggregation_seconds=seconds)
        return False
    now, (model, copy) = context.clock(), files
    groups = aggregation.plan.groups
    await context.repo.add_model(
        ModelVersion(
            experiment_id=experiment.id,
            version=round_.number,
            blob=model,
            parent_sha256=aggregation.base.blob.sha256,
            config_sha256=config_digest(experiment.config),
            updates_sha256=updates_digest(
                contribution(update) for group in groups for update in group.updates
            ),
            created_at=now,
            copy=copy,
        )
    )
    early = sum(group.seconds for group in (await context.repo.full_groups(round_)).values())
    closed = held.record.move(
        RoundState.CLOSED,
        closed_at=now,
        metrics=mean_metrics(updates),
        num_examples=sum(update.num_examples for update in updates),
        update_bytes=sum(update.blob.size for update in updates),
        aggregation_seconds=seconds + early,
    )
    usage = await Metering(context).of_round(experiment, closed, updates)
    await held.save(replace(closed, usage=usage))
    journal.log_close(closed)
    return True


async def _drop(held: Held[Round], experiment: Experiment, spoilt: Spoilt) -> None:
    """Leave an update out that is no longer what was accepted. Raises LostLease, LostUpdate."""
    context, round_, update = held.context, held.record, spoilt.update
    left = tuple(slot for slot in round_.accepted if slot != update.slot)
    needed = experiment.config.updates_to_close
    said = f"The file of {client_id(update.slot)}'s update is gone from the store, or altered."
    if len(left) < needed:
        left_over = f"{len(left)} of the {needed} that it needs are left."
        raise LostUpdate(f"{spoilt.__cause__}. {said} {left_over}")
    await context.repo.add_refusal(
        Refusal(
            experiment_id=experiment.id,
            round=round_.number,
            slot=update.slot,
            code="update-lost",
            reason=said,
            refused_at=context.clock(),
        )
    )
    lost = (*round_.lost, update.slot)
    await held.save(round_.move(RoundState.AGGREGATING, accepted=left, lost=lost))
    journal.log_round(round_, "update lost", WARNING, client=client_id(update.slot))
    await context.blobs.delete(f"{keys.model_parts(round_)}/")  # of the list with it


async def _files(
    held: Held[Round], aggregation: Aggregation, budget: CallBudget
) -> tuple[Blob, Blob | None] | None:
    """The new model and its compressed one for clients, both stored; None if the call may do no
    more before that.

    Raises LostLease, and Gone or DigestMismatch for what an aggregation cannot make again.
    """
    resumed = held.lease.fence > 1
    if resumed:
        await aggregation.find_parts()
    while True:
        try:
            if not await do_tasks(held, aggregation, aggregation.model_tasks(), budget):
                return None
            if not budget.take_time(_left_to_read(aggregation)):
                return None
            model = await aggregation.model()
            copy = await _compressed(held, aggregation, model, again=resumed)
            await held.renew_if_old()
            return model, copy
        except stored.Damaged as error:
            await held.renew()  # so nobody has closed the round meanwhile, and needs the file
            log_event("damaged file made again", WARNING, key=error.prefix)
            await held.context.blobs.delete(error.prefix)


def _left_to_read(aggregation: Aggregation) -> int:
    """Parts that are read once all tasks are done: to check the model, and to compress it.

    A call that ends before all of that is done leaves nothing of it to the next call. So it is
    begun in time, or first of all, and then done.
    """
    compressed = aggregation.experiment.config.download_encoding != WEIGHTS
    return aggregation.unchecked + 2 * compressed * len(aggregation.spans)


async def _compressed(
    held: Held[Round], aggregation: Aggregation, model: Blob, *, again: bool
) -> Blob | None:
    """The compressed model that clients get, if they get another file. Raises as `_files`."""
    from app.service.aggregation.compressed_models import Copy

    experiment, context = aggregation.experiment, held.context
    if (encoding := experiment.config.download_encoding) == WEIGHTS:
        return None
    prefix = keys.copy_blob(experiment.id, held.record.number)
    copy = Copy(context.blobs, model, aggregation.layout, encoding, prefix, again=again)
    async for _ in copy.steps(context.limits.part_bytes):
        await held.renew_if_old()
    return copy.blob


async def do_tasks(
    held: Held[Any], aggregation: Aggregation, tasks: AsyncIterator[Task], budget: CallBudget
) -> bool:
    """Do tasks as far as the call may; say whether all are done.

    Raises LostLease, and as `Aggregation.do` does.
    """
    async for task in tasks:
        if not budget.take(task.reads):
            return False
        await aggregation.do(task)
        await held.renew_if_old()
    return True


@contextmanager
def measured(aggregation: Aggregation) -> Iterator[None]:
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


def mean_metrics(updates: list[Update]) -> dict[str, float]:
    """Each metric's mean over the updates that report it, weighted by their examples."""
    names = sorted({name for update in updates for name in update.metrics})
    means = {}
    for name in names:
        having = [u for u in updates if name in u.metrics]
        total = sum(u.num_examples for u in having)
        means[name] = sum(u.metrics[name] * u.num_examples for u in having) / total
    return means
