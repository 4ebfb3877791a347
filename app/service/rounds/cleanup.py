"""What nobody will ever ask for again is deleted.

Uploads go when their round is closed. What is swept here came too late for that: parts that were
stored at the very moment of the close, or by a presigned URL after it, and initial weights that
were begun and never committed. Everything here may run anywhere at any time, and again.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from app.service import journal
from app.service.context import Context
from app.service.cost.metering import Metering
from app.service.files import announcements
from app.service.records import keys
from app.service.rounds.retention import announced, drop_model
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Blob
from serverless_fl.domain.round import Round, RoundState

_URL_GRACE = 600.0  # seconds that an upload may take that began while its URL was good
GRACE_LEASES = 20  # after the end of an experiment, in leases


async def drop_uploads(context: Context, experiment: Experiment, closed: int) -> None:
    """Round `closed` is closed: delete the uploads that are not to be kept any longer.

    Where the store does not delete them, ticks do it later: nobody is to wait for that.
    """
    await announcements.forget_round(context.repo.documents, experiment.id, closed)
    doomed = [keys.round_sums(experiment.id, closed)]
    if (expired := closed - experiment.config.keep_updates) > 0:
        doomed.append(keys.round_blobs(experiment.id, expired))
    for prefix in doomed:
        await attempt(experiment.id, _drop(context, prefix))


async def attempt(experiment_id: str, deletion: Awaitable[object]) -> bool:
    """Delete what ticks can delete later, too: nobody is to wait for a store that does not.

    Say whether it is done; a deletion that does only a part of it says False itself.
    """
    try:
        return await deletion is not False
    except StoreUnavailable as error:
        log_event("not deleted", WARNING, experiment=experiment_id, cause=error.message)
        return False


async def _drop(context: Context, prefix: str) -> None:
    """Delete what is not too much for a call that clients wait for; else ticks do.

    A database may take a minute to delete gigabytes, and let nobody write meanwhile.
    """
    stored = await context.blobs.sizes(prefix)
    if sum(stored.values()) <= context.limits.drop_bytes:  # what is not listed yet goes as well
        await context.blobs.delete(prefix)


async def drop_stale_uploads(
    context: Context, experiment_id: str, number: int, stored: dict[str, int], until: float
) -> bool:
    """Delete what is stored of a round's uploads, as far as there is time. Says if it deleted any.

    Not while somebody may still aggregate them, nor if they are kept. Those of an experiment that
    is unknown here stay: a bucket may serve other databases too.
    """
    if await context.repo.tombstone(experiment_id) is not None:  # by a presigned URL of before
        await context.blobs.delete(keys.round_blobs(experiment_id, number))
        return True
    round_ = await context.repo.round(experiment_id, number)
    if round_ is None or round_.state not in (RoundState.CLOSED, RoundState.ABANDONED):
        return False
    experiment = await context.repo.experiment(experiment_id)
    kept = number > (experiment.model_version or 0) - experiment.config.keep_updates
    prefix = keys.round_blobs(experiment_id, number)
    if kept and round_.state is not RoundState.ABANDONED:
        return await _drop_strays(context, round_, stored)
    files = sorted({f"{key.rpartition('/')[0]}/" for key in stored})
    few = sum(stored.values()) <= context.limits.drop_bytes
    for doomed in [prefix] if stored and few else files:
        await context.blobs.delete(doomed)
        if context.monotonic() >= until:
            break
    if stored:
        journal.log_round(round_, "uploads swept")
    return bool(stored)


async def _drop_strays(context: Context, round_: Round, stored: dict[str, int]) -> bool:
    """Delete what is stored beside a closed round's accepted updates, which are kept.

    That is sums of a call that folded a group while another one closed the round, and what clients
    sent and never committed, or sent by a URL after the close.
    """
    sums = keys.round_sums(round_.experiment_id, round_.number)
    strays = {key for key in stored if key.startswith(sums)}
    others = {key: size for key, size in stored.items() if key not in strays}
    if sum(others.values()) != round_.update_bytes:  # else it is the accepted ones, and no more
        updates = await context.repo.updates(round_.experiment_id, round_.number)
        accepted = [update.blob for update in updates if update.slot in round_.accepted]
        strays |= others.keys() - {
            blob.key(number) for blob in accepted for number in range(len(blob.parts))
        }
    for key in sorted(strays):
        await context.blobs.delete(key)
    if strays:
        journal.log_round(round_, "uploads swept")
    return bool(strays)


async def drop_late_initial(context: Context, experiment_id: str, until: float) -> None:
    """Delete what came by a URL beside an experiment's initial weights, as it may until then."""
    documents, now = context.repo.documents, context.clock()
    if (model := await context.repo.model(experiment_id, 0)) is not None:
        await drop_other_parts(context, model.blob)
    elif await context.repo.tombstone(experiment_id) is None:
        experiment = await context.repo.experiment(experiment_id)
        if not experiment.ended:
            return  # they may still be committed
        await drop_model(context, experiment_id, 0)
    if now > until + _URL_GRACE:
        await announcements.forget_initial(documents, experiment_id)


