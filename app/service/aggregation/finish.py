"""The end of a round: a call makes the new model of the accepted updates, and closes the round."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.service import journal
from app.service.aggregation.leases import Held
from app.service.aggregation.run import log_work, run_tasks
from app.service.aggregation.tasks import Aggregation, LostUpdate
from app.service.call_budget import CallBudget
from app.service.cost.metering import Metering
from app.service.files.compressed_models import CompressedModel
from app.service.files.own_files import Damaged
from app.service.files.stored import Gone
from app.service.records import keys
from app.service.secure import CannotUnmask
from app.telemetry.logs import WARNING, log_event
from serverless_fl.aggregation.gram import sound
from serverless_fl.aggregation.stepping import StrategyFault
from serverless_fl.domain.errors import DigestMismatch, HelperRefused
from serverless_fl.domain.experiment import WEIGHTS, Experiment
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.domain.provenance import (
    config_digest,
    contribution,
    updates_digest,
    version_digest,
)
from serverless_fl.domain.records import Blob, ModelVersion, Refusal, Update, client_id
from serverless_fl.domain.round import Round, RoundState


class CannotAggregate(Exception):
    """The store has lost a file without which the round cannot be aggregated."""


class AttemptFailed(Exception):
    """Masked updates whose sum cannot be had: a file is lost, or shares are wrong. Another attempt
    may come to a sum.
    """


async def aggregate(held: Held[Round], experiment: Experiment, budget: CallBudget) -> bool:
    """Aggregate as far as the budget goes; once the new model is stored, close the round.

    Returns whether the round is closed; if not, the lease is released. Raises LostLease,
    CannotAggregate, and AttemptFailed for masked updates.
    """
    context, round_ = held.context, held.record
    started = context.monotonic()
    updates = await context.repo.accepted_updates(round_)
    try:
        aggregation = await Aggregation.of(context, experiment, round_, updates)
        with log_work(aggregation):
            version = await _make_version(held, aggregation, budget)
    except LostUpdate as error:
        await _leave_out(held, experiment, error)
        return await aggregate(held, experiment, budget)
    except (CannotUnmask, HelperRefused) as error:
        raise AttemptFailed(str(error)) from error
    except (Gone, DigestMismatch, StrategyFault) as error:
        raise CannotAggregate(str(error)) from error
    seconds = (held.record.aggregation_seconds or 0.0) + context.monotonic() - started
    if version is None:
        await held.release(aggregation_seconds=seconds)
        return False
    await _close(held, experiment, aggregation, updates, version, seconds)
    return True


async def _close(
    held: Held[Round],
    experiment: Experiment,
    aggregation: Aggregation,
    updates: list[Update],
    version: ModelVersion,
    seconds: float,
) -> None:
    """Record the new version, then close the round. Raises LostLease."""
    context, round_, now = held.context, held.record, version.created_at
    await context.repo.add_model(version)
    early = sum(group.seconds for group in (await context.repo.sums.groups(round_)).values())
    metrics = mean_metrics(updates)
    examples, wrong = sum(update.num_examples for update in updates), tuple[int, ...]()
    if (unmasking := aggregation.unmasking) is not None:
        metrics, examples = dict(unmasking.counts.metrics), unmasking.counts.examples
        wrong = unmasking.wrong
    closed = round_.move(
        RoundState.CLOSED,
        closed_at=now,
        metrics=metrics,
        num_examples=examples,
        update_bytes=sum(update.blob.size for update in updates),
        aggregation_seconds=seconds + early,
        wrong_shares=wrong,
    )
    usage = await Metering(context).of_round(experiment, closed, updates)
    await held.save(replace(closed, usage=usage))
    journal.log_close(closed)


async def _leave_out(held: Held[Round], experiment: Experiment, error: LostUpdate) -> None:
    """Go on without a lost update, if the others suffice.

    Raises LostLease, CannotAggregate, and AttemptFailed for a masked one: its masks are in the sum,
    and the others' answers cannot take them off.
    """
    context, round_, update = held.context, held.record, error.update
    left = tuple(slot for slot in round_.accepted if slot != update.slot)
    needed = experiment.config.updates_to_close
    reason = f"The file of {client_id(update.slot)}'s update is gone from the store, or altered."
    if round_.masked:
        await held.renew()  # another process may have closed the round and deleted the file
    elif len(left) < needed:
        too_few = f"{len(left)} of the {needed} that it needs are left."
        raise CannotAggregate(f"{error.__cause__}. {reason} {too_few}")
    await context.repo.add_refusal(
        Refusal(
            experiment_id=experiment.id,
            round=round_.number,
            slot=update.slot,
            code="update-lost",
            reason=reason,
            refused_at=context.clock(),
        )
    )
    if round_.masked:
        raise AttemptFailed(reason) from error
    lost = (*round_.lost, update.slot)
    await held.save(round_.move(RoundState.AGGREGATING, accepted=left, lost=lost, weights=()))
    journal.log_round(round_, "update lost", WARNING, client=client_id(update.slot))
    await context.blobs.delete(f"{keys.model_parts(round_)}/")  # they have the update in them


async def _make_version(
    held: Held[Round], aggregation: Aggregation, budget: CallBudget
) -> ModelVersion | None:
    """Store the files of the new version; give its record, which is not stored yet.

    Returns None where the budget does not suffice. Raises LostLease, StrategyFault, and Gone or
    DigestMismatch for a file that an aggregation cannot make again.
    """
    resumed = held.lease.fence > 1
    while True:
        try:
            if not await run_tasks(held, aggregation, aggregation.gram_tasks(), budget):
                return None
            if aggregation.weights is None:
                aggregation = await _weigh(held, aggregation)
            if resumed:
                await aggregation.next.find_parts()
            if not await run_tasks(held, aggregation, aggregation.model_tasks(), budget):
                return None
            if not budget.take_time(_parts_to_read(aggregation)):
                return None
            model, state = await aggregation.next.finish()
            compressed = await _compress(held, aggregation, model, again=resumed)
            await held.renew_if_old()
            entry = await aggregation.entry()
            now = held.context.clock()
            return _version(aggregation, model, state, compressed, entry, now)
        except Damaged as error:
            # Another process may have closed the round and named the file: then this raises.
            await held.renew()
            log_event("damaged file made again", WARNING, key=error.prefix)
            await held.context.blobs.delete(error.prefix)


async def _weigh(held: Held[Round], aggregation: Aggregation) -> Aggregation:
    """Record the weights that the strategy gives all updates together, and go on with them.

    They are recorded before the first span of the model is made, so all spans have the same ones.
    Raises LostLease, Damaged, StrategyFault.
    """
    gram, facts = await aggregation.gram(), aggregation.facts.updates
    found = await asyncio.to_thread(aggregation.strategy.weights, gram, facts)
    by_slot = {each.client: weight for each, weight in zip(facts, sound(found), strict=True)}
    weights = tuple(by_slot[slot] for slot in held.record.accepted)
    await held.save(held.record.move(RoundState.AGGREGATING, weights=weights))
    return await Aggregation.of(
        held.context, aggregation.experiment, held.record, aggregation.updates
    )


def _version(
    aggregation: Aggregation,
    model: Blob,
    state: dict[str, Blob],
    compressed: Blob | None,
    ledger: LedgerEntry | None,
    now: float,
) -> ModelVersion:
    base, weights = aggregation.base, aggregation.recorded_weights
    number = aggregation.round.number
    before = {name: blob.sha256 for name, blob in base.state.items()}
    contributions = (contribution(u, weights.get(u.slot)) for u in aggregation.updates)
    return ModelVersion(
        experiment_id=aggregation.experiment.id,
        version=number,
        blob=model,
        parent_sha256=version_digest(base.blob.sha256, before, base.ledger),
        config_sha256=config_digest(aggregation.experiment.config_of(number)),
        updates_sha256=updates_digest(contributions),
        created_at=now,
        compressed=compressed,
        state=state,
        ledger=ledger,
    )


def _parts_to_read(aggregation: Aggregation) -> int:
    """The parts that a call reads after all tasks, to check the model and to compress it.

    A call that ends in between leaves nothing of that to the next one. So a call begins it in time,
    or before anything else, and then does all of it.
    """
    compressed = aggregation.experiment.config.download_encoding != WEIGHTS
    return aggregation.next.undigested + 2 * compressed * len(aggregation.spans)


async def _compress(
    held: Held[Round], aggregation: Aggregation, model: Blob, *, again: bool
) -> Blob | None:
    """Store the compressed model if clients download one. Raises as `_make_models`."""
    experiment, context = aggregation.experiment, held.context
    if (encoding := experiment.config.download_encoding) == WEIGHTS:
        return None
    prefix = keys.compressed_blob(experiment.id, held.record.number)
    made = CompressedModel(
        context.blobs, model, aggregation.new_layout, encoding, prefix, again=again
    )
    async for _ in made.steps(context.limits.part_bytes):
        await held.renew_if_old()
    return made.blob


def mean_metrics(updates: list[Update]) -> dict[str, float]:
    """Each metric's mean over the updates that report it, weighted by their examples."""
    names = sorted({name for update in updates for name in update.metrics})
    means = {}
    for name in names:
        having = [u for u in updates if name in u.metrics and not _is_of_older_model(u, name)]
        if not having:
            continue
        total = sum(u.num_examples for u in having)
        means[name] = sum(u.metrics[name] * u.num_examples for u in having) / total
    return means


def _is_of_older_model(update: Update, metric: str) -> bool:
    """Whether a metric is of the model before a training that began from an older version."""
    return update.base_version is not None and metric.endswith("_before")
