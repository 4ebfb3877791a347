"""Closing a round: the frozen list of updates becomes the next model version, under a lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.errors import DigestMismatch, StoreUnavailable
from app.domain.experiment import WEIGHTS, Experiment
from app.domain.provenance import config_digest, contribution, updates_digest
from app.domain.records import Blob, ModelVersion, Refusal, Update, client_id
from app.domain.round import Round, RoundState
from app.service import keys, telling, weights
from app.service.allowance import Allowance
from app.service.context import Context
from app.service.leases import Held, LostLease
from app.service.metering import Metering
from app.telemetry import metrics, trace
from app.telemetry.logs import WARNING, tell

if TYPE_CHECKING:
    from app.service.fold import Fold, Spoilt


class LostUpdate(Exception):
    """The store no longer has what was accepted, and the round cannot do without it."""


async def aggregate(
    context: Context, experiment: Experiment, round_: Round, allowance: Allowance
) -> bool:
    """Do what the call may of the aggregation; at its end store the model and close the round.

    Says whether this process has nothing more to do here: not so where its allowance is used up and
    the next call shall go on. Raises LostUpdate, and StoreUnavailable after it gave the lease back.
    """
    held = Held(context, round_)
    try:
        return await _aggregate(held, experiment, allowance)
    except LostLease:
        return True
    except (StoreUnavailable, asyncio.CancelledError):
        await held.give_back()
        raise


async def _aggregate(held: Held, experiment: Experiment, allowance: Allowance) -> bool:
    """As `aggregate`. Raises LostLease."""
    # Imported here: it brings NumPy, which a process that only answers polls never needs.
    from app.service.fold import Fold, Spoilt

    context, round_ = held.context, held.round
    started = context.monotonic()
    stored = await context.repo.updates(experiment.id, round_.number)
    updates = [update for update in stored if update.slot in round_.accepted]
    layout = await context.repo.layout(experiment.id)
    base = await context.repo.model(experiment.id, round_.base_version)
    assert base is not None  # noqa: S101  (the round before was closed with it)
    fold = Fold(context, experiment, round_, updates, layout, base)
    try:
        with measured(fold):
            files = await _files(held, fold, allowance)
    except Spoilt as error:
        await _drop(held, experiment, error)
        return await _aggregate(held, experiment, allowance)
    except (weights.Gone, DigestMismatch) as error:
        raise LostUpdate(str(error)) from error
    seconds = (held.round.aggregation_seconds or 0.0) + context.monotonic() - started
    if files is None:
        await _release(held, seconds)
        return False
    now, (model, copy) = context.clock(), files
    await context.repo.add_model(
        ModelVersion(
            experiment_id=experiment.id,
            version=round_.number,
            blob=model,
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
    closed = held.round.move(
        RoundState.CLOSED,
        closed_at=now,
        metrics=mean_metrics(updates),
        num_examples=sum(update.num_examples for update in updates),
        update_bytes=sum(update.blob.size for update in updates),
        aggregation_seconds=seconds + sum(before),
    )
    usage = await Metering(context).of_round(experiment, closed, updates)
    await held.save(replace(closed, usage=usage))
    telling.of_close(closed)
    return True


async def _drop(held: Held, experiment: Experiment, spoilt: Spoilt) -> None:
    """Leave an update out that is no longer what was accepted. Raises LostLease, LostUpdate."""
    context, round_, update = held.context, held.round, spoilt.update
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
    telling.of_round(round_, "update lost", WARNING, client=client_id(update.slot))
    await context.blobs.delete(f"{keys.model_parts(round_)}/")  # of the list with it


async def _files(held: Held, fold: Fold, allowance: Allowance) -> tuple[Blob, Blob | None] | None:
    """The new model and its copy for clients, both stored; None where the allowance ends before.

    Raises LostLease, and Gone or DigestMismatch for what an aggregation cannot make again.
    """
    resumed = held.round.lease is not None and held.round.lease.fence > 1
    if resumed:
        await fold.resume()
    while True:
        try:
            async for work in fold.cells():
                if not allowance.take(work.reads):
                    return None
                await work.do()
                await held.renew_if_old()
            if not allowance.take_time(_left_to_read(fold)):
                return None
            model = await fold.model()
            copy = await _copy(held, fold, model, again=resumed)
            await held.renew_if_old()
            return model, copy
        except weights.Damaged as error:
            await held.renew()  # so nobody has closed the round meanwhile, and needs the file
            tell("damaged file made again", WARNING, key=error.prefix)
            await held.context.blobs.delete(error.prefix)


def _left_to_read(fold: Fold) -> int:
    """Parts that are read once all cells are done: to check the model, and to copy it.

    A call that ends before all of it is done leaves nothing of it to the next one. So it is begun
    in time, or first of all, and then done.
    """
    copied = fold.experiment.config.download_encoding != WEIGHTS
    return fold.unchecked + 2 * copied * len(fold.spans)


async def _copy(held: Held, fold: Fold, model: Blob, *, again: bool) -> Blob | None:
    """What clients are sent of the new model, where that is another file. Raises as `_files`."""
    from app.service.copies import Copy

    experiment, context = fold.experiment, held.context
    if (encoding := experiment.config.download_encoding) == WEIGHTS:
        return None
    prefix = keys.copy_blob(experiment.id, held.round.number)
    copy = Copy(context.blobs, model, fold.layout, encoding, prefix, again=again)
    async for _ in copy.steps(context.limits.part_bytes):
        await held.renew_if_old()
    return copy.blob


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


async def _release(held: Held, seconds: float) -> None:
    """Let the next call go on at once: this one got something done. Raises LostLease."""
    assert held.round.lease is not None  # noqa: S101
    now = held.context.clock()
    free = replace(held.round.lease, expires_at=now, released=True, deaths=0)
    await held.save(
        held.round.move(RoundState.AGGREGATING, lease=free, aggregation_seconds=seconds)
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