async def tidy(context: Context, experiment: Experiment, round_: Round | None) -> bool:
    """The experiment ended before its time: close its record, and drop what is left over.

    Says whether it changed something that is worth another look.
    """
    if round_ is None:
        if experiment.model_version is None:
            await attempt(experiment.id, drop_model(context, experiment.id, 0))
        return False
    if round_.state is RoundState.ABANDONED:
        if not round_.swept:
            dropped = await attempt(experiment.id, _drop_abandoned(context, round_))
            if dropped and _settled(context, experiment):
                await context.repo.save_round(round_.move(RoundState.ABANDONED, swept=True))
        return False
    if round_.state is not RoundState.CLOSED:
        # Up to here an owner could still close the round, and then its model counts.
        if await context.repo.save_round(round_.move(RoundState.ABANDONED)):
            journal.log_round(round_, "round abandoned")
    elif experiment.model_version == round_.number:
        return False
    else:  # the stop came between the close and its announcement
        await drop_uploads(context, experiment, round_.number)
        changed = await Metering(context).closed(experiment, round_)
        changed = replace(changed, model_version=round_.number)
        await context.repo.save_experiment(announced(changed, round_))
    return True


async def _drop_abandoned(context: Context, round_: Round) -> None:
    await _drop(context, keys.round_blobs(round_.experiment_id, round_.number))
    await drop_model(context, round_.experiment_id, round_.number)


def _settled(context: Context, experiment: Experiment) -> bool:
    """Whether nobody writes to the ended experiment any more: a stale owner may, for a while."""
    return (
        context.clock() > (experiment.ended_at or 0) + GRACE_LEASES * context.limits.lease_seconds
    )


def recently_ended(context: Context, experiment: Experiment) -> bool:
    """Whether something of it may still have to be swept."""
    grace = 2 * GRACE_LEASES * context.limits.lease_seconds
    return experiment.ended and context.clock() < (experiment.ended_at or 0) + grace


async def drop_other_parts(context: Context, blob: Blob) -> None:
    """Delete what was uploaded beside a file that is committed, and is no part of it."""
    own = {blob.key(number) for number in range(len(blob.parts))}
    for key in await context.blobs.sizes(f"{blob.prefix}/"):
        if key not in own:
            await context.blobs.delete(key)


async def stale_candidates(context: Context) -> list[tuple[str, int, dict[str, int]]]:
    """What is stored of uploads: experiment, round, and the sizes by key.

    They begin anywhere: those that cannot be deleted, and take their time, are not always first.
    """
    found: dict[tuple[str, int], dict[str, int]] = {}
    for key, size in (await context.blobs.sizes("uploads/")).items():
        if place := keys.round_of(key):
            found.setdefault(place, {})[key] = size
    listed = [(*place, stored) for place, stored in sorted(found.items())]
    first = int(context.jitter() * len(listed))
    return listed[first:] + listed[:first]


def abandoned(context: Context, experiment: Experiment) -> bool:
    """Whether its initial weights will not come any more."""
    age = context.clock() - experiment.created_at
    awaited = experiment.state is ExperimentState.AWAITING_MODEL
    return awaited and age > context.limits.abandon_seconds
