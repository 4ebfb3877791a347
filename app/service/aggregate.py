"""Closing a round: the frozen list of updates becomes the next model version, under a lease."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.domain.errors import DigestMismatch
from app.domain.experiment import Experiment
from app.domain.records import ModelVersion, Update
from app.domain.round import Lease, Round, RoundState
from app.service import repository, weights
from app.service.context import Context
from app.wire import codec

_MOST_LEASES = 60  # of the first lease's length, that the longest one has


class LostLease(Exception):
    """Another process has taken the aggregation over; what we computed is of no use."""


class LostUpdate(Exception):
    """The store no longer has what was accepted. Nothing that runs here can bring it about."""


def new_lease(context: Context, fence: int) -> Lease:
    """A lease of this process, from now; longer with each takeover.

    It is renewed between updates only. Were it always as short, a model that takes longer to load
    or to store than that would be taken over for ever, and no owner would ever come to its commit.
    """
    expiry = context.clock() + context.limits.lease_seconds * min(fence, _MOST_LEASES)
    return Lease(owner=context.worker, expires_at=expiry, fence=fence)


async def aggregate(context: Context, experiment: Experiment, round_: Round) -> None:
    """Average the round's frozen list, store the model, close the round.

    Gives up in silence where another process has taken over. Raises LostUpdate.
    """
    started = context.clock()
    stored = await context.repo.updates(experiment.id, round_.number)
    updates = [update for update in stored if update.slot in round_.accepted]
    try:
        round_, data = await _fold(context, experiment, round_, updates)
    except LostLease:
        return
    except (KeyError, DigestMismatch) as error:
        raise LostUpdate(str(error)) from error
    now = context.clock()
    parent = await context.repo.model(experiment.id, round_.base_version)
    blob = await weights.store(
        context.blobs,
        repository.model_blob(experiment.id, round_.number),
        data,
        context.limits.part_bytes,
    )
    await context.repo.add_model(
        ModelVersion(
            experiment_id=experiment.id,
            version=round_.number,
            blob=blob,
            parent_sha256=parent.blob.sha256 if parent else None,
            created_at=now,
        )
    )
    # Fails where the lease was taken over meanwhile: the revision is the fence.
    await context.repo.save_round(
        round_.move(
            RoundState.CLOSED,
            closed_at=now,
            metrics=mean_metrics(updates),
            num_examples=sum(update.num_examples for update in updates),
            update_bytes=sum(update.blob.size for update in updates),
            aggregation_seconds=now - started,
        )
    )


async def _fold(
    context: Context, experiment: Experiment, round_: Round, updates: list[Update]
) -> tuple[Round, bytearray]:
    """The new model's bytes, one update in memory at a time; the lease is renewed on the way.

    Raises LostLease, KeyError, DigestMismatch.
    """
    # Imported here: it brings NumPy, which a process that only answers polls never needs.
    from app.aggregation import STRATEGIES

    layout = await context.repo.layout(experiment.id)
    strategy = STRATEGIES[experiment.config.strategy]()
    for update in updates:
        data = await weights.load(context.blobs, update.blob)
        theirs = codec.layout_of(data)
        layout.require_same_tensors(theirs)
        await asyncio.to_thread(strategy.add, codec.arrays(theirs, data), update.num_examples)
        del data  # before the next one is read
        round_ = await _renewed(context, round_)
    values = await asyncio.to_thread(strategy.result)
    return round_, await asyncio.to_thread(codec.assemble, layout, values)


async def _renewed(context: Context, round_: Round) -> Round:
    """The round with a lease that still has half of its time. Raises LostLease."""
    lease = round_.lease
    assert lease is not None  # noqa: S101  (whoever folds holds one)
    if context.clock() < lease.expires_at - context.limits.lease_seconds / 2:
        return round_
    renewed = round_.move(RoundState.AGGREGATING, lease=new_lease(context, lease.fence))
    if not await context.repo.save_round(renewed):
        raise LostLease
    return replace(renewed, revision=round_.revision + 1)


def mean_metrics(updates: list[Update]) -> dict[str, float]:
    """Each metric's mean over the updates that report it, weighted by their examples."""
    names = sorted({name for update in updates for name in update.metrics})
    means = {}
    for name in names:
        having = [u for u in updates if name in u.metrics]
        total = sum(u.num_examples for u in having)
        means[name] = sum(u.metrics[name] * u.num_examples for u in having) / total
    return means
