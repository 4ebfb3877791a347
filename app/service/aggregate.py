"""Closing a round: the frozen list of updates becomes the next model version, under a lease."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.errors import DigestMismatch
from app.domain.experiment import WEIGHTS, Experiment
from app.domain.provenance import config_digest, contribution, updates_digest
from app.domain.records import ModelVersion, Update
from app.domain.round import Lease, Round, RoundState
from app.service import keys, telling
from app.service.allowance import Allowance
from app.service.context import Context
from app.service.metering import Metering
from app.telemetry import metrics, trace
from app.telemetry.logs import tell

if TYPE_CHECKING:
    from app.service.fold import Fold


class LostLease(Exception):
    """Another process has taken the aggregation over; it goes on from what we stored."""


class LostUpdate(Exception):
    """The store no longer has what was accepted. Nothing that runs here can bring it about."""


def new_lease(context: Context, fence: int, deaths: int = 0) -> Lease:
    """A lease of this process, from now; longer after each owner that died.

    It is renewed between cells only. Were it always as short, a cell that takes longer than that
    would be taken over for ever, and no owner would ever come to its end.
    """
    expiry = context.clock() + context.limits.lease_seconds * (1 + deaths)
    return Lease(owner=context.worker, expires_at=expiry, fence=fence, deaths=deaths)


async def aggregate(
    context: Context, experiment: Experiment, round_: Round, allowance: Allowance
) -> bool:
    """Do what the call may of the aggregation; at its end store the model and close the round.

    Says whether this process has nothing more to do here: not so where its allowance is used up and
    the next call shall go on. Raises LostUpdate.
    """
    # Imported here: it brings NumPy, which a process that only answers polls never needs.
    from app.service.copies import Copy
    from app.service.fold import Fold

    started = context.clock()
    stored = await context.repo.updates(experiment.id, round_.number)
    updates = [update for update in stored if update.slot in round_.accepted]
    layout = await context.repo.layout(experiment.id)
    base = await context.repo.model(experiment.id, round_.base_version)
    assert base is not None  # noqa: S101  (the round before was closed with it)
    fold = Fold(context, experiment, round_, updates, layout, base)
    try:
        with measured(fold):
            if round_.lease is not None and round_.lease.fence > 1:
                await fold.resume()
            async for work in fold.cells():
                if not allowance.take(work.reads):
                    await _release(context, round_, context.clock() - started)
                    return False
                await work.do()
                round_ = await _renewed(context, round_)
            blob, copy = await fold.model(), None
            if (encoding := experiment.config.download_encoding) != WEIGHTS:
                prefix = keys.copy_blob(experiment.id, round_.number)
                made = Copy(context.blobs, blob, layout, encoding, prefix)
                async for _ in made.steps(context.limits.part_bytes):
                    round_ = await _renewed(context, round_)
                copy = made.blob
            round_ = await _renewed(context, round_)
    except LostLease:
        return True
    except (KeyError, DigestMismatch) as error:
        raise LostUpdate(str(error)) from error
    now = context.clock()
    await context.repo.add_model(
        ModelVersion(
            experiment_id=experiment.id,
            version=round_.number,
            blob=blob,
            parent_sha256=base.blob.sha256,
            config_sha256=config_digest(experiment.config),
            updates_sha256=updates_digest(
                contribution(update) for group in fold.groups for update in group.updates
            ),
            created_at=now,
            copy=copy,
        )
    )
    before = [claim.seconds for claim in (await context.repo.claims(round_)).values()]
    # Fails where the lease was taken over meanwhile: the revision is the fence.
    closed = round_.move(
        RoundState.CLOSED,
        closed_at=now,
        metrics=mean_metrics(updates),
        num_examples=sum(update.num_examples for update in updates),
        update_bytes=sum(update.blob.size for update in updates),
        aggregation_seconds=(round_.aggregation_seconds or 0.0) + now - started + sum(before),
    )
    closed = replace(closed, usage=await Metering(context).of_round(experiment, closed, updates))
    if await context.repo.save_round(closed):
        telling.of_close(closed)
    return True


@contextmanager
def measured(fold: Fold) -> Iterator[None]:
    """Count and log what one call does of an aggregation, however it ends."""
    experiment, number, started = fold.experiment.id, fold.round.number, time.perf_counter()
    try:
        with trace.span("aggregate", experiment=experiment, round=number):
            yield
    finally:
        seconds = time.perf_counter() - started
        metrics.AGGREGATION_SECONDS.observe(seconds)
        metrics.AGGREGATION_BYTES.add(fold.bytes)
        metrics.AGGREGATION_CELLS.add(fold.done)
        tell(
            "aggregation step",
            experiment=experiment,
            round=number,
            cells=fold.done,
            bytes=fold.bytes,
            seconds=round(seconds, 4),
        )


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


async def _release(context: Context, round_: Round, seconds: float) -> None:
    """Let the next call go on at once. Where the lease was lost, it does so anyway."""
    assert round_.lease is not None  # noqa: S101
    await context.repo.save_round(
        round_.move(
            RoundState.AGGREGATING,
            lease=replace(round_.lease, expires_at=context.clock(), released=True, deaths=0),
            aggregation_seconds=(round_.aggregation_seconds or 0.0) + seconds,
        )
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
